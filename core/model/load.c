/* load — weights from the files to the device, one tensor at a time: read, shown to the adapters that begin from it,
 * quantized or kept as it is stored. A piece of a tensor at a time passes through host memory, so loading needs little more
 * than what stays. */
#include "model/model-private.h"
#include <stdlib.h>
#include <string.h>

enum { PIECE = 4 << 20 }; /* bytes of one read */

dtype tensor_device_type(const base_tensor *t, dtype activation, const kernels *device) {
    if (!t->in) return device->real;
    if (activation == F64 || t->trained) return activation;
    return t->stored == F64 ? F32 : t->stored;
}

/* A trained matrix whose products read a copy: the activations are narrower than its master. */
static int has_copy(const base_tensor *t, const kernels *device, dtype activation) {
    return t->trained && t->in && activation != device->real;
}

void tensor_bytes(const model *m, const base_tensor *t, const kernels *device, dtype activation, const quantize *q,
                  model_bytes *bytes) {
    const int64_t n = tensor_count_of(t), wide = n * dtype_bytes(device->real);
    const dtype type = tensor_device_type(t, activation, device);
    if (t->tied_to >= 0) return;
    if (t->trained) {
        bytes->masters += wide;
        bytes->gradients += wide;
    }
    if (!t->in) {
        bytes->weights += t->trained ? 0 : wide;
    } else if (m->packed[t - m->tensors]) {
        bytes->weights += m->packed[t - m->tensors];
    } else if (quantize_selects(q, t)) {
        bytes->weights += quantize_bytes(q, t);
    } else {
        const weight w = {.out = t->out, .in = t->in, .layout = WEIGHT_PLAIN, .type = type};
        bytes->weights += t->trained && !has_copy(t, device, activation) ? 0 : n * dtype_bytes(type);
        bytes->weights += device->weight_packed_bytes((kernels *)(uintptr_t)device, &w);
    }
}

static void *allocate(model *m, const base_tensor *t, int64_t bytes, graft_error *err) {
    void *dev = err->code ? NULL : m->device->alloc(m->device, bytes);
    if (!dev) fail(err, GRAFT_FAILED, "no memory for %lld bytes of %s", (long long)bytes, t->name);
    return dev;
}

int tensor_allocate(model *m, base_tensor *t, graft_error *err) {
    kernels *k = m->device;
    const int64_t n = tensor_count_of(t), wide = n * dtype_bytes(k->real);
    const dtype type = tensor_device_type(t, m->activation, k);
    if (t->trained) {
        t->master = allocate(m, t, wide, err);
        t->grad = allocate(m, t, wide, err);
    }
    if (!t->in) {
        t->vector = t->trained ? t->master : allocate(m, t, wide, err);
        return err->code;
    }
    t->w = (weight){.out = t->out, .in = t->in, .layout = WEIGHT_PLAIN, .type = type};
    t->w.data = t->trained && !has_copy(t, k, m->activation) ? t->master : allocate(m, t, n * dtype_bytes(type), err);
    return err->code;
}

void tensor_release(kernels *k, base_tensor *t) {
    if (t->tied_to < 0) {
        if (t->w.packed) k->weight_unpack(k, &t->w);
        if (t->w.data == t->master) t->w.data = NULL;
        quantize_release(k, &t->w);
        void *const owned[] = {t->vector == t->master ? NULL : t->vector, t->master, t->grad};
        for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
            k->release(k, owned[i]);
    }
    t->w = (weight){0};
    t->vector = t->master = t->grad = NULL;
}

/* ---- reading ---- */

int64_t first_not_finite(const void *values, dtype type, int64_t n) {
    const uint16_t *half = values;
    const uint16_t mask = type == BF16 ? 0x7f80 : 0x7c00;
    for (int64_t i = 0; (type == BF16 || type == F16) && i < n; i++)
        if ((half[i] & mask) == mask) return i;
    const uint32_t *word = values;
    for (int64_t i = 0; type == F32 && i < n; i++)
        if ((word[i] & 0x7f800000u) == 0x7f800000u) return i;
    const uint64_t *wide = values;
    for (int64_t i = 0; type == F64 && i < n; i++)
        if ((wide[i] >> 52 & 0x7ff) == 0x7ff) return i;
    return -1;
}

