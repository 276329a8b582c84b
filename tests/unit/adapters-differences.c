/* adapters-differences — every gradient of every technique against central differences of the loss, in f64: along a random
 * direction for each parameter by itself. A technique that holds what prepare computes fixed (DoRA's lengths) is differenced
 * with it fixed. */
#include "adapters-kit.h"
#include "base/philox.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

TestSuite(adapters_differences, .timeout = 300);

/* The loss with one parameter moved along `direction`. */
static double moved(kit *k, const adapt_param *p, const double *values, const double *direction, double by) {
    graft_error err = {0};
    double *const at = mem_new((size_t)p->count + 1, sizeof *at);
    for (int64_t i = 0; i < p->count; i++)
        at[i] = values[i] + by * direction[i];
    kit_put(k, p->data, at, p->count);
    if (p->base) model_refresh(k->m);
    if (!(k->component->adapter.flags & GRAFT_PREPARE_DETACHED)) adapt_prepare(k->a, &err);
    cr_assert_eq(err.code, GRAFT_OK, "%s", err.text);
    free(at);
    return kit_loss(k);
}

static void check_param(kit *k, const adapt_param *p, int32_t number, const double *gradient, const char *title) {
    const double h = 1e-4; /* four points: the error is of order h⁴ */
    double *const values = kit_get(k, p->data, p->count);
    double *const direction = mem_new((size_t)p->count + 1, sizeof *direction), along = 0, size = 0;
    for (int64_t i = 0; i < p->count; i++) {
        direction[i] = (double)philox_normal(9, (uint64_t)number, (uint64_t)i) / sqrt((double)p->count);
        along += gradient[i] * direction[i];
        size += fabs(gradient[i]);
    }
    const double one = moved(k, p, values, direction, h) - moved(k, p, values, direction, -h);
    const double two = moved(k, p, values, direction, 2 * h) - moved(k, p, values, direction, -2 * h);
    const double difference = (8 * one - two) / (12 * h);
    moved(k, p, values, direction, 0);
    cr_expect_leq(fabs(along - difference), 1e-6 * fabs(difference) + 1e-9 * (1 + size),
                  "%s: gradient of %s along a direction is %.12g, differences give %.12g", title, p->name, along,
                  difference);
    free(values);
    free(direction);
}

static void check_variant(registry *plugins, const kit_variant *v, int which, const char *folder) {
    kit k;
    int left_out;
    int32_t count;
    char *const title = kit_title(v);
    kit_open(&k, plugins, v, folder, "ref64", which == KIT_GPT2, &left_out);
    cr_assert(!left_out || which != KIT_QWEN2, "%s takes nothing of a model that has everything", title);
    if (!left_out) {
        const adapt_param *const p = adapt_params(k.a, &count);
        kit_randomize(&k);
        double **const gradients = mem_new((size_t)count + 1, sizeof *gradients);
        kit_gradients(&k);
        for (int32_t i = 0; i < count; i++)
            gradients[i] = kit_get(&k, p[i].grad, p[i].count);
        for (int32_t i = 0; i < count; i++)
            check_param(&k, &p[i], i, gradients[i], title);
        for (int32_t i = 0; i < count; i++)
            free(gradients[i]);
        free(gradients);
    }
    kit_close(&k);
    free(title);
}

static void check_all(int which) {
    registry *const plugins = registry_create();
    char *const folder = kit_folder(which);
    kit_variant v;
    registry_open_all(plugins);
    for (int n = 0; kit_next(plugins, n, &v); n++)
        check_variant(plugins, &v, which, folder);
    kit_remove(folder);
    registry_free(plugins);
}

Test(adapters_differences, gradients_agree_on_qwen2) {
    check_all(KIT_QWEN2);
}

Test(adapters_differences, gradients_agree_on_gpt2_whose_blocks_are_recomputed) {
    check_all(KIT_GPT2);
}

Test(adapters_differences, gradients_agree_on_gemma3) {
    check_all(KIT_GEMMA3);
}
