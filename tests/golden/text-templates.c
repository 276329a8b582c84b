/* templates — 70 real chat templates against Jinja2 under Hugging Face's settings: the same text, byte for byte, or an error where
 * Jinja raises one. */
#include "base/json.h"
#include "text/template.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *context_of(const json_t *conversation) {
    json_t *context = json_copy((json_t *)(uintptr_t)conversation);
    json_object_set_new(context, "bos_token", json_string("<s>"));
    json_object_set_new(context, "eos_token", json_string("</s>"));
    return context;
}

static void check(const char *name, const char *which, const chat_template *t, const json_t *conversation,
                  const json_t *want) {
    graft_error err = {0};
    template_rendering got = {0};
    json_t *context = context_of(conversation);
    template_render(t, context, 1721952000, &got, &err); /* 2024-07-26 00:00 UTC */
    const char *text = json_string_value(json_object_get(want, "output"));
    if (!text)
        cr_expect(err.code, "%s %s: Jinja raises an error", name, which);
    else if (err.code)
        cr_expect(0, "%s %s: %s", name, which, err.text);
    else
        cr_expect_str_eq(got.text.text ? got.text.text : "", text, "%s %s", name, which);
    json_decref(context);
    template_rendering_free(&got);
}

Test(templates, real_templates_render_as_in_jinja) {
    static const char path[] = SHARED_DIR "/chat/renders.json";
    graft_error err = {0};
    json_t *file = NULL;
    setenv("TZ", "UTC", 1);
    if (access(path, R_OK)) {
        fprintf(stderr, "skipped: %s is not there\n", path);
        cr_skip_test();
    }
    cr_assert_eq(json_read_file(path, 0, &file, &err), 0, "%s", err.text);
    const json_t *conversations = json_object_get(file, "conversations");
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(file, "templates"), i, row) {
        const char *name = json_string_value(json_object_get(row, "name")), *which;
        const json_t *source = json_object_get(row, "template");
        chat_template *t = NULL;
        err = (graft_error){0};
        template_compile(json_string_value(source), json_string_length(source), name, &t, &err);
        cr_expect(t, "%s", err.text);
        json_t *want;
        json_object_foreach(json_object_get(row, "renders"), which, want) {
            if (t) check(name, which, t, json_object_get(conversations, which), want);
        }
        template_free(t);
    }
    json_decref(file);
}
