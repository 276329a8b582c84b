/* data-open — which source. */
#include "run/data-open.h"
#include <string.h>

int data_open(const recipe *r, const session *s, data_source **out, graft_error *err) {
    (void)s;
    if (strcmp(r->data.loader, "tensors") == 0) return data_tensors_open(r->data.path, out, err);
    return fail(err, GRAFT_USAGE, "[data] loader = %s: this build reads fixed tensors alone", r->data.loader);
}
