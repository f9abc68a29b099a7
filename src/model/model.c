/* SPDX-License-Identifier: MIT
 *
 * A model: opened from a file, bound, immutable afterwards.
 */
#include "model/model_internal.h"

#include <stdio.h>

/* ==== Memory of the model ===================================================================== */

void *model_take(model *m, size_t bytes) {
    struct model_blocks *b = base_alloc(sizeof *b);
    void *mem = b ? base_alloc_aligned(bytes) : NULL;
    if (!mem) return base_free(b), NULL;
    *b = (struct model_blocks){m->blocks, mem, bytes};
    m->blocks = b;
    m->owned_bytes += bytes;
    return mem;
}

void model_give_back(model *m, void *mem) {
    for (struct model_blocks **at = &m->blocks, *b; (b = *at) != NULL; at = &b->next) {
        if (b->mem != mem) continue;
        *at = b->next;
        m->owned_bytes -= b->bytes;
        base_free_aligned(b->mem);
        base_free(b);
        return;
    }
}

void model_close(model **mp) {
    if (!mp || !*mp) return;
    model *m = *mp;
    for (struct model_blocks *b = m->blocks, *next; b; b = next) {
        next = b->next;
        base_free_aligned(b->mem);
        base_free(b);
    }
    text_vocab_free(&m->vocab);
    file_close(&m->file);
    base_free(m);
    *mp = NULL;
}

/* ==== Texts =================================================================================== */

static rotor_status set_name(model_loader *ld) {
    const file_kv *kv = file_kv_find(ld->f, "general.name");
    const char *path = file_path(ld->f), *slash = strrchr(path, '/');
    base_str name = base_str_of(slash && slash[1] ? slash + 1 : path);
    if (kv) file_kv_str(kv, 0, &name);
    char *copy = model_take(ld->m, name.n + 1);
    if (!copy) return base_fail_nomem(ld->err, "loading a model");
    if (name.n) memcpy(copy, name.p, name.n);
    ld->m->name = copy;
    return ROTOR_OK;
}

static void gguf_texts(model_loader *ld) {
    model_sampling *s = &ld->m->sampling;
    const struct {
        const char *key; /* metadata key */
        float *out;      /* where it goes */
    } floats[] = {{"general.sampling.temp", &s->temperature},
                  {"general.sampling.top_p", &s->top_p},
                  {"general.sampling.min_p", &s->min_p},
                  {"general.sampling.penalty_repeat", &s->repeat_penalty}};
    for (size_t i = 0; i < BASE_COUNT(floats); i++) {
        const file_kv *kv = file_kv_find(ld->f, floats[i].key);
        double v;
        if (kv && file_kv_f64(kv, 0, &v)) *floats[i].out = (float)v;
    }
    const file_kv *kv = file_kv_find(ld->f, "general.sampling.top_k");
    double top_k;
    if (kv && file_kv_f64(kv, 0, &top_k) && top_k >= 0 && top_k < INT32_MAX) s->top_k = (int)top_k;
    kv = file_kv_find(ld->f, "tokenizer.chat_template");
    if (kv) file_kv_str(kv, 0, &ld->m->chat_template);
}

/* ==== The vocabulary, beside the weights ========================================================
 * Reading one takes as long as looking at half a gigabyte of weights, and cannot be shared among
 * threads: one thread does it while the others look. What it logs is kept until both are done,
 * because a log is the caller's and is called by the caller's thread. */

typedef struct vocab_job {
    const file_model *f; /* open file */
    bool none;           /* the file has no vocabulary */
    text_vocab *vocab;   /* result, owned until taken */
    rotor_status st;     /* of reading it */
    rotor_error err;     /* its message */
    base_buf lines;      /* log: level, text, NUL; and so on */
    base_log log;        /* writes to lines */
} vocab_job;

static void keep_line(void *user, base_log_level level, const char *line) {
    base_buf *lines = user;
    base_buf_printf(lines, "%c%s", '0' + (int)level, line);
    base_buf_append(lines, "", 1);
}

static void read_vocab(void *arg) {
    vocab_job *job = arg;
    job->st = ROTOR_E_NOTFOUND;
    if (!job->none) job->st = model_vocab(&job->vocab, job->f, &job->log, &job->err);
    if (job->lines.failed) job->st = base_fail_nomem(&job->err, "reading the vocabulary");
}

