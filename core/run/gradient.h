/* gradient — the norm of all gradients of a step, and clipping by it. */
#ifndef GRAFT_RUN_GRADIENT_H
#define GRAFT_RUN_GRADIENT_H
#include "kernels/kernels.h"
#include "model/adapt.h"

/* The L2 norm over all gradients: sums of squares tensor by tensor in the order of the list, in double. Where it is not finite
 * *bad names the first tensor whose gradient is not (NULL otherwise). */
double gradient_norm(const adapt_param *params, int32_t count, kernels *device, const char **bad);
/* All gradients times min(1, limit / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_; limit 0: nothing. */
void gradient_clip(const adapt_param *params, int32_t count, kernels *device, double norm, double limit);

#endif
