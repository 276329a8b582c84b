/* A run's INI from the file to the structs: values, plugins, lists, every mistake at once, and the way back to a file. */
#include "base/file.h"
#include "run/recipe.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/graft-recipe-XXXXXX";
static char ini[64];
static registry *plugins;

static void begin(void) {
    cr_assert_not_null(mkdtemp(root));
    snprintf(ini, sizeof ini, "%s/run.ini", root);
    setenv("HOME", root, 1);
    unsetenv("GRAFT_PLUGIN_PATH"); /* the folder beside the test program holds the plugins of the build */
    plugins = registry_create();
}

static void end(void) {
    graft_error err = {0};
    registry_free(plugins);
    file_remove_tree(root, &err);
}

TestSuite(recipe, .init = begin, .fini = end);

static recipe *load(const char *text, const char *set, int needs, problems *p, graft_error *err) {
    graft_error failed = {0};
    cr_assert_eq(file_write(ini, text, (int64_t)strlen(text), &failed), GRAFT_OK, "%s", failed.text);
    recipe *r = NULL;
    *err = (graft_error){0};
    const int rc = recipe_load(plugins, ini, &set, set != NULL, needs, &r, p, err);
    cr_assert_eq(rc, err->code);
    cr_assert_eq(r == NULL, rc != GRAFT_OK);
    return r;
}

static recipe *load_good(const char *text, const char *set, int needs) {
    graft_error err;
    recipe *const r = load(text, set, needs, NULL, &err);
    cr_assert_not_null(r, "%s", err.text);
    return r;
}

/* The adapter of the tests is tests/abi/plain.so, by path. */
#define PLAIN   "plugin = " BINARY_DIR "/tests/abi/plain.so\n"
#define ADAPTER "[adapter]\n" PLAIN

Test(recipe, defaults_hold_where_nothing_is_written) {
    recipe *const r = load_good("", NULL, 0);
    cr_assert_str_empty(r->model.path);
    cr_assert(r->model.precision == RECIPE_PRECISION_AUTO && r->model.device == RECIPE_DEVICE_AUTO);
    cr_assert(r->data.max_length == 1024 && !r->data.packing && r->data.shuffle && r->data.eval_split == 0);
    cr_assert_eq(r->data.truncation, RECIPE_TRUNCATE_RIGHT);
    cr_assert(r->train.epochs == 1 && r->train.steps == 0 && r->train.batch_size == 4 && r->train.accumulate == 1);
    cr_assert(r->train.clip_norm == 1 && r->train.seed == 42 && r->train.slice_tokens == 0 && r->train.keep == 2);
    cr_assert(r->train.checkpoint_activations == RECIPE_AUTO && r->train.log_every == 1 && r->train.save_every == 0);
    cr_assert(r->adapter_count == 0 && !r->quantizer.use.component && !r->optimizer.use.component);
    recipe_free(r);
}

Test(recipe, absent_sections_get_their_default_plugins_when_they_are_needed) {
    recipe *const r = load_good("[data]\nloader = " BINARY_DIR "/tests/abi/kinds.so\n[optimizer]\nweight_decay = 0.5\n",
                                NULL, RECIPE_PLUGINS);
    cr_assert_str_eq(r->optimizer.use.component->name, "adamw");
    cr_assert_str_eq(r->schedule.use.component->name, "constant");
    cr_assert_str_eq(r->objective.use.component->name, "sft");
    cr_assert_eq(r->data.use.component->kind, PLUGIN_LOADER);
    cr_assert_null(r->quantizer.use.component, "no quantizer is a choice");
    const plugin_component *const c = r->optimizer.use.component;
    double decay;
    option_number(&c->options[option_find(c->options, c->option_count, "weight_decay")], r->optimizer.use.config,
                  &decay);
    cr_assert_eq(decay, 0.5);
    recipe_free(r);
}

