/* recipe-show — a recipe as text: where each value came from, and the file that repeats the run. */
#include "base/file.h"
#include "formats/jsontext.h"
#include "run/recipe-private.h"
#include <stdlib.h>
#include <string.h>

/* A key without a default that is not given. */
static int is_missing(const recipe_section *s, const option_set *set, int row) {
    for (int i = 0; i < RECIPE_RULES; i++)
        if (recipe_rules[i].required && set == &s->core && strcmp(recipe_rules[i].name, s->title) == 0 &&
            strcmp(recipe_rules[i].required, set->rows[row].key) == 0)
            return !*option_text(&set->rows[row], set->into);
    return 0;
}

static void put_origin(const recipe_section *s, const option_set *set, int row, strbuf *out) {
    const option_origin *const origin = &set->origins[row];
    if (is_missing(s, set, row))
        strbuf_puts(out, "missing");
    else if (!origin->file)
        strbuf_puts(out, "default");
    else if (origin->line)
        strbuf_printf(out, "%s:%d", origin->file, origin->line);
    else
        strbuf_puts(out, origin->file);
}

/* ---- explain ---- */

static void put_assignment(const option_set *set, int row, strbuf *out) {
    strbuf_printf(out, "%s = ", set->rows[row].key);
    option_format(&set->rows[row], set->into, out);
}

static int line_width(const option_set *set) {
    size_t width = 0;
    for (int i = 0; i < set->count; i++) {
        strbuf line = {0};
        put_assignment(set, i, &line);
        if (line.length > width) width = line.length;
        strbuf_free(&line);
    }
    return (int)width;
}

static void explain_set(const recipe_section *s, const option_set *set, int width, strbuf *out) {
    for (int i = 0; i < set->count; i++) {
        const size_t begin = out->length;
        put_assignment(set, i, out);
        strbuf_printf(out, "%*s  ; ", width - (int)(out->length - begin), "");
        put_origin(s, set, i, out);
        strbuf_puts(out, "\n");
    }
}

static void explain_text(const recipe *r, FILE *to) {
    strbuf out = {0};
    for (int32_t i = 0; i < r->section_count; i++) {
        const recipe_section *const s = &r->sections[i];
        const int core = line_width(&s->core), own = line_width(&s->own), width = core > own ? core : own;
        strbuf_printf(&out, "%s[%s]\n", i ? "\n" : "", s->title);
        explain_set(s, &s->core, width, &out);
        explain_set(s, &s->own, width, &out);
    }
    fwrite(out.text, 1, out.length, to);
    strbuf_free(&out);
}

static json_t *json_of(const graft_option *row, const void *from) {
    double number = 0;
    option_number(row, from, &number);
    if (row->type == GRAFT_REAL) return json_real(number);
    if (row->type == GRAFT_BOOL) return json_boolean(number != 0);
    strbuf text = {0};
    option_format(row, from, &text);
    const char *const word = text.text ? text.text : "";
    json_t *const value = row->type == GRAFT_INT ? json_integer(strtoll(word, NULL, 10)) : json_string(word);
    strbuf_free(&text);
    return value;
}

static void explain_json(const recipe *r, FILE *to) {
    json_t *const all = json_object();
    for (int32_t i = 0; i < r->section_count; i++) {
        const recipe_section *const s = &r->sections[i];
        json_t *const section = json_object();
        for (int at = 0; at < s->core.count + s->own.count; at++) {
            const option_set *const set = at < s->core.count ? &s->core : &s->own;
            const int row = at < s->core.count ? at : at - s->core.count;
            strbuf origin = {0};
            put_origin(s, set, row, &origin);
            json_object_set_new(
                section, set->rows[row].key,
                json_pack("{s:o, s:s}", "value", json_of(&set->rows[row], set->into), "from", origin.text));
            strbuf_free(&origin);
        }
        json_object_set_new(all, s->title, section);
    }
    strbuf out = {0};
    jsontext_add(&out, all, 2);
    fprintf(to, "%s\n", out.text);
    strbuf_free(&out);
    json_decref(all);
}

