/* source — pieces and fields of a data file, each read when a loader asks for it. */
#include "text/source.h"
#include "base/json.h"
#include "text/cutting.h"
#include "text/table.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

enum { BYTES_MOST = 0x7FFFFFFF, NAMES_SHOWN = 160, PATH_MOST = 255, HANDED_MOST = 32 };

/* A text that the loader was given of the record, and the field that it comes from. */
typedef struct {
    const char *text;
    int32_t field;
} handed;

struct source {
    graft_source face; /* first: what the loader holds is this struct */
    const graft_loader *loader;
    datafile file;
    int damage_told;
    graft_error damage;           /* the first place of the file that is no text; code 0: it is text throughout */
    int64_t line_at, line_number; /* a place whose line is known, so that it need not be counted from the start again */
    cutting pieces;
    int json_lines; /* the unit that was asked for is JSON */
    int64_t count;
    char *all; /* the bytes of the file, once somebody asked */

    int64_t held; /* the piece in `text`, -1: none */
    char *text;
    int64_t length, capacity;
    int64_t parsed; /* the piece in `json`, -1: none */
    json_t *json;
    json_t *names; /* of the fields of a table; NULL: it is none */
    arena values;  /* JSON texts handed out for it */

    int64_t asked;     /* the last piece that was looked at, -1: none in this call */
    int missed;        /* whether a field was looked for in vain */
    text_record *into; /* of the call; NULL in count() */
    graft_error error;

    field_report *report; /* NULL: nobody wants to know */
    field_kind kind;      /* of the record */
    handed handed[HANDED_MOST];
    int handed_count;
};

void record_free(text_record *r) {
    strbuf_free(&r->text);
    free(r->parts);
    *r = (text_record){0};
}

/* ---- errors ---- */

/* The line of a place, 0: it cannot be read. */
static int64_t line_of(source *s, int64_t at) {
    const int64_t from = s->line_number > 0 && s->line_at <= at ? s->line_at : 0;
    const int64_t lines = datafile_lines(&s->file, from, at);
    if (lines < 0) return 0;
    s->line_number = (from > 0 ? s->line_number : 1) + lines;
    s->line_at = at;
    return s->line_number;
}

/* The first error of a call sticks. It stands at the piece that was asked for last. */
static void say(source *s, int64_t lines_below, const char *text) {
    if (s->error.code) return;
    const int64_t line = s->asked >= 0 ? line_of(s, s->pieces.at[s->asked]) : 0;
    if (line > 0)
        fail(&s->error, GRAFT_FAILED, "%s:%lld: %s", s->file.path, (long long)(line + lines_below), text);
    else
        fail(&s->error, GRAFT_FAILED, "%s: %s", s->file.path, text);
}

/* The names of the fields that are there, for somebody who looked for others. */
static void add_names(const source *s, strbuf *to) {
    const char *name;
    json_t *value;
    int shown = 0;
    const size_t begin = to->length;
    json_object_foreach(s->json, name, value) {
        if (to->length - begin + strlen(name) > NAMES_SHOWN) {
            strbuf_puts(to, ", ...");
            break;
        }
        strbuf_printf(to, "%s%s", shown++ ? ", " : "; it has ", name);
    }
}

static void service_fail(graft_source *face, const char *why) {
    source *const s = (source *)face;
    strbuf text = {0};
    strbuf_puts(&text, why && *why ? why : "the loader refuses this record without saying why");
    if (s->missed && s->parsed >= 0 && s->parsed == s->asked) add_names(s, &text);
    say(s, 0, text.text);
    strbuf_free(&text);
}

/* ---- pieces ---- */

static const char *service_bytes(graft_source *face, int64_t *count) {
    source *const s = (source *)face;
    *count = 0;
    const int64_t size = s->file.size - s->file.begin;
    if (s->error.code) return NULL;
    if (size > BYTES_MOST) {
        say(s, 0, "it is too large to be held in memory as a whole (at most 2 GiB)");
        return NULL;
    }
    if (s->damage.code) {
        fail(&s->error, s->damage.code, "%s", s->damage.text);
        return NULL;
    }
    if (!s->all) {
        s->all = mem_new((size_t)size + 1, 1);
        if (datafile_read(&s->file, s->file.begin, size, s->all, &s->error)) {
            free(s->all);
            return s->all = NULL;
        }
    }
    *count = size;
    return s->all;
}

