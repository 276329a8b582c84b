/* rows — the input of a pass: checked, laid out with the virtual embedding rows in front of each document, and brought to
 * the device. Positions of real tokens start behind all virtual ones. */
#include "model/pass.h"
#include <stdlib.h>
#include <string.h>

static int check_rows(const workspace *w, const model_rows *r, graft_error *err) {
    if (r->rows < 0 || r->rows > w->real_rows)
        return fail(err, GRAFT_FAILED, "%lld tokens in one pass; there is room for %lld", (long long)r->rows,
                    (long long)w->real_rows);
    if (r->documents < 0 || r->documents > w->c.documents || (r->documents == 0 && r->rows))
        return fail(err, GRAFT_FAILED, "%lld documents in one pass; there is room for %lld", (long long)r->documents,
                    (long long)w->c.documents);
    if (r->documents && (r->start[0] != 0 || r->start[r->documents] != r->rows))
        return fail(err, GRAFT_FAILED, "the documents do not cover the %lld tokens of the pass", (long long)r->rows);
    for (int64_t d = 0; d < r->documents; d++) {
        if (r->start[d] > r->start[d + 1])
            return fail(err, GRAFT_FAILED, "document %lld ends before it begins", (long long)d);
        for (int64_t i = r->start[d]; i < r->start[d + 1]; i++)
            if (r->positions[i] < 0 || (i > r->start[d] && r->positions[i] <= r->positions[i - 1]))
                return fail(err, GRAFT_FAILED,
                            "token %lld has position %d; positions of a document start at 0 or more and increase",
                            (long long)i, r->positions[i]);
    }
    return GRAFT_OK;
}

static int check_id(const model *m, int64_t row, int32_t id, graft_error *err) {
    return id >= 0 && id < m->shape.vocab
               ? GRAFT_OK
               : fail(err, GRAFT_FAILED, "token %lld has id %d, outside the vocabulary of %lld", (long long)row, id,
                      (long long)m->shape.vocab);
}

/* Positions of learned tables end; others are bounded by what positions hold. */
static int64_t position_count(const model *m) {
    return m->shape.learned_positions ? m->shape.context : INT32_MAX / 2;
}

static int64_t virtual_count(const adapt *a) {
    const void *rows;
    void *gradient;
    return adapt_virtual_kv(a, &rows, &gradient) + adapt_virtual_embed(a, &rows, &gradient);
}

int64_t model_longest(const model *m, const adapt *a) {
    const int64_t left = position_count(m) - virtual_count(a);
    return left > 0 ? left : 0;
}

int model_check_length(const model *m, const adapt *a, int64_t tokens, graft_error *err) {
    const int64_t most = model_longest(m, a);
    if (tokens <= most) return GRAFT_OK;
    char taken[64] = "";
    if (virtual_count(a))
        snprintf(taken, sizeof taken, ", and virtual rows of its adapter take %lld", (long long)virtual_count(a));
    return fail(err, GRAFT_USAGE, "%lld tokens are more than the %lld that fit: this model has %lld positions%s",
                (long long)tokens, (long long)most, (long long)position_count(m), taken);
}

static int check_position(const model *m, int64_t position, graft_error *err) {
    return position < position_count(m)
               ? GRAFT_OK
               : fail(err, GRAFT_FAILED, "position %lld is beyond the %lld positions of this model",
                      (long long)position, (long long)position_count(m));
}

static pass new_pass(workspace *w, struct kv_cache *cache) {
    model *m = w->m;
    pass p = {.w = w, .m = m, .k = m->device, .type = m->activation, .cache = cache};
    p.virtual_kv = adapt_virtual_kv(w->a, &p.kv, &p.dkv);
    p.virtual_embed = adapt_virtual_embed(w->a, &p.embed, &p.dembed);
    p.call = (adapt_pass){.device = p.k, .activation = p.type, .capacity = w->rows, .scratch = w->adapter};
    return p;
}

/* The next row of the pass; key: sample and token, for dropout. */
static void add_row(pass *p, int32_t id, int64_t position, int64_t key) {
    p->w->host_ids[p->rows] = id;
    p->w->host_positions[p->rows] = (int32_t)position;
    p->w->host_keys[p->rows] = key;
    p->rows++;
}

/* Virtual rows embed nothing (id 0 is looked up and overwritten); their keys count down from the largest token number. */
static void add_virtual(pass *p, int64_t key) {
    for (int64_t v = 0; v < p->virtual_embed; v++)
        add_row(p, 0, p->virtual_kv + v, (key & ~(int64_t)0xffffffff) | (0xffffffff - v));
}

