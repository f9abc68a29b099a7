/* SPDX-License-Identifier: MIT
 *
 * Every float kernel, once, in terms of sixteen lanes. A file of each instruction set includes a
 * v16 header and then this one; plain C is just one more instruction set (v16_c.h), and what it
 * computes is the specification. Since each v16 operation has the same bits everywhere, so have
 * the kernels: the order of every sum can be read here.
 *
 * Before including: define NAME(x) as x with the instruction set's suffix.
 */
#include "kern/kern.h"
#include "kern/kern_internal.h"

#include <assert.h>
#include <math.h>

#define NOINLINE    __attribute__((noinline))
#define INLINE_BODY static inline __attribute__((always_inline))

/* Lanes of a vector of n elements from i on: 16, or what is left. */
static inline size_t lanes_at(size_t i, size_t n) { return n - i < 16 ? n - i : 16; }

/* ==== Exponential ================================================================================
 * exp(x) = 2^n * p(r), n = round(x / ln 2), r = x - n ln 2 in two parts, p a degree-7 polynomial
 * for [-ln2/2, ln2/2] (coefficients of Cephes' expf). Adding 1.5 * 2^23 rounds to a whole number,
 * which then stands in the low bits. Measured against exp in double on every float of
 * [-87.3, 88.3] beyond 5e-10: at most MEASURED units in the last place, MEASURED relative. Below
 * -87.3 the result is 0, above 88.3 it stays at exp(88.3). */

/* For x at most 88.3. */
static inline v16 lanes_exp_below(v16 x) {
    const v16 low = v16_set(-87.3f), whole = v16_set(12582912.0f);
    v16 y = v16_max(low, x);
    v16 t = v16_fma(y, v16_set(1.44269504f), whole);
    v16 n = v16_sub(t, whole);
    v16 r = v16_fma(n, v16_set(-0.693359375f), y);
    r = v16_fma(n, v16_set(2.12194440e-4f), r);
    v16 p = v16_set(1.9875691500e-4f);
    p = v16_fma(p, r, v16_set(1.3981999507e-3f));
    p = v16_fma(p, r, v16_set(8.3334519073e-3f));
    p = v16_fma(p, r, v16_set(4.1665795894e-2f));
    p = v16_fma(p, r, v16_set(1.6666665459e-1f));
    p = v16_fma(p, r, v16_set(5.0000001201e-1f));
    p = v16_fma(p, r, v16_set(1.0f));
    p = v16_fma(p, r, v16_set(1.0f));
    return v16_if_less(x, low, v16_set(0), v16_mul(p, v16_pow2(t)));
}

static inline v16 lanes_exp(v16 x) {
    return lanes_exp_below(v16_if_less(v16_set(88.3f), x, v16_set(88.3f), x));
}

static float scalar_exp(float x) {
    float t[16];
    v16_store(t, lanes_exp(v16_set(x)));
    return t[0];
}

/* ==== Float matrix products ======================================================================
 * Tiles of R rows x T tokens, each output in an accumulator of its own that sums its columns in
 * order. One token takes four rows at once, because one chain of multiply-adds would wait for
 * itself; the four rows of the next tile are prefetched meanwhile, as one linear stream. */

static inline v16 load_f32_n(const uint8_t *p, size_t n) {
    if (n == 16) return v16_load((const float *)(const void *)p); /* any alignment */
    float t[16] = {0};
    memcpy(t, p, n * 4);
    return v16_load(t);
}

/* Sixteen columns from c on, n of them real. */
#define MM_STEP(R, T, elem_bytes, LOAD_N, n)                                                       \
    do {                                                                                           \
        v16 wv[R];                                                                                 \
        _Pragma("GCC unroll 4") for (size_t i = 0; i < R; i++) wv[i] =                             \
            LOAD_N(row + i * w->row_bytes + c * elem_bytes, n);                                    \
        _Pragma("GCC unroll 4") for (size_t k = 0; k < T; k++) {                                   \
            v16 xv = v16_load_n(xb + k * x->ldx + c, n);                                           \
            _Pragma("GCC unroll 4") for (size_t i = 0; i < R; i++) acc[i][k] =                     \
                v16_fma(wv[i], xv, acc[i][k]);                                                     \
        }                                                                                          \
    } while (0)

