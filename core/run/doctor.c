/* doctor — see doctor.h. */
#include "run/doctor.h"
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>

/* ---- findings ---- */

enum { DOUBLED_BOS, NO_EOS, FINDINGS };
static const char *const finding_names[FINDINGS] = {"doubled_bos", "no_eos"};

static void add_line(strbuf *b, const char *text) {
    if (b->length) strbuf_puts(b, "\n");
    strbuf_puts(b, text);
}

/* Finding f in words; NULL: all is well. Owned by the caller. */
static char *find(int f, const recipe_data *d, const data_text_view *v) {
    const sample_counts *const c = &v->train;
    if (f == DOUBLED_BOS && c->doubled_bos)
        return mem_format("%lld of %lld conversations begin with two BOS tokens: take it out of the "
                          "messages or the template",
                          (long long)c->doubled_bos, (long long)c->chats);
    if (f == NO_EOS && c->chats && !c->ended_chats && v->ends->count)
        return mem_format("none of %lld conversation%s teaches a token that ends generation (%s): %s",
                          (long long)c->chats, plural(c->chats), tokenizer_token(v->words, v->ends->id[0], NULL),
                          c->cut_chats == c->chats ? "max_length cuts all ends off"
                          : c->cut_chats
                              ? "max_length cuts ends off, and the template ends other answers with another one"
                              : "the template ends answers with another one");
    if (f == NO_EOS && c->pairs && !c->ended_pairs && v->ends->count)
        return mem_format("none of %lld completion%s teaches a token that ends generation (%s): %s",
                          (long long)c->pairs, plural(c->pairs), tokenizer_token(v->words, v->ends->id[0], NULL),
                          d->append_eos ? "max_length cuts all ends off" : "append_eos = no writes none");
    return NULL;
}

/* Markers like <|im_start|> in the template for which the tokenizer has no token: they are cut into many. */
static void add_unknown_markers(const data_text_view *v, strbuf *remarks) {
    enum { LONGEST = 40, SHOWN = 4 };
    strmap seen = {0};
    strbuf names = {0};
    int shown = 0;
    for (const char *at = v->chat_source; at && (at = strstr(at, "<|")) && shown < SHOWN; at += 2) {
        const char *const end = strstr(at, "|>");
        const int64_t length = end ? end + 2 - at : 0;
        int64_t before;
        if (length < 5 || length > LONGEST || memchr(at, ' ', (size_t)length) || memchr(at, '\'', (size_t)length))
            continue;
        if (tokenizer_id(v->words, at, length) >= 0 || strmap_get(&seen, at, (size_t)length, &before)) continue;
        strmap_put(&seen, at, (size_t)length, 1);
        strbuf_printf(&names, "%s%.*s", shown++ ? ", " : "", (int)length, at);
    }
    if (shown) {
        char *const line =
            mem_format("the template writes %s, for which the tokenizer has no token of its own", names.text);
        add_line(remarks, line);
        free(line);
    }
    strbuf_free(&names);
    strmap_free(&seen);
}

static void add_count(strbuf *remarks, int64_t count, const char *noun, const char *what) {
    if (count <= 0) return;
    char *const line = mem_format("%lld %s%s %s", (long long)count, noun, plural(count), what);
    add_line(remarks, line);
    free(line);
}

/* What should be known but need not be wrong; one a line. */
static strbuf remarks_of(const data_text_view *v) {
    const sample_counts *const c = &v->train;
    strbuf b = {0};
    add_count(&b, c->duplicates, "record", "equal to another one");
    add_count(&b, c->unknown, "token", "for text that the vocabulary does not know");
    add_count(&b, c->straddling, "record", "with a token across the end of the prompt, which is not learned");
    add_count(&b, c->fell_back, "conversation",
              "whose prompt alone is rendered otherwise; there the last answer's text is learned");
    if (v->ends->count) {
        const int64_t texts = c->used - c->chats - c->pairs, ended_texts = c->ended - c->ended_chats - c->ended_pairs;
        char *const cut =
            mem_format("that cannot teach where to stop: the end is cut off at max_length = %lld; raise it, or "
                       "leave such records out with truncation = drop",
                       (long long)v->row_tokens);
        if (c->ended_chats) {
            add_count(&b, c->cut_chats, "conversation", cut);
            add_count(&b, c->chats - c->ended_chats - c->cut_chats, "conversation",
                      "that cannot teach where to stop: the template writes no end token behind what is learned; "
                      "chat_template names another template");
        }
        if (c->ended_pairs) {
            add_count(&b, c->cut_pairs, "completion", cut);
            add_count(&b, c->pairs - c->ended_pairs - c->cut_pairs, "completion",
                      "that cannot teach where to stop: without an end token; append_eos = yes writes one");
        }
        free(cut);
        add_count(&b, texts - ended_texts, "text",
                  "that cannot teach where to stop: without an end token (append_eos), or cut off at max_length");
    }
    if (c->chats) add_unknown_markers(v, &b);
    return b;
}

