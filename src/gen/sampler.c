/* SPDX-License-Identifier: MIT
 *
 * The sampler: one choice from one row of logits.
 *
 *     logits -> hook, bias, mask -> plain -> penalties -> top-k, top-p, min-p -> temperature ->
 * draw
 *                                     |
 *                                     +-> log-probabilities
 *
 * Each truncation keeps a best-first prefix of the vocabulary, so their intersection is one cut:
 * everything at least as good as one candidate survives. The draw then walks the survivors by id.
 * Log-probabilities are those of the model with hook and bias, before penalties: a penalised
 * token still reports what the model thought of it.
 *
 * Where settings look at few tokens (arg-max, top-k, min-p alone), the few logits that a staged
 * head finds are enough: gen_sampler_want says which, gen_sample_found samples from them. Both ways
 * run the same code, once over the vocabulary, once over a part of it in the same order; what is
 * left out could not have been chosen, and no sum runs over it. Tokens with a bias or a penalty are
 * wanted whatever their logits are, because only afterwards is it known how good they are. Where a
 * mask forbids one of those found there may be too few: then all logits are looked at, as where the
 * mask is a list.
 *
 * Owns: two rows of floats, a list of candidates, and with penalties a row of counters, all
 * allocated at creation; sampling allocates nothing. One thread at a time.
 */
#include "gen/gen_internal.h"

#include <assert.h>
#include <float.h>
#include <math.h>

struct gen_sampler {
    gen_sampling opt; /* settings; bias is borrowed */
    uint32_t n_vocab; /* V */
    gen_mask mask;    /* what may be chosen now */
    base_rng rng;     /* one number per drawn token */
    base_arena arena; /* everything below */
    float *plain;     /* [V] logits after hook and bias */
    float *work;      /* [V] after penalties; then weights */
    gen_cand *cand;   /* [V] candidates */
    uint32_t *count;  /* [V] occurrences, zero between calls; NULL without penalties or bias */
    uint32_t *id;     /* [V] token of each logit, when they are a part of the vocabulary */
    uint32_t *aside;  /* [MAX_ASIDE] tokens with a bias or a penalty */
};

enum { MAX_ASIDE = 1024 }; /* more of them are not looked up one by one */

gen_sampling gen_sampling_default(void) {
    return (gen_sampling){.temperature = 0.8f,
                          .top_k = 40,
                          .top_p = 0.95f,
                          .min_p = 0.05f,
                          .repeat_penalty = 1.0f,
                          .penalty_last_n = 64};
}

/* ==== Creation ================================================================================ */

typedef struct range {
    const char *name; /* of the setting */
    float value;      /* given */
    float lo, hi;     /* allowed, both included */
} range;

static rotor_status check(const gen_sampling *o, uint32_t n_vocab, rotor_error *err) {
    const range ranges[] = {
        {"temperature", o->temperature, 0.0f, 1e6f},
        {"top_k", (float)o->top_k, 0.0f, 4294967296.0f},
        {"top_p", o->top_p, 0.0f, 1.0f},
        {"min_p", o->min_p, 0.0f, 1.0f},
        {"repeat_penalty", o->repeat_penalty, 1e-3f, 1e3f},
        {"frequency_penalty", o->frequency_penalty, -1e3f, 1e3f},
        {"presence_penalty", o->presence_penalty, -1e3f, 1e3f},
    };
    for (size_t i = 0; i < BASE_COUNT(ranges); i++) {
        const range *r = &ranges[i];
        if (!(r->value >= r->lo && r->value <= r->hi))
            return base_fail(err, ROTOR_E_ARG, "sampling: %s is %g, expected %g to %g", r->name,
                             (double)r->value, (double)r->lo, (double)r->hi);
    }
    for (size_t i = 0; i < o->n_bias; i++) {
        if (o->bias[i].id >= n_vocab)
            return base_fail(err, ROTOR_E_ARG, "sampling: bias for token %u, the vocabulary has %u",
                             o->bias[i].id, n_vocab);
        if (o->bias[i].add != o->bias[i].add)
            return base_fail(err, ROTOR_E_ARG, "sampling: bias for token %u is not a number",
                             o->bias[i].id);
    }
    return ROTOR_OK;
}

static bool has_penalties(const gen_sampling *o) {
    return o->repeat_penalty != 1.0f || o->frequency_penalty != 0.0f || o->presence_penalty != 0.0f;
}

