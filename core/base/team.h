/* team — graft's own threads. Work is cut into parts by shape, never by the number of threads, and which thread runs a
 * part never changes what the part computes: so no result depends on the number of threads.
 *
 * One team per process; `team_run` is called by one thread at a time; called from inside a part it runs its parts one
 * after the other on that member. Members spin for a short while after work, then sleep. */
#ifndef GRAFT_BASE_TEAM_H
#define GRAFT_BASE_TEAM_H

typedef struct team team;

/* `threads` members including the caller; 0 = GRAFT_THREADS from the environment, else the CPUs of the process. */
team *team_create(int threads);
void team_destroy(team *t);
int team_threads(const team *t);

/* Calls work(context, part, member) for every part 0..parts-1, each once, and returns when all are done. `member`
 * (0..threads-1) may pick scratch memory and nothing else. t may be NULL: the caller does all parts in order. */
void team_run(team *t, int parts, void (*work)(void *context, int part, int member), void *context);

#endif
