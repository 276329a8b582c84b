/* scores — see scores.h. */
#include "run/scores.h"
#include <stdlib.h>
#include <string.h>

model_scores *scores_add(scores *s, const char *name, const char *quantizer) {
    mem_reserve(s->models, s->count, s->capacity);
    s->models[s->count] =
        (model_scores){.name = mem_copy_text(name), .quantizer = quantizer ? mem_copy_text(quantizer) : NULL};
    return &s->models[s->count++];
}

void scores_free(scores *s) {
    for (int64_t m = 0; m < s->count; m++) {
        for (int32_t i = 0; i < s->metric_count; i++)
            free(s->models[m].statistics[i]);
        free(s->models[m].name);
        free(s->models[m].quantizer);
    }
    free(s->models);
    *s = (scores){0};
}

int scores_want(const scores *s, metric_source source) {
    for (int32_t i = 0; i < s->metric_count; i++)
        if (s->metrics[i]->source == source) return 1;
    return 0;
}

static double *room_for(const scores *s, model_scores *m, int32_t i, int64_t records) {
    m->records[i] = records;
    return m->statistics[i] = mem_new((size_t)(records * s->metrics[i]->statistics) + 1, sizeof(double));
}

void scores_of_tokens(const scores *s, model_scores *m, const double *each, int64_t records) {
    for (int32_t i = 0; i < s->metric_count; i++)
        if (s->metrics[i]->source == METRIC_OF_TOKENS && records)
            memcpy(room_for(s, m, i, records), each, (size_t)(2 * records) * sizeof *each);
}

void scores_of_choices(const scores *s, model_scores *m, const double *each, const question_list *q) {
    for (int32_t i = 0; i < s->metric_count; i++) {
        if (s->metrics[i]->source != METRIC_OF_CHOICE) continue;
        const int32_t by = s->metrics[i]->variant;
        const int64_t *lengths = by == CHOICE_BY_BYTES ? q->bytes : by == CHOICE_BY_CHARACTERS ? q->characters : NULL;
        double *to = room_for(s, m, i, q->count);
        for (int64_t n = 0; n < q->count; n++, to += 2) {
            const question *one = &q->at[n];
            double *sums = mem_new((size_t)one->count, sizeof *sums);
            for (int64_t c = 0; c < one->count; c++)
                sums[c] = -each[2 * (one->first + c)];
            to[0] = choice_best(sums, lengths ? lengths + one->first : NULL, one->count) == one->right;
            to[1] = 1;
            free(sums);
        }
    }
}

int scores_of_texts(const scores *s, model_scores *m, int64_t records, answer_of *next, void *context,
                    graft_error *err) {
    for (int32_t i = 0; i < s->metric_count; i++) {
        const metric *one = s->metrics[i];
        if (one->source != METRIC_OF_TEXT) continue;
        double *to = room_for(s, m, i, records);
        for (int64_t n = 0; n < records; n++, to += one->statistics) {
            const metric_record r = next(context, n);
            if (one->add(one, &r, to, err)) return fail_within(err, "record %lld", (long long)n + 1);
        }
    }
    return GRAFT_OK;
}

score scores_value(const scores *s, int64_t model, int32_t number) {
    const metric *m = s->metrics[number];
    const model_scores *own = &s->models[model], *base = &s->models[0];
    const int64_t records = own->records[number];
    const double *mine = own->statistics[number], *theirs = base->statistics[number];
    score out = {
        .value = bootstrap_value(m, mine, records), .of_value = bootstrap(m, mine, NULL, records), .verdict = ""};
    if (model == 0 || records != base->records[number]) return out;
    out.compared = 1;
    out.change = out.value - bootstrap_value(m, theirs, records);
    out.of_change = bootstrap(m, mine, theirs, records);
    out.verdict = out.of_change.low > 0    ? m->lower_is_better ? "worse" : "better"
                  : out.of_change.high < 0 ? m->lower_is_better ? "better" : "worse"
                                           : "unclear";
    return out;
}
