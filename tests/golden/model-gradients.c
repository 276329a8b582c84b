/* Gradients of whole models: against transformers for every golden case, against central differences in f64 for every family,
 * and the equalities that must hold bit by bit or within the rounding of a sum. */
#include "base/file.h"
#include "base/memory.h"
#include "model-case.h"
#include "model/pass.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(model_gradients, .timeout = 120);

static workspace_config config_of(const model_case *c) {
    return (workspace_config){.rows = c->rows, .documents = c->documents, .head_rows = 7};
}

static double norm(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static int listed(const json_t *list, const char *name) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), name) == 0) return 1;
    return 0;
}

/* ---- against transformers ---- */

static void check_tensor(const model_case *c, const char *name, const double *mine, double grad_norm) {
    int64_t n = 0;
    float *reference = tensor_f32(c->grads, name, &n);
    cr_assert(reference, "%s: no gradient of %s in the case", c->name, name);
    double *error = malloc((size_t)n * sizeof *error), length = 0;
    for (int64_t i = 0; i < n; i++) {
        error[i] = mine[i] - (double)reference[i];
        length += (double)reference[i] * (double)reference[i];
    }
    const double floor = case_number(c, "gradient_norm_floor");
    if (listed(json_object_get(c->meta, "zero_gradient_tensors"), name))
        cr_expect_leq(norm(mine, n), case_tolerance(c, "zero_gradient_norm_over_grad_norm") * grad_norm, "%s: %s",
                      c->name, name);
    else
        cr_expect_leq(norm(error, n) / fmax(sqrt(length), floor), case_tolerance(c, "grad_rel_l2_per_tensor"), "%s: %s",
                      c->name, name);
    free(error);
    free(reference);
}

static void check_case(const char *folder, const char *device, dtype activation, int flags, const graft_objective *f,
                       const char *loss_key, const char *norm_key) {
    model_case c;
    case_open(&c, folder);
    loaded l = model_loaded(folder, device, activation, TRAIN_ALL | flags, config_of(&c));
    const double loss = train_once(l.w, &c.in, f, (double)c.targets), reference = case_number(&c, norm_key);
    cr_expect_float_eq(loss, case_number(&c, loss_key), case_tolerance(&c, "loss_abs"), "%s: loss %.9g", c.name, loss);
    int32_t count;
    const base_tensor *t = model_tensors(l.m, &count);
    int64_t seen = 0;
    double all = 0;
    for (int32_t i = 0; i < count; i++) {
        if (!t[i].trained) continue;
        double *mine = gradient_of(&l, i);
        check_tensor(&c, t[i].name, mine, reference);
        all += pow(norm(mine, tensor_count_of(&t[i])), 2);
        seen++;
        free(mine);
    }
    cr_expect_eq(seen, safetensors_count(c.grads), "%s: %lld gradients", c.name, (long long)seen);
    cr_expect_float_eq(sqrt(all) / reference, 1, case_tolerance(&c, "grad_norm_rel"), "%s: gradient norm", c.name);
    loaded_close(&l);
    case_close(&c);
}

static void check_all(const char *device, dtype activation, int flags, const graft_objective *f, const char *loss_key,
                      const char *norm_key) {
    char **folders = case_folders();
    for (char **at = folders; *at; at++) {
        check_case(*at, device, activation, flags, f, loss_key, norm_key);
        free(*at);
    }
    free(folders);
}

Test(model_gradients, every_gradient_agrees_with_transformers_in_f32) {
    check_all("ref", F32, 0, &mean_nll, "loss", "grad_norm");
}

Test(model_gradients, every_gradient_agrees_with_transformers_in_f64) {
    check_all("ref64", F64, 0, &mean_nll, "loss_float64", "grad_norm_float64");
}

Test(model_gradients, every_gradient_agrees_on_the_fast_kernels) {
    check_all("cpu", F32, 0, &mean_nll, "loss", "grad_norm");
}

Test(model_gradients, a_loss_that_needs_the_log_probabilities_first_gives_the_same) {
    check_all("ref", F32, CHECKPOINT, &mean_nll_late, "loss", "grad_norm");
}

/* ---- equalities ---- */

static double *all_gradients(const loaded *l, int64_t *n) {
    int32_t count;
    const base_tensor *t = model_tensors(l->m, &count);
    double *out = NULL;
    *n = 0;
    for (int32_t i = 0; i < count; i++) {
        if (!t[i].trained) continue;
        double *one = gradient_of(l, i);
        out = mem_grow(out, (size_t)(*n + tensor_count_of(&t[i])), sizeof *out);
        memcpy(out + *n, one, (size_t)tensor_count_of(&t[i]) * sizeof *out);
        *n += tensor_count_of(&t[i]);
        free(one);
    }
    return out;
}

