/* SPDX-License-Identifier: MIT
 *
 * replay: runs a fuzz target without libFuzzer, so that its corpus is part of the ordinary tests.
 *
 *   replay_NAME FOLDER [SECONDS]
 *
 * Every file of FOLDER goes through LLVMFuzzerTestOneInput as it is, then mutated copies of them
 * until SECONDS (default 1) have passed or 200,000 were run. The mutations come from a fixed seed:
 * the n-th one is the same in every run. An input that crashes, or takes longer than 20 s, is left
 * in crash-replay_NAME.bin in the working folder (and is worth keeping in the corpus).
 *
 * Owns: the corpus in memory and one scratch input. Threading: one thread.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"

enum { INPUT_MAX_BYTES = 1 << 16, MUTATIONS_MAX = 200000, HANG_SECONDS = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* What the target is looking at now, and where to leave it, for the handlers below. */
static const uint8_t *input_now;
static size_t input_now_bytes;
static char crash_path[256];

static void keep_input(void) {
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return;
    static const char note[] = "replay: the input is in ";
    if (write(fd, input_now, input_now_bytes) >= 0) {
        (void)!write(2, note, sizeof note - 1);
        (void)!write(2, crash_path, strlen(crash_path));
        (void)!write(2, "\n", 1);
    }
    close(fd);
}

static void on_signal(int signal_number) {
    keep_input();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void catch_crashes(const char *program) {
    const char *slash = strrchr(program, '/');
    snprintf(crash_path, sizeof crash_path, "crash-%s.bin", slash ? slash + 1 : program);
    static const int signals[] = {SIGABRT, SIGALRM};
    for (size_t i = 0; i < BASE_COUNT(signals); i++) signal(signals[i], on_signal);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(keep_input);
        return;
    }
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < BASE_COUNT(faults); i++) signal(faults[i], on_signal);
}

/* The copy has exactly the input's size, so that a checker sees a read past its end. */
static void run_input(const uint8_t *bytes, size_t n_bytes) {
    uint8_t *copy = malloc(n_bytes ? n_bytes : 1);
    if (!copy) abort();
    if (n_bytes) memcpy(copy, bytes, n_bytes);
    input_now = copy;
    input_now_bytes = n_bytes;
    alarm(HANG_SECONDS);
    LLVMFuzzerTestOneInput(copy, n_bytes);
    alarm(0);
    free(copy);
}

/* Numbers at the borders of the usual types: sizes, counts and offsets go wrong there. */
static uint64_t border_number(base_rng *rng) {
    static const uint64_t borders[] = {0,        1,         0x7f,       0x80,
                                       0xff,     0x100,     0x7fff,     0xffff,
                                       0x10000,  INT32_MAX, UINT32_MAX, 0x100000000,
                                       1u << 20, INT64_MAX, UINT64_MAX, UINT64_MAX / 2 + 2};
    uint64_t number = borders[base_rng_below(rng, BASE_COUNT(borders))];
    return base_rng_below(rng, 2) ? number : number - 1;
}

/* One small change inside bytes[0..n); returns the new length. other: a second seed to take from.
 */
static size_t mutate_once(base_rng *rng, uint8_t *bytes, size_t n, const base_file *other) {
    if (n == 0) {
        bytes[0] = (uint8_t)base_rng_below(rng, 256);
        return 1;
    }
    size_t at = base_rng_below(rng, (uint32_t)n);
    size_t span = 1 + base_rng_below(rng, 16);
    if (span > n - at) span = n - at;
    switch (base_rng_below(rng, 8)) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << base_rng_below(rng, 8));
        return n;
    case 1:
        bytes[at] = (uint8_t)base_rng_below(rng, 256);
        return n;
    case 2: { /* a number in the place of one of 1, 2, 4 or 8 bytes, little endian */
        uint64_t number = border_number(rng);
        size_t width = (size_t)1 << base_rng_below(rng, 4);
        for (size_t i = 0; i < width && at + i < n; i++) bytes[at + i] = (uint8_t)(number >> 8 * i);
        return n;
    }
    case 3:
        memmove(bytes + at, bytes + at + span, n - at - span);
        return n - span; /* delete */
    case 4:              /* repeat a piece */
        if (n + span > INPUT_MAX_BYTES) return n;
        memmove(bytes + at + span, bytes + at, n - at);
        return n + span;
    case 5:
        return at; /* cut */
    case 6: {      /* overwrite with a piece of another seed */
        if (other->size == 0) return n;
        size_t from = base_rng_below(rng, (uint32_t)BASE_MIN(other->size, UINT32_MAX));
        memcpy(bytes + at, other->data + from, BASE_MIN(span, other->size - from));
        return n;
    }
    default:
        memset(bytes + at, (int)base_rng_below(rng, 256), span);
        return n;
    }
}

static long run_mutations(const base_file *seeds, size_t n_seeds, uint64_t limit_us) {
    static uint8_t scratch[INPUT_MAX_BYTES + 16];
    base_rng rng;
    base_rng_seed(&rng, 20240229);
    uint64_t start_us = base_now_us();
    long n_run = 0;
    while (n_run < MUTATIONS_MAX && base_now_us() - start_us < limit_us) {
        const base_file *seed = &seeds[base_rng_below(&rng, (uint32_t)n_seeds)];
        const base_file *other = &seeds[base_rng_below(&rng, (uint32_t)n_seeds)];
        size_t n = BASE_MIN(seed->size, (size_t)INPUT_MAX_BYTES);
        if (n) memcpy(scratch, seed->data, n);
        for (uint32_t changes = 1 + base_rng_below(&rng, 4); changes > 0; changes--)
            n = mutate_once(&rng, scratch, n, other);
        run_input(scratch, n);
        n_run++;
    }
    return n_run;
}

/* Reads every file of the folder. Exits on failure: without its corpus the test proves nothing. */
static base_file *read_corpus(const char *folder, size_t *n_seeds) {
    rotor_error err = {0};
    char **names = NULL;
    size_t n = 0;
    base_file *seeds = NULL;
    if (base_list_dir(folder, &names, &n, &err) != ROTOR_OK || n == 0) goto fail;
    seeds = calloc(n, sizeof *seeds);
    if (!seeds) goto fail;
    for (size_t i = 0; i < n; i++) {
        char *path = base_path_join(folder, names[i]);
        rotor_status status = path ? base_file_open(&seeds[i], path, false, &err) : ROTOR_E_NOMEM;
        base_free(path);
        if (status != ROTOR_OK) goto fail;
    }
    base_names_free(names, n);
    *n_seeds = n;
    return seeds;
fail:
    fprintf(stderr, "replay: no corpus in %s %s\n", folder, err.message);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s FOLDER [SECONDS]\n", argv[0]);
        return 2;
    }
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    catch_crashes(argv[0]);
    size_t n_seeds = 0;
    base_file *seeds = read_corpus(argv[1], &n_seeds);
    run_input(NULL, 0);
    for (size_t i = 0; i < n_seeds; i++) run_input(seeds[i].data, seeds[i].size);
    double seconds = argc > 2 ? atof(argv[2]) : 1.0;
    long n_run = run_mutations(seeds, n_seeds, (uint64_t)(seconds * 1e6));
    printf("%zu files, %ld mutations\n", n_seeds, n_run);
    for (size_t i = 0; i < n_seeds; i++) base_file_close(&seeds[i]);
    free(seeds);
    return 0;
}
