/* template-operators — what operators do with Python's values: arithmetic, comparison, slices. */
#include "text/template-private.h"
#include <math.h>

static value bad_operands(rendering *r, const char *op, value a, value b) {
    if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED)
        render_fail(r, "'%s' is undefined", a.kind == V_UNDEFINED ? a.s.text : b.s.text);
    else
        render_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op, value_kind_name(a), value_kind_name(b));
    return value_none();
}

static value whole_operation(rendering *r, int op, int64_t x, int64_t y) {
    int64_t out = 0;
    int over = 0;
    if ((op == OP_FLOOR || op == '%' || op == '/') && y == 0) {
        render_fail(r, "division by zero");
        return value_none();
    }
    switch (op) {
    case '+':
        over = __builtin_add_overflow(x, y, &out);
        break;
    case '-':
        over = __builtin_sub_overflow(x, y, &out);
        break;
    case '*':
        over = __builtin_mul_overflow(x, y, &out);
        break;
    case '/':
        return value_float((double)x / (double)y);
    case OP_FLOOR:
    case '%': {
        if (y == -1) return op == '%' ? value_int(0) : x == INT64_MIN ? value_float(-(double)x) : value_int(-x);
        const int64_t q = x / y - ((x % y != 0) && ((x < 0) != (y < 0)));
        return value_int(op == '%' ? x - q * y : q);
    }
    default: { /* ** */
        if (y < 0 && x == 0) render_fail(r, "0.0 cannot be raised to a negative power");
        if (y < 0) return value_float(pow((double)x, (double)y));
        if (x >= -1 && x <= 1) return value_int(y == 0 || (x == -1 && y % 2 == 0) ? 1 : x);
        out = 1;
        for (int64_t n = y; n > 0 && !over; n--) /* at most 63 rounds: |x| > 1 */
            over = __builtin_mul_overflow(out, x, &out);
    }
    }
    if (over) render_fail(r, "a whole number is too large");
    return value_int(out);
}

/* Python's // and % of floats: the rest has the sign of the divisor. */
static value float_division(int op, double x, double y) {
    double rest = fmod(x, y), quotient = (x - rest) / y;
    if (rest != 0 && (y < 0) != (rest < 0)) {
        rest += y;
        quotient -= 1;
    }
    if (rest == 0) rest = copysign(0, y);
    if (op == '%') return value_float(rest);
    double whole = quotient != 0 ? floor(quotient) : copysign(0, x / y);
    if (quotient - whole > 0.5) whole += 1;
    return value_float(whole);
}

static value float_operation(rendering *r, int op, double x, double y) {
    if ((op == '/' || op == OP_FLOOR || op == '%') && y == 0) {
        render_fail(r, "float division by zero");
        return value_none();
    }
    switch (op) {
    case '+':
        return value_float(x + y);
    case '-':
        return value_float(x - y);
    case '*':
        return value_float(x * y);
    case '/':
        return value_float(x / y);
    case OP_FLOOR:
    case '%':
        return float_division(op, x, y);
    default:
        if (x == 0 && y < 0) render_fail(r, "0.0 cannot be raised to a negative power");
        if (x < 0 && y != floor(y)) render_fail(r, "a power that is a complex number");
        const double power = pow(x, y);
        if (isinf(power) && isfinite(x) && isfinite(y)) render_fail(r, "(34, 'Numerical result out of range')");
        return value_float(power);
    }
}

/* A string or list `times` times. */
static value repeated(rendering *r, value of, int64_t times) {
    const value out = value_new_list(r, of.kind);
    sink text = {0};
    const int64_t empty = of.kind == V_STRING ? of.s.length == 0 : of.list->count == 0;
    for (; times > 0 && !empty && !failed(r); times--) {
        render_step(r, 1);
        if (of.kind == V_STRING)
            sink_add(r, &text, of);
        else
            list_add_all(r, out, of);
    }
    if (of.kind != V_STRING) return out;
    value whole = sink_take(r, &text);
    whole.s.safe = of.s.safe;
    return whole;
}

static value plain(value text) {
    text.s.safe = 0;
    return text;
}

