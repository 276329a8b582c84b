/* What an author may rely on in observe: the rows that the layer reads, all of them and no padding, before init; the same rows in
 * a resumed run. Checked with a plugin of the tests, watcher.c, against means computed from the residual stream here. */
#include "base/file.h"
#include "base/memory.h"
#include "formats/safetensors.h"
#include "model/model.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 2, ROWS = 8, WIDTH = 24, HIDDEN = 32 }; /* train-kit.h: 4 rows a step */
#define WATCHER                                                                                                        \
    "[adapter]\nplugin = " BINARY_DIR "/tests/e2e/watcher.so\ntargets = q_proj\n[train]\nsteps = 2\nsave_every = 1\n"

static graft_error err;

static float *values(const char *path, const char *name, int64_t count) {
    safetensors *st = NULL;
    const tensor_info *info;
    float *const to = mem_new((size_t)count, sizeof *to);
    cr_assert(!safetensors_open(path, &st, &err) && !safetensors_need(st, name, &info, &err), "%s", err.text);
    cr_assert_eq(info->count, count, "%s", name);
    cr_assert_eq(safetensors_read_as(st, info, to, F32, &err), GRAFT_OK, "%s", err.text);
    safetensors_close(st);
    return to;
}

/* A buffer of the site in block `layer`, from a checkpoint. */
static float *buffer(const char *folder, const char *run, int step, int layer, const char *slot, int64_t count) {
    char *const path = mem_format("%s/%s/checkpoints/step-%06d/state.safetensors", folder, run, step);
    char *const name = mem_format("buffers/model.layers.%d.self_attn.q_proj.%s", layer, slot);
    float *const to = values(path, name, count);
    free(path);
    free(name);
    return to;
}

/* All tokens of the training rows that are no padding, a document a row, through the base: hidden states (layers + 1, rows). */
static float *hidden_states(const char *folder, int64_t *tokens) {
    char *const path = path_join(folder, "batches.safetensors"), *const base = path_join(folder, "model");
    float *const given = values(path, "input_ids", ROWS * WIDTH), *const mask =
                                                                      values(path, "attention_mask", ROWS * WIDTH);
    int32_t ids[ROWS * WIDTH], positions[ROWS * WIDTH], targets[ROWS * WIDTH];
    int64_t start[ROWS + 1] = {0}, n = 0;
    for (int r = 0; r < ROWS; r++) {
        for (int t = 0; t < WIDTH; t++) {
            if (mask[r * WIDTH + t] == 0) continue;
            ids[n] = (int32_t)given[r * WIDTH + t];
            positions[n] = t;
            targets[n++] = -1;
        }
        start[r + 1] = n;
    }
    const model_rows rows = {
        .rows = n, .ids = ids, .positions = positions, .documents = ROWS, .start = start, .targets = targets};
    const workspace_config c = {.rows = ROWS * WIDTH, .documents = ROWS};
    float *const hidden = mem_new((size_t)(3 * n * HIDDEN), sizeof *hidden);
    kernels *device = NULL;
    model *m = NULL;
    workspace *w = NULL;
    cr_assert(!kernels_open("ref", NULL, &device, &err) && !model_open(base, &m, &err) &&
                  !model_load(m, device, F32, NULL, NULL, &err) && !workspace_create(m, NULL, &c, &w, &err) &&
                  !model_hidden(w, &rows, hidden, &err),
              "%s", err.text);
    workspace_free(w);
    model_close(m);
    device->close(device);
    free(given);
    free(mask);
    free(path);
    free(base);
    *tokens = n;
    return hidden;
}

/* x = the residual stream behind the block's first norm, whose weights are 1 in a model that was just made. */
static void expect_means(const float *stream, int64_t tokens, const float *mean, int layer) {
    double sum[HIDDEN] = {0};
    for (int64_t t = 0; t < tokens; t++) {
        double square = 0;
        for (int i = 0; i < HIDDEN; i++)
            square += pow((double)stream[t * HIDDEN + i], 2) / HIDDEN;
        for (int i = 0; i < HIDDEN; i++)
            sum[i] += (double)stream[t * HIDDEN + i] / sqrt(square + 1e-5);
    }
    for (int i = 0; i < HIDDEN; i++)
        cr_expect_float_eq((double)mean[i], sum[i] / (double)tokens, 1e-5, "block %d, input %d", layer, i);
}

static void train(const char *folder, const char *name, const char *sections, const char *options) {
    char *text;
    kit_ini(folder, name, sections);
    cr_assert_eq(kit_train(folder, name, options, &text), 0, "%s", text);
    free(text);
}

