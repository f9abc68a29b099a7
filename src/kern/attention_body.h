/* SPDX-License-Identifier: MIT
 *
 * Attention over the paged cache, a part of float_body.h.
 *
 * The order of every sum, which makes any division of the work give the same bits:
 *   score     s_j = sum over elements i, ascending, of (scale q_i) k_ji by fused multiply-add;
 *   span      512 keys at absolute positions: m = largest visible score, p_j = exp(s_j - m),
 *             l = sum of p_j in lanes j mod 16, a = sum over visible j, ascending, of p_j v_j;
 *   result    spans folded in ascending order, the side with the smaller maximum being scaled;
 *             a sink joins the sum last.
 * No sum runs across lanes except l: in the scores a lane is a key, in the values it is a column.
 *
 * So scores and values are the same matrix product, C[rows, columns] += A[rows, n] * B[n, columns]
 * with n ascending: queries times keys, probabilities times values. A tile of it keeps up to six
 * rows in registers. Few query rows read B straight from the cache, converting as they go (decode,
 * bound by memory), and so do many where it holds floats; else they have a block of it converted to
 * floats once, in panels as wide as a tile (prompts, bound by arithmetic).
 */

#include "kern/attention_tile.h"

/* ==== What a token sees ======================================================================= */

typedef struct key_range {
    size_t lo, hi; /* first key and one past the last, from some start; none when lo >= hi */
} key_range;

/* Keys of [start, start + n) that query row r sees. Both ends ascend with r. */
static key_range visible(const kern_attn *a, size_t r, size_t start, size_t n) {
    const size_t self = a->pos + r / a->n_heads + 1, end = kern_attn_end(a, r / a->n_heads);
    const size_t lo = a->window && a->window < self ? self - a->window : 0;
    return (key_range){lo > start ? BASE_MIN(lo - start, n) : 0,
                       end > start ? BASE_MIN(end - start, n) : 0};
}

/* Whether row r sees keys of a span. */
static bool sees_span(const kern_attn *a, size_t r, size_t span) {
    const size_t t = r / a->n_heads;
    return span >= kern_attn_first_span(a, t) && span < kern_attn_end_span(a, t);
}

