/* fields — see fields.h. */
#include "text/fields.h"
#include <graft/graft.h>
#include <string.h>

int32_t field_number(field_report *r, const char *name) {
    int64_t number;
    const size_t length = strlen(name);
    if (strmap_get(&r->numbers, name, length, &number)) return (int32_t)number;
    if (r->count == FIELDS_MOST) {
        r->unnamed++;
        return -1;
    }
    strmap_put(&r->numbers, name, length, r->count);
    r->names[r->count] = arena_copy(&r->memory, name, length);
    return r->count++;
}

void field_report_record(field_report *r, const field_kind *record) {
    for (int32_t i = 0; i < r->count; i++)
        r->used[i] += record->fields >> i & 1;
    for (int32_t k = 0; k < r->kind_count; k++)
        if (r->kinds[k].fields == record->fields && r->kinds[k].parts == record->parts) {
            r->kinds[k].records++;
            return;
        }
    if (r->kind_count == FIELD_KINDS_MOST) {
        r->other_kinds++;
        return;
    }
    r->kinds[r->kind_count] = *record;
    r->kinds[r->kind_count++].records = 1;
}

void field_report_free(field_report *r) {
    strmap_free(&r->numbers);
    arena_free(&r->memory);
    *r = (field_report){0};
}

static int uses(const field_report *r, const field_kind *k, const char *name) {
    for (int32_t i = 0; i < r->count; i++)
        if (k->fields >> i & 1 && strcmp(r->names[i], name) == 0) return 1;
    return 0;
}

static int has(const field_report *r, const char *name) {
    int64_t number;
    return strmap_get(&r->numbers, name, strlen(name), &number);
}

const char *field_kind_name(const field_report *r, const field_kind *k) {
    if (uses(r, k, "chosen")) return has(r, "rejected") ? "chosen and rejected" : "chosen";
    if (uses(r, k, "conversations")) return "ShareGPT";
    if (uses(r, k, "messages")) return "messages";
    if (uses(r, k, "instruction")) return "Alpaca";
    if (k->parts >> GRAFT_PART_MESSAGES & 1)
        return k->parts >> GRAFT_PART_COMPLETION & 1 ? "conversation and completion" : "conversation";
    return k->parts >> GRAFT_PART_COMPLETION & 1 ? "prompt and completion" : "text";
}
