/* adapt-file — the tensors of one adapter in a folder: written for PEFT, read with every name and shape checked.
 *
 * A folder gets the values of parameters and of buffers that have a name in files, but for what a save hook put in their place:
 * a TEMP slot of the same name, or some places of a dimension only (AdaLoRA's ranks that are left). */
#include "base/file.h"
#include "formats/peft-tensors.h"
#include "formats/peft.h"
#include "model/adapt-private.h"
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 18 }; /* elements that are moved at once */

typedef struct {
    const adapt_param **at;
    int64_t count;
} chosen;

/* What a folder of this adapter holds: its parameters and buffers with a file name, and base tensors it trained. */
static chosen choose(const adapt *a, int32_t spec) {
    chosen c = {.at = mem_new((size_t)(a->param_count + a->buffer_count) + 1, sizeof *c.at)};
    for (int32_t p = 0; p < a->param_count; p++)
        if (a->params[p].spec == spec && (a->params[p].in_file || a->params[p].base)) c.at[c.count++] = &a->params[p];
    for (int32_t p = 0; p < a->buffer_count; p++)
        if (a->buffers[p].spec == spec && a->buffers[p].in_file) c.at[c.count++] = &a->buffers[p];
    return c;
}

static const char *type_of(const technique *t) {
    const plugin_component *c = t->in.component;
    for (int32_t f = 0; f < c->field_count; f++)
        if (strcmp(c->fields[f].key, "peft_type") == 0) return c->fields[f].value;
    return "";
}

/* (rows, cols) -> (cols, rows), or a copy: a trained Conv1D lies transposed in the file. */
static void turn(const float *from, float *to, int64_t rows, int64_t cols, int turned) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            to[turned ? c * rows + r : r * cols + c] = from[r * cols + c];
}

/* The places of one dimension that are kept; mask NULL: all. */
typedef struct {
    const uint8_t *mask;
    int64_t outer, count, inner; /* elements in front of, along and behind the dimension */
} cut;

static cut cut_of(const uint8_t *mask, int rank, const int64_t *shape, int32_t dimension) {
    cut c = {mask, 1, 1, 1};
    for (int d = 0; d < rank; d++)
        *(d < dimension ? &c.outer : d == dimension ? &c.count : &c.inner) *= shape[d];
    return c;
}

static int64_t kept_count(const uint8_t *mask, int64_t count) {
    int64_t kept = 0;
    for (int64_t k = 0; k < count; k++)
        kept += mask[k];
    return kept;
}

/* Takes the kept places out of `whole`, or (back) puts them into it. */
static void move_kept(const cut *c, float *whole, float *part, int back) {
    for (int64_t o = 0; o < c->outer; o++)
        for (int64_t k = 0; k < c->count; k++) {
            float *const at = whole + (o * c->count + k) * c->inner;
            if (!c->mask[k]) continue;
            memcpy(back ? at : part, back ? part : at, (size_t)c->inner * sizeof *at);
            part += c->inner;
        }
}

/* ---- writing ---- */

static const saved_slot *saved_of(const adapt_param *p) {
    return p->site && p->site->saved ? &p->site->saved[p->slot] : NULL;
}

static void slot_shape(const slot_state *s, int *rank, int64_t *shape) {
    *rank = s->rank;
    memcpy(shape, s->shape, sizeof s->shape);
}

/* As it lies in a file when all of it does. */
static void whole_shape(const adapt_param *p, int *rank, int64_t *shape) {
    if (p->site) {
        slot_shape(&p->site->slots[p->slot], rank, shape);
        return;
    }
    const int turned = p->transposed && p->rank == 2;
    *rank = p->rank;
    shape[0] = turned ? p->cols : p->rows;
    shape[1] = turned ? p->rows : p->cols;
}

static void saved_shape(const adapt_param *p, int *rank, int64_t *shape) {
    const saved_slot *saved = saved_of(p);
    whole_shape(p, rank, shape);
    if (saved && saved->values) slot_shape(&p->site->slots[saved->from], rank, shape);
    if (saved && saved->kept) shape[saved->dimension] = kept_count(saved->kept, shape[saved->dimension]);
}

static int is_turned(const adapt_param *p) {
    return p->transposed && p->rank == 2;
}

static void download(const adapt *a, const adapt_param *p, int64_t first, int64_t count, float *to) {
    kernels *k = a->device;
    const int64_t wide = dtype_bytes(k->real);
    void *raw = mem_new((size_t)count + 1, (size_t)wide);
    k->download(k, raw, (const char *)p->data + first * wide, count * wide);
    dtype_convert(to, F32, raw, k->real, count);
    free(raw);
}

