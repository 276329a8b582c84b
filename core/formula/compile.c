/* compile — a program: its statements one after the other, each parsed, checked and turned into steps. */
#include "formula/parts.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static formula *program_new(const formula_scope *scope) {
    assert(scope->tensor_count >= 0 && scope->tensor_count <= FORMULA_TENSORS && scope->number_count <= INT16_MAX);
    formula *const f = mem_new(1, sizeof *f);
    f->tensor_count = scope->tensor_count;
    f->number_count = scope->number_count;
    f->temp_bytes = scope->real == F32 ? 4 : 8;
    f->tensors = arena_new(&f->memory, (size_t)scope->tensor_count + 1, sizeof *f->tensors);
    for (int32_t i = 0; i < scope->tensor_count; i++) {
        const formula_tensor *const t = &scope->tensors[i];
        f->tensors[i] = (tensor_info){t->kind, t->type, t->store, t->activation};
    }
    f->where = arena_copy(&f->memory, scope->where ? scope->where : "", scope->where ? strlen(scope->where) : 0);
    return f;
}

static int is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int compile_statements(formula *f, statement *s, const char *text, const formula_scope *scope, int32_t flags,
                              graft_error *err) {
    int32_t number = 0;
    for (int32_t begin = 0;; begin++) {
        int32_t next = begin + (int32_t)strcspn(text + begin, ";"), end = next;
        while (begin < end && is_space(text[begin]))
            begin++;
        while (begin < end && is_space(text[end - 1]))
            end--;
        if (begin < end) {
            statement_open(s, text, begin, end, scope, err);
            if (parse_statement(s) || check_statement(s) || lower_statement(f, s, number++, flags)) return GRAFT_FAILED;
        }
        if (!text[next]) return 0;
        begin = next;
    }
}

int formula_compile_as(const char *text, const formula_scope *scope, int32_t flags, formula **out, graft_error *err) {
    graft_error local = {0};
    statement *const s = mem_grow(NULL, 1, sizeof *s);
    formula *f = program_new(scope);
    if (!err) err = &local;
    *out = NULL;
    if (err->code == GRAFT_OK && strlen(text) >= FORMULA_TEXT)
        fail(err, GRAFT_FAILED, "%s%sa formula may have %d characters, this one has %zu", f->where,
             *f->where ? ": " : "", FORMULA_TEXT - 1, strlen(text));
    if (err->code != GRAFT_OK || compile_statements(f, s, text, scope, flags, err)) {
        formula_free(f);
        f = NULL;
    }
    free(s);
    *out = f;
    return err->code;
}

int formula_compile(const char *text, const formula_scope *scope, formula **out, graft_error *err) {
    return formula_compile_as(text, scope, 0, out, err);
}

void formula_free(formula *f) {
    if (!f) return;
    free(f->code), free(f->numbers), free(f->constants);
    arena_free(&f->memory);
    free(f);
}

static int64_t rounded(int64_t bytes) {
    return (bytes + 63) & ~(int64_t)63;
}

int64_t formula_scratch(const formula *f, int64_t rows) {
    int64_t most = 0;
    for (const program_statement *s = f->statements; s; s = s->next) {
        int64_t bytes = 0;
        for (int32_t t = 0; t < s->temps; t++)
            bytes += rounded(extent_value(s->temp[t], rows) * f->temp_bytes);
        most = bytes > most ? bytes : most;
    }
    return most;
}

void formula_uses(const formula *f, uint64_t *reads, uint64_t *writes) {
    *reads = f->reads;
    *writes = f->writes;
}
