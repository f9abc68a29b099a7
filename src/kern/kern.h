/* SPDX-License-Identifier: MIT
 *
 * kern: the arithmetic. One table of function pointers, filled with the C versions and then
 * overwritten, step by step, by what the processor offers. Const afterwards; whoever runs a model
 * holds one; tests hold several at once.
 *
 * Kernels never allocate, start threads or know about models. They take proven sizes (asserted) and
 * a range of rows, so that threads can share one call. Shape letters: docs/shapes.md.
 *
 * The numerics contract (docs/numerics.md): every variant of a kernel gives the same bits as the
 * C version. Integer sums are exact. A float sum over n elements runs in 16 lanes, element i into
 * lane i mod 16 by fused multiply-add, then lanes l and l+8, l+4, l+2, l+1 are added; a block
 * format adds block after block into one accumulator per row. Nothing else is reordered.
 */
#ifndef KERN_H
#define KERN_H

#include "base/base.h"
#include "quant/quant.h"

enum {
    KERN_KEYS = 64,  /* positions in a block of keys: the unit of attention and of cache pages */
    KERN_SPAN = 512, /* positions under one maximum: the unit of folding */
    KERN_MAX_HEAD = 512,   /* largest head size */
    KERN_ALIGN_COLS = 128, /* activation rows are padded with zeros to a multiple of this */
    KERN_SCAN_COLS = 64    /* rows of scan_i8 and scan_i2 likewise */
};

/* ---- Operands of a matrix product ------------------------------------------------------------ */

/* A weight matrix [rows, cols] at rest. Borrowed. */
typedef struct kern_mat {
    const uint8_t *data; /* first byte of row 0, any alignment */
    uint32_t type; /* QUANT_I2_S: T2 rows; QUANT_T5; a QUANT_BLOCK32 type; KERN_Q8X16, KERN_F32X16;
                      F16, BF16, F32 */
    size_t rows;   /* outputs */
    size_t cols;   /* inputs, K */
    size_t row_bytes; /* distance between rows; T5: a sixteenth of that between groups of 16 */
    float scale;      /* of all rows (T2, T5; of others the device multiplies the outputs) */
    const float *row_scale; /* [rows] instead of scale, or NULL (T2, T5) */
} kern_mat;

/* B activation rows of K columns, float and, once quantised, int8. Borrowed. */
typedef struct kern_act {
    const float *x;     /* [B, K] distance ldx: for float kernels */
    size_t ldx;         /* floats between rows of x */
    const int8_t *q;    /* [B, ldq], zero-padded: for integer kernels */
    size_t ldq;         /* bytes between rows of q: K rounded up to KERN_ALIGN_COLS */
    const float *s;     /* T2, T5: [B], 127 / absmax of the row; blocks: [B, ldq/32], absmax/127 */
    const int32_t *sum; /* T2, T5: [B], sum of the row's q */
    const int16_t *sum16; /* block types: [B, ldq/16], sums of 16 q */
    size_t n_tok;         /* B */
} kern_act;

/* Q8_0 with sixteen rows side by side, for weights copied at load: layout in c/q8x16_c.c. row_bytes
 * is that of Q8_0, so that data + r * row_bytes is where a group of rows from r on begins. */
enum { KERN_Q8X16 = 0x5138, /* kern_mat.type */ KERN_Q8X16_ROWS = 16 };
size_t kern_q8x16_bytes(size_t rows, size_t cols);
/* One group of sixteen rows from n_rows Q8_0 rows that stand one after another. */
void kern_q8x16_pack(uint8_t *group, const uint8_t *rows, size_t n_rows, size_t cols);

/* F32 with sixteen rows side by side, likewise: layout in c/f32x16_c.c. A whole number of groups.
 */
enum { KERN_F32X16 = 0x4632, /* kern_mat.type */ KERN_F32X16_ROWS = 16 };
/* One group from sixteen rows, row_bytes apart, at any address. */
void kern_f32x16_pack(float *group, const uint8_t *rows, size_t row_bytes, size_t cols);

/* y[b * ldy + r] = sum over c of W[r, c] * x[b, c], for r in [row_begin, row_end). */
typedef void (*kern_mm_fn)(float *y, size_t ldy, const kern_mat *w, const kern_act *x,
                           size_t row_begin, size_t row_end);

/* ---- Attention ------------------------------------------------------------------------------- */

typedef enum kern_kv { KERN_KV_F32, KERN_KV_F16, KERN_KV_Q8 } kern_kv;

