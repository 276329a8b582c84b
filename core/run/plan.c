/* plan — counting. */
#include "run/plan.h"
#include "base/file.h"
#include "run/progress.h"
#include "run/slices.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DOCUMENTS_WITH_VIRTUAL_ROWS = 8, COMFORT_PERCENT = 70 };
/* ids, labels, mask of a token; its id, position, target, key and origin in the slices */
/* W as the device has it, what a callback reads of it in double, and both once more on the way */
enum { BYTES_OF_A_WEIGHT_READ = 2 * (4 + 8) };
enum { BYTES_OF_A_TOKEN = 40, FILE_BUFFERS = 8 << 20, COPIES_TO_TURN = 3 };

/* ---- the memory there is ---- */

/* The number behind `key` in a file of lines "key: number kB", or the first number when key is NULL; -1: none. */
static int64_t read_number(const char *path, const char *key) {
    FILE *const file = fopen(path, "r");
    char line[256];
    long long value = -1;
    while (file && fgets(line, sizeof line, file)) {
        const char *const at = key ? strstr(line, key) == line ? line + strlen(key) : NULL : line;
        if (at && sscanf(at, "%lld", &value) == 1) break;
    }
    if (file) fclose(file);
    return value;
}

static int64_t resident(void) {
    const int64_t kib = read_number("/proc/self/status", "VmRSS:");
    return kib > 0 ? kib * 1024 : 0;
}

int64_t plan_memory(void) {
    const int64_t own = resident(), kib = read_number("/proc/meminfo", "MemAvailable:");
    const int64_t limit = read_number("/sys/fs/cgroup/memory.max", NULL);
    const int64_t used = read_number("/sys/fs/cgroup/memory.current", NULL);
    const int64_t cache = read_number("/sys/fs/cgroup/memory.stat", "file "); /* goes when memory is wanted */
    int64_t free_bytes = kib > 0 ? kib * 1024 : 0;
    if (limit > 0 && used >= 0) {
        const int64_t left = limit - used + (cache > 0 ? cache : 0);
        if (free_bytes == 0 || left < free_bytes) free_bytes = left > 0 ? left : 0;
    }
    return free_bytes ? free_bytes + own : 0;
}

/* ---- sizes ---- */

static int plan_steps(const recipe *r, const session *s, const data_source *d, plan *p, graft_error *err) {
    const recipe_train *const t = &r->train;
    int32_t trained;
    p->steps_per_epoch = d->steps_per_epoch;
    p->steps = t->steps ? t->steps : (int64_t)ceil(t->epochs * (double)d->steps_per_epoch);
    adapt_params(s->adapters, &trained);
    if (trained == 0) p->steps = 0; /* base weights are rewritten and nothing is learned */
    p->warmup = recipe_warmup(r, p->steps);
    if (d->steps_limit && p->steps > d->steps_limit)
        return fail(err, GRAFT_USAGE,
                    "the data file holds %lld steps, but [train] asks for %lld; fixed batches are used once",
                    (long long)d->steps_limit, (long long)p->steps);
    return GRAFT_OK;
}

int plan_passes(const session *s, const data_source *d, int64_t rows, slice_limits *limits, workspace_config *c,
                graft_error *err) {
    const void *values;
    void *gradient;
    const int virtual = s->adapters && adapt_virtual_embed(s->adapters, &values, &gradient) > 0;
    if (model_check_length(s->model, s->adapters, d->longest_document, err))
        return fail_within(err, "the longest sample; lower [data] max_length");
    *limits = (slice_limits){.vocab = model_descriptor(s->model)->vocab, .rows = rows, .first = virtual};
    if (virtual) /* every document carries its own rows */
        limits->documents = d->documents > DOCUMENTS_WITH_VIRTUAL_ROWS ? d->documents : DOCUMENTS_WITH_VIRTUAL_ROWS;
    *c = (workspace_config){.rows = rows, .documents = virtual ? limits->documents : rows};
    return GRAFT_OK;
}

