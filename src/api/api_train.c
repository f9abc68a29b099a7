/* SPDX-License-Identifier: MIT
 *
 * The public face of the train room: vocabularies, presets, and runs.
 */
#include "api/api_internal.h"
#include "cpu/cpu.h"
#include "rotor_train.h"
#include "train/train.h"

/* ==== A vocabulary ============================================================================ */

rotor_tokenizer_options rotor_tokenizer_options_default(void) {
    return (rotor_tokenizer_options){.size = sizeof(rotor_tokenizer_options), .n_vocab = 4096};
}

rotor_status rotor_train_tokenizer(const char *const *files, size_t n_files, const char *out,
                                   const rotor_tokenizer_options *user, rotor_error *err) {
    rotor_tokenizer_options opt = rotor_tokenizer_options_default();
    if (!files || !n_files || !out)
        return base_fail(err, ROTOR_E_ARG, "rotor_train_tokenizer: files or out is missing");
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_tokenizer_options", err));
    const train_tokenizer_options o = {.files = files,
                                       .n_files = n_files,
                                       .n_vocab = opt.n_vocab,
                                       .out = out,
                                       .progress = opt.progress,
                                       .user = opt.user};
    return train_tokenizer(&o, err);
}

/* ==== Presets ================================================================================= */

static const struct {
    const char *name, *help;                                  /* as listed */
    uint32_t n_layer, n_embd, n_head, n_head_kv, n_ff, n_ctx; /* shape */
    uint32_t batch, steps;                                    /* rows per step, steps */
    float lr;                                                 /* highest learning rate */
} presets[] = {
    {"tiny", "0.4 M weights beside the embedding: seconds, to see that it learns", 2, 128, 4, 2,
     384, 128, 8, 150, 4e-3f},
    {"story", "3.2 M weights beside the embedding: short stories, after an hour or two", 8, 192, 6,
     3, 512, 512, 8, 6000, 3e-3f},
};

const char *rotor_train_preset_name(size_t i) {
    return i < BASE_COUNT(presets) ? presets[i].name : NULL;
}
const char *rotor_train_preset_help(size_t i) {
    return i < BASE_COUNT(presets) ? presets[i].help : NULL;
}

rotor_train_options rotor_train_options_default(const char *preset) {
    size_t p = 0;
    for (size_t i = 0; preset && i < BASE_COUNT(presets); i++)
        if (strcmp(preset, presets[i].name) == 0) p = i;
    return (rotor_train_options){.size = sizeof(rotor_train_options),
                                 .n_layer = presets[p].n_layer,
                                 .n_embd = presets[p].n_embd,
                                 .n_head = presets[p].n_head,
                                 .n_head_kv = presets[p].n_head_kv,
                                 .n_ff = presets[p].n_ff,
                                 .n_ctx = presets[p].n_ctx,
                                 .batch = presets[p].batch,
                                 .accumulate = 1,
                                 .steps = presets[p].steps,
                                 .warm_steps = UINT32_MAX,
                                 .eval_rows = 32,
                                 .lr = presets[p].lr,
                                 .decay = 0.1f,
                                 .clip = 1,
                                 .type = "I2_S",
                                 .head_type = "F16"};
}

/* ==== A model ================================================================================= */

struct rotor_train {
    rotor_train_options opt; /* as given; its strings are copies */
    char **kept;             /* [n_kept] copies of strings, owned */
    const char **data;       /* [n_data] of them, owned array */
    size_t n_kept;           /* strings */
    train_run *run;          /* owned */
    bool done;               /* a run has ended well */
};

static rotor_status keep(rotor_train *t, const char **s, rotor_error *err) {
    if (!*s) return ROTOR_OK;
    char *copy = base_strdup(*s);
    if (!copy) return base_fail_nomem(err, "opening a trainer");
    t->kept[t->n_kept++] = copy;
    *s = copy;
    return ROTOR_OK;
}

static rotor_status keep_strings(rotor_train *t, rotor_error *err) {
    const char **strings[] = {&t->opt.heldout, &t->opt.tokenizer, &t->opt.start,     &t->opt.out,
                              &t->opt.log,     &t->opt.type,      &t->opt.head_type, &t->opt.merge};
    t->kept = base_alloc_array(t->opt.n_data + BASE_COUNT(strings), sizeof *t->kept);
    t->data = base_alloc_array(t->opt.n_data, sizeof *t->data);
    if (!t->kept || !t->data) return base_fail_nomem(err, "opening a trainer");
    for (size_t i = 0; i < BASE_COUNT(strings); i++) ROTOR_TRY(keep(t, strings[i], err));
    for (size_t i = 0; i < t->opt.n_data; i++) {
        t->data[i] = t->opt.data[i];
        ROTOR_TRY(keep(t, &t->data[i], err));
    }
    return ROTOR_OK;
}

