/* data-text — see data-text.h. */
#include "run/data-text.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/philox.h"
#include "text/pack.h"
#include "text/special.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint64_t stream_split = 0x73706C6974u; /* of the seed: "split" */

/* Rows: row r holds the places that `rows` says, or place r without packing. No row has documents of two files. */
typedef struct {
    sample_list places; /* file by file */
    packing packed;     /* segments NULL: not packed */
    int64_t rows;
} text_set;

typedef struct {
    data_source source;
    const recipe *recipe;
    char *tokenizer_path;
    tokenizer *words;
    sample_rules rules;
    sample_encoder *encoder;
    chat *chat;            /* NULL: the model has no template and none is asked for ... */
    char *no_chat;         /* ... or a bad one, as this says                            */
    data_text_file *files; /* those to train on, then those to validate on */
    int32_t count, train_files;
    text_set train, eval;
    sample_counts train_counts, eval_counts; /* of all files */
    int64_t step_rows;
    order_rules order_rules;
    int64_t *first;   /* (train_files + 1) first row of each file, and train.rows */
    int32_t *lengths; /* (train.rows) tokens, for batches by length; NULL: not needed */
    uint32_t *order;  /* (epoch_rows) the order of rows in this epoch                 */
    int64_t epoch, epoch_rows;

    text_record record; /* the record encoded last, and its tokens */
    text_sample sample;
    const source *held;
    int64_t held_record;
} text_source;

/* ---- rows ---- */

static int64_t row_segments(const text_set *set, int64_t row) {
    return set->packed.segments ? set->packed.first[row + 1] - set->packed.first[row] : 1;
}

static const sample_place *row_place(const text_set *set, int64_t row, int64_t segment) {
    if (!set->packed.segments) return &set->places.at[row];
    return &set->places.at[set->packed.segments[set->packed.first[row] + segment].document];
}

static int64_t row_tokens(const text_set *set, int64_t row) {
    int64_t tokens = 0;
    for (int64_t i = 0; i < row_segments(set, row); i++)
        tokens += row_place(set, row, i)->tokens;
    return tokens;
}

/* The rows of a set, file by file; first[i] becomes the first row of file i. */
static void make_rows(text_set *set, const recipe_data *d, int32_t files, int64_t *first) {
    const sample_list *const p = &set->places;
    int64_t *const lengths = d->packing ? mem_new((size_t)p->count + 1, sizeof *lengths) : NULL;
    int64_t begin = 0;
    for (int32_t f = 0; f < files; f++) {
        int64_t end = begin;
        first[f] = set->rows;
        for (; end < p->count && p->at[end].file == (uint32_t)f; end++)
            if (lengths) lengths[end] = p->at[end].tokens;
        if (lengths) {
            packing more = d->shuffle ? pack_best_fit(lengths + begin, end - begin, d->max_length, 0)
                                      : pack_sequential(lengths + begin, end - begin, d->max_length);
            packing_append(&set->packed, &more, begin);
        }
        set->rows = lengths ? set->packed.rows : end;
        begin = end;
    }
    first[files] = set->rows;
    free(lengths);
}

/* ---- the tokens of a row ---- */

static int encode_record(text_source *t, source *file, int64_t record, graft_error *err) {
    if (t->held == file && t->held_record == record) return GRAFT_OK;
    t->held = NULL;
    if (source_get(file, record, &t->record, err) || sample_encode(t->encoder, &t->record, &t->sample, err))
        return err->code;
    t->held = file, t->held_record = record;
    return GRAFT_OK;
}

/* Writes the tokens of one place. */
static int put_place(text_source *t, source *file, const sample_place *p, int32_t *ids, int32_t *labels,
                     graft_error *err) {
    const text_sample *const s = &t->sample;
    sample_cut cut = {0};
    if (encode_record(t, file, (int64_t)p->record, err)) return err->code;
    if (p->piece < sample_pieces(t->rules.truncation, s->count, s->lead, t->rules.max_length))
        cut = sample_piece(t->rules.truncation, s->count, s->lead, t->rules.max_length, p->piece);
    if (sample_cut_tokens(&cut) != p->tokens)
        return fail(err, GRAFT_FAILED, "%s was changed while it is in use", source_path(file));
    for (int64_t i = 0; i < p->tokens; i++) {
        ids[i] = s->ids[sample_cut_at(&cut, i)], labels[i] = sample_cut_label(&cut, s->labels, i);
    }
    return GRAFT_OK;
}

