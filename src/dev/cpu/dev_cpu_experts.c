/* SPDX-License-Identifier: MIT
 *
 * The CPU device: mixtures of experts. A token is sent to n_used experts; each is a slot, and slot
 * rows are sorted by expert, so that a product reads an expert's matrix once for all its tokens:
 *
 *   slot rows     | of expert 1: token 0, token 5 | of expert 4: token 0, token 2 … | …
 *   outputs       | active expert 0: rows of its matrix | active expert 1: … |   shared by threads
 *
 * Invariants: (X1) every token has n_used slot rows and every slot row one token; (X2) the slot
 * rows of active expert a are first[a] … first[a + 1] - 1, tokens ascending.
 */
#include "dev/cpu/dev_cpu.h"

#include <assert.h>

rotor_status cpu_route_alloc(dev_cpu *d, rotor_error *err) {
    const size_t n = (size_t)d->shape.max_rows * d->shape.n_used;
    cpu_route *r = &d->route;
    r->expert = base_alloc_array(n, sizeof *r->expert);
    r->weight = base_alloc_array(n, sizeof *r->weight);
    r->row = base_alloc_array(n, sizeof *r->row);
    r->token = base_alloc_array(n, sizeof *r->token);
    r->of_row = base_alloc_array(n, sizeof *r->of_row);
    r->active = base_alloc_array(d->shape.n_expert, sizeof *r->active);
    r->first = base_alloc_array((size_t)d->shape.n_expert + 1, sizeof *r->first);
    if (!r->expert || !r->weight || !r->row || !r->token || !r->of_row || !r->active || !r->first)
        return base_fail_nomem(err, "making room for the choice of experts");
    return ROTOR_OK;
}

void cpu_route_free(cpu_route *r) {
    base_free(r->expert);
    base_free(r->weight);
    base_free(r->row);
    base_free(r->token);
    base_free(r->of_row);
    base_free(r->active);
    base_free(r->first);
}

/* ==== Which experts =========================================================================== */

/* The n largest of x[n_x], best first, the lower index first among equals. */
static void largest(const float *x, uint32_t n_x, uint32_t n, uint32_t *index, float *value) {
    uint32_t have = 0;
    for (uint32_t i = 0; i < n_x; i++) {
        uint32_t at = have;
        while (at > 0 && x[i] > value[at - 1]) at--;
        if (at == n) continue;
        if (have < n) have++;
        for (uint32_t j = have - 1; j > at; j--) {
            index[j] = index[j - 1];
            value[j] = value[j - 1];
        }
        index[at] = i;
        value[at] = x[i];
    }
}

void cpu_choose(dev_cpu *d, const dev_op *op, size_t begin, size_t end) {
    const cpu_buf *logits = &d->bufs[op->src];
    const uint32_t n = d->shape.n_used;
    for (size_t t = begin; t < end; t++) {
        float *weight = d->route.weight + t * n;
        if (op->of_all) d->k->softmax(logits->x + t * logits->width, d->shape.n_expert);
        largest(logits->x + t * logits->width, d->shape.n_expert, n, d->route.expert + t * n,
                weight);
        if (!op->of_all) d->k->softmax(weight, n);
    }
}

/* A counting sort: first[] counts, becomes positions, is moved on by placing, and is set back. */
void cpu_share_out(dev_cpu *d, size_t n_tok) {
    cpu_route *r = &d->route;
    const uint32_t n_expert = d->shape.n_expert;
    const size_t n = n_tok * d->shape.n_used;
    uint32_t *count = r->first, at = 0;
    memset(count, 0, ((size_t)n_expert + 1) * sizeof *count);
    for (size_t i = 0; i < n; i++) count[r->expert[i]]++;
    for (uint32_t e = 0; e < n_expert; e++) {
        const uint32_t here = count[e];
        count[e] = at;
        at += here;
    }
    assert(at == n); /* X1 */
    for (size_t i = 0; i < n; i++) {
        const uint32_t e = r->expert[i], row = count[e]++;
        r->row[i] = row;
        r->token[row] = (uint32_t)(i / d->shape.n_used);
        r->of_row[row] = e;
    }
    r->n_active = 0;
    for (uint32_t row = 0; row < n; row++)
        if (row == 0 || r->of_row[row] != r->of_row[row - 1]) {
            r->active[r->n_active] = r->of_row[row];
            r->first[r->n_active++] = row;
        }
    r->first[r->n_active] = (uint32_t)n; /* X2 */
}

/* ==== Weights that memory does not hold ========================================================
 * The kernel's cache of the file is the cache of experts; it drops what was not used for longest.
 * Left to itself it would read around every page that is touched, most of which belongs to experts
 * that nobody asked for: so that is switched off, and whole matrices are asked for instead, all
 * those of a layer at once, when it is known which. */

