/* data-open — which source. */
#include "run/data-open.h"
#include "run/data-text.h"
#include "run/doctor.h"
#include <string.h>

int data_open(const recipe *r, const session *s, int validation, data_source **out, graft_error *err) {
    if (strcmp(r->data.loader, "tensors") == 0) return data_tensors_open(r->data.path, out, err);
    if (data_text_open(r, model_folder(s->model), out, err)) return err->code;
    data_text_tell(*out, validation);
    if (doctor_check(r, *out, !validation, err) == GRAFT_OK) return GRAFT_OK;
    (*out)->close(*out);
    *out = NULL;
    return err->code;
}
