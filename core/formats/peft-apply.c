/* peft-apply — the technique's part of adapter_config.json: each key is known, harmless or refused. */
#include "formats/jsontext.h"
#include "formats/peft-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const peft_config *config;
    const peft_table *table;
    const json_t *defaults; /* PEFT's, of the file's type */
    void *into;
    uint8_t *given;
    arena *memory;
} task;

/* A value for a message, cut after 60 characters; owned by the caller. */
static char *show(const json_t *value) {
    strbuf text = {0};
    json_t *const own = json_deep_copy(value);
    jsontext_add(&text, own, 0);
    json_decref(own);
    char *const shown = mem_format("%.60s%s", text.text, text.length > 60 ? "..." : "");
    strbuf_free(&text);
    return shown;
}

/* ---- fields ---- */

/* Ways to begin that leave the base as it is: once there are tensors they all mean the same. */
static int begins_harmlessly(const json_t *init) {
    static const char *const words[] = {"gaussian", "eva", "orthogonal", "mica"};
    if (json_is_boolean(init) || json_is_null(init)) return 1;
    for (size_t i = 0; json_is_string(init) && i < sizeof words / sizeof *words; i++)
        if (strcmp(json_string_value(init), words[i]) == 0) return 1;
    return 0;
}

static int same_value(const char *key, const json_t *wanted, const json_t *found) {
    if (peft_is_empty(wanted) && peft_is_empty(found)) return 1;
    if (json_is_number(wanted) && json_is_number(found)) return json_number_value(wanted) == json_number_value(found);
    if (strcmp(key, "init_lora_weights") == 0 && begins_harmlessly(wanted) && begins_harmlessly(found)) return 1;
    return json_equal(wanted, found);
}

/* 1 when the value is what the field wants. Absent (NULL) is PEFT's default; unknown types have none. */
static int field_matches(const peft_config *c, const json_t *defaults, const graft_field *field, const json_t *value) {
    if (strcmp(field->value, "*") == 0) return 1;
    if (strcmp(field->key, "peft_type") == 0) return strcmp(field->value, c->type) == 0;
    if (!value) value = peft_member(defaults, field->key);
    if (!value) return 1;
    json_t *const wanted = peft_value(field->value);
    const int same = same_value(field->key, wanted, value);
    json_decref(wanted);
    return same;
}

static const graft_field *field_of(const peft_table *t, const char *key) {
    for (int32_t i = 0; i < t->field_count; i++)
        if (strcmp(t->fields[i].key, key) == 0) return &t->fields[i];
    return NULL;
}

static int check_field(const task *k, const graft_field *field, const json_t *value, graft_error *err) {
    if (field_matches(k->config, k->defaults, field, value)) return GRAFT_OK;
    char *const shown = value ? show(value) : mem_copy_text("missing");
    fail(err, GRAFT_FAILED, "%s: \"%s\" is %s; adapter %s is the one with %s", k->config->path, field->key, shown,
         k->table->name, field->value);
    free(shown);
    return GRAFT_FAILED;
}

int peft_config_suits(const peft_config *c, const peft_table *table) {
    json_t *const defaults = peft_defaults(c->type);
    int suits = 1;
    for (int32_t i = 0; i < table->field_count && suits; i++)
        suits = field_matches(c, defaults, &table->fields[i], peft_member(c->file, table->fields[i].key));
    json_decref(defaults);
    return suits;
}

/* ---- options ---- */

static int refuse_value(const task *k, const graft_option *row, const json_t *value, const char *wanted,
                        graft_error *err) {
    char *const shown = show(value);
    if (row->type == GRAFT_INT || row->type == GRAFT_REAL)
        fail(err, GRAFT_FAILED, "%s: \"%s\" is %s; it must be a %s from %.15g to %.15g", k->config->path, row->file,
             shown, wanted, row->low, row->high);
    else
        fail(err, GRAFT_FAILED, "%s: \"%s\" is %s; it must be %s", k->config->path, row->file, shown, wanted);
    free(shown);
    return GRAFT_FAILED;
}

