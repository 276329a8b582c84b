/* session — what every command that runs a model needs: device, model, adapters, quantizer, opened on headers and checked on
 * shapes (session_open), then loaded (session_load). Between the two nothing is allocated on the device: plans are made there. */
#ifndef GRAFT_RUN_SESSION_H
#define GRAFT_RUN_SESSION_H
#include "model/model.h"
#include "plugin/registry.h"
#include "run/recipe.h"

typedef struct {
    const char *model;     /* folder; NULL: the recipe's                                                           */
    const char *device;    /* "auto" "cpu" "cuda" "fake" "ref" "ref64"; NULL: the recipe's, else auto               */
    const char *precision; /* "auto" "f32" "bf16" ("f64" on ref64); NULL: the recipe's, else auto. auto = bf16 when the
                              weights are stored in 16 bits and the device multiplies bf16, else f32                */
    int threads;           /* 0: the recipe's, else all CPUs of the process                                         */
    uint64_t seed;
    const recipe *recipe; /* its [quantizer] and [adapter] sections; may be NULL                                    */
    const recipe *base; /* its [quantizer] in place of the recipe's, unless the model lies packed; NULL: the recipe's */
    const char *const *folders; /* adapter folders (PEFT), behind the recipe's adapters                             */
    int32_t folder_count;
    registry *plugins; /* borrowed */
} session_request;

typedef struct {
    team *threads;
    kernels *device;
    dtype activation;
    model *model;
    adapt *adapters;            /* NULL without any */
    quantize *quantizer;        /* NULL without one */
    const recipe *quantized_by; /* whose [quantizer] it is; borrowed */
    adapt_spec *specs;
    const char **starts; /* (spec_count) folder whose tensors replace the first values, NULL = none */
    int32_t spec_count;
    arena memory;
} session;

/* *out is {0}; session_close in any case. Errors: GRAFT_USAGE for what the user wrote, GRAFT_FAILED for files. */
int session_open(const session_request *q, session *out, graft_error *err);
/* Allocates, reads weights, initializes or reads the adapters. */
int session_load(session *s, uint64_t seed, graft_error *err);
void session_close(session *s);

#endif
