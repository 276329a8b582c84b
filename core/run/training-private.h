/* training-private — what the files of a training run share. */
#ifndef GRAFT_RUN_TRAINING_PRIVATE_H
#define GRAFT_RUN_TRAINING_PRIVATE_H
#include "run/calibrate.h"
#include "run/metrics.h"
#include "run/optimizer.h"
#include "run/progress.h"
#include "run/schedule.h"
#include "run/slices.h"
#include "run/state.h"
#include "run/training.h"

struct training {
    const recipe *recipe;
    registry *plugins;
    training_options options;
    session session;
    data_source *data;
    optimizer *optimizer;
    calibration calibration;
    plan plan;
    schedule schedule;
    slice_limits limits;
    workspace *workspace;
    metrics *metrics;
    progress *progress;
    char *checkpoint; /* to go on from, NULL: begins anew */
    run_state was;    /* what it says                      */
    char *base_model; /* absolute path                     */
    int64_t saved_at; /* step of the last checkpoint       */
    run_state state;
};

/* ---- training-step.c ---- */
/* Step number t->state.step + 1: everything up to its line of metrics, validation aside. *tokens: computed. */
int training_step(training *t, metrics_line *line, int64_t *tokens, graft_error *err);

/* ---- training-save.c ---- */
/* Before weights are read: t->checkpoint is whole, and its settings are those of this run. */
int training_check_resume(training *t, graft_error *err);
/* Reads it. */
int training_resume(training *t, graft_error *err);
/* Takes the tensors of the checkpoint with the lowest validation loss; the state stays as it is. */
int training_load_best(training *t, graft_error *err);
/* Writes checkpoint t->state.step and removes those that are not kept. */
int training_save(training *t, graft_error *err);

#endif