static inline void transpose_as(char *to, const char *from, int64_t rows, int64_t cols, size_t size) {
    enum { TILE = 32 };
    for (int64_t r0 = 0; r0 < rows; r0 += TILE)
        for (int64_t c0 = 0; c0 < cols; c0 += TILE)
            for (int64_t r = r0; r < r0 + TILE && r < rows; r++)
                for (int64_t c = c0; c < c0 + TILE && c < cols; c++)
                    memcpy(to + (size_t)(c * rows + r) * size, from + (size_t)(r * cols + c) * size, size);
}

void transpose_bytes(void *to, const void *from, int64_t rows, int64_t cols, int size) {
    if (size == 2)
        transpose_as(to, from, rows, cols, 2); /* a constant size makes the copy one load and one store */
    else if (size == 4)
        transpose_as(to, from, rows, cols, 4);
    else
        transpose_as(to, from, rows, cols, (size_t)size);
}

/* Reads elements begin .. begin + count - 1 of the tensor into dev as `type`; a Conv1D is turned as a whole. */
static int read_elements(model *m, const base_tensor *t, int64_t begin, int64_t count, void *dev, dtype type,
                         graft_error *err) {
    const tensor_info *info = m->sources[t - m->tensors];
    const int from = dtype_bytes(info->dtype), to = dtype_bytes(type);
    const int64_t piece = t->transposed || count < PIECE / from ? count : PIECE / from;
    char *raw = mem_new((size_t)piece, (size_t)from),
         *turned = t->transposed ? mem_new((size_t)piece, (size_t)from) : NULL;
    for (int64_t at = 0; at < count && !err->code; at += piece) {
        const int64_t n = count - at < piece ? count - at : piece;
        if (safetensors_read_part(m->files, info, (begin + at) * from, n * from, raw, err)) break;
        const int64_t bad = first_not_finite(raw, info->dtype, n);
        if (bad >= 0) {
            fail(err, GRAFT_FAILED, "%s: %s is not finite at element %lld: the file is damaged", m->folder, info->name,
                 (long long)(begin + at + bad));
            break;
        }
        if (turned) transpose_bytes(turned, raw, t->in, t->out, from);
        upload_as(m->device, (char *)dev + at * to, type, turned ? turned : raw, info->dtype, n);
    }
    free(turned);
    free(raw);
    return err->code;
}

/* The tensor into dev, (out, in), as `type`. */
static int read_tensor(model *m, const base_tensor *t, void *dev, dtype type, graft_error *err) {
    return read_elements(m, t, 0, m->sources[t - m->tensors]->count, dev, type, err);
}

void tensor_pack(model *m, base_tensor *t) {
    void *const data = t->w.data;
    m->device->weight_pack(m->device, &t->w);
    if (!t->w.data && data != t->master) /* the packed form serves alone */
        m->device->release(m->device, data);
}

/* ---- one tensor ---- */

/* Adapters whose first values come from this weight. values: dev real (out, in), replaced in place. Those of a tied head that
 * observe begin later (observe_tensors). */
static int show_adapters(model *m, adapt *a, const base_tensor *t, void *values, int32_t *replaced, graft_error *err) {
    for (int32_t p = 0; p < m->point_count && !err->code; p++) {
        const base_tensor *at = m->points[p].kinds & GRAFT_LINEAR ? m->points[p].tensor : NULL;
        if (at && tensor_at(m, (int32_t)(at - m->tensors)) == t && adapt_reads_weight(a, p) &&
            !(at != t && m->calibration.count && adapt_observes(a, p)))
            adapt_init_at(a, p, values, replaced, err);
    }
    return err->code;
}

