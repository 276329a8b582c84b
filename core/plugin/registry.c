/* registry — search, index, duplicates. */
#include "plugin/registry.h"
#include "base/file.h"
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    plugin_library *plugin; /* NULL: refused */
    char *file, *why;
    const plugin_component *twin; /* refused because this one is open: it has the same kind and name */
    dev_t device;
    ino_t inode;
} opened;

struct registry {
    char **folders;
    int folder_count, folder_capacity;
    opened *files;
    int file_count, file_capacity;
    const plugin_component **components;
    int component_count, component_capacity;
    int all_open;
};

/* ---- folders ---- */

static int is_same_file(const char *a, const char *b) {
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Takes over `folder`. */
static void add_folder(registry *r, char *folder) {
    for (int i = 0; i < r->folder_count; i++)
        if (strcmp(r->folders[i], folder) == 0 || is_same_file(r->folders[i], folder)) {
            free(folder);
            return;
        }
    mem_reserve(r->folders, r->folder_count, r->folder_capacity);
    r->folders[r->folder_count++] = folder;
}

static void add_path(registry *r, const char *path) {
    while (*path) {
        const size_t length = strcspn(path, ":");
        char *const folder = mem_format("%.*s", (int)length, path);
        if (length > 0 && (*folder == '/' || !is_same_file(folder, ".")))
            add_folder(r, folder);
        else
            free(folder);
        path += length + (path[length] == ':');
    }
}

registry *registry_create(void) {
    registry *const r = mem_new(1, sizeof *r);
    const char *const path = getenv("GRAFT_PLUGIN_PATH"), *const home = getenv("HOME");
    if (path) add_path(r, path);
    if (home && *home == '/') add_folder(r, mem_format("%s/.local/lib/graft/0", home));
    char exe[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length > 0) {
        exe[length] = '\0';
        char *const bin = path_folder(exe), *const root = path_folder(bin);
        add_folder(r, path_join(root, "lib/graft"));
        free(bin), free(root);
    }
    add_folder(r, mem_copy_text(GRAFT_PLUGIN_DIR));
    return r;
}

void registry_free(registry *r) {
    if (!r) return;
    for (int i = 0; i < r->file_count; i++) {
        plugin_close(r->files[i].plugin);
        free(r->files[i].file), free(r->files[i].why);
    }
    for (int i = 0; i < r->folder_count; i++)
        free(r->folders[i]);
    free(r->files), free(r->folders), free(r->components);
    free(r);
}

/* ---- files ---- */

static int is_called(const plugin_component *c, plugin_kind kind, const char *name) {
    return c->kind == kind && strcmp(c->name, name) == 0;
}

static const plugin_component *find_open(const registry *r, plugin_kind kind, const char *name) {
    for (int i = 0; i < r->component_count; i++)
        if (is_called(r->components[i], kind, name)) return r->components[i];
    return NULL;
}

/* What has the kind and the name of a component of `library` already. */
static const plugin_component *find_twin(const registry *r, const plugin_library *library, graft_error *err) {
    for (int i = 0; i < library->count; i++) {
        const plugin_component *const c = &library->components[i];
        const plugin_component *const twin = find_open(r, c->kind, c->name);
        if (!twin) continue;
        fail(err, GRAFT_FAILED, "the %s '%s' is in %s and in %s; remove or rename one of them",
             plugin_kind_word(c->kind), c->name, twin->file, c->file);
        return twin;
    }
    return NULL;
}

static int order_components(const void *a, const void *b) {
    const plugin_component *const x = *(const plugin_component *const *)a, *const y =
                                                                               *(const plugin_component *const *)b;
    return x->kind != y->kind ? (int)x->kind - (int)y->kind : strcmp(x->name, y->name);
}

static void add_components(registry *r, const plugin_library *library) {
    for (int i = 0; i < library->count; i++) {
        mem_reserve(r->components, r->component_count, r->component_capacity);
        r->components[r->component_count++] = &library->components[i];
    }
    qsort(r->components, (size_t)r->component_count, sizeof *r->components, order_components);
}

/* Opens a file once. A refusal is kept and given again. */
static const opened *open_file(registry *r, const char *file, graft_error *err) {
    struct stat s = {0};
    const int exists = stat(file, &s) == 0;
    for (int i = 0; i < r->file_count; i++) {
        const opened *const o = &r->files[i];
        if (exists ? o->device == s.st_dev && o->inode == s.st_ino : strcmp(o->file, file) == 0) {
            if (!o->plugin) fail(err, GRAFT_FAILED, "%s", o->why);
            return o;
        }
    }
    graft_error why = {0};
    opened now = {.file = mem_copy_text(file), .device = s.st_dev, .inode = s.st_ino};
    plugin_open(file, &now.plugin, &why);
    if (now.plugin && (now.twin = find_twin(r, now.plugin, &why)) != NULL) {
        plugin_close(now.plugin);
        now.plugin = NULL;
    }
    if (now.plugin)
        add_components(r, now.plugin);
    else {
        now.why = mem_copy_text(why.text);
        fail(err, GRAFT_FAILED, "%s", why.text);
    }
    mem_reserve(r->files, r->file_count, r->file_capacity);
    r->files[r->file_count] = now;
    return &r->files[r->file_count++];
}

static int order_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int is_hidden(const registry *r, int folder, const char *name) {
    for (int i = 0; i < folder; i++) {
        char *const file = path_join(r->folders[i], name);
        const int there = file_exists(file);
        free(file);
        if (there) return 1;
    }
    return 0;
}

static void open_folder(registry *r, int at) {
    DIR *const folder = opendir(r->folders[at]);
    if (!folder) return;
    char **names = NULL;
    int count = 0, capacity = 0;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        const size_t length = strlen(entry->d_name);
        if (entry->d_name[0] == '.' || length < 4 || strcmp(entry->d_name + length - 3, ".so") != 0) continue;
        mem_reserve(names, count, capacity);
        names[count++] = mem_copy_text(entry->d_name);
    }
    closedir(folder);
    if (count > 0) qsort(names, (size_t)count, sizeof *names, order_texts);
    for (int i = 0; i < count; i++) {
        char *const file = path_join(r->folders[at], names[i]);
        graft_error ignored = {0}; /* kept with the file */
        if (!is_hidden(r, at, names[i])) open_file(r, file, &ignored);
        free(file), free(names[i]);
    }
    free(names);
}

