/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as the answer of a server for vectors. What is taken has length one and
 * is finite, and what is said of it or by it is plain text.
 */
#include <math.h>
#include <stdlib.h>

#include "hub/endpoint.h"

enum { TEXTS = 2, DIMS = 4 };

static void must(bool ok) {
    if (!ok) abort();
}

static void check_unit(const float *v) {
    double sum = 0;
    for (size_t k = 0; k < DIMS; k++) sum += (double)v[k] * v[k];
    must(fabs(sum - 1) < 1e-3);
}

static void check_plain(const char *s) {
    for (; *s; s++) must((unsigned char)*s >= 32 && *s != 127);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const base_str answer = {(const char *)data, size};
    float out[TEXTS * DIMS];
    char said[204];
    size_t dims = DIMS, found = 0;
    rotor_error err = {0};
    if (endpoint_vectors(answer, TEXTS, &dims, out, &err) == ROTOR_OK)
        for (size_t i = 0; i < TEXTS; i++) check_unit(out + i * DIMS);
    else
        check_plain(err.message);
    if (endpoint_vectors(answer, 1, &found, NULL, &err) == ROTOR_OK)
        must(found && found <= ENDPOINT_MAX_DIMS);
    endpoint_complaint(answer, "key", said);
    check_plain(said);
    must(!strstr(said, "key"));
    return 0;
}
