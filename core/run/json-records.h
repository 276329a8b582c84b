/* json-records — the records of a JSON or JSONL file as JSON, one at a time: what `graft eval` reads beside training data. */
#ifndef GRAFT_RUN_JSON_RECORDS_H
#define GRAFT_RUN_JSON_RECORDS_H
#include "base/json.h"
#include "text/source.h"

/* A source (text/source.h) whose records are the file's own text. Closed with source_close. */
int json_records_open(const char *path, source **out, graft_error *err);
/* Record i, an object. *out is owned by the caller. The error names file and line. */
int json_records_get(source *s, int64_t i, json_t **out, graft_error *err);

/* The first of the names, separated by commas, that the record has; NULL: none. */
const json_t *json_records_field(const json_t *record, const char *names);

#endif
