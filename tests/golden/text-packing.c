/* Packing and truncation against the reference: trl's strategies, and what the model then sees of a packed row. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "run/slices.h"
#include "text/pack.h"
#include "text/samples.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

/* The lines of a JSONL file as one array. */
static json_t *read_lines(const char *path) {
    graft_error err = {0};
    char *text;
    int64_t size;
    cr_assert_eq(file_read(path, 1 << 28, &text, &size, &err), 0, "%s", err.text);
    json_t *const all = json_array();
    for (char *at = text, *end; (end = memchr(at, '\n', (size_t)(text + size - at))); at = end + 1) {
        json_t *value;
        cr_assert_eq(json_read_text(at, (size_t)(end - at), path, 0, &value, &err), 0, "%s", err.text);
        json_array_append_new(all, value);
    }
    free(text);
    return all;
}

static json_t *read_masks(const char *name) {
    char *const path = mem_format("%s/golden/masks/%s", SHARED_DIR, name);
    if (!file_exists(path)) {
        fprintf(stderr, "skipped: %s is not there\n", path);
        free(path);
        cr_skip_test();
    }
    json_t *const all = read_lines(path);
    free(path);
    return all;
}

static int64_t whole(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

static int64_t element(const json_t *array, size_t i) {
    return json_integer_value(json_array_get(array, i));
}

/* ---- packing ---- */

static packing pack_as(const char *strategy, const int64_t *lengths, int64_t count, int64_t capacity) {
    if (strcmp(strategy, "bfd") == 0) return pack_best_fit(lengths, count, capacity, 0);
    if (strcmp(strategy, "bfd_split") == 0) return pack_best_fit(lengths, count, capacity, 1);
    if (strcmp(strategy, "ffd") == 0) return pack_first_fit(lengths, count, capacity);
    if (strcmp(strategy, "sequential") == 0) return pack_sequential(lengths, count, capacity);
    return pack_wrapped(lengths, count, capacity);
}

/* What the model sees of a row of these segments: positions, where documents begin, and which tokens are targets. */
static void check_row(const pack_segment *segments, int64_t count, const json_t *expected, const char *where) {
    int32_t ids[4096], labels[4096], documents[4096];
    int64_t tokens = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < segments[i].length; k++, tokens++) {
            cr_assert_lt(tokens, 4096);
            ids[tokens] = labels[tokens] = (int32_t)(tokens % 100);
            documents[tokens] = (int32_t)i;
        }
    sequence_list list = {0};
    *sequence_list_add(&list) = (sequence){.tokens = tokens, .ids = ids, .labels = labels, .documents = documents};
    slice_list slices = {0};
    graft_error err = {0};
    cr_assert_eq(slices_cut(&list, &(slice_limits){.vocab = 100, .rows = 4096}, &slices, &err), 0, "%s", err.text);
    cr_assert_eq(slices.count, 1);
    const model_rows *const rows = &slices.at[0];
    const json_t *const positions = json_object_get(expected, "position_ids");
    const json_t *const starts = json_object_get(expected, "cu_seqlens");
    const json_t *const numbers = json_object_get(expected, "document_ids");
    cr_assert_eq((size_t)rows->rows, json_array_size(positions), "%s", where);
    cr_assert_eq((size_t)rows->documents + 1, json_array_size(starts), "%s", where);
    for (int64_t i = 0; i <= rows->documents; i++)
        cr_expect_eq(rows->start[i], element(starts, (size_t)i), "%s: document %lld", where, (long long)i);
    char ignored[4097] = {0};
    const json_t *const first = json_object_get(expected, "label_ignored_at");
    for (size_t i = 0; i < json_array_size(first); i++)
        ignored[element(first, i)] = 1;
    for (int64_t t = 0; t < tokens; t++) {
        cr_expect_eq(rows->positions[t], element(positions, (size_t)t), "%s: token %lld", where, (long long)t);
        cr_expect_eq(documents[t], element(numbers, (size_t)t), "%s: token %lld", where, (long long)t);
        const int32_t wanted = t + 1 < tokens && !ignored[t + 1] ? labels[t + 1] : -1;
        cr_expect_eq(rows->targets[t], wanted, "%s: target of token %lld", where, (long long)t);
    }
    slices_free(&slices);
    sequence_list_free(&list);
}

