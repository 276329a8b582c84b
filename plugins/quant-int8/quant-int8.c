/* quant-int8 — 8 bits a weight, a scale a row. Dettmers et al., 2022, LLM.int8(), arXiv:2208.07339      w ≈ q·absmax / 127
 *
 * Every row of W keeps its largest magnitude, absmax; a weight becomes the whole number nearest to 127·w / absmax. A row is what
 * one output is computed with, so absmax/127 can be taken out of the whole sum. Weights pass through f16 on the way, as in
 * bitsandbytes, whose files hold the same bytes.
 *
 * threshold > 0 is the other half of the paper: x goes through 8 bits too, a scale a token, so that the sum could be one of
 * whole numbers; but where |x| >= threshold it stays as it is. A few features of large models are twenty times larger than the
 * rest, and would spoil the scale of their whole token. That half is the core's, like any product; here is W alone.
 *
 * o counts rows, i inputs. The layout "rows8" has fused kernels that must equal these formulas. */
#include <graft/graft.h>

typedef struct {
    double threshold;
} int8;

static const graft_option options[] = {
    GRAFT_OPTION_REAL(int8, threshold, 0, 0, 65504,
                      "0: weights only; else x in 8 bits but for magnitudes from here on (LLM.int8: 6)", NULL),
};

static const graft_slot slots[] = {
    {"codes", "out, in", GRAFT_BUFFER, 0, NULL, NULL, NULL, "i8",  NULL},
    GRAFT_SLOT_BUFFER("absmax", "out", NULL, NULL),
    {"half",  "out, in", GRAFT_TEMP,   0, NULL, NULL, NULL, "f16", NULL},
};

static void quantize(graft_call *c) {
    graft_run(c, "half[o,i] = w[o,i]");
    graft_run(c, "absmax[o] max= abs(half[o,i])");
    graft_run(
        c, "codes[o,i] = half[o,i] * (absmax[o] > 0 ? 127 / absmax[o] : 0)"); /* stored to the nearest, ties to even */
}

static void dequantize(graft_call *c) {
    graft_run(c, "w[o,i] = codes[o,i] * absmax[o] * 7.874015718698502e-3"); /* 1/127, as bitsandbytes writes it */
}

static const graft_quantizer quantizer = {
    .size = sizeof(graft_quantizer),
    .layout = "rows8",
    .quantize = quantize,
    .dequantize = dequantize,
};

static const graft_component int8_component = {
    .size = sizeof(graft_component),
    .kind = "graft.quantizer/1",
    .name = "quant-int8",
    .doc = "8-bit weights with a scale a row; optionally x in 8 bits too (LLM.int8)",
    .paper = "Dettmers et al., 2022, arXiv:2208.07339",
    .config_size = sizeof(int8),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .functions = &quantizer,
};
GRAFT_PLUGIN(int8_component, "0.1.0")