rotor_status gen_sampler_create(gen_sampler **out, const gen_sampling *opt, uint32_t n_vocab,
                                rotor_error *err) {
    assert(n_vocab >= 1);
    ROTOR_TRY(check(opt, n_vocab, err));
    gen_sampler *s = base_alloc(sizeof *s);
    if (!s) return base_fail_nomem(err, "creating a sampler");
    s->opt = *opt;
    s->n_vocab = n_vocab;
    size_t v = n_vocab, row_bytes = (v * sizeof(float) + 63) / 64 * 64;
    bool counts = has_penalties(opt) || opt->n_bias;
    size_t n_rows = 5 + (counts ? 1 : 0); /* a candidate is as large as two floats */
    if (base_arena_create(&s->arena, row_bytes * n_rows + MAX_ASIDE * sizeof(uint32_t)) !=
        ROTOR_OK) {
        gen_sampler_free(&s);
        return base_fail_nomem(err, "creating a sampler");
    }
    s->plain = base_arena_take(&s->arena, v * sizeof(float));
    s->work = base_arena_take(&s->arena, v * sizeof(float));
    s->cand = base_arena_take(&s->arena, v * sizeof(gen_cand));
    s->id = base_arena_take(&s->arena, v * sizeof(uint32_t));
    s->aside = base_arena_take(&s->arena, MAX_ASIDE * sizeof(uint32_t));
    if (counts) s->count = base_arena_take(&s->arena, v * sizeof(uint32_t));
    gen_sampler_reset(s, opt->seed);
    *out = s;
    return ROTOR_OK;
}

void gen_sampler_free(gen_sampler **s) {
    if (!s || !*s) return;
    base_arena_free(&(*s)->arena);
    base_free(*s);
    *s = NULL;
}

void gen_sampler_reset(gen_sampler *s, uint64_t seed) { base_rng_seed(&s->rng, seed); }
void gen_sampler_allow(gen_sampler *s, gen_mask mask) { s->mask = mask; }
void gen_sampler_follow(gen_sampler *s, const gen_sampler *like) { s->rng = like->rng; }

/* ==== Logits ================================================================================== */

static rotor_status prepare(gen_sampler *s, const float *logits, float *max, rotor_error *err) {
    memcpy(s->plain, logits, s->n_vocab * sizeof *logits);
    if (s->opt.hook) s->opt.hook(s->opt.hook_user, s->plain, s->n_vocab);
    for (size_t i = 0; i < s->opt.n_bias; i++) s->plain[s->opt.bias[i].id] += s->opt.bias[i].add;
    gen_forbid(&s->mask, s->plain, s->n_vocab, s->cand);
    if (gen_clean(s->plain, s->n_vocab, max)) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FORMAT,
                     "sampling: none of %u logits is a finite number (broken weights, or every "
                     "token forbidden)",
                     s->n_vocab);
}

static float penalised(const gen_sampling *o, float x, uint32_t count) {
    x = x > 0 ? x / o->repeat_penalty : x * o->repeat_penalty;
    return x - (float)count * o->frequency_penalty - o->presence_penalty;
}

/* The first token that penalties look at. */
static size_t window_begin(const gen_sampler *s, size_t n_history) {
    const size_t last = s->opt.penalty_last_n;
    return last && n_history > last ? n_history - last : 0;
}

/* Fills work; the counters end at zero, as they began. */
static void penalise(gen_sampler *s, const uint32_t *history, size_t n) {
    const size_t first = window_begin(s, n);
    memcpy(s->work, s->plain, s->n_vocab * sizeof *s->work);
    for (size_t i = first; i < n; i++)
        if (history[i] < s->n_vocab) s->count[history[i]]++;
    for (size_t i = first; i < n; i++) {
        uint32_t id = history[i];
        if (id >= s->n_vocab || s->count[id] == 0) continue;
        s->work[id] = penalised(&s->opt, s->work[id], s->count[id]);
        s->count[id] = 0;
    }
}

static void report_top(gen_sampler *s, double log_norm, gen_choice *top, size_t n_top) {
    size_t n = gen_best(s->cand, s->plain, s->n_vocab, n_top);
    gen_sort(s->cand, n);
    for (size_t i = 0; i < n; i++)
        top[i] = (gen_choice){s->cand[i].id, (float)((double)s->cand[i].logit - log_norm)};
    for (size_t i = n; i < n_top; i++) top[i] = (gen_choice){TEXT_NO_ID, -INFINITY};
}

/* ==== Truncation and draw ===================================================================== */

/* A list of n logits: the vocabulary, or the part of it that can matter. */
typedef struct list {
    const float *x; /* [n] logits, by token */
    size_t n;       /* how many */
    float max;      /* the largest */
} list;

/* Top-k is on, and smaller than the vocabulary. */
static bool has_top_k(const gen_sampler *s) {
    return s->opt.top_k > 0 && (size_t)s->opt.top_k < s->n_vocab;
}