#define MM_TILE(name, R, T, elem_bytes, LOAD_N)                                                    \
    static NOINLINE void name##_##R##x##T(float *y, size_t ldy, const kern_mat *w,                 \
                                          const kern_act *x, size_t r, size_t b) {                 \
        const uint8_t *row = w->data + r * w->row_bytes, *next = row + R * w->row_bytes;           \
        const float *xb = x->x + b * x->ldx;                                                       \
        v16 acc[R][T];                                                                             \
        size_t c = 0;                                                                              \
        _Pragma("GCC unroll 4") for (size_t i = 0; i < R; i++)                                     \
            _Pragma("GCC unroll 4") for (size_t k = 0; k < T; k++) acc[i][k] = v16_set(0);         \
        for (; c + 16 <= w->cols; c += 16) {                                                       \
            if (T == 1)                                                                            \
                for (size_t at = 0; at < R * 16 * elem_bytes; at += 64)                            \
                    __builtin_prefetch(next + R * c * elem_bytes + at);                            \
            MM_STEP(R, T, elem_bytes, LOAD_N, 16);                                                 \
        }                                                                                          \
        if (c < w->cols) MM_STEP(R, T, elem_bytes, LOAD_N, w->cols - c);                           \
        _Pragma("GCC unroll 4") for (size_t i = 0; i < R; i++)                                     \
            _Pragma("GCC unroll 4") for (size_t k = 0; k < T; k++) y[(b + k) * ldy + r + i] =      \
                v16_sum(acc[i][k]);                                                                \
    }

#ifdef V16_MANY /* registers for 16 accumulators */
#define MM_ROWS   4
#define MM_TOKENS 4
#define MM_TILES(name, elem_bytes, LOAD_N)                                                         \
    MM_TILE(name, 1, 1, elem_bytes, LOAD_N)                                                        \
    MM_TILE(name, 4, 1, elem_bytes, LOAD_N)                                                        \
    MM_TILE(name, 1, 4, elem_bytes, LOAD_N)                                                        \
    MM_TILE(name, 4, 4, elem_bytes, LOAD_N)
#define MM_BIG(name)  name##_4x4
#define MM_WIDE(name) name##_1x4
#else
#define MM_ROWS   2
#define MM_TOKENS 2
#define MM_TILES(name, elem_bytes, LOAD_N)                                                         \
    MM_TILE(name, 1, 1, elem_bytes, LOAD_N)                                                        \
    MM_TILE(name, 4, 1, elem_bytes, LOAD_N)                                                        \
    MM_TILE(name, 1, 2, elem_bytes, LOAD_N)                                                        \
    MM_TILE(name, 2, 2, elem_bytes, LOAD_N)
#define MM_BIG(name)  name##_2x2
#define MM_WIDE(name) name##_1x2
#endif

enum { MM_BLOCK = 32 }; /* rows that stay in a cache while the tokens pass */

/* Within a block of rows the tokens of a tile stay in the first-level cache, the rows in the
 * second. */
#define MM_PLAIN(name, elem_bytes, LOAD_N)                                                         \
    MM_TILES(name, elem_bytes, LOAD_N)                                                             \
    static void NAME(name)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,             \
                           size_t row_begin, size_t row_end) {                                     \
        for (size_t r0 = row_begin; r0 < row_end; r0 += MM_BLOCK) {                                \
            const size_t r1 = row_end - r0 < MM_BLOCK ? row_end : r0 + MM_BLOCK;                   \
            size_t b = 0, r;                                                                       \
            for (; b + MM_TOKENS <= x->n_tok; b += MM_TOKENS) {                                    \
                for (r = r0; r + MM_ROWS <= r1; r += MM_ROWS) MM_BIG(name)(y, ldy, w, x, r, b);    \
                for (; r < r1; r++) MM_WIDE(name)(y, ldy, w, x, r, b);                             \
            }                                                                                      \
            for (; b < x->n_tok; b++) {                                                            \
                for (r = r0; r + 4 <= r1; r += 4) name##_4x1(y, ldy, w, x, r, b);                  \
                for (; r < r1; r++) name##_1x1(y, ldy, w, x, r, b);                                \
            }                                                                                      \
        }                                                                                          \
    }

