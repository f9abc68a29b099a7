/* SPDX-License-Identifier: MIT
 *
 * The contract between the kernels (kernels/NAME.k) and those who record them (dev_gpu*.c): what
 * each takes, in which order, and how numbers lie in memory. Every struct below is the FIELDS of a
 * kernel, word by word; floats travel as bits.
 *
 * Memory is words of 32 bits. A float buffer is seen through (at, ld): row r of it begins at
 * at + r * ld floats; several buffers may live in one memory.
 *
 * The step, one memory, written before every submission of a list made for B rows:
 *   | n_rows | n_picked | n_slots | 0 | token[B] | pos[B] | picked[B] | table[B] | ring[B] |
 *     angles[B][n_rot] | draw[B][5] | pages
 *
 * table[r] is where in the step the page table of row r begins; page table entry i is the
 * cache page of positions 64 i ... 64 i + 63. ring[r], where some layers have pages of their own,
 * is the same for these; entries for positions that no row of the step sees there may be missing,
 * so that ring[r] may be below zero. angles: n_rot / 2 cosines, then n_rot / 2 sines. A
 * group whose row is not below step[count_at] (0: rows, 1: picked rows) writes nothing.
 *
 * Weights: a row of a matrix is n_u words (gpu_pack.h), and 32 rows stand side by side:
 *   word u of row r at [(r / 32 * n_u + u) * 32 + r % 32]; the last group is padded with zero
 * words.
 *
 * Quantised activations of one row:
 *   i8 (for ternary weights)  q: cols rounded up to 128 bytes; of each 128-byte block, word j*8 + m
 *                             (columns 32 j + 4 m ...) is stored as word m*4 + j, so that the four
 *                             words one word of T2 meets stand together.
 *                             xs: [0] 127 / max(absmax, 1e-5), [1] the sum of q as an int's bits
 *   q8 (for block formats)    q: cols rounded up to 128 bytes, in order, zero-padded;
 *                             xs: [cols rounded up to 128 / 32] absmax / 127 of each 32
 * The arithmetic of both is that of quant_i8 and quant_q8 (kern/float_body.h).
 *
 * The cache: one memory of keys and one of values a layer, a block of 64 positions a page and KV
 * head, at (page * n_kv + head) blocks, laid out as kern_put_key and kern_put_value have it.
 */
#ifndef GPU_KERNELS_H
#define GPU_KERNELS_H

#include <stdint.h>

enum { GPU_ROWS = 32 }; /* rows of a matrix side by side */

enum { GPU_STEP_ROWS, GPU_STEP_PICKED, GPU_STEP_SLOTS, GPU_STEP_HEADER = 4 };

/* `row`: everything that works on one row. Grid (heads, B), LX 256 (or less). spec 1: what it does,
 * in this order. Binds: 0 step, 1 a, 2 b, 3 vec, 4 dst, 5 q, 6 xs (unused ones: any memory).
 *   v = a[row]            ROW_PICK: a[picked[row]]
 *   v = v + b             ROW_ADD
 *   v = v + vec           ROW_BIAS
 *   v = act(v) * b        ROW_RELU2, ROW_SILU, ROW_OAI (a is the gate)
 *   v = v / sqrt(mean(v^2) + eps) * vec   ROW_NORM
 *   dst[row] = v          ROW_OUT
 *   q, xs of v            ROW_I8 or ROW_Q8
 * Head h works on elements [h * width, (h + 1) * width) of a, b and dst; vec is the same for all
 * heads with ROW_NORM. With more than one head there is no ROW_I8 and no ROW_Q8. */
enum {
    ROW_PICK = 1,
    ROW_ADD = 2,
    ROW_BIAS = 4,
    ROW_RELU2 = 8,
    ROW_SILU = 16,
    ROW_OAI = 32,
    ROW_NORM = 64,
    ROW_OUT = 128,
    ROW_I8 = 256,
    ROW_Q8 = 512
};
typedef struct gpu_row_params {
    uint32_t count_at;       /* GPU_STEP_ROWS, GPU_STEP_PICKED or GPU_STEP_SLOTS */
    uint32_t picked_at;      /* ROW_PICK: where picked[] begins in the step */
    uint32_t width;          /* elements of a head */
    uint32_t a_at, a_ld;     /* a */
    uint32_t b_at, b_ld;     /* b */
    uint32_t dst_at, dst_ld; /* dst */
    uint32_t q_ld;           /* words between rows of q */
    uint32_t xs_ld;          /* floats between rows of xs */
    float eps;               /* ROW_NORM */
} gpu_row_params;

