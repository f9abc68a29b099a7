/* SPDX-License-Identifier: MIT
 *
 * The CPU device: the staged head. Which rows of a product are the best k is decided from nested
 * planes of few bits with proven bounds (kern/head.c); only rows that may be among them are
 * computed in full, by the kernel of the whole product, so that their values are its values.
 *
 *   screen   every row by four bits                          scores of all rows
 *   filter   z + bound >= the k-th largest z - bound         survivors
 *   refine   one more bit of the survivors, filter again     … up to eight bits
 *   exact    what is left, and the rows wanted anyway        values
 *
 * Threads take screening chunk by chunk, so that one that is disturbed holds up nobody. Then each
 * keeps the survivors of its own rows (the region of that thread, in lists of all rows); later
 * stages are shared by survivors, wherever they stand, since rows that matter tend to be
 * neighbours. Every thread finds the same threshold from the best lower bounds that each has
 * published. Nothing here depends on the number of threads.
 *
 * The whole product is the better way when more than a quarter of the rows is left in the end.
 */
#include "dev/cpu/dev_cpu.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdatomic.h>

enum {
    BEST_ROOM = 2 * DEV_STAGED_BEST, /* lower bounds kept before all but the best k are dropped */
    FEW_ROWS = 64                    /* that many survivors cost less in full than another stage */
};

/* The best lower bounds one thread has seen. */
typedef struct best {
    float bound[BEST_ROOM]; /* in no order */
    uint32_t n, k;          /* in use; wanted */
    float floor;            /* nothing at or below it is among the best k */
} best;

typedef struct region {
    size_t begin, n; /* of the lists: first entry, survivors */
} region;

struct cpu_head {
    kern_mat w;                        /* borrowed data */
    kern_planes p;                     /* in mem */
    uint8_t *mem;                      /* planes, owned */
    uint64_t n_bytes;                  /* of mem and of what follows */
    uint8_t *x_mem;                    /* codes of x, owned */
    kern_x16 x[DEV_STAGED_ROWS];       /* activations of the rows screened last */
    bool bounded[DEV_STAGED_ROWS];     /* x has a length: bounds hold */
    const float *row[DEV_STAGED_ROWS]; /* the activations themselves */
    float *scores;                     /* [DEV_STAGED_ROWS, groups * 16], owned */
    uint32_t *id;                      /* [2 * rows] survivors by region, then the result; owned */
    float *value;                      /* [2 * rows] their scores, then values; owned */
    best *best;                        /* [threads], owned */
    region *region;                    /* [threads], owned */
};

/* ==== The planes ============================================================================== */

typedef struct pack_job {
    dev_cpu *d;         /* whose kernels */
    struct cpu_head *h; /* to fill */
    float *rows;        /* [threads, cols] one decoded row each */
} pack_job;

static void pack_rows(void *arg, int thread, int n_threads) {
    const pack_job *j = arg;
    float *row = j->rows + (size_t)thread * j->h->w.cols;
    size_t begin, end;
    par_slice(j->h->w.rows, KERN_HEAD_GROUP, thread, n_threads, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        j->d->k->embed(row, &j->h->w, r);
        j->d->k->head_pack(&j->h->p, row, r);
    }
}

static size_t padded_rows(const struct cpu_head *h) {
    return (h->w.rows + KERN_HEAD_GROUP - 1) / KERN_HEAD_GROUP * KERN_HEAD_GROUP;
}

