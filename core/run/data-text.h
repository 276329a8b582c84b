/* data-text — a loader plugin's records as the sequences of a run.
 *
 * Opening encodes every record once: errors of the whole file are found then, and what is dropped or cut is told. In memory
 * stay some bytes a record; fetch reads and encodes again what it gives.
 *   validation: eval_path, or a share of the records of each file drawn by the seed (whole records: pieces of one are never on
 *     both sides). It is neither packed nor shuffled.
 *   packing: several documents of a file a row, never longer than max_length; best fit decreasing, or in the order of the file
 *     without shuffle. Document numbers keep them apart.
 *   order: run/data-order.h; the last step of an epoch has what is left. */
#ifndef GRAFT_RUN_DATA_TEXT_H
#define GRAFT_RUN_DATA_TEXT_H
#include "run/data-order.h"
#include "run/data.h"
#include "run/recipe.h"
#include "text/collect.h"
#include "text/fields.h"

/* `model_folder` has tokenizer.json and says which tokens end a text. Its digest is that of texts and tokens; settings are
 * compared by name (run/settings.h). GRAFT_USAGE where a setting is to blame. *out is released with its close; the recipe
 * must outlive it. */
int data_text_open(const recipe *r, const char *model_folder, data_source **out, graft_error *err);
/* Logs how much there is to train on, and to validate on; validation: that alone. */
void data_text_tell(const data_source *s, int validation);

typedef struct {
    source *source;
    sample_counts counts; /* duplicates 0: they are counted over all files */
    field_report fields;
} data_text_file;

/* What was found in the files; of a source that data_text_open gave. Texts are borrowed from it. */
typedef struct {
    sample_counts train, eval;   /* with eval_split `train` counts the whole file and `eval` nothing */
    const data_text_file *files; /* those to train on, then those to validate on */
    int32_t train_files, eval_files;
    const order_rules *order; /* of the rows of the training set */
    const sample_list *train_list, *eval_list;
    int64_t rows, row_tokens; /* after packing; the most tokens a row may have                    */
    const tokenizer *words;
    const text_ends *ends;
    const char *chat_origin; /* where the chat template comes from, NULL: there is none          */
    const char *chat_source; /* chat_source() of it */
    int32_t by_tags;         /* 1: it says itself what answers are ({% generation %})            */
    const chat *chat;        /* NULL: there is none ...                                          */
    const char *no_chat;     /* ... as this says                                                 */
} data_text_view;
void data_text_look(const data_source *s, data_text_view *out);

/* The record of validation sequence `i`; valid until the source is used again. */
int data_text_record(data_source *s, int64_t i, const text_record **out, graft_error *err);

/* Sample `i` of the training set as it is trained on: its tokens, and in *piece where that piece of them lies. `out` is the
 * source's and valid until it is used again. */
typedef struct {
    const text_sample *whole;
    sample_cut cut;
    int64_t record; /* of file number `file` */
    int32_t file;
} data_text_piece;
int data_text_sample(data_source *s, int64_t i, data_text_piece *out, graft_error *err);

/* The share of padding that the batches of the first epoch would have if they were padded; grouped: by length. */
double data_text_padding(const data_source *s, int grouped);

#endif
