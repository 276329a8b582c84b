/* What is planned is what is used: bytes of a load and of a workspace, counted at the device. */
#include "base/file.h"
#include "base/memory.h"
#include "model/model-private.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(model_memory, .timeout = 60);

/* ---- a device that counts ---- */

enum { BLOCKS = 4096 };
static struct {
    kernels *k;
    void *(*alloc)(kernels *, int64_t);
    void (*release)(kernels *, void *);
    void *at[BLOCKS];
    int64_t bytes[BLOCKS], held, most, fail_at, calls;
} counter;

static void *counting_alloc(kernels *k, int64_t bytes) {
    if (counter.fail_at && ++counter.calls == counter.fail_at) return NULL;
    void *dev = counter.alloc(k, bytes);
    for (int i = 0; i < BLOCKS; i++)
        if (!counter.at[i]) {
            counter.at[i] = dev;
            counter.bytes[i] = bytes;
            break;
        }
    counter.held += bytes;
    counter.most = counter.held > counter.most ? counter.held : counter.most;
    return dev;
}

static void counting_release(kernels *k, void *dev) {
    for (int i = 0; dev && i < BLOCKS; i++)
        if (counter.at[i] == dev) {
            counter.held -= counter.bytes[i];
            counter.at[i] = NULL;
            break;
        }
    counter.release(k, dev);
}

static kernels *counting_device(const char *name) {
    graft_error err = {0};
    memset(&counter, 0, sizeof counter);
    cr_assert_eq(kernels_open(name, NULL, &counter.k, &err), 0, "%s", err.text);
    counter.alloc = counter.k->alloc;
    counter.release = counter.k->release;
    counter.k->alloc = counting_alloc;
    counter.k->release = counting_release;
    return counter.k;
}

/* ---- a folder with random weights ---- */

static const char config[] =
    "{\"model_type\": \"%s\", \"vocab_size\": 96, \"hidden_size\": 32, \"intermediate_size\": 48, \"n_embd\": 32, "
    "\"n_inner\": 48, \"n_layer\": 3, \"n_head\": 4, \"n_positions\": 64, \"num_hidden_layers\": 3, "
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 8, \"pad_token_id\": null, "
    "\"sliding_window\": 6, \"torch_dtype\": \"%s\"}";

typedef struct {
    char config[32], weights[32];
} folders;

static folders random_folder(const char *family, const char *type) {
    graft_error err = {0};
    folders f = {"/tmp/graft-model-XXXXXX", "/tmp/graft-model-XXXXXX"};
    cr_assert(mkdtemp(f.config) && mkdtemp(f.weights));
    char *path = path_join(f.config, "config.json"), *text = mem_format(config, family, type);
    model *m = NULL;
    kernels *k = NULL;
    cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), 0, "%s", err.text);
    cr_assert_eq(kernels_open("ref", NULL, &k, &err), 0, "%s", err.text);
    cr_assert_eq(model_open_config(f.config, &m, &err), 0, "%s", err.text);
    cr_assert_eq(model_randomize(m, k, 11, &err), 0, "%s", err.text);
    cr_assert_eq(model_save(m, f.weights, DTYPE_COUNT, 0, &err), 0, "%s", err.text);
    model_close(m);
    k->close(k);
    free(path);
    free(text);
    return f;
}

static void remove_folders(const folders *f) {
    graft_error err = {0};
    file_remove_tree(f->config, &err);
    file_remove_tree(f->weights, &err);
}

static void check_plan(const char *family, const char *stored, const char *device, dtype activation, int train,
                       const workspace_config *c) {
    graft_error err = {0};
    folders f = random_folder(family, stored);
    kernels *k = counting_device(device);
    model *m = NULL;
    workspace *w = NULL;
    model_bytes plan;
    int32_t count;
    cr_assert_eq(model_open(f.weights, &m, &err), 0, "%s", err.text);
    base_tensor *t = model_tensors(m, &count);
    for (int32_t i = 0; i < count; i++)
        t[i].trained = train && t[i].tied_to < 0;
    model_plan(m, k, activation, NULL, NULL, c, &plan);
    cr_expect_eq(counter.held, 0, "%s: planning allocates nothing", family);
    cr_assert_eq(model_load(m, k, activation, NULL, NULL, &err), 0, "%s", err.text);
    int64_t tables = 0;
    for (int r = 0; r < MODEL_ROPES; r++)
        tables += model_descriptor(m)->rope[r].pairs * 4;
    cr_expect_eq(counter.held - tables, plan.weights + plan.masters + plan.gradients,
                 "%s: %lld bytes held, %lld planned", family, (long long)(counter.held - tables),
                 (long long)(plan.weights + plan.masters + plan.gradients));
    cr_expect_eq(counter.most, counter.held, "%s: loading needs nothing beside", family);
    const int64_t loaded = counter.held;
    cr_assert_eq(workspace_create(m, NULL, c, &w, &err), 0, "%s", err.text);
    cr_expect_eq(counter.held - loaded, plan.activations + plan.scratch, "%s", family);
    workspace_free(w);
    model_close(m);
    cr_expect_eq(counter.held, 0, "%s: %lld bytes left behind", family, (long long)counter.held);
    k->close(k);
    remove_folders(&f);
}

