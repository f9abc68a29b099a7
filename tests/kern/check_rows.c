/* SPDX-License-Identifier: MIT
 *
 * The row kernels: quantisers, norm, addition, gated activations, cache rows. Each is run at
 * lengths around the vector sizes, at every fill, with the outputs between guard bytes.
 */
#include "checkern.h"

#include <math.h>

enum { S_X, S_Y, S_Q, S_STEP, S_SUM, S_OUT, S_REF };

static const size_t lengths[] = {1,  2,  7,  8,   15,  16,  17,  31,  32,   33,   63,
                                 64, 80, 96, 100, 127, 128, 129, 256, 2560, 2752, 6912};

static float *take(checker *c, size_t which, size_t n) {
    return (float *)(void *)space_take(c, which, n * sizeof(float), 0);
}

/* Compares n floats at S_OUT with those at S_REF. */
static void verdict(checker *c, size_t level, size_t n, size_t len, const char *what) {
    const float *ref = (float *)(void *)c->space[S_REF].at,
                *out = (float *)(void *)c->space[S_OUT].at;
    size_t bad = 0;
    bool good = floats_equal(ref, out, n, &bad);
    slot_verdict(c, level, good && guards_intact(&c->space[S_OUT]),
                 "n %zu %s: element %zu is %.9g, expected %.9g", len, what, bad,
                 (double)(n ? out[bad] : 0), (double)(n ? ref[bad] : 0));
}

/* ==== Quantisers ============================================================================== */

typedef struct quantised {
    uint8_t bytes[3 * 8192 + 4096]; /* q, then steps, then sums */
    size_t n_bytes;                 /* in use */
    bool whole;                     /* guards untouched */
} quantised;