/* ---- the check ---- */

/* 1: `name` stands in the list. A word that is no finding is an error. */
static int allows(const char *list, const char *name, graft_error *err) {
    int found = 0;
    for (const char *at = list; *at;) {
        at += strspn(at, ", \t");
        const size_t length = strcspn(at, ", \t");
        int known = 0;
        for (int f = 0; f < FINDINGS; f++)
            known |= strlen(finding_names[f]) == length && strncmp(at, finding_names[f], length) == 0;
        if (length && !known)
            fail(err, GRAFT_USAGE, "[data] allow = %s: \"%.*s\" is none of no_eos, doubled_bos", list, (int)length, at);
        found |= strlen(name) == length && strncmp(at, name, length) == 0;
        at += length;
    }
    return found;
}

int doctor_check(const recipe *r, const data_source *s, int training, graft_error *err) {
    data_text_view v;
    strbuf text = {0};
    data_text_look(s, &v);
    for (int f = 0; f < FINDINGS; f++) {
        if (!training && f == NO_EOS) continue;
        char *const what = find(f, &r->data, &v);
        if (!allows(r->data.allow, finding_names[f], err) && what) {
            char *const line = mem_format("%s; `[data] allow = %s` trains all the same", what, finding_names[f]);
            add_line(&text, line);
            free(line);
        }
        free(what);
    }
    if (text.length) fail(err, GRAFT_USAGE, "%s: %s\n(graft data shows the samples)", r->data.path, text.text);
    strbuf_free(&text);
    return err->code;
}

/* ---- samples ---- */

/* The first sample of file number `file`, or of one behind it. */
static int64_t first_of(const sample_list *l, int64_t file) {
    int64_t low = 0;
    for (int64_t high = l->count; low < high;) {
        const int64_t middle = low + (high - low) / 2;
        if ((int64_t)l->at[middle].file < file)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Which samples are shown: of each file the first, then of each the second ... *count becomes how many. Owned by the caller. */
static int64_t *choose_samples(const data_text_view *v, int64_t *count) {
    const sample_list *const l = v->train_list;
    const int64_t most = *count < l->count ? *count : l->count;
    int64_t *const chosen = mem_new((size_t)most + 1, sizeof *chosen);
    *count = 0;
    for (int64_t round = 0; *count < most; round++)
        for (int32_t f = 0; f < v->train_files && *count < most; f++) {
            const int64_t at = first_of(l, f) + round;
            if (at < first_of(l, f + 1)) chosen[(*count)++] = at;
        }
    return chosen;
}

/* ---- JSON ---- */

static json_t *lengths_json(const sample_counts *c) {
    json_t *const list = json_array();
    for (int i = 0; i < SAMPLE_LENGTHS; i++)
        if (c->lengths[i])
            json_array_append_new(
                list, json_pack("{s:I, s:I}", "up_to", (json_int_t)16 << i, "records", (json_int_t)c->lengths[i]));
    return list;
}

static void put_counts(json_t *o, const sample_counts *c) {
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"records",        c->records    },
        {"used",           c->used       },
        {"conversations",  c->chats      },
        {"truncated",      c->shortened  },
        {"tokens_cut",     c->lost       },
        {"duplicates",     c->duplicates },
        {"unknown_tokens", c->unknown    },
        {"doubled_bos",    c->doubled_bos},
        {"learn_end",      c->ended      },
        {"longest",        c->longest    },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        json_object_set_new(o, rows[i].name, json_integer(rows[i].value));
    const json_int_t dropped = c->empty + c->too_long + c->untrained + c->cut_off + c->bad;
    json_object_set_new(o, "dropped",
                        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "all", dropped, "empty", (json_int_t)c->empty,
                                  "too_long", (json_int_t)c->too_long, "no_target", (json_int_t)c->untrained,
                                  "target_cut_off", (json_int_t)c->cut_off, "damaged", (json_int_t)c->bad));
    if (c->bad) json_object_set_new(o, "first_damaged", json_string(c->first_bad));
}

