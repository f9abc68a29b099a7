/* SPDX-License-Identifier: MIT
 *
 * rotor_ternary.h, matrices: conversion between every ternary layout.
 *
 * A conversion reads the source row by row to int8, checking every code, and then writes the
 * target; the GGUF layouts are the quant room's, the others are written here. The matrix of int8
 * in between is the one allocation.
 */
#include "rotor_ternary.h"

#include "base/base.h"
#include "quant/quant.h"

#include <assert.h>
#include <stdio.h>

typedef struct layout_row {
    const char *name; /* as messages and model files spell it */
    uint32_t type;    /* quant_type, or UINT32_MAX for layouts of this file */
    quant_i2s i2s;    /* byte order of I2_S */
} layout_row;

static const layout_row layouts[] = {
    [ROTOR_TERNARY_INT8] = {"INT8", UINT32_MAX, 0},
    [ROTOR_TERNARY_CODES] = {"CODES", UINT32_MAX, 0},
    [ROTOR_TERNARY_PLANES] = {"PLANES", UINT32_MAX, 0},
    [ROTOR_TERNARY_HF] = {"HF", UINT32_MAX, 0},
    [ROTOR_TERNARY_I2S] = {"I2_S", QUANT_I2_S, QUANT_I2S_X86},
    [ROTOR_TERNARY_I2S_ARM] = {"I2_S (ARM order)", QUANT_I2_S, QUANT_I2S_ARM},
    [ROTOR_TERNARY_I2S_4ROW] = {"I2_S (4-row order)", QUANT_I2_S, QUANT_I2S_4ROW},
    [ROTOR_TERNARY_TQ1_0] = {"TQ1_0", QUANT_TQ1_0, 0},
    [ROTOR_TERNARY_TQ2_0] = {"TQ2_0", QUANT_TQ2_0, 0},
    [ROTOR_TERNARY_IQ1_BN] = {"IQ1_BN", QUANT_IQ1_BN, 0},
    [ROTOR_TERNARY_IQ2_BN] = {"IQ2_BN", QUANT_IQ2_BN, 0},
    [ROTOR_TERNARY_IQ2_BN_R4] = {"IQ2_BN_R4", QUANT_IQ2_BN_R4, 0},
    [ROTOR_TERNARY_T5] = {"T5", QUANT_T5, 0},
};

static bool is_layout(rotor_ternary_layout l) { return (unsigned)l < BASE_COUNT(layouts); }

const char *rotor_ternary_layout_name(rotor_ternary_layout layout) {
    return is_layout(layout) ? layouts[layout].name : NULL;
}

/* ==== Shapes
 * ====================================================================================== */

static bool own_bytes(rotor_ternary_layout layout, size_t rows, size_t cols, size_t *n_bytes) {
    switch (layout) {
    case ROTOR_TERNARY_INT8:
        return base_mul_size(rows, cols, n_bytes);
    case ROTOR_TERNARY_CODES:
        return base_mul_size(rows, rotor_ternary_bytes(cols), n_bytes);
    case ROTOR_TERNARY_HF:
        return base_mul_size(rows / 4 + (rows % 4 != 0), cols, n_bytes);
    default:
        return base_mul_size(rows, rotor_ternary_plane_words(cols) * 16, n_bytes);
    }
}

static bool fits(rotor_ternary_layout layout, size_t rows, size_t cols, size_t *n_bytes) {
    const layout_row *l = &layouts[layout];
    uint64_t bytes;
    if (rows == 0 || cols == 0) return false;
    if (l->type == UINT32_MAX) return own_bytes(layout, rows, cols, n_bytes);
    if (quant_tensor_bytes(quant_find(l->type), rows, cols, &bytes, NULL) != ROTOR_OK) return false;
    bool by_four = layout == ROTOR_TERNARY_I2S_4ROW || layout == ROTOR_TERNARY_IQ2_BN_R4;
    size_t block = layout == ROTOR_TERNARY_I2S ? 128 : layout == ROTOR_TERNARY_I2S_ARM ? 64 : 1;
    *n_bytes = (size_t)bytes;
    return (!by_four || rows % 4 == 0) && rows * cols % block == 0;
}

