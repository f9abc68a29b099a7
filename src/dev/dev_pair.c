/* SPDX-License-Identifier: MIT
 *
 * Two whole devices as one: prompts run on the first, everything else on the second. The same pass
 * has been recorded on both, so handles mean the same; each holds the weights and a cache of their
 * own; what one has written goes over to the other when a step there needs it, page by page, and
 * only then:
 *
 *   prompt, first device            decode, second device              next prompt, first device
 *   writes pages 0 1 2       -->    takes 0 1 2, appends to 2    -->   takes 2, appends
 *
 * Of each page and side it is known how many positions, from the page's first, are as they should
 * be. A step that writes position p leaves the other side with p at most. So one of the two always
 * has all that a sequence has said, after rewinds and in shared pages, too.
 *
 * A step counts as prompt when it has more rows than PROMPT_ROWS and wants the logits of no more
 * than half of them: many sequences that decode together, and guesses, are no prompt.
 */
#include "dev/dev_internal.h"

#include <assert.h>
#include <stdio.h>

enum { PROMPT_ROWS = 8 };
enum { PROMPT, DECODE }; /* sides */

typedef struct dev_pair {
    dev base;           /* first member: the public face */
    dev *side[2];       /* for prompts, for the rest; owned */
    dev *last;          /* of them, the one with the last step's results */
    uint32_t n_layer;   /* layers */
    uint32_t n_pages;   /* of the cache */
    uint8_t *valid[2];  /* [n_pages] positions of a page that a side has; owned */
    uint8_t *rows;      /* keys and values of a page and layer on their way; owned */
    uint64_t row_bytes; /* of these */
    char name[192];     /* of both */
} dev_pair;

static void count(dev_pair *d) {
    dev_counters *c = &d->base.counters, sum = {.steps = c->steps, .pages_moved = c->pages_moved};
    for (int i = 0; i < 2; i++) dev_counters_add(&sum, d->side[i]);
    *c = sum;
}

/* ==== The cache =============================================================================== */

static rotor_status fetch(dev_pair *d, int to, uint32_t page, rotor_error *err) {
    dev *from = d->side[!to], *into = d->side[to];
    for (uint32_t l = 0; l < d->n_layer; l++) {
        ROTOR_TRY(from->vt->get_page(from, page, l, d->rows, err));
        ROTOR_TRY(into->vt->put_page(into, page, l, d->rows, err));
    }
    d->valid[to][page] = d->valid[!to][page];
    d->base.counters.pages_moved++;
    return ROTOR_OK;
}

/* What row r of the step reads is on side `to` then, and what it writes is there only. */
static rotor_status prepare_row(dev_pair *d, int to, const dev_step *s, uint32_t r,
                                rotor_error *err) {
    const uint32_t *pages = s->pages[r], pos = s->pos[r], last = pos / KERN_KEYS;
    const uint8_t before = (uint8_t)(pos % KERN_KEYS);
    const bool goes_on = r && s->pages[r - 1] == pages && s->pos[r - 1] + 1 == pos;
    for (uint32_t i = goes_on ? last : 0; i <= last; i++) {
        const uint8_t need = i < last ? KERN_KEYS : before;
        if (d->valid[to][pages[i]] >= need) continue;
        assert(d->valid[!to][pages[i]] >= need);
        ROTOR_TRY(fetch(d, to, pages[i], err));
    }
    d->valid[to][pages[last]] = (uint8_t)(before + 1);
    d->valid[!to][pages[last]] = BASE_MIN(d->valid[!to][pages[last]], before);
    return ROTOR_OK;
}

static rotor_status prepare(dev_pair *d, int to, const dev_step *step, rotor_error *err) {
    d->last = d->side[to];
    for (uint32_t r = 0; r < step->n_rows; r++) ROTOR_TRY(prepare_row(d, to, step, r, err));
    return ROTOR_OK;
}

static void copy_page(dev *base, bool ring, uint32_t dst_page, uint32_t src_page) {
    dev_pair *d = (dev_pair *)base;
    for (int i = 0; i < 2; i++) {
        dev_copy_page(d->side[i], ring, dst_page, src_page);
        d->valid[i][dst_page] = d->valid[i][src_page];
    }
}

/* From the side that has more of the page. */
static rotor_status get_page(dev *base, uint32_t page, uint32_t layer, uint8_t *dst,
                             rotor_error *err) {
    dev_pair *d = (dev_pair *)base;
    return dev_get_page(d->side[d->valid[DECODE][page] >= d->valid[PROMPT][page] ? DECODE : PROMPT],
                        page, layer, dst, err);
}