/* Bytes of one cached key or value of d elements. Q8 keeps an f16 scale for every 32. */
size_t kern_kv_row_bytes(kern_kv type, size_t d);
/* A row as kv_store made it becomes key (or value) `slot` of a block of KERN_KEYS positions, which
 * takes KERN_KEYS * kern_kv_row_bytes. Element i of key j lies at [i][j], keys side by side, so
 * that a vector holds one element of sixteen keys; values lie row by row, [j][i].
 * Q8, n = d / 32 rounded up:  keys   | scales [n][64] | codes [32 n][64] |
 *                             values | scales [n][64] | codes [64][32 n] | */
void kern_put_key(uint8_t *block, size_t slot, const uint8_t *row, size_t d, kern_kv type);
void kern_put_value(uint8_t *block, size_t slot, const uint8_t *row, size_t d, kern_kv type);

/* Query rows a call of attention takes: n_tok * n_heads is at most this, or n_tok is 1. */
enum { KERN_ATTN_ROWS = 128 };

/* Tokens of one sequence at consecutive positions, the G query heads that share one KV head.
 * The block of positions [64 i, 64 i + 64) lies at page(i) = pages + page_ids[i] * page_bytes; its
 * keys start at k_at and its values at v_at. */
typedef struct kern_attn {
    const float *q;           /* [n_tok][G, d] */
    float *out;               /* [n_tok][G, d] */
    size_t ldq, ldo;          /* floats between tokens of q and of out */
    size_t n_tok;             /* tokens */
    size_t n_heads;           /* G */
    size_t d;                 /* head size, at most KERN_MAX_HEAD */
    float scale;              /* multiplies q.k */
    kern_kv type;             /* of the cache */
    const uint8_t *pages;     /* all pages */
    const uint32_t *page_ids; /* page of each block */
    size_t page_bytes;        /* size of a page */
    size_t k_at, v_at;        /* byte offsets inside a page, of this layer and KV head */
    size_t pos;               /* position of the first token */
    size_t window;            /* positions a token sees, itself included; 0: all before it */
    size_t end;               /* keys of the sequence, of which a token also sees those behind it,
                                 a window reaching as far to either side; 0: none behind it */
    float cap;                /* scores are cap * tanh(score / cap); 0: as they are */
    const float *sinks;       /* [G] a score of each head that takes its share and has no value, or
                                 NULL */
    float *scratch;           /* kern_attn_scratch(n_tok * G, d) floats, aligned to 64 bytes */
    const uint8_t *ahead;     /* what the caller reads next, worth fetching early; may be NULL */
} kern_attn;

/* Floats of scratch for so many query rows. */
size_t kern_attn_scratch(size_t n_rows, size_t d);
/* Floats of one query row's partial state: maximum, sum, padding to 16, then d rounded up to 16. */
size_t kern_partial_floats(size_t d);
/* One past the last key that token t of a sees. */
static inline size_t kern_attn_end(const kern_attn *a, size_t t) {
    const size_t self = a->pos + t + 1;
    if (!a->end) return self;
    return a->window ? BASE_MIN(self + a->window - 1, a->end) : a->end;
}
/* First span that token t of a sees, and the end of its spans. */
size_t kern_attn_first_span(const kern_attn *a, size_t t);
size_t kern_attn_end_span(const kern_attn *a, size_t t);

/* ---- Plain float products -------------------------------------------------------------------- */

enum {
    KERN_GEMM_KC = 192,                                    /* steps of k in a panel */
    KERN_GEMM_MC = 384,                                    /* rows of A in a panel */
    KERN_GEMM_SCRATCH = KERN_GEMM_KC * (KERN_GEMM_MC + 32) /* floats of scratch, 64-byte aligned */
};

/* C[m,n] = A[m,k] B[k,n], or C += A B. Element (i, j) of A is a[i * a_row + j * a_col], of B
 * likewise; of each operand one stride is 1. C must not overlap A or B. */
typedef struct kern_gemm {
    const float *a;      /* A */
    const float *b;      /* B */
    float *c;            /* C[i, j] at c[i * ldc + j] */
    size_t a_row, a_col; /* floats between rows and between columns of A */
    size_t b_row, b_col; /* the same of B */
    size_t ldc;          /* floats between rows of C */
    size_t m, n, k;      /* rows of C, columns of C, inner size */
    bool add;            /* C += instead of C = */
} kern_gemm;
/* ---- The staged output head: head.c ---------------------------------------------------------- */

enum {
    KERN_HEAD_STAGES = 5, /* a row is known to 4 bits, then to 5, 6, 7 and 8 */
    KERN_HEAD_GROUP = 16  /* rows that stand together in the coarse plane */
};