/* `embed`: dst[row] = row token[row] of a table, as floats, times scale; token 0xffffffff is the
 * one that the step before has found in its picked row of that number. Grid (1, B), LX 256. spec 1:
 * GPU_T2 ... the packed type. Binds: 0 step, 1 w, 2 dst, 3 found: what `best` or `draw` left. A
 * table in several pieces is several dispatches; each leaves rows that are not its own alone. T2:
 * value * scale. spec 2: 1 when w holds rows as they stand in a file, one behind the other, of any
 * type but GPU_B32. */
typedef struct gpu_embed_params {
    uint32_t token_at;       /* in the step */
    uint32_t row0, rows;     /* rows of the table in this piece */
    uint32_t cols, n_u;      /* columns; words a row */
    uint32_t dst_at, dst_ld; /* dst */
    float scale;             /* of the table */
    uint32_t w_at;           /* as in a file: where row row0 begins in w, in halves of words … */
    uint32_t row_halves;     /* … and how many of these a row takes */
} gpu_embed_params;

/* Products, y = W x, or y += W x. mv_*: few rows of activations, TOKENS at a time; grid
 * (ceil(rows / 32), ceil(B / TOKENS)), LX 256 (1 where invocations run one after another, facts.
 * subgroup 1): a group makes 32 outputs of TOKENS tokens, its invocations share the columns. mm_*:
 * many rows; grid (ceil(rows / GPU_MM_ROWS), ceil(B / GPU_MM_TOKENS)), LX 256.
 *   *_t2     ternary weights; FLOAT_ACT 0: i8 activations, exact integer sums, then
 *            y = (sum - sum of x) / xs[0] * rs[row]; FLOAT_ACT 1: float activations
 *   *_block  TYPE GPU_Q8_0, GPU_Q4_0, GPU_Q4_K, GPU_Q6_K, GPU_B32, GPU_MXFP4; q8 or float
 *   *_float  TYPE GPU_F32, GPU_F16, GPU_BF16; float activations
 *   mm_t2_matrix: mm_t2 with FLOAT_ACT 0 where facts.matrix is not 0; spec 6: facts.matrix
 * spec: 1 TOKENS (mv: 1, 2, 4, 8; mm: unused), 2 ADD, 3 FLOAT_ACT, 4 TYPE, 5 SCALED: GPU_SCALED:
 * multiplied by rs[row] (t2: always); GPU_BIASED: rs[row] is added.
 * Binds: 0 step, 1 w, 2 x (words: int8 codes, or floats as bits), 3 xs, 4 rs, 5 y. int8 x is read
 * in sixteens of bytes: x_at and x_ld are multiples of 4 then. */
enum { GPU_MM_ROWS = 64, GPU_MM_TOKENS = 64 };
enum { GPU_SCALED = 1, GPU_BIASED = 2 };
typedef struct gpu_product_params {
    uint32_t count_at;   /* GPU_STEP_ROWS or GPU_STEP_PICKED */
    uint32_t rows, row0; /* rows of this piece; the first one's place in y and rs */
    uint32_t cols, n_u;  /* columns; words a row */
    uint32_t x_at, x_ld; /* x, in words */
    uint32_t xs_ld;      /* floats between rows of xs */
    uint32_t y_at, y_ld; /* y */
} gpu_product_params;

/* Products for the experts of a mixture: xv_* as mv_*, xm_* as mm_*, of the same types but GPU_T2.
 * Grid (ceil(rows / 32 or GPU_MM_ROWS), jobs there may be): a group takes one job of `route`, whose
 * rows are at most TOKENS (xm: GPU_MM_TOKENS). w holds the matrices of experts expert0 ... expert0
 * + n_expert - 1, each begins with a group of 32 rows; jobs of others do nothing. rs[expert * rows
 * + row]. spec and binds as above, 6: route. */
