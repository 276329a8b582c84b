/* tokenizer-private — what tokenizer.c and tokenizer-encode.c share. */
#ifndef GRAFT_TEXT_TOKENIZER_PRIVATE_H
#define GRAFT_TEXT_TOKENIZER_PRIVATE_H
#include "text/added.h"
#include "text/decode.h"
#include "text/normalize.h"
#include "text/postprocess.h"
#include "text/pretokenize.h"
#include "text/token-model.h"

struct tokenizer {
    normalizer *normalizer;
    pretokenizer *pretokenizer;
    postprocessor *postprocessor;
    decoder *decoder;
    token_model *model;
    added *added;
    int maps_bytes; /* the model knows byte characters, words come as bytes: the pre-tokenizer's last step was taken off */
};

#endif