/* A head [rows, cols] as nested planes: four bits of every weight, then one more bit at a time.
 * Columns are padded to ldc. All pointers lead into one block of kern_planes_bytes. */
typedef struct kern_planes {
    size_t rows, cols;              /* of the head */
    size_t ldc;                     /* columns rounded up to KERN_ALIGN_COLS */
    uint8_t *coarse;                /* [groups] of kern_planes_group_bytes: scales, four bits */
    uint8_t *scale;                 /* [rows, ldc / 32] the same scales once more, by row */
    uint8_t *bits[4];               /* [rows, ldc / 8] the fifth bit … the eighth */
    float *step;                    /* [groups * 16] of a row */
    float *norm;                    /* [groups * 16] length of the row or of a plane's row */
    float *error[KERN_HEAD_STAGES]; /* [groups * 16] length of row - planes; INFINITY: unknown */
} kern_planes;

/* One activation row in 16 bits, and what is needed to bound its products. */
typedef struct kern_x16 {
    int16_t *x;          /* [ldc] codes within +-32639, zero-padded */
    int8_t *high, *low;  /* [ldc] code = 256 high + low */
    int32_t *sum15;      /* [ldc / 32] 15 times the sum of a block's codes */
    float step;          /* value of a code */
    float length, slack; /* |exact - score| <= error * length + norm * slack + KERN_HEAD_TINY */
    float *y;            /* [groups * 16] scores of all rows by the coarse plane */
} kern_x16;

#define KERN_HEAD_TINY 1e-28f /* what may be lost below the range of normal floats */

size_t kern_planes_group_bytes(const kern_planes *p);
size_t kern_planes_bytes(size_t rows, size_t cols);
/* Divides mem (64-byte aligned, zeroed) among the planes. */
void kern_planes_place(kern_planes *p, uint8_t *mem, size_t rows, size_t cols);
size_t kern_x16_bytes(size_t cols);
void kern_x16_place(kern_x16 *x, uint8_t *mem, size_t cols);
/* Codes of v[p->cols]; false when it has no finite, ordinary length: nothing can be bounded. */
bool kern_x16_fill(kern_x16 *x, const kern_planes *p, const float *v);
/* How far the exact product of row r may be from its score of a stage. */
static inline float kern_head_bound(const kern_planes *p, const kern_x16 *x, size_t stage,
                                    size_t r) {
    return p->error[stage][r] * x->length + p->norm[r] * x->slack + KERN_HEAD_TINY;
}

/* ---- The table ------------------------------------------------------------------------------- */

/* Gated activations: dst = act(g) * u, or act(g) alone where u is NULL. KERN_SWIGLU_OAI, never
 * alone: g at most 7, u within +-7, then g sigmoid(1.702 g) (u + 1). KERN_GELU: by its form with
 * tanh; KERN_GELU_ERF: x Phi(x), the exact one. */
typedef enum kern_glu { KERN_RELU2, KERN_SILU, KERN_SWIGLU_OAI, KERN_GELU, KERN_GELU_ERF } kern_glu;