/* A parameter that lies in the file in another order, or in part; owned by the caller. */
static float *turned_values(const adapt *a, const adapt_param *p, int64_t count) {
    const saved_slot *saved = saved_of(p);
    float *values = mem_new((size_t)p->count + 1, sizeof *values), *filed = mem_new((size_t)count + 1, sizeof *filed);
    download(a, p, 0, p->count, values);
    if (saved && saved->kept) {
        const slot_state *s = &p->site->slots[p->slot];
        const cut c = cut_of(saved->kept, s->rank, s->shape, saved->dimension);
        move_kept(&c, values, filed, 0);
    } else {
        turn(values, filed, p->rows, p->count / (p->rows ? p->rows : 1), is_turned(p));
    }
    free(values);
    return filed;
}

static int64_t saved_count(const adapt_param *p) {
    int64_t shape[TENSOR_RANK_MAX], count = 1;
    int rank;
    saved_shape(p, &rank, shape);
    for (int d = 0; d < rank; d++)
        count *= shape[d];
    return count;
}

/* Gives `take` a parameter as the file holds it, piece after piece, so that no copy of a whole table is made. */
static int each_piece(const adapt *a, const adapt_param *p,
                      int (*take)(void *context, const float *values, int64_t first, int64_t count, graft_error *err),
                      void *context, graft_error *err) {
    const saved_slot *saved = saved_of(p);
    const int plain = !(saved && saved->kept) && !is_turned(p);
    const int64_t count = saved_count(p);
    if (saved && saved->values) return take(context, saved->values, 0, count, err);
    float *values = plain ? mem_new(PIECE, sizeof *values) : turned_values(a, p, count);
    for (int64_t first = 0; first < count && !err->code; first += PIECE) {
        const int64_t n = count - first < PIECE ? count - first : PIECE;
        if (plain) download(a, p, first, n, values);
        take(context, plain ? values : values + first, first, n, err);
    }
    free(values);
    return err->code;
}

static int run_save_hooks(adapt *a, int32_t spec, graft_error *err) {
    technique *t = &a->techniques[spec];
    const call_tensors none = {0};
    t->field_count = 0;
    t->saved_ranks = mem_grow(t->saved_ranks, (size_t)t->in.rank_pattern_count + 1, sizeof *t->saved_ranks);
    t->saved_alphas = mem_grow(t->saved_alphas, (size_t)t->in.alpha_pattern_count + 1, sizeof *t->saved_alphas);
    for (int32_t p = 0; p < t->in.rank_pattern_count; p++)
        t->saved_ranks[p] = t->in.ranks[p];
    for (int32_t p = 0; p < t->in.alpha_pattern_count; p++)
        t->saved_alphas[p] = t->in.alphas[p];
    for (int32_t n = 0; n < t->count && !err->code; n++) {
        adapt_forget_saved(t->instances[n], slot_count(t));
        adapt_call(a, t->instances[n], HOOK_SAVE, NULL, &none, a->step, a->steps, NULL, err);
    }
    return err->code;
}

static int put_piece(void *context, const float *values, int64_t first, int64_t count, graft_error *err) {
    (void)first;
    return safetensors_put(context, values, count * (int64_t)sizeof *values, err);
}

static int write_tensors(adapt *a, const chosen *c, const char *path, graft_error *err) {
    const safetensors_note note = {"format", "pt"};
    safetensors_writer *w = NULL;
    tensor_out *list = mem_new((size_t)c->count + 1, sizeof *list);
    for (int64_t t = 0; t < c->count; t++) {
        list[t] = (tensor_out){.name = c->at[t]->name, .dtype = F32};
        saved_shape(c->at[t], &list[t].rank, list[t].shape);
    }
    safetensors_create(path, list, c->count, &note, 1, &w, err);
    for (int64_t t; !err->code && (t = safetensors_next(w)) >= 0;)
        each_piece(a, c->at[t], put_piece, w, err);
    if (err->code)
        safetensors_abandon(w);
    else
        safetensors_commit(w, err);
    free(list);
    return err->code;
}

int adapt_save(adapt *a, int32_t spec, const char *folder, graft_error *err) {
    if (run_save_hooks(a, spec, err)) return err->code;
    const chosen c = choose(a, spec);
    char *path = path_join(folder, peft_tensors_file(type_of(&a->techniques[spec])));
    write_tensors(a, &c, path, err);
    free(path);
    free(c.at);
    return err->code;
}

