/* Which modules an adapter selects. The cases follow PEFT's check_target_module_exists and get_pattern_key. */
#include "formats/targets.h"
#include <criterion/criterion.h>
#include <stdlib.h>

#define COUNT(list) ((int32_t)(sizeof(list) / sizeof *(list)))
static const char q0[] = "model.layers.0.self_attn.q_proj", q3[] = "model.layers.3.self_attn.q_proj",
                  q13[] = "model.layers.13.self_attn.q_proj", down3[] = "model.layers.3.mlp.down_proj",
                  head[] = "lm_head";

static int selects(const char *target, const char *module) {
    const targets_list list = {.names = &target, .count = 1};
    return targets_select(&list, module, -1, 0);
}

Test(formats_targets, a_name_is_the_whole_or_an_end_after_a_dot) {
    cr_expect(selects("q_proj", q0));
    cr_expect(selects("self_attn.q_proj", q0));
    cr_expect(selects(q0, q0));
    cr_expect(selects("lm_head", head));
    cr_expect_not(selects("proj", q0), "no dot in front");
    cr_expect_not(selects("self_attn", q0), "not at the end");
    cr_expect_not(selects("3.self_attn.q_proj", q13));
    cr_expect(selects("3.self_attn.q_proj", q3));
    cr_expect_not(selects("x.model.layers.0.self_attn.q_proj", q0));
    cr_expect_not(selects("", q0));
}

Test(formats_targets, a_glob_matches_the_whole_name_or_an_end) {
    cr_expect(selects("*_proj", q0));
    cr_expect(selects("layers.[0-3].self_attn.?_proj", q3));
    cr_expect_not(selects("layers.[0-3].self_attn.?_proj", q13));
    cr_expect(selects("model.*", q13));
    cr_expect_not(selects("model.*", head));
    cr_expect(selects("layers.1*.q_proj", q13));
}

Test(formats_targets, all_linear_is_what_the_caller_says_it_is) {
    const char *const words[] = {"all-linear", "lm_head"};
    const targets_list list = {.names = words, .count = 2};
    cr_expect(targets_select(&list, q0, 0, 1));
    cr_expect_not(targets_select(&list, "model.embed_tokens", -1, 0));
    cr_expect(targets_select(&list, head, -1, 0));
}

Test(formats_targets, a_regular_expression_must_match_the_whole_name) {
    targets_list list = {.regex = ".*\\.(q|v)_proj"};
    cr_expect(targets_select(&list, q0, 0, 1));
    cr_expect_not(targets_select(&list, down3, 3, 1));
    list.regex = "model";
    cr_expect_not(targets_select(&list, q0, 0, 1));
    list.regex = "model|model\\.layers\\.0.*";
    cr_expect(targets_select(&list, q0, 0, 1), "every alternative is tried to the end");
}

Test(formats_targets, what_is_excluded_is_not_selected) {
    const char *const names[] = {"q_proj", "down_proj"}, *const without[] = {"mlp.down_proj"};
    targets_list list = {.names = names, .count = 2, .exclude = without, .exclude_count = 1};
    cr_expect(targets_select(&list, q3, 3, 1));
    cr_expect_not(targets_select(&list, down3, 3, 1));
    list.exclude_regex = ".*\\.3\\..*";
    cr_expect_not(targets_select(&list, q3, 3, 1));
    cr_expect(targets_select(&list, q0, 0, 1));
}

Test(formats_targets, layers_restrict_ends_but_not_full_names) {
    static const int64_t layers[] = {3, 5};
    const char *const names[] = {"q_proj", q0};
    targets_list list = {.names = names, .count = 2, .layers = layers, .layer_count = 2};
    cr_expect(targets_select(&list, q3, 3, 1));
    cr_expect_not(targets_select(&list, q13, 13, 1));
    cr_expect(targets_select(&list, q0, 0, 1), "given in full");
    const char *const patterns[] = {"h", "layers"};
    list.layers_patterns = patterns, list.layers_pattern_count = 2;
    cr_expect(targets_select(&list, q3, -1, 1), "the pattern finds the layer");
    cr_expect_not(targets_select(&list, q13, -1, 1));
    list.layers_pattern_count = 1;
    cr_expect_not(targets_select(&list, q3, 3, 1), "no h in this name");
}

Test(formats_targets, a_module_to_save_takes_all_within_it) {
    cr_expect(targets_module("lm_head", head));
    cr_expect(targets_module("embed_tokens", "model.embed_tokens"));
    cr_expect(targets_module("mlp", down3));
    cr_expect(targets_module("3.mlp", down3));
    cr_expect_not(targets_module("head", head));
    cr_expect_not(targets_module("mlp.down", down3));
    cr_expect_not(targets_module("", head));
}

