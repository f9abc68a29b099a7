/* SPDX-License-Identifier: MIT
 *
 * One step on a GPU: its numbers are written into one small memory, the list for its size is
 * started, and what comes back is the best token of each picked row. Whole rows are fetched only
 * when somebody reads them.
 *
 * A device that fails stays failed: every later step says so, and whoever runs the model goes on
 * without it.
 */
#include "dev/gpu/dev_gpu.h"

#include <assert.h>
#include <math.h>

uint32_t gpu_bucket(uint32_t n) {
    uint32_t b = n ? 1 : 0;
    while (b < n) b *= 2;
    return b;
}

/* How many of a row's best a list looks for: few sizes, so that there are few lists. */
static uint32_t best_bucket(const dev_gpu *d, const dev_step *s) {
    uint32_t most = s->draw ? 1 : s->n_best;
    if (!s->n_picked || d->logits == DEV_NONE) return 0;
    for (uint32_t i = 0; s->draw && i < s->n_picked; i++) most = BASE_MAX(most, s->draw[i].k);
    return most <= 1 ? 1 : most <= GPU_FEW_BEST ? GPU_FEW_BEST : GPU_TOP;
}

static rotor_status list_for(dev_gpu *d, const dev_step *s, gpu_sized **out, rotor_error *err) {
    const gpu_sized size = {.rows = gpu_bucket(s->n_rows),
                            .picked = gpu_bucket(s->n_picked),
                            .best = best_bucket(d, s)};
    const bool draw = s->draw && size.best > 1;
    for (gpu_sized *l = d->lists; l < d->lists + d->n_lists; l++)
        if (l->rows == size.rows && l->picked == size.picked && l->best == size.best &&
            l->draw == draw)
            return *out = l, ROTOR_OK;
    assert(d->n_lists < GPU_MAX_LISTS);
    gpu_sized *l = &d->lists[d->n_lists];
    *l = size;
    l->draw = draw;
    ROTOR_TRY(gpu_lower(d, l, err));
    d->n_lists++;
    *out = l;
    return ROTOR_OK;
}

/* The page table of row r: where an earlier row of its sequence has it, or behind the others. What
 * is before the window of the sequence's first row is left out; window 0: nothing is. */
static uint32_t put_table(dev_gpu *d, const dev_step *s, const uint32_t *const *pages,
                          uint32_t window, uint32_t r, uint32_t table_at, uint32_t *end) {
    uint32_t first = r; /* of the rows with this table */
    for (uint32_t i = 0; i < r && first == r; i++)
        if (pages[i] == pages[r]) first = i;
    if (first != r) return d->words[table_at + first];
    /* Rows of a sequence ascend: only its last row knows how many pages are in use. */
    uint32_t n = 0;
    for (uint32_t i = r; i < s->n_rows; i++)
        if (pages[i] == pages[r]) n = s->pos[i] / KERN_KEYS + 1;
    const bool all = !window || s->pos[r] < window;
    const uint32_t from = all ? 0 : (s->pos[r] + 1 - window) / KERN_KEYS, at = *end;
    memcpy(d->words + at, pages[r] + from, (n - from) * sizeof(uint32_t));
    *end += n - from;
    return at - from;
}

static void put_angles(dev_gpu *d, uint32_t at, uint32_t pos) {
    const uint32_t half = d->shape.n_rot / 2;
    float cs[KERN_MAX_HEAD], sn[KERN_MAX_HEAD];
    const float gain = d->shape.rope_gain;
    kern_rope_table(cs, sn, d->inv_freq, half, pos);
    for (uint32_t i = 0; gain != 0 && i < half; i++) {
        cs[i] *= gain;
        sn[i] *= gain;
    }
    memcpy(d->words + at, cs, half * sizeof *cs);
    memcpy(d->words + at + half, sn, half * sizeof *sn);
}

static void put_draw(dev_gpu *d, uint32_t at, const dev_draw *draw) {
    const float f[] = {draw->top_p, draw->least, draw->heat, draw->u};
    d->words[at] = draw->k;
    memcpy(d->words + at + 1, f, sizeof f);
}

/* The step as gpu_kernels.h draws it; returns its words. */
static uint32_t put_step(dev_gpu *d, const dev_step *s, uint32_t rows) {
    const gpu_layout at = gpu_layout_of(d, rows);
    uint32_t end = at.pages;
    memset(d->words, 0, end * sizeof *d->words);
    d->words[GPU_STEP_ROWS] = s->n_rows;
    d->words[GPU_STEP_PICKED] = s->n_picked;
    d->words[GPU_STEP_SLOTS] = s->n_rows * d->shape.n_used;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        d->words[at.token + r] = s->token[r];
        d->words[at.pos + r] = s->pos[r];
        d->words[at.table + r] = put_table(d, s, s->pages, 0, r, at.table, &end);
        if (d->shape.n_ring_pages)
            d->words[at.ring + r] = put_table(d, s, s->ring, d->ring_window, r, at.ring, &end);
        put_angles(d, at.angle + r * d->shape.n_rot, s->pos[r]);
    }
    for (uint32_t i = 0; s->draw && i < s->n_picked; i++)
        put_draw(d, at.draw + i * GPU_DRAW_WORDS, &s->draw[i]);
    if (s->n_picked) memcpy(d->words + at.picked, s->picked, s->n_picked * sizeof *d->words);
    return end;
}

void gpu_count_driver(dev_gpu *d) {
    const gpu_counters *c = &d->g->counters;
    d->base.counters.bytes_up = c->bytes_up;
    d->base.counters.bytes_down = c->bytes_down;
    d->base.counters.submissions = c->submissions;
    d->base.counters.allocations = c->allocations;
}