Test(recipe, an_adapter_section_holds_the_core_s_keys_and_the_plugin_s) {
    recipe *const r =
        load_good(ADAPTER "rank = 4\nalpha = 0.5\ntargets = q_proj , *.v_proj\nexclude = lm_head\n"
                          "layers = 0-2, 7\nbias = lora_only\nmodules_to_save = norm\n"
                          "rank_pattern = q_proj:4, layers.0.*:16\nalpha_pattern = a:b:0.5\nstart = x/y\n",
                  "adapter.rank=6", 0);
    cr_assert_eq(r->adapter_count, 1);
    const recipe_adapter *const a = r->adapters;
    cr_assert_str_empty(a->name);
    cr_assert_str_eq(a->use.component->name, "plain");
    const struct {
        int64_t rank;
        double alpha;
    } *const own = a->use.config;
    cr_assert(own->rank == 6 && own->alpha == 0.5);
    cr_assert(a->target_count == 2 && a->exclude_count == 1 && a->save_count == 1);
    cr_assert_str_eq(a->target_list[0], "q_proj");
    cr_assert_str_eq(a->target_list[1], "*.v_proj");
    cr_assert_eq(a->layer_count, 4);
    static const int64_t layers[] = {0, 1, 2, 7};
    cr_assert_eq(memcmp(a->layer_list, layers, sizeof layers), 0);
    cr_assert_eq(a->bias, RECIPE_BIAS_LORA_ONLY);
    cr_assert_eq(a->rank_pattern_count, 2);
    cr_assert_str_eq(a->rank_patterns[1], "layers.0.*");
    cr_assert_eq(a->ranks[1], 16);
    cr_assert_str_eq(a->alpha_patterns[0], "a:b");
    cr_assert_eq(a->alphas[0], 0.5);
    recipe_section *const s = recipe_section_of(r, "adapter");
    cr_assert(option_is_set(&s->own, "rank") && option_is_set(&s->core, "start") &&
              !option_is_set(&s->core, "fan_in_fan_out"));
    cr_assert_null(recipe_section_of(r, "quantizer"));
    recipe_free(r);
}

Test(recipe, groups_of_parameters_and_bits_of_states_are_keys_of_the_optimizer) {
    recipe *const r = load_good("[optimizer]\nlr_scale = *.lora_B.weight:16, bias:0\nno_decay = bias , *norm.weight\n"
                                "state = 8bit\n",
                                NULL, 0);
    const recipe_optimizer *const o = &r->optimizer;
    cr_assert(o->state == RECIPE_STATE_8BIT && o->scaled_count == 2 && o->decay_free_count == 2);
    cr_assert_str_eq(o->scaled[0], "*.lora_B.weight");
    cr_assert(o->scales[0] == 16 && o->scales[1] == 0);
    cr_assert_str_eq(o->decay_free[1], "*norm.weight");
    recipe_free(r);
}

Test(recipe, several_adapters_keep_the_order_of_the_file) {
    recipe *const r = load_good("[adapter.b]\n" PLAIN "[adapter.a]\n" PLAIN "rank = 2\n", NULL, RECIPE_ADAPTER);
    cr_assert_eq(r->adapter_count, 2);
    cr_assert_str_eq(r->adapters[0].name, "b");
    cr_assert_str_eq(r->adapters[1].name, "a");
    cr_assert_null(r->adapters[0].target_list);
    cr_assert_eq(r->adapters[0].use.component, r->adapters[1].use.component);
    cr_assert_neq(r->adapters[0].use.config, r->adapters[1].use.config);
    recipe_free(r);
}

Test(recipe, a_plugin_path_starts_at_the_folder_of_the_file) {
    char path[256];
    snprintf(path, sizeof path, "%s/my.so", root);
    cr_assert_eq(symlink(BINARY_DIR "/tests/abi/plain.so", path), 0);
    recipe *const r = load_good("[adapter]\nplugin = ./my.so\n", NULL, 0);
    cr_assert(strstr(r->adapters[0].use.component->file, root));
    recipe_free(r);
}

