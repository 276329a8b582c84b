/* slices — removing padding, finding documents, shifting labels, cutting. */
#include "run/slices.h"
#include <stdlib.h>

enum { ROWS_WANTED = 1024 }; /* products of more rows are hardly faster, and activations grow with the rows */

int64_t slices_automatic(int64_t longest, int64_t step_tokens) {
    const int64_t wanted = longest > ROWS_WANTED ? longest : ROWS_WANTED;
    const int64_t most = longest > step_tokens ? longest : step_tokens;
    return wanted < most ? wanted : most;
}

/* Where cutting stands. */
typedef struct {
    const slice_limits *limits;
    slice_list *out;
    int64_t capacity; /* slices allocated                                */
    int64_t starts;   /* entries of out->starts that are used            */
    int64_t sequence; /* number of the sequence being read               */
    int64_t document; /* documents of the step in front of this one      */
    int64_t longest;  /* positions of padded rows, 0: there are none     */
} cutting;

static int bad(const cutting *c, int64_t token, graft_error *err, const char *what, int64_t value, const char *bound,
               int64_t limit) {
    return fail(err, GRAFT_FAILED, "%s%ssequence %lld, token %lld: %s %lld %s %lld",
                c->limits->what ? c->limits->what : "", c->limits->what ? ", " : "", (long long)c->sequence,
                (long long)token, what, (long long)value, bound, (long long)limit);
}

static int is_kept(const sequence *s, int64_t t) {
    return !s->mask || s->mask[t];
}

/* Where documents are not told, positions tell them: any step but one where nothing is padded, as the reference has it. */
static int begins_document(const sequence *s, int64_t before, int64_t t) {
    if (before < 0) return 1;
    if (s->documents) return s->documents[t] != s->documents[before];
    if (!s->positions) return 0;
    return s->mask ? s->positions[t] <= s->positions[before] : s->positions[t] != s->positions[before] + 1;
}

static int read_label(const cutting *c, const sequence *s, int64_t t, int32_t *target, graft_error *err) {
    *target = -1;
    if (s->labels[t] == LABEL_NONE) return GRAFT_OK;
    *target = s->labels[t];
    if (*target >= 0 && *target < c->limits->vocab) return GRAFT_OK;
    return bad(c, t, err, "label", *target, "is neither -100 nor inside the vocabulary of", c->limits->vocab);
}

/* The label that the row of token t predicts: that of the next token, padding or not, of the same document. */
static int find_target(const cutting *c, const sequence *s, int64_t t, int32_t *target, graft_error *err) {
    *target = -1;
    return t + 1 < s->tokens && !begins_document(s, t, t + 1) ? read_label(c, s, t + 1, target, err) : GRAFT_OK;
}

static int check_id(const cutting *c, const sequence *s, int64_t t, graft_error *err) {
    if (s->ids[t] >= 0 && s->ids[t] < c->limits->vocab) return GRAFT_OK;
    return bad(c, t, err, "id", s->ids[t], "is outside the vocabulary of", c->limits->vocab);
}

static int check_position(const cutting *c, int64_t t, int32_t position, int32_t before, int begins, graft_error *err) {
    if (position < 0) return bad(c, t, err, "position", position, "lies below", 0);
    if (!begins && position <= before)
        return bad(c, t, err, "position", position, "does not increase in its document; the one before is", before);
    return GRAFT_OK;
}

static void add_target(slice_list *out) {
    out->targets++;
    out->targets_of[out->count - 1]++;
}

/* Opens a document whose first row is out->rows. */
static int begin_document(cutting *c, const sequence *s, int64_t t, int64_t slice_begin, graft_error *err) {
    slice_list *const out = c->out;
    out->starts[c->starts++] = out->rows - slice_begin;
    out->at[out->count - 1].documents++;
    if (c->limits->first && read_label(c, s, t, &out->first[c->document], err)) return err->code;
    if (c->limits->first && out->first[c->document] >= 0) add_target(out);
    c->document++;
    return GRAFT_OK;
}

/* Appends the kept tokens of a sequence to the rows of the last slice. */
static int add_sequence(cutting *c, const sequence *s, graft_error *err) {
    slice_list *const out = c->out;
    model_rows *const slice = &out->at[out->count - 1];
    const int64_t slice_begin = out->rows - slice->rows;
    int64_t before = -1, first = 0, row_of_document = 0;
    for (int64_t t = 0; t < s->tokens; t++) {
        /* a document may begin on padding: what counts from its first token counts from there */
        if (t > 0 && begins_document(s, t - 1, t)) first = t;
        if (!is_kept(s, t)) continue;
        const int64_t row = out->rows;
        const int begins = begins_document(s, before, t);
        const int32_t position = s->positions ? s->positions[t] : (int32_t)(t - first);
        if (check_id(c, s, t, err) || find_target(c, s, t, &out->target_ids[row], err) ||
            check_position(c, t, position, row ? out->positions[row - 1] : 0, begins, err))
            return err->code;
        if (begins) row_of_document = row;
        if (begins && begin_document(c, s, t, slice_begin, err)) return err->code;
        out->ids[row] = s->ids[t];
        out->positions[row] = position;
        if (out->target_ids[row] >= 0) add_target(out);
        out->keys[row] = (c->document - 1) << 32 | (row - row_of_document);
        out->origin[row] = c->sequence << 32 | t;
        out->rows++;
        slice->rows++;
        before = t;
    }
    return GRAFT_OK;
}

