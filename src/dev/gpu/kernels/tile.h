/* SPDX-License-Identifier: MIT
 *
 * tile: the shared half of the products of many rows (mm_*.k). A group of 256 makes 64 outputs of 64
 * tokens. Again and again it brings 32 words of each of its rows and of each of its tokens to shared
 * memory, and adds up their products; invocation (i = lid % 16, j = lid / 16) keeps sixteen of them:
 *
 *                tokens   j, j + 16, j + 32, j + 48          wt[k][64]   word k of every row
 *   rows i       | 0  1  2  3 |                              xt[k][64]   word k of every token
 *   rows i + 16  | 4  5  6  7 |                              16 KB together
 *   rows i + 32  | 8  9 10 11 |
 *   rows i + 48  |12 13 14 15 |   eight loads from shared memory for sixteen products of words
 *
 * A word is four signed bytes, or a float as bits. Each word of w is read once per 64 tokens, each
 * word of x once per 64 rows.
 */
#include "product.h"
#define TILE_FIELDS PRODUCT_FIELDS
#define TILE_LOCALS LOCAL(uint, wt, 2048) LOCAL(uint, xt, 2048)

/* sum[16] += the products of words [from, to) of both tiles. */
#define TILE_LOAD(k)                                                                              \
    uint w_[4];                                                                                   \
    uint x_[4];                                                                                   \
    UNROLL for (uint i_ = 0u; i_ < 4u; i_++) {                                                    \
        w_[i_] = wt[(k)*64u + lid % 16u + 16u * i_];                                              \
        x_[i_] = xt[(k)*64u + lid / 16u + 16u * i_];                                              \
    }
#define TILE_INTEGERS(sum, from, to)                                                              \
    for (uint k_ = from; k_ < (to); k_++) {                                                       \
        TILE_LOAD(k_)                                                                             \
        UNROLL for (uint i_ = 0u; i_ < 4u; i_++) {                                                \
            UNROLL for (uint j_ = 0u; j_ < 4u; j_++) sum[4u * i_ + j_] =                          \
                DOT4(w_[i_], x_[j_], sum[4u * i_ + j_]);                                          \
        }                                                                                         \
    }
#define TILE_FLOATS(sum, from, to)                                                                \
    for (uint k_ = from; k_ < (to); k_++) {                                                       \
        TILE_LOAD(k_)                                                                             \
        UNROLL for (uint i_ = 0u; i_ < 4u; i_++) {                                                \
            UNROLL for (uint j_ = 0u; j_ < 4u; j_++) sum[4u * i_ + j_] =                          \
                fma(BITS_FLOAT(w_[i_]), BITS_FLOAT(x_[j_]), sum[4u * i_ + j_]);                   \
        }                                                                                         \
    }

/* Columns [c, c + 32) of the tokens' floats to xt; zero past the last column. */
#define TILE_X_FLOATS(x, c)                                                                       \
    {                                                                                             \
        const uint row_ = p.x_at + X_ROW(min(TOKEN0(64u) + lid % 64u, last)) * p.x_ld;                      \
        UNROLL for (uint i_ = 0u; i_ < 8u; i_++) {                                                \
            const uint k_ = lid / 64u * 8u + i_;                                                  \
            xt[k_ * 64u + lid % 64u] = (c) + k_ < p.cols ? x[row_ + (c) + k_] : 0u;               \
        }                                                                                         \
    }

/* DO(result, token, row) for the sixteen sums. */
#define TILE_EACH(DO, sum)                                                                        \
    UNROLL for (uint j_ = 0u; j_ < 4u; j_++) {                                                    \
        UNROLL for (uint i_ = 0u; i_ < 4u; i_++) {                                                \
            const uint row_ = gx * 64u + lid % 16u + 16u * i_;                                    \
            const uint token_ = TOKEN0(64u) + lid / 16u + 16u * j_;                                  \
            if (row_ < p.rows && token_ < count) DO(sum[4u * i_ + j_], token_, row_)              \
        }                                                                                         \
    }
#define TILE_PUT(value, token, row)                                                               \
    {                                                                                             \
        const uint at_ = p.y_at + Y_ROW(token) * p.y_ld + p.row0 + (row);                                \
        y[at_] = ADD != 0u ? y[at_] + (value) : (value);                                          \
    }
#define TILE_PUT_SCALED(value, token, row)                                                        \
    {                                                                                             \
        float v_ = value;                                                                         \
        FINISH(v_, row)                                                                           \
        TILE_PUT(v_, token, row)                                                                  \
    }
