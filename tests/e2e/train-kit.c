#include "train-kit.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "formats/safetensors.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VOCAB = 96, ROWS = 4, WIDTH = 24, EVAL_ROWS = 3 };

static const char config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 96, \"hidden_size\": 32,\n"
    " \"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,\n"
    " \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\",\n"
    " \"initializer_range\": 0.08, \"tie_word_embeddings\": true, \"torch_dtype\": \"float32\", \"bos_token_id\": 1,\n"
    " \"eos_token_id\": 2}\n";

static void put_file(const char *folder, const char *name, const char *text) {
    graft_error err = {0};
    char *const path = path_join(folder, name);
    cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), GRAFT_OK, "%s", err.text);
    free(path);
}

/* Rows that a model can learn: the next token is a function of the last two, now and then disturbed. */
static void fill_row(int64_t row, int32_t *ids, int32_t *labels, uint8_t *mask) {
    const int64_t tokens = WIDTH - (int64_t)(philox_bits(3, 1, (uint64_t)row) % 6); /* the rest is padding */
    for (int64_t t = 0; t < WIDTH; t++) {
        const uint64_t noise = philox_bits(3, 2, (uint64_t)(row * WIDTH + t));
        ids[t] = t < 2 || noise % 8 == 0 ? 3 + (int32_t)((noise >> 8) % (VOCAB - 3))
                                         : 3 + (ids[t - 1] * 5 + ids[t - 2]) % (VOCAB - 3);
        labels[t] = t >= tokens || t < 4 ? -100 : ids[t];
        mask[t] = t < tokens;
    }
}

static void write_batches(const char *folder, int steps) {
    const int64_t count = (int64_t)steps * ROWS * WIDTH, eval = EVAL_ROWS * WIDTH;
    int32_t *const ids = mem_new((size_t)(count + eval), 4), *const labels = mem_new((size_t)(count + eval), 4);
    uint8_t *const mask = mem_new((size_t)(count + eval), 1);
    for (int64_t r = 0; r < (count + eval) / WIDTH; r++)
        fill_row(r, ids + r * WIDTH, labels + r * WIDTH, mask + r * WIDTH);
    const tensor_out list[] = {
        {.name = "input_ids",           .dtype = I32, .rank = 3, .shape = {steps, ROWS, WIDTH}, .data = ids           },
        {.name = "labels",              .dtype = I32, .rank = 3, .shape = {steps, ROWS, WIDTH}, .data = labels        },
        {.name = "attention_mask",      .dtype = U8,  .rank = 3, .shape = {steps, ROWS, WIDTH}, .data = mask          },
        {.name = "eval_input_ids",      .dtype = I32, .rank = 2, .shape = {EVAL_ROWS, WIDTH},   .data = ids + count   },
        {.name = "eval_labels",         .dtype = I32, .rank = 2, .shape = {EVAL_ROWS, WIDTH},   .data = labels + count},
        {.name = "eval_attention_mask", .dtype = U8,  .rank = 2, .shape = {EVAL_ROWS, WIDTH},   .data = mask + count  },
    };
    graft_error err = {0};
    char *const path = path_join(folder, "batches.safetensors");
    cr_assert_eq(safetensors_write(path, list, 6, NULL, 0, &err), GRAFT_OK, "%s", err.text);
    free(path);
    free(ids);
    free(labels);
    free(mask);
}

char *kit_make(int steps) {
    char *const folder = mem_copy_text("/tmp/graft-train-XXXXXX");
    graft_error err = {0};
    cr_assert(mkdtemp(folder));
    char *const source = path_join(folder, "config");
    cr_assert_eq(file_make_folders(source, &err), GRAFT_OK, "%s", err.text);
    put_file(source, "config.json", config);
    char *const line = mem_format("'%s/bin/graft' init '%s' --output '%s/model' --seed 7 > '%s/init.log' 2>&1",
                                  BINARY_DIR, source, folder, folder);
    cr_assert_eq(system(line), 0, "%s", line);
    write_batches(folder, steps);
    free(source);
    free(line);
    return folder;
}

void kit_remove(char *folder) {
    graft_error err = {0};
    cr_assert_eq(file_remove_tree(folder, &err), GRAFT_OK, "%s", err.text);
    free(folder);
}

void kit_ini(const char *folder, const char *name, const char *sections) {
    char *const text = mem_format("[model]\npath = %s/model\nprecision = f32\n[data]\nloader = tensors\n"
                                  "path = %s/batches.safetensors\n[output]\npath = %s/%s\n%s",
                                  folder, folder, folder, name, sections);
    char *const file = mem_format("%s.ini", name);
    put_file(folder, file, text);
    free(text);
    free(file);
}

static char *command(const char *folder, const char *name, const char *options) {
    return mem_format("exec '%s/bin/graft' train '%s/%s.ini' %s > '%s/%s.log' 2>&1", BINARY_DIR, folder, name, options,
                      folder, name);
}

pid_t kit_start(const char *folder, const char *name, const char *options) {
    char *const line = command(folder, name, options);
    const pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    free(line);
    return child;
}

int kit_train(const char *folder, const char *name, const char *options, char **text) {
    int status;
    const pid_t child = kit_start(folder, name, options);
    cr_assert_eq(waitpid(child, &status, 0), child);
    char *const log = mem_format("%s.log", name);
    if (text) *text = kit_read(folder, log);
    free(log);
    cr_assert(WIFEXITED(status), "graft train was ended by a signal");
    return WEXITSTATUS(status);
}

int kit_graft(const char *folder, const char *words, char **text) {
    char *const line = mem_format("cd '%s' && { '%s/bin/graft' %s; } > said.log 2>&1", folder, BINARY_DIR, words);
    const int status = system(line);
    if (text) *text = kit_read(folder, "said.log");
    free(line);
    cr_assert(WIFEXITED(status), "graft %s was ended by a signal", words);
    return WEXITSTATUS(status);
}

char *kit_read(const char *folder, const char *path) {
    graft_error err = {0};
    char *const full = path_join(folder, path), *text;
    int64_t size;
    cr_assert_eq(file_read(full, 1 << 26, &text, &size, &err), GRAFT_OK, "%s", err.text);
    free(full);
    return text;
}

int kit_has(const char *folder, const char *path) {
    char *const full = path_join(folder, path);
    const int there = file_exists(full);
    free(full);
    return there;
}

int kit_same(const char *folder, const char *a, const char *b, const char *file) {
    graft_error err = {0};
    char *const left = mem_format("%s/%s/%s", folder, a, file), *const right = mem_format("%s/%s/%s", folder, b, file);
    char *one, *two;
    int64_t n, m;
    cr_assert(!file_read(left, 1 << 26, &one, &n, &err) && !file_read(right, 1 << 26, &two, &m, &err), "%s", err.text);
    const int same = n == m && memcmp(one, two, (size_t)n) == 0;
    free(left);
    free(right);
    free(one);
    free(two);
    return same;
}

float *kit_tensor(const char *folder, const char *file, const char *name, int64_t *count) {
    char *const path = path_join(folder, file);
    const tensor_info *info;
    safetensors *st = NULL;
    graft_error err = {0};
    cr_assert(!safetensors_open(path, &st, &err) && !safetensors_need(st, name, &info, &err), "%s", err.text);
    float *const values = mem_new((size_t)info->count, sizeof *values);
    cr_assert_eq(safetensors_read_as(st, info, values, F32, &err), GRAFT_OK, "%s", err.text);
    *count = info->count;
    safetensors_close(st);
    free(path);
    return values;
}
