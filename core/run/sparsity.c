/* sparsity — counting by blocks. */
#include "run/sparsity.h"
#include "base/file.h"
#include "base/json.h"
#include <math.h>
#include <stdlib.h>

/* The next masked site behind (*spec, *n), which begin at 0, -1. 0: there is none. */
static int next_mask(const session *s, int32_t *spec, int32_t *n, adapt_mask_report *out) {
    for (++*n; *spec < s->spec_count; ++*spec, *n = 0)
        for (; adapt_masked(s->adapters, *spec, *n, out); ++*n)
            if (out->all) return 1;
    return 0;
}

/* Of one block (-1: what is outside of them; -2: of all). */
static double share_of(const session *s, int64_t layer) {
    adapt_mask_report m;
    int64_t zeros = 0, all = 0;
    for (int32_t spec = 0, n = -1; next_mask(s, &spec, &n, &m);)
        if (layer == -2 || m.layer == layer) zeros += m.zeros, all += m.all;
    return all ? (double)zeros / (double)all : NAN;
}

double sparsity_of(const session *s) {
    return share_of(s, -2);
}

void sparsity_print(const session *s, FILE *to) {
    for (int64_t l = -1; l < model_descriptor(s->model)->layers; l++) {
        const double share = share_of(s, l);
        if (isnan(share)) continue;
        if (l < 0)
            fprintf(to, "  outside   %.2f %%\n", 100 * share);
        else
            fprintf(to, "  layer %-3lld %.2f %%\n", (long long)l, 100 * share);
    }
}

int sparsity_write(const session *s, const char *folder, graft_error *err) {
    const double total = sparsity_of(s);
    adapt_mask_report m;
    if (isnan(total)) return GRAFT_OK;
    json_t *const layers = json_object(), *const tensors = json_object(), *const root = json_object();
    char *const path = path_join(folder, "sparsity.json");
    for (int64_t l = 0; l < model_descriptor(s->model)->layers; l++) {
        char name[24];
        snprintf(name, sizeof name, "%lld", (long long)l);
        if (!isnan(share_of(s, l))) json_object_set_new(layers, name, json_real(share_of(s, l)));
    }
    for (int32_t spec = 0, n = -1; next_mask(s, &spec, &n, &m);) {
        char *const name = mem_format("%s.weight", m.name);
        json_object_set_new(tensors, name, json_real((double)m.zeros / (double)m.all));
        free(name);
    }
    json_object_set_new(root, "sparsity", json_real(total));
    json_object_set_new(root, "layers", layers);
    json_object_set_new(root, "tensors", tensors);
    json_write_file(path, root, JSON_INDENT(2), err);
    json_decref(root);
    free(path);
    return err->code;
}

int sparsity_copy(const char *from, const char *folder, graft_error *err) {
    char *const path = path_join(from, "sparsity.json"), *const to = path_join(folder, "sparsity.json");
    json_t *root = NULL;
    if (file_exists(path) && json_read_file(path, 0, &root, err) == GRAFT_OK)
        json_write_file(to, root, JSON_INDENT(2), err);
    json_decref(root);
    free(path);
    free(to);
    return err->code;
}

int sparsity_read(const char *folder, const char *tensor, int32_t *named, graft_error *err) {
    char *const path = path_join(folder, "sparsity.json");
    json_t *root = NULL;
    *named = 0;
    if (file_exists(path) && json_read_file(path, 0, &root, err) == GRAFT_OK)
        *named = !tensor || json_object_get(json_object_get(root, "tensors"), tensor);
    json_decref(root);
    free(path);
    return err->code;
}