value operate(rendering *r, int op, value a, value b) {
    static const char *const names[] = {"//", "**"};
    const char word[2] = {(char)op, 0};
    const int sequence = a.kind == V_STRING || a.kind == V_LIST || a.kind == V_TUPLE;
    if (op == '~') return value_join(r, plain(value_string(r, a)), plain(value_string(r, b)));
    if (value_is_number(a) && value_is_number(b))
        return a.kind != V_FLOAT && b.kind != V_FLOAT ? whole_operation(r, op, a.i, b.i)
                                                      : float_operation(r, op, value_real(a), value_real(b));
    if (op == '%' && a.kind == V_STRING) return text_percent(r, a, b);
    if (op == '+' && a.kind == V_STRING && b.kind == V_STRING) {
        const int safe = a.s.safe || b.s.safe;
        value out = safe ? value_join(r, text_escape(r, a), text_escape(r, b)) : value_join(r, a, b);
        out.s.safe = safe;
        return out;
    }
    if (op == '+' && a.kind == b.kind && sequence) {
        const value out = value_new_list(r, a.kind);
        list_add_all(r, out, a);
        list_add_all(r, out, b);
        return out;
    }
    if (op == '*' && sequence && (b.kind == V_INT || b.kind == V_BOOL)) return repeated(r, a, b.i);
    if (op == '*' && (a.kind == V_INT || a.kind == V_BOOL) &&
        (b.kind == V_STRING || b.kind == V_LIST || b.kind == V_TUPLE))
        return repeated(r, b, a.i);
    if (op == '+' && a.kind == V_STRING && b.kind != V_UNDEFINED) {
        render_fail(r, "can only concatenate str (not \"%s\") to str", value_kind_name(b));
        return value_none();
    }
    return bad_operands(r, op >= OP_EQ ? names[op - OP_FLOOR] : word, a, b);
}

value negate(rendering *r, int op, value a) {
    if (!value_is_number(a)) return bad_operands(r, "unary", a, a);
    if (op == '+') return a.kind == V_BOOL ? value_int(a.i) : a;
    return a.kind == V_FLOAT ? value_float(-a.f) : whole_operation(r, '-', 0, a.i);
}

int compare(rendering *r, int op, value a, value b) {
    switch (op) {
    case OP_EQ:
        return value_equal(a, b);
    case OP_NE:
        return !value_equal(a, b);
    case '<':
        return value_less(r, a, b);
    case '>':
        return value_less(r, b, a);
    case OP_LE:
        return !value_less(r, b, a);
    case OP_GE:
        return !value_less(r, a, b);
    case OP_IN:
        return value_in(r, a, b);
    default:
        return !value_in(r, a, b);
    }
}

value slice(rendering *r, value of, const value parts[3]) {
    int64_t bounds[3] = {0}, given[3] = {0};
    for (int i = 0; i < 3 && !failed(r); i++) {
        const value v = parts[i];
        if (v.kind == V_NONE) continue;
        if (v.kind != V_INT && v.kind != V_BOOL) render_fail(r, "slice indices must be integers or None");
        bounds[i] = v.i;
        given[i] = 1;
    }
    const int64_t step = given[2] ? bounds[2] : 1;
    if (!failed(r) && of.kind == V_UNDEFINED) render_fail(r, "'%s' is undefined", of.s.text);
    if (!failed(r) && of.kind != V_STRING && !value_is_sequence(of))
        render_fail(r, "'%s' object is not subscriptable", value_kind_name(of));
    if (!failed(r) && step == 0) render_fail(r, "slice step cannot be zero");
    if (failed(r)) return value_none();
    const int64_t length = value_length(r, of), low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
    for (int i = 0; i < 2; i++) {
        if (!given[i]) bounds[i] = (i == 0) == (step > 0) ? low : high;
        if (given[i] && bounds[i] < 0) bounds[i] += length;
        bounds[i] = bounds[i] < low ? low : bounds[i] > high ? high : bounds[i];
    }
    if (of.kind == V_STRING && step == 1) {
        const int64_t end = bounds[1] > bounds[0] ? bounds[1] : bounds[0];
        return value_part(r, of, text_offset(of.s.text, of.s.length, bounds[0]),
                          text_offset(of.s.text, of.s.length, end));
    }
    const value from = value_items(r, of), out = value_new_list(r, of.kind == V_TUPLE ? V_TUPLE : V_LIST);
    sink text = {0};
    for (int64_t i = bounds[0]; (step > 0 ? i < bounds[1] : i > bounds[1]) && !failed(r);) {
        if (of.kind == V_STRING)
            sink_add(r, &text, from.list->at[i]);
        else
            list_add(r, out, from.list->at[i]);
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    if (of.kind != V_STRING) return out;
    value whole = sink_take(r, &text);
    whole.s.safe = of.s.safe;
    return whole;
}