/* The place of a word in "nf4|fp4"; -1 when it is not there. */
static int32_t choice_of(const char *words, const char *word) {
    const size_t length = strlen(word);
    for (int32_t i = 0;; i++) {
        const size_t here = strcspn(words, "|");
        if (here == length && strncmp(words, word, length) == 0) return i;
        if (!words[here]) return -1;
        words += here + 1;
    }
}

/* A text, or a list of texts with commas between them; where PEFT has a list, its single text is an expression. */
static int set_text(const task *k, const graft_option *row, const json_t *value, const char **out, graft_error *err) {
    strbuf text = {0};
    if (json_is_string(value) && json_is_array(peft_member(k->defaults, row->file)))
        return refuse_value(k, row, value, "a list of names", err);
    const size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count; i++) {
        const char *const word = json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
        if (!word) {
            strbuf_free(&text);
            return refuse_value(k, row, value, "a text or a list of texts", err);
        }
        strbuf_printf(&text, "%s%s", i ? ", " : "", word);
    }
    *out = arena_copy(k->memory, text.text ? text.text : "", text.length);
    strbuf_free(&text);
    return GRAFT_OK;
}

static int set_option(const task *k, int32_t at, const json_t *value, graft_error *err) {
    const graft_option *const row = &k->table->options[at];
    char *const field = (char *)k->into + row->offset;
    const double number = json_number_value(value);
    const int fits = json_is_number(value) && number >= row->low && number <= row->high;
    int32_t choice;
    if (k->given) k->given[at] = 1;
    switch (row->type) {
    case GRAFT_INT:
        if (!fits || number != floor(number) || fabs(number) > 0x1p53)
            return refuse_value(k, row, value, "whole number", err);
        *(int64_t *)(void *)field = (int64_t)number;
        return GRAFT_OK;
    case GRAFT_REAL:
        if (!fits) return refuse_value(k, row, value, "number", err);
        *(double *)(void *)field = number;
        return GRAFT_OK;
    case GRAFT_BOOL:
        if (!json_is_boolean(value) && !json_is_null(value)) return refuse_value(k, row, value, "true or false", err);
        *(int32_t *)(void *)field = json_is_true(value); /* null counts as false, as in PEFT */
        return GRAFT_OK;
    case GRAFT_CHOICE:
        choice = json_is_string(value) ? choice_of(row->text, json_string_value(value)) : -1;
        if (choice < 0) return refuse_value(k, row, value, row->text, err);
        *(int32_t *)(void *)field = choice;
        return GRAFT_OK;
    default:
        return set_text(k, row, value, (const char **)(void *)field, err);
    }
}

static int32_t option_of(const peft_table *t, const char *key) {
    for (int32_t i = 0; i < t->option_count; i++)
        if (t->options[i].file && strcmp(t->options[i].file, key) == 0) return i;
    return -1;
}

/* ---- keys ---- */

