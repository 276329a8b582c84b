/* base-digest — base.json beside an adapter whose numbers make sense on one base alone (LoftQ, PiSSA, OLoRA: their first values are
 * parts of it), and in a folder that `graft quantize` wrote. Other programs overlook it.
 *
 *   adapter            {"weights": digest of the base it belongs to}
 *   quantized folder   {"quantized_from": digest of the model it was made from}
 *   LoftQ's base       {"corrected_from": digest of the model it was made from} */
#ifndef GRAFT_RUN_BASE_DIGEST_H
#define GRAFT_RUN_BASE_DIGEST_H
#include "base/error.h"

/* FOLDER/base.json: `key` is the digest of the weights in the folder `base`. */
int base_digest_write(const char *folder, const char *key, const char *base, graft_error *err);
/* An error when the adapter names other weights than the base holds, or than it was quantized from. */
int base_digest_check(const char *adapter, const char *base, graft_error *err);

#endif
