/* SPDX-License-Identifier: MIT
 *
 * A run: from texts to a model. `train_run_go` at the end is the run; before it stand its parts.
 *
 * What decides a bit of the result is in train_settings and in the step's number: the rows of a
 * step are found from seed and step, the rates from the step, and everything else is in the vectors
 * that a checkpoint holds. So a run that was killed and goes on is the run that was not killed.
 *
 * Order of a step: forward and backward of each part, update, held-out loss, log, checkpoint. The
 * log is written before the checkpoint, so that it never ends before the step a resumed run starts
 * from.
 */
#include "model/model.h"
#include "train/train.h"

#include <math.h>
#include <stdio.h>

enum { LOG_EVERY_US = 2000000 };

struct train_run {
    train_run_options opt;     /* as given; hashes and n_vocab filled in */
    file_model *own_words;     /* with opt.tokenizer: its file, owned */
    text_vocab *own_vocab;     /* and what it says, owned */
    train_frozen base;         /* with lora_rank: what the adapter learns beside */
    model *start;              /* with opt.start otherwise: the master, owned */
    const file_model *words;   /* file of the tokenizer, of one of these */
    const text_vocab *vocab;   /* the tokenizer, of one of these */
    char *name;                /* of the model, owned: the file's without folder and .gguf */
    char *checkpoint, *tokens; /* paths, owned */
    char *svg;                 /* path, owned; NULL: no log */
    par_pool *pool;            /* owned */
    kern k;                    /* kernels */
    train_tokens data;         /* mapped while running */
    train_pass *pass;          /* owned, once running */
    train_vectors x;           /* owned, once running */
    uint32_t *token, *target;  /* [batch, n_ctx] of a step, owned */
    uint64_t step;             /* done */
    train_log log;             /* rows so far */
    uint64_t logged_us;        /* when the log was written last */
    uint64_t began_us;         /* when the first step of this process began */
    uint64_t began_step;       /* steps done before it */
};

/* ==== Opening ================================================================================= */

static char *with_end(const char *path, const char *end) {
    base_buf b = {0};
    base_buf_printf(&b, "%s%s", path, end);
    if (b.failed) base_buf_free(&b);
    return b.data;
}

static char *without_end(const char *path, const char *end) {
    const size_t n = strlen(path), m = strlen(end);
    return base_strndup(path, n > m && strcmp(path + n - m, end) == 0 ? n - m : n);
}

static char *model_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return without_end(slash ? slash + 1 : path, ".gguf");
}

/* "F.csv" becomes "F.svg". */
static char *svg_path(const char *csv) {
    char *stem = without_end(csv, ".csv");
    char *path = stem ? with_end(stem, ".svg") : NULL;
    base_free(stem);
    return path;
}

enum { LORA_CTX = 512 }; /* most tokens in a row beside a model, unless asked for */

/* A model that stands still. */
static rotor_status open_base(train_run *r, rotor_error *err) {
    train_shape *s = &r->opt.set.shape;
    ROTOR_TRY(train_frozen_open(&r->base, r->opt.start, r->pool, &r->opt.say, err));
    const model *m = r->base.m;
    train_frozen_shape(&r->base, s);
    if (!s->n_ctx) s->n_ctx = BASE_MIN(m->hp.n_ctx, (uint32_t)LORA_CTX);
    r->words = m->file;
    r->vocab = m->vocab;
    if (!m->vocab)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: no vocabulary in it, and texts cannot become tokens without one",
                         r->opt.start);
    if (r->opt.merge && file_kind_of(m->file) != FILE_GGUF)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s is a folder, and --merge writes a GGUF file anew; rotor convert makes "
                         "one of it",
                         r->opt.start);
    return r->opt.merge ? train_merge_check(r->words, s, err) : ROTOR_OK;
}

/* A master, all of which learns. */
static rotor_status open_master(train_run *r, rotor_error *err) {
    ROTOR_TRY(train_start_open(&r->start, r->opt.start, &r->opt.say, err));
    train_start_shape(r->start, &r->opt.set.shape);
    r->words = r->start->file;
    r->vocab = r->start->vocab;
    return ROTOR_OK;
}