static bool head_alloc(struct cpu_head *h, int n_threads) {
    const size_t rows = h->w.rows, cols = h->w.cols, x_bytes = kern_x16_bytes(cols);
    const size_t planes = kern_planes_bytes(rows, cols);
    h->mem = base_alloc_aligned(planes);
    h->x_mem = base_alloc_aligned(x_bytes * DEV_STAGED_ROWS);
    h->scores = base_alloc_aligned(padded_rows(h) * DEV_STAGED_ROWS * sizeof *h->scores);
    h->id = base_alloc_array(2 * rows, sizeof *h->id);
    h->value = base_alloc_array(2 * rows, sizeof *h->value);
    h->best = base_alloc_array((size_t)n_threads, sizeof *h->best);
    h->region = base_alloc_array((size_t)n_threads, sizeof *h->region);
    if (!h->mem || !h->x_mem || !h->scores || !h->id || !h->value || !h->best || !h->region)
        return false;
    h->n_bytes =
        planes + x_bytes * DEV_STAGED_ROWS + padded_rows(h) * DEV_STAGED_ROWS * 4 + rows * 16;
    kern_planes_place(&h->p, h->mem, rows, cols);
    for (size_t i = 0; i < DEV_STAGED_ROWS; i++) {
        kern_x16_place(&h->x[i], h->x_mem + i * x_bytes, cols);
        h->x[i].y = h->scores + i * padded_rows(h);
    }
    return true;
}

void cpu_head_free(struct cpu_head **ph) {
    struct cpu_head *h = *ph;
    if (!h) return;
    base_free_aligned(h->mem);
    base_free_aligned(h->x_mem);
    base_free_aligned(h->scores);
    base_free(h->id);
    base_free(h->value);
    base_free(h->best);
    base_free(h->region);
    base_free(h);
    *ph = NULL;
}

uint64_t cpu_head_bytes(const struct cpu_head *h) { return h ? h->n_bytes : 0; }

rotor_status cpu_add_staged(dev *base, const kern_mat *w, rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    const int n_threads = par_n_threads(d->pool);
    assert(!d->head);
    if ((w->type != QUANT_F16 && w->type != QUANT_BF16 && w->type != QUANT_F32) ||
        w->scale != 1.0f || w->cols > 65536)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "a head of type %s has no planes",
                         quant_find(w->type)->name);
    struct cpu_head *h = base_alloc(sizeof *h);
    if (!h) return base_fail_nomem(err, "making the planes of the output head");
    h->w = *w;
    pack_job job = {.d = d, .h = h};
    job.rows = base_alloc_array((size_t)n_threads * w->cols, sizeof *job.rows);
    if (!job.rows || !head_alloc(h, n_threads)) {
        base_free(job.rows);
        cpu_head_free(&h);
        return base_fail_nomem(err, "making the planes of the output head");
    }
    par_run(d->pool, pack_rows, &job);
    base_free(job.rows);
    d->head = h;
    return ROTOR_OK;
}

/* ==== Screening =============================================================================== */

enum { CHUNK_BYTES = 1 << 20 }; /* of the coarse plane, taken at once: some 60 us of reading */

typedef struct screen_job {
    dev_cpu *d;          /* the device */
    size_t n_rows;       /* tokens */
    size_t chunk;        /* groups taken at once */
    atomic_size_t taken; /* chunks begun */
} screen_job;

static void screen_rows(void *arg, int thread, int n_threads) {
    screen_job *j = arg;
    const struct cpu_head *h = j->d->head;
    const size_t all = padded_rows(h) / KERN_HEAD_GROUP;
    (void)thread;
    (void)n_threads;
    for (;;) {
        const size_t at = j->chunk * atomic_fetch_add_explicit(&j->taken, 1, memory_order_relaxed);
        if (at >= all) return;
        j->d->k->head_screen(&h->p, h->x, j->n_rows, at, BASE_MIN(at + j->chunk, all));
    }
}

static void run_shared(dev_cpu *d, par_fn fn, void *arg) {
    if (d->head->n_bytes < d->shape.solo_bytes)
        fn(arg, 0, 1);
    else
        par_run(d->pool, fn, arg);
}

void cpu_screen(dev *base, dev_buf src, uint32_t first, uint32_t n_rows) {
    dev_cpu *d = (dev_cpu *)base;
    struct cpu_head *h = d->head;
    const cpu_buf *b = &d->bufs[src];
    assert(h && b->width == h->w.cols && first + n_rows <= b->rows);
    for (size_t i = 0; i < n_rows; i++) {
        h->row[i] = b->x + (first + i) * b->width;
        h->bounded[i] = kern_x16_fill(&h->x[i], &h->p, h->row[i]);
    }
    const size_t group_bytes = kern_planes_group_bytes(&h->p);
    screen_job job = {.d = d, .n_rows = n_rows, .chunk = CHUNK_BYTES / group_bytes + 1};
    run_shared(d, screen_rows, &job);
    const uint64_t four_bits = padded_rows(h) / KERN_HEAD_GROUP * group_bytes;
    base->staged.bytes += four_bits + padded_rows(h) * 12 * n_rows;
}

