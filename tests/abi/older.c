/* older — a plugin of a contract before this one: its structs lack their last fields. What lies behind them in memory is
 * poison that the host must not read. */
#include <graft/graft.h>

typedef struct {
    int64_t rank;
} older;

/* graft_option without `file` */
static const struct {
    const char *key;
    int32_t type, reserved;
    int64_t offset;
    double value, low, high;
    const char *text, *doc;
} options[] = {
    {"rank", GRAFT_INT, 0, offsetof(older, rank), 4, 1,        64,  NULL, "width of the update"},
    {"poison",      99,        1,  -1,        0,          0,   0, NULL, NULL}
};

/* graft_slot without `file_onehot`, `store` and `values` */
static const struct {
    const char *name, *shape;
    int32_t role, flags;
    const char *init, *file;
} slots[] = {
    {"A",      "rank, in", GRAFT_PARAM, 0,  "A = 0",  "lora_A.weight"},
    {"poison", "poison",   99,          99, "poison", "poison"       }
};

static void pass(graft_call *c) {
    (void)c;
}

/* graft_adapter without what follows `backward` */
static const struct {
    int64_t size;
    int32_t sites, flags;
    const char *low_rank;
    void (*bind)(graft_call *), (*observe)(graft_call *), (*init)(graft_call *), (*prepare)(graft_call *);
    void (*forward)(graft_call *), (*backward)(graft_call *);
    int64_t poison[4];
} functions = {
    .size = offsetof(graft_adapter, regularize),
    .sites = GRAFT_LINEAR,
    .forward = pass,
    .backward = pass,
    .poison = {-1, -1, -1, -1}
};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.adapter/1",
    .name = "older",
    .doc = "for tests",
    .config_size = sizeof(older),
    .options = {options, 1, sizeof options[0]},
    .slots = {slots,   1, sizeof slots[0]  },
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.0.1")