static int plan_slices(const recipe *r, const session *s, const data_source *d, plan *p, graft_error *err) {
    p->slice_rows = r->train.slice_tokens ? r->train.slice_tokens : slices_automatic(d->longest, d->step_tokens);
    if (p->slice_rows < d->longest)
        return fail(err, GRAFT_USAGE,
                    "[train] slice_tokens = %lld, but a sequence may have %lld tokens and stays whole; raise it "
                    "or lower max_length",
                    (long long)p->slice_rows, (long long)d->longest);
    if (plan_passes(s, d, p->slice_rows, &p->limits, &p->workspace, err)) return err->code;
    p->workspace.backward = 1;
    return GRAFT_OK;
}

/* Calibration comes before the passes of training and gives its memory back. */
static void count_calibration(session *s, int64_t calibration, plan *p) {
    workspace_config c = p->workspace;
    c.backward = s->adapters && adapt_observes(s->adapters, -1) == OBSERVE_X_DY;
    const int64_t passes = p->bytes.activations + p->bytes.scratch;
    const int64_t own = calibration ? model_calibration_bytes(s->model, s->device, s->activation, s->adapters,
                                                              s->quantizer, &c, calibration)
                                    : 0;
    if (own > passes) p->bytes.activations += own - passes;
    p->bytes.host += calibration * BYTES_OF_A_TOKEN;
}

/* Masks are made from the numbers of one matrix on the host. */
static int64_t choosing(const session *s) {
    adapt_mask_report m;
    int64_t widest = 0;
    for (int32_t spec = 0; spec < s->spec_count; spec++)
        for (int32_t n = 0; adapt_masked(s->adapters, spec, n, &m); n++)
            if (m.all > widest) widest = m.all;
    return widest * BYTES_OF_A_WEIGHT_READ;
}

/* Bytes of the largest one that files hold transposed: it is turned as a whole, others are moved in pieces. */
static int64_t widest_turned(const adapt *a) {
    int32_t count;
    int64_t widest = 0;
    const adapt_param *const p = adapt_params(a, &count);
    for (int32_t i = 0; i < count; i++)
        if (p[i].transposed && p[i].count > widest) widest = p[i].count;
    return widest * (int64_t)sizeof(float);
}

static void count_bytes(session *s, const data_source *d, const optimizer *o, int64_t calibration, plan *p) {
    model_bytes m;
    adapt_bytes a = {0};
    plan_bytes *const b = &p->bytes;
    p->workspace.checkpoint = p->checkpoint;
    model_plan(s->model, s->device, s->activation, s->adapters, s->quantizer, &p->workspace, &m);
    if (s->adapters) adapt_size(s->adapters, s->device, &a);
    b->weights = m.weights;
    b->parameters = m.masters + a.parameters + a.buffers;
    b->gradients = m.gradients + a.gradients;
    b->optimizer = optimizer_bytes(o);
    b->activations = m.activations;
    b->scratch = m.scratch;
    b->host = d->step_tokens * BYTES_OF_A_TOKEN + FILE_BUFFERS + COPIES_TO_TURN * widest_turned(s->adapters);
    b->host += choosing(s);
    count_calibration(s, calibration, p);
    p->trainable = a.trainable;
    p->disk = p->steps ? b->parameters + b->optimizer + 2 * a.parameters : 0;
    p->total =
        b->program + b->weights + b->parameters + b->gradients + b->optimizer + b->activations + b->scratch + b->host;
}

int plan_make(const recipe *r, session *s, const data_source *d, const optimizer *o, int64_t calibration, plan *out,
              graft_error *err) {
    *out = (plan){.bytes.program = resident(), .available = plan_memory()};
    if (plan_steps(r, s, d, out, err) || plan_slices(r, s, d, out, err)) return err->code;
    int32_t tensors;
    const base_tensor *const t = model_tensors(s->model, &tensors);
    for (int32_t i = 0; i < tensors; i++)
        if (t[i].tied_to < 0) out->weights += t[i].out * (t[i].in ? t[i].in : 1);
    out->checkpoint = r->train.checkpoint_activations == RECIPE_YES;
    count_bytes(s, d, o, calibration, out);
    if (r->train.checkpoint_activations == RECIPE_AUTO && out->available &&
        out->total > out->available / 100 * COMFORT_PERCENT) {
        out->checkpoint = 1;
        count_bytes(s, d, o, calibration, out);
    }
    return GRAFT_OK;
}

/* ---- showing ---- */

