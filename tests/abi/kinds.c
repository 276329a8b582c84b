/* kinds — one component of each kind but the adapter, in one file. LACK removes a mandatory function from all of them. */
#include <graft/graft.h>

#ifdef LACK
#    define GIVEN(function) NULL
#else
#    define GIVEN(function) function
#endif

void pass(graft_call *c);
double factor(const void *self, int64_t step, int64_t warmup, int64_t steps);
double loss(const void *self, const graft_batch *b, float *dlogp);
int64_t count(graft_source *s);
void get(graft_source *s, int64_t i);

void pass(graft_call *c) {
    (void)c;
}
double factor(const void *self, int64_t step, int64_t warmup, int64_t steps) {
    (void)self;
    return (double)(step + warmup + steps);
}
double loss(const void *self, const graft_batch *b, float *dlogp) {
    (void)self, (void)b;
    return dlogp[0];
}
int64_t count(graft_source *s) {
    return s->size;
}
void get(graft_source *s, int64_t i) {
    (void)s, (void)i;
}

static const graft_quantizer quantizer = {.size = sizeof quantizer, .quantize = pass, .dequantize = GIVEN(pass)};
static const graft_optimizer optimizer = {.size = sizeof optimizer, .update = GIVEN(pass)};
static const graft_schedule schedule = {.size = sizeof schedule, .factor = GIVEN(factor)};
static const graft_objective objective = {.size = sizeof objective, .loss = GIVEN(loss)};
static const graft_loader loader = {.size = sizeof loader, .count = count, .get = GIVEN(get)};

#define ROW(kind_name, table)                                                                                          \
    { .size = sizeof(graft_component), .kind = kind_name, .name = "several", .doc = "for tests", .functions = &(table) }
static const graft_component components[] = {
#ifdef LACK
    ROW(LACK, LACKING),
#else
    ROW("graft.quantizer/1", quantizer), ROW("graft.optimizer/1", optimizer), ROW("graft.schedule/1", schedule),
    ROW("graft.objective/1", objective), ROW("graft.loader/1", loader),
#endif
};

/* keeps those tables in use that a module with LACK leaves out */
static const void *const tables[] = {&quantizer, &optimizer, &schedule, &objective, &loader};

static const graft_plugin plugin = {
    .size = sizeof plugin,
    .pointer_bytes = (int32_t)sizeof(void *),
    .version = "1.0",
    .components = GRAFT_ROWS(components),
};

GRAFT_EXPORT const graft_plugin *graft_plugin_v0(void);
const graft_plugin *graft_plugin_v0(void) {
    return tables[0] ? &plugin : NULL;
}
