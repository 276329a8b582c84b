/* adapt-bind — which technique sits where: targets select points, slots get their shapes, every formula is checked. */
#include "config/option.h"
#include "formats/peft-tensors.h"
#include "formats/targets.h"
#include "model/adapt-private.h"
#include <stdlib.h>
#include <string.h>

static int32_t number_place(const technique *t, const char *name) {
    for (int32_t n = 0; n < t->number_count; n++)
        if (strcmp(t->number_names[n], name) == 0) return n;
    return -1;
}

/* ---- one section: names ---- */

enum { ROUNDS_MOST = 8 };

static int find_lowrank(technique *t, graft_error *err) {
    t->lowrank[0] = -1;
    if (!t->functions->low_rank) return GRAFT_OK;
    char names[4][32];
    if (sscanf(t->functions->low_rank, "%31s %31s %31s %31s", names[0], names[1], names[2], names[3]) != 4)
        return fail(err, GRAFT_FAILED, "%s: low_rank \"%s\" is not four names (A B s H)", t->in.component->name,
                    t->functions->low_rank);
    for (int32_t p = 0; p < 4; p++) {
        const int32_t wanted = p == 2 ? GRAFT_NUMBER : p == 3 ? GRAFT_KEPT : GRAFT_PARAM;
        int32_t found = -1;
        for (int32_t s = 0; s < slot_count(t); s++)
            if (strcmp(slot_of(t, s)->name, names[p]) == 0 && slot_of(t, s)->role == wanted) found = s;
        if (found < 0)
            return fail(err, GRAFT_FAILED, "%s: low_rank names \"%s\", which is no slot of that role",
                        t->in.component->name, names[p]);
        t->lowrank[p] = p == 2 ? number_place(t, names[p]) : found;
    }
    return GRAFT_OK;
}

static int name_technique(adapt *a, technique *t, const adapt_spec *spec, graft_error *err) {
    const plugin_component *c = spec->component;
    *t = (technique){.in = *spec, .functions = &c->adapter, .dropout = -1, .enabled = 1};
    t->rounds = c->adapter.rounds > 0 ? c->adapter.rounds : GRAFT_ROUNDS;
    if (c->adapter.rounds < 0 || c->adapter.rounds > ROUNDS_MOST)
        return fail(err, GRAFT_FAILED, "%s: %d rounds, at most %d", c->name, (int)c->adapter.rounds, ROUNDS_MOST);
    if (c->slot_count > ADAPT_SLOTS)
        return fail(err, GRAFT_FAILED, "%s: %d slots, at most %d", c->name, (int)c->slot_count, ADAPT_SLOTS);
    t->number_names =
        arena_new(&a->names, (size_t)(c->option_count + c->slot_count + BUILTIN_COUNT), sizeof *t->number_names);
    for (int32_t o = 0; o < c->option_count; o++) {
        double value;
        if (option_number(&c->options[o], spec->config, &value)) t->number_names[t->number_count++] = c->options[o].key;
    }
    t->option_numbers = t->number_count;
    for (int32_t s = 0; s < c->slot_count; s++) {
        if (c->slots[s].role == GRAFT_NUMBER) t->number_names[t->number_count++] = c->slots[s].name;
        t->gradient_names[s] = arena_format(&a->names, "d%s", c->slots[s].name);
    }
    for (int32_t b = 0; b < BUILTIN_COUNT; b++)
        t->number_names[t->number_count++] = adapt_builtin_names[b];
    if (number_place(t, "rows") != t->number_count - 1) /* KV and EMBED: the plugin's own NUMBER */
        t->number_names[t->number_count - 1] = "";
    t->dropout = number_place(t, "dropout");
    return find_lowrank(t, err);
}

/* ---- one instance ---- */

static void instance_free(const technique *t, instance *i) {
    if (!i) return;
    adapt_forget_saved(i, slot_count(t));
    for (int32_t p = 0; p < i->program_count; p++)
        formula_free(i->programs[p].program);
    free(i->programs);
    free(i->numbers);
    free(i->number_set);
    if (i->own_config) free(i->config);
    free(i);
}

