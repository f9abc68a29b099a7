/* SPDX-License-Identifier: MIT
 *
 * session_input: the model that inputs of fuzz_session and fuzz_prefix_store are sessions of (the
 * first layer of the story model), and the sum that makes such a file whole.
 */
#ifndef FUZZ_SESSION_INPUT_H
#define FUZZ_SESSION_INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "run/run.h"

enum {
    MOST_BYTES = 1 << 16,
    HEAD_BYTES = 56,
    SUM_BYTES = 8,
    AT_LEN = 40,  /* u32 positions … */
    AT_NOTE = 48, /* … u64 bytes of the note: where the head has them */
    CTX = 120,
    PAGE_BYTES = 2 * 4 * KERN_KEYS * 16 /* of a layer: keys and values, 4 heads of 8 halves */
};

static run_session *the_session;
static const char *the_name;

static void die(const rotor_error *err) {
    fprintf(stderr, "%s: %s\n", the_name, err->message);
    abort();
}

static void open_once(const char *name) {
    char path[4096];
    rotor_error err = {0};
    model *m = NULL;
    par_pool *pool = NULL;
    run_engine *e = NULL;
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    the_name = name;
    const model_options mo = {.i2s = -1, .max_layers = 1};
    const run_options ro = {.cpu = cpu_detect(), .kv = KERN_KV_F16, .n_pages = 2, .n_sessions = 1};
    snprintf(path, sizeof path, "%s/tests/data/model/stories260K.gguf", root ? root : ".");
    if (par_create(&pool, 1, false, &err) || model_open(&m, path, &mo, &err) ||
        run_create(&e, m, pool, &ro, &err) || run_session_create(&the_session, e, CTX, &err))
        die(&err); /* they live as long as the process */
}

static void goes_on(run_session *s) {
    const run_row row = {s, 7, true};
    rotor_error err = {0};
    const uint32_t len = run_session_len(s);
    if (len == CTX) return;
    if (run_eval(run_session_engine(s), &row, 1, &err) != ROTOR_OK) die(&err);
    if (!run_logits(run_session_engine(s), 0)) abort();
}

/* Puts the sum of what the head says there is at the end; false: the head says nonsense. */
static bool seal(uint8_t *data, size_t size) {
    uint32_t len;
    uint64_t note, sum;
    if (size < HEAD_BYTES + SUM_BYTES) return false;
    memcpy(&len, data + AT_LEN, sizeof len);
    memcpy(&note, data + AT_NOTE, sizeof note);
    if (len > size || note > size) return false;
    const uint64_t at_note = HEAD_BYTES + 4ull * len, end_note = at_note + note;
    const uint64_t pages = (end_note + 7) / 8 * 8;
    if (pages > size - SUM_BYTES || (size - SUM_BYTES - pages) % PAGE_BYTES) return false;
    sum = base_hash64(data, HEAD_BYTES, 0);
    sum = base_hash64(data + HEAD_BYTES, at_note - HEAD_BYTES, sum);
    sum = base_hash64(data + at_note, note, sum);
    sum = base_hash64(data + end_note, pages - end_note, sum);
    for (uint64_t at = pages; at < size - SUM_BYTES; at += PAGE_BYTES)
        sum = base_hash64(data + at, PAGE_BYTES, sum);
    memcpy(data + size - SUM_BYTES, &sum, SUM_BYTES);
    return true;
}

#endif
