/* config.json to descriptor: both spellings, defaults of the families, windows, rope tables, sizes of published models, and
 * what must be refused. */
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/model-private.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(model_families, .timeout = 60);

static int read_text(const char *text, model_shape *out, graft_error *err) {
    json_t *config = NULL;
    *err = (graft_error){0};
    cr_assert_eq(json_read_text(text, strlen(text), "config.json", 0, &config, err), 0, "%s", err->text);
    const int rc = descriptor_read(config, "config.json", out, err);
    json_decref(config);
    return rc;
}

static model_shape shape_of(const char *text) {
    graft_error err;
    model_shape s;
    cr_assert_eq(read_text(text, &s, &err), 0, "%s: %s", text, err.text);
    return s;
}

static void refused(const char *text, const char *mention) {
    graft_error err;
    model_shape s;
    cr_assert_neq(read_text(text, &s, &err), 0, "%s was accepted", text);
    cr_expect(strstr(err.text, mention), "%s: \"%s\" does not mention %s", text, err.text, mention);
    cr_expect(strstr(err.text, "config.json"), "%s: \"%s\" does not name the file", text, err.text);
}

/* ---- rope ---- */

#define ROPE(scaling)                                                                                                  \
    "{\"model_type\": \"llama\", \"hidden_size\": 2048, \"num_attention_heads\": 32, \"rope_theta\": 5e5, " scaling "}"

static void same_table(const rope_table *a, const rope_table *b) {
    cr_assert_eq(a->pairs, b->pairs);
    cr_expect_eq(a->factor, b->factor);
    cr_expect(memcmp(a->inv_freq, b->inv_freq, (size_t)a->pairs * sizeof(float)) == 0);
}

static void close_to(float value, double expected) {
    /* the published numbers are f64; the table takes four f32 steps */
    cr_expect_float_eq((double)value / expected, 1, 5e-7, "%.9e, not %.9e", (double)value, expected);
}

Test(model_families, llama3_scaling_gives_the_tables_of_llama_3) {
    model_shape s =
        shape_of(ROPE("\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 32, \"low_freq_factor\": 1, "
                      "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}"));
    model_shape plain = shape_of(ROPE("\"rope_scaling\": null"));
    const float *t = s.rope[0].inv_freq, *f = plain.rope[0].inv_freq;
    int kept = 0, divided = 0;
    cr_assert_eq(s.rope[0].pairs, 32);
    for (int i = 0; i < 32; i++) {
        kept += t[i] == f[i];
        divided += t[i] == f[i] / 32;
    }
    cr_expect(kept == 15 && divided == 14, "%d kept, %d divided", kept, divided);
    close_to(t[15], 1.290547928e-3);
    close_to(t[16], 4.295567965e-4);
    close_to(t[17], 9.708287803e-5);
    close_to(t[31], 9.418306725e-8);
    descriptor_free(&s);
    descriptor_free(&plain);
}

Test(model_families, yarn_scales_attention_and_blends_as_qwen2_5_does) {
    model_shape s =
        shape_of("{\"model_type\": \"qwen2\", \"hidden_size\": 4096, \"num_attention_heads\": 32, \"rope_theta\": 1e6, "
                 "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 32768}}");
    model_shape plain = shape_of(
        "{\"model_type\": \"qwen2\", \"hidden_size\": 4096, \"num_attention_heads\": 32, \"rope_theta\": 1e6}");
    const float *t = s.rope[0].inv_freq, *f = plain.rope[0].inv_freq;
    cr_expect_float_eq(s.rope[0].factor, 1.138629436, 1e-9);
    for (int i = 0; i < 64; i++) { /* lo 23, hi 40 */
        if (i <= 23) cr_expect_eq(t[i], f[i], "%d", i);
        if (i >= 40) close_to(t[i], (double)f[i] / 4);
        if (i > 23 && i < 40) cr_expect(t[i] < f[i] && t[i] > f[i] / 4, "%d", i);
    }
    descriptor_free(&s);
    descriptor_free(&plain);
}

