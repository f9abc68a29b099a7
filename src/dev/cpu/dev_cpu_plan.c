/* SPDX-License-Identifier: MIT
 *
 * The CPU device: the plan of a step with one row.
 *
 * A meeting of threads costs about as much as a norm. So the op list is cut into phases, with one
 * meeting after each:
 *
 *   | row work every thread does for itself | one op shared by all | row work on one's own results
 * |
 *
 * Before a product the threads all norm and quantise the same row, each into its own scratch: the
 * reduction cannot be shared out anyway (docs/numerics.md), and what is left is less than a
 * meeting. Before attention each thread norms, rotates and stores the heads it is going to attend
 * with. Behind a product the bias, the gate or the residual sum of an output needs nothing but that
 * output. Whatever does not fit becomes a phase of row work alone, done by one thread.
 *
 * A phase may not change what another thread still reads. (P1) No result of a phase is the row its
 * own work starts from; (P2) a row that is only kept in scratches is read by nobody later.
 */
#include "dev/cpu/dev_cpu.h"

#include <assert.h>

/* ==== Who reads and writes what =============================================================== */

/* Whether b, as it is before op `from`, is read from there on. Rows with logits may also be read
 * by the caller. */
static bool read_later(const dev_cpu *d, size_t from, dev_buf b) {
    for (size_t i = from; i < d->n_ops; i++) {
        if (dev_op_reads(&d->ops[i], b)) return true;
        if (dev_op_writes(&d->ops[i], b)) return false;
    }
    return d->bufs[b].kind == DEV_PICKED;
}

/* ==== Borders of a phase ====================================================================== */

/* A bias that is another one for each row. */
static bool by_row(const dev_op *op) { return op->by_pos || op->by_type; }

/* First op of the row work in front of product `main` that every thread can do for itself. */
static size_t own_before_product(const dev_cpu *d, size_t begin, size_t main) {
    const dev_op *op = &d->ops[main];
    size_t at = main;
    dev_buf from = op->src;
    if (at > begin && dev_is_quant(d->ops[at - 1].kind) && d->ops[at - 1].src == op->src) at--;
    size_t norm = at;
    if (norm > begin && d->ops[norm - 1].kind == DEV_BIAS && !by_row(&d->ops[norm - 1]) &&
        d->ops[norm - 1].dst[0] == op->src)
        norm--;
    if (norm > begin && d->ops[norm - 1].kind == DEV_RMSNORM && d->ops[norm - 1].n_heads == 0 &&
        d->ops[norm - 1].dst[0] == op->src)
        from = d->ops[at = norm - 1].src;
    if (at == main || dev_op_writes(op, from)) return main; /* P1 */
    return read_later(d, main + 1, op->src) ? main : at;    /* P2 */
}

/* The same in front of attention: norms, rotation and storing, head by head. */
static size_t own_before_attention(const dev_cpu *d, size_t begin, size_t main) {
    const dev_op *op = &d->ops[main], *append = &d->ops[main - 1];
    size_t at = main;
    if (at == begin || append->kind != DEV_KV_APPEND || append->layer != op->layer) return main;
    for (at--; at > begin; at--) {
        const dev_op *b = &d->ops[at - 1];
        bool by_head =
            b->kind == DEV_ROPE || (b->kind == DEV_RMSNORM && b->n_heads && b->dst[0] == b->src);
        if (!by_head || (b->dst[0] != op->src && b->dst[0] != append->src)) break;
    }
    return at;
}

/* Whether row op `op` behind product `main` needs only rows a thread has just made. */
static bool fits_behind(const dev_cpu *d, const dev_op *main, const dev_op *op) {
    const dev_buf dst = op->dst[0];
    switch (op->kind) {
    case DEV_BIAS:
        return dev_op_writes(main, dst) && !by_row(op);
    case DEV_ADD:
        return main->kind == DEV_MATMUL && main->n_mats == 1 && op->src == main->dst[0] &&
               dst != op->src;
    case DEV_GLU:
        if (op->src2 == DEV_NONE) return main->n_mats == 1 && dst == main->dst[0] && op->src == dst;
        return main->n_mats == 2 && dst == main->dst[0] && op->src == dst &&
               op->src2 == main->dst[1] && d->bufs[dst].width == d->bufs[op->src2].width;
    default:
        return false;
    }
}