static void advise_expert(dev_cpu *d, const kern_mat *w, uint32_t expert) {
    const size_t bytes = w->rows / d->shape.n_expert * w->row_bytes;
    base_advise(w->data + expert * bytes, bytes, BASE_WILL_NEED);
    d->base.counters.wanted += bytes;
}

void cpu_leave_experts(const dev_cpu *d) {
    for (size_t i = 0; i < d->n_ops; i++)
        for (int m = 0; d->ops[i].kind == DEV_EXPERTS && m < d->ops[i].n_mats; m++) {
            const kern_mat *w = &d->mats[d->ops[i].w[m]];
            base_advise(w->data, w->rows * w->row_bytes, BASE_HERE_AND_THERE);
        }
}

void cpu_want_experts(dev_cpu *d, const dev_op *route) {
    for (const dev_op *op = route + 1; op < d->ops + d->n_ops && op->kind != DEV_ROUTE; op++)
        for (int m = 0; op->kind == DEV_EXPERTS && m < op->n_mats; m++)
            for (uint32_t a = 0; a < d->route.n_active; a++)
                advise_expert(d, &d->mats[op->w[m]], d->route.active[a]);
}

/* ==== Rows to experts and back ================================================================ */

void cpu_gather_row(const dev_cpu *d, const dev_op *op, size_t row) {
    const cpu_buf *dst = &d->bufs[op->dst[0]], *src = &d->bufs[op->src];
    const size_t t = d->route.token[row], ldq = dst->ldq;
    if (!op->int8) {
        memcpy(dst->x + row * dst->width, src->x + t * src->width, dst->width * sizeof *dst->x);
        return;
    }
    assert(ldq == src->ldq);
    memcpy(dst->q + row * ldq, src->q + t * ldq, ldq);
    memcpy(dst->s + row * (ldq / 32), src->s + t * (ldq / 32), ldq / 32 * sizeof *dst->s);
    memcpy(dst->sum16 + row * (ldq / 16), src->sum16 + t * (ldq / 16),
           ldq / 16 * sizeof *dst->sum16);
}

void cpu_mix_row(const dev_cpu *d, const dev_op *op, size_t token) {
    const cpu_buf *dst = &d->bufs[op->dst[0]], *src = &d->bufs[op->src];
    const size_t n = d->shape.n_used;
    float *out = dst->x + token * dst->width;
    memset(out, 0, dst->width * sizeof *out);
    for (size_t i = token * n; i < (token + 1) * n; i++)
        d->k->add_scaled(out, src->x + d->route.row[i] * src->width, d->route.weight[i],
                         dst->width);
}

/* ==== Products ================================================================================ */

/* One expert's rows [begin, end) with the slot rows that are its own. */
static void expert_rows(const dev_cpu *d, const dev_op *op, int mat, uint32_t active, size_t begin,
                        size_t end) {
    const cpu_buf *src = &d->bufs[op->src], *dst = &d->bufs[op->dst[mat]];
    const size_t first = d->route.first[active], n = d->route.first[active + 1] - first;
    kern_mat w = d->mats[op->w[mat]];
    w.rows /= d->shape.n_expert;
    w.data += d->route.active[active] * w.rows * w.row_bytes;
    const kern_act x = {.x = src->x + first * src->width,
                        .ldx = src->width,
                        .q = src->q ? src->q + first * src->ldq : NULL,
                        .ldq = src->ldq,
                        .s = src->s ? src->s + first * (src->ldq / 32) : NULL,
                        .sum16 = src->sum16 ? src->sum16 + first * (src->ldq / 16) : NULL,
                        .n_tok = n};
    const cpu_out y = {dst->x + first * dst->width, dst->width};
    cpu_product_of(d, d->k, &w, n)(dst->x + first * dst->width, dst->width, &w, &x, begin, end);
    if (d->check) cpu_check_rows(d, op, &w, &x, false, &y, begin, end);
}

void cpu_experts_rows(const dev_cpu *d, const dev_op *op, size_t begin, size_t end) {
    const size_t rows = d->bufs[op->dst[0]].width;
    for (int m = 0; m < op->n_mats; m++)
        for (size_t at = begin, next; at < end; at = next) {
            const size_t active = at / rows;
            next = BASE_MIN(end, (active + 1) * rows);
            expert_rows(d, op, m, (uint32_t)active, at - active * rows, next - active * rows);
        }
}

void cpu_experts_bias(const dev_cpu *d, const dev_op *op, size_t begin, size_t end) {
    const cpu_buf *dst = &d->bufs[op->dst[0]];
    const size_t rows = dst->width;
    for (size_t at = begin, next; at < end; at = next) {
        const size_t active = at / rows, r = at - active * rows;
        next = BASE_MIN(end, (active + 1) * rows);
        d->k->add(dst->x + at, d->vecs[op->vec].v + d->route.active[active] * rows + r, next - at);
    }
}
