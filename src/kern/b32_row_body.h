/* SPDX-License-Identifier: MIT
 *
 * Block formats x one token (decode), for instruction sets whose vi header defines VI_LANES. Part
 * of b32_body.h, which says what is computed; here every weight is used once, so nothing is
 * unpacked into a tile. Two steps for VI_ROWS rows at a time:
 *
 * 1. Row by row, in the order of memory, with prefetches of what is read FAR and NEAR bytes later:
 * a group of VI_ROWS blocks is four vectors of codes a half; lane i (128 bits) of vector v holds 16
 *    columns of block 4 i + v, so the four sums of dwords transposed in their lanes come out in
 *    block order:
 *
 *      vector 0   | block 0, cols 0-15 | block 4 | block 8  | block 12 |   and again, cols 16-31
 *      vector 1   | block 1            | block 5 | block 9  | block 13 |
 *
 *    Left are a sum of q p for each row and block, and the bytes of its scales, copied.
 * 2. Both are transposed so that a lane is a row, and added block after block: the order of
 *    b32_c.c, in one accumulator per row.
 *
 * Scales are turned into floats only in step 2, far from where they were copied: a vector load
 * that follows its scalar stores too closely waits until they have left the processor.
 *
 * The last group of a row reaches back so that it ends with the row: its first sums are computed
 * twice. A strip of SEG blocks of VI_ROWS rows stays in the first-level cache.
 */
enum {
    GROUP = VI_ROWS,   /* blocks in a group */
    SEG = 128,         /* most blocks in a strip */
    ROW_BLOCKS = 1024, /* blocks in the longest row done here */
    FAR = 16384,       /* bytes from what is read to what is asked for from memory */
    NEAR = 1024        /* the same from the second-level cache (x86/stream.h says why) */
};

/* One token, in the order of the vectors. */
typedef struct token {
    _Alignas(64) uint8_t q[ROW_BLOCKS / GROUP + 1][4][2][4 * VI_ROWS]; /* [group][vector][half] */
    int32_t start[2][ROW_BLOCKS]; /* - bias * sum of q, of a block or of each half */
    float sum[ROW_BLOCKS];        /* sum of q of a block, for types with offsets */
} token;

/* What VI_ROWS rows bring to their outputs; block k of the strip stands at GROUP + k, because the
 * last group may begin before the strip. */
typedef struct strip {
    float sum[2][VI_ROWS][GROUP + SEG];        /* sum of q p, of a block or of each half */
    uint16_t half[GROUP + SEG][VI_ROWS];       /* f16 scale of a block; Q6_K: of a super-block */
    uint8_t exponent[GROUP + SEG][VI_ROWS];    /* MXFP4: scale of a block */
    uint8_t super[VI_ROWS][2 * (GROUP + SEG)]; /* K types: sixteen bytes for each super-block */
} strip;

/* A row of a strip. */
typedef struct line {
    const uint8_t *p; /* the row's first block */
    const token *t;   /* activations */
    strip *out;       /* results go to its row `row` */
    size_t row;       /* row in the strip */
    size_t blocks;    /* blocks in the whole row */
    size_t k0, n_k;   /* first block of the strip, blocks */
    ptrdiff_t far;    /* bytes from what is read to what is asked for from memory */
} line;

/* The first block of group g of a row. */
INLINE size_t group_start(size_t blocks, size_t g) {
    return g * GROUP < blocks - GROUP ? g * GROUP : blocks - GROUP;
}

#define FOR_GROUPS(l, g) for (size_t g = (l)->k0 / GROUP; g * GROUP < (l)->k0 + (l)->n_k; g++)

/* ==== A group: sums and scales ================================================================ */

/* Four vectors of four dwords a lane: lane i dword v becomes the sum of vector v's lane i. */
INLINE vi lane_sums(const vi c[4]) {
    vi lo = vi_add32(vi_lo32(c[0], c[1]), vi_hi32(c[0], c[1]));
    vi hi = vi_add32(vi_lo32(c[2], c[3]), vi_hi32(c[2], c[3]));
    return vi_add32(vi_lo64(lo, hi), vi_hi64(lo, hi));
}

