/* bottleneck — adapters as they began: a small network behind a sub-block. Houlsby et al., 2019, arXiv:1902.00751;
 * Pfeiffer et al., 2021, arXiv:2005.00247; in parallel: He et al., 2022, arXiv:2110.04366
 *
 *   z = u·Dᵀ + c          h ← h + s · f(z)·Uᵀ + s·e          D (width, in)   U (in, width)   width = in / reduction
 *
 * h is what attention or MLP give back, before it is added to the residual stream t. What the network reads is the choice:
 *   u = h         Houlsby: behind attention and MLP                   (the default; AdapterHub's double_seq_bn)
 *   u = h + t     Pfeiffer: behind the MLP alone, with `sum = yes`    (seq_bn)
 *   u = t         He: beside the sub-block, with `parallel = yes`     (par_bn)
 * The network is not linear, so it cannot be merged into a weight: it costs a little at inference, and can do more.
 *
 * At a BRANCH point x is t and y is h. D and U begin small: the model is nearly unchanged. */
#include <graft/graft.h>
#include <string.h>

typedef struct {
    double reduction, scaling;
    int32_t attention, mlp, sum, parallel, activation, init;
} bottleneck;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(bottleneck, reduction, 16, 1e-3, 1e6, "the width is in / reduction, rounded down",
                      "config.reduction_factor"),
    GRAFT_OPTION_REAL(bottleneck, scaling, 1, -1e6, 1e6, "what the network adds is multiplied by it", "config.scaling"),
    GRAFT_OPTION_BOOL(bottleneck, attention, 1, "one behind attention", "config.mh_adapter"),
    GRAFT_OPTION_BOOL(bottleneck, mlp, 1, "one behind the MLP", "config.output_adapter"),
    GRAFT_OPTION_BOOL(bottleneck, sum, 0, "it reads h + t instead of h", "config.original_ln_before"),
    GRAFT_OPTION_BOOL(bottleneck, parallel, 0, "it reads t instead of h", "config.is_parallel"),
    GRAFT_OPTION_CHOICE(bottleneck, activation, "relu|swish|silu|gelu|gelu_new|tanh|sigmoid", 1, "f",
                        "config.non_linearity"),
    GRAFT_OPTION_CHOICE(bottleneck, init, "bert|mam_adapter|houlsby", 0, "how D and U begin", "config.init_weights"),
};

/* BERT's normal 0.02; zero with a uniform D (He); normal 0.01 cut at two deviations (Houlsby). */
#define BEGIN(name) "; " name " = init == 0 ? 0.02 * " name " : 0.01 * max(-2, min(2, " name "))"
#define DOWN        "D = normal" BEGIN("D") "; D = init == 1 ? uniform(-1, 1) / sqrt(in) : D"
#define UP          "U = normal" BEGIN("U") "; U = init == 1 ? 0 : U"
#define PLACE       "{parent}.{branch}.adapters.{name}."

static const graft_slot slots[] = {
    GRAFT_SLOT_NUMBER("width", "max(1, floor(in / reduction))"),
    GRAFT_SLOT_PARAM("D", "width, in", DOWN, PLACE "adapter_down.0.weight", NULL),
    GRAFT_SLOT_PARAM("c", "width", "c = 0", PLACE "adapter_down.0.bias", NULL),
    GRAFT_SLOT_PARAM("U", "in, width", UP, PLACE "adapter_up.weight", NULL),
    GRAFT_SLOT_PARAM("e", "in", "e = 0", PLACE "adapter_up.bias", NULL),
    GRAFT_SLOT_KEPT("u", "rows, in * !parallel"), /* with `parallel` it is x */
    GRAFT_SLOT_KEPT("z", "rows, width"),
    GRAFT_SLOT_TEMP("a", "rows, width"), /* f(z)                  */
};

/* f and its derivative, in the order of the option's words; 0.797.. = √(2/π), 0.398.. = 1/√(2π). */
#define SWISH                                                                                                          \
    { "a = z * sigmoid(z)", "dz *= sigmoid(z) * (1 + z * (1 - sigmoid(z)))" }
