/* metrics — metrics.jsonl: one JSON object a line for every optimizer step, and nothing that depends on the clock.
 *
 *   {"step": 7, "loss": 2.34567891, "grad_norm": 1.23456789, "lr": 0.0002, "tokens": 417, "sparsity": 0.5, "eval_loss": 2.1}
 *
 * Numbers have nine significant digits; one that is not finite is null. A resumed run writes the bytes of an uninterrupted one:
 * lines behind the checkpoint are cut off when the file is opened. */
#ifndef GRAFT_RUN_METRICS_H
#define GRAFT_RUN_METRICS_H
#include "base/error.h"
#include <stdint.h>

typedef struct {
    int64_t step;               /* counts from 1                                        */
    double loss, grad_norm, lr; /* grad_norm: before clipping; lr: used in this step    */
    int64_t tokens;             /* targets                                              */
    int32_t skipped;            /* 1: the gradient was not finite, nothing was updated  */
    int32_t evaluated;
    double eval_loss;
    int32_t masked;
    double sparsity; /* zeros among the weights that masks hold */
} metrics_line;

typedef struct metrics metrics;
/* Opens FOLDER/metrics.jsonl and keeps its lines of steps 1 .. step; 0: an empty file. *out owned by the caller. */
int metrics_open(const char *folder, int64_t step, metrics **out, graft_error *err);
int metrics_add(metrics *m, const metrics_line *line, graft_error *err); /* in the file when it returns */
int metrics_sync(metrics *m, graft_error *err);                          /* on the disk when it returns   */
int metrics_close(metrics *m, graft_error *err);                         /* NULL allowed; syncs           */

#endif
