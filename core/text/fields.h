/* fields — which fields the records of a file have, and which of them a loader made its parts of.
 *
 * A field is used when its text was added to the record; one that was only looked at, or not even that, is ignored. Records
 * that use the same fields for the same parts are of one kind. Names beyond the first FIELDS_MOST are counted together, so a file
 * cannot make this grow. */
#ifndef GRAFT_TEXT_FIELDS_H
#define GRAFT_TEXT_FIELDS_H
#include "base/memory.h"

enum { FIELDS_MOST = 64, FIELD_KINDS_MOST = 16 };

typedef struct {
    uint64_t fields; /* bit i: field i is used */
    uint32_t parts;  /* bit GRAFT_PART_... of the record */
    int64_t records;
} field_kind;

/* {0} is empty and valid. */
typedef struct {
    strmap numbers;
    const char *names[FIELDS_MOST];                  /* in the order in which they come */
    int64_t present[FIELDS_MOST], used[FIELDS_MOST]; /* records */
    int32_t count, kind_count;
    int64_t unnamed; /* fields beyond them */
    field_kind kinds[FIELD_KINDS_MOST];
    int64_t other_kinds; /* records of kinds beyond them */
    arena memory;
} field_report;

int32_t field_number(field_report *r, const char *name); /* -1: there are too many */
void field_report_record(field_report *r, const field_kind *record);
void field_report_free(field_report *r); /* and leaves {0} */

/* What people call a kind: "messages", "ShareGPT", "prompt and completion", "Alpaca", "chosen and rejected", "text". Static. */
const char *field_kind_name(const field_report *r, const field_kind *k);

#endif