static rotor_status open_tokenizer(train_run *r, rotor_error *err) {
    const char *path = r->opt.tokenizer;
    ROTOR_TRY(file_open(&r->own_words, path, NULL, err));
    if (file_kind_of(r->own_words) != FILE_GGUF)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: the tokenizer must be a GGUF file, as rotor train-tokenizer writes "
                         "it; rotor convert makes one of a folder",
                         path);
    ROTOR_TRY(model_vocab(&r->own_vocab, r->own_words, &r->opt.say, err));
    r->words = r->own_words;
    r->vocab = r->own_vocab;
    r->opt.set.shape.n_vocab = (uint32_t)text_n_tokens(r->vocab);
    return ROTOR_OK;
}

/* Tokenizer and sizes, from wherever they come. */
static rotor_status open_words(train_run *r, rotor_error *err) {
    ROTOR_TRY(!r->opt.start                ? open_tokenizer(r, err)
              : r->opt.set.shape.lora_rank ? open_base(r, err)
                                           : open_master(r, err));
    if (text_eos(r->vocab) == TEXT_NO_ID)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: the tokenizer has no end-of-text token, so a model could never stop",
                         file_path(r->words));
    r->opt.set.vocab_hash = train_vocab_hash(r->vocab);
    return ROTOR_OK;
}

/* The model must not take the place of what it is made from. */
static rotor_status check_out(const train_run_options *o, rotor_error *err) {
    const char *const made_from[] = {o->texts.held, o->tokenizer, o->start};
    bool same = false;
    for (size_t i = 0; i < BASE_COUNT(made_from); i++)
        same |= made_from[i] && strcmp(o->out, made_from[i]) == 0;
    for (size_t i = 0; i < o->texts.n_files; i++) same |= strcmp(o->out, o->texts.files[i]) == 0;
    if (same)
        return base_fail(err, ROTOR_E_ARG,
                         "-o %s would overwrite what the model is made from; give another name",
                         o->out);
    if (base_path_kind_of(o->out) == BASE_PATH_DIR)
        return base_fail(err, ROTOR_E_ARG, "-o %s is a folder; give the name of a .gguf file",
                         o->out);
    return ROTOR_OK;
}

static rotor_status check(const train_run_options *o, rotor_error *err) {
    const train_settings *s = &o->set;
    if (s->schedule.steps < 1) return base_fail(err, ROTOR_E_ARG, "--steps must be at least 1");
    if (s->batch < 1 || s->batch > 65536)
        return base_fail(err, ROTOR_E_ARG, "--batch is %u; it must be 1 to 65536", s->batch);
    if (s->accumulate < 1 || s->batch % s->accumulate)
        return base_fail(err, ROTOR_E_ARG, "--batch %u cannot be computed in %u equal parts",
                         s->batch, s->accumulate);
    if (!(s->schedule.lr > 0) || !(s->schedule.lr < 1))
        return base_fail(err, ROTOR_E_ARG, "--lr is %g; it must lie between 0 and 1",
                         (double)s->schedule.lr);
    for (size_t i = 0; i < o->texts.n_files && o->texts.n_files > 1; i++)
        if (train_is_token_file(o->texts.files[i]))
            return base_fail(err, ROTOR_E_ARG, "%s is a token file, which stands alone",
                             o->texts.files[i]);
    return check_out(o, err);
}

static rotor_status open_run(train_run *r, rotor_error *err) {
    const train_run_options *o = &r->opt;
    uint64_t n_bytes;
    train_model m;
    ROTOR_TRY(check(o, err));
    ROTOR_TRY(par_create(&r->pool, o->n_threads, false, err));
    ROTOR_TRY(open_words(r, err));
    ROTOR_TRY(train_shape_check(&o->set.shape, err));
    if (!o->set.shape.full_float && !o->set.shape.lora_rank) {
        ROTOR_TRY(train_run_model(r, NULL, NULL, &m, err));
        ROTOR_TRY(train_export_check(&m, &n_bytes, err));
    }
    r->name = model_name(o->out);
    r->checkpoint = with_end(o->out, ".checkpoint");
    r->tokens = with_end(o->out, ".tokens");
    if (o->log) r->svg = svg_path(o->log);
    if (!r->name || !r->checkpoint || !r->tokens || (o->log && !r->svg))
        return base_fail_nomem(err, "opening a run");
    kern_init(&r->k, o->cpu);
    return ROTOR_OK;
}