void registry_open_all(registry *r) {
    for (int i = 0; i < r->folder_count && !r->all_open; i++)
        open_folder(r, i);
    r->all_open = 1;
}

/* ---- finding ---- */

static void list_components(const plugin_library *library, strbuf *out) {
    for (int i = 0; i < library->count; i++)
        strbuf_printf(out, "%s%s '%s'", i ? ", " : "", plugin_kind_word(library->components[i].kind),
                      library->components[i].name);
}

/* The component of that kind in one file: the only one, or the one with the file's name. */
static void find_in_file(registry *r, plugin_kind kind, const char *file, const plugin_component **out,
                         graft_error *err) {
    const opened *const o = open_file(r, file, err);
    if (!o->plugin) return;
    const char *const slash = strrchr(file, '/'), *const base = slash ? slash + 1 : file;
    int found = 0, named = 0;
    for (int i = 0; i < o->plugin->count; i++) {
        const plugin_component *const c = &o->plugin->components[i];
        const size_t length = strlen(c->name);
        if (c->kind != kind || named) continue;
        named = strncmp(base, c->name, length) == 0 && strcmp(base + length, ".so") == 0;
        *out = c, found++;
    }
    if (named || found == 1) return;
    strbuf held = {0};
    list_components(o->plugin, &held);
    fail(err, GRAFT_USAGE,
         found ? "%s holds several of the kind %s, and none has its name: %s" : "%s holds no %s: it holds %s", file,
         plugin_kind_word(kind), held.text);
    strbuf_free(&held);
}

static void fail_missing(const registry *r, plugin_kind kind, const char *name, graft_error *err) {
    const char *names[256];
    int count = 0;
    strbuf text = {0};
    strbuf_printf(&text, "there is no %s '%s'", plugin_kind_word(kind), name);
    for (int i = 0; i < r->component_count && count < 256; i++)
        if (r->components[i]->kind == kind)
            names[count++] = r->components[i]->name;
        else if (strcmp(r->components[i]->name, name) == 0)
            strbuf_printf(&text, " (the kind %s has one)", plugin_kind_word(r->components[i]->kind));
    const char *const near = nearest_name(name, names, count);
    if (near) strbuf_printf(&text, "; did you mean '%s'", near);
    strbuf_printf(&text, ". Tried %s.so", name);
    for (int i = 0; i < r->folder_count; i++)
        strbuf_printf(&text, "%s %s", i ? "," : " in", r->folders[i]);
    strbuf_puts(&text, ", then the other plugins there");
    for (int i = 0; i < r->file_count; i++)
        if (r->files[i].why) strbuf_printf(&text, " (refused: %s)", r->files[i].why);
    fail(err, GRAFT_USAGE, "%s", text.text);
    strbuf_free(&text);
}

static void find_by_name(registry *r, plugin_kind kind, const char *name, const plugin_component **out,
                         graft_error *err) {
    char *const file_name = mem_format("%s.so", name);
    const opened *o = NULL;
    for (int i = 0; i < r->folder_count && !o; i++) {
        char *const file = path_join(r->folders[i], file_name);
        if (file_exists(file)) o = open_file(r, file, err);
        free(file);
    }
    free(file_name);
    for (int i = 0; o && o->plugin && i < o->plugin->count; i++)
        if (is_called(&o->plugin->components[i], kind, name)) *out = &o->plugin->components[i];
    if (*out || err->code) return;

    registry_open_all(r);
    *out = find_open(r, kind, name);
    if (!*out) fail_missing(r, kind, name, err);
    for (int i = 0; *out && i < r->file_count; i++)
        if (r->files[i].twin == *out) fail(err, GRAFT_FAILED, "%s", r->files[i].why);
}

int registry_find(registry *r, plugin_kind kind, const char *name, const char *folder, const plugin_component **out,
                  graft_error *err) {
    graft_error why = {0};
    *out = NULL;
    char *const file = strchr(name, '/') ? path_join(folder ? folder : ".", name) : NULL;
    if (!*name)
        fail(&why, GRAFT_USAGE, "the name of the %s is empty", plugin_kind_word(kind));
    else if (file)
        find_in_file(r, kind, file, out, &why);
    else
        find_by_name(r, kind, name, out, &why);
    free(file);
    if (why.code) *out = NULL;
    return why.code ? fail(err, why.code, "%s", why.text) : GRAFT_OK;
}

int registry_count(const registry *r) {
    return r->component_count;
}

const plugin_component *registry_at(const registry *r, int i) {
    return r->components[i];
}

int registry_refused_count(const registry *r) {
    int count = 0;
    for (int i = 0; i < r->file_count; i++)
        count += r->files[i].why != NULL;
    return count;
}

const char *registry_refused(const registry *r, int i) {
    for (int at = 0; at < r->file_count; at++)
        if (r->files[at].why && i-- == 0) return r->files[at].why;
    return NULL;
}

int registry_folder_count(const registry *r) {
    return r->folder_count;
}

const char *registry_folder(const registry *r, int i) {
    return r->folders[i];
}
