/* SPDX-License-Identifier: MIT
 *
 * checkern: compares every kernel of every CPU level with the C kernel, bit for bit.
 *
 * A checker fills inputs, runs the C table once and then each level's table on the same inputs,
 * and compares outputs by memcmp (two NaNs count as equal: their payload is not part of the
 * contract). Inputs end at an unreadable page and outputs stand between guard bytes, so a kernel
 * that reads or writes past its operands is caught too. Single-threaded, POSIX only.
 */
#ifndef CHECKERN_H
#define CHECKERN_H

#include "kern/kern.h"

#include <setjmp.h>

enum { MAX_LEVELS = 8, GUARD_BYTES = 64, SPACES = 8 };

/* One region of memory that ends at an unreadable page. */
typedef struct guarded {
    uint8_t *base;  /* first usable byte */
    uint8_t *end;   /* first unreadable byte */
    uint8_t *at;    /* current operand: [at, at + n_bytes) */
    size_t n_bytes; /* of the current operand */
} guarded;

typedef struct checker {
    kern ref;                          /* the C table */
    kern table[MAX_LEVELS];            /* what is compared with it */
    const char *level[MAX_LEVELS];     /* their names */
    size_t n_levels;                   /* tables in use */
    const char *only;                  /* slot to check, NULL: all */
    const char *slot;                  /* being checked now */
    guarded space[SPACES];             /* operand memory */
    base_rng rng;                      /* seeded once: runs repeat exactly */
    unsigned long n_compared, n_wrong; /* outputs */
    bool self_test;                    /* the first failure of a slot is enough … */
    jmp_buf noticed;                   /* … and goes here */
} checker;

/* How a case's numbers are chosen. */
typedef enum fill { FILL_RANDOM, FILL_ZERO, FILL_LOW, FILL_HIGH, FILL_ALTERNATE, FILL_KINDS } fill;
const char *fill_name(fill f);

void spaces_create(checker *c);
/* n bytes that end `gap` bytes before the unreadable page, with guard bytes in front (and in the
 * gap); filled with a pattern no result should contain. */
uint8_t *space_take(checker *c, size_t which, size_t n_bytes, size_t gap);
bool guards_intact(const guarded *g);

/* True when the slot is to be checked; remembers its name. */
bool slot_begin(checker *c, const char *slot);
/* Counts one comparison; on failure prints level, slot and the parameters. */
void slot_verdict(checker *c, size_t level, bool good, const char *fmt, ...) BASE_PRINTF(4, 5);
/* Equal bits, or both NaN, element by element; *at is the first difference. */
bool floats_equal(const float *a, const float *b, size_t n, size_t *at);

float random_float(checker *c); /* normal, scale varying with the draw */
void fill_floats(checker *c, float *x, size_t n, fill f);
void fill_ternary(checker *c, int8_t *t, size_t n,
                  fill f); /* FILL_LOW: all -1, FILL_HIGH: all +1 */
/* Random bytes with scales of a sane size; LOW and HIGH set every code bit to 0 and 1. */
void fill_blocks(checker *c, uint8_t *p, const quant_info *info, size_t n_blocks, fill f);

/* True for cases to leave out under a slow checker or an emulator (ROTOR_TEST_QUICK is set). */
bool too_long(size_t multiplications);
void check_products(checker *c);  /* matrix products */
void check_rows(checker *c);      /* quantisers, norms, activations, cache rows */
void check_attention(checker *c); /* attention */
void check_gemm(checker *c);      /* plain float products */
void check_head(checker *c);      /* the staged output head */
void check_scan(checker *c);      /* products of a query with rows of bytes */

/* Replaces slot i of *k by one that spoils the C result slightly; NULL past the last slot. */
const char *break_slot(kern *k, size_t i);

int run_bench(const checker *c, int n_threads);

#endif