static int is_shown(const model *m, const adapt *a, const base_tensor *t) {
    for (int32_t p = 0; a && p < m->point_count; p++) {
        const base_tensor *at = m->points[p].kinds & GRAFT_LINEAR ? m->points[p].tensor : NULL;
        if (at && tensor_at(m, (int32_t)(at - m->tensors)) == t && adapt_reads_weight(a, p)) return 1;
    }
    return 0;
}

static int read_packed(model *m, base_tensor *t, int32_t *found, graft_error *err) {
    const tensor_info *const source = m->sources[t - m->tensors];
    if (!m->grid.bits) return quantize_read(m->device, m->files, source->name, t, found, err);
    *found = 1;
    return quantize_read_grid(m->device, m->files, source, &m->grid, t, err);
}

/* A weight that nobody else looks at is packed some rows at a time. */
static int pack_by_rows(model *m, base_tensor *t, quantize *q, graft_error *err) {
    kernels *k = m->device;
    const int64_t wide = dtype_bytes(k->real);
    if (quantize_begin(q, k, t, err)) return err->code;
    const int64_t unit = quantize_row_unit(q, t), fit = PIECE / (t->in * wide) / unit * unit;
    const int64_t most = t->transposed || fit >= t->out ? t->out : fit < unit ? unit : fit;
    void *const values = allocate(m, t, most * t->in * wide, err);
    for (int64_t r = 0; r < t->out && !err->code; r += most) {
        const int64_t rows = t->out - r < most ? t->out - r : most;
        if (read_elements(m, t, r * t->in, rows * t->in, values, k->real, err) == GRAFT_OK)
            quantize_rows(q, k, t, r, rows, values, err);
    }
    k->release(k, values);
    return err->code ? err->code : quantize_end(q, k, t, err);
}

/* A packed weight: from a state file, from a folder that holds it packed, or made here from the stored values. */
static int load_packed(model *m, base_tensor *t, adapt *a, quantize *q, graft_error *err) {
    kernels *k = m->device;
    int32_t found = 0, replaced = 0;
    if (t->trained)
        return fail(err, GRAFT_FAILED, "%s: %s lies packed in the files and cannot be trained itself", m->folder,
                    t->name);
    if (q && quantize_from_state(q, k, t, &found, err)) return err->code;
    if (!found && m->packed[t - m->tensors] && read_packed(m, t, &found, err)) return err->code;
    if (found) quantize_adjust(q, &t->w);
    if (!is_shown(m, a, t)) return found ? GRAFT_OK : pack_by_rows(m, t, q, err);
    void *values = allocate(m, t, tensor_count_of(t) * dtype_bytes(k->real), err);
    if (found && values)
        k->weight_read(k, &t->w, 0, t->out, values, k->real);
    else if (values)
        read_tensor(m, t, values, k->real, err);
    if (!err->code && a) show_adapters(m, a, t, values, &replaced, err);
    if (!err->code && replaced && found && !q)
        fail(err, GRAFT_FAILED,
             "%s: an adapter replaces %s, which lies packed in the files; a [quantizer] section says how to "
             "pack it again",
             m->folder, t->name);
    if (!err->code && (!found || replaced)) {
        tensor_release(k, t);
        quantize_pack(q, k, t, values, err);
    }
    k->release(k, values);
    return err->code;
}

static int load_plain(model *m, base_tensor *t, adapt *a, graft_error *err) {
    kernels *k = m->device;
    int32_t replaced = 0;
    if (tensor_allocate(m, t, err)) return err->code;
    if (!t->in) return read_tensor(m, t, t->vector, k->real, err);
    if (t->trained)
        return read_tensor(m, t, t->master, k->real, err) || !a ? err->code
                                                                : show_adapters(m, a, t, t->master, &replaced, err);
    if (!is_shown(m, a, t)) return read_tensor(m, t, t->w.data, t->w.type, err);
    void *values = allocate(m, t, tensor_count_of(t) * dtype_bytes(k->real), err);
    if (values && !read_tensor(m, t, values, k->real, err) && !show_adapters(m, a, t, values, &replaced, err)) {
        if (replaced)
            k->convert(k, t->w.data, t->w.type, values, k->real, tensor_count_of(t));
        else
            read_tensor(m, t, t->w.data, t->w.type, err);
    }
    k->release(k, values);
    return err->code;
}

