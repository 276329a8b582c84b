/* ini — feeds inih line by line, and keeps what it finds.
 *
 * inih is told of lines through an own reader, which works around its limits: it reports one error only, without the
 * line of an entry, does not say where a section begins, cuts lines at 200 characters and names at 50, and takes an
 * indented key for a continuation of the value above. */
#include "config/ini.h"
#include "base/file.h"
#include <ini.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *next, *end; /* what is left of the text                                                    */
    int line;
    int section;            /* index, -1: none yet, -2: its header is faulty and its keys are skipped      */
    int expects_entry;      /* inih has a line that must call `keep_entry`                                 */
    const char *long_value; /* value of that line when it does not fit inih's buffer: inih saw none of it  */
    size_t long_length;
    ini_file *file;
    problems *problems;
} reading;

static int is_blank(char c) {
    return c == ' ' || c == '\t';
}

static void trim(const char **text, size_t *length) {
    while (*length > 0 && is_blank(**text))
        (*text)++, (*length)--;
    while (*length > 0 && is_blank((*text)[*length - 1]))
        (*length)--;
}

/* The first byte that no text file holds, -1 for none. */
static int find_foreign_byte(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) return c;
    }
    return -1;
}

static int is_utf8(const char *text, size_t length) {
    json_t *const string = json_stringn(text, length); /* jansson takes nothing else */
    json_decref(string);
    return string != NULL;
}

/* Length of `text` up to a comment: ';' behind a blank, as inih has it. */
static size_t without_comment(const char *text, size_t length) {
    for (size_t i = 1; i < length; i++)
        if (text[i] == ';' && is_blank(text[i - 1])) return i;
    return length;
}