/* The sums of group g of codes c[vector][half]. */
INLINE void add_group(const line *l, const kind f, size_t g, const vi c[4][2]) {
    const size_t k = group_start(l->blocks, g), at = GROUP + k - l->k0;
    vi acc[2][4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        const vi zero = vi_set32(0), x0 = vi_load(l->t->q[g][v][0]), x1 = vi_load(l->t->q[g][v][1]);
        acc[0][v] = f.wide ? vi_dot8(zero, c[v][0], x0) : vi_dot(zero, c[v][0], x0);
        const vi from = f.split ? zero : acc[0][v];
        acc[1][v] = f.wide ? vi_dot8(from, c[v][1], x1) : vi_dot(from, c[v][1], x1);
    }
    vi sum = lane_sums(acc[f.split ? 0 : 1]);
    if (f.biased) sum = vi_add32(sum, vi_load_any(l->t->start[0] + k));
    vf_store(l->out->sum[0][l->row] + at, vi_to_float(sum));
    if (!f.split) return;
    sum = lane_sums(acc[1]);
    if (f.biased) sum = vi_add32(sum, vi_load_any(l->t->start[1] + k));
    vf_store(l->out->sum[1][l->row] + at, vi_to_float(sum));
}

/* One element, kept scalar: the compiler would collect several in a register with a shuffle or two
 * for each, and shuffles are what is scarce here. */
#define COPY_ALONE(to, from)                                                                       \
    do {                                                                                           \
        uint32_t one_ = 0;                                                                         \
        memcpy(&one_, from, sizeof(to));                                                           \
        __asm__("" : "+r"(one_));                                                                  \
        memcpy(&(to), &one_, sizeof(to));                                                          \
    } while (0)

/* f16 scales of the blocks from k on, which stand `step` bytes apart. */
INLINE void copy_halves(const line *l, size_t k, const size_t step) {
    uint16_t(*to)[VI_ROWS] = l->out->half + GROUP + k - l->k0;
    const uint8_t *from = l->p + k * step;
#pragma GCC unroll 16
    for (size_t i = 0; i < GROUP; i++) COPY_ALONE(to[i][l->row], from + i * step);
}

/* Sixteen bytes `at` bytes into each super-block of a group. */
INLINE void copy_super(const line *l, size_t k, const size_t step, const size_t at) {
#pragma GCC unroll 2
    for (size_t i = 0; i < GROUP; i += 8)
        memcpy(l->out->super[l->row] + 2 * (GROUP + k - l->k0 + i), l->p + (k + i) / 8 * step + at,
               16);
}

/* The far one knows that rows of a strip follow each other, and then those of the next strip. */
INLINE void prefetch_ahead(const line *l, const uint8_t *p, const size_t n_bytes) {
#pragma GCC unroll 16
    for (size_t i = 0; i < n_bytes; i += 64) {
        __builtin_prefetch(p + l->far + i, 0, 2);
        __builtin_prefetch(p + NEAR + i, 0, 3);
    }
}

/* Sixteen nibble bytes of each block: the low nibbles are columns 0-15, the high ones 16-31. */
INLINE void nibbles(vi c[4][2], const uint8_t *p, const size_t step) {
    const vi low = vi_set8(15);
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) {
        vi n = vi_lanes(p + v * step, 4 * step, 8 * step);
        c[v][0] = vi_and(n, low);
        c[v][1] = vi_and(vi_shr16(n, 4), low);
    }
}

/* The same for nibbles that stand for values of a table. */
INLINE void looked_up_nibbles(vi c[4][2], const uint8_t *p, const size_t step, vi table) {
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) {
        vi n = vi_lanes(p + v * step, 4 * step, 8 * step);
        c[v][0] = look_up_low(table, n);
        c[v][1] = look_up_low(table, vi_shr16(n, 4));
    }
}

/* ==== Formats ================================================================================= */

static NOINLINE void line_q8_0(const line *given) {
    const line own = *given, *l = &own; /* out of reach of the stores: stays in registers */
    const kind f = {.wide = true, .biased = VI_BIAS8 != 0};
    FOR_GROUPS(l, g) {
        const size_t k = group_start(l->blocks, g);
        const uint8_t *p = l->p + 34 * k;
        vi c[4][2];
        prefetch_ahead(l, p, 34 * GROUP);
        copy_halves(l, k, 34);
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++)
            for (size_t h = 0; h < 2; h++)
                c[v][h] = vi_xor(vi_lanes(p + 34 * v + 2 + 16 * h, 136, 272), vi_set8(VI_BIAS8));
        add_group(l, f, g, c);
    }
}