/* The option `key` of this site's own copy of the options, when a pattern names the site. */
static int apply_pattern(technique *t, instance *i, const char *key, const char *const *patterns, const double *values,
                         int32_t count, graft_error *err) {
    const int32_t found = targets_pattern(patterns, count, i->site.name);
    if (found < 0) return GRAFT_OK;
    const plugin_component *c = t->in.component;
    const int row = option_find(c->options, c->option_count, key);
    if (row < 0)
        return fail(err, GRAFT_USAGE, "%s: %s_pattern is set, but %s has no option `%s`", t->in.name, key, c->name,
                    key);
    if (!i->own_config) {
        i->config = mem_new(1, (size_t)c->config_size);
        memcpy(i->config, t->in.config, (size_t)c->config_size);
        i->own_config = 1;
    }
    arena none = {0};
    char text[64];
    snprintf(text, sizeof text, "%.17g", values[found]);
    option_parse(&c->options[row], text, i->config, &none, err);
    arena_free(&none);
    if (err->code) fail_within(err, "%s_pattern \"%s\"", key, patterns[found]);
    return err->code;
}

static int set_numbers(technique *t, instance *i, int32_t layers, graft_error *err) {
    const plugin_component *c = t->in.component;
    int32_t n = 0;
    for (int32_t o = 0; o < c->option_count; o++) {
        double value;
        if (option_number(&c->options[o], i->config, &value)) i->numbers[n++] = value;
    }
    const double built_in[BUILTIN_COUNT] = {[BUILTIN_IN] = (double)i->site.in,
                                            [BUILTIN_OUT] = (double)i->site.out,
                                            [BUILTIN_LAYERS] = layers,
                                            [BUILTIN_SITE] = (double)i->site.site,
                                            [BUILTIN_SITES] = (double)i->site.sites,
                                            [BUILTIN_LINEAR] = i->site.kind == GRAFT_LINEAR,
                                            [BUILTIN_INPUT] = i->site.kind == GRAFT_INPUT,
                                            [BUILTIN_ONEHOT] = i->site.onehot};
    const int32_t first = t->number_count - BUILTIN_COUNT;
    for (int32_t b = 0; b < BUILTIN_COUNT; b++)
        i->numbers[first + b] = built_in[b];
    for (int32_t s = 0; s < c->slot_count; s++) {
        if (c->slots[s].role != GRAFT_NUMBER) continue;
        if (!i->number_set[n] && c->slots[s].init) {
            /* later NUMBERs are not yet known: a formula sees the options, earlier NUMBERs and the built-ins */
            const char *names[ADAPT_SLOTS + 64];
            double values[ADAPT_SLOTS + 64];
            int32_t known = 0;
            for (int32_t k = 0; k < t->number_count && known < ADAPT_SLOTS + 64; k++)
                if (k < n || k >= first) {
                    names[known] = t->number_names[k];
                    values[known++] = i->numbers[k];
                }
            if (formula_number(c->slots[s].init, names, values, known, &i->numbers[n], err))
                return fail_within(err, "%s: number %s at %s", c->name, c->slots[s].name, i->site.name);
        }
        n++;
    }
    return GRAFT_OK;
}

static int set_shapes(technique *t, instance *i, graft_error *err) {
    for (int32_t s = 0; s < slot_count(t); s++) {
        const graft_slot *d = slot_of(t, s);
        slot_state *state = &i->slots[s];
        if (d->role == GRAFT_NUMBER || d->role == GRAFT_ALIAS || !d->shape) continue;
        /* `rows` in a shape is the row count of the call, not the number */
        const char **names = t->number_names;
        if (formula_shape(d->shape, names, i->numbers, t->number_count - 1, state->shape, &state->rank, err))
            return fail_within(err, "%s: shape of %s at %s", t->in.component->name, d->name, i->site.name);
        state->count = 1;
        state->mask = (d->flags & GRAFT_MASK) != 0;
        for (int32_t k = 0; k < state->rank; k++) {
            if (state->shape[k] == FORMULA_ROWS && k > 0)
                return fail(err, GRAFT_FAILED, "%s: shape \"%s\" of %s: `rows` must come first", t->in.component->name,
                            d->shape, d->name);
            if (state->shape[k] == FORMULA_ROWS)
                state->has_rows = 1;
            else
                state->count *= state->shape[k];
        }
        if (state->has_rows && d->role != GRAFT_KEPT && d->role != GRAFT_TEMP)
            return fail(err, GRAFT_FAILED, "%s: %s has rows, which only KEPT and TEMP slots may have",
                        t->in.component->name, d->name);
        const int64_t width = state->rank ? state->shape[state->rank - 1] : 0;
        state->activation = d->role == GRAFT_KEPT && state->has_rows && (width == i->site.in || width == i->site.out);
    }
    return GRAFT_OK;
}

