#include "adapters-kit.h"
#include "base/file.h"
#include "base/philox.h"
#include "config/option.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        graft_error err = {0};                                                                                         \
        cr_assert_eq(call, GRAFT_OK, "%s: %s", #call, err.text);                                                       \
    } while (0)

/* ---- models ---- */

#define QWEN2(blocks)                                                                                                  \
    "{\"model_type\": \"qwen2\", \"vocab_size\": 29, \"hidden_size\": 16, \"intermediate_size\": 20, "                 \
    "\"num_hidden_layers\": " blocks ", \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "                      \
    "\"tie_word_embeddings\": false, \"initializer_range\": 0.4}"
static const char *const models[KIT_MODELS] = {
    [KIT_QWEN2] = QWEN2("2"),
    [KIT_GPT2] = "{\"model_type\": \"gpt2\", \"vocab_size\": 29, \"n_embd\": 16, \"n_layer\": 2, \"n_head\": 4, "
                 "\"n_positions\": 24, "
                 "\"initializer_range\": 0.4}",
    [KIT_GEMMA3] =
        "{\"model_type\": \"gemma3_text\", \"vocab_size\": 29, \"hidden_size\": 16, \"intermediate_size\": 20, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 4, "
        "\"sliding_window\": 5, \"sliding_window_pattern\": 2, \"initializer_range\": 0.4}",
    [KIT_ONE_BLOCK] = QWEN2("1"),
};

char *kit_folder(int which) {
    /* in memory where that is possible: folders are written with fsync */
    char *const name = mem_format("%s/graft-adapters-XXXXXX", file_is_folder("/dev/shm") ? "/dev/shm" : "/tmp");
    model *m = NULL;
    kernels *device = NULL;
    cr_assert(mkdtemp(name));
    char *const path = path_join(name, "config.json");
    MUST(file_write(path, models[which], (int64_t)strlen(models[which]), &err));
    MUST(kernels_open("ref", NULL, &device, &err));
    MUST(model_open_config(name, &m, &err));
    MUST(model_randomize(m, device, 5, &err));
    MUST(model_save(m, name, DTYPE_COUNT, 0, &err));
    model_close(m);
    device->close(device);
    free(path);
    return name;
}

void kit_remove(char *folder) {
    MUST(file_remove_tree(folder, &err));
    free(folder);
}

/* ---- variants ---- */

static const kit_variant variants[] = {
    {"lora",       {"rank = 3"}                                                  },
    {"rslora",     {"rank = 3"}                                                  },
    {"lora",       {"rank = 3", "update_bias = yes"}                             },
    {"rslora",     {"rank = 3", "update_bias = yes"}                             },
    {"dora",       {"rank = 3"}                                                  },
    {"dora",       {"rank = 3", "rslora = yes"}                                  },
    {"loftq",      {"rank = 2", "iterations = 2"}                                },
    {"pissa",      {"rank = 3"}                                                  },
    {"pissa",      {"rank = 3", "rslora = yes"}                                  },
    {"olora",      {"rank = 3"}                                                  },
    {"prune",      {"method = nm"}                                               },
    {"vera",       {"rank = 6"}                                                  },
    {"loha",       {"rank = 2"}                                                  },
    {"lokr",       {"rank = 1"}                                                  },
    {"lokr",       {"rank = 1", "decompose_both = yes"}                          },
    {"lokr",       {"rank = 2", "factor = 2"}                                    },
    {"oft",        {"block_size = 4"}                                            },
    {"oft",        {"block_size = 4", "terms = 2"}                               },
    {"oft",        {"block_size = 4", "terms = 3"}                               },
    {"oft",        {"blocks = 2", "neumann = no"}                                },
    {"oft",        {"block_size = 4", "share = yes"}                             },
    {"oft",        {"block_size = 4", "share = yes", "neumann = no"}             },
    {"oft",        {"block_size = 4", "coft = yes", "eps = 1000"}                },
    {"ia3",        {"feedforward = down_proj, mlp.c_proj"}                       },
    {"adalora",    {"init_rank = 3", "target_rank = 2"}                          },
    {"adalora",    {"init_rank = 3", "target_rank = 1", "alpha = 0", "total = 1"}},
    {"prefix",     {"tokens = 3"}                                                },
    {"prompt",     {"tokens = 3"}                                                },
    {"bottleneck", {"reduction = 4", "activation = relu", "sum = yes"}           },
    {"bottleneck", {"reduction = 4", "activation = swish"}                       },
    {"bottleneck", {"reduction = 4", "activation = gelu", "init = mam_adapter"}  },
    {"bottleneck", {"reduction = 4", "activation = gelu_new", "init = houlsby"}  },
    {"bottleneck", {"reduction = 4", "activation = tanh", "parallel = yes"}      },
    {"bottleneck", {"reduction = 40", "activation = sigmoid", "scaling = 3"}     },
};
enum { VARIANTS = sizeof variants / sizeof *variants };