static int add_row(text_source *t, const text_set *set, int64_t row, sequence_list *out, graft_error *err) {
    const int64_t tokens = row_tokens(set, row), segments = row_segments(set, row);
    int32_t *const ids = arena_new(&out->memory, (size_t)tokens, sizeof *ids);
    int32_t *const labels = arena_new(&out->memory, (size_t)tokens, sizeof *labels);
    int32_t *const documents = segments > 1 ? arena_new(&out->memory, (size_t)tokens, sizeof *documents) : NULL;
    for (int64_t i = 0, at = 0; i < segments; i++) {
        const sample_place *const p = row_place(set, row, i);
        if (put_place(t, t->files[p->file].source, p, ids + at, labels + at, err)) return err->code;
        for (int64_t k = 0; documents && k < p->tokens; k++)
            documents[at + k] = (int32_t)i;
        at += p->tokens;
    }
    *sequence_list_add(out) = (sequence){.tokens = tokens, .ids = ids, .labels = labels, .documents = documents};
    return GRAFT_OK;
}

/* ---- the interface ---- */

static int fetch(data_source *s, int64_t step, sequence_list *out, graft_error *err) {
    text_source *const t = (text_source *)s;
    if (step < 0) return fail(err, GRAFT_FAILED, "there is no step %lld", (long long)step + 1);
    const int64_t first = step % s->steps_per_epoch * t->step_rows, epoch = step / s->steps_per_epoch;
    if (t->epoch != epoch) order_make(&t->order_rules, epoch, t->order);
    t->epoch = epoch;
    for (int64_t row = first; row < first + t->step_rows && row < t->epoch_rows && !err->code; row++)
        add_row(t, &t->train, t->order[row], out, err);
    return err->code;
}

static int fetch_eval(data_source *s, int64_t first, int64_t count, sequence_list *out, graft_error *err) {
    text_source *const t = (text_source *)s;
    if (first < 0 || count < 0 || first > s->eval_count || count > s->eval_count - first)
        return fail(err, GRAFT_FAILED, "the validation set has %lld sequence%s, not %lld from %lld on",
                    (long long)s->eval_count, plural(s->eval_count), (long long)count, (long long)first);
    for (int64_t row = first; row < first + count && !err->code; row++)
        add_row(t, &t->eval, row, out, err);
    return err->code;
}

static int digest(data_source *s, char hex[65], graft_error *err) {
    const text_source *const t = (const text_source *)s;
    sha256 sum;
    sha256_begin(&sum);
    for (int32_t f = 0; f < t->count; f++) {
        if (source_digest(t->files[f].source, hex, err)) return err->code;
        sha256_add(&sum, hex, 64);
        if (f + 1 == t->train_files) sha256_add(&sum, "-", 1);
    }
    if (sha256_file(t->tokenizer_path, hex, err)) return err->code;
    sha256_add(&sum, hex, 64);
    sha256_add(&sum, t->rules.ends.id, (size_t)t->rules.ends.count * sizeof t->rules.ends.id[0]);
    sha256_add(&sum, &t->rules.ends.written, sizeof t->rules.ends.written);
    if (t->train_counts.chats + t->eval_counts.chats)
        sha256_add(&sum, chat_source(t->chat), strlen(chat_source(t->chat)));
    sha256_end(&sum, hex);
    return GRAFT_OK;
}

