/* registry — the plugins of one process: where they are looked for, which are open, which were refused.
 *
 * `plugin = NAME` opens the first NAME.so of the folders, in this order: the elements of GRAFT_PLUGIN_PATH (':' between
 * them), ~/.local/lib/graft/0, ../lib/graft beside the folder of the program, the folder it was installed to. The first
 * one hides those of the same file name behind it. Is there none, the other files of the folders are opened too, and
 * the component may be in any of them. The current directory is never searched: empty elements of the path and those
 * that lead there are skipped. `plugin = ./NAME.so` (any value with a '/') is that file, from the folder of the INI.
 * A (kind, name) that two open files hold is an error naming both. Threads: one caller at a time. */
#ifndef GRAFT_PLUGIN_REGISTRY_H
#define GRAFT_PLUGIN_REGISTRY_H
#include "plugin/host.h"

typedef struct registry registry;

registry *registry_create(void); /* reads the environment; opens nothing; owned by the caller */
void registry_free(registry *r); /* components end with it */

/* `folder` is where a relative path starts, NULL for the current directory (of a command's argument). The error (GRAFT_USAGE,
 * GRAFT_FAILED when a file is no good) says all that was tried. *out is owned by the registry. */
int registry_find(registry *r, plugin_kind kind, const char *name, const char *folder, const plugin_component **out,
                  graft_error *err);

/* Opens every plugin of the folders. What is refused is kept, see below. */
void registry_open_all(registry *r);
int registry_count(const registry *r);
const plugin_component *registry_at(const registry *r, int i); /* ordered by kind and name */
int registry_refused_count(const registry *r);
const char *registry_refused(const registry *r, int i); /* "FILE: why" */
int registry_folder_count(const registry *r);
const char *registry_folder(const registry *r, int i); /* in the order of the search, existing or not */

#endif
