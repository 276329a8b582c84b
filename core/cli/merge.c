/* graft merge — adapters added into the weights they adapt: a complete model folder. */
#include "run/merge.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include <stdio.h>

enum { DTYPE = 256 };

static int own(void *context, int val, const char *text) {
    (void)val;
    return cli_float_type(&command_merge, text, context);
}

static int run(int count, char **words) {
    static const struct option more[] = {
        {"dtype", required_argument, NULL, DTYPE},
        {0  }
    };
    cli_options o;
    dtype type = DTYPE_COUNT;
    int first;
    graft_error err = {0};
    if (cli_parse(&command_merge, "aojt", more, own, &type, count, words, 1, 1, &o, &first)) return GRAFT_USAGE;
    if (!o.output || !o.adapter_count)
        return cli_usage(&command_merge, "%s is missing", o.output ? "--adapter DIR" : "-o FOLDER");
    registry *plugins = registry_create();
    session s = {0};
    merge_report report = {0};
    const session_request q = {.model = words[first],
                               .precision = "f32",
                               .threads = o.threads,
                               .folders = o.adapters,
                               .folder_count = o.adapter_count,
                               .plugins = plugins};
    if (session_open(&q, &s, &err) == GRAFT_OK && session_load(&s, 0, &err) == GRAFT_OK)
        merge_write(&s, o.output, type, &report, &err);
    if (!err.code && o.json) {
        cli_print_json(json_pack("{s:s, s:I, s:f, s:s, s:I}", "path", o.output, "tensors", (json_int_t)report.tensors,
                                 "rounding", report.rounding, "worst", report.worst, "untied",
                                 (json_int_t)report.untied));
    } else if (!err.code) {
        printf("%lld tensors changed; rounding to the file's type costs at most %.2g of one (%s)\n",
               (long long)report.tensors, report.rounding, report.worst);
        if (report.untied) printf("the head no longer shares the embedding's numbers\n");
        printf("written to %s\n", o.output);
    }
    session_close(&s);
    registry_free(plugins);
    cli_free(&o);
    return err.code ? cli_fail(&err) : GRAFT_OK;
}

const command command_merge = {"merge", "add adapters into a model's weights",
                               "usage: graft merge MODEL --adapter DIR... -o FOLDER [--dtype f32|bf16|f16] [--json]\n\n"
                               "Writes a complete model folder that needs no adapter. Without --dtype every tensor "
                               "keeps the type the base stores it in;\n"
                               "the largest error of that rounding is reported. Techniques that cannot be added into "
                               "weights are refused by name.\n",
                               run};