/* Makes an instance at a point; *out is NULL when the technique refuses the point (*refused says why). */
static int instance_make(adapt *a, technique *t, int32_t spec, int32_t point, int32_t kind, int32_t layers,
                         instance **out, const char **refused, graft_error *err) {
    const adapt_point *at = &a->points[point];
    instance *i = mem_new(1, sizeof *i);
    *i = (instance){.spec = spec, .point = point, .config = (void *)(uintptr_t)t->in.config, .init_rounds = 1};
    i->site = (graft_site){.size = sizeof i->site,
                           .name = at->name,
                           .kind = kind,
                           .onehot = at->onehot,
                           .layer = at->layer,
                           .in = at->in,
                           .out = at->out,
                           .site = t->count};
    i->numbers = mem_new((size_t)t->number_count, sizeof *i->numbers);
    i->number_set = mem_new((size_t)t->number_count, 1);
    *out = NULL;
    if (apply_pattern(t, i, "rank", t->in.rank_patterns, t->in.ranks, t->in.rank_pattern_count, err) ||
        apply_pattern(t, i, "alpha", t->in.alpha_patterns, t->in.alphas, t->in.alpha_pattern_count, err) ||
        set_numbers(t, i, layers, err) || adapt_check(a, i, HOOK_BIND, refused, err) || *refused) {
        instance_free(t, i);
        return err->code;
    }
    *out = i;
    return GRAFT_OK;
}

/* ---- SHARED slots: one instance holds them whole, every site sees its leading corner ---- */

static int has_mask(const technique *t) {
    for (int32_t s = 0; s < slot_count(t); s++)
        if (slot_of(t, s)->flags & GRAFT_MASK) return 1;
    return 0;
}

static int has_shared(const technique *t) {
    for (int32_t s = 0; s < slot_count(t); s++)
        if (slot_of(t, s)->flags & GRAFT_SHARED) return 1;
    return 0;
}

static int make_widest(technique *t, int32_t layers, graft_error *err) {
    instance *w = mem_new(1, sizeof *w);
    t->widest = w;
    *w = (instance){.spec = t->instances[0]->spec,
                    .point = t->instances[0]->point,
                    .config = t->instances[0]->config,
                    .init_rounds = 1};
    w->site = t->instances[0]->site;
    w->site.name = "all sites";
    for (int32_t n = 1; n < t->count; n++) {
        const graft_site *site = &t->instances[n]->site;
        w->site.in = site->in > w->site.in ? site->in : w->site.in;
        w->site.out = site->out > w->site.out ? site->out : w->site.out;
    }
    w->numbers = mem_new((size_t)t->number_count, sizeof *w->numbers);
    w->number_set = mem_new((size_t)t->number_count, 1);
    return set_numbers(t, w, layers, err) ? err->code : set_shapes(t, w, err);
}

/* The slot of a site as the leading corner of the whole one. */
static int set_corner(const technique *t, instance *i, int32_t s, graft_error *err) {
    const slot_state *whole = &t->widest->slots[s];
    slot_state *own = &i->slots[s];
    int64_t stride = 1;
    int dense = 1;
    for (int32_t d = own->rank - 1; d >= 0; d--) {
        if (own->shape[d] > whole->shape[d])
            return fail(err, GRAFT_FAILED, "%s: the SHARED slot %s is larger at %s than at the largest in and out",
                        t->in.component->name, slot_of(t, s)->name, i->site.name);
        own->stride[d] = stride;
        stride *= whole->shape[d];
        dense &= d == 0 || own->shape[d] == whole->shape[d];
    }
    if (dense) memset(own->stride, 0, sizeof own->stride);
    return GRAFT_OK;
}