Test(formats_targets, a_saved_module_is_every_one_whose_name_ends_so_with_all_within_it) {
    cr_expect(targets_saves("norm", "model.norm"));
    cr_expect(targets_saves("norm", "model.layers.0.input_layernorm"), "PEFT asks for no dot");
    cr_expect(targets_saves("head", head));
    cr_expect(targets_saves("mlp", down3));
    cr_expect(targets_saves("3.mlp", down3));
    cr_expect(targets_saves(head, head));
    cr_expect_not(targets_saves("mlp.down", down3));
    cr_expect_not(targets_saves("norm", "model.norms.weight"));
    cr_expect_not(targets_saves("", head));
}

Test(formats_targets, the_first_pattern_that_matches_counts) {
    const char *const patterns[] = {"layers\\.3\\..*_proj", "layers.0.self_attn.q_proj", "q_proj", "proj"};
    cr_expect_eq(targets_pattern(patterns, 4, q3), 0);
    cr_expect_eq(targets_pattern(patterns, 4, q0), 1);
    cr_expect_eq(targets_pattern(patterns, 4, q13), 2);
    cr_expect_eq(targets_pattern(patterns, 4, "model.layers.1.mlp.up_proj"), -1);
    cr_expect_eq(targets_pattern(patterns, 0, q0), -1);
}

Test(formats_targets, an_invalid_expression_is_named_with_its_place_and_selects_nothing) {
    graft_error err = {0};
    const targets_list list = {.regex = "a(b"};
    cr_expect_eq(targets_check(&list, "run.ini", &err), GRAFT_FAILED);
    cr_expect(strstr(err.text, "run.ini: \"a(b\" is no regular expression") && strstr(err.text, "at character 4"), "%s",
              err.text);
    cr_expect_not(targets_select(&list, "ab", 0, 1));
    const char *const pattern = "*x";
    cr_expect_eq(targets_pattern(&pattern, 1, "ax"), -1);
}

Test(formats_targets, an_expression_that_would_take_for_ever_gives_up, .timeout = 20) {
    const targets_list list = {.regex = "(a+)+b"};
    cr_expect_not(targets_select(&list, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", 0, 1));
}

static void expect_short(const char *const *selected, int32_t count, const char *const *all, int32_t all_count,
                         const char *want) {
    arena memory = {0};
    const char **ends;
    int32_t n;
    strbuf text = {0};
    targets_shorten(selected, count, all, all_count, &memory, &ends, &n);
    for (int32_t i = 0; i < n; i++)
        strbuf_printf(&text, "%s%s", i ? " " : "", ends[i]);
    cr_expect_str_eq(text.text ? text.text : "", want);
    for (int32_t i = 0; i < all_count; i++) {
        const targets_list list = {.names = ends, .count = n};
        int chosen = 0;
        for (int32_t s = 0; s < count; s++)
            chosen |= strcmp(selected[s], all[i]) == 0;
        cr_expect_eq(targets_select(&list, all[i], -1, 0), chosen, "%s", all[i]);
    }
    strbuf_free(&text);
    arena_free(&memory);
}

Test(formats_targets, the_short_list_selects_the_same_modules_and_no_other) {
    const char *const all[] = {"lm_head",
                               "model.layers.1.attn.q",
                               "model.layers.1.mlp.q",
                               "model.layers.11.attn.q",
                               "model.layers.11.mlp.q",
                               "model.q",
                               "q"};
    const char *const every_q[] = {all[1], all[2], all[3], all[4], all[5], all[6]}, *const attn[] = {all[3], all[1]},
                      *const one[] = {all[1]}, *const outer[] = {all[6]}, *const middle[] = {all[5]};
    expect_short(every_q, COUNT(every_q), all, COUNT(all), "q");
    expect_short(attn, COUNT(attn), all, COUNT(all), "attn.q");
    expect_short(one, COUNT(one), all, COUNT(all), "1.attn.q");
    expect_short(middle, COUNT(middle), all, COUNT(all), "model.q");
    expect_short(NULL, 0, all, COUNT(all), "");
    arena memory = {0};
    const char **ends;
    int32_t n;
    targets_shorten(outer, 1, all, COUNT(all), &memory, &ends, &n);
    cr_expect_eq(n, 1);
    cr_expect_str_eq(ends[0], "q"); /* no list can select it alone: its name is the end of the others */
    arena_free(&memory);
}
