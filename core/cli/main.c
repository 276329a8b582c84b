/* main — one word picks the command. */
#include "base/log.h"
#include "cli/cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const command *const commands[] = {&command_train,
                                   &command_eval,
                                   &command_generate,
                                   &command_chat,
                                   &command_merge,
                                   &command_extract,
                                   &command_quantize,
                                   &command_plan,
                                   &command_check,
                                   &command_data,
                                   &command_explain,
                                   &command_help,
                                   &command_plugins,
                                   &command_inspect,
                                   &command_init,
                                   &command_render,
                                   &command_tokenize,
                                   &command_probe,
                                   NULL};

static void print_help(FILE *to) {
    fputs("graft " GRAFT_VERSION " - fine-tuning of language models\n\nusage: graft COMMAND ...\n\n", to);
    for (int c = 0; commands[c]; c++)
        fprintf(to, "  %-10s %s\n", commands[c]->name, commands[c]->brief);
    fputs("\ngraft COMMAND --help says more; graft help NAME explains a plugin or a section of an INI file.\n"
          "Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 and 143 stopped by Ctrl-C or SIGTERM.\n",
          to);
}

int main(int count, char **words) {
    if (count < 2) {
        print_help(stderr);
        return GRAFT_USAGE;
    }
    if (strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0) {
        print_help(stdout);
        return GRAFT_OK;
    }
    if (strcmp(words[1], "--version") == 0) {
        puts("graft " GRAFT_VERSION);
        return GRAFT_OK;
    }
    const char *names[32];
    int known = 0;
    for (; commands[known]; known++) {
        names[known] = commands[known]->name;
        if (strcmp(names[known], words[1]) == 0) {
            const int code = commands[known]->run(count - 1, words + 1);
            if (fflush(stdout) || ferror(stdout)) {
                log_error("stdout: could not write everything");
                return code ? code : GRAFT_FAILED;
            }
            return code;
        }
    }
    const char *near = nearest_name(words[1], names, known);
    const char *const more = cli_is_explained(words[1]) ? words[1] : NULL;
    log_error("there is no command \"%s\"%s%s%s%s%s%s. graft --help lists them", words[1],
              near ? "; did you mean \"" : "", near ? near : "", near ? "\"" : "", more ? "; graft help " : "",
              more ? more : "", more ? " explains what it is in an INI file" : "");
    return GRAFT_USAGE;
}