#define CUBE     "a = tanh(0.7978845608028654 * (z + 0.044715 * z * z * z));"
#define CUBE_OF  "0.5 * z * (1 - a * a) * 0.7978845608028654 * (1 + 0.134145 * z * z)"
#define NORMAL   "0.5 * (1 + erf(sqrt(0.5) * z))"
#define NORMAL_P "0.3989422804014327 * exp(-0.5 * z * z)"
static const struct {
    const char *forward, *backward;
} activations[] = {
    {"a = max(z, 0)",              "dz *= z > 0"                        },
    SWISH,
    SWISH,
    {"a = z * " NORMAL,            "dz *= " NORMAL " + z * " NORMAL_P   },
    {CUBE "a = 0.5 * z * (1 + a)", CUBE "dz *= 0.5 * (1 + a) + " CUBE_OF},
    {"a = tanh(z)",                "dz *= 1 - tanh(z) * tanh(z)"        },
    {"a = sigmoid(z)",             "dz *= sigmoid(z) * (1 - sigmoid(z))"},
};

static const graft_field fields[] = {
    {"peft_type",                           "ADAPTER_HUB"},
    {"config.original_ln_after",            "true"       },
    {"config.residual_before_ln",           "true"       },
    {"config.adapter_residual_before_ln",   "false"      },
    {"config.ln_before",                    "false"      },
    {"config.ln_after",                     "false"      },
    {"config.phm_layer",                    "false"      },
    {"config.use_gating",                   "false"      },
    {"config.cross_adapter",                "false"      },
    {"config.inv_adapter_reduction_factor", "*"          }, /* of inv_adapter, which is refused */
};

static void bind(graft_call *c) {
    const bottleneck *self = c->self;
    const int behind_attention = strcmp(strrchr(c->site->name, '.'), ".attn") == 0;
    if (self->sum && self->parallel) c->services->fail(c, "sum and parallel: the network reads one of them");
    if (!(behind_attention ? self->attention : self->mlp))
        c->services->refuse(c, "not asked for behind this sub-block");
}

static void forward(graft_call *c) { /* y holds h */
    const bottleneck *self = c->self;
    if (self->parallel) {
        graft_run(c, "z[n,k]  = x[n,i] * D[k,i]");
    } else {
        graft_run(c, self->sum ? "u[n,i] = y[n,i] + x[n,i]" : "u[n,i] = y[n,i]");
        graft_run(c, "z[n,k]  = u[n,i] * D[k,i]");
    }
    graft_run(c, "z[n,k] += c[k]");
    graft_run(c, activations[self->activation].forward);
    graft_run(c, "y[n,i] += scaling * a[n,k] * U[i,k]");
    graft_run(c, "y[n,i] += scaling * e[i]");
}

static void backward(graft_call *c) {
    const bottleneck *self = c->self;
    graft_run(c, activations[self->activation].forward);
    graft_run(c, "dU[i,k] += scaling * dy[n,i] * a[n,k]"); /* ∂y/∂U = s·a     */
    graft_run(c, "de[i]   += scaling * dy[n,i]");          /* ∂y/∂e = s       */
    graft_run(c, "dz[n,k]  = scaling * dy[n,i] * U[i,k]"); /* ∂y/∂a = s·U     */
    graft_run(c, activations[self->activation].backward);  /* ∂a/∂z = f'(z)   */
    graft_run(c, "dc[k]   += dz[n,k]");                    /* ∂z/∂c = 1       */
    if (self->parallel) {
        graft_run(c, "dD[k,i] += dz[n,k] * x[n,i]"); /* u = x           */
        graft_run(c, "dx[n,i] += dz[n,k] * D[k,i]");
        return;
    }
    graft_run(c, "dD[k,i] += dz[n,k] * u[n,i]");       /* ∂z/∂D = u       */
    graft_run(c, "du[n,i]  = dz[n,k] * D[k,i]");       /* ∂z/∂u = D       */
    graft_run(c, "dy[n,i] += du[n,i]");                /* u = h           */
    if (self->sum) graft_run(c, "dx[n,i] += du[n,i]"); /* or h + x        */
}

static const graft_adapter adapter = {
    .size = sizeof(graft_adapter),
    .sites = GRAFT_BRANCH,
    .bind = bind,
    .forward = forward,
    .backward = backward,
};

static const graft_component bottleneck_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "bottleneck",
    .doc = "a small network behind attention and MLP",
    .paper = "Houlsby et al., 2019, arXiv:1902.00751; Pfeiffer et al., 2021, arXiv:2005.00247",
    .config_size = sizeof(bottleneck),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(bottleneck_component, "0.1.0")
