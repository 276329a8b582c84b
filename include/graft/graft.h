/* graft.h — everything a plugin includes. A plugin is one shared object NAME.so that exports graft_plugin_v0 and links
 * libc and libm only. It declares options, slots and a few callbacks; a callback computes by handing formulas to the
 * core ("y[n,o] += s * H[n,r] * B[o,r]") and never sees a pointer to tensor data.
 *
 * Words used below.   site: a place of the model where x goes in and y comes out.   slot: a named tensor or number that a
 * component declares and the core owns.   borrowed: valid during the call.   static: valid for ever.
 * Threads: the core calls one callback at a time for one run; a plugin keeps no state of its own.
 * ABI: structs begin with their size, arrays carry their stride, fields are only appended, types have fixed width.
 * A plugin that is newer than the host is accepted when what the host does not know is zero. */
#ifndef GRAFT_GRAFT_H
#define GRAFT_GRAFT_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRAFT_ABI_MINOR 0

/* A table: its rows, how many, and how many bytes from one to the next. */
typedef struct {
    const void *at;
    int32_t count, stride;
} graft_rows;
#define GRAFT_ROWS(table)                                                                                              \
    { (table), (int32_t)(sizeof(table) / sizeof((table)[0])), (int32_t)sizeof((table)[0]) }

/* ---- options: one row a key of the INI section; the core parses, checks and documents them ------------------------- */
#define GRAFT_INT    1 /* int64_t field                                                      */
#define GRAFT_REAL   2 /* double field                                                       */
#define GRAFT_BOOL   3 /* int32_t field: yes | no                                            */
#define GRAFT_TEXT   4 /* const char * field, never NULL, owned by the core                  */
#define GRAFT_CHOICE 5 /* int32_t field: the place of the word in `text`, "nf4|fp4"; value is the default's place */
#define GRAFT_PATH   6 /* const char * field: a file; relative to the current directory      */

typedef struct {
    const char *key;         /* in the INI, in formulas and in shapes                           */
    int32_t type, reserved;  /* GRAFT_INT ...                                                   */
    int64_t offset;          /* of the field in the component's options struct                  */
    double value, low, high; /* default and bounds (both allowed) of numbers                    */
    const char *text;        /* default of TEXT and PATH, the words of CHOICE, else NULL        */
    const char *doc;         /* one line for `graft help`                                       */
    const char *file;        /* its key in adapter_config.json, NULL when it has none           */
} graft_option;

/* clang-format off: the macros below are tables, one line each */
#define GRAFT_OPTION_INT(type, field, value, low, high, doc, file)                                                     \
    {                                                                                                                  \
#        field, GRAFT_INT, 0, (int64_t)offsetof(type, field), (double)(value), (double)(low), (double)(high), NULL,    \
            doc, file                                                                                                  \
    }
