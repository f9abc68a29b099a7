/* SPDX-License-Identifier: MIT
 *
 * checkern --bench: how fast each slot of each level is, beside a plain read of the same memory.
 *
 * Times are processor time. Weights are larger than any cache and are read once per call, split
 * between threads as a model splits them. Memory speed drifts, so each timing stands between two
 * plain reads: the last column is the median of the ratios, never a ratio of medians taken minutes
 * apart. Where arithmetic decides, a second table does the same on one thread with the fastest int8
 * loop of the level.
 */
#define _DEFAULT_SOURCE /* CLOCK_THREAD_CPUTIME_ID */
#include "checkern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "par/par.h"

enum { WEIGHT_BYTES = 640 << 20, MAX_TOKENS = 512, ROUNDS = 7, MAX_COLS = 6912 };

typedef struct bench {
    uint8_t *weights; /* WEIGHT_BYTES of random codes */
    float *y;         /* results */
    float *xf;        /* [MAX_TOKENS, MAX_COLS] */
    int8_t *q;        /* the same quantised */
    float *s;         /* scales, sized for blocks */
    int32_t *sum;     /* sums, sized for blocks of 16 */
    par_pool *pool;   /* pinned */
} bench;

typedef struct job {
    kern_mm_fn fn;     /* NULL: the plain read */
    kern_mat w;        /* weights */
    kern_act x;        /* activations */
    float *y;          /* results */
    unsigned cpu;      /* flags for the plain read */
    size_t passes;     /* calls per thread */
    uint64_t sink[64]; /* sum of each thread's plain read */
} job;

static void run_job(void *arg, int thread, int n_threads) {
    job *j = arg;
    size_t begin, end;
    par_slice(j->w.rows, 16, thread, n_threads, &begin, &end);
    if (begin == end) return;
    for (size_t i = 0; i < j->passes; i++) {
        if (j->fn)
            j->fn(j->y, j->w.rows, &j->w, &j->x, begin, end);
        else
            j->sink[thread % 64] +=
                kern_plain_read(j->cpu, j->w.data + begin * j->w.row_bytes / 256 * 256,
                                (end - begin) * j->w.row_bytes / 256 * 256);
    }
}

/* Processor time of all threads, shared out: on a machine with other work it says more than the
 * time on the wall; on a quiet one they are the same. */