static NOINLINE void line_q4_0(const line *given) {
    const line own = *given, *l = &own; /* out of reach of the stores: stays in registers */
    const kind f = {.biased = true};
    FOR_GROUPS(l, g) {
        const size_t k = group_start(l->blocks, g);
        vi c[4][2];
        prefetch_ahead(l, l->p + 18 * k, 18 * GROUP);
        copy_halves(l, k, 18);
        nibbles(c, l->p + 18 * k + 2, 18);
        add_group(l, f, g, c);
    }
}

static NOINLINE void line_iq4_nl(const line *given) {
    const line own = *given, *l = &own; /* out of reach of the stores: stays in registers */
    const kind f = {.wide = true, .biased = VI_BIAS8 != 0};
    const vi table = iq4_nl_table();
    FOR_GROUPS(l, g) {
        const size_t k = group_start(l->blocks, g);
        vi c[4][2];
        prefetch_ahead(l, l->p + 18 * k, 18 * GROUP);
        copy_halves(l, k, 18);
        looked_up_nibbles(c, l->p + 18 * k + 2, 18, table);
        add_group(l, f, g, c);
    }
}

static NOINLINE void line_mxfp4(const line *given) {
    const line own = *given, *l = &own; /* out of reach of the stores: stays in registers */
    const kind f = {.biased = true};
    const vi table = mxfp4_table();
    FOR_GROUPS(l, g) {
        const size_t k = group_start(l->blocks, g);
        const uint8_t *p = l->p + 17 * k;
        uint8_t(*e)[VI_ROWS] = l->out->exponent + GROUP + k - l->k0;
        vi c[4][2];
        prefetch_ahead(l, p, 17 * GROUP);
#pragma GCC unroll 16
        for (size_t i = 0; i < GROUP; i++) COPY_ALONE(e[i][l->row], p + 17 * i);
        looked_up_nibbles(c, p + 1, 17, table);
        add_group(l, f, g, c);
    }
}

static NOINLINE void line_q4_k(const line *given) {
    const line own = *given, *l = &own; /* out of reach of the stores: stays in registers */
    const kind f = {.offset = true};
    const vi low = vi_set8(15);
    FOR_GROUPS(l, g) {
        const size_t k = group_start(l->blocks, g);
        const uint8_t *p = l->p + k / 8 * 144;
        vi c[4][2];
        prefetch_ahead(l, p, 18 * GROUP);
        copy_super(l, k, 144, 0);
#pragma GCC unroll 2
        for (size_t v = 0; v < 4; v += 2)
            for (size_t h = 0; h < 2; h++) {
                vi n = vi_lanes(p + 16 + 16 * v + 16 * h, 64, 144);
                c[v][h] = vi_and(n, low);
                c[v + 1][h] = vi_and(vi_shr16(n, 4), low);
            }
        add_group(l, f, g, c);
    }
}

static NOINLINE void line_q6_k(const line *given) {
    const line own = *given, *l = &own; /* out of reach of the stores: stays in registers */
    const kind f = {.split = true, .biased = true};
    const vi low = vi_set8(15), top = vi_set8(0x30);
    FOR_GROUPS(l, g) {
        const size_t k = group_start(l->blocks, g);
        const uint8_t *p = l->p + k / 8 * 210;
        vi c[4][2];
        prefetch_ahead(l, p, GROUP / 8 * 210);
        copy_super(l, k, 210, 192);
#pragma GCC unroll 2
        for (size_t i = 0; i < GROUP; i += 8)
            COPY_ALONE(l->out->half[GROUP + k - l->k0 + i][l->row], p + i / 8 * 210 + 208);
#pragma GCC unroll 2
        for (size_t i = 0; i < 2; i++) {
            vi x = vi_lanes(p + 16 * i, 64, 210), y = vi_lanes(p + 32 + 16 * i, 64, 210);
            vi h = vi_lanes(p + 128 + 16 * i, 32, 210);
            c[0][i] = vi_or(vi_and(x, low), vi_and(vi_shl16(h, 4), top));
            c[1][i] = vi_or(vi_and(y, low), vi_and(vi_shl16(h, 2), top));
            c[2][i] = vi_or(vi_and(vi_shr16(x, 4), low), vi_and(h, top));
            c[3][i] = vi_or(vi_and(vi_shr16(y, 4), low), vi_and(vi_shr16(h, 2), top));
        }
        add_group(l, f, g, c);
    }
}

