/* SPDX-License-Identifier: MIT
 *
 * One step of a model, accounted for: how long each kind of op works, how long the threads wait for
 * each other behind it, and what it reads. The account is the device's own (dev_time_ops); ops of
 * all layers that do the same are one row of the table.
 *
 * Times are shares of the wall: what all threads spent, divided by their number, so that a row of
 * work that one thread does while another waits counts half as work and half as waiting, and the
 * rows add up to the step.
 */
#include "tool/tool.h"

#include "cpu/cpu.h"
#include "model/model.h"
#include "par/par.h"
#include "run/run.h"

typedef struct bench {
    const tool_step_options *opt; /* settings */
    model *m;                     /* the model, owned */
    par_pool *pool;               /* threads, owned */
    run_engine *e;                /* owned */
    run_session *s;               /* owned */
    run_row *rows;                /* [n_tok] one step, owned */
    dev_op_time *times;           /* [n_times] the account, owned */
    size_t n_times;               /* ops of the list */
    uint64_t n_steps;             /* timed */
} bench;

static void share(void *pool, void (*fn)(void *, int, int), void *arg) { par_run(pool, fn, arg); }

static rotor_status open_all(bench *b, const tool_source *src, rotor_error *err) {
    const tool_step_options *o = b->opt;
    unsigned mask = ~0u;
    if (o->cpu) ROTOR_TRY(cpu_parse_mask(o->cpu, &mask, err));
    ROTOR_TRY(par_create(&b->pool, BASE_MAX(o->n_threads, 1), false, err));
    const model_options mo = {.i2s = -1, .parallel = {share, b->pool}};
    ROTOR_TRY(src->path ? model_open(&b->m, src->path, &mo, err)
                        : model_open_memory(&b->m, src->data, src->n_bytes, src->name, &mo, err));
    const uint32_t max_tok = o->depth + o->n_tok * (o->repetitions + 1);
    const run_options ro = {.cpu = cpu_detect() & mask,
                            .kv = KERN_KV_F16,
                            .head = RUN_HEAD_Q8,
                            .chunk = BASE_MAX(o->n_tok, 256),
                            .n_pages = max_tok / KERN_KEYS + 1};
    ROTOR_TRY(run_create(&b->e, b->m, b->pool, &ro, err));
    ROTOR_TRY(run_session_create(&b->s, b->e, max_tok, err));
    b->rows = base_alloc_array(o->n_tok, sizeof *b->rows);
    return b->rows ? ROTOR_OK : base_fail_nomem(err, "measuring a step");
}

static rotor_status go_to_depth(bench *b, rotor_error *err) {
    const uint32_t n = b->opt->depth;
    if (n == 0) return ROTOR_OK;
    uint32_t *tokens = base_alloc_array(n, sizeof *tokens);
    if (!tokens) return base_fail_nomem(err, "measuring a step");
    rotor_status st = run_session_sync(b->s, tokens, n, NULL, NULL, NULL, err);
    base_free(tokens);
    return st;
}

/* A step of n_tok tokens that wants the logits of the last. */
static rotor_status step(bench *b, base_rng *rng, rotor_error *err) {
    const uint32_t n = b->opt->n_tok;
    for (uint32_t i = 0; i < n; i++)
        b->rows[i] = (run_row){b->s, base_rng_below(rng, b->m->hp.n_vocab), i + 1 == n};
    return run_eval(b->e, b->rows, n, err);
}

static rotor_status measure(bench *b, tool_step_report *r, rotor_error *err) {
    base_rng rng;
    base_rng_seed(&rng, 1);
    ROTOR_TRY(go_to_depth(b, err));
    ROTOR_TRY(step(b, &rng, err)); /* the first touches memory */
    ROTOR_TRY(run_time_ops(b->e, true, err));
    const uint64_t meetings = run_counters(b->e).meetings, start = base_now_ns();
    for (b->n_steps = 0; b->n_steps < b->opt->repetitions; b->n_steps++)
        ROTOR_TRY(step(b, &rng, err));
    r->step_us = (double)(base_now_ns() - start) / 1e3 / (double)b->n_steps;
    r->meetings = (double)(run_counters(b->e).meetings - meetings) / (double)b->n_steps;
    b->n_times = run_op_times(b->e, NULL, 0);
    b->times = base_alloc_array(b->n_times, sizeof *b->times);
    if (!b->times) return base_fail_nomem(err, "measuring a step");
    run_op_times(b->e, b->times, b->n_times);
    return ROTOR_OK;
}