static int is_core_key(const peft_config *c, const char *key) {
    static const char *const keys[] = {
        "peft_type",           "task_type",      "inference_mode", "base_model_name_or_path", "revision",
        "peft_version",        "auto_mapping",   "runtime_config", "target_modules",          "exclude_modules",
        "layers_to_transform", "layers_pattern", "bias",           "modules_to_save",         "rank_pattern",
        "alpha_pattern",       "fan_in_fan_out"};
    static const char *const hub_keys[] = {"hidden_size", "model_class", "model_name", "model_type", "name", "version"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return 1;
    for (size_t i = 0; strcmp(c->type, "ADAPTER_HUB") == 0 && i < sizeof hub_keys / sizeof *hub_keys; i++)
        if (strcmp(key, hub_keys[i]) == 0) return 1;
    return 0;
}

/* Keys that say how an adapter began, which init_lora_weights has said, or how large something unused is. */
static int is_harmless_key(const char *key) {
    static const char *const keys[] = {"loftq_config",   "eva_config",        "corda_config",
                                       "lora_ga_config", "qalora_group_size", "megatron_core"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return 1;
    return strstr(key, "dropout") != NULL;
}

/* 1 when the table has rows for members of the object called `key`. */
static int has_members(const peft_table *t, const char *key) {
    const size_t length = strlen(key);
    for (int32_t i = 0; i < t->field_count; i++)
        if (strncmp(t->fields[i].key, key, length) == 0 && t->fields[i].key[length] == '.') return 1;
    for (int32_t i = 0; i < t->option_count; i++) {
        const char *const file = t->options[i].file;
        if (file && strncmp(file, key, length) == 0 && file[length] == '.') return 1;
    }
    return 0;
}

static int check_key(const task *k, const char *key, json_t *value, int depth, graft_error *err);

static int check_members(const task *k, const char *key, json_t *object, graft_error *err) {
    const char *name;
    json_t *member;
    int rc = GRAFT_OK;
    json_object_foreach(object, name, member) {
        char *const path = mem_format("%s.%s", key, name);
        if (rc == GRAFT_OK) rc = check_key(k, path, member, 1, err);
        free(path);
    }
    return rc;
}

/* Null is no number, unless it is PEFT's default; for a switch it is off. */
static int needs_value(const graft_option *row, const json_t *standard) {
    const int number = row->type == GRAFT_INT || row->type == GRAFT_REAL;
    return row->type == GRAFT_BOOL || (number && !json_is_null(standard));
}

static int check_key(const task *k, const char *key, json_t *value, int depth, graft_error *err) {
    const graft_field *const field = field_of(k->table, key);
    const int32_t option = option_of(k->table, key);
    if (field) return check_field(k, field, value, err);
    const json_t *const standard = peft_member(k->defaults, key);
    if (option >= 0 && (!json_is_null(value) || needs_value(&k->table->options[option], standard)))
        return set_option(k, option, value, err);
    if (json_is_null(value) || (depth == 0 && is_core_key(k->config, key))) return GRAFT_OK;
    /* where it is on by default, off says something; where PEFT's default is null, {} turns it on */
    const int turns_on = json_is_object(value) && json_is_null(standard);
    if (peft_is_empty(value) && peft_is_empty(standard) && !turns_on) return GRAFT_OK;
    if (depth == 0 && json_is_object(value) && has_members(k->table, key)) return check_members(k, key, value, err);
    if (is_harmless_key(key) || (standard && !turns_on && same_value(key, standard, value))) return GRAFT_OK;
    char *const shown = show(value);
    fail(err, GRAFT_FAILED,
         "%s: \"%s\" is %s, which adapter %s does not know; without it the result would be another one",
         k->config->path, key, shown, k->table->name);
    free(shown);
    return GRAFT_FAILED;
}

/* Rows whose key the file lacks: PEFT's default holds. */
static int check_absent(const task *k, graft_error *err) {
    int rc = GRAFT_OK;
    for (int32_t i = 0; i < k->table->field_count && rc == GRAFT_OK; i++)
        if (!peft_member(k->config->file, k->table->fields[i].key))
            rc = check_field(k, &k->table->fields[i], NULL, err);
    for (int32_t i = 0; i < k->table->option_count && rc == GRAFT_OK; i++) {
        const char *const key = k->table->options[i].file;
        const json_t *const value = key ? peft_member(k->config->file, key) : NULL;
        const json_t *const standard = key ? peft_member(k->defaults, key) : NULL;
        const int left_open = !value || (json_is_null(value) && !needs_value(&k->table->options[i], standard));
        if (key && left_open && standard && !json_is_null(standard)) rc = set_option(k, i, standard, err);
    }
    return rc;
}

int peft_config_apply(const peft_config *c, const peft_table *table, void *into, uint8_t *given, arena *memory,
                      graft_error *err) {
    json_t *const defaults = peft_defaults(c->type);
    const task k = {c, table, defaults, into, given, memory};
    const char *key;
    json_t *value;
    int rc = GRAFT_OK;
    if (given) memset(given, 0, (size_t)table->option_count);
    json_object_foreach(c->file, key, value) {
        if (rc == GRAFT_OK) rc = check_key(&k, key, value, 0, err);
    }
    if (rc == GRAFT_OK) rc = check_absent(&k, err);
    json_decref(defaults);
    return rc;
}
