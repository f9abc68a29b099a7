/* SPDX-License-Identifier: MIT
 *
 * Checks while running: is what this machine computes, right now, what the model says?
 *
 *     before a step   | arm a few of its products                                  | dev_check_arm
 *     in the step     | one row of each is done twice, its input looked at         | the device
 *     after the step  | logits are numbers; some pages of weights have their sums  | here
 *
 * Everything but the look at the logits is paid from a budget: of the time that steps have taken a
 * share, less what has been spent. What a unit costs is measured, so that the share is kept on any
 * machine: whatever cannot be paid now waits for steps to come. The checks begin at random places
 * and take turns, and so get everywhere.
 *
 * Sums are taken when the engine is made, of pieces of every matrix as the kernels read it (the
 * mapped file, or what was repacked from it): a file that is written to, and memory that has
 * rotted, differ from then on.
 *
 * A wrong product or sum stays wrong: no step is taken after it. Logits that are no numbers may be
 * the fault of what was asked; only that step fails.
 */
#include "run/run_internal.h"

#include <stdio.h>

enum {
    PIECE_BYTES = 64 << 10, /* under one sum */
    GUESS_NS = 20000,       /* cost of a unit before one was measured */
    WHOLE_STEPS = 16,       /* without a budget: steps in which all sums have their turn */
    MOST_PIECES = 1024      /* of a step */
};

struct run_check {
    run_allowance rows;      /* time for products … */
    run_allowance sums;      /* … and for sums and logits: each half of the share */
    run_parts parts;         /* what is summed */
    uint64_t *sum;           /* [n_pieces] in the order of parts, owned */
    size_t *first;           /* [parts.n + 1] first piece of each, owned */
    size_t n_pieces;         /* all */
    size_t next;             /* piece whose turn it is */
    size_t part;             /* … which is of this part */
    base_rng rng;            /* what is chosen */
    const dev *d;            /* device whose products are checked: another after a failure */
    dev_check_stats before;  /* of it, when the step began … */
    dev_check_stats past;    /* … and of devices before it */
    uint64_t begin_ns;       /* of the step */
    double row_ns, piece_ns; /* what a unit costs */
    run_check_stats st;      /* so far; without those of the device */
    bool wrong;              /* for good … */
    char why[sizeof((run_check_stats *)0)->fault]; /* … and what it was */
};

/* ==== The budget ============================================================================== */

uint64_t run_allowance_left(const run_allowance *b) {
    if (b->share >= 1) return UINT64_MAX;
    const double may = b->share * (double)b->total_ns;
    return may > (double)b->spent_ns ? (uint64_t)(may - (double)b->spent_ns) : 0;
}

void run_allowance_add(run_allowance *b, uint64_t total_ns, uint64_t spent_ns) {
    b->total_ns += total_ns;
    b->spent_ns += spent_ns;
}

size_t run_allowance_units(uint64_t left_ns, double unit_ns, size_t most) {
    const double n = (double)left_ns / unit_ns;
    return n >= (double)most ? most : (size_t)n;
}

/* A unit took so long: dear ones are believed at once, cheap ones little by little. */
static void learn(double *unit_ns, uint64_t ns, uint64_t n) {
    const double now = n ? BASE_MAX((double)ns / (double)n, 1.0) : *unit_ns;
    *unit_ns = now > *unit_ns ? now : *unit_ns + (now - *unit_ns) / 4;
}

/* ==== Sums ==================================================================================== */

static size_t pieces_of(uint64_t bytes) {
    return (size_t)((bytes + PIECE_BYTES - 1) / PIECE_BYTES);
}

static uint64_t sum_piece(const struct run_check *c, size_t part, size_t piece, size_t *bytes) {
    const run_part *p = &c->parts.list[part];
    const uint64_t at = (uint64_t)(piece - c->first[part]) * PIECE_BYTES;
    *bytes = (size_t)BASE_MIN(p->bytes - at, (uint64_t)PIECE_BYTES);
    return base_hash64(p->w.data + at, *bytes, piece);
}

static void sum_all(void *arg, int thread, int n_threads) {
    struct run_check *c = arg;
    size_t begin, end, part = 0, bytes;
    par_slice(c->n_pieces, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        while (i >= c->first[part + 1]) part++;
        c->sum[i] = sum_piece(c, part, i, &bytes);
    }
}

static rotor_status make_sums(struct run_check *c, const run_engine *e, rotor_error *err) {
    ROTOR_TRY(run_list_parts(&c->parts, e, err));
    c->first = base_alloc_array(c->parts.n + 1, sizeof *c->first);
    if (!c->first) return base_fail_nomem(err, "summing weights");
    for (size_t i = 0; i < c->parts.n; i++)
        c->first[i + 1] = c->first[i] + pieces_of(c->parts.list[i].bytes);
    if (e->opt.on_demand) return ROTOR_OK; /* memory does not hold them: they are not summed */
    c->n_pieces = c->first[c->parts.n];
    c->sum = base_alloc_array(c->n_pieces + 1, sizeof *c->sum);
    if (!c->sum) return base_fail_nomem(err, "summing weights");
    par_run(e->pool, sum_all, c);
    c->st.weight_all_bytes = c->parts.bytes;
    return ROTOR_OK;
}

