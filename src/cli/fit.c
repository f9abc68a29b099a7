/* SPDX-License-Identifier: MIT
 *
 * Does a model fit: what rotor inspect prints for a file that is here and rotor pull for one that
 * is not, reckoned from the same facts.
 */
#include "cli/cli.h"

static const double kv_bytes_of[] = {2, 4, 34.0 / 32}; /* by --kv: f16, f32, q8 */

uint64_t cli_memory_available(const cli_args *a) {
    const uint64_t given = (uint64_t)cli_int(a, OPT_MEMORY) << 20;
    return given ? given : base_available_memory_bytes();
}

const char *cli_memory_advice(const tool_facts *t, uint64_t n_ctx, uint64_t have) {
    const uint64_t w = t->tensor_bytes;
    if (w + tool_kv_bytes(t, n_ctx, 2) <= have) return "";
    if (w + tool_kv_bytes(t, n_ctx, 34.0 / 32) <= have) return "  too much: --kv q8 fits";
    if (w + tool_kv_bytes(t, 512, 2) <= have) return "  too much: a smaller --ctx fits";
    return t->n_expert ? "  too much: experts would be read on demand"
                       : "  too much: a file of a smaller quantisation is needed";
}

/* The context a model would get: --ctx, 0 the model's; not said: at most 4096. */
static uint64_t context_of(const cli_args *a, const tool_facts *t) {
    const uint64_t model = t->n_ctx ? t->n_ctx : 4096;
    if (!cli_given(a, OPT_CTX)) return BASE_MIN(model, (uint64_t)4096);
    const uint64_t asked = (uint64_t)cli_int(a, OPT_CTX);
    return asked ? asked : model;
}

/* What to turn so that it fits, in a few words. */
static const char *knob(const cli_fit *f, const tool_facts *t, bool kv_is_f16) {
    const uint64_t fixed = f->weights_bytes + f->work_bytes;
    if (kv_is_f16 && fixed + tool_kv_bytes(t, f->n_ctx, 34.0 / 32) <= f->limit_bytes)
        return "--kv q8 fits";
    if (fixed + tool_kv_bytes(t, 512, 34.0 / 32) <= f->limit_bytes) return "a smaller --ctx fits";
    return "a file of a smaller quantisation, or a smaller model, is needed";
}

cli_fit cli_fit_of(const cli_args *a, const tool_facts *t) {
    const uint64_t given = (uint64_t)cli_int(a, OPT_MEMORY) << 20;
    const int64_t kv = cli_int(a, OPT_KV);
    cli_fit f = {.n_ctx = context_of(a, t), .kv = cli_text(a, OPT_KV)};
    f.weights_bytes = t->tensor_bytes;
    f.kv_bytes = tool_kv_bytes(t, f.n_ctx, kv_bytes_of[kv >= 0 && kv < 3 ? kv : 0]);
    f.work_bytes = tool_work_bytes(t);
    f.need_bytes = f.weights_bytes + f.kv_bytes + f.work_bytes;
    f.limit_bytes = given ? given : base_memory_limit_bytes();
    f.free_bytes = given ? given : base_available_memory_bytes();
    f.fits = f.need_bytes <= f.limit_bytes;
    f.knob = f.fits ? "" : knob(&f, t, kv == 0);
    return f;
}

void cli_fit_text(const cli_fit *f, base_buf *out) {
    char need[32], weights[32], kv[32], work[32], limit[32], now[32];
    base_buf_printf(
        out, "memory: %s needed (weights %s, cache %s for %llu tokens in %s, work about %s), ",
        cli_bytes(f->need_bytes, need), cli_bytes(f->weights_bytes, weights),
        cli_bytes(f->kv_bytes, kv), (unsigned long long)f->n_ctx, f->kv,
        cli_bytes(f->work_bytes, work));
    if (!f->fits)
        base_buf_printf(out, "does not fit in %s: %s", cli_bytes(f->limit_bytes, limit), f->knob);
    else if (f->need_bytes > f->free_bytes)
        base_buf_printf(out, "fits in %s, though only %s are free now",
                        cli_bytes(f->limit_bytes, limit), cli_bytes(f->free_bytes, now));
    else
        base_buf_printf(out, "fits in %s", cli_bytes(f->limit_bytes, limit));
}
