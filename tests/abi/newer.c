/* newer — a plugin of a contract to come: every struct has a field more than this host knows. With zeros in them it is
 * as good as an old one; the modules with a value in one must be refused. */
#include <graft/graft.h>

#ifndef PLUGIN_TAIL
#    define PLUGIN_TAIL 0
#endif
#ifndef COMPONENT_TAIL
#    define COMPONENT_TAIL 0
#endif
#ifndef OPTION_TAIL
#    define OPTION_TAIL 0
#endif
#ifndef SLOT_TAIL
#    define SLOT_TAIL 0
#endif
#ifndef FIELD_TAIL
#    define FIELD_TAIL 0
#endif
#ifndef FUNCTIONS_TAIL
#    define FUNCTIONS_TAIL 0
#endif

typedef struct {
    int64_t rank;
} newer;

static const struct {
    graft_option now;
    int64_t tail;
} options[] = {
    {GRAFT_OPTION_INT(newer, rank, 8, 1, 64, "width of the update", "r"), OPTION_TAIL}
};

static const struct {
    graft_slot now;
    int64_t tail;
} slots[] = {
    {GRAFT_SLOT_PARAM("A", "rank, in", "A = 0", "lora_A.weight", NULL), 0},
    {GRAFT_SLOT_TEMP("T",               "rank"),                        SLOT_TAIL                              }
};

static const struct {
    graft_field now;
    int64_t tail;
} fields[] = {
    {{"peft_type", "LORA"}, FIELD_TAIL}
};

static void pass(graft_call *c) {
    (void)c;
}

static const struct {
    graft_adapter now;
    int64_t tail;
} functions = {
    {.size = sizeof functions, .sites = GRAFT_LINEAR, .forward = pass, .backward = pass},
    FUNCTIONS_TAIL
};

static const struct {
    graft_component now;
    int64_t tail;
} components[] = {
    {{.size = sizeof components[0],
      .kind = "graft.adapter/1",
      .name = "newer",
      .doc = "for tests",
      .paper = "none",
      .config_size = sizeof(newer),
      .options = GRAFT_ROWS(options),
      .slots = GRAFT_ROWS(slots),
      .fields = GRAFT_ROWS(fields),
      .functions = &functions},
     COMPONENT_TAIL}
};

static const struct {
    graft_plugin now;
    int64_t tail;
} plugin = {
    {.size = sizeof plugin,
     .abi_minor = 7,
     .pointer_bytes = (int32_t)sizeof(void *),
     .version = "9.0",
     .components = GRAFT_ROWS(components)},
    PLUGIN_TAIL
};

GRAFT_EXPORT const graft_plugin *graft_plugin_v0(void);
const graft_plugin *graft_plugin_v0(void) {
    return &plugin.now;
}