int kit_next(registry *plugins, int n, kit_variant *out) {
    if (n < VARIANTS) {
        *out = variants[n];
        return 1;
    }
    for (int i = 0; i < registry_count(plugins); i++) {
        const plugin_component *const c = registry_at(plugins, i);
        int known = c->kind != PLUGIN_ADAPTER;
        for (int v = 0; v < VARIANTS; v++)
            known |= strcmp(variants[v].name, c->name) == 0;
        if (known || n-- > VARIANTS) continue;
        *out = (kit_variant){.name = c->name};
        return 1;
    }
    return 0;
}

char *kit_title(const kit_variant *v) {
    strbuf text = {0};
    strbuf_puts(&text, v->name);
    for (int s = 0; v->settings[s]; s++)
        strbuf_printf(&text, ", %s", v->settings[s]);
    return text.text;
}

/* ---- a technique on a model ---- */

static void set_options(kit *k, const kit_variant *v) {
    const plugin_component *const c = k->component;
    k->config = arena_new(&k->memory, (size_t)c->config_size + 1, 1);
    const option_set set = {c->options, c->option_count, k->config,
                            arena_new(&k->memory, (size_t)c->option_count + 1, sizeof(option_origin))};
    option_defaults(&set);
    for (int s = 0; v->settings[s]; s++) {
        char key[64];
        const char *const value = strstr(v->settings[s], " = ") + 3;
        snprintf(key, sizeof key, "%.*s", (int)(value - v->settings[s] - 3), v->settings[s]);
        const int row = option_find(c->options, c->option_count, key);
        cr_assert(row >= 0, "%s has no option %s", v->name, key);
        MUST(option_parse(&c->options[row], value, k->config, &k->memory, &err));
    }
}

/* Stands for a quantizer: halves. */
static void round_values(void *context, const base_tensor *like, void *values, graft_error *err) {
    const kit *const k = context;
    const int64_t count = like->out * like->in;
    (void)err;
    double *const host = kit_get(k, values, count);
    for (int64_t i = 0; i < count; i++)
        host[i] = (double)(int64_t)(host[i] * 2);
    kit_put((kit *)context, values, host, count);
    free(host);
}

void kit_randomize(kit *k) {
    int32_t count;
    const adapt_param *const p = adapt_params(k->a, &count);
    for (int32_t i = 0; i < count; i++) {
        if (p[i].base) continue;
        double *const values = kit_get(k, p[i].data, p[i].count);
        for (int64_t n = 0; n < p[i].count; n++)
            values[n] += 0.2 * (double)philox_normal(7, (uint64_t)i, (uint64_t)n);
        kit_put(k, p[i].data, values, p[i].count);
        free(values);
    }
    MUST(adapt_prepare(k->a, &err));
}

/* Two documents of 7 and 5 tokens; every second token of the first has a target, and the first of the second. */
static void make_batch(kit *k) {
    const int64_t start[] = {0, 7, KIT_ROWS};
    memcpy(k->start, start, sizeof start);
    for (int32_t i = 0; i < KIT_ROWS; i++) {
        k->ids[i] = (int32_t)(philox_bits(1, 2, (uint64_t)i) % 29);
        k->positions[i] = i < 7 ? i : i - 7;
        k->targets[i] = i == 6 || i == KIT_ROWS - 1 || (i < 7 && i % 2) ? -1 : (i * 5 + 2) % 29;
    }
    k->first[0] = -1, k->first[1] = 11;
    k->rows = (model_rows){.rows = KIT_ROWS,
                           .ids = k->ids,
                           .positions = k->positions,
                           .documents = 2,
                           .start = k->start,
                           .targets = k->targets,
                           .first = k->first};
}

