/* progress — what a person sees of a run, on stderr: a bar on a terminal, plain lines anywhere else.
 *
 *   37/200 ━━━━━━━━────────────────────  loss 2.3451  lr 1.80e-04  grad 0.812  1234 tok/s  eta 0:42  peak 812 MB
 *
 * NO_COLOR and TERM=dumb are honoured; the bar needs a UTF-8 locale for its lines and takes # and . elsewhere. */
#ifndef GRAFT_RUN_PROGRESS_H
#define GRAFT_RUN_PROGRESS_H
#include <stdint.h>
#include <stdio.h>

typedef struct progress progress;

/* first: steps done already; every: steps from one plain line to the next. NULL when quiet, which every function takes. */
progress *progress_begin(int64_t first, int64_t steps, int64_t every, int32_t quiet);
/* After step `step` (from 1), which computed `tokens` tokens. */
void progress_step(progress *p, int64_t step, double loss, double lr, double grad_norm, int64_t tokens);
/* A line above the bar. */
void progress_note(progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Removes the bar from the line, so that somebody else can write; the next step brings it back. */
void progress_clear(progress *p);
void progress_end(progress *p);

/* ---- the parts, for tests and other commands ---- */
double progress_now(void); /* seconds of a clock that only goes forward */
/* "0:42", "1:02:03", "2 d 3 h"; "?" when it is not known (negative, not finite). */
void progress_duration(double seconds, char text[32]);
/* "812 MB", "1.2 GB" */
void progress_bytes(int64_t bytes, char text[32]);
int64_t progress_peak_memory(void); /* VmHWM of the process in bytes, 0 when the system does not say */

#endif