Test(model_families, longrope_switches_behind_the_original_length) {
    model_shape s = shape_of(
        "{\"model_type\": \"phi3\", \"hidden_size\": 16, \"num_attention_heads\": 2, \"max_position_embeddings\": 64, "
        "\"original_max_position_embeddings\": 16, \"pad_token_id\": null, \"rope_scaling\": {\"type\": \"su\", "
        "\"short_factor\": [1, 1, 1, 1], \"long_factor\": [1, 2, 4, 8]}}");
    const rope_table *r = &s.rope[0];
    cr_expect_float_eq(r->factor, sqrt(1 + log(4) / log(16)), 1e-12);
    cr_expect_eq(rope_for(r, 16, NULL), r->inv_freq);
    cr_expect_eq(rope_for(r, 17, NULL), r->inv_freq_long);
    for (int i = 0; i < 4; i++)
        close_to(r->inv_freq_long[i], (double)r->inv_freq[i] / (1 << i));
    descriptor_free(&s);
}

Test(model_families, dynamic_rope_grows_with_the_length) {
    model_shape s =
        shape_of(ROPE("\"max_position_embeddings\": 64, \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}"));
    float own[32];
    cr_expect_eq(rope_for(&s.rope[0], 64, own), s.rope[0].inv_freq);
    cr_expect_eq(rope_for(&s.rope[0], 128, own), own);
    for (int i = 0; i < 32; i++) /* base·(2·128/64 - 1)^(64/62) */
        cr_expect_float_eq((double)own[i] / pow(5e5 * pow(3, 64.0 / 62), -2.0 * i / 64), 1, 2e-6, "%d", i);
    descriptor_free(&s);
}

Test(model_families, linear_scaling_divides_every_frequency) {
    model_shape s = shape_of(ROPE("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 8}")),
                plain = shape_of(ROPE("\"bos_token_id\": 1"));
    for (int i = 0; i < 32; i++)
        cr_expect_eq(s.rope[0].inv_freq[i], plain.rope[0].inv_freq[i] / 8);
    descriptor_free(&s);
    descriptor_free(&plain);
}

#define PHI3(more)                                                                                                     \
    "{\"model_type\": \"phi3\", \"hidden_size\": 28, \"num_attention_heads\": 2, \"pad_token_id\": null, " more "}"

Test(model_families, an_odd_part_of_the_head_turns_one_dimension_more) {
    model_shape s = shape_of(PHI3("\"partial_rotary_factor\": 0.5"));
    cr_assert_eq(s.rope[0].pairs, 4);
    for (int i = 0; i < 4; i++) /* 7 of 14 dimensions: exponents 0, 2/7, 4/7, 6/7 */
        close_to(s.rope[0].inv_freq[i], pow(1e4, -2.0 * i / 7));
    model_shape inner =
        shape_of(PHI3("\"partial_rotary_factor\": 0.8, \"rope_parameters\": {\"partial_rotary_factor\": 0.5}"));
    same_table(&s.rope[0], &inner.rope[0]);
    descriptor_free(&s);
    descriptor_free(&inner);
}

#define LLAMA3 "\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4"

Test(model_families, old_and_new_spelling_mean_the_same_table) {
    static const char *const pairs[][2] = {
        {ROPE("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}"),
         ROPE("\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4, \"rope_theta\": 5e5}")                                                },
 /* a top-level theta beside rope_parameters is ignored, unless theirs is missing */
        {ROPE("\"rope_scaling\": null"),
         ROPE("\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 500000}")                                                           },
        {ROPE("\"rope_scaling\": null"),                                                    ROPE("\"rope_parameters\": {\"rope_type\": \"default\"}")},
 /* a non-null rope_scaling replaces rope_parameters, theta included; null changes nothing */
        {ROPE("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}"),
         ROPE("\"rope_parameters\": {\"rope_theta\": 7}, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}")                                   },
        {ROPE("\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2}"),
         ROPE("\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2}, \"rope_scaling\": null")                                             },
 /* rope_type wins over type */
        {ROPE("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}"),
         ROPE("\"rope_scaling\": {\"type\": \"yarn\", \"rope_type\": \"linear\", \"factor\": 2}")                                                    },
 /* the length of training at the top level wins over that of the scaling */
        {ROPE("\"rope_scaling\": {" LLAMA3 ", \"original_max_position_embeddings\": 512}"),
         ROPE("\"original_max_position_embeddings\": 512, \"rope_scaling\": {" LLAMA3
              ", \"original_max_position_embeddings\": 64}")                                                                                         },
        {ROPE("\"max_position_embeddings\": 512, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
              "\"original_max_position_embeddings\": 128}"),
         ROPE("\"max_position_embeddings\": 512, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": null, "
              "\"original_max_position_embeddings\": 128}")                                                                                          },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        model_shape a = shape_of(pairs[i][0]), b = shape_of(pairs[i][1]);
        same_table(&a.rope[0], &b.rope[0]);
        descriptor_free(&a);
        descriptor_free(&b);
    }
}