static void close_source(data_source *s) {
    text_source *const t = (text_source *)s;
    for (int32_t f = 0; f < t->count; f++) {
        source_close(t->files[f].source);
        field_report_free(&t->files[f].fields);
    }
    free(t->files);
    text_set *const sets[] = {&t->train, &t->eval};
    for (int i = 0; i < 2; i++) {
        sample_list_free(&sets[i]->places);
        packing_free(&sets[i]->packed);
    }
    sample_encoder_free(t->encoder);
    chat_free(t->chat);
    free(t->no_chat);
    tokenizer_free(t->words);
    record_free(&t->record);
    sample_free(&t->sample);
    free(t->first);
    free(t->lengths);
    free(t->order);
    free(t->tokenizer_path);
    free(t);
}

/* ---- opening ---- */

_Static_assert((int)SAMPLE_CUT_RIGHT == RECIPE_TRUNCATE_RIGHT && (int)SAMPLE_CUT_LEFT == RECIPE_TRUNCATE_LEFT &&
                   (int)SAMPLE_DROP == RECIPE_TRUNCATE_DROP && (int)SAMPLE_SPLIT == RECIPE_TRUNCATE_SPLIT &&
                   (int)SAMPLE_CUT_MIDDLE == RECIPE_TRUNCATE_MIDDLE &&
                   (int)TRAIN_ASSISTANT == RECIPE_TRAIN_ON_ASSISTANT &&
                   (int)TRAIN_COMPLETION == RECIPE_TRAIN_ON_COMPLETION && (int)TRAIN_LAST == RECIPE_TRAIN_ON_LAST &&
                   (int)TRAIN_ALL == RECIPE_TRAIN_ON_ALL && (int)SAMPLE_NO_LABEL == LABEL_NONE,
               "the same words in both rooms");

/* Fixes the day that the template is told for the whole run, so that it does not change at midnight; a run that is resumed
 * compares it. */
static void fix_date(text_source *t) {
    const char *const epoch = getenv("SOURCE_DATE_EPOCH");
    time_t now = epoch && *epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm day;
    if (t->recipe->data.day) now = (time_t)t->recipe->data.day;
    localtime_r(&now, &day);
    day.tm_hour = day.tm_min = day.tm_sec = 0, day.tm_isdst = -1;
    chat_fix_date(t->chat, mktime(&day));
    strftime(t->source.date, sizeof t->source.date, "%Y-%m-%d", &day);
}

/* The chat template, and the id for what the vocabulary lacks. A folder without a template is fine until a conversation comes. */
static int open_chat(text_source *t, const char *folder, graft_error *err) {
    const recipe_data *const d = &t->recipe->data;
    json_t *tokens = NULL;
    graft_error none = {0};
    if (special_read(folder, &tokens, err) == GRAFT_OK) {
        const json_t *const unknown = json_object_get(tokens, "unk_token");
        t->rules.unknown =
            unknown ? tokenizer_id(t->words, json_string_value(unknown), (int64_t)json_string_length(unknown)) : -1;
        if (chat_open(folder, d->chat_template, &t->chat, &none) && *d->chat_template)
            fail(err, none.code, "[data] %s", none.text);
        t->no_chat = mem_copy_text(none.text);
    }
    json_decref(tokens);
    t->rules.chat = t->chat, t->rules.no_chat = t->no_chat;
    if (t->chat && chat_asks_date(t->chat)) fix_date(t);
    return err->code;
}

static int open_tokenizer(text_source *t, const char *folder, graft_error *err) {
    const recipe_data *const d = &t->recipe->data;
    t->tokenizer_path = path_join(folder, "tokenizer.json");
    if (tokenizer_load(t->tokenizer_path, &t->words, err)) return err->code;
    t->rules = (sample_rules){.words = t->words,
                              .max_length = d->max_length,
                              .truncation = d->truncation,
                              .write_end = d->append_eos,
                              .train_on = d->train_on,
                              .skip_bad = d->on_error == RECIPE_ERROR_SKIP};
    if (text_ends_read(folder, t->words, &t->rules.ends, err) || open_chat(t, folder, err)) return err->code;
    if (d->append_eos && t->rules.ends.written < 0)
        log_warn("%s names no end token, so the model does not learn when to stop", folder);
    return sample_encoder_new(&t->rules, &t->encoder, err);
}

