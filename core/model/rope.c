/* rope — tables of inverse frequencies, with every scaling that transformers knows (modeling_rope_utils.py).
 *
 *   f0[i] = 1 / theta^(2i/dim)         every step in f32, as the reference: the f32 rounding of an angle at position 100000 is
 *                                      larger than any tolerance of a test, so the tables must round alike
 *   linear    f0 / factor
 *   dynamic   f0 with theta·((factor·L/Lmax) - (factor - 1))^(dim/(dim-2)), L = the longest position + 1, at least Lmax
 *   llama3    long wavelengths divided by factor, short ones kept, a blend between
 *   yarn      the same idea with a linear ramp over i; cos and sin are multiplied by `factor` of the table
 *   longrope  1 / (ext[i]·theta^(2i/dim)), ext from short_factor or long_factor by length */
#include "model/model-private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* theta^(2i/dim); of an odd part of the head the last pair reaches one further. */
static float power_of(double theta, int64_t i, int64_t dim) {
    return powf((float)theta, (float)(2 * i) / (float)dim);
}

static double need(const rope_source *s, const char *key, graft_error *err) {
    double value = 0;
    if (json_get_real(s->dict, s->what, key, 0, &value, err)) return 1;
    if (!(value > 0 && value < 1e9)) {
        fail(err, GRAFT_FAILED, "%s: the rope scaling needs a \"%s\" above 0", s->what, key);
        return 1;
    }
    return value;
}

/* 0 when the key is absent or null. */
static double may_have(const rope_source *s, const char *key, graft_error *err) {
    const json_t *value = json_object_get(s->dict, key);
    return value && !json_is_null(value) ? need(s, key, err) : 0;
}

/* The length the model was trained for before scaling; a key at the top level wins, but knows nothing of layer types. */
static int64_t original(const rope_source *s, graft_error *err) {
    static const char key[] = "original_max_position_embeddings";
    int64_t inner = 0, outer = 0;
    if (json_get_int(s->dict, s->what, key, 0, &inner, err) ||
        (!s->layered && json_get_int(s->config, s->what, key, s->longrope_names ? 4096 : 0, &outer, err)))
        return 1;
    const int64_t value = outer ? outer : inner;
    if (value < 0 || value > INT32_MAX)
        fail(err, GRAFT_FAILED, "%s: %s is %lld; it must be a number of positions", s->what, key, (long long)value);
    return value ? value : s->context;
}

static void llama3(const rope_source *s, rope_table *r, graft_error *err) {
    const double factor = need(s, "factor", err), low = need(s, "low_freq_factor", err),
                 high = need(s, "high_freq_factor", err);
    const double old = (double)original(s, err);
    if (!err->code && !(low < high))
        fail(err, GRAFT_FAILED, "%s: low_freq_factor %g must be below high_freq_factor %g", s->what, low, high);
    for (int64_t i = 0; i < r->pairs; i++) {
        const float f = r->inv_freq[i], wave = (float)(2 * M_PI) / f, divided = f / (float)factor;
        if (wave > (float)(old / low)) {
            r->inv_freq[i] = divided;
        } else if (wave >= (float)(old / high)) {
            const float blend = ((float)old / wave - (float)low) / (float)(high - low);
            r->inv_freq[i] = (1 - blend) * f / (float)factor + blend * f;
        }
    }
}

/* Dimension (a real number) that turns `turns` times over `old` positions. */
static double yarn_dimension(double turns, double old, double theta, double dim) {
    return dim * log(old / (turns * 2 * M_PI)) / (2 * log(theta));
}

static double yarn_attention(double scale, double mscale) {
    return scale <= 1 ? 1 : 0.1 * mscale * log(scale) + 1;
}

