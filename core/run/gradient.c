/* gradient — norm and clipping. */
#include "run/gradient.h"
#include <math.h>

double gradient_norm(const adapt_param *params, int32_t count, kernels *device, const char **bad) {
    double sum = 0;
    *bad = NULL;
    for (int32_t p = 0; p < count; p++) {
        const double square = device->sqnorm(device, params[p].grad, device->real, params[p].count);
        if (!isfinite(square) && !*bad) *bad = params[p].name;
        sum += square;
    }
    return sqrt(sum);
}

void gradient_clip(const adapt_param *params, int32_t count, kernels *device, double norm, double limit) {
    const double factor = limit / (norm + 1e-6);
    if (limit <= 0 || factor >= 1) return;
    for (int32_t p = 0; p < count; p++)
        device->scale(device, params[p].grad, device->real, params[p].count, factor);
}
