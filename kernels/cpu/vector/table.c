/* table — the functions of one instruction set. */
#include "kernels/cpu/vector/table.h"

const vector_functions NAME(vector_functions) = {
    .multiply =
        {
                   .strip = LANES / 2,
                   .panel = 3 * LANES,
                   .lanes = LANES,
#if defined(__AVX512BF16__)
                   .bf16 = 1,
#endif
                   .depth_bytes = 2048,
                   .multiply = NAME(multiply),
                   .pack = NAME(pack),
                   .pack_strips = NAME(pack_strips),
                   .finish = NAME(finish),
                   },
    .convert = NAME(convert),
    .add = NAME(add),
    .decode = NAME(decode),
};
