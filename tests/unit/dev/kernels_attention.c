/* SPDX-License-Identifier: MIT
 *
 * The cache and attention over it: `rope` against rope, kv_store and kern_put_* of kern/c, on
 * caches full of other numbers that must not change; `attn` with `attn_fold`, and `attn_tile`,
 * against attention. Pages lie in a shuffled order; rows of two sequences alternate.
 */
#include "check_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SEQS = 2 };

typedef struct cache {
    kern_kv kv;                  /* type */
    size_t d, n_kv;              /* head size, KV heads */
    size_t n_pages, block_bytes; /* pages; bytes of a block of one head */
    uint32_t *table[SEQS];       /* page of each block of a sequence, inside order */
    uint32_t *order;             /* [SEQS * pages a sequence] a shuffle of all pages */
    uint8_t *bytes;              /* keys of all pages, then values of all pages */
    size_t half;                 /* bytes of the keys */
} cache;

static cache cache_make(checker *c, kern_kv kv, size_t d, size_t n_kv, size_t blocks) {
    cache k = {.kv = kv, .d = d, .n_kv = n_kv, .n_pages = SEQS * blocks};
    k.block_bytes = KERN_KEYS * kern_kv_row_bytes(kv, d);
    k.half = k.n_pages * n_kv * k.block_bytes;
    k.bytes = room(2 * k.half, 1);
    k.order = room(k.n_pages, 4);
    for (uint32_t i = 0; i < k.n_pages; i++) k.order[i] = i;
    for (uint32_t i = (uint32_t)k.n_pages; i > 1; i--) {
        const uint32_t j = base_rng_below(&c->rng, i), t = k.order[j];
        k.order[j] = k.order[i - 1];
        k.order[i - 1] = t;
    }
    for (size_t s = 0; s < SEQS; s++) k.table[s] = k.order + s * blocks;
    return k;
}

static void cache_free(cache *k) {
    free(k->bytes);
    free(k->order);
}

static void cache_put(const checker *c, cache *k, size_t seq, size_t pos, size_t head,
                      const float *key, const float *value) {
    uint8_t row[4 * KERN_MAX_HEAD + 64];
    uint8_t *block = k->bytes + (k->table[seq][pos / KERN_KEYS] * k->n_kv + head) * k->block_bytes;
    c->ref.kv_store(row, key, k->d, k->kv);
    kern_put_key(block, pos % KERN_KEYS, row, k->d, k->kv);
    c->ref.kv_store(row, value, k->d, k->kv);
    kern_put_value(block + k->half, pos % KERN_KEYS, row, k->d, k->kv);
}

/* Page tables into the step. */
static void put_tables(step_image *s, const cache *k, uint32_t rows, uint32_t blocks) {
    for (uint32_t r = 0; r < rows; r++)
        memcpy(s->word + s->word[s->table_at + r], k->table[r % SEQS], 4 * blocks);
}

/* ==== rope ==================================================================================== */

typedef struct rope_case {
    uint32_t what;                    /* ROPE_ flags */
    kern_kv kv;                       /* cache type */
    uint32_t n_q, n_k, n_v, d, n_rot; /* as in gpu_rope_params */
} rope_case;

/* Bits of element i of a cache; *is_half: an f16. */
static int64_t element(const cache *k, const uint8_t *bytes, size_t i, double *value) {
    if (k->kv == KERN_KV_F32) {
        float v;
        memcpy(&v, bytes + 4 * i, 4);
        *value = v;
        return 0;
    }
    const size_t scales = KERN_KEYS * ((k->d + 31) / 32); /* halves in front of a block of q8 */
    const size_t at = k->kv == KERN_KV_F16 ? 2 * i : i, in = at % k->block_bytes;
    if (k->kv == KERN_KV_F16 || in < 2 * scales) {
        uint16_t h;
        memcpy(&h, bytes + at / 2 * 2, 2);
        *value = h; /* neighbouring halves are neighbouring numbers */
        return 1;
    }
    *value = (int8_t)bytes[at];
    return 2;
}

