/* safetensors — the container of model weights, adapters, checkpoints and test cases.
 *
 * Layout: u64 little-endian header length | JSON header | raw little-endian row-major data, no gaps.
 * Source: huggingface/safetensors, README and safetensors/src/tensor.rs.
 * The reader believes nothing: every name, type, shape and offset is checked against the file's size before anything is
 * allocated for it, and a file the reference library refuses is refused, with file, tensor and numbers in the text.
 * It accepts what the reference accepts, except names given twice (the reference silently keeps the last), texts that
 * hold a NUL, and more than 8 dimensions.
 *
 * One `safetensors` is a set of tensors over one file (safetensors_open) or over the shards of a model folder
 * (weights_open); both are read by the same functions. Data is read with pread: nothing is mapped, nothing is cached,
 * so reads of one set may run in several threads at once. Opening and closing may not. */
#ifndef GRAFT_FORMATS_SAFETENSORS_H
#define GRAFT_FORMATS_SAFETENSORS_H
#include "base/dtype.h"
#include "base/error.h"
#include <stdint.h>

enum { TENSOR_RANK_MAX = 8 };

typedef struct safetensors safetensors;

typedef struct {
    const char *name; /* owned by the set */
    const char *type; /* the stored type as the file names it: "F32", "BF16", "C64" ... */
    dtype dtype;      /* DTYPE_COUNT for a type that is only copied: C64, F8_E8M0, F8_E4M3FNUZ, F4 ... */
    int rank;         /* 0: one element */
    int64_t shape[TENSOR_RANK_MAX];
    int64_t count; /* elements: the product of shape */
    int64_t begin; /* offset in its file, counted from the file's first byte */
    int64_t bytes; /* = count * bits of an element / 8 */
    int shard;     /* which file of the set, see safetensors_path */
} tensor_info;

typedef struct {
    const char *key, *value;
} safetensors_note; /* one entry of __metadata__ */

/* Opens one file and checks its whole header. *out is owned by the caller: safetensors_close. */
int safetensors_open(const char *path, safetensors **out, graft_error *err);

/* Opens the weights of a model folder: FOLDER/model.safetensors, or the shards that FOLDER/model.safetensors.index.json
 * names (the index is used only when there is no single file, as the reference does). Every tensor of the index must
 * lie in the shard it names, no tensor may lie in two or be missing from the index; a shard is a plain file name. */
int weights_open(const char *folder, safetensors **out, graft_error *err);

void safetensors_close(safetensors *st); /* NULL is allowed */

int64_t safetensors_count(const safetensors *st);
const tensor_info *safetensors_at(const safetensors *st, int64_t i); /* file by file, in the order of the data */
const tensor_info *safetensors_find(const safetensors *st, const char *name); /* NULL when absent */

/* As safetensors_find, but absence is an error that names the file or folder and the nearest name there is. */
int safetensors_need(const safetensors *st, const char *name, const tensor_info **out, graft_error *err);

const char *safetensors_name(const safetensors *st); /* the path it was opened by, for messages */
int safetensors_shards(const safetensors *st);       /* files of the set, at least 1 */
const char *safetensors_path(const safetensors *st, int shard);
const safetensors_note *safetensors_notes(const safetensors *st, int64_t *count); /* __metadata__ of the first file */
const char *safetensors_note_value(const safetensors *st, const char *key);       /* NULL when absent */

/* Reads all info->bytes of a tensor, as stored, into dst. */
int safetensors_read(const safetensors *st, const tensor_info *info, void *dst, graft_error *err);

/* Reads `bytes` bytes from byte `offset` of the tensor on. */
int safetensors_read_part(const safetensors *st, const tensor_info *info, int64_t offset, int64_t bytes, void *dst,
                          graft_error *err);

/* Reads the tensor converted to `want`: between F64 F32 BF16 F16; from any integer type or BOOL to F32 F64 I32 I64; and
 * any type to itself. A pair outside that list, and an integer that does not fit into I32 or I64, are errors that name
 * the tensor. dst holds info->count elements of `want`. */
int safetensors_read_as(const safetensors *st, const tensor_info *info, void *dst, dtype want, graft_error *err);

/* "BF16 [3, 4]", for messages; owned by the caller. */
char *tensor_describe(const tensor_info *info);

/* Writing. The bytes are those of the reference library: tensors sorted by type (widest first, its enum's order),
 * then by name; compact JSON padded with spaces to a multiple of 8; notes sorted by key. The file appears under its
 * name only at safetensors_commit (base/file.h). */
typedef struct {
    const char *name;
    dtype dtype;
    const char *type; /* NULL: the name of dtype; else wins (a tensor_info's type, copied through) */
    int rank;
    int64_t shape[TENSOR_RANK_MAX];
    const void *data; /* the whole tensor; used by safetensors_write alone */
} tensor_out;

typedef struct safetensors_writer safetensors_writer;

/* Writes the header for `count` tensors, given in any order; the list may go when this returns. A name given twice or
 * not UTF-8, an unknown type and a negative size are errors. */
int safetensors_create(const char *path, const tensor_out *list, int64_t count, const safetensors_note *notes,
                       int64_t note_count, safetensors_writer **out, graft_error *err);
/* The tensor whose bytes come next, as its place in `list`; -1 when all bytes are there. Empty tensors are passed. */
int64_t safetensors_next(const safetensors_writer *w);
/* Adds bytes of that tensor; any number of calls per tensor, each within one tensor. */
int safetensors_put(safetensors_writer *w, const void *bytes, int64_t count, graft_error *err);
int safetensors_commit(safetensors_writer *w, graft_error *err); /* releases w in any case */
void safetensors_abandon(safetensors_writer *w);                 /* NULL is allowed */

/* All of the above for tensors in memory (data may be NULL where a tensor has no bytes). */
int safetensors_write(const char *path, const tensor_out *list, int64_t count, const safetensors_note *notes,
                      int64_t note_count, graft_error *err);

/* The weights of a model folder, as transformers saves them: model.safetensors, or, when the tensors have more than
 * shard_bytes, shards of at most that (filled in the order of the list; a larger tensor has one for itself) and
 * model.safetensors.index.json. Used like the writer above, on the whole list. Nothing appears before weights_commit,
 * which removes what an earlier single file or index would say against it; shards of other names are left alone. */
typedef struct weights_writer weights_writer;
int weights_create(const char *folder, const tensor_out *list, int64_t count, const safetensors_note *notes,
                   int64_t note_count, int64_t shard_bytes, weights_writer **out, graft_error *err);
int64_t weights_next(const weights_writer *w);
int weights_put(weights_writer *w, const void *bytes, int64_t count, graft_error *err);
int weights_commit(weights_writer *w, graft_error *err);
void weights_abandon(weights_writer *w);

#endif