/* Marks the records of a file that are validated on. */
static int draw_split(const text_source *t, int32_t file, uint8_t *which, graft_error *err) {
    const int64_t records = source_count(t->files[file].source);
    if (records < 2 || records > ORDER_ROWS)
        return fail(err, GRAFT_USAGE,
                    "[data] eval_split needs two records at least and 4 billion at most, and %s has %lld",
                    source_path(t->files[file].source), (long long)records);
    int64_t wanted = llround(t->recipe->data.eval_split * (double)records);
    wanted = wanted < 1 ? 1 : wanted > records - 1 ? records - 1 : wanted;
    uint32_t *const order = mem_new((size_t)records, sizeof *order);
    order_permute(order, records, (uint64_t)t->recipe->train.seed, stream_split + (uint64_t)file);
    for (int64_t i = 0; i < wanted; i++)
        which[order[i]] = 1;
    free(order);
    return GRAFT_OK;
}

/* A file of the validation set that stands in `path` too: what was left out of it has been told. */
static int is_told(const text_source *t, int32_t file, const char *path) {
    const recipe_data *const d = &t->recipe->data;
    for (int32_t i = 0; file >= t->train_files && i < d->path_count; i++)
        if (strcmp(d->paths[i], path) == 0) return 1;
    return 0;
}

/* Opens file number `file` and encodes its records into lists[0], those that are validated on into lists[1]. Tells what is left
 * out. */
static int collect(text_source *t, int32_t file, const char *path, int split, sample_list *lists, sample_hashes *hashes,
                   graft_error *err) {
    const recipe_data *const d = &t->recipe->data;
    data_text_file *const f = &t->files[file];
    strbuf report = {0};
    if (source_open(&d->use.component->loader, d->use.config, path, &f->source, err)) return err->code;
    uint8_t *const which = split ? mem_new((size_t)source_count(f->source), 1) : NULL;
    source_report_fields(f->source, &f->fields);
    if (!split || draw_split(t, file, which, err) == GRAFT_OK)
        collect_samples(f->source, file, t->encoder, &t->rules, which, lists, &f->counts, hashes, err);
    source_report_fields(f->source, NULL);
    free(which);
    if (err->code) return err->code;
    sample_counts_report(&f->counts, path, t->rules.max_length, &report);
    if (report.text && f->counts.used > 0 && !is_told(t, file, path)) log_warn("%s", report.text);
    if (f->counts.used == 0)
        fail(err, GRAFT_USAGE, "no record is left to %s; %s", file < t->train_files ? "train on" : "validate on",
             report.text ? report.text : path);
    strbuf_free(&report);
    return err->code;
}

/* The next files of t->files as one set; duplicates are counted over all of it. */
static int open_set(text_source *t, const char **paths, int32_t count, int split, sample_list *lists,
                    sample_counts *counts, graft_error *err) {
    sample_hashes hashes = {0};
    for (int32_t i = 0; i < count && !err->code; i++) {
        const int32_t file = t->count++;
        collect(t, file, paths[i], split, lists, &hashes, err);
        sample_counts_add(counts, &t->files[file].counts);
    }
    counts->duplicates = sample_hashes_equal(&hashes);
    sample_hashes_free(&hashes);
    return err->code;
}

static int open_files(text_source *t, graft_error *err) {
    const recipe_data *const d = &t->recipe->data;
    const int split = d->eval_split > 0;
    sample_list lists[2] = {0};
    if (d->path_count + d->eval_path_count > SAMPLE_FILES)
        return fail(err, GRAFT_USAGE, "[data] path and eval_path have more than %d files", SAMPLE_FILES);
    t->train_files = d->path_count;
    t->files = mem_new((size_t)(d->path_count + d->eval_path_count), sizeof *t->files);
    open_set(t, d->paths, d->path_count, split, lists, &t->train_counts, err);
    t->train.places = lists[0], t->eval.places = lists[1];
    if (err->code || open_set(t, d->eval_paths, d->eval_path_count, 0, &t->eval.places, &t->eval_counts, err))
        return err->code;
    if (t->train.places.count > ORDER_ROWS / 2)
        return fail(err, GRAFT_USAGE, "the files have %lld sequences, more than %lld", (long long)t->train.places.count,
                    (long long)(ORDER_ROWS / 2));
    if (t->train.places.count == 0) return fail(err, GRAFT_USAGE, "no record is left to train on");
    if (split && t->eval.places.count == 0) return fail(err, GRAFT_USAGE, "no record is left to validate on");
    return GRAFT_OK;
}

