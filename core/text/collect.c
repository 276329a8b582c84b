/* collect — see collect.h. */
#include "text/collect.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sample_list_free(sample_list *l) {
    free(l->at);
    *l = (sample_list){0};
}

/* Targets of a piece: its first token has none in front of it. *ends: whether an end token is among them. */
static int64_t piece_targets(const text_sample *s, const sample_rules *rules, const sample_cut *cut, int *ends) {
    int64_t targets = 0;
    for (int64_t i = 1; i < sample_cut_tokens(cut); i++) {
        const int32_t label = sample_cut_label(cut, s->labels, i);
        if (label == SAMPLE_NO_LABEL) continue;
        targets++;
        *ends |= text_ends_has(&rules->ends, label);
    }
    return targets;
}

/* 1: an end token is among the targets of the whole sample. */
static int teaches_end(const text_sample *s, const sample_rules *rules) {
    int ends = 0;
    for (int64_t i = 1; i < s->count && !ends; i++)
        ends = s->labels[i] != SAMPLE_NO_LABEL && text_ends_has(&rules->ends, s->labels[i]);
    return ends;
}

static void count_used(const text_sample *s, const sample_rules *rules, sample_counts *c) {
    int bucket = 0;
    while (bucket < SAMPLE_LENGTHS - 1 && s->count > (int64_t)16 << bucket)
        bucket++;
    c->lengths[bucket]++;
    c->longest = s->count > c->longest ? s->count : c->longest;
    c->used++;
    c->chats += s->is_chat;
    c->pairs += s->is_pair;
    c->fell_back += s->fell_back;
    c->doubled_bos += s->doubled_bos;
    for (int64_t i = 0; i < s->count; i++)
        c->unknown += s->ids[i] == rules->unknown;
}

static void add_sample(const text_sample *s, const sample_rules *rules, sample_place at, sample_list *list,
                       sample_counts *c) {
    const int64_t pieces = sample_pieces(rules->truncation, s->count, s->lead, rules->max_length);
    int64_t kept = 0;
    int ended = 0;
    c->tokens += s->count;
    for (int64_t p = 0; p < pieces; p++) {
        const sample_cut cut = sample_piece(rules->truncation, s->count, s->lead, rules->max_length, p);
        const int64_t targets = piece_targets(s, rules, &cut, &ended), tokens = sample_cut_tokens(&cut);
        if (targets == 0) continue;
        mem_reserve(list->at, list->count, list->capacity);
        at.piece = (int32_t)p, at.tokens = (int32_t)tokens;
        list->at[list->count++] = at;
        list->tokens += tokens;
        list->targets += targets;
        kept += tokens - s->lead;
    }
    if (kept > 0) {
        c->shortened += kept < s->count - s->lead;
        c->lost += s->count - s->lead - kept;
        c->straddling += s->straddles;
        count_used(s, rules, c);
        c->ended += ended;
        c->ended_chats += ended && s->is_chat;
        c->ended_pairs += ended && s->is_pair;
        const int cut = !ended && teaches_end(s, rules);
        c->cut_chats += cut && s->is_chat;
        c->cut_pairs += cut && s->is_pair;
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

int64_t sample_hashes_equal(sample_hashes *h) {
    int64_t equal = 0;
    if (h->count) qsort(h->at, (size_t)h->count, sizeof *h->at, by_value);
    for (int64_t i = 1; i < h->count; i++)
        equal += h->at[i] == h->at[i - 1];
    return equal;
}

void sample_hashes_free(sample_hashes *h) {
    free(h->at);
    *h = (sample_hashes){0};
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

int collect_samples(source *from, int32_t file, sample_encoder *encoder, const sample_rules *rules,
                    const uint8_t *which, sample_list *lists, sample_counts *counts, sample_hashes *hashes,
                    graft_error *err) {
    text_record r = {0};
    text_sample s = {0};
    *counts = (sample_counts){.records = source_count(from)};
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
        const sample_place at = {.record = (uint64_t)i, .file = (uint32_t)file};
        add_sample(&s, rules, at, &lists[which ? which[i] : 0], counts);
        if (counts->used == used) continue;
        mem_reserve(hashes->at, hashes->count, hashes->capacity);
        hashes->at[hashes->count++] = hash_sample(&s);
    }
    record_free(&r);
    sample_free(&s);
    return err->code;
}

void sample_counts_add(sample_counts *all, const sample_counts *one) {
    const int64_t longest = all->longest > one->longest ? all->longest : one->longest;
    _Static_assert(offsetof(sample_counts, first_bad) % sizeof(int64_t) == 0, "counts, and then a text");
    int64_t *const to = (int64_t *)all;
    for (size_t i = 0; i < offsetof(sample_counts, first_bad) / sizeof(int64_t); i++)
        to[i] += ((const int64_t *)one)[i];
    all->longest = longest;
    if (!all->first_bad[0]) memcpy(all->first_bad, one->first_bad, sizeof all->first_bad);
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
            "%s in %lld record%s one token spans the end of the prompt and is not trained on: begin completions "
            "with the space instead of ending prompts with it",
            dropped + c->shortened ? ";" : "", (long long)c->straddling, plural(c->straddling));
}