Test(recipe, every_mistake_of_a_file_is_reported_in_one_go) {
    static const char text[] = "[modle]\n"
                               "path = x\n"
                               "[data]\n"
                               "max_lenght = 5\n"
                               "loader = " BINARY_DIR "/tests/abi/kinds.so\n"
                               "eval_split = 0.5\n"
                               "eval_path = y\n"
                               "[adapter]\n" PLAIN "rank = 0\n"
                               "layers = 3-1\n"
                               "rank_pattern = q_proj\n"
                               "targets = a,,b\n"
                               "[optimizer]\n"
                               "plugin = adamww\n"
                               "betas = 1\n"
                               "lr = fast\n"
                               "lr_scale = lora_B.weight:-1\n"
                               "[schedule]\n"
                               "warmup_steps = 3\n"
                               "warmup_ratio = 0.5\n"
                               "[train]\n"
                               "epochs = 0\n"
                               "epochs = 1\n"
                               "[quantizer]\n"
                               "targets = all-linear\n"
                               "[adapter.]\n" PLAIN;
    static const char *const wanted[] = {
        ":1: there is no section [modle]; did you mean [model]?",
        ":4: [data] has no key 'max_lenght'; did you mean 'max_length'?",
        ":6: [data] eval_split stands beside eval_path; give one of them",
        ":8: [adapter] stands beside [adapter.NAME]; give each of several adapters a name",
        ":10: [adapter] rank = 0 is outside its bounds 1 to 64",
        ":11: [adapter] layers is no list of block numbers; write 0-11, 14",
        ":12: [adapter] rank_pattern has the form NAME:RANK, NAME:RANK with whole ranks from 1 to 65536",
        ":13: [adapter] targets has an empty element",
        ":15: [optimizer] there is no optimizer 'adamww'; did you mean 'adamw'. Tried adamww.so in ",
        ":17: [optimizer] lr = fast: a number from 0 to 1000 is wanted",
        ":18: [optimizer] lr_scale has the form NAME:FACTOR, NAME:FACTOR with factors from 0",
        ":21: [schedule] warmup_ratio stands beside warmup_steps; give one of them",
        ":23: [train] epochs is 0 and so is steps: nothing would be trained",
        ":24: [train] epochs stands here and in line 23; keep one of them",
        ":25: [quantizer] needs `plugin = NAME`",
        ":27: an adapter is called [adapter.NAME], without further dots",
        "[model] path is missing: the folder of the model, as Hugging Face has it",
        "[output] path is missing: the folder that receives the result",
    };
    enum { WANTED = sizeof wanted / sizeof wanted[0] };
    problems p = {0};
    graft_error err;
    cr_assert_null(load(text, NULL, RECIPE_MODEL | RECIPE_OUTPUT, &p, &err));
    cr_assert_eq(err.code, GRAFT_USAGE);
    cr_assert_eq(p.count, WANTED);
    for (int i = 0; i < WANTED; i++) {
        cr_expect(strstr(p.at[i].text, wanted[i]), "'%s' is not in: %s", wanted[i], p.at[i].text);
        cr_expect(strstr(p.at[i].text, ini) == p.at[i].text, "the file is named: %s", p.at[i].text);
    }
    cr_assert(strstr(err.text, wanted[0]), "%s", err.text);
    problems_free(&p);
}

Test(recipe, what_a_command_needs_is_asked_for_and_nothing_else) {
    graft_error err;
    cr_assert_null(load("[data]\nloader = " BINARY_DIR "/tests/abi/kinds.so\n", NULL, RECIPE_TRAIN, NULL, &err));
    cr_expect(strstr(err.text, "[model] path is missing"), "%s", err.text);
    cr_expect(strstr(err.text, ":1: [data] path is missing"), "%s", err.text);
    cr_expect(strstr(err.text, "[output] path is missing"), "%s", err.text);
    cr_expect(strstr(err.text, "nothing is trained without an [adapter]"), "%s", err.text);
    recipe_free(load_good("[data]\nmax_length = 5\nloader = " BINARY_DIR "/tests/abi/kinds.so\n", NULL, 0));
}

Test(recipe, a_set_of_an_unknown_section_or_key_is_a_mistake) {
    graft_error err;
    cr_assert_null(load("", "trian.steps=3", 0, NULL, &err));
    cr_expect(strstr(err.text, "--set: there is no section [trian]; did you mean [train]?"), "%s", err.text);
    cr_assert_null(load("", "train.step=3", 0, NULL, &err));
    cr_expect_str_eq(err.text, "--set train.step: [train] has no key 'step'; did you mean 'steps'?");
    cr_assert_null(load("", "train.lr=3", 0, NULL, &err));
    cr_expect_str_eq(err.text, "--set train.lr: [train] has no key 'lr'; here it is 'lr' in [optimizer]");
    cr_assert_null(load("", "train.path=3", 0, NULL, &err));
    cr_expect_str_eq(err.text, "--set train.path: [train] has no key 'path'", "several sections have it");
}

Test(recipe, a_missing_file_is_the_only_thing_reported) {
    graft_error err = {0};
    recipe *r = NULL;
    cr_assert_eq(recipe_load(plugins, "/nowhere/run.ini", NULL, 0, RECIPE_TRAIN, &r, NULL, &err), GRAFT_USAGE);
    cr_assert_str_eq(err.text, "cannot read /nowhere/run.ini: No such file or directory");
}

