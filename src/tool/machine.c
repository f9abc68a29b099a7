/* SPDX-License-Identifier: MIT
 *
 * This machine's two ceilings, measured: how fast all threads together read memory, and how many
 * int8 multiply-adds they do. Memory is shared and drifts, so the figures belong to the minute they
 * were taken in; who compares takes them in the same run.
 *
 * Threads are pinned and kept alive over all rounds, and each reads what it has written itself:
 * untouched pages would be one page of zeros, read from the cache.
 */
#include "tool/tool.h"

#include "cpu/cpu.h"
#include "kern/kern.h"
#include "par/par.h"

void tool_machine_get(tool_machine *m) {
    memset(m, 0, sizeof *m);
    cpu_model_name(m->cpu_name, sizeof m->cpu_name);
    m->cpu_level = cpu_level_name(cpu_detect());
    m->n_cpus = base_cpu_count();
    m->memory_bytes = base_total_memory_bytes();
    m->available_bytes = base_available_memory_bytes();
}

/* Many short rounds and the best of them: on a shared machine most are disturbed, few are not. Each
 * reads another part of the memory, so that none finds its part in a cache. */
enum { ROUNDS = 48, PARTS = 8, PEAK_ROUNDS = 1 << 19, MAX_THREADS = 1024 };

typedef struct probe {
    int n_threads;              /* of the pool */
    uint64_t *data;             /* memory to read, 64-byte aligned */
    size_t n_words;             /* of data, a multiple of PARTS */
    size_t part;                /* being read in this round */
    unsigned cpu;               /* CPU_* flags */
    uint64_t work[MAX_THREADS]; /* words or multiply-adds of each thread, and a sink */
    uint32_t sink[MAX_THREADS]; /* results nobody needs */
    double best;                /* units of work per microsecond */
    rotor_status st;            /* outcome */
} probe;

static void touch(void *arg, int thread, int n_threads) {
    probe *p = arg;
    size_t begin, end;
    for (size_t part = 0; part < PARTS; part++) {
        uint64_t *data = p->data + part * (p->n_words / PARTS);
        par_slice(p->n_words / PARTS, 512, thread, n_threads, &begin, &end);
        for (size_t i = begin; i < end; i++) data[i] = i;
    }
}

static void read_slice(void *arg, int thread, int n_threads) {
    probe *p = arg;
    size_t begin, end;
    uint64_t sum[8] = {0};
    const uint64_t *data = p->data + p->part * (p->n_words / PARTS);
    par_slice(p->n_words / PARTS, 512, thread, n_threads, &begin, &end);
    for (size_t i = begin; i + 8 <= end; i += 8)
        for (int k = 0; k < 8; k++) sum[k] ^= data[i + (size_t)k];
    for (int k = 0; k < 8; k++) p->work[thread] ^= sum[k];
}

static void multiply(void *arg, int thread, int n_threads) {
    probe *p = arg;
    (void)n_threads;
    p->work[thread] = kern_int8_peak(p->cpu, PEAK_ROUNDS, &p->sink[thread]);
}

/* Runs fn ROUNDS times; the best round counts. work_units: of one round; 0: sum of p->work. */
static void best_of(probe *p, par_pool *pool, par_fn fn, uint64_t work_units) {
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t start = base_now_us(), units = work_units;
        p->part = (size_t)r % PARTS;
        par_run(pool, fn, p);
        uint64_t took = BASE_MAX(base_now_us() - start, 1);
        for (int t = 0; t < p->n_threads && !work_units; t++) units += p->work[t];
        double rate = (double)units / (double)took;
        if (rate > p->best) p->best = rate;
    }
}

/* The thread that measures: pinned, so that the caller's thread stays free to move. */
static void measure(void *arg) {
    probe *p = arg;
    par_pool *pool = NULL;
    base_thread_pin(0);
    p->st = par_create(&pool, p->n_threads, true, NULL);
    if (p->st != ROTOR_OK) return;
    if (p->data) {
        par_run(pool, touch, p);
        best_of(p, pool, read_slice, p->n_words / PARTS * sizeof *p->data);
    } else {
        best_of(p, pool, multiply, 0);
    }
    par_free(&pool);
}

static rotor_status run_probe(probe *p, rotor_error *err) {
    base_thread *thread = NULL;
    p->n_threads = BASE_MAX(1, BASE_MIN(p->n_threads, MAX_THREADS));
    if (base_thread_start(&thread, measure, p) != ROTOR_OK)
        return base_fail(err, ROTOR_E_NOMEM, "cannot start a thread to measure with");
    base_thread_join(&thread);
    return p->st == ROTOR_OK ? ROTOR_OK : base_fail_nomem(err, "measuring");
}

rotor_status tool_measure_read(int n_threads, double *gb_per_s, rotor_error *err) {
    const size_t most = (size_t)1 << 30, least = (size_t)64 << 20;
    size_t bytes = (size_t)BASE_MIN(base_available_memory_bytes() / 4, most);
    probe *p = base_alloc(sizeof *p);
    if (!p) return base_fail_nomem(err, "measuring memory");
    bytes = BASE_MAX(bytes, least);
    p->n_threads = n_threads;
    p->data = base_alloc_aligned(bytes);
    p->n_words = bytes / sizeof *p->data / PARTS * PARTS;
    rotor_status st = p->data ? run_probe(p, err) : base_fail_nomem(err, "measuring memory");
    if (st == ROTOR_OK) *gb_per_s = p->best / 1e3;
    base_free_aligned(p->data);
    base_free(p);
    return st;
}

rotor_status tool_measure_int8(int n_threads, double *gmac_per_s, rotor_error *err) {
    probe *p = base_alloc(sizeof *p);
    if (!p) return base_fail_nomem(err, "measuring multiply-adds");
    p->n_threads = n_threads;
    p->cpu = cpu_detect();
    rotor_status st = run_probe(p, err);
    if (st == ROTOR_OK) *gmac_per_s = p->best / 1e3;
    base_free(p);
    return st;
}
