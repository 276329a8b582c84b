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

static void instance_free(instance *i) {
    if (!i) return;
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

static int set_numbers(adapt *a, technique *t, instance *i, int32_t layers, graft_error *err) {
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
    (void)a;
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
        for (int32_t k = 0; k < state->rank; k++) {
            if (state->shape[k] == FORMULA_ROWS && k > 0)
                return fail(err, GRAFT_FAILED, "%s: shape \"%s\" of %s: `rows` must come first", t->in.component->name,
                            d->shape, d->name);
            if (state->shape[k] == FORMULA_ROWS)
                state->has_rows = 1;
            else
                state->count *= state->shape[k];
        }
        if (d->flags & GRAFT_SHARED)
            return fail(err, GRAFT_FAILED, "%s: slot %s is SHARED, which this version does not offer",
                        t->in.component->name, d->name);
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
    *i = (instance){.spec = spec, .point = point, .config = (void *)(uintptr_t)t->in.config};
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
        set_numbers(a, t, i, layers, err) || adapt_check(a, i, HOOK_BIND, refused, err) || *refused ||
        set_numbers(a, t, i, layers, err) || set_shapes(t, i, err)) {
        instance_free(i);
        return err->code;
    }
    *out = i;
    return GRAFT_OK;
}

static int check_formulas(adapt *a, technique *t, instance *i, graft_error *err) {
    for (int32_t s = 0; s < slot_count(t); s++)
        if (slot_of(t, s)->role != GRAFT_NUMBER) adapt_slot_init_check(a, i, s, err);
    for (hook h = HOOK_OBSERVE; h < HOOK_COUNT; h++)
        adapt_check(a, i, h, NULL, err);
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

static int bind_points(adapt *a, int32_t spec, int32_t layers, graft_error *err) {
    technique *t = &a->techniques[spec];
    static const int32_t kinds[] = {GRAFT_INPUT, GRAFT_LINEAR, GRAFT_BRANCH, GRAFT_KV, GRAFT_EMBED, GRAFT_TENSOR};
    for (int32_t p = 0; p < a->point_count && !err->code; p++) {
        if (!selected(t, &a->points[p])) continue;
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds && !err->code; k++) {
            if (!offers(t, &a->points[p], kinds[k]) || (a->points[p].onehot && kinds[k] != GRAFT_LINEAR)) continue;
            instance *i = NULL;
            const char *refused = NULL;
            if (instance_make(a, t, spec, p, kinds[k], layers, &i, &refused, err)) break;
            if (!i) {
                strbuf_printf(&a->left_out, "%s: left out at %s: %s\n", t->in.component->name, a->points[p].name,
                              refused);
                continue;
            }
            mem_reserve(t->instances, t->count, t->capacity);
            t->instances[t->count++] = i;
        }
    }
    for (int32_t n = 0; n < t->count; n++) {
        t->instances[n]->site.sites = t->count;
        t->instances[n]->numbers[t->number_count - BUILTIN_COUNT + BUILTIN_SITES] = t->count;
    }
    return err->code;
}

/* Each target must have selected something: a misspelt one is an error with the nearest module name. */
static int check_targets(const adapt *a, const technique *t, graft_error *err) {
    for (int32_t k = 0; k < t->in.target_count; k++) {
        int32_t found = 0;
        const targets_list one = {.names = &t->in.targets[k], .count = 1};
        for (int32_t n = 0; n < t->count && !found; n++) {
            const adapt_point *p = &a->points[t->instances[n]->point];
            char module[512];
            const char *dot = p->kinds & GRAFT_TENSOR ? strrchr(p->name, '.') : NULL;
            snprintf(module, sizeof module, "%.*s", dot ? (int)(dot - p->name) : (int)strlen(p->name), p->name);
            found = targets_select(&one, p->name, p->layer, p->all_linear) ||
                    (dot && targets_select(&one, module, p->layer, p->tensor && p->tensor->linear));
        }
        if (found || (t->functions->sites & (GRAFT_KV | GRAFT_EMBED))) continue;
        const char **names = mem_new((size_t)a->point_count + 2, sizeof *names);
        int32_t count = 0;
        names[count++] = "all-linear";
        for (int32_t p = 0; p < a->point_count; p++) {
            const char *dot = strrchr(a->points[p].name, '.');
            if (a->points[p].kinds & t->functions->sites) names[count++] = dot ? dot + 1 : a->points[p].name;
        }
        const char *near = nearest_name(t->in.targets[k], names, count);
        fail(err, GRAFT_USAGE, "target \"%s\" of %s selects nothing in this model that %s can adapt%s%s%s%s%s",
             t->in.targets[k], t->in.component->name, t->in.component->name, near ? "; did you mean \"" : "",
             near ? near : "", near ? "\"?" : "", a->left_out.text ? "\n" : "",
             a->left_out.text ? a->left_out.text : "");
        free(names);
        return err->code;
    }
    return t->count || t->in.modules_to_save_count
               ? GRAFT_OK
               : fail(err, GRAFT_USAGE, "%s selects nothing in this model; set `targets` (names, globs or all-linear)",
                      t->in.component->name);
}

