/* Fixed batches: layouts, defaults, every integer type, and what is refused. */
#include "base/file.h"
#include "formats/safetensors.h"
#include "run/data.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/graft-tensors-XXXXXX";
static char path[64];
static graft_error err;
static data_source *source;
static sequence_list list;

static void begin(void) {
    cr_assert_not_null(mkdtemp(root));
    snprintf(path, sizeof path, "%s/batches.safetensors", root);
}
static void end(void) {
    graft_error ignored = {0};
    sequence_list_free(&list);
    if (source) source->close(source);
    file_remove_tree(root, &ignored);
}
TestSuite(tensors, .init = begin, .fini = end);

static void write_file(const tensor_out *tensors, int64_t count) {
    graft_error failed = {0};
    cr_assert_eq(safetensors_write(path, tensors, count, NULL, 0, &failed), GRAFT_OK, "%s", failed.text);
}

static const int64_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

Test(tensors, micro_batches_of_a_step_come_together) {
    const tensor_out file[] = {
        {.name = "input_ids", .dtype = I64, .rank = 4, .shape = {2, 2, 1, 4}, .data = ids}
    };
    write_file(file, 1);
    cr_assert_eq(data_tensors_open(path, &source, &err), GRAFT_OK, "%s", err.text);
    cr_expect(source->steps_limit == 2 && source->steps_per_epoch == 2 && source->longest == 4 &&
              source->step_tokens == 8 && source->eval_count == 0);
    cr_assert_eq(source->fetch(source, 1, &list, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(list.count, 2);
    cr_expect_eq(list.at[0].ids[0], 9);
    cr_expect_eq(list.at[1].ids[3], 16);
    cr_expect_null(list.at[0].mask);
    sequence_list_free(&list);
    cr_expect_eq(source->fetch(source, 2, &list, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "has 2 steps; there is no step 3"), "%s", err.text);
}

Test(tensors, labels_are_the_ids_where_there_are_none_but_not_on_padding) {
    static const uint8_t mask[] = {1, 1, 1, 0};
    const tensor_out file[] = {
        {.name = "input_ids",      .dtype = I64, .rank = 3, .shape = {1, 1, 4}, .data = ids },
        {.name = "attention_mask", .dtype = U8,  .rank = 3, .shape = {1, 1, 4}, .data = mask}
    };
    write_file(file, 2);
    cr_assert(!data_tensors_open(path, &source, &err) && !source->fetch(source, 0, &list, &err), "%s", err.text);
    cr_expect_eq(list.at[0].labels[2], 3);
    cr_expect_eq(list.at[0].labels[3], LABEL_NONE);
    cr_expect_eq(list.at[0].mask[3], 0);
}

Test(tensors, every_integer_type_and_one_row_of_positions_for_all) {
    static const int16_t labels[] = {-100, 2, 3, 4};
    static const uint8_t small[] = {1, 2, 3, 4};
    static const uint32_t positions[] = {5, 6};
    static const uint8_t truth[] = {1, 1, 0, 1};
    const tensor_out file[] = {
        {.name = "eval_input_ids",      .dtype = U8,    .rank = 2, .shape = {2, 2},    .data = small    },
        {.name = "eval_labels",         .dtype = I16,   .rank = 2, .shape = {2, 2},    .data = labels   },
        {.name = "eval_attention_mask", .dtype = BOOL8, .rank = 2, .shape = {2, 2},    .data = truth    },
        {.name = "eval_position_ids",   .dtype = U32,   .rank = 2, .shape = {1, 2},    .data = positions},
        {.name = "input_ids",           .dtype = I64,   .rank = 3, .shape = {1, 1, 4}, .data = ids      }
    };
    write_file(file, 5);
    cr_assert(!data_tensors_open(path, &source, &err) && !source->fetch_eval(source, 1, 1, &list, &err), "%s",
              err.text);
    cr_assert_eq(source->eval_count, 2);
    const sequence *const s = &list.at[0];
    cr_expect(s->ids[0] == 3 && s->labels[0] == 3 && s->positions[1] == 6 && s->mask[0] == 0 && s->mask[1] == 1);
}

static void expect_refused(const tensor_out *file, int64_t count, const char *words) {
    write_file(file, count);
    err = (graft_error){0};
    cr_expect_eq(data_tensors_open(path, &source, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, words) && strstr(err.text, path), "\"%s\" is not in: %s", words, err.text);
}

Test(tensors, what_does_not_fit_is_named) {
    static const float real[8] = {0};
    expect_refused(
        (const tensor_out[]){
            {.name = "ids", .dtype = I64, .rank = 3, .shape = {1, 1, 4}, .data = ids}
    },
        1, "input_ids");
    expect_refused(
        (const tensor_out[]){
            {.name = "input_ids", .dtype = F32, .rank = 3, .shape = {1, 1, 4}, .data = real}
    },
        1, "input_ids is F32; it must be an integer type");
    expect_refused(
        (const tensor_out[]){
            {.name = "input_ids", .dtype = I64, .rank = 2, .shape = {2, 4}, .data = ids}
    },
        1, "has 2 dimensions");
    expect_refused(
        (const tensor_out[]){
            {.name = "input_ids", .dtype = I64, .rank = 3, .shape = {0, 2, 4}, .data = ids}
    },
        1, "0 elements");
    expect_refused(
        (const tensor_out[]){
            {.name = "input_ids", .dtype = I64, .rank = 3, .shape = {1, 2, 4}, .data = ids},
            {.name = "labels",    .dtype = I64, .rank = 3, .shape = {2, 1, 4}, .data = ids}
    },
        2, "labels is I64 [2, 1, 4], but input_ids is I64 [1, 2, 4]");
}

Test(tensors, numbers_that_no_id_can_be_are_found_when_they_are_read) {
    static const int64_t large[] = {1, 1LL << 40, 3, 4};
    const tensor_out file[] = {
        {.name = "input_ids", .dtype = I64, .rank = 3, .shape = {1, 1, 4}, .data = large}
    };
    write_file(file, 1);
    cr_assert_eq(data_tensors_open(path, &source, &err), GRAFT_OK, "%s", err.text);
    cr_expect_eq(source->fetch(source, 0, &list, &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "input_ids holds 1099511627776 at row 0, token 1"), "%s", err.text);
}
