/* option — parsing and checking of values against their rows. */
#include "config/option.h"
#include "config/elsewhere.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BYTES = 64, CHOICES_MAX = 64, ROWS_MAX = 512 };

static int64_t field_bytes(int32_t type) {
    switch (type) {
    case GRAFT_INT:
        return sizeof(int64_t);
    case GRAFT_REAL:
        return sizeof(double);
    case GRAFT_BOOL:
    case GRAFT_CHOICE:
        return sizeof(int32_t);
    case GRAFT_TEXT:
    case GRAFT_PATH:
        return sizeof(const char *);
    default:
        return 0;
    }
}

static void *field_of(const graft_option *row, void *into) {
    return (char *)into + row->offset;
}

static const void *field_in(const graft_option *row, const void *from) {
    return (const char *)from + row->offset;
}

int option_is_identifier(const char *word) {
    if (!*word || (*word >= '0' && *word <= '9') || strlen(word) > INI_NAME_MAX) return 0;
    return strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(word);
}

/* ---- words of a CHOICE: "nf4|fp4" ---- */

/* Copies word number `at` of the list; 0 behind the last. */
static int choice_word(const char *list, int at, char word[WORD_BYTES]) {
    for (; at > 0; at--) {
        list = strchr(list, '|');
        if (!list) return 0;
        list++;
    }
    snprintf(word, WORD_BYTES, "%.*s", (int)strcspn(list, "|"), list);
    return 1;
}

static int check_words(const graft_option *row, graft_error *err) {
    char word[WORD_BYTES];
    if (!row->text) return fail(err, GRAFT_FAILED, "option '%s' is a CHOICE without words", row->key);
    int count = 0;
    for (; choice_word(row->text, count, word); count++)
        if (!*word || count == CHOICES_MAX || strlen(word) == WORD_BYTES - 1 || strpbrk(word, " \t;"))
            return fail(err, GRAFT_FAILED, "option '%s': '%s' are no words of a CHOICE; write them as \"nf4|fp4\"",
                        row->key, row->text);
    if (!(row->value >= 0 && row->value < count && row->value == floor(row->value)))
        return fail(err, GRAFT_FAILED, "option '%s': its default %g is no place in '%s'", row->key, row->value,
                    row->text);
    return GRAFT_OK;
}

/* ---- the table itself ---- */

static int check_default(const graft_option *row, graft_error *err) {
    switch (row->type) {
    case GRAFT_BOOL:
        if (row->value == 0 || row->value == 1) return GRAFT_OK;
        return fail(err, GRAFT_FAILED, "option '%s' is a BOOL whose default is %g; 0 and 1 are possible", row->key,
                    row->value);
    case GRAFT_INT:
        if (row->value != floor(row->value) || fabs(row->value) > 0x1p53)
            return fail(err, GRAFT_FAILED, "option '%s' is an INT whose default is %g", row->key, row->value);
        /* fall through */
    case GRAFT_REAL:
        if (isfinite(row->value) && row->low <= row->value && row->value <= row->high) return GRAFT_OK;
        return fail(err, GRAFT_FAILED, "option '%s': its default %.15g is outside its bounds %.15g to %.15g", row->key,
                    row->value, row->low, row->high);
    case GRAFT_CHOICE:
        return check_words(row, err);
    default:
        return GRAFT_OK;
    }
}

static int check_row(const graft_option *rows, int at, int64_t struct_bytes, graft_error *err) {
    const graft_option *const row = &rows[at];
    if (!row->key || !option_is_identifier(row->key))
        return fail(err, GRAFT_FAILED,
                    "option %d has %s'%s' as its key; letters, digits and '_' make one, at most %d of them", at,
                    row->key ? "" : "NULL ", row->key ? row->key : "", INI_NAME_MAX);
    const int64_t bytes = field_bytes(row->type);
    if (bytes == 0 || row->reserved != 0)
        return fail(err, GRAFT_FAILED, "option '%s' has the type %d, which this graft does not know", row->key,
                    row->type);
    if (!row->doc || !*row->doc || strpbrk(row->doc, "\r\n"))
        return fail(err, GRAFT_FAILED, "option '%s' needs a doc of one line", row->key);
    if (row->offset < 0 || row->offset > struct_bytes - bytes || row->offset % bytes != 0)
        return fail(err, GRAFT_FAILED,
                    "option '%s': %lld bytes at offset %lld do not lie in an options struct of %lld bytes", row->key,
                    (long long)bytes, (long long)row->offset, (long long)struct_bytes);
    for (int i = 0; i < at; i++) {
        if (strcmp(rows[i].key, row->key) == 0)
            return fail(err, GRAFT_FAILED, "option '%s' stands twice in its table", row->key);
        if (row->offset < rows[i].offset + field_bytes(rows[i].type) && rows[i].offset < row->offset + bytes)
            return fail(err, GRAFT_FAILED, "options '%s' and '%s' share one field", rows[i].key, row->key);
        if (row->file && rows[i].file && strcmp(row->file, rows[i].file) == 0)
            return fail(err, GRAFT_FAILED, "options '%s' and '%s' share the file key '%s'", rows[i].key, row->key,
                        row->file);
    }
    return check_default(row, err);
}

