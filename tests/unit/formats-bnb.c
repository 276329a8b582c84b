/* bitsandbytes weights: goldens made by bitsandbytes 0.50.2 are read to the bit and written again to the byte. */
#include "base/digest.h"
#include "base/file.h"
#include "formats/bnb.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void ok(int rc, const graft_error *err) {
    cr_assert_eq(rc, GRAFT_OK, "%s", err->text);
}

static void skip_without(const char *path, const char *what) {
    if (file_exists(path)) return;
    fprintf(stderr, "skipped: %s is not there\n", what);
    cr_skip_test();
}

/* The numbers of a weight in its own type, by the formula in bnb.h. */
static void *dequantize(const safetensors *st, const bnb_weight *w) {
    graft_error err = {0};
    uint8_t *const codes = mem_new((size_t)w->codes->bytes + 1, 1);
    float *const scales = mem_new((size_t)w->scales + 1, sizeof *scales), *const values =
                                                                              mem_new((size_t)w->count + 1, 4);
    ok(bnb_read_codes(st, w, codes, &err), &err);
    ok(bnb_read_scales(st, w, scales, &err), &err);
    for (int64_t i = 0; i < w->count; i++)
        if (w->kind == BNB_4BIT)
            values[i] = w->code[i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4] * scales[i / w->block];
        else
            values[i] = (float)(int8_t)codes[i] * scales[i / w->shape[1]] * 7.874015718698502e-3f;
    void *const out = mem_new((size_t)w->count + 1, 4);
    dtype_convert(out, w->type, values, F32, w->count);
    free(values), free(scales), free(codes);
    return out;
}

static void check_crc(const void *values, int64_t bytes, const char *want, const char *name) {
    char crc[9];
    snprintf(crc, sizeof crc, "%08x", digest_crc32(0, values, (size_t)bytes));
    cr_expect_str_eq(crc, want, "%s: CRC-32 is %s, %s is wanted", name, crc, want);
}

/* Every quantized weight of `crcs` {name: CRC-32 of its numbers}. */
static void check_numbers(const char *path, json_t *crcs) {
    graft_error err = {0};
    safetensors *st;
    ok(safetensors_open(path, &st, &err), &err);
    int checked = 0;
    const char *name;
    json_t *want;
    json_object_foreach(crcs, name, want) {
        bnb_weight w;
        if (bnb_find(st, name) == BNB_NONE) continue; /* checkpoints list their norms too */
        ok(bnb_read(st, name, &w, &err), &err);
        void *const values = dequantize(st, &w);
        check_crc(values, w.count * dtype_bytes(w.type), json_string_value(want), name);
        free(values);
        checked++;
    }
    cr_expect_eq(checked, 35, "%s: %d weights are quantized", path, checked);
    safetensors_close(st);
}

Test(formats_bnb, packed_files_dequantize_to_the_bit) {
    static const char *const names[] = {"nf4", "nf4-dq", "int8"};
    skip_without(SHARED_DIR "/golden/training/_quant", "golden/training/_quant");
    for (int i = 0; i < 3; i++) {
        graft_error err = {0};
        json_t *root;
        char *const json = mem_format("%s/golden/training/_quant/stories260k-%s.json", SHARED_DIR, names[i]);
        char *const path = mem_format("%s/golden/training/_quant/stories260k-%s.safetensors", SHARED_DIR, names[i]);
        ok(json_read_file(json, 0, &root, &err), &err);
        check_numbers(path, json_object_get(root, "dequantised_f32_crc32"));
        json_decref(root);
        free(path), free(json);
    }
}

