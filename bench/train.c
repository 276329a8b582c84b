/* bench-train — tokens per second, peak memory and time to the first step of one training run on random weights of a published
 * shape; prints one JSON line with the keys of the peer's script (transformers + PEFT), and the machine's product rate.
 *
 *   bench-train init SHAPE FOLDER                                  writes the model folder (another process, so that its
 *                                                                  memory does not count)
 *   bench-train run SHAPE FOLDER METHOD BATCH SEQ STEPS [LABELS]   METHOD lora | qlora | full; LABELS the share of supervised
 *                                                                  tokens, 1
 * A model's work a token (model_tf): 4·P + 4·V·d + 3.5·attention + 6·r·Σ(in + out) for adapters, 6·P + 6·V·d + 3.5·attention
 * for full; P linear weights. That is the work a run needs, not what it may compute again. */
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/philox.h"
#include "kernels/cpu/calibrate.h"
#include "run/progress.h"
#include "run/training.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    const char *name, *config; /* of config.json, without the braces */
} shape;

#define COMMON "\"torch_dtype\": \"bfloat16\", \"initializer_range\": 0.02, \"bos_token_id\": 1, \"eos_token_id\": 2, "
#define LLAMA                                                                                                          \
    COMMON "\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"tie_word_embeddings\": true, "
static const shape shapes[] = {
    {"tiny",       LLAMA "\"vocab_size\": 512, \"hidden_size\": 64, \"intermediate_size\": 172, \"num_hidden_layers\": 2, "
                   "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-6"},
    {"smollm135m",
     LLAMA "\"vocab_size\": 49152, \"hidden_size\": 576, \"intermediate_size\": 1536, \"num_hidden_layers\": 30, "
           "\"num_attention_heads\": 9, \"num_key_value_heads\": 3, \"rms_norm_eps\": 1e-5, "
           "\"max_position_embeddings\": 8192"                                                                 },
    {"gemma270m",
     COMMON "\"architectures\": [\"Gemma3ForCausalLM\"], \"model_type\": \"gemma3_text\", \"vocab_size\": 262144, "
            "\"hidden_size\": 640, \"intermediate_size\": 2048, \"num_hidden_layers\": 18, \"num_attention_heads\": 4, "
            "\"num_key_value_heads\": 1, \"head_dim\": 256, \"query_pre_attn_scalar\": 256, \"sliding_window\": 512, "
            "\"sliding_window_pattern\": 6, \"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-6, "
            "\"hidden_activation\": \"gelu_pytorch_tanh\""                                                     },
    {"qwen05b",    COMMON
     "\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"vocab_size\": 151936, \"hidden_size\": "
     "896, "
     "\"intermediate_size\": 4864, \"num_hidden_layers\": 24, \"num_attention_heads\": 14, \"num_key_value_heads\": 2, "
     "\"tie_word_embeddings\": true, \"max_position_embeddings\": 32768, \"rms_norm_eps\": 1e-6"},
    {"llama1b",
     LLAMA "\"vocab_size\": 128256, \"hidden_size\": 2048, \"intermediate_size\": 8192, \"num_hidden_layers\": 16, "
           "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"head_dim\": 64, \"rms_norm_eps\": 1e-5, "
           "\"max_position_embeddings\": 131072"                                                               },
};

static const shape *find_shape(const char *name) {
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        if (strcmp(shapes[s].name, name) == 0) return &shapes[s];
    log_error("shape %s: must be tiny, smollm135m, gemma270m, qwen05b or llama1b", name);
    exit(GRAFT_USAGE);
}

static int make_model(const char *name, const char *folder, graft_error *err) {
    char *config = mem_format("{%s}", find_shape(name)->config), *path = path_join(folder, "config.json");
    team *threads = team_create(0);
    kernels *device = NULL;
    model *m = NULL;
    if (file_make_folders(folder, err) == GRAFT_OK &&
        file_write(path, config, (int64_t)strlen(config), err) == GRAFT_OK &&
        kernels_open("cpu", threads, &device, err) == GRAFT_OK && model_open_config(folder, &m, err) == GRAFT_OK &&
        model_randomize(m, device, 0, err) == GRAFT_OK)
        model_save(m, folder, DTYPE_COUNT, INT64_MAX, err);
    model_close(m);
    if (device) device->close(device);
    team_destroy(threads);
    free(config);
    free(path);
    return err->code;
}

/* Random ids; the first part of every sequence is not supervised when `labels` is below 1. */
static int make_batches(const char *path, int64_t vocab, int64_t batch, int64_t length, int64_t steps, double labels,
                        graft_error *err) {
    const int64_t count = steps * batch * length, masked = (int64_t)((double)length * (1 - labels));
    int32_t *ids = mem_new((size_t)count, sizeof *ids), *targets = mem_new((size_t)count, sizeof *targets);
    for (int64_t i = 0; i < count; i++) {
        ids[i] = (int32_t)(5 + philox_bits(1, 0, (uint64_t)i) % (uint64_t)(vocab - 5));
        targets[i] = i % length < masked ? -100 : ids[i];
    }
    const tensor_out list[] = {
        {.name = "input_ids", .dtype = I32, .rank = 3, .shape = {steps, batch, length}, .data = ids    },
        {.name = "labels",    .dtype = I32, .rank = 3, .shape = {steps, batch, length}, .data = targets}
    };
    safetensors_write(path, list, 2, NULL, 0, err);
    free(ids);
    free(targets);
    return err->code;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
    double began, last, first_step, *seconds;
    int64_t steps;
} clocked;

