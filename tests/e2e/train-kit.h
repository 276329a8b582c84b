/* train-kit — a small model, fixed batches and INI files made on the spot, and the program run on them. */
#ifndef GRAFT_TESTS_TRAIN_KIT_H
#define GRAFT_TESTS_TRAIN_KIT_H
#include <stdint.h>
#include <sys/types.h>

/* A folder with model/ (two blocks, random weights) and batches.safetensors (`steps` steps of 4 rows of 24 tokens, some padded,
 * some not to be learned; 3 validation rows). Ends the test when it cannot be made. Owned by the caller. */
char *kit_make(int steps);
void kit_remove(char *folder);

/* Writes FOLDER/NAME.ini for the output FOLDER/NAME: model, data and output are filled in, `sections` is the rest. */
void kit_ini(const char *folder, const char *name, const char *sections);

/* Runs `graft train FOLDER/NAME.ini OPTIONS`; its exit code, its messages in *text (owned by the caller; may be NULL). */
int kit_train(const char *folder, const char *name, const char *options, char **text);
/* The same without waiting; the process. */
pid_t kit_start(const char *folder, const char *name, const char *options);

/* Runs `graft WORDS` in FOLDER by a shell; its exit code, stdout and stderr together in *text (owned by the caller; may be NULL). */
int kit_graft(const char *folder, const char *words, char **text);

/* Whether FOLDER/A/FILE and FOLDER/B/FILE hold the same bytes; the test fails when one cannot be read. */
int kit_same(const char *folder, const char *a, const char *b, const char *file);
int kit_has(const char *folder, const char *path);
/* All of FOLDER/PATH as text; owned by the caller. */
char *kit_read(const char *folder, const char *path);

/* Tensor NAME of FOLDER/FILE as f32, *count numbers; owned by the caller. */
float *kit_tensor(const char *folder, const char *file, const char *name, int64_t *count);

#endif