Test(formats_bnb, checkpoints_dequantize_to_the_bit) {
    static const char *const names[] = {"nf4-f32", "nf4-dq-bf16", "fp4-f16", "int8-f16"};
    skip_without(SHARED_DIR "/golden/checkpoints", "golden/checkpoints");
    for (int i = 0; i < 4; i++) {
        graft_error err = {0};
        json_t *root;
        char *const json = mem_format("%s/golden/checkpoints/%s/case.json", SHARED_DIR, names[i]);
        char *const path = mem_format("%s/golden/checkpoints/%s/model.safetensors", SHARED_DIR, names[i]);
        ok(json_read_file(json, 0, &root, &err), &err);
        check_numbers(path, json_object_get(root, "dequantised_crc32"));
        json_decref(root);
        free(path), free(json);
    }
}

Test(formats_bnb, what_is_not_quantized_is_not_found) {
    skip_without(SHARED_DIR "/golden/checkpoints", "golden/checkpoints");
    graft_error err = {0};
    safetensors *st;
    ok(weights_open(SHARED_DIR "/golden/checkpoints/nf4-f32", &st, &err), &err);
    cr_expect_eq(bnb_find(st, "model.embed_tokens.weight"), BNB_NONE);
    cr_expect_eq(bnb_find(st, "model.layers.0.input_layernorm.weight"), BNB_NONE);
    cr_expect_eq(bnb_find(st, "nothing"), BNB_NONE);
    bnb_weight w;
    cr_expect_eq(bnb_read(st, "model.norm.weight", &w, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "\"model.norm.weight\" has no state of bitsandbytes"), "%s", err.text);
    safetensors_close(st);
}

/* Reads every quantized weight of a file and writes all of its tensors again. */
static void check_rewritten(const char *path) {
    graft_error err = {0};
    arena memory = {0};
    safetensors *st;
    ok(safetensors_open(path, &st, &err), &err);
    const int64_t total = safetensors_count(st);
    tensor_out *const list = arena_new(&memory, (size_t)total + BNB_TENSORS, sizeof *list);
    int32_t count = 0;
    for (int64_t i = 0; i < total; i++) {
        const tensor_info *const t = safetensors_at(st, i);
        if (strstr(t->name, ".weight.") || strstr(t->name, ".SCB") || strstr(t->name, ".weight_format")) continue;
        void *const data = arena_new(&memory, (size_t)t->bytes + 1, 1);
        ok(safetensors_read(st, t, data, &err), &err);
        if (bnb_find(st, t->name) == BNB_NONE) {
            list[count] = (tensor_out){.name = t->name, .dtype = t->dtype, .rank = t->rank, .data = data};
            memcpy(list[count++].shape, t->shape, sizeof t->shape);
            continue;
        }
        bnb_weight *const w = arena_new(&memory, 1, sizeof *w);
        ok(bnb_read(st, t->name, w, &err), &err);
        float *const absmax = arena_new(&memory, (size_t)w->scales, 4), *nested = NULL;
        if (w->nested) {
            nested = arena_new(&memory, (size_t)w->nested_scales, 4);
            ok(bnb_read_nested(st, w, (uint8_t *)absmax, nested, &err), &err);
        } else {
            ok(bnb_read_scales(st, w, absmax, &err), &err);
        }
        count += bnb_tensors(t->name, w, data, absmax, nested, &memory, list + count);
    }
    cr_expect_eq(count, total);
    char *const copy = mem_format("%s/formats-bnb.%ld", BINARY_DIR, (long)getpid()), *want, *have;
    int64_t note_count, want_size, have_size;
    const safetensors_note *const notes = safetensors_notes(st, &note_count);
    ok(safetensors_write(copy, list, count, notes, note_count, &err), &err);
    ok(file_read(path, 1 << 24, &want, &want_size, &err), &err);
    ok(file_read(copy, 1 << 24, &have, &have_size, &err), &err);
    cr_expect(want_size == have_size && memcmp(want, have, (size_t)want_size) == 0, "%s: not the same bytes", path);
    unlink(copy);
    free(copy), free(want), free(have);
    safetensors_close(st);
    arena_free(&memory);
}