static int load_tensor(model *m, base_tensor *t, adapt *a, quantize *q, graft_error *err) {
    if (t->tied_to >= 0) return GRAFT_OK;
    if (m->packed[t - m->tensors] || quantize_selects(q, t))
        load_packed(m, t, a, q, err);
    else
        load_plain(m, t, a, err);
    /* 8-bit rows stand for f32 numbers; beside bf16 activations they are multiplied as bf16 */
    if (t->w.layout == WEIGHT_ROWS8 && m->activation == BF16) t->w.type = BF16;
    if (!err->code && t->in && !t->trained) tensor_pack(m, t);
    return err->code;
}

/* ---- the whole model ---- */

static int upload_ropes(model *m, graft_error *err) {
    for (int r = 0; r < MODEL_ROPES; r++) {
        const rope_table *table = &m->shape.rope[r];
        const int64_t bytes = table->pairs * (int64_t)sizeof(float);
        const float *const host[] = {table->inv_freq, table->inv_freq_long};
        float **const dev[] = {&m->inv_freq[r], &m->inv_freq_long[r]};
        for (int i = 0; i < 2; i++) {
            if (!host[i]) continue;
            if (!(*dev[i] = m->device->alloc(m->device, bytes)))
                return fail(err, GRAFT_FAILED, "no memory for %lld bytes of rotary tables", (long long)bytes);
            m->device->upload(m->device, *dev[i], host[i], bytes);
        }
    }
    return GRAFT_OK;
}

/* A tied head reads the embedding's numbers through its own handle. */
static void share_tied(model *m) {
    for (int32_t t = 0; t < m->tensor_count; t++)
        if (m->tensors[t].tied_to >= 0) m->tensors[t].w = m->tensors[m->tensors[t].tied_to].w;
}

int model_begin_device(model *m, kernels *device, dtype activation, graft_error *err) {
    if (m->device) return fail(err, GRAFT_FAILED, "%s is loaded already", m->folder);
    m->device = device;
    m->activation = activation;
    return upload_ropes(m, err);
}

/* What products read of a trained matrix, made anew from its master. */
static void refresh(model *m, base_tensor *t) {
    kernels *const k = m->device;
    if (!t->trained || !t->in || t->tied_to >= 0) return;
    if (t->w.packed) k->weight_unpack(k, &t->w);
    if (t->w.data != t->master) k->convert(k, t->w.data, t->w.type, t->master, k->real, tensor_count_of(t));
    tensor_pack(m, t);
}

/* The numbers of a loaded matrix as dev real, released by the caller. */
static void *read_values(model *m, const base_tensor *t, graft_error *err) {
    kernels *const k = m->device;
    void *const values = allocate(m, t, tensor_count_of(t) * dtype_bytes(k->real), err);
    if (values && t->trained) k->copy(k, values, t->master, tensor_count_of(t) * dtype_bytes(k->real));
    if (values && !t->trained) k->weight_read(k, &t->w, 0, t->out, values, k->real);
    return values;
}

/* The rounds of init in front of the last look at each matrix as the files have it. */
static int show_round(model *m, base_tensor *t, adapt *a, int64_t round, graft_error *err) {
    for (int32_t p = 0; p < m->point_count && !err->code; p++) {
        const adapt_point *const at = &m->points[p];
        if (!(at->kinds & GRAFT_LINEAR) || tensor_at(m, (int32_t)(at->tensor - m->tensors)) != t ||
            round >= adapt_init_rounds(a, p) - 1)
            continue;
        load_tensor(m, t, NULL, NULL, err);
        void *const values = err->code ? NULL : read_values(m, t, err);
        if (values) adapt_init_round(a, p, round, values, err);
        m->device->release(m->device, values);
        tensor_release(m->device, t);
    }
    return err->code;
}

