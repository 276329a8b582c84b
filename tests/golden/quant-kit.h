/* quant-kit — a quantizer by name and options, and matrices packed by it on a device. Helpers stop the test when something
 * fails. */
#ifndef GRAFT_TESTS_QUANT_KIT_H
#define GRAFT_TESTS_QUANT_KIT_H
#include "model/model-private.h"
#include "model/quantize-private.h"

enum { KIT_CUSTOM = 1 /* the component's layout is hidden: the core knows its formulas only */ };

/* options: "bits=3 group_size=64". */
quantize *kit_quantizer(const char *plugin, const char *options, int flags);
/* The error of one that cannot be. */
void kit_refused(const char *plugin, const char *options, const char *words);

typedef struct {
    kernels *k;
    quantize *q;
    base_tensor t;
    void *values; /* dev real (out, in) */
    int64_t out, in;
} packed;

packed kit_pack(const char *device, const char *plugin, const char *options, int flags, const float *values,
                int64_t out, int64_t in, dtype stored);
void kit_close(packed *p);
void *kit_download(const packed *p, const void *dev, int64_t bytes); /* owned by the caller */
float *kit_read(const packed *p);                                    /* weight_read as f32 (out, in) */
float *kit_read_formulas(const packed *p);                           /* what dequantize says of every row */
float *kit_random(int64_t n, uint64_t stream, double size);          /* normal, a few of them ten times as large */

#endif
