/* What `graft plan` says is what a run takes, as the system counts it: the peak of a whole `graft train` process, less what the
 * program takes when it does nothing, against the sum of the plan's classes, for a model of 77 MB in bf16. */
#include "base/memory.h"
#include "base/file.h"
#include "base/json.h"
#include "measurable.h"
#include "train-kit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 8192, \"hidden_size\": 512,"
    " \"intermediate_size\": 1536, \"num_hidden_layers\": 10, \"num_attention_heads\": 8, \"num_key_value_heads\": 8,"
    " \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\","
    " \"initializer_range\": 0.02, \"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\", \"bos_token_id\": 1,"
    " \"eos_token_id\": 2}\n";

/* Peak memory of `graft WORDS` in bytes, which must succeed. */
static int64_t peak_of(const char *folder, const char *words) {
    struct rusage used;
    int status;
    char *const line = mem_format("cd '%s' && exec '%s/bin/graft' %s > said.log 2>&1", folder, BINARY_DIR, words);
    const pid_t child = fork();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    cr_assert_eq(wait4(child, &status, 0, &used), child);
    char *const text = kit_read(folder, "said.log");
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: %s", words, text);
    free(text);
    free(line);
    return (int64_t)used.ru_maxrss * 1024;
}

/* The sum of the plan's classes without the program itself. */
static int64_t planned(const char *folder, const char *ini) {
    char *const words = mem_format("plan %s --json 2> messages", ini), *text;
    json_t *plan = NULL;
    graft_error err = {0};
    cr_assert_eq(kit_graft(folder, words, &text), 0, "%s", text);
    cr_assert_eq(json_read_text(text, strlen(text), "plan", 0, &plan, &err), GRAFT_OK, "%s", err.text);
    const json_t *const program = json_object_get(json_object_get(plan, "bytes"), "program");
    const int64_t bytes = json_integer_value(json_object_get(plan, "total")) - json_integer_value(program);
    json_decref(plan);
    free(words);
    free(text);
    return bytes;
}

static void check(const char *folder, const char *name, const char *sections) {
    char *const own = mem_format("%s[train]\nsteps = 2\n", sections), *const ini = mem_format("%s.ini", name);
    char *const words = mem_format("%s --set model.path=big --set model.precision=auto", ini), *const train =
                                                                                                   mem_format(
                                                                                                       "train %s",
                                                                                                       words);
    kit_ini(folder, name, own);
    const int64_t idle = peak_of(folder, "--help"), plan = planned(folder, words), peak = peak_of(folder, train);
    const double share = (double)(peak - idle) / (double)plan;
    fprintf(stderr, "%s: plan %.1f MB, run %.1f MB above %.1f MB: %.3f\n", name, (double)plan * 1e-6,
            (double)(peak - idle) * 1e-6, (double)idle * 1e-6, share);
    cr_expect(share > 0.7 && share < 1.1, "%s takes %.3f of what the plan says", name, share);
    free(own);
    free(ini);
    free(words);
    free(train);
}

Test(memory, a_run_takes_what_the_plan_says, .timeout = 300) {
    if (!is_measurable()) {
        fprintf(stderr, "skipped: memory is not measured under a sanitizer\n");
        cr_skip_test();
    }
    char *const folder = kit_make(2), *const source = path_join(folder, "source"), *text;
    char *const file = path_join(source, "config.json");
    graft_error err = {0};
    cr_assert(!file_make_folders(source, &err) && !file_write(file, config, (int64_t)strlen(config), &err), "%s",
              err.text);
    cr_assert_eq(kit_graft(folder, "init source -o big --dtype bf16", &text), 0, "%s", text);
    check(folder, "lora", "[adapter]\nplugin = lora\nrank = 64\ntargets = all-linear\n");
    check(folder, "qlora",
          "[quantizer]\nplugin = quant-nf4\n[adapter]\nplugin = lora\nrank = 16\ntargets = all-linear\n");
    check(folder, "full", "[adapter]\nplugin = full\n");
    free(source);
    free(file);
    free(text);
    kit_remove(folder);
}
