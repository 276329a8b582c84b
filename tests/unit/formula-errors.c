/* What a formula may not say, and how the error shows it: the message, the statement and a caret under the place. */
#include "formula-kit.h"
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char text[160];    /* '^' stands in front of the place that the caret shows */
    char message[200]; /* the whole of it */
} mistake;

#define HANDLE                                                                                                         \
    "'W' is a handle here: it may stand only in a product with rows that sums over one of its two indices, or in the " \
    "row sum W[o,i] * W[o,i]"
#define ONEHOT "'E' is one-hot here: it may stand only in a product that sums over one of its two indices"

static mistake mistakes[] = {
  /* names */
    {"H[n,r] = x[n,i] * ^Q[r,i]",                   "unknown name 'Q', did you mean 'q'?"                                                   },
    {"^Hh[n,r] = x[n,i] * A[r,i]",                  "unknown name 'Hh', did you mean 'H'?"                                                  },
    {"y = y * ^scalee",                             "unknown name 'scalee', did you mean 'scale'?"                                          },
    {"y[n,o] = ^k * b[o]",                          "unknown name 'k'"                                                                      },
    {"y = ^sqr(y)",                                 "unknown function 'sqr', did you mean 'sqrt'?"                                          },
    {"y = ^foo12345(y)",                            "unknown function 'foo12345'"                                                           },
    {"^scale = 2",                                  "'scale' is a number: it has no indices and no formula writes it"                       },
    {"y[n,o] = ^scale[n] * b[o]",                   "'scale' is a number: it has no indices and no formula writes it"                       },
 /* indices and extents */
    {"dB[o,r] += scale * dy[n,o] * H[n,^o]",        "index o has extent 10 in dB and 4 in H"                                                },
    {"H[n,r] = x[n,i] * B[^r,i]",                   "index r has extent 4 in H and 10 in B"                                                 },
    {"H[n,r] = x[n,i] * A[^i,r]",                   "index i has extent 12 in x and 4 in A"                                                 },
    {"A[n,i] = x[^n,i]",                            "index n has extent 4 in A and rows in x"                                               },
    {"y[n,o] = ^H[n]",                              "'H' has 2 dimensions, not 1"                                                           },
    {"y[n,o] = b[o] * ^t[0,0]",                     "'t' has 1 dimension, not 2"                                                            },
    {"b[o] = B[o,^4]",                              "index 4 is outside 'B', which has extent 4 there"                                      },
    {"b[o] = B[o,^1.5]",                            "an index is a whole number"                                                            },
    {"b[o] = B[o,^=b[o]]",                          "only numbers may stand behind '=' in brackets"                                         },
    {"b[o] = B[o,^2*scale]",                        "write an expression of numbers in brackets as '=...'"                                  },
    {"b[o] = B[o,scale^*2]",                        "'*' stands where ',' or ']' is wanted"                                                 },
    {"S[o,^o] = b[o]",                              "index o stands twice on the left"                                                      },
    {"q[^(k,k)] = 1",                               "index k stands twice on the left"                                                      },
    {"q[^(a,b)] = 1",                               "nothing tells the extents of the indices in parentheses"                               },
    {"q[^(a,r)] = H[n,r] * B[a,r]",                 "the indices in parentheses make 40 of the extent 12 of 'q'"                            },
    {"b[^(a,r)] = H[n,r] * u[a]",                   "the indices in parentheses make 16 of the extent 10 of 'b'"                            },
    {"b[^(a,r)] = H[n,r]",                          "the indices in parentheses make 4 of the extent 10 of 'b'"                             },
    {"y[^(a,b),o] = b[o]",                          "the rows of 'y' cannot be split"                                                       },
    {"q[(a,b,c,^d)] = 1",                           "a dimension splits into at most 3 indices"                                             },
    {"q[(a,^3)] = 1",                               "'3' stands where an index is wanted"                                                   },
    {"q[^code[q[i]]] = 1",                          "a gather may stand on the right side only"                                             },
    {"v[i] = S[^q[i],q[i]]",                        "'S' has two gathered dimensions; one is possible"                                      },
 /* bare tensors */
    {"A = ^B",                                      "'A' and 'B' stand without brackets and differ in shape; write their indices"           },
    {"A[r,i] = ^A2 * u[r]",                         "'A2' stands without brackets beside tensors with indices; write its indices"           },
    {"^A = u[r]",                                   "'A' stands without brackets beside tensors with indices; write its indices"            },
 /* sums */
    {"b[o] = ^b2[o] + H[n,r] * B[o,r]",
     "index n is summed and this added term lacks it: it would be added once for each"                                                      },
    {"y[n,o] = H[n,r] * B[o,r] - 2 ^* b[o]",
     "index r is summed and this added term lacks it: it would be added once for each"                                                      },
    {"b[o] = scale * (B[o,r] + ^b2[o])",
     "index r is summed and this added term lacks it: it would be added once for each"                                                      },
    {"b[o] = b2[o] > 0 ? B[o,r] : ^b2[o]",
     "index r is summed and this added term lacks it: it would be added once for each"                                                      },
    {"t = ^t2 + A * A",
     "index 1 (by position) is summed and this added term lacks it: it would be added once for each"                                        },
    {"b[o] = ^sqrt(W2[o,i] * W2[o,i])",             "index i is summed inside a function: give the sum a statement of its own"              },
    {"t = ^abs(A)",                                 "index 1 (by position) is summed inside a function: give the sum a statement of its own"},
    {"b[o] = b2[o] * ^exp(B[o,r])",                 "index r is summed inside a function: give the sum a statement of its own"              },
    {"b[o] = b2[o] / ^B[o,r]",                      "index r is summed inside a denominator: give the sum a statement of its own"           },
    {"^b[o] *= B[o,r]",                             "index r is summed, which *= does not do"                                               },
    {"^b[o] /= B[o,r]",                             "index r is summed, which /= does not do"                                               },
 /* the target on the right */
    {"b[o] = ^b[p] * S3[o,p]",                      "'b' is written by this statement and read in a sum; use another tensor"                },
    {"S[i,j] = ^S[j,i]",                            "'S' is written by this statement and read at other places; use another tensor"         },
    {"S[i,j] += ^S[i,k] * S2[k,j]",                 "'S' is written by this statement and read in a sum; use another tensor"                },
    {"t = ^t * A * A",                              "'t' is written by this statement and read in a sum; use another tensor"                },
    {"S[0,i] = ^S[j,i]",                            "'S' is written by this statement and read in a sum; use another tensor"                },
    {"code[i] = ^code[code2[i]]",                   "'code' is written by this statement and read at other places; use another tensor"      },
 /* what may be read and written */
    {"^x[n,i] = 0",                                 "'x' may not be written here, only read"                                                },
    {"^dA[r,i] = A[r,i]",                           "'dA' is summed up over calls: it takes only += and -= here"                            },
    {"^dA *= 2",                                    "'dA' is summed up over calls: it takes only += and -= here"                            },
    {"A += ^dA",                                    "'dA' may not be read here, only written"                                               },
    {"A += ^dC",                                    "'dC' is not there in this callback"                                                    },
    {"^dC = 1",                                     "'dC' is not there in this callback"                                                    },
    {"^W[o,i] = 1",                                 "'W' is a handle here and cannot be written"                                            },
    {"^E[n,i] = 1",                                 "'E' is a handle here and cannot be written"                                            },
    {"packed[^0,i] = 1",                            "'packed' is stored in packed form and written whole only"                              },
 /* handles */
    {"D[o,i] = ^W[o,i]",                            HANDLE                                                                                  },
    {"D = 2 * ^W",                                  HANDLE                                                                                  },
    {"b[o] = ^W[o,i]",                              HANDLE                                                                                  },
    {"y[n,o] = x[n,i] * ^W[o,i] * D[o,i]",          HANDLE                                                                                  },
    {"y[n,o] = x[n,i] / ^W[o,i]",                   HANDLE                                                                                  },
    {"b[o] = ^sqrt(W[o,i])",                        "index i is summed inside a function: give the sum a statement of its own"              },
    {"y[n,o] = x[n,i] * sqrt(^W[o,i])",             HANDLE                                                                                  },
    {"S3[o,p] = ^W[o,i] * W[p,i]",                  HANDLE                                                                                  },
    {"b[o] = ^W[(a,b),i] * W[(a,b),i] * S4[a,b,o]", HANDLE                                                                                  },
    {"y[n,o] = x[n,i] * ^W[o,i] * W[o,i]",          HANDLE                                                                                  },
    {"x2[n,i] = ^E[n,i]",                           ONEHOT                                                                                  },
    {"x2[n,i] = ^E[n,i] * v[i]",                    ONEHOT                                                                                  },
    {"t = ^E[n,i] * x[n,i]",                        ONEHOT                                                                                  },
    {"y[n,o] = ^E[n,i] * W[o,i]",                   ONEHOT                                                                                  },
 /* grammar */
    {"y[n,o]^",                                     "the statement ends where =, +=, -=, *=, /= or max= is wanted"                          },
    {"y[n,o] ^== 1",                                "'=' stands where =, +=, -=, *=, /= or max= is wanted"                                  },
    {"y[n,o] =^",                                   "the statement ends where a number, a name or '(' is wanted"                            },
    {"y[n,o] = 1 ^2",                               "'2' stands where an operator or ';' is wanted"                                         },
    {"y[n,o] = (b[o] ^",                            "the statement ends where ')' or an operator is wanted"                                 },
    {"y[n,o] = b[o^",                               "the statement ends where ',' or ']' is wanted"                                         },
    {"y[n,^] = 1",                                  "']' stands where an index, (k,b), a number, =number or a gather like q[n] is wanted"   },
    {"y[n,^-1] = 1",                                "'-' stands where an index, (k,b), a number, =number or a gather like q[n] is wanted"   },
    {"y = y * ^* 2",                                "'*' stands where a number, a name or '(' is wanted"                                    },
    {"y = ^1.2.3",                                  "not a number; write 0.5, 12 or 1e-8"                                                   },
    {"y = ^2x",                                     "not a number; write 0.5, 12 or 1e-8"                                                   },
    {"y = ^0x10",                                   "not a number; write 0.5, 12 or 1e-8"                                                   },
    {"y = ^pow(y)",                                 "pow takes 2 arguments, not 1"                                                          },
    {"y = ^sqrt(y, y)",                             "sqrt takes 1 argument, not 2"                                                          },
    {"y = ^normal(1)",                              "normal takes 0 arguments, not 1"                                                       },
    {"y = sqrt(y ^",                                "the statement ends where ')' is wanted"                                                },
    {"y = y ? 1 ^",                                 "the statement ends where ':' or an operator is wanted"                                 },
    {"^2 = y",                                      "'2' stands where the name of a tensor is wanted"                                       },
    {"y = uniform(0, 1) + ^normal",                 "a statement draws random numbers once: both would draw the same; split it"             },
    {"y = ^mt19937(y, 0)",                          "mt19937 takes two numbers, a seed and the draw to begin with"                          },
    {"y = b[o,p,q,r,^s]",                           "a tensor has at most 4 dimensions"                                                     },
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

static kit *world(void) {
    kit *const k = kit_new(
        "x rows 12;y rows 10;dy rows 10;W 10 12;A 4 12;A2 4 12;B 10 4;H rows 4;dA 4 12;dB 10 4;dC 4 4;b 10;b2 10;"
        "t 1;t2 1;q 12;u 4;v 12;S 12 12;S2 12 12;S3 10 10;S4 2 5 10;D 10 12;W2 10 12;E rows 12;x2 rows 12;code 4;"
        "code2 4;packed 2 8");
    kit_tensor(k, "x")->may = FORMULA_READ;
    kit_tensor(k, "W")->kind = FORMULA_WEIGHT;
    kit_tensor(k, "E")->kind = FORMULA_ONEHOT;
    kit_tensor(k, "dA")->may = FORMULA_ADD;
    kit_tensor(k, "dC")->may = 0;
    kit_tensor(k, "packed")->type = U8;
    kit_tensor(k, "packed")->store = STORE_U4;
    kit_number(k, "scale", 2);
    kit_number(k, "rank", 4);
    return k;
}

static void expect_shown(const char *got, const char *message, const char *shown, int at) {
    char want[800];
    snprintf(want, sizeof want, "demo forward at layer.0: %s\n  %s\n  %*s^", message, shown, at, "");
    cr_expect_str_eq(got, want, "got:\n%s\nwanted:\n%s", got, want);
}

ParameterizedTestParameters(formula_errors, a_mistake_is_refused_and_shown) {
    return cr_make_param_array(mistake, mistakes, MISTAKES);
}
ParameterizedTest(mistake *m, formula_errors, a_mistake_is_refused_and_shown) {
    kit *const k = world();
    char shown[160];
    const int at = (int)(strchr(m->text, '^') - m->text);
    snprintf(shown, sizeof shown, "%.*s%s", at, m->text, m->text + at + 1);
    cr_expect_eq(kit_check(k, shown), GRAFT_FAILED, "%s is accepted", shown);
    while (shown[0] && shown[strlen(shown) - 1] == ' ')
        shown[strlen(shown) - 1] = '\0';
    expect_shown(k->err.text, m->message, shown, at < (int)strlen(shown) ? at : (int)strlen(shown));
    kit_free(k);
}

/* ---- limits: told, never a crash ---- */

static void expect_told(const char *text, const char *message) {
    kit *const k = world();
    cr_expect_eq(kit_check(k, text), GRAFT_FAILED, "%.60s... is accepted", text);
    cr_expect(strstr(k->err.text, message), "got:\n%s\nwanted: %s", k->err.text, message);
    cr_expect(strlen(k->err.text) < 900);
    kit_free(k);
}

/* front, `count` times `part`, middle, `count` times `end` */
static char *repeated(const char *front, const char *part, int count, const char *middle, const char *end) {
    strbuf b = {0};
    strbuf_puts(&b, front);
    for (int i = 0; i < count; i++)
        strbuf_puts(&b, part);
    strbuf_puts(&b, middle);
    for (int i = 0; i < count; i++)
        strbuf_puts(&b, end);
    return b.text;
}

Test(formula_errors, limits_are_told) {
    static const struct {
        const char *front, *part;
        int count;
        const char *middle, *end, *message;
    } cases[] = {
        {"y = ",      "(",          60,   "1",                                            ")", "too many parentheses and signs inside each other (at most 48)"},
        {"y = ",      "-",          60,   "1",                                            "",  "too many parentheses and signs inside each other"             },
        {"y = ",      "1 ? 1 : ",   60,   "1",                                            "",  "too many parentheses and signs inside each other"             },
        {"y = ",      "q[",         100,  "i",                                            "]", "a statement names at most 32 tensors; split it"               },
        {"y = ",      "1+",         3000, "1",                                            "",
         "the statement is too long: it may have 512 numbers, names and operators; split it"                                                                  },
        {"b[o] = ",   "b2[o]+",     100,  "1",                                            "",  "a statement names at most 32 tensors; split it"               },
        {"b = ",      "b2+",        100,  "1",                                            "",  "a statement names at most 32 tensors; split it"               },
        {"b = ",      "b2*1+",      9000, "1",                                            "",  "a formula may have 16383 characters"                          },
        {"t = ",      "(scale-",    40,   "A[0,0]",                                       ")", "the statement needs more than 16 values at once; split it"    },
        {"S[i,j] = ", "S2[i,j] * ", 1,    "S[k,l]*S[m,o]*S[p,q]*S2[r,s]*S2[a,b]*S2[c,d]", "",
         "at most 12 different indices"                                                                                                                       },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char *const text = repeated(cases[c].front, cases[c].part, cases[c].count, cases[c].middle, cases[c].end);
        expect_told(text, cases[c].message);
        free(text);
    }
    expect_told("S[i,j] max= S2[j,i] * S2[k,l] * S2[l,k] * S2[m,n] * S2[n,m] * S2[p,q] * S2[q,p]",
                "the statement needs more than 6 indices at once; split it");
    expect_told("b = b2 + t + t2 + scale * b + q[0]", "stands without brackets beside");
    expect_told("y = \xc2\xb7 1", "a character that formulas do not have");
    expect_told("y = \xc2\xb7 1", "  y = ?? 1\n      ^");
}

Test(formula_errors, a_map_takes_ten_tensors) {
    kit *const k = kit_new("a 3;b 3;c 3;d 3;e 3;f 3;g 3;h 3;i 3;j 3;k 3");
    cr_expect_eq(kit_check(k, "a = b*c + d*e + f*g + h*i + j*b*a"), 0, "%s", k->err.text);
    cr_expect_eq(kit_check(k, "a = b*c + d*e + f*g + h*i + j*k"), GRAFT_FAILED);
    cr_expect(strstr(k->err.text, "the statement needs more than 10 tensors at once; split it"), "%s", k->err.text);
    kit_free(k);
}

Test(formula_errors, a_temporary_has_a_limit) {
    kit *const k = kit_new("a 1000000 4;b 1000000 4;c 1000000 4;t 4 1000000 1000000");
    cr_expect_eq(kit_check(k, "c[i,s] = a[i,r] * b[j,r] * sqrt(a[j,s] + b[j,s] * c[i,r] * t[s,i,j])"), GRAFT_FAILED);
    kit_free(k);
}

Test(formula_errors, only_the_first_statement_that_is_wrong_is_shown) {
    kit *const k = world();
    kit_check(k, "y = 1; q = q +* 2; y = foo");
    expect_shown(k->err.text, "'*' stands where a number, a name or '(' is wanted", "q = q +* 2", 7);
    kit_free(k);
}
