/* SPDX-License-Identifier: MIT
 *
 * This machine's ceilings, measured: how fast all threads together read memory, and how many int8
 * and f32 multiply-adds they do.
 *
 * Memory is shared with whoever else is on the machine and drifts within seconds, so a figure
 * belongs to the moment it was taken in: who compares takes a sample before and after every run of
 * his own (tool_probe_take) and divides by its neighbours.
 *
 * What makes a sample honest: the memory is a gibibyte, several times the largest cache, and each
 * sample reads all of it; its threads are pinned, stay alive between samples, read what they have
 * written themselves (untouched pages would be one page of zeros) and run once unmeasured before
 * the clock starts; a sample lasts tens of milliseconds, many time slices of the system. A sample
 * is the mean over its length, as a run is: the best moment would flatter the machine, and a run
 * that is compared with it would look worse than it is.
 */
#include "tool/tool.h"

#include "cpu/cpu.h"
#include "kern/kern.h"
#include "par/par.h"

#include <stdio.h>

static void list_levels(tool_machine *m) {
    const unsigned here = cpu_detect();
    const char *name;
    unsigned mask;
    size_t n = 0;
    for (size_t i = 0; (name = cpu_level_at(i, &mask)); i++) {
        if (strcmp(cpu_level_name(here & mask), name) != 0) continue;
        int more =
            snprintf(m->cpu_levels + n, sizeof m->cpu_levels - n, "%s%s", n ? " " : "", name);
        n = BASE_MIN(n + (size_t)BASE_MAX(more, 0), sizeof m->cpu_levels - 1);
    }
}

void tool_machine_get(tool_machine *m) {
    memset(m, 0, sizeof *m);
    list_levels(m);
    cpu_model_name(m->cpu_name, sizeof m->cpu_name);
    m->cpu_level = cpu_level_name(cpu_detect());
    m->n_cpus = base_cpu_count();
    m->memory_bytes = base_total_memory_bytes();
    m->available_bytes = base_available_memory_bytes();
    m->cache_bytes = base_cache_bytes();
}

enum {
    MAX_THREADS = 1024,
    READ_US = 80000,       /* a sample reads the memory as often as fits in this, at least once */
    PEAK_US = 40000,       /* a sample of arithmetic lasts about so long */
    WARM_ROUNDS = 1 << 14, /* unmeasured: wakes the threads and the clock */
    SETTLE_US = 2000       /* after it: other pools' threads stop spinning within this */
};

struct tool_probe {
    int n_threads;                 /* of the pool */
    par_pool *pool;                /* pinned, kept between samples, owned */
    unsigned cpu;                  /* CPU_* flags */
    uint64_t *data;                /* memory to read, owned */
    size_t n_words;                /* of data */
    tool_ceiling what;             /* being sampled */
    uint64_t rounds;               /* of the arithmetic loop, this time */
    double best[TOOL_N_CEILINGS];  /* most rounds of the loop in a microsecond so far; 0: unknown */
    uint64_t macs[MAX_THREADS];    /* multiply-adds of each thread, this time */
    uint64_t wall_us[MAX_THREADS]; /* time of each thread in this sample */
    uint64_t ran_us[MAX_THREADS];  /* of which it had a processor */
    uint64_t sink_read[MAX_THREADS]; /* results nobody needs */
    uint32_t sink_int8[MAX_THREADS]; /* likewise */
    float sink_f32[MAX_THREADS];     /* likewise */
    double rate;                     /* result: billions of bytes or multiply-adds a second */
};

/* ==== On every thread ========================================================================= */

static void touch(void *arg, int thread, int n_threads) {
    tool_probe *p = arg;
    size_t begin, end;
    par_slice(p->n_words, 512, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++) p->data[i] = i;
}

static void read_slice(tool_probe *p, int thread) {
    size_t begin, end;
    par_slice(p->n_words, 512, thread, p->n_threads, &begin, &end);
    p->sink_read[thread] |=
        kern_plain_read(p->cpu, p->data + begin, (end - begin) * sizeof *p->data);
}

/* The job of a sample, with its clock. */
static void work(void *arg, int thread, int n_threads) {
    tool_probe *p = arg;
    uint64_t start = base_now_us(), ran = base_thread_cpu_us();
    (void)n_threads;
    if (p->what == TOOL_READ)
        read_slice(p, thread);
    else
        p->macs[thread] = p->what == TOOL_INT8
                              ? kern_int8_peak(p->cpu, p->rounds, &p->sink_int8[thread])
                              : kern_f32_peak(p->cpu, p->rounds, &p->sink_f32[thread]);
    p->wall_us[thread] += base_now_us() - start;
    p->ran_us[thread] += base_thread_cpu_us() - ran;
}

/* ==== One sample ============================================================================== */