typedef struct kern {
    unsigned cpu; /* CPU_* flags this table was built for */

    /* Products with int8 activations (exact integer sums) … */
    kern_mm_fn gemv_t2_i8, gemm_t2_i8; /* one token; any number */
    kern_mm_fn gemv_t5_i8, gemm_t5_i8; /* the same for 1.6-bit weights */
    kern_mm_fn mm_b32_q8;              /* block types, any number of tokens */
    kern_mm_fn mm_q8x16;               /* KERN_Q8X16; row_begin a multiple of sixteen */
    /* … and with float activations. */
    kern_mm_fn mm_f32, mm_f16, mm_bf16; /* plain types */
    kern_mm_fn mm_f32x16; /* KERN_F32X16; row_begin and row_end multiples of sixteen */
    kern_mm_fn mm_t2_f32, mm_t5_f32, mm_b32_f32; /* --act f32: decoded weights, nothing rounded */

    /* Rows [row_begin, row_end) of C; scratch: KERN_GEMM_SCRATCH floats of this thread. */
    void (*gemm_f32)(const kern_gemm *g, size_t row_begin, size_t row_end, float *scratch);

    /* Quantises one row x[n] into q[ldq] (zero-padded). i8: one scale a row (BitNet);
     * q8: one a block of 32. Outputs as in kern_act. */
    void (*quant_i8)(int8_t *q, float *s, int32_t *sum, const float *x, size_t n, size_t ldq);
    void (*quant_q8)(int8_t *q, float *s, int16_t *sum16, const float *x, size_t n, size_t ldq);

    /* dst[n] = x[n] / sqrt(mean(x^2) + eps) * gain[n]; dst may be x. */
    void (*rmsnorm)(float *dst, const float *x, const float *gain, size_t n, float eps);
    /* The same of x less its mean; a bias is added afterwards, by add. */
    void (*layernorm)(float *dst, const float *x, const float *gain, size_t n, float eps);
    void (*add)(float *dst, const float *x, size_t n);                 /* dst += x */
    void (*add_scaled)(float *dst, const float *x, float a, size_t n); /* dst += a x, fused */
    void (*cap)(float *x, float cap, size_t n);                        /* x = cap * tanh(x / cap) */
    /* x[n] becomes exp(x - max) / sum; returns the logarithm of the sum of exp(x), n >= 1. */
    float (*softmax)(float *x, size_t n);
    void (*glu)(float *dst, const float *g, const float *u, size_t n, kern_glu act);
    /* Rotates pairs of x[n_heads, d] by the angles whose cosine and sine are cs[n_rot/2] and
     * sn[n_rot/2]; pairs are (i, i + n_rot/2), or (2i, 2i+1) when interleaved. */
    void (*rope)(float *x, size_t n_heads, size_t d, size_t n_rot, const float *cs, const float *sn,
                 bool interleaved);
    /* Writes x[d] as one cache row; kern_put_key and kern_put_value set it into its block. */
    void (*kv_store)(uint8_t *dst, const float *x, size_t d, kern_kv type);
    /* Attention whole; or span by span, so that threads can share tokens: attention_span leaves
     * n_tok * n_heads partial states of kern_partial_floats(d) floats (none for a token that does
     * not see the span), attention_fold folds partial[span - first][token][head] into out. Both
     * ways give the same bits, and so do any n_tok. */
    void (*attention)(const kern_attn *a);
    void (*attention_span)(const kern_attn *a, size_t span, float *partial);
    void (*attention_fold)(const kern_attn *a, const float *partial);
    /* dst[n] = row of an embedding table, as float. */
    void (*embed)(float *dst, const kern_mat *w, size_t row);

    /* The staged head. pack: row r of the head, as floats, into every plane. screen: groups
     * [begin, end) of the coarse plane against n_tok tokens, into x[b].y. refine: adds plane
     * bits[plane] to the scores y[n] of the rows ids[n]. */
    void (*head_pack)(const kern_planes *p, const float *w, size_t r);
    void (*head_screen)(const kern_planes *p, const kern_x16 *x, size_t n_tok, size_t begin,
                        size_t end);
    void (*head_refine)(float *y, const kern_planes *p, const kern_x16 *x, size_t plane,
                        const uint32_t *ids, size_t n);

    /* Retrieval: out[r] = sum of query[ld] * rows[r * ld …] for n_rows rows, exactly. ld is a
     * multiple of KERN_SCAN_COLS, rows and query are aligned to it, bytes lie within +-127. */
    void (*scan_i8)(int32_t *out, const int8_t *rows, const int8_t *query, size_t ld,
                    size_t n_rows);
    /* The same with codes 0 … 3 in place of bytes. A row has ld / 4 bytes and is aligned to 16;
     * byte p of every 16 has the codes of columns p, 16 + p, 32 + p and 48 + p of 64, low bits
     * first. */
    void (*scan_i2)(int32_t *out, const uint8_t *rows, const int8_t *query, size_t ld,
                    size_t n_rows);
} kern;

/* cpu: CPU_* flags from cpu_detect() & mask. Every slot is valid afterwards. */
void kern_init(kern *k, unsigned cpu);

/* True when a block type keeps one scale per 16 columns, not per 32: two accumulations a block. */
bool kern_split16(uint32_t type);

/* Cosines and sines of pos * inv_freq[i], i in [0, n): the same on every path. */
void kern_rope_table(float *cs, float *sn, const double *inv_freq, size_t n, uint32_t pos);

/* Multiply-adds done by `rounds` of the fastest int8 and f32 loop these flags allow, on this
 * thread; *sink keeps the result from being optimised away. For measuring, not for models. */
uint64_t kern_int8_peak(unsigned cpu, uint64_t rounds, uint32_t *sink);
uint64_t kern_f32_peak(unsigned cpu, uint64_t rounds, float *sink);
/* Reads n_bytes (a multiple of 256, 64-byte aligned) once, in order, by the widest loads these
 * flags allow, without prefetching; returns something that depends on every byte. Narrow loads keep
 * fewer lines under way: on a Sapphire Rapids 16 bytes reach 0.72 of what 64 do. */
uint64_t kern_plain_read(unsigned cpu, const void *data, size_t n_bytes);

#endif