#define GEMMA(more) "{\"model_type\": \"gemma3_text\", \"num_hidden_layers\": 7, \"sliding_window\": 9" more "}"

Test(model_families, gemma_3_has_two_tables_and_every_sixth_layer_is_full) {
    model_shape old = shape_of(
        GEMMA(", \"rope_theta\": 1e6, \"rope_local_base_freq\": 1e4, \"rope_scaling\": {\"rope_type\": \"linear\", "
              "\"factor\": 8}"));
    model_shape new =
        shape_of(GEMMA(", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e6, \"rope_type\": \"linear\", "
                       "\"factor\": 8}, \"sliding_attention\": {\"rope_theta\": 1e4, \"rope_type\": \"default\"}}"));
    model_shape mixed =
        shape_of(GEMMA(", \"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e6}}, \"rope_scaling\": "
                       "{\"rope_type\": \"linear\", \"factor\": 8}"));
    for (int t = 0; t < 2; t++) {
        same_table(&old.rope[t], &new.rope[t]);
        same_table(&old.rope[t], &mixed.rope[t]);
    }
    for (int64_t l = 0; l < 7; l++) {
        cr_expect_eq(old.window[l], l == 5 ? 0 : 9);
        cr_expect_eq(old.rope_id[l], l == 5 ? 0 : 1);
    }
    cr_expect_eq(old.attn_softcap, 0);
    cr_expect_float_eq(old.embed_scale, 48, 1e-12);
    cr_expect_float_eq(old.attn_scale, 1.0 / 16, 1e-12);
    cr_expect(old.tied && old.pad_row == 0 && old.sandwich && old.qk_norm && old.norm == NORM_RMS_ONE_PLUS);
    descriptor_free(&old);
    descriptor_free(&new);
    descriptor_free(&mixed);
}

/* What stands beside layer types speaks of all: `truncate`; the length of training is told by each. */
Test(model_families, gemma_3_reads_each_scaling_for_itself) {
    model_shape plain =
        shape_of(GEMMA(", \"max_position_embeddings\": 512, \"rope_scaling\": {\"rope_type\": \"yarn\", "
                       "\"factor\": 4}"));
    model_shape same = shape_of(
        GEMMA(", \"max_position_embeddings\": 512, \"original_max_position_embeddings\": 64, \"rope_scaling\": "
              "{\"rope_type\": \"yarn\", \"factor\": 4, \"truncate\": false}"));
    model_shape other = shape_of(GEMMA(", \"max_position_embeddings\": 512, \"rope_parameters\": {\"truncate\": false, "
                                       "\"full_attention\": {\"rope_type\": \"yarn\", \"factor\": 4}}"));
    same_table(&plain.rope[0], &same.rope[0]);
    cr_expect(memcmp(plain.rope[0].inv_freq, other.rope[0].inv_freq, 128 * sizeof(float)) != 0);
    descriptor_free(&plain);
    descriptor_free(&same);
    descriptor_free(&other);
}

Test(model_families, a_multimodal_gemma_3_is_its_text_part) {
    model_shape s =
        shape_of("{\"model_type\": \"gemma3\", \"eos_token_id\": [1, 106], \"text_config\": {\"model_type\": "
                 "\"gemma3_text\", \"hidden_size\": 2560, \"num_hidden_layers\": 34, \"sliding_window\": 1024}}");
    cr_expect_str_eq(s.family, "gemma3_text");
    cr_expect_eq(s.hidden, 2560);
    cr_expect(s.eos_count == 2 && s.eos[1] == 106);
    descriptor_free(&s);
}

