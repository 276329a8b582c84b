/* quant-nf4 — 4 bits a weight: NormalFloat. Dettmers et al., 2023, QLoRA, arXiv:2305.14314     w ≈ code[q]·absmax of its block
 *
 * Weights are cut into blocks of block_size along the row-major matrix; each block keeps its largest magnitude, absmax, and
 * every weight the number (0..15) of the code nearest to w / absmax. The 16 codes are quantiles of the normal distribution,
 * rescaled to -1..1: where weights are dense, codes are dense. Thresholds lie between the codes; the number of thresholds
 * that a scaled weight exceeds is its code. 4 bits a weight and 32 / block_size for absmax; double quantization
 * stores absmax itself in 8 bits (0.127 instead of 0.5 bits a weight at 64).
 *
 * type = fp4 takes sixteen floating-point numbers with two bits of exponent and one of mantissa instead: bit 3 of a code is
 * the sign, the other three number the magnitudes, though not in their order.
 *
 * b counts blocks, k the places in a block, t thresholds. The layout "codebook4" is bitsandbytes' own, so files interchange
 * and the core brings fused kernels that must equal these formulas. A table of the type that is not chosen is absent, and
 * so are the statements that name it. */
#include <graft/graft.h>

typedef struct {
    int64_t block_size;
    int32_t type, double_quant;
} nf4;

static const graft_option options[] = {
    GRAFT_OPTION_INT(nf4, block_size, 64, 32, 4096, "weights that share one absmax: 32, 64, 128 ... 4096", NULL),
    GRAFT_OPTION_CHOICE(nf4, type, "nf4|fp4", 0, "quantiles of the normal distribution, or tiny floats", NULL),
    GRAFT_OPTION_BOOL(nf4, double_quant, 0, "store absmax in 8 bits (QLoRA's double quantization)", NULL),
};

static const double normal_code[16] = {-1.0,
                                       -0.6961928009986877,
                                       -0.5250730514526367,
                                       -0.39491748809814453,
                                       -0.28444138169288635,
                                       -0.18477343022823334,
                                       -0.09105003625154495,
                                       0.0,
                                       0.07958029955625534,
                                       0.16093020141124725,
                                       0.24611230194568634,
                                       0.33791524171829224,
                                       0.44070982933044434,
                                       0.5626170039176941,
                                       0.7229568362236023,
                                       1.0};

/* As bitsandbytes' kernel has them (within a unit in the last place of the midpoints). */
static const double normal_above[15] = {
    -0.8480964004993439,  -0.6106329262256622,   -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
    -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513,   0.2035212516784668,
    0.2920137718319893,   0.3893125355243683,    0.5016634166240692,  0.6427869200706482,   0.8614784181118011};

static const double float_code[16] = {0,   0.0625 / 12,  8.0 / 12,  1,  4.0 / 12,  0.5,  2.0 / 12,  0.25,
                                      -0., -0.0625 / 12, -8.0 / 12, -1, -4.0 / 12, -0.5, -2.0 / 12, -0.25};
/* Between the magnitudes, and the code of each magnitude from the smallest on. */
static const double float_above[7] = {0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333};
static const double float_order[8] = {0, 1, 6, 7, 4, 5, 2, 3};

static const graft_slot slots[] = {
    {"codes", "size/block_size, block_size", GRAFT_BUFFER, 0, NULL, NULL, NULL, "u4-high-first", NULL},
    GRAFT_SLOT_BUFFER("absmax", "size/block_size", NULL, NULL),
    GRAFT_SLOT_TABLE("nf4", "16*(type == 0)", normal_code),
    GRAFT_SLOT_TABLE("nf4_above", "15*(type == 0)", normal_above),
    GRAFT_SLOT_TABLE("fp4", "16*(type == 1)", float_code),
    GRAFT_SLOT_TABLE("fp4_above", "7*(type == 1)", float_above),
    GRAFT_SLOT_TABLE("fp4_order", "8*(type == 1)", float_order),
    GRAFT_SLOT_TEMP("scaled", "size/block_size, block_size"),
    GRAFT_SLOT_TEMP("level", "size/block_size, block_size"),
};

static void quantize(graft_call *c) {
    graft_run(c, "absmax[b] max= abs(w[b,k])");
    graft_run(c, "scaled[b,k] = absmax[b] > 0 ? w[b,k] * (1 / absmax[b]) : 0");
    graft_run(c, "codes[b,k] = scaled[b,k] > nf4_above[t]"); /* summed over t: how many are exceeded */
    graft_run(c, "level[b,k] = abs(scaled[b,k]) > fp4_above[t]");
    graft_run(c, "codes[b,k] = fp4_order[level[b,k]] + 8 * (scaled[b,k] < 0)");
}

static void dequantize(graft_call *c) {
    graft_run(c, "w[b,k] = nf4[codes[b,k]] * absmax[b]");
    graft_run(c, "w[b,k] = fp4[codes[b,k]] * absmax[b]");
}

static const graft_quantizer quantizer = {
    .size = sizeof(graft_quantizer),
    .layout = "codebook4",
    .quantize = quantize,
    .dequantize = dequantize,
};

static const graft_component nf4_component = {
    .size = sizeof(graft_component),
    .kind = "graft.quantizer/1",
    .name = "quant-nf4",
    .doc = "4-bit weights, NormalFloat or floating point (QLoRA)",
    .paper = "Dettmers et al., 2023, arXiv:2305.14314",
    .config_size = sizeof(nf4),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &quantizer,
};
GRAFT_PLUGIN(nf4_component, "0.1.0")