static void end_vocab(vocab_job *job) {
    text_vocab_free(&job->vocab);
    base_buf_free(&job->lines);
}

static void pass_on_log(const vocab_job *job, const base_log *log) {
    for (size_t at = 0; at < job->lines.len; at += strlen(job->lines.data + at) + 1)
        base_log_printf(log, (base_log_level)(job->lines.data[at] - '0'), "%s",
                        job->lines.data + at + 1);
}

/* A vocabulary longer than the embedding would look up rows that are not there: a GGUF file with
 * one is inconsistent; folders whose tokenizer grew a padding token are common, and run_eval
 * refuses the ids. */
static rotor_status take_vocab(model_loader *ld, vocab_job *job) {
    model *m = ld->m;
    pass_on_log(job, ld->opt->log);
    if (job->st == ROTOR_E_NOTFOUND) {
        base_log_printf(ld->opt->log, BASE_LOG_WARN,
                        "%s: no vocabulary; only token ids can be used", file_path(ld->f));
        return ROTOR_OK;
    }
    if (job->st != ROTOR_OK) return base_fail(ld->err, job->st, "%s", job->err.message);
    m->vocab = job->vocab;
    job->vocab = NULL;
    if (ld->hf && text_n_tokens(m->vocab) > m->hp.n_vocab)
        base_log_printf(ld->opt->log, BASE_LOG_WARN,
                        "%s: the tokenizer has %zu tokens, the embedding only %u rows; the others "
                        "cannot be used",
                        file_path(ld->f), text_n_tokens(m->vocab), m->hp.n_vocab);
    else if (text_n_tokens(m->vocab) > m->hp.n_vocab)
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: the vocabulary has %zu tokens, the embedding only %u rows",
                         file_path(ld->f), text_n_tokens(m->vocab), m->hp.n_vocab);
    if (text_n_tokens(m->vocab) < m->hp.n_vocab)
        base_log_printf(ld->opt->log, BASE_LOG_INFO, "%s: %u embedding rows, %zu tokens (padded)",
                        file_path(ld->f), m->hp.n_vocab, text_n_tokens(m->vocab));
    return ROTOR_OK;
}

static rotor_status check_and_read_vocab(model_loader *ld) {
    vocab_job job = {.f = ld->f,
                     .none = !ld->hf && !file_kv_find(ld->f, "tokenizer.ggml.tokens"),
                     .log = {keep_line, &job.lines}};
    rotor_status st = model_check_codes(ld, read_vocab, &job);
    if (st == ROTOR_OK) st = take_vocab(ld, &job);
    end_vocab(&job);
    return st;
}

/* ==== Opening ================================================================================= */

static const char *storage_name(const model *m, bool packed) {
    const model_mat *w = m->hp.n_expert ? &m->layers[0].gate : &m->layers[0].q;
    if (w->type != QUANT_I2_S) return quant_find(w->type)->name;
    if (packed) return "ternary (HF packed)";
    const file_tensor *t = file_tensor_find(m->file, w->name);
    return t->info->flags & QUANT_TERNARY ? t->info->name : "ternary (quantised at load)";
}

static rotor_status load(model_loader *ld) {
    model *m = ld->m;
    m->sampling = (model_sampling){-1, -1, -1, -1, -1};
    m->file_bytes = file_total_bytes(ld->f);
    ld->hf = file_kind_of(ld->f) == FILE_SAFETENSORS;
    m->hp.rope_gain = 1.0f;
    ROTOR_TRY(ld->hf ? model_hf_hparams(ld) : model_gguf_hparams(ld));
    if (ld->opt->yarn != MODEL_YARN_AUTO) m->hp.rope_whole = ld->opt->yarn == MODEL_YARN_ROUNDED;
    m->arch = ld->arch->name;
    m->latent = ld->master;
    m->hp.rope_interleaved = !ld->hf && ld->arch->rope_interleaved;
    m->hp.sub_norms = ld->arch->sub_norms;
    m->hp.centred = ld->arch->centred;
    m->hp.qk_norm = ld->arch->qk_norm;
    m->hp.glu = ld->arch->glu;
    m->hp.still_every = ld->arch->still_every;
    m->hp.fused = ld->arch->fused;
    ROTOR_TRY(model_check_hparams(&m->hp, file_path(ld->f), ld->err));
    m->n_layer_file = m->hp.n_layer;
    if (ld->opt->max_layers) m->hp.n_layer = BASE_MIN(m->hp.n_layer, ld->opt->max_layers);
    ROTOR_TRY(set_name(ld));
    ROTOR_TRY(model_bind(ld));
    ROTOR_TRY(check_and_read_vocab(ld));
    m->type_name = storage_name(
        m, ld->hf && file_tensor_find(ld->f, m->layers[0].q.name)->info->id == QUANT_U8);
    if (ld->hf) return model_hf_texts(ld);
    gguf_texts(ld);
    return ROTOR_OK;
}

