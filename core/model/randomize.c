/* randomize — the weights of a new model: normal draws for matrices, neutral norms, biases of 0. Each number is a function of the
 * seed, the tensor's name and its place. */
#include "model/model-private.h"
#include <string.h>

/* FNV-1a: the stream of a tensor's draws is its name. */
static uint64_t name_hash(const char *name) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

/* target = normal·std, or a constant. */
static void fill(kernels *k, void *dev, dtype type, int64_t n, uint64_t seed, uint64_t stream, double std,
                 double constant) {
    static const map_instruction draw[] =
        {
            {MAP_NORMAL, 0},
            {MAP_NUMBER, 0},
            {MAP_MUL,    0}
    },
                                 plain[] = {{MAP_NUMBER, 1}};
    const double numbers[] = {std, constant};
    const map_program program = {.indices = 1,
                                 .kept = 1,
                                 .operands = 1,
                                 .numbers = 2,
                                 .length = std > 0 ? 3 : 1,
                                 .code = std > 0 ? draw : plain};
    const map_call call = {.extent = {n},
                           .operand = {{.data = dev, .type = type, .stride = {1}}},
                           .numbers = numbers,
                           .seed = seed,
                           .stream = stream};
    k->map(k, &program, &call);
}

int model_randomize(model *m, kernels *device, uint64_t seed, graft_error *err) {
    graft_error own = {0};
    err = err ? err : &own;
    if (model_begin_device(m, device, device->real, err)) return err->code;
    for (int32_t i = 0; i < m->tensor_count && !err->code; i++) {
        base_tensor *t = &m->tensors[i];
        if (t->tied_to >= 0 || tensor_allocate(m, t, err)) continue;
        const size_t length = strlen(t->name);
        const int bias = length > 5 && strcmp(t->name + length - 5, ".bias") == 0;
        const double constant = bias || m->shape.norm == NORM_RMS_ONE_PLUS ? 0 : 1;
        if (t->in)
            fill(device, t->trained ? t->master : t->w.data, t->trained ? device->real : t->w.type, tensor_count_of(t),
                 seed, name_hash(t->name), m->shape.initializer_range, 0);
        else
            fill(device, t->vector, device->real, t->out, 0, 0, 0, constant);
        if (t->in && !t->trained) tensor_pack(m, t);
    }
    if (!err->code) model_refresh(m);
    return err->code;
}
