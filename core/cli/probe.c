/* graft probe — one forward (and backward) pass over a given batch, every number in a file: the door for tests. */
#include "base/json.h"
#include "cli/cli.h"
#include "formats/safetensors.h"
#include "run/data.h"
#include "run/slices.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRADS = 256, HIDDEN };
typedef struct {
    int grads, hidden;
} flags;

static int own(void *context, int val, const char *text) {
    flags *f = context;
    (void)text;
    f->grads |= val == GRADS;
    f->hidden |= val == HIDDEN;
    return GRAFT_OK;
}

/* The outputs, in arrays of the batch's own shape; rows that were not computed stay zero. */
typedef struct {
    tensor_out *list;
    int64_t count, capacity;
    arena memory;
} outputs;

static float *add_output(outputs *o, const char *name, int rank, const int64_t *shape) {
    int64_t count = 1;
    tensor_out t = {.name = arena_copy(&o->memory, name, strlen(name)), .dtype = F32, .rank = rank};
    for (int r = 0; r < rank; r++)
        count *= t.shape[r] = shape[r];
    t.data = arena_new(&o->memory, (size_t)count + 1, sizeof(float));
    mem_reserve(o->list, o->count, o->capacity);
    o->list[o->count++] = t;
    return (float *)(uintptr_t)t.data;
}

typedef struct {
    session s;
    workspace *w;
    sequence_list batch;
    slice_list slices;
    int64_t rows, width; /* B, T of the file                                          */
    int64_t ahead;       /* virtual embedding rows in front of each document          */
    outputs out;
} probe;

/* Row r of the slices is token `t` of sequence `b`: its place in a (B, ahead + T) array. */
static int64_t place(const probe *p, int64_t row, int64_t ahead) {
    const int64_t token = p->slices.origin[row] & 0xffffffff;
    return (p->slices.origin[row] >> 32) * (ahead + p->width) + ahead + token;
}

/* Where row i of a slice, or (i < 0) its virtual row -1 - i, has its logits; -1: nowhere, since only the virtual rows of a
 * sequence's first document have a place. */
static int64_t logits_place(const probe *p, const model_rows *r, int64_t base, int64_t i) {
    if (i >= 0) return place(p, base + i, p->ahead);
    const int64_t virtual = -1 - i, first = base + r->start[virtual / p->ahead];
    const int64_t row = p->slices.origin[first] >> 32;
    if (first > 0 && p->slices.origin[first - 1] >> 32 == row) return -1;
    return row * (p->ahead + p->width) + virtual % p->ahead;
}

static int slice_logits(probe *p, const model_rows *r, int64_t base, float *to, graft_error *err) {
    const int64_t vocab = model_descriptor(p->s.model)->vocab, virtual = r->documents * p->ahead;
    const int64_t count = virtual + r->rows;
    int32_t *list = mem_new((size_t)count + 1, sizeof *list);
    float *logits = mem_new((size_t)(count * vocab) + 1, sizeof *logits);
    for (int64_t n = 0; n < count; n++)
        list[n] = (int32_t)(n - virtual);
    if (model_logits(p->w, r, list, count, logits, err) == GRAFT_OK)
        for (int64_t n = 0; n < count; n++) {
            const int64_t at = logits_place(p, r, base, list[n]);
            if (at >= 0) memcpy(to + at * vocab, logits + n * vocab, (size_t)vocab * sizeof *to);
        }
    free(list);
    free(logits);
    return err->code;
}

static int pass_logits(probe *p, graft_error *err) {
    const int64_t vocab = model_descriptor(p->s.model)->vocab;
    float *to = add_output(&p->out, "logits", 3, (int64_t[]){p->rows, p->ahead + p->width, vocab});
    int64_t base = 0;
    for (int64_t k = 0; k < p->slices.count && !err->code; k++) {
        slice_logits(p, &p->slices.at[k], base, to, err);
        base += p->slices.at[k].rows;
    }
    return err->code;
}

static int pass_hidden(probe *p, graft_error *err) {
    const model_shape *s = model_descriptor(p->s.model);
    float *to = add_output(&p->out, "hidden_states", 4, (int64_t[]){s->layers + 1, p->rows, p->width, s->hidden});
    int64_t base = 0;
    for (int64_t k = 0; k < p->slices.count && !err->code; k++) {
        const model_rows *r = &p->slices.at[k];
        float *hidden = mem_new((size_t)((s->layers + 1) * r->rows * s->hidden) + 1, sizeof *hidden);
        if (model_hidden(p->w, r, hidden, err) == GRAFT_OK)
            for (int64_t l = 0; l <= s->layers; l++)
                for (int64_t i = 0; i < r->rows; i++)
                    memcpy(to + (l * p->rows * p->width + place(p, base + i, 0)) * s->hidden,
                           hidden + (l * r->rows + i) * s->hidden, (size_t)s->hidden * sizeof *to);
        base += r->rows;
        free(hidden);
    }
    return err->code;
}