static rotor_status open_file(model **out, file_model *f, const model_options *opt,
                              rotor_error *err) {
    model *m = base_alloc(sizeof *m);
    if (!m) return file_close(&f), base_fail_nomem(err, "loading a model");
    m->file = f;
    model_loader ld = {.m = m, .f = f, .opt = opt, .err = err, .scale_rule = MODEL_SCALE_DIVIDE};
    ld.used = base_alloc_array(file_n_tensors(f), sizeof *ld.used);
    rotor_status st = ld.used ? load(&ld) : base_fail_nomem(err, "loading a model");
    base_free(ld.used);
    if (st == ROTOR_OK)
        *out = m;
    else
        model_close(&m);
    return st;
}

rotor_status model_open(model **out, const char *path, const model_options *opt, rotor_error *err) {
    const file_options fo = {.no_map = opt->no_map, .log = opt->log};
    file_model *f = NULL;
    ROTOR_TRY(file_open(&f, path, &fo, err));
    return open_file(out, f, opt, err);
}

rotor_status model_open_memory(model **out, const void *data, size_t n_bytes, const char *name,
                               const model_options *opt, rotor_error *err) {
    const file_options fo = {.log = opt->log};
    file_model *f = NULL;
    ROTOR_TRY(file_open_memory(&f, data, n_bytes, name, &fo, err));
    return open_file(out, f, opt, err);
}

/* ==== Facts =================================================================================== */

static uint32_t ring_layers(const model_hparams *hp) {
    uint32_t n = 0;
    for (uint32_t l = 0; hp->window_every && l < hp->n_layer; l++) n += model_window(hp, l) != 0;
    return n;
}

static uint64_t kv_bytes(const model_hparams *hp, uint32_t n_layer, double bytes_per_elem) {
    return (uint64_t)(2.0 * n_layer * hp->n_head_kv * hp->d_head * bytes_per_elem);
}

uint64_t model_kv_bytes_per_tok(const model_hparams *hp, double bytes_per_elem) {
    return kv_bytes(hp, hp->n_layer - ring_layers(hp), bytes_per_elem);
}

uint64_t model_ring_bytes_per_tok(const model_hparams *hp, double bytes_per_elem) {
    return kv_bytes(hp, ring_layers(hp), bytes_per_elem);
}

static uint64_t mat_bytes(const model_mat *w) { return (uint64_t)w->rows * w->row_bytes; }

/* Of all experts' bytes those that one token reads. */
static uint64_t used_of(const model_hparams *hp, uint64_t bytes) {
    return hp->n_expert ? bytes / hp->n_expert * hp->n_used : bytes;
}

uint64_t model_step_bytes(const model *m, uint64_t head_bytes) {
    const model_hparams *hp = &m->hp;
    uint64_t sum = head_bytes ? head_bytes : mat_bytes(&m->head);
    uint64_t norms = 2u * hp->n_embd;
    if (hp->sub_norms) norms += (uint64_t)hp->n_head * hp->d_head + hp->n_ff;
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        const model_layer *w = &m->layers[l];
        sum += mat_bytes(&w->q) + mat_bytes(&w->k) + mat_bytes(&w->v) + mat_bytes(&w->o) +
               mat_bytes(&w->router) + mat_bytes(&w->shared_gate) + mat_bytes(&w->shared_up) +
               mat_bytes(&w->shared_down) + mat_bytes(&w->shared_by) +
               used_of(hp, mat_bytes(&w->gate) + mat_bytes(&w->up) + mat_bytes(&w->down));
    }
    return sum + (norms * hp->n_layer + hp->n_embd) * sizeof(float);
}