static const char *const all[] = {"llama",  "mistral",     "qwen2", "qwen3", "gemma",
                                  "gemma2", "gemma3_text", "gpt2",  "phi3",  "smollm3"};
enum { ALL = sizeof all / sizeof *all };

Test(model_memory, a_plan_is_what_a_training_run_takes) {
    const workspace_config c = {.rows = 24, .documents = 3, .backward = 1};
    for (int i = 0; i < ALL; i++)
        check_plan(all[i], "float32", "ref", F32, 1, &c);
}

Test(model_memory, a_plan_is_what_inference_takes) {
    const workspace_config c = {.rows = 24, .documents = 1, .head_rows = 4};
    for (int i = 0; i < ALL; i++)
        check_plan(all[i], "bfloat16", "ref", F32, 0, &c);
}

Test(model_memory, a_plan_holds_with_narrow_activations_and_checkpoints) {
    const workspace_config c = {.rows = 17, .documents = 2, .backward = 1, .checkpoint = 1};
    for (int i = 0; i < ALL; i++)
        check_plan(all[i], "bfloat16", "ref", BF16, 1, &c);
}

Test(model_memory, checkpoints_and_inference_keep_less) {
    graft_error err = {0};
    folders f = random_folder("llama", "float32");
    kernels *k = counting_device("ref");
    model *m = NULL;
    model_bytes whole, checkpointed, inference;
    cr_assert_eq(model_open(f.weights, &m, &err), 0, "%s", err.text);
    model_plan(m, k, F32, NULL, NULL, &(workspace_config){.rows = 64, .backward = 1}, &whole);
    model_plan(m, k, F32, NULL, NULL, &(workspace_config){.rows = 64, .backward = 1, .checkpoint = 1}, &checkpointed);
    model_plan(m, k, F32, NULL, NULL, &(workspace_config){.rows = 64}, &inference);
    cr_expect_lt(checkpointed.activations, whole.activations);
    cr_expect_lt(inference.activations, checkpointed.activations);
    cr_expect_lt(inference.scratch, whole.scratch);
    cr_expect_eq(whole.weights, inference.weights);
    model_close(m);
    k->close(k);
    remove_folders(&f);
}

/* Every allocation in turn fails: an error each time, and nothing stays behind. */
Test(model_memory, running_out_of_memory_is_an_error) {
    graft_error err = {0};
    folders f = random_folder("qwen3", "float32");
    kernels *k = counting_device("ref");
    int succeeded = 0;
    for (int64_t at = 1; !succeeded && at < 500; at++) {
        model *m = NULL;
        workspace *w = NULL;
        kv_cache *cache = NULL;
        err = (graft_error){0};
        cr_assert_eq(model_open(f.weights, &m, &err), 0, "%s", err.text);
        counter.fail_at = at;
        counter.calls = 0;
        succeeded = model_load(m, k, F32, NULL, NULL, &err) == 0 &&
                    workspace_create(m, NULL, &(workspace_config){.rows = 8, .backward = 1}, &w, &err) == 0 &&
                    cache_create(w, 8, &cache, &err) == 0;
        cr_expect(succeeded || strstr(err.text, "memory"), "allocation %lld: \"%s\"", (long long)at, err.text);
        counter.fail_at = 0;
        cache_free(cache);
        workspace_free(w);
        model_close(m);
        cr_expect_eq(counter.held, 0, "allocation %lld leaves %lld bytes", (long long)at, (long long)counter.held);
    }
    cr_expect(succeeded);
    k->close(k);
    remove_folders(&f);
}
