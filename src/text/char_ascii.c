/* SPDX-License-Identifier: MIT
 *
 * Classes of ASCII: most characters of most texts.
 */
#include "text/text_internal.h"

#define R CH_REST
#define P CH_PUNCT
#define U CH_UPPER
#define L CH_LOWER
#define N CH_NUMBER
#define S CH_SPACE
#define E (CH_SPACE | CH_NEWLINE)
/* clang-format off */
const uint16_t text_ascii_class[128] = {
    R, R, R, R, R, R, R, R, R, S, E, S, S, E, R, R, /* 00 */
    R, R, R, R, R, R, R, R, R, R, R, R, R, R, R, R, /* 10 */
    S, P, P, P, R, P, P, P, P, P, P, R, P, P, P, P, /* 20: $ and + are symbols */
    N, N, N, N, N, N, N, N, N, N, P, P, R, R, R, P, /* 30: < = > are symbols */
    P, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U, /* 40 */
    U, U, U, U, U, U, U, U, U, U, U, P, P, P, R, P, /* 50: ^ is a symbol */
    R, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, /* 60: ` is a symbol */
    L, L, L, L, L, L, L, L, L, L, L, P, R, P, R, R, /* 70: | and ~ are symbols */
};
/* clang-format on */
