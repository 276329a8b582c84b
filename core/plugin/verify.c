/* verify — what a component must keep to beyond sizes: names, options, slots, fields, functions. */
#include "config/option.h"
#include "plugin/host.h"
#include <stdio.h>
#include <string.h>

enum { STRUCT_BYTES_MAX = 1 << 20, NAME_MAX_LENGTH = 63 };

static int is_in(const char *word, const char *const *list) {
    for (; *list; list++)
        if (strcmp(word, *list) == 0) return 1;
    return 0;
}

/* ---- names in formulas ---- */

/* Numbers and functions of the notation (CONTRACT section 6), and the tensors that the core itself brings. */
static int is_builtin(plugin_kind kind, const char *name) {
    static const char *const common[] = {
        "rows",   "in",      "out", "layers", "site",  "steps", "step",    "linear", "input",   "onehot", "size",
        "matrix", "lr",      "t",   "sqrt",   "exp",   "log",   "abs",     "sign",   "max",     "min",    "pow",
        "tanh",   "sigmoid", "erf", "cos",    "floor", "round", "uniform", "normal", "mt19937", "sites",  NULL};
    static const char *const adapter[] = {"x", "y", "W", "bias", "dx", "dy", "dW", "dbias", "loss", NULL};
    static const char *const quantizer[] = {"w", NULL};
    static const char *const optimizer[] = {"p", "g", NULL};
    static const char *const none[] = {NULL};
    const char *const *const own = kind == PLUGIN_ADAPTER     ? adapter
                                   : kind == PLUGIN_QUANTIZER ? quantizer
                                   : kind == PLUGIN_OPTIMIZER ? optimizer
                                                              : none;
    return is_in(name, common) || is_in(name, own);
}

static int has_formulas(plugin_kind kind) {
    return kind == PLUGIN_ADAPTER || kind == PLUGIN_QUANTIZER || kind == PLUGIN_OPTIMIZER;
}

static const graft_slot *find_slot(const plugin_component *c, const char *name) {
    for (int32_t i = 0; i < c->slot_count; i++)
        if (strcmp(c->slots[i].name, name) == 0) return &c->slots[i];
    return NULL;
}

/* ---- slots ---- */

static int has_gradient(const graft_slot *slot) {
    return slot->role == GRAFT_PARAM || slot->role == GRAFT_ALIAS || slot->role == GRAFT_KEPT;
}

/* At its sites the technique itself says how many rows there are. */
static int makes_rows(const plugin_component *c) {
    return c->kind == PLUGIN_ADAPTER && (c->adapter.sites & (GRAFT_KV | GRAFT_EMBED));
}

static int verify_slot_name(const plugin_component *c, int32_t at, graft_error *err) {
    const char *const name = c->slots[at].name;
    if (!name || !option_is_identifier(name))
        return fail(err, GRAFT_FAILED, "slot %d has %s%s%s as its name; letters, digits and '_' make one", at,
                    name ? "'" : "", name ? name : "NULL", name ? "'" : "");
    const int own_weight = c->slots[at].role == GRAFT_ALIAS && strcmp(name, "W") == 0; /* it is W */
    const int own_rows = makes_rows(c) && c->slots[at].role == GRAFT_NUMBER && strcmp(name, "rows") == 0;
    if (is_builtin(c->kind, name) && !own_weight && !own_rows)
        return fail(err, GRAFT_FAILED, "slot '%s' has the name of something that the core brings; choose another",
                    name);
    if (option_find(c->options, c->option_count, name) >= 0)
        return fail(err, GRAFT_FAILED, "slot '%s' has the name of an option", name);
    for (int32_t i = 0; i < at; i++)
        if (strcmp(c->slots[i].name, name) == 0)
            return fail(err, GRAFT_FAILED, "slot '%s' stands twice in its table", name);
    return GRAFT_OK;
}

/* `dA` belongs to the gradient of A. */
static int verify_gradient_name(const plugin_component *c, const graft_slot *slot, graft_error *err) {
    char gradient[NAME_MAX_LENGTH + 2];
    snprintf(gradient, sizeof gradient, "d%s", slot->name);
    if (has_gradient(slot) && (find_slot(c, gradient) || option_find(c->options, c->option_count, gradient) >= 0))
        return fail(err, GRAFT_FAILED, "'%s' is the gradient of slot '%s' and cannot be declared", gradient,
                    slot->name);
    return GRAFT_OK;
}

