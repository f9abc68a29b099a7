/* SPDX-License-Identifier: MIT
 *
 * The layers of a decoder, forward and backward, one token row at a time, in `real`. pass_f32.c
 * trains with real = float; the tests instantiate the same lines with double, where central
 * differences and a reference can judge them to ten digits.
 *
 * A backward function adds to gradients of parameters and overwrites gradients of activations
 * unless its name says add. Formulas stand above each.
 */

/* sum of a[i] * b[i] in sixteen partial sums: vectors without reordering by the compiler. */
static real dot(const real *a, const real *b, size_t n) {
    real lane[16] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t l = 0; l < 16; l++) lane[l] += a[i + l] * b[i + l];
    for (; i < n; i++) lane[i % 16] += a[i] * b[i];
    for (size_t l = 0; l < 16; l++) sum += lane[l];
    return sum;
}

/* ==== RMSNorm =================================================================================
 * y = x r g, r = 1 / sqrt(mean(x^2) + eps)
 * dx = r (dy g) - x r^3 mean(x dy g);  dg = dy x r, summed over tokens by the caller. */

static real norm_factor(const real *x, size_t n, real eps) {
    return 1 / REAL_SQRT(dot(x, x, n) / (real)n + eps);
}

#ifndef NORM_ROW
static void norm_row(real *y, const real *x, const real *gain, size_t n, real eps) {
    const real r = norm_factor(x, n, eps);
    for (size_t i = 0; i < n; i++) y[i] = x[i] * r * gain[i];
}
#define NORM_ROW(p, y, x, gain, n) norm_row(y, x, gain, n, (real)(p)->s.eps)
#endif

/* dx[n] += …; dyg is scratch[n]. */
static void norm_back_add(real *dx, const real *dy, const real *x, const real *gain, size_t n,
                          real eps, real *dyg) {
    const real r = norm_factor(x, n, eps);
    for (size_t i = 0; i < n; i++) dyg[i] = dy[i] * gain[i];
    const real pull = dot(x, dyg, n) / (real)n * r * r * r;
    for (size_t i = 0; i < n; i++) dx[i] += r * dyg[i] - x[i] * pull;
}

/* ==== Rotary positions ========================================================================
 * (a, b) = (x_i, x_{i + d/2}) turns by the angle of pair i; the gradient turns back. */

static void rope_row(real *x, size_t n_heads, size_t d, const real *cs, const real *sn, real sign) {
    for (size_t h = 0; h < n_heads; h++, x += d)
        for (size_t i = 0; i < d / 2; i++) {
            const real a = x[i], b = x[i + d / 2], s = sign * sn[i];
            x[i] = a * cs[i] - b * s;
            x[i + d / 2] = a * s + b * cs[i];
        }
}

/* ==== Gate ====================================================================================
 * y = relu(g)^2 u;  dg = 2 relu(g) u dy,  du = relu(g)^2 dy */

/* relu(g) without a branch that no processor can foresee, and so that compilers make vectors of it;
 * exact, because doubling and halving are. */
static inline real relu(real g) { return (g + REAL_ABS(g)) * (real)0.5; }

static void glu_row(real *y, const real *g, const real *u, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const real m = relu(g[i]);
        y[i] = m * m * u[i];
    }
}

/* g and u become their gradients. */
static void glu_back(real *g, real *u, const real *dy, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const real m = relu(g[i]), du = m * m * dy[i];
        g[i] = 2 * m * u[i] * dy[i];
        u[i] = du;
    }
}

/* ==== Softmax =================================================================================
 * p = exp(x - max) / sum;  dx = p (dp - sum(p dp)) */

/* In place; returns log(sum(exp(x))). */
static real softmax_row(const kern *k, real *x, size_t n);

static void softmax_back(real *dp, const real *p, size_t n) {
    const real mean = dot(p, dp, n);
    for (size_t i = 0; i < n; i++) dp[i] = p[i] * (dp[i] - mean);
}