Test(observe, a_technique_sees_what_its_layer_reads_and_no_padding) {
    char *const folder = kit_make(STEPS);
    int64_t tokens;
    train(folder, "run", WATCHER, "--quiet");
    float *const hidden = hidden_states(folder, &tokens), *const seen = buffer(folder, "run", 1, 0, "seen", 1);
    cr_expect_lt(tokens, ROWS * WIDTH);
    cr_expect_eq(seen[0], (float)tokens);
    for (int layer = 0; layer < 2; layer++) {
        float *const mean = buffer(folder, "run", 1, layer, "mean", HIDDEN);
        expect_means(hidden + layer * tokens * HIDDEN, tokens, mean, layer);
        free(mean);
    }
    free(hidden);
    free(seen);
    kit_remove(folder);
}

Test(observe, a_tied_head_is_observed_before_it_begins) {
    char *const folder = kit_make(STEPS);
    int64_t tokens;
    train(folder, "run", WATCHER, "--quiet --set adapter.targets=lm_head");
    float *const hidden = hidden_states(folder, &tokens); /* the last are behind the final norm */
    char *const path = path_join(folder, "run/checkpoints/step-000001/state.safetensors");
    float *const mean = values(path, "buffers/lm_head.mean", HIDDEN);
    for (int i = 0; i < HIDDEN; i++) {
        double sum = 0;
        for (int64_t t = 0; t < tokens; t++)
            sum += (double)hidden[(2 * tokens + t) * HIDDEN + i];
        cr_expect_float_eq((double)mean[i], sum / (double)tokens, 1e-5, "input %d", i);
    }
    free(mean);
    free(path);
    free(hidden);
    kit_remove(folder);
}

Test(observe, so_many_sequences_are_shown_as_data_calibration_says) {
    char *const folder = kit_make(STEPS);
    float seen[3];
    for (int run = 0; run < 3; run++) {
        char *const name = mem_format("seed%d", run);
        char *const options = mem_format("--quiet --set data.calibration=1 --set data.calibration_seed=%d", run);
        train(folder, name, WATCHER, options);
        float *const own = buffer(folder, name, 1, 0, "seen", 1);
        seen[run] = own[0];
        cr_expect(own[0] > 12 && own[0] <= WIDTH, "%g rows", (double)own[0]);
        free(own);
        free(options);
        free(name);
    }
    cr_expect(seen[0] != seen[1] || seen[0] != seen[2], "three seeds chose sequences of one length");
    kit_remove(folder);
}

Test(observe, a_resumed_run_is_shown_the_same) {
    char *const folder = kit_make(STEPS);
    train(folder, "whole", WATCHER, "--quiet --set data.calibration=3");
    train(folder, "parts", WATCHER, "--quiet --set data.calibration=3 --stop-after 1");
    train(folder, "parts", WATCHER, "--quiet --set data.calibration=3 --resume");
    cr_expect(kit_same(folder, "whole", "parts", "checkpoints/step-000002/state.safetensors"));
    kit_remove(folder);
}

/* b is trained from 0 with a rate of 1 and no clipping: behind one step over the same rows it is -db, and db is the sum of dy. */
Test(observe, where_dy_is_named_it_sees_the_gradients_of_the_base) {
    char *const folder = kit_make(1);
    train(folder, "run", WATCHER "clip_norm = 0\n[optimizer]\nplugin = sgd\nlr = 1\n",
          "--quiet --set adapter.gradients=yes --set adapter.targets=q_proj,down_proj,lm_head --set train.steps=1");
    static const char *const sites[] = {"model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "lm_head"};
    char *const path = path_join(folder, "run/checkpoints/step-000001/state.safetensors");
    for (int s = 0; s < 3; s++) {
        char *const slope = mem_format("buffers/%s.slope", sites[s]);
        char *const b = mem_format("parameters/base_model.model.%s.shift", sites[s]);
        const int64_t count = s < 2 ? HIDDEN : 96;
        float *const seen = values(path, slope, count), *const learned = values(path, b, count);
        double size = 0;
        for (int64_t o = 0; o < count; o++) {
            cr_expect_float_eq((double)learned[o], -(double)seen[o], 1e-7, "%s: output %lld", sites[s], (long long)o);
            size += fabs((double)seen[o]);
        }
        cr_expect_gt(size, 1e-4, "%s", sites[s]);
        free(seen);
        free(learned);
        free(slope);
        free(b);
    }
    free(path);
    kit_remove(folder);
}

Test(observe, a_folder_is_read_back_without_observing) {
    char *const folder = kit_make(STEPS), *text;
    setenv("GRAFT_PLUGIN_PATH", BINARY_DIR "/tests/e2e", 1);
    train(folder, "run", WATCHER, "--quiet");
    cr_expect_eq(kit_graft(folder, "merge model --adapter run -o merged", &text), 1); /* y += b, and there is no bias */
    cr_expect(strstr(text, "adds a constant"), "%s", text);
    free(text);
    kit_remove(folder);
}
