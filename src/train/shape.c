/* SPDX-License-Identifier: MIT
 *
 * The shape of a trainable network: checks, where each tensor lies in the flat parameter vector,
 * the seeded start, and what a run will need in memory, by formula.
 */
#include "train/pass.h"

#include <assert.h>
#include <math.h>

/* ==== Checks ================================================================================== */

rotor_status train_shape_check(const train_shape *s, rotor_error *err) {
    const struct {
        const char *name;     /* as the user says it */
        uint32_t value;       /* given */
        uint32_t least, most; /* allowed */
        uint32_t multiple_of; /* of this */
    } numbers[] = {{"the vocabulary", s->n_vocab, 2, 1u << 20, 1},
                   {"--embd", s->n_embd, 4, 16384, 4},
                   {"--layers", s->n_layer, 1, 512, 1},
                   {"--heads", s->n_head, 1, 512, 1},
                   {"--kv-heads", s->n_head_kv, 1, 512, 1},
                   {"the head size", s->d_head, 2, KERN_MAX_HEAD, 2},
                   {"--ff", s->n_ff, 4, 65536, 4},
                   {"--ctx", s->n_ctx, 2, 1u << 16, 1}};
    for (size_t i = 0; i < BASE_COUNT(numbers); i++)
        if (numbers[i].value < numbers[i].least || numbers[i].value > numbers[i].most ||
            numbers[i].value % numbers[i].multiple_of)
            return base_fail(err, ROTOR_E_ARG, "%s is %u; it must be %u to %u, a multiple of %u",
                             numbers[i].name, numbers[i].value, numbers[i].least, numbers[i].most,
                             numbers[i].multiple_of);
    if (s->n_head % s->n_head_kv)
        return base_fail(err, ROTOR_E_ARG, "--heads %u is not a multiple of --kv-heads %u",
                         s->n_head, s->n_head_kv);
    if (s->n_head * s->d_head % 4)
        return base_fail(err, ROTOR_E_ARG, "%u heads of %u give %u, not a multiple of 4", s->n_head,
                         s->d_head, s->n_head * s->d_head);
    if (!(s->rope_base > 1) || !(s->eps > 0))
        return base_fail(err, ROTOR_E_ARG, "rope base %g and norm epsilon %g must be positive",
                         (double)s->rope_base, (double)s->eps);
    return ROTOR_OK;
}

/* ==== The flat vector ========================================================================= */

enum { PER_LAYER = TRAIN_OUT_NORM - TRAIN_ATTN_NORM };

bool train_is_ternary(train_role r) {
    return r == TRAIN_Q || r == TRAIN_K || r == TRAIN_V || r == TRAIN_O || r == TRAIN_GATE ||
           r == TRAIN_UP || r == TRAIN_DOWN;
}

static void size_of(const train_shape *s, train_role role, uint32_t *rows, uint32_t *cols) {
    const uint32_t q = s->n_head * s->d_head, kv = s->n_head_kv * s->d_head;
    const uint32_t size[TRAIN_N_ROLES][2] = {[TRAIN_EMBD] = {s->n_vocab, s->n_embd},
                                             [TRAIN_ATTN_NORM] = {1, s->n_embd},
                                             [TRAIN_Q] = {q, s->n_embd},
                                             [TRAIN_K] = {kv, s->n_embd},
                                             [TRAIN_V] = {kv, s->n_embd},
                                             [TRAIN_ATTN_SUB_NORM] = {1, q},
                                             [TRAIN_O] = {s->n_embd, q},
                                             [TRAIN_FFN_NORM] = {1, s->n_embd},
                                             [TRAIN_GATE] = {s->n_ff, s->n_embd},
                                             [TRAIN_UP] = {s->n_ff, s->n_embd},
                                             [TRAIN_FFN_SUB_NORM] = {1, s->n_ff},
                                             [TRAIN_DOWN] = {s->n_embd, s->n_ff},
                                             [TRAIN_OUT_NORM] = {1, s->n_embd}};
    *rows = size[role][0];
    *cols = size[role][1];
}

size_t train_n_tensors(const train_shape *s) { return 2 + (size_t)s->n_layer * PER_LAYER; }

/* Floats of the roles [first, end) of one layer. */
static size_t floats_of(const train_shape *s, int first, int end) {
    size_t n = 0;
    for (int r = first; r < end; r++) {
        uint32_t rows, cols;
        size_of(s, (train_role)r, &rows, &cols);
        n += (size_t)rows * cols;
    }
    return n;
}

train_tensor train_tensor_of(const train_shape *s, train_role role, uint32_t layer) {
    const size_t embd = floats_of(s, TRAIN_EMBD, TRAIN_ATTN_NORM);
    const size_t per_layer = floats_of(s, TRAIN_ATTN_NORM, TRAIN_OUT_NORM);
    train_tensor t = {.role = role, .layer = layer};
    size_of(s, role, &t.rows, &t.cols);
    if (role == TRAIN_OUT_NORM)
        t.at = embd + s->n_layer * per_layer;
    else if (role != TRAIN_EMBD)
        t.at = embd + layer * per_layer + floats_of(s, TRAIN_ATTN_NORM, role);
    return t;
}

train_tensor train_tensor_at(const train_shape *s, size_t i) {
    assert(i < train_n_tensors(s));
    if (i == 0) return train_tensor_of(s, TRAIN_EMBD, 0);
    if (i == train_n_tensors(s) - 1) return train_tensor_of(s, TRAIN_OUT_NORM, 0);
    return train_tensor_of(s, (train_role)(TRAIN_ATTN_NORM + (i - 1) % PER_LAYER),
                           (uint32_t)((i - 1) / PER_LAYER));
}

size_t train_n_params(const train_shape *s) {
    train_tensor last = train_tensor_of(s, TRAIN_OUT_NORM, 0);
    return last.at + last.cols;
}

/* ==== The start =============================================================================== */

void train_init(const train_shape *s, float *params, uint64_t seed) {
    base_rng rng;
    base_rng_seed(&rng, seed);
    for (size_t i = 0; i < train_n_tensors(s); i++) {
        const train_tensor t = train_tensor_at(s, i);
        const bool norm = t.rows == 1, last = t.role == TRAIN_O || t.role == TRAIN_DOWN;
        const double deviation = last ? 0.02 / sqrt(2.0 * s->n_layer) : 0.02;
        for (size_t j = 0; j < (size_t)t.rows * t.cols; j++)
            params[t.at + j] = norm ? 1.0f : (float)(deviation * base_rng_normal(&rng));
    }
}

/* ==== Memory ================================================================================== */

train_memory train_memory_of(const train_shape *s, uint32_t n_rows, bool recompute, int n_threads) {
    const uint64_t n = train_n_params(s), tok = (uint64_t)n_rows * s->n_ctx;
    return (train_memory){.params = 4 * n,
                          .grads = 4 * n,
                          .moments = 8 * n,
                          .activations = 4 * tok * pass_floats_per_tok(s, recompute),
                          .scratch = pass_scratch_bytes(s, n_rows, n_threads)};
}