/* Of a whole set. */
static json_t *counts_json(const sample_counts *c, const sample_list *l) {
    json_t *const o = json_pack("{s:I, s:I, s:I}", "sequences", (json_int_t)l->count, "tokens", (json_int_t)l->tokens,
                                "supervised", (json_int_t)l->targets);
    put_counts(o, c);
    json_object_set_new(o, "lengths", lengths_json(c));
    return o;
}

/* The names of fields that are used (or that are not, where `used` is 0). */
static json_t *names_json(const field_report *f, uint64_t fields) {
    json_t *const list = json_array();
    for (int32_t i = 0; i < f->count; i++)
        if (fields >> i & 1) json_array_append_new(list, json_string(f->names[i]));
    return list;
}

static uint64_t ignored_fields(const field_report *f) {
    uint64_t fields = 0;
    for (int32_t i = 0; i < f->count; i++)
        if (!f->used[i]) fields |= 1ull << i;
    return fields;
}

static json_t *files_json(const data_text_view *v) {
    json_t *const list = json_array();
    for (int32_t i = 0; i < v->train_files + v->eval_files; i++) {
        const data_text_file *const f = &v->files[i];
        json_t *const kinds = json_array();
        for (int32_t k = 0; k < f->fields.kind_count; k++)
            json_array_append_new(kinds,
                                  json_pack("{s:s, s:o, s:I}", "kind", field_kind_name(&f->fields, &f->fields.kinds[k]),
                                            "fields", names_json(&f->fields, f->fields.kinds[k].fields), "records",
                                            (json_int_t)f->fields.kinds[k].records));
        json_t *const o = json_pack("{s:s, s:s, s:s, s:b, s:o, s:o}", "path", source_path(f->source), "for",
                                    i < v->train_files ? "training" : "validation", "format", source_format(f->source),
                                    "gzip", source_is_packed(f->source), "kinds", kinds, "ignored",
                                    names_json(&f->fields, ignored_fields(&f->fields)));
        put_counts(o, &f->counts);
        if (i < v->train_files) json_object_set_new(o, "rows_per_epoch", json_integer(order_quota(v->order, i)));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *lines_json(const char *text) {
    json_t *const list = json_array();
    while (text && *text) {
        const size_t length = strcspn(text, "\n");
        json_array_append_new(list, json_stringn(text, length));
        text += length + (text[length] == '\n');
    }
    return list;
}

static json_t *sample_json(const data_text_piece *p, const data_text_view *v) {
    const text_sample *const s = p->whole;
    json_t *const ids = json_array(), *const labels = json_array();
    const int64_t count = sample_cut_tokens(&p->cut);
    char *const mask = mem_new((size_t)count + 1, 1);
    for (int64_t i = 0; i < count; i++) {
        const int32_t label = sample_cut_label(&p->cut, s->labels, i);
        json_array_append_new(ids, json_integer(s->ids[sample_cut_at(&p->cut, i)]));
        json_array_append_new(labels, json_integer(label));
        mask[i] = label == SAMPLE_NO_LABEL ? '0' : '1';
    }
    json_t *const o = json_pack("{s:s, s:I, s:I, s:o, s:o, s:s}", "file", source_path(v->files[p->file].source),
                                "record", (json_int_t)p->record + 1, "whole_length", (json_int_t)s->count, "ids", ids,
                                "labels", labels, "mask", mask);
    json_object_set_new(o, "text", json_stringn(s->text ? s->text : "", (size_t)s->length));
    free(mask);
    return o;
}

int doctor_json(const recipe *r, data_source *s, int64_t show, json_t **out, graft_error *err) {
    data_text_view v;
    graft_error refusal = {0};
    data_text_look(s, &v);
    doctor_check(r, s, 1, &refusal);
    strbuf remarks = remarks_of(&v);
    json_t *const samples = json_array();
    int64_t *const chosen = choose_samples(&v, &show);
    for (int64_t i = 0; i < show && !err->code; i++) {
        data_text_piece p;
        if (data_text_sample(s, chosen[i], &p, err) == GRAFT_OK) json_array_append_new(samples, sample_json(&p, &v));
    }
    free(chosen);
    *out =
        json_pack("{s:o, s:I, s:o, s:o, s:o}", "train", counts_json(&v.train, v.train_list), "rows", (json_int_t)v.rows,
                  "refused", lines_json(refusal.text), "remarks", lines_json(remarks.text), "samples", samples);
    json_object_set_new(*out, "files", files_json(&v));
    if (!r->data.packing)
        json_object_set_new(
            *out, "padding",
            json_pack("{s:f, s:f}", "shuffled", data_text_padding(s, 0), "grouped", data_text_padding(s, 1)));
    json_object_set_new(*out, "template", v.chat_origin ? json_string(v.chat_origin) : json_null());
    if (v.eval.records)
        json_object_set_new(*out, "eval", counts_json(&v.eval, v.eval_list));
    else if (v.eval_list->count) /* a share of the training file, counted there */
        json_object_set_new(*out, "eval",
                            json_pack("{s:I, s:I, s:I}", "sequences", (json_int_t)v.eval_list->count, "tokens",
                                      (json_int_t)v.eval_list->tokens, "supervised", (json_int_t)v.eval_list->targets));
    strbuf_free(&remarks);
    return err->code;
}

/* ---- for people ---- */

static const char GREEN[] = "\033[32m", GREY[] = "\033[2m", RED[] = "\033[31m", PLAIN[] = "\033[0m";

/* Text without what could command a terminal. */
static void put_text(const char *text, int64_t length, FILE *to) {
    for (int64_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F)
            fprintf(to, "\\x%02x", c);
        else
            putc(c, to);
    }
}

enum { STATE_NONE, STATE_SEEN, STATE_LEARNED, STATE_CUT };

static void change_state(int *now, int next, int color, FILE *to) {
    static const char *const colors[] = {PLAIN, GREY, GREEN, RED};
    if (*now == next) return;
    if (color)
        fprintf(to, "%s%s", PLAIN, colors[next]);
    else
        fputs(*now == STATE_LEARNED ? "]]"
              : *now == STATE_CUT   ? "))"
                                    : "",
              to),
            fputs(next == STATE_LEARNED ? "[["
                  : next == STATE_CUT   ? "(("
                                        : "",
                  to);
    *now = next;
}

static void print_sample(const data_text_piece *p, const data_text_view *v, int color, FILE *to) {
    const text_sample *const s = p->whole;
    const int64_t count = sample_cut_tokens(&p->cut);
    int64_t at = 0, learned = 0;
    int state = STATE_NONE;
    for (int64_t i = 0; i < count; i++)
        learned += sample_cut_label(&p->cut, s->labels, i) != SAMPLE_NO_LABEL;
    fputs("\n", to);
    if (v->train_files > 1) fprintf(to, "%s, ", source_path(v->files[p->file].source));
    fprintf(to, "record %lld: %lld tokens, %lld learned\n", (long long)p->record + 1, (long long)count,
            (long long)learned);
    for (int64_t i = 0; i < s->count; i++) {
        const int kept = i < p->cut.front || (i >= p->cut.begin && i < p->cut.end);
        const int learns = s->labels[i] != SAMPLE_NO_LABEL && !(p->cut.gap && i == p->cut.begin);
        change_state(&state, !kept ? STATE_CUT : learns ? STATE_LEARNED : STATE_SEEN, color, to);
        if (s->end[i] == 0) {
            int64_t length = 0;
            const char *const token = tokenizer_token(v->words, s->ids[i], &length);
            put_text(token ? token : "?", token ? length : 1, to);
        } else if (s->end[i] > at) {
            put_text(s->text + at, s->end[i] - at, to);
            at = s->end[i];
        }
    }
    change_state(&state, STATE_NONE, color, to);
    putc('\n', to);
}

static void print_counts(const char *name, const sample_counts *c, const sample_list *l, FILE *to) {
    const int64_t dropped = c->empty + c->too_long + c->untrained + c->cut_off + c->bad;
    fprintf(to, "%s: %lld record%s, %lld used", name, (long long)c->records, plural(c->records), (long long)c->used);
    if (c->chats) fprintf(to, " (%lld conversation%s)", (long long)c->chats, plural(c->chats));
    fprintf(to, "\n  %lld tokens in %lld sequence%s, %lld learned (%.1f %%)\n", (long long)l->tokens,
            (long long)l->count, plural(l->count), (long long)l->targets,
            l->tokens ? 100.0 * (double)l->targets / (double)l->tokens : 0.0);
    if (c->shortened) fprintf(to, "  %lld cut, %lld tokens lost\n", (long long)c->shortened, (long long)c->lost);
    if (dropped)
        fprintf(to,
                "  %lld dropped: %lld empty, %lld too long, %lld without a target, %lld whose target is cut off, %lld "
                "damaged\n",
                (long long)dropped, (long long)c->empty, (long long)c->too_long, (long long)c->untrained,
                (long long)c->cut_off, (long long)c->bad);
}

static void print_names(const char *before, const field_report *f, uint64_t fields, FILE *to) {
    const char *sep = before;
    for (int32_t i = 0; i < f->count; i++)
        if (fields >> i & 1) fprintf(to, "%s%s", sep, f->names[i]), sep = ", ";
}

/* What a file is, and what of it is read. */
static void print_file(const data_text_view *v, int32_t i, const recipe_data *d, FILE *to) {
    const data_text_file *const f = &v->files[i];
    fprintf(to, "%s: %s%s, %lld record%s", source_path(f->source), source_format(f->source),
            source_is_packed(f->source) ? ", gzip" : "", (long long)f->counts.records, plural(f->counts.records));
    if (v->train_files > 1 && i < v->train_files) fprintf(to, ", %lld used", (long long)f->counts.used);
    if (d->shares && i < v->train_files)
        fprintf(to, "; weight %g: %lld of the %lld %s of an epoch", d->shares[i], (long long)order_quota(v->order, i),
                (long long)order_rows(v->order), d->packing ? "rows" : "sequences");
    fputs("\n", to);
    for (int32_t k = 0; k < f->fields.kind_count; k++) {
        const field_kind *const kind = &f->fields.kinds[k];
        fprintf(to, "  %lld %s", (long long)kind->records, field_kind_name(&f->fields, kind));
        print_names(" from ", &f->fields, kind->fields, to);
        fputs("\n", to);
    }
    if (f->fields.other_kinds) fprintf(to, "  %lld of other kinds\n", (long long)f->fields.other_kinds);
    if (ignored_fields(&f->fields)) {
        print_names("  not read: ", &f->fields, ignored_fields(&f->fields), to);
        fprintf(to, "%s\n", f->fields.unnamed ? " and more" : "");
    }
    if (f->counts.bad) fprintf(to, "  %lld damaged, the first: %s\n", (long long)f->counts.bad, f->counts.first_bad);
}

static void print_lengths(const sample_counts *c, FILE *to) {
    int64_t most = 1;
    for (int i = 0; i < SAMPLE_LENGTHS; i++)
        most = c->lengths[i] > most ? c->lengths[i] : most;
    fprintf(to, "  tokens of a record (longest %lld):\n", (long long)c->longest);
    for (int i = 0; i < SAMPLE_LENGTHS; i++)
        if (c->lengths[i])
            fprintf(to, "  %9lld %7lld %.*s\n", (long long)16 << i, (long long)c->lengths[i],
                    (int)(1 + c->lengths[i] * 39 / most), "########################################");
}

int doctor_print(const recipe *r, data_source *s, int64_t show, int color, FILE *to, graft_error *err) {
    data_text_view v;
    graft_error refusal = {0};
    data_text_look(s, &v);
    doctor_check(r, s, 1, &refusal);
    strbuf remarks = remarks_of(&v);
    if (v.train.chats)
        fprintf(to, "chat template: %s%s\n", v.chat_origin, v.by_tags ? ", which marks what is learned" : "");
    for (int32_t i = 0; i < v.train_files + v.eval_files; i++)
        print_file(&v, i, &r->data, to);
    print_counts("training", &v.train, v.train_list, to);
    print_lengths(&v.train, to);
    if (r->data.packing)
        fprintf(to, "  packed into %lld rows of at most %lld tokens\n", (long long)v.rows, (long long)v.row_tokens);
    else
        fprintf(to, "  padded batches of %lld would be padding by %.1f %%, with group_by_length by %.1f %%\n",
                (long long)r->train.batch_size, 100 * data_text_padding(s, 0), 100 * data_text_padding(s, 1));
    if (v.eval.records)
        print_counts("validation", &v.eval, v.eval_list, to);
    else if (v.eval_list->count)
        fprintf(to, "validation: %lld of these sequences more, %lld tokens\n", (long long)v.eval_list->count,
                (long long)v.eval_list->tokens);
    if (remarks.text) fprintf(to, "remarks:\n%s\n", remarks.text);
    int64_t *const chosen = choose_samples(&v, &show);
    for (int64_t i = 0; i < show && !err->code; i++) {
        data_text_piece p;
        if (data_text_sample(s, chosen[i], &p, err) == GRAFT_OK) print_sample(&p, &v, color, to);
    }
    free(chosen);
    if (refusal.code) fprintf(to, "\ngraft train would refuse this: %s\n", refusal.text);
    strbuf_free(&remarks);
    return err->code;
}
