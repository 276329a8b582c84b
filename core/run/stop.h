/* stop — Ctrl-C and SIGTERM ask a run to end behind its step; a second one ends the process at once (checkpoints are whole).
 * The request is the one piece of state of the process: a signal has no other address. */
#ifndef GRAFT_RUN_STOP_H
#define GRAFT_RUN_STOP_H

void stop_watch(void);    /* from now on signals ask                 */
void stop_unwatch(void);  /* they end the process again; forgets     */
int stop_requested(void); /* the signal's number, 0: none            */

#endif
