/* What a component must keep to beyond its sizes: one broken rule at a time on a component that is good otherwise. */
#include "plugin/host.h"
#include <criterion/criterion.h>
#include <string.h>

typedef struct {
    int64_t rank;
    double alpha;
    int32_t on, mode;
    const char *note;
} settings;

typedef struct {
    graft_option options[5];
    graft_slot slots[6];
    graft_field fields[2];
    plugin_component c;
} subject;

static void pass(graft_call *call) {
    (void)call;
}

static double loss(const void *self, const graft_batch *b, float *dlogp) {
    (void)self, (void)b;
    return dlogp[0];
}

static const double book[4] = {-1, 0, 0.5, 1};

static void make(subject *s) {
    *s = (subject){
        .options = {GRAFT_OPTION_INT(settings, rank, 8, 1, 64, "width", "r"),
                    GRAFT_OPTION_REAL(settings, alpha, 16, 0, 1e6, "scale", NULL),
                    GRAFT_OPTION_BOOL(settings, on, 1, "switch", NULL),
                    GRAFT_OPTION_CHOICE(settings, mode, "a|b|c", 2, "mode", NULL),
                    GRAFT_OPTION_TEXT(settings, note, "", "note", NULL)},
        .slots = {GRAFT_SLOT_PARAM("A",                        "rank, in",                          "A = 0", "lora_A.weight", NULL),
                    GRAFT_SLOT_PARAM("B", "out, rank", "B = 0", "lora_B.weight", NULL),
                    GRAFT_SLOT_KEPT("H", "rows, rank"), GRAFT_SLOT_NUMBER("s", "alpha / rank"),
                    GRAFT_SLOT_TABLE("code", "4", book), GRAFT_SLOT_BUFFER("Q", "out", "Q = 0", NULL)},
        .fields = {{"peft_type", "LORA"},                     {"use_dora", "false"}     },
    };
    for (int i = 0; i < 6; i++)
        if (!s->slots[i].store) s->slots[i].store = "";
    s->c = (plugin_component){
        .kind = PLUGIN_ADAPTER,
        .name = "subject",
        .doc = "for tests",
        .paper = "",
        .config_size = sizeof(settings),
        .options = s->options,
        .slots = s->slots,
        .fields = s->fields,
        .option_count = 5,
        .slot_count = 6,
        .field_count = 2,
        .adapter = {.sites = GRAFT_LINEAR, .low_rank = "A B s H", .forward = pass, .backward = pass},
    };
}

