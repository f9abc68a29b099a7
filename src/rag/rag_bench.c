/* SPDX-License-Identifier: MIT
 *
 * How long searches take: a store that is made up, in memory alone, by a seed.
 *
 * Vectors stand in clusters of about a hundred, around centres that share a direction, and most of
 * their length lies in LATENT dimensions, as that of real texts' does in few. Words are drawn by
 * Zipf's law from VOCABULARY words, 120 to a passage, ten passages to a document. A question is a
 * passage's vector, disturbed, and six of its rarer words; what is exact is counted while the
 * vectors are made, in floats. Reading and embedding of texts is not in it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "rag/rag_internal.h"

enum { VOCABULARY = 50000, WORDS = 120, PER_DOC = 10, PER_CLUSTER = 100, ASKED = 6, BEST = 10 };
enum { COMMON = 50, NAME = 4 }; /* ranks that no question asks for; letters of a word */
static const double ZIPF = 1.05;
enum { LATENT = 48 };
static const float SHARED = 0.35f, APART = 0.75f, OUTSIDE = 0.35f, DISTURBED = 0.35f;

typedef struct asker {
    float *x;            /* [dims] of length one, owned */
    base_buf text;       /* its words, owned */
    rag_rank best[BEST]; /* by floats */
    size_t n_best;       /* how many */
} asker;

typedef struct bench {
    const rag_bench_options *opt; /* sizes */
    rotor_error *err;             /* where messages go */
    rag r;                        /* index, kernels and room; no database */
    double *zipf;                 /* [VOCABULARY] sums of weights, owned */
    asker *askers;                /* [n_questions] owned */
    float *x, *some;              /* [dims] scratch, owned */
    float *axes;                  /* [LATENT][dims] what latent numbers stand for, owned */
    uint64_t *us[3];              /* [n_questions] of each leg and of both, owned */
    uint64_t *whole_us;           /* [n_questions] of vectors without a screen, owned */
} bench;

/* ==== Making it up ============================================================================ */

static void draw(float *x, size_t dims, uint64_t seed, uint64_t what, uint64_t i) {
    const uint64_t name[] = {seed, what, i};
    base_rng rng;
    base_rng_seed(&rng, base_hash64(name, sizeof name, 1));
    for (size_t c = 0; c < dims; c++) x[c] = base_rng_normal(&rng) / sqrtf((float)dims);
}

static void to_length_one(float *x, size_t dims) {
    double sum = 0;
    for (size_t c = 0; c < dims; c++) sum += (double)x[c] * (double)x[c];
    for (size_t c = 0; c < dims; c++) x[c] = (float)((double)x[c] / sqrt(sum));
}

static void vector_of(bench *b, float *x, size_t slot) {
    const rag_bench_options *o = b->opt;
    const size_t n_clusters = o->n_passages / PER_CLUSTER + 1;
    const uint64_t cluster = base_hash64(&slot, sizeof slot, o->seed) % n_clusters;
    float own[LATENT], centre[LATENT];
    draw(own, LATENT, o->seed, 1, slot);
    draw(centre, LATENT, o->seed, 2, cluster);
    draw(x, o->dims, o->seed, 3, slot);
    draw(b->some, o->dims, o->seed, 4, 0);
    for (size_t c = 0; c < o->dims; c++) x[c] = OUTSIDE * x[c] + SHARED * b->some[c];
    for (size_t z = 0; z < LATENT; z++) {
        const float at = APART * own[z] + centre[z], *axis = b->axes + z * o->dims;
        for (size_t c = 0; c < o->dims; c++) x[c] += at * axis[c];
    }
    to_length_one(x, o->dims);
}

