/* Virtual keys and values, virtual embedding rows and adapters behind sub-blocks, as the model hands them to techniques: with
 * the smallest techniques of each kind, against PEFT's prefix and prompt tuning and AdapterHub's bottlenecks. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model-case.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(model_virtual, .timeout = 60);

/* ---- techniques ---- */

typedef struct {
    int64_t count;
} options_of;
static const graft_option options[] = {GRAFT_OPTION_INT(options_of, count, 1, 1, 64, "virtual rows, or width", NULL)};

static const graft_slot virtual_slots[] = {
    GRAFT_SLOT_PARAM("P", "count, out", "P = 0", "{site}prompt_embeddings", NULL), GRAFT_SLOT_NUMBER("rows", "count")};
static void virtual_forward(graft_call *c) {
    graft_run(c, "y[n,o] = P[k,o] * (k == n)");
}
static void virtual_backward(graft_call *c) {
    graft_run(c, "dP[k,o] += dy[n,o] * (n == k)");
}

static const graft_slot bottleneck_slots[] = {
    GRAFT_SLOT_PARAM("D", "count, in", "D = 0", "{site}.adapter_down.0.weight", NULL),
    GRAFT_SLOT_PARAM("c", "count", "c = 0", "{site}.adapter_down.0.bias", NULL),
    GRAFT_SLOT_PARAM("U", "out, count", "U = 0", "{site}.adapter_up.weight", NULL),
    GRAFT_SLOT_PARAM("e", "out", "e = 0", "{site}.adapter_up.bias", NULL),
    GRAFT_SLOT_KEPT("S", "rows, in"),
    GRAFT_SLOT_KEPT("Z", "rows, count"),
    GRAFT_SLOT_KEPT("A", "rows, count")};
static void pfeiffer_forward(graft_call *c) {
    graft_run(c, "S[n,i] = x[n,i] + y[n,i]; Z[n,r] = S[n,i] * D[r,i]; Z[n,r] += c[r]; A[n,r] = max(Z[n,r], 0);"
                 "y[n,o] += A[n,r] * U[o,r]; y[n,o] += e[o]");
}
static void pfeiffer_backward(graft_call *c) {
    graft_run(
        c,
        "de[o] += dy[n,o]; dU[o,r] += dy[n,o] * A[n,r]; dA[n,r] = dy[n,o] * U[o,r]; dZ[n,r] = dA[n,r] * (Z[n,r] > 0);"
        "dc[r] += dZ[n,r]; dD[r,i] += dZ[n,r] * S[n,i]; dS[n,i] = dZ[n,r] * D[r,i];"
        "dx[n,i] += dS[n,i]; dy[n,i] += dS[n,i]");
}
static void houlsby_forward(graft_call *c) {
    graft_run(c, "S[n,i] = y[n,i]; Z[n,r] = S[n,i] * D[r,i]; Z[n,r] += c[r]; A[n,r] = Z[n,r] * sigmoid(Z[n,r]);"
                 "y[n,o] += A[n,r] * U[o,r]; y[n,o] += e[o]");
}
static void houlsby_backward(graft_call *c) {
    graft_run(c, "de[o] += dy[n,o]; dU[o,r] += dy[n,o] * A[n,r]; dA[n,r] = dy[n,o] * U[o,r];"
                 "dZ[n,r] = dA[n,r] * sigmoid(Z[n,r]) * (1 + Z[n,r] * (1 - sigmoid(Z[n,r])));"
                 "dc[r] += dZ[n,r]; dD[r,i] += dZ[n,r] * S[n,i]; dS[n,i] = dZ[n,r] * D[r,i]; dy[n,i] += dS[n,i]");
}

static plugin_component component_of(const char *name, int32_t sites, const graft_slot *slots, int32_t slot_count,
                                     void (*forward_hook)(graft_call *), void (*backward_hook)(graft_call *)) {
    return (plugin_component){
        .kind = PLUGIN_ADAPTER,
        .name = name,
        .doc = "",
        .paper = "",
        .file = "",
        .version = "",
        .config_size = sizeof(options_of),
        .options = options,
        .option_count = 1,
        .slots = slots,
        .slot_count = slot_count,
        .adapter = {.size = sizeof(graft_adapter), .sites = sites, .forward = forward_hook, .backward = backward_hook}
    };
}

