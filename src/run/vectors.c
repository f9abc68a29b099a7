/* SPDX-License-Identifier: MIT
 *
 * Vectors of texts: texts become rows of steps, and the rows that forward.c pools become vectors.
 *
 * A step takes whole texts while there is room: rows, vectors, cache pages. Only a decoder whose
 * last token speaks for the text may go on with a text in the next step; an encoder's tokens see
 * those behind them, and a mean is of rows of one step. Rows of a text stand together and in order,
 * which attention and the mean (DEV_POOL) count on.
 *
 * Invariants: (E1) the picked row of a text is its first, where that speaks for it, else its last;
 * (E2) every row of a step belongs to a text with a picked row, but for one decoder's text that
 * goes on; (E3) sessions live from a text's first row to its last.
 */
#include "run/run_internal.h"

#include <assert.h>

/* Rows of a step beyond which no further text is taken: activations of more leave the caches. */
enum { GOOD_STEP = 256 };

/* Texts on their way through steps. */
typedef struct packer {
    run_engine *e;         /* engine */
    const run_text *texts; /* all */
    size_t n;              /* how many */
    size_t next;           /* first text that is not in a step whole … */
    uint32_t done;         /* … and its rows that are */
    run_session **s;       /* [n_s] sessions of the step's texts, owned */
    uint32_t n_s;          /* of them */
    uint32_t n_rows;       /* of the step */
    size_t first;          /* first text with a vector in the step */
} packer;

/* Whether a text's vector can come from its last step alone. */
static bool can_go_on(const run_engine *e) {
    return !e->m->hp.both_ways && e->opt.pool == MODEL_POOL_LAST;
}

uint32_t run_embed_max(const run_engine *e) {
    const uint64_t cache = (uint64_t)e->pages.n * KERN_KEYS;
    return (uint32_t)(can_go_on(e) ? BASE_MIN(cache, (uint64_t)UINT32_MAX)
                                   : BASE_MIN(cache, (uint64_t)e->opt.chunk));
}

static uint32_t pages_of(uint32_t n_tok) { return (n_tok + KERN_KEYS - 1) / KERN_KEYS; }

/* Rows of the next text that fit into the step; 0: none, it is full. */
static uint32_t rows_that_fit(const packer *k) {
    const run_engine *e = k->e;
    const uint32_t left = k->texts[k->next].n - k->done, room = e->opt.chunk - k->n_rows;
    const bool begins = !k->done;
    if (begins && k->n_s == e->opt.max_logits) return 0;
    if (begins && pages_of(k->texts[k->next].n) > e->pages.n_free) return 0;
    if (k->n_rows && k->n_rows + left > BASE_MIN((uint32_t)GOOD_STEP, e->opt.chunk)) return 0;
    if (left <= room) return left;
    return can_go_on(e) ? room : 0;
}

static bool first_speaks(const run_engine *e) {
    return e->opt.pool == MODEL_POOL_CLS || e->opt.pool == MODEL_POOL_RANK;
}

/* Adds rows of the next text to the step. */
static rotor_status add_rows(packer *k, uint32_t n, rotor_error *err) {
    run_engine *e = k->e;
    const run_text *t = &k->texts[k->next];
    if (!k->done) {
        ROTOR_TRY(run_session_create(&k->s[k->n_s], e, t->n, err));
        k->n_s++;
    }
    if (first_speaks(e)) e->picked[e->n_picked++] = k->n_rows;
    for (uint32_t i = 0; i < n; i++, k->n_rows++, k->done++) {
        const run_row row = {.s = k->s[k->n_s - 1], .token = t->ids[k->done]};
        ROTOR_TRY(run_extend(e, &row, k->n_rows, err));
        e->len[k->n_rows] = t->n;
        e->type[k->n_rows] = t->n_first && k->done >= t->n_first;
    }
    if (k->done < t->n) return ROTOR_OK;
    if (!first_speaks(e)) e->picked[e->n_picked++] = k->n_rows - 1;
    k->next++;
    k->done = 0;
    return ROTOR_OK;
}

static rotor_status build_step(packer *k, rotor_error *err) {
    k->e->n_picked = k->n_rows = 0;
    k->first = k->next;
    while (k->next < k->n) {
        const uint32_t n = rows_that_fit(k);
        if (!n) break;
        ROTOR_TRY(add_rows(k, n, err));
        if (k->done) break; /* it goes on in the next step */
    }
    assert(k->n_rows);
    k->e->n_rows = k->n_rows;
    return ROTOR_OK;
}

static void read_vectors(const packer *k, float *out) {
    const run_engine *e = k->e;
    const uint32_t n_dense = e->m->n_dense;
    const size_t width = model_vector_width(e->m);
    const dev_buf b = n_dense ? e->buf.dense[n_dense - 1] : e->buf.px;
    for (uint32_t i = 0; i < e->n_picked; i++)
        memcpy(out + (k->first + i) * width, dev_read(e->d, b, i), width * sizeof *out);
}

/* Frees the sessions of texts that are done. */
static void drop_sessions(packer *k, bool all) {
    const bool keep = k->done && !all;
    k->e->n_rows = 0; /* the step is not repeated */
    for (uint32_t i = 0; i + keep < k->n_s; i++) run_session_free(&k->s[i]);
    if (keep) k->s[0] = k->s[k->n_s - 1];
    k->n_s = keep;
}

static rotor_status check_texts(const run_engine *e, const run_text *texts, size_t n,
                                rotor_error *err) {
    const uint32_t most = run_embed_max(e);
    for (size_t i = 0; i < n; i++) {
        assert(texts[i].n);
        if (texts[i].n > most)
            return base_fail(err, ROTOR_E_FULL,
                             "text %zu has %u tokens; the longest that fits has %u", i, texts[i].n,
                             most);
    }
    return ROTOR_OK;
}

rotor_status run_embed(run_engine *e, const run_text *texts, size_t n, float *out,
                       rotor_error *err) {
    packer k = {.e = e, .texts = texts, .n = n};
    assert(e->opt.pool && e->n_ahead == 0 && e->pages.n_free == e->pages.n);
    ROTOR_TRY(check_texts(e, texts, n, err));
    k.s = base_alloc_array((size_t)e->opt.max_logits + 1, sizeof *k.s);
    if (!k.s) return base_fail_nomem(err, "embedding texts");
    rotor_status st = ROTOR_OK;
    while (st == ROTOR_OK && k.next < n) {
        st = build_step(&k, err);
        if (st == ROTOR_OK) st = run_step(e, err);
        if (st == ROTOR_OK) read_vectors(&k, out);
        drop_sessions(&k, st != ROTOR_OK);
    }
    base_free(k.s);
    return st;
}