static bool on_step(void *user, const train_report *r) {
    const rotor_train *t = user;
    const rotor_train_step step = {.step = r->row.step,
                                   .steps = r->steps,
                                   .loss = r->row.loss,
                                   .held_loss = r->row.held,
                                   .tok_per_s = r->row.tok_per_s,
                                   .grad_norm = r->norm,
                                   .left_s = r->left_s,
                                   .lr = r->lr,
                                   .saved = r->saved};
    return !t->opt.on_step || t->opt.on_step(t->opt.user, &step);
}

static void say(void *user, base_log_level level, const char *line) {
    const rotor_train *t = user;
    t->opt.log_line(t->opt.user, (int)level, line);
}

static uint32_t or_part(uint32_t given, uint32_t steps, uint32_t parts) {
    return given ? given : BASE_MAX(steps / parts, 1u);
}

static rotor_status shape_of(const rotor_train_options *o, train_shape *s, rotor_error *err) {
    *s = (train_shape){.n_ctx = o->n_ctx,
                       .full_float = o->full_precision,
                       .lora_rank = o->lora_rank,
                       .lora_alpha = o->lora_alpha == 0 ? 2 * (float)o->lora_rank : o->lora_alpha};
    if (o->start) return ROTOR_OK; /* the file says the rest */
    if (!o->n_head || o->n_embd % o->n_head)
        return base_fail(err, ROTOR_E_ARG, "--embd %u cannot be shared by --heads %u", o->n_embd,
                         o->n_head);
    *s = (train_shape){.n_embd = o->n_embd,
                       .n_layer = o->n_layer,
                       .n_head = o->n_head,
                       .n_head_kv = o->n_head_kv,
                       .d_head = o->n_embd / o->n_head,
                       .n_ff = o->n_ff,
                       .n_ctx = o->n_ctx,
                       .rope_base = 10000,
                       .eps = 1e-5f,
                       .full_float = o->full_precision};
    return ROTOR_OK;
}

static rotor_status open_run(rotor_train *t, rotor_error *err) {
    const rotor_train_options *o = &t->opt;
    unsigned mask = ~0u;
    train_run_options r = {.save_every = or_part(o->save_every, o->steps, 20),
                           .eval_every = or_part(o->eval_every, o->steps, 20),
                           .eval_rows = o->eval_rows,
                           .recompute = o->recompute,
                           .resume = o->resume,
                           .n_threads = o->threads ? o->threads : base_core_count(),
                           .texts = {t->data, o->n_data, o->heldout},
                           .tokenizer = o->tokenizer,
                           .start = o->start,
                           .out = o->out,
                           .log = o->log,
                           .merge = o->merge,
                           .type = o->type,
                           .head_type = o->head_type,
                           .on_step = on_step,
                           .user = t,
                           .say = {o->log_line ? say : NULL, t}};
    if (o->cpu) ROTOR_TRY(cpu_parse_mask(o->cpu, &mask, err));
    r.cpu = cpu_detect() & mask;
    ROTOR_TRY(shape_of(o, &r.set.shape, err));
    r.set.schedule =
        (train_schedule){.lr = o->lr,
                         .decay = o->decay,
                         .warm_steps = o->warm_steps == UINT32_MAX ? o->steps / 20 : o->warm_steps,
                         .steps = o->steps,
                         .one_stage = o->one_stage};
    r.set.opt = train_adamw_default();
    r.set.opt.clip = o->clip;
    r.set.batch = o->batch;
    r.set.accumulate = o->accumulate;
    r.set.seed = o->seed;
    return train_run_open(&t->run, &r, err);
}

static rotor_status check(const rotor_train_options *o, rotor_error *err) {
    if (!o->n_data || !o->data || (!o->tokenizer && !o->start) || !o->out || !o->type ||
        !o->head_type)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_train_open: data, tokenizer, out, type and head_type are needed");
    for (size_t i = 0; i < o->n_data; i++)
        if (!o->data[i]) return base_fail(err, ROTOR_E_ARG, "rotor_train_open: data is NULL");
    if (o->threads < 0 || o->threads > 1024)
        return base_fail(err, ROTOR_E_ARG, "threads is %d, expected 0 to 1024", o->threads);
    if (o->lora_rank && (!o->start || o->full_precision))
        return base_fail(err, ROTOR_E_ARG,
                         "an adapter (lora_rank %u) is learnt beside a ternary model: start names "
                         "it, and there is no full-precision twin",
                         o->lora_rank);
    if (o->merge && !o->lora_rank)
        return base_fail(err, ROTOR_E_ARG, "merge without lora_rank: there is no adapter to merge");
    return ROTOR_OK;
}