Test(formats_bnb, files_are_written_again_byte_for_byte) {
    skip_without(SHARED_DIR "/golden/checkpoints", "golden/checkpoints");
    check_rewritten(SHARED_DIR "/golden/training/_quant/stories260k-nf4.safetensors");
    check_rewritten(SHARED_DIR "/golden/training/_quant/stories260k-nf4-dq.safetensors");
    check_rewritten(SHARED_DIR "/golden/training/_quant/stories260k-loftq-nf4.safetensors");
    check_rewritten(SHARED_DIR "/golden/training/_quant/stories260k-int8.safetensors");
    check_rewritten(SHARED_DIR "/golden/checkpoints/nf4-f32/model.safetensors");
    check_rewritten(SHARED_DIR "/golden/checkpoints/nf4-dq-bf16/model.safetensors");
    check_rewritten(SHARED_DIR "/golden/checkpoints/fp4-f16/model.safetensors");
    check_rewritten(SHARED_DIR "/golden/checkpoints/int8-f16/model.safetensors");
}

/* One weight of 4bit.json put under bitsandbytes' names, its codes in `storage` of `extent` elements. */
static void check_storage(const char *name, const char *type, const void *codes, int64_t bytes, const char *storage,
                          int64_t extent, const json_t *entry) {
    graft_error err = {0};
    arena memory = {0};
    safetensors *golden, *st;
    char *const path = mem_format("%s/golden/quant/%s", SHARED_DIR, json_string_value(json_object_get(entry, "file")));
    ok(safetensors_open(path, &golden, &err), &err);
    bnb_weight w = {
        .kind = BNB_4BIT, .fp4 = name[0] == 'f', .nested = json_is_true(json_object_get(entry, "double_quant"))};
    w.block = json_integer_value(json_object_get(entry, "blocksize")), w.nested_block = 256;
    w.type = strcmp(type, "bfloat16") == 0 ? BF16 : strcmp(type, "float16") == 0 ? F16 : F32;
    const json_t *const shape = json_object_get(entry, "shape");
    w.rank = (int)json_array_size(shape);
    for (int i = 0; i < w.rank; i++)
        w.shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
    void *data[4] = {0};
    static const char *const tensors[] = {"absmax", "absmax_q", "nested_absmax", "packed"};
    for (int i = 0; i < 4; i++) {
        const tensor_info *const t = safetensors_find(golden, tensors[i]);
        data[i] = arena_new(&memory, t ? (size_t)t->bytes + 1 : 1, 1);
        if (t) ok(safetensors_read(golden, t, data[i], &err), &err);
    }
    ok(safetensors_read(golden, safetensors_find(golden, "code"), w.code, &err), &err);
    if (w.nested) {
        ok(safetensors_read(golden, safetensors_find(golden, "nested_quant_map"), w.nested_code, &err), &err);
        ok(safetensors_read_as(golden, safetensors_find(golden, "nested_offset"), &w.nested_offset, F32, &err), &err);
    }
    tensor_out list[BNB_TENSORS];
    const int32_t count = bnb_tensors("a.weight", &w, codes ? codes : data[3], data[w.nested], data[2], &memory, list);
    if (storage) {
        list[0].type = storage;
        list[0].shape[0] = extent;
    }
    char *const copy = mem_format("%s/formats-bnb-storage.%ld", BINARY_DIR, (long)getpid());
    ok(safetensors_write(copy, list, count, NULL, 0, &err), &err);
    ok(safetensors_open(copy, &st, &err), &err);
    bnb_weight back;
    ok(bnb_read(st, "a.weight", &back, &err), &err);
    cr_expect(bytes == 0 || back.codes->bytes == bytes);
    void *const values = dequantize(st, &back);
    check_crc(values, back.count * dtype_bytes(back.type),
              json_string_value(json_object_get(json_object_get(entry, "crc32"), "deq")), name);
    float *const scales = mem_new((size_t)back.scales + 1, 4);
    ok(bnb_read_scales(st, &back, scales, &err), &err);
    cr_expect_eq(memcmp(scales, data[0], (size_t)back.scales * 4), 0, "%s: absmax", name);
    free(scales), free(values);
    safetensors_close(st);
    safetensors_close(golden);
    unlink(copy);
    free(copy), free(path);
    arena_free(&memory);
}

