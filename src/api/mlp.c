/* SPDX-License-Identifier: MIT
 *
 * rotor_mlp: a small network of ternary layers.
 *
 * Weights are rows of Rotor codes padded to 8 bytes. A layer's input is either int8 with one step
 * (the general case) or, behind a sign layer, a row of Rotor codes: then a product is two bit
 * counts. Sums are exact integers: |sum| <= 127 * inputs fits 32 bits up to 2^24 inputs, which is
 * the limit of a layer. Scratch for the widest layer is allocated when layers are added, so that
 * forward allocates nothing.
 */
#include "rotor_ternary.h"

#include "base/base.h"
#include "quant/quant.h"

#include <math.h>

enum { MAX_WIDTH = 1 << 24 };

typedef struct layer {
    size_t n_in, n_out; /* shape */
    size_t row_bytes;   /* of a row of codes, multiple of 8 */
    uint8_t *codes;     /* owned [n_out, row_bytes] */
    float *bias;        /* owned [n_out], or NULL */
    float scale;        /* multiplies the values */
    rotor_mlp_act act;  /* what follows */
    uint64_t n_zero;    /* weights that are 0 */
} layer;

struct rotor_mlp {
    size_t n_inputs;  /* of the first layer */
    layer *layers;    /* owned, n_layers of them */
    size_t n_layers;  /* complete ones */
    size_t width;     /* widest input or output so far */
    float *x;         /* scratch [width]: activations between layers */
    int8_t *q;        /* scratch [width rounded up to 32]: quantised input */
    uint8_t *signs;   /* scratch [row bytes of width]: input as codes */
    int8_t *unpacked; /* scratch like q: one row of weights */
};

rotor_status rotor_mlp_create(rotor_mlp **out, size_t n_inputs, rotor_error *err) {
    if (n_inputs < 1 || n_inputs > MAX_WIDTH)
        return base_fail(err, ROTOR_E_ARG, "%zu inputs, 1 to %d expected", n_inputs, MAX_WIDTH);
    rotor_mlp *m = base_alloc(sizeof *m);
    if (!m) return base_fail_nomem(err, "creating a network");
    m->n_inputs = n_inputs;
    *out = m;
    return ROTOR_OK;
}

static void free_layer(layer *l) {
    base_free(l->codes);
    base_free(l->bias);
}

void rotor_mlp_free(rotor_mlp **mlp) {
    if (!mlp || !*mlp) return;
    rotor_mlp *m = *mlp;
    for (size_t i = 0; i < m->n_layers; i++) free_layer(&m->layers[i]);
    base_free(m->layers);
    base_free(m->x);
    base_free(m->q);
    base_free(m->signs);
    base_free(m->unpacked);
    base_free(m);
    *mlp = NULL;
}

size_t rotor_mlp_n_outputs(const rotor_mlp *m) {
    return m->n_layers ? m->layers[m->n_layers - 1].n_out : m->n_inputs;
}

/* ==== Building
 * ==================================================================================== */

static size_t padded(size_t n) { return (n + 31) / 32 * 32; }

static bool regrow(void *array, size_t n_bytes) {
    void **at = array;
    void *more = base_realloc(*at, n_bytes);
    if (more) *at = more;
    return more != NULL;
}

static rotor_status widen(rotor_mlp *m, size_t width, rotor_error *err) {
    if (width <= m->width) return ROTOR_OK;
    if (!regrow(&m->x, width * sizeof *m->x) || !regrow(&m->q, padded(width)) ||
        !regrow(&m->signs, padded(width) / 4) || !regrow(&m->unpacked, padded(width)))
        return base_fail_nomem(err, "adding a layer");
    m->width = width;
    return ROTOR_OK;
}

static rotor_status pack_rows(layer *l, const int8_t *w, rotor_error *err) {
    for (size_t r = 0; r < l->n_out; r++) {
        uint8_t *row = l->codes + r * l->row_bytes;
        rotor_status st = rotor_ternary_pack(w + r * l->n_in, l->n_in, row, err);
        if (st != ROTOR_OK) return base_fail_in(err, st, "output %zu", r), st;
        l->n_zero += rotor_ternary_count_zeros(row, l->n_in);
    }
    return ROTOR_OK;
}

static rotor_status fill_layer(layer *l, const int8_t *w, const float *bias, rotor_error *err) {
    l->row_bytes = padded(l->n_in) / 4;
    l->codes = base_alloc_array(l->n_out, l->row_bytes);
    if (bias) l->bias = base_alloc_array(l->n_out, sizeof *bias);
    if (!l->codes || (bias && !l->bias)) return base_fail_nomem(err, "adding a layer");
    if (bias) memcpy(l->bias, bias, l->n_out * sizeof *bias);
    return pack_rows(l, w, err);
}

rotor_status rotor_mlp_add_ternary(rotor_mlp *m, size_t n_out, const int8_t *w, float scale,
                                   const float *bias, rotor_mlp_act act, rotor_error *err) {
    layer l = {.n_in = rotor_mlp_n_outputs(m), .n_out = n_out, .scale = scale, .act = act};
    if (n_out < 1 || n_out > MAX_WIDTH)
        return base_fail(err, ROTOR_E_ARG, "%zu outputs, 1 to %d expected", n_out, MAX_WIDTH);
    if (!isfinite(scale) || (unsigned)act > ROTOR_MLP_SIGN)
        return base_fail(err, ROTOR_E_ARG,
                         "scale %g, activation %d: a finite scale and one of the "
                         "rotor_mlp_act expected",
                         (double)scale, act);
    ROTOR_TRY(widen(m, BASE_MAX(l.n_in, n_out), err));
    if (!regrow(&m->layers, (m->n_layers + 1) * sizeof *m->layers))
        return base_fail_nomem(err, "adding a layer");
    rotor_status st = fill_layer(&l, w, bias, err);
    if (st == ROTOR_OK)
        m->layers[m->n_layers++] = l;
    else
        free_layer(&l);
    return st;
}