int adapt_kept_places(const adapt *a, int32_t spec, int32_t n, char **name, const uint8_t **mask, int64_t *count) {
    const technique *t = &a->techniques[spec];
    if (n >= t->count) return 0;
    const instance *i = t->instances[n];
    *mask = NULL;
    for (int32_t s = 0; i->saved && s < slot_count(t); s++) {
        if (!i->saved[s].kept || !i->saved[s].named) continue;
        *name = mem_format("%s.%s", i->site.name, slot_of(t, s)->file);
        *mask = i->saved[s].kept;
        *count = i->slots[s].shape[i->saved[s].dimension];
    }
    return 1;
}

const graft_field *adapt_saved_fields(const adapt *a, int32_t spec, int32_t *count) {
    *count = a->techniques[spec].field_count;
    return a->techniques[spec].fields;
}

void adapt_saved_patterns(const adapt *a, int32_t spec, const double **ranks, const double **alphas) {
    *ranks = a->techniques[spec].saved_ranks;
    *alphas = a->techniques[spec].saved_alphas;
}

int32_t adapt_is_rewritten(const adapt *a, int32_t spec) {
    const technique *t = &a->techniques[spec];
    for (int32_t n = 0; n < t->count; n++)
        for (int32_t s = 0; t->instances[n]->saved && s < slot_count(t); s++)
            if (t->instances[n]->saved[s].values) return 1;
    return 0;
}

/* ---- reading ---- */

/* What the configuration says was kept at a parameter's site: "SITE.lora_E": [true, false, ...]. */
static const peft_kept *kept_at(const peft_config *config, const adapt_param *p) {
    static const char prefix[] = "base_model.model.";
    for (int32_t k = 0; p->site && k < config->kept_count; k++) {
        const char *name = config->kept[k].name;
        if (strncmp(name, prefix, sizeof prefix - 1) == 0) name += sizeof prefix - 1;
        const size_t site = strlen(p->site->site.name);
        if (strncmp(name, p->site->site.name, site) == 0 && name[site] == '.' && !strchr(name + site + 1, '.'))
            return &config->kept[k];
    }
    return NULL;
}

/* The dimension of which the file holds the kept places alone; -1: it holds them all. */
static int32_t kept_dimension(const safetensors *st, const adapt_param *p, const peft_kept *kept) {
    const tensor_info *info = safetensors_find(st, p->name);
    const slot_state *s = &p->site->slots[p->slot];
    const int64_t left = kept_count(kept->mask, kept->count);
    for (int32_t d = 0; info && d < s->rank && s->rank == info->rank; d++)
        if (s->shape[d] == kept->count && info->shape[d] == left && left != kept->count) return d;
    return -1;
}

static void upload(adapt *a, const adapt_param *p, int64_t first, int64_t count, const float *from) {
    kernels *k = a->device;
    const int64_t wide = dtype_bytes(k->real);
    void *raw = mem_new((size_t)count + 1, (size_t)wide);
    dtype_convert(raw, k->real, from, F32, count);
    k->upload(k, (char *)p->data + first * wide, raw, count * wide);
    free(raw);
}

static int read_turned(adapt *a, const safetensors *st, const adapt_param *p, const tensor_info *info, const cut *c,
                       graft_error *err) {
    const int64_t cols = p->count / (p->rows ? p->rows : 1);
    float *filed = mem_new((size_t)info->count + 1, sizeof *filed),
          *values = mem_new((size_t)p->count + 1, sizeof *values);
    if (peft_tensor_read(st, info, 0, info->count, filed, err) == GRAFT_OK) {
        if (c->mask)
            move_kept(c, values, filed, 1);
        else
            turn(filed, values, cols, p->rows, 1);
        upload(a, p, 0, p->count, values);
    }
    free(filed);
    free(values);
    return err->code;
}

static int read_param(adapt *a, const safetensors *st, const adapt_param *p, const tensor_info *info, const cut *c,
                      graft_error *err) {
    if (c->mask || is_turned(p)) return read_turned(a, st, p, info, c, err);
    float *values = mem_new(PIECE, sizeof *values);
    for (int64_t first = 0; first < p->count && !err->code; first += PIECE) {
        const int64_t n = p->count - first < PIECE ? p->count - first : PIECE;
        if (peft_tensor_read(st, info, first, n, values, err) == GRAFT_OK) upload(a, p, first, n, values);
    }
    free(values);
    return err->code;
}

