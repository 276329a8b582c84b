/* peft-write — adapter_config.json in PEFT's own words (or AdapterHub's), and the model card beside it. */
#include "base/file.h"
#include "formats/jsontext.h"
#include "formats/peft-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the core's keys ---- */

static json_t *text_or_null(const char *text) {
    return text && *text ? json_string(text) : json_null();
}

static int by_text(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* A list of names, sorted (PEFT holds a set, whose order means nothing); null when there is none. */
static json_t *names_or_null(const char *const *names, int32_t count) {
    if (count == 0) return json_null();
    const char **const sorted = mem_new((size_t)count, sizeof *sorted);
    json_t *const list = json_array();
    memcpy(sorted, names, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_text);
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(sorted[i]));
    free(sorted);
    return list;
}

/* A whole number as one, or as a real where PEFT's own value is a real. */
static json_t *number(double value, const json_t *standard) {
    return value == floor(value) && fabs(value) < 0x1p53 && !json_is_real(standard) ? json_integer((json_int_t)value)
                                                                                    : json_real(value);
}

static json_t *patterns(const char *const *names, const double *values, int32_t count) {
    json_t *const object = json_object();
    for (int32_t i = 0; i < count; i++)
        json_object_set_new(object, names[i], number(values[i], NULL));
    return object;
}

static json_t *masks(const peft_kept *kept, int32_t count) {
    json_t *const object = json_object();
    for (int32_t k = 0; k < count; k++) {
        json_t *const list = json_array();
        for (int64_t i = 0; i < kept[k].count; i++)
            json_array_append_new(list, json_boolean(kept[k].mask[i]));
        json_object_set_new(object, kept[k].name, list);
    }
    return object;
}

static json_t *targets_of(const targets_list *t) {
    if (t->regex) return json_string(t->regex);
    if (t->count == 1 && strcmp(t->names[0], "all-linear") == 0) return json_string("all-linear");
    return names_or_null(t->names, t->count);
}

/* What says nothing stays at PEFT's default, in PEFT's own spelling; what PEFT's type does not have is left out. */
static void put_core(json_t *root, int open, const char *key, json_t *value) {
    if (peft_is_empty(value) || !(open || json_object_get(root, key)))
        json_decref(value);
    else
        json_object_set_new(root, key, value);
}

/* open: the type is not PEFT's and may have any of them. */
static void put_core_keys(json_t *root, const peft_config *c, int open) {
    const targets_list *const t = &c->targets;
    json_t *layers = t->layer_count ? json_array() : json_null();
    for (int32_t i = 0; i < t->layer_count; i++)
        json_array_append_new(layers, json_integer(t->layers[i]));
    put_core(root, open, "task_type", json_string(c->task_type && *c->task_type ? c->task_type : "CAUSAL_LM"));
    put_core(root, open, "base_model_name_or_path", text_or_null(c->base_model));
    put_core(root, open, "revision", text_or_null(c->revision));
    put_core(root, open, "target_modules", targets_of(t));
    put_core(root, open, "exclude_modules",
             t->exclude_regex ? json_string(t->exclude_regex) : names_or_null(t->exclude, t->exclude_count));
    put_core(root, open, "layers_to_transform", layers);
    put_core(root, open, "layers_pattern", names_or_null(t->layers_patterns, t->layers_pattern_count));
    put_core(root, open, "modules_to_save", names_or_null(c->modules_to_save, c->modules_to_save_count));
    put_core(root, open, "fan_in_fan_out", json_boolean(c->fan_in_fan_out));
    if (c->bias && strcmp(c->bias, "none") != 0) put_core(root, open, "bias", json_string(c->bias));
    put_core(root, open, "rank_pattern",
             c->kept_count ? masks(c->kept, c->kept_count)
                           : patterns(c->rank_patterns, c->ranks, c->rank_pattern_count));
    put_core(root, open, "alpha_pattern", patterns(c->alpha_patterns, c->alphas, c->alpha_pattern_count));
}

/* ---- the technique's keys ---- */

/* "a, b" as a list of words. */
static json_t *split(const char *text) {
    json_t *const list = json_array();
    for (const char *at = text + strspn(text, ", "); *at; at += strspn(at, ", ")) {
        const size_t length = strcspn(at, ", ");
        json_array_append_new(list, json_stringn(at, length));
        at += length;
    }
    return list;
}

