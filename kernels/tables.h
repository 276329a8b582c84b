/* tables — the constructors behind kernels_open, one per implementation. Private to the kernel room. */
#ifndef GRAFT_KERNELS_TABLES_H
#define GRAFT_KERNELS_TABLES_H
#include "kernels/kernels.h"

/* Each fills *out with a table the caller ends with out->close(out); `threads` is borrowed until then and may be NULL. */
int ref_open(team *threads, kernels **out, graft_error *err);   /* "ref"   f32 */
int ref64_open(team *threads, kernels **out, graft_error *err); /* "ref64" f64 */
int fake_open(team *threads, kernels **out, graft_error *err);  /* "fake"  ref over memory the host cannot read */
int cpu_open(team *threads, kernels **out, graft_error *err);   /* "cpu"   SIMD; may fail on GRAFT_CPU */

#endif