/* ---- the list of what is trained ---- */

static adapt_param *new_param(adapt_param **list, int32_t *count, int32_t *capacity) {
    mem_reserve(*list, *count, *capacity);
    (*list)[*count] = (adapt_param){0};
    return &(*list)[(*count)++];
}

static char *file_name(adapt *a, const instance *i, const char *pattern) {
    char *name = peft_tensor_name(i->site.name, pattern, i->site.layer,
                                  *a->techniques[i->spec].in.name ? a->techniques[i->spec].in.name : "default");
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
static void train_tensor(adapt *a, int32_t spec, base_tensor *t, const char *name, int32_t *capacity) {
    if (t->trained) return;
    t->trained = 1;
    param_of_tensor(new_param(&a->params, &a->param_count, capacity), spec, t, name);
}

/* Of a tied pair (embedding and head, the only one in these families) the half that is not `t`; NULL: t is not tied. */
static base_tensor *other_half(const adapt *a, const base_tensor *t) {
    for (int32_t p = 0; t->layer < 0 && p < a->point_count; p++) {
        base_tensor *other = a->points[p].kinds & GRAFT_TENSOR ? a->points[p].tensor : NULL;
        if (other && other != t && other->layer < 0 && other->out == t->out && other->in == t->in &&
            (other->tied_to >= 0 || t->tied_to >= 0))
            return other;
    }
    return NULL;
}

static void list_slots(adapt *a, int32_t spec, instance *i, int32_t *params, int32_t *buffers) {
    const technique *t = &a->techniques[spec];
    for (int32_t s = 0; s < slot_count(t); s++) {
        const graft_slot *d = slot_of(t, s);
        const slot_state *state = &i->slots[s];
        const char *file = i->site.onehot && d->file_onehot ? d->file_onehot : d->file;
        if (d->role == GRAFT_ALIAS && a->points[i->point].tensor) {
            base_tensor *tensor = a->points[i->point].tensor;
            if (tensor->tied_to >= 0) tensor = other_half(a, tensor); /* the pair is one parameter */
            train_tensor(a, spec, tensor, d->file ? file_name(a, i, d->file) : tensor->name, params);
            continue;
        }
        if ((d->role != GRAFT_PARAM && d->role != GRAFT_BUFFER) || d->values || state->count == 0) continue;
        adapt_param *p = d->role == GRAFT_PARAM ? new_param(&a->params, &a->param_count, params)
                                                : new_param(&a->buffers, &a->buffer_count, buffers);
        *p = (adapt_param){.name =
                               file ? file_name(a, i, file) : arena_format(&a->names, "%s.%s", i->site.name, d->name),
                           .spec = spec,
                           .rank = state->rank,
                           .count = state->count,
                           .in_file = file != NULL,
                           .site = i,
                           .slot = s};
        p->rows = state->rank ? state->shape[0] : 1;
        p->cols = state->rank > 1 ? state->count / (p->rows ? p->rows : 1) : 1;
    }
}

/* modules_to_save and bias: whole base tensors trained beside the technique. */
static int list_extras(adapt *a, int32_t spec, int32_t *capacity, graft_error *err) {
    technique *t = &a->techniques[spec];
    for (int32_t m = 0; m < t->in.modules_to_save_count; m++) {
        int32_t found = 0;
        for (int32_t p = 0; p < a->point_count; p++) {
            base_tensor *tensor = a->points[p].tensor;
            if (!(a->points[p].kinds & GRAFT_TENSOR) || !targets_module(t->in.modules_to_save[m], tensor->module))
                continue;
            found = 1;
            base_tensor *other = other_half(a, tensor);
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
        for (int32_t n = 0; n < t->count && !err->code; n++) {
            check_formulas(a, t, t->instances[n], err);
            list_slots(a, s, t->instances[n], &params, &buffers);
        }
        if (!err->code) list_extras(a, s, &params, err);
    }
    if (err->code) {
        adapt_free(a);
        return err->code;
    }
    place_instances(a);
    *out = a;
    return GRAFT_OK;
}

void adapt_free(adapt *a) {
    if (!a) return;
    adapt_release_device(a);
    for (int32_t s = 0; s < a->count; s++) {
        for (int32_t n = 0; n < a->techniques[s].count; n++)
            instance_free(a->techniques[s].instances[n]);
        free(a->techniques[s].instances);
    }
    for (int32_t p = 0; a->at && p < a->point_count; p++)
        free(a->at[p]);
    free(a->at);
    free(a->techniques);
    free(a->params);
    free(a->buffers);
    strbuf_free(&a->left_out);
    arena_free(&a->names);
    free(a);
}