Test(model_families, gemma_1_means_tanh_by_gelu) {
    model_shape s = shape_of("{\"model_type\": \"gemma\", \"hidden_act\": \"gelu\", \"hidden_activation\": \"relu\"}");
    cr_expect_eq(s.act, ACT_GELU_TANH);
    cr_expect(!s.sandwich && s.norm == NORM_RMS_ONE_PLUS && s.tied);
    cr_expect_float_eq(s.attn_scale, 1.0 / 16, 1e-12);
    descriptor_free(&s);
}

/* ---- windows, ties, pads, defaults ---- */

Test(model_families, windows_follow_the_rule_of_each_family) {
    static const struct {
        const char *text;
        int64_t window[4];
    } cases[] = {
        {"{\"model_type\": \"mistral\", \"num_hidden_layers\": 4}",                                                      {4096, 4096, 4096, 4096}},
        {"{\"model_type\": \"mistral\", \"num_hidden_layers\": 4, \"sliding_window\": null}",                            {0, 0, 0, 0}            },
        {"{\"model_type\": \"llama\", \"num_hidden_layers\": 4, \"sliding_window\": 8}",                                 {0, 0, 0, 0}            },
        {"{\"model_type\": \"qwen2\", \"num_hidden_layers\": 4, \"sliding_window\": 8, \"max_window_layers\": 2}",
         {0, 0, 0, 0}                                                                                                                            },
        {"{\"model_type\": \"qwen3\", \"num_hidden_layers\": 4, \"sliding_window\": 8, \"max_window_layers\": 2, "
         "\"use_sliding_window\": true}",                                                                       {0, 0, 8, 8}            },
        {"{\"model_type\": \"qwen3\", \"num_hidden_layers\": 4, \"sliding_window\": 8, \"use_sliding_window\": true, "
         "\"layer_types\": "
         "[\"sliding_attention\", \"full_attention\", \"full_attention\", \"sliding_attention\"]}",             {8, 0, 0, 8}            },
        {"{\"model_type\": \"gemma2\", \"num_hidden_layers\": 4, \"sliding_window\": 8}",                                {8, 0, 8, 0}            },
        {"{\"model_type\": \"phi3\", \"num_hidden_layers\": 4}",                                                         {0, 0, 0, 0}            },
        {"{\"model_type\": \"phi3\", \"num_hidden_layers\": 4, \"sliding_window\": 5}",                                  {5, 5, 5, 5}            },
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 4, \"sliding_window\": 5, \"use_sliding_window\": true}",
         {0, 0, 0, 5}                                                                                                                            },
 /* an explicit list wins over the rule, and in SmolLM3 over use_sliding_window */
        {"{\"model_type\": \"smollm3\", \"num_hidden_layers\": 4, \"sliding_window\": 5, \"layer_types\": "
         "[\"sliding_attention\", \"full_attention\", \"full_attention\", \"sliding_attention\"]}",             {5, 0, 0, 5}            },
        {"{\"model_type\": \"mistral\", \"num_hidden_layers\": 4, \"sliding_window\": 5, \"layer_types\": "
         "[\"sliding_attention\", \"full_attention\", \"full_attention\", \"sliding_attention\"]}",             {5, 0, 0, 5}            },
 /* a window that nothing uses is not looked at */
        {"{\"model_type\": \"qwen2\", \"num_hidden_layers\": 4, \"sliding_window\": 0}",                                 {0, 0, 0, 0}            },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        model_shape s = shape_of(cases[i].text);
        for (int l = 0; l < 4; l++)
            cr_expect_eq(s.window[l], cases[i].window[l], "%s: layer %d has %lld", cases[i].text, l,
                         (long long)s.window[l]);
        descriptor_free(&s);
    }
}

Test(model_families, heads_need_not_divide_the_width_where_the_reference_lets_them) {
    static const char *const free_width[] = {"mistral", "qwen2", "smollm3", "phi3"};
    for (size_t i = 0; i < sizeof free_width / sizeof *free_width; i++) {
        char *text = mem_format("{\"model_type\": \"%s\", \"hidden_size\": 37, \"num_attention_heads\": 3, "
                                "\"num_key_value_heads\": 1, \"pad_token_id\": null}",
                                free_width[i]);
        model_shape s = shape_of(text);
        cr_expect_eq(s.head_dim, 12, "%s", free_width[i]);
        descriptor_free(&s);
        free(text);
    }
    refused("{\"model_type\": \"llama\", \"hidden_size\": 37, \"num_attention_heads\": 3}", "hidden_size");
    refused("{\"model_type\": \"gpt2\", \"n_embd\": 37, \"n_head\": 3}", "n_embd");
}

