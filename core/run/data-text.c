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

/* Streams of the seed. */
static const uint64_t stream_order = 0x6F72646572u, stream_split = 0x73706C6974u; /* "order", "split" */

/* Rows: row r holds the places that `rows` says, or place r without packing. */
typedef struct {
    source *file;
    sample_list places;
    packing packed; /* segments NULL: not packed */
    int64_t rows;
} text_set;

typedef struct {
    data_source source;
    const recipe *recipe;
    char *tokenizer_path;
    tokenizer *words;
    sample_rules rules;
    sample_encoder *encoder;
    chat *chat;    /* NULL: the model has no template and none is asked for ... */
    char *no_chat; /* ... or a bad one, as this says                            */
    text_set train, eval;
    sample_counts train_counts, eval_counts;
    int64_t step_rows;
    int64_t *order, epoch; /* (train.rows) the order of rows in this epoch */

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

static void pack(text_set *set, const recipe_data *d) {
    set->rows = set->places.count;
    if (!d->packing) return;
    int64_t *const lengths = mem_new((size_t)set->places.count + 1, sizeof *lengths);
    for (int64_t i = 0; i < set->places.count; i++)
        lengths[i] = set->places.at[i].tokens;
    set->packed = d->shuffle ? pack_best_fit(lengths, set->places.count, d->max_length, 0)
                             : pack_sequential(lengths, set->places.count, d->max_length);
    set->rows = set->packed.rows;
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
    int64_t begin = 0, end = 0;
    if (encode_record(t, file, p->record, err)) return err->code;
    if (p->piece < sample_pieces(t->rules.truncation, s->count, s->lead, t->rules.max_length))
        sample_piece(t->rules.truncation, s->count, s->lead, t->rules.max_length, p->piece, &begin, &end);
    if (s->lead + end - begin != p->tokens)
        return fail(err, GRAFT_FAILED, "%s was changed while it is in use", source_path(file));
    const size_t lead = (size_t)s->lead, body = (size_t)(end - begin);
    memcpy(ids, s->ids, lead * sizeof *ids);
    memcpy(labels, s->labels, lead * sizeof *labels);
    memcpy(ids + lead, s->ids + begin, body * sizeof *ids);
    memcpy(labels + lead, s->labels + begin, body * sizeof *labels);
    return GRAFT_OK;
}

static int add_row(text_source *t, const text_set *set, int64_t row, sequence_list *out, graft_error *err) {
    const int64_t tokens = row_tokens(set, row), segments = row_segments(set, row);
    int32_t *const ids = arena_new(&out->memory, (size_t)tokens, sizeof *ids);
    int32_t *const labels = arena_new(&out->memory, (size_t)tokens, sizeof *labels);
    int32_t *const documents = segments > 1 ? arena_new(&out->memory, (size_t)tokens, sizeof *documents) : NULL;
    for (int64_t i = 0, at = 0; i < segments; i++) {
        const sample_place *const p = row_place(set, row, i);
        if (put_place(t, set->file, p, ids + at, labels + at, err)) return err->code;
        for (int64_t k = 0; documents && k < p->tokens; k++)
            documents[at + k] = (int32_t)i;
        at += p->tokens;
    }
    *sequence_list_add(out) = (sequence){.tokens = tokens, .ids = ids, .labels = labels, .documents = documents};
    return GRAFT_OK;
}

/* ---- order ---- */

static void permute(int64_t *order, int64_t count, uint64_t seed, uint64_t stream) {
    for (int64_t i = 0; i < count; i++)
        order[i] = i;
    for (int64_t i = count - 1; i > 0; i--) { /* Fisher and Yates */
        const int64_t j = (int64_t)(philox_bits(seed, stream, (uint64_t)i) % (uint64_t)(i + 1)), kept = order[i];
        order[i] = order[j], order[j] = kept;
    }
}

static void order_epoch(text_source *t, int64_t epoch) {
    if (t->epoch == epoch || !t->recipe->data.shuffle) return;
    permute(t->order, t->train.rows, philox_bits((uint64_t)t->recipe->train.seed, stream_order, (uint64_t)epoch), 0);
    t->epoch = epoch;
}

/* ---- the interface ---- */

static int fetch(data_source *s, int64_t step, sequence_list *out, graft_error *err) {
    text_source *const t = (text_source *)s;
    if (step < 0) return fail(err, GRAFT_FAILED, "there is no step %lld", (long long)step + 1);
    const int64_t first = step % s->steps_per_epoch * t->step_rows;
    order_epoch(t, step / s->steps_per_epoch);
    for (int64_t row = first; row < first + t->step_rows && row < t->train.rows && !err->code; row++)
        add_row(t, &t->train, t->recipe->data.shuffle ? t->order[row] : row, out, err);
    return err->code;
}

static int fetch_eval(data_source *s, int64_t first, int64_t count, sequence_list *out, graft_error *err) {
    text_source *const t = (text_source *)s;
    if (first < 0 || count < 0 || first > s->eval_count || count > s->eval_count - first)
        return fail(err, GRAFT_FAILED, "the validation set has %lld sequences, not %lld from %lld on",
                    (long long)s->eval_count, (long long)count, (long long)first);
    for (int64_t row = first; row < first + count && !err->code; row++)
        add_row(t, &t->eval, row, out, err);
    return err->code;
}

static int digest(data_source *s, char hex[65], graft_error *err) {
    const text_source *const t = (const text_source *)s;
    const source *const files[] = {t->train.file, t->eval.file};
    sha256 sum;
    sha256_begin(&sum);
    for (int i = 0; i < 2; i++) {
        if (files[i] && source_digest(files[i], hex, err)) return err->code;
        sha256_add(&sum, files[i] ? hex : "-", files[i] ? 64 : 1);
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
    if (t->eval.file != t->train.file) source_close(t->eval.file);
    source_close(t->train.file);
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
    free(t->order);
    free(t->tokenizer_path);
    free(t);
}

/* ---- opening ---- */

_Static_assert((int)SAMPLE_CUT_RIGHT == RECIPE_TRUNCATE_RIGHT && (int)SAMPLE_CUT_LEFT == RECIPE_TRUNCATE_LEFT &&
                   (int)SAMPLE_DROP == RECIPE_TRUNCATE_DROP && (int)SAMPLE_SPLIT == RECIPE_TRUNCATE_SPLIT &&
                   (int)TRAIN_ASSISTANT == RECIPE_TRAIN_ON_ASSISTANT &&
                   (int)TRAIN_COMPLETION == RECIPE_TRAIN_ON_COMPLETION && (int)TRAIN_LAST == RECIPE_TRAIN_ON_LAST &&
                   (int)TRAIN_ALL == RECIPE_TRAIN_ON_ALL && (int)SAMPLE_NO_LABEL == LABEL_NONE,
               "the same words in both rooms");

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

/* Marks the records that are validated on. */
static int draw_split(const text_source *t, uint8_t *which, graft_error *err) {
    const int64_t records = source_count(t->train.file);
    if (records < 2)
        return fail(err, GRAFT_USAGE, "[data] eval_split needs two records at least, and %s has %lld",
                    t->recipe->data.path, (long long)records);
    int64_t wanted = llround(t->recipe->data.eval_split * (double)records);
    wanted = wanted < 1 ? 1 : wanted > records - 1 ? records - 1 : wanted;
    int64_t *const order = mem_new((size_t)records, sizeof *order);
    permute(order, records, (uint64_t)t->recipe->train.seed, stream_split);
    for (int64_t i = 0; i < wanted; i++)
        which[order[i]] = 1;
    free(order);
    return GRAFT_OK;
}

/* Encodes the records of a file into lists[which[i]], and tells what is left out. */
static int collect(text_source *t, source *file, const uint8_t *which, sample_list *lists, sample_counts *counts,
                   graft_error *err) {
    strbuf report = {0};
    if (collect_samples(file, t->encoder, &t->rules, which, lists, counts, err)) return err->code;
    sample_counts_report(counts, source_path(file), t->rules.max_length, &report);
    if (lists[0].count == 0 || (which && t->recipe->data.eval_split > 0 && lists[1].count == 0))
        fail(err, GRAFT_USAGE, "no record is left to %s; %s",
             lists[0].count == 0 && file == t->train.file ? "train on" : "validate on",
             report.text ? report.text : source_path(file));
    else if (report.text)
        log_warn("%s", report.text);
    strbuf_free(&report);
    return err->code;
}

static int open_training(text_source *t, graft_error *err) {
    const recipe_data *const d = &t->recipe->data;
    sample_list lists[2] = {0};
    if (source_open(&d->use.component->loader, d->use.config, d->path, &t->train.file, err)) return err->code;
    const int split = d->eval_split > 0;
    uint8_t *const which = mem_new((size_t)source_count(t->train.file), 1);
    if (!split || draw_split(t, which, err) == GRAFT_OK) collect(t, t->train.file, which, lists, &t->train_counts, err);
    free(which);
    t->train.places = lists[0], t->eval.places = lists[1];
    if (split) t->eval.file = t->train.file;
    return err->code;
}

static int open_validation(text_source *t, graft_error *err) {
    const recipe_data *const d = &t->recipe->data;
    if (!*d->eval_path) return GRAFT_OK;
    if (source_open(&d->use.component->loader, d->use.config, d->eval_path, &t->eval.file, err)) return err->code;
    return collect(t, t->eval.file, NULL, &t->eval.places, &t->eval_counts, err);
}

/* The tokens of the step with the longest rows that there could be. */
static int64_t most_tokens(const text_set *set, int64_t longest, int64_t rows) {
    int64_t *const of_length = mem_new((size_t)longest + 1, sizeof *of_length), tokens = 0;
    for (int64_t i = 0; i < set->rows; i++)
        of_length[row_tokens(set, i)]++;
    for (int64_t length = longest; length > 0 && rows > 0; length--) {
        const int64_t taken = of_length[length] < rows ? of_length[length] : rows;
        tokens += taken * length;
        rows -= taken;
    }
    free(of_length);
    return tokens;
}

static void plan_steps(text_source *t) {
    data_source *const s = &t->source;
    const recipe *const r = t->recipe;
    pack(&t->train, &r->data);
    t->eval.rows = t->eval.places.count;
    t->step_rows = r->train.batch_size * r->train.accumulate;
    t->epoch = -1;
    t->order = mem_new((size_t)t->train.rows, sizeof *t->order);
    for (int64_t i = 0; i < t->train.rows; i++)
        if (row_tokens(&t->train, i) > s->longest) s->longest = row_tokens(&t->train, i);
    s->step_tokens = most_tokens(&t->train, s->longest, t->step_rows);
    for (int64_t i = 0; i < t->eval.rows; i++)
        if (t->eval.places.at[i].tokens > s->longest) s->longest = t->eval.places.at[i].tokens;
    s->eval_count = t->eval.rows;
    s->steps_per_epoch = (t->train.rows + t->step_rows - 1) / t->step_rows;
}

static void tell(const text_source *t) {
    const sample_list *const p = &t->train.places;
    strbuf text = {0};
    strbuf_printf(&text, "data: %lld sequences", (long long)p->count);
    if (t->train.packed.segments) strbuf_printf(&text, " in %lld rows", (long long)t->train.rows);
    strbuf_printf(&text, ", %lld tokens, of which %lld are targets", (long long)p->tokens, (long long)p->targets);
    if (t->eval.rows) strbuf_printf(&text, "; %lld to validate on", (long long)t->eval.rows);
    log_info("%s", text.text);
    strbuf_free(&text);
    if (t->train_counts.chats)
        log_info("data: %lld conversations written with %s%s", (long long)t->train_counts.chats, chat_origin(t->chat),
                 chat_marks_answers(t->chat) ? ", which marks what is learned" : "");
    if (t->train_counts.fell_back)
        log_info(
            "data: in %lld conversations the prompt alone is rendered otherwise than in front of its answer; there the "
            "answer's own text is learned",
            (long long)t->train_counts.fell_back);
}

/* ---- looking ---- */

void data_text_look(const data_source *s, data_text_view *out) {
    const text_source *const t = (const text_source *)s;
    *out = (data_text_view){.train = t->train_counts,
                            .eval = t->eval_counts,
                            .train_list = &t->train.places,
                            .eval_list = &t->eval.places,
                            .rows = t->train.rows,
                            .row_tokens = t->rules.max_length,
                            .words = t->words,
                            .ends = &t->rules.ends,
                            .chat_origin = t->chat ? chat_origin(t->chat) : NULL,
                            .chat_source = t->chat ? chat_source(t->chat) : NULL,
                            .by_tags = t->chat && chat_marks_answers(t->chat)};
}

int data_text_sample(data_source *s, int64_t i, data_text_piece *out, graft_error *err) {
    text_source *const t = (text_source *)s;
    const sample_place *const p = &t->train.places.at[i];
    *out = (data_text_piece){.whole = &t->sample, .record = p->record};
    if (encode_record(t, t->train.file, p->record, err)) return err->code;
    sample_piece(t->rules.truncation, t->sample.count, t->sample.lead, t->rules.max_length, p->piece, &out->begin,
                 &out->end);
    return GRAFT_OK;
}

int data_text_open(const recipe *r, const char *model_folder, data_source **out, graft_error *err) {
    *out = NULL;
    if (!r->data.use.component) return fail(err, GRAFT_USAGE, "[data] loader = %s is no plugin", r->data.loader);
    text_source *const t = mem_new(1, sizeof *t);
    t->recipe = r;
    t->source = (data_source){.fetch = fetch, .fetch_eval = fetch_eval, .digest = digest, .close = close_source};
    if (open_tokenizer(t, model_folder, err) || open_training(t, err) || open_validation(t, err)) {
        close_source(&t->source);
        return err->code;
    }
    plan_steps(t);
    tell(t);
    *out = &t->source;
    return GRAFT_OK;
}