rotor_status train_run_open(train_run **out, const train_run_options *opt, rotor_error *err) {
    train_run *r = base_alloc(sizeof *r);
    if (!r) return base_fail_nomem(err, "opening a run");
    r->opt = *opt;
    rotor_status st = open_run(r, err);
    if (st == ROTOR_OK)
        *out = r;
    else
        train_run_close(&r);
    return st;
}

/* What only a running run holds. */
static void release(train_run *r) {
    train_pass_free(&r->pass);
    train_tokens_close(&r->data);
    train_log_free(&r->log);
    base_free_aligned(r->x.params);
    base_free_aligned(r->x.grads);
    base_free_aligned(r->x.m);
    base_free_aligned(r->x.v);
    base_free(r->token);
    base_free(r->target);
    r->x = (train_vectors){0};
    r->token = r->target = NULL;
}

void train_run_close(train_run **pr) {
    train_run *r = *pr;
    if (!r) return;
    release(r);
    train_frozen_close(&r->base);
    par_free(&r->pool);
    model_close(&r->start);
    text_vocab_free(&r->own_vocab);
    file_close(&r->own_words);
    base_free(r->name);
    base_free(r->checkpoint);
    base_free(r->tokens);
    base_free(r->svg);
    base_free(r);
    *pr = NULL;
}

const train_shape *train_run_shape(const train_run *r) { return &r->opt.set.shape; }
uint32_t train_run_rows(const train_run *r) { return r->opt.set.batch / r->opt.set.accumulate; }

rotor_status train_run_model(const train_run *r, const char *type, const char *head_type,
                             train_model *m, rotor_error *err) {
    if (r->opt.set.shape.full_float)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "a full-precision twin is for comparing losses; only ternary models are "
                         "exported");
    *m = (train_model){.s = &r->opt.set.shape,
                       .params = r->x.params,
                       .tokenizer = r->words,
                       .folder = file_kind_of(r->words) == FILE_GGUF ? NULL : r->start,
                       .name = r->name,
                       .type = type ? type : r->opt.type,
                       .head_type = head_type ? head_type : r->opt.head_type};
    return ROTOR_OK;
}

/* ==== Preparing =============================================================================== */

static rotor_status open_data(train_run *r, rotor_error *err) {
    const train_texts *t = &r->opt.texts;
    const uint32_t n_ctx = r->opt.set.shape.n_ctx;
    const bool ready = train_is_token_file(t->files[0]);
    if (!ready) ROTOR_TRY(train_tokens_make(r->tokens, t, r->vocab, err));
    ROTOR_TRY(train_tokens_open(&r->data, ready ? t->files[0] : r->tokens, err));
    const train_tokens *d = &r->data;
    if (d->vocab_hash != r->opt.set.vocab_hash || d->n_vocab != text_n_tokens(r->vocab))
        return base_fail(err, ROTOR_E_ARG,
                         "%s was made with another tokenizer (of %u tokens) than %s (of %zu); its "
                         "numbers would mean other words: give its tokenizer, or the texts",
                         d->file.path, d->n_vocab, file_path(r->words), text_n_tokens(r->vocab));
    if (d->n_train <= n_ctx || d->n_held < 8)
        return base_fail(
            err, ROTOR_E_ARG,
            "the data is too small: %llu tokens to learn from and %llu held out, and a "
            "row needs %u; give more text or a smaller --ctx",
            (unsigned long long)d->n_train, (unsigned long long)d->n_held, n_ctx + 1);
    r->opt.set.content_hash = d->content_hash;
    base_log_printf(&r->opt.say, BASE_LOG_INFO,
                    "data: %.2f M tokens to learn from, %.1f K held out; %.1f epochs",
                    (double)d->n_train / 1e6, (double)d->n_held / 1e3,
                    (double)r->opt.set.schedule.steps * r->opt.set.batch * n_ctx /
                        (double)d->n_train);
    return ROTOR_OK;
}

