/* recipe-check — lists, patterns, and keys that exclude each other. */
#include "base/file.h"
#include "run/recipe-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAYER_MAX = 65535, LIST_MAX = 65536 };

typedef struct {
    recipe *r;
    problems *problems;
    const ini_section *section;
    const char *key; /* whose value is being read */
} checking;

static void say(const checking *c, const char *text) {
    const ini_entry *const entry = ini_entry_of(c->section, c->key);
    if (entry) ini_problem(&c->r->file, c->section, entry, c->problems, "[%s] %s %s", c->section->name, c->key, text);
}

/* Splits "a, b" at its commas; *out has `count` texts, owned by the recipe. */
static int32_t split(checking *c, const char *key, const char *text, const char ***out) {
    c->key = key;
    int32_t count = 0;
    *out = NULL;
    if (!*text) return 0;
    size_t most = 1;
    for (const char *at = text; *at; at++)
        most += *at == ',';
    const char **const list = arena_new(&c->r->memory, most, sizeof *list);
    for (;;) {
        const size_t length = strcspn(text, ",");
        size_t begin = strspn(text, " \t"), end = length;
        while (end > begin && strchr(" \t", text[end - 1]))
            end--;
        if (begin >= end) {
            say(c, "has an empty element");
            return 0;
        }
        list[count++] = arena_copy(&c->r->memory, text + begin, end - begin);
        if (!text[length]) break;
        text += length + 1;
    }
    *out = list;
    return count;
}

/* "7" or "0-11"; 0 when it is neither. */
static int read_range(const char *text, long *first, long *last) {
    char *end;
    if (*text < '0' || *text > '9') return 0;
    *first = *last = strtol(text, &end, 10);
    if (*end == '-') {
        text = end + 1;
        if (*text < '0' || *text > '9') return 0;
        *last = strtol(text, &end, 10);
    }
    return *end == '\0' && *first <= *last && *last <= LAYER_MAX;
}

static void read_layers(checking *c, recipe_adapter *a) {
    const char **ranges;
    const int32_t count = split(c, "layers", a->layers, &ranges);
    int64_t total = 0;
    long first, last;
    for (int32_t i = 0; i < count; i++) {
        if (!read_range(ranges[i], &first, &last) || (total += last - first + 1) > LIST_MAX) {
            say(c, "is no list of block numbers; write 0-11, 14");
            return;
        }
    }
    a->layer_list = arena_new(&c->r->memory, (size_t)total + 1, sizeof *a->layer_list);
    for (int32_t i = 0; i < count; i++)
        for (read_range(ranges[i], &first, &last); first <= last; first++)
            a->layer_list[a->layer_count++] = first;
}

enum { IS_RANK, IS_ALPHA, IS_FACTOR };

/* "PATTERN:NUMBER, ..." */
static int32_t read_patterns(checking *c, const char *key, const char *text, int is, const char ***patterns,
                             double **values) {
    static const char *const forms[] = {[IS_RANK] =
                                            "has the form NAME:RANK, NAME:RANK with whole ranks from 1 to 65536",
                                        [IS_ALPHA] = "has the form NAME:ALPHA, NAME:ALPHA",
                                        [IS_FACTOR] = "has the form NAME:FACTOR, NAME:FACTOR with factors from 0"};
    const int32_t count = split(c, key, text, patterns);
    double *const list = arena_new(&c->r->memory, (size_t)count + 1, sizeof *list);
    for (int32_t i = 0; i < count; i++) {
        const char *const colon = strrchr((*patterns)[i], ':');
        char *end = NULL;
        if (colon && strspn(colon + 1, "0123456789.eE+-") == strlen(colon + 1)) list[i] = strtod(colon + 1, &end);
        if (!end || end == colon + 1 || *end || colon == (*patterns)[i] || !isfinite(list[i]) ||
            (is == IS_RANK ? list[i] < 1 || list[i] > 65536 || list[i] != floor(list[i]) : list[i] < 0)) {
            say(c, forms[is]);
            return 0;
        }
        (*patterns)[i] = arena_copy(&c->r->memory, (*patterns)[i], (size_t)(colon - (*patterns)[i]));
    }
    *values = list;
    return count;
}

static void check_adapter(checking *c, recipe_adapter *a) {
    a->target_count = split(c, "targets", a->targets, &a->target_list);
    a->exclude_count = split(c, "exclude", a->exclude, &a->exclude_list);
    a->save_count = split(c, "modules_to_save", a->modules_to_save, &a->save_list);
    a->rank_pattern_count = read_patterns(c, "rank_pattern", a->rank_pattern, IS_RANK, &a->rank_patterns, &a->ranks);
    a->alpha_pattern_count =
        read_patterns(c, "alpha_pattern", a->alpha_pattern, IS_ALPHA, &a->alpha_patterns, &a->alphas);
    read_layers(c, a);
}

