/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a token file. What opens holds ids of its vocabulary only, and every
 * window that a run may take lies inside.
 */
#define _GNU_SOURCE
#include "train/train.h"

#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_TOK = 96, MOST_ROWS = 40 };

static void read_windows(const train_tokens *t, const uint32_t *tokens, uint64_t n,
                         uint32_t n_tok) {
    uint32_t token[MOST_TOK], target[MOST_TOK];
    if (n <= n_tok) return; /* a run refuses it: too small */
    for (uint64_t row = 0; row < MOST_ROWS; row++) {
        const uint64_t at = train_window_at(n, n_tok, t->source_hash, row * row * row);
        if (at + n_tok >= n) abort();
        train_window_read(tokens, at, n_tok, token, target);
        for (uint32_t i = 0; i < n_tok; i++)
            if (token[i] >= t->n_vocab || (target[i] >= t->n_vocab && target[i] != TRAIN_NO_TARGET))
                abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = input_file_put(0, ".tokens", data, size);
    const uint32_t lengths[] = {1, 2, 7, MOST_TOK};
    rotor_error err = {0};
    train_tokens t;
    const bool is = train_is_token_file(path);
    const rotor_status st = train_tokens_open(&t, path, &err);
    if (st != ROTOR_OK) {
        must_be_told(st, &err);
        return 0;
    }
    if (!is || (t.n_train + t.n_held) * 4 + 96 != size) abort();
    for (size_t i = 0; i < BASE_COUNT(lengths); i++) {
        read_windows(&t, t.train, t.n_train, lengths[i]);
        read_windows(&t, t.held, t.n_held, lengths[i]);
    }
    train_tokens_close(&t);
    return 0;
}
