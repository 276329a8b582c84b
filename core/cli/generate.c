/* graft generate — text from a model, with its adapters or beside the bare base. */
#include "model/generate.h"
#include "base/json.h"
#include "base/log.h"
#include "base/philox.h"
#include "cli/cli.h"
#include "cli/prompts.h"
#include "cli/sampling.h"
#include "formats/generation-config.h"
#include "run/progress.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT = 256, IDS, COMPARE, IGNORE_EOS, MESSAGES, TEMPLATE, BATCH };
static const uint64_t stream_prompt = 0x70726F6D7074u; /* of the seed: "prompt" */

typedef struct {
    prompt_sources from;
    int compare, ignore_eos;
    int64_t batch; /* prompts at a time */
    sampling_wishes sampling;
} wishes;

static int own(void *context, int val, const char *text) {
    wishes *w = context;
    if (val == PROMPT) w->from.text = text;
    if (val == IDS) w->from.ids = text;
    if (val == MESSAGES) w->from.messages = text;
    if (val == TEMPLATE) w->from.template = text;
    if (val == BATCH) return cli_whole("--batch", text, 1, 256, &w->batch);
    w->compare |= val == COMPARE;
    w->ignore_eos |= val == IGNORE_EOS;
    return val >= SAMPLING_MAX_NEW ? sampling_option(&w->sampling, val, text) : GRAFT_OK;
}

/* ---- answers ---- */

typedef struct {
    tokenizer_stream *stream;
    int show;
} printer;

static int print_token(void *context, int32_t id) {
    printer *p = context;
    graft_error err = {0};
    strbuf piece = {0};
    if (p->show && p->stream && tokenizer_stream_push(p->stream, id, &piece, &err) == GRAFT_OK && piece.length) {
        fwrite(piece.text, 1, piece.length, stdout);
        fflush(stdout);
    }
    strbuf_free(&piece);
    return 0;
}

typedef struct {
    const tokenizer *t;
    kv_cache *cache;
    generation_config config;
    sample_settings settings;
    int64_t max_new;
    int32_t stops[GENERATION_EOS_MAX + 1];
    int stop_count;
} answering;

/* What ends an answer: the ends of generation_config.json, else of config.json, and that of the chat template. */
static void find_stops(answering *a, const model_shape *shape, int32_t turn_end) {
    for (int i = 0; i < a->config.eos_count; i++)
        a->stops[a->stop_count++] = (int32_t)a->config.eos[i];
    for (int i = 0; !a->config.eos_count && i < shape->eos_count; i++)
        a->stops[a->stop_count++] = (int32_t)shape->eos[i];
    if (turn_end >= 0) a->stops[a->stop_count++] = turn_end;
}

/* Every prompt has a stream of random numbers of its own: an answer does not depend on how many are written at a time. */
static generate_call call_of(const answering *a, const prompt *p, int64_t number) {
    generate_call call = {.prompt = p->ids,
                          .prompt_count = p->count,
                          .max_new_tokens = a->max_new,
                          .stops = a->stops,
                          .stop_count = a->stop_count,
                          .settings = a->settings};
    if (number > 0) call.settings.seed = philox_bits(a->settings.seed, stream_prompt, (uint64_t)number);
    return call;
}

/* seconds: 0 where several answers were written at a time. */
static json_t *answer_json(const answering *a, const prompt *p, const generate_result *r, const strbuf *text,
                           double seconds) {
    json_t *list = json_array();
    for (int64_t i = 0; i < r->count; i++)
        json_array_append_new(list, json_integer(r->ids[i]));
    json_t *out = json_pack("{s:o, s:s, s:I, s:I}", "ids", list, "end", r->end == GENERATE_STOP ? "stop" : "length",
                            "prompt_tokens", (json_int_t)p->count, "new_tokens", (json_int_t)r->count);
    if (seconds > 0) json_object_set_new(out, "tokens_per_second", json_real((double)r->count / seconds));
    if (a->t) json_object_set_new(out, "text", json_stringn(text->text ? text->text : "", text->length));
    return out;
}