static int show_rounds(model *m, adapt *a, graft_error *err) {
    int32_t rounds = 1;
    for (int32_t p = 0; p < m->point_count; p++)
        rounds = adapt_init_rounds(a, p) > rounds ? adapt_init_rounds(a, p) : rounds;
    for (int64_t round = 0; round < rounds - 1; round++)
        for (int32_t t = 0; t < m->tensor_count && !err->code; t++)
            show_round(m, &m->tensors[t], a, round, err);
    return err->code;
}

/* A tied head, whose numbers are the embedding's, was observed. */
static int begin_tied(model *m, const base_tensor *head, adapt *a, graft_error *err) {
    const base_tensor *const t = &m->tensors[head->tied_to];
    int32_t replaced = 0; /* who writes W is refused there */
    void *const values = read_values(m, t, err);
    for (int32_t p = 0; p < m->point_count && values && !err->code; p++)
        if (m->points[p].kinds & GRAFT_LINEAR && m->points[p].tensor == head)
            adapt_init_at(a, p, values, &replaced, err);
    m->device->release(m->device, values);
    return err->code;
}

/* Tensors first .. behind - 1 are loaded; those whose techniques observe were loaded without them, and begin now. */
static int observe_tensors(model *m, observation *o, int32_t first, int32_t behind, adapt *a, quantize *q,
                           graft_error *err) {
    const int64_t section = observed_section(m, &m->tensors[behind - 1]);
    for (int32_t t = first; t < behind; t++)
        refresh(m, &m->tensors[t]);
    if (observe_whole(o)) share_tied(m);
    if (observe_whole(o) ? observe_gradients(o, err) : observe_run(o, section, OBSERVE_X, err)) return err->code;
    for (int32_t t = first; t < behind && !err->code; t++) {
        if (!observe_waits(o, &m->tensors[t])) continue;
        if (m->tensors[t].tied_to >= 0) {
            begin_tied(m, &m->tensors[t], a, err);
            continue;
        }
        tensor_release(m->device, &m->tensors[t]);
        load_tensor(m, &m->tensors[t], a, q, err);
        if (!err->code) refresh(m, &m->tensors[t]);
    }
    return err->code || observe_whole(o) ? err->code : observe_run(o, section, 0, err);
}

static int load_tensors(model *m, adapt *a, quantize *q, observation *o, graft_error *err) {
    int32_t first = 0; /* of the section, or of all */
    for (int32_t t = 0; t < m->tensor_count && !err->code; t++) {
        const int waits = observe_waits(o, &m->tensors[t]);
        const int last = t + 1 == m->tensor_count || (!observe_whole(o) && observed_section(m, &m->tensors[t]) !=
                                                                               observed_section(m, &m->tensors[t + 1]));
        if (load_tensor(m, &m->tensors[t], waits ? NULL : a, waits ? NULL : q, err) || !last) continue;
        if (o) observe_tensors(m, o, first, t + 1, a, q, err);
        first = t + 1;
    }
    return err->code;
}

int model_load(model *m, kernels *device, dtype activation, adapt *a, quantize *q, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    if (model_begin_device(m, device, activation, err)) return err->code;
    if (!m->files)
        return fail(err, GRAFT_FAILED, "%s was opened by its config.json alone: it has no weights to load", m->folder);
    observation *o = NULL;
    if (show_rounds(m, a, err) == GRAFT_OK && observe_begin(m, a, &o, err) == GRAFT_OK) load_tensors(m, a, q, o, err);
    observe_end(o);
    if (err->code) return err->code;
    model_refresh(m);
    return a ? adapt_ready(a, err) : GRAFT_OK;
}

void model_refresh(model *m) {
    for (int32_t i = 0; i < m->tensor_count; i++)
        refresh(m, &m->tensors[i]);
    share_tied(m);
}

