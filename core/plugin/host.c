/* host — the only file that knows about struct sizes and strides of plugins. */
#include "plugin/host.h"
#include "base/file.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STRUCT_MAX = 4096, ROWS_MAX = 1024, COMPONENTS_MAX = 64, TEXT_SHOWN = 60 };

/* What a kind is called, and its struct of functions. */
static const struct {
    const char *word, *name, *functions;
    int64_t bytes;
} kinds[PLUGIN_KINDS] = {
    [PLUGIN_ADAPTER] = {"adapter",   "graft.adapter/1",   "graft_adapter",   sizeof(graft_adapter)  },
    [PLUGIN_QUANTIZER] = {"quantizer", "graft.quantizer/1", "graft_quantizer", sizeof(graft_quantizer)},
    [PLUGIN_OPTIMIZER] = {"optimizer", "graft.optimizer/1", "graft_optimizer", sizeof(graft_optimizer)},
    [PLUGIN_SCHEDULE] = {"schedule",  "graft.schedule/1",  "graft_schedule",  sizeof(graft_schedule) },
    [PLUGIN_OBJECTIVE] = {"objective", "graft.objective/1", "graft_objective", sizeof(graft_objective)},
    [PLUGIN_LOADER] = {"loader",    "graft.loader/1",    "graft_loader",    sizeof(graft_loader)   },
};

const char *plugin_kind_word(plugin_kind kind) {
    return kinds[kind].word;
}

const char *plugin_kind_name(plugin_kind kind) {
    return kinds[kind].name;
}

static int kind_of(const char *name, plugin_kind *out) {
    for (int i = 0; i < PLUGIN_KINDS; i++)
        if (strcmp(name, kinds[i].name) == 0) {
            *out = (plugin_kind)i;
            return 1;
        }
    return 0;
}

/* ---- negotiation ---- */

/* Copies `theirs` bytes at `from` into `ours` bytes at `to`: the rest of `to` is zero, the rest of `from` must be. */
static int adopt(void *to, int64_t ours, const void *from, int64_t theirs, const char *what, graft_error *err) {
    memset(to, 0, (size_t)ours);
    memcpy(to, from, (size_t)(theirs < ours ? theirs : ours));
    for (int64_t i = ours; i < theirs; i++)
        if (((const char *)from)[i] != 0)
            return fail(
                err, GRAFT_FAILED,
                "its %s uses a field at byte %lld that this graft (contract v0.%d) does not know: it needs a newer one",
                what, (long long)i, GRAFT_ABI_MINOR);
    return GRAFT_OK;
}

/* A struct that begins with its own size, which is at most `room`. */
static int adopt_struct(void *to, int64_t ours, const void *from, int64_t room, const char *what, graft_error *err) {
    int64_t theirs;
    if (!from) return fail(err, GRAFT_FAILED, "its %s is NULL", what);
    memcpy(&theirs, from, sizeof theirs);
    if (theirs < (int64_t)sizeof theirs || theirs > room)
        return fail(err, GRAFT_FAILED, "its %s says it has %lld bytes of %lld; the first field must be sizeof(%s)",
                    what, (long long)theirs, (long long)room, what);
    return adopt(to, ours, from, theirs, what, err);
}

static int check_rows(const graft_rows *rows, int32_t most, const char *what, graft_error *err) {
    if (rows->count == 0) return GRAFT_OK;
    if (!rows->at) return fail(err, GRAFT_FAILED, "its table of %d %s rows is NULL", rows->count, what);
    if (rows->count < 0 || rows->count > most)
        return fail(err, GRAFT_FAILED, "its table of %s has %d rows; at most %d are possible", what, rows->count, most);
    if (rows->stride < (int32_t)sizeof(void *) || rows->stride > STRUCT_MAX)
        return fail(err, GRAFT_FAILED, "the stride of its table of %s is %d bytes", what, rows->stride);
    return GRAFT_OK;
}

/* A table as an array of `bytes` wide rows, owned by the arena. */
static int adopt_rows(const graft_rows *rows, int64_t bytes, const char *what, arena *memory, void **out,
                      int32_t *count, graft_error *err) {
    if (check_rows(rows, ROWS_MAX, what, err)) return GRAFT_FAILED;
    char *const table = arena_new(memory, (size_t)rows->count + 1, (size_t)bytes);
    for (int32_t i = 0; i < rows->count; i++)
        if (adopt(table + i * bytes, bytes, (const char *)rows->at + (int64_t)i * rows->stride, rows->stride, what,
                  err))
            return GRAFT_FAILED;
    *out = table, *count = rows->count;
    return GRAFT_OK;
}

