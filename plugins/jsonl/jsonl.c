/* jsonl — records from a file of JSON: one object a line (JSONL), or one array of objects; or from a table (.csv, .tsv) whose
 * first row names the fields.
 *
 *   prompt + completion                    trained on the completion; chosen is another name of it (rejected is not read)
 *   instruction (+ input) + output         the same, in the words of Stanford Alpaca
 *   messages, conversations                a conversation, of {"role", "content"} or ShareGPT's {"from", "value"}
 *   text                                   trained on all of it
 *   chosen                                 a conversation without a prompt of its own
 *
 * A prompt may be a conversation too. The core writes conversations in the model's chat template; tools are handed to it.
 *
 * The first line that fits decides, record by record. Names are options: `prompt = question`, and "a.b" or "a.0.b" reach into
 * nested values. Prompt texts: Taori et al., 2023, github.com/tatsu-lab/stanford_alpaca. */
#include <graft/graft.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *text, *prompt, *completion, *chosen, *instruction, *input, *output, *messages, *conversations, *tools,
        *separator;
} jsonl;

static const graft_option options[] = {
    GRAFT_OPTION_TEXT(jsonl, text, "text", "name of the field that is trained on as a whole", NULL),
    GRAFT_OPTION_TEXT(jsonl, prompt, "prompt", "name of the field that asks", NULL),
    GRAFT_OPTION_TEXT(jsonl, completion, "completion", "name of the field that answers: what is trained on", NULL),
    GRAFT_OPTION_TEXT(jsonl, chosen, "chosen", "name of the field of the better answer, where there is no completion",
                      NULL),
    GRAFT_OPTION_TEXT(jsonl, instruction, "instruction", "name of the field of the task (Alpaca)", NULL),
    GRAFT_OPTION_TEXT(jsonl, input, "input", "name of the field of what the task is about; may be absent or empty",
                      NULL),
    GRAFT_OPTION_TEXT(jsonl, output, "output", "name of the field of the answer to an instruction", NULL),
    GRAFT_OPTION_TEXT(jsonl, messages, "messages", "name of the field of a conversation", NULL),
    GRAFT_OPTION_TEXT(jsonl, conversations, "conversations", "the same in ShareGPT's data", NULL),
    GRAFT_OPTION_TEXT(jsonl, tools, "tools", "name of the field of the tools that a conversation may call", NULL),
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

/* Whether a field is a list of {"role", "content"} or {"from", "value"}. */
static int is_conversation(graft_source *s, int64_t i, const char *name) {
    char path[200];
    int64_t length;
    snprintf(path, sizeof path, "%s.0.role", name);
    if (s->services->field(s, i, path, &length)) return 1;
    snprintf(path, sizeof path, "%s.0.from", name);
    return s->services->field(s, i, path, &length) != NULL;
}

/* The list of messages, with the tools beside it when there are any. */
static void add_conversation(graft_source *s, int64_t i, field list) {
    const field tools = get_field(s, i, ((const jsonl *)s->self)->tools);
    if (tools.text && *tools.text == '[') {
        add(s, GRAFT_PART_MESSAGES, "{\"tools\": ");
        s->services->add(s, GRAFT_PART_MESSAGES, tools.text, tools.count);
        add(s, GRAFT_PART_MESSAGES, ", \"messages\": ");
        s->services->add(s, GRAFT_PART_MESSAGES, list.text, list.count);
        add(s, GRAFT_PART_MESSAGES, "}");
    } else {
        s->services->add(s, GRAFT_PART_MESSAGES, list.text, list.count);
    }
}

/* A prompt and what answers it. Either may be a conversation; an answer behind a prompt that is text repeats that prompt. */
static void add_prompt(graft_source *s, int64_t i, field prompt, field answer, int is_messages) {
    if (*prompt.text == '[' && is_conversation(s, i, ((const jsonl *)s->self)->prompt)) {
        add_conversation(s, i, prompt);
        s->services->add(s, GRAFT_PART_COMPLETION, answer.text, answer.count);
    } else if (is_messages) {
        add_conversation(s, i, answer);
    } else {
        add_pair(s, prompt, answer);
    }
}

static void say_what_is_missing(graft_source *s, field prompt, field instruction) {
    s->services->fail(
        s, prompt.text ? "there is a prompt but no completion; `completion = NAME` says which field answers"
           : instruction.text
               ? "there is an instruction but no output; `output = NAME` says which field answers"
               : "no known fields: a record has prompt and completion, instruction and output, messages, or text; give "
                 "other names in [data], as in `prompt = question`");
}

static void get(graft_source *s, int64_t i) {
    const jsonl *const o = s->self;
    const field prompt = get_field(s, i, o->prompt);
    field answer = get_field(s, i, o->completion);
    const char *const name = answer.text ? o->completion : o->chosen;
    if (!answer.text) answer = get_field(s, i, o->chosen);
    const int is_messages = answer.text && *answer.text == '[' && is_conversation(s, i, name);
    if (prompt.text && answer.text) {
        add_prompt(s, i, prompt, answer, is_messages);
        return;
    }
    const field instruction = get_field(s, i, o->instruction), output = get_field(s, i, o->output);
    if (instruction.text && output.text) {
        add_alpaca(s, instruction, get_field(s, i, o->input), output);
        return;
    }
    field messages = get_field(s, i, o->messages);
    if (!messages.text) messages = get_field(s, i, o->conversations);
    if (!messages.text && is_messages) messages = answer;
    if (messages.text) {
        add_conversation(s, i, messages);
        return;
    }
    const field text = get_field(s, i, o->text);
    if (text.text)
        s->services->add(s, GRAFT_PART_TEXT, text.text, text.count);
    else
        say_what_is_missing(s, prompt, instruction);
}

static const graft_loader functions = {.size = sizeof functions, .count = count, .get = get};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.loader/1",
    .name = "jsonl",
    .doc = "records of a JSON, JSONL, CSV or TSV file",
    .paper = "",
    .config_size = sizeof(jsonl),
    .options = GRAFT_ROWS(options),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