/* ==== A row becomes a lane ==================================================================== */

/* Eight blocks of VI_ROWS rows. */
typedef struct eight {
    vf a[2][8]; /* scales, of a block or of each half */
    vf b[8];    /* offsets */
} eight;

typedef struct fold_job {
    const strip *s;   /* what to add */
    const float *sum; /* sum of q of the strip's blocks */
    const float *x;   /* scales of the activations of the strip's blocks */
    float *y;         /* outputs of the strip's rows */
    size_t n;         /* rows that exist */
    size_t n_k;       /* blocks */
    bool first;       /* of the strips of these rows */
} fold_job;

INLINE void scales_half(eight *e, const strip *s, size_t k) {
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) e->a[0][i] = vf_from_half(s->half[k + i]);
}

INLINE void scales_exponent(eight *e, const strip *s, size_t k) {
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) e->a[0][i] = e8m0(s->exponent[k + i]);
}

INLINE void super_words(vi w[4], const strip *s, size_t k) {
    const uint8_t *p[VI_ROWS];
    for (size_t i = 0; i < VI_ROWS; i++) p[i] = s->super[i];
    transpose4(w, p, 2 * k);
}

INLINE void scales_q4_k(eight *e, const strip *s, size_t k) {
    vi w[4];
    super_words(w, s, k);
    q4_k_fields(e->a[0], e->b, w);
}

INLINE void scales_q6_k(eight *e, const strip *s, size_t k) {
    vi w[4];
    super_words(w, s, k);
    q6_k_fields(e->a, vf_from_half(s->half[k]), w);
}

INLINE void fold(const fold_job *j, const kind f,
                 void (*const scales)(eight *e, const strip *s, size_t k)) {
    const uint8_t *sum[2][VI_ROWS];
    for (size_t h = 0; h < 2; h++)
        for (size_t i = 0; i < VI_ROWS; i++) sum[h][i] = (const uint8_t *)(j->s->sum[h][i] + GROUP);
    vf acc = j->first ? vf_set(0) : vf_load_n(j->y, j->n);
    for (size_t k = 0; k < j->n_k; k += 8) {
        const size_t n = j->n_k - k < 8 ? j->n_k - k : 8;
        vi q[2][8];
        eight e;
        scales(&e, j->s, GROUP + k);
        for (size_t h = 0; h < (f.split ? 2 : 1); h++) {
            transpose4(q[h], sum[h], 4 * k);
            transpose4(q[h] + 4, sum[h], 4 * k + 16);
        }
#pragma GCC unroll 8
        for (size_t i = 0; i < 8; i++) {
            if (i == n) break;
            const vf x = vf_set(j->x[k + i]);
            acc = vf_fma(vi_as_float(q[0][i]), vf_mul(e.a[0][i], x), acc);
            if (f.split) acc = vf_fma(vi_as_float(q[1][i]), vf_mul(e.a[1][i], x), acc);
            if (f.offset)
                acc = vf_fma(vf_set(j->sum[k + i]), vf_mul(e.b[i], vf_set(-j->x[k + i])), acc);
        }
    }
    vf_store_n(j->y, acc, j->n);
}

#define FOLD(name, scales, ...)                                                                    \
    static NOINLINE void name(const fold_job *j) {                                                 \
        const kind f = {__VA_ARGS__};                                                              \
        fold(j, f, scales);                                                                        \
    }
FOLD(fold_half, scales_half, 0)
FOLD(fold_mxfp4, scales_exponent, 0)
FOLD(fold_q4_k, scales_q4_k, .offset = true)
FOLD(fold_q6_k, scales_q6_k, .split = true)

/* ==== The loop over rows ====================================================================== */

typedef struct row_format {
    void (*line)(const line *l);     /* NULL: not done here */
    void (*fold)(const fold_job *j); /* by kind */
    int32_t bias;                    /* of the codes */
} row_format;