static int adopt_component(const graft_component *theirs, plugin_library *library, plugin_component *out,
                           graft_error *err) {
    *out = (plugin_component){.file = library->file, .version = library->version, .config_size = theirs->config_size};
    out->name = theirs->name, out->doc = theirs->doc, out->paper = theirs->paper ? theirs->paper : "";
    if (!theirs->kind || !kind_of(theirs->kind, &out->kind))
        return fail(err, GRAFT_FAILED,
                    "its kind is '%.*s'; this graft knows graft.adapter/1 and graft.{quantizer, optimizer, "
                    "schedule, objective, loader}/1",
                    TEXT_SHOWN, theirs->kind ? theirs->kind : "NULL");
    arena *const memory = &library->memory;
    void *options, *slots, *fields;
    if (adopt_rows(&theirs->options, sizeof(graft_option), "graft_option", memory, &options, &out->option_count, err) ||
        adopt_rows(&theirs->slots, sizeof(graft_slot), "graft_slot", memory, &slots, &out->slot_count, err) ||
        adopt_rows(&theirs->fields, sizeof(graft_field), "graft_field", memory, &fields, &out->field_count, err) ||
        adopt_struct(&out->adapter, kinds[out->kind].bytes, theirs->functions, STRUCT_MAX, kinds[out->kind].functions,
                     err))
        return GRAFT_FAILED;
    for (int32_t i = 0; i < out->slot_count; i++)
        if (!((graft_slot *)slots)[i].store) ((graft_slot *)slots)[i].store = "";
    out->options = options, out->slots = slots, out->fields = fields;
    return plugin_verify(out, err);
}

static int check_unique(const plugin_library *library, graft_error *err) {
    const plugin_component *const last = &library->components[library->count - 1];
    for (const plugin_component *c = library->components; c < last; c++)
        if (c->kind == last->kind && strcmp(c->name, last->name) == 0)
            return fail(err, GRAFT_FAILED, "it declares two components of this kind and name");
    return GRAFT_OK;
}

static int adopt_library(const graft_plugin *theirs, plugin_library *library, graft_error *err) {
    graft_plugin plugin;
    if (adopt_struct(&plugin, sizeof plugin, theirs, STRUCT_MAX, "graft_plugin", err)) return GRAFT_FAILED;
    if (plugin.pointer_bytes != (int32_t)sizeof(void *))
        return fail(err, GRAFT_FAILED, "it was built for pointers of %d bytes; this graft has %d", plugin.pointer_bytes,
                    (int)sizeof(void *));
    if (!plugin.version) return fail(err, GRAFT_FAILED, "its version is NULL");
    library->version = plugin.version;
    if (plugin.components.count == 0) return fail(err, GRAFT_FAILED, "it declares no component");
    if (check_rows(&plugin.components, COMPONENTS_MAX, "graft_component", err)) return GRAFT_FAILED;
    library->components = mem_new((size_t)plugin.components.count, sizeof *library->components);
    for (int32_t i = 0; i < plugin.components.count; i++) {
        graft_component component = {0};
        const char *const row = (const char *)plugin.components.at + (int64_t)i * plugin.components.stride;
        if (adopt_struct(&component, sizeof component, row, plugin.components.stride, "graft_component", err) ||
            adopt_component(&component, library, &library->components[library->count++], err) ||
            check_unique(library, err))
            return fail_within(err, "component '%.*s'", TEXT_SHOWN, component.name ? component.name : "NULL");
    }
    return GRAFT_OK;
}

/* ---- the file ---- */

typedef const graft_plugin *plugin_entry(void);

/* A file for another version of the contract says so by its symbol. */
static int fail_symbol(void *handle, graft_error *err) {
    for (int version = 1; version < 10; version++) {
        char symbol[32];
        snprintf(symbol, sizeof symbol, "graft_plugin_v%d", version);
        if (dlsym(handle, symbol))
            return fail(err, GRAFT_FAILED, "it was built for contract v%d (exports %s); this graft speaks v0", version,
                        symbol);
    }
    return fail(err, GRAFT_FAILED, "it exports no graft_plugin_v0: it is a shared object, but no plugin of graft");
}

int plugin_open(const char *file, plugin_library **out, graft_error *err) {
    *out = NULL;
    if (plugin_check_elf(file, err)) return GRAFT_FAILED;
    char *const path = path_absolute(file); /* a bare name would be searched among the system's libraries */
    void *const handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    free(path);
    if (!handle) return fail(err, GRAFT_FAILED, "cannot load %s: %s", file, dlerror());

    plugin_library *const library = mem_new(1, sizeof *library);
    library->file = arena_copy(&library->memory, file, strlen(file));
    void *const symbol = dlsym(handle, "graft_plugin_v0");
    plugin_entry *entry = NULL;
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from an object to a function */
    if (symbol ? adopt_library(entry(), library, err) : fail_symbol(handle, err)) {
        plugin_close(library);
        return fail_within(err, "%s", file);
    }
    *out = library;
    return GRAFT_OK;
}

void plugin_close(plugin_library *library) {
    if (!library) return;
    free(library->components);
    arena_free(&library->memory);
    free(library);
}
