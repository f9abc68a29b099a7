/* SPDX-License-Identifier: MIT
 *
 * Floats to ternary and back, and what that loses: three rules for where -1, 0 and +1 begin.
 *
 *     cc to_ternary.c -o to_ternary $(pkg-config --cflags --libs rotor) -lm && ./to_ternary
 */
#include <rotor_ternary.h>

#include <math.h>
#include <stdio.h>

enum { N = 4096 };

/* About normal: the sum of four uniform numbers, always the same ones. */
static float next(uint32_t *state) {
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += (float)(*state >> 8) / (float)(1 << 24) - 0.5f;
    }
    return sum;
}

/* |x - scale t| / |x|, and how many are 0. */
static void report(const char *rule, const float *x, const int8_t *t, float scale) {
    double lost = 0, all = 0;
    int zeros = 0;
    for (int i = 0; i < N; i++) {
        const double d = (double)x[i] - (double)scale * t[i];
        lost += d * d;
        all += (double)x[i] * (double)x[i];
        zeros += t[i] == 0;
    }
    printf("%-10s scale %.4f  zeros %2d %%  error %2.0f %%\n", rule, (double)scale, 100 * zeros / N,
           100 * sqrt(lost / all));
}

int main(void) {
    static float x[N];
    static int8_t t[N], back[N];
    static uint8_t codes[N / 4];
    uint32_t state = 1;
    rotor_error err = {0};
    for (int i = 0; i < N; i++) x[i] = next(&state);

    report("sign", x, t, rotor_ternary_sign(x, N, t));                  /* one bit: no zeros */
    report("threshold", x, t, rotor_ternary_threshold(x, N, 0.35f, t)); /* the best place by hand */
    const float scale = rotor_ternary_absmean(x, N, t); /* what BitNet b1.58 trains with */
    report("absmean", x, t, scale);

    /* Ternary to bytes and back loses nothing more. */
    if (rotor_ternary_pack(t, N, codes, &err) || rotor_ternary_unpack(codes, N, back, &err)) {
        fprintf(stderr, "to_ternary: %s\n", err.message);
        return 1;
    }
    int differ = 0;
    for (int i = 0; i < N; i++) differ += t[i] != back[i];
    printf("%d floats, %zu bytes, packed in %zu: %d differ after unpacking\n", N, sizeof x,
           sizeof codes, differ);
    return differ != 0;
}