static row_format row_format_of(uint32_t type) {
    switch (type) {
    case QUANT_Q8_0:
        return (row_format){line_q8_0, fold_half, VI_BIAS8};
    case QUANT_Q4_0:
        return (row_format){line_q4_0, fold_half, 8};
    case QUANT_IQ4_NL:
        return (row_format){line_iq4_nl, fold_half, VI_BIAS8};
    case QUANT_MXFP4:
        return (row_format){line_mxfp4, fold_mxfp4, 12};
    case QUANT_Q4_K:
        return (row_format){line_q4_k, fold_q4_k, 0};
    case QUANT_Q6_K:
        return (row_format){line_q6_k, fold_q6_k, 32};
    default:
        return (row_format){0};
    }
}

static void order_token(token *t, const kern_act *x, const row_format *f, size_t blocks) {
    for (size_t g = 0; g * GROUP < blocks; g++)
        for (size_t i = 0; i < GROUP; i++) {
            const int8_t *q = x->q + 32 * (group_start(blocks, g) + i);
            memcpy(t->q[g][i % 4][0] + i / 4 * 16, q, 16);
            memcpy(t->q[g][i % 4][1] + i / 4 * 16, q + 16, 16);
        }
    for (size_t k = 0; k < blocks; k++) {
        const int32_t h0 = x->sum16[2 * k], h1 = x->sum16[2 * k + 1];
        t->start[0][k] = -f->bias * (f->fold == fold_q6_k ? h0 : h0 + h1);
        t->start[1][k] = -f->bias * h1;
        t->sum[k] = (float)(h0 + h1);
    }
}

/* How the rows [row, row_end) are cut into strips of `step` blocks. */
typedef struct cut {
    const kern_mat *w; /* weights */
    size_t blocks;     /* in a row */
    size_t step;  /* blocks in a strip, the last of a row may be shorter; a multiple of GROUP */
    size_t lines; /* rows of a strip that are read in FAR bytes */
} cut;

static cut cut_rows(const kern_mat *w) {
    cut c = {.w = w, .blocks = w->cols / 32};
    const size_t n = (c.blocks + SEG - 1) / SEG;
    c.step = ((c.blocks + n - 1) / n + GROUP - 1) / GROUP * GROUP;
    c.lines = 1 + FAR * c.blocks / (c.step * w->row_bytes);
    return c;
}

/* Bytes from row r + i, block k0, to what is read c->lines rows later. */
static ptrdiff_t bytes_ahead(const cut *c, size_t i, size_t k0) {
    ptrdiff_t down = (ptrdiff_t)c->lines, k = (ptrdiff_t)k0;
    for (size_t at = i + c->lines; at >= VI_ROWS; at -= VI_ROWS) {
        k += (ptrdiff_t)c->step;
        if (k < (ptrdiff_t)c->blocks)
            down -= VI_ROWS;
        else
            k = 0;
    }
    return down * (ptrdiff_t)c->w->row_bytes +
           (k - (ptrdiff_t)k0) * (ptrdiff_t)c->w->row_bytes / (ptrdiff_t)c->blocks;
}

static bool one_token(float *y, const kern_mat *w, const kern_act *x, size_t row_begin,
                      size_t row_end) {
    const row_format f = row_format_of(w->type);
    const size_t blocks = w->cols / 32;
    if (!f.line || blocks < GROUP || blocks > ROW_BLOCKS) return false;
    const cut c = cut_rows(w);
    token t;
    strip s;
    order_token(&t, x, &f, blocks);
    for (size_t r = row_begin; r < row_end; r += VI_ROWS) {
        line l = {.t = &t, .out = &s, .blocks = blocks};
        fold_job j = {.s = &s, .y = y + r, .first = true};
        j.n = row_end - r < VI_ROWS ? row_end - r : VI_ROWS;
        for (l.k0 = 0; l.k0 < blocks; l.k0 += c.step) {
            l.n_k = blocks - l.k0 < c.step ? blocks - l.k0 : c.step;
            for (l.row = 0; l.row < j.n; l.row++) {
                l.p = w->data + (r + l.row) * w->row_bytes;
                l.far = bytes_ahead(&c, l.row, l.k0);
                f.line(&l);
            }
            j.n_k = l.n_k;
            j.sum = t.sum + l.k0;
            j.x = x->s + l.k0;
            f.fold(&j);
            j.first = false;
        }
    }
    return true;
}
