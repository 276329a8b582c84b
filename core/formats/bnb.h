/* bnb — weights that bitsandbytes quantized: found in a set of tensors under a weight's name, checked, read, written.
 *
 * 4 bits (P.weight, P.weight.absmax, P.weight.quant_map, P.weight.quant_state.bitsandbytes__nf4 or __fp4, and with
 * double quantization P.weight.nested_absmax, P.weight.nested_quant_map):
 *   value = code[nibble]·absmax[i / block] in f32, rounded to `type`; the first element of a byte is its high nibble;
 *   blocks run over the flattened row-major weight. With double quantization
 *   absmax = nested_code[q]·nested_absmax[b / nested_block] + nested_offset.
 * 8 bits (P.weight I8, P.SCB, P.weight_format): value = (q·SCB[row])·(1/127).
 * Source: bitsandbytes functional.py (QuantState), nn/modules.py; specs/peft.md 1.3, 1.8, 1.10, 2.4, appendix C.
 *
 * What bitsandbytes would load silently (a wrong block size, shape or type, a map that is not the named type's, extra
 * keys) is refused with the name of the tensor and what was expected. Threads: as of the set. */
#ifndef GRAFT_FORMATS_BNB_H
#define GRAFT_FORMATS_BNB_H
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"

typedef enum { BNB_NONE, BNB_4BIT, BNB_8BIT } bnb_kind;

typedef struct {
    bnb_kind kind;
    int rank; /* the logical shape, row-major: (out, in) of a linear layer */
    int64_t shape[TENSOR_RANK_MAX], count;
    int64_t scales; /* 4 bits: blocks; 8 bits: rows */
    dtype type;     /* 4 bits: F32 F16 BF16, what a value is rounded to; 8 bits: F32 */
    /* 4 bits */
    int fp4; /* 0: nf4 */
    int64_t block;
    float code[16];
    int nested;
    int64_t nested_block, nested_scales;
    float nested_offset, nested_code[256];
    /* where the rest is; NULL in one that was built for writing */
    const tensor_info *codes, *absmax, *nested_absmax;
} bnb_weight;

/* How the set stores the weight "model.layers.0.mlp.up_proj.weight", by its sibling tensors: config.json may err. */
bnb_kind bnb_find(const safetensors *st, const char *weight);

/* Checks everything about a weight that bnb_find found, and reads its small tables. */
int bnb_read(const safetensors *st, const char *weight, bnb_weight *out, graft_error *err);

/* The codes: (count + 1) / 2 bytes with 4 bits, whatever type they are stored in; count signed bytes with 8. */
int bnb_read_codes(const safetensors *st, const bnb_weight *w, void *dst, graft_error *err);
/* The scales as f32 (scales): double quantization undone, two roundings. One that is not finite is an error. */
int bnb_read_scales(const safetensors *st, const bnb_weight *w, float *dst, graft_error *err);
/* The scales of a nested weight as they are stored: codes (scales) and their own scales (nested_scales). */
int bnb_read_nested(const safetensors *st, const bnb_weight *w, uint8_t *codes, float *nested_absmax, graft_error *err);

/* The tensors of a weight as bitsandbytes names them, for a safetensors file. The fields above describe it; scales,
 * nested_scales, codes ... are not needed. absmax: f32 (scales), or u8 when nested. Names and tables go to `memory`,
 * the three data pointers are borrowed. Returns how many of `list` are filled. */
enum { BNB_TENSORS = 6 };
int32_t bnb_tensors(const char *weight, const bnb_weight *w, const void *codes, const void *absmax,
                    const float *nested_absmax, arena *memory, tensor_out list[BNB_TENSORS]);

/* Is `code` one of the two books? Sets fp4. */
int bnb_names_code(bnb_weight *w);
/* quantization_config of a config.json for a folder whose weights are like `w`: a new object, keys sorted. */
json_t *bnb_config(const bnb_weight *w, dtype compute);
/* Refuses a quantization_config (NULL or null: none) of another method than bitsandbytes. `what` names the file. */
int bnb_config_check(const json_t *quantization, const char *what, graft_error *err);

#endif