#define GRAFT_OPTION_REAL(type, field, value, low, high, doc, file)                                                    \
    { #field, GRAFT_REAL, 0, (int64_t)offsetof(type, field), (value), (low), (high), NULL, doc, file }
#define GRAFT_OPTION_BOOL(type, field, value, doc, file)                                                               \
    { #field, GRAFT_BOOL, 0, (int64_t)offsetof(type, field), (value), 0, 1, NULL, doc, file }
#define GRAFT_OPTION_TEXT(type, field, text, doc, file)                                                                \
    { #field, GRAFT_TEXT, 0, (int64_t)offsetof(type, field), 0, 0, 0, text, doc, file }
#define GRAFT_OPTION_CHOICE(type, field, words, value, doc, file)                                                      \
    { #field, GRAFT_CHOICE, 0, (int64_t)offsetof(type, field), (value), 0, 0, words, doc, file }
#define GRAFT_OPTION_PATH(type, field, text, doc, file)                                                                \
    { #field, GRAFT_PATH, 0, (int64_t)offsetof(type, field), 0, 0, 0, text, doc, file }

/* clang-format on */

/* A constant of adapter_config.json: written, and must match when a file is read. value is JSON ("false", "\"none\"") or a
 * bare word, taken as a string; "*" = any value is harmless and nothing is written. */
typedef struct {
    const char *key, *value;
} graft_field;

/* ---- slots: declared once, instantiated by the core for every site --------------------------------------------------- */
#define GRAFT_PARAM  1 /* trained; `dNAME` is its gradient                                   */
#define GRAFT_ALIAS  2 /* the base tensor of a TENSOR site itself, trained                   */
#define GRAFT_BUFFER 3 /* not trained, kept in checkpoints                                   */
#define GRAFT_STEP   4 /* written by prepare, read until the parameters change               */
#define GRAFT_KEPT   5 /* written by forward, read by backward; `dNAME` = scratch of its shape */
#define GRAFT_TEMP   6 /* scratch of one call                                                */
#define GRAFT_NUMBER 7 /* a number: `init` is a formula of options and site numbers          */

/* Slot flag, BUFFER: one tensor for all sites, of its shape at the largest in and out; a site sees the corner that its own in
 * and out make of it. Its init runs once, with the largest; a file may lack it then, so let init give the same in every run. */
#define GRAFT_SHARED   1
#define GRAFT_UNSIGNED 2 /* slot flag: values are never negative; picks the 8-bit map without signs */
/* Slot flag, BUFFER of W's shape: the core keeps W zero where it is 0. One bit a weight in memory and checkpoints (not 0 is 1);
 * init and after_step may name it. */
#define GRAFT_MASK 4

/* Placeholders of file: {site} the point's path, {parent} and {leaf} what stands in front of and behind its last dot, {layer} its
 * number, {name} the adapter's name, {branch} AdapterHub's word for a sub-block. */
typedef struct {
    const char *name;
    const char *shape; /* "rank, in/block": whole numbers from options and site numbers; 0 = absent at that site     */
    int32_t role, flags;
    const char *init; /* formula run when no file holds the tensor ("B = 0"); of NUMBER: its value                  */
    const char *file; /* tensor name behind the module path ("lora_A.weight"), or whole with placeholders (above)     */
    const char
        *file_onehot;  /* the same where x is one-hot (an embedding); NULL = not offered there                       */
    const char *store; /* "" as the role says | "u4" | "u4-high-first" | "i8" | "blocks8"; in quantizers also "u2" "u3"
                          "u8" "f16" "bf16" and "u(bits)": as many bits as that option or number says; their TEMP slots
                          may be "f16" or "bf16", to round through                                              */
    const double
        *values; /* a table of constants (a code book) of `shape`; NULL = none                                 */
} graft_slot;

/* clang-format off */
#define GRAFT_SLOT_PARAM(name, shape, init, file, file_onehot)                                                         \
    {name, shape, GRAFT_PARAM, 0, init, file, file_onehot, "", NULL}
#define GRAFT_SLOT_BUFFER(name, shape, init, file) {name, shape, GRAFT_BUFFER, 0, init, file, NULL, "", NULL}
#define GRAFT_SLOT_UNSIGNED(name, shape, init, file)                                                                   \
    {name, shape, GRAFT_BUFFER, GRAFT_UNSIGNED, init, file, NULL, "", NULL}
#define GRAFT_SLOT_STEP(name, shape) {name, shape, GRAFT_STEP, 0, NULL, NULL, NULL, "", NULL}
#define GRAFT_SLOT_KEPT(name, shape) {name, shape, GRAFT_KEPT, 0, NULL, NULL, NULL, "", NULL}
#define GRAFT_SLOT_TEMP(name, shape) {name, shape, GRAFT_TEMP, 0, NULL, NULL, NULL, "", NULL}
#define GRAFT_SLOT_NUMBER(name, formula) {name, NULL, GRAFT_NUMBER, 0, formula, NULL, NULL, "", NULL}
#define GRAFT_SLOT_TABLE(name, shape, values) {name, shape, GRAFT_BUFFER, 0, NULL, NULL, NULL, "", values}
#define GRAFT_SLOT_SHARED(name, shape, init, file) {name, shape, GRAFT_BUFFER, GRAFT_SHARED, init, file, NULL, "", NULL}
#define GRAFT_SLOT_ALIAS(name) {name, NULL, GRAFT_ALIAS, 0, NULL, NULL, NULL, "", NULL}
#define GRAFT_SLOT_ALIAS_AS(name, file) {name, NULL, GRAFT_ALIAS, 0, NULL, file, NULL, "", NULL}

/* clang-format on */

/* ---- calls ------------------------------------------------------------------------------------------------------------- */
#define GRAFT_LINEAR 1  /* y = x·Wᵀ + bias; W (out, in). An embedding is a LINEAR with one-hot x   */
#define GRAFT_INPUT  2  /* what a linear reads: forward writes y from x                            */
#define GRAFT_BRANCH 4  /* a sub-block: x the residual stream before it, y its output              */
#define GRAFT_KV     8  /* virtual keys and values of all layers                                   */
#define GRAFT_EMBED  16 /* virtual embedding rows in front of each document                        */
#define GRAFT_TENSOR 32 /* one base tensor                                                         */

typedef struct {
    int64_t size;
    const char *name;       /* the full module path, "model.layers.0.self_attn.q_proj"; borrowed  */
    int32_t kind, onehot;   /* GRAFT_LINEAR ...; 1 where x is one-hot                             */
    int64_t layer, in, out; /* layer -1 outside blocks                                            */
    int64_t site, sites;    /* its number among the sites of this adapter, and how many           */
} graft_site;

typedef struct graft_call graft_call;

/* What the core does for a callback. The first error of a call sticks and silences the rest, so nothing returns a status. */
typedef struct {
    int64_t size;
    void (*run)(graft_call *c, const char *formulas);           /* one or more statements, separated by ';'  */
    void (*set)(graft_call *c, const char *slot, double value); /* bind: a NUMBER of this site               */
    void (*refuse)(graft_call *c, const char *why);             /* bind: leave this point out                */
    void (*fail)(graft_call *c, const char *why);               /* any callback: stop with this error        */
    /* In init, observe, after_step and save, on host doubles: */
    void (*read)(graft_call *c, const char *slot, double *values); /* the whole slot, row-major                 */
    void (*write)(graft_call *c, const char *slot, const double *values);
    int64_t (*slot_size)(graft_call *c, const char *slot); /* elements                                  */
    /* Thin SVD of the (m, n) slot `matrix`, its r largest: U·diag(S)·Vt into the slots u (m, r), s (r), vt (r, n). */
    void (*svd)(graft_call *c, const char *matrix, const char *u, const char *s, const char *vt);
    void (*qr)(graft_call *c, const char *matrix, const char *q, const char *r);
    void (*quantize)(graft_call *c, const char *from, const char *to); /* round trip through this site's quantizer */
    void (*rank)(const double *values, int64_t count, int64_t *order); /* place of each in stable ascending order  */
    /* save: of `slot` (a PARAM) only the places of `dimension` whose mask is not 0 go into the folder, and adapter_config.json
     * gets the mask as rank_pattern, under the name of the first slot; read back, the missing places are 0.            */
    void (*keep)(graft_call *c, const char *slot, int32_t dimension, const double *mask);
    /* save: what adapter_config.json says instead of the option or field of this key; value as in graft_field          */
    void (*field)(graft_call *c, const char *key, const char *value);
} graft_services;

struct graft_call {
    int64_t size;
    const graft_services *services;
    const void *self; /* the component's options struct, as its `config_size` says */
    const graft_site *site;
    int64_t step, steps; /* of the run; step counts from 1, 0 outside training         */
    int64_t round;       /* init, after_step: 0 at every site, then 1 at every site ... */
};
#define GRAFT_ROUNDS 2 /* of after_step, where an adapter does not say how many */

static inline void graft_run(graft_call *c, const char *formulas) {
    c->services->run(c, formulas);
}

/* ---- adapter: "graft.adapter/1" ---------------------------------------------------------------------------------------- */
#define GRAFT_LINEAR_IN_X      1 /* y is affine in x: mergeable                                            */
#define GRAFT_SILENT_AT_INIT   2 /* changes nothing before training                                        */
#define GRAFT_PREPARE_DETACHED 4 /* the gradient holds STEP slots fixed                                    */

/* Each callback may be NULL. What each may write, all else being read-only:
 * bind (on shapes alone) numbers · observe BUFFER TEMP · init PARAM BUFFER TEMP W · prepare STEP TEMP ·
 * forward y KEPT TEMP · backward dPARAM (+= -= only) dKEPT dx dy TEMP · regularize loss d* TEMP ·
 * after_step PARAM BUFFER TEMP · save TEMP. forward is pure and never sums over rows.
 * In a pass (forward, backward, observe) a callback may choose between statements by its options and its site alone.
 * W is a tensor (out, in) in init and, to read, in after_step; elsewhere a handle for products with rows.
 * observe, before init and only where its formulas are not absent: the layers' inputs x (rows, in) on calibration rows of the
 * run's data, slice by slice, through the base without adapters. A block is observed whole, then its sites begin (init), then
 * what it gives is computed anew and becomes the input of the next block. BUFFERs that it writes hold their `init`, else 0.
 * Where observe names dy (LINEAR and BRANCH), the gradient of the mean loss of these rows, the whole base is loaded and seen
 * before any site begins, and lm_head only where a token is to be predicted.
 * after_step runs in rounds, and so does init of adapters that set `rounds`: what sites leave in a SHARED slot in one round, all
 * see in the next. W is written in the last round of init; a round in which nothing is asked for is left out.
 * save: a TEMP slot with the `file` of a PARAM is written in its place. */
typedef struct {
    int64_t size;
    int32_t sites, flags; /* GRAFT_LINEAR | ...; GRAFT_LINEAR_IN_X | ...                                   */
    const char *low_rank; /* "A B s H": the textbook y += s·(x·Aᵀ)·Bᵀ, which a fused kernel may replace    */
    void (*bind)(graft_call *c);
    void (*observe)(graft_call *c);
    void (*init)(graft_call *c);
    void (*prepare)(graft_call *c);
    void (*forward)(graft_call *c);
    void (*backward)(graft_call *c);
    void (*regularize)(graft_call *c);
    void (*after_step)(graft_call *c);
    void (*save)(graft_call *c);
    const char
        *targets; /* used where none are given, "k_proj, v_proj": those that the model has; NULL = the family's */
    int32_t rounds, reserved; /* of init and after_step, at most 8; 0 = one of init, GRAFT_ROUNDS of after_step     */
} graft_adapter;

/* ---- quantizer: "graft.quantizer/1" ------------------------------------------------------------------------------------ */
/* Formulas over `w`, a tile of W as blocks (b,k), `size` (its elements) and the slots. What a block is, options say:
 * block_size = n elements of the flattened matrix, filled up with zeros · group_size = n elements of a row, filled up with its
 * last one · neither: a whole row. `quantize` reads w and writes BUFFER slots, `dequantize` writes w from them; TEMP slots are zero when
 * quantize begins. The first dimension of a BUFFER counts blocks, so the core can make and read any stretch of them: it never
 * holds more than a tile of numbers. A layout the core knows brings fused kernels, and bitsandbytes' files to the first two;
 * the formulas stay as the textbook they must equal. Without one everything still works, by tiles. Slots by layout:
 * "codebook4": codes (block_size a block) u4-high-first, absmax; the table of 16 is the code book; option double_quant: absmax in
 *              8 bits, which the core does
 * "rows8":     codes (a row) i8, absmax; value codes·absmax/127; option threshold: LLM.int8's decomposition of x
 * "affine":    codes (group_size a block) u2 u3 u4 or u8, scale, and zero (u8), offset (real) or neither (half of
 *              the range); value scale·(codes - zero) */
typedef struct {
    int64_t size;
    const char *layout; /* "codebook4" | "rows8" | "affine" | NULL */
    void (*quantize)(graft_call *c);
    void (*dequantize)(graft_call *c);
} graft_quantizer;

/* ---- optimizer: "graft.optimizer/1" ------------------------------------------------------------------------------------ */
/* update: formulas over p (the parameter), g (its gradient, clipped), the state slots (shape "size" = like p, "out" "in" of a
 * matrix, "1"), and the numbers lr, t (steps done by this parameter, from 1), size, matrix (1 for 2-D), out and in (0 of
 * vectors). Slots of shape "size" may be stored in 8 bits; those never negative are declared GRAFT_SLOT_UNSIGNED. A callback
 * may choose between statements by its options and the sides of its site. It is called once for each parameter, or for each
 * tile of it. */
typedef struct {
    int64_t size;
    void (*update)(graft_call *c);
} graft_optimizer;

/* ---- schedule: "graft.schedule/1" -------------------------------------------------------------------------------------- */
/* The factor of the learning rate after the warm-up, which is the core's (step / warmup). Pure. step counts from 0;
 * warmup <= step < steps. */
typedef struct {
    int64_t size;
    double (*factor)(const void *self, int64_t step, int64_t warmup, int64_t steps);
} graft_schedule;

/* ---- objective: "graft.objective/1" ------------------------------------------------------------------------------------ */
#define GRAFT_WEIGHTS_KNOWN 1 /* d loss / d logp does not depend on logp: one fused pass */

typedef struct {
    int64_t size;
    int64_t tokens, sequences;
    const float *logp;      /* (tokens) log-probability of each target; NULL in the first call of WEIGHTS_KNOWN  */
    const float *reference; /* (tokens) of the base without adapters, NULL unless `needs` asks                    */
    const int64_t *start;   /* (sequences + 1) where each sequence's targets begin                                */
    const float *weight;    /* (tokens) weight of each target, 1 unless the data says otherwise                   */
    double total;           /* sum of all weights of the whole optimizer step                                     */
} graft_batch;

typedef struct {
    int64_t size;
    int32_t flags, needs; /* GRAFT_WEIGHTS_KNOWN; needs: 1 = reference */
    /* Writes d loss / d logp for every target and returns the loss; called per slice, the slices' losses add up. */
    double (*loss)(const void *self, const graft_batch *b, float *dlogp);
} graft_objective;

/* ---- loader: "graft.loader/1" ------------------------------------------------------------------------------------------ */
#define GRAFT_PART_TEXT       0 /* trained on, unless the record has a completion */
#define GRAFT_PART_PROMPT     1 /* never trained on                                */
#define GRAFT_PART_COMPLETION 2 /* trained on                                      */
#define GRAFT_PART_MESSAGES   3 /* JSON of a list of {"role", "content"}           */

#define GRAFT_UNIT_JSON      0 /* elements of a JSON array, else lines with text  */
#define GRAFT_UNIT_LINE      1 /* lines with text                                 */
#define GRAFT_UNIT_PARAGRAPH 2 /* runs of lines with text                         */
#define GRAFT_UNIT_FILE      3 /* all of it, when it has text                     */

typedef struct graft_source graft_source;
/* Texts are valid UTF-8, and borrowed until the callback returns or asks for another piece, unless said otherwise. */
typedef struct {
    int64_t size;
    const char *(*bytes)(graft_source *s, int64_t *count); /* all of the file; borrowed until the run ends          */
    int64_t (*records)(graft_source *s, int32_t unit);     /* in count(): cuts the file; how many pieces there are  */
    const char *(*record)(graft_source *s, int64_t i, int64_t *count); /* text of one of them                        */
    const char *(*field)(graft_source *s, int64_t i, const char *path, int64_t *count); /* a string (or the JSON text of
        another value) of piece i, "a.b" and "a.0" descend; NULL when absent or null                                   */
    void (*add)(graft_source *s, int32_t part, const char *text,
                int64_t count);                     /* the next part of the record            */
    void (*fail)(graft_source *s, const char *why); /* the record is bad: named with file and line      */
} graft_source_services;
struct graft_source {
    int64_t size;
    const graft_source_services *services;
    const void *self;
};
typedef struct {
    int64_t size;
    int64_t (*count)(graft_source *s);
    void (*get)(graft_source *s, int64_t i); /* describes record i with add(); pure */
} graft_loader;

/* ---- component and plugin ---------------------------------------------------------------------------------------------- */
typedef struct {
    int64_t size;
    const char *kind;    /* "graft.adapter/1" ...                        */
    const char *name;    /* as `plugin = NAME` says it                   */
    const char *doc;     /* one line                                     */
    const char *paper;   /* reference, "" for none                       */
    int64_t config_size; /* sizeof the options struct                    */
    graft_rows options, slots, fields;
    const void *functions; /* graft_adapter, graft_quantizer ...         */
} graft_component;

typedef struct {
    int64_t size;
    int32_t abi_minor, pointer_bytes;
    const char *version;
    graft_rows components; /* of graft_component */
} graft_plugin;

#if defined(__GNUC__)
#    define GRAFT_EXPORT __attribute__((visibility("default")))
#else
#    define GRAFT_EXPORT
#endif

/* clang-format off */
/* The one exported symbol: pure, may be called before anything else. */
#define GRAFT_PLUGIN(component, version_text)                                                                          \
    GRAFT_EXPORT const graft_plugin *graft_plugin_v0(void);                                                            \
    const graft_plugin *graft_plugin_v0(void) {                                                                        \
        static const graft_plugin plugin = {sizeof(graft_plugin), GRAFT_ABI_MINOR, (int32_t)sizeof(void *),            \
                                            version_text, {&(component), 1, (int32_t)sizeof(graft_component)}};        \
        return &plugin;                                                                                                \
    }
/* clang-format on */

#ifdef __cplusplus
}
#endif
#endif