static void yarn(const rope_source *s, rope_table *r, graft_error *err) {
    double fast = 0, slow = 0, mscale = 0, mscale_all = 0;
    int truncate = 1;
    const double old = (double)original(s, err), dim = (double)r->dim;
    const double factor =
        json_is_null(json_object_get(s->dict, "factor")) ? (double)s->context / old : need(s, "factor", err);
    const double given = may_have(s, "attention_factor", err);
    if (err->code || json_get_real(s->dict, s->what, "beta_fast", 32, &fast, err) ||
        json_get_real(s->dict, s->what, "beta_slow", 1, &slow, err) ||
        json_get_real(s->dict, s->what, "mscale", 0, &mscale, err) ||
        json_get_real(s->dict, s->what, "mscale_all_dim", 0, &mscale_all, err) ||
        json_get_bool(s->layered ? s->shared : s->dict, s->what, "truncate", 1, &truncate, err))
        return;
    if (!(r->theta > 1) || !(fast > 0) || !(slow > 0)) {
        fail(err, GRAFT_FAILED, "%s: yarn needs rope_theta above 1 and positive beta_fast and beta_slow", s->what);
        return;
    }
    double lo = yarn_dimension(fast, old, r->theta, dim), hi = yarn_dimension(slow, old, r->theta, dim);
    lo = fmax(truncate ? floor(lo) : lo, 0);
    hi = fmin(truncate ? ceil(hi) : hi, dim - 1);
    if (lo == hi) hi += 0.001;
    for (int64_t i = 0; i < r->pairs; i++) {
        const float power = power_of(r->theta, i, r->dim);
        const float line = ((float)i - (float)lo) / (float)(hi - lo),
                    ramp = line < 0   ? 0
                           : line > 1 ? 1
                                      : line,
                    keep = 1 - ramp;
        r->inv_freq[i] = 1.0f / ((float)factor * power) * (1 - keep) + 1.0f / power * keep;
    }
    r->factor = given != 0             ? given
                : mscale && mscale_all ? yarn_attention(factor, mscale) / yarn_attention(factor, mscale_all)
                                       : yarn_attention(factor, 1);
}

static void longrope_table(const rope_source *s, const rope_table *r, const char *key, float *out, graft_error *err) {
    const json_t *list = json_object_get(s->dict, key);
    if (!json_is_array(list) || json_array_size(list) != (size_t)r->pairs) {
        fail(err, GRAFT_FAILED, "%s: %s must be a list of %lld numbers", s->what, key, (long long)r->pairs);
        return;
    }
    for (int64_t i = 0; i < r->pairs && !err->code; i++) {
        const double ext = json_number_value(json_array_get(list, (size_t)i));
        if (!(ext > 0)) fail(err, GRAFT_FAILED, "%s: %s[%lld] must be a number above 0", s->what, key, (long long)i);
        out[i] = 1.0f / ((float)ext * power_of(r->theta, i, r->dim));
    }
}

static void longrope(const rope_source *s, rope_table *r, graft_error *err) {
    r->original = original(s, err);
    const double given = may_have(s, "attention_factor", err), explicit = may_have(s, "factor", err);
    const double factor = explicit > 0 ? explicit : (double)s->context / (double)r->original;
    if (err->code) return;
    r->inv_freq_long = mem_new((size_t)r->pairs, sizeof *r->inv_freq_long);
    longrope_table(s, r, "short_factor", r->inv_freq, err);
    longrope_table(s, r, "long_factor", r->inv_freq_long, err);
    r->factor = given > 0 ? given : factor <= 1 ? 1 : sqrt(1 + log(factor) / log((double)r->original));
}