MM_PLAIN(mm_f32, 4, load_f32_n)
MM_PLAIN(mm_f16, 2, v16_load_f16_n)
MM_PLAIN(mm_bf16, 2, v16_load_bf16_n)

/* Ternary rows as floats -1, 0, +1; the scale multiplies the sum once. fetch gives the 128 values
 * of row r from column c on, whatever stands in padding columns. */
INLINE_BODY void ternary_f32(float *y, size_t ldy, const kern_mat *w, const kern_act *x, size_t r,
                             void (*const fetch)(const kern_mat *w, size_t r, size_t c,
                                                 int8_t *t)) {
    const float scale = w->row_scale ? w->row_scale[r] : w->scale;
    for (size_t b = 0; b < x->n_tok; b++) {
        const float *xb = x->x + b * x->ldx;
        v16 acc = v16_set(0);
        for (size_t c = 0; c < w->cols; c += 128) {
            int8_t t[128];
            fetch(w, r, c, t);
            for (size_t i = 0; i < 128 && c + i < w->cols; i += 16)
                acc = v16_fma(v16_load_i8(t + i), v16_load_n(xb + c + i, lanes_at(c + i, w->cols)),
                              acc);
        }
        y[b * ldy + r] = v16_sum(acc) * scale;
    }
}

INLINE_BODY void fetch_t2(const kern_mat *w, size_t r, size_t c, int8_t *t) {
    t2_block_values(w->data + r * w->row_bytes + c / 4, t);
}

/* 128 columns are no whole chunks of 20: the first chunk may begin before them. */
INLINE_BODY void fetch_t5(const kern_mat *w, size_t r, size_t c, int8_t *t) {
    const size_t first = c / QUANT_T5_COLS, end = c + 128 < w->cols ? c + 128 : w->cols;
    int8_t chunks[8 * QUANT_T5_COLS] = {0};
    for (size_t k = first; k * QUANT_T5_COLS < end; k++)
        t5_chunk_values(w, r, k, chunks + (k - first) * QUANT_T5_COLS);
    memcpy(t, chunks + (c - first * QUANT_T5_COLS), 128);
}

static void NAME(mm_t2_f32)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                            size_t row_begin, size_t row_end) {
    for (size_t r = row_begin; r < row_end; r++) ternary_f32(y, ldy, w, x, r, fetch_t2);
}

static void NAME(mm_t5_f32)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                            size_t row_begin, size_t row_end) {
    for (size_t r = row_begin; r < row_end; r++) ternary_f32(y, ldy, w, x, r, fetch_t5);
}

enum { F32_TOKENS = 8, F32_COLS = 512 }; /* tokens and columns that share decoded weights */

/* Columns [from, to) of row r decoded as a * q - b. */
static void decode_b32(float *v, const kern_mat *w, size_t r, size_t from, size_t to) {
    for (size_t c = from; c < to; c += 32, v += 32) {
        quant_block32 k;
        quant_unpack32(w->type, w->data + r * w->row_bytes, c / 32, &k);
        for (size_t h = 0; h < 2; h++) {
            v16 q = v16_mul(v16_set(k.a[h]), v16_load_i8(k.q + 16 * h));
            v16_store(v + 16 * h, v16_sub(q, v16_set(k.b[h])));
        }
    }
}

