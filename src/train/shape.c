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
    if (s->lora_rank > 4096 || (s->lora_rank && !(s->lora_alpha > 0 && s->lora_alpha < 1e9f)))
        return base_fail(err, ROTOR_E_ARG,
                         "--lora %u with --lora-alpha %g; expected a rank of 1 to 4096 and a "
                         "positive alpha",
                         s->lora_rank, (double)s->lora_alpha);
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

static const train_role adapted[] = {TRAIN_Q,    TRAIN_K,  TRAIN_V,   TRAIN_O,
                                     TRAIN_GATE, TRAIN_UP, TRAIN_DOWN};
enum { N_ADAPTED = BASE_COUNT(adapted) };

size_t train_n_tensors(const train_shape *s) {
    if (s->lora_rank) return (size_t)s->n_layer * 2 * N_ADAPTED;
    return 2 + (size_t)s->n_layer * PER_LAYER;
}

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

/* Floats of A and B beside the first n adapted roles of a layer. */
static size_t lora_floats(const train_shape *s, size_t n) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t rows, cols;
        size_of(s, adapted[i], &rows, &cols);
        sum += (size_t)s->lora_rank * ((size_t)rows + cols);
    }
    return sum;
}

train_tensor train_lora_of(const train_shape *s, train_role role, uint32_t layer, train_half half) {
    train_tensor t = {.role = role, .layer = layer, .half = half};
    size_t i = 0;
    while (adapted[i] != role) i++;
    size_of(s, role, &t.rows, &t.cols);
    t.at = layer * lora_floats(s, N_ADAPTED) + lora_floats(s, i);
    if (half == TRAIN_LORA_B) t.at += (size_t)s->lora_rank * t.cols;
    *(half == TRAIN_LORA_A ? &t.rows : &t.cols) = s->lora_rank;
    return t;
}

float train_lora_scale(const train_shape *s) { return s->lora_alpha / (float)s->lora_rank; }

train_tensor train_tensor_at(const train_shape *s, size_t i) {
    assert(i < train_n_tensors(s));
    if (s->lora_rank)
        return train_lora_of(s, adapted[i / 2 % N_ADAPTED], (uint32_t)(i / 2 / N_ADAPTED),
                             i % 2 ? TRAIN_LORA_B : TRAIN_LORA_A);
    if (i == 0) return train_tensor_of(s, TRAIN_EMBD, 0);
    if (i == train_n_tensors(s) - 1) return train_tensor_of(s, TRAIN_OUT_NORM, 0);
    return train_tensor_of(s, (train_role)(TRAIN_ATTN_NORM + (i - 1) % PER_LAYER),
                           (uint32_t)((i - 1) / PER_LAYER));
}

size_t train_n_params(const train_shape *s) {
    return s->lora_rank ? s->n_layer * lora_floats(s, N_ADAPTED) : train_n_weights(s);
}

size_t train_n_weights(const train_shape *s) {
    train_tensor last = train_tensor_of(s, TRAIN_OUT_NORM, 0);
    return last.at + last.cols;
}

/* ==== What stands still ======================================================================= */

/* Floats of the norms [first, end) of one layer. */
static size_t norm_floats(const train_shape *s, int first, int end) {
    size_t n = 0;
    for (int r = first; r < end; r++)
        if (!train_is_ternary((train_role)r)) n += floats_of(s, r, r + 1);
    return n;
}

size_t train_fixed_at(const train_shape *s, train_role role, uint32_t layer) {
    const size_t embd = floats_of(s, TRAIN_EMBD, TRAIN_ATTN_NORM);
    const size_t per_layer = norm_floats(s, TRAIN_ATTN_NORM, TRAIN_OUT_NORM);
    assert(!train_is_ternary(role));
    if (role == TRAIN_EMBD) return 0;
    if (role == TRAIN_OUT_NORM) return embd + s->n_layer * per_layer;
    return embd + layer * per_layer + norm_floats(s, TRAIN_ATTN_NORM, (int)role);
}

size_t train_n_fixed(const train_shape *s) {
    return train_fixed_at(s, TRAIN_OUT_NORM, 0) + s->n_embd;
}

/* ==== The start =============================================================================== */

static double deviation_of(const train_shape *s, const train_tensor *t) {
    if (t->half == TRAIN_LORA_A) return sqrt(1 / (3.0 * t->cols));
    if (t->half == TRAIN_LORA_B) return 0;
    return t->role == TRAIN_O || t->role == TRAIN_DOWN ? 0.02 / sqrt(2.0 * s->n_layer) : 0.02;
}

void train_init(const train_shape *s, float *params, uint64_t seed) {
    base_rng rng;
    base_rng_seed(&rng, seed);
    for (size_t i = 0; i < train_n_tensors(s); i++) {
        const train_tensor t = train_tensor_at(s, i);
        const bool norm = !train_is_ternary(t.role) && t.rows == 1;
        const double deviation = deviation_of(s, &t);
        for (size_t j = 0; j < (size_t)t.rows * t.cols; j++)
            params[t.at + j] = norm             ? 1.0f
                               : deviation == 0 ? 0.0f
                                                : (float)(deviation * base_rng_normal(&rng));
    }
}

/* ==== Memory ================================================================================== */

train_memory train_memory_of(const train_shape *s, uint32_t n_rows, bool recompute, int n_threads) {
    const uint64_t n = train_n_params(s), tok = (uint64_t)n_rows * s->n_ctx;
    uint64_t frozen = s->lora_rank ? 4 * train_n_fixed(s) : 0;
    for (uint32_t r = 0; s->lora_rank && r < TRAIN_N_ROLES; r++) {
        const train_tensor t = train_tensor_of(s, (train_role)r, 0);
        if (train_is_ternary(t.role))
            frozen += (uint64_t)s->n_layer * t.rows * quant_t2_row_bytes(t.cols);
    }
    return (train_memory){.params = 4 * n,
                          .frozen = frozen,
                          .grads = 4 * n,
                          .moments = 8 * n,
                          .activations = 4 * tok * pass_floats_per_tok(s, recompute),
                          .scratch = pass_scratch_bytes(s, n_rows, n_threads)};
}