static rotor_status allocate(train_run *r, rotor_error *err) {
    const train_settings *s = &r->opt.set;
    const size_t bytes = train_n_params(&s->shape) * sizeof(float);
    const size_t tokens = (size_t)s->batch * s->shape.n_ctx;
    float **list[] = {&r->x.params, &r->x.grads, &r->x.m, &r->x.v};
    for (size_t i = 0; i < BASE_COUNT(list); i++)
        if (!(*list[i] = base_alloc_aligned(bytes))) return base_fail_nomem(err, "starting a run");
    r->token = base_alloc_array(tokens, sizeof *r->token);
    r->target = base_alloc_array(tokens, sizeof *r->target);
    if (!r->token || !r->target) return base_fail_nomem(err, "starting a run");
    ROTOR_TRY(train_pass_create(&r->pass, &s->shape, train_run_rows(r), r->opt.recompute, &r->k,
                                r->pool, err));
    if (s->shape.lora_rank) train_pass_beside(r->pass, &r->base);
    return ROTOR_OK;
}

/* From the checkpoint, or from the beginning, which must not cost an unfinished run its work. */
static rotor_status find_start(train_run *r, rotor_error *err) {
    uint64_t step, steps;
    const bool is_there = base_path_kind_of(r->checkpoint) != BASE_PATH_NONE;
    if (r->opt.resume && !is_there)
        return base_fail(err, ROTOR_E_IO,
                         "%s: cannot open: no run got as far as a checkpoint here; leave out "
                         "--resume to begin one",
                         r->checkpoint);
    if (r->opt.resume) {
        ROTOR_TRY(train_checkpoint_load(r->checkpoint, &r->opt.set, &r->step, &r->x, err));
        base_log_printf(&r->opt.say, BASE_LOG_INFO, "going on behind step %llu",
                        (unsigned long long)r->step);
        return ROTOR_OK;
    }
    if (is_there) {
        ROTOR_TRY(train_checkpoint_peek(r->checkpoint, &step, &steps, err));
        if (step < steps)
            return base_fail(err, ROTOR_E_STATE,
                             "%s holds a run that got to step %llu of %llu; --resume goes on with "
                             "it, or remove the file to begin anew",
                             r->checkpoint, (unsigned long long)step, (unsigned long long)steps);
    }
    r->step = 0;
    if (r->opt.start && !r->opt.set.shape.lora_rank)
        return train_start_params(r->start, &r->opt.set.shape, r->x.params, err);
    train_init(&r->opt.set.shape, r->x.params, r->opt.set.seed);
    return ROTOR_OK;
}

static rotor_status write_log(train_run *r, rotor_error *err) {
    r->logged_us = base_now_us();
    if (!r->opt.log) return ROTOR_OK;
    ROTOR_TRY(train_log_write_csv(&r->log, r->opt.log, err));
    return train_log_write_svg(&r->log, r->svg, err);
}

/* What must not fail first after hours: the log can be gone on with and written, and there is a
 * place for checkpoints. */
static rotor_status try_outputs(train_run *r, rotor_error *err) {
    base_out o;
    if (r->opt.log) ROTOR_TRY(train_log_read(&r->log, r->opt.log, r->step, err));
    ROTOR_TRY(write_log(r, err));
    ROTOR_TRY(base_out_open(&o, r->checkpoint, err));
    base_out_abort(&o);
    return ROTOR_OK;
}

/* ==== A step ================================================================================== */

static uint32_t count_targets(const uint32_t *target, size_t n) {
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) count += target[i] != TRAIN_NO_TARGET;
    return count;
}

static void read_rows(train_run *r) {
    const train_settings *s = &r->opt.set;
    const uint32_t n_ctx = s->shape.n_ctx;
    for (uint32_t row = 0; row < s->batch; row++) {
        const uint64_t at =
            train_window_at(r->data.n_train, n_ctx, s->seed, (r->step - 1) * s->batch + row);
        train_window_read(r->data.train, at, n_ctx, r->token + (size_t)row * n_ctx,
                          r->target + (size_t)row * n_ctx);
    }
}

