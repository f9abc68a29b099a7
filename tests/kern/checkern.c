/* SPDX-License-Identifier: MIT
 *
 * checkern: the program. With no arguments it checks every level this processor has.
 *   --cpu LEVEL   only that level        --slot NAME   only that slot
 *   --self-test   spoils one slot after another and demands that the checks notice
 *   --bench       times the slots instead        --threads N   for --bench
 *   --bench peak  only shares of the int8 peak, on one thread
 * Exit 0: all equal; 1: differences; 2: bad usage.
 */
#include "checkern.h"

#include <stdio.h>
#include <stdlib.h>

#include "cpu/cpu.h"

typedef struct options {
    const char *cpu;  /* level to restrict to */
    const char *slot; /* slot to restrict to */
    bool bench;       /* time instead of checking */
    bool self_test;   /* check the checker */
    int n_threads;    /* of the bench */
} options;

static bool parse(options *o, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const bool more = i + 1 < argc;
        if (!strcmp(argv[i], "--cpu") && more)
            o->cpu = argv[++i];
        else if (!strcmp(argv[i], "--slot") && more)
            o->slot = argv[++i];
        else if (!strcmp(argv[i], "--threads") && more)
            o->n_threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--self-test"))
            o->self_test = true;
        else if (!strcmp(argv[i], "--bench")) {
            o->bench = true;
            if (more && argv[i + 1][0] != '-') o->slot = argv[++i];
        } else
            return false;
    }
    return o->n_threads > 0;
}

/* Levels this processor runs in full, the C level included: it must equal itself. */
static void collect_levels(checker *c, const char *only) {
    const unsigned have = cpu_detect();
    unsigned mask;
    const char *name;
    for (size_t i = 0; (name = cpu_level_at(i, &mask)) != NULL; i++) {
        if (only && strcmp(only, name) != 0) continue;
        /* Some processors have AVX-512 VNNI but not its VEX form: those levels still hold. */
        if (mask & ~have & ~(unsigned)CPU_AVXVNNI) {
            printf("%-12s not on this processor\n", name);
            continue;
        }
        kern_init(&c->table[c->n_levels], mask & have);
        c->level[c->n_levels++] = name;
    }
}

bool too_long(size_t multiplications) {
    return multiplications > 70000 && getenv("ROTOR_TEST_QUICK") != NULL;
}

static void check_all(checker *c) {
    check_products(c);
    check_rows(c);
    check_attention(c);
    check_gemm(c);
    check_head(c);
    check_scan(c);
}

/* Whether the checks of a slot notice that it is broken. */
static bool notices(checker *c, const char *slot) {
    c->only = slot;
    if (setjmp(c->noticed)) return true;
    check_all(c);
    return false;
}

static int self_test(checker *c) {
    int missed = 0;
    const char *slot;
    c->self_test = true;
    c->n_levels = 1;
    c->level[0] = "broken";
    for (size_t i = 0; c->table[0] = c->ref, (slot = break_slot(&c->table[0], i)) != NULL; i++) {
        const bool noticed = notices(c, slot);
        printf("%-14s %s\n", slot, noticed ? "noticed" : "MISSED");
        missed += !noticed;
    }
    return missed ? 1 : 0;
}

int main(int argc, char **argv) {
    static checker c;
    options o = {.n_threads = base_cpu_count()};
    rotor_error err;
    unsigned mask;
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: checkern [--cpu LEVEL] [--slot NAME] [--self-test] "
                        "[--bench [SLOT]] [--threads N]\n");
        return 2;
    }
    if (o.cpu && cpu_parse_mask(o.cpu, &mask, &err) != ROTOR_OK) {
        fprintf(stderr, "checkern: %s\n", err.message);
        return 2;
    }
    kern_init(&c.ref, 0);
    base_rng_seed(&c.rng, 20);
    c.only = o.slot;
    collect_levels(&c, o.cpu);
    if (o.bench) return run_bench(&c, o.n_threads);
    spaces_create(&c);
    if (o.self_test) return self_test(&c);
    check_all(&c);
    printf("%zu levels up to %s: %lu outputs compared, %lu wrong\n", c.n_levels,
           c.n_levels ? c.level[c.n_levels - 1] : "none", c.n_compared, c.n_wrong);
    return c.n_wrong ? 1 : 0;
}
