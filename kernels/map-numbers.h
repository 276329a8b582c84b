/* map-numbers — what the operations of a map make of numbers. Whoever includes this defines `real` and includes a math header that
 * fits it: the reference kernels (float and double), and formulas whose value is a number. */
#ifndef GRAFT_KERNELS_MAP_NUMBERS_H
#define GRAFT_KERNELS_MAP_NUMBERS_H
#include "kernels/kernels.h"

/* NAN: no operation on two numbers. */
static inline real map_binary(int op, real a, real b) {
    switch (op) {
    case MAP_ADD:
        return a + b;
    case MAP_SUB:
        return a - b;
    case MAP_MUL:
        return a * b;
    case MAP_DIV:
        return a / b;
    case MAP_LT:
        return a < b;
    case MAP_LE:
        return a <= b;
    case MAP_GT:
        return a > b;
    case MAP_GE:
        return a >= b;
    case MAP_EQ:
        return a == b;
    case MAP_NE:
        return a != b;
    case MAP_AND:
        return a != 0 && b != 0;
    case MAP_OR:
        return a != 0 || b != 0;
    case MAP_MAX:
        return a > b ? a : b;
    case MAP_MIN:
        return a < b ? a : b;
    case MAP_POW:
        return pow(a, b);
    default:
        return (real)NAN;
    }
}

/* NAN: no operation on one. */
static inline real map_unary(int op, real a) {
    switch (op) {
    case MAP_NEG:
        return -a;
    case MAP_NOT:
        return a == 0;
    case MAP_SQRT:
        return sqrt(a);
    case MAP_EXP:
        return exp(a);
    case MAP_LOG:
        return log(a);
    case MAP_ABS:
        return fabs(a);
    case MAP_SIGN:
        return (real)((a > 0) - (a < 0));
    case MAP_TANH:
        return tanh(a);
    case MAP_SIGMOID:
        return 1 / (1 + exp(-a));
    case MAP_ERF:
        return erf(a);
    case MAP_COS:
        return cos(a);
    case MAP_FLOOR:
        return floor(a);
    case MAP_ROUND:
        return rint(a);
    default:
        return (real)NAN;
    }
}

#endif
