/* tensor — a tensor of the base model: where it is in the files, how it lies on the device, whether it is trained. */
#ifndef GRAFT_MODEL_TENSOR_H
#define GRAFT_MODEL_TENSOR_H
#include "kernels/kernels.h"

typedef struct {
    char *name;         /* transformers' full name, "model.layers.0.self_attn.q_proj.weight"; owned by the model */
    char *module;       /* the same without ".weight" / ".bias"                                                  */
    int64_t out, in;    /* a matrix (out, in) as y = x·Wᵀ reads it; a vector has in == 0                           */
    int32_t transposed; /* 1: the file stores (in, out) (GPT-2's Conv1D); turned at the file's edge only          */
    int32_t linear;     /* 1: weight of a linear layer of a block (what `all-linear` selects)                     */
    int64_t layer;      /* -1 outside blocks                                                                     */
    dtype stored;       /* type in the file; a folder is written back in it                                      */
    int32_t tied_to;    /* index of the tensor that holds the numbers (a tied head), -1 = itself. adapt_bind sets it
                            to -1 with trained = 1 when one half of a tied pair is trained alone (modules_to_save):
                            loading then gives this tensor its own copy of the numbers                            */
    int64_t skip_row;   /* embedding: the row that gets no gradient from the input side (padding_idx), else -1;
                            adapt_linear_backward does the scatter into `grad` for one-hot points                  */

    weight w;     /* a matrix on the device. Trained: a copy of `master` in the activation type             */
    void *vector; /* dev real (out): norms and biases, always in the real type                              */

    /* Trained tensors: set by adapt_bind before memory is planned, filled by loading. */
    int32_t trained;
    void *master; /* dev real (out, in) or (out): == vector for vectors                                     */
    void *grad;   /* dev real, same shape, += by the backward pass                                          */
} base_tensor;

#endif
