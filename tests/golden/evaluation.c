/* Perplexity in windows and choices of real models, against float64 numbers of transformers. */
#include "objectives.h"
#include "run/data-choices.h"
#include "run/data-windows.h"
#include "run/evaluate.h"
#include "run/session.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(evaluation, .timeout = 120);

typedef struct {
    char *folder;
    registry *plugins;
    session s;
} opened;

static opened open_model(const char *name) {
    graft_error err = {0};
    opened o = {.folder = mem_format("%s/models/%s", SHARED_DIR, name), .plugins = registry_create()};
    const session_request q = {.model = o.folder, .precision = "f32", .plugins = o.plugins};
    cr_assert(session_open(&q, &o.s, &err) == 0 && session_load(&o.s, 0, &err) == 0, "%s", err.text);
    return o;
}

static void close_model(opened *o) {
    session_close(&o->s);
    registry_free(o->plugins);
    free(o->folder);
}

static evaluation measure(const opened *o, data_source *d, double *each) {
    graft_error err = {0};
    evaluation e;
    workspace *w = NULL;
    const workspace_config c = {.rows = 1024, .documents = 1024};
    const slice_limits limits = {.vocab = model_descriptor(o->s.model)->vocab, .rows = 1024};
    cr_assert_eq(workspace_create(o->s.model, NULL, &c, &w, &err), 0, "%s", err.text);
    cr_assert_eq(evaluate(w, d, &limits, each, &e, &err), 0, "%s", err.text);
    workspace_free(w);
    return e;
}

/* A file of its own for the text; removed by the caller. */
static char *file_of(const char *text, size_t length) {
    char *path = mem_copy_text("/tmp/graft-evaluation-XXXXXX");
    const int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, length) == (ssize_t)length);
    close(fd);
    return path;
}

static void check_windows(const char *name, const opened *o, const char *path, const json_t *row) {
    graft_error err = {0};
    data_source *d = NULL;
    const int64_t context = (int64_t)number(row, "max_length"), stride = (int64_t)number(row, "stride");
    cr_assert_eq(data_windows_open(path, o->folder, context, stride, &d, &err), 0, "%s", err.text);
    cr_assert_eq(d->eval_count, (int64_t)number(row, "windows"), "%s", name);
    double *each = mem_new((size_t)d->eval_count * 2, sizeof *each);
    const evaluation e = measure(o, d, each);
    const json_t *first = json_object_get(row, "first_windows");
    for (size_t w = 0; w < json_array_size(first); w++) {
        const json_t *one = json_array_get(first, w);
        cr_expect_float_eq(each[2 * w + 1], json_number_value(json_array_get(one, 2)), 0, "%s: window %zu", name, w);
        cr_expect_float_eq(each[2 * w], json_number_value(json_array_get(one, 3)),
                           1e-5 * json_number_value(json_array_get(one, 3)), "%s: window %zu", name, w);
    }
    cr_expect_eq(e.targets, (int64_t)number(row, "scored"), "%s", name);
    cr_expect_float_eq(e.perplexity, number(row, "perplexity"), 1e-5 * number(row, "perplexity"), "%s", name);
    d->close(d);
    free(each);
}

Test(evaluation, perplexity_with_a_stride_is_that_of_transformers) {
    json_t *g = golden("eval_perplexity.json"), *of_model, *row;
    const json_t *text = json_object_get(g, "text");
    char *path = file_of(json_string_value(text), json_string_length(text));
    const char *name;
    json_object_foreach(json_object_get(g, "models"), name, of_model) {
        opened o = open_model(name);
        size_t i;
        json_array_foreach(json_object_get(of_model, "rows"), i, row) check_windows(name, &o, path, row);
        close_model(&o);
    }
    unlink(path);
    free(path);
    json_decref(g);
}

Test(evaluation, log_likelihoods_of_choices_are_those_of_transformers) {
    json_t *g = golden("eval_choice.json"), *of_model;
    char *all = json_dumps(json_object_get(g, "questions"), 0);
    const char *name;
    char *path = file_of(all, strlen(all));
    json_object_foreach(json_object_get(g, "models"), name, of_model) {
        graft_error err = {0};
        opened o = open_model(name);
        data_source *d = NULL;
        const question_list *questions = NULL;
        cr_assert_eq(data_choices_open(path, o.folder, 512, &d, &questions, &err), 0, "%s", err.text);
        double *each = mem_new((size_t)d->eval_count * 2, sizeof *each);
        measure(&o, d, each);
        for (int64_t q = 0; q < questions->count; q++) {
            const json_t *result = json_array_get(json_object_get(of_model, "results"), (size_t)q);
            const json_t *choices = json_object_get(result, "choices");
            cr_assert_eq(questions->at[q].count, (int64_t)json_array_size(choices));
            for (int64_t c = 0; c < questions->at[q].count; c++) {
                const double wanted = number(json_array_get(choices, (size_t)c), "loglikelihood");
                cr_expect_float_eq(-each[2 * (questions->at[q].first + c)], wanted, 1e-5 * fmax(1, fabs(wanted)),
                                   "%s: question %lld, choice %lld", name, (long long)q, (long long)c);
            }
        }
        d->close(d);
        free(each);
        close_model(&o);
    }
    unlink(path);
    free(path);
    free(all);
    json_decref(g);
}
