/* text — records from plain text: paragraphs, lines, or the file as one.
 *
 * Every record is trained on as a whole: each token is predicted from those in front of it in the same record. The core
 * encodes, cuts what is longer than max_length and ends each record with the model's end token. */
#include <graft/graft.h>

typedef struct {
    int32_t split;
} text;

static const graft_option options[] = {
    GRAFT_OPTION_CHOICE(text, split, "paragraphs|lines|file", 0,
                        "what a record is; paragraphs are separated by lines without text", NULL),
};

static int64_t count(graft_source *s) {
    static const int32_t units[] = {GRAFT_UNIT_PARAGRAPH, GRAFT_UNIT_LINE, GRAFT_UNIT_FILE};
    return s->services->records(s, units[((const text *)s->self)->split]);
}

static void get(graft_source *s, int64_t i) {
    int64_t length;
    const char *const bytes = s->services->record(s, i, &length);
    s->services->add(s, GRAFT_PART_TEXT, bytes, length);
}

static const graft_loader functions = {.size = sizeof functions, .count = count, .get = get};

static const graft_component component = {
    .size = sizeof component,
    .kind = "graft.loader/1",
    .name = "text",
    .doc = "paragraphs or lines of a plain text file",
    .paper = "",
    .config_size = sizeof(text),
    .options = GRAFT_ROWS(options),
    .functions = &functions,
};
GRAFT_PLUGIN(component, "0.1.0")
