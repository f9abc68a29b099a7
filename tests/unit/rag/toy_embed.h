/* SPDX-License-Identifier: MIT
 *
 * A toy embedder for the tests of stores: every term adds a direction of its own, so that texts
 * with terms in common are near each other. embed_calls counts the texts it was given.
 */
#ifndef TOY_EMBED_H
#define TOY_EMBED_H

#include "rag/rag_internal.h"
#include "rag/rag_words.h"

#include <math.h>
#include <string.h>

enum { DIMS = 40 };

static int embed_calls;

static rotor_status add_direction(void *user, const rag_term *t) {
    float *v = user;
    base_rng rng;
    base_rng_seed(&rng, base_hash64(t->t.p, t->t.n, 3));
    for (int i = 0; i < DIMS; i++) v[i] += base_rng_normal(&rng);
    return ROTOR_OK;
}

static rotor_status toy_embed(void *user, const base_str *texts, size_t n, float *out,
                              rotor_error *err) {
    (void)user, (void)err;
    embed_calls += (int)n;
    memset(out, 0, n * DIMS * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        float *v = out + i * DIMS;
        rag_terms_of(texts[i], add_direction, v);
        for (int k = 0; k < DIMS; k++) sum += (double)v[k] * (double)v[k];
        for (int k = 0; k < DIMS; k++) v[k] = sum > 0 ? (float)(v[k] / sqrt(sum)) : k == 0;
    }
    return ROTOR_OK;
}

static const rag_embedder toy = {
    .name = "toy", .path = "toy.gguf", .fingerprint = {1}, .dims = DIMS, .embed = toy_embed};
static const rag_embedder other = {
    .name = "other", .path = "other.gguf", .fingerprint = {2}, .dims = DIMS, .embed = toy_embed};

#endif
