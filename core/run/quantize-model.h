/* quantize-model — a model whose weights a quantizer packs: what that costs each layer, and the folder of bitsandbytes' tensors.
 *
 *   relative = |W - W'| / |W|   over all entries (L2),   largest = max |W - W'|,   W' what the packed form stands for */
#ifndef GRAFT_RUN_QUANTIZE_MODEL_H
#define GRAFT_RUN_QUANTIZE_MODEL_H
#include "run/session.h"

typedef struct {
    const char *name; /* owned by the session's model */
    int64_t out, in, bytes;
    double relative, largest;
} quantize_layer;

typedef struct {
    quantize_layer *layers; /* owned by the report */
    int32_t count;
    int64_t values, bytes; /* of what is packed: numbers, and bytes they take */
    int64_t stored;        /* bytes they took in the files                    */
    double relative;       /* over all of them together                       */
    const quantize_layer *worst;
} quantize_report;

/* Before the session is loaded: an error when its folder is packed already. */
int quantize_check_folder(const session *s, graft_error *err);
/* The session is loaded, has a quantizer and no adapters. An error when nothing is selected. */
int quantize_measure(session *s, quantize_report *out, graft_error *err);
void quantize_report_free(quantize_report *r);
/* Writes the complete folder, which graft loads without more, and transformers with bitsandbytes or GPTQModel. Errors name what
 * no file format holds (refined grids, embeddings), and the model's own folder. */
int quantize_write(session *s, const char *folder, graft_error *err);

#endif
