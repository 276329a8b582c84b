/* gate — activations and gated pairs. Equals kernels/ref/gate.h (the formulas stand there) up to the few ulp of
 * vector-math.h. */
#include "kernels/cpu/vector/table.h"
#include "kernels/cpu/vector/vector-math.h"

#define SQRT_2_OVER_PI   0.79788456080286535588f
#define SQRT_HALF        0.70710678118654752440f
#define INVERSE_SQRT_2PI 0.39894228040143267794f

/* act(g), and act'(g) where slope is wanted. The tanh of gelu is taken as (1 + tanh a)/2 = σ(2a): one exponential. */
INLINE floats activation(activation_kind act, floats g, floats *slope) {
    if (act == ACT_SILU) {
        const floats sigmoid = vector_sigmoid(g);
        if (slope) *slope = sigmoid * (1 + g * (1 - sigmoid));
        return g * sigmoid;
    }
    if (act == ACT_GELU_TANH) {
        const floats square = g * g, half = vector_sigmoid(2 * SQRT_2_OVER_PI * g * (1 + 0.044715f * square));
        if (slope) *slope = half + 2 * g * half * (1 - half) * SQRT_2_OVER_PI * (1 + 3 * 0.044715f * square);
        return g * half;
    }
    if (act == ACT_GELU_ERF) {
        const floats e = vector_erf(g * SQRT_HALF);
        if (slope) *slope = (1 + e) / 2 + g * vector_exp(-g * g / 2) * INVERSE_SQRT_2PI;
        return g / 2 * (1 + e);
    }
    if (slope) *slope = select_floats(g > 0, all(1), all(0));
    return select_floats(g > 0, g, all(0));
}

INLINE void forward(activation_kind act, const void *gate, const void *up, int64_t stride, void *h, dtype type,
                    int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j += LANES) {
            const floats a = activation(act, load_n(gate, type, i * stride + j, width - j), NULL);
            store_n(h, type, i * width + j, width - j, up ? a * load_n(up, type, i * stride + j, width - j) : a);
        }
}

INLINE void backward(activation_kind act, const void *gate, const void *up, int64_t stride, const void *dh, void *dgate,
                     void *dup, dtype type, int64_t rows, int64_t width) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j += LANES) {
            const int64_t at = i * stride + j, n = width - j;
            const floats g = load_n(gate, type, at, n), d = load_n(dh, type, i * width + j, n);
            floats slope;
            const floats a = activation(act, g, &slope);
            store_n(dgate, type, at, n, (up ? d * load_n(up, type, at, n) : d) * slope);
            if (up) store_n(dup, type, at, n, d * a);
        }
}

#define FOR_EACH_KIND(call)                                                                                            \
    switch (act) {                                                                                                     \
    case ACT_SILU:                                                                                                     \
        call(ACT_SILU);                                                                                                \
        break;                                                                                                         \
    case ACT_GELU_TANH:                                                                                                \
        call(ACT_GELU_TANH);                                                                                           \
        break;                                                                                                         \
    case ACT_GELU_ERF:                                                                                                 \
        call(ACT_GELU_ERF);                                                                                            \
        break;                                                                                                         \
    default:                                                                                                           \
        call(ACT_RELU);                                                                                                \
    }

void NAME(gate_forward)(activation_kind act, const void *gate, const void *up, int64_t stride, void *h, dtype type,
                        int64_t rows, int64_t width) {
#define FORWARD_BF16(kind) forward(kind, gate, up, stride, h, BF16, rows, width)
#define FORWARD_F32(kind)  forward(kind, gate, up, stride, h, F32, rows, width)
    if (type == BF16)
        FOR_EACH_KIND(FORWARD_BF16)
    else
        FOR_EACH_KIND(FORWARD_F32)
}

void NAME(gate_backward)(activation_kind act, const void *gate, const void *up, int64_t stride, const void *dh,
                         void *dgate, void *dup, dtype type, int64_t rows, int64_t width) {
#define BACKWARD_BF16(kind) backward(kind, gate, up, stride, dh, dgate, dup, BF16, rows, width)
#define BACKWARD_F32(kind)  backward(kind, gate, up, stride, dh, dgate, dup, F32, rows, width)
    if (type == BF16)
        FOR_EACH_KIND(BACKWARD_BF16)
    else
        FOR_EACH_KIND(BACKWARD_F32)
}
