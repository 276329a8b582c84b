/* sample — the rules one by one. Probabilities are rounded to f32 as the reference holds them, sums are f64: where a rounding
 * of the reference decides, either answer is right. */
#include "model/sample.h"
#include "base/memory.h"
#include "base/philox.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float key;
    int32_t id;
} ranked;

struct sampler {
    int64_t vocab;
    ranked *order;
    float *p;
    uint8_t *seen;
};

sampler *sampler_create(int64_t vocab) {
    sampler *s = mem_new(1, sizeof *s);
    s->vocab = vocab;
    s->order = mem_new((size_t)vocab, sizeof *s->order);
    s->p = mem_new((size_t)vocab, sizeof *s->p);
    s->seen = mem_new((size_t)vocab, 1);
    return s;
}

void sampler_free(sampler *s) {
    if (!s) return;
    free(s->order);
    free(s->p);
    free(s->seen);
    free(s);
}

sample_settings sample_greedy(void) {
    return (sample_settings){.repetition_penalty = 1, .temperature = 1, .top_p = 1, .typical_p = 1};
}

/* ---- helpers ---- */

static int64_t best_of(const sampler *s, const float *scores) {
    int64_t best = 0;
    for (int64_t i = 1; i < s->vocab; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}

/* s->p = softmax(scores); returns the log of the sum of exponentials. */
static double softmax(sampler *s, const float *scores) {
    const double most = (double)scores[best_of(s, scores)];
    double sum = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        sum += exp((double)scores[i] - most);
    for (int64_t i = 0; i < s->vocab; i++)
        s->p[i] = (float)(exp((double)scores[i] - most) / sum);
    return most + log(sum);
}

static double entropy(const sampler *s, const float *scores, double lse) {
    double h = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        if (s->p[i] > 0) h -= (double)s->p[i] * ((double)scores[i] - lse);
    return h;
}

static int ascending(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : (x->id > y->id) - (x->id < y->id);
}

/* Tokens that are still there, by ascending key; keys NULL: their scores. */
static int64_t sorted(sampler *s, const float *scores, const float *keys) {
    int64_t n = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        if (scores[i] > -INFINITY) s->order[n++] = (ranked){keys ? keys[i] : scores[i], (int32_t)i};
    qsort(s->order, (size_t)n, sizeof *s->order, ascending);
    return n;
}

/* Removes what is less probable than `least`, but never the best. */
static void remove_below(sampler *s, float *scores, double least) {
    const float most = scores[best_of(s, scores)];
    for (int64_t i = 0; i < s->vocab; i++)
        if ((double)s->p[i] < least && scores[i] < most) scores[i] = -INFINITY;
}

/* ---- rules over the history ---- */

void sample_repetition_penalty(sampler *s, float *scores, const int32_t *ids, int64_t count, double penalty) {
    memset(s->seen, 0, (size_t)s->vocab);
    for (int64_t i = 0; i < count; i++) {
        const int32_t id = ids[i];
        if (id < 0 || id >= s->vocab || s->seen[id]) continue;
        s->seen[id] = 1;
        scores[id] = scores[id] < 0 ? scores[id] * (float)penalty : scores[id] / (float)penalty;
    }
}

static void ban(const sampler *s, float *scores, int32_t id) {
    if (id >= 0 && id < s->vocab) scores[id] = -INFINITY;
}

/* A token that would repeat an n-gram: the last n - 1 tokens stood somewhere before in front of it. */
void sample_no_repeat_ngram(sampler *s, float *scores, const int32_t *ids, int64_t count, int64_t n) {
    if (n < 1 || count < n) return;
    const int32_t *tail = ids + count - (n - 1);
    for (int64_t i = 0; i + n <= count; i++)
        if (memcmp(ids + i, tail, (size_t)(n - 1) * sizeof *ids) == 0) ban(s, scores, ids[i + n - 1]);
}

/* The last token of a bad word, when the ones before it end the history; a stop id alone is never a bad word. */
void sample_bad_words(sampler *s, float *scores, const sample_settings *settings, const sample_history *h) {
    for (int32_t w = 0; w < settings->bad_word_count; w++) {
        const int32_t *word = settings->bad_words[w];
        const int64_t before = settings->bad_word_lengths[w] - 1;
        int is_stop = 0;
        for (int32_t e = 0; e < h->stop_count && before == 0; e++)
            is_stop |= word[0] == h->stops[e];
        if (before < 0 || before > h->count || is_stop) continue;
        if (memcmp(h->ids + h->count - before, word, (size_t)before * sizeof *word) == 0) ban(s, scores, word[before]);
    }
}

void sample_suppress(sampler *s, float *scores, const int32_t *ids, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        ban(s, scores, ids[i]);
}

/* ---- rules over the distribution ---- */

void sample_temperature(sampler *s, float *scores, double temperature) {
    for (int64_t i = 0; i < s->vocab; i++)
        scores[i] /= (float)temperature;
}

/* Of the best 100: those, from the best on, whose entropy adds up to at most `share` of the whole; a probability that is 0
 * in f32 ends the list. */
void sample_top_h(sampler *s, float *scores, double share) {
    enum { MOST = 100 };
    const int64_t n = sorted(s, scores, NULL), first = n > MOST ? n - MOST : 0;
    double sum = 0, all = 0, so_far = 0, terms[MOST];
    for (int64_t i = first; i < n; i++)
        sum += exp((double)(s->order[i].key - s->order[n - 1].key));
    for (int64_t i = n - 1; i >= first; i--) {
        const float p = (float)(exp((double)(s->order[i].key - s->order[n - 1].key)) / sum);
        terms[i - first] = p > 0 ? -(double)p * log((double)p) : INFINITY;
        all += p > 0 ? terms[i - first] : 0;
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        so_far += i >= first ? terms[i - first] : INFINITY;
        if (i < n - 1 && so_far > all * share) scores[s->order[i].id] = -INFINITY;
    }
}

/* The k-th largest score by a heap of the k best whose root is the smallest of them. */
static float kth_largest(sampler *s, const float *scores, int64_t k) {
    ranked *heap = s->order;
    int64_t n = 0;
    for (int64_t i = 0; i < s->vocab; i++) {
        int64_t at;
        if (n < k) { /* sift up from a new leaf */
            for (at = n++; at > 0 && heap[(at - 1) / 2].key > scores[i]; at = (at - 1) / 2)
                heap[at] = heap[(at - 1) / 2];
        } else if (scores[i] > heap[0].key) { /* sift down from the root */
            for (at = 0;;) {
                int64_t child = 2 * at + 1;
                if (child + 1 < n && heap[child + 1].key < heap[child].key) child++;
                if (child >= n || heap[child].key >= scores[i]) break;
                heap[at] = heap[child];
                at = child;
            }
        } else {
            continue;
        }
        heap[at].key = scores[i];
    }
    return heap[0].key;
}

/* Ties with the k-th stay. */
void sample_top_k(sampler *s, float *scores, int64_t k) {
    if (k < 1 || k >= s->vocab) return;
    const float least = kth_largest(s, scores, k);
    for (int64_t i = 0; i < s->vocab; i++)
        if (scores[i] < least) scores[i] = -INFINITY;
}

/* From the least probable on, all whose sum stays within 1 - p go. */
void sample_top_p(sampler *s, float *scores, double p) {
    softmax(s, scores);
    const int64_t n = sorted(s, scores, NULL);
    double sum = 0;
    for (int64_t i = 0; i < n - 1; i++) {
        sum += (double)s->p[s->order[i].id];
        if (sum > 1 - p) break;
        scores[s->order[i].id] = -INFINITY;
    }
}

void sample_min_p(sampler *s, float *scores, double share) {
    softmax(s, scores);
    remove_below(s, scores, share * (double)s->p[best_of(s, scores)]);
}

/* Tokens whose surprise is nearest to the entropy, until they hold `mass`; ties with the last one stay. */
void sample_typical_p(sampler *s, float *scores, double mass) {
    const double lse = softmax(s, scores), h = entropy(s, scores, lse);
    float *distance = mem_new((size_t)s->vocab, sizeof *distance);
    for (int64_t i = 0; i < s->vocab; i++)
        distance[i] = scores[i] > -INFINITY ? (float)fabs(lse - (double)scores[i] - h) : INFINITY;
    const int64_t n = sorted(s, scores, distance);
    double sum = 0;
    int64_t last = 0;
    for (; last < n - 1; last++) {
        sum += (double)s->p[s->order[last].id];
        if (sum >= mass) break;
    }
    for (int64_t i = 0; i < n; i++)
        if (s->order[i].key > s->order[last].key) scores[s->order[i].id] = -INFINITY;
    free(distance);
}

void sample_epsilon(sampler *s, float *scores, double epsilon) {
    softmax(s, scores);
    remove_below(s, scores, epsilon);
}

void sample_eta(sampler *s, float *scores, double epsilon) {
    const double lse = softmax(s, scores);
    remove_below(s, scores, fmin(epsilon, sqrt(epsilon) * exp(-entropy(s, scores, lse))));
}

/* ---- all together ---- */

void sample_process(sampler *s, const sample_settings *o, const sample_history *h, float *scores) {
    if (o->repetition_penalty != 1) sample_repetition_penalty(s, scores, h->ids, h->count, o->repetition_penalty);
    if (o->no_repeat_ngram > 0) sample_no_repeat_ngram(s, scores, h->ids, h->count, o->no_repeat_ngram);
    if (o->bad_word_count) sample_bad_words(s, scores, o, h);
    if (h->count - h->prompt < o->min_new_tokens) sample_suppress(s, scores, h->stops, h->stop_count);
    sample_suppress(s, scores, o->suppress, o->suppress_count);
    if (!o->sample) return;
    if (o->temperature != 1) sample_temperature(s, scores, o->temperature);
    if (o->top_h > 0) sample_top_h(s, scores, o->top_h);
    if (o->top_k > 0) sample_top_k(s, scores, o->top_k);
    if (o->top_p < 1) sample_top_p(s, scores, o->top_p);
    if (o->min_p > 0) sample_min_p(s, scores, o->min_p);
    if (o->typical_p < 1) sample_typical_p(s, scores, o->typical_p);
    if (o->epsilon > 0) sample_epsilon(s, scores, o->epsilon);
    if (o->eta > 0) sample_eta(s, scores, o->eta);
}

int32_t sample_next(sampler *s, const sample_settings *o, const sample_history *h, float *scores) {
    sample_process(s, o, h, scores);
    const int32_t best = (int32_t)best_of(s, scores);
    if (!o->sample || !(scores[best] > -INFINITY)) return best;
    softmax(s, scores);
    double all = 0, sum = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        all += (double)s->p[i];
    const double at = philox_uniform(o->seed, 0x73616d706c65u /* "sample" */, (uint64_t)h->count) * all;
    for (int64_t i = 0; i < s->vocab; i++) {
        sum += (double)s->p[i];
        if (sum > at) return (int32_t)i;
    }
    return best;
}