typedef struct {
    const char *name, *what;
    int64_t bytes;
} row;
enum { ROWS = 8 };

static void list_rows(const plan *p, row out[ROWS]) {
    const plan_bytes *const b = &p->bytes;
    const row rows[ROWS] = {
        {"program",     "code, plugins, tokenizer, texts",                                                       b->program   },
        {"weights",     "the base, as it is stored or packed",                                                   b->weights   },
        {"parameters",  "what is trained, and buffers of the technique",                                         b->parameters},
        {"gradients",   "one for every parameter",                                                               b->gradients },
        {"optimizer",   "its state",                                                                             b->optimizer },
        {"activations", p->checkpoint ? "inputs of the blocks, and one block" : "kept from forward to backward",
         b->activations                                                                                                       },
        {"scratch",     "temporaries of one slice and of the head",                                              b->scratch   },
        {"host",        "the sequences of one step, files being read and saved",                                 b->host      },
    };
    memcpy(out, rows, sizeof rows);
}

void plan_print(const plan *p, FILE *to) {
    row rows[ROWS];
    char text[32];
    list_rows(p, rows);
    for (int i = 0; i < ROWS; i++) {
        progress_bytes(rows[i].bytes, text);
        fprintf(to, "%-12s %10s   %s\n", rows[i].name, text, rows[i].what);
    }
    progress_bytes(p->total, text);
    fprintf(to, "%-12s %10s", "together", text);
    progress_bytes(p->available, text);
    fprintf(to, p->available ? "   of %s that this process may use\n" : "\n", text);
    fprintf(to,
            "%lld of %lld weights are trained (%.3g %%); %lld steps of slices of up to %lld tokens; blocks are %s\n",
            (long long)p->trainable, (long long)p->weights,
            p->weights ? 100.0 * (double)p->trainable / (double)p->weights : 0.0, (long long)p->steps,
            (long long)p->slice_rows, p->checkpoint ? "computed again in backward" : "kept");
}

json_t *plan_json(const plan *p) {
    row rows[ROWS];
    list_rows(p, rows);
    json_t *const bytes = json_object(), *const root = json_object();
    for (int i = 0; i < ROWS; i++)
        json_object_set_new(bytes, rows[i].name, json_integer(rows[i].bytes));
    json_object_set_new(root, "bytes", bytes);
    json_object_set_new(root, "total", json_integer(p->total));
    json_object_set_new(root, "available", p->available ? json_integer(p->available) : json_null());
    json_object_set_new(root, "fits", json_boolean(!p->available || p->total <= p->available));
    json_object_set_new(root, "trainable", json_integer(p->trainable));
    json_object_set_new(root, "weights", json_integer(p->weights));
    json_object_set_new(root, "steps", json_integer(p->steps));
    json_object_set_new(root, "slice_tokens", json_integer(p->slice_rows));
    json_object_set_new(root, "checkpoint_activations", json_boolean(p->checkpoint));
    return root;
}

int plan_check(const plan *p, graft_error *err) {
    if (!p->available || p->total <= p->available) return GRAFT_OK;
    char total[32], available[32], *table = NULL;
    size_t size = 0;
    FILE *const memory = open_memstream(&table, &size);
    if (memory) plan_print(p, memory);
    if (memory) fclose(memory);
    progress_bytes(p->total, total);
    progress_bytes(p->available, available);
    fail(err, GRAFT_FAILED, "the run needs %s, this process may use %s\n%s%s", total, available, table ? table : "",
         p->checkpoint
             ? "what helps: a smaller slice_tokens or max_length, fewer targets, a [quantizer], a smaller model"
             : "what helps: checkpoint_activations = yes, a smaller slice_tokens or max_length, a [quantizer]");
    free(table);
    return err->code;
}

int plan_check_disk(const plan *p, const char *folder, graft_error *err) {
    const int64_t room = file_room(folder);
    char needed[32], left[32];
    if (room < 0 || p->disk <= room) return GRAFT_OK;
    progress_bytes(p->disk, needed);
    progress_bytes(room, left);
    return fail(err, GRAFT_FAILED,
                "%s: the run writes %s at least, and %s are free there; make room, or name another "
                "[output] path",
                folder, needed, left);
}
