/* targets — matching of module names: dotted ends, globs, regular expressions. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "formats/targets.h"
#include <fnmatch.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MATCH_LIMIT = 1000000 }; /* steps of one match: an expression that needs more would hang a reader in Python */

/* ---- regular expressions ---- */

static pcre2_code *compile(const char *pattern, int *error, size_t *place) {
    return pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, error, place,
                         NULL);
}

/* Matches from the first character on (whole: to the last). capture: the text of group 1, a number; may be NULL. */
static int matches(const char *pattern, const char *text, int whole, int64_t *capture) {
    int error;
    size_t place;
    pcre2_code *const code = compile(pattern, &error, &place);
    if (!code) return 0;
    pcre2_match_data *const data = pcre2_match_data_create_from_pattern(code, NULL);
    pcre2_match_context *const limits = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(limits, MATCH_LIMIT);
    const int rc = pcre2_match(code, (PCRE2_SPTR)text, strlen(text), 0,
                               PCRE2_ANCHORED | (whole ? PCRE2_ENDANCHORED : 0), data, limits);
    if (rc > 1 && capture) *capture = strtoll(text + pcre2_get_ovector_pointer(data)[2], NULL, 10);
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return rc > 0;
}

int targets_check_pattern(const char *pattern, const char *what, graft_error *err) {
    int error;
    size_t place;
    unsigned char text[200];
    pcre2_code *const code = compile(pattern, &error, &place);
    pcre2_code_free(code);
    if (code) return GRAFT_OK;
    pcre2_get_error_message(error, text, sizeof text);
    return fail(err, GRAFT_FAILED, "%s: \"%s\" is no regular expression: %s at character %zu", what, pattern,
                (const char *)text, place + 1);
}

int targets_check(const targets_list *list, const char *what, graft_error *err) {
    int rc = GRAFT_OK;
    if (list->regex) rc = targets_check_pattern(list->regex, what, err);
    if (list->exclude_regex && rc == GRAFT_OK) rc = targets_check_pattern(list->exclude_regex, what, err);
    for (int32_t i = 0; i < list->layers_pattern_count && rc == GRAFT_OK; i++)
        rc = targets_check_pattern(list->layers_patterns[i], what, err);
    return rc;
}

/* ---- names ---- */

/* What follows the first dot; NULL when there is none. */
static const char *next_part(const char *name) {
    const char *const dot = strchr(name, '.');
    return dot ? dot + 1 : NULL;
}

/* `end` is the whole name or what follows one of its dots. */
static int ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), e = strlen(end);
    return n >= e && strcmp(name + n - e, end) == 0 && (n == e || name[n - e - 1] == '.');
}

static int glob_matches(const char *glob, const char *name) {
    if (!strpbrk(glob, "*?[")) return 0;
    for (const char *part = name; part; part = next_part(part))
        if (fnmatch(glob, part, 0) == 0) return 1;
    return 0;
}

static int name_matches(const char *entry, const char *module, int all_linear) {
    if (strcasecmp(entry, "all-linear") == 0) return all_linear;
    return ends_with(module, entry) || glob_matches(entry, module);
}

static int any_matches(const char *const *names, int32_t count, const char *module, int all_linear) {
    for (int32_t i = 0; i < count; i++)
        if (name_matches(names[i], module, all_linear)) return 1;
    return 0;
}

/* The module's layer: given by the caller, or the number that follows one of the patterns. -1: none. */
static int64_t layer_of(const targets_list *list, const char *module, int64_t layer) {
    if (list->layers_pattern_count == 0) return layer;
    int64_t found = -1;
    for (int32_t i = 0; i < list->layers_pattern_count && found < 0; i++) {
        char *const pattern = mem_format(".*?\\.(?:%s)\\.(\\d+)\\.", list->layers_patterns[i]);
        matches(pattern, module, 0, &found);
        free(pattern);
    }
    return found;
}

static int layer_is_listed(const targets_list *list, int64_t layer) {
    for (int32_t i = 0; i < list->layer_count; i++)
        if (list->layers[i] == layer) return 1;
    return 0;
}

int targets_select(const targets_list *list, const char *module, int64_t layer, int all_linear) {
    if (any_matches(list->exclude, list->exclude_count, module, all_linear)) return 0;
    if (list->exclude_regex && matches(list->exclude_regex, module, 1, NULL)) return 0;
    if (list->regex) return matches(list->regex, module, 1, NULL);
    for (int32_t i = 0; i < list->count; i++)
        if (strcmp(list->names[i], module) == 0) return 1;
    if (!any_matches(list->names, list->count, module, all_linear)) return 0;
    return list->layer_count == 0 || layer_is_listed(list, layer_of(list, module, layer));
}

int targets_module(const char *saved, const char *module) {
    const size_t length = strlen(saved);
    for (const char *part = module; part; part = next_part(part))
        if (strncmp(part, saved, length) == 0 && (part[length] == '\0' || part[length] == '.')) return length > 0;
    return 0;
}

int targets_saves(const char *saved, const char *module) {
    const size_t length = strlen(saved);
    for (const char *dot = module + strcspn(module, "."); length > 0; dot += 1 + strcspn(dot + 1, ".")) {
        if ((size_t)(dot - module) >= length && strncmp(dot - length, saved, length) == 0) return 1;
        if (!*dot) return 0;
    }
    return 0;
}

int32_t targets_pattern(const char *const *patterns, int32_t count, const char *module) {
    for (int32_t i = 0; i < count; i++) {
        char *const pattern = mem_format("(.*\\.)?(%s)$", patterns[i]);
        const int found = matches(pattern, module, 0, NULL);
        free(pattern);
        if (found) return i;
    }
    return -1;
}

/* ---- the shortest list ---- */

static int by_text(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int is_one_of(const char *const *sorted, int32_t count, const char *name) {
    return bsearch(&name, sorted, (size_t)count, sizeof *sorted, by_text) != NULL;
}

/* The shortest end of `name` that no module outside `selected` has. */
static const char *shortest_end(const char *name, const char *const *selected, int32_t count, const char *const *all,
                                int32_t all_count) {
    const char *end = name + strlen(name);
    for (;;) {
        while (end > name && end[-1] != '.')
            end--;
        int unique = 1;
        for (int32_t i = 0; i < all_count && unique; i++)
            unique = !ends_with(all[i], end) || is_one_of(selected, count, all[i]);
        if (unique || end == name) return end;
        end--; /* over the dot */
    }
}

void targets_shorten(const char *const *selected, int32_t count, const char *const *all, int32_t all_count,
                     arena *memory, const char ***out, int32_t *out_count) {
    const char **const sorted = mem_new((size_t)count + 1, sizeof *sorted);
    const char **const ends = arena_new(memory, (size_t)count + 1, sizeof *ends);
    int32_t n = 0;
    if (count) memcpy(sorted, selected, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_text);
    for (int32_t i = 0; i < count; i++) {
        const char *const end = shortest_end(sorted[i], sorted, count, all, all_count);
        ends[i] = arena_copy(memory, end, strlen(end));
    }
    qsort(ends, (size_t)count, sizeof *ends, by_text);
    for (int32_t i = 0; i < count; i++)
        if (n == 0 || strcmp(ends[n - 1], ends[i]) != 0) ends[n++] = ends[i];
    free(sorted);
    *out = ends;
    *out_count = n;
}
