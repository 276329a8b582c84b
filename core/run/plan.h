/* plan — every byte a training run will hold, computed from headers and settings before any weight is read.
 *
 * The largest class of activations and scratch depends on how many rows a slice has and on whether blocks are computed again in
 * backward; `checkpoint_activations = auto` is decided here: off when everything fits comfortably into the memory there is. */
#ifndef GRAFT_RUN_PLAN_H
#define GRAFT_RUN_PLAN_H
#include "base/json.h"
#include "run/data.h"
#include "run/optimizer.h"
#include "run/session.h"
#include "run/slices.h"
#include <stdio.h>

typedef struct {
    int64_t program;    /* what the process holds now: code, plugins, tokenizer, texts      */
    int64_t weights;    /* of the base on the device, in stored or packed form              */
    int64_t parameters; /* trained tensors in full precision, buffers of techniques         */
    int64_t gradients;
    int64_t optimizer;   /* its state                                                        */
    int64_t activations; /* kept from forward to backward                                    */
    int64_t scratch;     /* temporaries, the chunk of the head                               */
    int64_t host;        /* one step's sequences, and buffers of reading and saving         */
} plan_bytes;

typedef struct {
    plan_bytes bytes;
    int64_t total, available;   /* available: what the process may reach, its own memory included; 0: unknown */
    int64_t trainable, weights; /* numbers, not bytes                                                       */
    int64_t disk;               /* bytes of a checkpoint and of the adapter at the end, at least            */
    int64_t slice_rows, steps, steps_per_epoch, warmup;
    slice_limits limits;
    int32_t checkpoint; /* 1: blocks are computed again in backward                                         */
    workspace_config workspace;
} plan;

/* `optimizer` was created for the session's parameters; `calibration`: tokens shown to techniques that observe. GRAFT_USAGE for settings that contradict the data: more steps than
 * fixed batches, slices smaller than a sequence. Whether it fits is plan_check's business. */
int plan_make(const recipe *r, session *s, const data_source *d, const optimizer *o, int64_t calibration, plan *out,
              graft_error *err);
int plan_check(const plan *p, graft_error *err); /* GRAFT_FAILED with the table and what helps when it does not fit */

/* GRAFT_FAILED when what the run surely writes into `folder` (a checkpoint, and its adapter) has no room on the disk. */
int plan_check_disk(const plan *p, const char *folder, graft_error *err);

/* How the data are cut for passes of `rows` rows with the adapters that are on, and the memory of those passes (without
 * backward). GRAFT_USAGE: a document is longer than the model's positions. */
int plan_passes(const session *s, const data_source *d, int64_t rows, slice_limits *limits, workspace_config *c,
                graft_error *err);

void plan_print(const plan *p, FILE *to);
json_t *plan_json(const plan *p); /* owned by the caller */

/* Bytes the process may use in all: what it holds, and what the system (or its control group) says is available; 0: unknown. */
int64_t plan_memory(void);

#endif