int option_check(const graft_option *rows, int count, int64_t struct_bytes, graft_error *err) {
    if (count > ROWS_MAX) return fail(err, GRAFT_FAILED, "its %d options are more than %d", count, ROWS_MAX);
    for (int i = 0; i < count; i++)
        if (check_row(rows, i, struct_bytes, err)) return GRAFT_FAILED;
    return GRAFT_OK;
}

void option_defaults(const option_set *set) {
    for (int i = 0; i < set->count; i++) {
        const graft_option *const row = &set->rows[i];
        void *const field = field_of(row, set->into);
        switch (row->type) {
        case GRAFT_INT:
            *(int64_t *)field = (int64_t)row->value;
            break;
        case GRAFT_REAL:
            *(double *)field = row->value;
            break;
        case GRAFT_BOOL:
        case GRAFT_CHOICE:
            *(int32_t *)field = (int32_t)row->value;
            break;
        default:
            *(const char **)field = row->text ? row->text : "";
        }
        set->origins[i] = (option_origin){0};
    }
}

/* ---- values ---- */

/* A finite decimal number; hexadecimal, "inf" and "nan" are none. */
static int read_real(const char *text, double *value) {
    char *end;
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return 0;
    *value = strtod(text, &end);
    return *end == '\0' && isfinite(*value);
}

/* Plain digits exactly; 1e6 and 1024.0 when whole and exact in a double. */
static int read_int(const char *text, int64_t *value) {
    char *end;
    double real;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (end != text && *end == '\0' && *text != ' ') return errno == 0;
    if (!read_real(text, &real) || real != floor(real) || fabs(real) > 0x1p53) return 0;
    *value = (int64_t)real;
    return 1;
}

static int parse_bool(const graft_option *row, const char *text, int32_t *out, graft_error *err) {
    static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
    for (int i = 0; i < 8; i++)
        if (strcmp(text, words[i]) == 0) {
            *out = i & 1;
            return GRAFT_OK;
        }
    return fail(err, GRAFT_USAGE, "%s = %.80s: write yes or no", row->key, text);
}

