/* onednn — see onednn.h. Built with HAVE_DNNL = 1 where dnnl.h was found. */
#include "onednn.h"
#include <stdio.h>
#include <stdlib.h>

#if HAVE_DNNL
#    include <dnnl.h>

void omp_set_num_threads(int);

struct onednn_product {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[3];
    void *packed;
};

void onednn_threads(int threads) {
    omp_set_num_threads(threads);
}

const char *onednn_version(void) {
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

/* Fills the primitive and asks it for the size of its weights. */
#    if DNNL_VERSION_MAJOR >= 3
static dnnl_memory_desc_t describe(dtype type, int64_t rows, int64_t columns, dnnl_format_tag_t tag) {
    const dnnl_dims_t dims = {rows, columns};
    dnnl_memory_desc_t d = NULL;
    dnnl_memory_desc_create_with_tag(&d, 2, dims, type == BF16 ? dnnl_bf16 : dnnl_f32, tag);
    return d;
}

static int build(onednn_product *p, int64_t m, int64_t n, int64_t k, dtype type, dnnl_format_tag_t tag, const void *a,
                 const void *b, void *c) {
    dnnl_memory_desc_t da = describe(type, m, k, dnnl_ab), db = describe(type, k, n, tag),
                       dc = describe(type, m, n, dnnl_ab);
    dnnl_primitive_desc_t pd = NULL;
    int failed = dnnl_matmul_primitive_desc_create(&pd, p->engine, da, db, NULL, dc, NULL) != dnnl_success ||
                 dnnl_primitive_create(&p->primitive, pd) != dnnl_success;
    if (!failed) {
        const_dnnl_memory_desc_t w = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        if (!b) b = p->packed = calloc(1, dnnl_memory_desc_get_size(w));
        dnnl_memory_create(&p->memory[0], da, p->engine, (void *)(uintptr_t)a);
        dnnl_memory_create(&p->memory[1], w, p->engine, (void *)(uintptr_t)b);
        dnnl_memory_create(&p->memory[2], dc, p->engine, c);
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_memory_desc_destroy(da);
    dnnl_memory_desc_destroy(db);
    dnnl_memory_desc_destroy(dc);
    return failed;
}
#    else
static dnnl_memory_desc_t describe(dtype type, int64_t rows, int64_t columns, dnnl_format_tag_t tag) {
    const dnnl_dims_t dims = {rows, columns};
    dnnl_memory_desc_t d;
    dnnl_memory_desc_init_by_tag(&d, 2, dims, type == BF16 ? dnnl_bf16 : dnnl_f32, tag);
    return d;
}

static int build(onednn_product *p, int64_t m, int64_t n, int64_t k, dtype type, dnnl_format_tag_t tag, const void *a,
                 const void *b, void *c) {
    const dnnl_memory_desc_t da = describe(type, m, k, dnnl_ab), db = describe(type, k, n, tag),
                             dc = describe(type, m, n, dnnl_ab);
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_t pd = NULL;
    int failed = dnnl_matmul_desc_init(&op, &da, &db, NULL, &dc) != dnnl_success ||
                 dnnl_primitive_desc_create(&pd, &op, NULL, p->engine, NULL) != dnnl_success ||
                 dnnl_primitive_create(&p->primitive, pd) != dnnl_success;
    if (!failed) {
        const dnnl_memory_desc_t *w = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        if (!b) b = p->packed = calloc(1, dnnl_memory_desc_get_size(w));
        dnnl_memory_create(&p->memory[0], &da, p->engine, (void *)(uintptr_t)a);
        dnnl_memory_create(&p->memory[1], w, p->engine, (void *)(uintptr_t)b);
        dnnl_memory_create(&p->memory[2], &dc, p->engine, c);
    }
    if (pd) dnnl_primitive_desc_destroy(pd);
    return failed;
}
#    endif

onednn_product *onednn_create(int64_t m, int64_t n, int64_t k, dtype type, int turned, int packed, const void *a,
                              const void *b, void *c) {
    onednn_product *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    const dnnl_format_tag_t tag = packed ? dnnl_format_tag_any : turned ? dnnl_ba : dnnl_ab;
    if (dnnl_engine_create(&p->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) != dnnl_success ||
        build(p, m, n, k, type, tag, a, packed ? NULL : b, c)) {
        onednn_destroy(p);
        return NULL;
    }
    return p;
}

void onednn_run(onednn_product *p) {
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC,     p->memory[0]},
        {DNNL_ARG_WEIGHTS, p->memory[1]},
        {DNNL_ARG_DST,     p->memory[2]},
    };
    dnnl_primitive_execute(p->primitive, p->stream, 3, args);
    dnnl_stream_wait(p->stream);
}

void onednn_destroy(onednn_product *p) {
    if (!p) return;
    for (int i = 0; i < 3; i++)
        if (p->memory[i]) dnnl_memory_destroy(p->memory[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    free(p->packed);
    free(p);
}
#else
onednn_product *onednn_create(int64_t m, int64_t n, int64_t k, dtype type, int turned, int packed, const void *a,
                              const void *b, void *c) {
    (void)m, (void)n, (void)k, (void)type, (void)turned, (void)packed, (void)a, (void)b, (void)c;
    return NULL;
}
void onednn_run(onednn_product *p) {
    (void)p;
}
void onednn_destroy(onednn_product *p) {
    (void)p;
}
void onednn_threads(int threads) {
    (void)threads;
}
const char *onednn_version(void) {
    return "";
}
#endif