/* token_nll[b, t] is that of the target labels[b, t + 1], at position t; virtual rows, of which the last predicts labels[b, 0],
 * move everything by as many places. logp: of the targets of one slice, document by document. Returns their sum. */
static double place_nll(const probe *p, const model_rows *r, int64_t base, const float *logp, float *nll) {
    double sum = 0;
    for (int64_t d = 0; d < r->documents; d++)
        for (int64_t i = r->start[d] - 1; i < r->start[d + 1]; i++) { /* the one in front is virtual */
            const int ahead = i < r->start[d];
            if (ahead ? !r->first || r->first[d] < 0 : r->targets[i] < 0) continue;
            const int64_t to = place(p, base + i + ahead, p->ahead) - ahead;
            nll[to - to / (p->ahead + p->width)] = -*logp;
            sum -= (double)*logp++;
        }
    return sum;
}

static int pass_loss(probe *p, graft_error *err) {
    float *nll = add_output(&p->out, "token_nll", 2, (int64_t[]){p->rows, p->ahead + p->width - 1});
    float *loss = add_output(&p->out, "loss", 1, (int64_t[]){1});
    double sum = 0;
    int64_t base = 0;
    for (int64_t k = 0; k < p->slices.count && !err->code; k++) {
        const model_rows *r = &p->slices.at[k];
        float *logp = mem_new((size_t)(r->rows + r->documents) + 1, sizeof *logp);
        if (model_logprobs(p->w, r, logp, err) == GRAFT_OK) sum += place_nll(p, r, base, logp, nll);
        base += r->rows;
        free(logp);
    }
    if (p->slices.targets) *loss = (float)(sum / (double)p->slices.targets);
    return err->code;
}

static double mean_loss(const void *self, const graft_batch *b, float *dlogp) {
    (void)self;
    double loss = 0;
    for (int64_t t = 0; t < b->tokens; t++) {
        dlogp[t] = (float)(-(double)b->weight[t] / b->total);
        loss -= b->logp ? (double)b->weight[t] * (double)b->logp[t] / b->total : 0;
    }
    return loss;
}

static int pass_gradients(probe *p, graft_error *err) {
    const graft_objective mean = {.size = sizeof mean, .flags = GRAFT_WEIGHTS_KNOWN, .loss = mean_loss};
    const model_objective o = {.functions = &mean, .total = (double)p->slices.targets};
    double loss = 0;
    model_zero_gradients(p->w);
    for (int64_t k = 0; k < p->slices.count && !err->code; k++)
        if (p->slices.targets_of[k] > 0) model_train_slice(p->w, &p->slices.at[k], &o, &loss, err);
    if (!err->code && p->s.adapters) adapt_regularize(p->s.adapters, 0, 0, &loss, err);
    int32_t count;
    const adapt_param *params = adapt_params(p->s.adapters, &count);
    kernels *device = p->s.device;
    for (int32_t g = 0; g < count && !err->code; g++) {
        const adapt_param *q = &params[g];
        char *name = mem_format("grad.%s", q->name);
        const int turned = q->transposed && q->rank == 2;
        const int64_t shape[2] = {q->rank != 2 ? q->count : turned ? q->cols : q->rows, turned ? q->rows : q->cols};
        float *to = add_output(&p->out, name, q->rank == 2 ? 2 : 1, shape),
              *flat = mem_new((size_t)q->count + 1, sizeof *flat);
        free(name);
        void *raw = mem_new((size_t)q->count + 1, 8);
        device->download(device, raw, q->grad, q->count * dtype_bytes(device->real));
        dtype_convert(flat, F32, raw, device->real, q->count);
        for (int64_t i = 0; i < q->count; i++)
            to[turned ? i % q->cols * q->rows + i / q->cols : i] = flat[i];
        free(raw);
        free(flat);
    }
    return err->code;
}

/* Without an adapter the gradients of the whole model are wanted: every tensor is trained. */
static int train_everything(session *s, const session_request *q, graft_error *err) {
    static const char *const everything[] = {"*"};
    const plugin_component *full = NULL;
    if (registry_find(q->plugins, PLUGIN_ADAPTER, "full", NULL, &full, err)) return err->code;
    s->specs = arena_new(&s->memory, 1, sizeof *s->specs);
    s->starts = arena_new(&s->memory, 1, sizeof *s->starts);
    s->specs[0] = (adapt_spec){.name = "", .component = full, .targets = everything, .target_count = 1};
    s->spec_count = 1;
    int32_t points;
    const adapt_point *at = model_points(s->model, &points);
    return adapt_bind(s->specs, 1, at, points, 0, &s->adapters, err);
}