/* One answer, to stdout when `show`: as it is written, unless it was (`r` holds ids). As JSON through *out. */
static int answer(const answering *a, const prompt *p, int64_t number, generate_result r, int show, json_t **out,
                  graft_error *err) {
    int32_t *own = NULL;
    const int written = r.ids != NULL;
    const double begin = progress_now();
    double seconds = 0;
    strbuf text = {0};
    if (!written) {
        printer printing = {.stream = a->t ? tokenizer_stream_new(a->t, 1) : NULL, .show = show};
        generate_call call = call_of(a, p, number);
        call.token = print_token;
        call.context = &printing;
        r.ids = own = mem_new((size_t)a->max_new + 1, sizeof *own);
        if (generate_run(a->cache, &call, own, &r.count, &r.end, err) == GRAFT_OK && a->t && show &&
            tokenizer_stream_end(printing.stream, &text, err) == GRAFT_OK && text.length)
            fwrite(text.text, 1, text.length, stdout);
        seconds = progress_now() - begin;
        strbuf_free(&text);
        tokenizer_stream_free(printing.stream);
    }
    if (a->t && !err->code) tokenizer_decode(a->t, r.ids, r.count, 1, &text, err);
    if (show && written && text.length) fwrite(text.text, 1, text.length, stdout);
    if (show && !a->t)
        for (int64_t i = 0; i < r.count; i++)
            printf("%s%d", i ? ", " : "", (int)r.ids[i]);
    if (!err->code) *out = answer_json(a, p, &r, &text, seconds);
    if (show && r.end == GENERATE_LENGTH && r.count < a->max_new && !err->code)
        log_warn("the answer ends where the model's context does, behind %lld tokens", (long long)r.count);
    strbuf_free(&text);
    free(own);
    return err->code;
}

/* The answers to all prompts, several at a time; results (count), their ids in `room`. */
static int answer_together(const answering *a, const prompts *p, generate_result *results, int32_t *room,
                           graft_error *err) {
    generate_call *calls = mem_new((size_t)p->count, sizeof *calls);
    for (int64_t i = 0; i < p->count; i++) {
        calls[i] = call_of(a, &p->at[i], i);
        results[i].ids = room + i * a->max_new;
    }
    generate_all(a->cache, calls, results, p->count, NULL, NULL, err);
    free(calls);
    return err->code;
}

static int answer_all(const answering *a, session *s, const prompts *p, const wishes *w, const cli_options *o,
                      graft_error *err) {
    json_t *list = json_array();
    const int both = w->compare && s->adapters, together = cache_sequences(a->cache) > 1;
    generate_result *results = mem_new((size_t)p->count * 2, sizeof *results); /* base, tuned */
    int32_t *room = together ? mem_new((size_t)(2 * p->count * a->max_new), sizeof *room) : NULL;
    for (int tuned = both ? 0 : 1; together && tuned < 2 && !err->code; tuned++) {
        if (s->adapters) adapt_enable(s->adapters, -1, tuned);
        answer_together(a, p, results + tuned * p->count, room + tuned * p->count * a->max_new, err);
    }
    for (int64_t i = 0; i < p->count && !err->code; i++) {
        json_t *row = json_object();
        if (p->at[i].text) json_object_set_new(row, "prompt", json_string(p->at[i].text));
        if (!o->json && (p->count > 1 || both)) printf("%s%s\n", i ? "\n" : "", p->at[i].text ? p->at[i].text : "");
        for (int tuned = both ? 0 : 1; tuned < 2 && !err->code; tuned++) {
            json_t *one = NULL;
            if (s->adapters) adapt_enable(s->adapters, -1, tuned);
            if (!o->json && both) fputs(tuned ? "  tuned:" : "  base: ", stdout);
            answer(a, &p->at[i], i, results[tuned * p->count + i], !o->json, &one, err);
            if (!o->json) putchar('\n');
            if (one && both)
                json_object_set_new(row, tuned ? "tuned" : "base", one);
            else if (one) {
                json_object_update(row, one);
                json_decref(one);
            }
        }
        json_array_append_new(list, row);
    }
    free(room);
    free(results);
    if (o->json && !err->code)
        cli_print_json(list);
    else
        json_decref(list);
    return err->code;
}