static int is_section_name(const char *name, size_t length) {
    if (length == 0 || length > INI_NAME_MAX) return 0;
    for (size_t i = 0; i < length; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", name[i])) return 0;
    return 1;
}

static int find_section(const ini_file *f, const char *name, size_t length) {
    for (int i = 0; i < f->count; i++)
        if (strlen(f->sections[i].name) == length && memcmp(f->sections[i].name, name, length) == 0) return i;
    return -1;
}

static int add_section(ini_file *f, const char *name, size_t length, int line) {
    mem_reserve(f->sections, f->count, f->capacity);
    f->sections[f->count] = (ini_section){.name = arena_copy(&f->memory, name, length), .line = line};
    return f->count++;
}

static ini_entry *find_entry(const ini_section *s, const char *key) {
    for (int i = 0; s && i < s->count; i++)
        if (strcmp(s->entries[i].key, key) == 0) return &s->entries[i];
    return NULL;
}

static void add_entry(ini_file *f, ini_section *s, const char *key, const char *value, size_t length, int line) {
    mem_reserve(s->entries, s->count, s->capacity);
    s->entries[s->count++] =
        (ini_entry){arena_copy(&f->memory, key, strlen(key)), arena_copy(&f->memory, value, length), line};
}

/* A line that begins with '['. Sets r->section. */
static void open_section(reading *r, const char *text, size_t length) {
    const char *const close = memchr(text, ']', length);
    const char *name = text + 1, *rest = close ? close + 1 : NULL;
    size_t name_length = close ? (size_t)(close - name) : 0, rest_length = close ? length - name_length - 2 : 0;
    r->section = -2;
    if (!close) {
        problems_add(r->problems, r->file->path, r->line, "a section header needs its ']'");
        return;
    }
    trim(&name, &name_length);
    trim(&rest, &rest_length);
    if (name_length > INI_NAME_MAX)
        problems_add(r->problems, r->file->path, r->line,
                     "[%.40s...] is %zu characters long; a section name has at most %d", name, name_length,
                     INI_NAME_MAX);
    else if (!is_section_name(name, name_length))
        problems_add(r->problems, r->file->path, r->line,
                     "[%.*s] is no section name: letters, digits, '-', '_' and '.' make one", (int)name_length, name);
    else if (rest_length > 0 && *rest != ';' && *rest != '#')
        problems_add(r->problems, r->file->path, r->line, "what stands behind [%.*s] belongs on a line of its own",
                     (int)name_length, name);
    else {
        const int same = find_section(r->file, name, name_length);
        if (same >= 0)
            problems_add(r->problems, r->file->path, r->line,
                         "[%.*s] stands here and in line %d; put its keys in one place", (int)name_length, name,
                         r->file->sections[same].line);
        r->section = same >= 0 ? same : add_section(r->file, name, name_length, r->line);
    }
}

/* inih had a line that should be `key = value` and found it is not. */
static void check_expected(reading *r) {
    if (r->expects_entry) problems_add(r->problems, r->file->path, r->line, "a line has the form `key = value`");
    r->expects_entry = 0;
}

/* The next line without its end and without blanks around it; 0 at the end of the text. */
static int take_line(reading *r, const char **text, size_t *length) {
    if (r->next == r->end) return 0;
    const char *const newline = memchr(r->next, '\n', (size_t)(r->end - r->next));
    *text = r->next;
    *length = (size_t)((newline ? newline : r->end) - r->next);
    r->next = newline ? newline + 1 : r->end;
    r->line++;
    if (*length > 0 && (*text)[*length - 1] == '\r') --*length;
    trim(text, length);
    return 1;
}

/* Puts `key = value` into inih's buffer; of a line that is longer, `key =` alone. */
static void hand_entry(reading *r, char *buffer, size_t room, const char *text, size_t length) {
    r->expects_entry = 1, r->long_value = NULL;
    if (length + 2 > room) {
        size_t key = 0;
        while (key + 3 < room && text[key] != '=' && text[key] != ':')
            key++;
        if (key + 3 < room) {
            key++;
            r->long_value = text + key, r->long_length = length - key;
        }
        length = key;
    }
    memcpy(buffer, text, length);
    memcpy(buffer + length, "\n", 2);
}

/* inih's reader: the next line that holds an entry of a good section. */
static char *next_line(char *buffer, int room, void *stream) {
    reading *const r = stream;
    check_expected(r);
    const char *text;
    size_t length;
    while (take_line(r, &text, &length)) {
        const int foreign = find_foreign_byte(text, length);
        if (foreign >= 0) {
            problems_add(r->problems, r->file->path, r->line, "holds the byte 0x%02x: this is no text file", foreign);
            return NULL;
        }
        if (length == 0 || *text == ';' || *text == '#') continue;
        if (length > INI_LINE_MAX)
            problems_add(r->problems, r->file->path, r->line, "the line is %zu bytes long; at most %d are read", length,
                         INI_LINE_MAX);
        else if (!is_utf8(text, length))
            problems_add(r->problems, r->file->path, r->line, "is not valid UTF-8; save the file in that encoding");
        else if (*text == '[')
            open_section(r, text, length);
        else if (r->section == -1)
            problems_add(r->problems, r->file->path, r->line, "`%.*s` stands in front of the first [section]",
                         length < 40 ? (int)length : 40, text);
        else if (r->section >= 0) {
            hand_entry(r, buffer, (size_t)room, text, length);
            return buffer;
        }
    }
    return NULL;
}

/* inih's handler. Its section is not used: only entries are handed to it. */
static int keep_entry(void *user, const char *inih_section, const char *key, const char *value) {
    (void)inih_section;
    reading *const r = user;
    r->expects_entry = 0;
    size_t length = r->long_value ? without_comment(r->long_value, r->long_length) : strlen(value);
    if (r->long_value) {
        value = r->long_value;
        trim(&value, &length);
    }
    ini_section *const s = &r->file->sections[r->section];
    const ini_entry *const same = find_entry(s, key);
    if (*key == '\0')
        problems_add(r->problems, r->file->path, r->line, "the key in front of '=' is missing");
    else if (strlen(key) > INI_NAME_MAX)
        problems_add(r->problems, r->file->path, r->line,
                     "the key `%.40s...` is %zu characters long; a key has at most %d", key, strlen(key), INI_NAME_MAX);
    else if (same)
        problems_add(r->problems, r->file->path, r->line, "[%s] %s stands here and in line %d; keep one of them",
                     s->name, key, same->line);
    else
        add_entry(r->file, s, key, value, length, r->line);
    return 1;
}

void ini_read_text(const char *path, const char *text, int64_t size, ini_file *out, problems *p) {
    *out = (ini_file){0};
    out->path = arena_copy(&out->memory, path, strlen(path));
    const int mark = size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    reading r = {.next = text + mark, .end = text + size, .section = -1, .file = out, .problems = p};
    ini_parse_stream(next_line, &r, keep_entry, &r); /* its result repeats what check_expected finds */
}

int ini_read(const char *path, ini_file *out, problems *p) {
    graft_error err = {0};
    char *text = NULL;
    int64_t size = 0;
    const int found = file_read(path, INI_FILE_MAX, &text, &size, &err) == GRAFT_OK;
    if (!found) problems_add(p, NULL, 0, "%s", err.text);
    ini_read_text(path, found ? text : "", size, out, p);
    free(text);
    return found;
}

void ini_override(ini_file *f, const char *assignment, problems *p) {
    const char *const equals = strchr(assignment, '=');
    const char *dot = equals;
    while (dot && dot > assignment && *dot != '.')
        dot--;
    if (!equals || *dot != '.') {
        problems_add(p, NULL, 0, "--set %s: the form is section.key=value", assignment);
        return;
    }
    const char *name = assignment, *key = dot + 1, *value = equals + 1;
    size_t name_length = (size_t)(dot - name), key_length = (size_t)(equals - key), length = strlen(value);
    trim(&name, &name_length);
    trim(&key, &key_length);
    trim(&value, &length);
    if (!is_section_name(name, name_length) || key_length == 0 || key_length > INI_NAME_MAX) {
        problems_add(p, NULL, 0, "--set %s: the form is section.key=value", assignment);
        return;
    }
    if (length > INI_LINE_MAX / 2 || find_foreign_byte(value, length) >= 0 || !is_utf8(value, length) ||
        without_comment(value, length) < length) {
        problems_add(p, NULL, 0,
                     "--set %.*s: its value cannot stand in an INI file (line break, ' ;', not UTF-8, or too long)",
                     (int)(equals - assignment), assignment);
        return;
    }
    int at = find_section(f, name, name_length);
    if (at < 0) at = add_section(f, name, name_length, 0);
    const char *const copy = arena_copy(&f->memory, key, key_length);
    ini_entry *const same = find_entry(&f->sections[at], copy);
    if (same)
        same->value = arena_copy(&f->memory, value, length), same->line = 0;
    else
        add_entry(f, &f->sections[at], copy, value, length, 0);
}

const ini_section *ini_find(const ini_file *f, const char *name) {
    const int at = find_section(f, name, strlen(name));
    return at < 0 ? NULL : &f->sections[at];
}

const ini_entry *ini_entry_of(const ini_section *section, const char *key) {
    return find_entry(section, key);
}

void ini_problem(const ini_file *f, const ini_section *section, const ini_entry *entry, problems *p, const char *format,
                 ...) {
    char text[2000], place[2 * INI_NAME_MAX + 16];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(place, sizeof place, "--set %s.%s", section->name, entry->key);
    problems_add(p, entry->line ? f->path : place, entry->line, "%s", text);
}

void ini_free(ini_file *f) {
    for (int i = 0; i < f->count; i++)
        free(f->sections[i].entries);
    free(f->sections);
    arena_free(&f->memory);
    *f = (ini_file){0};
}
