/* adapt-list — what one section trains and keeps: parameters and buffers in a fixed order, under the names that files give
 * them, and the base tensors trained beside them. */
#include "formats/peft-tensors.h"
#include "formats/targets.h"
#include "model/adapt-private.h"
#include <stdlib.h>
#include <string.h>

static adapt_param *new_param(adapt_param **list, int32_t *count, int32_t *capacity) {
    mem_reserve(*list, *count, *capacity);
    (*list)[*count] = (adapt_param){0};
    return &(*list)[(*count)++];
}

static char *file_name(adapt *a, const instance *i, const char *pattern) {
    const adapt_spec *in = &a->techniques[i->spec].in;
    char *name = peft_tensor_name(i->site.name, pattern, i->site.layer,
                                  in->saved_as && *in->saved_as ? in->saved_as
                                  : *in->name                   ? in->name
                                                                : "default");
    char *kept = arena_copy(&a->names, name, strlen(name));
    free(name);
    return kept;
}

static void param_of_tensor(adapt_param *p, int32_t spec, base_tensor *t, const char *name) {
    *p = (adapt_param){.name = name, .spec = spec, .base = t, .transposed = t->transposed};
    p->rank = t->in ? 2 : 1;
    p->rows = t->out;
    p->cols = t->in ? t->in : 1;
    p->count = p->rows * p->cols;
}

/* Trains a base tensor once, under the first name given. */
static adapt_param *train_tensor(adapt *a, int32_t spec, base_tensor *t, const char *name, int32_t *capacity) {
    if (t->trained) return NULL;
    t->trained = 1;
    adapt_param *p = new_param(&a->params, &a->param_count, capacity);
    param_of_tensor(p, spec, t, name);
    return p;
}

base_tensor *adapt_other_half(const adapt *a, const base_tensor *t) {
    for (int32_t p = 0; t->layer < 0 && p < a->point_count; p++) {
        base_tensor *other = a->points[p].kinds & GRAFT_TENSOR ? a->points[p].tensor : NULL;
        if (other && other != t && other->layer < 0 && other->out == t->out && other->in == t->in &&
            (other->tied_to >= 0 || t->tied_to >= 0))
            return other;
    }
    return NULL;
}

static void list_alias(adapt *a, int32_t spec, const instance *i, const graft_slot *d, int32_t *params) {
    base_tensor *tensor = a->points[i->point].tensor;
    if (!tensor) return;
    if (tensor->tied_to >= 0) tensor = adapt_other_half(a, tensor); /* the pair is one parameter */
    adapt_param *p = train_tensor(a, spec, tensor, d->file ? file_name(a, i, d->file) : tensor->name, params);
    if (p) p->in_file = d->file != NULL;
}

static void list_slot(adapt *a, int32_t spec, instance *i, int32_t s, int32_t *params, int32_t *buffers) {
    const graft_slot *d = slot_of(&a->techniques[spec], s);
    const slot_state *state = &i->slots[s];
    const char *file = i->site.onehot && d->file_onehot ? d->file_onehot : d->file;
    if ((d->role != GRAFT_PARAM && d->role != GRAFT_BUFFER) || d->values || state->count == 0) return;
    adapt_param *p = d->role == GRAFT_PARAM ? new_param(&a->params, &a->param_count, params)
                                            : new_param(&a->buffers, &a->buffer_count, buffers);
    *p = (adapt_param){.name = file ? file_name(a, i, file) : arena_format(&a->names, "%s.%s", i->site.name, d->name),
                       .spec = spec,
                       .rank = state->rank,
                       .count = state->count,
                       .in_file = file != NULL,
                       .bits = state->mask,
                       .site = i,
                       .slot = s};
    p->rows = state->rank ? state->shape[0] : 1;
    p->cols = state->rank > 1 ? state->count / (p->rows ? p->rows : 1) : 1;
}

static void list_slots(adapt *a, int32_t spec, instance *i, int32_t *params, int32_t *buffers) {
    const technique *t = &a->techniques[spec];
    for (int32_t s = 0; s < slot_count(t); s++) {
        const graft_slot *d = slot_of(t, s);
        if (d->role == GRAFT_ALIAS)
            list_alias(a, spec, i, d, params);
        else if (((d->flags & GRAFT_SHARED) != 0) == (i == t->widest))
            list_slot(a, spec, i, s, params, buffers);
    }
}

/* modules_to_save and bias: whole base tensors trained beside the technique. */
static int list_extras(adapt *a, int32_t spec, int32_t *capacity, graft_error *err) {
    technique *t = &a->techniques[spec];
    for (int32_t m = 0; m < t->in.modules_to_save_count; m++) {
        int32_t found = 0;
        for (int32_t p = 0; p < a->point_count; p++) {
            base_tensor *tensor = a->points[p].tensor;
            if (!(a->points[p].kinds & GRAFT_TENSOR) || !targets_saves(t->in.modules_to_save[m], tensor->module))
                continue;
            found = 1;
            base_tensor *other = adapt_other_half(a, tensor);
            if (other) /* keeps the numbers of the base when this half is trained alone */
                other->tied_to = tensor->tied_to = -1;
            train_tensor(a, spec, tensor, arena_format(&a->names, "base_model.model.%s", tensor->name), capacity);
        }
        if (!found)
            return fail(err, GRAFT_USAGE, "modules_to_save names \"%s\", which is no module of this model",
                        t->in.modules_to_save[m]);
    }
    if (!t->in.bias || strcmp(t->in.bias, "none") == 0) return GRAFT_OK;
    const int all = strcmp(t->in.bias, "all") == 0;
    if (!all && strcmp(t->in.bias, "lora_only") != 0)
        return fail(err, GRAFT_USAGE, "bias = %s: must be none, all or lora_only", t->in.bias);
    for (int32_t p = 0; p < a->point_count; p++) {
        base_tensor *tensor = a->points[p].tensor;
        const size_t length = tensor ? strlen(tensor->name) : 0;
        if (!(a->points[p].kinds & GRAFT_TENSOR) || length < 5 || strcmp(tensor->name + length - 5, ".bias") != 0)
            continue;
        int32_t adapted = 0;
        for (int32_t n = 0; n < t->count; n++)
            adapted |= strcmp(t->instances[n]->site.name, tensor->module) == 0;
        if (adapted || all)
            train_tensor(
                a, spec, tensor,
                arena_format(&a->names, "base_model.model.%s%s.bias", tensor->module, adapted ? ".base_layer" : ""),
                capacity);
    }
    return GRAFT_OK;
}

int adapt_list_params(adapt *a, int32_t spec, int32_t *params, int32_t *buffers, graft_error *err) {
    const technique *t = &a->techniques[spec];
    for (int32_t n = 0; n < t->count; n++)
        list_slots(a, spec, t->instances[n], params, buffers);
    if (t->widest) list_slots(a, spec, t->widest, params, buffers);
    return list_extras(a, spec, params, err);
}
