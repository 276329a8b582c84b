/* elsewhere — what settings are called in PEFT, TRL, Axolotl and the Trainer of transformers, for those who bring them along. */
#ifndef GRAFT_CONFIG_ELSEWHERE_H
#define GRAFT_CONFIG_ELSEWHERE_H

typedef struct {
    const char *theirs, *section, *ours;
} elsewhere_name;

/* The entry of a key that others use, NULL when it is not known. Any thread. */
const elsewhere_name *elsewhere_find(const char *key);

#endif
