/* plain — a valid plugin; each module built from it replaces one part by a definition (see CMakeLists.txt) and so breaks
 * one rule of CONTRACT section 8. */
#include <graft/graft.h>

#ifndef NAME
#    define NAME "plain"
#endif
#ifndef KIND
#    define KIND "graft.adapter/1"
#endif
#ifndef POINTER_BYTES
#    define POINTER_BYTES sizeof(void *)
#endif
#ifndef ENTRY
#    define ENTRY graft_plugin_v0
#endif
#ifndef RESULT
#    define RESULT &plugin
#endif
#ifndef SIZE
#    define SIZE sizeof(graft_adapter)
#endif
#ifndef BACKWARD
#    define BACKWARD backward
#endif
#ifndef OPTION_HIGH
#    define OPTION_HIGH 64
#endif
#ifndef SLOT_NAME
#    define SLOT_NAME "A"
#endif
#ifndef SLOT_STRIDE
#    define SLOT_STRIDE sizeof(graft_slot)
#endif
#ifndef FUNCTIONS
#    define FUNCTIONS &adapter
#endif
#ifndef COMPONENTS
#    define COMPONENTS 1
#endif

typedef struct {
    int64_t rank;
    double alpha;
} plain;

static const graft_option options[] = {
    GRAFT_OPTION_INT(plain, rank, 8, 1, OPTION_HIGH, "width of the update", "r"),
    GRAFT_OPTION_REAL(plain, alpha, 16, 0, 1e6, "scale of the update", "lora_alpha"),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_PARAM(SLOT_NAME, "rank, in", "A = 0", "lora_A.weight", NULL),
    GRAFT_SLOT_NUMBER("s", "alpha / rank"),
};

static const graft_field fields[] = {
    {"peft_type", "LORA"}
};

void forward(graft_call *c);
void backward(graft_call *c);

void forward(graft_call *c) {
    graft_run(c, "y[n,o] += s * x[n,i] * A[o,i]");
}

void backward(graft_call *c) {
    graft_run(c, "dA[o,i] += s * dy[n,o] * x[n,i]");
}

static const graft_adapter adapter = {.size = SIZE, .sites = GRAFT_LINEAR, .forward = forward, .backward = BACKWARD};

static const graft_component components[] = {
    {
     .size = sizeof(graft_component),
     .kind = KIND,
     .name = NAME,
     .doc = "for tests",
     .config_size = sizeof(plain),
     .options = GRAFT_ROWS(options),
     .slots = {slots, 2, SLOT_STRIDE},
     .fields = GRAFT_ROWS(fields),
     .functions = FUNCTIONS,
     },
    {
     .size = sizeof(graft_component),
     .kind = KIND,
     .name = NAME,
     .doc = "the same once more",
     .functions = &adapter,
     },
};

static const graft_plugin plugin = {
    .size = sizeof plugin,
    .pointer_bytes = POINTER_BYTES,
    .version = "1.2.3",
    .components = {components, COMPONENTS, sizeof(graft_component)},
};

GRAFT_EXPORT const graft_plugin *ENTRY(void);
const graft_plugin *ENTRY(void) {
    return plugin.size ? RESULT : NULL;
}
