#include "run/session.h"
#include "base/log.h"
#include "formats/targets.h"
#include "run/adapter-folder.h"
#include "run/base-digest.h"
#include "run/base-quantizer.h"
#include <stdlib.h>
#include <string.h>

/* ---- adapters: the recipe's sections, then folders ---- */

static adapt_spec spec_of(const recipe_adapter *r) {
    static const char *const bias[] = {"none", "all", "lora_only"};
    return (adapt_spec){.name = r->name,
                        .component = r->use.component,
                        .config = r->use.config,
                        .targets = r->target_list,
                        .target_count = r->target_count,
                        .exclude = r->exclude_list,
                        .exclude_count = r->exclude_count,
                        .layers = r->layer_list,
                        .layer_count = r->layer_count,
                        .bias = bias[r->bias],
                        .modules_to_save = r->save_list,
                        .modules_to_save_count = r->save_count,
                        .rank_patterns = r->rank_patterns,
                        .ranks = r->ranks,
                        .rank_pattern_count = r->rank_pattern_count,
                        .alpha_patterns = r->alpha_patterns,
                        .alphas = r->alphas,
                        .alpha_pattern_count = r->alpha_pattern_count};
}

static int selects_something(const session *s, const char *name, int32_t kinds) {
    int32_t points;
    const adapt_point *at = model_points(s->model, &points);
    const targets_list one = {.names = &name, .count = 1};
    for (int32_t p = 0; p < points; p++)
        if ((at[p].kinds & kinds) && targets_select(&one, at[p].name, at[p].layer, at[p].all_linear)) return 1;
    return 0;
}

/* The technique's own, "k_proj, v_proj, c_attn", without those that this model lacks. */
static void own_targets(session *s, adapt_spec *spec) {
    const char *text = spec->component->adapter.targets;
    const char **names = arena_new(&s->memory, strlen(text) + 1, sizeof *names);
    for (text += strspn(text, ", "); *text; text += strspn(text, ", ")) {
        const size_t length = strcspn(text, ", ");
        names[spec->target_count] = arena_copy(&s->memory, text, length);
        spec->target_count += selects_something(s, names[spec->target_count], spec->component->adapter.sites);
        text += length;
    }
    spec->targets = names;
}

/* Without targets: the technique's, or everything for techniques of base tensors and sub-blocks, which choose themselves, or
 * the family's modules (PEFT's table). */
static void default_targets(session *s, adapt_spec *spec) {
    static const char *const everything[] = {"*"};
    if (spec->targets || spec->targets_regex) return;
    if (spec->component->adapter.targets) {
        own_targets(s, spec);
        return;
    }
    if ((spec->component->adapter.sites & ~(GRAFT_TENSOR | GRAFT_BRANCH)) == 0) {
        spec->targets = everything;
        spec->target_count = 1;
        return;
    }
    spec->targets = model_default_targets(s->model);
    while (spec->targets && spec->targets[spec->target_count])
        spec->target_count++;
}

static int start_of(session *s, const recipe *r, int32_t n, adapt_spec *spec, graft_error *err) {
    const recipe_adapter *from = &r->adapters[n];
    if (!*from->start) return GRAFT_OK;
    uint8_t *given = arena_new(&s->memory, (size_t)spec->component->option_count + 1, 1);
    char title[96];
    snprintf(title, sizeof title, *from->name ? "adapter.%s" : "adapter", from->name);
    for (int32_t k = 0; k < r->section_count; k++)
        for (int o = 0; strcmp(r->sections[k].title, title) == 0 && o < r->sections[k].own.count; o++)
            given[o] = r->sections[k].own.origins[o].file != NULL;
    s->starts[n] = from->start;
    if (base_quantizer_known(from->start) && !s->quantized_by && !model_is_packed(s->model))
        log_warn("%s was trained on a quantized base, this run's is not; its quantizer.ini has the [quantizer] to add",
                 from->start);
    void *config = from->use.config;
    return adapter_folder_start(from->start, spec, config, given, &s->memory, err);
}

