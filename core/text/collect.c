/* collect — see collect.h. */
#include "text/collect.h"
#include <stdlib.h>

void sample_list_free(sample_list *l) {
    free(l->at);
    *l = (sample_list){0};
}

static int has_messages(const text_record *r) {
    for (int64_t i = 0; i < r->count; i++)
        if (r->parts[i].part == GRAFT_PART_MESSAGES) return 1;
    return 0;
}

/* Targets of the piece begin .. end: its first token has none in front of it, unless the lead is. */
static int64_t piece_targets(const text_sample *s, int64_t begin, int64_t end) {
    const int64_t from = s->lead > 0 ? begin - 1 : begin;
    return sample_targets(s->labels + from, end - from);
}

static void add_sample(const text_sample *s, const sample_rules *rules, int64_t record, sample_list *list,
                       sample_counts *c) {
    const int64_t pieces = sample_pieces(rules->truncation, s->count, s->lead, rules->max_length);
    int64_t kept = 0, begin, end;
    c->tokens += s->count;
    for (int64_t p = 0; p < pieces; p++) {
        sample_piece(rules->truncation, s->count, s->lead, rules->max_length, p, &begin, &end);
        const int64_t targets = piece_targets(s, begin, end);
        if (targets == 0) continue;
        mem_reserve(list->at, list->count, list->capacity);
        list->at[list->count++] = (sample_place){record, p, s->lead + end - begin};
        list->tokens += s->lead + end - begin;
        list->targets += targets;
        kept += end - begin;
    }
    if (kept > 0) {
        c->shortened += kept < s->count - s->lead;
        c->lost += s->count - s->lead - kept;
        c->straddling += s->straddles;
    } else if (s->count <= s->lead) {
        c->empty++;
    } else if (sample_targets(s->labels, s->count) == 0) {
        c->untrained++;
    } else if (pieces == 0) {
        c->too_long++;
    } else {
        c->cut_off++;
    }
}

int collect_samples(source *from, sample_encoder *encoder, const sample_rules *rules, const uint8_t *which,
                    sample_list *lists, sample_counts *counts, graft_error *err) {
    text_record r = {0};
    text_sample s = {0};
    *counts = (sample_counts){.records = source_count(from)};
    for (int64_t i = 0; i < counts->records && !err->code; i++) {
        if (source_get(from, i, &r, err)) break;
        if (has_messages(&r))
            source_blame(from,
                         "a record of messages needs a chat template, which this version cannot apply; give prompt and "
                         "completion instead",
                         err);
        else if (sample_encode(encoder, &r, &s, err) == GRAFT_OK)
            add_sample(&s, rules, i, &lists[which ? which[i] : 0], counts);
    }
    record_free(&r);
    sample_free(&s);
    return err->code;
}

static void add_count(strbuf *out, int *said, int64_t count, const char *what) {
    if (count > 0) strbuf_printf(out, "%s %lld %s", (*said)++ ? "," : ":", (long long)count, what);
}

void sample_counts_report(const sample_counts *c, const char *path, int64_t max_length, strbuf *out) {
    const int64_t dropped = c->empty + c->too_long + c->untrained + c->cut_off;
    int said = 0;
    if (dropped + c->shortened + c->straddling == 0) return;
    strbuf_printf(out, "%s:", path);
    if (dropped > 0) {
        strbuf_printf(out, " %lld of %lld records dropped", (long long)dropped, (long long)c->records);
        add_count(out, &said, c->too_long, "longer than max_length");
        add_count(out, &said, c->cut_off, "whose targets lie beyond max_length");
        add_count(out, &said, c->untrained, "without a target");
        add_count(out, &said, c->empty, "without text");
    }
    if (c->shortened > 0)
        strbuf_printf(out, "%s %lld of %lld records cut: %lld of %lld tokens are not seen", dropped ? ";" : "",
                      (long long)c->shortened, (long long)c->records, (long long)c->lost, (long long)c->tokens);
    if (c->too_long + c->cut_off + c->shortened > 0) strbuf_printf(out, " (max_length = %lld)", (long long)max_length);
    if (c->straddling > 0)
        strbuf_printf(
            out,
            "%s in %lld records one token spans the end of the prompt and is not trained on: begin completions "
            "with the space instead of ending prompts with it",
            dropped + c->shortened ? ";" : "", (long long)c->straddling);
}