/* Block rows; each accumulator takes its sixteen lanes of columns in order. */
static void NAME(mm_b32_f32)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                             size_t row_begin, size_t row_end) {
    for (size_t r = row_begin; r < row_end; r++)
        for (size_t b0 = 0; b0 < x->n_tok; b0 += F32_TOKENS) {
            const size_t n = x->n_tok - b0 < F32_TOKENS ? x->n_tok - b0 : F32_TOKENS;
            v16 acc[F32_TOKENS];
            for (size_t b = 0; b < n; b++) acc[b] = v16_set(0);
            for (size_t c = 0; c < w->cols; c += F32_COLS) {
                float v[F32_COLS];
                const size_t cols = w->cols - c < F32_COLS ? w->cols - c : F32_COLS;
                decode_b32(v, w, r, c, c + cols);
                for (size_t b = 0; b < n; b++)
                    for (size_t i = 0; i < cols; i += 16)
                        acc[b] = v16_fma(v16_load(v + i),
                                         v16_load(x->x + (b0 + b) * x->ldx + c + i), acc[b]);
            }
            for (size_t b = 0; b < n; b++) y[(b0 + b) * ldy + r] = v16_sum(acc[b]);
        }
}

/* ==== Activations to int8 ===================================================================== */

static float absmax(const float *x, size_t n) {
    v16 m = v16_set(0);
    for (size_t i = 0; i < n; i += 16) m = v16_max(m, v16_abs(v16_load_n(x + i, lanes_at(i, n))));
    return v16_hmax(m);
}

/* BitNet: s = 127 / max(absmax, 1e-5); q = round-half-even(x s). */
static void NAME(quant_i8)(int8_t *q, float *s, int32_t *sum, const float *x, size_t n,
                           size_t ldq) {
    float m = absmax(x, n);
    *s = 127.0f / (m > 1e-5f ? m : 1e-5f);
    *sum = 0;
    for (size_t i = 0; i < ldq; i += 16) {
        v16 v = i < n ? v16_load_n(x + i, lanes_at(i, n)) : v16_set(0);
        v16_store_i8(q + i, v16_mul(v, v16_set(*s)));
        *sum += v16_sum_i8(q + i);
    }
}

/* Blocks of 32: step = absmax / 127, q = round-half-even(x * (127 / absmax)). A block below 1e-30,
 * where 127 / absmax could overflow, counts as zero: step 0. */
static inline float block_factor(float absmax32) {
    return absmax32 > 1e-30f ? 127.0f / absmax32 : 0;
}

static void NAME(quant_q8)(int8_t *q, float *s, int16_t *sum16, const float *x, size_t n,
                           size_t ldq) {
    for (size_t i = 0; i < ldq; i += 32) {
        size_t left = i < n ? (n - i < 32 ? n - i : 32) : 0;
        float m = absmax(x + i, left);
        float inv = block_factor(m);
        s[i / 32] = inv > 0 ? m / 127.0f : 0;
        for (size_t j = 0; j < 32; j += 16) {
            v16 v = j < left ? v16_load_n(x + i + j, lanes_at(j, left)) : v16_set(0);
            v16_store_i8(q + i + j, v16_mul(v, v16_set(inv)));
            sum16[(i + j) / 16] = (int16_t)v16_sum_i8(q + i + j);
        }
    }
}

/* ==== Element-wise ============================================================================ */

