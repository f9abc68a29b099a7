/* SPDX-License-Identifier: MIT
 *
 * soak_device [TOKENS]: decodes ten thousand tokens, or so many, on every device there is, in
 * sessions that come, fill up, are forked, rewound and go, and prints what the program and the
 * device hold at the beginning, half-way and at the end. Fails when the device's memory has grown,
 * or the program in the second half.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_rig.h"

enum {
    WARM = 600,       /* tokens before anything is judged: every size of step has been there */
    FULL = 200,       /* positions after which a session starts again */
    PROMPT = 20,      /* tokens of its prompt */
    MAY_GROW_KB = 128 /* of the program in the second half: in the first a driver's heap settles */
};

/* Kilobytes of the program in memory. */
static long resident_kb(void) {
    char line[256];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmRSS:", 6) == 0) kb = strtol(line + 6, NULL, 10);
    if (f) fclose(f);
    return kb;
}

static uint32_t best_token(rig *r) {
    const run_want want = {.k = 1};
    run_found found;
    if (run_candidates(r->e, 0, &want, &found)) return found.id[0];
    const float *x = run_logits(r->e, 0);
    uint32_t best = 0;
    for (uint32_t i = 1; i < r->m->hp.n_vocab; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* The session's next life begins: a prompt of its own, or what another has begun. */
static void begin(rig *r, run_session **s, run_session *other, unsigned life) {
    run_row row[PROMPT];
    run_session_free(s);
    rig_session(s, r);
    if (life % 3 == 2 && run_session_len(other) > 90) {
        if (run_session_fork(*s, other, 70 + life % 20, NULL) != ROTOR_OK) abort();
        return;
    }
    for (uint32_t i = 0; i < PROMPT; i++)
        row[i] = (run_row){*s, (life * 7 + i * 37) % r->m->hp.n_vocab, false};
    rig_eval(r, row, PROMPT);
}

static void decode(rig *r, run_session *s[2], unsigned n, unsigned *life) {
    uint32_t token = 1;
    for (unsigned i = 0; i < n; i++) {
        const unsigned which = i / 50 % 2;
        if (run_session_len(s[which]) >= FULL) begin(r, &s[which], s[!which], ++*life);
        if (i % 97 == 96) run_session_rewind(s[which], run_session_len(s[which]) - 5);
        const run_row row = {s[which], token, true};
        rig_eval(r, &row, 1);
        token = best_token(r);
        if (i % 101 == 100) run_logits(r->e, 0); /* the whole row, now and then */
    }
}

static bool soak(const rig_device *d, unsigned n_tokens) {
    rig r;
    run_session *s[2] = {0};
    unsigned life = 0;
    rig_up(&r, rig_model(0), (rig_setting){.device = d, .kv = KERN_KV_F16, .rows = 32});
    rig_session(&s[0], &r);
    rig_session(&s[1], &r);
    decode(&r, s, WARM, &life);
    const long rss = resident_kb();
    const uint64_t memory = run_memory_bytes(r.e), host = base_alloc_count(),
                   made = run_counters(r.e).allocations, start = base_now_ns();
    decode(&r, s, n_tokens / 2, &life);
    const long half = resident_kb();
    decode(&r, s, n_tokens - n_tokens / 2, &life);
    const uint64_t ns = base_now_ns() - start;
    const long grown = resident_kb() - half;
    const bool good = run_memory_bytes(r.e) == memory && run_counters(r.e).allocations == made &&
                      grown <= MAY_GROW_KB && !r.log.warnings;
    printf("%s\n  %u tokens in %.1f s, %u sessions, %u warnings\n", d->label, n_tokens,
           (double)ns / 1e9, life, (unsigned)r.log.warnings);
    printf("  program %ld KB, %+ld in the first half, %+ld in the second; buffers and cache on the "
           "device %llu bytes, then %+lld; made by the driver %llu, then %+lld; allocations of the "
           "host %llu: %s\n",
           rss, half - rss, grown, (unsigned long long)memory,
           (long long)(run_memory_bytes(r.e) - memory), (unsigned long long)made,
           (long long)(run_counters(r.e).allocations - made),
           (unsigned long long)(base_alloc_count() - host), good ? "good" : "GROWN");
    run_session_free(&s[0]);
    run_session_free(&s[1]);
    rig_down(&r);
    return good;
}

int main(int argc, char **argv) {
    const long n = argc > 1 ? strtol(argv[1], NULL, 10) : 10000;
    rig_device devices[RIG_DEVICES];
    const size_t n_devices = rig_devices(devices);
    bool good = n > 0;
    for (size_t i = 0; i < n_devices && good; i++) good = soak(&devices[i], (unsigned)n);
    if (!n_devices) printf("skipped: no device\n");
    return n_devices ? !good : 77;
}
