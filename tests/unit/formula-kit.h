/* formula-kit — a small world for tests of formulas: named tensors with pseudo-random values, one program run in several
 * ways (as products, as one map; on any device; in any activation type), results as doubles. */
#ifndef GRAFT_TESTS_FORMULA_KIT_H
#define GRAFT_TESTS_FORMULA_KIT_H
#include "formula/parts.h"

enum { KIT_TENSORS = 32, KIT_NUMBERS = 24, KIT_ROWS = 7 };

typedef struct {
    formula_tensor tensors[KIT_TENSORS];
    double *values[KIT_TENSORS]; /* before a run */
    double *result[KIT_TENSORS]; /* after it     */
    int64_t count[KIT_TENSORS];
    int32_t *onehot; /* (rows) column of the 1 of ONEHOT tensors */
    int32_t tensor_count;
    const char *numbers[KIT_NUMBERS];
    double number_values[KIT_NUMBERS];
    int32_t number_count;
    int64_t rows;
    uint64_t seed, stream;
    /* of the last run */
    int32_t gemms, maps, weights;
    graft_error err;
} kit;

/* declares "x rows 12; A 4 12; s 1": a tensor a part, F32, may be read and written, values in (-1, 1) */
kit *kit_new(const char *tensors);
void kit_free(kit *k);
formula_tensor *kit_tensor(kit *k, const char *name); /* to change may, type, store, kind ... before a run */
double *kit_values(kit *k, const char *name);
double *kit_result(kit *k, const char *name);
int64_t kit_count(const kit *k, const char *name);
void kit_number(kit *k, const char *name, double value);

typedef struct {
    const char *device; /* "ref64" unless set */
    int32_t maps_only;  /* handles become plain tensors */
    dtype activation;   /* F64 (the zero): the device's real type */
    int32_t rows_zero;
} kit_way;

/* Compiles and runs; 0 or the error in k->err. */
int kit_run(kit *k, const char *text, kit_way way);
int kit_check(kit *k, const char *text); /* compiles only */

/* Runs `text` as products and as one map, both on ref64: the largest difference over all tensors, relative to the largest value. */
double kit_products_against_map(kit *k, const char *text);

#endif