Test(model_families, an_absent_tie_key_means_what_the_family_says) {
    static const struct {
        const char *family;
        int tied;
    } cases[] = {
        {"llama",       0},
        {"mistral",     0},
        {"qwen2",       0},
        {"qwen3",       0},
        {"phi3",        0},
        {"gemma",       1},
        {"gemma2",      1},
        {"gemma3_text", 1},
        {"gpt2",        1},
        {"smollm3",     1}
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"model_type\": \"%s\"}", cases[i].family);
        model_shape s = shape_of(text);
        cr_expect_eq(s.tied, cases[i].tied, "%s", text);
        descriptor_free(&s);
    }
}

Test(model_families, the_pad_row_counts_from_the_end_when_negative) {
    model_shape a = shape_of("{\"model_type\": \"llama\", \"pad_token_id\": -1}"),
                b = shape_of("{\"model_type\": \"llama\"}");
    model_shape c = shape_of("{\"model_type\": \"phi3\"}"),
                d = shape_of("{\"model_type\": \"gpt2\", \"pad_token_id\": 5}");
    cr_expect_eq(a.pad_row, 31999);
    cr_expect_eq(b.pad_row, -1);
    cr_expect_eq(c.pad_row, 32000);
    cr_expect_eq(d.pad_row, -1);
    descriptor_free(&a);
    descriptor_free(&b);
    descriptor_free(&c);
    descriptor_free(&d);
}

Test(model_families, a_layer_without_rope_is_marked_by_zero) {
    model_shape s = shape_of("{\"model_type\": \"smollm3\", \"num_hidden_layers\": 8}");
    for (int64_t l = 0; l < 8; l++)
        cr_expect_eq(s.rope_id[l], l % 4 == 3 ? -1 : 0);
    descriptor_free(&s);
}

Test(model_families, biases_are_where_the_family_has_them) {
    model_shape q = shape_of("{\"model_type\": \"qwen2\", \"attention_bias\": false}");
    model_shape l = shape_of("{\"model_type\": \"llama\", \"attention_bias\": true, \"mlp_bias\": true}");
    model_shape m = shape_of("{\"model_type\": \"mistral\", \"attention_bias\": true}");
    cr_expect(q.bias_qkv && !q.bias_o && !q.bias_mlp);
    cr_expect(l.bias_qkv && l.bias_o && l.bias_mlp);
    cr_expect(!m.bias_qkv && !m.bias_o);
    descriptor_free(&q);
    descriptor_free(&l);
    descriptor_free(&m);
}

Test(model_families, gpt2_scales_attention_as_its_keys_say) {
    model_shape s = shape_of("{\"model_type\": \"gpt2\", \"n_layer\": 3, \"n_embd\": 64, \"n_head\": 4, "
                             "\"scale_attn_by_inverse_layer_idx\": true}");
    for (int64_t l = 0; l < 3; l++)
        cr_expect_float_eq(s.attn_scale_layer[l], 0.25 / (double)(l + 1), 1e-12);
    cr_expect_eq(s.inner, 256);
    cr_expect_eq(s.context, 1024);
    descriptor_free(&s);
}

/* ---- published models ---- */

static int64_t parameters_of(const char *config) {
    graft_error err = {0};
    char folder[] = "/tmp/graft-model-XXXXXX";
    cr_assert(mkdtemp(folder));
    char *path = path_join(folder, "config.json");
    model *m = NULL;
    int32_t count;
    int64_t sum = 0;
    cr_assert_eq(file_write(path, config, (int64_t)strlen(config), &err), 0, "%s", err.text);
    cr_assert_eq(model_open_config(folder, &m, &err), 0, "%s", err.text);
    const base_tensor *t = model_tensors(m, &count);
    for (int32_t i = 0; i < count; i++)
        if (t[i].tied_to < 0) sum += tensor_count_of(&t[i]);
    model_close(m);
    cr_expect_eq(file_remove_tree(folder, &err), 0);
    free(path);
    return sum;
}