static void check_data(checking *c, recipe_data *d) {
    const char **texts = NULL;
    c->section = ini_find(&c->r->file, "data"), c->key = "eval_split";
    if (*d->eval_path && d->eval_split > 0) say(c, "stands beside eval_path; give one of them");
    c->key = "group_by_length";
    if (d->group_by_length && (d->packing || !d->shuffle))
        say(c, d->packing ? "stands beside packing, which leaves no padding; give one of them"
                          : "needs shuffle = yes: it is a way of shuffling");
    struct tm day = {.tm_isdst = -1};
    c->key = "date";
    if (*d->date) {
        const char *const end = strptime(d->date, "%Y-%m-%d", &day);
        d->day = end && !*end ? (int64_t)mktime(&day) : 0;
        if (d->day <= 0) say(c, "is no day after 1970; write it as in 2024-07-26");
    }
    d->path_count = split(c, "path", d->path, &d->paths);
    d->eval_path_count = split(c, "eval_path", d->eval_path, &d->eval_paths);
    const int32_t count = split(c, "weights", d->weights, &texts);
    if (count == 0) return;
    double *const shares = arena_new(&c->r->memory, (size_t)count, sizeof *shares);
    int good = count == d->path_count;
    for (int32_t i = 0; i < count && good; i++) {
        char *end = NULL;
        if (strspn(texts[i], "0123456789.eE+-") == strlen(texts[i])) shares[i] = strtod(texts[i], &end);
        good = end && !*end && isfinite(shares[i]) && shares[i] > 0;
    }
    if (good)
        d->shares = shares;
    else
        say(c, "has one number above 0 for each file of path, as in 3, 1");
}

static void check_place(checking *c, const char *section, const char *key, const char *path) {
    if (!path || !*path || file_exists(path)) return;
    char *const text = mem_format("names %s, which is not there", path);
    c->section = ini_find(&c->r->file, section), c->key = key;
    say(c, text);
    free(text);
}

/* What a run reads. */
void recipe_check_places(recipe *r, problems *p) {
    checking c = {.r = r, .problems = p};
    check_place(&c, "model", "path", r->model.path);
    for (int32_t i = 0; i < r->data.path_count; i++)
        check_place(&c, "data", "path", r->data.paths[i]);
    for (int32_t i = 0; i < r->data.eval_path_count; i++)
        check_place(&c, "data", "eval_path", r->data.eval_paths[i]);
    check_place(&c, "quantizer", "state", r->quantizer.state);
    for (int32_t i = 0; i < r->adapter_count; i++) {
        char title[INI_NAME_MAX + 16];
        snprintf(title, sizeof title, "adapter%s%s", *r->adapters[i].name ? "." : "", r->adapters[i].name);
        check_place(&c, title, "start", r->adapters[i].start);
    }
}

static void check_train(checking *c, const recipe *r) {
    c->section = ini_find(&c->r->file, "train"), c->key = "epochs";
    if (r->train.epochs == 0 && r->train.steps == 0) say(c, "is 0 and so is steps: nothing would be trained");
    const int may_hold = strcmp(r->data.loader, "tensors") == 0; /* files of tensors bring their validation rows */
    const int validated = r->train.eval_every > 0 && (may_hold || *r->data.eval_path || r->data.eval_split > 0);
    static const char text[] = "needs validations: set eval_every, and eval_path or eval_split in [data]";
    c->key = "patience";
    if (r->train.patience && !validated) say(c, text);
    c->key = "load_best";
    if (r->train.load_best && !validated) say(c, text);
}

void recipe_check(recipe *r, problems *p) {
    checking c = {.r = r, .problems = p};
    for (int32_t i = 0; i < r->adapter_count; i++) {
        char title[INI_NAME_MAX + 16];
        snprintf(title, sizeof title, "adapter%s%s", *r->adapters[i].name ? "." : "", r->adapters[i].name);
        c.section = ini_find(&r->file, title);
        check_adapter(&c, &r->adapters[i]);
    }
    c.section = ini_find(&r->file, "quantizer");
    r->quantizer.target_count = split(&c, "targets", r->quantizer.targets, &r->quantizer.target_list);
    r->quantizer.exclude_count = split(&c, "exclude", r->quantizer.exclude, &r->quantizer.exclude_list);

    c.section = ini_find(&r->file, "optimizer");
    recipe_optimizer *const o = &r->optimizer;
    o->decay_free_count = split(&c, "no_decay", o->no_decay, &o->decay_free);
    o->scaled_count = read_patterns(&c, "lr_scale", o->lr_scale, IS_FACTOR, &o->scaled, &o->scales);
    c.section = ini_find(&r->file, "schedule"), c.key = "warmup_ratio";
    if (r->schedule.warmup_steps > 0 && r->schedule.warmup_ratio > 0)
        say(&c, "stands beside warmup_steps; give one of them");
    check_data(&c, &r->data);
    check_train(&c, r);
}
