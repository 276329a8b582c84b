/* map-plan — a map call made ready: indices merged where they run on into each other, the one to vectorise chosen. Made by
 * cpu/map.c, run by vector/map.c. */
#ifndef GRAFT_CPU_MAP_PLAN_H
#define GRAFT_CPU_MAP_PLAN_H
#include "kernels/kernels.h"

enum { MAP_BLOCK = 512 /* elements an instruction works on at a time */ };

typedef struct {
    map_program
        program;   /* with indices and kept after merging; code keeps the old numbers of MAP_INDEX, see index_of */
    map_call call; /* with merged extents and strides */
    int32_t index_of[MAP_INDICES]; /* where an index of the code went */
    int32_t inner;                 /* the index that runs along a block */
    const float *values8[2];       /* blocks8 maps, signed and unsigned */
} map_plan;

#endif
