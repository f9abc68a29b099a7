/* SPDX-License-Identifier: MIT
 *
 * product: what products share (mv_*.k, mm_*.k): which rows of activations meet which matrix.
 *
 * FIND_WORK gives a group count, the rows it may take, first, the number of the first of them, matrix,
 * the word where its matrix begins, vec_at, the place of its first output in rs, and cols, the columns
 * to go through. TOKEN0(n) is the first of a group's rows where a group takes n, X_ROW(t) the row of x
 * that row t is made from, and Y_ROW(t) the row of y it goes to.
 *
 * With EXPERTS (xv_*.k, xm_*.k, which are these kernels under another name) a group takes one job that
 * `route` has left: up to so many rows, all of one expert. A group without a job, or one whose expert is
 * in another piece, has no columns and no rows: it reads no weights and writes nothing.
 *
 *   grid y    job 0     | job 1     | job 2     | none
 *             expert 3  | expert 3  | expert 9  |
 *             rows 0-7  | rows 8, 9 | row 10    |        slot rows; x may be their tokens' rows
 */
#ifdef EXPERTS
#define PRODUCT_FIELDS                                                                            \
    uint count_at;                                                                                \
    uint rows;                                                                                    \
    uint row0;                                                                                    \
    uint cols;                                                                                    \
    uint n_u;                                                                                     \
    uint x_at;                                                                                    \
    uint x_ld;                                                                                    \
    uint xs_ld;                                                                                   \
    uint y_at;                                                                                    \
    uint y_ld;                                                                                    \
    uint expert0;                                                                                 \
    uint n_expert;                                                                                \
    uint expert_words;                                                                            \
    uint gathered;                                                                                \
    uint job_at;                                                                                  \
    uint token_at;
#define PRODUCT_MORE AND IN(6, uint, route)
#define TOKEN0(n) 0u
#define X_ROW(t) (p.gathered != 0u ? route[p.token_at + first + (t)] : first + (t))
#define Y_ROW(t) (first + (t))
#define FIND_WORK                                                                                 \
    const uint job_ = p.job_at + 3u * gy;                                                         \
    const uint expert_ = gy < route[1] ? route[job_] : 0xffffffffu;                               \
    const bool here_ = expert_ >= p.expert0 && expert_ - p.expert0 < p.n_expert;                  \
    const uint first = here_ ? route[job_ + 1u] : 0u, count = here_ ? route[job_ + 2u] : 0u;      \
    const uint matrix = here_ ? (expert_ - p.expert0) * p.expert_words : 0u;                      \
    const uint vec_at = here_ ? expert_ * p.rows : 0u, cols = here_ ? p.cols : 0u;
#else
#define PRODUCT_FIELDS                                                                            \
    uint count_at;                                                                                \
    uint rows;                                                                                    \
    uint row0;                                                                                    \
    uint cols;                                                                                    \
    uint n_u;                                                                                     \
    uint x_at;                                                                                    \
    uint x_ld;                                                                                    \
    uint xs_ld;                                                                                   \
    uint y_at;                                                                                    \
    uint y_ld;
#define PRODUCT_MORE
#define TOKEN0(n) (gy * (n))
#define X_ROW(t) (t)
#define Y_ROW(t) (t)
#define FIND_WORK                                                                                 \
    const uint count = step[p.count_at], first = 0u, matrix = 0u, vec_at = p.row0, cols = p.cols;
#endif
#define SCALED_BY_ROW 1u
#define BIASED 2u /* of SCALED */
#define FINISH(value, row)                                                                        \
    if (SCALED == SCALED_BY_ROW) value *= rs[vec_at + (row)];                                     \
    if (SCALED == BIASED) value += rs[vec_at + (row)];