static int verify_role(const plugin_component *c, const graft_slot *slot, graft_error *err) {
    static const char *const stores[] = {"", "u4", "u4-high-first", "i8", "blocks8", NULL};
    static const char *const more[] = {"u2", "u3", "u8", "f16", "bf16", NULL}; /* of quantizers */
    const int32_t role = slot->role, flags = slot->flags;
    const int buffer = role == GRAFT_BUFFER;
    if (role < GRAFT_PARAM || role > GRAFT_NUMBER || (flags & ~(GRAFT_SHARED | GRAFT_UNSIGNED | GRAFT_MASK)))
        return fail(err, GRAFT_FAILED, "slot '%s': this graft does not know role %d with flags %d", slot->name, role,
                    flags);
    if (c->kind != PLUGIN_ADAPTER && !buffer && role != GRAFT_TEMP && role != GRAFT_NUMBER)
        return fail(err, GRAFT_FAILED, "slot '%s': the kind %s has BUFFER, TEMP and NUMBER slots only", slot->name,
                    plugin_kind_word(c->kind));
    if (role == GRAFT_NUMBER ? !slot->init : role != GRAFT_ALIAS && !slot->shape)
        return fail(err, GRAFT_FAILED, "slot '%s' needs %s", slot->name,
                    role == GRAFT_NUMBER ? "a formula" : "a shape");
    if (role == GRAFT_PARAM && !slot->file)
        return fail(err, GRAFT_FAILED, "slot '%s' is trained and needs a name in the file", slot->name);
    if (role == GRAFT_ALIAS && !(c->adapter.sites & GRAFT_TENSOR))
        return fail(err, GRAFT_FAILED, "slot '%s' is an ALIAS, which needs TENSOR sites", slot->name);
    const int quantizes = c->kind == PLUGIN_QUANTIZER;
    const int known =
        is_in(slot->store, stores) || (quantizes && (is_in(slot->store, more) || strncmp(slot->store, "u(", 2) == 0));
    const int rounds = quantizes && role == GRAFT_TEMP && strstr(slot->store, "f16"); /* f16, bf16 */
    if (!known || (*slot->store && !buffer && !rounds))
        return fail(err, GRAFT_FAILED,
                    "slot '%s': store '%s' is not possible; a BUFFER has u4, u4-high-first, i8 or blocks8%s",
                    slot->name, slot->store, quantizes ? ", u2, u3, u8, f16, bf16 or u(OPTION)" : "");
    const int eight = c->kind == PLUGIN_OPTIMIZER || strcmp(slot->store, "blocks8") == 0;
    if ((flags && !buffer) || ((flags & GRAFT_UNSIGNED) && !eight))
        return fail(err, GRAFT_FAILED,
                    "slot '%s': flags belong to BUFFER slots, UNSIGNED to store blocks8 and to optimizers", slot->name);
    if (slot->values && (!buffer || slot->init))
        return fail(err, GRAFT_FAILED, "slot '%s': values belong to a BUFFER without init", slot->name);
    return GRAFT_OK;
}

static int verify_slots(const plugin_component *c, graft_error *err) {
    if (c->slot_count > 0 && !has_formulas(c->kind))
        return fail(err, GRAFT_FAILED, "the kind %s has no slots", plugin_kind_word(c->kind));
    for (int32_t i = 0; i < c->slot_count; i++)
        if (verify_slot_name(c, i, err)) return GRAFT_FAILED;
    for (int32_t i = 0; i < c->slot_count; i++)
        if (verify_gradient_name(c, &c->slots[i], err) || verify_role(c, &c->slots[i], err)) return GRAFT_FAILED;
    return GRAFT_OK;
}

/* ---- options and fields ---- */

static int verify_options(const plugin_component *c, graft_error *err) {
    if (c->config_size < 0 || c->config_size > STRUCT_BYTES_MAX)
        return fail(err, GRAFT_FAILED, "its config_size is %lld; 0 to %d bytes are possible", (long long)c->config_size,
                    STRUCT_BYTES_MAX);
    if (option_check(c->options, c->option_count, c->config_size, err)) return GRAFT_FAILED;
    for (int32_t i = 0; has_formulas(c->kind) && i < c->option_count; i++)
        if (is_builtin(c->kind, c->options[i].key))
            return fail(err, GRAFT_FAILED, "option '%s' has the name of something that the core brings to formulas",
                        c->options[i].key);
    return GRAFT_OK;
}

static int verify_fields(const plugin_component *c, graft_error *err) {
    if (c->field_count > 0 && c->kind != PLUGIN_ADAPTER)
        return fail(err, GRAFT_FAILED, "the kind %s has no fields in adapter_config.json", plugin_kind_word(c->kind));
    for (int32_t i = 0; i < c->field_count; i++) {
        const graft_field *const field = &c->fields[i];
        if (!field->key || !*field->key || !field->value)
            return fail(err, GRAFT_FAILED, "field %d ('%s') needs a key and a value", i,
                        field->key ? field->key : "NULL");
        int same = 0;
        for (int32_t j = 0; j < i; j++)
            same |= strcmp(c->fields[j].key, field->key) == 0;
        for (int32_t j = 0; j < c->option_count; j++)
            same |= c->options[j].file && strcmp(c->options[j].file, field->key) == 0;
        if (same) return fail(err, GRAFT_FAILED, "the file key '%s' is declared twice", field->key);
    }
    return GRAFT_OK;
}

/* ---- functions ---- */

