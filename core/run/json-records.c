/* json-records — see json-records.h. */
#include "run/json-records.h"
#include <string.h>

static int64_t count(graft_source *s) {
    return s->services->records(s, GRAFT_UNIT_JSON);
}

static void get(graft_source *s, int64_t i) {
    int64_t length;
    const char *text = s->services->record(s, i, &length);
    if (text) s->services->add(s, GRAFT_PART_TEXT, text, length);
}

static const graft_loader loader = {.size = sizeof loader, .count = count, .get = get};

int json_records_open(const char *path, source **out, graft_error *err) {
    return source_open(&loader, NULL, path, out, err);
}

int json_records_get(source *s, int64_t i, json_t **out, graft_error *err) {
    text_record record = {0};
    graft_error why = {0};
    *out = NULL;
    if (source_get(s, i, &record, err) == GRAFT_OK &&
        json_read_text(record.text.text ? record.text.text : "", record.text.length, "the record",
                       JSON_LENIENT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, out, &why))
        source_blame(s, why.text, err);
    record_free(&record);
    if (!err->code && !json_is_object(*out)) source_blame(s, "the record is no JSON object", err);
    if (err->code) {
        json_decref(*out);
        *out = NULL;
    }
    return err->code;
}

const json_t *json_records_field(const json_t *record, const char *names) {
    for (const char *at = names; *at;) {
        const size_t length = strcspn(at, ",");
        const json_t *value = json_object_getn(record, at, length);
        if (value && !json_is_null(value)) return value;
        at += length + (at[length] == ',');
    }
    return NULL;
}