Test(model_gradients, checkpointed_blocks_give_the_same_bits) {
    char **folders = case_folders();
    for (char **f = folders; *f; f++) {
        model_case c;
        case_open(&c, *f);
        int64_t n = 0, m = 0;
        loaded whole = model_loaded(*f, "ref", F32, TRAIN_ALL, config_of(&c));
        loaded again = model_loaded(*f, "ref", F32, TRAIN_ALL | CHECKPOINT, config_of(&c));
        const double a = train_once(whole.w, &c.in, &mean_nll, (double)c.targets);
        const double b = train_once(again.w, &c.in, &mean_nll, (double)c.targets);
        double *x = all_gradients(&whole, &n), *y = all_gradients(&again, &m);
        cr_expect_eq(a, b, "%s", c.name);
        cr_expect(n == m && memcmp(x, y, (size_t)n * sizeof *x) == 0, "%s: gradients differ", c.name);
        free(x);
        free(y);
        loaded_close(&whole);
        loaded_close(&again);
        case_close(&c);
        free(*f);
    }
    free(folders);
}

/* Document d of the batch alone. */
static model_rows document_of(const model_case *c, int64_t d, int64_t *start) {
    const int64_t first = c->start[d];
    start[0] = 0;
    start[1] = c->start[d + 1] - first;
    return (model_rows){.rows = start[1],
                        .ids = c->ids + first,
                        .positions = c->positions + first,
                        .documents = 1,
                        .start = start,
                        .targets = c->target + first,
                        .longest = c->in.longest};
}

/* Slices add up to the batch; a packed row is its documents. Sums of other order: 64 roundings of f64 at most. */
Test(model_gradients, document_by_document_adds_up_to_the_batch) {
    char **folders = case_folders();
    for (char **f = folders; *f; f++) {
        model_case c;
        case_open(&c, *f);
        int64_t n = 0;
        loaded l = model_loaded(*f, "ref64", F64, TRAIN_ALL, config_of(&c));
        const double whole = train_once(l.w, &c.in, &mean_nll, (double)c.targets);
        double *x = all_gradients(&l, &n), sum = 0;
        model_zero_gradients(l.w);
        for (int64_t d = 0; d < c.documents; d++) {
            graft_error err = {0};
            int64_t start[2];
            const model_rows one = document_of(&c, d, start);
            const model_objective o = {.functions = &mean_nll, .total = (double)c.targets};
            double loss;
            cr_assert_eq(model_train_slice(l.w, &one, &o, &loss, &err), 0, "%s", err.text);
            sum += loss;
        }
        double *y = all_gradients(&l, &n);
        for (int64_t i = 0; i < n; i++)
            y[i] -= x[i];
        cr_expect_float_eq(sum, whole, 1e-6, "%s: loss", c.name);
        cr_expect_leq(norm(y, n) / norm(x, n), 1e-13, "%s: gradients by %g", c.name, norm(y, n) / norm(x, n));
        free(x);
        free(y);
        loaded_close(&l);
        case_close(&c);
        free(*f);
    }
    free(folders);
}

/* ---- central differences ---- */

static double loss_of(const loaded *l, const model_case *c) {
    graft_error err = {0};
    double *logp = malloc((size_t)c->targets * sizeof *logp), sum = 0;
    cr_assert_eq(pass_logprobs(l->w, &c->in, logp, &err), 0, "%s", err.text);
    for (int64_t i = 0; i < c->targets; i++)
        sum -= logp[i] / (double)c->targets;
    free(logp);
    return sum;
}

static double moved(const loaded *l, const model_case *c, base_tensor *t, int64_t at, double by) {
    double value;
    char *place = (char *)t->master + at * (int64_t)sizeof value;
    l->k->download(l->k, &value, place, sizeof value);
    const double there = value + by;
    l->k->upload(l->k, place, &there, sizeof value);
    const double loss = loss_of(l, c);
    l->k->upload(l->k, place, &value, sizeof value);
    return loss;
}

/* Two elements of every tensor. With h = 1e-5 the truncation error is about h²·f''' and the rounding 1e-16/h: 1e-9 of a
 * gradient of size 1. The rope tables and the f32 weights of the objective (dlogp) round at 6e-8. */
Test(model_gradients, every_family_agrees_with_central_differences) {
    const double h = 1e-5;
    char **folders = case_folders();
    for (char **f = folders; *f; f++) {
        model_case c;
        case_open(&c, *f);
        loaded l = model_loaded(*f, "ref64", F64, TRAIN_ALL, config_of(&c));
        train_once(l.w, &c.in, &mean_nll, (double)c.targets);
        int32_t count;
        base_tensor *t = model_tensors(l.m, &count);
        for (int32_t i = 0; i < count; i++) {
            if (!t[i].trained || t[i].skip_row >= 0) continue; /* the pad row's hole is no gradient */
            const int64_t n = tensor_count_of(&t[i]), picks[] = {c.ids[0] % n, n * 5 / 7};
            double *g = malloc((size_t)n * sizeof *g);
            l.k->download(l.k, g, t[i].grad, n * 8);
            for (int k = 0; k < 2; k++) {
                const double d = (moved(&l, &c, &t[i], picks[k], h) - moved(&l, &c, &t[i], picks[k], -h)) / (2 * h);
                cr_expect_float_eq(g[picks[k]], d, 1e-8 + 2e-7 * fabs(d), "%s: %s[%lld] %.12g, differences %.12g",
                                   c.name, t[i].name, (long long)picks[k], g[picks[k]], d);
            }
            free(g);
        }
        loaded_close(&l);
        case_close(&c);
        free(*f);
    }
    free(folders);
}
