/* gate — activations and the gated pair of a feed-forward block.
 *
 *   h = act(g)·u          dg = dh·u·act'(g)      du = dh·act(g)          without u: h = act(g), dg = dh·act'(g)
 *   silu       g·σ(g)                            σ·(1 + g·(1 - σ))
 *   gelu tanh  g/2·(1 + tanh a)                  (1 + tanh a)/2 + g/2·(1 - tanh² a)·a'
 *              a = sqrt(2/π)·(g + 0.044715·g³)   a' = sqrt(2/π)·(1 + 3·0.044715·g²)
 *   gelu erf   g·Φ(g), Φ = (1 + erf(g/√2))/2     Φ(g) + g·exp(-g²/2)/sqrt(2π)
 *   relu       max(g, 0)                         1 where g > 0, else 0 */

static const double sqrt_2_over_pi = 0.79788456080286535588, sqrt_half = 0.70710678118654752440,
                    inverse_sqrt_2pi = 0.39894228040143267794;

static real activation(activation_kind act, real g) {
    switch (act) {
    case ACT_SILU:
        return g / (1 + exp(-g));
    case ACT_GELU_TANH:
        return g / 2 * (1 + tanh((real)sqrt_2_over_pi * (g + (real)0.044715 * g * g * g)));
    case ACT_GELU_ERF:
        return g / 2 * (1 + erf(g * (real)sqrt_half));
    default:
        return g > 0 ? g : 0;
    }
}

static real activation_slope(activation_kind act, real g) {
    switch (act) {
    case ACT_SILU: {
        const real sigmoid = 1 / (1 + exp(-g));
        return sigmoid * (1 + g * (1 - sigmoid));
    }
    case ACT_GELU_TANH: {
        const real t = tanh((real)sqrt_2_over_pi * (g + (real)0.044715 * g * g * g));
        return (1 + t) / 2 + g / 2 * (1 - t * t) * (real)sqrt_2_over_pi * (1 + 3 * (real)0.044715 * g * g);
    }
    case ACT_GELU_ERF:
        return (1 + erf(g * (real)sqrt_half)) / 2 + g * exp(-g * g / 2) * (real)inverse_sqrt_2pi;
    default:
        return g > 0;
    }
}

static void ref_gate_forward(kernels *k, activation_kind act, const void *gate, const void *up, int64_t stride, void *h,
                             dtype type, int64_t rows, int64_t width) {
    (void)k;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t j = 0; j < width; j++) {
            const real a = activation(act, load(gate, type, n * stride + j));
            store(h, type, n * width + j, up ? a * load(up, type, n * stride + j) : a);
        }
}

static void ref_gate_backward(kernels *k, activation_kind act, const void *gate, const void *up, int64_t stride,
                              const void *dh, void *dgate, void *dup, dtype type, int64_t rows, int64_t width) {
    (void)k;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t j = 0; j < width; j++) {
            const int64_t at = n * stride + j;
            const real g = load(gate, type, at), u = up ? load(up, type, at) : 1, d = load(dh, type, n * width + j);
            store(dgate, type, at, d * u * activation_slope(act, g));
            if (up) store(dup, type, at, d * activation(act, g));
        }
}