rotor_status rotor_mlp_add_float(rotor_mlp *m, size_t n_out, const float *w, const float *bias,
                                 rotor_mlp_act act, rotor_error *err) {
    const size_t n_in = rotor_mlp_n_outputs(m);
    if (n_out < 1 || n_out > MAX_WIDTH)
        return base_fail(err, ROTOR_E_ARG, "%zu outputs, 1 to %d expected", n_out, MAX_WIDTH);
    for (size_t i = 0; i < n_in * n_out; i++)
        if (!isfinite(w[i]))
            return base_fail(err, ROTOR_E_ARG, "output %zu, input %zu: weight %g", i / n_in,
                             i % n_in, (double)w[i]);
    int8_t *t = base_alloc_array(n_out, n_in);
    if (!t) return base_fail_nomem(err, "quantising a layer");
    float scale = quant_absmean(w, n_in * n_out, t);
    rotor_status st = rotor_mlp_add_ternary(m, n_out, t, scale, bias, act, err);
    base_free(t);
    return st;
}

/* ==== Running
 * ===================================================================================== */

/* Legal codes only (they were packed here); n a multiple of 32, padding codes are zeros. */
static void unpack_row(const uint8_t *restrict codes, size_t n, int8_t *restrict dst) {
    for (size_t b = 0; b < n / 4; b++)
        for (unsigned k = 0; k < 4; k++) {
            unsigned code = codes[b] >> 2 * k & 3u;
            dst[4 * b + k] = (int8_t)((int)(code >> 1) - (int)(code & 1));
        }
}

static int32_t dot_int8(const int8_t *restrict w, const int8_t *restrict q, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += w[i] * q[i];
    return sum;
}

static float activate(rotor_mlp_act act, float v) {
    if (act == ROTOR_MLP_RELU) return v > 0 ? v : 0;
    if (act == ROTOR_MLP_SIGN) return v < 0 ? -1.0f : 1.0f;
    return v;
}

static rotor_status check_finite(const char *what, size_t layer_no, const float *x, size_t n,
                                 rotor_error *err) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return base_fail(err, ROTOR_E_ARG, "layer %zu, %s %zu is %g", layer_no, what, i,
                             (double)x[i]);
    return ROTOR_OK;
}

/* x -> y through one layer; signs: x holds only +-1. */
static void run_layer(rotor_mlp *m, const layer *l, const float *x, bool signs, float *y) {
    const size_t n = padded(l->n_in);
    float step = 1;
    memset(m->q, 0, n);
    if (signs) {
        for (size_t i = 0; i < l->n_in; i++) m->q[i] = x[i] < 0 ? -1 : 1;
        rotor_ternary_pack(m->q, n, m->signs, NULL);
    } else {
        step = quant_int8_sym(x, l->n_in, m->q);
    }
    for (size_t r = 0; r < l->n_out; r++) {
        const uint8_t *row = l->codes + r * l->row_bytes;
        int64_t sum = 0;
        if (signs) {
            rotor_ternary_dot(row, m->signs, n, &sum, NULL);
        } else {
            unpack_row(row, n, m->unpacked);
            sum = dot_int8(m->unpacked, m->q, n);
        }
        float v = (float)sum * (l->scale * step) + (l->bias ? l->bias[r] : 0);
        y[r] = activate(l->act, v);
    }
}

rotor_status rotor_mlp_forward(rotor_mlp *m, const float *x, float *y, rotor_error *err) {
    if (m->n_layers == 0) return base_fail(err, ROTOR_E_STATE, "the network has no layers");
    ROTOR_TRY(check_finite("input", 0, x, m->n_inputs, err));
    for (size_t i = 0; i < m->n_layers; i++) {
        bool last = i + 1 == m->n_layers;
        bool signs = i > 0 && m->layers[i - 1].act == ROTOR_MLP_SIGN;
        /* The input is quantised before the first output is written, so m->x may be both. */
        float *out = last ? y : m->x;
        run_layer(m, &m->layers[i], i ? m->x : x, signs, out);
        ROTOR_TRY(check_finite("output", i, out, m->layers[i].n_out, err)); /* float overflow */
    }
    return ROTOR_OK;
}

void rotor_mlp_get_stats(const rotor_mlp *m, rotor_mlp_stats *stats) {
    rotor_mlp_stats s = {.n_layers = m->n_layers};
    for (size_t i = 0; i < m->n_layers; i++) {
        const layer *l = &m->layers[i];
        uint64_t bias_bytes = l->bias ? l->n_out * sizeof *l->bias : 0;
        s.n_weights += (uint64_t)l->n_in * l->n_out;
        s.n_zero += l->n_zero;
        s.weight_bytes += l->n_out * l->row_bytes + sizeof l->scale + bias_bytes;
        s.float_bytes += (uint64_t)l->n_in * l->n_out * sizeof(float) + bias_bytes;
    }
    s.sparsity = s.n_weights ? (double)s.n_zero / (double)s.n_weights : 0;
    s.scratch_bytes = m->width * sizeof *m->x + 2 * padded(m->width) + padded(m->width) / 4;
    *stats = s;
}
