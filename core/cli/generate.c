/* graft generate — text from a model, with its adapters or beside the bare base. */
#include "model/generate.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "formats/generation-config.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROMPT = 256,
    IDS,
    MAX_NEW,
    SAMPLE,
    GREEDY,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    MIN_P,
    PENALTY,
    SEED,
    COMPARE,
    IGNORE_EOS
};

typedef struct {
    const char *prompt, *ids;
    int64_t max_new, seed, top_k;
    int sample, compare, ignore_eos;           /* sample: -1 as the model's file says */
    double temperature, top_p, min_p, penalty; /* negative: as the model's file says */
} wishes;

static int own(void *context, int val, const char *text) {
    wishes *w = context;
    switch (val) {
    case PROMPT:
        w->prompt = text;
        return GRAFT_OK;
    case IDS:
        w->ids = text;
        return GRAFT_OK;
    case MAX_NEW:
        return cli_whole("--max-new", text, 1, 1 << 20, &w->max_new);
    case SAMPLE:
        w->sample = 1;
        return GRAFT_OK;
    case GREEDY:
        w->sample = 0;
        return GRAFT_OK;
    case TEMPERATURE:
        w->sample = 1;
        return cli_real("--temperature", text, 1e-4, 100, &w->temperature);
    case TOP_K:
        w->sample = 1;
        return cli_whole("--top-k", text, 0, INT32_MAX, &w->top_k);
    case TOP_P:
        w->sample = 1;
        return cli_real("--top-p", text, 0, 1, &w->top_p);
    case MIN_P:
        w->sample = 1;
        return cli_real("--min-p", text, 0, 1, &w->min_p);
    case PENALTY:
        return cli_real("--repetition-penalty", text, 1e-3, 100, &w->penalty);
    case SEED:
        return cli_whole("--seed", text, 0, INT64_MAX, &w->seed);
    case COMPARE:
        w->compare = 1;
        return GRAFT_OK;
    default:
        w->ignore_eos = 1;
        return GRAFT_OK;
    }
}

/* Arguments over the folder's generation_config.json over transformers' defaults (top_k 50 when sampling). */
static sample_settings settle(const wishes *w, const generation_config *c) {
    sample_settings s = sample_greedy();
    s.sample = w->sample >= 0 ? w->sample : c->do_sample == 1;
    s.temperature = w->temperature >= 0 ? w->temperature : c->temperature > 0 ? c->temperature : 1;
    s.top_k = w->top_k >= 0 ? w->top_k : c->top_k >= 0 ? c->top_k : 50;
    s.top_p = w->top_p >= 0 ? w->top_p : c->top_p >= 0 ? c->top_p : 1;
    s.min_p = w->min_p >= 0 ? w->min_p : c->min_p >= 0 ? c->min_p : 0;
    s.repetition_penalty = w->penalty > 0 ? w->penalty : c->repetition_penalty > 0 ? c->repetition_penalty : 1;
    s.seed = (uint64_t)w->seed;
    return s;
}

/* ---- prompts: one argument, ids, or a file with one prompt a line (JSON strings, or plain lines) ---- */

typedef struct {
    char *text;
    int32_t *ids;
    int64_t count;
} prompt;

typedef struct {
    prompt *at;
    int64_t count, capacity;
} prompts;

static int add_text(prompts *p, const tokenizer *t, const char *text, int64_t length, graft_error *err) {
    tokenizer_encoding e = {0};
    if (tokenizer_encode(t, text, length, 1, &e, err) == GRAFT_OK) {
        mem_reserve(p->at, p->count, p->capacity);
        prompt *one = &p->at[p->count++];
        *one = (prompt){.text = mem_new((size_t)length + 1, 1),
                        .ids = mem_new((size_t)e.count + 1, sizeof(int32_t)),
                        .count = e.count};
        memcpy(one->text, text, (size_t)length);
        if (e.count) memcpy(one->ids, e.ids, (size_t)e.count * sizeof(int32_t));
    }
    tokenizer_encoding_free(&e);
    return err->code;
}

static int add_ids(prompts *p, const char *text, int64_t vocab, graft_error *err) {
    prompt one = {.ids = mem_new(strlen(text) + 1, sizeof(int32_t))};
    for (const char *at = text; *at;) {
        char *end;
        const long id = strtol(at, &end, 10);
        if (end == at || id < 0 || id >= vocab) {
            free(one.ids);
            return fail(err, GRAFT_USAGE, "--ids \"%s\": ids are whole numbers below %lld, separated by commas", text,
                        (long long)vocab);
        }
        one.ids[one.count++] = (int32_t)id;
        at = end + strspn(end, ", []");
    }
    mem_reserve(p->at, p->count, p->capacity);
    p->at[p->count++] = one;
    return GRAFT_OK;
}

