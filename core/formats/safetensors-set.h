/* safetensors-set — what the reader of one file and the reader of shards share; private to this room. */
#ifndef GRAFT_FORMATS_SAFETENSORS_SET_H
#define GRAFT_FORMATS_SAFETENSORS_SET_H
#include "base/memory.h"
#include "formats/safetensors.h"

typedef struct {
    const char *path;
    int fd;
} safetensors_shard;

struct safetensors {
    const char *name;
    safetensors_shard *shards;
    int shard_count, shard_capacity;
    tensor_info *tensors; /* shard by shard, each in the order of its data */
    int64_t count, capacity;
    safetensors_note *notes;
    int64_t note_count, note_capacity;
    strmap by_name; /* name -> place in tensors */
    arena texts;    /* paths, names, notes */
};

/* An empty set called `name`; safetensors_close releases it. */
safetensors *safetensors_new(const char *name);

/* Opens a file, checks its header and adds its tensors. On an error the set may only be closed. */
int safetensors_add(safetensors *st, const char *path, graft_error *err);

/* The types of the format in the order of the reference's enum, lowest first; -1 for an unknown name. */
int safetensors_type_order(const char *type);
int safetensors_type_bits(int order);
const char *safetensors_type_name(int order);

/* Product of the shape times the bits of one element, as bytes. 0 when it overflows or does not fill whole bytes. */
int safetensors_size(const int64_t *shape, int rank, int bits, int64_t *count, int64_t *bytes);

#endif
