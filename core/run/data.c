/* data — lists of sequences. */
#include "run/data.h"
#include <stdlib.h>

sequence *sequence_list_add(sequence_list *list) {
    mem_reserve(list->at, list->count, list->capacity);
    sequence *const s = &list->at[list->count++];
    *s = (sequence){0};
    return s;
}

void sequence_list_free(sequence_list *list) {
    free(list->at);
    arena_free(&list->memory);
    *list = (sequence_list){0};
}
