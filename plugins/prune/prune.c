/* prune — weights that matter least are zero, and stay zero. Han et al., 2015, arXiv:1506.02626
 *
 *   magnitude   of each matrix:  t = the entry at place ⌊ratio·size⌋ of |W| in ascending order, M = |W| > t
 *   global      the same with one t for all matrices together
 *   wanda       of each row the ⌊ratio·in⌋ smallest |W[o,i]|·‖x_i‖, where ‖x_i‖² = Σ x[n,i]² over the inputs that the layer sees
 *               in calibration rows of the run's data. Sun et al., 2023, arXiv:2306.11695
 *   nm          of every m neighbours in a row the n smallest |W|; n = 2, m = 4 is what sparse tensor cores multiply.
 *               Mishra et al., 2021, arXiv:2104.08378
 *   wanda_nm    the same by |W|·‖x‖
 *   keep        M = W ≠ 0: what is zero already stays zero
 * Of equal values the first is zeroed, but up to t all (exact = yes: the first ones).
 *
 * every > 0 prunes while training: at step begin, begin + every ... end the share of zeros is
 *   ratio + (initial - ratio)·(1 - (step - begin) / (end - begin))³            Zhu & Gupta, 2017, arXiv:1710.01878
 *
 * The mask M is all there is: W := M ⊙ W where weights are loaded, before they are packed, and again whenever W or M changed,
 * which is the core's work (GRAFT_MASK). So `prune` stands in front of any technique. Alone, it writes the pruned model; a LoRA
 * beside it learns on the pruned base. M (out, in), a bit a weight; a (in). */
#include <graft/graft.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGNITUDE, GLOBAL, WANDA, NM, WANDA_NM, KEEP };
enum { BINS = 65536, LOW_BITS = 15 }; /* of the 31 bits of |W| as a float the first 16, then the last 15 */

typedef struct {
    int32_t method, exact;
    double ratio, initial;
    int64_t n, m, begin, end, every;
} prune;

static const graft_option options[] = {
    GRAFT_OPTION_CHOICE(
        prune, method, "magnitude|global|wanda|nm|wanda_nm|keep", 0,
        "what is compared: a matrix, all together, rows by what they read, m neighbours; keep: old zeros", NULL),
    GRAFT_OPTION_REAL(prune, ratio, 0.5, 0, 0.999999,
                      "magnitude, global, wanda: share of the weights that becomes zero", NULL),
    GRAFT_OPTION_BOOL(prune, exact, 0, "magnitude: not one zero more than the ratio says, whatever is equal", NULL),
    GRAFT_OPTION_INT(prune, n, 2, 1, 63, "nm, wanda_nm: how many of m become zero", NULL),
    GRAFT_OPTION_INT(prune, m, 4, 2, 64, "nm, wanda_nm: neighbours in a row that are judged together", NULL),
    GRAFT_OPTION_INT(prune, every, 0, 0, 1e9,
                     "steps from one choice to the next, ever more zeros; 0: once, at the start", NULL),
    GRAFT_OPTION_REAL(prune, initial, 0, 0, 0.999999, "every > 0: share of zeros at step begin", NULL),
    GRAFT_OPTION_INT(prune, begin, 0, 0, 1e9, "every > 0: step of the first choice, 0: at the start", NULL),
    GRAFT_OPTION_INT(prune, end, 0, 0, 1e9, "every > 0: step of the last choice, 0: the last of the run", NULL),
};

/* Absent (0 wide) where the method, counted as above, has no use for it. */
static const graft_slot slots[] = {
    {"M",      "out, in",                           GRAFT_BUFFER, GRAFT_MASK,   NULL,    NULL, NULL, "", NULL},
    {"a",      "in * (method == 2 || method == 4)", GRAFT_BUFFER, 0,            "a = 0", NULL, NULL, "", NULL},
    {"counts", "2 * (method == 1), 65536",          GRAFT_BUFFER, GRAFT_SHARED, NULL,    NULL, NULL, "", NULL},
};

static int by_input(const prune *o) {
    return o->method == WANDA || o->method == WANDA_NM;
}

static void bind(graft_call *c) {
    const prune *o = c->self;
    const int neighbours = o->method == NM || o->method == WANDA_NM;
    char text[120];
    if (c->site->onehot) {
        c->services->refuse(c, "an embedding is read by rows, not multiplied");
        return;
    }
    if (neighbours && o->n >= o->m) {
        snprintf(text, sizeof text, "n = %lld must be below m = %lld: all weights would be zero", (long long)o->n,
                 (long long)o->m);
        c->services->fail(c, text);
    } else if (neighbours && c->site->in % o->m) {
        snprintf(text, sizeof text,
                 "m = %lld does not divide the %lld inputs; choose another m, or exclude this module", (long long)o->m,
                 (long long)c->site->in);
        c->services->fail(c, text);
    }
    if (o->exact && o->method != MAGNITUDE) c->services->fail(c, "exact is for method = magnitude");
    if (o->every && (neighbours || o->method == KEEP))
        c->services->fail(c, "every needs a share that grows: method = magnitude, global or wanda");
    if (o->every && o->initial > o->ratio) c->services->fail(c, "initial is above ratio: zeros only become more");
    if (o->every && o->end && o->end <= o->begin) c->services->fail(c, "end must be behind begin");
    if (!o->every && (o->begin || o->end || o->initial > 0))
        c->services->fail(c, "begin, end and initial belong to a schedule: set every");
}

static void observe(graft_call *c) {
    if (by_input(c->self)) graft_run(c, "a[i] += x[n,i] * x[n,i]");
}

/* ---- a threshold, found by counting: 16 of its bits, then 15, without sorting ---- */

static uint32_t bits_of(double size) {
    const float narrow = (float)size;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return bits;
}

