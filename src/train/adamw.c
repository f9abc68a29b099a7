/* SPDX-License-Identifier: MIT
 *
 * AdamW and the learning-rate schedule. Threads share the vector in slices; the gradient's norm is
 * summed in fixed blocks, so the result does not depend on how many threads there are.
 */
#include <math.h>

#include "train/train.h"

enum { NORM_BLOCK = 4096 };

train_adamw train_adamw_default(void) {
    return (train_adamw){.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 1.0f};
}

typedef struct adamw_job {
    const train_shape *s;   /* tells matrices from norms */
    const train_adamw *opt; /* settings */
    float lr, decay;        /* of this step */
    float shrink;           /* multiplies the gradient: clipping */
    float fix1, fix2;       /* 1 / (1 - beta^step) */
    float *params, *grads;  /* flat vectors */
    float *m, *v;           /* moments */
} adamw_job;

static double norm_of(const float *g, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i += NORM_BLOCK) {
        float block = 0;
        const size_t end = BASE_MIN(n, i + NORM_BLOCK);
        float lane[16] = {0};
        size_t j = i;
        for (; j + 16 <= end; j += 16)
            for (size_t l = 0; l < 16; l++) lane[l] += g[j + l] * g[j + l];
        for (; j < end; j++) lane[0] += g[j] * g[j];
        for (size_t l = 0; l < 16; l++) block += lane[l];
        sum += (double)block;
    }
    return sqrt(sum);
}

static void update(const adamw_job *j, size_t begin, size_t end, float decay) {
    const train_adamw *o = j->opt;
    for (size_t i = begin; i < end; i++) {
        const float g = j->grads[i] * j->shrink;
        j->m[i] = o->beta1 * j->m[i] + (1 - o->beta1) * g;
        j->v[i] = o->beta2 * j->v[i] + (1 - o->beta2) * g * g;
        const float step = j->m[i] * j->fix1 / (sqrtf(j->v[i] * j->fix2) + o->eps);
        j->params[i] -= j->lr * (step + decay * j->params[i]);
    }
}

static void share_update(void *arg, int thread, int n_threads) {
    const adamw_job *j = arg;
    size_t begin, end;
    par_slice(train_n_params(j->s), 16, thread, n_threads, &begin, &end);
    for (size_t i = 0; i < train_n_tensors(j->s); i++) {
        const train_tensor t = train_tensor_at(j->s, i);
        const size_t stop = t.at + (size_t)t.rows * t.cols;
        const size_t lo = BASE_MAX(begin, t.at), hi = BASE_MIN(end, stop);
        if (lo < hi) update(j, lo, hi, train_is_ternary(t.role) || t.rows > 1 ? j->decay : 0);
    }
}

void train_adamw_step(const train_shape *s, const train_adamw *opt, train_step step,
                      train_vectors *x, par_pool *pool, double *norm) {
    *norm = norm_of(x->grads, train_n_params(s));
    adamw_job j = {.s = s,
                   .opt = opt,
                   .lr = step.lr,
                   .decay = step.decay,
                   .shrink = 1,
                   .fix1 = (float)(1 / (1 - pow((double)opt->beta1, (double)step.number))),
                   .fix2 = (float)(1 / (1 - pow((double)opt->beta2, (double)step.number))),
                   .params = x->params,
                   .grads = x->grads,
                   .m = x->m,
                   .v = x->v};
    if (opt->clip > 0 && *norm > (double)opt->clip) j.shrink = (float)((double)opt->clip / *norm);
    par_run(pool, share_update, &j);
}

void train_schedule_at(const train_schedule *s, uint64_t step, float *lr, float *decay) {
    const double at = s->steps ? (double)(step - 1) / (double)s->steps : 0;
    const bool second = !s->one_stage && at >= 0.5;
    double rate = (double)s->lr * (0.55 + 0.45 * cos(3.14159265358979323846 * at));
    if (second) rate *= 2.0 / 3.0;
    if (step <= s->warm_steps) rate *= (double)step / (double)s->warm_steps;
    *lr = (float)rate;
    *decay = second ? 0 : s->decay;
}