/* Everything the reference has not changed is as before; the rest is the same up to a rounding. */
static void check_cache(checker *c, const cache *k, const uint8_t *before, const uint8_t *got,
                        const char *what) {
    const size_t size = k->kv == KERN_KV_F32 ? 4 : k->kv == KERN_KV_F16 ? 2 : 1;
    size_t touched = 0, off = 0, spoiled = 0;
    for (size_t i = 0; i < 2 * k->half / size; i++) {
        double old, want, have;
        element(k, before, i, &old);
        const int64_t kind = element(k, k->bytes, i, &want);
        element(k, got, i, &have);
        const double allowed = kind == 0 ? 1e-5 : 1;
        spoiled += old == want && have != old && fabs(have - want) > allowed;
        touched += old != want;
        off += fabs(have - want) > allowed || (c->bent && i == 0);
    }
    say(c, off == 0 && spoiled == 0 && touched > 0,
        "%s: of %zu elements %zu are wrong; %zu others have changed", what, touched, off, spoiled);
}

static void check_rope(checker *c, const rope_case *k) {
    enum { N = 5, ROWS = N + 1, BLOCKS = 2, START = 61 };
    char what[96];
    snprintf(what, sizeof what, "rope %u, cache %d, heads %u %u %u of %u, %u rotated", k->what,
             (int)k->kv, k->n_q, k->n_k, k->n_v, k->d, k->n_rot);
    const uint32_t n_kv = k->n_k > k->n_v ? k->n_k : k->n_v, heads = k->n_q + k->n_k + k->n_v;
    cache store = cache_make(c, k->kv, k->d, n_kv ? n_kv : 1, BLOCKS);
    for (size_t i = 0; i < 2 * store.half; i += 4) {
        const float v = base_rng_normal(&c->rng);
        memcpy(store.bytes + i, &v, 4);
    }
    uint8_t *before = room(2 * store.half, 1), *got = room(2 * store.half, 1);
    memcpy(before, store.bytes, 2 * store.half);
    const size_t ld = (size_t)heads * k->d;
    float *x = room(ROWS * ld, 4), *want = room(ROWS * ld, 4), *turned = room(ROWS * ld, 4);
    randoms(c, x, ROWS * ld, 1);
    memcpy(want, x, ROWS * ld * 4);
    step_image s = step_make(ROWS, N, 0, k->n_rot, BLOCKS);
    put_tables(&s, &store, ROWS, BLOCKS);
    for (uint32_t r = 0; r < N; r++) {
        const uint32_t pos = START + r / SEQS,
                       half = k->n_rot / 2; /* neighbours of each sequence */
        float *row = want + r * ld, *cs = (float *)(void *)(s.word + s.angle_at + r * k->n_rot);
        s.word[s.pos_at + r] = pos;
        for (uint32_t i = 0; i < half; i++) {
            cs[i] = cosf((float)pos / (float)(i + 1));
            cs[half + i] = sinf((float)pos / (float)(i + 1));
        }
        if (k->what & ROPE_ROTATE)
            c->ref.rope(row, k->n_q + k->n_k, k->d, k->n_rot, cs, cs + half,
                        k->what & ROPE_INTERLEAVED);
        for (uint32_t h = 0; k->what & ROPE_APPEND && h < n_kv; h++)
            cache_put(c, &store, r % SEQS, pos, h, row + (k->n_q + h) * k->d,
                      row + (k->n_q + k->n_k + h) * k->d);
    }
    const gpu_rope_params params = {.pos_at = s.pos_at,
                                    .table_at = s.table_at,
                                    .angle_at = s.angle_at,
                                    .n_q = k->n_q,
                                    .n_k = k->n_k,
                                    .n_v = k->n_v,
                                    .d = k->d,
                                    .n_rot = k->n_rot,
                                    .q_ld = (uint32_t)ld,
                                    .k_at = k->n_q * k->d,
                                    .k_ld = (uint32_t)ld,
                                    .v_at = (k->n_q + k->n_k) * k->d,
                                    .v_ld = (uint32_t)ld};
    gpu_mem *qkv = put(c, x, ROWS * ld * 4), *keys = put(c, before, store.half),
            *values = put(c, before + store.half, store.half);
    run(c, &(launch){.name = "rope",
                     .lx = 64,
                     .spec = {k->what, k->kv},
                     .groups = {heads, ROWS, 1},
                     .params = &params,
                     .n_params = sizeof params / 4,
                     .bind = {put(c, s.word, s.n_words * 4), qkv, qkv, qkv, keys, values},
                     .n_binds = 6});
    get(c, qkv, turned, ROWS * ld * 4);
    get(c, keys, got, store.half);
    get(c, values, got + store.half, store.half);
    drop(c);
    for (size_t r = 0; r < ROWS; r++) near(c, turned + r * ld, want + r * ld, ld, 1e-5, what);
    if (k->what & ROPE_APPEND) check_cache(c, &store, before, got, what);
    void *all[] = {before, got, x, want, turned, s.word};
    for (size_t i = 0; i < BASE_COUNT(all); i++) free(all[i]);
    cache_free(&store);
}

