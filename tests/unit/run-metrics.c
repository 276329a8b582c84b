/* Lines of metrics, what is shown of a run, the schedule of the learning rate, clipping. */
#include "base/file.h"
#include "base/memory.h"
#include "run/gradient.h"
#include "run/metrics.h"
#include "run/progress.h"
#include "run/schedule.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/graft-metrics-XXXXXX";
static graft_error err;

static void begin(void) {
    cr_assert_not_null(mkdtemp(root));
}
static void end(void) {
    graft_error ignored = {0};
    file_remove_tree(root, &ignored);
}
TestSuite(metrics, .init = begin, .fini = end);

static char *text_of(void) {
    char *const path = path_join(root, "metrics.jsonl"), *text;
    int64_t size;
    cr_assert_eq(file_read(path, 1 << 20, &text, &size, &err), GRAFT_OK, "%s", err.text);
    free(path);
    return text;
}

static void write_steps(int64_t from, int64_t to) {
    metrics *m;
    cr_assert_eq(metrics_open(root, from - 1, &m, &err), GRAFT_OK, "%s", err.text);
    for (int64_t s = from; s <= to; s++)
        cr_assert_eq(
            metrics_add(m, &(metrics_line){.step = s, .loss = 1.0 / (double)s, .lr = 1e-4, .tokens = 10 * s}, &err), 0);
    cr_assert_eq(metrics_close(m, &err), GRAFT_OK, "%s", err.text);
}

Test(metrics, a_line_holds_nine_digits_and_null_for_what_is_not_finite) {
    metrics *m;
    cr_assert_eq(metrics_open(root, 0, &m, &err), GRAFT_OK, "%s", err.text);
    metrics_add(
        m, &(metrics_line){.step = 1, .loss = 1.0 / 3, .grad_norm = INFINITY, .lr = 2e-4, .tokens = 17, .skipped = 1},
        &err);
    metrics_add(m,
                &(metrics_line){.step = 2, .loss = 2, .grad_norm = 1e-9, .tokens = 3, .evaluated = 1, .eval_loss = 2.5},
                &err);
    metrics_close(m, &err);
    char *const text = text_of();
    cr_expect_str_eq(text,
                     "{\"step\": 1, \"loss\": 0.333333333, \"grad_norm\": null, \"lr\": 0.0002, \"tokens\": 17, "
                     "\"skipped\": true}\n{\"step\": 2, \"loss\": 2, \"grad_norm\": 1e-09, \"lr\": 0, \"tokens\": 3, "
                     "\"eval_loss\": 2.5}\n");
    free(text);
}

Test(metrics, lines_behind_the_checkpoint_are_cut_off_also_half_ones) {
    write_steps(1, 6);
    char *const whole = text_of(), *const path = path_join(root, "metrics.jsonl");
    cr_assert_eq(truncate(path, (off_t)strlen(whole) - 5), 0);
    write_steps(4, 6);
    char *const again = text_of();
    cr_expect_str_eq(again, whole);
    free(again);
    write_steps(1, 2);
    char *const anew = text_of();
    cr_expect(strlen(anew) < strlen(whole) && strncmp(anew, whole, strlen(anew)) == 0);
    free(anew);
    free(whole);
    free(path);
}

/* ---- what people see ---- */

Test(progress, durations_and_sizes_are_short) {
    char text[32];
    const struct {
        double seconds;
        const char *text;
    } times[] = {
        {0.2,    "0:00"   },
        {61,     "1:01"   },
        {3723,   "1:02:03"},
        {200000, "2 d 7 h"},
        {-1,     "?"      },
        {NAN,    "?"      }
    };
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        progress_duration(times[i].seconds, text);
        cr_expect_str_eq(text, times[i].text);
    }
    progress_bytes(812 * 1000 * 1000, text);
    cr_expect_str_eq(text, "812 MB");
    progress_bytes(INT64_C(1230000000), text);
    cr_expect_str_eq(text, "1.2 GB");
    progress_bytes(17, text);
    cr_expect_str_eq(text, "17 B");
    cr_expect_gt(progress_peak_memory(), 1 << 20);
}

/* ---- schedule ---- */

static double halves(const void *self, int64_t step, int64_t warmup, int64_t steps) {
    (void)self, (void)warmup, (void)steps;
    return 1.0 / (double)(1 + step);
}

Test(schedule, the_first_warm_up_step_has_rate_0_and_the_plugin_follows) {
    const plugin_component c = {.kind = PLUGIN_SCHEDULE, .schedule = {.factor = halves}};
    const schedule s = {.component = &c, .lr = 2, .warmup = 4, .steps = 10}, plain = {.lr = 3, .steps = 10};
    cr_expect_eq(schedule_lr(&s, 0), 0);
    cr_expect_eq(schedule_lr(&s, 3), 1.5);
    cr_expect_eq(schedule_lr(&s, 4), 2.0 / 5);
    cr_expect_eq(schedule_lr(&plain, 0), 3);
}

/* ---- clipping ---- */

Test(gradient, the_norm_is_over_all_tensors_and_clipping_is_torchs) {
    kernels *k = NULL;
    cr_assert_eq(kernels_open("fake", NULL, &k, &err), GRAFT_OK, "%s", err.text);
    const float values[3] = {3, 0, 4};
    void *const a = k->alloc(k, 4), *const b = k->alloc(k, 8);
    k->upload(k, a, values, 4);
    k->upload(k, b, values + 1, 8);
    const adapt_param params[] = {
        {.name = "a", .count = 1, .grad = a},
        {.name = "b", .count = 2, .grad = b}
    };
    const char *bad;
    cr_expect_float_eq(gradient_norm(params, 2, k, &bad), 5, 1e-12);
    cr_expect_null(bad);
    gradient_clip(params, 2, k, 5, 10);
    cr_expect_float_eq(gradient_norm(params, 2, k, &bad), 5, 1e-12, "below the limit nothing changes");
    gradient_clip(params, 2, k, 5, 1);
    cr_expect_float_eq(gradient_norm(params, 2, k, &bad), 5 / (5 + 1e-6), 1e-6);
    k->upload(k, b, (float[]){NAN, 1}, 8);
    cr_expect_not(isfinite(gradient_norm(params, 2, k, &bad)));
    cr_expect_str_eq(bad, "b");
    k->release(k, a);
    k->release(k, b);
    k->close(k);
}
