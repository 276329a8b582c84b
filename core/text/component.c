/* component — see component.h. */
#include "text/component.h"
#include "text/utf8.h"
#include <string.h>

const char *component_type(const json_t *node, const char *kind, graft_error *err) {
    const char *type = NULL;
    if (!json_is_object(node))
        fail(err, GRAFT_FAILED, "the %s is not an object", kind);
    else if (json_get_text(node, kind, "type", NULL, &type, err) == 0 && !type)
        fail(err, GRAFT_FAILED, "the %s has no \"type\"", kind);
    return type;
}

int component_unknown(const char *kind, const char *type, const char *known, graft_error *err) {
    return fail(err, GRAFT_FAILED, "graft has no %s of type \"%s\" (it has %s)", kind, type, known);
}

json_t *component_list(const json_t *node, const char *what, const char *key, int depth, graft_error *err) {
    json_t *const list = json_object_get(node, key);
    if (!json_is_array(list))
        fail(err, GRAFT_FAILED, "%s has no list \"%s\"", what, key);
    else if (depth >= COMPONENT_DEPTH)
        fail(err, GRAFT_FAILED, "%s is nested more than %d deep", what, COMPONENT_DEPTH);
    else
        return list;
    return NULL;
}

int component_text(const json_t *node, const char *what, const char *key, const char *fallback, const char **text,
                   int64_t *length, graft_error *err) {
    const json_t *const value = json_object_get(node, key);
    if (json_is_string(value)) {
        *text = json_string_value(value);
        *length = (int64_t)json_string_length(value);
        return 0;
    }
    if ((value && !json_is_null(value)) || !fallback)
        return fail(err, GRAFT_FAILED, "%s: \"%s\" has to be a text", what, key);
    *text = fallback;
    *length = (int64_t)strlen(fallback);
    return 0;
}

int component_character(const json_t *node, const char *what, const char *key, const char *fallback, const char **text,
                        int64_t *length, graft_error *err) {
    const int rc = component_text(node, what, key, fallback, text, length, err);
    if (rc) return rc;
    uint32_t code;
    if (*length < 1 || utf8_decode(*text, *length, &code) != *length)
        return fail(err, GRAFT_FAILED, "%s: \"%s\" has to be one character", what, key);
    return 0;
}

int component_pattern(const json_t *node, const char *what, pattern **out, graft_error *err) {
    const json_t *const value = json_object_get(node, "pattern");
    const json_t *const literal = json_object_get(value, "String"), *const regex = json_object_get(value, "Regex");
    *out = NULL;
    if (json_is_string(literal) && !regex) {
        pattern_literal(json_string_value(literal), (int64_t)json_string_length(literal), out);
        return 0;
    }
    if (json_is_string(regex) && !literal)
        return pattern_regex(json_string_value(regex), (int64_t)json_string_length(regex), out, err);
    return fail(err, GRAFT_FAILED, "%s: \"pattern\" has to be {\"String\": text} or {\"Regex\": text}", what);
}