static void NAME(rmsnorm)(float *dst, const float *x, const float *gain, size_t n, float eps) {
    v16 ss = v16_set(0);
    for (size_t i = 0; i < n; i += 16) {
        v16 v = v16_load_n(x + i, lanes_at(i, n));
        ss = v16_fma(v, v, ss);
    }
    v16 inv = v16_set(1.0f / sqrtf(v16_sum(ss) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16) {
        size_t k = lanes_at(i, n);
        v16 v = v16_mul(v16_load_n(x + i, k), inv);
        v16_store_n(dst + i, v16_mul(v, v16_load_n(gain + i, k)), k);
    }
}

/* The mean is a sum like any other; what is left of x is written down before it is squared. */
static void NAME(layernorm)(float *dst, const float *x, const float *gain, size_t n, float eps) {
    v16 sum = v16_set(0), ss = v16_set(0);
    for (size_t i = 0; i < n; i += 16) sum = v16_add(sum, v16_load_n(x + i, lanes_at(i, n)));
    const v16 mean = v16_set(v16_sum(sum) / (float)n);
    for (size_t i = 0; i < n; i += 16) {
        const size_t k = lanes_at(i, n);
        v16_store_n(dst + i, v16_sub(v16_load_n(x + i, k), mean), k);
        const v16 v = v16_load_n(dst + i, k); /* zeros behind the end */
        ss = v16_fma(v, v, ss);
    }
    const v16 inv = v16_set(1.0f / sqrtf(v16_sum(ss) / (float)n + eps));
    for (size_t i = 0; i < n; i += 16) {
        const size_t k = lanes_at(i, n);
        const v16 v = v16_mul(v16_load_n(dst + i, k), inv);
        v16_store_n(dst + i, v16_mul(v, v16_load_n(gain + i, k)), k);
    }
}

static void NAME(add)(float *dst, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        size_t k = lanes_at(i, n);
        v16_store_n(dst + i, v16_add(v16_load_n(dst + i, k), v16_load_n(x + i, k)), k);
    }
}

static void NAME(add_scaled)(float *dst, const float *x, float a, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        const size_t k = lanes_at(i, n);
        v16_store_n(dst + i, v16_fma(v16_set(a), v16_load_n(x + i, k), v16_load_n(dst + i, k)), k);
    }
}

/* Pair (u, v) becomes (u c - v s, v c + u s). Nothing is fused here: the scalar form below, for
 * interleaved pairs, must not be fused either. */
static void rope_interleaved(float *x, size_t half, const float *cs, const float *sn) {
    for (size_t i = 0; i < half; i++) {
        float u = x[2 * i], v = x[2 * i + 1];
        x[2 * i] = u * cs[i] - v * sn[i];
        x[2 * i + 1] = v * cs[i] + u * sn[i];
    }
}

static void rope_split(float *x, size_t half, const float *cs, const float *sn) {
    for (size_t i = 0; i < half; i += 16) {
        size_t k = lanes_at(i, half);
        v16 u = v16_load_n(x + i, k), v = v16_load_n(x + half + i, k);
        v16 c = v16_load_n(cs + i, k), s = v16_load_n(sn + i, k);
        v16_store_n(x + i, v16_sub(v16_mul(u, c), v16_mul(v, s)), k);
        v16_store_n(x + half + i, v16_add(v16_mul(v, c), v16_mul(u, s)), k);
    }
}

static void NAME(rope)(float *x, size_t n_heads, size_t d, size_t n_rot, const float *cs,
                       const float *sn, bool interleaved) {
    for (size_t h = 0; h < n_heads; h++)
        if (interleaved)
            rope_interleaved(x + h * d, n_rot / 2, cs, sn);
        else
            rope_split(x + h * d, n_rot / 2, cs, sn);
}

/* x sigmoid(a x) */
static inline v16 lanes_swish(v16 x, v16 a) {
    return v16_div(x, v16_add(v16_set(1), lanes_exp(v16_sub(v16_set(0), v16_mul(x, a)))));
}

static inline v16 lanes_at_most(v16 x, float most) {
    const v16 zero = v16_set(0);
    return v16_sub(zero, v16_max(v16_sub(zero, x), v16_set(-most)));
}

/* cap * tanh(x / cap) */
static inline v16 lanes_cap(v16 x, float cap) {
    const v16 e = lanes_exp(v16_mul(x, v16_set(2 / cap))), one = v16_set(1);
    return v16_mul(v16_set(cap), v16_sub(one, v16_div(v16_set(2), v16_add(e, one))));
}

