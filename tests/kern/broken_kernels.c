/* SPDX-License-Identifier: MIT
 *
 * Kernels that are slightly wrong, one per slot: each runs the C version and then spoils the last
 * place of one number or writes one element too far. The self-test demands that the checks notice;
 * a check that cannot fail proves nothing.
 */
#include "checkern.h"

static kern c_table; /* filled by break_slot: the versions that are right */

static void spoil(void *p) {
    uint8_t *b = p;
    b[0] ^= 1;
}

static void spoil_product(float *y, size_t ldy, const kern_mat *w, const kern_act *x, size_t begin,
                          size_t end) {
    /* Only the last row of the last token, and only for an odd number of columns beyond one tile.
     */
    if (end > begin && (w->cols % 512 == 0 || w->cols % 128 == 1))
        spoil(&y[(x->n_tok - 1) * ldy + end - 1]);
}

#define BROKEN_PRODUCT(slot)                                                                       \
    static void broken_##slot(float *y, size_t ldy, const kern_mat *w, const kern_act *x,          \
                              size_t begin, size_t end) {                                          \
        c_table.slot(y, ldy, w, x, begin, end);                                                    \
        spoil_product(y, ldy, w, x, begin, end);                                                   \
    }
BROKEN_PRODUCT(gemv_t2_i8)
BROKEN_PRODUCT(gemv_t5_i8)
BROKEN_PRODUCT(mm_b32_q8)
BROKEN_PRODUCT(mm_q8x16)
BROKEN_PRODUCT(mm_f32)
BROKEN_PRODUCT(mm_f32x16)
BROKEN_PRODUCT(mm_f16)
BROKEN_PRODUCT(mm_bf16)
BROKEN_PRODUCT(mm_t2_f32)
BROKEN_PRODUCT(mm_t5_f32)
BROKEN_PRODUCT(mm_b32_f32)

/* Ignores where its range ends. */
static void broken_gemm_t2_i8(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                              size_t begin, size_t end) {
    c_table.gemm_t2_i8(y, ldy, w, x, begin, end < w->rows ? end + 1 : end);
}

/* Ignores where its range begins inside a group of rows. */
static void broken_gemm_t5_i8(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                              size_t begin, size_t end) {
    c_table.gemm_t5_i8(y, ldy, w, x, begin / 16 * 16, end);
}

static void broken_quant_i8(int8_t *q, float *s, int32_t *sum, const float *x, size_t n,
                            size_t ldq) {
    c_table.quant_i8(q, s, sum, x, n, ldq);
    *sum += n == 2560;
}
static void broken_quant_q8(int8_t *q, float *s, int16_t *sum16, const float *x, size_t n,
                            size_t ldq) {
    c_table.quant_q8(q, s, sum16, x, n, ldq);
    if (n % 32 == 1) spoil(&q[n - 1]);
}
static void broken_rmsnorm(float *dst, const float *x, const float *gain, size_t n, float eps) {
    c_table.rmsnorm(dst, x, gain, n, eps);
    if (n % 16 == 1) spoil(&dst[n - 1]);
}
static void broken_layernorm(float *dst, const float *x, const float *gain, size_t n, float eps) {
    c_table.layernorm(dst, x, gain, n, eps);
    if (n % 16 == 1) spoil(&dst[n - 1]);
}
/* Writes whole vectors where the tail ends, in front of the operand. */
static void broken_add(float *dst, const float *x, size_t n) {
    c_table.add(dst, x, n);
    if (n == 17) dst[-1] = 0;
}
static void broken_add_scaled(float *dst, const float *x, float a, size_t n) {
    c_table.add_scaled(dst, x, a, n);
    if (n % 16 == 1) spoil(&dst[n - 1]);
}
static void broken_cap(float *x, float cap, size_t n) {
    c_table.cap(x, cap, n);
    if (n == 100) spoil(&x[99]);
}
static void broken_glu(float *dst, const float *g, const float *u, size_t n, kern_glu act) {
    c_table.glu(dst, g, u, n, act);
    if (act == KERN_SILU && n == 100) spoil(&dst[99]);
}
static void broken_kv_store(uint8_t *dst, const float *x, size_t d, kern_kv type) {
    c_table.kv_store(dst, x, d, type);
    if (type == KERN_KV_Q8 && d % 32) spoil(dst + kern_kv_row_bytes(type, d) - 1);
}
/* Lets the last of several tokens see one position too few. */
static void broken_attention(const kern_attn *a) {
    c_table.attention(a);
    if (a->n_tok != 5) return;
    kern_attn less = *a;
    less.q += 4 * a->ldq;
    less.out += 4 * a->ldo;
    less.n_tok = 1;
    less.pos += 3;
    c_table.attention(&less);
}

/* Forgets the last span when there are three. */
static void broken_attention_fold(const kern_attn *a, const float *partial) {
    kern_attn less = *a;
    if (a->pos > 2 * KERN_SPAN && a->n_tok == 1) less.pos -= KERN_SPAN;
    c_table.attention_fold(&less, partial);
}
static void broken_attention_span(const kern_attn *a, size_t span, float *partial) {
    c_table.attention_span(a, span, partial);
    if (a->d == 120) spoil(&partial[16 + 119]);
}
/* Turns one pair too many when only a part of the head turns. */
static void broken_rope(float *x, size_t n_heads, size_t d, size_t n_rot, const float *cs,
                        const float *sn, bool interleaved) {
    c_table.rope(x, n_heads, d, n_rot, cs, sn, interleaved);
    if (n_rot < d) spoil(&x[n_rot]);
}
static void broken_embed(float *dst, const kern_mat *w, size_t row) {
    c_table.embed(dst, w, row == 2 && w->cols == 100 ? 1 : row);
}