void check_cache_kernels(checker *c) {
    static const rope_case cases[] = {
        {ROPE_ROTATE | ROPE_APPEND, KERN_KV_F16, 3, 2, 2, 128, 128},
        {ROPE_ROTATE | ROPE_APPEND | ROPE_INTERLEAVED, KERN_KV_F32, 2, 2, 2, 80, 80},
        {ROPE_ROTATE | ROPE_APPEND, KERN_KV_Q8, 1, 2, 2, 80, 64},
        /* the long set */
        {ROPE_ROTATE | ROPE_APPEND, KERN_KV_F32, 4, 1, 1, 64, 64},
        {ROPE_ROTATE | ROPE_APPEND | ROPE_INTERLEAVED, KERN_KV_Q8, 4, 3, 3, 128, 128},
        {ROPE_ROTATE | ROPE_APPEND | ROPE_INTERLEAVED, KERN_KV_F16, 1, 1, 1, 8, 8},
        {ROPE_ROTATE | ROPE_APPEND, KERN_KV_Q8, 1, 1, 1, 512, 256},
        {ROPE_ROTATE | ROPE_APPEND, KERN_KV_F16, 1, 1, 1, 512, 512},
        {ROPE_ROTATE, KERN_KV_F16, 3, 0, 0, 128, 128},
        {ROPE_ROTATE, KERN_KV_F16, 0, 3, 0, 64, 32},
        {ROPE_APPEND, KERN_KV_F16, 0, 3, 3, 64, 64},
        {ROPE_APPEND, KERN_KV_Q8, 0, 2, 2, 36, 32},
    };
    for (size_t i = 0; i < (c->all ? BASE_COUNT(cases) : 3); i++) check_rope(c, &cases[i]);
}

/* ==== Attention =============================================================================== */

typedef struct attn_case {
    uint32_t group, n_kv, d; /* heads */
    kern_kv kv;              /* cache type */
    uint32_t splits;         /* parts; 0: attn_tile */
    uint32_t window;         /* positions seen */
    uint32_t pos[40];        /* of the rows */
    uint32_t n;              /* rows */
    bool sinks;              /* a score more for each head */
} attn_case;

/* Keys and values of both sequences up to the last position. */
static cache cache_fill(checker *c, const attn_case *k, size_t last) {
    cache o = cache_make(c, k->kv, k->d, k->n_kv, last / KERN_KEYS + 1);
    float key[KERN_MAX_HEAD], value[KERN_MAX_HEAD];
    for (size_t s = 0; s < SEQS; s++)
        for (size_t p = 0; p <= last; p++)
            for (size_t h = 0; h < k->n_kv; h++) {
                randoms(c, key, k->d, 1);
                randoms(c, value, k->d, 1);
                cache_put(c, &o, s, p, h, key, value);
            }
    return o;
}