/* Whether bytes of the file are text. The message about the first damage of the file is the exact one. */
static int check_piece(source *s, const char *text, int64_t length) {
    if (utf8_valid(text, length) == length && !(s->damage.code && memchr(text, '\0', (size_t)length))) return GRAFT_OK;
    if (!s->damage.code) return fail(&s->error, GRAFT_FAILED, "%s was changed while it is in use", s->file.path);
    if (s->damage_told)
        say(s, 0, "this is no UTF-8 text");
    else
        fail(&s->error, s->damage.code, "%s", s->damage.text);
    s->damage_told = 1;
    return s->error.code;
}

/* The first row of a table. */
static void read_names(source *s) {
    const int64_t at = s->pieces.header_begin;
    int64_t length = s->pieces.header_end - at;
    if (length == 0) return; /* an empty file */
    if (length > SOURCE_PIECE_MOST) {
        say(s, 0, "the first row of the table is larger than 64 MiB");
        return;
    }
    char *const text = mem_new((size_t)length + 1, 1);
    if (datafile_read(&s->file, at, length, text, &s->error) == GRAFT_OK && check_piece(s, text, length) == GRAFT_OK) {
        while (length > 0 && text[length - 1] == '\r')
            length--;
        s->names = table_row(text, length, s->pieces.delimiter);
        json_t *const seen = json_object();
        for (size_t i = 0; i < json_array_size(s->names); i++) {
            const char *const name = json_string_value(json_array_get(s->names, i));
            if (!name)
                say(s, 0, "the first row of a table names the fields, and one has no name");
            else if (json_object_get(seen, name))
                say(s, 0, "the first row of the table names two fields alike");
            else
                json_object_set_new(seen, name, json_true());
        }
        json_decref(seen);
    }
    free(text);
}

static int64_t service_records(graft_source *face, int32_t unit) {
    source *const s = (source *)face;
    if (s->error.code) return 0;
    if (s->into) {
        say(s, 0, "the loader cuts the file outside of its count()");
    } else if (unit < GRAFT_UNIT_JSON || unit > GRAFT_UNIT_FILE) {
        say(s, 0, "the loader cuts the file into units that this graft does not know");
    } else {
        cutting_free(&s->pieces);
        s->held = s->parsed = -1;
        json_decref(s->names);
        s->names = NULL;
        s->json_lines = unit == GRAFT_UNIT_JSON;
        if (cutting_make(&s->file, unit, &s->pieces, &s->error) == GRAFT_OK && s->pieces.delimiter) read_names(s);
    }
    return s->error.code ? 0 : s->pieces.count;
}

/* Reads piece i into s->text. */
static int hold(source *s, int64_t i) {
    if (s->error.code) return s->error.code;
    if (i < 0 || i >= s->pieces.count)
        return fail(&s->error, GRAFT_FAILED, "%s: the loader asks for piece %lld of %lld", s->file.path, (long long)i,
                    (long long)s->pieces.count);
    s->asked = i;
    if (s->held == i) return GRAFT_OK;
    const int64_t at = s->pieces.at[i], size = s->pieces.at[i + 1] - at;
    if (size > SOURCE_PIECE_MOST) {
        say(s, 0, "the piece that begins here is larger than 64 MiB; cut the file into smaller ones");
        return s->error.code;
    }
    s->held = -1;
    if (s->capacity < size + 1) {
        s->capacity = size + size / 2 + 1;
        s->text = mem_grow(s->text, (size_t)s->capacity, 1);
    }
    if (datafile_read(&s->file, at, size, s->text, &s->error)) return s->error.code;
    if (check_piece(s, s->text, size)) return s->error.code;
    s->length = cutting_trim(&s->pieces, i, s->text);
    s->text[s->length] = '\0';
    s->held = i;
    return GRAFT_OK;
}

static const char *service_record(graft_source *face, int64_t i, int64_t *count) {
    source *const s = (source *)face;
    *count = 0;
    if (hold(s, i)) return NULL;
    *count = s->length;
    return s->text;
}

/* ---- fields ---- */