static int read_pairs(const rope_source *s, rope_table *r, graft_error *err) {
    double outer = 1, share = 1;
    if (json_get_real(s->config, s->what, "partial_rotary_factor", 1, &outer, err) ||
        json_get_real(s->dict, s->what, "partial_rotary_factor", outer, &share, err))
        return err->code;
    if (!(share > 0 && share <= 1) || (share != 1 && !s->partial))
        return fail(err, GRAFT_FAILED, "%s: partial_rotary_factor is %g; %s", s->what, share,
                    s->partial ? "it must be above 0 and at most 1" : "this family rotates the whole head");
    r->dim = (int64_t)((double)s->head_dim * share);
    r->pairs = (r->dim + 1) / 2;
    return r->pairs ? GRAFT_OK
                    : fail(err, GRAFT_FAILED, "%s: partial_rotary_factor %g rotates nothing of a head of %lld", s->what,
                           share, (long long)s->head_dim);
}

int rope_read(const rope_source *s, rope_table *out, graft_error *err) {
    const char *type = NULL, *old_type = NULL;
    rope_table *r = out;
    *r = (rope_table){.factor = 1, .theta = s->theta, .scaling_factor = 1};
    if (json_get_text(s->dict, s->what, "type", "default", &old_type, err) ||
        json_get_text(s->dict, s->what, "rope_type", old_type, &type, err) ||
        json_get_real(s->dict, s->what, "rope_theta", s->theta, &r->theta, err) || read_pairs(s, r, err))
        return err->code;
    if (!(r->theta > 0 && r->theta < 1e15))
        return fail(err, GRAFT_FAILED, "%s: rope_theta is %g; it must be above 0", s->what, r->theta);
    r->inv_freq = mem_new((size_t)r->pairs, sizeof *r->inv_freq);
    for (int64_t i = 0; i < r->pairs; i++)
        r->inv_freq[i] = 1.0f / power_of(r->theta, i, r->dim);
    if (s->longrope_names && (strcmp(type, "su") == 0 || strcmp(type, "yarn") == 0)) type = "longrope";
    if (strcmp(type, "default") == 0) {
        return GRAFT_OK;
    } else if (strcmp(type, "longrope") == 0) {
        longrope(s, r, err);
    } else if (s->longrope_names) {
        fail(err, GRAFT_FAILED, "%s: rope type \"%s\"; this family takes default and longrope", s->what, type);
    } else if (strcmp(type, "linear") == 0) {
        r->scaling_factor = need(s, "factor", err);
        for (int64_t i = 0; i < r->pairs; i++)
            r->inv_freq[i] /= (float)r->scaling_factor;
    } else if (strcmp(type, "dynamic") == 0) {
        r->scaling_factor = need(s, "factor", err);
        r->dynamic = 1;
        r->original = s->context;
        if (r->pairs < 2) fail(err, GRAFT_FAILED, "%s: dynamic rope needs a head dimension of at least 4", s->what);
    } else if (strcmp(type, "llama3") == 0) {
        llama3(s, r, err);
    } else if (strcmp(type, "yarn") == 0) {
        yarn(s, r, err);
    } else {
        fail(err, GRAFT_FAILED,
             "%s: rope type \"%s\" is not known; known are default, linear, dynamic, llama3, yarn, longrope", s->what,
             type);
    }
    int finite = isfinite(r->factor);
    for (int64_t i = 0; i < r->pairs; i++)
        finite = finite && isfinite(r->inv_freq[i]) && (!r->inv_freq_long || isfinite(r->inv_freq_long[i]));
    if (!err->code && !finite)
        fail(err, GRAFT_FAILED, "%s: the numbers of the rope scaling give frequencies that are not finite", s->what);
    return err->code;
}

const float *rope_for(const rope_table *r, int64_t length, float *own) {
    if (r->inv_freq_long && length > r->original) return r->inv_freq_long;
    if (!r->dynamic || length <= r->original) return r->inv_freq;
    const float factor = (float)r->scaling_factor, dim = (float)r->dim;
    const float grown = factor * (float)length / (float)r->original - (float)(r->scaling_factor - 1);
    const float theta = (float)r->theta * powf(grown, dim / (dim - 2));
    for (int64_t i = 0; i < r->pairs; i++)
        own[i] = 1.0f / power_of((double)theta, i, r->dim);
    return own;
}
