/* SPDX-License-Identifier: MIT
 *
 * What running a model takes beside what there is, said before anything of size is allocated. The
 * weights are mapped: where they do not fit, the file cache of the system keeps what it can, and of
 * a mixture only the experts that tokens are sent to are read, ahead of their use.
 */
#include "api/api_internal.h"

#include <stdio.h>

static uint64_t work_bytes(const rotor_engine *e) {
    const uint32_t type = e->m->head.type;
    const bool is_float = type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16;
    const uint64_t copies =
        e->opt.embed ? run_copy_bytes(e->m, e->opt.embed_int8 && !e->opt.float_act) : 0;
    return copies + run_work_bytes(&e->m->hp, e->opt.chunk, e->opt.max_logits,
                                   is_float && e->opt.head != ROTOR_HEAD_FILE);
}

/* Bytes of the file that are mapped and not in use yet. */
static uint64_t mapped_bytes(const rotor_engine *e) {
    const uint64_t owned = e->m->owned_bytes;
    return !e->opt.no_mmap && e->m->file_bytes > owned ? e->m->file_bytes - owned : 0;
}

uint64_t api_available(const rotor_engine *e) {
    const uint64_t held = e->m->file_bytes - mapped_bytes(e); /* taken already */
    if (!e->opt.memory_bytes) return base_available_memory_bytes();
    return e->opt.memory_bytes > held ? e->opt.memory_bytes - held : 0;
}

/* "--kv q8, a smaller --ctx or a smaller quantisation", as far as each would help. */
static void put_advice(const rotor_engine *e, uint64_t need, base_buf *out) {
    if (e->opt.kv != ROTOR_KV_Q8 && e->kv_bytes * 20 > need) base_buf_puts(out, "--kv q8, ");
    if (e->kv_bytes * 20 > need) base_buf_puts(out, "a smaller --ctx, ");
    base_buf_puts(out, "a file of a smaller quantisation");
}

static void warn(const rotor_engine *e, uint64_t need, bool experts) {
    base_buf advice = {0};
    put_advice(e, need, &advice);
    base_log_printf(
        &e->log, BASE_LOG_WARN, "memory: %.1f MB are needed and %.1f MB available: %s; %s %s less",
        (double)need / 1e6, (double)e->have_bytes / 1e6,
        experts ? "experts are read from the file when a token is sent to them, and kept as far as "
                  "there is room"
        : e->opt.no_mmap || !mapped_bytes(e)
            ? "the system may end this program"
            : "the weights are read from the file again for every token, which is slow",
        advice.data ? advice.data : "a smaller model",
        advice.data && strchr(advice.data, ',') ? "take" : "takes");
    base_buf_free(&advice);
}

bool api_plan_memory(rotor_engine *e, bool on_cpu) {
    const uint64_t mapped = mapped_bytes(e);
    e->work_bytes = work_bytes(e);
    e->have_bytes = api_available(e);
    const uint64_t need = mapped + e->kv_bytes + e->work_bytes;
    base_log_printf(
        &e->log, BASE_LOG_INFO,
        "memory: weights %.1f MB%s, cache %.1f MB, work about %.1f MB; available %.1f MB",
        (double)e->m->file_bytes / 1e6, mapped ? " (mapped)" : "", (double)e->kv_bytes / 1e6,
        (double)e->work_bytes / 1e6, (double)e->have_bytes / 1e6);
    const bool on_demand = on_cpu && need > e->have_bytes && mapped && e->m->hp.n_expert;
    if (on_cpu && need > e->have_bytes) warn(e, need, on_demand);
    return on_demand;
}
