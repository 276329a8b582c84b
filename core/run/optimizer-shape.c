/* optimizer-shape — groups of parameters, and what parameters of one shape and one group share.
 *
 * Parameters that share a shape share its compiled programs. A callback is run once per shape on shapes alone, then for every
 * parameter in every step: the text it hands over finds its program by its characters. */
#include "config/option.h"
#include "formats/targets.h"
#include "run/optimizer-private.h"
#include <string.h>

enum { BLOCKS8_LEAST = 4096 };

/* ---- groups ---- */

static int fits(const char *pattern, const adapt_param *p) {
    return targets_select(&(targets_list){.names = &pattern, .count = 1}, p->name, -1, 0);
}

static int check_patterns(const char *key, const char *const *patterns, int32_t pattern_count,
                          const adapt_param *params, int32_t count, graft_error *err) {
    for (int32_t i = 0; i < pattern_count; i++) {
        int found = 0;
        for (int32_t p = 0; p < count && !found; p++)
            found = fits(patterns[i], &params[p]);
        if (!found)
            return fail(err, GRAFT_USAGE,
                        "[optimizer] %s: nothing that is trained fits '%s'; write a name, its end behind a dot, or a "
                        "glob%s%s",
                        key, patterns[i], count > 0 ? "; one of the trained tensors is " : "",
                        count > 0 ? params[0].name : "");
    }
    return GRAFT_OK;
}

static const graft_option *decay_of(const plugin_component *c) {
    const int row = option_find(c->options, c->option_count, "weight_decay");
    return row >= 0 && c->options[row].type == GRAFT_REAL ? &c->options[row] : NULL;
}

int optimizer_groups(const plugin_component *component, const optimizer_settings *settings, const adapt_param *params,
                     int32_t count, optimizer_group *group, graft_error *err) {
    const optimizer_settings *const s = settings;
    if (s->no_decay_count > 0 && !decay_of(component))
        return fail(err, GRAFT_USAGE, "[optimizer] no_decay: %s has no weight_decay; leave the key out",
                    component->name);
    if (check_patterns("no_decay", s->no_decay, s->no_decay_count, params, count, err) ||
        check_patterns("lr_scale", s->scaled, s->scaled_count, params, count, err))
        return err->code;
    for (int32_t p = 0; p < count; p++) {
        group[p] = (optimizer_group){.decays = 1, .lr_scale = 1};
        for (int32_t i = 0; i < s->no_decay_count; i++)
            if (fits(s->no_decay[i], &params[p])) group[p].decays = 0;
        for (int32_t i = s->scaled_count - 1; i >= 0; i--) /* the first that fits has the last word */
            if (fits(s->scaled[i], &params[p])) group[p].lr_scale = s->scales[i];
    }
    return GRAFT_OK;
}

static void *copy_config(const optimizer *o, const optimizer_group *group) {
    char *const config = mem_new((size_t)o->component->config_size + 1, 1);
    const graft_option *const decay = decay_of(o->component);
    if (o->component->config_size > 0) memcpy(config, o->config, (size_t)o->component->config_size);
    if (!group->decays && decay) memcpy(config + decay->offset, &(double){0}, sizeof(double));
    return config;
}

/* ---- shapes ---- */

static int check_slot(const optimizer *o, const graft_slot *d, graft_error *err) {
    const char *const name = o->component->name;
    if (d->role != GRAFT_BUFFER && d->role != GRAFT_TEMP && d->role != GRAFT_NUMBER)
        return fail(err, GRAFT_FAILED, "%s: slot %s: the slots of an optimizer are BUFFER, TEMP and NUMBER", name,
                    d->name);
    if (*d->store && strcmp(d->store, "blocks8") != 0)
        return fail(err, GRAFT_FAILED,
                    "%s: slot %s is stored as \"%s\"; the states of an optimizer are plain or blocks8", name, d->name,
                    d->store);
    return GRAFT_OK;
}

