/* json — reading, writing and typed look-ups over jansson. */
#include "base/json.h"
#include "base/file.h"
#include "base/memory.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILE_LIMIT = 1 << 30 };

int json_read_text(const char *text, size_t length, const char *name, size_t flags, json_t **out, graft_error *err) {
    flags |= JSON_ALLOW_NUL;
    if (flags & JSON_LENIENT_DUPLICATES)
        flags &= ~(size_t)JSON_LENIENT_DUPLICATES;
    else
        flags |= JSON_REJECT_DUPLICATES;
    json_error_t where;
    *out = json_loadb(text, length, flags, &where);
    if (*out) return GRAFT_OK;
    return fail(err, GRAFT_FAILED, "%s:%d:%d: not valid JSON: %s", name, where.line, where.column, where.text);
}

int json_read_file(const char *path, size_t flags, json_t **out, graft_error *err) {
    char *text;
    int64_t size;
    *out = NULL;
    int rc = file_read(path, FILE_LIMIT, &text, &size, err);
    if (rc == GRAFT_OK) rc = json_read_text(text, (size_t)size, path, flags, out, err);
    free(text);
    return rc;
}

static int add_to_text(const char *bytes, size_t count, void *data) {
    strbuf_add(data, bytes, count);
    return 0;
}

/* The digits (15 to 17) that every real in `value` needs to be read back unchanged: 0.05 is not to become
 * 0.050000000000000003 in a file that people read. */
static int digits_needed(json_t *value, int digits) {
    if (json_is_real(value)) {
        char text[40];
        for (; digits < 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, json_real_value(value));
            if (strtod(text, NULL) == json_real_value(value)) break;
        }
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++)
            digits = digits_needed(json_array_get(value, i), digits);
    } else if (json_is_object(value)) {
        const char *key;
        json_t *member;
        json_object_foreach(value, key, member) digits = digits_needed(member, digits);
    }
    return digits;
}

int json_write_file(const char *path, const json_t *value, size_t flags, graft_error *err) {
    strbuf text = {0};
    int rc;
    if ((flags & JSON_REAL_PRECISION(0x1F)) == 0) /* the cast: jansson walks objects only where they are not const */
        flags |= JSON_REAL_PRECISION((size_t)digits_needed((json_t *)(uintptr_t)value, 15));
    if (json_dump_callback(value, add_to_text, &text, flags) != 0) {
        rc = fail(err, GRAFT_FAILED, "cannot write %s: it holds a text that is not UTF-8", path);
    } else {
        strbuf_puts(&text, "\n");
        rc = file_write(path, text.text, (int64_t)text.length, err);
    }
    strbuf_free(&text);
    return rc;
}

static const char *type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

/* The value of the key; NULL when it is missing or null. */
static const json_t *look_up(const json_t *object, const char *key) {
    const json_t *const value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static int wrong_type(const json_t *value, const char *what, const char *key, const char *wanted, graft_error *err) {
    return fail(err, GRAFT_FAILED, "%s: \"%s\" is %s; it must be %s", what, key, type_name(value), wanted);
}

int json_get_int(const json_t *object, const char *what, const char *key, int64_t fallback, int64_t *out,
                 graft_error *err) {
    const json_t *const value = look_up(object, key);
    *out = fallback;
    if (!value) return GRAFT_OK;
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return GRAFT_OK;
    }
    if (!json_is_real(value)) return wrong_type(value, what, key, "an integer", err);
    const double real = json_real_value(value);
    if (real != floor(real))
        return fail(err, GRAFT_FAILED, "%s: \"%s\" is %.17g; it must be an integer", what, key, real);
    if (!(real >= -0x1p63 && real < 0x1p63))
        return fail(err, GRAFT_FAILED, "%s: \"%s\" is %.17g; an integer of at most 64 bits is wanted", what, key, real);
    *out = (int64_t)real;
    return GRAFT_OK;
}

int json_get_real(const json_t *object, const char *what, const char *key, double fallback, double *out,
                  graft_error *err) {
    const json_t *const value = look_up(object, key);
    *out = value ? json_number_value(value) : fallback;
    return !value || json_is_number(value) ? GRAFT_OK : wrong_type(value, what, key, "a number", err);
}

int json_get_bool(const json_t *object, const char *what, const char *key, int fallback, int *out, graft_error *err) {
    const json_t *const value = look_up(object, key);
    *out = value ? json_is_true(value) : fallback;
    return !value || json_is_boolean(value) ? GRAFT_OK : wrong_type(value, what, key, "true or false", err);
}

int json_get_text(const json_t *object, const char *what, const char *key, const char *fallback, const char **out,
                  graft_error *err) {
    const json_t *const value = look_up(object, key);
    *out = value ? json_string_value(value) : fallback;
    return !value || json_is_string(value) ? GRAFT_OK : wrong_type(value, what, key, "a text", err);
}
