/* SPDX-License-Identifier: MIT
 *
 * Vectors of texts: texts to ids, with what the model wants around them, ids to vectors (run), and
 * those to length one.
 */
#include "api/api_internal.h"

#include <math.h>

/* ==== How the engine is opened ================================================================ */

static const char *pool_name(model_pool p) {
    return p == MODEL_POOL_MEAN   ? "the mean of all tokens"
           : p == MODEL_POOL_CLS  ? "the first token"
           : p == MODEL_POOL_RANK ? "a cross-encoder's score of two texts"
                                  : "the last token";
}

const char *api_pool_line(const rotor_engine *e) { return pool_name(e->pool_in_use); }

rotor_status api_check_use(const rotor_engine *e, rotor_error *err) {
    const bool ranks = e->m->hp.pool == MODEL_POOL_RANK;
    if (ranks && e->opt.embed && e->opt.pool)
        return base_fail(err, ROTOR_E_ARG,
                         "%s is a cross-encoder: it scores pairs of texts, and no other pooling "
                         "can be asked of it",
                         e->m->name);
    if (e->opt.embed || !e->m->hp.both_ways) return ROTOR_OK;
    if (ranks)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s (%s) is a cross-encoder: it scores passages, it does not write any; "
                         "try: rotor rag search STORE \"question\" --rerank MODEL",
                         e->m->name, e->m->arch);
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "%s (%s) makes vectors of texts, it does not write any; "
                     "try: rotor embed MODEL TEXT",
                     e->m->name, e->m->arch);
}

void api_choose_pool(rotor_engine *e) {
    const model_hparams *hp = &e->m->hp;
    if (!e->opt.embed) return;
    e->pool_in_use = (model_pool)e->opt.pool;
    if (!e->pool_in_use) e->pool_in_use = hp->pool;
    if (e->pool_in_use) return;
    e->pool_in_use = hp->both_ways ? MODEL_POOL_MEAN : MODEL_POOL_LAST;
    base_log_printf(&e->log, BASE_LOG_WARN,
                    "%s does not say how its texts become vectors: %s speaks for a text%s",
                    e->m->name, pool_name(e->pool_in_use),
                    hp->both_ways ? "" : "; a model made for vectors is likely to do better");
}

void api_embed_options(const rotor_engine *e, run_options *opt) {
    enum { TEXTS = 64, CHUNK = 512 };
    const bool whole = e->m->hp.both_ways || e->pool_in_use != MODEL_POOL_LAST;
    opt->pool = e->pool_in_use;
    opt->kv = KERN_KV_F32;
    opt->n_sessions = 0; /* no layer forgets */
    opt->device_layers = 0;
    opt->chunk = BASE_MAX(opt->chunk ? opt->chunk : CHUNK, whole ? e->n_ctx : 1);
    opt->max_logits = BASE_MIN(TEXTS, opt->chunk);
    opt->n_pages = (BASE_MAX(e->n_ctx, opt->chunk) + KERN_KEYS - 1) / KERN_KEYS + opt->max_logits;
}

/* ==== Texts to ids ============================================================================ */

/* All texts of a call as ids, one behind the other. */
typedef struct batch {
    rotor_engine *e;  /* engine */
    unsigned flags;   /* of rotor_embed */
    text_ids all;     /* ids of the texts */
    size_t n_suffix;  /* tokens the model puts behind a text */
    run_text *texts;  /* [n], owned; ids are set at the end, when `all` has stopped growing */
    rotor_error *err; /* where messages go */
} batch;

/* An end token, where the last token speaks for the text and the vocabulary adds none itself. */
static rotor_status push_end(const batch *b, text_ids *ids, size_t from) {
    const text_vocab *v = b->e->m->vocab;
    const uint32_t eos = text_eos(v);
    if (b->e->pool_in_use != MODEL_POOL_LAST || eos == TEXT_NO_ID) return ROTOR_OK;
    if (ids->n > from && ids->ids[ids->n - 1] == eos) return ROTOR_OK;
    return text_ids_push(ids, eos) == ROTOR_OK ? ROTOR_OK : base_fail_nomem(b->err, "tokenising");
}

static rotor_status encode(batch *b, base_str text, text_ids *ids) {
    const size_t from = ids->n;
    ROTOR_TRY(text_encode(b->e->m->vocab, text, TEXT_ADD_BOS | TEXT_ADD_EOS, ids, b->err));
    return push_end(b, ids, from);
}

/* How many tokens stand behind every text: what an empty one gets, less what is in front. */
static rotor_status find_suffix(batch *b) {
    text_ids with = {0}, front = {0};
    rotor_status st = encode(b, (base_str){"", 0}, &with);
    if (st == ROTOR_OK)
        st = text_encode(b->e->m->vocab, (base_str){"", 0}, TEXT_ADD_BOS, &front, b->err);
    b->n_suffix = with.n - BASE_MIN(front.n, with.n);
    text_ids_free(&with);
    text_ids_free(&front);
    return st;
}