static int make_specs(session *s, const session_request *q, graft_error *err) {
    const int32_t own = q->recipe ? q->recipe->adapter_count : 0, most = own + q->folder_count;
    s->specs = arena_new(&s->memory, (size_t)most + 1, sizeof *s->specs);
    s->starts = arena_new(&s->memory, (size_t)most + 1, sizeof *s->starts);
    for (int32_t n = 0; n < own; n++) {
        s->specs[s->spec_count] = spec_of(&q->recipe->adapters[n]);
        if (start_of(s, q->recipe, n, &s->specs[s->spec_count++], err)) return err->code;
    }
    for (int32_t n = 0; n < q->folder_count; n++) {
        s->starts[s->spec_count] = q->folders[n];
        if (adapter_folder_read(q->plugins, q->folders[n], &s->specs[s->spec_count++], &s->memory, err))
            return err->code;
    }
    for (int32_t n = 0; n < s->spec_count; n++)
        default_targets(s, &s->specs[n]);
    return GRAFT_OK;
}

/* ---- device and types ---- */

static const char *pick(const char *asked, const char *recipe_word) {
    return asked ? asked : recipe_word ? recipe_word : "auto";
}

static int open_device(session *s, const session_request *q, graft_error *err) {
    static const char *const words[] = {"auto", "cpu", "cuda", "fake"};
    const char *name = pick(q->device, q->recipe ? words[q->recipe->model.device] : NULL);
    if (strcmp(name, "cuda") == 0)
        return fail(err, GRAFT_USAGE, "device = cuda: this build has no CUDA kernels; use device = cpu or auto");
    const int threads = q->threads ? q->threads : q->recipe ? (int)q->recipe->train.threads : 0;
    s->threads = team_create(threads);
    return kernels_open(strcmp(name, "auto") == 0 ? "cpu" : name, s->threads, &s->device, err);
}

static int pick_activation(session *s, const session_request *q, graft_error *err) {
    static const char *const words[] = {"auto", "f32", "bf16"};
    const char *asked = pick(q->precision, q->recipe ? words[q->recipe->model.precision] : NULL);
    const dtype stored = model_descriptor(s->model)->stored;
    if (s->device->real == F64) {
        s->activation = F64;
        return GRAFT_OK;
    }
    s->activation = strcmp(asked, "bf16") == 0 || (strcmp(asked, "auto") == 0 && s->device->multiplies_bf16 &&
                                                   (stored == BF16 || stored == F16))
                        ? BF16
                        : F32;
    if (strcmp(asked, "auto") != 0 && strcmp(asked, "f32") != 0 && strcmp(asked, "bf16") != 0)
        return fail(err, GRAFT_USAGE, "precision = %s: must be auto, f32 or bf16", asked);
    if (s->activation == BF16 && !s->device->multiplies_bf16 && strcmp(s->device->name, "cpu") == 0)
        return fail(err, GRAFT_USAGE,
                    "precision = bf16: this processor (%s) does not multiply bf16; use precision = auto",
                    s->device->isa);
    return GRAFT_OK;
}

/* ---- opening and loading ---- */

static int open_quantizer(session *s, const session_request *q, graft_error *err) {
    const recipe *from = q->base ? q->base : q->recipe;
    const recipe_quantizer *r = from ? &from->quantizer : NULL;
    if (!r || (!r->use.component && !(r->state && *r->state))) return GRAFT_OK;
    if (q->base && model_is_packed(s->model)) {
        log_info("%s lies packed already, %s is not used", model_folder(s->model), from->file.path);
        return GRAFT_OK;
    }
    if (q->base)
        log_info("the base is quantized by %s, as %s says; --quantizer none takes it as it is stored",
                 r->use.component ? r->use.component->name : r->state, from->file.path);
    s->quantized_by = from;
    const quantize_spec spec = {.component = r->use.component,
                                .config = r->use.config,
                                .targets = r->target_list,
                                .target_count = r->target_count,
                                .exclude = r->exclude_list,
                                .exclude_count = r->exclude_count,
                                .state = r->state};
    return quantize_create(&spec, &s->quantizer, err);
}

static void round_trip(void *context, const base_tensor *like, void *values, graft_error *err) {
    session *s = context;
    if (quantize_selects(s->quantizer, like)) quantize_round_trip(s->quantizer, s->device, like, values, err);
}

