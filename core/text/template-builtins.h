/* template-builtins — filters and methods by file, for the tables that name them. Each is called with bound arguments; `which` tells
 * those apart that share a function. */
#ifndef GRAFT_TEXT_TEMPLATE_BUILTINS_H
#define GRAFT_TEXT_TEMPLATE_BUILTINS_H
#include "text/template-private.h"

value filter_json(rendering *r, const invocation *c);   /* template-json.c */
value filter_format(rendering *r, const invocation *c); /* template-format.c */
value method_format(rendering *r, const invocation *c);
enum { CHOOSE_KEEP = 1, CHOOSE_ATTRIBUTE = 2 };         /* keep what passes; test an attribute */
value filter_choose(rendering *r, const invocation *c); /* template-sequence.c */
value filter_map(rendering *r, const invocation *c);
value filter_join(rendering *r, const invocation *c);
value filter_sort(rendering *r, const invocation *c);
value filter_dictsort(rendering *r, const invocation *c);
value filter_unique(rendering *r, const invocation *c);
value filter_extreme(rendering *r, const invocation *c);
value filter_sum(rendering *r, const invocation *c);
value filter_groupby(rendering *r, const invocation *c);
value filter_batch(rendering *r, const invocation *c);
value filter_slice(rendering *r, const invocation *c);
value filter_reverse(rendering *r, const invocation *c);
value filter_indent(rendering *r, const invocation *c); /* template-prose.c */
value filter_title(rendering *r, const invocation *c);
value filter_wordcount(rendering *r, const invocation *c);
value filter_truncate(rendering *r, const invocation *c);
value filter_replace(rendering *r, const invocation *c); /* template-strings.c */
value filter_center(rendering *r, const invocation *c);
/* Methods of strings; which: the names beside them. */
enum { LEFT = 1, RIGHT = 2 };
value text_strip(rendering *r, const invocation *c);
value text_split(rendering *r, const invocation *c); /* which: from the right */
value text_partition(rendering *r, const invocation *c);
value text_split_lines(rendering *r, const invocation *c);
enum { SEARCH_FIND, SEARCH_LAST = 1, SEARCH_MUST = 2, SEARCH_COUNT = 4 };
value text_search(rendering *r, const invocation *c);
enum { AFFIX_STARTS, AFFIX_ENDS };
value text_affix(rendering *r, const invocation *c);
value text_remove_affix(rendering *r, const invocation *c);
value text_join(rendering *r, const invocation *c);
value text_replace(rendering *r, const invocation *c);
enum { PAD_LEFT, PAD_RIGHT, PAD_BOTH, PAD_ZEROS };
value text_pad(rendering *r, const invocation *c);
enum { CASE_UPPER, CASE_LOWER, CASE_CAPITALIZE, CASE_TITLE, CASE_SWAP };
value method_case(rendering *r, const invocation *c); /* template-case.c; which: above */
enum { LETTERS = 1, DIGITS = 2, NUMBERS = 4, SPACES = 8, ASCII = 16, UPPER = 32, LOWER = 64 };
value method_is(rendering *r, const invocation *c); /* whether all characters are of these kinds */

#endif
