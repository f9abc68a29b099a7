/* SPDX-License-Identifier: MIT
 *
 * The CPU device: products done twice. A step's plan arms a few ops; whoever computes the chosen
 * row of an armed product computes it once more, with the C kernel and for one token, and compares
 * the bits: the numerics contract (docs/numerics.md) promises that every kernel gives those of the
 * C version, so that there is no tolerance to choose. Before that the input has to be numbers.
 *
 *     op armed -> row = seed mod rows, token = seed mod tokens
 *     y[token, row] of the step  ==  C kernel(w[row], x[token])     else: the fault of the step
 *
 * The check stands right behind the product, in the thread that made it: later the row may have
 * been added to others, and the input may be a scratch of that thread.
 *
 * Threading: armed and seed change between steps only; counters are atomic; the first thread that
 * finds a fault keeps it.
 */
#include "dev/cpu/dev_cpu.h"

#include <math.h>

enum { GROUP = 16 }; /* rows that some formats keep together */

struct cpu_check {
    kern k;                               /* the C kernels */
    bool *armed;                          /* [n_ops], owned */
    size_t *ops;                          /* [n] products that can be armed, owned */
    size_t n;                             /* how many */
    uint64_t seed;                        /* of the step */
    bool any;                             /* one is armed */
    atomic_flag found;                    /* somebody has written … */
    dev_fault fault;                      /* … this … */
    atomic_bool has_fault;                /* … and it is whole */
    atomic_ullong products, rows, values; /* done so far */
    atomic_ullong macs, ns;               /* likewise */
};

void cpu_check_free(struct cpu_check **pc) {
    if (!*pc) return;
    base_free((*pc)->armed);
    base_free((*pc)->ops);
    base_free(*pc);
    *pc = NULL;
}

rotor_status cpu_check_start(dev *base, rotor_error *err) {
    dev_cpu *d = (dev_cpu *)base;
    cpu_check_free(&d->check);
    struct cpu_check *c = base_alloc(sizeof *c);
    if (c) c->armed = base_alloc_array(d->n_ops, sizeof *c->armed);
    if (c) c->ops = base_alloc_array(d->n_ops, sizeof *c->ops);
    if (!c || !c->armed || !c->ops) {
        cpu_check_free(&c);
        return base_fail_nomem(err, "checking products");
    }
    kern_init(&c->k, 0);
    atomic_flag_clear(&c->found);
    for (size_t i = 0; i < d->n_ops; i++)
        if (cpu_is_product(&d->ops[i])) c->ops[c->n++] = i;
    d->check = c;
    return ROTOR_OK;
}

size_t cpu_check_products(const dev *base) {
    const dev_cpu *d = (const dev_cpu *)base;
    return d->check ? d->check->n : 0;
}

/* n different ones: the first n of a shuffled list, which stays shuffled. */
void cpu_check_arm(dev *base, size_t n, uint64_t seed) {
    dev_cpu *d = (dev_cpu *)base;
    struct cpu_check *c = d->check;
    base_rng rng;
    if (!c) return;
    if (c->any) memset(c->armed, 0, d->n_ops * sizeof *c->armed);
    base_rng_seed(&rng, seed);
    n = BASE_MIN(n, c->n);
    for (size_t i = 0; i < n; i++) {
        const size_t j = i + base_rng_below(&rng, (uint32_t)(c->n - i)), op = c->ops[j];
        c->ops[j] = c->ops[i];
        c->ops[i] = op;
        c->armed[op] = true;
    }
    c->any = n > 0;
    c->seed = base_rng_u64(&rng);
    atomic_flag_clear(&c->found);
    atomic_store(&c->has_fault, false);
}

bool cpu_check_fault(const dev *base, dev_fault *out) {
    const struct cpu_check *c = ((const dev_cpu *)base)->check;
    if (!c || !atomic_load(&c->has_fault)) return false;
    *out = c->fault;
    return true;
}

dev_check_stats cpu_check_get(const dev *base) {
    const struct cpu_check *c = ((const dev_cpu *)base)->check;
    if (!c) return (dev_check_stats){0};
    return (dev_check_stats){.products = atomic_load(&c->products),
                             .rows = atomic_load(&c->rows),
                             .macs = atomic_load(&c->macs),
                             .values = atomic_load(&c->values),
                             .ns = atomic_load(&c->ns)};
}

static void keep_fault(struct cpu_check *c, dev_fault f) {
    if (atomic_flag_test_and_set(&c->found)) return;
    c->fault = f;
    atomic_store(&c->has_fault, true);
}

/* One token of an activation of either form. */
static kern_act one_token(const kern_act *x, size_t t, bool by_row) {
    return (kern_act){.x = x->x ? x->x + t * x->ldx : NULL,
                      .ldx = x->ldx,
                      .q = x->q ? x->q + t * x->ldq : NULL,
                      .ldq = x->ldq,
                      .s = x->s ? x->s + (by_row ? t : t * (x->ldq / 32)) : NULL,
                      .sum = x->sum ? x->sum + t : NULL,
                      .sum16 = x->sum16 ? x->sum16 + t * (x->ldq / 16) : NULL,
                      .n_tok = 1};
}

/* Row r of w times x by the C kernel, with the group of rows that a format keeps together. */
static float by_the_book(const dev_cpu *d, const kern_mat *w, const kern_act *x, size_t r) {
    const size_t first = r / GROUP * GROUP;
    float y[GROUP];
    kern_mat group = *w;
    group.data = w->data + first * w->row_bytes;
    group.rows = BASE_MIN(w->rows - first, (size_t)GROUP);
    if (w->row_scale) group.row_scale = w->row_scale + first;
    const bool apart = w->type != KERN_Q8X16 && w->type != KERN_F32X16;
    const size_t begin = apart ? r - first : 0, end = apart ? begin + 1 : group.rows;
    cpu_product_of(d, &d->check->k, &group, 1)(y, GROUP, &group, x, begin, end);
    return y[r - first];
}

void cpu_check_rows(const dev_cpu *d, const dev_op *op, const kern_mat *w, const kern_act *x,
                    bool floats, const cpu_out *y, size_t begin, size_t end) {
    struct cpu_check *c = d->check;
    const size_t row = (size_t)(c->seed % w->rows), t = (size_t)((c->seed >> 32) % x->n_tok);
    if (!c->any || !c->armed[op - d->ops] || row < begin || row >= end) return;
    const uint64_t start = base_now_ns();
    const bool ternary = w->type == QUANT_I2_S || w->type == QUANT_T5;
    const kern_act one = one_token(x, t, ternary);
    dev_fault f = {.row = w->data + row / GROUP * GROUP * w->row_bytes, .token = (uint32_t)t};
    f.at = floats ? dev_first_unusable(one.x, w->cols) : w->cols;
    f.input = f.at < w->cols;
    f.got = f.input ? one.x[f.at] : y->y[t * y->ld + row];
    f.expected = f.input ? 0 : by_the_book(d, w, &one, row);
    if (!f.input) f.at = row;
    const bool same =
        !memcmp(&f.got, &f.expected, sizeof f.got) || (isnan(f.got) && isnan(f.expected));
    f.agreed = !f.input && same && dev_first_unusable(&f.got, 1) == 0;
    if (f.input || f.agreed || !same) keep_fault(c, f);
    atomic_fetch_add(&c->products, 1);
    atomic_fetch_add(&c->rows, 1);
    atomic_fetch_add(&c->macs, w->cols);
    atomic_fetch_add(&c->values, (floats ? w->cols : 0) + 1);
    atomic_fetch_add(&c->ns, base_now_ns() - start);
}