/* ==== The k-th largest ======================================================================== */

/* Bits that compare as the floats do. */
static uint32_t key_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float of_key(uint32_t key) {
    float x;
    key = key & 0x80000000u ? key & 0x7FFFFFFFu : ~key;
    memcpy(&x, &key, sizeof x);
    return x;
}

/* k-th largest bound in lists[n]; -FLT_MAX when there are fewer than k finite ones. */
static float kth_largest(const best *lists, size_t n, uint32_t k) {
    uint32_t key = 0;
    for (int bit = 31; bit >= 0; bit--) {
        const uint32_t next = key | 1u << bit;
        uint32_t above = 0;
        for (size_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < lists[i].n; j++) above += key_of(lists[i].bound[j]) >= next;
        if (above >= k) key = next;
    }
    const float found = key ? of_key(key) : -FLT_MAX;
    return found >= -FLT_MAX ? found : -FLT_MAX;
}

static void best_cut(best *b) {
    if (b->n <= b->k) return;
    const float last = kth_largest(b, 1, b->k);
    uint32_t n = 0, equal = b->k;
    for (uint32_t i = 0; i < b->n; i++) equal -= b->bound[i] > last;
    for (uint32_t i = 0; i < b->n; i++)
        if (b->bound[i] > last || (b->bound[i] == last && equal && equal--))
            b->bound[n++] = b->bound[i];
    b->n = n;
    b->floor = last;
}

static void best_put(best *b, float bound) {
    if (!(bound > b->floor)) return;
    b->bound[b->n++] = bound;
    if (b->n == 2 * b->k) best_cut(b);
}

/* ==== Finding ================================================================================= */

/* What every thread sees of one search; each has a copy. */
typedef struct search {
    dev_cpu *d;                         /* the device */
    struct cpu_head *h;                 /* its head */
    const kern_x16 *x;                  /* the token */
    const dev_want *want;               /* what is asked */
    size_t row;                         /* which of the screened rows */
    size_t n_left;                      /* survivors of all threads */
    size_t survivors[KERN_HEAD_STAGES]; /* after each stage; 0: not reached */
    int thread, n_threads;              /* this one, all */
} search;

static void meet(const search *s) {
    if (s->n_threads > 1) par_barrier(s->d->pool);
}

static void best_begin(const search *s) {
    best *b = &s->h->best[s->thread];
    b->n = 0;
    b->k = s->want->k ? s->want->k : 1;
    b->floor = -FLT_MAX;
}

/* Publishes this thread's bounds and waits for the others'. What reaches the result survives. */
static float threshold(const search *s) {
    best_cut(&s->h->best[s->thread]);
    meet(s);
    const uint32_t k = s->want->k ? s->want->k : 1;
    float t = kth_largest(s->h->best, (size_t)s->n_threads, k);
    if (s->want->k == 0 && t > -FLT_MAX) t = t - s->want->delta - 0x1p-20f * fabsf(t);
    return BASE_MAX(t, -FLT_MAX);
}

/* Counts what all threads have kept. The barrier also protects the published bounds. */
static void count_left(search *s, size_t stage) {
    meet(s);
    s->n_left = 0;
    for (int i = 0; i < s->n_threads; i++) s->n_left += s->h->region[i].n;
    s->survivors[stage] = s->n_left;
}

enum { RUN = 64 }; /* rows judged together before any is looked at alone */

