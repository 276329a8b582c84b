/* prune — weights that matter least are zero, and stay zero. Han et al., 2015, arXiv:1506.02626
 *
 *   magnitude:  t = the entry at place ⌊ratio·size⌋ of |W| in ascending order;   M = |W| > t
 *   nm:         of every m neighbours in a row the n smallest |W| are zero, the first of equal ones; n = 2, m = 4 is what
 *               sparse tensor cores multiply. Mishra et al., 2021, arXiv:2104.08378
 *
 * The mask M is all there is: W := M ⊙ W where weights are loaded, before they are packed, and again after every step
 * where W itself is trained, which is the core's work (GRAFT_MASK). So `prune` stands in front of any technique. Alone, it
 * writes the pruned model; a LoRA beside it learns on the pruned base. M (out, in). */
#include <graft/graft.h>
#include <math.h>
#include <stdlib.h>

enum { MAGNITUDE, NM };

typedef struct {
    int32_t method, reserved;
    double ratio;
    int64_t n, m;
} prune;

static const graft_option options[] = {
    GRAFT_OPTION_CHOICE(prune, method, "magnitude|nm", 0, "magnitude of a whole matrix, or n of every m neighbours",
                        NULL),
    GRAFT_OPTION_REAL(prune, ratio, 0.5, 0, 0.999, "magnitude: share of a matrix that becomes zero", NULL),
    GRAFT_OPTION_INT(prune, n, 2, 1, 63, "nm: how many of m become zero", NULL),
    GRAFT_OPTION_INT(prune, m, 4, 2, 64, "nm: neighbours in a row that are judged together", NULL),
};

static const graft_slot slots[] = {
    {"M", "out, in", GRAFT_BUFFER, GRAFT_MASK, NULL, NULL, NULL, "", NULL},
};

static void bind(graft_call *c) {
    const prune *o = c->self;
    if (c->site->onehot) c->services->refuse(c, "an embedding is read by rows, not multiplied");
    if (c->site->onehot || o->method != NM) return;
    if (o->n >= o->m) c->services->fail(c, "n must be below m: all weights would be zero");
    if (c->site->in % o->m)
        c->services->fail(c, "m does not divide the inputs; choose another m, or exclude this module");
}

/* size (in) -> mask (out), `order` is scratch; all of `count` entries. */
static void by_magnitude(const graft_call *c, const prune *o, double *size, int64_t count, int64_t *order) {
    const int64_t place = (int64_t)((double)count * o->ratio);
    double threshold = 0;
    c->services->rank(size, count, order);
    for (int64_t i = 0; i < count; i++)
        if (order[i] == place) threshold = size[i];
    for (int64_t i = 0; i < count; i++)
        size[i] = size[i] > threshold;
}

static void by_neighbours(const graft_call *c, const prune *o, double *size, int64_t count, int64_t *order) {
    for (int64_t first = 0; first + o->m <= count; first += o->m) {
        c->services->rank(size + first, o->m, order);
        for (int64_t i = 0; i < o->m; i++)
            size[first + i] = order[i] >= o->n;
    }
}

static void init(graft_call *c) {
    const prune *o = c->self;
    const int64_t count = c->site->out * c->site->in;
    double *size = malloc((size_t)count * sizeof *size);
    int64_t *order = malloc((size_t)count * sizeof *order);
    if (size && order) {
        c->services->read(c, "W", size);
        for (int64_t i = 0; i < count; i++)
            size[i] = fabs(size[i]);
        (o->method == NM ? by_neighbours : by_magnitude)(c, o, size, count, order);
        c->services->write(c, "M", size);
        graft_run(c, "W *= M");
    } else {
        c->services->fail(c, "no memory to rank the weights");
    }
    free(size);
    free(order);
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR,
    .flags = GRAFT_LINEAR_IN_X,
    .bind = bind,
    .init = init,
};

static const graft_component prune_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "prune",
    .doc = "zeros in place of the smallest weights, kept through training",
    .paper = "Han et al., 2015, arXiv:1506.02626",
    .config_size = sizeof(prune),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &adapter,
};
GRAFT_PLUGIN(prune_component, "0.1.0")