static int add_file(prompts *p, const tokenizer *t, const char *path, graft_error *err) {
    char *bytes = NULL;
    int64_t size, number = 0;
    if (file_read(path, (int64_t)1 << 30, &bytes, &size, err)) return err->code;
    for (char *line = bytes; line < bytes + size && !err->code;) {
        char *end = memchr(line, '\n', (size_t)(bytes + size - line));
        end = end ? end : bytes + size;
        char name[64];
        snprintf(name, sizeof name, "line %lld", (long long)++number);
        json_t *value = NULL;
        graft_error none = {0};
        if (*line == '"' &&
            json_read_text(line, (size_t)(end - line), name, JSON_DECODE_ANY, &value, &none) == GRAFT_OK)
            add_text(p, t, json_string_value(value), (int64_t)json_string_length(value), err);
        else if (end > line)
            add_text(p, t, line, end - line, err);
        if (err->code) fail_within(err, "%s %s", path, name);
        json_decref(value);
        line = end + 1;
    }
    free(bytes);
    return err->code;
}

static int read_prompts(prompts *p, const wishes *w, const cli_options *o, const tokenizer *t, int64_t vocab,
                        graft_error *err) {
    if (w->ids && add_ids(p, w->ids, vocab, err)) return err->code;
    if (w->prompt && add_text(p, t, w->prompt, (int64_t)strlen(w->prompt), err)) return err->code;
    if (o->input && add_file(p, t, o->input, err)) return err->code;
    if (!p->count) return fail(err, GRAFT_USAGE, "no prompt: use --prompt TEXT, --ids LIST or --input FILE");
    return GRAFT_OK;
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
    int ignore_eos;
    const model_shape *shape;
} answering;

static int stops_of(const answering *a, int32_t *stops) {
    int n = 0;
    for (int i = 0; !a->ignore_eos && i < a->config.eos_count; i++)
        stops[n++] = (int32_t)a->config.eos[i];
    for (int i = 0; !a->ignore_eos && !a->config.eos_count && i < a->shape->eos_count; i++)
        stops[n++] = (int32_t)a->shape->eos[i];
    return n;
}

/* One answer, streamed to stdout when `show`; as JSON through *out otherwise. */
static int answer(const answering *a, const prompt *p, int show, json_t **out, graft_error *err) {
    int32_t stops[GENERATION_EOS_MAX], *ids = mem_new((size_t)a->max_new + 1, sizeof *ids);
    printer printing = {.stream = a->t ? tokenizer_stream_new(a->t, 1) : NULL, .show = show};
    const generate_call call = {.prompt = p->ids,
                                .prompt_count = p->count,
                                .max_new_tokens = a->max_new,
                                .stops = stops,
                                .stop_count = stops_of(a, stops),
                                .settings = a->settings,
                                .token = print_token,
                                .context = &printing};
    int64_t count = 0;
    generate_end end = GENERATE_LENGTH;
    strbuf text = {0};
    if (generate_run(a->cache, &call, ids, &count, &end, err) == GRAFT_OK && a->t) {
        if (show && tokenizer_stream_end(printing.stream, &text, err) == GRAFT_OK && text.length)
            fwrite(text.text, 1, text.length, stdout);
        strbuf_free(&text);
        tokenizer_decode(a->t, ids, count, 1, &text, err);
    }
    if (show && !a->t)
        for (int64_t i = 0; i < count; i++)
            printf("%s%d", i ? ", " : "", (int)ids[i]);
    if (out && !err->code) {
        json_t *list = json_array();
        for (int64_t i = 0; i < count; i++)
            json_array_append_new(list, json_integer(ids[i]));
        *out = json_pack("{s:o, s:s}", "ids", list, "end", end == GENERATE_STOP ? "stop" : "length");
        if (a->t) json_object_set_new(*out, "text", json_stringn(text.text ? text.text : "", text.length));
    }
    strbuf_free(&text);
    tokenizer_stream_free(printing.stream);
    free(ids);
    return err->code;
}