/* ---- a case ---- */

typedef struct {
    model_case c;
    loaded l;
    adapt *a;
    options_of config;
    json_t *meta;
    int32_t first[64];
} adapted;

static json_t *meta_of(const char *name) {
    graft_error err = {0};
    json_t *meta = NULL;
    char *path = mem_format("%s/golden/adapters/%s/case.json", SHARED_DIR, name);
    if (!file_exists(path)) {
        fprintf(stderr, "skipped: the shared adapter cases are not there\n");
        cr_skip_test("the shared adapter cases are not there");
    }
    cr_assert_eq(json_read_file(path, 0, &meta, &err), 0, "%s", err.text);
    free(path);
    return meta;
}

/* A name of AdapterHub's file for the site's name in ours. */
static char *file_name(const char *name) {
    const char *attn = strstr(name, ".attn."), *mlp = strstr(name, ".mlp."), *at = attn ? attn : mlp;
    if (!at) return mem_copy_text(name);
    return mem_format("%.*s.%s.adapters.golden.%s", (int)(at - name), name,
                      attn ? "attention_adapters" : "output_adapters", at + (attn ? 6 : 5));
}

static void load_values(adapted *t, const char *file) {
    graft_error err = {0};
    safetensors *st = NULL;
    int32_t count;
    cr_assert_eq(safetensors_open(file, &st, &err), 0, "%s", err.text);
    const adapt_param *p = adapt_params(t->a, &count);
    cr_assert_eq(count, safetensors_count(st));
    for (int32_t i = 0; i < count; i++) {
        int64_t n = 0;
        char *name = file_name(p[i].name);
        float *values = tensor_f32(st, name, &n);
        cr_assert(values && n == p[i].count, "%s: %s", file, name);
        void *raw = mem_new((size_t)n, 8);
        dtype_convert(raw, t->l.k->real, values, F32, n);
        t->l.k->upload(t->l.k, p[i].data, raw, n * dtype_bytes(t->l.k->real));
        free(raw);
        free(values);
        free(name);
    }
    safetensors_close(st);
    cr_assert_eq(adapt_prepare(t->a, &err), 0, "%s", err.text);
}

/* case.safetensors of an adapter case has the batch of a model case. */
static void open_batch(adapted *t, const char *folder) {
    graft_error err = {0};
    char *path = path_join(folder, "case.safetensors"), *grads = path_join(folder, "grads.safetensors");
    t->c = (model_case){.folder = mem_copy_text(folder)};
    t->c.name = strrchr(t->c.folder, '/') + 1;
    t->c.meta = json_incref(t->meta);
    cr_assert_eq(safetensors_open(path, &t->c.data, &err), 0, "%s", err.text);
    cr_assert_eq(safetensors_open(grads, &t->c.grads, &err), 0, "%s", err.text);
    case_read_batch(&t->c);
    int64_t *labels = tensor_i64(t->c.data, "labels", NULL);
    for (int64_t b = 0; b < t->c.B; b++)
        t->first[b] = labels[b * t->c.T] >= 0 ? (int32_t)labels[b * t->c.T] : -1;
    free(labels);
    t->c.in.first = t->first;
    free(path);
    free(grads);
}