static double seconds(bench *b, job *j) {
    clock_t start = clock();
    par_run(b->pool, run_job, j);
    clock_t ticks = clock() - start;
    return (double)(ticks ? ticks : 1) / CLOCKS_PER_SEC / par_n_threads(b->pool);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n) {
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

/* Times one product on weights of the given bytes (all of memory, or few enough for a cache). */
static void time_product(bench *b, const char *level, const char *label, job *j, size_t n_bytes) {
    double secs[ROUNDS], ratio[ROUNDS];
    job read = *j;
    j->w.data = read.w.data = b->weights;
    j->w.rows = read.w.rows = n_bytes / j->w.row_bytes / 16 * 16;
    j->y = b->y;
    read.fn = NULL;
    j->passes = read.passes = n_bytes < (8u << 20) ? 20 : 1;
    seconds(b, j);
    double before = seconds(b, &read);
    for (int i = 0; i < ROUNDS; i++) {
        secs[i] = seconds(b, j);
        double after = seconds(b, &read);
        ratio[i] = 0.5 * (before + after) / secs[i];
        before = after;
    }
    double t = median(secs, ROUNDS) / (double)j->passes,
           bytes = (double)(j->w.rows * j->w.row_bytes);
    printf("%-11s %-24s %5zu x %-3zu %12.0f ns %7.1f GB/s %8.1f GMAC/s", level, label, j->w.cols,
           j->x.n_tok, t * 1e9, bytes / t * 1e-9,
           (double)(j->w.rows * j->w.cols * j->x.n_tok) / t * 1e-9);
    if (n_bytes <= (2u << 20))
        printf("\n"); /* from a cache: no share of a memory read */
    else
        printf(" %6.0f %%\n", 100 * median(ratio, ROUNDS));
    fflush(stdout);
}

/* ==== Which products ========================================================================== */

static void set_weights(bench *b, checker *c, uint32_t type) {
    uint32_t *w = (uint32_t *)(void *)b->weights;
    for (size_t i = 0; i < WEIGHT_BYTES / 4; i++) w[i] = (uint32_t)base_rng_u64(&c->rng);
    const quant_info *info = quant_find(type);
    if (type == QUANT_I2_S) /* code 3 becomes 1 */
        for (size_t i = 0; i < WEIGHT_BYTES / 4; i++) w[i] &= ~(w[i] >> 1 & 0x55555555u) | 0;
    if (type == QUANT_T5) { /* every byte legal */
        int8_t t[16 * 20];
        for (size_t i = 0; i < WEIGHT_BYTES / 64; i++) {
            if (i < 4096) fill_ternary(c, t, sizeof t, FILL_RANDOM);
            if (i < 4096) quant_t5_pack_rows(t, 16, 20, b->weights + 64 * i);
            if (i >= 4096) memcpy(b->weights + 64 * i, b->weights + 64 * (i % 4096), 64);
        }
    }
    if (type == QUANT_MXFP4) /* exponents as models have them: no subnormal products */
        for (size_t i = 0; i < WEIGHT_BYTES; i += 17) b->weights[i] = (uint8_t)(112 + i % 13);
    else if (info && (info->flags & QUANT_BLOCK32))
        fill_blocks(c, b->weights, info, WEIGHT_BYTES / info->block_bytes, FILL_RANDOM);
    /* Plain types: magnitudes near 2^-7, no products below the normal range. */
    for (size_t i = 0; i < WEIGHT_BYTES / 4; i++) {
        if (type == QUANT_F16) w[i] = (w[i] & 0x83FF83FFu) | 0x24002400u;
        if (type == QUANT_BF16) w[i] = (w[i] & 0x807F807Fu) | 0x3C003C00u;
        if (type == QUANT_F32) w[i] = (w[i] & 0x807FFFFFu) | 0x3C000000u;
    }
}

static void set_activations(bench *b, job *j, size_t cols, size_t n_tok) {
    j->w.cols = cols;
    j->x = (kern_act){.x = b->xf,
                      .ldx = cols,
                      .q = b->q,
                      .s = b->s,
                      .sum = b->sum,
                      .sum16 = (const int16_t *)(const void *)b->sum,
                      .n_tok = n_tok};
    j->x.ldq = (cols + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
}

static bool wanted(const checker *c, const char *label) {
    return !c->only || strncmp(label, c->only, strlen(c->only)) == 0;
}

static size_t row_bytes_of(uint32_t type, size_t cols) {
    const quant_info *info = quant_find(type);
    if (type == QUANT_I2_S) return quant_t2_row_bytes(cols);
    if (type == QUANT_T5) return quant_t5_row_bytes(cols);
    return cols / info->block_elems * info->block_bytes;
}

static void bench_type(bench *b, checker *c, uint32_t type, const char *label, size_t at) {
    static const size_t cols[] = {2560, 6912};
    static const size_t tokens[] = {1, 4, 8, 64, 512};
    if (!wanted(c, label)) return;
    set_weights(b, c, type);
    for (size_t l = 0; l < c->n_levels; l++)
        for (size_t t = 0; t < BASE_COUNT(tokens); t++)
            for (size_t k = 0; k < BASE_COUNT(cols); k++) {
                job j = {.cpu = c->table[c->n_levels - 1].cpu};
                if (strncmp(label, "gemv", 4) == 0 && tokens[t] > 1) continue;
                if (c->table[l].cpu == 0 && tokens[t] > 1) continue;
                memcpy(&j.fn, (const uint8_t *)&c->table[l] + at, sizeof j.fn);
                set_activations(b, &j, cols[k], tokens[t]);
                j.w.type = type;
                j.w.scale = 1;
                j.w.row_bytes = row_bytes_of(type, cols[k]);
                size_t n = WEIGHT_BYTES; /* fewer where arithmetic decides */
                if (c->table[l].cpu == 0 || tokens[t] > 4)
                    n = tokens[t] > 64 ? 2u << 20 : 24u << 20;
                time_product(b, c->level[l], label, &j, n);
                if (tokens[t] == 1) time_product(b, c->level[l], "  from cache", &j, 1u << 20);
            }
}

/* ==== Share of the int8 peak ================================================================== */

static double thread_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Multiply-adds per second of the level's int8 loop, over about half a millisecond. */
static double peak_rate(unsigned cpu, uint32_t *sink) {
    double start = thread_seconds();
    uint64_t n = kern_int8_peak(cpu, 250000, sink);
    return (double)n / (thread_seconds() - start);
}

/* One product between two peaks, a few milliseconds of its rows at a time. */
static double peak_share(bench *b, job *j, unsigned cpu) {
    enum { TIMES = 21 };
    double share[TIMES];
    uint32_t sink = 1;
    const double macs = (double)j->w.cols * (double)j->x.n_tok;
    size_t n = (size_t)(0.6e9 / macs) / 64 * 64, at = 0;
    n = n < 64 ? 64 : n > j->w.rows ? j->w.rows : n;
    for (int i = -1; i < TIMES; i++, at += n) { /* the first one warms up */
        if (at + n > j->w.rows) at = 0;
        double before = peak_rate(cpu, &sink), start = thread_seconds();
        j->fn(b->y, j->w.rows, &j->w, &j->x, at, at + n);
        double rate = macs * (double)n / (thread_seconds() - start);
        if (i >= 0) share[i] = rate / (0.5 * (before + peak_rate(cpu, &sink)));
    }
    return median(share, TIMES);
}

static void bench_shares(bench *b, checker *c, uint32_t type, const char *label, size_t at) {
    static const size_t shapes[][2] = {{6912, 2560}, {2560, 6912}, {2560, 2560}, {640, 2560}};
    static const size_t tokens[] = {4, 8, 12, 16, 32, 64, 128, 256, 512};
    if (!wanted(c, label)) return;
    set_weights(b, c, type);
    printf("\n%s, one thread, %% of the int8 peak of the level, by tokens\n%-24s", label, "");
    for (size_t t = 0; t < BASE_COUNT(tokens); t++) printf("%6zu", tokens[t]);
    for (size_t l = 0; l < c->n_levels; l++)
        for (size_t s = 0; c->table[l].cpu && s < BASE_COUNT(shapes); s++) {
            printf("\n%-11s %5zu x %-5zu", c->level[l], shapes[s][0], shapes[s][1]);
            for (size_t t = 0; t < BASE_COUNT(tokens); t++) {
                job j = {.w = {.data = b->weights, .type = type, .scale = 1}};
                memcpy(&j.fn, (const uint8_t *)&c->table[l] + at, sizeof j.fn);
                set_activations(b, &j, shapes[s][1], tokens[t]);
                j.w.rows = shapes[s][0];
                j.w.row_bytes = row_bytes_of(type, j.w.cols);
                printf("%6.0f", 100 * peak_share(b, &j, c->table[l].cpu));
                fflush(stdout);
            }
        }
    printf("\n\n");
}

static bool bench_create(bench *b, int n_threads) {
    b->weights = base_alloc_aligned(WEIGHT_BYTES + 65536);
    b->y = base_alloc_aligned(64u << 20);
    b->xf = base_alloc_aligned(sizeof(float) * MAX_TOKENS * MAX_COLS);
    b->q = base_alloc_aligned(MAX_TOKENS * MAX_COLS);
    b->s = base_alloc_aligned(sizeof(float) * MAX_TOKENS * MAX_COLS / 32);
    b->sum = base_alloc_aligned(sizeof(int32_t) * MAX_TOKENS * MAX_COLS / 16);
    return b->weights && b->y && b->xf && b->q && b->s && b->sum &&
           par_create(&b->pool, n_threads, true, NULL) == ROTOR_OK;
}

/* ==== The other slots ========================================================================= */

enum { HEAD = 128, GROUP = 4, MOST_KEYS = 4096 };

/* One KV head as a model of d 128 with four query heads has it, filled; decode: one token. */
static kern_attn attention_operands(bench *b, const checker *c, kern_kv type) {
    static uint32_t ids[MOST_KEYS / KERN_KEYS];
    const size_t slab = KERN_KEYS * kern_kv_row_bytes(type, HEAD);
    uint8_t row[HEAD * sizeof(float)];
    kern_attn a = {.q = b->xf,
                   .out = b->y,
                   .ldq = GROUP * HEAD,
                   .ldo = GROUP * HEAD,
                   .n_tok = 1,
                   .n_heads = GROUP,
                   .d = HEAD,
                   .scale = 0.1f,
                   .type = type,
                   .pages = b->weights,
                   .page_ids = ids,
                   .page_bytes = 2 * slab,
                   .v_at = slab,
                   .pos = MOST_KEYS - 1,
                   .scratch = b->y + (1u << 20)};
    for (uint32_t i = 0; i < BASE_COUNT(ids); i++) ids[i] = i;
    for (size_t p = 0; p < MOST_KEYS; p++) {
        uint8_t *block = b->weights + p / KERN_KEYS * a.page_bytes;
        c->ref.kv_store(row, b->xf + p % 1000, HEAD, type);
        kern_put_key(block, p % KERN_KEYS, row, HEAD, type);
        kern_put_value(block + slab, p % KERN_KEYS, row, HEAD, type);
    }
    return a;
}

static double attention_seconds(const kern *k, kern_attn a, size_t n_prompt) {
    double secs[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t start = base_now_us();
        size_t calls = 0;
        if (n_prompt)
            for (calls = 1, a.n_tok = KERN_ATTN_ROWS / GROUP, a.pos = 0; a.pos < n_prompt;
                 a.pos += a.n_tok)
                k->attention(&a);
        else
            for (; calls < 8; calls++) k->attention(&a);
        secs[i] = (double)(base_now_us() - start) * 1e-6 / (double)calls;
    }
    return median(secs, ROUNDS);
}

/* One thread; decode from a cache, as GB/s of keys and values; prompts beside the float peak. */
static void bench_attention(bench *b, const checker *c) {
    static const char *const name[] = {"f32", "f16", "q8"};
    if (!wanted(c, "attention")) return;
    for (size_t l = 0; l < c->n_levels; l++)
        for (int t = 0; t < 3; t++) {
            const kern *k = &c->table[l];
            const kern_attn a = attention_operands(b, c, (kern_kv)t);
            const double s = attention_seconds(k, a, 0);
            printf("%-11s attention %-3s 4 heads, d 128: 4096 positions %7.0f us %6.1f GB/s",
                   c->level[l], name[t], s * 1e6,
                   (double)(MOST_KEYS / KERN_KEYS * a.page_bytes) / s * 1e-9);
            for (size_t n = 512; n <= 2048 && k->cpu; n *= 4) {
                float sink = 0;
                const uint64_t start = base_now_us();
                const double peak =
                    (double)kern_f32_peak(k->cpu, 1000000, &sink) / (double)(base_now_us() - start);
                const double prompt = attention_seconds(k, a, n);
                const double macs = (double)(n * (n + 1)) * HEAD * GROUP / prompt * 1e-6;
                printf("  prompt %zu: %.1f GMAC/s, %.0f %% of peak", n, macs * 1e-3,
                       100 * macs / peak);
            }
            printf("\n");
            fflush(stdout);
        }
}

/* The same prompt as a textbook has it: the products of all queries and all keys as one matrix, a
 * softmax of each row's past, a second product; with this level's own float kernels, on floats that
 * are ready. One head after another; returns seconds. */
static double naive_seconds(bench *b, const kern *k, const kern_attn *a, size_t n) {
    float *q = (float *)(void *)(b->weights + ((size_t)400 << 20)), *key = q + n * HEAD,
          *value = key + n * HEAD, *scores = value + n * HEAD, *scratch = scores + n * n;
    for (size_t i = 0; i < 3 * n * HEAD; i++) q[i] = b->xf[i % 100000];
    const uint64_t start = base_now_us();
    for (size_t h = 0; h < a->n_heads; h++) {
        const kern_gemm qk = {q, key, scores, HEAD, 1, 1, HEAD, n, n, n, HEAD, false};
        const kern_gemm sv = {scores, value, b->y, n, 1, HEAD, 1, HEAD, n, HEAD, n, false};
        k->gemm_f32(&qk, 0, n, scratch);
        for (size_t t = 0; t < n; t++) {
            float *row = scores + t * n;
            for (size_t i = 0; i <= t; i++) row[i] *= a->scale;
            k->softmax(row, t + 1);
            memset(row + t + 1, 0, (n - t - 1) * sizeof *row);
        }
        k->gemm_f32(&sv, 0, n, scratch);
    }
    return (double)(base_now_us() - start) * 1e-6;
}

/* One thread; a prompt of 4,096 by spans of keys with a running softmax, beside the textbook's. */
static void bench_naive(bench *b, const checker *c) {
    if (!wanted(c, "naive")) return;
    for (size_t l = 1; l < c->n_levels; l++) {
        const kern *k = &c->table[l];
        double ours[ROUNDS], naive[ROUNDS];
        for (int i = 0; i < 3; i++) { /* by turns */
            naive[i] =
                naive_seconds(b, k, &(kern_attn){.n_heads = GROUP, .scale = 0.1f}, MOST_KEYS);
            kern_attn a = attention_operands(b, c, KERN_KV_F32);
            const uint64_t start = base_now_us();
            for (a.pos = 0, a.n_tok = KERN_ATTN_ROWS / GROUP; a.pos < MOST_KEYS; a.pos += a.n_tok)
                k->attention(&a);
            ours[i] = (double)(base_now_us() - start) * 1e-6;
        }
        printf(
            "%-11s naive attention, 4 heads, d 128, prompt 4096: %.0f ms; online %.0f ms: %.2fx\n",
            c->level[l], median(naive, 3) * 1e3, median(ours, 3) * 1e3,
            median(naive, 3) / median(ours, 3));
        fflush(stdout);
    }
}

int run_bench(const checker *given, int n_threads) {
    checker copy = *given, *c = &copy;
    bench b = {0};
    if (!bench_create(&b, n_threads)) {
        fprintf(stderr, "checkern: out of memory for the bench\n");
        return 1;
    }
    for (size_t i = 0; i < (size_t)MAX_TOKENS * MAX_COLS; i++) {
        b.xf[i] = base_rng_normal(&c->rng);
        b.q[i] = (int8_t)((int)base_rng_below(&c->rng, 255) - 127);
    }
    for (size_t i = 0; i < MAX_TOKENS * MAX_COLS / 32; i++) b.s[i] = 0.01f;
    printf(
        "%d threads, medians of %d; the last column is the speed of a plain read just before and "
        "after\n",
        n_threads, ROUNDS);
    bench_type(&b, c, QUANT_I2_S, "gemv_t2_i8", offsetof(kern, gemv_t2_i8));
    bench_type(&b, c, QUANT_I2_S, "gemm_t2_i8", offsetof(kern, gemm_t2_i8));
    bench_type(&b, c, QUANT_T5, "gemv_t5_i8", offsetof(kern, gemv_t5_i8));
    bench_type(&b, c, QUANT_T5, "gemm_t5_i8", offsetof(kern, gemm_t5_i8));
    bench_shares(&b, c, QUANT_I2_S, "peak_t2_i8", offsetof(kern, gemm_t2_i8));
    bench_shares(&b, c, QUANT_T5, "peak_t5_i8", offsetof(kern, gemm_t5_i8));
    bench_shares(&b, c, QUANT_Q8_0, "peak_b32_q8 Q8_0", offsetof(kern, mm_b32_q8));
    static const struct named {
        const char *label; /* as printed */
        uint32_t type;     /* weights */
    } blocks[] = {{"mm_b32_q8 Q8_0", QUANT_Q8_0},   {"mm_b32_q8 Q4_0", QUANT_Q4_0},
                  {"mm_b32_q8 Q4_K", QUANT_Q4_K},   {"mm_b32_q8 Q6_K", QUANT_Q6_K},
                  {"mm_b32_q8 MXFP4", QUANT_MXFP4}, {"mm_b32_q8 Q5_0", QUANT_Q5_0},
                  {"mm_b32_q8 Q5_K", QUANT_Q5_K},   {"mm_b32_q8 IQ4_NL", QUANT_IQ4_NL},
                  {"mm_b32_q8 Q3_K", QUANT_Q3_K}};
    for (size_t i = 0; i < BASE_COUNT(blocks); i++)
        bench_type(&b, c, blocks[i].type, blocks[i].label, offsetof(kern, mm_b32_q8));
    bench_type(&b, c, QUANT_F16, "mm_f16", offsetof(kern, mm_f16));
    bench_type(&b, c, QUANT_BF16, "mm_bf16", offsetof(kern, mm_bf16));
    bench_type(&b, c, QUANT_F32, "mm_f32", offsetof(kern, mm_f32));
    bench_attention(&b, c);
    bench_naive(&b, c);
    par_free(&b.pool);
    base_free_aligned(b.weights);
    base_free_aligned(b.y);
    base_free_aligned(b.xf);
    base_free_aligned(b.q);
    base_free_aligned(b.s);
    base_free_aligned(b.sum);
    return 0;
}
