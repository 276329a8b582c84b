/* data-order — see data-order.h. */
#include "run/data-order.h"
#include "base/memory.h"
#include "base/philox.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Streams of the seed: "order", "file", "batch". */
static const uint64_t stream_order = 0x6F72646572u, stream_file = 0x66696C65u, stream_batch = 0x6261746368u;

enum { STEPS_SORTED = 50 };

static void shuffle(uint32_t *items, int64_t count, uint64_t seed, uint64_t stream) {
    for (int64_t i = count - 1; i > 0; i--) { /* Fisher and Yates */
        const uint64_t j = philox_bits(seed, stream, (uint64_t)i) % (uint64_t)(i + 1);
        const uint32_t kept = items[i];
        items[i] = items[j], items[j] = kept;
    }
}

void order_permute(uint32_t *order, int64_t count, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    shuffle(order, count, seed, stream);
}

/* ---- weights ---- */

/* Rounded so that the files together have as many rows as there are. */
int64_t order_quota(const order_rules *r, int32_t file) {
    const int64_t own = r->first[file + 1] - r->first[file];
    double sum = 0, before = 0;
    if (!r->weights || own == 0) return own;
    for (int32_t k = 0; k < r->files; k++) {
        if (k == file) before = sum;
        if (r->first[k + 1] > r->first[k]) sum += r->weights[k];
    }
    const double rows = (double)r->rows, after = before + r->weights[file];
    const int64_t count = llround(rows * (after / sum)) - llround(rows * (before / sum));
    return count > 0 ? count : 1;
}

int64_t order_rows(const order_rules *r) {
    int64_t rows = 0;
    for (int32_t i = 0; i < r->files; i++)
        rows += order_quota(r, i);
    return rows;
}

/* Draws `first` to first + count - 1 of file i. */
static void draw(const order_rules *r, int32_t i, int64_t first, int64_t count, uint32_t *out) {
    const int64_t own = r->first[i + 1] - r->first[i];
    uint32_t *const order = mem_new((size_t)own + 1, sizeof *order);
    int64_t pass = -1;
    for (int64_t d = first; d < first + count; d++) {
        if (pass != d / own) {
            pass = d / own;
            for (int64_t k = 0; k < own; k++)
                order[k] = (uint32_t)k;
            if (r->shuffle) shuffle(order, own, philox_bits(r->seed, stream_file + (uint64_t)i, (uint64_t)pass), 0);
        }
        *out++ = (uint32_t)r->first[i] + order[d % own];
    }
    free(order);
}

/* ---- lengths ---- */

typedef struct {
    int64_t row, length, place; /* place: of equal lengths the earlier one stays in front */
} sized;

static int is_longer(const void *a, const void *b) {
    const sized *const x = a, *const y = b;
    return x->length != y->length ? (x->length < y->length) - (x->length > y->length)
                                  : (x->place > y->place) - (x->place < y->place);
}

static void sort_part(const order_rules *r, uint32_t *order, int64_t count) {
    sized *const all = mem_new((size_t)count + 1, sizeof *all);
    for (int64_t i = 0; i < count; i++)
        all[i] = (sized){order[i], r->lengths[order[i]], i};
    if (count) qsort(all, (size_t)count, sizeof *all, is_longer);
    for (int64_t i = 0; i < count; i++)
        order[i] = (uint32_t)all[i].row;
    free(all);
}

static void group(const order_rules *r, int64_t epoch, uint32_t *order, int64_t count) {
    const int64_t batches = count / r->batch, part = STEPS_SORTED * r->step;
    for (int64_t at = 0; at < count; at += part)
        sort_part(r, order + at, count - at < part ? count - at : part);
    uint32_t *const which = mem_new((size_t)batches + 1, sizeof *which);
    uint32_t *const sorted = mem_new((size_t)count + 1, sizeof *sorted);
    memcpy(sorted, order, (size_t)count * sizeof *sorted);
    order_permute(which, batches, philox_bits(r->seed, stream_batch, (uint64_t)epoch), 0);
    for (int64_t b = 0; b < batches; b++)
        memcpy(order + b * r->batch, sorted + which[b] * r->batch, (size_t)r->batch * sizeof *order);
    free(which);
    free(sorted);
}

double order_padding(const uint32_t *order, int64_t count, const int32_t *lengths, int64_t batch) {
    int64_t all = 0, used = 0;
    for (int64_t at = 0; at < count; at += batch) {
        int64_t longest = 0, rows = 0;
        for (; rows < batch && at + rows < count; rows++) {
            const int32_t length = lengths[order[at + rows]];
            used += length;
            longest = length > longest ? length : longest;
        }
        all += longest * rows;
    }
    return all ? (double)(all - used) / (double)all : 0;
}

/* ---- all ---- */

void order_make(const order_rules *r, int64_t epoch, uint32_t *out) {
    int64_t count = 0;
    for (int32_t i = 0; i < r->files; i++) {
        const int64_t rows = order_quota(r, i);
        if (r->weights && rows > 0)
            draw(r, i, epoch * rows, rows, out + count);
        else
            for (int64_t k = 0; k < rows; k++)
                out[count + k] = (uint32_t)(r->first[i] + k);
        count += rows;
    }
    if (!r->shuffle) return;
    shuffle(out, count, philox_bits(r->seed, stream_order, (uint64_t)epoch), 0);
    if (r->lengths) group(r, epoch, out, count);
}