static void open_adapted(adapted *t, const char *name, const plugin_component *component, int64_t count,
                         const char *const *targets, int32_t target_count, const char *device, dtype activation) {
    graft_error err = {0};
    t->config = (options_of){count};
    const adapt_spec spec = {.name = "",
                             .component = component,
                             .config = &t->config,
                             .targets = targets,
                             .target_count = target_count,
                             .bias = "none"};
    int32_t points;
    t->meta = meta_of(name);
    const char *base = json_string_value(json_object_get(t->meta, "base"));
    char *folder = mem_format("%s/golden/adapters/%s", SHARED_DIR, name);
    char *model_folder_path = mem_format("%s/%s%s", SHARED_DIR, *base == '_' ? "golden/adapters/" : "", base);
    open_batch(t, folder);
    t->l.k = device_open(device);
    cr_assert_eq(model_open(model_folder_path, &t->l.m, &err), 0, "%s", err.text);
    const adapt_point *at = model_points(t->l.m, &points);
    cr_assert_eq(adapt_bind(&spec, 1, at, points, 0, &t->a, &err), 0, "%s", err.text);
    cr_assert_eq(adapt_allocate(t->a, t->l.k, 1, &err), 0, "%s", err.text);
    cr_assert_eq(model_load(t->l.m, t->l.k, activation, t->a, NULL, &err), 0, "%s", err.text);
    char *file =
        path_join(folder, component->slots == bottleneck_slots ? "adapter.safetensors" : "adapter_model.safetensors");
    load_values(t, file);
    const workspace_config c = {.rows = t->c.rows, .documents = t->c.documents, .backward = 1, .checkpoint = 1};
    cr_assert_eq(workspace_create(t->l.m, t->a, &c, &t->l.w, &err), 0, "%s", err.text);
    t->c.V = model_descriptor(t->l.m)->vocab;
    free(file);
    free(folder);
    free(model_folder_path);
}

static void close_adapted(adapted *t) {
    workspace_free(t->l.w);
    adapt_free(t->a);
    model_close(t->l.m);
    t->l.k->close(t->l.k);
    case_close(&t->c);
    json_decref(t->meta);
}

/* ---- checks ---- */

/* ahead: rows in front of each sequence of the reference. */
static void check_logits(adapted *t, int64_t ahead) {
    graft_error err = {0};
    const model_case *c = &t->c;
    const int64_t all = c->rows + c->B * ahead;
    int32_t *list = mem_new((size_t)all, sizeof *list);
    float *mine = mem_new((size_t)(all * c->V), sizeof *mine), *reference = tensor_f32(c->data, "logits", NULL);
    double most = 0;
    for (int64_t i = 0; i < all; i++)
        list[i] = (int32_t)(i < c->rows ? i : -1 - (i - c->rows));
    cr_assert_eq(model_logits(t->l.w, &c->in, list, all, mine, &err), 0, "%s", err.text);
    for (int64_t i = 0; i < all; i++) {
        const int64_t virtual = i - c->rows, b = virtual < 0 ? c->place[i] / c->T : virtual / ahead;
        const int64_t place = b * (c->T + ahead) + (virtual < 0 ? c->place[i] % c->T + ahead : virtual % ahead);
        for (int64_t v = 0; v < c->V; v++)
            most = fmax(most, fabs((double)mine[i * c->V + v] - (double)reference[place * c->V + v]));
    }
    cr_expect_leq(most, case_tolerance(c, "logits_abs"), "%s: logits by %g", c->name, most);
    free(list);
    free(mine);
    free(reference);
}

static void check_gradients(adapted *t) {
    int32_t count;
    const model_case *c = &t->c;
    const double loss = train_once(t->l.w, &c->in, &mean_nll, case_number(c, "valid_targets"));
    graft_error err = {0};
    double extra = 0;
    cr_expect_float_eq(loss, case_number(c, "loss"), case_tolerance(c, "loss_abs"), "%s: loss %.8g", c->name, loss);
    cr_assert_eq(adapt_regularize(t->a, 1, 1, &extra, &err), 0, "%s", err.text);
    const adapt_param *p = adapt_params(t->a, &count);
    for (int32_t i = 0; i < count; i++) {
        char *name = file_name(p[i].name);
        float *reference = tensor_f32(c->grads, name, NULL);
        double *mine = mem_new((size_t)p[i].count, sizeof *mine), error = 0, length = 0;
        download_real(t->l.k, mine, p[i].grad, p[i].count);
        for (int64_t n = 0; n < p[i].count; n++) {
            error += pow(mine[n] - (double)reference[n], 2);
            length += pow((double)reference[n], 2);
        }
        cr_expect_leq(sqrt(error / length), case_tolerance(c, "grad_rel_l2_per_tensor"), "%s: %s by %g", c->name, name,
                      sqrt(error / length));
        free(mine);
        free(reference);
        free(name);
    }
}