static int answer_all(const answering *a, session *s, const prompts *p, const wishes *w, const cli_options *o,
                      graft_error *err) {
    json_t *list = json_array();
    const int both = w->compare && s->adapters;
    for (int64_t i = 0; i < p->count && !err->code; i++) {
        json_t *row = json_object();
        if (p->at[i].text) json_object_set_new(row, "prompt", json_string(p->at[i].text));
        if (!o->json && (p->count > 1 || both)) printf("%s%s\n", i ? "\n" : "", p->at[i].text ? p->at[i].text : "");
        for (int tuned = both ? 0 : 1; tuned < 2 && !err->code; tuned++) {
            json_t *one = NULL;
            if (s->adapters) adapt_enable(s->adapters, -1, tuned);
            if (!o->json && both) fputs(tuned ? "  tuned:" : "  base: ", stdout);
            answer(a, &p->at[i], !o->json, &one, err);
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
    if (o->json && !err->code)
        cli_print_json(list);
    else
        json_decref(list);
    return err->code;
}

static int run_session(session *s, const char *folder, const wishes *w, const cli_options *o, graft_error *err) {
    answering a = {.max_new = w->max_new, .ignore_eos = w->ignore_eos, .shape = model_descriptor(s->model)};
    prompts p = {0};
    tokenizer *t = NULL;
    workspace *space = NULL;
    if (generation_config_read(folder, &a.config, err) == GRAFT_OK && (w->prompt || o->input))
        tokenizer_load(folder, &t, err);
    else if (!err->code) {
        graft_error none = {0}; /* ids work without a tokenizer */
        tokenizer_load(folder, &t, &none);
    }
    if (!err->code && *a.config.ignored) log_warn("%s/generation_config.json: not used: %s", folder, a.config.ignored);
    if (!err->code) read_prompts(&p, w, o, t, a.shape->vocab, err);
    a.t = t;
    a.settings = settle(w, &a.config);
    int64_t longest = 1;
    for (int64_t i = 0; i < p.count; i++)
        longest = p.at[i].count > longest ? p.at[i].count : longest;
    const workspace_config c = {.rows = longest < 256 ? longest : 256, .documents = 1};
    if (!err->code && session_load(s, 0, err) == GRAFT_OK &&
        workspace_create(s->model, s->adapters, &c, &space, err) == GRAFT_OK &&
        cache_create(space, longest + w->max_new, &a.cache, err) == GRAFT_OK)
        answer_all(&a, s, &p, w, o, err);
    cache_free(a.cache);
    workspace_free(space);
    tokenizer_free(t);
    for (int64_t i = 0; i < p.count; i++) {
        free(p.at[i].text);
        free(p.at[i].ids);
    }
    free(p.at);
    return err->code;
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"prompt",           required_argument, NULL, PROMPT},
        {"ids",              required_argument, NULL, IDS},
        {"max-new",                  required_argument, NULL, MAX_NEW},
        {"sample",no_argument, NULL, SAMPLE},
        {"greedy",               no_argument, NULL, GREEDY},
        {"temperature",          required_argument, NULL, TEMPERATURE},
        {"top-k",              required_argument, NULL, TOP_K},
        {"top-p",                  required_argument, NULL, TOP_P},
        {"min-p",                    required_argument, NULL, MIN_P},
        {"repetition-penalty",            required_argument, NULL, PENALTY},
        {"seed",           required_argument, NULL, SEED},
        {"compare",              no_argument, NULL, COMPARE},
        {"ignore-eos",                  no_argument, NULL, IGNORE_EOS},
        {0}
    };
    cli_options o;
    wishes w = {.max_new = 64, .sample = -1, .temperature = -1, .top_k = -1, .top_p = -1, .min_p = -1, .penalty = -1};
    int first;
    graft_error err = {0};
    if (cli_parse(&command_generate, "aiIjdpts", more, own, &w, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    registry *plugins = registry_create();
    recipe *settings = NULL;
    session s = {0};
    if (o.ini) recipe_load(plugins, o.ini, o.set, o.set_count, 0, &settings, NULL, &err);
    const session_request q = {.model = words[first],
                               .device = o.device,
                               .precision = o.precision,
                               .threads = o.threads,
                               .recipe = settings,
                               .folders = o.adapters,
                               .folder_count = o.adapter_count,
                               .plugins = plugins};
    if (!err.code && session_open(&q, &s, &err) == GRAFT_OK) run_session(&s, words[first], &w, &o, &err);
    session_close(&s);
    recipe_free(settings);
    registry_free(plugins);
    cli_free(&o);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_generate = {
    "generate", "let a model write",
    "usage: graft generate MODEL [--adapter DIR]... (--prompt TEXT | --ids 1,2,3 | --input FILE) [--max-new 64]\n"
    "                      [--compare] [--sample | --greedy] [--temperature T] [--top-k K] [--top-p P] [--min-p P]\n"
    "                      [--repetition-penalty R] [--seed N] [--ignore-eos] [--ini run.ini] [--json]\n\n"
    "FILE holds one prompt a line: JSON strings (for prompts with line breaks) or plain text. --compare answers with "
    "the base\n"
    "alone and with the adapters. What is not given comes from the model's generation_config.json; without it the best "
    "token\n"
    "is taken. --ini applies its [quantizer] and [adapter] sections.\n",
    run};
