/* sft: its loss, its derivative against differences, and that slices of a step add up. */
#include "plugin/registry.h"
#include <criterion/criterion.h>
#include <math.h>

static const graft_objective *sft(registry *plugins) {
    const plugin_component *c = NULL;
    graft_error err = {0};
    cr_assert_eq(registry_find(plugins, PLUGIN_OBJECTIVE, "sft", NULL, &c, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(c->objective.flags, GRAFT_WEIGHTS_KNOWN);
    return &c->objective;
}

enum { TOKENS = 5 };
static const float logp[TOKENS] = {-1, -0.5F, -2, -0.25F, -4}, weight[TOKENS] = {1, 1, 0.5F, 0, 2};

static double loss_of(const graft_objective *o, int64_t first, int64_t tokens, const float *at, float *dlogp) {
    const int64_t start[] = {0, tokens};
    const graft_batch b = {.size = sizeof b,
                           .tokens = tokens,
                           .sequences = 1,
                           .logp = at,
                           .start = start,
                           .weight = weight + first,
                           .total = 4.5};
    return o->loss(NULL, &b, dlogp);
}

Test(sft, is_the_weighted_mean_over_the_whole_step) {
    registry *const plugins = registry_create();
    const graft_objective *const o = sft(plugins);
    float d[TOKENS], part[TOKENS];
    const double whole = loss_of(o, 0, TOKENS, logp, d);
    cr_assert_float_eq(whole, (1 + 0.5 + 1 + 8) / 4.5, 1e-12);
    const double parts = loss_of(o, 0, 2, logp, part) + loss_of(o, 2, 3, logp + 2, part + 2);
    cr_assert_float_eq(parts, whole, 1e-12);
    for (int i = 0; i < TOKENS; i++)
        cr_assert_eq(part[i], d[i]);
    registry_free(plugins);
}

Test(sft, its_weights_are_known_before_the_pass_and_are_the_derivative) {
    registry *const plugins = registry_create();
    const graft_objective *const o = sft(plugins);
    float before[TOKENS], d[TOKENS], moved[TOKENS];
    cr_assert_eq(loss_of(o, 0, TOKENS, NULL, before), 0);
    const double at = loss_of(o, 0, TOKENS, logp, d);
    for (int i = 0; i < TOKENS; i++) {
        cr_assert_eq(before[i], d[i]);
        for (int j = 0; j < TOKENS; j++)
            moved[j] = logp[j] + (i == j ? 0.125F : 0);
        float ignored[TOKENS];
        cr_assert_float_eq((loss_of(o, 0, TOKENS, moved, ignored) - at) / 0.125, d[i], 1e-7);
    }
    registry_free(plugins);
}