/* Worst candidate that top-k and top-p keep; floor is what min-p asks for. */
static gen_cand cut_of_k_and_p(gen_sampler *s, const list *l, float floor) {
    size_t n;
    double total, p = (double)s->opt.top_p;
    if (has_top_k(s)) {
        n = gen_best(s->cand, l->x, l->n, (size_t)s->opt.top_k);
        if (p >= 1) return gen_worst(s->cand, n);
        /* Summed best first: a sum must not depend on the list they were found in. */
        if (n <= DEV_STAGED_BEST) gen_sort(s->cand, n);
        total = gen_mass(s->cand, n, l->max);
    } else {
        if (p >= 1) return (gen_cand){-FLT_MAX, UINT32_MAX};
        total = gen_exp_sum(l->x, l->n, l->max);
        /* V candidates below this together weigh less than what top-p leaves out. */
        double least = (1 - p) * total / (double)l->n;
        float tail = nextafterf(l->max + (float)log(least) - 1e-3f, -FLT_MAX);
        gen_cand enough = {BASE_MAX(BASE_MAX(tail, floor), -FLT_MAX), UINT32_MAX};
        n = gen_collect(s->cand, l->x, l->n, enough);
    }
    return gen_worst(s->cand, gen_prefix_of_mass(s->cand, n, l->max, p * total));
}

static gen_cand find_cut(gen_sampler *s, const list *l) {
    float floor = -FLT_MAX;
    if (s->opt.min_p > 0) floor = BASE_MAX(floor, l->max + (float)log((double)s->opt.min_p));
    gen_cand cut = cut_of_k_and_p(s, l, floor);
    return cut.logit < floor ? (gen_cand){floor, UINT32_MAX} : cut;
}

/* One of the survivors, by weight; weights are left in s->work. */
static uint32_t draw(gen_sampler *s, size_t n, float max) {
    enum { GROUP = 256 };
    float *weight = s->work;
    for (size_t i = 0; i < n; i++) weight[i] = s->cand[i].logit;
    gen_exp(weight, weight, n, max, BASE_MIN(1.0f / s->opt.temperature, FLT_MAX));
    double left = base_rng_double(&s->rng) * gen_sum(weight, n);
    size_t i = 0;
    for (; i + GROUP < n; i += GROUP) {
        double group = gen_sum(weight + i, GROUP);
        if (left < group) break;
        left -= group;
    }
    size_t chosen = SIZE_MAX;
    for (; i < n; i++) {
        if (weight[i] <= 0) continue;
        chosen = i;
        left -= (double)weight[i];
        if (left < 0) break;
    }
    /* Rounding may leave a crumb at the end of a tail without weight: take the last that has some.
     */
    for (size_t j = n; chosen == SIZE_MAX; j--)
        if (weight[j - 1] > 0) chosen = j - 1;
    return s->cand[chosen].id;
}

/* Index in the list of the token chosen. */
static uint32_t choose(gen_sampler *s, const list *l) {
    if (s->opt.temperature == 0) return gen_index_of(l->x, l->n, l->max);
    gen_cand cut = find_cut(s, l);
    return draw(s, gen_collect(s->cand, l->x, l->n, cut), l->max);
}

rotor_status gen_sample(gen_sampler *s, const float *logits, const uint32_t *history,
                        size_t n_history, gen_choice *choice, gen_choice *top, size_t n_top,
                        rotor_error *err) {
    list l = {.x = s->plain, .n = s->n_vocab};
    ROTOR_TRY(prepare(s, logits, &l.max, err));
    double log_norm = (double)l.max + log(gen_exp_sum(s->plain, s->n_vocab, l.max));
    if (has_penalties(&s->opt)) {
        penalise(s, history, n_history);
        if (!gen_clean(s->work, s->n_vocab, &l.max))
            return base_fail(err, ROTOR_E_FORMAT, "sampling: penalties left no finite logit");
        l.x = s->work;
    }
    if (n_top) report_top(s, log_norm, top, n_top);
    uint32_t id = choose(s, &l);
    *choice = (gen_choice){id, (float)((double)s->plain[id] - log_norm)};
    return ROTOR_OK;
}

/* ==== From a part of the vocabulary =========================================================== */

/* Lists a token once; its counter remembers. */
static bool put_aside(gen_sampler *s, uint32_t id, uint32_t *n) {
    if (id >= s->n_vocab || s->count[id]) return true;
    if (*n == MAX_ASIDE) return false;
    s->count[id] = 1;
    s->aside[(*n)++] = id;
    return true;
}