static int read_batch(probe *p, const char *path, graft_error *err) {
    safetensors *st = NULL;
    if (safetensors_open(path, &st, err) == GRAFT_OK) data_tensors_read(st, "", &p->batch, &p->rows, &p->width, err);
    safetensors_close(st);
    int64_t longest = 1, total = 0;
    for (int64_t i = 0; i < p->batch.count; i++) {
        longest = p->batch.at[i].tokens > longest ? p->batch.at[i].tokens : longest;
        total += p->batch.at[i].tokens;
    }
    const void *rows;
    void *gradient;
    p->ahead = adapt_virtual_embed(p->s.adapters, &rows, &gradient);
    const slice_limits limits = {.vocab = model_descriptor(p->s.model)->vocab,
                                 .rows = slices_automatic(longest, total),
                                 .first = p->ahead > 0,
                                 .what = path};
    return err->code ? err->code : slices_cut(&p->batch, &limits, &p->slices, err);
}

static int probe_run(probe *p, const flags *f, const cli_options *o, graft_error *err) {
    int64_t rows = 1, documents = 1;
    for (int64_t k = 0; k < p->slices.count; k++) {
        rows = p->slices.at[k].rows > rows ? p->slices.at[k].rows : rows;
        documents = p->slices.at[k].documents > documents ? p->slices.at[k].documents : documents;
    }
    const workspace_config c = {.rows = rows, .documents = documents, .backward = f->grads};
    if (session_load(&p->s, 0, err) || workspace_create(p->s.model, p->s.adapters, &c, &p->w, err) ||
        pass_logits(p, err) || pass_loss(p, err) || (f->hidden && pass_hidden(p, err)) ||
        (f->grads && pass_gradients(p, err)))
        return err->code;
    if (p->slices.targets == 0)
        for (int64_t t = 0; t < p->out.count; t++)
            if (strcmp(p->out.list[t].name, "loss") == 0)
                p->out.list[t] = p->out.list[--p->out.count]; /* no target: there is no mean */
    return safetensors_write(o->output, p->out.list, p->out.count, NULL, 0, err);
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"grads", no_argument, NULL, GRADS},
        {"hidden",   no_argument, NULL, HIDDEN},
        {0      }
    };
    cli_options o;
    flags f = {0};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_probe, "ioaIpdts", more, own, &f, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    if (!o.input || !o.output) return cli_usage(&command_probe, "--input and --output are needed");
    registry *plugins = registry_create();
    recipe *settings = NULL;
    probe p = {0};
    if (o.ini) recipe_load(plugins, o.ini, o.set, o.set_count, 0, &settings, NULL, &err);
    session_request q = cli_request(&o, words[first], plugins);
    q.precision = o.precision ? o.precision : "f32";
    q.recipe = settings;
    if (!err.code && session_open(&q, &p.s, &err) == GRAFT_OK && f.grads && !p.s.spec_count)
        train_everything(&p.s, &q, &err);
    if (!err.code && read_batch(&p, o.input, &err) == GRAFT_OK) probe_run(&p, &f, &o, &err);
    workspace_free(p.w);
    slices_free(&p.slices);
    sequence_list_free(&p.batch);
    session_close(&p.s);
    free(p.out.list);
    arena_free(&p.out.memory);
    recipe_free(settings);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_probe = {
    "probe", "run one batch and write logits, losses and gradients",
    "usage: graft probe MODEL --input case.safetensors --output out.safetensors [--adapter DIR]... [--ini run.ini]\n"
    "                   [--grads] [--hidden] [--precision f32|bf16] [--device cpu|ref|ref64|fake] [--threads N]\n\n"
    "The input holds input_ids (B, T) and, where wanted, labels, attention_mask, position_ids, document_ids, of any "
    "integer\n"
    "type. Written: logits (B, T, V), token_nll (B, T - 1) at the position that predicts, loss (mean over targets), "
    "with\n"
    "--hidden hidden_states (layers + 1, B, T, hidden), with --grads the gradient of the loss as grad.NAME for "
    "everything\n"
    "trainable: of the adapters under their PEFT names, without an adapter of the whole model. Rows whose "
    "attention_mask "
    "is 0\n"
    "hold zeros. An adapter of virtual embedding rows makes logits and token_nll longer by them: T counts them too.\n"
    "--ini applies its [quantizer] and [adapter] sections.\n",
    run};
