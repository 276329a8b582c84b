/* text-workspace — the memory that one encoding needs and the next one uses again. */
#ifndef GRAFT_TEXT_TEXT_WORKSPACE_H
#define GRAFT_TEXT_TEXT_WORKSPACE_H
#include "text/aligned.h"
#include "text/normalform.h"
#include "text/pattern.h"

typedef struct {
    pattern_scratch search;
    normalform_scratch forms;
    aligned normalized[2], pretokenized[2]; /* each step reads one and writes the other */
    pieces cut[2];
} text_workspace;
void text_workspace_free(text_workspace *w);

#endif