static uint64_t run_multiply(tool_probe *p, uint64_t rounds, uint64_t *us) {
    uint64_t macs = 0, start = base_now_us();
    p->rounds = rounds;
    par_run(p->pool, work, p);
    *us = BASE_MAX(base_now_us() - start, 1);
    for (int t = 0; t < p->n_threads; t++) macs += p->macs[t];
    return macs;
}

/* How long a sample takes follows from the fastest run there was: one that others disturbed looks
 * slow, and a sample made short for it would fit between two disturbances. */
static void sample_arithmetic(tool_probe *p) {
    double *best = &p->best[p->what];
    uint64_t us, macs, rounds = WARM_ROUNDS;
    for (; *best == 0 || (double)rounds < *best * PEAK_US / 8; rounds *= 2) {
        run_multiply(p, rounds, &us);
        *best = BASE_MAX(*best, (double)rounds / (double)us);
    }
    rounds = BASE_MAX((uint64_t)(*best * PEAK_US), 1);
    macs = run_multiply(p, rounds, &us);
    *best = BASE_MAX(*best, (double)rounds / (double)us);
    p->rate = (double)macs / (double)us / 1e3;
}

static void sample_read(tool_probe *p) {
    uint64_t start = base_now_us(), us = 0, passes = 0;
    for (; us < READ_US; passes++, us = BASE_MAX(base_now_us() - start, 1))
        par_run(p->pool, work, p);
    p->rate = (double)(passes * p->n_words * sizeof *p->data) / (double)us / 1e3;
}

/* The pool's thread 0. A thread of its own, so that the caller's stays free to move. */
static void sample(void *arg) {
    tool_probe *p = arg;
    tool_ceiling what = p->what;
    uint64_t us;
    base_thread_pin(0);
    p->what = TOOL_INT8;
    run_multiply(p, WARM_ROUNDS, &us);
    p->what = what;
    if (what == TOOL_READ)
        sample_read(p);
    else
        sample_arithmetic(p);
}

static void fill(void *arg) {
    tool_probe *p = arg;
    base_thread_pin(0);
    par_run(p->pool, touch, p);
}

static rotor_status on_thread(tool_probe *p, void (*fn)(void *), rotor_error *err) {
    base_thread *thread = NULL;
    if (base_thread_start(&thread, fn, p) != ROTOR_OK)
        return base_fail(err, ROTOR_E_NOMEM, "cannot start a thread to measure with");
    base_thread_join(&thread);
    return ROTOR_OK;
}

/* ==== The probe =============================================================================== */

rotor_status tool_probe_create(tool_probe **out, int n_threads, size_t read_bytes,
                               rotor_error *err) {
    const size_t most = (size_t)1 << 30, least = (size_t)64 << 20, page = 4096;
    size_t bytes = (size_t)BASE_MIN(base_available_memory_bytes() / 4, most);
    if (read_bytes) bytes = read_bytes;
    bytes = BASE_MAX(bytes / page * page, read_bytes ? page : least);
    tool_probe *p = base_alloc(sizeof *p);
    if (!p) return base_fail_nomem(err, "measuring this machine");
    p->n_threads = BASE_MAX(1, BASE_MIN(n_threads, MAX_THREADS));
    p->cpu = cpu_detect();
    p->n_words = bytes / sizeof *p->data;
    rotor_status st = par_create(&p->pool, p->n_threads, true, err);
    if (st == ROTOR_OK && !(p->data = base_alloc_aligned(bytes)))
        st = base_fail_nomem(err, "measuring this machine");
    if (st == ROTOR_OK) st = on_thread(p, fill, err);
    if (st != ROTOR_OK) {
        tool_probe_free(&p);
        return st;
    }
    *out = p;
    return ROTOR_OK;
}

void tool_probe_free(tool_probe **pp) {
    if (!pp || !*pp) return;
    par_free(&(*pp)->pool);
    base_free_aligned((*pp)->data);
    base_free(*pp);
    *pp = NULL;
}

uint64_t tool_probe_bytes(const tool_probe *p) { return p->n_words * sizeof *p->data; }

rotor_status tool_probe_take(tool_probe *p, tool_rates *out, rotor_error *err) {
    tool_rates rates = {.had = 1};
    base_sleep_us(SETTLE_US);
    memset(p->wall_us, 0, sizeof p->wall_us);
    memset(p->ran_us, 0, sizeof p->ran_us);
    for (int c = 0; c < TOOL_N_CEILINGS; c++) {
        p->what = (tool_ceiling)c;
        ROTOR_TRY(on_thread(p, sample, err));
        rates.of[c] = p->rate;
    }
    for (int t = 0; t < p->n_threads; t++)
        rates.had = BASE_MIN(rates.had, (double)p->ran_us[t] / (double)BASE_MAX(p->wall_us[t], 1));
    base_sleep_us(SETTLE_US);
    *out = rates;
    return ROTOR_OK;
}