static void begin_anywhere(struct run_check *c) {
    if (!c->n_pieces) return;
    c->next = base_rng_below(&c->rng, (uint32_t)BASE_MIN(c->n_pieces, (size_t)UINT32_MAX));
    while (c->next >= c->first[c->part + 1]) c->part++;
}

rotor_status run_check_create(run_engine *e, rotor_error *err) {
    struct run_check *c = base_alloc(sizeof *c);
    if (!c) return base_fail_nomem(err, "preparing the self-check");
    e->check = c;
    c->rows.share = c->sums.share = e->opt.self_check < 1 ? (double)e->opt.self_check / 2 : 1;
    c->row_ns = c->piece_ns = GUESS_NS;
    base_rng_seed(&c->rng, base_random_seed());
    ROTOR_TRY(make_sums(c, e, err));
    begin_anywhere(c);
    return ROTOR_OK;
}

void run_check_free(struct run_check **pc) {
    if (!*pc) return;
    run_free_parts(&(*pc)->parts);
    base_free((*pc)->sum);
    base_free((*pc)->first);
    base_free(*pc);
    *pc = NULL;
}

/* ==== What was found ========================================================================== */

/* "tensor blk.3.attn_q.weight, layer 3". */
static void put_part(base_buf *b, const run_part *part) {
    if (!part)
        base_buf_puts(b, "a product");
    else if (part->layer == UINT32_MAX)
        base_buf_printf(b, "tensor %s", part->name);
    else
        base_buf_printf(b, "tensor %s, layer %u", part->name, part->layer);
}

/* Where what is no number may come from. */
static void put_cause(base_buf *b, const run_parts *parts) {
    run_bad bad;
    if (!run_find_bad(parts, &bad)) {
        base_buf_puts(b, "; all weights are numbers: an activation has left the range of floats, "
                         "or memory is damaged");
        return;
    }
    base_buf_puts(b, "; ");
    put_part(b, bad.part);
    base_buf_printf(b, ", row %zu, column %zu is %g", bad.row, bad.col, (double)bad.value);
}

/* Says it, and keeps the first. */
static rotor_status fail(run_engine *e, base_buf *what, rotor_error *err) {
    struct run_check *c = e->check;
    const char *line = what->data ? what->data : "out of memory";
    if (!c->st.faults++) snprintf(c->st.fault, sizeof c->st.fault, "%s", line);
    if (c->wrong) snprintf(c->why, sizeof c->why, "%s", line);
    rotor_status st = base_fail(err, ROTOR_E_DEVICE, "%s", line);
    base_buf_free(what);
    return st;
}

static void begin_line(base_buf *b, const struct run_check *c) {
    base_buf_printf(b, "self-check, step %llu: ", (unsigned long long)c->st.steps);
}

/* ==== Products ================================================================================ */

static rotor_status check_products(run_engine *e, rotor_error *err) {
    struct run_check *c = e->check;
    dev_fault f;
    base_buf b = {0};
    if (!dev_check_fault(e->d, &f)) return ROTOR_OK;
    const run_part *part = run_part_at(&c->parts, f.row);
    begin_line(&b, c);
    put_part(&b, part);
    if (f.input || f.agreed) {
        base_buf_printf(&b, ": %s %zu of row %u is %g, expected a number",
                        f.input ? "input" : "output", f.at, f.token, (double)f.got);
        put_cause(&b, &c->parts);
        return fail(e, &b, err);
    }
    c->wrong = true;
    base_buf_printf(&b,
                    ": output %zu of row %u is %.9g, expected %.9g as the C kernel has it; a "
                    "kernel is wrong on this machine, or memory is damaged",
                    f.at, f.token, (double)f.got, (double)f.expected);
    return fail(e, &b, err);
}

/* ==== Logits ================================================================================== */

/* A row of numbers that a name stands for. */
static rotor_status check_row(run_engine *e, const char *name, uint32_t row, const float *x,
                              size_t n, rotor_error *err) {
    struct run_check *c = e->check;
    base_buf b = {0};
    const size_t at =
        x ? dev_first_unusable(x, n) : n; /* NULL: the device has failed, see fallback.c */
    c->st.values += x ? n : 0;
    if (at == n) return ROTOR_OK;
    begin_line(&b, c);
    base_buf_printf(&b, "%s %zu of row %u is %g, expected a number", name, at, row, (double)x[at]);
    put_cause(&b, &c->parts);
    return fail(e, &b, err);
}

/* All logits; of a head in stages what goes into it. */
static rotor_status check_logits(run_engine *e, rotor_error *err) {
    const model_hparams *hp = &e->m->hp;
    for (uint32_t i = 0; i < e->n_picked; i++) {
        e->check->st.logits++;
        if (e->staged)
            ROTOR_TRY(check_row(e, "input of the head", i, dev_read(e->d, e->buf.px, i), hp->n_embd,
                                err));
        else
            ROTOR_TRY(check_row(e, "logit", i, dev_read(e->d, e->buf.logits, i), hp->n_vocab, err));
    }
    return ROTOR_OK;
}

