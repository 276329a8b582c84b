/* onednn — oneDNN's matrix product behind one small door, for comparison; its C interfaces 2.x and 3.x look alike from here. */
#ifndef GRAFT_BENCH_ONEDNN_H
#define GRAFT_BENCH_ONEDNN_H
#include "base/dtype.h"
#include <stdint.h>

typedef struct onednn_product onednn_product;

/* c (m,n) = a (m,k)·b, dense rows. b is (k,n), or (n,k) where turned = 1, or in whatever order oneDNN likes best where
 * packed = 1 (then its contents are not a matrix any more). type F32 or BF16. NULL where oneDNN or the type is not there. */
onednn_product *onednn_create(int64_t m, int64_t n, int64_t k, dtype type, int turned, int packed, const void *a,
                              const void *b, void *c);
void onednn_run(onednn_product *p);
void onednn_destroy(onednn_product *p);
void onednn_threads(int threads); /* of this process's OpenMP */
const char *onednn_version(void); /* "2.6.3"; "" where it is not there */

#endif