/* x (1 + tanh(c (x + 0.044715 x^3))) / 2 = x sigmoid(2 c (…)), c = sqrt(2 / pi) */
static inline v16 lanes_gelu(v16 x) {
    const v16 cube = v16_mul(v16_mul(x, x), v16_mul(x, v16_set(0.044715f)));
    const v16 t = v16_mul(v16_add(x, cube), v16_set(1.5957691216f));
    return v16_div(x, v16_add(v16_set(1), lanes_exp(v16_sub(v16_set(0), t))));
}

/* x Phi(x). Half of erfc(z), z = |x| / sqrt(2), is Phi of -|x|; erfc(z) = t exp(p(t) - z^2) with
 * t = 1 / (1 + z / 2), p a polynomial of degree 9 fitted to 5e-8 for z up to 9.5, where the result
 * is 0 in floats. */
static inline v16 lanes_gelu_erf(v16 x) {
    static const float fit[] = {-0.643439531326f, 1.068534731865f, -0.578620612621f,
                                -0.177722260356f, 0.053083993495f, 0.016975982115f,
                                0.390326619148f,  0.998204052449f, -1.265426874161f};
    const v16 one = v16_set(1), half = v16_set(0.5f);
    const v16 t = v16_div(one, v16_fma(v16_abs(x), v16_set(0.35355339059f), one));
    v16 p = v16_set(0.138083904982f);
    for (size_t i = 0; i < 9; i++) p = v16_fma(p, t, v16_set(fit[i]));
    p = v16_fma(v16_mul(x, v16_set(-0.5f)), x, p);
    const v16 tail = v16_mul(v16_mul(half, t), lanes_exp(p));
    return v16_mul(x, v16_if_less(x, v16_set(0), tail, v16_sub(one, tail)));
}

static inline v16 lanes_glu(v16 g, v16 u, kern_glu act) {
    if (act == KERN_RELU2) {
        const v16 p = v16_max(g, v16_set(0));
        return v16_mul(v16_mul(p, p), u);
    }
    if (act == KERN_GELU) return v16_mul(lanes_gelu(g), u);
    if (act == KERN_GELU_ERF) return v16_mul(lanes_gelu_erf(g), u);
    if (act == KERN_SILU) return v16_mul(lanes_swish(g, v16_set(1)), u);
    u = v16_max(lanes_at_most(u, 7), v16_set(-7));
    return v16_mul(lanes_swish(lanes_at_most(g, 7), v16_set(1.702f)), v16_add(u, v16_set(1)));
}

static void NAME(cap)(float *x, float cap, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        const size_t k = lanes_at(i, n);
        v16_store_n(x + i, lanes_cap(v16_load_n(x + i, k), cap), k);
    }
}

static void NAME(glu)(float *dst, const float *g, const float *u, size_t n, kern_glu act) {
    assert(u || act != KERN_SWIGLU_OAI);
    for (size_t i = 0; i < n; i += 16) {
        const size_t k = lanes_at(i, n);
        const v16 up = u ? v16_load_n(u + i, k) : v16_set(1);
        v16_store_n(dst + i, lanes_glu(v16_load_n(g + i, k), up, act), k);
    }
}

/* ==== The KV cache ============================================================================ */

static void store_q8(uint8_t *dst, const float *x, size_t d) {
    for (size_t i = 0; i < d; i += 32, dst += 34) {
        size_t left = d - i < 32 ? d - i : 32;
        float m = absmax(x + i, left);
        float inv = block_factor(m);
        v16_store_f16_n(dst, v16_set(m / 127.0f), 1);
        for (size_t j = 0; j < 32; j += 16) {
            v16 v = j < left ? v16_load_n(x + i + j, lanes_at(j, left)) : v16_set(0);
            v16_store_i8((int8_t *)dst + 2 + j, v16_mul(v, v16_set(inv)));
        }
    }
}

static void NAME(kv_store)(uint8_t *dst, const float *x, size_t d, kern_kv type) {
    if (type == KERN_KV_F32)
        memcpy(dst, x, d * sizeof *x);
    else if (type == KERN_KV_Q8)
        store_q8(dst, x, d);
    else
        for (size_t i = 0; i < d; i += 16) {
            size_t k = lanes_at(i, d);
            v16_store_f16_n(dst + 2 * i, v16_load_n(x + i, k), k);
        }
}