/* What is known once all sites are: numbers and shapes that go by their count, and shared tensors. */
static int finish_sites(technique *t, int32_t layers, graft_error *err) {
    for (int32_t n = 0; n < t->count && !err->code; n++) {
        instance *i = t->instances[n];
        i->site.sites = t->count;
        if (set_numbers(t, i, layers, err) || set_shapes(t, i, err)) break;
        if (i->site.kind & (GRAFT_KV | GRAFT_EMBED)) {
            const double rows = i->numbers[number_place(t, "rows")];
            if (!(rows >= 1 && rows < INT32_MAX && rows == (double)(int64_t)rows))
                fail(err, GRAFT_FAILED, "%s: the NUMBER rows is %g; virtual rows are counted from 1",
                     t->in.component->name, rows);
        }
    }
    if (err->code || !t->count || !has_shared(t) || make_widest(t, layers, err)) return err->code;
    for (int32_t n = 0; n < t->count; n++)
        for (int32_t s = 0; s < slot_count(t) && !err->code; s++)
            if (slot_of(t, s)->flags & GRAFT_SHARED) set_corner(t, t->instances[n], s, err);
    return err->code;
}

static int check_formulas(adapt *a, technique *t, instance *i, graft_error *err) {
    for (int32_t s = 0; s < slot_count(t); s++)
        if (slot_of(t, s)->role != GRAFT_NUMBER)
            adapt_slot_init_check(a, slot_of(t, s)->flags & GRAFT_SHARED ? t->widest : i, s, err);
    for (hook h = HOOK_OBSERVE; h < HOOK_COUNT; h++)
        adapt_check(a, i, h, NULL, err);
    for (int32_t p = 0; p < i->program_count; p++) {
        uint64_t reads, writes;
        formula_uses(i->programs[p].program, &reads, &writes);
        if (i->programs[p].at != HOOK_OBSERVE) continue;
        i->observed |= writes;
        i->observes_dy |= reads >> NAME_DY & 1;
    }
    if (i->observed && i->init_rounds > 1)
        return fail(err, GRAFT_FAILED, "%s at %s: init in rounds comes before observe; have one of them",
                    t->in.component->name, i->site.name);
    return err->code;
}

/* ---- which points a section selects ---- */

static int offers(const technique *t, const adapt_point *p, int32_t kind) {
    return (t->functions->sites & kind) && (p->kinds & kind);
}

static int selected(const technique *t, const adapt_point *p) {
    const adapt_spec *in = &t->in;
    if (p->kinds & (GRAFT_KV | GRAFT_EMBED)) return 1;
    /* of a tensor "MODULE.weight", a module that a target names selects it too */
    const char *dot = p->kinds & GRAFT_TENSOR ? strrchr(p->name, '.') : NULL;
    char module[512];
    snprintf(module, sizeof module, "%.*s", dot ? (int)(dot - p->name) : (int)strlen(p->name), p->name);
    const targets_list list = {.names = in->targets,
                               .count = in->target_count,
                               .regex = in->targets_regex,
                               .exclude = in->exclude,
                               .exclude_count = in->exclude_count,
                               .exclude_regex = in->exclude_regex,
                               .layers = in->layers,
                               .layer_count = in->layer_count,
                               .layers_patterns = in->layers_patterns,
                               .layers_pattern_count = in->layers_pattern_count};
    for (int32_t s = 0; s < in->modules_to_save_count; s++)
        if (targets_module(in->modules_to_save[s], module)) return 0;
    return targets_select(&list, p->name, p->layer, p->all_linear) ||
           (dot && targets_select(&list, module, p->layer, p->tensor && p->tensor->linear));
}

static void leave_out(technique *t, const char *name, const char *why) {
    int32_t n = 0;
    while (n < t->left_out_count && strcmp(t->left_out[n].why, why) != 0)
        n++;
    if (n == t->left_out_count) {
        mem_reserve(t->left_out, t->left_out_count, t->left_out_capacity);
        t->left_out[t->left_out_count++] = (left_out){name, why, 0};
    }
    t->left_out[n].count++;
}

void adapt_say_left_out(const technique *t, strbuf *out) {
    for (int32_t n = 0; n < t->left_out_count; n++) {
        const left_out *l = &t->left_out[n];
        strbuf_printf(out, "%s: left out at %s", t->in.component->name, l->first);
        if (l->count > 1) strbuf_printf(out, " and %d more", (int)l->count - 1);
        strbuf_printf(out, ": %s\n", l->why);
    }
}