/* Tables of the rows of one document of `length` positions, joined to the run before when they are the same. */
static void add_run(pass *p, int64_t document, int64_t row, int64_t rows, int64_t length) {
    workspace *w = p->w;
    const model *m = p->m;
    rope_run run = {.row = row, .rows = rows};
    int64_t at = document;
    for (int t = 0; t < MODEL_ROPES; t++) {
        const rope_table *r = &m->shape.rope[t];
        float *own = r->dynamic ? w->host_rope + at * r->pairs : NULL;
        const float *table = rope_for(r, length, own);
        run.table[t] = table == r->inv_freq_long ? m->inv_freq_long[t] : m->inv_freq[t];
        if (own && table == own) {
            float *dev = w->rope_own + at * r->pairs;
            p->k->upload(p->k, dev, own, r->pairs * (int64_t)sizeof *own);
            run.table[t] = dev;
        }
        at += w->c.documents;
    }
    rope_run *last = p->runs ? &w->runs[p->runs - 1] : NULL;
    if (last && memcmp(last->table, run.table, sizeof run.table) == 0)
        last->rows += rows;
    else
        w->runs[p->runs++] = run;
}

static void upload_rows(pass *p, int32_t keys) {
    workspace *w = p->w;
    p->k->upload(p->k, w->ids, w->host_ids, p->rows * 4);
    p->k->upload(p->k, w->positions, w->host_positions, p->rows * 4);
    if (keys) p->k->upload(p->k, w->keys, w->host_keys, p->rows * 8);
    p->call.rows = p->rows;
    p->call.row_key = keys ? w->keys : NULL;
}

int pass_begin(workspace *w, const model_rows *rows, pass *p, graft_error *err) {
    *p = new_pass(w, NULL);
    if (check_rows(w, rows, err)) return err->code;
    p->documents = rows->documents;
    const int64_t shift = p->virtual_kv + p->virtual_embed;
    for (int64_t d = 0; d < rows->documents; d++) {
        const int64_t first = w->first[d] = p->rows;
        int64_t length = rows->longest > 0 ? rows->longest + shift : 0;
        add_virtual(p, rows->row_key && rows->start[d] < rows->rows ? rows->row_key[rows->start[d]] : 0);
        for (int64_t i = rows->start[d]; i < rows->start[d + 1]; i++) {
            if (check_id(w->m, i, rows->ids[i], err) || check_position(w->m, rows->positions[i] + shift, err))
                return err->code;
            add_row(p, rows->ids[i], rows->positions[i] + shift, rows->row_key ? rows->row_key[i] : 0);
        }
        if (p->rows > first && w->host_positions[p->rows - 1] + 1 > length) length = w->host_positions[p->rows - 1] + 1;
        w->spans[d] = (attention_span){first, p->rows - first, first, p->rows - first};
        add_run(p, d, first, p->rows - first, length);
    }
    w->first[p->documents] = p->rows;
    upload_rows(p, rows->row_key != NULL);
    return GRAFT_OK;
}

int pass_begin_cached(workspace *w, struct kv_cache *cache, const cache_piece *pieces, int64_t count, pass *p,
                      graft_error *err) {
    *p = new_pass(w, cache);
    p->documents = count;
    for (int64_t d = 0; d < count; d++) {
        const cache_piece *piece = &pieces[d];
        const int64_t first = w->first[d] = p->rows, before = p->virtual_kv + piece->past - first;
        if (piece->past == 0) add_virtual(p, 0);
        for (int64_t i = 0; i < piece->count; i++) {
            if (check_id(w->m, i, piece->ids[i], err) || check_position(w->m, before + p->rows, err)) return err->code;
            add_row(p, piece->ids[i], before + p->rows, 0);
        }
        add_run(p, d, first, p->rows - first, p->virtual_kv + piece->longest);
    }
    w->first[count] = p->rows;
    upload_rows(p, 0);
    return GRAFT_OK;
}

int64_t pass_row(const pass *p, const model_rows *rows, int64_t document, int64_t row) {
    return p->w->first[document] + p->virtual_embed + row - rows->start[document];
}

static void add_target(pass *p, int64_t row, int32_t id, float importance) {
    target_list *t = &p->w->target;
    t->row[t->count] = (int32_t)row;
    t->id[t->count] = id;
    t->weight[t->count++] = importance;
}

int pass_targets(pass *p, const model_rows *rows, graft_error *err) {
    workspace *w = p->w;
    target_list *t = &w->target;
    t->count = 0;
    for (int64_t d = 0; d < rows->documents; d++) {
        t->start[d] = t->count;
        if (p->virtual_embed && rows->first && rows->first[d] >= 0) {
            if (check_id(p->m, rows->start[d], rows->first[d], err)) return err->code;
            add_target(p, w->first[d] + p->virtual_embed - 1, rows->first[d], 1);
        }
        for (int64_t i = rows->start[d]; i < rows->start[d + 1]; i++) {
            if (rows->targets[i] < 0) continue;
            if (check_id(p->m, i, rows->targets[i], err)) return err->code;
            add_target(p, pass_row(p, rows, d, i), rows->targets[i], rows->weights ? rows->weights[i] : 1);
        }
    }
    t->start[rows->documents] = t->count;
    p->k->upload(p->k, w->picked, t->row, t->count * 4);
    p->k->upload(p->k, w->targets, t->id, t->count * 4);
    if (p->call.row_key) {
        int64_t *keys = mem_new((size_t)t->count, sizeof *keys);
        for (int64_t i = 0; i < t->count; i++)
            keys[i] = w->host_keys[t->row[i]];
        p->k->upload(p->k, w->head_keys, keys, t->count * 8);
        free(keys);
    }
    return GRAFT_OK;
}
