/* CONTRACT section 8: what a plugin file must be, and what the host says of one that is not. */
#include "base/file.h"
#include "plugin/host.h"
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *module(char path[4096], const char *name) {
    snprintf(path, 4096, "%s/tests/abi/%s.so", BINARY_DIR, name);
    return path;
}

static plugin_library *open_good(const char *name) {
    char path[4096];
    graft_error err = {0};
    plugin_library *library = NULL;
    cr_assert_eq(plugin_open(module(path, name), &library, &err), GRAFT_OK, "%s", err.text);
    return library;
}

Test(host, copies_what_a_plugin_declares) {
    plugin_library *const library = open_good("plain");
    cr_assert_eq(library->count, 1);
    const plugin_component *const c = library->components;
    cr_assert_eq(c->kind, PLUGIN_ADAPTER);
    cr_assert_str_eq(c->name, "plain");
    cr_assert_str_eq(c->paper, "");
    cr_assert_str_eq(c->version, "1.2.3");
    cr_assert(strstr(c->file, "tests/abi/plain.so"));
    cr_assert_eq(c->option_count, 2);
    cr_assert_str_eq(c->options[1].file, "lora_alpha");
    cr_assert_eq(c->slot_count, 2);
    cr_assert_str_eq(c->slots[1].init, "alpha / rank");
    cr_assert_str_eq(c->slots[1].store, "");
    cr_assert_str_eq(c->fields[0].value, "LORA");
    cr_assert_eq(c->adapter.sites, GRAFT_LINEAR);
    cr_assert(c->adapter.forward && c->adapter.backward && !c->adapter.bind);
    plugin_close(library);
}

Test(host, fills_older_structs_with_zeros_and_reads_nothing_behind_them) {
    plugin_library *const library = open_good("older");
    const plugin_component *const c = library->components;
    cr_assert_eq(c->option_count, 1);
    cr_assert_eq(c->options[0].value, 4);
    cr_assert_null(c->options[0].file);
    cr_assert_str_eq(c->slots[0].file, "lora_A.weight");
    cr_assert_null(c->slots[0].file_onehot);
    cr_assert_str_eq(c->slots[0].store, "");
    cr_assert_null(c->slots[0].values);
    cr_assert(c->adapter.backward && !c->adapter.regularize && !c->adapter.after_step && !c->adapter.save);
    plugin_close(library);
}

Test(host, takes_newer_structs_whose_unknown_fields_are_zero) {
    plugin_library *const library = open_good("newer");
    const plugin_component *const c = library->components;
    cr_assert_str_eq(c->paper, "none");
    cr_assert_str_eq(c->slots[1].name, "T", "rows are walked by their stride");
    cr_assert_str_eq(c->fields[0].key, "peft_type");
    plugin_close(library);
}

Test(host, one_file_may_hold_components_of_every_kind) {
    plugin_library *const library = open_good("kinds");
    cr_assert_eq(library->count, 5);
    for (int i = 0; i < library->count; i++)
        cr_assert_eq(library->components[i].kind, (plugin_kind)(PLUGIN_QUANTIZER + i));
    cr_assert_eq(library->components[2].schedule.factor(NULL, 1, 2, 3), 6);
    plugin_close(library);
}

Test(host, a_bare_file_name_is_the_file_in_this_folder) {
    cr_assert_eq(chdir(BINARY_DIR "/tests/abi"), 0);
    graft_error err = {0};
    plugin_library *library = NULL;
    cr_assert_eq(plugin_open("plain.so", &library, &err), GRAFT_OK, "%s", err.text);
    plugin_close(library);
}

typedef struct {
    char module[32], text[2][96];
} refusal;