/* Parses piece i. Duplicate names are as in Python: the last one counts. Whole numbers beyond 64 bits become reals. */
static int parse(source *s, int64_t i) {
    if (hold(s, i)) return s->error.code;
    if (s->parsed == i) return GRAFT_OK;
    json_decref(s->json);
    s->json = NULL;
    arena_free(&s->values);
    s->parsed = -1;
    if (s->names) {
        graft_error why = {0};
        if (table_record(s->names, s->text, s->length, s->pieces.delimiter, &s->json, &why))
            say(s, 0, why.text);
        else
            s->parsed = i;
        return s->error.code;
    }
    const size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY;
    json_error_t where;
    s->json = json_loadb(s->text, (size_t)s->length, flags, &where);
    if (!s->json && json_error_code(&where) == json_error_numeric_overflow)
        s->json = json_loadb(s->text, (size_t)s->length, flags | JSON_DECODE_INT_AS_REAL, &where);
    if (s->json) {
        s->parsed = i;
        return GRAFT_OK;
    }
    char text[sizeof where.text + 80];
    snprintf(text, sizeof text, "not valid JSON at column %d: %s%s", where.column, where.text,
             s->pieces.unit == GRAFT_UNIT_JSON ? "" : " (a file holds one array, or one JSON value a line)");
    say(s, where.line > 1 ? where.line - 1 : 0, text);
    return s->error.code;
}

/* "a.b.0": the member of that whole name if there is one, else of what stands before a dot, and so on. */
static json_t *descend(json_t *value, const char *path) {
    char name[PATH_MOST + 1];
    const size_t length = strlen(path);
    if (length > PATH_MOST) return NULL;
    memcpy(name, path, length + 1);
    for (size_t n = length; n > 0; n--) {
        if (n < length && path[n] != '.') continue;
        name[n] = '\0';
        json_t *next = NULL;
        if (json_is_object(value)) next = json_object_get(value, name);
        if (json_is_array(value) && n < 10 && strspn(name, "0123456789") == n)
            next = json_array_get(value, strtoul(name, NULL, 10));
        if (next && n < length) next = descend(next, path + n + 1);
        if (next) return next;
    }
    return NULL;
}

/* The value as JSON, reals with as many digits as read back. */
static char *dump(source *s, json_t *value) {
    char *text = NULL;
    for (size_t digits = 15; digits <= 17; digits++) {
        free(text);
        text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        json_t *const again = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
        const int equal = again && json_equal(again, value);
        json_decref(again);
        if (equal) break;
    }
    char *const kept = text ? arena_copy(&s->values, text, strlen(text)) : NULL;
    free(text);
    return kept;
}

/* Notes that the loader has the text of a field, to know it again in service_add. */
static const char *hand_out(source *s, const char *path, const char *text) {
    if (!s->report || !text || s->handed_count == HANDED_MOST) return text;
    char name[PATH_MOST + 1];
    size_t length = (size_t)snprintf(name, sizeof name, "%s", path); /* descend() bounds it */
    while (length > 0 && !json_object_get(s->json, name)) {          /* "a.b.0" is of the field "a.b", or of "a" */
        while (length > 0 && name[length] != '.')
            length--;
        name[length] = '\0';
    }
    s->handed[s->handed_count++] = (handed){text, field_number(s->report, name)};
    return text;
}

static const char *service_field(graft_source *face, int64_t i, const char *path, int64_t *count) {
    source *const s = (source *)face;
    *count = 0;
    if (parse(s, i)) return NULL;
    if (!json_is_object(s->json)) {
        say(s, 0, "a record must be a JSON object, {\"name\": value, ...}");
        return NULL;
    }
    json_t *const value = descend(s->json, path);
    if (!value || json_is_null(value)) {
        s->missed = 1;
        return NULL;
    }
    if (json_is_string(value)) {
        *count = (int64_t)json_string_length(value);
        return hand_out(s, path, json_string_value(value));
    }
    const char *const text = dump(s, value);
    *count = text ? (int64_t)strlen(text) : 0;
    return hand_out(s, path, text);
}

/* ---- parts ---- */