/* The best lower bounds of rows [begin, end). */
static void first_bounds(const search *s, size_t begin, size_t end) {
    best *b = &s->h->best[s->thread];
    const float *y = s->x->y;
    for (size_t r = begin; r < end; r += RUN) {
        const size_t n = BASE_MIN(end - r, (size_t)RUN);
        float low[RUN];
        int any = 0;
        for (size_t i = 0; i < n; i++) {
            low[i] = y[r + i] - kern_head_bound(&s->h->p, s->x, 0, r + i);
            any |= low[i] > b->floor;
        }
        for (size_t i = 0; any && i < n; i++) best_put(b, low[i]);
    }
}

/* Lists the rows of [begin, end) that reach t. */
static void first_filter(const search *s, size_t begin, size_t end, float t) {
    struct cpu_head *h = s->h;
    const float *y = s->x->y;
    region *mine = &h->region[s->thread];
    *mine = (region){.begin = begin};
    for (size_t r = begin; r < end; r += RUN) {
        const size_t n = BASE_MIN(end - r, (size_t)RUN);
        float high[RUN];
        int any = 0;
        for (size_t i = 0; i < n; i++) {
            high[i] = y[r + i] + kern_head_bound(&h->p, s->x, 0, r + i);
            any |= high[i] >= t;
        }
        for (size_t i = 0; any && i < n; i++)
            if (high[i] >= t) {
                h->id[begin + mine->n] = (uint32_t)(r + i);
                h->value[begin + mine->n++] = y[r + i];
            }
    }
}

/* Takes the rows wanted anyway out of the choice: their scores fall below every threshold. Behind
 * all regions stands what they were. */
static void set_aside(const search *s, size_t begin, size_t end) {
    for (uint32_t i = 0; i < s->want->n_ids; i++) {
        const uint32_t r = s->want->ids[i];
        if (r < begin || r >= end) continue;
        s->h->value[s->h->w.rows + i] = s->x->y[r];
        s->x->y[r] = -INFINITY;
    }
}

static void put_back(const search *s, size_t begin, size_t end) {
    for (uint32_t i = 0; i < s->want->n_ids; i++) {
        const uint32_t r = s->want->ids[i];
        if (r >= begin && r < end) s->x->y[r] = s->h->value[s->h->w.rows + i];
    }
}

static void first_stage(search *s) {
    size_t begin, end;
    par_slice(s->h->w.rows, KERN_HEAD_GROUP, s->thread, s->n_threads, &begin, &end);
    set_aside(s, begin, end);
    best_begin(s);
    first_bounds(s, begin, end);
    first_filter(s, begin, end, threshold(s));
    put_back(s, begin, end);
    count_left(s, 0);
}

/* Survivors [from, to), counted over all regions, as one piece after another. */
static bool next_piece(const struct cpu_head *h, size_t *from, size_t to, region *piece) {
    size_t skip = *from;
    if (*from >= to) return false;
    int i = 0;
    while (skip >= h->region[i].n) skip -= h->region[i++].n;
    piece->begin = h->region[i].begin + skip;
    piece->n = BASE_MIN(h->region[i].n - skip, to - *from);
    *from += piece->n;
    return true;
}

static void refine(search *s, size_t stage) {
    struct cpu_head *h = s->h;
    region *mine = &h->region[s->thread], piece;
    size_t from, to, kept = 0;
    best_begin(s);
    par_slice(s->n_left, 1, s->thread, s->n_threads, &from, &to);
    while (next_piece(h, &from, to, &piece)) {
        const uint32_t *id = h->id + piece.begin;
        float *z = h->value + piece.begin;
        s->d->k->head_refine(z, &h->p, s->x, stage - 1, id, piece.n);
        for (size_t i = 0; i < piece.n; i++)
            best_put(&h->best[s->thread], z[i] - kern_head_bound(&h->p, s->x, stage, id[i]));
    }
    const float t = threshold(s);
    for (size_t i = mine->begin; i < mine->begin + mine->n; i++) {
        if (!(h->value[i] + kern_head_bound(&h->p, s->x, stage, h->id[i]) >= t)) continue;
        h->id[mine->begin + kept] = h->id[i];
        h->value[mine->begin + kept++] = h->value[i];
    }
    mine->n = kept;
    count_left(s, stage);
}