static void reference(checker *c, const attn_case *k, const cache *o, const float *q,
                      const float *sinks, float *out) {
    const size_t ld = (size_t)k->n_kv * k->group * k->d;
    float *scratch = aligned_alloc(64, (kern_attn_scratch(k->group, k->d) * 4 + 63) / 64 * 64);
    for (size_t r = 0; r < k->n; r++)
        for (size_t h = 0; h < k->n_kv; h++)
            c->ref.attention(&(kern_attn){.q = q + r * ld + h * k->group * k->d,
                                          .out = out + r * ld + h * k->group * k->d,
                                          .ldq = ld,
                                          .ldo = ld,
                                          .n_tok = 1,
                                          .n_heads = k->group,
                                          .d = k->d,
                                          .scale = 1 / sqrtf((float)k->d),
                                          .type = k->kv,
                                          .pages = o->bytes,
                                          .page_ids = o->table[r % SEQS],
                                          .page_bytes = k->n_kv * o->block_bytes,
                                          .k_at = h * o->block_bytes,
                                          .v_at = o->half + h * o->block_bytes,
                                          .pos = k->pos[r],
                                          .window = k->window,
                                          .sinks = k->sinks ? sinks + h * k->group : NULL,
                                          .scratch = scratch});
    free(scratch);
}

/* Few tokens: parts, then their fold. */
static void run_parts(checker *c, const attn_case *k, const step_image *s, gpu_mem *const bind[5],
                      gpu_mem *dst) {
    const uint32_t n_head = k->n_kv * k->group, rows = k->n + 1, ld = n_head * k->d;
    const gpu_attn_params attn = {.pos_at = s->pos_at,
                                  .table_at = s->table_at,
                                  .n_kv = k->n_kv,
                                  .window = k->window,
                                  .splits = k->splits,
                                  .q_ld = ld,
                                  .scale = 1 / sqrtf((float)k->d)};
    const gpu_fold_params fold = {.n_head = n_head, .splits = k->splits, .dst_ld = ld};
    gpu_mem *part = put(c, NULL, (size_t)rows * n_head * k->splits * (k->d + 2) * 4);
    run(c, &(launch){.name = "attn",
                     .lx = 128,
                     .spec = {k->group, k->d, k->kv},
                     .groups = {k->splits, k->n_kv, rows},
                     .params = &attn,
                     .n_params = sizeof attn / 4,
                     .bind = {bind[0], bind[1], bind[2], bind[3], part},
                     .n_binds = 5});
    run(c, &(launch){.name = "attn_fold",
                     .lx = 64,
                     .spec = {k->d, k->sinks},
                     .groups = {n_head, rows, 1},
                     .params = &fold,
                     .n_params = sizeof fold / 4,
                     .bind = {bind[0], part, dst, bind[4]},
                     .n_binds = 4});
}

static void run_tile(checker *c, const attn_case *k, const step_image *s, gpu_mem *const bind[5],
                     gpu_mem *dst) {
    const uint32_t n_head = k->n_kv * k->group, rows = k->n + 1, ld = n_head * k->d;
    const gpu_tile_params params = {.pos_at = s->pos_at,
                                    .table_at = s->table_at,
                                    .n_kv = k->n_kv,
                                    .window = k->window,
                                    .q_ld = ld,
                                    .dst_ld = ld,
                                    .scale = 1 / sqrtf((float)k->d)};
    run(c, &(launch){.name = "attn_tile",
                     .lx = 128,
                     .spec = {k->group, k->d, k->kv, k->sinks},
                     .groups = {(rows + GPU_TILE_TOKENS - 1) / GPU_TILE_TOKENS, n_head, 1},
                     .params = &params,
                     .n_params = sizeof params / 4,
                     .bind = {bind[0], bind[1], bind[2], bind[3], dst, bind[4]},
                     .n_binds = 6});
}