static const char *product_name(const model *m, const dev_op_time *t) {
    const model_layer *l = &m->layers[0];
    const struct {
        const char *name;        /* of the table */
        size_t rows;             /* of all matrices together */
        const model_mat *matrix; /* one of them */
    } products[] = {{"attn q+k+v", l->q.rows + l->k.rows + l->v.rows, &l->q},
                    {"attn output", l->o.rows, &l->o},
                    {"ffn gate+up", l->gate.rows + l->up.rows, &l->gate},
                    {"ffn down", l->down.rows, &l->down},
                    {"router", l->router.rows, &l->router},
                    {"head", m->head.rows, &m->head}};
    for (size_t i = 0; i < BASE_COUNT(products); i++)
        if (products[i].rows == t->rows && products[i].matrix->cols == t->cols)
            return products[i].name;
    return "product";
}

static const char *op_name(const model *m, const dev_op_time *t) {
    const model_layer *l = &m->layers[0];
    static const char *const names[] = {[DEV_EMBED] = "embedding",
                                        [DEV_RMSNORM] = "norm",
                                        [DEV_BIAS] = "bias",
                                        [DEV_QUANT_I8] = "quantise",
                                        [DEV_QUANT_Q8] = "quantise",
                                        [DEV_ROPE] = "rotate",
                                        [DEV_KV_APPEND] = "store keys",
                                        [DEV_ATTENTION] = "attention",
                                        [DEV_GLU] = "gate",
                                        [DEV_ADD] = "add",
                                        [DEV_PICK] = "pick",
                                        [DEV_ROUTE] = "route",
                                        [DEV_GATHER] = "gather",
                                        [DEV_MIX] = "mix",
                                        [DEV_CAP] = "cap",
                                        [DEV_ADD_GATED] = "gated add"};
    if (t->kind == DEV_EXPERTS)
        return t->rows == l->down.rows / m->hp.n_expert ? "experts down" : "experts g+u";
    if (t->kind == DEV_MATMUL) return product_name(m, t);
    return t->kind < BASE_COUNT(names) && names[t->kind] ? names[t->kind] : "op";
}

static bool same_work(const dev_op_time *a, const dev_op_time *b) {
    return a->kind == b->kind && a->rows == b->rows && a->cols == b->cols;
}

/* Each kind once, in the order of its first op. */
static void report(bench *b, const tool_step_report *r,
                   void (*fn)(void *user, const tool_step_op *op), void *user) {
    const double per_us = 1e3 * (double)b->n_steps * par_n_threads(b->pool);
    for (size_t i = 0; i < b->n_times; i++) {
        dev_op_time sum = b->times[i];
        bool first = true;
        for (size_t j = 0; j < i && first; j++) first = !same_work(&b->times[j], &sum);
        if (!first) continue;
        sum.bytes *= sum.calls;
        for (size_t j = i + 1; j < b->n_times; j++) {
            const dev_op_time *t = &b->times[j];
            if (!same_work(t, &sum)) continue;
            sum.bytes += t->bytes * t->calls;
            sum.calls += t->calls;
            sum.work_ns += t->work_ns;
            sum.wait_ns += t->wait_ns;
        }
        tool_step_op op = {.name = op_name(b->m, &sum),
                           .calls = (double)sum.calls / (double)b->n_steps,
                           .work_us = (double)sum.work_ns / per_us,
                           .wait_us = (double)sum.wait_ns / per_us,
                           .bytes = sum.bytes / b->n_steps};
        op.share = (op.work_us + op.wait_us) / r->step_us;
        op.gb_per_s = op.work_us > 0 ? (double)op.bytes / op.work_us / 1e3 : 0;
        fn(user, &op);
    }
}

rotor_status tool_bench_step(const tool_source *src, const tool_step_options *opt,
                             void (*fn)(void *user, const tool_step_op *op), void *user,
                             tool_step_report *r, rotor_error *err) {
    bench b = {.opt = opt};
    rotor_status st = open_all(&b, src, err);
    if (st == ROTOR_OK) st = measure(&b, r, err);
    if (st == ROTOR_OK) report(&b, r, fn, user);
    base_free(b.times);
    base_free(b.rows);
    run_session_free(&b.s);
    run_free(&b.e);
    model_close(&b.m);
    par_free(&b.pool);
    return st;
}
