/* adapters-promises — what a technique's flags promise, in f64: SILENT_AT_INIT, nothing changes before training; LINEAR_IN_X, a
 * layer stays affine in its input, so that a weight can hold it. */
#include "adapters-kit.h"
#include "base/philox.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(adapters_promises, .timeout = 60);

static void for_each(void (*check)(kit *k, const char *title)) {
    registry *const plugins = registry_create();
    char *const folder = kit_folder(KIT_QWEN2);
    kit_variant v;
    registry_open_all(plugins);
    for (int n = 0; kit_next(plugins, n, &v); n++) {
        kit k;
        int left_out;
        char *const title = kit_title(&v);
        kit_open(&k, plugins, &v, folder, "ref64", 0, &left_out);
        cr_assert(!left_out, "%s", title);
        check(&k, title);
        kit_close(&k);
        free(title);
    }
    kit_remove(folder);
    registry_free(plugins);
}

static void check_silence(kit *k, const char *title) {
    if (!(k->component->adapter.flags & GRAFT_SILENT_AT_INIT)) return;
    k->regularize = 0;
    const double with = kit_loss(k);
    adapt_enable(k->a, -1, 0);
    const double without = kit_loss(k);
    adapt_enable(k->a, -1, 1);
    cr_expect_leq(fabs(with - without), 1e-12 * fabs(without), "%s: the loss is %.15g, that of the base %.15g", title,
                  with, without);
}

Test(adapters_promises, nothing_changes_before_training) {
    for_each(check_silence);
}

/* Rows a, b, a + b, 0 through one point: f(a) + f(b) = f(a + b) + f(0). */
static void check_point(kit *k, int32_t point, const adapt_point *at, const char *title) {
    enum { ROWS = 4 };
    double x[ROWS * 64], *y;
    kernels *const d = k->device;
    cr_assert(at->in <= 64);
    for (int64_t i = 0; i < at->in; i++) {
        x[i] = (double)philox_normal(1, (uint64_t)point, (uint64_t)i);
        x[at->in + i] = (double)philox_normal(2, (uint64_t)point, (uint64_t)i);
        x[2 * at->in + i] = x[i] + x[at->in + i];
        x[3 * at->in + i] = 0;
    }
    void *const dev_x = d->alloc(d, ROWS * at->in * 8), *const dev_y = d->alloc(d, ROWS * at->out * 8);
    void *const scratch = d->alloc(d, adapt_scratch(k->a, ROWS, F64, d));
    const adapt_pass p = {.device = d, .activation = F64, .rows = ROWS, .capacity = ROWS, .scratch = scratch};
    d->upload(d, dev_x, x, ROWS * at->in * 8);
    adapt_linear(k->a, point, &p, at->tensor, at->bias, dev_x, NULL, dev_y);
    y = kit_get(k, dev_y, ROWS * at->out);
    for (int64_t o = 0; o < at->out; o++) {
        const double left = y[o] + y[at->out + o], right = y[2 * at->out + o] + y[3 * at->out + o];
        cr_expect_leq(fabs(left - right), 1e-11 * (1 + fabs(left)), "%s at %s: output %lld", title, at->name,
                      (long long)o);
    }
    free(y);
    d->release(d, dev_x);
    d->release(d, dev_y);
    d->release(d, scratch);
}

static void check_affinity(kit *k, const char *title) {
    int32_t count;
    const adapt_point *const points = model_points(k->m, &count);
    if (!(k->component->adapter.flags & GRAFT_LINEAR_IN_X)) return;
    kit_randomize(k);
    for (int32_t p = 0; p < count; p++)
        if ((points[p].kinds & GRAFT_LINEAR) && !points[p].onehot && adapt_at(k->a, p))
            check_point(k, p, &points[p], title);
}

Test(adapters_promises, a_layer_stays_affine) {
    for_each(check_affinity);
}