typedef struct gpu_expert_params {
    gpu_product_params p;  /* count_at is not used, row0 is 0; rows of one expert */
    uint32_t expert0;      /* first of this piece */
    uint32_t n_expert;     /* how many */
    uint32_t expert_words; /* words of a matrix */
    uint32_t gathered;     /* x holds a row for each token, not for each slot row */
    uint32_t job_at;       /* in route */
    uint32_t token_at;     /* likewise */
} gpu_expert_params;

/* `route`: which experts each token goes to: the USED largest of MANY logits, best first, the lower
 * index first among equals. Each choice is a slot and has a row; rows are sorted by expert, then by
 * token. One group, LX 256. spec 1: ROWS, B; 2: USED, at most GPU_MOST_USED; 3: MANY, at most
 * GPU_MOST_EXPERTS; 4: weights are shares of the softmax over all MANY, not over the chosen; 5:
 * JOB, rows of a job. B * ceil(USED / 4) is at most GPU_ROUTE_WORDS. Binds: 0 step, 1 x, 2 route:
 *   | slots | jobs | 0 | 0 | row[B][USED] | token[B USED] of a row | weight[B][USED] as bits |
 *     expert, first row, rows of each job: those of one expert stand together, in order */
enum { GPU_MOST_EXPERTS = 256, GPU_MOST_USED = 16, GPU_ROUTE_WORDS = 2048, GPU_ROUTE_HEADER = 4 };
typedef struct gpu_route_params {
    uint32_t x_at, x_ld;                          /* logits */
    uint32_t row_at, token_at, weight_at, job_at; /* in route */
} gpu_route_params;

/* `mix_rows`: dst[token] = the sum of its USED slot rows of src by their weights (MIX_SLOTS); added
 * to dst (MIX_ADD); then MIX_GATED: + sigmoid(gate[token]) * b[token]. Grid (ceil(width / 256), B),
 * LX 256. spec 1: what of it, 2: USED. Binds: 0 step, 1 route, 2 src, 3 b, 4 gate, 5 dst. */
enum { MIX_SLOTS = 1, MIX_ADD = 2, MIX_GATED = 4 };
typedef struct gpu_mix_params {
    uint32_t width;             /* elements of a row */
    uint32_t row_at, weight_at; /* in route */
    uint32_t src_at, src_ld;    /* src */
    uint32_t b_at, b_ld;        /* b */
    uint32_t gate_at, gate_ld;  /* gate */
    uint32_t dst_at, dst_ld;    /* dst */
} gpu_mix_params;

/* `rope`: rotates heads and stores keys and values in the cache. Grid (n_q + n_k + n_v, B), LX 64.
 * spec 1: ROPE_ROTATE q and k in place, ROPE_APPEND (rotated) k and v, ROPE_INTERLEAVED pairs
 * (2i, 2i+1) instead of (i, i + n_rot/2); 2: kern_kv. Any of n_q, n_k, n_v may be 0.
 * Binds: 0 step, 1 q, 2 k, 3 v, 4 cache of keys, 5 cache of values. d is at most 512, even with
 * f16. */
enum { ROPE_ROTATE = 1, ROPE_APPEND = 2, ROPE_INTERLEAVED = 4 };
typedef struct gpu_rope_params {
    uint32_t pos_at, table_at, angle_at; /* in the step */
    uint32_t n_q, n_k, n_v;              /* heads of q, k, v */
    uint32_t d, n_rot;                   /* head size; rotated dimensions of it */
    uint32_t q_at, q_ld;                 /* q */
    uint32_t k_at, k_ld;                 /* k */
    uint32_t v_at, v_ld;                 /* v */
} gpu_rope_params;

