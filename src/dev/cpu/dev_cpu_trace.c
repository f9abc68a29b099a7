/* SPDX-License-Identifier: MIT
 *
 * The CPU device: its ops in a trace. Threads look at the clock behind every op, or every piece of
 * one (dev_cpu_step.c, lap); pieces of an op that follow each other become one event here.
 */
#include "dev/cpu/dev_cpu.h"

/* What is known of an op before it runs. */
typedef struct told {
    const char *label; /* name of its first matrix, or NULL */
    uint64_t bytes;    /* of weights that it reads for one token */
} told;

struct cpu_trace {
    base_trace *t; /* borrowed */
    told *op;      /* [n_ops], owned */
};

void cpu_trace_free(struct cpu_trace **pt) {
    if (*pt) base_free((*pt)->op);
    base_free(*pt);
    *pt = NULL;
}

rotor_status cpu_trace_start(dev *base, base_trace *t, dev_name_of *name_of, const void *user,
                             rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    cpu_trace_free(&d->trace);
    ROTOR_TRY(cpu_time_ops(base, t != NULL, err));
    if (!t) return ROTOR_OK;
    struct cpu_trace *trace = base_alloc(sizeof *trace);
    if (trace) trace->op = base_alloc_array(d->n_ops, sizeof *trace->op);
    if (!trace || !trace->op) {
        cpu_trace_free(&trace);
        return base_fail_nomem(err, "tracing ops");
    }
    trace->t = t;
    for (size_t i = 0; i < d->n_ops; i++) {
        const dev_op *op = &d->ops[i];
        trace->op[i].bytes = cpu_weight_bytes(d, op);
        if (op->n_mats) trace->op[i].label = name_of(user, d->mats[op->w[0]].data);
    }
    d->trace = trace;
    return ROTOR_OK;
}

void cpu_trace_end(const dev_cpu *d, cpu_watch *w) {
    if (!w->open) return;
    const told *known = &d->trace->op[w->open - d->ops];
    const base_trace_event e = {.name = w->open_waits ? "wait" : dev_kind_name(w->open->kind),
                                .cat = w->open_waits ? "wait" : "op",
                                .label = known->label,
                                .start_ns = w->open_ns,
                                .end_ns = w->mark,
                                .bytes = w->open_waits ? 0 : known->bytes,
                                .layer = w->open->of_layer,
                                .id = BASE_TRACE_NONE,
                                .track = (uint16_t)(w - d->watches)};
    base_trace_add(d->trace->t, &e);
    w->open = NULL;
}

void cpu_trace_lap(const dev_cpu *d, cpu_watch *w, const dev_op *op, bool waiting, uint64_t now) {
    if (w->open == op && w->open_waits == waiting) return; /* it goes on */
    cpu_trace_end(d, w);
    if (now == w->mark) return;
    w->open = op;
    w->open_waits = waiting;
    w->open_ns = w->mark;
}