void kit_open(kit *k, registry *plugins, const kit_variant *v, const char *folder, const char *device, int checkpoint,
              int *left_out) {
    static const char *const everything[] = {"*"}, *const head[] = {"lm_head"};
    graft_error bound = {0};
    int32_t points;
    *k = (kit){.step = 1, .regularize = 1};
    *left_out = 0;
    MUST(registry_find(plugins, PLUGIN_ADAPTER, v->name, NULL, &k->component, &err));
    MUST(kernels_open(device, NULL, &k->device, &err));
    MUST(model_open(folder, &k->m, &err));
    set_options(k, v);
    k->spec = (adapt_spec){
        .name = "", .component = k->component, .config = k->config, .targets = everything, .target_count = 1};
    const adapt_point *const at = model_points(k->m, &points);
    int rc = adapt_bind(&k->spec, 1, at, points, 0, &k->a, &bound);
    if (rc && strstr(bound.text, "changes the weight itself, which")) { /* a tied head is not for those that write W */
        k->spec.exclude = head;
        k->spec.exclude_count = 1;
        bound = (graft_error){0};
        rc = adapt_bind(&k->spec, 1, at, points, 0, &k->a, &bound);
    }
    if (rc) {
        cr_assert(strstr(bound.text, "selects nothing"), "%s: %s", v->name, bound.text);
        *left_out = 1;
        return;
    }
    MUST(adapt_allocate(k->a, k->device, 3, &err));
    adapt_set_textbook(k->a, 1);
    /* the base stays as it is: whoever made first values behind the rounding would not be silent on it */
    if (adapt_needs_quantizer(k->a, 0)) adapt_set_round_trip(k->a, round_values, k);
    MUST(model_load(k->m, k->device, k->device->real, k->a, NULL, &err));
    const workspace_config c = {.rows = KIT_ROWS, .documents = 2, .backward = 1, .checkpoint = checkpoint};
    MUST(workspace_create(k->m, k->a, &c, &k->w, &err));
    make_batch(k);
}

void kit_close(kit *k) {
    workspace_free(k->w);
    adapt_free(k->a);
    model_close(k->m);
    k->device->close(k->device);
    arena_free(&k->memory);
}

double *kit_get(const kit *k, const void *dev, int64_t count) {
    double *const values = mem_new((size_t)count + 1, sizeof *values);
    void *const raw = mem_new((size_t)count + 1, sizeof *values);
    k->device->download(k->device, raw, dev, count * dtype_bytes(k->device->real));
    dtype_convert(values, F64, raw, k->device->real, count);
    free(raw);
    return values;
}

void kit_put(kit *k, void *dev, const double *values, int64_t count) {
    void *const raw = mem_new((size_t)count + 1, sizeof *values);
    dtype_convert(raw, k->device->real, values, F64, count);
    k->device->upload(k->device, dev, raw, count * dtype_bytes(k->device->real));
    free(raw);
}

/* ---- loss ---- */

enum { TOTAL = 8, STEPS = 4 }; /* a power of two: its inverse is exact in a float */

static double sum_nll(const void *self, const graft_batch *b, float *dlogp) {
    (void)self;
    for (int64_t i = 0; i < b->tokens; i++)
        dlogp[i] = -1.0f / TOTAL;
    return 0;
}

void kit_gradients(kit *k) {
    const graft_objective f = {.size = sizeof f, .flags = GRAFT_WEIGHTS_KNOWN, .loss = sum_nll};
    const model_objective o = {.functions = &f, .total = TOTAL, .step = k->step, .steps = STEPS};
    double loss = 0;
    model_zero_gradients(k->w);
    MUST(model_train_slice(k->w, &k->rows, &o, &loss, &err));
    MUST(adapt_regularize(k->a, k->step, STEPS, &loss, &err));
}

double kit_loss(kit *k) {
    double logp[KIT_ROWS + 2] = {0}, sum = 0, more = 0;
    const void *rows;
    void *gradient;
    int64_t targets = adapt_virtual_embed(k->a, &rows, &gradient) > 0;
    for (int64_t i = 0; i < KIT_ROWS; i++)
        targets += k->targets[i] >= 0;
    MUST(pass_logprobs(k->w, &k->rows, logp, &err));
    for (int64_t i = 0; i < targets; i++)
        sum -= logp[i] / TOTAL;
    if (k->regularize) MUST(adapt_regularize(k->a, k->step, STEPS, &more, &err)); /* its gradients are not looked at */
    return sum + more;
}