/* The tokens of the step with the longest rows that there could be. */
static int64_t most_tokens(const text_source *t, int64_t longest, int64_t rows) {
    int64_t *const of_length = mem_new((size_t)longest + 1, sizeof *of_length), tokens = 0;
    for (int64_t i = 0; i < t->train.rows; i++)
        of_length[row_tokens(&t->train, i)]++;
    for (int64_t length = longest; length > 0 && rows > 0; length--) {
        const int64_t taken = of_length[length] < rows ? of_length[length] : rows;
        tokens += taken * length;
        rows -= taken;
    }
    free(of_length);
    return tokens;
}

static void raise_to(int64_t *most, int64_t value) {
    if (value > *most) *most = value;
}

static int32_t *lengths_of(const text_set *set) {
    int32_t *const lengths = mem_new((size_t)set->rows, sizeof *lengths);
    for (int64_t i = 0; i < set->rows; i++)
        lengths[i] = (int32_t)row_tokens(set, i);
    return lengths;
}

static void plan_steps(text_source *t) {
    data_source *const s = &t->source;
    const recipe *const r = t->recipe;
    t->first = mem_new((size_t)t->train_files + 1, sizeof *t->first);
    make_rows(&t->train, &r->data, t->train_files, t->first);
    t->eval.rows = t->eval.places.count;
    t->step_rows = r->train.batch_size * r->train.accumulate;
    for (int64_t i = 0; i < t->train.rows; i++)
        raise_to(&s->longest, row_tokens(&t->train, i));
    if (r->data.group_by_length) t->lengths = lengths_of(&t->train);
    t->order_rules = (order_rules){.rows = t->train.rows,
                                   .files = t->train_files,
                                   .first = t->first,
                                   .weights = r->data.shares,
                                   .lengths = t->lengths,
                                   .batch = r->train.batch_size,
                                   .step = t->step_rows,
                                   .shuffle = r->data.shuffle,
                                   .seed = (uint64_t)r->train.seed};
    t->epoch = -1;
    t->epoch_rows = order_rows(&t->order_rules);
    t->order = mem_new((size_t)t->epoch_rows, sizeof *t->order);
    /* with weights a row may come twice in a step */
    s->step_tokens = r->data.shares ? s->longest * (t->step_rows < t->epoch_rows ? t->step_rows : t->epoch_rows)
                                    : most_tokens(t, s->longest, t->step_rows);
    for (int64_t i = 0; i < t->train.rows; i++)
        raise_to(&s->documents, row_segments(&t->train, i));
    for (int64_t i = 0; i < t->train.places.count; i++)
        raise_to(&s->longest_document, t->train.places.at[i].tokens);
    for (int64_t i = 0; i < t->eval.rows; i++)
        raise_to(&s->longest_document, t->eval.places.at[i].tokens);
    raise_to(&s->longest, s->longest_document);
    s->eval_count = t->eval.rows;
    s->damaged = t->train_counts.bad + t->eval_counts.bad;
    s->steps_per_epoch = (t->epoch_rows + t->step_rows - 1) / t->step_rows;
}

