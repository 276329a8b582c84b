/* template — compiles templates and renders them; see template.h. */
#include "text/template-private.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void render_fail(rendering *r, const char *format, ...) {
    char text[600];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fail(r->err, GRAFT_FAILED, "%s line %d: %s", r->t->name, r->line, text);
}

void render_step(rendering *r, int64_t count) {
    r->steps += count;
    if (r->steps > TEMPLATE_STEPS) render_fail(r, "the template takes more than %d steps", TEMPLATE_STEPS);
}

int template_compile(const char *source, size_t length, const char *name, chat_template **out, graft_error *err) {
    chat_template *t = mem_new(1, sizeof *t);
    t->name = arena_copy(&t->memory, name, strlen(name));
    if (length > TEMPLATE_OUTPUT)
        fail(err, GRAFT_FAILED, "%s: a template of %zu bytes; at most %d MB", name, length, TEMPLATE_OUTPUT >> 20);
    else
        t->body = template_parse(t, source, length, err);
    if (err->code) {
        template_free(t);
        return err->code;
    }
    *out = t;
    return GRAFT_OK;
}

void template_free(chat_template *t) {
    if (!t) return;
    arena_free(&t->memory);
    free(t);
}

int template_has_generation(const chat_template *t) {
    return t->generation;
}

static void read_context(rendering *r, const json_t *context) {
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)context, key, item) {
        value v;
        if (strcmp(key, "messages") == 0 && json_is_array(item)) {
            size_t i;
            json_t *message;
            v = value_new_list(r, V_LIST);
            json_array_foreach(item, i, message) list_add(r, v, value_from_json(r, message, (int32_t)i));
        } else {
            v = value_from_json(r, item, -1);
        }
        set_name(r, r->now, key, v);
    }
}

int template_render(const chat_template *t, const json_t *context, time_t now, template_rendering *out,
                    graft_error *err) {
    sink main_sink = {0};
    rendering r = {.t = t, .out = &main_sink, .outer = &main_sink, .result = out, .err = err};
    r.clock = now ? now : time(NULL);
    out->text.length = 0;
    out->generation_count = out->said_count = 0;
    r.now = frame_new(&r, NULL);
    read_context(&r, context);
    r.now = frame_new(&r, r.now); /* what the template sets */
    run_body(&r, t->body);
    strbuf_add(&out->text, main_sink.text.text ? main_sink.text.text : "", main_sink.text.length);
    for (const mark *m = main_sink.marks; m; m = m->next) {
        mem_reserve(out->said, out->said_count, out->said_capacity);
        out->said[out->said_count++] = (template_span){(int64_t)m->begin, (int64_t)m->end, m->message};
    }
    strbuf_free(&main_sink.text);
    arena_free(&r.memory);
    return err->code;
}

void template_rendering_free(template_rendering *r) {
    strbuf_free(&r->text);
    free(r->generation);
    free(r->said);
    *r = (template_rendering){0};
}
