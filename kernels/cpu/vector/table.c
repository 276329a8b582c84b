/* table — the functions of one instruction set. */
#include "kernels/cpu/vector/table.h"

const vector_functions NAME(vector_functions) = {
    .multiply =
        {
                   .strip = LANES / 2,
                   .panel = PANEL,
                   .lanes = LANES,
                   .panels = 4,
#if defined(__AVX512BF16__)
                   .bf16 = 1,
#endif
                   .depth_bytes = 2048,
                   .multiply = NAME(multiply),
                   .pack = NAME(pack),
                   .finish = NAME(finish),
                   },
    .attention_softmax = NAME(attention_softmax),
    .attention_grad_rows = NAME(attention_grad_rows),
    .attention_grad_columns = NAME(attention_grad_columns),
    .map = NAME(map),
    .dot = NAME(dot),
    .quantize_block = NAME(quantize_block),
    .quantize_row8 = NAME(quantize_row8),
    .convert = NAME(convert),
    .add = NAME(add),
    .scale = NAME(scale),
    .softcap = NAME(softcap),
    .sqnorm = NAME(sqnorm),
    .column_sum = NAME(column_sum),
    .add_scaled = NAME(add_scaled),
    .dropout = NAME(dropout),
    .norm_forward = NAME(norm_forward),
    .norm_backward = NAME(norm_backward),
    .rope = NAME(rope),
    .gate_forward = NAME(gate_forward),
    .gate_backward = NAME(gate_backward),
    .logprob = NAME(logprob),
    .logprob_grad = NAME(logprob_grad),
    .decode = NAME(decode),
};
