/* gptq — weights of 2, 3, 4 or 8 bits on even grids, a grid a group, in the tensors that GPTQ's tools agree on.
 *
 *   P.qweight I32 [in·bits/32, out]       column o: the codes of row o of W, a stream of bits, the first lowest
 *   P.qzeros  I32 [groups, out·bits/32]   row g: the zero points of group g of every row of W, a stream likewise;
 *                                         checkpoint_format "gptq" holds them less 1, "gptq_v2" as they are
 *   P.scales  F16 (BF16, F32) [groups, out]
 *   P.g_idx   I32 [in]                    the group of each input: here always i / group_size; may be absent
 *   value = scale·(q - zero) in f32, rounded to the type that config.json names
 * Source: AutoGPTQ nn_modules/qlinear/qlinear_cuda.py and GPTQModel's quantize_config, as transformers and vLLM read them.
 *
 * Refused by name: inputs in the order of their activations (desc_act), other packings (Marlin, AWQ ...), settings that
 * differ from module to module, rotations, and a "sym" that the zero points contradict. Threads: as of the set. */
#ifndef GRAFT_FORMATS_GPTQ_H
#define GRAFT_FORMATS_GPTQ_H
#include "base/json.h"
#include "base/memory.h"
#include "formats/safetensors.h"

typedef struct {
    int32_t bits;        /* 2 3 4 8; 0: no weight is packed so                            */
    int64_t group_size;  /* inputs that share a grid, a multiple of 8; -1: those of a row */
    int32_t symmetric;   /* every zero point is 2^(bits - 1)                              */
    int32_t plain_zeros; /* "gptq_v2"                                                    */
    int32_t by_order;    /* desc_act: only g_idx can show that it changed nothing        */
} gptq_config;

typedef struct {
    gptq_config config;
    int64_t out, in, groups; /* groups of a row                                                            */
    int64_t group, row;      /* codes of a group, filled up to a multiple of 8; bytes of the groups of a row */
    const tensor_info *codes, *zeros, *scales, *order; /* order: NULL when absent */
} gptq_weight;

/* The quantization_config of a config.json (`what` names it) whose quant_method is "gptq". */
int gptq_config_read(const json_t *quantization, const char *what, gptq_config *out, graft_error *err);
/* A new object for config.json. Modules: the linear layers in blocks and the head, packed[i] 1 for those that are packed. */
json_t *gptq_config_write(const gptq_config *c, const char *const *modules, const int32_t *packed, int32_t count);

/* The weight whose codes are the tensor `codes`, "P.qweight", of a layer (out, in): every tensor of it is checked. */
int gptq_read(const safetensors *st, const tensor_info *codes, const gptq_config *c, int64_t out, int64_t in,
              gptq_weight *w, graft_error *err);
/* (out, row) bytes: each row filled up with zeros to whole groups; f32 (out, groups); u8 (out, groups). */
int gptq_read_codes(const safetensors *st, const gptq_weight *w, uint8_t *dst, graft_error *err);
int gptq_read_scales(const safetensors *st, const gptq_weight *w, float *dst, graft_error *err);
int gptq_read_zeros(const safetensors *st, const gptq_weight *w, uint8_t *dst, graft_error *err);

/* groups, group and row of a layer; an error when the format cannot hold it. `name` is for the message. */
int gptq_lay_out(const gptq_config *c, int64_t out, int64_t in, const char *name, gptq_weight *w, graft_error *err);
/* The tensors of "P.weight" for a safetensors file. scales, zeros: as above, zeros NULL: all in the middle; they are copied
 * to `memory`, scales as F16 where none is changed by it, else as F32. `codes` is a mark: what gptq_write_codes makes
 * belongs there. Returns how many of `list` are filled. */
enum { GPTQ_TENSORS = 4 };
int32_t gptq_tensors(const char *weight, const gptq_weight *w, const void *codes, const float *scales,
                     const uint8_t *zeros, arena *memory, tensor_out list[GPTQ_TENSORS]);
/* (out, row) bytes to the in·bits/32 × out words of a file. */
void gptq_write_codes(const gptq_weight *w, const uint8_t *codes, uint8_t *words);

#endif