static json_t *choice(const char *words, int32_t at) {
    for (; at > 0 && strchr(words, '|'); at--)
        words = strchr(words, '|') + 1;
    return json_stringn(words, strcspn(words, "|"));
}

static json_t *option_value(const graft_option *row, const void *config, const json_t *standard) {
    const char *const field = (const char *)config + row->offset;
    const char *text;
    switch (row->type) {
    case GRAFT_INT:
        return json_integer(*(const int64_t *)(const void *)field);
    case GRAFT_REAL:
        return number(*(const double *)(const void *)field, standard);
    case GRAFT_BOOL:
        return json_boolean(*(const int32_t *)(const void *)field);
    case GRAFT_CHOICE:
        return choice(row->text, *(const int32_t *)(const void *)field);
    default:
        text = *(const char *const *)(const void *)field;
        return json_is_array(standard) ? split(text) : text_or_null(text);
    }
}

static const char *type_of(const peft_table *t) {
    for (int32_t i = 0; i < t->field_count; i++)
        if (strcmp(t->fields[i].key, "peft_type") == 0) return t->fields[i].value;
    return "";
}

/* What is known about the base model, where the type has a key for it. */
static void put_facts(json_t *root, json_t *facts) {
    const char *key;
    json_t *value;
    json_object_foreach(facts, key, value) {
        if (json_object_get(root, key)) json_object_set(root, key, value);
    }
}

static void put_fields(json_t *root, const peft_table *table, int hub) {
    for (int32_t i = 0; i < table->field_count; i++) {
        const graft_field *const field = &table->fields[i];
        if (strcmp(field->value, "*") != 0 && !(hub && strcmp(field->key, "peft_type") == 0))
            peft_put(root, field->key, peft_value(field->value));
    }
}

int peft_config_write(const char *folder, const peft_config *c, const peft_table *table, const void *config,
                      graft_error *err) {
    json_t *const root = peft_defaults(type_of(table));
    const int hub = strcmp(type_of(table), "ADAPTER_HUB") == 0;
    strbuf text = {0};
    if (hub && c->name && *c->name) peft_put(root, "name", json_string(c->name));
    if (!hub) put_core_keys(root, c, !peft_knows(type_of(table)));
    put_facts(root, c->facts);
    for (int32_t i = 0; i < table->option_count; i++) {
        const graft_option *const row = &table->options[i];
        if (row->file) peft_put(root, row->file, option_value(row, config, peft_member(root, row->file)));
    }
    put_fields(root, table, hub);
    json_t *const sorted = jsontext_sorted(root);
    jsontext_add(&text, sorted, 2);
    char *const path = path_join(folder, "adapter_config.json");
    const int rc = file_write(path, text.text, (int64_t)text.length, err);
    free(path);
    strbuf_free(&text);
    json_decref(sorted);
    json_decref(root);
    return rc;
}

/* ---- the model card ---- */

int peft_card_write(const char *folder, const peft_card *card, graft_error *err) {
    strbuf text = {0};
    strbuf_puts(&text, "---\n");
    if (*card->base_model) {
        strbuf_puts(&text, "base_model: ");
        jsontext_quote(&text, card->base_model, 0);
        strbuf_puts(&text, "\n");
    }
    strbuf_printf(&text, "library_name: peft\npipeline_tag: text-generation\ntags:\n- graft\n- %s\n---\n\n# An adapter",
                  card->technique);
    if (*card->base_model) strbuf_printf(&text, " for %s", card->base_model);
    strbuf_printf(&text, "\n\nTrained with graft. Technique: `%s`", card->technique);
    if (*card->doc) strbuf_printf(&text, ", %s", card->doc);
    if (*card->paper) strbuf_printf(&text, " (%s)", card->paper);
    strbuf_puts(&text, ".\n");
    if (card->fact_count) strbuf_puts(&text, "\n```ini\n");
    for (int32_t i = 0; i < card->fact_count; i++)
        strbuf_printf(&text, "%s\n", card->facts[i]);
    if (card->fact_count) strbuf_puts(&text, "```\n");
    strbuf_puts(&text, "\nLoad it in Python with `peft.PeftModel.from_pretrained(base, FOLDER)`, or in graft with\n"
                       "`graft generate MODEL --adapter FOLDER`.\n");
    char *const path = path_join(folder, "README.md");
    const int rc = file_write(path, text.text, (int64_t)text.length, err);
    free(path);
    strbuf_free(&text);
    return rc;
}
