/* Conversations through the program: looked at, trained on, answered. The model of the quickstart has a token a byte; the fixtures'
 * small Llama has words. */
#include "base/file.h"
#include "base/memory.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODEL SOURCE_DIR "/examples/quickstart/model"

static char folder[] = "/tmp/graft-chat-XXXXXX";

static void begin(void) {
    cr_assert(mkdtemp(folder));
}

static void end(void) {
    graft_error err = {0};
    file_remove_tree(folder, &err);
}

TestSuite(chat, .init = begin, .fini = end, .timeout = 120);

static void put(const char *name, const char *text) {
    graft_error err = {0};
    char *const path = path_join(folder, name);
    cr_assert_eq(file_write(path, text, (int64_t)strlen(text), &err), 0, "%s", err.text);
    free(path);
}

/* Runs `graft ARGUMENTS` in the folder with `input` on stdin; the exit code, what it printed in *text (owned by the caller). */
static int run(const char *arguments, const char *input, char **text) {
    put("input", input);
    char *const line =
        mem_format("cd %s && " BINARY_DIR "/bin/graft %s < input > output 2> messages", folder, arguments);
    char *const output = path_join(folder, "output");
    graft_error err = {0};
    int64_t size;
    const int status = system(line);
    cr_assert_eq(file_read(output, 1 << 24, text, &size, &err), 0, "%s", err.text);
    free(line);
    free(output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_output(const char *arguments, const char *input, int code, const char *want) {
    char *text = NULL;
    cr_expect_eq(run(arguments, input, &text), code, "graft %s", arguments);
    cr_expect_str_eq(text, want, "graft %s: \"%s\", not \"%s\"", arguments, text, want);
    free(text);
}

#define HI "[{\"role\": \"user\", \"content\": \"Hi\"}]"

Test(chat, render_prints_the_text_and_refuses_what_the_template_refuses) {
    put("m.json", HI);
    put("bad.jinja", "{{ raise_exception('no, thanks') }}");
    expect_output("render " MODEL " --messages m.json --template plain --generation-prompt", "", 0,
                  "User: Hi\nAssistant:");
    expect_output("render " MODEL " --messages - --template plain", HI, 0, "User: Hi\n");
    expect_output("render " MODEL " --messages m.json --template plain --json", "", 0, "\"User: Hi\\n\"\n");
    expect_output("render " MODEL " --messages m.json --template bad.jinja", "", 1, "");
    expect_output("render " MODEL " --messages - --template plain", "[]", 1, "");
    expect_output("render " MODEL " --template plain", "", 2, "");
}

/* The answer is learned by heart, so that chat has to give it back, and stop behind it. */
Test(chat, what_was_trained_is_answered_until_the_end_of_turn) {
    strbuf lines = {0};
    for (int i = 0; i < 64; i++)
        strbuf_puts(&lines,
                    "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": "
                    "\"Yo.\"}]}\n");
    put("a.jsonl", lines.text);
    put("run.ini",
        "[model]\npath = " MODEL "\n[data]\npath = a.jsonl\nchat_template = plain\n[adapter]\nplugin = lora\n"
        "rank = 16\ntargets = all-linear\n[optimizer]\nlr = 1e-2\n[train]\nsteps = 60\nbatch_size = 4\n[output]\npath "
        "= out\n");
    char *text = NULL;
    cr_expect_eq(run("data run.ini --show 1", "", &text), 0);
    cr_expect(strstr(text, "User: Hi\nAssistant:[[ Yo.<|endoftext|>]]"), "%s", text);
    free(text);
    cr_assert_eq(run("train run.ini --quiet", "", &text), 0);
    free(text);
    expect_output("chat " MODEL " --adapter out --template plain --greedy", "Hi\n/clear\nHi\n/quit\nHi\n", 0,
                  "Yo.\nYo.\n");
    cr_expect_eq(
        run("chat " MODEL " --adapter out --template plain --greedy --max-new 8", "/adapter none\nHi\n", &text), 0);
    cr_expect_str_neq(text, " Yo.\n", "the base alone");
    free(text);
    expect_output("generate " MODEL " --adapter out --template plain --greedy --messages input", HI, 0, " Yo.\n");
    cr_expect_eq(run("generate " MODEL " --adapter out --template plain --greedy --messages input --json", HI, &text),
                 0);
    cr_expect(strstr(text, "\"end\": \"stop\"") && strstr(text, "\"prompt_tokens\": 19") &&
                  strstr(text, "\"new_tokens\": 5") && strstr(text, "\"tokens_per_second\": "),
              "%s", text);
    free(text);
    /* what the second turn says with the cache of the first is what a fresh run says */
    cr_expect_eq(run("generate " MODEL " --adapter out --template plain --greedy --max-new 8 --messages input",
                     "[{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": "
                     "\"Yo.\"}, {\"role\": \"user\", \"content\": \"Hi you\"}]",
                     &text),
                 0);
    char *const turns = mem_format("Yo.\n%s", text + (*text == ' '));
    expect_output("chat " MODEL " --adapter out --template plain --greedy --max-new 8", "Hi\nHi you\n", 0, turns);
    free(turns);
    free(text);
    expect_output("chat " MODEL " --template plain", "/nothing\nHi\n", 2, "");
    expect_output("chat " MODEL, "Hi\n", 1, "");
    strbuf_free(&lines);
}

/* 48 tokens, one a byte: two of these turns do not fit, but each alone does. */
Test(chat, a_full_context_forgets_the_oldest_turns_and_refuses_what_alone_is_too_long) {
    char *text = NULL;
    const char *const chat = "chat " MODEL " --template plain --greedy --max-new 4 --context 48";
    cr_expect_eq(run(chat, "What is that?\nWhat is that?\n", &text), 0);
    const size_t half = strlen(text) / 2;
    cr_expect(half && strncmp(text, text + half, half) == 0, "the second answer knows nothing of the first: %s", text);
    free(text);
    expect_output(chat, "What is it that nobody can say in forty-eight letters?\n", 1, "");
    expect_output(chat, "What \xFF is that?\n", 1, "");
}