static int bind_points(adapt *a, int32_t spec, int32_t layers, graft_error *err) {
    technique *t = &a->techniques[spec];
    static const int32_t kinds[] = {GRAFT_INPUT, GRAFT_LINEAR, GRAFT_BRANCH, GRAFT_KV, GRAFT_EMBED, GRAFT_TENSOR};
    for (int32_t p = 0; p < a->point_count && !err->code; p++) {
        if (!selected(t, &a->points[p])) continue;
        const int32_t before = t->count;
        const char *why = NULL;
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds && !err->code; k++) {
            if (!offers(t, &a->points[p], kinds[k]) || (a->points[p].onehot && kinds[k] != GRAFT_LINEAR)) continue;
            instance *i = NULL;
            const char *refused = NULL;
            if (instance_make(a, t, spec, p, kinds[k], layers, &i, &refused, err)) break;
            why = refused ? refused : why;
            if (!i) continue;
            mem_reserve(t->instances, t->count, t->capacity);
            t->instances[t->count++] = i;
        }
        if (why && t->count == before) leave_out(t, a->points[p].name, why);
    }
    return err->code ? err->code : finish_sites(t, layers, err);
}

static int names_point(const char *const *target, const adapt_point *p) {
    const targets_list one = {.names = target, .count = 1};
    char module[512];
    const char *dot = p->kinds & GRAFT_TENSOR ? strrchr(p->name, '.') : NULL;
    snprintf(module, sizeof module, "%.*s", dot ? (int)(dot - p->name) : (int)strlen(p->name), p->name);
    return targets_select(&one, p->name, p->layer, p->all_linear) ||
           (dot && targets_select(&one, module, p->layer, p->tensor && p->tensor->linear));
}

/* Each target must have selected something, or only what `exclude` and `layers` take away again: a misspelt one is an error
 * with the nearest module name. */
static int check_targets(const adapt *a, const technique *t, graft_error *err) {
    for (int32_t k = 0; k < t->in.target_count && !t->in.targets_of_file; k++) {
        int32_t found = 0;
        for (int32_t n = 0; n < t->count && !found; n++)
            found = names_point(&t->in.targets[k], &a->points[t->instances[n]->point]);
        for (int32_t p = 0; p < a->point_count && !found; p++)
            found = (a->points[p].kinds & t->functions->sites) && names_point(&t->in.targets[k], &a->points[p]) &&
                    !selected(t, &a->points[p]);
        if (found || (t->functions->sites & (GRAFT_KV | GRAFT_EMBED))) continue;
        const char **names = mem_new((size_t)a->point_count + 2, sizeof *names);
        int32_t count = 0;
        names[count++] = "all-linear";
        for (int32_t p = 0; p < a->point_count; p++) {
            const char *dot = strrchr(a->points[p].name, '.');
            if (a->points[p].kinds & t->functions->sites) names[count++] = dot ? dot + 1 : a->points[p].name;
        }
        const char *near = nearest_name(t->in.targets[k], names, count);
        strbuf left = {0};
        adapt_say_left_out(t, &left);
        fail(err, GRAFT_USAGE, "target \"%s\" of %s selects nothing in this model that %s can adapt%s%s%s%s%.*s",
             t->in.targets[k], t->in.component->name, t->in.component->name, near ? "; did you mean \"" : "",
             near ? near : "", near ? "\"?" : "", left.length ? "\n" : "", left.length ? (int)left.length - 1 : 0,
             left.length ? left.text : "");
        strbuf_free(&left);
        free(names);
        return err->code;
    }
    return t->count || t->in.modules_to_save_count
               ? GRAFT_OK
               : fail(err, GRAFT_USAGE, "%s selects nothing in this model: see its targets, exclude and layers",
                      t->in.component->name);
}

static void place_instances(adapt *a) {
    a->at = mem_new((size_t)a->point_count + 1, sizeof *a->at);
    for (int32_t spec = 0; spec < a->count; spec++) {
        for (int32_t n = 0; n < a->techniques[spec].count; n++) {
            instance *i = a->techniques[spec].instances[n];
            int32_t have = 0;
            while (a->at[i->point] && a->at[i->point][have])
                have++;
            a->at[i->point] = mem_grow(a->at[i->point], (size_t)have + 2, sizeof **a->at);
            a->at[i->point][have] = i;
            a->at[i->point][have + 1] = NULL;
        }
    }
}

/* What a site holds back or takes out of W must be W's alone: no other module may read the same numbers, and no other technique
 * may write what a mask holds at zero. */