/* A frozen matrix, whose packed form is made anew; one in few bits was packed with its zeros, which stay. */
static int mask_frozen(model *m, adapt *a, int32_t point, graft_error *err) {
    kernels *const k = m->device;
    base_tensor *const t = m->points[point].tensor;
    const dtype type = t->w.type;
    if (tensor_is_packed(t)) return GRAFT_OK;
    void *const values = read_values(m, t, err);
    if (values && adapt_mask_at(a, point, values, err) == GRAFT_OK) {
        tensor_release(k, t);
        if (tensor_allocate(m, t, err) == GRAFT_OK) {
            k->convert(k, t->w.data, type, values, k->real, tensor_count_of(t));
            tensor_pack(m, t);
        }
    }
    k->release(k, values);
    return err->code;
}

int model_mask(model *m, adapt *a, graft_error *err) {
    for (int32_t p = 0; p < m->point_count && !err->code; p++)
        if (m->points[p].kinds & GRAFT_LINEAR && !m->points[p].tensor->trained && adapt_mask_is_new(a, p))
            mask_frozen(m, a, p, err);
    return err->code;
}

int tensor_rows(model *m, const base_tensor *t, int64_t first, int64_t rows, float *to, graft_error *err) {
    kernels *k = m->device;
    const int64_t width = t->in ? t->in : 1;
    if (!t->in || t->trained) {
        const char *values = t->trained ? t->master : t->vector;
        download_as(k, to, F32, values + first * width * dtype_bytes(k->real), k->real, rows * width);
        return GRAFT_OK;
    }
    void *piece = k->alloc(k, rows * width * 4);
    if (!piece) return fail(err, GRAFT_FAILED, "no memory to read %lld rows of %s", (long long)rows, t->name);
    k->weight_read(k, &t->w, first, rows, piece, F32);
    k->download(k, to, piece, rows * width * 4);
    k->release(k, piece);
    return GRAFT_OK;
}

int64_t tensor_piece(const base_tensor *t) {
    const int64_t rows = PIECE / 4 / (t->in ? t->in : 1);
    return rows < 1 ? 1 : rows < t->out ? rows : t->out;
}

int model_read_tensor(model *m, int32_t tensor, float *to, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    const base_tensor *t = tensor_at(m, tensor);
    if (!m->device || !t) return fail(err, GRAFT_FAILED, "%s is not loaded", m->folder);
    const int64_t piece = tensor_piece(t), width = t->in ? t->in : 1;
    for (int64_t r = 0; r < t->out && !err->code; r += piece)
        tensor_rows(m, t, r, t->out - r < piece ? t->out - r : piece, to + r * width, err);
    return err->code;
}

int model_read_stored(model *m, int32_t tensor, float *to, graft_error *err) {
    const base_tensor *t = tensor_at(m, tensor);
    const tensor_info *info = m->files ? m->sources[t - m->tensors] : NULL;
    if (!info || m->packed[t - m->tensors])
        return fail(err, GRAFT_FAILED, "%s: %s does not lie in the files as numbers", m->folder, t->name);
    if (!t->transposed) return safetensors_read_as(m->files, info, to, F32, err);
    float *const turned = mem_new((size_t)info->count, sizeof *turned);
    if (safetensors_read_as(m->files, info, turned, F32, err) == GRAFT_OK)
        transpose_bytes(to, turned, t->in, t->out, sizeof *to);
    free(turned);
    return err->code;
}

int32_t model_is_packed_tensor(const model *m, const base_tensor *t) {
    return m->packed[t - m->tensors] != 0;
}

const base_tensor *model_packed_in_files(const model *m) {
    for (int32_t t = 0; t < m->tensor_count; t++)
        if (m->packed[t]) return &m->tensors[t];
    return NULL;
}

int64_t model_lowest_layer(const model *m, const adapt *a) {
    int64_t lowest = adapt_lowest_layer(a);
    for (int32_t i = 0; i < m->tensor_count; i++) {
        const base_tensor *t = &m->tensors[i];
        const int above = i == m->outside.weight[ROLE_FINAL_NORM] || i == m->outside.bias[ROLE_FINAL_NORM] ||
                          i == m->outside.weight[ROLE_HEAD];
        if (t->trained && !above && t->layer < lowest) lowest = t->layer;
    }
    return lowest;
}