/* Runs `change` on a good component; the refusal must hold `wanted`. */
#define REFUSED(wanted, change)                                                                                        \
    do {                                                                                                               \
        subject s;                                                                                                     \
        make(&s);                                                                                                      \
        change;                                                                                                        \
        graft_error err = {0};                                                                                         \
        cr_expect_neq(plugin_verify(&s.c, &err), GRAFT_OK, "not refused: %s", #change);                                \
        cr_expect(strstr(err.text, wanted), "%s gives: %s", #change, err.text);                                        \
    } while (0)

Test(verify, takes_a_good_component) {
    subject s;
    make(&s);
    graft_error err = {0};
    cr_assert_eq(plugin_verify(&s.c, &err), GRAFT_OK, "%s", err.text);
}

Test(verify, names_and_docs) {
    REFUSED("its name must be", s.c.name = "");
    REFUSED("its name must be", s.c.name = "a.b");
    REFUSED("its name must be", s.c.name = "../lora");
    REFUSED("its name must be",
            s.c.name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    REFUSED("needs a doc", s.c.doc = NULL);
}

Test(verify, option_tables) {
    REFUSED("config_size is -1", s.c.config_size = -1);
    REFUSED("as its key", s.options[0].key = NULL);
    REFUSED("as its key", s.options[0].key = "lora.rank");
    REFUSED("option 'rank' has the type 7", s.options[0].type = 7);
    REFUSED("option 'rank' has the type", s.options[0].reserved = 1);
    REFUSED("option 'rank' needs a doc", s.options[0].doc = NULL);
    REFUSED("option 'rank' needs a doc", s.options[0].doc = "two\nlines");
    REFUSED("do not lie in an options struct of 16 bytes", s.c.config_size = 16);
    REFUSED("8 bytes at offset -8", s.options[0].offset = -8);
    REFUSED("8 bytes at offset 4", s.options[0].offset = 4);
    REFUSED("do not lie in", s.options[0].offset = INT64_MAX - 7);
    REFUSED("share one field", s.options[1].offset = 0);
    REFUSED("option 'rank' stands twice", s.options[1].key = "rank");
    REFUSED("share the file key 'r'", s.options[1].file = "r");
    REFUSED("its default 8 is outside its bounds", s.options[0].low = 9);
    REFUSED("INT whose default is 1.5", s.options[0].value = 1.5);
    REFUSED("outside its bounds", s.options[1].value = __builtin_nan(""));
    REFUSED("BOOL whose default is 2", s.options[2].value = 2);
    REFUSED("default 3 is no place in 'a|b|c'", s.options[3].value = 3);
    REFUSED("CHOICE without words", s.options[3].text = NULL);
    REFUSED("are no words of a CHOICE", s.options[3].text = "a||c");
    REFUSED("option 'lr' has the name of something", s.options[1].key = "lr");
}

Test(verify, slot_names) {
    REFUSED("slot 0 has NULL as its name", s.slots[0].name = NULL);
    REFUSED("slot 0 has 'a-b' as its name", s.slots[0].name = "a-b");
    REFUSED("slot 'A' stands twice", s.slots[1].name = "A");
    REFUSED("slot 'rank' has the name of an option", s.slots[0].name = "rank");
    REFUSED("slot 'W' has the name of something", s.slots[0].name = "W");
    REFUSED("slot 'rows' has the name of something", s.slots[0].name = "rows");
    REFUSED("slot 'sqrt' has the name of something", s.slots[0].name = "sqrt");
    REFUSED("'dA' is the gradient of slot 'A'", s.slots[5].name = "dA");
    REFUSED("'dH' is the gradient of slot 'H'", s.options[4].key = "dH");
}

Test(verify, slot_roles) {
    REFUSED("does not know role 0", s.slots[0].role = 0);
    REFUSED("does not know role 8", s.slots[0].role = 8);
    REFUSED("with flags 8", s.slots[5].flags = 8);
    REFUSED("slot 'A' needs a shape", s.slots[0].shape = NULL);
    REFUSED("slot 's' needs a formula", s.slots[3].init = NULL);
    REFUSED("needs a name in the file", s.slots[0].file = NULL);
    REFUSED("needs TENSOR sites", s.slots[5].role = GRAFT_ALIAS);
    REFUSED("store 'u5' is not possible", s.slots[5].store = "u5");
    REFUSED("store 'u4' is not possible", s.slots[0].store = "u4");
    REFUSED("flags belong to BUFFER slots", s.slots[0].flags = GRAFT_SHARED);
    REFUSED("UNSIGNED to store blocks8", s.slots[5].flags = GRAFT_UNSIGNED);
    REFUSED("values belong to a BUFFER without init", s.slots[4].init = "code = 0");
    REFUSED("the kind quantizer has BUFFER, TEMP and NUMBER slots only",
            (s.c.kind = PLUGIN_QUANTIZER, s.c.field_count = 0,
             s.c.quantizer = (graft_quantizer){.quantize = pass, .dequantize = pass}));
    REFUSED("the kind objective has no slots",
            (s.c.kind = PLUGIN_OBJECTIVE, s.c.objective = (graft_objective){.loss = loss}));
}

Test(verify, the_base_tensor_may_be_called_by_its_name) {
    subject s;
    make(&s);
    s.slots[5] = (graft_slot){.name = "W", .role = GRAFT_ALIAS, .store = ""};
    s.c.adapter.sites |= GRAFT_TENSOR;
    graft_error err = {0};
    cr_assert_eq(plugin_verify(&s.c, &err), GRAFT_OK, "%s", err.text);
}

Test(verify, fields) {
    REFUSED("field 1", s.fields[1].key = NULL);
    REFUSED("field 1 ('use_dora')", s.fields[1].value = NULL);
    REFUSED("the file key 'peft_type' is declared twice", s.fields[1].key = "peft_type");
    REFUSED("the file key 'r' is declared twice", s.fields[1].key = "r");
}

Test(verify, adapter_functions) {
    REFUSED("takes no sites", s.c.adapter.sites = 0);
    REFUSED("does not know sites 65", s.c.adapter.sites = 65);
    REFUSED("with flags 8", s.c.adapter.flags = 8);
    REFUSED("lacks the function `backward`", s.c.adapter.backward = NULL);
    REFUSED("lacks the function `forward`", (s.c.adapter.low_rank = NULL, s.c.adapter.forward = NULL));
    REFUSED("lacks the function `forward`: at its sites",
            (s.c.adapter = (graft_adapter){.sites = GRAFT_LINEAR | GRAFT_KV}));
    REFUSED("names four things", s.c.adapter.low_rank = "A B s");
    REFUSED("'C' is no tensor", s.c.adapter.low_rank = "A C s H");
    REFUSED("'H' is no number", s.c.adapter.low_rank = "A B H s");
    REFUSED("'Q' is no KEPT slot", s.c.adapter.low_rank = "A B s Q");
}

Test(verify, other_kinds_may_not_use_what_the_host_does_not_know) {
    subject s;
    make(&s);
    s.c.slot_count = s.c.field_count = 0;
    graft_error err = {0};
    s.c.kind = PLUGIN_QUANTIZER;
    s.c.quantizer = (graft_quantizer){.layout = "codebook5", .quantize = pass, .dequantize = pass};
    cr_expect_neq(plugin_verify(&s.c, &err), GRAFT_OK);
    cr_expect(strstr(err.text, "layout 'codebook5'"), "%s", err.text);
    err = (graft_error){0};
    s.c.kind = PLUGIN_OBJECTIVE;
    s.c.objective = (graft_objective){.needs = 2, .loss = loss};
    cr_expect_neq(plugin_verify(&s.c, &err), GRAFT_OK);
    cr_expect(strstr(err.text, "needs 2"), "%s", err.text);
}
