#include "quant-kit.h"
#include "base/philox.h"
#include "config/option.h"
#include "plugin/registry.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        graft_error err = {0};                                                                                         \
        cr_assert_eq(call, GRAFT_OK, "%s: %s", #call, err.text);                                                       \
    } while (0)

static int create(const char *plugin, const char *options, int flags, quantize **out, graft_error *err) {
    static registry *plugins; /* of the test's process */
    static arena memory;
    const plugin_component *found;
    if (!plugins) plugins = registry_create();
    if (registry_find(plugins, PLUGIN_QUANTIZER, plugin, NULL, &found, err)) return err->code;
    plugin_component *c = arena_new(&memory, 1, sizeof *c);
    *c = *found;
    if (flags & KIT_CUSTOM) c->quantizer.layout = NULL;
    void *config = arena_new(&memory, (size_t)c->config_size + 1, 1);
    option_origin origins[64] = {0};
    const option_set set = {c->options, c->option_count, config, origins};
    option_defaults(&set);
    char *text = mem_copy_text(options), *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word && !err->code; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        const int at = option_find(c->options, c->option_count, word);
        cr_assert_geq(at, 0, "%s has no option %s", plugin, word);
        option_parse(&c->options[at], value, config, &memory, err);
    }
    free(text);
    const quantize_spec spec = {.component = c, .config = config};
    return err->code ? err->code : quantize_create(&spec, out, err);
}

quantize *kit_quantizer(const char *plugin, const char *options, int flags) {
    quantize *q = NULL;
    MUST(create(plugin, options, flags, &q, &err));
    return q;
}

void kit_refused(const char *plugin, const char *options, const char *words) {
    quantize *q = NULL;
    graft_error err = {0};
    cr_assert_neq(create(plugin, options, 0, &q, &err), GRAFT_OK, "%s %s was taken", plugin, options);
    cr_expect(strstr(err.text, words), "%s %s: \"%s\" lacks \"%s\"", plugin, options, err.text, words);
}

packed kit_pack(const char *device, const char *plugin, const char *options, int flags, const float *values,
                int64_t out, int64_t in, dtype stored) {
    packed p = {.q = kit_quantizer(plugin, options, flags), .out = out, .in = in};
    MUST(kernels_open(device, NULL, &p.k, &err));
    p.t = (base_tensor){.name = mem_copy_text("w"), .out = out, .in = in, .stored = stored, .tied_to = -1};
    p.values = p.k->alloc(p.k, out * in * dtype_bytes(p.k->real));
    upload_as(p.k, p.values, p.k->real, values, F32, out * in);
    MUST(quantize_pack(p.q, p.k, &p.t, p.values, &err));
    return p;
}

void kit_close(packed *p) {
    quantize_release(p->k, &p->t.w);
    p->k->release(p->k, p->values);
    quantize_free(p->q);
    p->k->close(p->k);
    free(p->t.name);
}

void *kit_download(const packed *p, const void *dev, int64_t bytes) {
    void *const host = mem_new((size_t)bytes, 1);
    p->k->download(p->k, host, dev, bytes);
    return host;
}

float *kit_read(const packed *p) {
    void *const dev = p->k->alloc(p->k, p->out * p->in * 4);
    p->k->weight_read(p->k, &p->t.w, 0, p->out, dev, F32);
    float *const host = kit_download(p, dev, p->out * p->in * 4);
    p->k->release(p->k, dev);
    return host;
}

float *kit_read_formulas(const packed *p) {
    void *const dev = p->k->alloc(p->k, p->out * p->in * dtype_bytes(p->k->real));
    MUST(quantize_rows_by_formulas(p->q, p->k, &p->t.w, 0, p->out, dev, &err));
    float *const host = mem_new((size_t)(p->out * p->in), sizeof *host);
    download_as(p->k, host, F32, dev, p->k->real, p->out * p->in);
    p->k->release(p->k, dev);
    return host;
}

float *kit_random(int64_t n, uint64_t stream, double size) {
    float *const values = mem_new((size_t)n, sizeof *values);
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)(size * philox_normal(7, stream, (uint64_t)i) * (i % 97 == 5 ? 10 : 1));
    return values;
}