Test(formats_bnb, every_block_size_type_and_storage_is_read_to_the_bit) {
    skip_without(SHARED_DIR "/golden/quant/4bit.json", "golden/quant/4bit.json");
    static const char *const storages[][2] = {
        {"bfloat16", "BF16"},
        {"float16",  "F16" },
        {"float32",  "F32" },
        {"int8",     "I8"  }
    };
    graft_error err = {0};
    json_t *root, *entry, *storage;
    size_t i, k;
    safetensors *st;
    ok(json_read_file(SHARED_DIR "/golden/quant/4bit.json", 0, &root, &err), &err);
    ok(safetensors_open(SHARED_DIR "/golden/quant/4bit/storage.safetensors", &st, &err), &err);
    json_array_foreach(json_object_get(root, "cases"), i, entry) {
        const char *const name = json_string_value(json_object_get(entry, "name"));
        const char *const type = json_string_value(json_object_get(entry, "dtype"));
        check_storage(name, type, NULL, 0, NULL, 0, entry);
        json_array_foreach(json_object_get(root, "storage"), k, storage) {
            if (strcmp(json_string_value(json_object_get(storage, "same_bytes_as")), name) != 0) continue;
            const tensor_info *const t = safetensors_find(st, json_string_value(json_object_get(storage, "key")));
            cr_assert_not_null(t);
            void *const codes = mem_new((size_t)t->bytes, 1);
            ok(safetensors_read(st, t, codes, &err), &err);
            const char *stored = NULL;
            for (int s = 0; s < 4; s++)
                if (strcmp(storages[s][0], json_string_value(json_object_get(storage, "dtype"))) == 0)
                    stored = storages[s][1];
            cr_assert(stored && strcmp(stored, t->type) == 0);
            check_storage(name, type, codes, t->bytes, stored, t->shape[0], entry);
            free(codes);
        }
    }
    safetensors_close(st);
    json_decref(root);
}

Test(formats_bnb, the_quantization_config_is_the_one_of_transformers) {
    skip_without(SHARED_DIR "/golden/checkpoints", "golden/checkpoints");
    static const struct {
        const char *name;
        bnb_weight like;
        dtype compute;
    } cases[] = {
        {"nf4-dq-bf16", {.kind = BNB_4BIT, .nested = 1}, BF16},
        {"nf4-f32",     {.kind = BNB_4BIT},              F32 },
        {"fp4-f16",     {.kind = BNB_4BIT, .fp4 = 1},    F32 },
        {"int8-f16",    {.kind = BNB_8BIT},              F32 }
    };
    for (int i = 0; i < 4; i++) {
        graft_error err = {0};
        json_t *root;
        char *const path = mem_format("%s/golden/checkpoints/%s/config.json", SHARED_DIR, cases[i].name);
        ok(json_read_file(path, 0, &root, &err), &err);
        json_t *const have = bnb_config(&cases[i].like, cases[i].compute), *const want = json_object_get(
                                                                               root, "quantization_config");
        char *const have_text = json_dumps(have, 0), *const want_text = json_dumps(want, 0);
        cr_expect_str_eq(have_text, want_text);
        ok(bnb_config_check(want, path, &err), &err);
        free(have_text), free(want_text), free(path);
        json_decref(have);
        json_decref(root);
    }
    graft_error err = {0};
    json_t *const other = json_pack("{s:s}", "quant_method", "gptq");
    cr_expect_eq(bnb_config_check(other, "config.json", &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "config.json") && strstr(err.text, "\"gptq\""), "%s", err.text);
    json_decref(other);
}