static rotor_status in_step(const train_run *r, rotor_status st, rotor_error *err) {
    if (st != ROTOR_OK) base_fail_in(err, st, "step %llu", (unsigned long long)r->step);
    return st;
}

/* Gradient and loss of the step's rows, part by part. */
static rotor_status gradient(train_run *r, double *loss, rotor_error *err) {
    const train_settings *s = &r->opt.set;
    const uint32_t rows = train_run_rows(r), n_ctx = s->shape.n_ctx;
    const size_t part = (size_t)rows * n_ctx;
    const double all = count_targets(r->target, part * s->accumulate);
    *loss = 0;
    memset(r->x.grads, 0, train_n_params(&s->shape) * sizeof *r->x.grads);
    for (uint32_t i = 0; i < s->accumulate && all > 0; i++) {
        const train_batch b = {rows, n_ctx, r->token + i * part, r->target + i * part};
        const double share = count_targets(b.target, part) / all;
        double part_loss;
        ROTOR_TRY(in_step(r, train_forward(r->pass, r->x.params, &b, &part_loss, err), err));
        train_backward(r->pass, (float)share, r->x.grads);
        *loss += share * part_loss;
    }
    return ROTOR_OK;
}

/* Says where something is not a number; what: "the gradient" … of which x is the vector. */
static rotor_status check_numbers(const train_run *r, const float *x, const char *what,
                                  rotor_error *err) {
    static const char *const names[] = {"the embedding",
                                        "the attention norm",
                                        "q",
                                        "k",
                                        "v",
                                        "the attention sub-norm",
                                        "o",
                                        "the ffn norm",
                                        "gate",
                                        "up",
                                        "the ffn sub-norm",
                                        "down",
                                        "the last norm"};
    const train_shape *s = &r->opt.set.shape;
    for (size_t i = train_n_tensors(s); i-- > 0;) {
        const train_tensor t = train_tensor_at(s, i);
        for (size_t j = 0; j < (size_t)t.rows * t.cols; j++)
            if (!isfinite(x[t.at + j]))
                return base_fail(err, ROTOR_E_FORMAT,
                                 "step %llu: %s of %s in layer %u is not a number; a lower --lr "
                                 "may help",
                                 (unsigned long long)r->step, what, names[t.role], t.layer);
    }
    return ROTOR_OK;
}

static rotor_status bad_gradient(const train_run *r, rotor_error *err) {
    ROTOR_TRY(check_numbers(r, r->x.grads, "the gradient", err));
    return base_fail(err, ROTOR_E_FORMAT,
                     "step %llu: the gradient is too large for a number; a lower --lr may help",
                     (unsigned long long)r->step);
}

static rotor_status one_step(train_run *r, train_report *rep, rotor_error *err) {
    const train_settings *s = &r->opt.set;
    train_step step = {.number = ++r->step};
    const uint64_t began = base_now_us();
    read_rows(r);
    ROTOR_TRY(gradient(r, &rep->row.loss, err));
    train_schedule_at(&s->schedule, r->step, &step.lr, &step.decay);
    train_adamw_step(&s->shape, &s->opt, step, &r->x, r->pool, &rep->norm);
    if (!isfinite(rep->norm)) return bad_gradient(r, err);
    const double us = (double)BASE_MAX(base_now_us() - began, (uint64_t)1);
    rep->lr = step.lr;
    rep->row.step = r->step;
    rep->row.held = (double)NAN;
    rep->row.tok_per_s = 1e6 * s->batch * s->shape.n_ctx / us;
    return ROTOR_OK;
}

/* ==== Held-out text =========================================================================== */