void data_text_tell(const data_source *s, int validation) {
    const text_source *const t = (const text_source *)s;
    const text_set *const set = validation ? &t->eval : &t->train;
    const sample_counts *const c = validation ? &t->eval_counts : &t->train_counts;
    const sample_list *const p = &set->places;
    strbuf text = {0};
    strbuf_printf(&text, "data: %lld sequence%s", (long long)p->count, plural(p->count));
    if (set->packed.segments) strbuf_printf(&text, " in %lld row%s", (long long)set->rows, plural(set->rows));
    strbuf_printf(&text, ", %lld tokens, of which %lld are targets", (long long)p->tokens, (long long)p->targets);
    if (!validation && t->eval.rows) strbuf_printf(&text, "; %lld to validate on", (long long)t->eval.rows);
    log_info("%s", text.text);
    strbuf_free(&text);
    if (c->chats)
        log_info("data: %lld conversation%s written with %s%s", (long long)c->chats, plural(c->chats),
                 chat_origin(t->chat), chat_marks_answers(t->chat) ? ", which marks what is learned" : "");
    if (c->fell_back)
        log_info("data: in %lld conversation%s the prompt alone is rendered otherwise than in front of its answer; "
                 "there the "
                 "answer's own text is learned",
                 (long long)c->fell_back, plural(c->fell_back));
}

/* ---- looking ---- */

void data_text_look(const data_source *s, data_text_view *out) {
    const text_source *const t = (const text_source *)s;
    *out = (data_text_view){.train = t->train_counts,
                            .eval = t->eval_counts,
                            .files = t->files,
                            .train_files = t->train_files,
                            .eval_files = t->count - t->train_files,
                            .order = &t->order_rules,
                            .train_list = &t->train.places,
                            .eval_list = &t->eval.places,
                            .rows = t->train.rows,
                            .row_tokens = t->rules.max_length,
                            .words = t->words,
                            .ends = &t->rules.ends,
                            .chat_origin = t->chat ? chat_origin(t->chat) : NULL,
                            .chat_source = t->chat ? chat_source(t->chat) : NULL,
                            .by_tags = t->chat && chat_marks_answers(t->chat),
                            .chat = t->chat,
                            .no_chat = t->no_chat};
}

int data_text_record(data_source *s, int64_t i, const text_record **out, graft_error *err) {
    text_source *const t = (text_source *)s;
    const sample_place *const p = &t->eval.places.at[i];
    t->held = NULL;
    *out = &t->record;
    return source_get(t->files[p->file].source, (int64_t)p->record, &t->record, err);
}

int data_text_sample(data_source *s, int64_t i, data_text_piece *out, graft_error *err) {
    text_source *const t = (text_source *)s;
    const sample_place *const p = &t->train.places.at[i];
    *out = (data_text_piece){.whole = &t->sample, .record = (int64_t)p->record, .file = (int32_t)p->file};
    if (encode_record(t, t->files[p->file].source, out->record, err)) return err->code;
    out->cut = sample_piece(t->rules.truncation, t->sample.count, t->sample.lead, t->rules.max_length, p->piece);
    return GRAFT_OK;
}

double data_text_padding(const data_source *s, int grouped) {
    const text_source *const t = (const text_source *)s;
    order_rules rules = t->order_rules;
    uint32_t *const order = mem_new((size_t)t->epoch_rows, sizeof *order);
    int32_t *const lengths = lengths_of(&t->train);
    rules.lengths = grouped ? lengths : NULL;
    order_make(&rules, 0, order);
    const double share = order_padding(order, t->epoch_rows, lengths, rules.batch);
    free(lengths);
    free(order);
    return share;
}

int data_text_open(const recipe *r, const char *model_folder, data_source **out, graft_error *err) {
    *out = NULL;
    if (!r->data.use.component) return fail(err, GRAFT_USAGE, "[data] loader = %s is no plugin", r->data.loader);
    text_source *const t = mem_new(1, sizeof *t);
    t->recipe = r;
    t->source = (data_source){.fetch = fetch, .fetch_eval = fetch_eval, .digest = digest, .close = close_source};
    if (open_tokenizer(t, model_folder, err) || open_files(t, err)) {
        close_source(&t->source);
        return err->code;
    }
    if (t->train_counts.chats + t->eval_counts.chats == 0) t->source.date[0] = '\0'; /* nobody asked */
    plan_steps(t);
    *out = &t->source;
    return GRAFT_OK;
}
