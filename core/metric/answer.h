/* answer — what of a text is the answer, and whether two of them are the same. */
#ifndef GRAFT_METRIC_ANSWER_H
#define GRAFT_METRIC_ANSWER_H
#include "metric/metric.h"

enum { ANSWER_EXACT, ANSWER_STRICT, ANSWER_FLEXIBLE };

/* The number of a text in the style of GSM8K, a part of it; "[invalid]" when there is none. */
metric_text answer_extract(int32_t how, const metric_text *text);
/* The text by which a number is compared. */
void answer_plain(const metric_text *text, strbuf *out);

#endif