static void check_attn(checker *c, const attn_case *k) {
    if (!k->splits && !has_kernel("attn_tile")) return;
    char what[112];
    float sinks[64];
    snprintf(what, sizeof what, "attention of %u x %u heads of %u, cache %d, %u parts, window %u%s",
             k->n_kv, k->group, k->d, (int)k->kv, k->splits, k->window, k->sinks ? ", sinks" : "");
    uint32_t last = 0;
    for (size_t i = 0; i < k->n; i++) last = BASE_MAX(last, k->pos[i]);
    const size_t ld = (size_t)k->n_kv * k->group * k->d, n = (k->n + 1) * ld;
    cache o = cache_fill(c, k, last);
    float *q = room(n, 4), *want = room(n, 4), *dst = room(n, 4);
    randoms(c, q, n, 1.5f);
    for (size_t i = 0; i < n; i++) dst[i] = 0.25f;
    step_image s = step_make(k->n + 1, k->n, 0, 0, last / KERN_KEYS + 1);
    put_tables(&s, &o, k->n + 1, last / KERN_KEYS + 1);
    memcpy(s.word + s.pos_at, k->pos, 4 * k->n);
    randoms(c, sinks, BASE_COUNT(sinks), 3);
    reference(c, k, &o, q, sinks, want);
    gpu_mem *bind[5] = {put(c, s.word, s.n_words * 4), put(c, q, n * 4), put(c, o.bytes, o.half),
                        put(c, o.bytes + o.half, o.half), put(c, sinks, sizeof sinks)};
    gpu_mem *out = put(c, dst, n * 4);
    if (k->splits)
        run_parts(c, k, &s, bind, out);
    else
        run_tile(c, k, &s, bind, out);
    get(c, out, dst, n * 4);
    drop(c);
    for (size_t r = 0; r < k->n; r++)
        for (size_t h = 0; h < ld; h += k->d)
            near(c, dst + r * ld + h, want + r * ld + h, k->d, BOUND, what);
    bool kept = true;
    for (size_t i = k->n * ld; i < n; i++) kept &= dst[i] == 0.25f;
    say(c, kept, "%s: wrote a row that is not there", what);
    free(q);
    free(want);
    free(dst);
    free(s.word);
    cache_free(&o);
}

/* Consecutive positions of both sequences in turn. */
static attn_case run_of(attn_case k, uint32_t first, uint32_t n) {
    k.n = n;
    for (uint32_t i = 0; i < n; i++) k.pos[i] = first + i / SEQS;
    return k;
}

static void check_all(checker *c) {
    static const uint32_t groups[] = {1, 4, 5, 12}, ds[] = {64, 80, 128, 512, 8},
                          splits[] = {1, 3, 16}, windows[] = {0, 1, 70, 512};
    for (uint32_t kv = 0; kv < 3; kv++)
        for (size_t g = 0; g < BASE_COUNT(groups); g++)
            for (size_t d = 0; d < BASE_COUNT(ds); d++) {
                if (groups[g] == 12 && ds[d] > 80) continue;
                attn_case k = {
                    groups[g], 2,    ds[d], (kern_kv)kv, 0, 0, {0, 1, 63, 64, 511, 512, 1000, 130},
                    8,         false};
                for (size_t i = 0; i < 3; i++) {
                    k.splits = splits[i];
                    k.window = windows[(g + d + i) % 4];
                    k.sinks = (g + d) % 2;
                    check_attn(c, &k);
                }
                k.splits = 0;
                for (size_t i = 0; i < 2; i++) {
                    k.window = windows[(g + d + 2 * i) % 4];
                    check_attn(c, &k);
                    attn_case run = run_of(k, 50, 35);
                    check_attn(c, &run);
                }
            }
}

void check_attention_kernels(checker *c) {
    static const attn_case cases[] = {
        {5, 2, 128, KERN_KV_F16, 3, 0, {0, 63, 64, 512, 1000}, 5, false},
        {4, 2, 80, KERN_KV_Q8, 1, 70, {0, 130, 63}, 3, true},
        {1, 3, 64, KERN_KV_F32, 3, 0, {1, 511}, 2, false},
        {8, 1, 64, KERN_KV_F16, 16, 128, {1, 200, 511}, 3, true},
        {5, 2, 128, KERN_KV_F16, 0, 0, {0, 63, 64, 512, 1000}, 5, false},
        {1, 2, 80, KERN_KV_Q8, 0, 70, {0, 130, 63}, 3, true},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        check_attn(c, &cases[i]);
        attn_case run = run_of(cases[i], 50, 35);
        if (!run.splits) check_attn(c, &run);
    }
    if (c->all) check_all(c);
}
