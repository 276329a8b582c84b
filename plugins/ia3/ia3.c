/* ia3 — Infused Adapter by Inhibiting and Amplifying Inner Activations. Liu et al., 2022, arXiv:2205.05638
 *
 *   y = (x·Wᵀ + b) ⊙ l      l (out, 1)   keys and values: what attention sees is scaled
 *   y = (x ⊙ l)·Wᵀ + b      l (1, in)    modules in `feedforward`: the hidden units of the MLP are scaled
 *
 * One number for each feature, all ones at the start: the model is unchanged. LoRA adds directions, IA3 only turns existing
 * features up and down, with a hundredth of the parameters. Merged it scales rows or columns of W and costs nothing.
 *
 * Both kinds are one slot: at a LINEAR point y is scaled after the product, at an INPUT point x before it. */
#include <graft/graft.h>
#include <string.h>

typedef struct {
    const char *feedforward;
} ia3;

static const graft_option options[] = {
    GRAFT_OPTION_TEXT(ia3, feedforward, "down_proj, mlp.c_proj",
                      "modules whose input is scaled instead of their output", "feedforward_modules"),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_PARAM("l", "linear ? out : 1, linear ? 1 : in", "l = 1", "ia3_l", NULL),
    GRAFT_SLOT_KEPT("z", "rows, linear * out"), /* y before it is scaled */
};

static const graft_field fields[] = {
    {"peft_type",        "IA3"},
    {"init_ia3_weights", "*"  },
};

/* 1 when the module's path is, or ends behind a dot with, one of the names between commas. */
static int is_named(const char *path, const char *names) {
    const size_t length = strlen(path);
    for (names += strspn(names, ", "); *names; names += strspn(names, ", ")) {
        const size_t n = strcspn(names, ", ");
        if (n <= length && strncmp(path + length - n, names, n) == 0 && (n == length || path[length - n - 1] == '.'))
            return 1;
        names += n;
    }
    return 0;
}

static void bind(graft_call *c) {
    const ia3 *self = c->self;
    const int32_t wanted = is_named(c->site->name, self->feedforward) ? GRAFT_INPUT : GRAFT_LINEAR;
    if (c->site->onehot)
        c->services->refuse(c, "an embedding has no activations to scale");
    else if (c->site->kind != wanted)
        c->services->refuse(c, wanted == GRAFT_INPUT ? "its input is scaled" : "its output is scaled");
}

static void forward(graft_call *c) {
    if (c->site->kind == GRAFT_LINEAR) {
        graft_run(c, "z[n,o]  = y[n,o]");
        graft_run(c, "y[n,o] *= l[o,0]");
    } else {
        graft_run(c, "y[n,i]  = x[n,i] * l[0,i]");
    }
}

static void backward(graft_call *c) {
    if (c->site->kind == GRAFT_LINEAR) {
        graft_run(c, "dl[o,0] += dy[n,o] * z[n,o]"); /* ∂y/∂l = z        */
        graft_run(c, "dy[n,o] *= l[o,0]");           /* ∂y/∂z = l        */
    } else {
        graft_run(c, "dl[0,i] += dy[n,i] * x[n,i]"); /* ∂y/∂l = x        */
        graft_run(c, "dx[n,i] += dy[n,i] * l[0,i]"); /* ∂y/∂x = l        */
    }
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_LINEAR | GRAFT_INPUT,
    .flags = GRAFT_LINEAR_IN_X | GRAFT_SILENT_AT_INIT,
    .bind = bind,
    .forward = forward,
    .backward = backward,
    .targets = "k_proj, v_proj, down_proj, c_attn, mlp.c_proj, qkv_proj",
};

static const graft_component ia3_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "ia3",
    .doc = "scales keys, values and hidden units by trained numbers",
    .paper = "Liu et al., 2022, arXiv:2205.05638",
    .config_size = sizeof(ia3),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(ia3_component, "0.1.0")