/* Counts by their leading bits (high NULL), or those that begin with *high by the others. */
static void count_sizes(const double *size, int64_t count, const uint32_t *high, double *counts) {
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = bits_of(size[i]);
        if (!high) counts[bits >> LOW_BITS]++;
        if (high && bits >> LOW_BITS == *high) counts[bits & ((1u << LOW_BITS) - 1)]++;
    }
}

/* The bin in which place *place lies; *place becomes its place in that bin. */
static uint32_t bin_of(const double *counts, double *place) {
    uint32_t bin = 0;
    while (bin < BINS - 1 && counts[bin] <= *place)
        *place -= counts[bin++];
    return bin;
}

/* size -> mask: 0 below the threshold, and of those that are equal to it the first `equal` (-1: all). */
static void cut(double *size, int64_t count, uint32_t threshold, int64_t equal) {
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = bits_of(size[i]);
        size[i] = bits > threshold || (bits == threshold && equal == 0);
        if (bits == threshold && equal > 0) equal--;
    }
}

/* Of one matrix at once; of all in three rounds, in which the counts of all sites add up. */
static void by_threshold(graft_call *c, double *size, int64_t count, double share) {
    const prune *o = c->self;
    const int all = o->method == GLOBAL;
    double *counts = calloc(2 * BINS, sizeof *counts), total = 0;
    if (!counts) {
        c->services->fail(c, "no memory to count the weights");
        return;
    }
    if (all && (c->round > 0 || c->step == 0 || c->site->site > 0)) c->services->read(c, "counts", counts);
    if (!all || c->round == 0) count_sizes(size, count, NULL, counts);
    for (uint32_t b = 0; b < BINS; b++)
        total += counts[b];
    double place = floor(total * share);
    const uint32_t high = bin_of(counts, &place);
    if (!all || c->round == 1) count_sizes(size, count, &high, counts + BINS);
    const uint32_t threshold = high << LOW_BITS | bin_of(counts + BINS, &place);
    if (!all || c->round == 2) {
        cut(size, count, threshold, o->exact ? (int64_t)place : -1);
        c->services->write(c, "M", size);
    } else {
        c->services->write(c, "counts", counts);
    }
    free(counts);
}

/* ---- the smallest of a group: a row, or m neighbours ---- */

static void by_group(graft_call *c, double *size, int64_t count, double share) {
    const prune *o = c->self;
    const int64_t in = c->site->in, group = o->method == WANDA ? in : o->m;
    const int64_t zeros = o->method == WANDA ? (int64_t)((double)in * share) : o->n;
    int64_t *order = malloc((size_t)group * sizeof *order);
    for (int64_t first = 0; order && first < count; first += group) {
        c->services->rank(size + first, group, order);
        for (int64_t i = 0; i < group; i++)
            size[first + i] = order[i] >= zeros;
    }
    if (order)
        c->services->write(c, "M", size);
    else
        c->services->fail(c, "no memory to rank the weights");
    free(order);
}

/* ---- by site ---- */

/* |W|, or |W|·‖x‖ in float as the paper's code has it. */
static void sizes(graft_call *c, double *size, double *a) {
    const int64_t in = c->site->in, count = c->site->out * in;
    c->services->read(c, "W", size);
    if (by_input(c->self)) c->services->read(c, "a", a);
    for (int64_t i = 0; i < count; i++)
        size[i] = by_input(c->self) ? (double)(fabsf((float)size[i]) * sqrtf((float)a[i % in])) : fabs(size[i]);
}

static void choose(graft_call *c, double share) {
    const prune *o = c->self;
    const int64_t in = c->site->in, count = c->site->out * in;
    double *size = malloc((size_t)count * sizeof *size), *a = calloc((size_t)in, sizeof *a);
    if (size && a) {
        sizes(c, size, a);
        if (o->method == MAGNITUDE || o->method == GLOBAL)
            by_threshold(c, size, count, share);
        else if (o->method == KEEP)
            c->services->write(c, "M", size);
        else
            by_group(c, size, count, share);
    } else {
        c->services->fail(c, "no memory for the sizes of the weights");
    }
    free(size);
    free(a);
}

static void init(graft_call *c) {
    const prune *o = c->self;
    if (o->every && (o->begin > 0 || o->initial == 0)) {
        if (c->round == 0) graft_run(c, "M = 1");
    } else if (c->round == 0 || o->method == GLOBAL) {
        choose(c, o->every ? o->initial : o->ratio);
    }
}

static void after_step(graft_call *c) {
    const prune *o = c->self;
    const int64_t end = o->end ? o->end : c->steps, t = c->step;
    if (!o->every || (c->round > 0 && o->method != GLOBAL)) return;
    if (c->steps && (end > c->steps || o->begin >= end))
        c->services->fail(c, "the run is shorter than its schedule of pruning: lower begin and end, or train longer");
    if (t > 0 && (t < o->begin || t > end || (t < end && (t - o->begin) % o->every))) return;
    const double left =
        t > 0 ? 1 - (double)(t - o->begin) / (double)(end - o->begin) : 0; /* on shapes (0) all is shown */
    const double share = o->ratio + (o->initial - o->ratio) * left * left * left;
    if (share > 0) choose(c, share);
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X,
    .bind = bind,
    .observe = observe,
    .init = init,
    .after_step = after_step,
    .targets = "all-linear",
    .rounds = 3,
};

static const graft_component prune_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "prune",
    .doc = "zeros in place of the weights that matter least, kept through training",
    .paper = "Han et al., 2015, arXiv:1506.02626; Wanda: Sun et al., 2023, arXiv:2306.11695",
    .config_size = sizeof(prune),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &adapter,
};
GRAFT_PLUGIN(prune_component, "0.2.0")
