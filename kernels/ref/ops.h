/* ops — the reference table, compiled once with `real` = float (ref32.c) and once with double (ref64.c), which define
 *   real REAL REF_NAME REF_OPEN
 * before they include this file. It is the specification of every function in kernels.h: plain loops, one operator family
 * a file, the formula on top. Speed is not a goal; the team is not used. */
#include "base/philox.h"
#include "kernels/bits.h"
#include "kernels/blocks8.h"
#include "kernels/codebook.h"
#include "kernels/dropout.h"
#include "kernels/kernels.h"
#include "kernels/mt19937.h"
#include "kernels/tables.h"

typedef struct {
    float map_signed[256], map_unsigned[256]; /* of blocks8 */
} ref_state;

#include "kernels/ref/real.h"

#include "kernels/ref/attention.h"
#include "kernels/ref/gate.h"
#include "kernels/ref/gemm.h"
#include "kernels/ref/head.h"
#include "kernels/ref/map.h"
#include "kernels/ref/memory.h"
#include "kernels/ref/norms.h"
#include "kernels/ref/rope.h"
#include "kernels/ref/rows.h"
#include "kernels/ref/weights.h"

int REF_OPEN(team *threads, kernels **out, graft_error *err) {
    (void)err;
    ref_state *state = mem_new(1, sizeof *state);
    blocks8_map(0, state->map_signed);
    blocks8_map(1, state->map_unsigned);
    *out = mem_new(1, sizeof **out);
    **out = (kernels){
        .name = REF_NAME,
        .isa = "",
        .real = REAL,
        .threads = threads,
        .state = state,
        .alloc = ref_alloc,
        .release = ref_release,
        .upload = ref_upload,
        .download = ref_download,
        .copy = ref_copy,
        .zero = ref_zero,
        .convert = ref_convert,
        .close = ref_close,
        .gemm = ref_gemm,
        .map = ref_map,
        .weight_packed_bytes = ref_weight_packed_bytes,
        .weight_pack = ref_weight_pack,
        .weight_unpack = ref_weight_unpack,
        .weight_forward = ref_weight_forward,
        .weight_input_grad = ref_weight_input_grad,
        .weight_row_sqnorm = ref_weight_row_sqnorm,
        .weight_read = ref_weight_read,
        .weight_gather = ref_weight_gather,
        .weight_quantize = ref_weight_quantize,
        .norm_forward = ref_norm_forward,
        .norm_backward = ref_norm_backward,
        .rope = ref_rope,
        .attention_forward = ref_attention_forward,
        .attention_backward = ref_attention_backward,
        .gate_forward = ref_gate_forward,
        .gate_backward = ref_gate_backward,
        .add = ref_add,
        .column_sum = ref_column_sum,
        .scatter_rows = ref_scatter_rows,
        .pick_rows = ref_pick_rows,
        .place_rows = ref_place_rows,
        .dropout = ref_dropout,
        .logprob = ref_logprob,
        .logprob_grad = ref_logprob_grad,
        .softcap = ref_softcap,
        .sqnorm = ref_sqnorm,
        .scale = ref_scale,
    };
    return GRAFT_OK;
}