/* The last text of the list has too many tokens: what stands behind it stays. */
static rotor_status cut(batch *b, size_t i, size_t from, size_t n_suffix) {
    const size_t n = b->all.n - from, most = b->e->n_ctx;
    uint32_t *ids = b->all.ids + from;
    if (n <= most) return ROTOR_OK;
    if (!(b->flags & ROTOR_EMBED_TRUNCATE))
        return base_fail(b->err, ROTOR_E_FULL,
                         "text %zu has %zu tokens, at most %zu fit: make it shorter, or let it be "
                         "cut (--truncate)%s",
                         i, n, most, most < b->e->m->hp.n_ctx ? ", or raise --ctx" : "");
    n_suffix = BASE_MIN(n_suffix, most);
    memmove(ids + most - n_suffix, ids + n - n_suffix, n_suffix * sizeof *ids);
    b->all.n = from + most;
    return ROTOR_OK;
}

static rotor_status add_ids(batch *b, size_t i, const rotor_embed_text *t) {
    const uint32_t n_vocab = b->e->m->hp.n_vocab;
    for (size_t k = 0; k < t->n_ids; k++) {
        if (t->ids[k] >= n_vocab)
            return base_fail(b->err, ROTOR_E_ARG,
                             "text %zu: token %u at %zu is outside the vocabulary of %u", i,
                             t->ids[k], k, n_vocab);
        if (text_ids_push(&b->all, t->ids[k]) != ROTOR_OK)
            return base_fail_nomem(b->err, "embedding texts");
    }
    return ROTOR_OK;
}

static rotor_status add_text(batch *b, size_t i, const rotor_embed_text *t) {
    const size_t from = b->all.n;
    if (t->text ? !t->n_bytes : !t->ids || !t->n_ids)
        return base_fail(b->err, ROTOR_E_ARG, "text %zu is empty", i);
    if (!t->text) {
        ROTOR_TRY(add_ids(b, i, t));
    } else {
        ROTOR_TRY(encode(b, (base_str){t->text, t->n_bytes}, &b->all));
        for (size_t k = from; k < b->all.n; k++)
            if (b->all.ids[k] >= b->e->m->hp.n_vocab)
                return base_fail(b->err, ROTOR_E_UNSUPPORTED,
                                 "text %zu: its token %u has no row in the embedding of %u", i,
                                 b->all.ids[k], b->e->m->hp.n_vocab);
    }
    if (b->all.n == from) return base_fail(b->err, ROTOR_E_ARG, "text %zu has no tokens", i);
    ROTOR_TRY(cut(b, i, from, t->text ? b->n_suffix : 0));
    b->texts[i].n = (uint32_t)(b->all.n - from);
    return ROTOR_OK;
}

static rotor_status add_texts(batch *b, const rotor_embed_text *texts, size_t n) {
    bool words = false;
    for (size_t i = 0; i < n; i++) words |= texts[i].text != NULL;
    if (words && !b->e->m->vocab)
        return base_fail(b->err, ROTOR_E_UNSUPPORTED,
                         "%s has no vocabulary: it can only be given ids", b->e->m->name);
    if (words) ROTOR_TRY(find_suffix(b));
    for (size_t i = 0; i < n; i++) ROTOR_TRY(add_text(b, i, &texts[i]));
    for (size_t i = 0, at = 0; i < n; at += b->texts[i++].n) b->texts[i].ids = b->all.ids + at;
    return ROTOR_OK;
}

/* ==== Vectors ================================================================================= */

/* To length one; a vector without one would compare as equal to nothing, or to everything. */
static rotor_status to_unit(float *v, size_t width, size_t i, rotor_error *err) {
    double sum = 0;
    for (size_t k = 0; k < width; k++) sum += (double)v[k] * v[k];
    if (!(sum > 0) || !isfinite(sum))
        return base_fail(err, ROTOR_E_FORMAT,
                         "text %zu: its vector has no length (%g): the model cannot embed it", i,
                         sqrt(sum));
    const double scale = 1 / sqrt(sum);
    for (size_t k = 0; k < width; k++) v[k] = (float)(v[k] * scale);
    return ROTOR_OK;
}

rotor_status rotor_embed(rotor_engine *e, const rotor_embed_text *texts, size_t n, unsigned flags,
                         float *out, rotor_error *err) {
    if (!e || !texts || !out || !n)
        return base_fail(err, ROTOR_E_ARG, "rotor_embed: a required argument is NULL or 0");
    if (flags & ~(unsigned)(ROTOR_EMBED_RAW | ROTOR_EMBED_TRUNCATE))
        return base_fail(err, ROTOR_E_ARG, "rotor_embed: flags 0x%x, expected ROTOR_EMBED_ values",
                         flags);
    if (!e->opt.embed)
        return base_fail(err, ROTOR_E_STATE,
                         "rotor_embed: the engine was opened to write text; open one with embed");
    if (e->pool_in_use == MODEL_POOL_RANK)
        return base_fail(err, ROTOR_E_STATE,
                         "%s is a cross-encoder: it scores pairs of texts and makes no vectors",
                         e->m->name);
    if (e->m->file) ROTOR_TRY(file_unchanged(e->m->file, err));
    batch b = {.e = e, .flags = flags, .err = err};
    const size_t width = model_vector_width(e->m);
    b.texts = base_alloc_array(n, sizeof *b.texts);
    rotor_status st = b.texts ? add_texts(&b, texts, n) : base_fail_nomem(err, "embedding texts");
    if (st == ROTOR_OK) st = run_embed(e->run, b.texts, n, out, err);
    for (size_t i = 0; st == ROTOR_OK && !(flags & ROTOR_EMBED_RAW) && i < n; i++)
        st = to_unit(out + i * width, width, i, err);
    text_ids_free(&b.all);
    base_free(b.texts);
    return st;
}
