/* quant-nf2 — 2 bits a weight: NormalFloat of four codes. Li et al., 2023, LoftQ, arXiv:2310.08659     w ≈ code[q]·absmax of its block
 *
 * NF4's construction (plugins/quant-nf4) for 2 bits, as LoftQ's first release had it: two quantiles of the normal distribution
 * above 0, one below, and 0 itself, divided by the largest: -1, 0, 0.338, 1. A weight becomes the nearest code, the lower one
 * when it lies in the middle. 2 bits a weight and 32 / block_size for absmax.
 *
 * b counts blocks, k the places in a block, t thresholds. There is no layout: the core runs these formulas tile by tile, which
 * is all that a quantizer of your own needs. */
#include <graft/graft.h>

typedef struct {
    int64_t block_size;
} nf2;

static const graft_option options[] = {
    GRAFT_OPTION_INT(nf2, block_size, 64, 8, 4096, "weights that share one absmax", NULL),
};

static const double normal_code[4] = {-1, 0, 0.33791524171829224, 1};
static const double normal_above[3] = {-0.5, 0.16895762085914612, 0.6689576208591461}; /* the middles between them */

static const graft_slot slots[] = {
    {"codes", "size/block_size, block_size", GRAFT_BUFFER, 0, NULL, NULL, NULL, "u2", NULL},
    GRAFT_SLOT_BUFFER("absmax", "size/block_size", NULL, NULL),
    GRAFT_SLOT_TABLE("code", "4", normal_code),
    GRAFT_SLOT_TABLE("above", "3", normal_above),
};

static void quantize(graft_call *c) {
    graft_run(c, "absmax[b] max= abs(w[b,k])");
    graft_run(c, "codes[b,k] = (absmax[b] > 0 ? w[b,k] / absmax[b] : 0) > above[t]"); /* summed over t */
}

static void dequantize(graft_call *c) {
    graft_run(c, "w[b,k] = code[codes[b,k]] * absmax[b]");
}

static const graft_quantizer quantizer = {
    .size = sizeof(graft_quantizer),
    .quantize = quantize,
    .dequantize = dequantize,
};

static const graft_component nf2_component = {
    .size = sizeof(graft_component),
    .kind = "graft.quantizer/1",
    .name = "quant-nf2",
    .doc = "2-bit weights, NormalFloat of four codes (LoftQ)",
    .paper = "Li et al., 2023, arXiv:2310.08659",
    .config_size = sizeof(nf2),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &quantizer,
};
GRAFT_PLUGIN(nf2_component, "0.1.0")
