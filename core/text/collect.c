/* collect — see collect.h. */
#include "text/collect.h"
#include <stdio.h>
#include <stdlib.h>

void sample_list_free(sample_list *l) {
    free(l->at);
    *l = (sample_list){0};
}

/* Targets of the piece begin .. end: its first token has none in front of it, unless the lead is. */
static int64_t piece_targets(const text_sample *s, int64_t begin, int64_t end) {
    const int64_t from = s->lead > 0 ? begin - 1 : begin;
    return sample_targets(s->labels + from, end - from);
}

/* Whether an end token is among what the piece learns. */
static int piece_learns_end(const text_sample *s, const sample_rules *rules, int64_t begin, int64_t end) {
    for (int64_t i = s->lead > 0 ? begin : begin + 1; i < end; i++)
        if (s->labels[i] != SAMPLE_NO_LABEL && text_ends_has(&rules->ends, s->labels[i])) return 1;
    return 0;
}

static void count_used(const text_sample *s, const sample_rules *rules, sample_counts *c) {
    int bucket = 0;
    while (bucket < SAMPLE_LENGTHS - 1 && s->count > (int64_t)16 << bucket)
        bucket++;
    c->lengths[bucket]++;
    c->longest = s->count > c->longest ? s->count : c->longest;
    c->used++;
    c->chats += s->is_chat;
    c->fell_back += s->fell_back;
    c->doubled_bos += s->doubled_bos;
    for (int64_t i = 0; i < s->count; i++)
        c->unknown += s->ids[i] == rules->unknown;
}

static void add_sample(const text_sample *s, const sample_rules *rules, int64_t record, sample_list *list,
                       sample_counts *c) {
    const int64_t pieces = sample_pieces(rules->truncation, s->count, s->lead, rules->max_length);
    int64_t kept = 0, begin, end;
    int ended = 0;
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
        ended = ended || piece_learns_end(s, rules, begin, end);
    }
    if (kept > 0) {
        c->shortened += kept < s->count - s->lead;
        c->lost += s->count - s->lead - kept;
        c->straddling += s->straddles;
        count_used(s, rules, c);
        c->ended += ended;
        c->ended_chats += ended && s->is_chat;
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

/* A number that tells samples apart (FNV-1a, 64 bits). */
static uint64_t hash_sample(const text_sample *s) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (int64_t i = 0; i < s->count; i++)
        hash = (hash ^ (uint32_t)s->ids[i]) * 0x100000001B3u, hash = (hash ^ (uint32_t)s->labels[i]) * 0x100000001B3u;
    return hash;
}

static int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int64_t count_equal(uint64_t *hashes, int64_t count) {
    int64_t equal = 0;
    if (count) qsort(hashes, (size_t)count, sizeof *hashes, by_value);
    for (int64_t i = 1; i < count; i++)
        equal += hashes[i] == hashes[i - 1];
    return equal;
}

static void skip_record(sample_counts *c, const graft_error *why) {
    if (!c->bad++) snprintf(c->first_bad, sizeof c->first_bad, "%.*s", (int)sizeof c->first_bad - 1, why->text);
}

/* Record i as a sample; what is wrong with it is named with file and line. */
static int encode_record(source *from, sample_encoder *encoder, int64_t i, text_record *r, text_sample *s,
                         graft_error *err) {
    graft_error why = {0};
    if (source_get(from, i, r, err) == GRAFT_OK && sample_encode(encoder, r, s, &why))
        source_blame(from, why.text, err);
    return err->code;
}

int collect_samples(source *from, sample_encoder *encoder, const sample_rules *rules, const uint8_t *which,
                    sample_list *lists, sample_counts *counts, graft_error *err) {
    text_record r = {0};
    text_sample s = {0};
    *counts = (sample_counts){.records = source_count(from)};
    uint64_t *const hashes = mem_new((size_t)counts->records + 1, sizeof *hashes);
    int64_t hashed = 0;
    for (int64_t i = 0; i < counts->records && !err->code; i++) {
        graft_error why = {0};
        if (encode_record(from, encoder, i, &r, &s, &why)) {
            if (rules->skip_bad)
                skip_record(counts, &why);
            else
                fail(err, why.code, "%s", why.text);
            continue;
        }
        const int64_t used = counts->used;
        add_sample(&s, rules, i, &lists[which ? which[i] : 0], counts);
        if (counts->used > used) hashes[hashed++] = hash_sample(&s);
    }
    counts->duplicates = count_equal(hashes, hashed);
    free(hashes);
    record_free(&r);
    sample_free(&s);
    return err->code;
}

static void add_count(strbuf *out, int *said, int64_t count, const char *what) {
    if (count > 0) strbuf_printf(out, "%s %lld %s", (*said)++ ? "," : ":", (long long)count, what);
}

void sample_counts_report(const sample_counts *c, const char *path, int64_t max_length, strbuf *out) {
    const int64_t dropped = c->empty + c->too_long + c->untrained + c->cut_off + c->bad;
    int said = 0;
    if (dropped + c->shortened + c->straddling == 0) return;
    strbuf_printf(out, "%s:", path);
    if (dropped > 0) {
        strbuf_printf(out, " %lld of %lld records dropped", (long long)dropped, (long long)c->records);
        add_count(out, &said, c->too_long, "longer than max_length");
        add_count(out, &said, c->cut_off, "whose targets lie beyond max_length");
        add_count(out, &said, c->untrained, "without a target");
        add_count(out, &said, c->empty, "without text");
        add_count(out, &said, c->bad, "damaged");
    }
    if (c->shortened > 0)
        strbuf_printf(out, "%s %lld of %lld records cut: %lld of %lld tokens are not seen", dropped ? ";" : "",
                      (long long)c->shortened, (long long)c->records, (long long)c->lost, (long long)c->tokens);
    if (c->too_long + c->cut_off + c->shortened > 0) strbuf_printf(out, " (max_length = %lld)", (long long)max_length);
    if (c->bad > 0) strbuf_printf(out, "; the first damaged one is %s", c->first_bad);
    if (c->straddling > 0)
        strbuf_printf(
            out,
            "%s in %lld records one token spans the end of the prompt and is not trained on: begin completions "
            "with the space instead of ending prompts with it",
            dropped + c->shortened ? ";" : "", (long long)c->straddling);
}