/* The first document token by token, in two places of a cache at once. */
static void check_cached(adapted *t, kv_cache *cache, const char *how) {
    graft_error err = {0};
    const model_case *c = &t->c;
    const int64_t n = c->start[1], start[] = {0, n};
    const int32_t places[] = {1, 0};
    const model_rows rows = {.rows = n, .ids = c->ids, .positions = c->positions, .documents = 1, .start = start};
    float *whole = mem_new((size_t)(n * c->V), sizeof *whole), *two = mem_new((size_t)(2 * c->V), sizeof *two);
    cr_assert_eq(model_logits(t->l.w, &rows, NULL, 0, whole, &err), 0, "%s", err.text);
    for (int64_t i = 0; i < 2; i++) {
        cache_select(cache, places[i]);
        cache_clear(cache);
    }
    for (int64_t i = 0; i < n; i++) {
        const int32_t ids[] = {c->ids[i], c->ids[i]};
        double most = 0;
        cr_assert_eq(cache_step(cache, places, ids, 2, two, &err), 0, "%s", err.text);
        for (int64_t v = 0; v < 2 * c->V; v++)
            most = fmax(most, fabs((double)two[v] - (double)whole[i * c->V + v % c->V]));
        cr_expect_leq(most, case_tolerance(c, "logits_abs"), "%s, %s: token %lld by %g", c->name, how, (long long)i,
                      most);
    }
    free(whole);
    free(two);
}

/* The same cache with the adapter and, after it was cleared, without. */
static void check_cache(adapted *t) {
    graft_error err = {0};
    kv_cache *cache = NULL;
    cr_assert_eq(cache_create_many(t->l.w, 2, t->c.start[1], &cache, &err), 0, "%s", err.text);
    check_cached(t, cache, "with the adapter");
    adapt_enable(t->a, -1, 0);
    check_cached(t, cache, "without it");
    adapt_enable(t->a, -1, 1);
    cache_free(cache);
}

static void check(const char *name, const plugin_component *component, int64_t count, const char *const *targets,
                  int32_t target_count, int64_t ahead) {
    static const char *const devices[] = {"ref", "ref64", "fake"};
    static const dtype types[] = {F32, F64, F32};
    for (int d = 0; d < 3; d++) {
        adapted t = {0};
        open_adapted(&t, name, component, count, targets, target_count, devices[d], types[d]);
        check_logits(&t, ahead);
        check_gradients(&t);
        check_cache(&t);
        close_adapted(&t);
    }
}

Test(model_virtual, virtual_keys_and_values_are_those_of_prefix_tuning) {
    const plugin_component c = component_of("prefix", GRAFT_KV, virtual_slots, 2, virtual_forward, virtual_backward);
    check("prefix-nv6", &c, 6, NULL, 0, 0);
    check("prefix-gemma3", &c, 5, NULL, 0, 0);
}

Test(model_virtual, virtual_embedding_rows_are_those_of_prompt_tuning) {
    const plugin_component c = component_of("prompt", GRAFT_EMBED, virtual_slots, 2, virtual_forward, virtual_backward);
    check("prompt-nv6", &c, 6, NULL, 0, 6);
}

Test(model_virtual, adapters_behind_sub_blocks_are_those_of_adapterhub) {
    static const char *const mlp[] = {"*.mlp"}, *const both[] = {"*.attn", "*.mlp"};
    const plugin_component pfeiffer =
        component_of("pfeiffer", GRAFT_BRANCH, bottleneck_slots, 7, pfeiffer_forward, pfeiffer_backward);
    const plugin_component houlsby =
        component_of("houlsby", GRAFT_BRANCH, bottleneck_slots, 7, houlsby_forward, houlsby_backward);
    check("bottleneck-seq-bn", &pfeiffer, 8, mlp, 1, 0);
    check("bottleneck-double-seq-bn", &houlsby, 8, both, 2, 0);
}