static int fail_function(const plugin_component *c, const char *name, const char *why, graft_error *err) {
    return fail(err, GRAFT_FAILED, "its graft_%s lacks the function `%s`%s", plugin_kind_word(c->kind), name, why);
}

/* low_rank = "A B s H". */
static int verify_low_rank(const plugin_component *c, graft_error *err) {
    char words[4][NAME_MAX_LENGTH + 1], end;
    if (sscanf(c->adapter.low_rank, " %63s %63s %63s %63s %c", words[0], words[1], words[2], words[3], &end) != 4)
        return fail(err, GRAFT_FAILED, "low_rank is '%s'; it names four things, \"A B s H\"", c->adapter.low_rank);
    for (int i = 0; i < 4; i++) {
        const graft_slot *const slot = find_slot(c, words[i]);
        const int number = slot ? slot->role == GRAFT_NUMBER : option_find(c->options, c->option_count, words[i]) >= 0;
        if (i == 2 ? !number : !slot || number || (i == 3 && slot->role != GRAFT_KEPT))
            return fail(err, GRAFT_FAILED, "low_rank is '%s', but '%s' is no %s", c->adapter.low_rank, words[i],
                        i == 2   ? "number"
                        : i == 3 ? "KEPT slot"
                                 : "tensor");
    }
    if (!c->adapter.forward) return fail_function(c, "forward", ", which low_rank says is the textbook", err);
    return GRAFT_OK;
}

static int verify_adapter(const plugin_component *c, graft_error *err) {
    const int32_t known_sites = GRAFT_LINEAR | GRAFT_INPUT | GRAFT_BRANCH | GRAFT_KV | GRAFT_EMBED | GRAFT_TENSOR;
    const int32_t known_flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT | GRAFT_PREPARE_DETACHED;
    const graft_adapter *const a = &c->adapter;
    if (a->sites == 0) return fail(err, GRAFT_FAILED, "it takes no sites");
    if ((a->sites & ~known_sites) || (a->flags & ~known_flags))
        return fail(err, GRAFT_FAILED, "this graft does not know sites %d with flags %d", a->sites, a->flags);
    if (!a->forward && (a->sites & (GRAFT_INPUT | GRAFT_KV | GRAFT_EMBED)))
        return fail_function(c, "forward", ": at its sites nothing else writes y", err);
    if (makes_rows(c) && !find_slot(c, "rows"))
        return fail(err, GRAFT_FAILED, "it makes virtual rows and needs a NUMBER slot `rows`: how many");
    if (a->forward && !a->backward) return fail_function(c, "backward", ", the mirror of forward", err);
    if (a->backward && !a->forward) return fail_function(c, "forward", ", which backward mirrors", err);
    return a->low_rank ? verify_low_rank(c, err) : GRAFT_OK;
}

static int verify_functions(const plugin_component *c, graft_error *err) {
    static const char *const layouts[] = {"codebook4", "rows8", "affine", NULL};
    switch (c->kind) {
    case PLUGIN_ADAPTER:
        return verify_adapter(c, err);
    case PLUGIN_QUANTIZER:
        if (!c->quantizer.quantize) return fail_function(c, "quantize", "", err);
        if (!c->quantizer.dequantize) return fail_function(c, "dequantize", "", err);
        if (c->quantizer.layout && !is_in(c->quantizer.layout, layouts))
            return fail(err, GRAFT_FAILED, "this graft does not know the layout '%s'; NULL is possible",
                        c->quantizer.layout);
        return GRAFT_OK;
    case PLUGIN_OPTIMIZER:
        return c->optimizer.update ? GRAFT_OK : fail_function(c, "update", "", err);
    case PLUGIN_SCHEDULE:
        return c->schedule.factor ? GRAFT_OK : fail_function(c, "factor", "", err);
    case PLUGIN_OBJECTIVE:
        if (!c->objective.loss) return fail_function(c, "loss", "", err);
        if ((c->objective.flags & ~GRAFT_WEIGHTS_KNOWN) || (c->objective.needs & ~1))
            return fail(err, GRAFT_FAILED, "this graft does not know flags %d with needs %d", c->objective.flags,
                        c->objective.needs);
        return GRAFT_OK;
    default:
        if (!c->loader.count) return fail_function(c, "count", "", err);
        return c->loader.get ? GRAFT_OK : fail_function(c, "get", "", err);
    }
}

int plugin_verify(const plugin_component *c, graft_error *err) {
    if (!c->name || !*c->name || strlen(c->name) > NAME_MAX_LENGTH ||
        strspn(c->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != strlen(c->name))
        return fail(err, GRAFT_FAILED, "its name must be letters, digits, '-' and '_', at most %d of them",
                    NAME_MAX_LENGTH);
    if (!c->doc || !*c->doc) return fail(err, GRAFT_FAILED, "it needs a doc of one line");
    if (verify_options(c, err) || verify_slots(c, err) || verify_fields(c, err)) return GRAFT_FAILED;
    return verify_functions(c, err);
}
