/* table-suite — every function of a kernel table on hazardous shapes, compared with another table that is trusted.
 * Used as: fake against ref (equal), ref against ref64 (f32 rounding), a fast table against ref. */
#ifndef GRAFT_TESTS_TABLE_SUITE_H
#define GRAFT_TESTS_TABLE_SUITE_H
#include "compare.h"

/* act: type of activations (OWN, BF16, F16). bound: as in pair_expect, for one operation; products and sums over many
 * terms are given ten times as much. */
void suite_gemm(pair *p, int act, double bound);
void suite_map(pair *p, int act, double bound);
void suite_weights(pair *p, int act, double bound);
void suite_norms(pair *p, int act, double bound);
void suite_rope(pair *p, int act, double bound);
void suite_attention(pair *p, int act, double bound);
void suite_gate(pair *p, int act, double bound);
void suite_head(pair *p, int act, double bound);
void suite_rows(pair *p, int act, double bound);
void suite_memory(pair *p, int act, double bound);

typedef struct {
    const char *name;
    void (*run)(pair *p, int act, double bound);
} suite_part;
extern const suite_part suite_parts[];
extern const int suite_part_count;

#endif
