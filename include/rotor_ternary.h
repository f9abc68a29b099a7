/* SPDX-License-Identifier: MIT
 *
 * rotor_ternary.h: ternary numbers for programs that do not need a language model. A two-bit code,
 * every ternary layout of published model files, quantisers, and a small network that runs on them.
 *
 * The Rotor code, two bits, high bit written first:
 *
 *     00 = 0     10 = +1     01 = -1     11 = error          value = high bit - low bit
 *
 * Value i of a packed row stands in bits 2(i % 4) + 1 and 2(i % 4) of byte i / 4; unused bits of
 * the last byte are 0. Swapping the two bits of a code negates it; the high bits alone are the
 * plane of the +1s, the low bits the plane of the -1s; and the agreements of two rows are the bits
 * of a & b. The code 11 is never a value: whoever meets it reports its position.
 *
 * All functions are pure and may be called from any thread, except those on one rotor_mlp. Pointers
 * are borrowed for the call. err may be NULL. Results are written only on success, except that
 * output arrays may then be partly written.
 */
#ifndef ROTOR_TERNARY_H
#define ROTOR_TERNARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotor_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Rows of codes --------------------------------------------------------------------------- */

ROTOR_API size_t rotor_ternary_bytes(size_t n); /* of n codes: ceil(n / 4) */
/* values[n] in {-1, 0, +1}; anything else is ROTOR_E_ARG with its position. */
ROTOR_API rotor_status rotor_ternary_pack(const int8_t *values, size_t n, uint8_t *codes,
                                          rotor_error *err);
/* A code 11 is ROTOR_E_FORMAT with its position. */
ROTOR_API rotor_status rotor_ternary_unpack(const uint8_t *codes, size_t n, int8_t *values,
                                            rotor_error *err);
ROTOR_API rotor_status rotor_ternary_check(const uint8_t *codes, size_t n, rotor_error *err);
/* Every value times -1, in place. */
ROTOR_API void rotor_ternary_negate(uint8_t *codes, size_t n);
/* Sum of a[i] * b[i], exact. A code 11 in either is ROTOR_E_FORMAT with its position. */
ROTOR_API rotor_status rotor_ternary_dot(const uint8_t *a, const uint8_t *b, size_t n, int64_t *sum,
                                         rotor_error *err);
ROTOR_API size_t rotor_ternary_count_zeros(const uint8_t *codes, size_t n);

/* Two planes: bit i % 64 of word i / 64 of plus (minus) is set where value i is +1 (-1). */
ROTOR_API size_t rotor_ternary_plane_words(size_t n); /* of one plane: ceil(n / 64) */
ROTOR_API rotor_status rotor_ternary_split(const uint8_t *codes, size_t n, uint64_t *plus,
                                           uint64_t *minus, rotor_error *err);
/* A bit set in both planes is ROTOR_E_FORMAT with its position. */
ROTOR_API rotor_status rotor_ternary_join(const uint64_t *plus, const uint64_t *minus, size_t n,
                                          uint8_t *codes, rotor_error *err);
/* Planes of n values whose unused bits are 0 and which share no bit. */
ROTOR_API int64_t rotor_ternary_dot_planes(const uint64_t *a_plus, const uint64_t *a_minus,
                                           const uint64_t *b_plus, const uint64_t *b_minus,
                                           size_t n);

/* ---- Matrices in the layouts of model files -------------------------------------------------- */

typedef enum rotor_ternary_layout {
    ROTOR_TERNARY_INT8,   /* one signed byte a value */
    ROTOR_TERNARY_CODES,  /* Rotor code; each row starts on a byte */
    ROTOR_TERNARY_PLANES, /* all rows' plus plane, then all rows' minus plane; rows start on a word
                           */
    ROTOR_TERNARY_HF,     /* packed rows of Hugging Face checkpoints: ceil(rows / 4) x cols bytes */
    ROTOR_TERNARY_I2S,    /* GGUF I2_S as x86 writes it, with its scale behind it */
    ROTOR_TERNARY_I2S_ARM,   /* I2_S in ARM byte order */
    ROTOR_TERNARY_I2S_4ROW,  /* I2_S with four rows in a byte */
    ROTOR_TERNARY_TQ1_0,     /* GGUF TQ1_0: 1.6875 bits a value, a half-float scale per 256 */
    ROTOR_TERNARY_TQ2_0,     /* GGUF TQ2_0: 2.0625 bits a value */
    ROTOR_TERNARY_IQ1_BN,    /* ik_llama.cpp IQ1_BN: 1.625 bits, a half-float scale per row */
    ROTOR_TERNARY_IQ2_BN,    /* ik_llama.cpp IQ2_BN: 2 bits, a float scale per row */
    ROTOR_TERNARY_IQ2_BN_R4, /* the same with four rows interleaved */
    ROTOR_TERNARY_T5         /* Rotor's T5, version 1: 1.6 bits, a float scale per row; any shape */
} rotor_ternary_layout;

