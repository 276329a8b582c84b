/* doctor — the label doctor: what a run will see of its data, and what of that can only fail.
 *
 * Refused before a run, unless [data] allow names it:
 *   doubled_bos   conversations that begin with two BOS tokens
 *   no_eos        conversations, or completions of prompts, of which none teaches a token at which generation stops: the
 *                 template or `append_eos = no` writes none, or max_length cuts all of them off. Texts without a prompt
 *                 may go without, as in pretraining; a remark counts them. Models that name no end token are warned about
 * A file without anything to learn is refused when it is opened (run/data-text.h). */
#ifndef GRAFT_RUN_DOCTOR_H
#define GRAFT_RUN_DOCTOR_H
#include "base/json.h"
#include "run/data-text.h"
#include <stdio.h>

/* `s` is a source of data_text_open. GRAFT_USAGE with the reasons and how to override them. training 0: what is measured alone
 * need not teach an end. */
int doctor_check(const recipe *r, const data_source *s, int training, graft_error *err);

/* Counts of both sets, remarks, and `show` samples, the first ones of each file in turn. *out is owned by the caller. */
int doctor_json(const recipe *r, data_source *s, int64_t show, json_t **out, graft_error *err);
/* The same for people. color: 1 = what is learned is green, what is cut off red; 0 = what is learned stands in [[ ]]. */
int doctor_print(const recipe *r, data_source *s, int64_t show, int color, FILE *to, graft_error *err);

#endif