static int parse_choice(const graft_option *row, const char *text, int32_t *out, graft_error *err) {
    char words[CHOICES_MAX][WORD_BYTES];
    const char *names[CHOICES_MAX];
    int count = 0;
    for (; count < CHOICES_MAX && choice_word(row->text, count, words[count]); count++) {
        names[count] = words[count];
        if (strcmp(text, words[count]) == 0) {
            *out = count;
            return GRAFT_OK;
        }
    }
    const char *const near = nearest_name(text, names, count);
    return fail(err, GRAFT_USAGE, "%s = %.80s: the choices are %s%s%s%s", row->key, text, row->text,
                near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int parse_number(const graft_option *row, const char *text, void *field, graft_error *err) {
    const int whole = row->type == GRAFT_INT;
    int64_t count = 0;
    double value = 0;
    if (whole ? !read_int(text, &count) : !read_real(text, &value))
        return fail(err, GRAFT_USAGE, "%s = %.80s: a %s from %.15g to %.15g is wanted", row->key, text,
                    whole ? "whole number" : "number", row->low, row->high);
    if (whole) value = (double)count;
    if (value < row->low || value > row->high)
        return fail(err, GRAFT_USAGE, "%s = %.80s is outside its bounds %.15g to %.15g", row->key, text, row->low,
                    row->high);
    if (whole)
        *(int64_t *)field = count;
    else
        *(double *)field = value;
    return GRAFT_OK;
}

int option_parse(const graft_option *row, const char *text, void *into, arena *memory, graft_error *err) {
    void *const field = field_of(row, into);
    switch (row->type) {
    case GRAFT_BOOL:
        return parse_bool(row, text, field, err);
    case GRAFT_CHOICE:
        return parse_choice(row, text, field, err);
    case GRAFT_INT:
    case GRAFT_REAL:
        return parse_number(row, text, field, err);
    default:
        *(const char **)field = arena_copy(memory, text, strlen(text));
        return GRAFT_OK;
    }
}

/* ---- a section ---- */

/* The set and the row of a key; NULL when no table has it. */
static const option_set *set_of(const option_set *sets, int set_count, const char *key, int *row) {
    for (int i = 0; i < set_count; i++) {
        *row = option_find(sets[i].rows, sets[i].count, key);
        if (*row >= 0) return &sets[i];
    }
    return NULL;
}

/* A section's name begins with its kind: "adapter", "adapter style". */
static int is_kind(const char *section, const char *kind) {
    const size_t n = strlen(kind);
    return strncmp(section, kind, n) == 0 && (section[n] == 0 || section[n] == ' ');
}

/* What an unknown key is called here: its row is the one of that name in PEFT's files, or it is known from elsewhere, or it
 * belongs into another section, or there is one that is spelled almost like it. */
static void unknown_key(const char *section, const option_set *sets, int set_count, const char *key, option_home *home,
                        strbuf *out) {
    const elsewhere_name *const known = elsewhere_find(key);
    const char *names[2 * ROWS_MAX], *ours = NULL;
    int count = 0, row;
    for (int i = 0; i < set_count; i++)
        for (int j = 0; j < sets[i].count && count < 2 * ROWS_MAX; j++) {
            const graft_option *const option = &sets[i].rows[j];
            names[count++] = option->key;
            if (option->file && strcmp(option->file, key) == 0) ours = option->key;
        }
    if (!ours && known && set_of(sets, set_count, known->ours, &row) && is_kind(section, known->section))
        ours = known->ours;
    const char *const near = nearest_name(key, names, count), *const place = home ? home(key) : NULL;
    strbuf_printf(out, "[%s] has no key '%s'", section, key);
    if (ours)
        strbuf_printf(out, "; here it is '%s'", ours);
    else if (known && !is_kind(section, known->section))
        strbuf_printf(out, "; here it is '%s' in [%s]", known->ours, known->section);
    else if (place)
        strbuf_printf(out, "; here it is '%s' in [%s]", key, place);
    else if (near)
        strbuf_printf(out, "; did you mean '%s'?", near);
}

void option_fill(const ini_file *file, const ini_section *section, const option_set *sets, int set_count, int complete,
                 option_home *home, arena *memory, problems *p) {
    for (int i = 0; i < set_count; i++)
        option_defaults(&sets[i]);
    for (int i = 0; section && i < section->count; i++) {
        const ini_entry *const entry = &section->entries[i];
        int row;
        const option_set *const set = set_of(sets, set_count, entry->key, &row);
        graft_error err = {0};
        if (set && option_parse(&set->rows[row], entry->value, set->into, memory, &err) == GRAFT_OK)
            set->origins[row] = (option_origin){entry->line ? file->path : "--set", entry->line};
        else if (set)
            ini_problem(file, section, entry, p, "[%s] %s", section->name, err.text);
        else if (complete) {
            strbuf text = {0};
            unknown_key(section->name, sets, set_count, entry->key, home, &text);
            ini_problem(file, section, entry, p, "%s", text.text);
            strbuf_free(&text);
        }
    }
}

int option_find(const graft_option *rows, int count, const char *key) {
    for (int i = 0; i < count; i++)
        if (strcmp(rows[i].key, key) == 0) return i;
    return -1;
}

int option_number(const graft_option *row, const void *from, double *value) {
    const void *const field = field_in(row, from);
    switch (row->type) {
    case GRAFT_INT:
        *value = (double)*(const int64_t *)field;
        return 1;
    case GRAFT_REAL:
        *value = *(const double *)field;
        return 1;
    case GRAFT_BOOL:
    case GRAFT_CHOICE:
        *value = *(const int32_t *)field;
        return 1;
    default:
        return 0;
    }
}

const char *option_text(const graft_option *row, const void *from) {
    return *(const char *const *)field_in(row, from);
}

/* The shortest decimal that reads back as `value`. */
static void format_real(double value, strbuf *out) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    strbuf_puts(out, text);
}

void option_format(const graft_option *row, const void *from, strbuf *out) {
    const void *const field = field_in(row, from);
    char word[WORD_BYTES] = "";
    switch (row->type) {
    case GRAFT_INT:
        strbuf_printf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case GRAFT_REAL:
        format_real(*(const double *)field, out);
        break;
    case GRAFT_BOOL:
        strbuf_puts(out, *(const int32_t *)field ? "yes" : "no");
        break;
    case GRAFT_CHOICE:
        choice_word(row->text, *(const int32_t *)field, word);
        strbuf_puts(out, word);
        break;
    default:
        strbuf_puts(out, option_text(row, from));
    }
}

int option_is_set(const option_set *set, const char *key) {
    const int row = option_find(set->rows, set->count, key);
    return row >= 0 && set->origins[row].file != NULL;
}

void option_copy(const graft_option *row, const void *from, void *to) {
    memcpy(field_of(row, to), field_in(row, from), (size_t)field_bytes(row->type));
}