Test(recipe, warm_up_is_rounded_up_as_transformers_does) {
    static const struct {
        const char *set;
        int64_t steps, warmup;
    } cases[] = {
        {"schedule.warmup_steps=5",     100, 5 },
        {"schedule.warmup_ratio=0.1",   100, 10},
        {"schedule.warmup_ratio=0.03",  101, 4 },
        {"schedule.warmup_ratio=0.5",   3,   2 },
        {"schedule.warmup_steps=1",     10,  1 },
        {"schedule.warmup_ratio=0.999", 7,   7 },
        {"schedule.warmup_ratio=0",     100, 0 }
    };
    for (int i = 0; i < 7; i++) {
        recipe *const r = load_good("", cases[i].set, 0);
        cr_expect_eq(recipe_warmup(r, cases[i].steps), cases[i].warmup, "%s", cases[i].set);
        recipe_free(r);
    }
}

/* ---- the way back ---- */

static char *explained(const recipe *r, int as_json) {
    char *text = NULL;
    size_t size;
    FILE *const to = open_memstream(&text, &size);
    recipe_explain(r, as_json, to);
    fclose(to);
    return text;
}

static const char full[] =
    "[model]\nprecision = f32\n[data]\nloader = " BINARY_DIR "/tests/abi/kinds.so\npath = data/x.jsonl\n"
    "[adapter.main]\n" PLAIN "rank = 16\nstart = old\n[optimizer]\nlr = 1e-3\n[output]\npath = /runs/x\n";

Test(recipe, explain_names_the_origin_of_every_value) {
    recipe *const r = load_good(full, "train.seed=7", RECIPE_PLUGINS);
    char *const text = explained(r, 0);
    char line[128];
    snprintf(line, sizeof line, "; %s:2\n", ini);
    cr_expect(strstr(text, line), "%s", text);
    cr_expect(strstr(text, "[adapter.main]\n"));
    cr_expect(strstr(text, "seed = 7 "));
    cr_expect(strstr(text, "; --set\n"));
    cr_expect(strstr(text, "beta1 = 0.9 "));
    cr_expect(strstr(text, "; default\n"));
    cr_expect(strstr(text, "path = "));
    cr_expect(strstr(text, "; missing\n"), "[model] path: %s", text);
    free(text);

    char *const json_text = explained(r, 1);
    json_t *const json = json_loads(json_text, 0, NULL);
    cr_assert_not_null(json, "%s", json_text);
    const json_t *const rank = json_object_get(json_object_get(json, "adapter.main"), "rank");
    cr_assert_eq(json_integer_value(json_object_get(rank, "value")), 16);
    snprintf(line, sizeof line, "%s:8", ini);
    cr_assert_str_eq(json_string_value(json_object_get(rank, "from")), line);
    const json_t *const packing = json_object_get(json_object_get(json, "data"), "packing");
    cr_assert(json_is_false(json_object_get(packing, "value")));
    cr_assert_str_eq(json_string_value(json_object_get(packing, "from")), "default");
    json_decref(json);
    free(json_text);
    recipe_free(r);
}

Test(recipe, the_resolved_file_means_the_same_from_anywhere) {
    cr_assert_eq(chdir(root), 0);
    recipe *const r = load_good(full, "train.seed=7", RECIPE_PLUGINS);
    char resolved[96], twice[96];
    snprintf(resolved, sizeof resolved, "%s/resolved.ini", root);
    snprintf(twice, sizeof twice, "%s/twice.ini", root);
    graft_error err = {0};
    cr_assert_eq(recipe_write_resolved(r, resolved, &err), GRAFT_OK, "%s", err.text);
    cr_assert_eq(chdir("/"), 0);
    recipe *again = NULL;
    cr_assert_eq(recipe_load(plugins, resolved, NULL, 0, RECIPE_PLUGINS, &again, NULL, &err), GRAFT_OK, "%s", err.text);
    char path[96];
    snprintf(path, sizeof path, "%s/data/x.jsonl", root);
    cr_assert_str_eq(again->data.path, path);
    snprintf(path, sizeof path, "%s/old", root);
    cr_assert_str_eq(again->adapters[0].start, path);
    cr_assert_str_empty(again->model.path, "what is not given stays so");
    cr_assert(again->train.seed == 7 && again->optimizer.lr == 1e-3);
    cr_assert_eq(again->adapters[0].use.component, r->adapters[0].use.component);

    cr_assert_eq(recipe_write_resolved(again, twice, &err), GRAFT_OK, "%s", err.text);
    char *a, *b;
    int64_t na, nb;
    file_read(resolved, 1 << 20, &a, &na, &err);
    file_read(twice, 1 << 20, &b, &nb, &err);
    cr_assert_str_eq(a, b);
    free(a), free(b);
    recipe_free(r);
    recipe_free(again);
}
