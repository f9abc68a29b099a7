/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a checkpoint, as they are and with the right sum written behind them,
 * so that mutations reach what the sum protects. What loads has the settings that were asked for
 * and its own bytes in the vectors; what does not leaves everything as it was.
 */
#define _GNU_SOURCE
#include "train/train.h"

#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_BYTES = 1 << 16, HEAD_BYTES = 16 + 25 * 8 + 16, SUM_BYTES = 8, N_PARAMS = 140 };

/* Those of the seeds. */
static train_settings settings(void) {
    train_settings s;
    memset(&s, 0, sizeof s);
    s.shape = (train_shape){.n_vocab = 2,
                            .n_embd = 4,
                            .n_layer = 1,
                            .n_head = 1,
                            .n_head_kv = 1,
                            .d_head = 4,
                            .n_ff = 4,
                            .n_ctx = 4,
                            .rope_base = 10000,
                            .eps = 1e-5f};
    s.schedule = (train_schedule){.lr = 0.01f, .decay = 0.1f, .steps = 70, .warm_steps = 3};
    s.opt = train_adamw_default();
    s.batch = 4;
    s.accumulate = 2;
    s.seed = 9;
    return s;
}

static void load(const uint8_t *data, size_t size) {
    static float room[4][N_PARAMS], before[4][N_PARAMS];
    const char *path = input_file_put(0, ".checkpoint", data, size);
    const train_settings set = settings();
    const size_t n = train_n_params(&set.shape), n_bytes = n * sizeof(float);
    train_vectors x = {room[0], room[1], room[2], room[3]};
    uint64_t step = 12345, peeked = 12345, steps = 12345;
    rotor_error err = {0};
    if (n != N_PARAMS) abort();
    memset(before, 0x5A, sizeof before);
    memcpy(room, before, sizeof room);
    const rotor_status seen = train_checkpoint_peek(path, &peeked, &steps, NULL);
    if (seen != ROTOR_OK && (peeked != 12345 || steps != 12345)) abort();
    const rotor_status st = train_checkpoint_load(path, &set, &step, &x, &err);
    if (st == ROTOR_OK) {
        if (seen != ROTOR_OK || peeked != step || steps != set.schedule.steps) abort();
        if (size != HEAD_BYTES + 3 * n_bytes + SUM_BYTES) abort();
        if (memcmp(x.params, data + HEAD_BYTES, n_bytes) != 0) abort();
        if (memcmp(x.v, data + HEAD_BYTES + 2 * n_bytes, n_bytes) != 0) abort();
        return;
    }
    must_be_told(st, &err);
    if (step != 12345 || memcmp(room, before, sizeof room) != 0) abort();
}

/* The sum of a file as train_checkpoint_save writes it, vectors of less than a MiB. */
static uint64_t sum_of(const uint8_t *data, size_t size) {
    const size_t part = (size - HEAD_BYTES) / 3;
    uint64_t sum = base_hash64(data, HEAD_BYTES, 0);
    for (size_t i = 0; i < 3; i++) sum = base_hash64(data + HEAD_BYTES + i * part, part, sum);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t copy[MOST_BYTES];
    load(data, size);
    if (size < HEAD_BYTES + SUM_BYTES || size > MOST_BYTES) return 0;
    memcpy(copy, data, size);
    const uint64_t sum = sum_of(data, size - SUM_BYTES);
    memcpy(copy + size - SUM_BYTES, &sum, SUM_BYTES);
    load(copy, size);
    return 0;
}
