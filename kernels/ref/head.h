/* head — log-probabilities of the targets from logits, and their gradient.
 *
 *   y = cap·tanh(z / cap)  (cap 0: y = z)      lse = log Σ_j exp y_j      logp = y_target - lse
 *   dz_j = dlogp·([j = target] - exp(y_j - lse))·(1 - (y_j/cap)²)
 * The exponentials are taken about the row's maximum. */

static real capped(real z, double cap) {
    return cap > 0 ? (real)cap * tanh(z / (real)cap) : z;
}

static void ref_logprob(kernels *k, const void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target,
                        double cap, void *logp, void *lse) {
    (void)k;
    for (int64_t n = 0; n < rows; n++) {
        assert(target[n] >= 0 && target[n] < vocab);
        real most = -(real)INFINITY;
        for (int64_t j = 0; j < vocab; j++) {
            const real y = capped(load(logits, type, n * vocab + j), cap);
            most = y > most ? y : most;
        }
        wide sum = 0;
        for (int64_t j = 0; j < vocab; j++)
            sum += exp(capped(load(logits, type, n * vocab + j), cap) - most);
        const wide total = most + log(sum);
        ((real *)lse)[n] = (real)total;
        ((real *)logp)[n] = (real)(capped(load(logits, type, n * vocab + target[n]), cap) - total);
    }
}

static void ref_logprob_grad(kernels *k, void *logits, dtype type, int64_t rows, int64_t vocab, const int32_t *target,
                             double cap, const void *lse, const void *dlogp) {
    (void)k;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t j = 0; j < vocab; j++) {
            const real y = capped(load(logits, type, n * vocab + j), cap);
            const real p = exp(y - ((const real *)lse)[n]), slope = cap > 0 ? 1 - y / (real)cap * (y / (real)cap) : 1;
            store(logits, type, n * vocab + j, ((const real *)dlogp)[n] * ((j == target[n]) - p) * slope);
        }
}

static void ref_softcap(kernels *k, void *logits, dtype type, int64_t n, double cap) {
    (void)k;
    for (int64_t i = 0; i < n; i++)
        store(logits, type, i, capped(load(logits, type, i), cap));
}