/* What comes from outside is a whole page, on one side. */
static rotor_status put_page(dev *base, uint32_t page, uint32_t layer, const uint8_t *src,
                             rotor_error *err) {
    dev_pair *d = (dev_pair *)base;
    d->valid[DECODE][page] = KERN_KEYS;
    d->valid[PROMPT][page] = 0;
    return dev_put_page(d->side[DECODE], page, layer, src, err);
}

/* ==== A step ================================================================================== */

static bool is_prompt(const dev_step *s) {
    return s->n_rows > PROMPT_ROWS && s->n_picked <= s->n_rows / 2;
}

static rotor_status run(dev *base, const dev_step *step, rotor_error *err) {
    dev_pair *d = (dev_pair *)base;
    const int to = is_prompt(step) ? PROMPT : DECODE;
    ROTOR_TRY(prepare(d, to, step, err));
    ROTOR_TRY(dev_run(d->side[to], step, err));
    d->base.counters.steps++;
    count(d);
    return ROTOR_OK;
}

/* What a second step under way reads, the first has prepared: nothing is fetched meanwhile. */
static rotor_status submit(dev *base, const dev_step *step, rotor_error *err) {
    dev_pair *d = (dev_pair *)base;
    ROTOR_TRY(prepare(d, DECODE, step, err));
    return dev_submit(d->side[DECODE], step, err);
}

static rotor_status wait(dev *base, rotor_error *err) {
    dev_pair *d = (dev_pair *)base;
    ROTOR_TRY(dev_wait(d->side[DECODE], err));
    d->base.counters.steps++;
    count(d);
    return ROTOR_OK;
}

static const float *read(dev *base, dev_buf b, uint32_t row) {
    dev_pair *d = (dev_pair *)base;
    const float *out = dev_read(d->last, b, row);
    count(d);
    return out;
}

static bool best(dev *base, uint32_t row, uint32_t *id, float *value) {
    return dev_best(((dev_pair *)base)->last, row, id, value);
}

static uint32_t top(dev *base, uint32_t row, const uint32_t **pairs) {
    return dev_top(((dev_pair *)base)->last, row, pairs);
}

static bool chosen(dev *base, uint32_t row, uint32_t *id) {
    return dev_chosen(((dev_pair *)base)->last, row, id);
}

/* ==== The rest of a dev ======================================================================= */

static uint64_t memory_bytes(const dev *base) {
    const dev_pair *d = (const dev_pair *)base;
    return dev_memory_bytes(d->side[0]) + dev_memory_bytes(d->side[1]) + d->row_bytes +
           2ull * d->n_pages;
}

static rotor_status time_ops(dev *base, bool on, rotor_error *err) {
    return dev_time_ops(((dev_pair *)base)->side[DECODE], on, err);
}

static size_t op_times(const dev *base, dev_op_time *out, size_t max) {
    return dev_op_times(((const dev_pair *)base)->side[DECODE], out, max);
}

static void free_own(dev_pair *d) {
    for (int i = 0; i < 2; i++) base_free(d->valid[i]);
    base_free(d->rows);
    base_free(d);
}

static void free_all(dev *base) {
    dev_pair *d = (dev_pair *)base;
    for (int i = 0; i < 2; i++) dev_free(&d->side[i]);
    free_own(d);
}

#define PAIR_COMMON                                                                                \
    .free = free_all, .run = run, .read = read, .copy_page = copy_page,                            \
    .memory_bytes = memory_bytes, .time_ops = time_ops, .op_times = op_times, .best = best,        \
    .top = top, .get_page = get_page, .put_page = put_page
static const dev_vtable plain_vtable = {PAIR_COMMON};
static const dev_vtable ahead_vtable = {PAIR_COMMON, .submit = submit, .wait = wait,
                                        .chosen = chosen};

rotor_status dev_pair_create(dev **out, dev *prompt, dev *decode, const dev_shape *shape,
                             rotor_error *err) {
    dev_pair *d = base_alloc(sizeof *d);
    if (!d) return base_fail_nomem(err, "creating a device");
    d->base.vt = dev_can_ahead(decode) ? &ahead_vtable : &plain_vtable;
    d->n_layer = shape->n_layer;
    d->n_pages = shape->n_pages;
    d->row_bytes =
        2ull * shape->n_head_kv * KERN_KEYS * kern_kv_row_bytes(shape->kv, shape->d_head);
    d->rows = base_alloc((size_t)d->row_bytes);
    for (int i = 0; i < 2; i++) d->valid[i] = base_alloc_array(d->n_pages, 1);
    if (!d->rows || !d->valid[0] || !d->valid[1]) {
        free_own(d);
        return base_fail_nomem(err, "creating a device");
    }
    d->side[0] = prompt;
    d->side[1] = d->last = decode;
    snprintf(d->name, sizeof d->name, "%s for prompts, %s", dev_name(prompt), dev_name(decode));
    d->base.name = d->name;
    count(d);
    *out = &d->base;
    return ROTOR_OK;
}