/* One past the row work behind product `main`, whose threads start from buffer `from`. */
static size_t own_behind(const dev_cpu *d, size_t main, dev_buf from) {
    size_t at = main + 1;
    for (; at < d->n_ops && cpu_same_rows(&d->ops[at], &d->ops[main]); at++)
        if (!fits_behind(d, &d->ops[main], &d->ops[at]) || d->ops[at].dst[0] == from) /* P1 */
            break;
    return at;
}

/* ==== The plan ================================================================================ */

/* Rows of product `op` that make a chunk, in units of 16. */
static size_t chunk_rows(const dev_cpu *d, const dev_op *op, bool apart) {
    size_t row_bytes = 0;
    for (int i = 0; i < (apart ? op->n_mats : 1); i++) row_bytes += d->mats[op->w[i]].row_bytes;
    return BASE_MAX((CPU_CHUNK_BYTES / row_bytes + 15) / 16 * 16, (size_t)16);
}

static void add_phase(dev_cpu *d, cpu_phase ph) {
    ph.apart = ph.main < ph.end && d->ops[ph.main].kind == DEV_EXPERTS;
    for (size_t i = ph.main + 1; i < ph.end; i++)
        if (d->ops[i].kind == DEV_GLU) ph.apart = true;
    if (ph.main < ph.end && cpu_is_product(&d->ops[ph.main])) {
        ph.chunk = chunk_rows(d, &d->ops[ph.main], ph.apart);
        ph.set = d->n_products++ % 2;
    }
    if (!d->ops[ph.begin].picked) d->first_picked = d->n_phases + 1;
    d->phases[d->n_phases++] = ph;
}

/* The phase of the shared op at `main`, row work since `begin` included as far as it fits. */
static size_t add_shared(dev_cpu *d, size_t begin, size_t main) {
    const dev_kind kind = d->ops[main].kind;
    const size_t own = kind == DEV_MATMUL      ? own_before_product(d, begin, main)
                       : kind == DEV_ATTENTION ? own_before_attention(d, begin, main)
                                               : main;
    if (own > begin) add_phase(d, (cpu_phase){.begin = begin, .main = own, .end = own});
    const dev_buf from = d->ops[own].src;
    const size_t end = cpu_is_product(&d->ops[main]) ? own_behind(d, main, from) : main + 1;
    add_phase(d, (cpu_phase){.begin = own, .main = main, .end = end});
    return end;
}

/* Threads make the angles of rotations as a step begins: they are ready one meeting later. */
static bool rotates_at_once(const dev_cpu *d) {
    for (size_t i = 0; i < d->n_ops && cpu_is_row_op(&d->ops[i]); i++)
        if (d->ops[i].kind == DEV_ROPE) return true;
    return false;
}

void cpu_plan(dev_cpu *d) {
    assert(d->n_ops && !rotates_at_once(d));
    d->n_phases = d->first_picked = 0;
    d->n_products = 0;
    for (size_t i = 0; i < d->n_ops;) {
        const size_t begin = i;
        while (i < d->n_ops && cpu_is_row_op(&d->ops[i]) &&
               cpu_same_rows(&d->ops[i], &d->ops[begin]))
            i++;
        if (i < d->n_ops && !cpu_is_row_op(&d->ops[i]) && cpu_same_rows(&d->ops[i], &d->ops[begin]))
            i = add_shared(d, begin, i);
        else
            add_phase(d, (cpu_phase){.begin = begin, .main = i, .end = i});
    }
}
