/* predictions — answers that were written before, and what they should have been: what `graft eval --predictions` scores.
 *
 *   {"prediction": "...", "references": ["...", ...]}        "reference": "..." for one; "model": who wrote it, if several did
 * Other names: response, hypothesis, output for the prediction; target, answer for the reference. */
#ifndef GRAFT_RUN_PREDICTIONS_H
#define GRAFT_RUN_PREDICTIONS_H
#include "metric/metric.h"

typedef struct {
    const char *model; /* what the records say, else the file's path */
    metric_record *records;
    int64_t count, capacity;
} prediction_set;

/* One set for every model, in the order in which they appear. {0} is empty and valid. */
typedef struct {
    prediction_set *sets;
    int64_t count, capacity;
    arena memory; /* of all texts */
} prediction_list;
void predictions_free(prediction_list *p); /* and leaves {0} */

/* Adds the records of a JSON or JSONL file. Errors name file and line. */
int predictions_read(const char *path, prediction_list *out, graft_error *err);

#endif