rotor_status rotor_ternary_layout_bytes(rotor_ternary_layout layout, size_t rows, size_t cols,
                                        size_t *n_bytes, rotor_error *err) {
    if (!is_layout(layout))
        return base_fail(err, ROTOR_E_ARG, "%d is not a ternary layout", layout);
    if (fits(layout, rows, cols, n_bytes)) return ROTOR_OK;
    char list[256] = "none";
    size_t at = 0, unused;
    for (size_t i = 0; i < BASE_COUNT(layouts); i++) {
        if (!fits((rotor_ternary_layout)i, rows, cols, &unused)) continue;
        int n = snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", layouts[i].name);
        at += (size_t)BASE_MAX(n, 0);
        assert(at < sizeof list);
    }
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "%s cannot hold %zu rows of %zu values; layouts that can: %s",
                     layouts[layout].name, rows, cols, list);
}

static rotor_status check_matrix(const rotor_ternary_matrix *m, const char *which,
                                 rotor_error *err) {
    size_t need;
    rotor_status st = rotor_ternary_layout_bytes(m->layout, m->rows, m->cols, &need, err);
    if (st != ROTOR_OK) return base_fail_in(err, st, "%s", which), st;
    if (m->n_bytes < need)
        return base_fail(err, ROTOR_E_FULL, "%s: %zu bytes given, %s needs %zu", which, m->n_bytes,
                         layouts[m->layout].name, need);
    return ROTOR_OK;
}

/* ==== Reading
 * ===================================================================================== */

static rotor_status read_int8(const rotor_ternary_matrix *m, size_t row, int8_t *dst,
                              rotor_error *err) {
    memcpy(dst, (const int8_t *)m->data + row * m->cols, m->cols);
    for (size_t c = 0; c < m->cols; c++)
        if (dst[c] < -1 || dst[c] > 1)
            return base_fail(err, ROTOR_E_FORMAT, "row %zu, column %zu: %d is not a ternary value",
                             row, c, dst[c]);
    return ROTOR_OK;
}

static rotor_status read_planes(const rotor_ternary_matrix *m, size_t row, int8_t *dst,
                                rotor_error *err) {
    const size_t words = rotor_ternary_plane_words(m->cols);
    const uint64_t *plus = (const uint64_t *)m->data + row * words, *minus = plus + m->rows * words;
    for (size_t c = 0; c < m->cols; c++) {
        int p = (int)(plus[c / 64] >> c % 64 & 1), n = (int)(minus[c / 64] >> c % 64 & 1);
        if (p & n)
            return base_fail(err, ROTOR_E_FORMAT, "row %zu, column %zu: set in both planes", row,
                             c);
        dst[c] = (int8_t)(p - n);
    }
    return ROTOR_OK;
}

static rotor_status read_codes(const rotor_ternary_matrix *m, size_t row, int8_t *dst,
                               rotor_error *err) {
    const uint8_t *codes = (const uint8_t *)m->data + row * rotor_ternary_bytes(m->cols);
    rotor_status st = rotor_ternary_unpack(codes, m->cols, dst, err);
    if (st != ROTOR_OK) base_fail_in(err, st, "row %zu", row);
    return st;
}

/* *scale: of the first row whose values are not all zero. */
static rotor_status read_gguf(const rotor_ternary_matrix *m, int8_t *dst, float *scale,
                              rotor_error *err) {
    const layout_row *l = &layouts[m->layout];
    const quant_tensor t = {l->type, l->i2s, m->rows, m->cols, m->data};
    bool seen = false;
    for (size_t r = 0; r < m->rows; r++) {
        float s;
        bool uniform;
        int any = 0;
        ROTOR_TRY(quant_ternary_row(&t, r, dst + r * m->cols, &s, &uniform, err));
        for (size_t c = 0; c < m->cols; c++) any |= dst[r * m->cols + c];
        if (!uniform || (seen && any && s != *scale))
            return base_fail(
                err, ROTOR_E_UNSUPPORTED,
                "row %zu: its scale differs from the first's, and a matrix here has one", r);
        if (!seen) *scale = s;
        seen |= any != 0;
    }
    return ROTOR_OK;
}

