/* SPDX-License-Identifier: MIT
 *
 * One ternary matrix in every layout of model files: what each takes, and how long it is on the
 * way. Decoding a language model reads every weight for every token, so bytes are time.
 *
 *     cc layouts.c -o layouts $(pkg-config --cflags --libs rotor) && ./layouts
 */
#define _POSIX_C_SOURCE 200809L
#include <rotor_ternary.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROWS = 512, COLS = 1024 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Into the layout and back. False: not the same values. */
static bool there_and_back(const rotor_ternary_matrix *src, rotor_ternary_layout layout) {
    static int8_t back[ROWS * COLS];
    rotor_ternary_matrix dst = {.layout = layout, .rows = ROWS, .cols = COLS};
    rotor_ternary_matrix end = {ROTOR_TERNARY_INT8, ROWS, COLS, back, sizeof back, 1};
    rotor_error err = {0};
    rotor_status st = rotor_ternary_layout_bytes(layout, ROWS, COLS, &dst.n_bytes, &err);
    if (st == ROTOR_OK) dst.data = aligned_alloc(64, (dst.n_bytes + 63) / 64 * 64);
    const double start = now_ms();
    if (st == ROTOR_OK) st = rotor_ternary_convert(&dst, src, &err);
    const double packed = now_ms();
    if (st == ROTOR_OK) st = rotor_ternary_convert(&end, &dst, &err);
    const double unpacked = now_ms();
    free(dst.data);
    if (st != ROTOR_OK) return fprintf(stderr, "layouts: %s\n", err.message), false;
    printf("%-18s %7zu bytes  %6.4f bits a weight  pack %6.2f ms  unpack %6.2f ms\n",
           rotor_ternary_layout_name(layout), dst.n_bytes,
           8.0 * (double)dst.n_bytes / (ROWS * COLS), packed - start, unpacked - packed);
    return memcmp(back, src->data, sizeof back) == 0;
}

int main(void) {
    static int8_t values[ROWS * COLS];
    const rotor_ternary_matrix src = {ROTOR_TERNARY_INT8, ROWS, COLS, values, sizeof values, 0.5f};
    uint32_t state = 1;
    bool same = true;
    for (size_t i = 0; i < sizeof values; i++) {
        state = state * 1664525u + 1013904223u;
        values[i] = (int8_t)((state >> 16) % 3) - 1;
    }
    printf("float32            %7zu bytes, float16 %zu\n", sizeof values * 4, sizeof values * 2);
    for (int l = 0; rotor_ternary_layout_name((rotor_ternary_layout)l); l++)
        same &= there_and_back(&src, (rotor_ternary_layout)l);
    return same ? 0 : 1;
}
