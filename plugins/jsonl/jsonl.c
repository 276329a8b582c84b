/* jsonl — records from a file of JSON: one object a line (JSONL), or one array of objects.
 *
 *   prompt + completion                    trained on the completion
 *   instruction (+ input) + output         the same, in the words of Stanford Alpaca
 *   messages                               a conversation; needs a chat template
 *   text                                   trained on all of it
 *
 * The first line that fits decides, record by record. Names are options: `prompt = question`, and "a.b" or "a.0.b" reach into
 * nested values. Prompt texts: Taori et al., 2023, github.com/tatsu-lab/stanford_alpaca. */
#include <graft/graft.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *text, *prompt, *completion, *instruction, *input, *output, *messages, *separator;
} jsonl;

static const graft_option options[] = {
    GRAFT_OPTION_TEXT(jsonl, text, "text", "name of the field that is trained on as a whole", NULL),
    GRAFT_OPTION_TEXT(jsonl, prompt, "prompt", "name of the field that asks", NULL),
    GRAFT_OPTION_TEXT(jsonl, completion, "completion", "name of the field that answers: what is trained on", NULL),
    GRAFT_OPTION_TEXT(jsonl, instruction, "instruction", "name of the field of the task (Alpaca)", NULL),
    GRAFT_OPTION_TEXT(jsonl, input, "input", "name of the field of what the task is about; may be absent or empty",
                      NULL),
    GRAFT_OPTION_TEXT(jsonl, output, "output", "name of the field of the answer to an instruction", NULL),
    GRAFT_OPTION_TEXT(jsonl, messages, "messages", "name of the field of a conversation", NULL),
    GRAFT_OPTION_TEXT(jsonl, separator, "", "put between question and answer; \\n is a new line, \\s a space", NULL),
};

static int64_t count(graft_source *s) {
    return s->services->records(s, GRAFT_UNIT_JSON);
}

typedef struct {
    const char *text; /* NULL: absent */
    int64_t count;
} field;

/* An empty name is a field that no record has. */
static field get_field(graft_source *s, int64_t i, const char *name) {
    field f = {NULL, 0};
    if (*name) f.text = s->services->field(s, i, name, &f.count);
    return f;
}

static void add(graft_source *s, int32_t part, const char *text) {
    s->services->add(s, part, text, (int64_t)strlen(text));
}

/* The separator with \n, \t, \s and \\ in place. */
static void add_separator(graft_source *s) {
    for (const char *at = ((const jsonl *)s->self)->separator; *at; at++) {
        char c = *at;
        if (c == '\\' && at[1]) {
            at++;
            c = *at == 'n' ? '\n' : *at == 't' ? '\t' : *at == 's' ? ' ' : *at;
        }
        s->services->add(s, GRAFT_PART_PROMPT, &c, 1);
    }
}

static void add_pair(graft_source *s, field question, field answer) {
    s->services->add(s, GRAFT_PART_PROMPT, question.text, question.count);
    add_separator(s);
    s->services->add(s, GRAFT_PART_COMPLETION, answer.text, answer.count);
}

static void add_alpaca(graft_source *s, field instruction, field input, field output) {
    add(s, GRAFT_PART_PROMPT,
        input.count
            ? "Below is an instruction that describes a task, paired with an input that provides further context. "
              "Write a response that appropriately completes the request.\n\n### Instruction:\n"
            : "Below is an instruction that describes a task. "
              "Write a response that appropriately completes the request.\n\n### Instruction:\n");
    s->services->add(s, GRAFT_PART_PROMPT, instruction.text, instruction.count);
    if (input.count) {
        add(s, GRAFT_PART_PROMPT, "\n\n### Input:\n");
        s->services->add(s, GRAFT_PART_PROMPT, input.text, input.count);
    }
    add_pair(s, (field){"\n\n### Response:", 15}, output);
}

/* Whether a question is itself a list of {"role", "content"}. */
static int is_conversation(graft_source *s, int64_t i, const char *name) {
    char path[200];
    int64_t length;
    snprintf(path, sizeof path, "%s.0.role", name);
    return s->services->field(s, i, path, &length) != NULL;
}

static void get(graft_source *s, int64_t i) {
    const jsonl *const o = s->self;
    const field prompt = get_field(s, i, o->prompt), completion = get_field(s, i, o->completion);
    if (prompt.text && completion.text) {
        if (*prompt.text == '[' && is_conversation(s, i, o->prompt))
            s->services->add(s, GRAFT_PART_MESSAGES, prompt.text, prompt.count);
        add_pair(s, prompt, completion);
        return;
    }
    const field instruction = get_field(s, i, o->instruction), output = get_field(s, i, o->output);
    if (instruction.text && output.text) {
        add_alpaca(s, instruction, get_field(s, i, o->input), output);
        return;
    }
    const field messages = get_field(s, i, o->messages);
    if (messages.text) {
        s->services->add(s, GRAFT_PART_MESSAGES, messages.text, messages.count);
        return;
    }
    const field text = get_field(s, i, o->text);
    if (text.text)
        s->services->add(s, GRAFT_PART_TEXT, text.text, text.count);
    else if (prompt.text)
        s->services->fail(s, "there is a prompt but no completion; `completion = NAME` says which field answers");
    else if (instruction.text)
        s->services->fail(s, "there is an instruction but no output; `output = NAME` says which field answers");
    else
        s->services->fail(s,
                          "no known fields: a record has prompt and completion, instruction and output, or text; give "
                          "other names in [data], as in `prompt = question`");
}

static const graft_loader functions = {.size = sizeof functions, .count = count, .get = get};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.loader/1",
    .name = "jsonl",
    .doc = "records of a JSON or JSONL file",
    .paper = "",
    .config_size = sizeof(jsonl),
    .options = GRAFT_ROWS(options),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
