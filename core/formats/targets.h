/* targets — which modules of a model an adapter selects, by their names: one set of rules for INI and PEFT files.
 *
 * Source: PEFT, tuners/tuners_utils.py (check_target_module_exists) and utils/other.py (get_pattern_key).
 * All functions are pure. A regular expression is Python's dialect as far as PCRE2 shares it; targets_check says in
 * good time that one is none, an invalid one selects nothing. */
#ifndef GRAFT_FORMATS_TARGETS_H
#define GRAFT_FORMATS_TARGETS_H
#include "base/error.h"
#include "base/memory.h"
#include <stdint.h>

/* What is selected. Everything is borrowed; {0} selects nothing. */
typedef struct {
    const char *const *names; /* each: a full name, its end after a dot ("q_proj", "mlp.up_proj"), a glob of either
                                 (* ? [..], * crosses dots), or all-linear */
    int32_t count;
    const char *regex;          /* instead of names: matches the whole name; NULL = none */
    const char *const *exclude; /* names, ends and globs that are not selected */
    int32_t exclude_count;
    const char *exclude_regex;
    const int64_t
        *layers; /* only these layers; a module that `names` gives in full is selected all the same (as in PEFT) */
    int32_t layer_count;
    const char *const *layers_patterns; /* with layers: the number behind one of these components ("h") is the layer */
    int32_t layers_pattern_count;
} targets_list;

/* Every regular expression of the list must compile. `what` names file or section in the error. */
int targets_check(const targets_list *list, const char *what, graft_error *err);
int targets_check_pattern(const char *pattern, const char *what, graft_error *err); /* one for targets_pattern */

/* 1 when the module is selected. layer: its block, -1 outside; all_linear: 1 when `all-linear` means it. */
int targets_select(const targets_list *list, const char *module, int64_t layer, int all_linear);

/* 1 when `module` is the module to save called `saved`, or lies in it: "head" takes "head" and "x.head.y". */
int targets_module(const char *saved, const char *module);

/* 1 when `module` is trained whole as `saved`: PEFT takes every module whose name ends so, dot or not ("norm" is
 * input_layernorm too), with all that lies in it. What targets_module finds is no longer adapted; this is what is saved. */
int targets_saves(const char *saved, const char *module);

/* rank_pattern and alpha_pattern: the first whose expression (.*\.)?(PATTERN)$ matches the module; -1: none. */
int32_t targets_pattern(const char *const *patterns, int32_t count, const char *module);

/* The shortest ends of names that select exactly `selected` among all modules of the model: what a PEFT file lists.
 * `all` holds the selected ones too. *out is sorted, without repetitions, and owned by `memory`. */
void targets_shorten(const char *const *selected, int32_t count, const char *const *all, int32_t all_count,
                     arena *memory, const char ***out, int32_t *out_count);

#endif