static void stepped(void *context, int64_t step, int64_t tokens) {
    clocked *c = context;
    const double t = now();
    (void)tokens;
    if (step == 1)
        c->first_step = t - c->began;
    else
        c->seconds[c->steps++] = t - c->last;
    c->last = now();
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Floating-point operations of one trained token. */
static double work_per_token(model *m, const char *method, double length, double rank) {
    const model_shape *s = model_descriptor(m);
    int32_t count;
    const base_tensor *t = model_tensors(m, &count);
    double linear = 0, low_rank = 0, attention = 0;
    for (int32_t i = 0; i < count; i++)
        if (t[i].linear) {
            linear += (double)(t[i].out * t[i].in);
            low_rank += rank * (double)(t[i].out + t[i].in);
        }
    for (int64_t l = 0; l < s->layers; l++) {
        const double window = s->window[l] ? (double)s->window[l] : length;
        const double seen = window < length ? window - window * window / (2 * length) : length / 2; /* causal mean */
        attention += 4 * (double)(s->heads * s->head_dim) * seen;
    }
    const double head = (double)(s->vocab * s->hidden);
    return strcmp(method, "full") == 0 ? 6 * linear + 6 * head + 3.5 * attention
                                       : 4 * linear + 4 * head + 3.5 * attention + 6 * low_rank;
}

static int run(char **words, int count, double began, graft_error *err) {
    const char *name = words[2], *folder = words[3], *method = words[4];
    const int64_t batch = atoll(words[5]), length = atoll(words[6]), steps = atoll(words[7]) + 1;
    const double labels = count > 8 ? atof(words[8]) : 1;
    arena memory = {0};
    model *m = NULL;
    registry *plugins = registry_create();
    recipe *settings = NULL;
    training *t = NULL;
    training_result out = {0};
    char *data = path_join(folder, "batches.safetensors"), *runs = path_join(folder, "run");
    if (model_open(folder, &m, err) ||
        make_batches(data, model_descriptor(m)->vocab, batch, length, steps, labels, err))
        goto done;
    const char *set[] = {arena_format(&memory, "model.path=%s", folder),
                         "model.precision=auto",
                         "data.loader=tensors",
                         arena_format(&memory, "data.path=%s", data),
                         arena_format(&memory, "adapter.plugin=%s", strcmp(method, "full") == 0 ? "full" : "lora"),
                         strcmp(method, "full") == 0 ? "adapter.targets=*" : "adapter.targets=all-linear",
                         "optimizer.lr=2e-4",
                         arena_format(&memory, "train.steps=%lld", (long long)steps),
                         arena_format(&memory, "train.batch_size=%lld", (long long)batch),
                         arena_format(&memory, "output.path=%s", runs),
                         "adapter.rank=16",
                         "adapter.alpha=32",
                         "quantizer.plugin=quant-nf4",
                         "quantizer.double_quant=yes"};
    int n = (int)(sizeof set / sizeof *set);
    if (strcmp(method, "qlora") != 0) n -= 2;
    if (strcmp(method, "full") == 0) n -= 2;
    clocked clock = {.began = began, .seconds = mem_new((size_t)steps, sizeof(double))};
    const training_options o = {.overwrite = 1, .quiet = 1, .stepped = stepped, .context = &clock};
    if (recipe_load(plugins, "/dev/null", set, n, RECIPE_TRAIN, &settings, NULL, err) ||
        training_open(settings, plugins, &o, &t, err) || training_run(t, &out, err))
        goto done;
    const int64_t peak = progress_peak_memory();
    team *threads = team_create(0);
    kernels *device = NULL;
    kernels_open("cpu", threads, &device, err);
    qsort(clock.seconds, (size_t)clock.steps, sizeof(double), by_size);
    const double tokens = (double)(batch * length), best = clock.steps ? clock.seconds[0] : NAN;
    const double median = clock.steps ? clock.seconds[clock.steps / 2] : NAN,
                 work = work_per_token(m, method, (double)length, 16);
    const double gemm = cpu_calibrate_gemm(device);
    printf("{\"shape\": \"%s\", \"method\": \"%s\", \"B\": %lld, \"S\": %lld, \"labels\": %g, \"tok_s_best\": %.1f, "
           "\"tok_s_med\": "
           "%.1f, \"step_s_min\": %.3f, \"step_s_med\": %.3f, \"peak_rss_gb\": %.3f, \"first_step_s\": %.2f, \"isa\": "
           "\"%s\", "
           "\"threads\": %d, \"gemm_tf\": %.3f, \"model_tf\": %.3f, \"loss\": %.3f}\n",
           name, method, (long long)batch, (long long)length, labels, tokens / best, tokens / median, best, median,
           (double)peak / 1e9, clock.first_step, device->isa, team_threads(threads), gemm, work * tokens / best / 1e12,
           out.loss);
    device->close(device);
    team_destroy(threads);
    free(clock.seconds);
done:
    training_close(t);
    recipe_free(settings);
    registry_free(plugins);
    model_close(m);
    free(data);
    free(runs);
    arena_free(&memory);
    return err->code;
}

int main(int count, char **words) {
    const double began = now();
    graft_error err = {0};
    if (count == 4 && strcmp(words[1], "init") == 0)
        make_model(words[2], words[3], &err);
    else if (count >= 8 && strcmp(words[1], "run") == 0)
        run(words, count, began, &err);
    else
        fail(&err, GRAFT_USAGE,
             "usage: bench-train init SHAPE FOLDER | run SHAPE FOLDER METHOD BATCH SEQ STEPS [LABELS]");
    if (err.code) log_error("%s", err.text);
    return err.code;
}