static void count(dev_gpu *d, const gpu_sized *list) {
    d->base.counters.steps++;
    d->base.counters.dispatches += list->n_dispatches;
    d->base.counters.dependent += list->n_dependent;
    gpu_count_driver(d);
}

/* What has been submitted is of no use once the device is lost: closing it waits for all. */
static rotor_status lost(dev_gpu *d, rotor_error *err) {
    d->n_flights = 0;
    if (err) *err = d->why;
    return d->lost;
}

rotor_status gpu_submit(dev *base, const dev_step *s, rotor_error *err) {
    dev_gpu *d = (dev_gpu *)base;
    gpu_sized *list = NULL;
    assert(s->n_rows <= d->shape.max_rows && s->n_picked <= d->shape.max_picked);
    assert(d->n_flights < GPU_FLIGHTS);
    if (d->lost == ROTOR_OK) d->lost = list_for(d, s, &list, &d->why);
    if (d->lost == ROTOR_OK) {
        const uint32_t words = put_step(d, s, list->rows);
        assert(words <= list->up_words);
        d->lost = d->api->submit(d->g, list->list, d->words, words * 4ull, &d->why);
    }
    if (d->lost != ROTOR_OK) return lost(d, err);
    d->flights[d->n_flights++] = list;
    return ROTOR_OK;
}

rotor_status gpu_wait(dev *base, rotor_error *err) {
    dev_gpu *d = (dev_gpu *)base;
    if (d->lost != ROTOR_OK) return lost(d, err);
    assert(d->n_flights > 0);
    const gpu_sized *list = d->flights[0];
    d->lost = d->api->wait(d->g, list->list, d->found_host, &d->why);
    if (d->lost != ROTOR_OK) return lost(d, err);
    d->n_flights--;
    d->flights[0] = d->flights[1];
    d->found_best = list->best;
    d->found_drawn = list->draw;
    count(d, list);
    return ROTOR_OK;
}

rotor_status gpu_run(dev *base, const dev_step *s, rotor_error *err) {
    assert(((dev_gpu *)base)->n_flights == 0);
    ROTOR_TRY(gpu_submit(base, s, err));
    return gpu_wait(base, err);
}

/* ==== What a step leaves ====================================================================== */

const float *gpu_read(dev *base, dev_buf b, uint32_t row) {
    dev_gpu *d = (dev_gpu *)base;
    gpu_buf *buf = &d->bufs[b];
    assert(row < buf->rows);
    if (!buf->host) buf->host = base_alloc_array((size_t)buf->rows * buf->width, sizeof(float));
    if (!buf->host || d->lost != ROTOR_OK) return NULL;
    float *host = buf->host + (size_t)row * buf->width;
    if (buf->host_step != base->counters.steps) buf->host_rows = 0;
    buf->host_step = base->counters.steps;
    if (row < 64 && buf->host_rows >> row & 1) return host;
    d->lost = d->api->read(d->g, buf->x, ((uint64_t)row * buf->ld + buf->at) * sizeof(float), host,
                           buf->width * sizeof(float), &d->why);
    if (d->lost != ROTOR_OK) return NULL;
    if (row < 64) buf->host_rows |= 1ull << row;
    d->base.counters.bytes_down = d->g->counters.bytes_down;
    return host;
}

/* Rows that stand close together move at once, guests of a wider memory one by one. */
static rotor_status move_rows(dev_gpu *d, dev_buf b, uint32_t n, float *dst, const float *src,
                              rotor_error *err) {
    const gpu_buf *buf = &d->bufs[b];
    const uint32_t at_once = buf->ld == buf->width ? n : 1;
    const uint64_t bytes = (uint64_t)at_once * buf->width * sizeof *dst;
    assert(n <= buf->rows);
    for (uint32_t row = 0; row < n && d->lost == ROTOR_OK; row += at_once) {
        const uint64_t at = ((uint64_t)row * buf->ld + buf->at) * sizeof *dst;
        const size_t off = row * buf->width;
        d->lost = dst ? d->api->read(d->g, buf->x, at, dst + off, bytes, &d->why)
                      : d->api->write(d->g, buf->x, at, src + off, bytes, &d->why);
    }
    gpu_count_driver(d);
    if (d->lost != ROTOR_OK && err) *err = d->why;
    return d->lost;
}

rotor_status gpu_get_rows(dev *base, dev_buf b, uint32_t n, float *dst, rotor_error *err) {
    return move_rows((dev_gpu *)base, b, n, dst, NULL, err);
}

rotor_status gpu_put_rows(dev *base, dev_buf b, uint32_t n, const float *src, rotor_error *err) {
    return move_rows((dev_gpu *)base, b, n, NULL, src, err);
}

bool gpu_best(dev *base, uint32_t row, uint32_t *id, float *value) {
    const uint32_t *pair;
    if (!gpu_top(base, row, &pair) || pair[0] == UINT32_MAX) return false;
    *id = pair[0];
    memcpy(value, &pair[1], sizeof *value);
    return true;
}

uint32_t gpu_top(dev *base, uint32_t row, const uint32_t **pairs) {
    const dev_gpu *d = (const dev_gpu *)base;
    if (d->lost != ROTOR_OK || d->found_drawn) return 0;
    *pairs = d->found_host + (size_t)row * d->found_best * GPU_FOUND_WORDS;
    return d->found_best;
}

bool gpu_chosen(dev *base, uint32_t row, uint32_t *id) {
    const dev_gpu *d = (const dev_gpu *)base;
    if (d->lost != ROTOR_OK || !(d->found_drawn || d->found_best == 1)) return false;
    const uint32_t *pair = d->found_host + row * GPU_FOUND_WORDS;
    float largest;
    memcpy(&largest, &pair[1], sizeof largest);
    *id = pair[0];
    return *id != UINT32_MAX && isfinite(largest);
}
