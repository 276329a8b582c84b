/* kernels — opens a device by its name. */
#include "kernels/kernels.h"
#include "kernels/layouts.h"
#include "kernels/tables.h"
#include <string.h>

int kernels_open(const char *name, team *threads, kernels **out, graft_error *err) {
    static const char *const names[] = {"cpu", "ref", "ref64", "fake"};
    static int (*const open[])(team *, kernels **, graft_error *) = {cpu_open, ref_open, ref64_open, fake_open};
    enum { COUNT = sizeof names / sizeof *names };
    *out = NULL;
    for (int i = 0; i < COUNT; i++)
        if (!strcmp(name, names[i])) {
            const int rc = open[i](threads, out, err);
            if (rc == GRAFT_OK) layouts_install(*out);
            return rc;
        }
    const char *near = nearest_name(name, names, COUNT);
    return fail(err, GRAFT_USAGE, "there is no device \"%s\"%s%s%s; devices: cpu, ref, ref64, fake", name,
                near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "");
}