static int run_session(session *s, const char *folder, const wishes *w, const cli_options *o, graft_error *err) {
    answering a = {.max_new = w->sampling.max_new};
    prompts p = {0};
    tokenizer *t = NULL;
    workspace *space = NULL;
    if (generation_config_read(folder, &a.config, err) == GRAFT_OK &&
        (w->from.text || w->from.file || w->from.messages))
        tokenizer_load(folder, &t, err);
    else if (!err->code) {
        graft_error none = {0}; /* ids work without a tokenizer */
        tokenizer_load(folder, &t, &none);
    }
    if (!err->code && *a.config.ignored) log_warn("%s/generation_config.json: not used: %s", folder, a.config.ignored);
    if (!err->code) prompts_read(&w->from, t, s, &p, err);
    if (!w->ignore_eos) find_stops(&a, model_descriptor(s->model), p.turn_end);
    a.t = t;
    a.settings = sampling_settle(&w->sampling, &a.config);
    const int64_t wanted = p.longest + w->sampling.max_new, most = model_longest(s->model, NULL);
    const int64_t batch = w->batch < p.count ? w->batch : p.count, rows = p.longest < 256 ? p.longest : 256;
    const workspace_config c = {.rows = rows > batch ? rows : batch, .documents = batch};
    if (!err->code && session_load(s, 0, err) == GRAFT_OK &&
        workspace_create(s->model, s->adapters, &c, &space, err) == GRAFT_OK &&
        cache_create_many(space, batch, wanted < most ? wanted : most, &a.cache, err) == GRAFT_OK)
        answer_all(&a, s, &p, w, o, err);
    cache_free(a.cache);
    workspace_free(space);
    tokenizer_free(t);
    prompts_free(&p);
    return err->code;
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"prompt",           required_argument, NULL, PROMPT},
        {"ids",              required_argument, NULL, IDS},
        {"messages",                  required_argument, NULL, MESSAGES},
        {"template",required_argument, NULL, TEMPLATE},
        {"batch",               required_argument, NULL, BATCH},
        {"compare",         no_argument, NULL, COMPARE},
        {"ignore-eos",              no_argument, NULL, IGNORE_EOS},
        SAMPLING_OPTIONS,
        {0                 }
    };
    cli_options o;
    wishes w = {.batch = 1, .sampling = SAMPLING_UNSET(64)};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_generate, "aiIjdptsq", more, own, &w, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    w.from.file = o.input;
    registry *plugins = registry_create();
    recipe *settings = NULL, *base = NULL;
    session s = {0};
    if (o.ini) recipe_load(plugins, o.ini, o.set, o.set_count, 0, &settings, NULL, &err);
    cli_base(&o, plugins, &base, &err);
    session_request q = cli_request(&o, words[first], plugins);
    q.recipe = settings;
    q.base = base;
    if (!err.code && session_open(&q, &s, &err) == GRAFT_OK) run_session(&s, words[first], &w, &o, &err);
    session_close(&s);
    recipe_free(settings);
    recipe_free(base);
    registry_free(plugins);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_generate = {
    "generate", "let a model write",
    "usage: graft generate MODEL [--adapter DIR]... (--prompt TEXT | --ids 1,2,3 | --input FILE | --messages FILE)\n"
    "                      [--template NAME] [--max-new 64] [--batch 1] [--compare] [--ignore-eos] [--json]\n"
    "                      [--sample | --greedy] [--temperature T] [--top-k K] [--top-p P] [--min-p P]\n"
    "                      [--repetition-penalty R] [--seed N] [--ini run.ini | --quantizer FILE.ini|none]\n"
    "\n"
    "  --input FILE      one prompt a line: JSON strings (for prompts with line breaks) or plain text\n"
    "  --messages FILE   JSON: one conversation, or one a line, which the model's chat template writes\n"
    "  --template NAME   instead of the model's own: chatml, alpaca, plain, or a template file\n"
    "  --compare         answers of the base alone and with the adapters\n"
    "  --batch N         N answers at a time, the same as one by one; they are printed when all are done\n"
    "  --ini FILE        the [quantizer] and [adapter] sections of a run\n"
    "  --json            with ids, numbers of tokens, tokens a second, and why each answer ended\n"
    "\n"
    "FILE may be - for stdin. How tokens are chosen and what ends an answer comes, where no option says it, from the "
    "model's\n"
    "generation_config.json; without it the best token is taken. A conversation also ends where its template ends an "
    "answer,\n"
    "and every text at --max-new or the last position of the model.\n",
    run};
