/* quant-affine — 2, 3, 4 or 8 bits a weight on an even grid, a grid a group.                            w ≈ scale·(q - zero)
 * Jacob et al., 2018, arXiv:1712.05877; the grid of GPTQ (Frantar et al., 2022, arXiv:2210.17323) rounded to the nearest.
 *
 * group_size weights of a row share a grid of 2^bits points.
 *   asymmetric   the grid spans the group's smallest to its largest weight and meets 0, which stays exactly 0:
 *                scale = (high - low) / (2^bits - 1), zero = round(-low / scale), a whole number in `bits` bits
 *   symmetric    it spans -m .. m with m the largest magnitude, and zero is its middle: nothing to store, one point wasted
 *   real_zero    it spans smallest to largest, whether 0 lies between or not, and zero is any real number
 * refine > 0 moves such a zero (HQQ, Badri & Shaji, 2023): the errors e of most weights count, those of a few outliers do not. With p = 0.7 and beta growing by 1 % from 10 on, each round
 *   e = shrink(w - ŵ), shrink(d) = sign(d)·max(|d| - |d|^(p-1) / beta, 0)        what outliers may keep
 *   zero = the mean of q - (w - e) / scale                                          the best for the rest
 *
 * b counts groups, k the places in one. In memory: bits·group_size + 32 bits a group, + 8 or 32 of zero. The layout "affine"
 * has fused kernels that must equal these formulas; NULL would run the formulas themselves, tile by tile. */
#include <graft/graft.h>

typedef struct {
    int64_t bits, group_size, refine;
    int32_t symmetric, real_zero, half_scales, pad;
} affine;

static const graft_option options[] = {
    GRAFT_OPTION_INT(affine, bits, 4, 2, 8, "of a weight: 2, 3, 4 or 8", NULL),
    GRAFT_OPTION_INT(affine, group_size, 64, 8, 65536, "weights of a row that share a grid; a multiple of 8", NULL),
    GRAFT_OPTION_BOOL(affine, symmetric, 0, "the grid is centred on 0: no zero point is stored", NULL),
    GRAFT_OPTION_BOOL(affine, real_zero, 0, "zero points are real numbers; always so when refined", NULL),
    GRAFT_OPTION_BOOL(affine, half_scales, 0, "scales are rounded to f16, as GPTQ's files hold them", NULL),
    GRAFT_OPTION_INT(affine, refine, 0, 0, 40, "rounds that move the zero point away from outliers (HQQ: 20)", NULL),
};

static const graft_slot slots[] = {
    GRAFT_SLOT_NUMBER("top", "pow(2, bits) - 1"),
    GRAFT_SLOT_NUMBER("middle", "pow(2, bits - 1)"),
    {"codes", "size/group_size, group_size",                             GRAFT_BUFFER, 0, NULL, NULL, NULL, "u(bits)", NULL},
    GRAFT_SLOT_BUFFER("scale", "size/group_size", NULL, NULL),
    {"zero",  "size/group_size * (symmetric + real_zero + refine == 0)", GRAFT_BUFFER, 0, NULL, NULL, NULL, "u8",      NULL},
    GRAFT_SLOT_BUFFER("offset", "size/group_size * (real_zero + refine > 0)", NULL, NULL),
    {"half",  "size/group_size * half_scales",                           GRAFT_TEMP,   0, NULL, NULL, NULL, "f16",     NULL},
    GRAFT_SLOT_TEMP("high", "size/group_size"),
    GRAFT_SLOT_TEMP("low", "size/group_size"),
    GRAFT_SLOT_TEMP("q", "size/group_size, group_size * (refine > 0)"),
    GRAFT_SLOT_TEMP("e", "size/group_size, group_size * (refine > 0)"),
    GRAFT_SLOT_TEMP("beta", "1"),
};