static void service_add(graft_source *face, int32_t part, const char *text, int64_t count) {
    source *const s = (source *)face;
    if (s->error.code) return;
    if (!s->into || part < GRAFT_PART_TEXT || part > GRAFT_PART_MESSAGES || count < 0 || (!text && count > 0)) {
        say(s, 0, "the loader adds a part that this graft does not understand");
        return;
    }
    text_record *const r = s->into;
    s->kind.parts |= 1u << part;
    for (int i = 0; i < s->handed_count; i++)
        if (s->handed[i].text == text && s->handed[i].field >= 0) s->kind.fields |= 1ull << s->handed[i].field;
    if (count > SOURCE_PIECE_MOST - (int64_t)r->text.length) {
        say(s, 0, "the record is larger than 64 MiB");
        return;
    }
    mem_reserve(r->parts, r->count, r->capacity);
    record_part *const p = &r->parts[r->count++];
    *p = (record_part){part, (int64_t)r->text.length, (int64_t)r->text.length + count};
    if (count > 0) strbuf_add(&r->text, text, (size_t)count);
}

static const graft_source_services services = {
    .size = sizeof services,
    .bytes = service_bytes,
    .records = service_records,
    .record = service_record,
    .field = service_field,
    .add = service_add,
    .fail = service_fail,
};

/* ---- the source ---- */

static void begin_call(source *s, text_record *into) {
    s->into = into;
    s->asked = -1;
    s->missed = 0;
    s->error = (graft_error){0};
    s->handed_count = 0;
    s->kind = (field_kind){0};
}

static int count_records(source *s, graft_error *err) {
    begin_call(s, NULL);
    s->count = s->loader->count(&s->face);
    if (s->error.code) return fail(err, s->error.code, "%s", s->error.text);
    if (s->count < 0)
        return fail(err, GRAFT_FAILED, "%s: the loader counts %lld record%s", s->file.path, (long long)s->count,
                    plural(s->count));
    return s->count > 0 ? GRAFT_OK : fail(err, GRAFT_FAILED, "%s holds no records", s->file.path);
}

int source_open(const graft_loader *loader, const void *config, const char *path, source **out, graft_error *err) {
    source *const s = mem_new(1, sizeof *s);
    *out = NULL;
    s->face = (graft_source){.size = sizeof s->face, .services = &services, .self = config};
    s->loader = loader;
    s->held = s->parsed = s->asked = -1;
    s->file.fd = -1;
    if (datafile_open_unchecked(path, &s->file, err) == GRAFT_OK) datafile_check(&s->file, &s->damage);
    if (err->code || count_records(s, err)) {
        source_close(s);
        return err->code;
    }
    *out = s;
    return GRAFT_OK;
}

void source_close(source *s) {
    if (!s) return;
    datafile_close(&s->file);
    cutting_free(&s->pieces);
    json_decref(s->json);
    json_decref(s->names);
    arena_free(&s->values);
    free(s->text);
    free(s->all);
    free(s);
}

const char *source_path(const source *s) {
    return s->file.path;
}

int64_t source_count(const source *s) {
    return s->count;
}

int source_get(source *s, int64_t i, text_record *out, graft_error *err) {
    out->text.length = 0, out->count = 0;
    begin_call(s, out);
    s->loader->get(&s->face, i);
    s->into = NULL;
    if (s->error.code) return fail(err, s->error.code, "%s", s->error.text);
    if (s->report) {
        const char *name;
        json_t *value;
        int32_t field;
        if (s->parsed == i)
            json_object_foreach(s->json, name,
                                value) if (!json_is_null(value) && (field = field_number(s->report, name)) >= 0)
                s->report->present[field]++;
        field_report_record(s->report, &s->kind);
    }
    return GRAFT_OK;
}

void source_report_fields(source *s, field_report *into) {
    s->report = into;
}

const char *source_format(const source *s) {
    static const char *const names[] = {[GRAFT_UNIT_LINE] = "lines of text",
                                        [GRAFT_UNIT_PARAGRAPH] = "paragraphs of text",
                                        [GRAFT_UNIT_FILE] = "one text"};
    const cutting *const c = &s->pieces;
    if (c->delimiter) return c->delimiter == '\t' ? "TSV" : c->delimiter == ';' ? "CSV with semicolons" : "CSV";
    if (s->json_lines) return c->unit == GRAFT_UNIT_JSON ? "JSON array" : "JSONL";
    return c->at ? names[c->unit] : "text";
}

int source_is_packed(const source *s) {
    return s->file.packed;
}

int source_blame(source *s, const char *why, graft_error *err) {
    say(s, 0, why);
    return fail(err, s->error.code, "%s", s->error.text);
}

int source_digest(const source *s, char hex[65], graft_error *err) {
    return datafile_digest(&s->file, hex, err);
}