/* The loss with these parameters; the same windows every time, spread over all of it. */
static rotor_status measure(train_run *r, const float *params, double *held, rotor_error *err) {
    const train_tokens *d = &r->data;
    const uint32_t n_tok = (uint32_t)BASE_MIN((uint64_t)r->opt.set.shape.n_ctx, d->n_held - 1);
    const uint64_t windows = train_n_windows(d->n_held, n_tok);
    const uint64_t rows = BASE_MIN(windows, (uint64_t)r->opt.eval_rows);
    double sum = 0, n = 0;
    for (uint64_t from = 0; from < rows; from += train_run_rows(r)) {
        const uint32_t count = (uint32_t)BASE_MIN((uint64_t)train_run_rows(r), rows - from);
        for (uint32_t i = 0; i < count; i++)
            train_window_read(d->held, (from + i) * windows / rows * n_tok, n_tok,
                              r->token + (size_t)i * n_tok, r->target + (size_t)i * n_tok);
        const train_batch b = {count, n_tok, r->token, r->target};
        const uint32_t targets = count_targets(r->target, (size_t)count * n_tok);
        double loss;
        ROTOR_TRY(in_step(r, train_forward(r->pass, params, &b, &loss, err), err));
        sum += loss * targets;
        n += targets;
    }
    *held = n > 0 ? sum / n : (double)NAN;
    return ROTOR_OK;
}

/* ==== Keeping ================================================================================= */

/* What has stopped being numbers does not take the place of what has not. */
static rotor_status save(train_run *r, rotor_error *err) {
    ROTOR_TRY(check_numbers(r, r->x.params, "a weight", err));
    ROTOR_TRY(check_numbers(r, r->x.m, "a moment", err));
    ROTOR_TRY(check_numbers(r, r->x.v, "a moment", err));
    ROTOR_TRY(write_log(r, err));
    return train_checkpoint_save(r->checkpoint, &r->opt.set, r->step, &r->x, err);
}

static bool is_due(const train_run *r, uint64_t every) {
    return r->step % every == 0 || r->step == r->opt.set.schedule.steps;
}

/* Held-out loss, log, checkpoint and listener of a finished step. */
static rotor_status after_step(train_run *r, train_report *rep, rotor_error *err) {
    if (is_due(r, r->opt.eval_every)) ROTOR_TRY(measure(r, r->x.params, &rep->row.held, err));
    ROTOR_TRY(train_log_add(&r->log, rep->row, err));
    rep->saved = is_due(r, r->opt.save_every);
    if (rep->saved)
        ROTOR_TRY(save(r, err));
    else if (base_now_us() - r->logged_us > LOG_EVERY_US)
        ROTOR_TRY(write_log(r, err));
    const double us = (double)(base_now_us() - r->began_us);
    rep->steps = r->opt.set.schedule.steps;
    rep->left_s = us / 1e6 / (double)(r->step - r->began_step) * (double)(rep->steps - r->step);
    if (!r->opt.on_step || r->opt.on_step(r->opt.user, rep)) return ROTOR_OK;
    if (!rep->saved) ROTOR_TRY(save(r, err));
    return base_fail(err, ROTOR_E_CANCELLED, "stopped behind step %llu; --resume goes on",
                     (unsigned long long)r->step);
}

/* Whatever ends a run early also says what is left of it. */
static rotor_status tell_kept(const train_run *r, rotor_status st, rotor_error *err) {
    uint64_t step, steps;
    if (!err || st == ROTOR_E_CANCELLED ||
        train_checkpoint_peek(r->checkpoint, &step, &steps, NULL) != ROTOR_OK)
        return st;
    const size_t n = strlen(err->message);
    snprintf(err->message + n, sizeof err->message - n, " (%s keeps step %llu)", r->checkpoint,
             (unsigned long long)step);
    return st;
}

/* ==== The run ================================================================================= */

static rotor_status steps(train_run *r, rotor_error *err) {
    r->began_us = r->logged_us = base_now_us();
    r->began_step = r->step;
    while (r->step < r->opt.set.schedule.steps) {
        train_report rep = {0};
        rotor_status st = one_step(r, &rep, err);
        if (st == ROTOR_OK) st = after_step(r, &rep, err);
        if (st == ROTOR_OK) continue;
        (void)write_log(r, NULL); /* as far as it got, if it can be */
        return tell_kept(r, st, err);
    }
    return ROTOR_OK;
}