Test(model_families, published_models_have_their_published_sizes) {
    static const struct {
        const char *name, *config;
        int64_t parameters;
    } cases[] = {
        {"gemma-3-270m",
         "{\"model_type\": \"gemma3_text\", \"vocab_size\": 262144, \"hidden_size\": 640, \"intermediate_size\": 2048, "
         "\"num_hidden_layers\": 18, \"num_attention_heads\": 4, \"num_key_value_heads\": 1, \"head_dim\": 256}", 268098176 },
        {"SmolLM2-135M",
         "{\"model_type\": \"llama\", \"vocab_size\": 49152, \"hidden_size\": 576, \"intermediate_size\": 1536, "
         "\"num_hidden_layers\": 30, \"num_attention_heads\": 9, \"num_key_value_heads\": 3, \"tie_word_embeddings\": "
         "true}",                                                                                                 134515008 },
        {"Qwen2.5-0.5B",
         "{\"model_type\": \"qwen2\", \"hidden_size\": 896, \"intermediate_size\": 4864, \"num_hidden_layers\": 24, "
         "\"num_attention_heads\": 14, \"num_key_value_heads\": 2, \"tie_word_embeddings\": true}",               494032768 },
        {"Qwen3-0.6B",
         "{\"model_type\": \"qwen3\", \"hidden_size\": 1024, \"intermediate_size\": 3072, \"num_hidden_layers\": 28, "
         "\"num_attention_heads\": 16, \"num_key_value_heads\": 8, \"tie_word_embeddings\": true}",               596049920 },
        {"Llama-3.1-8B",
         "{\"model_type\": \"llama\", \"vocab_size\": 128256, \"intermediate_size\": 14336, \"num_key_value_heads\": "
         "8}",                                                                                                    8030261248},
        {"Mistral-7B-v0.1", "{\"model_type\": \"mistral\"}",                                                      7241732096},
        {"GPT-2",           "{\"model_type\": \"gpt2\"}",                                                         124439808 },
        {"Phi-3-mini",      "{\"model_type\": \"phi3\"}",                                                         3821079552},
        {"SmolLM3-3B",      "{\"model_type\": \"smollm3\"}",                                                      3075098624},
        {"gemma-2-2b",      "{\"model_type\": \"gemma2\"}",                                                       2614341888},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t n = parameters_of(cases[i].config);
        cr_expect_eq(n, cases[i].parameters, "%s: %lld", cases[i].name, (long long)n);
    }
}

/* ---- against the goldens ---- */

Test(model_families, tables_are_those_transformers_uses) {
    static const char *const cases[] = {"llama-gqa", "llama-llama3rope-tied", "gemma3-text", "qwen2", "mistral-window",
                                        "phi3",      "smollm3-nope",          "gemma2",      "qwen3"};
    const char *root = SHARED_DIR "/golden/models";
    if (!file_is_folder(root)) {
        fprintf(stderr, "skipped: the shared model cases are not there\n");
        cr_skip_test("the shared model cases are not there");
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        graft_error err = {0};
        char *folder = path_join(root, cases[i]), *path = path_join(folder, "case.safetensors");
        model *m = NULL;
        safetensors *st = NULL;
        cr_assert_eq(model_open(folder, &m, &err), 0, "%s", err.text);
        cr_assert_eq(safetensors_open(path, &st, &err), 0, "%s", err.text);
        static const char *const names[] = {"inv_freq", "inv_freq.full_attention", "inv_freq.sliding_attention"};
        for (int n = 0; n < 3; n++) {
            const tensor_info *info = safetensors_find(st, names[n]);
            const rope_table *r = &model_descriptor(m)->rope[n == 2];
            if (!info) continue;
            float *table = mem_new((size_t)info->count, sizeof *table);
            cr_assert_eq(info->count, r->pairs, "%s", cases[i]);
            cr_assert_eq(safetensors_read_as(st, info, table, F32, &err), 0);
            for (int64_t k = 0; k < r->pairs; k++) /* powf may differ by its last bit */
                cr_expect_float_eq(r->inv_freq[k] / table[k], 1, 1.3e-7f, "%s: %s[%lld]", cases[i], names[n],
                                   (long long)k);
            free(table);
        }
        safetensors_close(st);
        model_close(m);
        free(folder);
        free(path);
    }
}

/* ---- refusals ---- */

