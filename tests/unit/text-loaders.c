/* The loaders of the project: which parts become of a record. */
#include "text-kit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(loaders, .init = kit_begin, .fini = kit_end);

Test(loaders, jsonl_takes_prompt_and_completion) {
    const char *const path = kit_file(
        "a.jsonl", "{\"prompt\": \"1+1=\", \"completion\": \"2\"}\n{\"prompt\": \"\", \"completion\": \"x\"}", -1);
    kit_expect_records("jsonl", "", path, "P(1+1=)C(2)\nP()C(x)");
    kit_expect_records("jsonl", "separator=\\n\\s\\\\n", path,
                       "P(1+1=)P(\\n)P( )P(\\)P(n)C(2)\nP()P(\\n)P( )P(\\)P(n)C(x)");
}

Test(loaders, jsonl_takes_other_names) {
    const char *const path = kit_file("a.jsonl", "{\"question\": \"q\", \"answer\": {\"text\": \"a\"}}", -1);
    kit_expect_records("jsonl", "prompt=question; completion=answer.text", path, "P(q)C(a)");
    kit_expect_records(
        "jsonl", "", path,
        "! a.jsonl:1: no known fields: a record has prompt and completion, instruction and output, messages, or text; "
        "give other names in [data], as in `prompt = question`; it has question, answer");
}

Test(loaders, jsonl_renders_alpaca_as_stanford_did) {
    const char *const path = kit_file("a.json",
                                      "[{\"instruction\": \"Add.\", \"input\": \"1, 1\", \"output\": \"2\"},"
                                      " {\"instruction\": \"Say hi.\", \"input\": \"\", \"output\": \"hi\"},"
                                      " {\"instruction\": \"Say hi.\", \"input\": null, \"output\": \"hi\"},"
                                      " {\"instruction\": \"Say hi.\", \"output\": \"hi\"}]",
                                      -1);
#define SHORT                                                                                                          \
    "P(Below is an instruction that describes a task. Write a response that appropriately completes the request."      \
    "\\n\\n### Instruction:\\n)P(Say hi.)P(\\n\\n### Response:)C(hi)"
    kit_expect_records(
        "jsonl", "", path,
        "P(Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\\n\\n### Instruction:\\n)P(Add.)"
        "P(\\n\\n### Input:\\n)P(1, 1)P(\\n\\n### Response:)C(2)\n" SHORT "\n" SHORT "\n" SHORT);
}

Test(loaders, jsonl_decides_record_by_record) {
    kit_expect_records(
        "jsonl", "",
        kit_file(
            "a.jsonl",
            "{\"text\": \"t\", \"prompt\": \"p\", \"completion\": \"c\", \"instruction\": \"i\", \"output\": \"o\"}\n"
            "{\"text\": \"t\"}\n"
            "{\"text\": \"t\", \"prompt\": \"p\"}\n"
            "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"text\": \"t\"}\n"
            "{\"prompt\": [{\"role\": \"user\", \"content\": \"hi\"}], \"completion\": \"c\"}",
            -1),
        "P(p)C(c)\nT(t)\nT(t)\nM([{\"role\": \"user\", \"content\": \"hi\"}])\n"
        "M([{\"role\": \"user\", \"content\": \"hi\"}])C(c)");
}

#define HI  "[{\"role\": \"user\", \"content\": \"hi\"}]"
#define YO  "[{\"role\": \"assistant\", \"content\": \"yo\"}]"
#define OLD "[{\"from\": \"human\", \"value\": \"hi\"}]"

Test(loaders, jsonl_takes_sharegpt_tools_and_the_better_of_two_answers) {
    kit_expect_records("jsonl", "",
                       kit_file("a.jsonl",
                                "{\"conversations\": " OLD "}\n"
                                "{\"messages\": " HI ", \"tools\": [{\"a\": 1}]}\n"
                                "{\"messages\": " HI ", \"tools\": null}\n"
                                "{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": \"r\"}\n"
                                "{\"prompt\": " HI ", \"chosen\": " YO ", \"rejected\": " YO "}\n"
                                "{\"prompt\": \"hi\", \"chosen\": " HI "}\n"
                                "{\"chosen\": " HI ", \"rejected\": " HI "}\n"
                                "{\"instruction\": \"i\", \"messages\": " HI "}",
                                -1),
                       "M(" OLD ")\n"
                       "M({\"tools\": )M([{\"a\": 1}])M(, \"messages\": )M(" HI ")M(})\n"
                       "M(" HI ")\nP(p)C(c)\nM(" HI ")C(" YO ")\nM(" HI ")\nM(" HI ")\nM(" HI ")");
}

Test(loaders, jsonl_says_which_half_is_missing) {
    kit_expect_records(
        "jsonl", "", kit_file("a.jsonl", "\n{\"prompt\": \"p\", \"answer\": \"a\"}", -1),
        "! a.jsonl:2: there is a prompt but no completion; `completion = NAME` says which field answers; it "
        "has prompt, answer");
    kit_expect_records(
        "jsonl", "", kit_file("a.jsonl", "{\"instruction\": \"i\", \"response\": \"a\"}", -1),
        "! a.jsonl:1: there is an instruction but no output; `output = NAME` says which field answers; it has "
        "instruction, response");
}

Test(loaders, jsonl_reads_tables_by_the_names_of_their_first_row) {
    kit_expect_records("jsonl", "",
                       kit_file("a.csv",
                                "\xEF\xBB\xBFprompt,completion,text\r\n"
                                "a,b,\r\n"
                                "\"x, \"\"y\"\"\",\"two\nlines\",\n"
                                "\n"
                                ",,whole \n"
                                "\"\",c\"d\"e,",
                                -1),
                       "P(a)C(b)\nP(x, \"y\")C(two\\nlines)\nT(whole )\nP()C(c\"d\"e)");
    kit_expect_records("jsonl", "prompt=q; completion=a", kit_file("a.tsv", "q\ta\none, two\t3\n", -1),
                       "P(one, two)C(3)");
    kit_expect_records("jsonl", "", kit_gzip("b.csv.gz", "prompt;completion\na;b\n", 22), "P(a)C(b)");
    kit_expect_records("jsonl", "", kit_file("c.csv", "prompt,completion\na,b\na,b,c\n", -1),
                       "P(a)C(b)\n! c.csv:3: the row has 3 fields, the first row names 2");
    kit_expect_records("jsonl", "", kit_file("d.csv", "prompt,completion\na,b\n\"a,b\n\n", -1),
                       "! d.csv:3: a field in quotes of the row that begins here never ends");
    kit_expect_records("jsonl", "", kit_file("e.csv", "prompt,\na,b\n", -1),
                       "! e.csv: the first row of a table names the fields, and one has no name");
    kit_expect_records("jsonl", "", kit_file("f.csv", "prompt,completion\n", -1), "! f.csv holds no records");
}