static int check_replaced(const adapt *a, int32_t point, graft_error *err) {
    instance *const *const at = a->at[point];
    const instance *writer = NULL;
    int32_t writers = 0, masked = 0;
    for (int32_t n = 0; at && at[n]; n++) {
        masked |= has_mask(&a->techniques[at[n]->spec]);
        writers += at[n]->replaces;
        if (at[n]->replaces) writer = at[n];
    }
    if (!writer) return GRAFT_OK;
    const char *const name = a->techniques[writer->spec].in.component->name;
    const base_tensor *const other = a->points[point].tensor ? adapt_other_half(a, a->points[point].tensor) : NULL;
    if (other)
        return fail(err, GRAFT_USAGE,
                    "%s at %s changes the weight itself, which %s shares: exclude it, or name it in modules_to_save",
                    name, writer->site.name, other->module);
    if (masked && writers > 1)
        return fail(err, GRAFT_USAGE,
                    "%s at %s changes the weight itself, of which another technique holds a part at zero; let each "
                    "have its own targets",
                    name, writer->site.name);
    if (writer->observed || !a->techniques[writer->spec].functions->forward) return GRAFT_OK;
    for (int32_t s = 0; s < a->count; s++)
        for (int32_t n = 0; n < a->techniques[s].count; n++)
            if (a->techniques[s].instances[n]->observed)
                return fail(err, GRAFT_USAGE,
                            "%s observes the base while it is loaded, but %s at %s takes a part of the weight out of "
                            "it; let one run do the first and another the second",
                            a->techniques[s].in.component->name, name, writer->site.name);
    return GRAFT_OK;
}

static int check_mask(const technique *t, instance *i, graft_error *err) {
    i->replaces |= has_mask(t);
    for (int32_t s = 0; s < slot_count(t); s++) {
        const slot_state *const m = &i->slots[s];
        if (!m->mask) continue;
        if (i->site.kind != GRAFT_LINEAR || i->site.onehot || m->rank != 2 || m->shape[0] != i->site.out ||
            m->shape[1] != i->site.in)
            return fail(err, GRAFT_FAILED, "%s at %s: the mask %s must have the shape of W, \"out, in\" of a linear",
                        t->in.component->name, i->site.name, slot_of(t, s)->name);
    }
    return GRAFT_OK;
}

int adapt_bind(const adapt_spec *specs, int32_t count, const adapt_point *points, int32_t point_count,
               int64_t max_rows_virtual, adapt **out, graft_error *err) {
    (void)max_rows_virtual;
    adapt *a = mem_new(1, sizeof *a);
    *a = (adapt){.points = points, .point_count = point_count};
    a->techniques = mem_new((size_t)count + 1, sizeof *a->techniques);
    int32_t layers = 0, params = 0, buffers = 0;
    for (int32_t p = 0; p < point_count; p++)
        layers = points[p].layer + 1 > layers ? (int32_t)points[p].layer + 1 : layers;
    for (int32_t s = 0; s < count && !err->code; s++) {
        technique *t = &a->techniques[a->count++];
        if (name_technique(a, t, &specs[s], err) || bind_points(a, s, layers, err) || check_targets(a, t, err)) break;
        for (int32_t n = 0; n < t->count && !err->code; n++)
            if (check_mask(t, t->instances[n], err) == GRAFT_OK) check_formulas(a, t, t->instances[n], err);
        if (!err->code) adapt_list_params(a, s, &params, &buffers, err);
    }
    place_instances(a);
    for (int32_t p = 0; p < point_count && !err->code; p++)
        check_replaced(a, p, err);
    if (err->code) {
        adapt_free(a);
        return err->code;
    }
    *out = a;
    return GRAFT_OK;
}

void adapt_free(adapt *a) {
    if (!a) return;
    adapt_release_device(a);
    for (int32_t s = 0; s < a->count; s++) {
        technique *t = &a->techniques[s];
        for (int32_t n = 0; n < t->count; n++)
            instance_free(t, t->instances[n]);
        instance_free(t, t->widest);
        free(t->instances);
        free(t->fields);
        free(t->left_out);
        free(t->saved_ranks);
        free(t->saved_alphas);
    }
    for (int32_t p = 0; a->at && p < a->point_count; p++)
        free(a->at[p]);
    free(a->at);
    free(a->techniques);
    free(a->params);
    free(a->buffers);
    arena_free(&a->names);
    free(a);
}