/* ==== Weights ================================================================================= */

/* How many pieces are looked at after a step that took so long: what can be paid, but not much more
 * than the step's own share, so that one step does not wait for all that others have saved. */
static size_t pieces_now(const struct run_check *c, uint64_t left_ns, uint64_t step_ns) {
    if (c->sums.share >= 1) return c->n_pieces / WHOLE_STEPS + 1;
    const size_t most = run_allowance_units(left_ns, c->piece_ns, MOST_PIECES);
    const double own_ns = 2 * c->sums.share * (double)step_ns;
    return BASE_MIN(most, run_allowance_units((uint64_t)own_ns, c->piece_ns, MOST_PIECES) + 1);
}

static rotor_status check_piece(run_engine *e, rotor_error *err) {
    struct run_check *c = e->check;
    size_t bytes;
    const uint64_t got = sum_piece(c, c->part, c->next, &bytes);
    const size_t piece = c->next;
    const run_part *part = &c->parts.list[c->part];
    const uint64_t at = (uint64_t)(piece - c->first[c->part]) * PIECE_BYTES;
    c->st.weight_bytes += bytes;
    if (++c->next == c->n_pieces) c->next = c->part = 0;
    while (c->next >= c->first[c->part + 1]) c->part++;
    if (got == c->sum[piece]) return ROTOR_OK;
    base_buf b = {0};
    c->wrong = true;
    begin_line(&b, c);
    put_part(&b, part);
    base_buf_printf(&b,
                    ": bytes %llu to %llu have the checksum %016llx, expected %016llx as when it "
                    "was loaded; the file was changed, or memory is damaged",
                    (unsigned long long)at, (unsigned long long)(at + bytes - 1),
                    (unsigned long long)got, (unsigned long long)c->sum[piece]);
    return fail(e, &b, err);
}

static rotor_status check_weights(run_engine *e, size_t n, rotor_error *err) {
    struct run_check *c = e->check;
    const uint64_t start = base_now_ns();
    n = BASE_MIN(n, c->n_pieces);
    for (size_t i = 0; i < n; i++) ROTOR_TRY(check_piece(e, err));
    if (n) learn(&c->piece_ns, base_now_ns() - start, n);
    return ROTOR_OK;
}

/* ==== A step ================================================================================== */

/* Begins on a device that was not checked before. */
static void take_device(run_engine *e) {
    struct run_check *c = e->check;
    if (c->d == e->d) return;
    c->past.products += c->before.products;
    c->past.rows += c->before.rows;
    c->past.macs += c->before.macs;
    c->past.values += c->before.values;
    c->before = (dev_check_stats){0};
    c->d = e->d;
    if (dev_check_start(e->d, NULL) != ROTOR_OK)
        base_log_printf(e->opt.log, BASE_LOG_WARN,
                        "self-check: no product of %s is done twice; logits and weights are "
                        "looked at",
                        dev_name(e->d));
}

rotor_status run_check_begin(run_engine *e, rotor_error *err) {
    struct run_check *c = e->check;
    if (c->wrong) return base_fail(err, ROTOR_E_DEVICE, "%s", c->why);
    take_device(e);
    c->st.steps++;
    c->begin_ns = base_now_ns();
    const size_t n =
        run_allowance_units(run_allowance_left(&c->rows), c->row_ns, dev_check_products(e->d));
    dev_check_arm(e->d, n, base_rng_u64(&c->rng));
    return ROTOR_OK;
}

rotor_status run_check_end(run_engine *e, rotor_error *err) {
    struct run_check *c = e->check;
    const uint64_t end = base_now_ns(), step_ns = end - c->begin_ns;
    const dev_check_stats now = dev_check_get(e->d);
    const uint64_t rows_ns = now.ns - c->before.ns;
    learn(&c->row_ns, rows_ns, now.rows - c->before.rows);
    c->before = now;
    rotor_status st = check_products(e, err);
    if (st == ROTOR_OK) st = check_logits(e, err);
    uint64_t spent = base_now_ns() - end;
    run_allowance_add(&c->rows, step_ns + spent, rows_ns);
    run_allowance_add(&c->sums, step_ns + spent, spent);
    if (st != ROTOR_OK) return st;
    const uint64_t start = base_now_ns();
    st = check_weights(e, pieces_now(c, run_allowance_left(&c->sums), step_ns), err);
    spent = base_now_ns() - start;
    run_allowance_add(&c->rows, spent, 0);
    run_allowance_add(&c->sums, spent, spent);
    return st;
}

bool run_check_get(const run_engine *e, run_check_stats *out) {
    const struct run_check *c = e->check;
    if (!c) return false;
    *out = c->st;
    out->products = c->past.products + c->before.products;
    out->macs = c->past.macs + c->before.macs;
    out->values += c->past.values + c->before.values;
    out->total_ns = c->sums.total_ns;
    out->spent_ns = c->sums.spent_ns + c->rows.spent_ns;
    return true;
}