/* PEFT stores the frozen matrix beside an adapted embedding or head; its values are the base's and may be absent. */
static int64_t add_tables(const adapt *a, int32_t spec, peft_tensor *list, char **names, int64_t count) {
    const technique *t = &a->techniques[spec];
    for (int32_t n = 0; n < t->count; n++) {
        const graft_site *const s = &t->instances[n]->site;
        if (s->layer >= 0 || !(s->kind & (GRAFT_LINEAR | GRAFT_INPUT))) continue;
        names[count] = peft_tensor_name(s->name, ADAPT_BASE_TABLE, -1, "default");
        list[count] = (peft_tensor){
            .name = names[count],
            .rank = 2,
            .optional = 1,
            .shape = {s->onehot ? s->in : s->out, s->onehot ? s->out : s->in}
        };
        count++;
    }
    return count;
}

/* What the file must hold. A SHARED tensor that a formula makes may be missing where the configuration says so: it has its
 * first values already. */
static void want(const technique *t, const safetensors *st, const peft_config *config, const adapt_param *p,
                 peft_tensor *out, cut *c) {
    const peft_kept *kept = kept_at(config, p);
    const int32_t dimension = kept ? kept_dimension(st, p, kept) : -1;
    *c = (cut){0};
    out->name = p->name;
    whole_shape(p, &out->rank, out->shape);
    out->optional = p->site && p->site == t->widest && slot_of(t, p->slot)->init &&
                    json_is_false(json_object_get(config->file, "save_projection"));
    if (dimension < 0) return;
    *c = cut_of(kept->mask, out->rank, out->shape, dimension);
    out->shape[dimension] = kept_count(kept->mask, kept->count);
}

static int read_config(const char *folder, peft_config *out, graft_error *err) {
    char *path = path_join(folder, "adapter_config.json");
    *out = (peft_config){0};
    if (file_exists(path)) peft_config_read(folder, out, err);
    free(path);
    return err->code;
}

int adapt_load(adapt *a, int32_t spec, const char *folder, graft_error *err) {
    safetensors *st = NULL;
    peft_config config;
    const technique *of = &a->techniques[spec];
    const chosen c = choose(a, spec);
    const size_t most = (size_t)(c.count + of->count) + 1;
    peft_tensor *list = mem_new(most, sizeof *list);
    cut *cuts = mem_new(most, sizeof *cuts);
    char **names = mem_new(most, sizeof *names);
    int64_t count = c.count;
    if (read_config(folder, &config, err) == GRAFT_OK && peft_tensors_open(folder, &st, err) == GRAFT_OK) {
        for (int64_t t = 0; t < c.count; t++)
            want(of, st, &config, c.at[t], &list[t], &cuts[t]);
        count = add_tables(a, spec, list, names, c.count);
        peft_tensors_match(st, list, count, err);
    }
    for (int64_t t = 0; t < c.count && !err->code; t++)
        if (list[t].found) read_param(a, st, c.at[t], list[t].found, &cuts[t], err);
    if (!err->code) adapt_prepare(a, err);
    for (int64_t t = c.count; t < count; t++)
        free(names[t]);
    safetensors_close(st);
    peft_config_free(&config);
    free(list);
    free(cuts);
    free(names);
    free(c.at);
    return err->code;
}

typedef struct {
    const safetensors *st;
    const tensor_info *info;
    int64_t count; /* elements it should have */
} comparing;

static int compare_piece(void *context, const float *values, int64_t first, int64_t count, graft_error *err) {
    const comparing *c = context;
    float *filed = mem_new((size_t)count + 1, sizeof *filed);
    if (c->info->count != c->count || !dtype_is_float(c->info->dtype) ||
        peft_tensor_read(c->st, c->info, first, count, filed, err) ||
        memcmp(values, filed, (size_t)count * sizeof *values) != 0)
        fail(err, GRAFT_FAILED, "%s: %s is not what was written; is the disk sound?", safetensors_name(c->st),
             c->info->name);
    free(filed);
    return err->code;
}

int adapt_compare(adapt *a, int32_t spec, const char *folder, graft_error *err) {
    safetensors *st = NULL;
    const chosen c = choose(a, spec);
    peft_tensors_open(folder, &st, err);
    for (int64_t t = 0; t < c.count && !err->code; t++) {
        comparing with = {.st = st, .count = saved_count(c.at[t])};
        if (safetensors_need(st, c.at[t]->name, &with.info, err) == GRAFT_OK)
            each_piece(a, c.at[t], compare_piece, &with, err);
    }
    safetensors_close(st);
    free(c.at);
    return err->code;
}
