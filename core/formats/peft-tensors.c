/* peft-tensors — a folder's tensors against the list that an adapter needs. */
#include "formats/peft-tensors.h"
#include "base/file.h"
#include "base/memory.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

char *peft_tensor_name(const char *module, const char *file, int64_t layer, const char *name) {
    if (!strchr(file, '{'))
        return *module && strncmp(file, "base_model.", 11) != 0 ? mem_format("base_model.model.%s.%s", module, file)
                                                                : mem_copy_text(file);
    const char *const dot = strrchr(module, '.'), *const leaf = dot ? dot + 1 : module;
    char *const parent = mem_format("%.*s", dot ? (int)(dot - module) : 0, module);
    char *const number = mem_format("%lld", (long long)layer);
    const char *const branch = strcmp(leaf, "attn") == 0 ? "attention_adapters" : "output_adapters";
    const struct {
        const char *word, *value;
    } words[] = {
        {"{module}", module},
        {"{site}",   module},
        {"{parent}", parent},
        {"{leaf}",   leaf  },
        {"{layer}",  number},
        {"{name}",   name  },
        {"{branch}", branch}
    };
    strbuf out = {0};
    while (*file) {
        size_t word = 0;
        while (word < sizeof words / sizeof *words && strncmp(file, words[word].word, strlen(words[word].word)) != 0)
            word++;
        if (word < sizeof words / sizeof *words) {
            strbuf_puts(&out, words[word].value);
            file += strlen(words[word].word);
        } else {
            strbuf_add(&out, file++, 1);
        }
    }
    free(parent);
    free(number);
    return out.text;
}

static int is_part(const char *part, size_t length, const char *word) {
    return length == strlen(word) && strncmp(part, word, length) == 0;
}

/* The name without components that PEFT's state dict has and its files rarely: "default", the adapter's name; of a module
 * to save "modules_to_save", which is trained, and "original_module", which is the base's (*original). Owned by the caller. */
static char *plain_name(const char *name, int *original) {
    strbuf out = {0};
    *original = 0;
    for (const char *part = name; part;) {
        const size_t length = strcspn(part, ".");
        const char *const next = part[length] ? part + length + 1 : NULL;
        const int frozen = is_part(part, length, "original_module");
        *original |= frozen;
        if (!frozen && !is_part(part, length, "default") && !is_part(part, length, "modules_to_save"))
            strbuf_printf(&out, "%s%.*s", out.length ? "." : "", (int)length, part);
        part = next;
    }
    return out.text ? out.text : mem_copy_text(name);
}

/* ---- the folder ---- */

static const char *const file_names[] = {"adapter_model.safetensors", "adapter.safetensors"};

const char *peft_tensors_file(const char *type) {
    return file_names[strcmp(type, "ADAPTER_HUB") == 0];
}

int peft_tensors_open(const char *folder, safetensors **out, graft_error *err) {
    *out = NULL;
    for (int i = 0; i < 2; i++) {
        char *const path = path_join(folder, file_names[i]);
        const int there = file_exists(path), rc = there ? safetensors_open(path, out, err) : GRAFT_OK;
        free(path);
        if (there) return rc;
    }
    char *const pickle = path_join(folder, "adapter_model.bin");
    const int old = file_exists(pickle);
    free(pickle);
    return fail(err, GRAFT_FAILED, "%s: has no %s%s", folder, file_names[0],
                old ? "; adapter_model.bin is not read (a pickle can run code): convert it to safetensors" : "");
}

/* ---- expected against found ---- */

static int same_shape(const peft_tensor *e, const tensor_info *t) {
    int same = e->rank == t->rank;
    for (int d = 0; d < e->rank && same; d++)
        same = e->shape[d] == t->shape[d];
    return same;
}

static void add_shape(strbuf *out, const peft_tensor *e) {
    strbuf_puts(out, "[");
    for (int i = 0; i < e->rank; i++)
        strbuf_printf(out, "%s%lld", i ? ", " : "", (long long)e->shape[i]);
    strbuf_puts(out, "]");
}

static int refuse_missing(const safetensors *st, const peft_tensor *first, int64_t missing, const strbuf *foreign,
                          int64_t others, graft_error *err) {
    strbuf shape = {0};
    add_shape(&shape, first);
    fail(err, GRAFT_FAILED, "%s: tensor \"%s\" %s is missing%s%s%s", safetensors_name(st), first->name, shape.text,
         missing > 1 ? ", and more like it" : "", others > 0 ? "; instead the file has " : "",
         others > 0 ? foreign->text : "");
    strbuf_free(&shape);
    return GRAFT_FAILED;
}