Test(model_families, a_doubtful_config_is_refused_by_key_and_value) {
    refused("[]", "object");
    refused("{}", "model_type");
    refused("{\"model_type\": \"mamba\"}", "mamba");
    refused("{\"model_type\": \"llama\", \"hidden_size\": \"2\"}", "hidden_size");
    refused("{\"model_type\": \"llama\", \"hidden_size\": 28.5}", "hidden_size");
    refused("{\"model_type\": \"llama\", \"num_hidden_layers\": 0}", "num_hidden_layers");
    refused("{\"model_type\": \"llama\", \"num_hidden_layers\": -3}", "num_hidden_layers");
    refused("{\"model_type\": \"llama\", \"vocab_size\": 1e12}", "vocab_size");
    refused("{\"model_type\": \"llama\", \"num_attention_heads\": 3, \"num_key_value_heads\": 2, \"hidden_size\": 48}",
            "num_key_value_heads");
    refused("{\"model_type\": \"llama\", \"hidden_size\": 50, \"num_attention_heads\": 4, \"head_dim\": 16}",
            "multiple");
    refused("{\"model_type\": \"qwen3\", \"head_dim\": 15}", "15");
    refused("{\"model_type\": \"llama\", \"hidden_act\": \"gelu_magic\"}", "gelu_magic");
    refused("{\"model_type\": \"llama\", \"rms_norm_eps\": -1}", "rms_norm_eps");
    refused("{\"model_type\": \"llama\", \"torch_dtype\": \"int8\"}", "int8");
    refused("{\"model_type\": \"llama\", \"pad_token_id\": 32000}", "pad_token_id");
    refused("{\"model_type\": \"gemma3_text\", \"layer_types\": [\"full_attention\"]}", "layer_types");
    refused("{\"model_type\": \"gemma2\", \"num_hidden_layers\": 1, \"layer_types\": [\"odd\"]}", "odd");
    refused("{\"model_type\": \"gemma3\"}", "text_config");
    refused("{\"model_type\": \"gemma3_text\", \"use_bidirectional_attention\": true}", "use_bidirectional_attention");
    refused("{\"model_type\": \"smollm3\", \"num_hidden_layers\": 2, \"no_rope_layers\": [1, 2]}", "no_rope_layers");
    refused("{\"model_type\": \"qwen2\", \"num_hidden_layers\": 1, \"layer_types\": [\"sliding_attention\"]}",
            "use_sliding_window");
    refused(ROPE("\"rope_scaling\": {\"type\": \"mrope\"}"), "mrope");
    refused(ROPE("\"rope_scaling\": {\"type\": \"linear\"}"), "factor");
    refused(ROPE("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}"), "factor");
    refused(ROPE("\"rope_scaling\": []"), "rope_scaling");
    refused(
        ROPE(
            "\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 4}"),
        "low_freq_factor");
    refused(ROPE("\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"attention_factor\": 0}"), "attention_factor");
    refused(ROPE("\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}"), "layer type");
    refused(
        PHI3("\"original_max_position_embeddings\": 1, \"max_position_embeddings\": 8, \"rope_scaling\": {\"type\": "
             "\"longrope\", \"short_factor\": [1, 1, 1, 1, 1, 1, 1], \"long_factor\": [1, 1, 1, 1, 1, 1, 1]}"),
        "not finite");
    refused("{\"model_type\": \"mistral\", \"sliding_window\": 0}", "sliding_window");
    refused("{\"model_type\": \"gemma2\", \"sliding_window\": null}", "sliding_window");
    refused("{\"model_type\": \"gemma2\", \"final_logit_softcapping\": 0.0}", "final_logit_softcapping");
    refused("{\"model_type\": \"llama\", \"is_causal\": false}", "is_causal");
    refused("{\"model_type\": \"llama\", \"per_layer_config\": {\"1\": {\"num_key_value_heads\": 4}}}",
            "per_layer_config");
    refused("{\"model_type\": \"phi3\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", "longrope");
    refused("{\"model_type\": \"phi3\", \"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1], "
            "\"long_factor\": [1]}}",
            "short_factor");
    refused("{\"model_type\": \"llama\", \"partial_rotary_factor\": 0.5}", "partial_rotary_factor");
    refused("{\"model_type\": \"gpt2\", \"add_cross_attention\": true}", "add_cross_attention");
}