/* What masks hold at zero must be zero in few bits too, and those are made once. */
static int check_masks(session *s, graft_error *err) {
    int32_t points, holds = -1;
    const adapt_point *const at = model_points(s->model, &points);
    adapt_mask_report m;
    for (int32_t spec = 0; spec < s->spec_count; spec++)
        for (int32_t n = 0; adapt_masked(s->adapters, spec, n, &m) && !err->code; n++) {
            const base_tensor *const t = at[adapt_site(s->adapters, spec, n)].tensor;
            const char *const name = s->specs[spec].component->name;
            if (!m.all) continue;
            if (model_is_packed_tensor(s->model, t) && !quantize_selects(s->quantizer, t))
                return fail(err, GRAFT_USAGE,
                            "%s at %s: the weight lies packed in the files; a [quantizer] section says how to pack it "
                            "again, or prune the base before it is quantized",
                            name, m.name);
            if (!quantize_selects(s->quantizer, t)) continue;
            if (m.changes)
                return fail(err, GRAFT_USAGE,
                            "%s at %s prunes step by step, but what is packed in few bits is packed once: prune at "
                            "once (every = 0), or leave the [quantizer] out",
                            name, m.name);
            if (holds < 0 && quantize_holds_zeros(s->quantizer, s->device, t, &holds, err)) return err->code;
            if (!holds)
                return fail(err, GRAFT_USAGE,
                            "%s at %s: the [quantizer] does not hold a weight of 0 as 0, so nothing would be pruned; "
                            "use another, or other options of it",
                            name, m.name);
        }
    return err->code;
}

int session_open(const session_request *q, session *out, graft_error *err) {
    *out = (session){0};
    const char *folder = q->model ? q->model : q->recipe ? q->recipe->model.path : "";
    if (!*folder) return fail(err, GRAFT_USAGE, "no model: name a model folder, or set [model] path");
    if (open_device(out, q, err) || model_open(folder, &out->model, err) || pick_activation(out, q, err) ||
        open_quantizer(out, q, err) || make_specs(out, q, err))
        return err->code;
    int32_t tensors;
    const base_tensor *const all = model_tensors(out->model, &tensors);
    if (quantize_prepare(out->quantizer, all, tensors, err)) return err->code;
    if (out->spec_count == 0) return GRAFT_OK;
    int32_t points;
    const adapt_point *at = model_points(out->model, &points);
    if (adapt_bind(out->specs, out->spec_count, at, points, 0, &out->adapters, err)) return err->code;
    for (int32_t n = 0; n < out->spec_count; n++) {
        const char *const name = adapt_component(out->adapters, n)->name;
        const int needs = adapt_needs_quantizer(out->adapters, n), packed = model_is_packed(out->model);
        if (needs && !out->quantizer && !packed)
            return fail(err, GRAFT_USAGE,
                        "%s belongs to a quantized base: add a [quantizer] section, or name its packed folder", name);
        if (needs && packed && !out->starts[n])
            return fail(err, GRAFT_USAGE,
                        "%s begins with what quantizing takes from the weights, but %s is quantized already: name the "
                        "model that it was made from, with a [quantizer]",
                        name, folder);
        if (out->starts[n] && base_digest_check(out->starts[n], folder, err)) return err->code;
    }
    return check_masks(out, err);
}

int session_load(session *s, uint64_t seed, graft_error *err) {
    if (s->adapters && adapt_allocate(s->adapters, s->device, seed, err)) return err->code;
    if (s->adapters && s->quantizer) adapt_set_round_trip(s->adapters, round_trip, s);
    if (model_load(s->model, s->device, s->activation, s->adapters, s->quantizer, err)) return err->code;
    for (int32_t n = 0; n < s->spec_count && !err->code; n++)
        if (s->starts[n] && adapter_folder_check(s->starts[n], s->adapters, n, s->model, err) == GRAFT_OK)
            adapt_load(s->adapters, n, s->starts[n], err);
    if (!err->code && s->spec_count) model_refresh(s->model); /* folders may hold trained base tensors */
    return err->code;
}

void session_close(session *s) {
    adapt_free(s->adapters);
    model_close(s->model);
    quantize_free(s->quantizer);
    if (s->device) s->device->close(s->device);
    if (s->threads) team_destroy(s->threads);
    arena_free(&s->memory);
    *s = (session){0};
}