bool gen_sampler_want(gen_sampler *s, const uint32_t *history, size_t n_history, run_want *want) {
    const gen_sampling *o = &s->opt;
    const bool by_k = o->temperature == 0 || (has_top_k(s) && o->top_k <= DEV_STAGED_BEST);
    const bool by_min_p = !has_top_k(s) && o->top_p >= 1 && o->min_p > 0;
    uint32_t n = 0;
    bool fits = !o->hook && !s->mask.only && (by_k || by_min_p);
    if (!fits) return false;
    for (size_t i = 0; fits && i < o->n_bias; i++) fits = put_aside(s, o->bias[i].id, &n);
    if (has_penalties(o))
        for (size_t i = window_begin(s, n_history); fits && i < n_history; i++)
            fits = put_aside(s, history[i], &n);
    for (uint32_t i = 0; i < n; i++) s->count[s->aside[i]] = 0;
    *want = (run_want){.ids = s->aside, .n_ids = n};
    if (o->temperature == 0)
        want->k = 1;
    else if (by_k)
        want->k = (uint32_t)o->top_k;
    else /* a little more: the floor of min-p is rounded */
        want->delta = (float)(-log((double)o->min_p) * (1 + 1e-6) + 1e-6);
    return fits;
}

/* Index of a token in s->id[n], or n. */
static size_t index_of(const gen_sampler *s, size_t n, uint32_t id) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (s->id[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && s->id[lo] == id ? lo : n;
}

static void sort_by_id(gen_cand *c, size_t n) {
    for (size_t i = 1; i < n; i++) {
        gen_cand it = c[i];
        size_t j = i;
        for (; j > 0 && c[j - 1].id > it.id; j--) c[j] = c[j - 1];
        c[j] = it;
    }
}

/* Tokens and logits found, by id: two sorted lists become one. */
static void merge_found(gen_sampler *s, const run_found *f, size_t n_aside) {
    const size_t n = f->n - n_aside;
    for (size_t i = 0; i < n_aside; i++) s->cand[i] = (gen_cand){f->value[n + i], f->id[n + i]};
    sort_by_id(s->cand, n_aside);
    for (size_t i = 0, a = 0, b = 0; i < f->n; i++) {
        bool chosen = b == n_aside || (a < n && f->id[a] < s->cand[b].id);
        s->id[i] = chosen ? f->id[a] : s->cand[b].id;
        s->plain[i] = chosen ? f->value[a] : s->cand[b].logit;
        if (chosen)
            a++;
        else
            b++;
    }
}

/* As penalise, for a part of the vocabulary. */
static void penalise_found(gen_sampler *s, size_t n, const uint32_t *history, size_t n_history) {
    const size_t first = window_begin(s, n_history);
    memcpy(s->work, s->plain, n * sizeof *s->work);
    for (size_t i = first; i < n_history; i++)
        if (history[i] < s->n_vocab) s->count[history[i]]++;
    for (size_t i = first; i < n_history; i++) {
        uint32_t id = history[i];
        if (id >= s->n_vocab || s->count[id] == 0) continue;
        size_t at = index_of(s, n, id);
        s->work[at] = penalised(&s->opt, s->work[at], s->count[id]);
        s->count[id] = 0;
    }
}

bool gen_sample_found(gen_sampler *s, const run_want *want, const run_found *f,
                      const uint32_t *history, size_t n_history, gen_choice *choice) {
    list l = {.x = s->plain, .n = f->n};
    for (size_t i = 0; i + want->n_ids < f->n; i++)
        if (gen_is_banned(&s->mask, f->id[i])) return false;
    merge_found(s, f, want->n_ids);
    for (size_t i = 0; i < s->opt.n_bias; i++)
        s->plain[index_of(s, f->n, s->opt.bias[i].id)] += s->opt.bias[i].add;
    for (size_t i = 0; i < f->n; i++)
        if (gen_is_banned(&s->mask, s->id[i])) s->plain[i] = -INFINITY;
    if (f->n == 0 || !gen_clean(s->plain, f->n, &l.max)) return false;
    if (has_penalties(&s->opt)) {
        penalise_found(s, f->n, history, n_history);
        if (!gen_clean(s->work, f->n, &l.max)) return false;
        l.x = s->work;
    }
    *choice = (gen_choice){s->id[choose(s, &l)], NAN};
    return true;
}

/* ==== By a device ============================================================================= */

bool gen_sampler_draw(const gen_sampler *s, uint32_t ahead, dev_draw *out) {
    const gen_sampling *o = &s->opt;
    if (o->hook || o->n_bias || s->mask.only || s->mask.banned || has_penalties(o)) return false;
    *out = (dev_draw){.k = 1, .top_p = 1, .least = -INFINITY, .heat = 1};
    if (o->temperature == 0) return true;
    if (!has_top_k(s) || o->top_k > DEV_STAGED_BEST) return false;
    base_rng rng = s->rng;
    while (ahead-- > 0) (void)base_rng_double(&rng);
    out->k = (uint32_t)o->top_k;
    out->top_p = o->top_p;
    if (o->min_p > 0) out->least = (float)log((double)o->min_p);
    out->heat = BASE_MIN(1.0f / o->temperature, FLT_MAX);
    out->u = (float)base_rng_double(&rng);
    return true;
}

void gen_sampler_drawn(gen_sampler *s) {
    if (s->opt.temperature != 0) (void)base_rng_double(&s->rng);
}
