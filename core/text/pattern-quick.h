/* pattern-quick — the expressions that cut nearly every byte-level vocabulary's text, by hand where the text is ASCII.
 *
 * Must equal PCRE2 on the same expression (tests/unit/text-tokenizer.c). Source of the expressions: GPT-2's encoder.py, and
 * the tokenizer.json files of Llama 3 (numbers of 1 to 3 digits) and Qwen 2 (single digits). */
#ifndef GRAFT_TEXT_PATTERN_QUICK_H
#define GRAFT_TEXT_PATTERN_QUICK_H
#include <stdint.h>

/* Which of them an expression is, 0: none. */
int pattern_quick_kind(const char *source, int64_t length);
/* The end of the match that begins at `at` < length; -1: a byte that is not ASCII takes part, so PCRE2 has to look. */
int64_t pattern_quick_match(int kind, const char *text, int64_t at, int64_t length);

#endif