/* Held-out loss beside another network, without an adapter. */
static rotor_status measure_merged(train_run *r, double *held, rotor_error *err) {
    train_frozen merged;
    ROTOR_TRY(train_frozen_open(&merged, r->opt.merge, r->pool, &r->opt.say, err));
    merged.fixed = r->base.fixed; /* the same embedding and norms */
    train_pass_beside(r->pass, &merged);
    rotor_status st = measure(r, r->x.grads, held, err);
    train_pass_beside(r->pass, &r->base);
    merged.fixed = NULL;
    train_frozen_close(&merged);
    return st;
}

/* Writes the model with the adapter in it and says what three ways of running it are worth. */
static rotor_status merge(train_run *r, rotor_error *err) {
    double alone, beside, merged;
    train_merged m;
    const train_shape *s = &r->opt.set.shape;
    memset(r->x.grads, 0,
           train_n_params(s) * sizeof *r->x.grads); /* an adapter that adds nothing */
    ROTOR_TRY(measure(r, r->x.grads, &alone, err));
    ROTOR_TRY(measure(r, r->x.params, &beside, err));
    ROTOR_TRY(train_merge(&r->base, r->words, s, r->x.params, r->opt.merge, &m, err));
    ROTOR_TRY(measure_merged(r, &merged, err));
    base_log_printf(&r->opt.say, BASE_LOG_INFO,
                    "held-out loss: %.4f the model alone, %.4f with the adapter, %.4f merged "
                    "(%.2f %% of the ternary weights changed)",
                    alone, beside, merged, 100.0 * (double)m.changed / (double)m.n);
    return ROTOR_OK;
}

rotor_status train_run_adapter(const train_run *r, const char *path, const char *type,
                               rotor_error *err) {
    const train_adapter a = {
        .s = &r->opt.set.shape, .params = r->x.params, .name = r->name, .arch = r->base.m->arch};
    return train_adapter_save(path, &a, type, err);
}

static rotor_status write_result(train_run *r, rotor_error *err) {
    train_model m;
    if (r->opt.set.shape.lora_rank) {
        ROTOR_TRY(train_run_adapter(r, r->opt.out, "F32", err));
        return r->opt.merge ? merge(r, err) : ROTOR_OK;
    }
    ROTOR_TRY(train_run_model(r, NULL, NULL, &m, err));
    return train_export_gguf(&m, r->opt.out, err);
}

rotor_status train_run_go(train_run *r, rotor_error *err) {
    release(r);
    if (r->opt.set.shape.lora_rank) {
        ROTOR_TRY(train_frozen_load(&r->base, &r->opt.set.shape, err));
        r->opt.set.frozen_hash = r->base.hash;
    }
    ROTOR_TRY(open_data(r, err));
    ROTOR_TRY(allocate(r, err));
    ROTOR_TRY(find_start(r, err));
    ROTOR_TRY(try_outputs(r, err));
    ROTOR_TRY(steps(r, err));
    ROTOR_TRY(write_log(r, err));
    if (r->opt.set.shape.full_float) return ROTOR_OK;
    return tell_kept(r, write_result(r, err), err);
}

rotor_status train_run_logits(train_run *r, const uint32_t *tokens, uint32_t n, float *logits,
                              rotor_error *err) {
    const size_t n_vocab = r->opt.set.shape.n_vocab;
    double loss;
    if (!r->pass) return base_fail(err, ROTOR_E_STATE, "logits are there after a run");
    if (n < 1 || n > r->opt.set.shape.n_ctx)
        return base_fail(err, ROTOR_E_ARG, "%u tokens; a row has 1 to %u", n,
                         r->opt.set.shape.n_ctx);
    for (uint32_t i = 0; i < n; i++) {
        if (tokens[i] >= n_vocab)
            return base_fail(err, ROTOR_E_ARG, "token %u is %u; the vocabulary has %zu", i,
                             tokens[i], n_vocab);
        r->token[i] = tokens[i];
        r->target[i] = 0;
    }
    const train_batch b = {1, n, r->token, r->target};
    ROTOR_TRY(train_forward(r->pass, r->x.params, &b, &loss, err));
    for (uint32_t i = 0; i < n; i++) train_logits(r->pass, 0, i, logits + i * n_vocab);
    return ROTOR_OK;
}
