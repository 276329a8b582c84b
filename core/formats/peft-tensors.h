/* peft-tensors — the tensors of an adapter folder: their names, and whether a file holds exactly what an adapter needs.
 * Source: PEFT, utils/save_and_load.py; specs/peft.md 4.7. */
#ifndef GRAFT_FORMATS_PEFT_TENSORS_H
#define GRAFT_FORMATS_PEFT_TENSORS_H
#include "formats/safetensors.h"

/* The name of a tensor in the file, owned by the caller. `file` is what stands behind the module path ("lora_A.weight":
 * base_model.model.MODULE.lora_A.weight; a bias of a module that carries an adapter: "base_layer.bias"), or a whole
 * name: when it begins with "base_model.", when there is no module (""), or when it has a placeholder:
 *   {site}, {module}    the module path            {layer}    its number
 *   {parent}, {leaf}    the path in front of its last component, and that: model.layers.0.attn
 *   {branch}            AdapterHub's word for the leaf: attention_adapters of "attn", else output_adapters
 *   {name}              the adapter's name */
char *peft_tensor_name(const char *module, const char *file, int64_t layer, const char *name);

/* The file that holds the tensors of an adapter of this peft_type. */
const char *peft_tensors_file(const char *type);

/* One tensor an adapter needs. Shapes count whole: (n, 1) and (1, n) of IA3 scale different things. */
typedef struct {
    const char *name;
    int rank;
    int64_t shape[TENSOR_RANK_MAX];
    int optional;             /* 1: the file may lack it */
    const tensor_info *found; /* out: NULL when it is absent */
} peft_tensor;

/* Opens FOLDER/adapter_model.safetensors (AdapterHub: adapter.safetensors). */
int peft_tensors_open(const char *folder, safetensors **out, graft_error *err);

/* Finds every tensor of the list. Missing, mis-shaped, foreign (in the file but not in the list), not floating-point, and
 * twice under two spellings are errors that name tensor, file, and what was expected; all of a kind are counted. Names that
 * kept the adapter's name ("lora_A.default.weight", "lm_head.modules_to_save.default.weight") are known, as is the copy that
 * PEFT makes of a bias of a module to save. */
int peft_tensors_match(const safetensors *st, peft_tensor *list, int64_t count, graft_error *err);

/* Reads elements first .. first + count - 1 of one that was matched as f32; a value that is not finite is an error that names it. */
int peft_tensor_read(const safetensors *st, const tensor_info *t, int64_t first, int64_t count, float *out,
                     graft_error *err);

#endif
