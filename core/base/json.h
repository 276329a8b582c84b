/* json — jansson with graft's errors: the file, the line and the column stand in every message. */
#ifndef GRAFT_BASE_JSON_H
#define GRAFT_BASE_JSON_H
#include "error.h"
#include <jansson.h>
#include <stdint.h>

/* Huge integers (model_max_length: 1000000000000000019884624838656) are read as reals with JSON_DECODE_INT_AS_REAL;
 * pass it in `flags` for tokenizer_config.json. JSON_ALLOW_NUL and JSON_REJECT_DUPLICATES are always on unless LENIENT. */
enum { JSON_LENIENT_DUPLICATES = 1 << 30 };
int json_read_file(const char *path, size_t flags, json_t **out,
                   graft_error *err); /* at most 1 GiB; json_decref by the caller */
int json_read_text(const char *text, size_t length, const char *name, size_t flags, json_t **out, graft_error *err);
int json_write_file(const char *path, const json_t *value, size_t flags,
                    graft_error *err); /* atomic; flags as json_dumps; reals as short as they read back */

/* Typed look-ups in an object. `what` names the file for the message. A missing key or null gives the default;
 * a wrong type is an error that names key, found type and wanted type. Whole reals (28.0) count as integers. */
int json_get_int(const json_t *object, const char *what, const char *key, int64_t fallback, int64_t *out,
                 graft_error *err);
int json_get_real(const json_t *object, const char *what, const char *key, double fallback, double *out,
                  graft_error *err);
int json_get_bool(const json_t *object, const char *what, const char *key, int fallback, int *out, graft_error *err);
int json_get_text(const json_t *object, const char *what, const char *key, const char *fallback, const char **out,
                  graft_error *err); /* borrowed from object */

#endif
