/* adapters-devices — every technique on memory that nothing outside the kernels may touch: a step of training and a saved
 * folder, bit for bit what the reference gives. */
#include "adapters-kit.h"
#include "base/file.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(adapters_devices, .timeout = 120);

typedef struct {
    double *values;
    char *file;
    int64_t count, bytes;
} history;

static void note(history *h, const kit *k, const void *dev, int64_t count) {
    double *const values = kit_get(k, dev, count);
    h->values = mem_grow(h->values, (size_t)(h->count + count + 1), sizeof *values);
    memcpy(h->values + h->count, values, (size_t)count * sizeof *values);
    h->count += count;
    free(values);
}

/* How many weights the masks hold at zero, site by site. */
static void note_masks(history *h, const kit *k) {
    adapt_mask_report m;
    for (int32_t n = 0; adapt_masked(k->a, 0, n, &m); n++) {
        h->values = mem_grow(h->values, (size_t)(h->count + 2), sizeof *h->values);
        h->values[h->count++] = (double)m.zeros;
    }
}

/* p -= g / 100 */
static void descend(kit *k, const adapt_param *p) {
    double *const values = kit_get(k, p->data, p->count), *const gradient = kit_get(k, p->grad, p->count);
    for (int64_t i = 0; i < p->count; i++)
        values[i] -= gradient[i] / 100;
    kit_put(k, p->data, values, p->count);
    free(values);
    free(gradient);
}

static history live(registry *plugins, const kit_variant *v, const char *folder, const char *device) {
    kit k;
    history h = {0};
    graft_error err = {0};
    int left_out;
    int32_t params, buffers;
    kit_open(&k, plugins, v, folder, device, 0, &left_out);
    cr_assert(!left_out, "%s takes nothing of this model", v->name);
    kit_randomize(&k);
    const adapt_param *const p = adapt_params(k.a, &params), *const b = adapt_buffers(k.a, &buffers);
    kit_gradients(&k);
    for (int32_t i = 0; i < params; i++) {
        note(&h, &k, p[i].grad, p[i].count);
        descend(&k, &p[i]);
    }
    cr_assert_eq(adapt_after_step(k.a, k.step, 4, &err), 0, "%s: %s", v->name, err.text);
    model_refresh(k.m);
    cr_assert_eq(adapt_prepare(k.a, &err), 0, "%s: %s", v->name, err.text);
    for (int32_t i = 0; i < params; i++)
        note(&h, &k, p[i].data, p[i].count);
    for (int32_t i = 0; i < buffers; i++)
        if (!b[i].bits) note(&h, &k, b[i].data, b[i].count);
    note_masks(&h, &k);
    cr_assert_eq(adapt_save(k.a, 0, folder, &err), 0, "%s: %s", v->name, err.text);
    const char *const names[] = {"adapter_model.safetensors", "adapter.safetensors"};
    for (int n = 0; n < 2; n++) {
        char *const path = path_join(folder, names[n]);
        if (file_exists(path)) cr_assert_eq(file_read(path, 1 << 24, &h.file, &h.bytes, &err), 0, "%s", err.text);
        remove(path);
        free(path);
    }
    kit_close(&k);
    return h;
}

Test(adapters_devices, nothing_touches_device_memory_behind_the_kernels) {
    registry *const plugins = registry_create();
    char *const folder = kit_folder(KIT_ONE_BLOCK);
    kit_variant v;
    registry_open_all(plugins);
    for (int n = 0; kit_next(plugins, n, &v); n++) {
        char *const title = kit_title(&v);
        history ref = live(plugins, &v, folder, "ref"), fake = live(plugins, &v, folder, "fake");
        cr_expect(ref.count == fake.count && ref.count > 0, "%s", title);
        cr_expect(memcmp(ref.values, fake.values, (size_t)ref.count * sizeof *ref.values) == 0, "%s", title);
        cr_expect(ref.bytes == fake.bytes && ref.bytes > 0 && memcmp(ref.file, fake.file, (size_t)ref.bytes) == 0,
                  "%s: its folder", title);
        free(ref.values);
        free(fake.values);
        free(ref.file);
        free(fake.file);
        free(title);
    }
    kit_remove(folder);
    registry_free(plugins);
}