/* Rows from r on that share a tile. */
static size_t group_at(size_t r, size_t n_rows) {
    const size_t left = n_rows - r;
    const bool six = n_rows > DIRECT_ROWS && left >= 6 && left != 8; /* eight: twice four */
    return six ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* ==== One block of one span =================================================================== */

typedef struct span_work {
    const kern_attn *a;   /* the call */
    size_t n_rows;        /* query rows: tokens times heads, heads of a token side by side */
    size_t wide;          /* d rounded up to whole vectors */
    size_t start;         /* first position of the span */
    float *s;             /* [n_rows, KERN_SPAN] scores, then probabilities */
    float *q;             /* [n_rows, wide] queries */
    float *panel;         /* one block as floats: [vectors / V][rows][16 V] */
    float *scaled;        /* [n_rows, groups, KERN_KEYS] probabilities times the scales of q8 */
    float *states;        /* [n_rows, kern_partial_floats] results */
    size_t stride;        /* kern_partial_floats */
    const uint8_t *ahead; /* block to fetch meanwhile … */
    size_t ahead_left;    /* … and its bytes not yet asked for */
} span_work;

static const uint8_t *block_at(const kern_attn *a, size_t block, size_t offset) {
    return a->pages + (size_t)a->page_ids[block] * a->page_bytes + offset;
}

/* Whether tiles read the cache itself. */
static bool reads_cache(const span_work *w) {
    return w->n_rows <= DIRECT_ROWS || w->a->type == KERN_KV_F32;
}

/* Whether every row sees all of the block. */
static bool all_see(const span_work *w, size_t at) {
    return visible(w->a, 0, w->start + at, KERN_KEYS).hi == KERN_KEYS &&
           visible(w->a, w->n_rows - 1, w->start + at, KERN_KEYS).lo == 0;
}

/* Lets b fetch what lies ahead during the next n rows. */
static void fetch_ahead(span_work *w, tile_rows *b, size_t n, size_t bytes_per_row) {
    const size_t bytes = BASE_MIN(n * bytes_per_row, w->ahead_left);
    b->ahead = bytes ? w->ahead : (const uint8_t *)w->q; /* nothing left: what is here already */
    b->ahead_step = bytes ? bytes_per_row : 0;
    if (bytes) w->ahead += bytes;
    w->ahead_left -= bytes;
}

/* Bytes a tile fetches ahead per row: as much as it reads, or one line where that is no stream. */
static size_t tile_line(const span_work *w, rows_kind kind, bool wide) {
    const bool stream = w->n_rows <= DIRECT_ROWS && wide;
    return stream ? BASE_MAX(TILE_VECS * vec_bytes(kind), 64) : 64;
}

/* Width in vectors of the panel that starts at vector v of n; the last, where it has fewer than
 * sixteen lanes, is one by itself: only such a one stops at its lanes. */
static size_t panel_width(size_t v, size_t n, size_t lanes) {
    return v + TILE_VECS <= n - (lanes < 16) ? TILE_VECS : 1;
}

/* b from vector v on. */
static tile_rows rows_from(tile_rows b, rows_kind kind, size_t v) {
    b.at += v * vec_bytes(kind);
    if (is_key_codes(kind) && b.scales) b.scales += 32 * v;
    return b;
}

/* Rows of the cache become floats in a panel V vectors wide; codes leave their scales behind. */
INLINE void fill_panel(const rows_kind kind, const int V, float *panel, const tile_rows *b,
                       key_range rows) {
    const size_t lanes = V == 1 ? b->lanes : 16;
    for (size_t j = rows.lo; j < rows.hi; j++) EACH(v, V)
    v16_store(panel + (j * V + (size_t)v) * 16,
              tile_load(kind, b->at + j * b->step + (size_t)v * vec_bytes(kind), lanes));
}

/* All panels of a block of n rows, n_vecs vectors a row. */
INLINE void fill_panels_of(const rows_kind kind, float *panel, const tile_rows *src, size_t n,
                           size_t n_vecs, key_range rows) {
    for (size_t v = 0, width; v < n_vecs; v += width) {
        tile_rows b = rows_from(*src, kind, v);
        width = panel_width(v, n_vecs, src->lanes);
        if (v + 1 < n_vecs) b.lanes = 16;
        if (width > 1)
            fill_panel(kind, TILE_VECS, panel + v * n * 16, &b, rows);
        else
            fill_panel(kind, 1, panel + v * n * 16, &b, rows);
    }
}

/* Of halves or codes; returns what the panels hold. */
static rows_kind fill_panels(float *panel, rows_kind kind, const tile_rows *src, size_t n,
                             size_t n_vecs, key_range rows) {
    if (kind == ROWS_F16)
        fill_panels_of(ROWS_F16, panel, src, n, n_vecs, rows);
    else
        fill_panels_of(ROWS_KEY_Q8, panel, src, n, n_vecs, rows);
    return kind == ROWS_KEY_Q8     ? ROWS_KEY_CODES
           : kind == ROWS_VALUE_Q8 ? ROWS_VALUE_CODES
                                   : ROWS_F32;
}

/* Panel v of n rows, as floats, in the place of b. */
static tile_rows panel_at(const span_work *w, const tile_rows *b, size_t v, size_t width,
                          size_t n) {
    return (tile_rows){.at = (const uint8_t *)(w->panel + v * n * 16),
                       .step = width * 64,
                       .lanes = 16,
                       .scales = b->scales};
}

/* Scores of R rows with the keys of one vector or of TILE_VECS. */
static void score_tile(span_work *w, tile_rows *b, rows_kind kind, size_t r, size_t R, float *c,
                       bool wide) {
    const size_t d = w->a->d, n = is_key_codes(kind) ? 32 : d;
    const tile_fn fn = tile_of(kind, R, wide);
    for (size_t k = 0; k < d; k += n) { /* codes: one scale at a time */
        const size_t rows = BASE_MIN(n, d - k);
        fetch_ahead(w, b, rows, tile_line(w, kind, wide));
        fn(c, KERN_SPAN, w->q + r * w->wide + k, w->wide, b, rows, k == 0);
        b->at += n * b->step;
        if (is_key_codes(kind) && b->scales) b->scales += 2 * KERN_KEYS;
    }
}

/* Scores of R rows that see keys [see.lo, see.hi) of a block, with those of TILE_VECS vectors. */
static void score_rows(span_work *w, const tile_rows *keys, rows_kind kind, size_t r, size_t R,
                       size_t at, size_t v, key_range see) {
    const size_t lo = see.lo / 16, hi = (see.hi + 15) / 16;
    float *c = w->s + r * KERN_SPAN + at + 16 * v;
    if (lo <= v && hi >= v + TILE_VECS) {
        tile_rows b = *keys;
        score_tile(w, &b, kind, r, R, c, true);
        return;
    }
    for (size_t i = 0; i < TILE_VECS; i++) {
        tile_rows b = rows_from(*keys, kind, i);
        if (v + i >= lo && v + i < hi) score_tile(w, &b, kind, r, R, c + 16 * i, false);
    }
}

/* The keys of a block as they lie in the cache. */
static rows_kind key_rows(const kern_attn *a, const uint8_t *block, tile_rows *b) {
    const rows_kind kind = a->type == KERN_KV_F32   ? ROWS_F32
                           : a->type == KERN_KV_F16 ? ROWS_F16
                                                    : ROWS_KEY_Q8;
    const size_t scales = kind == ROWS_KEY_Q8 ? 2 * KERN_KEYS * ((a->d + 31) / 32) : 0;
    *b = (tile_rows){.at = block + scales,
                     .step = KERN_KEYS / 16 * vec_bytes(kind),
                     .lanes = 16,
                     .scales = block};
    return kind;
}

/* Scores of all rows that see keys of one block; at: its first key, from the start of the span. */
static void block_scores(span_work *w, size_t at) {
    enum { VECS = KERN_KEYS / 16 };
    const kern_attn *a = w->a;
    const size_t first = w->start + at;
    const bool direct = reads_cache(w), full = all_see(w, at);
    tile_rows b;
    rows_kind kind = key_rows(a, block_at(a, first / KERN_KEYS, a->k_at), &b);
    if (!direct) kind = fill_panels(w->panel, kind, &b, a->d, VECS, (key_range){0, a->d});
    for (size_t v = 0; v < VECS; v += TILE_VECS) {
        tile_rows keys = rows_from(b, kind, v);
        if (!direct) keys = panel_at(w, &keys, v, TILE_VECS, a->d);
        for (size_t r = 0, R; r < w->n_rows; r += R) {
            R = group_at(r, w->n_rows);
            key_range see = {0, KERN_KEYS};
            if (!full) {
                see.lo = visible(a, r, first, KERN_KEYS).lo;
                see.hi = visible(a, r + R - 1, first, KERN_KEYS).hi;
            }
            score_rows(w, &keys, kind, r, R, at, v, see);
        }
    }
}

/* Probabilities of a block: of R query rows, and where their values are added up. */
typedef struct weights {
    const float *p; /* of the first row and key */
    size_t ldp;     /* floats between rows */
    float *c;       /* vector of the state of the first row; stride apart */
} weights;

/* Adds the keys [j.lo, j.hi) of one block to the values of R rows. */
static void value_tile(span_work *w, const tile_rows *values, rows_kind kind, size_t R, weights by,
                       bool wide, key_range j) {
    tile_rows b = *values;
    if (j.lo >= j.hi) return;
    fetch_ahead(w, &b, j.hi - j.lo, tile_line(w, kind, wide));
    b.at += j.lo * b.step;
    tile_of(kind, R, wide)(by.c, w->stride, by.p + j.lo, by.ldp, &b, j.hi - j.lo, false);
}

static weights row_of_weights(const span_work *w, weights by, size_t i) {
    return (weights){by.p + i * by.ldp, by.ldp, by.c + i * w->stride};
}

/* Rows that see different keys: those that all see go together, those at the ends row by row. */
static void value_ragged(span_work *w, const tile_rows *b, rows_kind kind, size_t r, size_t R,
                         weights by, bool wide, size_t first) {
    key_range common = {visible(w->a, r + R - 1, first, KERN_KEYS).lo,
                        visible(w->a, r, first, KERN_KEYS).hi};
    if (common.lo >= common.hi) common.lo = common.hi = KERN_KEYS;
    for (size_t i = 0; i < R; i++) {
        key_range one = visible(w->a, r + i, first, KERN_KEYS);
        one.hi = BASE_MIN(one.hi, common.lo);
        value_tile(w, b, kind, 1, row_of_weights(w, by, i), wide, one);
    }
    value_tile(w, b, kind, R, by, wide, common);
    for (size_t i = 0; i < R; i++) {
        key_range one = visible(w->a, r + i, first, KERN_KEYS);
        one.lo = common.hi;
        value_tile(w, b, kind, 1, row_of_weights(w, by, i), wide, one);
    }
}

/* The values of a block as they lie in the cache; of codes also the scaled probabilities. */
static rows_kind value_rows(span_work *w, const uint8_t *block, size_t at, tile_rows *b) {
    const size_t d = w->a->d, groups = (d + 31) / 32;
    const bool f32 = w->a->type == KERN_KV_F32;
    *b = (tile_rows){.at = block, .step = f32 ? d * 4 : d * 2, .lanes = d + 16 - w->wide};
    if (w->a->type != KERN_KV_Q8) return f32 ? ROWS_F32 : ROWS_F16;
    *b = (tile_rows){.at = block + 2 * KERN_KEYS * groups, .step = 32 * groups, .lanes = 16};
    for (size_t r = 0; r < w->n_rows; r++)
        for (size_t i = 0; i < KERN_KEYS * groups; i += 16)
            v16_store(w->scaled + r * KERN_KEYS * groups + i,
                      v16_mul(v16_load(w->s + r * KERN_SPAN + at + i % KERN_KEYS),
                              v16_load_f16_n(block + 2 * i, 16)));
    return ROWS_VALUE_Q8;
}

static void block_values(span_work *w, size_t at) {
    const kern_attn *a = w->a;
    const size_t n_vecs = w->wide / 16, first = w->start + at, groups = (a->d + 31) / 32;
    const key_range all = {visible(a, 0, first, KERN_KEYS).lo,
                           visible(a, w->n_rows - 1, first, KERN_KEYS).hi};
    const bool direct = reads_cache(w), same = a->n_tok == 1 || all_see(w, at);
    tile_rows b;
    rows_kind kind = value_rows(w, block_at(a, first / KERN_KEYS, a->v_at), at, &b);
    const bool codes = is_value_codes(kind);
    if (!direct) kind = fill_panels(w->panel, kind, &b, KERN_KEYS, n_vecs, all);
    for (size_t v = 0, width; v < n_vecs; v += width) {
        width = panel_width(v, n_vecs, b.lanes);
        tile_rows rows = direct ? rows_from(b, kind, v) : panel_at(w, &b, v, width, KERN_KEYS);
        if (v + width < n_vecs) rows.lanes = 16;
        for (size_t r = 0, R; r < w->n_rows; r += R) {
            R = group_at(r, w->n_rows);
            weights by = {w->s + r * KERN_SPAN + at, KERN_SPAN,
                          w->states + r * w->stride + 16 + 16 * v};
            if (codes) {
                by.p = w->scaled + (r * groups + v / 2) * KERN_KEYS;
                by.ldp = groups * KERN_KEYS;
            }
            if (same)
                value_tile(w, &rows, kind, R, by, width > 1, all);
            else
                value_ragged(w, &rows, kind, r, R, by, width > 1, first);
        }
    }
}

/* ==== One span ================================================================================ */

/* Largest of s[from, to), whole vectors; four at a time, because one would wait for the other. */
static float row_max(const float *s, size_t from, size_t to) {
    v16 m[4];
    EACH(v, 4) m[v] = v16_load(s + from);
    for (; from + 64 <= to; from += 64)
        EACH(v, 4) m[v] = v16_max(m[v], v16_load(s + from + 16 * v));
    for (; from < to; from += 16) m[0] = v16_max(m[0], v16_load(s + from));
    return v16_hmax(v16_max(v16_max(m[0], m[1]), v16_max(m[2], m[3])));
}

/* Scores of one row to probabilities in place; its maximum and sum go to the state. */
static void span_softmax(float *s, key_range j, float cap, float *state) {
    const size_t from = j.lo / 16 * 16, to = (j.hi + 15) / 16 * 16;
    for (size_t i = from; cap != 0 && i < to; i += 16)
        v16_store(s + i, lanes_cap(v16_load(s + i), cap));
    v16 sum = v16_set(0);
    for (size_t i = from; i < j.lo; i++) s[i] = -INFINITY;
    for (size_t i = j.hi; i < to; i++) s[i] = -INFINITY;
    const v16 top = v16_set(row_max(s, from, to));
    for (size_t i = from; i < to; i += 16) {
        v16 p = lanes_exp_below(v16_sub(v16_load(s + i), top));
        v16_store(s + i, p);
        sum = v16_add(sum, p);
    }
    v16_store(state, top);
    state[1] = v16_sum(sum);
}

static span_work span_begin(const kern_attn *a, size_t span, float *states) {
    span_work w = {.a = a,
                   .n_rows = a->n_tok * a->n_heads,
                   .wide = (a->d + 15) / 16 * 16,
                   .start = span * KERN_SPAN,
                   .s = a->scratch,
                   .states = states,
                   .stride = kern_partial_floats(a->d)};
    w.q = w.s + w.n_rows * KERN_SPAN;
    w.panel = w.q + w.n_rows * w.wide;
    w.scaled = w.panel + KERN_KEYS * w.wide;
    const v16 scale = v16_set(a->scale);
    for (size_t r = 0; r < w.n_rows; r++) {
        const float *q = a->q + r / a->n_heads * a->ldq + r % a->n_heads * a->d;
        for (size_t i = 0; i < a->d; i += 16)
            v16_store(w.q + r * w.wide + i, v16_mul(v16_load_n(q + i, lanes_at(i, a->d)), scale));
    }
    return w;
}

/* States of all rows that see the span. While a block is read, the next one is fetched: keys, then
 * values, then what the caller named. */
static void attend_span(const kern_attn *a, size_t span, float *states) {
    span_work w = span_begin(a, span, states);
    const size_t bytes = KERN_KEYS * kern_kv_row_bytes(a->type, a->d);
    const size_t lo = visible(a, 0, w.start, KERN_SPAN).lo / KERN_KEYS * KERN_KEYS;
    const size_t hi = visible(a, w.n_rows - 1, w.start, KERN_SPAN).hi;
    for (size_t at = lo; at < hi; at += KERN_KEYS) {
        const bool more = at + KERN_KEYS < hi;
        w.ahead = block_at(a, (w.start + (more ? at + KERN_KEYS : lo)) / KERN_KEYS,
                           more ? a->k_at : a->v_at);
        w.ahead_left = bytes;
        block_scores(&w, at);
    }
    for (size_t r = 0; r < w.n_rows; r++) {
        float *state = states + r * w.stride;
        if (!sees_span(a, r, span)) continue;
        span_softmax(w.s + r * KERN_SPAN, visible(a, r, w.start, KERN_SPAN), a->cap, state);
        memset(state + 16, 0, w.wide * sizeof *state);
    }
    for (size_t at = lo; at < hi; at += KERN_KEYS) {
        const bool more = at + KERN_KEYS < hi;
        w.ahead = more ? block_at(a, (w.start + at) / KERN_KEYS + 1, a->v_at) : a->ahead;
        w.ahead_left = w.ahead ? bytes : 0;
        block_values(&w, at);
    }
}

/* ==== Folding spans =========================================================================== */

static void state_reset(float *st, size_t stride) {
    memset(st, 0, stride * sizeof *st);
    st[0] = -INFINITY;
}

/* Adds a part to st. Into an empty state it is a copy: exp(-inf) is exactly 0. */
static void state_fold(float *st, const float *part, size_t stride) {
    const bool newer = part[0] > st[0];
    const float c = scalar_exp(newer ? st[0] - part[0] : part[0] - st[0]);
    const float *keep = newer ? part : st, *scaled = newer ? st : part;
    const float l = fmaf(scaled[1], c, keep[1]), m = keep[0];
    for (size_t i = 16; i < stride; i += 16)
        v16_store(st + i, v16_fma(v16_load(scaled + i), v16_set(c), v16_load(keep + i)));
    st[0] = m;
    st[1] = l;
}

/* One by the sum of a state's probabilities, in its scale, a sink's among them. */
static float share_of(const float *st, const float *sink) {
    if (!sink) return 1.0f / st[1];
    if (*sink <= st[0]) return 1.0f / (st[1] + scalar_exp(*sink - st[0]));
    const float c = scalar_exp(st[0] - *sink);
    return c / fmaf(st[1], c, 1.0f);
}

/* The zero that is added makes a part by itself what it is folded into an empty state: there a sum
 * of -0 becomes 0. */
static void state_output(const float *st, const float *sink, float *out, size_t d) {
    const v16 inv = v16_set(share_of(st, sink)), zero = v16_set(0);
    for (size_t i = 0; i < d; i += 16)
        v16_store_n(out + i, v16_mul(v16_add(v16_load(st + 16 + i), zero), inv), lanes_at(i, d));
}

/* ==== The slots =============================================================================== */

static float *output_at(const kern_attn *a, size_t r) {
    return a->out + r / a->n_heads * a->ldo + r % a->n_heads * a->d;
}

static const float *sink_of(const kern_attn *a, size_t r) {
    return a->sinks ? a->sinks + r % a->n_heads : NULL;
}

static void NAME(attention)(const kern_attn *a) {
    const size_t n_rows = a->n_tok * a->n_heads, stride = kern_partial_floats(a->d);
    float *part = a->scratch + kern_attn_scratch(n_rows, a->d) - n_rows * stride;
    float *all = part - n_rows * stride;
    assert(a->d <= KERN_MAX_HEAD && (n_rows <= KERN_ATTN_ROWS || a->n_tok == 1));
    const size_t first = kern_attn_first_span(a, 0), end = kern_attn_end_span(a, a->n_tok - 1);
    if (end - first == 1) { /* nothing to fold: every row sees the span, and its state is all */
        attend_span(a, first, all);
    } else {
        for (size_t r = 0; r < n_rows; r++) state_reset(all + r * stride, stride);
        for (size_t span = first; span < end; span++) {
            attend_span(a, span, part);
            for (size_t r = 0; r < n_rows; r++)
                if (sees_span(a, r, span)) state_fold(all + r * stride, part + r * stride, stride);
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        state_output(all + r * stride, sink_of(a, r), output_at(a, r), a->d);
}

static void NAME(attention_span)(const kern_attn *a, size_t span, float *partial) {
    assert(a->d <= KERN_MAX_HEAD);
    attend_span(a, span, partial);
}

static void NAME(attention_fold)(const kern_attn *a, const float *partial) {
    const size_t n_rows = a->n_tok * a->n_heads, stride = kern_partial_floats(a->d);
    const size_t first = kern_attn_first_span(a, 0);
    for (size_t r = 0; r < n_rows; r++) {
        const size_t t = r / a->n_heads, end = kern_attn_end_span(a, t);
        state_reset(a->scratch, stride);
        for (size_t span = kern_attn_first_span(a, t); span < end; span++)
            state_fold(a->scratch, partial + ((span - first) * n_rows + r) * stride, stride);
        state_output(a->scratch, sink_of(a, r), output_at(a, r), a->d);
    }
}

#undef INLINE
#undef EACH
