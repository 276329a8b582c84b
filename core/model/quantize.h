/* quantize — the quantizer of a run at the linear layers of a model: by formulas (any layout), by fused kernels (known
 * layouts), or from a state file under bitsandbytes' names. */
#ifndef GRAFT_MODEL_QUANTIZE_H
#define GRAFT_MODEL_QUANTIZE_H
#include "base/error.h"
#include "formats/gptq.h"
#include "formats/safetensors.h"
#include "kernels/kernels.h"
#include "model/tensor.h"
#include "plugin/host.h"

typedef struct quantize quantize;

typedef struct {
    const plugin_component *component; /* of kind quantizer, NULL = only `state` or a quantized model folder */
    const void *config;
    const char *const *targets; /* as adapters' targets; NULL = all-linear */
    int32_t target_count;
    const char *const *exclude;
    int32_t exclude_count;
    const char *state; /* safetensors file with packed tensors, "" = none */
} quantize_spec;

/* Runs the formulas on shapes. A custom layout reads its weights through the quantizer: it must outlive them. */
int quantize_create(const quantize_spec *spec, quantize **out, graft_error *err);
void quantize_free(quantize *q);
/* Compiles the formulas for every tensor that is selected; an error when targets were named and select nothing. */
int quantize_prepare(quantize *q, const base_tensor *tensors, int32_t count, graft_error *err);
int32_t quantize_selects(const quantize *q, const base_tensor *t);
/* Bytes of the packed form of t: all its slots. */
int64_t quantize_bytes(const quantize *q, const base_tensor *t);
/* Bytes that a pass over `rows` rows through t takes for a while. */
int64_t quantize_scratch(const quantize *q, const kernels *device, const base_tensor *t, int64_t rows);
/* Fills t->w from real values on the device (out, in), which stay the caller's: allocates its buffers on the device. */
int quantize_pack(quantize *q, kernels *device, base_tensor *t, const void *values, graft_error *err);
/* The same by pieces, so that the whole matrix never lies there as numbers: begin, rows first .. first + rows - 1 with their values
 * for all pieces in order, end. first must be a multiple of quantize_row_unit. */
int quantize_begin(quantize *q, kernels *device, base_tensor *t, graft_error *err);
int64_t quantize_row_unit(quantize *q, const base_tensor *t);
int quantize_rows(quantize *q, kernels *device, base_tensor *t, int64_t first, int64_t rows, const void *values,
                  graft_error *err);
int quantize_end(quantize *q, kernels *device, base_tensor *t, graft_error *err);
/* Fills t->w from the state file; *found is 0 when the file (or a file at all) lacks it; an error when it does not fit. */
int quantize_from_state(quantize *q, kernels *device, base_tensor *t, int32_t *found, graft_error *err);
/* The same from any set of tensors, a model folder that bitsandbytes packed; by the siblings of the weight `name`. */
int quantize_read(kernels *device, const safetensors *set, const char *name, base_tensor *t, int32_t *found,
                  graft_error *err);
/* The same from GPTQ's tensors, whose codes are `codes`; t->stored is what values are rounded to. */
int quantize_read_grid(kernels *device, const safetensors *set, const tensor_info *codes, const gptq_config *c,
                       base_tensor *t, graft_error *err);
/* Values (dev real) in place of those that the weight holds, packed as those are: nf4, fp4, 8-bit rows, grids but moved ones. */
int quantize_again(kernels *device, weight *w, const void *values, const char *name, graft_error *err);
/* What the quantizer's options say about weights packed elsewhere (threshold). */
void quantize_adjust(const quantize *q, weight *w);
/* Everything that hangs on a weight, packed or plain, but for `packed`. */
void quantize_release(kernels *device, weight *w);
/* *holds: weights that are exactly 0 stay so when t is packed; tried on some rows of random numbers. */
int quantize_holds_zeros(quantize *q, kernels *device, const base_tensor *t, int32_t *holds, graft_error *err);
/* values -> round trip -> values, in place: what LoftQ sees. */
int quantize_round_trip(quantize *q, kernels *device, const base_tensor *like, void *values, graft_error *err);

#endif
