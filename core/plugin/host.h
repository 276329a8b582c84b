/* host — opens one plugin file, negotiates, and copies what it declares into the host's own full-size structs.
 *
 * Rules: CONTRACT section 8. A struct that is smaller than the host's is filled with zeros; a larger one is accepted when
 * what the host does not know is zero; rows are walked by their stride. Nothing behind this header thinks about sizes or
 * strides again. A file is opened with RTLD_NOW | RTLD_LOCAL and never closed: texts and functions are static. */
#ifndef GRAFT_PLUGIN_HOST_H
#define GRAFT_PLUGIN_HOST_H
#include "base/error.h"
#include "base/memory.h"
#include <graft/graft.h>

typedef enum {
    PLUGIN_ADAPTER,
    PLUGIN_QUANTIZER,
    PLUGIN_OPTIMIZER,
    PLUGIN_SCHEDULE,
    PLUGIN_OBJECTIVE,
    PLUGIN_LOADER,
    PLUGIN_KINDS
} plugin_kind;

const char *plugin_kind_word(plugin_kind kind); /* "adapter"         */
const char *plugin_kind_name(plugin_kind kind); /* "graft.adapter/1" */

/* One component, checked. Everything is static or owned by its library. Absent callbacks are NULL. */
typedef struct {
    plugin_kind kind;
    const char *name, *doc, *paper; /* never NULL */
    const char *file, *version;     /* of the plugin it came from */
    int64_t config_size;
    const graft_option *options;
    const graft_slot *slots; /* store is never NULL */
    const graft_field *fields;
    int32_t option_count, slot_count, field_count;
    union { /* by kind */
        graft_adapter adapter;
        graft_quantizer quantizer;
        graft_optimizer optimizer;
        graft_schedule schedule;
        graft_objective objective;
        graft_loader loader;
    };
} plugin_component;

typedef struct {
    const char *file, *version;
    plugin_component *components;
    int count;
    arena memory;
} plugin_library;

/* Opens and checks `file`; the first thing wrong with any component refuses all of it. The error names file, component and
 * rule. *out is released with plugin_close (which leaves the code mapped). */
int plugin_open(const char *file, plugin_library **out, graft_error *err);
void plugin_close(plugin_library *library);

/* Checks what negotiation cannot: names, options, slots, fields, mandatory functions. */
int plugin_verify(const plugin_component *component, graft_error *err);
/* Checks that the loader of the system can map the file: it must not run into a truncated one. */
int plugin_check_elf(const char *file, graft_error *err);

#endif