ParameterizedTestParameters(host, refuses) {
    static refusal cases[] = {
        {"newer-plugin",    {"its graft_plugin uses a field at byte 40", "contract v0.0"}               },
        {"newer-component", {"component 'newer': its graft_component uses a field", "needs a newer one"}},
        {"newer-option",    {"its graft_option uses a field", "needs a newer one"}                      },
        {"newer-slot",      {"its graft_slot uses a field", "needs a newer one"}                        },
        {"newer-field",     {"its graft_field uses a field", "needs a newer one"}                       },
        {"newer-functions", {"its graft_adapter uses a field", "needs a newer one"}                     },
        {"stranger",        {"exports no graft_plugin_v0", "stranger.so"}                               },
        {"version-1",       {"built for contract v1 (exports graft_plugin_v1)", "speaks v0"}            },
        {"pointers",        {"pointers of 4 bytes", "pointers.so"}                                      },
        {"null",            {"its graft_plugin is NULL", ""}                                            },
        {"no-size",         {"its graft_adapter says it has 0 bytes", "sizeof(graft_adapter)"}          },
        {"empty",           {"declares no component", ""}                                               },
        {"negative",        {"-1 rows", "graft_component"}                                              },
        {"kind-2",          {"its kind is 'graft.adapter/2'", "graft.adapter/1"}                        },
        {"no-name",         {"component 'NULL'", "its name must be letters"}                            },
        {"no-functions",    {"its graft_adapter is NULL", "component 'plain'"}                          },
        {"no-backward",     {"lacks the function `backward`", "component 'plain'"}                      },
        {"bad-option",      {"option 'rank'", "default 8 is outside its bounds 1 to 4"}                 },
        {"bad-slot",        {"slot 'dx' has the name of something that the core brings", ""}            },
        {"bad-stride",      {"the stride of its table of graft_slot is 4 bytes", ""}                    },
        {"doubled",         {"two components of this kind and name", "component 'plain'"}               },
        {"lack-quantizer",  {"graft_quantizer lacks the function `dequantize`", ""}                     },
        {"lack-optimizer",  {"graft_optimizer lacks the function `update`", ""}                         },
        {"lack-schedule",   {"graft_schedule lacks the function `factor`", ""}                          },
        {"lack-objective",  {"graft_objective lacks the function `loss`", ""}                           },
        {"lack-loader",     {"graft_loader lacks the function `get`", ""}                               },
        {"missing",         {"cannot read", "missing.so: No such file"}                                 },
    };
    return cr_make_param_array(refusal, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(refusal *r, host, refuses) {
    char path[4096];
    graft_error err = {0};
    plugin_library *library = NULL;
    cr_assert_neq(plugin_open(module(path, r->module), &library, &err), GRAFT_OK, "%s", r->module);
    cr_assert_null(library);
    for (int i = 0; i < 2; i++)
        cr_assert(strstr(err.text, r->text[i]), "%s: '%s' is not in: %s", r->module, r->text[i], err.text);
    cr_assert(strstr(err.text, path), "the file is named: %s", err.text);
}

/* ---- files that are no shared object, or only part of one ---- */

static void expect_refused(const char *bytes, int64_t count, const char *text) {
    char path[] = "/tmp/graft-host-XXXXXX";
    close(mkstemp(path));
    graft_error err = {0};
    cr_assert_eq(file_write(path, bytes, count, &err), GRAFT_OK, "%s", err.text);
    plugin_library *library = NULL;
    cr_expect_neq(plugin_open(path, &library, &err), GRAFT_OK);
    cr_expect(strstr(err.text, text) && strstr(err.text, path), "%s", err.text);
    unlink(path);
}

Test(host, refuses_what_is_no_shared_object) {
    expect_refused("", 0, "no shared object");
    expect_refused("#!/bin/sh\n", 10, "no shared object");
    expect_refused("\x7f"
                   "ELF",
                   4, "no shared object");
    graft_error err = {0};
    plugin_library *library = NULL;
    cr_assert_neq(plugin_open("/tmp", &library, &err), GRAFT_OK);
    cr_assert(strstr(err.text, "no shared object"), "%s", err.text);
}

Test(host, refuses_a_shared_object_that_was_cut_short) {
    char path[4096], *bytes;
    int64_t size;
    graft_error err = {0};
    cr_assert_eq(file_read(module(path, "plain"), 1 << 26, &bytes, &size, &err), GRAFT_OK, "%s", err.text);
    expect_refused(bytes, 64, "cut short");
    expect_refused(bytes, 200, "cut short");
    expect_refused(bytes, 4097, "cut short");
    free(bytes);
}