static rotor_status read_matrix(const rotor_ternary_matrix *m, int8_t *dst, float *scale,
                                rotor_error *err) {
    *scale = m->scale;
    if (layouts[m->layout].type != UINT32_MAX) return read_gguf(m, dst, scale, err);
    for (size_t r = 0; r < m->rows; r++) {
        int8_t *row = dst + r * m->cols;
        switch (m->layout) {
        case ROTOR_TERNARY_CODES:
            ROTOR_TRY(read_codes(m, r, row, err));
            break;
        case ROTOR_TERNARY_PLANES:
            ROTOR_TRY(read_planes(m, r, row, err));
            break;
        case ROTOR_TERNARY_HF:
            ROTOR_TRY(quant_hf_row(m->data, m->rows, m->cols, r, row, err));
            break;
        default:
            ROTOR_TRY(read_int8(m, r, row, err));
        }
    }
    return ROTOR_OK;
}

/* ==== Writing
 * ===================================================================================== */

static void write_planes(const rotor_ternary_matrix *m, const int8_t *src) {
    const size_t words = rotor_ternary_plane_words(m->cols);
    uint64_t *plus = m->data, *minus = plus + m->rows * words;
    memset(plus, 0, m->rows * words * 16);
    for (size_t r = 0; r < m->rows; r++)
        for (size_t c = 0; c < m->cols; c++) {
            int v = src[r * m->cols + c];
            plus[r * words + c / 64] |= (uint64_t)(v > 0) << c % 64;
            minus[r * words + c / 64] |= (uint64_t)(v < 0) << c % 64;
        }
}

/* The scale the target holds afterwards: stored ones may have been rounded. */
static float stored_scale(const rotor_ternary_matrix *m, float scale) {
    bool half = m->layout == ROTOR_TERNARY_TQ1_0 || m->layout == ROTOR_TERNARY_TQ2_0 ||
                m->layout == ROTOR_TERNARY_IQ1_BN;
    return half ? quant_f16_to_f32(quant_f32_to_f16(scale)) : scale;
}

static rotor_status write_matrix(rotor_ternary_matrix *m, const int8_t *src, float scale,
                                 rotor_error *err) {
    const layout_row *l = &layouts[m->layout];
    const size_t row_bytes = rotor_ternary_bytes(m->cols);
    if (l->type != UINT32_MAX)
        ROTOR_TRY(quant_ternary_pack(l->type, l->i2s, m->rows, m->cols, src, scale, m->data, err));
    else if (m->layout == ROTOR_TERNARY_HF)
        quant_hf_pack(src, m->rows, m->cols, m->data);
    else if (m->layout == ROTOR_TERNARY_PLANES)
        write_planes(m, src);
    else if (m->layout == ROTOR_TERNARY_INT8)
        memcpy(m->data, src, m->rows * m->cols);
    else
        for (size_t r = 0; r < m->rows; r++)
            ROTOR_TRY(rotor_ternary_pack(src + r * m->cols, m->cols,
                                         (uint8_t *)m->data + r * row_bytes, err));
    m->scale = stored_scale(m, scale);
    return ROTOR_OK;
}

rotor_status rotor_ternary_convert(rotor_ternary_matrix *dst, const rotor_ternary_matrix *src,
                                   rotor_error *err) {
    float scale;
    ROTOR_TRY(check_matrix(src, "source", err));
    ROTOR_TRY(check_matrix(dst, "target", err));
    if (dst->rows != src->rows || dst->cols != src->cols)
        return base_fail(err, ROTOR_E_ARG, "target of %zu x %zu for a source of %zu x %zu",
                         dst->rows, dst->cols, src->rows, src->cols);
    int8_t *values = base_alloc_array(src->rows, src->cols);
    if (!values) return base_fail_nomem(err, "converting ternary values");
    rotor_status st = read_matrix(src, values, &scale, err);
    if (st == ROTOR_OK) st = write_matrix(dst, values, scale, err);
    base_free(values);
    return st;
}
