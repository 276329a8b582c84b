/* pissa — LoRA that trains the principal part of W. Meng et al., 2024, arXiv:2404.02948
 *
 *   W ≈ U·diag(S)·Vᵀ (rank largest);   A = √(S/s)·Vᵀ,  B = U·√(S/s);   W' = W - s·B·A
 *
 * LoRA trains a correction that begins at zero beside a frozen W. PiSSA cuts W in two: its largest directions become A and
 * B and are trained, the rest W' is frozen. The first forward pass is the same, the gradients are not: they begin where W
 * itself is large. A quantizer rounds W', which is smaller than W.
 *
 * Forward, backward and what the folder gets ([A; A0], [B, -B0] for the base as it was) are in include/graft/lowrank.h. */
#include <graft/lowrank.h>

static const graft_option options[] = {LOWRANK_OPTIONS("the update is scaled by alpha / rank"), LOWRANK_RSLORA};

static const graft_slot slots[] = {
    LOWRANK_SPLIT_SLOTS,
    GRAFT_SLOT_TEMP("U", "out, rank"),
    GRAFT_SLOT_TEMP("S", "rank"),
    GRAFT_SLOT_TEMP("V", "rank, in"),
};

static const graft_field fields[] = {LOWRANK_SPLIT_FIELDS("pissa")};

static void init(graft_call *c) {
    c->services->svd(c, "W", "U", "S", "V");
    graft_run(c, "A[r,i] = sqrt(S[r] / s) * V[r,i]; B[o,r] = U[o,r] * sqrt(S[r] / s)");
    lowrank_split(c);
}

static const graft_adapter adapter = LOWRANK_SPLIT_ADAPTER(init);

static const graft_component pissa_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "pissa",
    .doc = "LoRA that trains the largest directions of W itself",
    .paper = "Meng et al., 2024, arXiv:2404.02948",
    .config_size = sizeof(lowrank_options),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(pissa_component, "0.1.0")