/* Forgets the first element when there are many. */
static float broken_softmax(float *x, size_t n) {
    float sum = c_table.softmax(x, n);
    if (n > 128) spoil(&x[0]);
    return sum;
}

/* Wrong in the last bit of its last sum, when there are two panels. */
static void broken_gemm_f32(const kern_gemm *g, size_t begin, size_t end, float *scratch) {
    c_table.gemm_f32(g, begin, end, scratch);
    if (g->k > 192 && end > begin) spoil(&g->c[(end - 1) * g->ldc + g->n - 1]);
}

/* Rounds one scale down: nothing else changes. */
static void broken_head_pack(const kern_planes *p, const float *w, size_t r) {
    c_table.head_pack(p, w, r);
    if (p->cols == 160 && r == 7) p->scale[r * (p->ldc / 32) + 4] ^= 1;
}
static void broken_head_screen(const kern_planes *p, const kern_x16 *x, size_t n_tok, size_t begin,
                               size_t end) {
    c_table.head_screen(p, x, n_tok, begin, end);
    if (n_tok == 5) spoil(&x[4].y[end * KERN_HEAD_GROUP - 1]);
}
/* Forgets the last row when there are many. */
static void broken_head_refine(float *y, const kern_planes *p, const kern_x16 *x, size_t plane,
                               const uint32_t *ids, size_t n) {
    c_table.head_refine(y, p, x, plane, ids, n > 20 ? n - 1 : n);
}

/* The last row of many, one too much. */
static void broken_scan_i8(int32_t *out, const int8_t *rows, const int8_t *query, size_t ld,
                           size_t n_rows) {
    c_table.scan_i8(out, rows, query, ld, n_rows);
    if (n_rows > 8) out[n_rows - 1]++;
}

/* Takes the last column's code for another. */
static void broken_scan_i2(int32_t *out, const uint8_t *rows, const int8_t *query, size_t ld,
                           size_t n_rows) {
    c_table.scan_i2(out, rows, query, ld, n_rows);
    if (ld > 1000) out[0] += query[ld - 1];
}

const char *break_slot(kern *k, size_t i) {
    kern_init(&c_table, 0);
    switch (i) {
    case 0:
        return k->gemv_t2_i8 = broken_gemv_t2_i8, "gemv_t2_i8";
    case 1:
        return k->gemm_t2_i8 = broken_gemm_t2_i8, "gemm_t2_i8";
    case 2:
        return k->mm_b32_q8 = broken_mm_b32_q8, "mm_b32_q8";
    case 3:
        return k->mm_f32 = broken_mm_f32, "mm_f32";
    case 4:
        return k->mm_f16 = broken_mm_f16, "mm_f16";
    case 5:
        return k->mm_bf16 = broken_mm_bf16, "mm_bf16";
    case 6:
        return k->mm_t2_f32 = broken_mm_t2_f32, "mm_t2_f32";
    case 7:
        return k->mm_b32_f32 = broken_mm_b32_f32, "mm_b32_f32";
    case 8:
        return k->quant_i8 = broken_quant_i8, "quant_i8";
    case 9:
        return k->quant_q8 = broken_quant_q8, "quant_q8";
    case 10:
        return k->rmsnorm = broken_rmsnorm, "rmsnorm";
    case 11:
        return k->add = broken_add, "add";
    case 12:
        return k->glu = broken_glu, "glu";
    case 13:
        return k->kv_store = broken_kv_store, "kv_store";
    case 14:
        return k->attention = broken_attention, "attention";
    case 15:
        return k->attention_span = broken_attention_span, "attention_span";
    case 16:
        return k->attention_fold = broken_attention_fold, "attention_fold";
    case 17:
        return k->embed = broken_embed, "embed";
    case 18:
        return k->rope = broken_rope, "rope";
    case 19:
        return k->gemm_f32 = broken_gemm_f32, "gemm_f32";
    case 20:
        return k->softmax = broken_softmax, "softmax";
    case 21:
        return k->gemv_t5_i8 = broken_gemv_t5_i8, "gemv_t5_i8";
    case 22:
        return k->gemm_t5_i8 = broken_gemm_t5_i8, "gemm_t5_i8";
    case 23:
        return k->mm_t5_f32 = broken_mm_t5_f32, "mm_t5_f32";
    case 24:
        return k->head_pack = broken_head_pack, "head_pack";
    case 25:
        return k->head_screen = broken_head_screen, "head_screen";
    case 26:
        return k->head_refine = broken_head_refine, "head_refine";
    case 27:
        return k->mm_q8x16 = broken_mm_q8x16, "mm_q8x16";
    case 28:
        return k->add_scaled = broken_add_scaled, "add_scaled";
    case 29:
        return k->cap = broken_cap, "cap";
    case 30:
        return k->layernorm = broken_layernorm, "layernorm";
    case 31:
        return k->scan_i8 = broken_scan_i8, "scan_i8";
    case 32:
        return k->scan_i2 = broken_scan_i2, "scan_i2";
    case 33:
        return k->mm_f32x16 = broken_mm_f32x16, "mm_f32x16";
    default:
        return NULL;
    }
}
