/* text-workspace — see text-workspace.h. */
#include "text/text-workspace.h"
#include <stdlib.h>

void text_workspace_free(text_workspace *w) {
    pattern_scratch_free(&w->search);
    normalform_scratch_free(&w->forms);
    for (int i = 0; i < 2; i++) {
        aligned_free(&w->normalized[i]);
        aligned_free(&w->pretokenized[i]);
        free(w->cut[i].items);
    }
    *w = (text_workspace){0};
}
