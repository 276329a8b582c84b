/* problems — everything that is wrong with a configuration, gathered so that it is reported in one go.
 *
 * {0} is empty and valid. Threads: one object per thread. */
#ifndef GRAFT_CONFIG_PROBLEMS_H
#define GRAFT_CONFIG_PROBLEMS_H
#include "base/error.h"
#include <stdio.h>

typedef struct {
    int line;   /* 0: the text belongs to no line        */
    char *text; /* "run.ini:12: what, the bound, the fix" */
} problem;

typedef struct {
    problem *at; /* in the order of their lines, those without a line last; owned by the object   */
    int count, capacity;
    int left_out; /* counted but not kept: a file of garbage would bring a problem for every line */
} problems;

/* Adds "PLACE:LINE: text". line 0: "PLACE: text"; place NULL: the text alone. */
void problems_add(problems *p, const char *place, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* All of them, one a line. */
void problems_print(const problems *p, FILE *to);
/* GRAFT_OK when there are none; else GRAFT_USAGE with as many as the error's text holds. */
int problems_fail(const problems *p, graft_error *err);
void problems_free(problems *p);

#endif
