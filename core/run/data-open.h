/* data-open — the data source that a recipe names. */
#ifndef GRAFT_RUN_DATA_OPEN_H
#define GRAFT_RUN_DATA_OPEN_H
#include "run/data.h"
#include "run/recipe.h"
#include "run/session.h"

/* [data] loader = tensors: run/data.h; any other loader: texts through the tokenizer of the session's model; what
 * can only fail is refused (run/doctor.h). validation: that set alone is wanted, and told. */
int data_open(const recipe *r, const session *s, int validation, data_source **out, graft_error *err);

#endif