/* `attn`: attention of few tokens: one KV head and the GROUP query heads that share it, one part of
 * the keys. Grid (splits, n_kv, B), LX 128. Split s takes blocks of 64 keys [s * n, (s + 1) * n) of
 * those from the first the token sees on, n = ceil(blocks / splits); it leaves m, l, then d sums at
 * part[((row * n_head + head) * splits + s) * (d + 2)]: the maximum (-INFINITY as 0xff800000 when
 * it saw no key), the sum of exp(score - m), the sums of values weighted so. spec 1: GROUP, 2: D,
 * 3: kern_kv. Binds: 0 step, 1 q, 2 keys, 3 values, 4 part. A token at position p sees keys [max(0,
 * p + 1 - window), p]; window 0: all up to p. */
typedef struct gpu_attn_params {
    uint32_t pos_at, table_at; /* in the step */
    uint32_t n_kv, window;     /* KV heads; positions seen, 0: all */
    uint32_t splits;           /* parts of the keys */
    uint32_t q_at, q_ld;       /* q */
    float scale;               /* of the scores */
} gpu_attn_params;

/* `attn_fold`: dst = the parts of one head together. Grid (n_head, B), LX 64. spec 1: D, 2:
 * with sinks, a score of each head that takes its share and has no value. Binds: 0 step, 1 part, 2
 * dst, 3 sinks. */
typedef struct gpu_fold_params {
    uint32_t n_head, splits; /* heads; parts */
    uint32_t dst_at, dst_ld; /* dst */
} gpu_fold_params;

/* `attn_tile`: attention of many tokens, whole: GPU_TILE_TOKENS consecutive rows of the step and
 * one query head a group. Grid (ceil(B / GPU_TILE_TOKENS), n_head), LX 128. Rows of several
 * sequences may meet in a tile: each follows its own page table. spec 1: GROUP, 2: D, 3: kern_kv,
 * 4: sinks as in attn_fold. Binds: 0 step, 1 q, 2 keys, 3 values, 4 dst, 5 sinks. */
enum { GPU_TILE_TOKENS = 16 };
typedef struct gpu_tile_params {
    uint32_t pos_at, table_at; /* in the step */
    uint32_t n_kv, window;     /* as in attn */
    uint32_t q_at, q_ld;       /* q */
    uint32_t dst_at, dst_ld;   /* dst */
    float scale;               /* of the scores */
} gpu_tile_params;

/* `best`: the largest of a row, the lowest index when several are equal; NaN is never the largest.
 * Grid (1, B), LX 256. Binds: 0 step, 1 x, 2 out: two words a row, index and value's bits. */
typedef struct gpu_best_params {
    uint32_t count_at;   /* GPU_STEP_ROWS or GPU_STEP_PICKED */
    uint32_t width;      /* elements */
    uint32_t x_at, x_ld; /* x */
} gpu_best_params;

/* `top`: the best k of a row, best first, the lower index first among equals (zeros are equal); NaN
 * never. Grid (1, B), LX 256. Binds: 0 step, 1 x, 2 out: k pairs of words a row, index and value's
 * bits; 0xffffffff and minus infinity where the row has fewer numbers than k. */
enum { GPU_TOP = 256 };
typedef struct gpu_top_params {
    uint32_t count_at;   /* GPU_STEP_ROWS or GPU_STEP_PICKED */
    uint32_t width;      /* elements */
    uint32_t x_at, x_ld; /* x */
    uint32_t k;          /* 1 ... GPU_TOP */
} gpu_top_params;

/* `draw`: one token of each row's best, as the host's sampler draws it (gen/sampler.c): those of
 * the best step[k] that have the share top_p before temperature and are no further than -least
 * below the best; in the order of their indices, by weight exp((x - largest) * heat). At draw_at +
 * 5 row of the step stand k, and as bits of floats top_p (1: all), least (minus infinity: all),
 * heat, and u in [0, 1], the place in the weight that is drawn. Grid (1, B), LX 256. Binds: 0 step,
 * 1 what `top` left, 2 out: two words a row, index and the largest value's bits; index 0xffffffff
 * when that is not finite. */
enum { GPU_DRAW_WORDS = 5 };
typedef struct gpu_draw_params {
    uint32_t count_at; /* GPU_STEP_ROWS or GPU_STEP_PICKED */
    uint32_t draw_at;  /* in the step */
    uint32_t k;        /* of `top` */
} gpu_draw_params;

#endif