static int check_found(const safetensors *st, const peft_tensor *e, graft_error *err) {
    char *const is = tensor_describe(e->found);
    strbuf shape = {0};
    int rc = GRAFT_OK;
    add_shape(&shape, e);
    if (!same_shape(e, e->found))
        rc = fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is %s; this adapter on this model needs %s",
                  safetensors_name(st), e->name, is, shape.text);
    else if (!dtype_is_float(e->found->dtype))
        rc = fail(err, GRAFT_FAILED, "%s: tensor \"%s\" is %s; F32, F16, BF16 or F64 is wanted", safetensors_name(st),
                  e->name, is);
    strbuf_free(&shape);
    free(is);
    return rc;
}

/* 1: two tensors of the file with the same bytes. PEFT writes a bias of a module to save under two names. */
static int same_bytes(const safetensors *st, const tensor_info *a, const tensor_info *b, graft_error *err) {
    if (a->dtype != b->dtype || a->bytes != b->bytes) return 0;
    char *const x = mem_new((size_t)a->bytes + 1, 1), *const y = mem_new((size_t)b->bytes + 1, 1);
    const int same = safetensors_read(st, a, x, err) == GRAFT_OK && safetensors_read(st, b, y, err) == GRAFT_OK &&
                     memcmp(x, y, (size_t)a->bytes) == 0;
    free(x);
    free(y);
    return same;
}

/* Gives every tensor of the file to the entry that wants it; the others are listed in `foreign`. */
static int give_out(const safetensors *st, const strmap *places, peft_tensor *list, strbuf *foreign, int64_t *others,
                    graft_error *err) {
    int rc = GRAFT_OK;
    for (int64_t i = 0; i < safetensors_count(st) && rc == GRAFT_OK; i++) {
        const tensor_info *const t = safetensors_at(st, i);
        int64_t at;
        int original;
        char *const plain = plain_name(t->name, &original);
        if (!strmap_get(places, t->name, strlen(t->name), &at) && !strmap_get(places, plain, strlen(plain), &at)) {
            if ((*others)++ == 0) strbuf_printf(foreign, "\"%s\"", t->name);
        } else if (original ||
                   (list[at].found && strstr(t->name, ".modules_to_save.") && same_bytes(st, list[at].found, t, err))) {
            rc = err->code;
        } else if (list[at].found) {
            rc = err->code ? err->code
                           : fail(err, GRAFT_FAILED, "%s: tensors \"%s\" and \"%s\" are the same one, \"%s\"",
                                  safetensors_name(st), list[at].found->name, t->name, list[at].name);
        } else {
            list[at].found = t;
        }
        free(plain);
    }
    return rc;
}

int peft_tensors_match(const safetensors *st, peft_tensor *list, int64_t count, graft_error *err) {
    strmap places = {0};
    strbuf foreign = {0};
    const peft_tensor *first = NULL;
    int64_t missing = 0, others = 0;
    for (int64_t i = 0; i < count; i++) {
        list[i].found = NULL;
        strmap_put(&places, list[i].name, strlen(list[i].name), i);
    }
    int rc = give_out(st, &places, list, &foreign, &others, err);
    for (int64_t i = 0; i < count && rc == GRAFT_OK; i++) {
        if (list[i].found)
            rc = check_found(st, &list[i], err);
        else if (!list[i].optional && missing++ == 0)
            first = &list[i];
    }
    if (rc == GRAFT_OK && first) rc = refuse_missing(st, first, missing, &foreign, others, err);
    if (rc == GRAFT_OK && others > 0)
        rc = fail(err, GRAFT_FAILED, "%s: tensor %s%s belongs to no part of this adapter on this model",
                  safetensors_name(st), foreign.text, others > 1 ? ", and others with it," : "");
    strbuf_free(&foreign);
    strmap_free(&places);
    return rc;
}

int peft_tensor_read(const safetensors *st, const tensor_info *t, int64_t first, int64_t count, float *out,
                     graft_error *err) {
    const int64_t width = dtype_bytes(t->dtype);
    tensor_info part = *t;
    part.count = count;
    part.bytes = count * width;
    part.begin += first * width;
    if (safetensors_read_as(st, &part, out, F32, err)) return err->code;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(out[i]))
            return fail(err, GRAFT_FAILED, "%s: tensor \"%s\": element %lld is %g", safetensors_path(st, t->shard),
                        t->name, (long long)(first + i), (double)out[i]);
    return GRAFT_OK;
}
