/* cpu — until the fast kernels are here, the reference under the name of the CPU. */
#include "kernels/tables.h"

int cpu_open(team *threads, kernels **out, graft_error *err) {
    if (ref_open(threads, out, err)) return err->code;
    (*out)->name = "cpu";
    return GRAFT_OK;
}