/* Elements i … i+15 of a cached row. */
static inline v16 load_kv(const uint8_t *row, size_t i, size_t d, kern_kv type) {
    size_t k = lanes_at(i, d);
    if (type == KERN_KV_F16) return v16_load_f16_n(row + 2 * i, k);
    if (type == KERN_KV_F32) return load_f32_n(row + 4 * i, k);
    const uint8_t *block = row + i / 32 * 34;
    return v16_mul(v16_set_f16(block), v16_load_i8((const int8_t *)block + 2 + i % 32));
}

/* ==== Softmax ================================================================================= */

static float NAME(softmax)(float *x, size_t n) {
    v16 mosts = v16_set(x[0]), lanes = v16_set(0);
    size_t whole = n / 16 * 16;
    for (size_t i = 0; i < whole; i += 16) mosts = v16_max(mosts, v16_load(x + i));
    float most = v16_hmax(mosts);
    for (size_t i = whole; i < n; i++) most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; i += 16) {
        const size_t k = lanes_at(i, n);
        v16 e = lanes_exp(v16_sub(v16_load_n(x + i, k), v16_set(most)));
        v16_store_n(x + i, e, k);
        lanes = v16_add(lanes, v16_load_n(x + i, k));
    }
    const float sum = v16_sum(lanes);
    for (size_t i = 0; i < n; i += 16) {
        const size_t k = lanes_at(i, n);
        v16_store_n(x + i, v16_div(v16_load_n(x + i, k), v16_set(sum)), k);
    }
    return most + logf(sum);
}

#include "kern/attention_body.h"
#include "kern/gemm_body.h"
#include "kern/f32x16_body.h"

/* ==== Rows of a table ========================================================================= */

static void NAME(embed)(float *dst, const kern_mat *w, size_t row) {
    assert(row < w->rows);
    const uint8_t *p = w->data + row * w->row_bytes;
    const quant_tensor t = {.type = w->type, .rows = 1, .cols = w->cols, .data = p};
    if (w->type != QUANT_F16 && w->type != QUANT_BF16) {
        rotor_status st = quant_decode_rows(&t, 0, 1, dst, NULL);
        assert(st == ROTOR_OK);
        (void)st;
        return;
    }
    for (size_t i = 0; i < w->cols; i += 16) {
        size_t k = lanes_at(i, w->cols);
        v16 v = w->type == QUANT_F16 ? v16_load_f16_n(p + 2 * i, k) : v16_load_bf16_n(p + 2 * i, k);
        v16_store_n(dst + i, v, k);
    }
}

/* ==== The slots this file fills =============================================================== */

void NAME(kern_fill_float)(kern *k) {
    k->gemm_f32 = NAME(gemm_f32);
    k->softmax = NAME(softmax);
    k->mm_f32 = NAME(mm_f32);
    k->mm_f32x16 = NAME(mm_f32x16);
    k->mm_f16 = NAME(mm_f16);
    k->mm_bf16 = NAME(mm_bf16);
    k->mm_t2_f32 = NAME(mm_t2_f32);
    k->mm_t5_f32 = NAME(mm_t5_f32);
    k->mm_b32_f32 = NAME(mm_b32_f32);
    k->quant_i8 = NAME(quant_i8);
    k->quant_q8 = NAME(quant_q8);
    k->rmsnorm = NAME(rmsnorm);
    k->layernorm = NAME(layernorm);
    k->add = NAME(add);
    k->add_scaled = NAME(add_scaled);
    k->glu = NAME(glu);
    k->cap = NAME(cap);
    k->rope = NAME(rope);
    k->embed = NAME(embed);
    k->kv_store = NAME(kv_store);
    k->attention = NAME(attention);
    k->attention_span = NAME(attention_span);
    k->attention_fold = NAME(attention_fold);
}
