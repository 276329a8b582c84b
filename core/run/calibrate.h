/* calibrate — the rows of the run's data that techniques observe before they begin: [data] calibration sequences of its training
 * set, chosen by [data] calibration_seed alone, so that a resumed run shows the same. Threads: objects are not shared. */
#ifndef GRAFT_RUN_CALIBRATE_H
#define GRAFT_RUN_CALIBRATE_H
#include "run/data.h"
#include "run/recipe.h"
#include "run/session.h"
#include "run/slices.h"

typedef struct {
    sequence_list sequences;
    int64_t tokens; /* computed ones: padding is none; 0: nothing observes */
    slice_list slices;
} calibration;

/* Fetches the sequences when a technique of the session observes. *out is {0}; calibration_free in any case. */
int calibration_open(const recipe *r, const session *s, data_source *d, calibration *out, graft_error *err);
/* Cuts them and gives them to the session's model, for session_load; freed behind it. */
int calibration_give(calibration *c, const session *s, const slice_limits *limits, const workspace_config *w,
                     graft_error *err);
void calibration_free(calibration *c); /* and leaves {0} */

#endif
