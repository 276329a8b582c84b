/* adapt-observe — what techniques see of a layer's inputs before they begin. The passes are model-observe.c's. */
#include "model/adapt-private.h"

int32_t adapt_observes(const adapt *a, int32_t point) {
    int32_t does = 0;
    const int32_t first = point < 0 ? 0 : point, last = point < 0 && a ? a->point_count - 1 : point;
    for (int32_t p = first; a && p <= last; p++)
        for (int32_t n = 0; a->at[p] && a->at[p][n]; n++)
            if (a->at[p][n]->observed && does < OBSERVE_X + a->at[p][n]->observes_dy)
                does = OBSERVE_X + a->at[p][n]->observes_dy;
    return does;
}

int adapt_observe_begin(adapt *a, graft_error *err) {
    const call_tensors none = {0};
    for (int32_t t = 0; t < a->count; t++)
        for (int32_t n = 0; n < a->techniques[t].count; n++) {
            instance *const i = a->techniques[t].instances[n];
            for (int32_t s = 0; s < slot_count(&a->techniques[t]) && !err->code; s++)
                if (i->observed >> (NAMES_FIXED + s) & 1 && slot_of(&a->techniques[t], s)->role == GRAFT_BUFFER &&
                    !(slot_of(&a->techniques[t], s)->flags & GRAFT_SHARED))
                    adapt_slot_init(a, i, s, &none, err);
        }
    return err->code;
}

void adapt_observe(adapt *a, int32_t point, const adapt_pass *p, const base_tensor *w, const void *x,
                   const int32_t *onehot, const void *dy) {
    graft_error err = {0}; /* formulas were checked on shapes: nothing can fail here */
    const call_tensors t = {
        .x = onehot ? NULL : x, .onehot = onehot, .dy = (void *)(uintptr_t)dy, .w = onehot || !w ? NULL : &w->w};
    for (int32_t n = 0; a->at[point] && a->at[point][n]; n++)
        if (a->at[point][n]->observed) adapt_call(a, a->at[point][n], HOOK_OBSERVE, p, &t, 0, 0, NULL, &err);
}