static int set_slot(optimizer *o, optimizer_shape *c, int32_t s, int32_t *number, graft_error *err) {
    const graft_slot *const d = slot_at(o, s);
    const double *const numbers = c->numbers;
    const int32_t known = o->number_count - 2; /* not lr and t, which change */
    if (check_slot(o, d, err)) return err->code;
    if (d->role == GRAFT_NUMBER)
        return formula_number(d->init ? d->init : "0", o->number_names, numbers, known, &c->numbers[(*number)++], err);
    if (formula_shape(d->shape, o->number_names, numbers, known, c->shape[s], &c->slot_rank[s], err)) return err->code;
    if (strstr(d->shape, "size") && c->slot_rank[s] == 1) { /* lies like p, or is absent: "centered ? size : 0" */
        const int64_t absent[FORMULA_RANK] = {0};
        c->like_p[s] = c->shape[s][0] == c->count;
        memcpy(c->shape[s], c->like_p[s] ? c->own : absent, sizeof c->shape[s]);
        c->slot_rank[s] = c->rank;
    }
    c->slot_count[s] = 1;
    for (int32_t r = 0; r < c->slot_rank[s]; r++)
        c->slot_count[s] *= c->shape[s][r];
    if (c->slot_count[s] < 0) /* FORMULA_ROWS */
        return fail(err, GRAFT_FAILED, "shape \"%s\": an optimizer has no rows", d->shape);
    const int eight = *d->store || (o->state_bits == 8 && d->role == GRAFT_BUFFER && !d->values && c->like_p[s]);
    if (eight && c->slot_count[s] >= BLOCKS8_LEAST)
        c->store[s] = d->flags & GRAFT_UNSIGNED ? STORE_BLOCKS8_UNSIGNED : STORE_BLOCKS8;
    return GRAFT_OK;
}

/* Every present slot lies like p: what is left to be elementwise is up to the formulas. */
static int all_like_p(const optimizer *o, const optimizer_shape *c) {
    for (int32_t s = 0; s < o->component->slot_count; s++)
        if (slot_at(o, s)->role != GRAFT_NUMBER && c->slot_count[s] > 0 && !c->like_p[s]) return 0;
    return 1;
}

static int has_packed(const optimizer *o, const optimizer_shape *c) {
    for (int32_t s = 0; s < o->component->slot_count; s++)
        if (c->store[s] != STORE_PLAIN) return 1;
    return 0;
}

/* Numbers of the options and of sizes; those of slots follow. Returns how many options are numbers. */
static int32_t set_numbers(const optimizer *o, optimizer_shape *c) {
    int32_t number = 0;
    c->numbers = mem_new((size_t)o->number_count, sizeof *c->numbers);
    for (int32_t i = 0; i < o->component->option_count; i++)
        number += option_number(&o->component->options[i], c->config, &c->numbers[number]);
    double *const fixed = c->numbers + o->first_fixed;
    fixed[NUMBER_SIZE] = (double)c->count;
    fixed[NUMBER_MATRIX] = c->rank == 2;
    fixed[NUMBER_OUT] = c->rank == 2 ? (double)c->own[0] : 0;
    fixed[NUMBER_IN] = c->rank == 2 ? (double)c->own[1] : 0;
    fixed[NUMBER_T] = 1;
    return number;
}

static int make_shape(optimizer *o, const adapt_param *p, const optimizer_group *group, graft_error *err) {
    mem_reserve(o->shapes, o->shape_count, o->shape_capacity);
    const int32_t at = o->shape_count++;
    optimizer_shape *const c = &o->shapes[at];
    *c = (optimizer_shape){
        .group = *group, .config = copy_config(o, group), .rank = p->rank >= 2 ? 2 : 1, .count = p->count};
    c->own[0] = c->rank == 2 ? p->rows : p->count;
    c->own[1] = c->rank == 2 ? p->cols : 0;
    int32_t number = set_numbers(o, c);
    for (int32_t s = 0; s < o->component->slot_count; s++)
        if (set_slot(o, c, s, &number, err))
            return fail_within(err, "%s: slot %s for %s", o->component->name, slot_at(o, s)->name, p->name);
    c->tiled = has_packed(o, c) && all_like_p(o, c) && optimizer_is_elementwise(o, at, err);
    for (int32_t s = 0; s < o->component->slot_count && !err->code; s++)
        if (slot_at(o, s)->init && slot_at(o, s)->role != GRAFT_NUMBER)
            optimizer_call(o, at, -1, slot_at(o, s)->init, err);
    return err->code ? err->code : optimizer_call(o, at, -1, NULL, err);
}

int32_t optimizer_shape_of(optimizer *o, const adapt_param *p, const optimizer_group *group, graft_error *err) {
    for (int32_t c = 0; c < o->shape_count; c++) {
        const optimizer_shape *const at = &o->shapes[c];
        const int same_group = at->group.decays == group->decays && at->group.lr_scale == group->lr_scale;
        if (same_group && at->rank == (p->rank >= 2 ? 2 : 1) && at->count == p->count &&
            (at->rank == 1 || at->own[0] == p->rows))
            return c;
    }
    return make_shape(o, p, group, err) ? -1 : o->shape_count - 1;
}