/* One row of the product by the kernel of the whole one. */
static float exact_row(const search *s, size_t r) {
    const kern_mat *w = &s->h->w;
    kern_mat one = *w;
    one.data = w->data + r * w->row_bytes;
    one.rows = 1;
    const kern_act x = {.x = s->h->row[s->row], .ldx = w->cols, .n_tok = 1};
    float y;
    cpu_product_of(s->d, s->d->k, w, 1)(&y, 1, &one, &x, 0, 1);
    return y;
}

static void exact_values(const search *s) {
    const struct cpu_head *h = s->h;
    const size_t n_ids = s->want->n_ids;
    size_t from, to, first, last;
    region piece;
    par_slice(s->n_left, 1, s->thread, s->n_threads, &from, &to);
    while (next_piece(h, &from, to, &piece))
        for (size_t i = piece.begin; i < piece.begin + piece.n; i++)
            h->value[i] = exact_row(s, h->id[i]);
    par_slice(n_ids, 1, s->thread, s->n_threads, &first, &last);
    for (size_t i = first; i < last; i++) { /* behind all regions */
        h->id[h->w.rows + i] = s->want->ids[i];
        h->value[h->w.rows + i] = exact_row(s, s->want->ids[i]);
    }
}

static bool too_many(const search *s) { return s->n_left > BASE_MAX(s->h->w.rows / 4, FEW_ROWS); }

static void search_rows(void *arg, int thread, int n_threads) {
    search s = *(const search *)arg;
    s.thread = thread;
    s.n_threads = n_threads;
    first_stage(&s);
    for (size_t stage = 1; stage < KERN_HEAD_STAGES && s.n_left > FEW_ROWS; stage++)
        refine(&s, stage);
    if (!too_many(&s)) exact_values(&s);
    if (thread > 0) return;
    search *all = arg; /* read by the others before the first barrier only */
    memcpy(all->survivors, s.survivors, sizeof s.survivors);
    all->n_left = s.n_left;
    all->n_threads = n_threads;
}

/* Bytes of the planes of a survivor: one bit and the scale of each block, three floats. */
static void take_stats(const search *s, bool decided) {
    dev_staged_stats *st = &s->d->base.staged;
    const uint64_t a_bit = s->h->p.ldc / 8 + s->h->p.ldc / 32 + 12;
    const uint64_t exact = decided ? s->n_left + s->want->n_ids : 0;
    st->finds++;
    st->undecided += !decided;
    for (size_t i = 0; i < KERN_HEAD_STAGES; i++) {
        st->survivors[i] += s->survivors[i];
        if (i + 1 < KERN_HEAD_STAGES && s->survivors[i] > FEW_ROWS)
            st->bytes += s->survivors[i] * a_bit;
    }
    st->exact += exact;
    st->bytes += exact * s->h->w.row_bytes;
}

bool cpu_find(dev *base, uint32_t row, const dev_want *want, dev_found *found) {
    dev_cpu *d = (dev_cpu *)base;
    struct cpu_head *h = d->head;
    if (!h->bounded[row] || want->k > h->w.rows || want->n_ids > h->w.rows) {
        base->staged.finds++;
        base->staged.undecided++;
        return false;
    }
    search s = {.d = d, .h = h, .x = &h->x[row], .want = want, .row = row};
    run_shared(d, search_rows, &s);
    const bool decided = !too_many(&s);
    take_stats(&s, decided);
    if (!decided) return false;
    size_t n = 0;
    for (int i = 0; i < s.n_threads; i++)
        for (size_t j = 0; j < h->region[i].n; j++, n++) {
            h->id[n] = h->id[h->region[i].begin + j];
            h->value[n] = h->value[h->region[i].begin + j];
        }
    memmove(h->id + n, h->id + h->w.rows, want->n_ids * sizeof *h->id);
    memmove(h->value + n, h->value + h->w.rows, want->n_ids * sizeof *h->value);
    *found = (dev_found){h->id, h->value, (uint32_t)(n + want->n_ids)};
    return true;
}
