/* SPDX-License-Identifier: MIT
 *
 * The measurements behind rulers.h. The arithmetic loops are assembly, so that nobody has to wonder
 * what a compiler made of them.
 */
#define _GNU_SOURCE
#include "rulers.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_THREADS = 64, ROUNDS = 1 << 24, READS = 2 };
static const size_t memory_bytes = (size_t)1 << 30;

static struct {
    uint64_t *memory;                    /* memory_bytes */
    int n_threads;                       /* one per processor of this process */
    int cpu[MAX_THREADS];                /* their numbers */
    void (*job)(int thread);             /* what they do */
    pthread_barrier_t begin;             /* in front of it */
    double start[MAX_THREADS];           /* seconds, when each began */
    double end[MAX_THREADS];             /* and was done */
    double ran[MAX_THREADS];             /* processor time in between */
    double had;                          /* smallest share of a processor since asked */
    volatile uint64_t sink[MAX_THREADS]; /* results nobody needs */
} r;

/* ==== Jobs ==================================================================================== */

static void fill(int thread) {
    size_t share = memory_bytes / sizeof *r.memory / (size_t)r.n_threads;
    uint64_t *at = r.memory + share * (size_t)thread;
    for (size_t i = 0; i < share; i++) at[i] = i * 3;
}

static uint64_t read_words(const uint64_t *at, size_t n_words) {
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < n_words; i += 4) {
        a += at[i];
        b += at[i + 1];
        c += at[i + 2];
        d += at[i + 3];
    }
    return a + b + c + d;
}

#if defined(__x86_64__)
#define LOOP(op)                                                                                   \
    uint64_t n = ROUNDS;                                                                           \
    __asm__ volatile("vpxorq %%zmm12, %%zmm12, %%zmm12\n\tvpxorq %%zmm13, %%zmm13, %%zmm13\n"      \
                     "1:\n\t" op " %%zmm12, %%zmm13, %%zmm0\n\t" op                                \
                     " %%zmm12, %%zmm13, %%zmm1\n\t" op " %%zmm12, %%zmm13, %%zmm2\n\t" op         \
                     " %%zmm12, %%zmm13, %%zmm3\n\t" op " %%zmm12, %%zmm13, %%zmm4\n\t" op         \
                     " %%zmm12, %%zmm13, %%zmm5\n\t" op " %%zmm12, %%zmm13, %%zmm6\n\t" op         \
                     " %%zmm12, %%zmm13, %%zmm7\n\t" op " %%zmm12, %%zmm13, %%zmm8\n\t" op         \
                     " %%zmm12, %%zmm13, %%zmm9\n\t" op " %%zmm12, %%zmm13, %%zmm10\n\t" op        \
                     " %%zmm12, %%zmm13, %%zmm11\n\t"                                              \
                     "dec %0\n\tjnz 1b\n\tvzeroupper"                                              \
                     : "+r"(n)                                                                     \
                     :                                                                             \
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",     \
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "cc")

static void multiply_int8(int thread) {
    LOOP("vpdpbusd");
    r.sink[thread] = n;
}
static void multiply_f32(int thread) {
    LOOP("vfmadd231ps");
    r.sink[thread] = n;
}
/* One load of 64 bytes an instruction. */
static uint64_t read_share(const uint64_t *at, size_t n_words) {
    uint64_t n = n_words / 32;
    if (!__builtin_cpu_supports("avx512f")) return read_words(at, n_words);
    __asm__ volatile("1:\n\tvporq (%0), %%zmm0, %%zmm0\n\tvporq 64(%0), %%zmm1, %%zmm1\n\t"
                     "vporq 128(%0), %%zmm2, %%zmm2\n\tvporq 192(%0), %%zmm3, %%zmm3\n\t"
                     "add $256, %0\n\tdec %1\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(at), "+r"(n)
                     :
                     : "xmm0", "xmm1", "xmm2", "xmm3", "cc", "memory");
    return n;
}
static bool has_int8(void) { return __builtin_cpu_supports("avx512vnni"); }
static bool has_f32(void) { return __builtin_cpu_supports("avx512f"); }
#else
static uint64_t read_share(const uint64_t *at, size_t n_words) { return read_words(at, n_words); }
static void multiply_int8(int thread) { (void)thread; }
static void multiply_f32(int thread) { (void)thread; }
static bool has_int8(void) { return false; }
static bool has_f32(void) { return false; }
#endif

static void read_all(int thread) {
    size_t share = memory_bytes / sizeof *r.memory / (size_t)r.n_threads / 32 * 32;
    for (int pass = 0; pass < READS; pass++)
        r.sink[thread] = read_share(r.memory + share * (size_t)thread, share);
}

/* ==== Running them ============================================================================ */

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *worker(void *arg) {
    int thread = (int)(intptr_t)arg;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(r.cpu[thread], &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    pthread_barrier_wait(&r.begin);
    double cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
    r.start[thread] = seconds(CLOCK_MONOTONIC);
    r.job(thread);
    r.end[thread] = seconds(CLOCK_MONOTONIC);
    r.ran[thread] = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    return NULL;
}

static double run(void (*job)(int thread)) {
    pthread_t threads[MAX_THREADS];
    r.job = job;
    pthread_barrier_init(&r.begin, NULL, (unsigned)r.n_threads);
    for (int i = 0; i < r.n_threads; i++)
        if (pthread_create(&threads[i], NULL, worker, (void *)(intptr_t)i) != 0) exit(99);
    for (int i = 0; i < r.n_threads; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&r.begin);
    double start = r.start[0], end = r.end[0];
    for (int i = 0; i < r.n_threads; i++) {
        double share = r.ran[i] / (r.end[i] - r.start[i]);
        if (share < r.had) r.had = share;
        if (r.start[i] < start) start = r.start[i];
        if (r.end[i] > end) end = r.end[i];
    }
    return end - start;
}

double rulers_had(void) {
    double had = r.had;
    r.had = 1;
    return had;
}

bool rulers_start(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return false;
    for (int cpu = 0; cpu < CPU_SETSIZE && r.n_threads < MAX_THREADS; cpu++)
        if (CPU_ISSET(cpu, &set)) r.cpu[r.n_threads++] = cpu;
    r.memory = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r.memory == MAP_FAILED) return false;
    madvise(r.memory, memory_bytes, MADV_HUGEPAGE);
    run(fill);
    return true;
}

void rulers_end(void) { munmap(r.memory, memory_bytes); }
int rulers_threads(void) { return r.n_threads; }

double ruler_read_gbps(void) { return READS * (double)memory_bytes / run(read_all) / 1e9; }
double ruler_int8_gmacs(void) {
    return has_int8() ? r.n_threads * 12.0 * 64 * ROUNDS / run(multiply_int8) / 1e9 : 0;
}
double ruler_f32_gmacs(void) {
    return has_f32() ? r.n_threads * 12.0 * 16 * ROUNDS / run(multiply_f32) / 1e9 : 0;
}
