/* model-case — a folder of golden/models as a test sees it: the model on a device, its batch as rows, the reference numbers.
 * Every helper stops the test with a message when something is not there. */
#ifndef GRAFT_TESTS_MODEL_CASE_H
#define GRAFT_TESTS_MODEL_CASE_H
#include "formats/safetensors.h"
#include "model/model.h"
#include <jansson.h>

typedef struct {
    char *folder;
    const char *name; /* the folder's last part, for messages */
    json_t *meta;     /* case.json */
    safetensors *data, *grads;
    int64_t B, T, V;
    /* the batch */
    int64_t rows, documents, targets;
    int32_t *ids, *positions, *target;
    int64_t *start, *place; /* place[row]: b·T + t */
    model_rows in;
} model_case;

/* Folders of cases: the shared ones when they are there, else those committed with the tests. NULL-terminated. */
char **case_folders(void);
void case_open(model_case *c, const char *folder);
void case_close(model_case *c);
/* Fills the batch from c->data (input_ids, labels, attention_mask, position_ids, document_ids). */
void case_read_batch(model_case *c);

double case_number(const model_case *c, const char *key);    /* of case.json */
double case_tolerance(const model_case *c, const char *key); /* of its tolerances */
/* A tensor as f32 or as i64, NULL when the file has none; freed by the caller. */
float *tensor_f32(const safetensors *st, const char *name, int64_t *count);
int64_t *tensor_i64(const safetensors *st, const char *name, int64_t *count);

void download_real(kernels *k, double *to, const void *dev, int64_t n); /* n reals of the device */
kernels *device_open(const char *name);                                 /* one thread */

/* A model loaded on a device, with a workspace for `rows` rows. */
typedef struct {
    kernels *k;
    model *m;
    workspace *w;
} loaded;
enum { TRAIN_ALL = 1, CHECKPOINT = 2, NO_BACKWARD = 4 };
loaded model_loaded(const char *folder, const char *device, dtype activation, int flags, workspace_config c);
void loaded_close(loaded *l);

/* The mean negative log-likelihood with its weights known, and the same told only afterwards (two passes over the head). */
extern const graft_objective mean_nll, mean_nll_late;
/* Loss and gradients (zeroed before) of the rows. */
double train_once(workspace *w, const model_rows *rows, const graft_objective *f, double total);
/* Gradient of a tensor by its place, f64 on the host, in the file's orientation; freed by the caller. */
double *gradient_of(const loaded *l, int32_t tensor);

#endif
