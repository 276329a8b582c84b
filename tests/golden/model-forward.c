/* Logits, hidden states, token losses and the loss of every golden model, on the reference kernels in f32 and f64, within the
 * tolerances of each case (ten times the distance of two correct f32 programs). */
#include "model-case.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(model_forward, .timeout = 120);

/* Largest distance of row r of mine (width) to the reference at its place, over all rows. */
static double distance(const model_case *c, const float *mine, const float *reference, int64_t width) {
    double most = 0;
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t i = 0; i < width; i++)
            most = fmax(most, fabs((double)mine[r * width + i] - (double)reference[c->place[r] * width + i]));
    return most;
}

static void check_logits(const model_case *c, workspace *w) {
    graft_error err = {0};
    float *mine = malloc((size_t)(c->rows * c->V) * sizeof *mine), *reference = tensor_f32(c->data, "logits", NULL);
    cr_assert_eq(model_logits(w, &c->in, NULL, 0, mine, &err), 0, "%s: %s", c->name, err.text);
    cr_expect_leq(distance(c, mine, reference, c->V), case_tolerance(c, "logits_abs"), "%s: logits", c->name);
    const int32_t last = (int32_t)(c->rows - 1);
    float *one = malloc((size_t)c->V * sizeof *one);
    cr_assert_eq(model_logits(w, &c->in, &last, 1, one, &err), 0);
    cr_expect(memcmp(one, mine + last * c->V, (size_t)c->V * sizeof *one) == 0, "%s: one row differs from all",
              c->name);
    free(mine);
    free(one);
    free(reference);
}

static void check_hidden(const model_case *c, workspace *w) {
    graft_error err = {0};
    const tensor_info *info = safetensors_find(c->data, "hidden_states");
    if (!info) return; /* the committed case has none */
    const int64_t entries = info->shape[0], hidden = info->shape[3];
    float *mine = malloc((size_t)(entries * c->rows * hidden) * sizeof *mine);
    float *reference = tensor_f32(c->data, "hidden_states", NULL);
    cr_assert_eq(model_hidden(w, &c->in, mine, &err), 0, "%s: %s", c->name, err.text);
    for (int64_t l = 0; l < entries; l++)
        cr_expect_leq(distance(c, mine + l * c->rows * hidden, reference + l * c->B * c->T * hidden, hidden),
                      case_tolerance(c, "hidden_abs"), "%s: hidden state %lld", c->name, (long long)l);
    free(mine);
    free(reference);
}

static void check_losses(const model_case *c, workspace *w, const char *loss_key) {
    graft_error err = {0};
    float *mine = malloc((size_t)c->rows * sizeof *mine), *reference = tensor_f32(c->data, "token_nll", NULL);
    cr_assert_eq(c->targets, (int64_t)case_number(c, "valid_target_count"), "%s", c->name);
    cr_assert_eq(model_logprobs(w, &c->in, mine, &err), 0, "%s: %s", c->name, err.text);
    double sum = 0, most = 0;
    for (int64_t r = 0, n = 0; r < c->rows; r++) {
        if (c->target[r] < 0) continue;
        const int64_t b = c->place[r] / c->T, t = c->place[r] % c->T;
        most = fmax(most, fabs((double)-mine[n] - (double)reference[b * (c->T - 1) + t]));
        sum -= (double)mine[n++];
    }
    cr_expect_leq(most, case_tolerance(c, "token_nll_abs"), "%s: token losses", c->name);
    cr_expect_float_eq(sum / (double)c->targets, case_number(c, loss_key), case_tolerance(c, "loss_abs"), "%s: loss",
                       c->name);
    free(mine);
    free(reference);
}

static void check_all(const char *device, dtype activation, const char *loss_key) {
    char **folders = case_folders();
    for (char **f = folders; *f; f++) {
        model_case c;
        case_open(&c, *f);
        const workspace_config config = {.rows = c.rows, .documents = c.documents, .head_rows = 7};
        loaded l = model_loaded(*f, device, activation, NO_BACKWARD, config);
        check_logits(&c, l.w);
        check_hidden(&c, l.w);
        check_losses(&c, l.w, loss_key);
        loaded_close(&l);
        case_close(&c);
        free(*f);
    }
    free(folders);
}

Test(model_forward, every_case_agrees_with_transformers_in_f32) {
    check_all("ref", F32, "loss");
}

Test(model_forward, every_case_agrees_with_transformers_in_f64) {
    check_all("ref64", F64, "loss_float64");
}

Test(model_forward, every_case_agrees_on_memory_that_only_kernels_may_touch) {
    check_all("fake", F32, "loss");
}

Test(model_forward, every_case_agrees_on_the_fast_kernels) {
    check_all("cpu", F32, "loss");
}

/* A rounding of bf16 moves a logit of size 8 by 2^-6; the mean of the tokens' losses moves less than one of them. */
static void check_narrow(const char *device) {
    char **folders = case_folders();
    for (char **f = folders; *f; f++) {
        graft_error err = {0};
        model_case c;
        case_open(&c, *f);
        const workspace_config config = {.rows = c.rows, .documents = c.documents};
        loaded l = model_loaded(*f, device, BF16, TRAIN_ALL, config);
        float *logp = malloc((size_t)c.rows * sizeof *logp);
        double sum = 0;
        cr_assert_eq(model_logprobs(l.w, &c.in, logp, &err), 0, "%s: %s", c.name, err.text);
        for (int64_t i = 0; i < c.targets; i++)
            sum -= (double)logp[i];
        cr_expect_float_eq(sum / (double)c.targets, case_number(&c, "loss"), 0x1p-6, "%s: loss %.6g", c.name,
                           sum / (double)c.targets);
        const double trained = train_once(l.w, &c.in, &mean_nll, (double)c.targets);
        cr_expect_float_eq(trained, sum / (double)c.targets, 1e-6, "%s: the loss of a step is that of an evaluation",
                           c.name);
        free(logp);
        loaded_close(&l);
        case_close(&c);
        free(*f);
    }
    free(folders);
}

Test(model_forward, narrow_activations_stay_near_the_reference) {
    check_narrow("ref");
    check_narrow("cpu");
}