static uint32_t draw_word(const bench *b, base_rng *rng) {
    const double at = base_rng_double(rng) * b->zipf[VOCABULARY - 1];
    uint32_t low = 0, high = VOCABULARY - 1;
    while (low < high) {
        const uint32_t mid = (low + high) / 2;
        if (b->zipf[mid] < at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Numbers from 1, as terms have them, rising. */
static void words_of(const bench *b, size_t slot, uint32_t ids[WORDS]) {
    const uint64_t name[] = {b->opt->seed, 5, slot};
    base_rng rng;
    base_rng_seed(&rng, base_hash64(name, sizeof name, 1));
    for (size_t i = 0; i < WORDS; i++) {
        const uint32_t id = draw_word(b, &rng) + 1;
        size_t at = i;
        for (; at && ids[at - 1] > id; at--) ids[at] = ids[at - 1];
        ids[at] = id;
    }
}

/* Letters that the stemmer leaves alone. */
static base_str name_of(uint32_t id, char name[NAME]) {
    for (size_t i = 0; i < NAME; i++, id /= 16) name[i] = "bcdfghjklmnpqrtv"[id % 16];
    return (base_str){name, NAME};
}

static rotor_status put_passage(bench *b, rag_loader *l, size_t slot) {
    uint32_t ids[WORDS], last = 0;
    base_buf packed = {0};
    words_of(b, slot, ids);
    for (size_t i = 0; i < WORDS;) {
        size_t end = i;
        while (end < WORDS && ids[end] == ids[i]) end++;
        rag_pack_term(&packed, ids[i] - last, (uint32_t)(end - i), 0);
        last = ids[i];
        i = end;
    }
    const rag_db_chunk c = {.id = (int64_t)slot + 1,
                            .doc = (int64_t)(slot / PER_DOC) + 1,
                            .n_words = WORDS,
                            .terms = {packed.data, packed.len}};
    const rotor_status st =
        packed.failed ? base_fail_nomem(b->err, "measuring") : rag_load_chunk(l, &c);
    base_buf_free(&packed);
    return st;
}

static rotor_status put_words(bench *b, rag_loader *l) {
    const size_t n = b->opt->n_passages;
    char name[NAME], path[32];
    for (size_t d = 0; d < (n + PER_DOC - 1) / PER_DOC; d++) {
        const rag_db_doc doc = {.id = (int64_t)d + 1, .key = "", .title = "", .meta = ""};
        snprintf(path, sizeof path, "/%zu.txt", d);
        ROTOR_TRY(rag_load_doc(l, &doc, path));
    }
    for (uint32_t id = 1; id <= VOCABULARY; id++)
        ROTOR_TRY(rag_load_term(l, id, name_of(id, name)));
    for (size_t slot = 0; slot < n; slot++) ROTOR_TRY(put_passage(b, l, slot));
    return rag_load_words(l);
}

/* ==== Questions =============================================================================== */

static float product(const float *a, const float *b, size_t n) {
    float lane[16] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 16; k++) lane[k] += a[i + k] * b[i + k];
    for (; i < n; i++) sum += a[i] * b[i];
    for (size_t k = 0; k < 16; k++) sum += lane[k];
    return sum;
}

static rotor_status make_asker(bench *b, size_t i) {
    const rag_bench_options *o = b->opt;
    asker *a = &b->askers[i];
    const uint64_t of[] = {o->seed, 6, i};
    const size_t slot = base_hash64(of, sizeof of, 1) % o->n_passages;
    uint32_t ids[WORDS], asked = 0;
    char name[NAME];
    a->x = base_alloc_array(o->dims, sizeof *a->x);
    if (!a->x) return base_fail_nomem(b->err, "measuring");
    vector_of(b, a->x, slot);
    draw(b->x, o->dims, o->seed, 7, i);
    for (size_t c = 0; c < o->dims; c++) a->x[c] += DISTURBED * b->x[c];
    to_length_one(a->x, o->dims);
    words_of(b, slot, ids);
    for (size_t w = i % 7; w < WORDS && asked < ASKED; w += 7) {
        if (ids[w] <= COMMON) continue;
        const base_str word = name_of(ids[w], name);
        base_buf_append(&a->text, word.p, word.n);
        base_buf_puts(&a->text, " ");
        asked++;
    }
    return a->text.failed ? base_fail_nomem(b->err, "measuring") : ROTOR_OK;
}

/* A vector into the index, and into what each question would find in floats. */
static rotor_status put_vector(bench *b, rag_loader *l, int8_t *bytes, size_t slot) {
    const size_t dims = b->opt->dims;
    float scale;
    vector_of(b, b->x, slot);
    for (size_t i = 0; i < b->opt->n_questions; i++) {
        asker *a = &b->askers[i];
        const rag_rank r = {(uint32_t)slot, product(a->x, b->x, dims)};
        rag_rank_push(a->best, &a->n_best, BEST, r);
    }
    if (!rag_vec_pack(bytes, bytes + dims, &scale, b->x, dims, dims))
        return base_fail(b->err, ROTOR_E_FORMAT, "a vector without length");
    const base_str high = {(const char *)bytes, dims}, low = {(const char *)bytes + dims, dims};
    return rag_load_vector(l, (int64_t)slot + 1, scale, high, low);
}

static rotor_status put_vectors(bench *b, rag_loader *l) {
    int8_t *bytes = base_alloc(2 * b->opt->dims);
    rotor_status st = bytes ? ROTOR_OK : base_fail_nomem(b->err, "measuring");
    for (size_t i = 0; st == ROTOR_OK && i < b->opt->n_questions; i++) st = make_asker(b, i);
    for (size_t s = 0; st == ROTOR_OK && s < b->opt->n_passages; s++)
        st = put_vector(b, l, bytes, s);
    base_free(bytes);
    return st;
}

static rotor_status make_store(bench *b) {
    rag_loader l = {.x = &b->r.x, .err = b->err};
    double sum = 0;
    for (size_t z = 0; z < LATENT; z++)
        draw(b->axes + z * b->opt->dims, b->opt->dims, b->opt->seed, 8, z);
    for (size_t i = 0; i < VOCABULARY; i++) {
        sum += pow((double)i + 1, -ZIPF);
        b->zipf[i] = sum;
    }
    rotor_status st = put_words(b, &l);
    if (st == ROTOR_OK) st = put_vectors(b, &l);
    rag_loader_free(&l);
    return st == ROTOR_OK ? rag_make_room(&b->r, b->err) : st;
}

/* ==== Asking ================================================================================== */

static double recall(bench *b, const rag_vec_query *v, const asker *a) {
    rag_rank found[RAG_LEG];
    rag_vec_query q = *v;
    size_t n, same = 0;
    rag_vec_rank(&b->r.x, &b->r.k, &q, NULL, found, &n, RAG_LEG);
    for (size_t i = 0; i < a->n_best; i++)
        for (size_t k = 0; k < BASE_MIN(n, (size_t)BEST); k++)
            same += found[k].unit == a->best[i].unit;
    return (double)same / (double)a->n_best;
}

static uint64_t rank_us(bench *b, rag_vec_query *q) {
    rag_rank found[RAG_LEG];
    size_t n;
    const uint64_t start = base_now_ns();
    rag_vec_rank(&b->r.x, &b->r.k, q, NULL, found, &n, RAG_LEG);
    return base_now_ns() - start;
}

/* Each leg by itself, then a whole hybrid search, all but its texts. */
static rotor_status ask(bench *b, size_t i, rag_bench_result *out) {
    const asker *a = &b->askers[i];
    const rag_query opt = {.k = 8};
    rag_asked q = {.mode = RAG_HYBRID};
    rag *const r = &b->r;
    const rag_index *const x = &b->r.x;
    rag_lex_query *const lex = &q.lex;
    rag_chosen list[RAG_MAX_CANDIDATES];
    rag_rank found[RAG_LEG];
    rag_hits hits = {0};
    size_t n;
    if (!rag_vec_query_make(&q.vec, &b->r.x)) return base_fail_nomem(b->err, "measuring");
    memcpy(q.vec.x, a->x, b->opt->dims * sizeof *a->x);
    rotor_status st = rag_vec_query_pack(&q.vec, &b->r.x)
                          ? ROTOR_OK
                          : base_fail(b->err, ROTOR_E_FORMAT, "a question without length");
    q.vec.near = b->r.near;
    b->us[0][i] = rank_us(b, &q.vec);
    out->scored += (double)q.vec.n_scored / (double)b->opt->n_questions;
    out->recall10 += recall(b, &q.vec, a) / (double)b->opt->n_questions;
    q.vec.near = NULL;
    b->whole_us[i] = rank_us(b, &q.vec);
    uint64_t start = base_now_ns();
    if (st == ROTOR_OK)
        st = rag_lex_parse(&lex, &x, 1, (base_str){a->text.data, a->text.len}, false);
    rag_lex_rank(&b->r.x, &q.lex, false, NULL, b->r.acc, b->r.touched, found, &n, RAG_LEG);
    b->us[1][i] = base_now_ns() - start;
    start = base_now_ns();
    if (st == ROTOR_OK)
        st = rag_lex_parse(&lex, &x, 1, (base_str){a->text.data, a->text.len}, false);
    if (st == ROTOR_OK && rag_vec_query_pack(&q.vec, &b->r.x))
        st = rag_choose(&r, 1, &q, &opt, &hits, list, &n, b->err);
    b->us[2][i] = base_now_ns() - start;
    rag_ask_free(&q);
    return st;
}

static int by_size(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static rag_bench_times times_of(uint64_t *ns, size_t n) {
    qsort(ns, n, sizeof *ns, by_size);
    return (rag_bench_times){(double)ns[n / 2] / 1e3, (double)ns[(n * 95 + 99) / 100 - 1] / 1e3};
}

/* The high plane once, by the widest loads there are: no scan of all bytes is faster. */
static double plain_read_us(const bench *b) {
    const rag_index *x = &b->r.x;
    const uint64_t start = base_now_ns();
    const uint64_t any = kern_plain_read(b->r.k.cpu, x->high, x->n_chunks * x->ld / 256 * 256);
    return (double)(base_now_ns() - start) / 1e3 + (any == 1 ? 1e-9 : 0);
}

static rotor_status measure(bench *b, rag_bench_result *out) {
    const size_t n = b->opt->n_questions;
    for (size_t i = 0; i < n; i++) ROTOR_TRY(ask(b, i, out));
    out->vector = times_of(b->us[0], n);
    out->words = times_of(b->us[1], n);
    out->hybrid = times_of(b->us[2], n);
    out->whole = times_of(b->whole_us, n);
    out->read_us = INFINITY;
    for (int i = 0; i < 5; i++) out->read_us = fmin(out->read_us, plain_read_us(b));
    return ROTOR_OK;
}

static bool alloc_bench(bench *b) {
    const rag_bench_options *o = b->opt;
    b->zipf = base_alloc_array(VOCABULARY, sizeof *b->zipf);
    b->askers = base_alloc_array(o->n_questions, sizeof *b->askers);
    b->x = base_alloc_array(o->dims, sizeof *b->x);
    b->some = base_alloc_array(o->dims, sizeof *b->some);
    b->axes = base_alloc_array(LATENT * o->dims, sizeof *b->axes);
    b->whole_us = base_alloc_array(o->n_questions, sizeof *b->whole_us);
    bool all = b->zipf && b->askers && b->x && b->some && b->axes && b->whole_us;
    for (size_t i = 0; i < BASE_COUNT(b->us); i++)
        all = (b->us[i] = base_alloc_array(o->n_questions, sizeof *b->us[i])) && all;
    return all;
}

static void free_bench(bench *b) {
    for (size_t i = 0; b->askers && i < b->opt->n_questions; i++) {
        base_free(b->askers[i].x);
        base_buf_free(&b->askers[i].text);
    }
    void *const parts[] = {b->zipf,  b->askers, b->x,     b->some,  b->axes,      b->whole_us,
                           b->us[0], b->us[1],  b->us[2], b->r.acc, b->r.touched, b->r.near};
    for (size_t i = 0; i < BASE_COUNT(parts); i++) base_free(parts[i]);
    rag_index_free(&b->r.x);
}

rotor_status rag_bench(const rag_bench_options *opt, rag_bench_result *out, rotor_error *err) {
    bench b = {.opt = opt, .err = err};
    memset(out, 0, sizeof *out);
    kern_init(&b.r.k, opt->cpu);
    rotor_status st = alloc_bench(&b) ? ROTOR_OK : base_fail_nomem(err, "measuring");
    if (st == ROTOR_OK) st = make_store(&b);
    if (st == ROTOR_OK) st = measure(&b, out);
    free_bench(&b);
    return st;
}