/* A number through f16 and back, but never 0. */
static void round_scale(graft_call *c) {
    const affine *o = c->self;
    if (o->half_scales) graft_run(c, "half[b] = scale[b]; scale[b] = max(half[b], pow(2, -24))");
}

/* low is how far the group reaches below 0. A group of zeros gets the grid of -1 .. 1. */
static void asymmetric(graft_call *c) {
    graft_run(c, "high[b] max= w[b,k]; low[b] max= -w[b,k]"); /* from 0 on */
    graft_run(c, "scale[b] = (high[b] + low[b] > 0 ? high[b] + low[b] : 2) / top");
    round_scale(c);
    graft_run(c, "zero[b] = round((high[b] + low[b] > 0 ? low[b] : 1) / scale[b])");
    graft_run(c, "codes[b,k] = round(w[b,k] / scale[b]) + zero[b]"); /* stored inside 0 .. top */
}

static void symmetric(graft_call *c) {
    graft_run(c, "high[b] max= abs(w[b,k])");
    graft_run(c, "scale[b] = (high[b] > 0 ? 2 * high[b] : 2) / top");
    round_scale(c);
    graft_run(c, "codes[b,k] = round(w[b,k] / scale[b]) + middle");
}

static void real_zero(graft_call *c, int64_t rounds) {
    graft_run(c, "high[b] = -3e38; low[b] = -3e38; high[b] max= w[b,k]; low[b] max= -w[b,k]");
    graft_run(c, "scale[b] = high[b] + low[b] > 0 ? (high[b] + low[b]) / top : 1");
    round_scale(c);
    graft_run(c, "offset[b] = low[b] / scale[b]; beta = 10");
    for (int64_t r = 0; r < rounds; r++) {
        graft_run(c, "q[b,k] = min(max(round(w[b,k] / scale[b] + offset[b]), 0), top)");
        graft_run(c, "e[b,k] = w[b,k] - scale[b] * (q[b,k] - offset[b])");
        graft_run(c, "e[b,k] = sign(e[b,k]) * max(abs(e[b,k]) - pow(abs(e[b,k]), -0.3) / beta, 0)");
        graft_run(c,
                  "offset[b] = q[b,k] / group_size - (w[b,k] - e[b,k]) / scale[b] / group_size"); /* the mean over k */
        graft_run(c, "beta *= 1.01");
    }
    graft_run(c, "codes[b,k] = round(w[b,k] / scale[b] + offset[b])");
}

static void quantize(graft_call *c) {
    const affine *o = c->self;
    if (o->symmetric && (o->refine || o->real_zero))
        c->services->fail(c, "symmetric = yes fixes the zero point that refine and real_zero set free");
    if (o->refine || o->real_zero)
        real_zero(c, o->refine);
    else if (o->symmetric)
        symmetric(c);
    else
        asymmetric(c);
}

static void dequantize(graft_call *c) {
    const affine *o = c->self;
    const int real_zero = o->refine || o->real_zero;
    graft_run(c, real_zero      ? "w[b,k] = scale[b] * (codes[b,k] - offset[b])"
                 : o->symmetric ? "w[b,k] = scale[b] * (codes[b,k] - middle)"
                                : "w[b,k] = scale[b] * (codes[b,k] - zero[b])");
}

static const graft_quantizer quantizer = {
    .size = sizeof(graft_quantizer),
    .layout = "affine",
    .quantize = quantize,
    .dequantize = dequantize,
};

static const graft_component affine_component = {
    .size = sizeof(graft_component),
    .kind = "graft.quantizer/1",
    .name = "quant-affine",
    .doc = "2, 3, 4 or 8 bits a weight on even grids of groups, optionally refined (HQQ)",
    .paper = "Jacob et al., 2018, arXiv:1712.05877; Badri & Shaji, 2023, Half-Quadratic Quantization",
    .config_size = sizeof(affine),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &quantizer,
};
GRAFT_PLUGIN(affine_component, "0.1.0")