static void check_strategy(const json_t *line, const char *strategy, int number) {
    const json_t *const lengths = json_object_get(line, "lengths"), *const rows = json_object_get(line, strategy);
    const int64_t count = (int64_t)json_array_size(lengths);
    int64_t *const of = mem_new((size_t)count + 1, sizeof *of);
    for (int64_t i = 0; i < count; i++)
        of[i] = element(lengths, (size_t)i);
    packing p = pack_as(strategy, of, count, whole(line, "capacity"));
    char where[80];
    snprintf(where, sizeof where, "line %d, %s", number, strategy);
    cr_assert_not_null(rows, "%s", where);
    cr_assert_eq((size_t)p.rows, json_array_size(rows), "%s: %lld rows", where, (long long)p.rows);
    for (int64_t r = 0; r < p.rows; r++) {
        const json_t *const row = json_array_get(rows, (size_t)r);
        const json_t *const segments = json_is_object(row) ? json_object_get(row, "segments") : row;
        const int64_t n = p.first[r + 1] - p.first[r];
        cr_assert_eq((size_t)n, json_array_size(segments), "%s: row %lld", where, (long long)r);
        for (int64_t i = 0; i < n; i++) {
            const pack_segment *const s = &p.segments[p.first[r] + i];
            const json_t *const wanted = json_array_get(segments, (size_t)i);
            cr_expect(s->document == element(wanted, 0) && s->begin == element(wanted, 1) &&
                          s->length == element(wanted, 2),
                      "%s: row %lld, segment %lld is [%lld, %lld, %lld]", where, (long long)r, (long long)i,
                      (long long)s->document, (long long)s->begin, (long long)s->length);
        }
        if (json_is_object(row)) check_row(p.segments + p.first[r], n, row, where);
    }
    packing_free(&p);
    free(of);
}

Test(packing, every_strategy_gives_the_rows_of_the_reference) {
    static const char *const strategies[] = {"bfd", "bfd_split", "ffd", "sequential", "wrapped"};
    json_t *const lines = read_lines(SOURCE_DIR "/tests/golden/data/packing.jsonl");
    cr_assert_geq(json_array_size(lines), 20);
    for (size_t i = 0; i < json_array_size(lines); i++)
        for (size_t s = 0; s < sizeof strategies / sizeof *strategies; s++)
            check_strategy(json_array_get(lines, i), strategies[s], (int)i + 1);
    json_decref(lines);
}

/* ---- truncation ---- */

static int32_t truncation_of(const char *policy) {
    if (strcmp(policy, "keep_start") == 0) return SAMPLE_CUT_RIGHT;
    return strcmp(policy, "keep_end") == 0 ? SAMPLE_CUT_LEFT : SAMPLE_DROP;
}

/* The mask of the whole conversation. */
static const char *find_mask(const json_t *masks, const json_t *of) {
    for (size_t i = 0; i < json_array_size(masks); i++) {
        const json_t *const line = json_array_get(masks, i);
        if (json_equal(json_object_get(line, "template"), json_object_get(of, "template")) &&
            json_equal(json_object_get(line, "conversation"), json_object_get(of, "conversation")))
            return json_string_value(json_object_get(line, "mask_tag"));
    }
    return NULL;
}

Test(truncation, keeps_the_tokens_and_targets_of_the_reference) {
    json_t *const lines = read_masks("truncation.jsonl"), *const masks = read_masks("chat_masks.jsonl");
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *const line = json_array_get(lines, i);
        const char *const mask = find_mask(masks, line);
        cr_assert_not_null(mask, "line %zu", i + 1);
        const int64_t n = whole(line, "n"), most = whole(line, "max_length");
        const int32_t truncation = truncation_of(json_string_value(json_object_get(line, "policy")));
        cr_assert_eq((int64_t)strlen(mask), n);
        const int64_t pieces = sample_pieces(truncation, n, 0, most);
        const sample_cut cut = pieces > 0 ? sample_piece(truncation, n, 0, most, 0) : (sample_cut){0};
        const int64_t begin = cut.begin, end = cut.end;
        const int64_t wanted_begin = whole(line, "begin"), wanted_end = whole(line, "end");
        if (wanted_begin == wanted_end)
            cr_expect_eq(pieces, 0, "line %zu", i + 1);
        else
            cr_expect(begin == wanted_begin && end == wanted_end, "line %zu: %lld..%lld", i + 1, (long long)begin,
                      (long long)end);
        int32_t *const labels = mem_new((size_t)n + 1, sizeof *labels);
        for (int64_t t = 0; t < n; t++)
            labels[t] = mask[t] == '1' ? 7 : SAMPLE_NO_LABEL;
        const int64_t targets = sample_targets(labels + begin, end - begin);
        cr_expect_eq(targets, whole(line, "n_targets"), "line %zu", i + 1);
        cr_expect_eq(targets > 0, json_is_true(json_object_get(line, "usable")), "line %zu", i + 1);
        free(labels);
    }
    json_decref(lines);
    json_decref(masks);
}