rotor_status rotor_train_open(rotor_train **out, const rotor_train_options *user,
                              rotor_error *err) {
    rotor_train_options opt = rotor_train_options_default(NULL);
    if (!out || !user) return base_fail(err, ROTOR_E_ARG, "rotor_train_open: out or opt is NULL");
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_train_options", err));
    ROTOR_TRY(check(&opt, err));
    rotor_train *t = base_alloc(sizeof *t);
    if (!t) return base_fail_nomem(err, "opening a trainer");
    t->opt = opt;
    rotor_status st = keep_strings(t, err);
    if (st == ROTOR_OK) st = open_run(t, err);
    t->opt.cpu = NULL;
    if (st == ROTOR_OK)
        *out = t;
    else
        rotor_train_close(&t);
    return st;
}

void rotor_train_close(rotor_train **pt) {
    if (!pt || !*pt) return;
    rotor_train *t = *pt;
    train_run_close(&t->run);
    for (size_t i = 0; i < t->n_kept; i++) base_free(t->kept[i]);
    base_free(t->kept);
    base_free(t->data);
    base_free(t);
    *pt = NULL;
}

rotor_status rotor_train_get_plan(const rotor_train *t, rotor_train_plan *plan) {
    if (!t || !plan || plan->size < 8 || plan->size % 8 != 0) return ROTOR_E_ARG;
    const train_shape *s = train_run_shape(t->run);
    const train_memory m = train_memory_of(s, train_run_rows(t->run), t->opt.recompute,
                                           t->opt.threads ? t->opt.threads : base_core_count());
    const uint64_t frozen = m.frozen + (t->opt.merge ? train_merge_bytes(s) : 0);
    rotor_train_plan all = {.size = plan->size,
                            .n_vocab = s->n_vocab,
                            .n_params = train_n_weights(s),
                            .n_learnt = train_n_params(s),
                            .frozen_bytes = frozen,
                            .tok_per_step = (uint64_t)t->opt.batch * s->n_ctx,
                            .params_bytes = m.params,
                            .grads_bytes = m.grads,
                            .moments_bytes = m.moments,
                            .activation_bytes = m.activations,
                            .scratch_bytes = m.scratch};
    all.total_bytes = m.params + m.grads + m.moments + m.activations + m.scratch + frozen;
    train_shape whole = *s;
    whole.lora_rank = 0;
    for (size_t i = 0; i < train_n_tensors(&whole); i++) {
        const train_tensor x = train_tensor_at(&whole, i);
        if (train_is_ternary(x.role)) all.n_ternary += (uint64_t)x.rows * x.cols;
    }
    train_model out;
    if (s->lora_rank)
        all.model_bytes = 4 * all.n_learnt;
    else if (train_run_model(t->run, NULL, NULL, &out, NULL) == ROTOR_OK)
        ROTOR_TRY(train_export_check(&out, &all.model_bytes, NULL));
    memcpy(plan, &all, BASE_MIN(sizeof all, (size_t)plan->size));
    return ROTOR_OK;
}

rotor_status rotor_train_run(rotor_train *t, rotor_error *err) {
    if (!t) return base_fail(err, ROTOR_E_ARG, "rotor_train_run: t is NULL");
    t->done = false;
    ROTOR_TRY(train_run_go(t->run, err));
    t->done = true;
    return ROTOR_OK;
}

rotor_status rotor_train_export(rotor_train *t, const char *path, const char *type,
                                const char *head_type, rotor_error *err) {
    train_model m;
    if (!t || !path) return base_fail(err, ROTOR_E_ARG, "rotor_train_export: t or path is NULL");
    if (!t->done) return base_fail(err, ROTOR_E_STATE, "a model can be exported after a run");
    if (t->opt.lora_rank) return train_run_adapter(t->run, path, type ? type : "F32", err);
    ROTOR_TRY(train_run_model(t->run, type, head_type, &m, err));
    const size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0 ? train_export_gguf(&m, path, err)
                                                       : train_export_hf(&m, path, err);
}

rotor_status rotor_train_logits(rotor_train *t, const uint32_t *tokens, size_t n, float *logits,
                                rotor_error *err) {
    if (!t || !tokens || !logits || n > UINT32_MAX)
        return base_fail(err, ROTOR_E_ARG, "rotor_train_logits: an argument is missing");
    return train_run_logits(t->run, tokens, (uint32_t)n, logits, err);
}