/* A matrix of rows x cols ternary values times one scale. */
typedef struct rotor_ternary_matrix {
    rotor_ternary_layout layout; /* of data */
    size_t rows, cols;           /* cols is the contiguous dimension */
    void *data;                  /* the caller's; PLANES: 8-byte aligned, the others any */
    size_t n_bytes;              /* size of data */
    float scale;                 /* multiplies the values; layouts that store a scale overrule it */
} rotor_ternary_matrix;

/* Name as model files spell it ("TQ1_0"), or NULL for a number that is no layout. */
ROTOR_API const char *rotor_ternary_layout_name(rotor_ternary_layout layout);
/* Bytes of a matrix. A shape the layout cannot hold is ROTOR_E_UNSUPPORTED, and the message names
 * the layouts that can. */
ROTOR_API rotor_status rotor_ternary_layout_bytes(rotor_ternary_layout layout, size_t rows,
                                                  size_t cols, size_t *n_bytes, rotor_error *err);
/* Fills dst->data from src; the caller sets dst's layout, shape, data and n_bytes. Codes are kept
 * exactly. dst->scale becomes the scale dst now holds: half-float layouts round it. Illegal codes
 * are ROTOR_E_FORMAT with row and column; blocks of different scales ROTOR_E_UNSUPPORTED. */
ROTOR_API rotor_status rotor_ternary_convert(rotor_ternary_matrix *dst,
                                             const rotor_ternary_matrix *src, rotor_error *err);

/* ---- Quantisers ------------------------------------------------------------------------------ */

/* x[n] to t[n] in {-1, 0, +1}; the scale returned is what multiplies t. Finite x expected. */
ROTOR_API float rotor_ternary_absmean(const float *x, size_t n,
                                      int8_t *t); /* BitNet b1.58: mean|x|, at
                        least 1e-5; beyond half of it is +-1 */
ROTOR_API float rotor_ternary_threshold(const float *x, size_t n, float theta,
                                        int8_t *t); /* |x| > theta is +-1; mean|x| of those */
ROTOR_API float rotor_ternary_sign(const float *x, size_t n, int8_t *t); /* zero is +1; mean|x| */
/* q = x * 127 / max|x|, nearest even; returns the step: |x - q * step| <= step / 2. */
ROTOR_API float rotor_ternary_int8(const float *x, size_t n, int8_t *q);
/* x ~ (q - zero) * step over [min(x, 0), max(x, 0)]; returns step: |x - decoded| <= step. */
ROTOR_API float rotor_ternary_int8_asym(const float *x, size_t n, int8_t *q, int32_t *zero);

/* ---- A small network ----------------------------------------------------------------------------
 * Layers y = act(scale * (W x) + bias) with ternary W at two bits a weight. Inputs of a layer are
 * quantised to int8 with one scale; behind a sign layer they are +-1 already and the product is
 * exact. One thread at a time per network. */
typedef struct rotor_mlp rotor_mlp;

typedef enum rotor_mlp_act { ROTOR_MLP_LINEAR, ROTOR_MLP_RELU, ROTOR_MLP_SIGN } rotor_mlp_act;

ROTOR_API rotor_status rotor_mlp_create(rotor_mlp **out, size_t n_inputs, rotor_error *err);
ROTOR_API void rotor_mlp_free(rotor_mlp **m); /* NULL is fine; *m becomes NULL */
/* Appends a layer of n_out outputs. w: [n_out, inputs] in {-1, 0, +1}, copied; bias: [n_out],
 * copied, or NULL. */
ROTOR_API rotor_status rotor_mlp_add_ternary(rotor_mlp *m, size_t n_out, const int8_t *w,
                                             float scale, const float *bias, rotor_mlp_act act,
                                             rotor_error *err);
/* The same from float weights, quantised with rotor_ternary_absmean. */
ROTOR_API rotor_status rotor_mlp_add_float(rotor_mlp *m, size_t n_out, const float *w,
                                           const float *bias, rotor_mlp_act act, rotor_error *err);
ROTOR_API size_t rotor_mlp_n_outputs(const rotor_mlp *m); /* of the last layer; inputs when none */
/* x: [inputs], y: [outputs]. */
ROTOR_API rotor_status rotor_mlp_forward(rotor_mlp *m, const float *x, float *y, rotor_error *err);

typedef struct rotor_mlp_stats {
    size_t n_layers;        /* layers */
    uint64_t n_weights;     /* all weights */
    uint64_t n_zero;        /* of them 0 */
    double sparsity;        /* n_zero / n_weights; 0 without weights */
    uint64_t weight_bytes;  /* packed weights, scales and biases */
    uint64_t float_bytes;   /* the same network in float32 */
    uint64_t scratch_bytes; /* held for rotor_mlp_forward */
} rotor_mlp_stats;
ROTOR_API void rotor_mlp_get_stats(const rotor_mlp *m, rotor_mlp_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