/* Runs one quantiser into guarded memory and copies what it wrote. */
static void quantise(checker *c, const kern *k, bool rows, const float *x, size_t n,
                     quantised *out) {
    const size_t ldq = (n + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
    const size_t s_bytes = rows ? 4 : ldq / 8, sum_bytes = rows ? 4 : ldq / 8;
    int8_t *q = (int8_t *)space_take(c, S_Q, ldq, 0);
    float *s = (float *)(void *)space_take(c, S_STEP, s_bytes, 0);
    void *sum = space_take(c, S_SUM, sum_bytes, 0);
    if (rows)
        k->quant_i8(q, s, sum, x, n, ldq);
    else
        k->quant_q8(q, s, sum, x, n, ldq);
    memcpy(out->bytes, q, ldq);
    memcpy(out->bytes + ldq, s, s_bytes);
    memcpy(out->bytes + ldq + s_bytes, sum, sum_bytes);
    out->n_bytes = ldq + s_bytes + sum_bytes;
    out->whole = guards_intact(&c->space[S_Q]) && guards_intact(&c->space[S_STEP]) &&
                 guards_intact(&c->space[S_SUM]);
}

static void check_quantiser(checker *c, bool rows) {
    static quantised ref, out;
    for (size_t i = 0; i < BASE_COUNT(lengths); i++)
        for (int f = 0; f < 4 * FILL_KINDS; f++) {
            float *x = take(c, S_X, lengths[i]);
            fill_floats(c, x, lengths[i], (fill)(f % FILL_KINDS));
            /* Ties: halves of a step, where only round-half-to-even is right. */
            for (size_t j = 0; f / FILL_KINDS == 3 && j < lengths[i]; j++)
                x[j] = (float)base_rng_below(&c->rng, 255) * 0.5f - 63.5f;
            quantise(c, &c->ref, rows, x, lengths[i], &ref);
            for (size_t l = 0; l < c->n_levels; l++) {
                quantise(c, &c->table[l], rows, x, lengths[i], &out);
                bool same = memcmp(ref.bytes, out.bytes, ref.n_bytes) == 0;
                slot_verdict(c, l, same && out.whole, "n %zu fill %s%s", lengths[i],
                             fill_name((fill)(f % FILL_KINDS)), out.whole ? "" : ", guards");
            }
        }
}

/* ==== Element-wise ============================================================================ */

static void check_norm(checker *c, bool centred) {
    for (size_t i = 0; i < BASE_COUNT(lengths); i++)
        for (int f = 0; f < FILL_KINDS; f++) {
            size_t n = lengths[i];
            float *x = take(c, S_X, n), *gain = take(c, S_Y, n);
            fill_floats(c, x, n, (fill)f);
            fill_floats(c, gain, n, FILL_RANDOM);
            (centred ? c->ref.layernorm : c->ref.rmsnorm)(take(c, S_REF, n), x, gain, n, 1e-5f);
            for (size_t l = 0; l < 2 * c->n_levels; l++) {
                float *dst = take(c, S_OUT, n);
                memcpy(dst, x, n * sizeof *x); /* every second time in place */
                const kern *k = &c->table[l / 2];
                (centred ? k->layernorm : k->rmsnorm)(dst, l & 1 ? dst : x, gain, n, 1e-5f);
                verdict(c, l / 2, n, n, fill_name((fill)f));
            }
        }
}

static void check_softmax(checker *c) {
    for (size_t i = 0; i < BASE_COUNT(lengths); i++)
        for (int f = 0; f < FILL_KINDS; f++) {
            const size_t n = lengths[i];
            float *x = take(c, S_X, n), *ref = take(c, S_REF, n + 1);
            fill_floats(c, x, n, (fill)f);
            memcpy(ref, x, n * sizeof *x);
            ref[n] = c->ref.softmax(ref, n);
            for (size_t l = 0; l < c->n_levels; l++) {
                float *dst = take(c, S_OUT, n + 1);
                memcpy(dst, x, n * sizeof *x);
                dst[n] = c->table[l].softmax(dst, n);
                verdict(c, l, n + 1, n, fill_name((fill)f));
            }
        }
}

/* dst += x, or dst += a x. */
static void run_add(const kern *k, float *dst, const float *x, size_t n, bool scaled) {
    if (scaled)
        k->add_scaled(dst, x, 0.3f, n);
    else
        k->add(dst, x, n);
}

static void check_add(checker *c, bool scaled) {
    for (size_t i = 0; i < BASE_COUNT(lengths); i++) {
        size_t n = lengths[i];
        float *x = take(c, S_X, n), *start = take(c, S_Y, n), *ref = take(c, S_REF, n);
        fill_floats(c, x, n, FILL_RANDOM);
        fill_floats(c, start, n, FILL_RANDOM);
        memcpy(ref, start, n * sizeof *ref);
        run_add(&c->ref, ref, x, n, scaled);
        for (size_t l = 0; l < c->n_levels; l++) {
            float *dst = take(c, S_OUT, n);
            memcpy(dst, start, n * sizeof *dst);
            run_add(&c->table[l], dst, x, n, scaled);
            verdict(c, l, n, n, "random");
        }
    }
}

/* Gates over the whole range of the exponential, its clamps and what lies beyond. */
static void fill_gates(checker *c, float *g, size_t n) {
    static const float odd[] = {0.0f, -0.0f, 87.3f, -87.3f, 88.3f, 89, -89, 1e-30f, 3e38f, -3e38f};
    for (size_t i = 0; i < n; i++)
        g[i] = i % 7 == 3 ? odd[base_rng_below(&c->rng, BASE_COUNT(odd))]
                          : (float)(base_rng_double(&c->rng) * 200 - 100);
}

/* alone: without what it gates. */
static void check_glu(checker *c, kern_glu act, bool alone) {
    static const char *const names[] = {"relu2", "silu", "swiglu of gpt-oss", "gelu", "exact gelu"};
    for (size_t i = 0; i < BASE_COUNT(lengths); i++) {
        size_t n = lengths[i];
        float *g = take(c, S_X, n), *u = take(c, S_Y, n);
        fill_gates(c, g, n);
        fill_floats(c, u, n, FILL_RANDOM);
        c->ref.glu(take(c, S_REF, n), g, alone ? NULL : u, n, act);
        for (size_t l = 0; l < c->n_levels; l++) {
            c->table[l].glu(take(c, S_OUT, n), g, alone ? NULL : u, n, act);
            verdict(c, l, n, n, names[act]);
        }
    }
}

static void check_cap(checker *c) {
    for (size_t i = 0; i < BASE_COUNT(lengths); i++) {
        const size_t n = lengths[i];
        float *x = take(c, S_X, n), *ref = take(c, S_REF, n);
        fill_gates(c, x, n);
        memcpy(ref, x, n * sizeof *ref);
        c->ref.cap(ref, 30, n);
        for (size_t l = 0; l < c->n_levels; l++) {
            float *dst = take(c, S_OUT, n);
            memcpy(dst, x, n * sizeof *dst);
            c->table[l].cap(dst, 30, n);
            verdict(c, l, n, n, "gates");
        }
    }
}

static void check_kv_store(checker *c) {
    for (size_t i = 0; i < BASE_COUNT(lengths) && lengths[i] <= KERN_MAX_HEAD; i++)
        for (int t = 0; t < 3 * FILL_KINDS; t++) {
            const kern_kv type = (kern_kv)(t % 3);
            const size_t n = lengths[i], bytes = kern_kv_row_bytes(type, n);
            float *x = take(c, S_X, n);
            fill_floats(c, x, n, (fill)(t / 3));
            uint8_t *ref = space_take(c, S_REF, bytes, 0);
            c->ref.kv_store(ref, x, n, type);
            for (size_t l = 0; l < c->n_levels; l++) {
                uint8_t *dst = space_take(c, S_OUT, bytes, 0);
                c->table[l].kv_store(dst, x, n, type);
                slot_verdict(c, l, !memcmp(ref, dst, bytes) && guards_intact(&c->space[S_OUT]),
                             "d %zu cache type %d fill %s", n, (int)type, fill_name((fill)(t / 3)));
            }
        }
}

/* Both pairings, whole heads and heads of which only a part turns. */
static void check_rope(checker *c) {
    static const size_t dims[] = {2, 16, 64, 80, 100, 128, 256};
    for (size_t i = 0; i < 4 * BASE_COUNT(dims); i++) {
        const size_t d = dims[i / 4], n_rot = i & 1 ? d / 4 * 2 : d, n = 3 * d;
        if (n_rot == 0) continue;
        float *start = take(c, S_X, n), *cs = take(c, S_Y, n_rot / 2),
              *sn = take(c, S_Q, n_rot / 2);
        double freq[KERN_MAX_HEAD / 2];
        for (size_t k = 0; k < n_rot / 2; k++) freq[k] = base_rng_double(&c->rng);
        kern_rope_table(cs, sn, freq, n_rot / 2, 100000);
        fill_floats(c, start, n, FILL_RANDOM);
        float *ref = take(c, S_REF, n);
        memcpy(ref, start, n * sizeof *ref);
        c->ref.rope(ref, 3, d, n_rot, cs, sn, i & 2);
        for (size_t l = 0; l < c->n_levels; l++) {
            float *x = take(c, S_OUT, n);
            memcpy(x, start, n * sizeof *x);
            c->table[l].rope(x, 3, d, n_rot, cs, sn, i & 2);
            verdict(c, l, n, d, i & 2 ? "interleaved" : "split");
        }
    }
}

/* Rows of an embedding table; block types go through the reference decoder on every level. */
static void check_embed(checker *c) {
    static const uint32_t types[] = {QUANT_F16, QUANT_BF16, QUANT_F32, QUANT_Q8_0};
    for (size_t i = 0; i < BASE_COUNT(lengths); i++)
        for (size_t t = 0; t < BASE_COUNT(types); t++) {
            const quant_info *info = quant_find(types[t]);
            const size_t n = lengths[i], bytes = n / info->block_elems * info->block_bytes;
            if (n % info->block_elems) continue;
            uint8_t *data = space_take(c, S_X, 3 * bytes, t);
            if (types[t] == QUANT_Q8_0)
                fill_blocks(c, data, info, 3 * n / 32, FILL_RANDOM);
            else
                for (size_t k = 0; k < 3 * bytes; k++)
                    data[k] = (uint8_t)base_rng_below(&c->rng, 256);
            const kern_mat w = {
                .data = data, .type = types[t], .rows = 3, .cols = n, .row_bytes = bytes};
            c->ref.embed(take(c, S_REF, n), &w, 2);
            for (size_t l = 0; l < c->n_levels; l++) {
                c->table[l].embed(take(c, S_OUT, n), &w, 2);
                verdict(c, l, n, n, info->name);
            }
        }
}

void check_rows(checker *c) {
    if (slot_begin(c, "quant_i8")) check_quantiser(c, true);
    if (slot_begin(c, "quant_q8")) check_quantiser(c, false);
    if (slot_begin(c, "rmsnorm")) check_norm(c, false);
    if (slot_begin(c, "layernorm")) check_norm(c, true);
    if (slot_begin(c, "softmax")) check_softmax(c);
    if (slot_begin(c, "add")) check_add(c, false);
    if (slot_begin(c, "add_scaled")) check_add(c, true);
    if (slot_begin(c, "cap")) check_cap(c);
    if (slot_begin(c, "glu")) {
        for (int act = KERN_RELU2; act <= KERN_GELU_ERF; act++) {
            check_glu(c, (kern_glu)act, false);
            if (act != KERN_SWIGLU_OAI) check_glu(c, (kern_glu)act, true);
        }
    }
    if (slot_begin(c, "kv_store")) check_kv_store(c);
    if (slot_begin(c, "rope")) check_rope(c);
    if (slot_begin(c, "embed")) check_embed(c);
}
