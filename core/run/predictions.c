/* predictions — see predictions.h. */
#include "run/predictions.h"
#include "run/json-records.h"
#include <stdlib.h>
#include <string.h>

void predictions_free(prediction_list *p) {
    for (int64_t i = 0; i < p->count; i++)
        free(p->sets[i].records);
    free(p->sets);
    arena_free(&p->memory);
    *p = (prediction_list){0};
}

static prediction_set *set_of(prediction_list *p, const char *model) {
    for (int64_t i = 0; i < p->count; i++)
        if (strcmp(p->sets[i].model, model) == 0) return &p->sets[i];
    mem_reserve(p->sets, p->count, p->capacity);
    p->sets[p->count] = (prediction_set){.model = arena_copy(&p->memory, model, strlen(model))};
    return &p->sets[p->count++];
}

static metric_text copy(prediction_list *p, const json_t *text) {
    const size_t length = json_string_length(text);
    return (metric_text){arena_copy(&p->memory, json_string_value(text), length), (int64_t)length};
}

static int add(prediction_list *p, const char *path, source *file, const json_t *record, graft_error *err) {
    const json_t *answer = json_records_field(record, "prediction,response,hypothesis,output"),
                 *wanted = json_records_field(record, "references,reference,target,answer"),
                 *model = json_object_get(record, "model");
    const int64_t count = json_is_array(wanted) ? (int64_t)json_array_size(wanted) : 1;
    if (!json_is_string(answer) || !wanted || count < 1)
        return source_blame(file, "a record has a prediction (a text) and references (a list of texts)", err);
    metric_text *const references = arena_new(&p->memory, (size_t)count, sizeof *references);
    for (int64_t i = 0; i < count; i++) {
        const json_t *one = json_is_array(wanted) ? json_array_get(wanted, (size_t)i) : wanted;
        if (!json_is_string(one)) return source_blame(file, "a reference is no text", err);
        references[i] = copy(p, one);
    }
    prediction_set *const set = set_of(p, json_is_string(model) ? json_string_value(model) : path);
    mem_reserve(set->records, set->count, set->capacity);
    set->records[set->count++] = (metric_record){copy(p, answer), references, count, NULL};
    return GRAFT_OK;
}

int predictions_read(const char *path, prediction_list *out, graft_error *err) {
    source *file = NULL;
    json_records_open(path, &file, err);
    for (int64_t i = 0; !err->code && i < source_count(file); i++) {
        json_t *record = NULL;
        if (json_records_get(file, i, &record, err) == GRAFT_OK) add(out, path, file, record, err);
        json_decref(record);
    }
    source_close(file);
    return err->code;
}
