/* SPDX-License-Identifier: MIT
 *
 * dev_internal: what a device implements. Each device embeds a struct dev as its first member.
 */
#ifndef DEV_INTERNAL_H
#define DEV_INTERNAL_H

#include "dev/dev.h"

typedef struct dev_vtable {
    void (*free)(dev *d); /* releases everything, the struct included */
    rotor_status (*add_mat)(dev *d, const kern_mat *w, dev_mat *out, rotor_error *err);
    rotor_status (*add_vec)(dev *d, const float *v, size_t n, dev_vec *out, rotor_error *err);
    rotor_status (*add_buf)(dev *d, size_t width, dev_rows rows, dev_buf *out, rotor_error *err);
    rotor_status (*record)(dev *d, const dev_op *ops, size_t n, rotor_error *err);
    rotor_status (*run)(dev *d, const dev_step *step, rotor_error *err);
    rotor_status (*submit)(dev *d, const dev_step *step, rotor_error *err); /* or NULL … */
    rotor_status (*wait)(dev *d, rotor_error *err);                         /* … with this */
    const float *(*read)(dev *d, dev_buf b, uint32_t row);
    /* The first n rows of a buffer that products, attention or sums have written, to the host; and
     * from there, before a step whose list reads them first. Rows stand close together. */
    rotor_status (*get_rows)(dev *d, dev_buf b, uint32_t n, float *dst, rotor_error *err);
    rotor_status (*put_rows)(dev *d, dev_buf b, uint32_t n, const float *src, rotor_error *err);
    void (*copy_page)(dev *d, bool ring, uint32_t dst_page, uint32_t src_page);
    /* One layer of a cache page to the host and from there, between steps: the keys of all KV
     * heads, then the values, blocks as in kern.h. */
    rotor_status (*get_page)(dev *d, uint32_t page, uint32_t layer, uint8_t *dst, rotor_error *err);
    rotor_status (*put_page)(dev *d, uint32_t page, uint32_t layer, const uint8_t *src,
                             rotor_error *err);
    uint64_t (*memory_bytes)(const dev *d);
    rotor_status (*time_ops)(dev *d, bool on, rotor_error *err);
    size_t (*op_times)(const dev *d, dev_op_time *out, size_t max);
    void (*product)(dev *d, dev_mat w, dev_buf src, dev_buf dst, uint32_t n_rows);
    /* The staged head; NULL where there is none. */
    rotor_status (*add_staged)(dev *d, const kern_mat *w, rotor_error *err);
    void (*screen)(dev *d, dev_buf src, uint32_t first, uint32_t n_rows);
    bool (*find)(dev *d, uint32_t row, const dev_want *want, dev_found *found);
    bool (*best)(dev *d, uint32_t row, uint32_t *id, float *value); /* or NULL */
    uint32_t (*top)(dev *d, uint32_t row, const uint32_t **pairs);  /* or NULL */
    bool (*chosen)(dev *d, uint32_t row, uint32_t *id);             /* or NULL */
    rotor_status (*trace)(dev *d, base_trace *t, dev_name_of *name_of, const void *user,
                          rotor_error *err); /* or NULL */
    /* Checks; all NULL where there are none. */
    rotor_status (*check_start)(dev *d, rotor_error *err);
    void (*check_arm)(dev *d, size_t n, uint64_t seed);
    size_t (*check_products)(const dev *d);
    bool (*check_fault)(const dev *d, dev_fault *out);
    dev_check_stats (*check_get)(const dev *d);
} dev_vtable;

/* Room for one element more in a list of n; the list grows by doubling. NULL: out of memory. */
static inline void *dev_list_grow(void *list, size_t n, size_t elem_bytes) {
    if (n & (n - 1)) return list; /* grows when n is 0 or a power of two */
    return base_realloc(list, (n ? 2 * n : 1) * elem_bytes);
}

/* Adds what a device that is part of another has counted, without steps. */
void dev_counters_add(dev_counters *sum, const dev *part);

/* What an op reads and writes: for those who put several ops into one. */
static inline bool dev_is_quant(dev_kind kind) {
    return kind == DEV_QUANT_I8 || kind == DEV_QUANT_Q8;
}
bool dev_op_reads(const dev_op *op, dev_buf b); /* b as floats or, by a product, its int8 form */
bool dev_op_writes(const dev_op *op, dev_buf b);

struct dev {
    const dev_vtable *vt;    /* the implementation */
    const char *name;        /* of the device, lives as long as it */
    dev_counters counters;   /* kept by the implementation */
    dev_staged_stats staged; /* likewise */
};

#endif