static void begin_slice(cutting *c) {
    slice_list *const out = c->out;
    if (out->count == c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : 8;
        out->at = mem_grow(out->at, (size_t)c->capacity, sizeof *out->at);
        out->targets_of = mem_grow(out->targets_of, (size_t)c->capacity, sizeof *out->targets_of);
    }
    const int64_t row = out->rows;
    out->at[out->count] = (model_rows){.ids = out->ids + row,
                                       .positions = out->positions + row,
                                       .targets = out->target_ids + row,
                                       .row_key = out->keys + row,
                                       .start = out->starts + c->starts,
                                       .first = c->limits->first ? out->first + c->document : NULL,
                                       .longest = c->longest};
    out->targets_of[out->count++] = 0;
}

static void end_slice(cutting *c) {
    slice_list *const out = c->out;
    if (out->count == 0) return;
    out->starts[c->starts++] = out->at[out->count - 1].rows;
    out->documents += out->at[out->count - 1].documents;
}

/* The positions that a padded batch spans: what rotary tables that depend on the length go by. */
static int64_t padded_length(const sequence_list *from) {
    int64_t longest = 0;
    for (int64_t s = 0; s < from->count; s++)
        for (int64_t t = 0; from->at[s].mask && t < from->at[s].tokens; t++) {
            const int64_t length = (from->at[s].positions ? from->at[s].positions[t] : t) + (int64_t)1;
            if (length > longest) longest = length;
        }
    return longest;
}

static int64_t kept_tokens(const sequence *s) {
    int64_t count = 0;
    for (int64_t t = 0; t < s->tokens; t++)
        count += is_kept(s, t);
    return count;
}

static int64_t count_documents(const sequence *s) {
    int64_t count = 0, before = -1;
    for (int64_t t = 0; t < s->tokens; t++) {
        if (!is_kept(s, t)) continue;
        count += begins_document(s, before, t);
        before = t;
    }
    return count;
}

static int check_size(const cutting *c, int64_t tokens, int64_t documents, graft_error *err) {
    const slice_limits *const l = c->limits;
    if (tokens > l->rows)
        return fail(err, GRAFT_FAILED,
                    "%s%ssequence %lld has %lld tokens, a slice at most %lld; raise slice_tokens or lower max_length",
                    l->what ? l->what : "", l->what ? ", " : "", (long long)c->sequence, (long long)tokens,
                    (long long)l->rows);
    if (l->documents && documents > l->documents)
        return fail(err, GRAFT_FAILED,
                    "%s%ssequence %lld packs %lld documents, a slice has room for %lld; set packing = no",
                    l->what ? l->what : "", l->what ? ", " : "", (long long)c->sequence, (long long)documents,
                    (long long)l->documents);
    return GRAFT_OK;
}

int slices_cut(const sequence_list *from, const slice_limits *limits, slice_list *out, graft_error *err) {
    *out = (slice_list){0};
    int64_t rows = 0;
    for (int64_t s = 0; s < from->count; s++)
        rows += kept_tokens(&from->at[s]);
    const size_t count = (size_t)rows + 1;
    out->ids = mem_new(count, sizeof *out->ids);
    out->positions = mem_new(count, sizeof *out->positions);
    out->target_ids = mem_new(count, sizeof *out->target_ids);
    out->keys = mem_new(count, sizeof *out->keys);
    out->origin = mem_new(count, sizeof *out->origin);
    out->starts = mem_new(2 * count, sizeof *out->starts); /* at most one document a row, one end a slice */
    if (limits->first) out->first = mem_new(count, sizeof *out->first);
    cutting c = {.limits = limits, .out = out, .longest = padded_length(from)};
    for (int64_t s = 0; s < from->count; s++) {
        const int64_t tokens = kept_tokens(&from->at[s]);
        c.sequence = s;
        if (tokens == 0) continue;
        const int64_t documents = count_documents(&from->at[s]);
        if (check_size(&c, tokens, documents, err)) return err->code;
        const model_rows *const last = out->count ? &out->at[out->count - 1] : NULL;
        if (!last || last->rows + tokens > limits->rows ||
            (limits->documents && last->documents + documents > limits->documents)) {
            end_slice(&c);
            begin_slice(&c);
        }
        if (add_sequence(&c, &from->at[s], err)) return err->code;
    }
    end_slice(&c);
    return GRAFT_OK;
}

void slices_free(slice_list *s) {
    free(s->at);
    free(s->targets_of);
    free(s->ids);
    free(s->positions);
    free(s->target_ids);
    free(s->first);
    free(s->keys);
    free(s->starts);
    free(s->origin);
    *s = (slice_list){0};
}