void recipe_explain(const recipe *r, int as_json, FILE *to) {
    if (as_json)
        explain_json(r, to);
    else
        explain_text(r, to);
}

/* ---- the resolved file ---- */

/* Adds a path, or a list of them, from the root on. */
static void put_absolute(const char *text, int is_list, strbuf *out) {
    for (const char *sep = ""; *text; sep = ", ") {
        text += is_list ? strspn(text, " \t") : 0;
        size_t length = is_list ? strcspn(text, ",") : strlen(text);
        const char *const next = text + length + (text[length] == ',');
        while (is_list && length > 0 && strchr(" \t", text[length - 1]))
            length--;
        char *const path = mem_format("%.*s", (int)length, text), *const absolute = path_absolute(path);
        strbuf_printf(out, "%s%s", sep, absolute);
        free(absolute);
        free(path);
        text = next;
    }
}

/* The value with its path made absolute; a plugin given as a path becomes the file that was opened. */
static void put_resolved(const recipe_section *s, const graft_option *row, const void *from, strbuf *out) {
    strbuf text = {0};
    option_format(row, from, &text);
    const int is_plugin = s->use && s->use->component && from == s->core.into &&
                          (strcmp(row->key, "plugin") == 0 || strcmp(row->key, "loader") == 0);
    const int is_list =
        from == s->core.into && strcmp(s->title, "data") == 0; /* the section whose paths may be several */
    if (is_plugin && strchr(text.text, '/'))
        put_absolute(s->use->component->file, 0, out);
    else if (row->type == GRAFT_PATH && text.length > 0)
        put_absolute(text.text, is_list, out);
    else
        strbuf_puts(out, text.text ? text.text : "");
    strbuf_free(&text);
}

static int put_set(const recipe_section *s, const option_set *set, strbuf *out, graft_error *err) {
    for (int i = 0; i < set->count; i++) {
        strbuf_printf(out, "%s = ", set->rows[i].key);
        const size_t begin = out->length;
        put_resolved(s, &set->rows[i], set->into, out);
        const char *const value = out->text + begin;
        if (strpbrk(value, "\r\n") || strstr(value, " ;") || strstr(value, "\t;"))
            return fail(err, GRAFT_FAILED, "[%s] %s: '%s' cannot stand in an INI file; rename the folder", s->title,
                        set->rows[i].key, value);
        strbuf_puts(out, "\n");
    }
    return GRAFT_OK;
}

int recipe_write_quantizer(const recipe *r, const char *path, graft_error *err) {
    strbuf out = {0};
    strbuf_puts(&out, "; how the base of this adapter was quantized in training: graft reads it beside the adapter\n"
                      "[quantizer]\n");
    for (int32_t i = 0; i < r->section_count && !err->code; i++) {
        const recipe_section *const s = &r->sections[i];
        if (s->use != &r->quantizer.use) continue;
        if (put_set(s, &s->core, &out, err) == GRAFT_OK) put_set(s, &s->own, &out, err);
    }
    if (!err->code) file_write(path, out.text, (int64_t)out.length, err);
    strbuf_free(&out);
    return err->code;
}

int recipe_write_resolved(const recipe *r, const char *path, graft_error *err) {
    strbuf out = {0};
    int rc = GRAFT_OK;
    strbuf_printf(&out, "; every setting of this run, written by graft %s\n", GRAFT_VERSION);
    for (int32_t i = 0; i < r->section_count && rc == GRAFT_OK; i++) {
        const recipe_section *const s = &r->sections[i];
        strbuf_printf(&out, "\n[%s]\n", s->title);
        rc = put_set(s, &s->core, &out, err);
        if (rc == GRAFT_OK) rc = put_set(s, &s->own, &out, err);
    }
    if (rc == GRAFT_OK) rc = file_write(path, out.text, (int64_t)out.length, err);
    strbuf_free(&out);
    return rc;
}
