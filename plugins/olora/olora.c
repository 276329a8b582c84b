/* olora — LoRA that begins with orthonormal directions of W. Büyükakyüz, 2024, arXiv:2406.01775
 *
 *   W = Q·R (thin QR);   B = Q[:, :rank],  A = R[:rank, :];   W' = W - s·B·A
 *
 * As in PiSSA a part of W is trained and the rest is frozen, so the first forward pass is the base's. The columns of B are
 * orthonormal, which conditions the first steps well, and a QR costs a fraction of an SVD; in exchange the part is spanned by
 * the first columns of W, not by its largest directions.
 *
 * Forward, backward and what the folder gets ([A; A0], [B, -B0] for the base as it was) are in include/graft/lowrank.h. */
#include <graft/lowrank.h>
#include <stdlib.h>

static const graft_option options[] = {LOWRANK_OPTIONS("the update is scaled by alpha / rank"), LOWRANK_RSLORA};

static const graft_slot slots[] = {
    LOWRANK_SPLIT_SLOTS,
    GRAFT_SLOT_NUMBER("side", "min(in, out)"),
    GRAFT_SLOT_TEMP("Q", "out, side"),
    GRAFT_SLOT_TEMP("R", "side, in"),
};

static const graft_field fields[] = {LOWRANK_SPLIT_FIELDS("olora")};

static void init(graft_call *c) {
    const lowrank_options *o = c->self;
    const int64_t out = c->site->out, in = c->site->in, side = in < out ? in : out;
    double *q = calloc((size_t)(out * side), sizeof *q), *r = calloc((size_t)(side * in), sizeof *r);
    if (!q || !r) {
        c->services->fail(c, "no memory for the factors of W");
        goto done;
    }
    c->services->qr(c, "W", "Q", "R");
    c->services->read(c, "Q", q);
    c->services->read(c, "R", r);
    for (int64_t row = 0; row < out; row++) /* its first columns move together; rows of R are together already */
        for (int64_t k = 0; k < o->rank; k++)
            q[row * o->rank + k] = q[row * side + k];
    c->services->write(c, "A", r);
    c->services->write(c, "B", q);
    lowrank_split(c);
done:
    free(q);
    free(r);
}

static const graft_adapter adapter = LOWRANK_SPLIT_ADAPTER(init);

static const graft_component olora_component = {
    .size = sizeof(graft_component),
    .kind = "graft.adapter/1",
    .name = "olora",
    .doc = "LoRA that begins with orthonormal directions of W",
    .paper = "Büyükakyüz, 2024, arXiv:2406.01775",
    .config_size = sizeof(lowrank_options),
    .options = GRAFT_ROWS(options),
    .slots = GRAFT_ROWS(slots),
    .fields = GRAFT_ROWS(fields),
    .functions = &adapter,
};
GRAFT_PLUGIN(olora_component, "0.1.0")
