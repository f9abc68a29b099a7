/* SPDX-License-Identifier: MIT
 *
 * Ternary arithmetic by hand: what a product costs when every weight is -1, 0 or +1.
 *
 *     cc by_hand.c -o by_hand $(pkg-config --cflags --libs rotor) && ./by_hand
 */
#include <rotor_ternary.h>

#include <stdio.h>

enum { N = 8 };

int main(void) {
    const int8_t w[N] = {1, -1, 0, 0, 1, 1, -1, 0};    /* weights */
    const int8_t x[N] = {12, 7, -3, 90, 4, -5, 2, 66}; /* activations */
    const int8_t signs[N] = {1, 1, -1, 0, -1, 1, -1, 0};
    uint8_t codes[2], other[2];
    uint64_t w_plus, w_minus, s_plus, s_minus;
    int64_t by_codes = 0;
    int sum = 0;
    rotor_error err = {0};

    /* A product is no multiplication: +1 adds, -1 subtracts, 0 is left out. */
    for (int i = 0; i < N; i++) {
        sum += w[i] > 0 ? x[i] : w[i] < 0 ? -x[i] : 0;
        printf("%+d x %+3d  ->  %+4d\n", w[i], x[i], sum);
    }

    /* Four weights fit a byte: 00 is 0, 10 is +1, 01 is -1; 11 is no weight. */
    if (rotor_ternary_pack(w, N, codes, &err) || rotor_ternary_pack(signs, N, other, &err) ||
        rotor_ternary_dot(codes, other, N, &by_codes, &err) ||
        rotor_ternary_split(codes, N, &w_plus, &w_minus, &err) ||
        rotor_ternary_split(other, N, &s_plus, &s_minus, &err)) {
        fprintf(stderr, "by_hand: %s\n", err.message);
        return 1;
    }
    printf("8 weights in %zu bytes: %02x %02x, of them %zu zeros\n", rotor_ternary_bytes(N),
           codes[0], codes[1], rotor_ternary_count_zeros(codes, N));

    /* Where both sides are ternary, a bit for "plus" and one for "minus" make a sum of 64 products
     * four ANDs and four counts of bits. */
    const int64_t by_planes = rotor_ternary_dot_planes(&w_plus, &w_minus, &s_plus, &s_minus, N);
    printf("planes: plus %02x, minus %02x\n", (unsigned)w_plus, (unsigned)w_minus);
    printf("ternary x ternary: by codes %lld, by planes %lld\n", (long long)by_codes,
           (long long)by_planes);
    return by_codes == by_planes ? 0 : 1;
}
