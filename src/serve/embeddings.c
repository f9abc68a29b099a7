/* SPDX-License-Identifier: MIT
 *
 * POST /v1/embeddings and /v1/rerank (by a cross-encoder, or by vectors of texts), and Ollama's
 * /api/embed and /api/embeddings: read on the connection's thread, computed by the worker some
 * texts at a time, so that answers under way go on between them.
 */
#include "serve/serve_internal.h"

#include <math.h>
#include <stdlib.h>

enum { INPUTS_MAX = 2048, TEXTS_PER_TURN = 16, PAIRS_PER_TURN = 4 };

typedef enum shape {
    OPENAI,    /* /v1/embeddings: "input" */
    OLLAMA,    /* /api/embed: "input", cut where it is too long */
    RERANK,    /* /v1/rerank: "query", then "documents" */
    OLLAMA_ONE /* /api/embeddings, the older one: "prompt", one text, not of length one */
} shape;

typedef struct vectors {
    shape shape;             /* of request and reply */
    const char *key;         /* field that holds the texts */
    unsigned flags;          /* of rotor_embed */
    uint64_t start_ns;       /* when the call came */
    rotor_embed_text *texts; /* [n], kept */
    size_t n, done;          /* how many; computed */
    size_t width;            /* floats the model makes */
    size_t dims;             /* of which so many are sent */
    float *out;              /* [n][width], kept */
    uint64_t n_tokens;       /* of all texts; where they are scored, of all pairs */
    bool base64;             /* how vectors are written */
    int64_t top_n;           /* RERANK: documents in the reply … */
    bool with_text;          /* … with their texts */
    bool scored;             /* RERANK: by a cross-encoder; out[1 …] are its scores */
} vectors;

/* ==== Request ================================================================================= */

static bool is_ids(const json_t *v) { return json_is_integer(json_array_get(v, 0)); }

static bool read_ids(serve_call *c, const char *key, const json_t *v, rotor_embed_text *t,
                     serve_fault *f) {
    const size_t n = json_array_size(v);
    const uint32_t n_vocab = c->inside->model->info.n_vocab;
    uint32_t *ids = serve_keep(c, n, sizeof *ids);
    if (!ids) return serve_no_memory(f);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(v, i);
        const json_int_t id = json_is_integer(one) ? json_integer_value(one) : -1;
        if (id < 0 || id >= n_vocab)
            return serve_refuse(f, key, SERVE_INVALID_VALUE,
                                "'%s': entry %zu is no token id below %u", key, i, n_vocab);
        ids[i] = (uint32_t)id;
    }
    t->ids = ids;
    t->n_ids = n;
    return true;
}

static bool read_text(serve_call *c, const char *key, const json_t *v, size_t i,
                      rotor_embed_text *t, serve_fault *f) {
    if (json_is_array(v) && is_ids(v)) return read_ids(c, key, v, t, f);
    if (!json_is_string(v))
        return serve_refuse(f, key, SERVE_INVALID_VALUE,
                            "'%s': expected texts or lists of token ids", key);
    if (!json_string_length(v))
        return serve_refuse(f, key, SERVE_INVALID_VALUE, "'%s': text %zu is empty", key, i);
    t->text = json_string_value(v);
    t->n_bytes = json_string_length(v);
    return true;
}

static bool read_inputs(serve_call *c, serve_at top, vectors *w, serve_fault *f) {
    const json_t *v = serve_field(top, w->key);
    if (!v)
        return serve_refuse(f, w->key, SERVE_MISSING_REQUIRED_PARAMETER, "'%s' is missing", w->key);
    const bool many = json_is_array(v) && !is_ids(v);
    w->n = many ? json_array_size(v) : 1;
    if (w->n < 1 || w->n > INPUTS_MAX || (w->shape == OLLAMA_ONE && many))
        return serve_refuse(f, w->key, SERVE_INVALID_VALUE,
                            "'%s' has %zu entries: expected 1 to %d", w->key, w->n,
                            w->shape == OLLAMA_ONE ? 1 : INPUTS_MAX);
    w->texts = serve_keep(c, w->n, sizeof *w->texts);
    if (!w->texts) return serve_no_memory(f);
    for (size_t i = 0; i < w->n; i++)
        if (!read_text(c, w->key, many ? json_array_get(v, i) : v, i, &w->texts[i], f))
            return false;
    return true;
}

/* RERANK: the query stands first among the texts. */
static bool read_documents(serve_call *c, serve_at top, vectors *w, serve_fault *f) {
    const json_t *query = serve_field(top, "query"), *list, *one;
    size_t i;
    if (!query)
        return serve_refuse(f, "query", SERVE_MISSING_REQUIRED_PARAMETER, "'query' is missing");
    if (!serve_read_list(top, "documents", &list, f)) return false;
    w->n = json_array_size(list) + 1;
    if (w->n < 2 || w->n > INPUTS_MAX)
        return serve_refuse(
            f, "documents", list ? SERVE_INVALID_VALUE : SERVE_MISSING_REQUIRED_PARAMETER,
            "'documents' has %zu entries: expected 1 to %d", w->n - 1, INPUTS_MAX - 1);
    w->texts = serve_keep(c, w->n, sizeof *w->texts);
    if (!w->texts) return serve_no_memory(f);
    if (!json_is_string(query) || !read_text(c, "query", query, 0, &w->texts[0], f))
        return serve_refuse(f, "query", SERVE_INVALID_VALUE, "'query': expected a text");
    json_array_foreach(list, i, one) {
        const json_t *text = json_is_object(one) ? json_object_get(one, "text") : one;
        if (!json_is_string(text))
            return serve_refuse(f, "documents", SERVE_INVALID_VALUE,
                                "'documents[%zu]': expected a text or {\"text\": …}", i);
        if (!read_text(c, "documents", text, i, &w->texts[i + 1], f)) return false;
    }
    w->top_n = (int64_t)w->n - 1;
    return serve_read_int(top, "top_n", 1, INPUTS_MAX, &w->top_n, f) &&
           serve_read_bool(top, "return_documents", &w->with_text, f);
}

static bool read_form(serve_at top, vectors *w, serve_fault *f) {
    const char *form = "float";
    int64_t dims = (int64_t)w->width;
    bool cut = w->shape != OPENAI;
    if (w->shape == OPENAI && !serve_read_text(top, "encoding_format", &form, f)) return false;
    if (!serve_read_int(top, "dimensions", 1, (int64_t)w->width, &dims, f) ||
        (w->shape != OPENAI && !serve_read_bool(top, "truncate", &cut, f)))
        return false;
    if (cut) w->flags |= ROTOR_EMBED_TRUNCATE;
    if (strcmp(form, "float") != 0 && strcmp(form, "base64") != 0)
        return serve_refuse(f, "encoding_format", SERVE_INVALID_VALUE,
                            "'encoding_format' is '%.40s': expected float or base64", form);
    w->base64 = strcmp(form, "base64") == 0;
    w->dims = (size_t)dims;
    return true;
}

static bool can_do(const serve_model *m, shape what) {
    return m->embeds || (m->ranks && what == RERANK);
}

/* The named model, or the first that can do it; what ranks does that better. */
static serve_model *find_model(serve_server *s, const char *name, shape what, serve_fault *f) {
    serve_model *m = serve_find_model(s, name, f);
    for (size_t i = 0; m && !name && what == RERANK && !m->ranks && i < s->opt.n_models; i++)
        if (s->models[i].ranks) m = &s->models[i];
    for (size_t i = 0; m && !name && !can_do(m, what) && i < s->opt.n_models; i++)
        if (can_do(&s->models[i], what)) m = &s->models[i];
    if (!m || can_do(m, what)) return m;
    serve_fail_with(f, SERVE_NOT_SUPPORTED,
                    m->ranks
                        ? "%s scores passages (/v1/rerank) and makes no vectors"
                        : "%s makes no vectors: start the server with --embed, or with a model "
                          "made for them",
                    m->id);
    return NULL;
}

/* Tokens of the texts, without what the model puts behind them. */
static void count_tokens(const serve_call *c, vectors *w) {
    for (size_t i = 0; i < w->n; i++) {
        uint32_t *ids = NULL;
        size_t n = w->texts[i].n_ids;
        if (w->texts[i].text && rotor_tokenize(c->engine, w->texts[i].text, w->texts[i].n_bytes,
                                               ROTOR_TOK_BOS, &ids, &n, NULL) != ROTOR_OK)
            n = 0;
        rotor_free(ids);
        w->n_tokens += w->scored && !i ? n * (w->n - 1) : n; /* the query is in every pair */
    }
}

static bool read_call(serve_call *c, const base_buf *body, vectors *w, serve_fault *f) {
    rotor_engine_info info = {.size = sizeof info};
    if (!serve_parse(body, &c->body, f)) return false;
    const serve_at top = {.object = c->body};
    if (!serve_read_text(top, "model", &c->req.model, f)) return false;
    serve_model *m = find_model(c->inside->s, c->req.model, w->shape, f);
    if (!m) return false;
    w->scored = m->ranks;
    if (!serve_hold(c, m)) return false;
    c->engine = m->vectors;
    const bool ollama = w->shape == OLLAMA || w->shape == OLLAMA_ONE;
    if (ollama && !serve_read_keep_alive(c, top, f)) return false;
    rotor_engine_get_info(m->vectors, &info);
    w->width = info.n_vector;
    if (w->shape == RERANK ? !read_documents(c, top, w, f)
                           : !read_inputs(c, top, w, f) || !read_form(top, w, f))
        return false;
    count_tokens(c, w);
    w->out = serve_keep(c, w->n * w->width, sizeof *w->out);
    return w->out || serve_no_memory(f);
}

/* ==== Reply =================================================================================== */

static void put_base64(base_buf *out, const uint8_t *p, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t left = (uint32_t)BASE_MIN(n - i, (size_t)3);
        uint32_t v = (uint32_t)p[i] << 16;
        if (left > 1) v |= (uint32_t)p[i + 1] << 8;
        if (left > 2) v |= p[i + 2];
        const char four[4] = {digits[v >> 18], digits[v >> 12 & 63],
                              left > 1 ? digits[v >> 6 & 63] : '=',
                              left > 2 ? digits[v & 63] : '='};
        base_buf_append(out, four, 4);
    }
}

/* The first dims floats, again of length one. Little-endian, as are all machines this runs on. */
static json_t *vector_json(const vectors *w, size_t i) {
    float *v = w->out + i * w->width;
    double sum = 0;
    for (size_t k = 0; k < w->dims; k++) sum += (double)v[k] * (double)v[k];
    for (size_t k = 0; k < w->dims && w->dims < w->width && sum > 0; k++)
        v[k] = (float)((double)v[k] / sqrt(sum));
    if (w->base64) {
        base_buf text = {0};
        put_base64(&text, (const uint8_t *)v, w->dims * sizeof *v);
        json_t *s = json_stringn(text.data, text.len);
        base_buf_free(&text);
        return s;
    }
    json_t *list = json_array();
    for (size_t k = 0; k < w->dims; k++) json_array_append_new(list, serve_json_real(v[k]));
    return list;
}

static json_t *reply_json(const serve_call *c, const vectors *w) {
    json_t *data = json_array();
    for (size_t i = 0; i < w->n; i++)
        json_array_append_new(data, json_pack("{s:s, s:I, s:o}", "object", "embedding", "index",
                                              (json_int_t)i, "embedding", vector_json(w, i)));
    return json_pack("{s:s, s:o, s:o, s:{s:I, s:I}}", "object", "list", "data", data, "model",
                     serve_json_text(c->model_id, strlen(c->model_id)), "usage", "prompt_tokens",
                     (json_int_t)w->n_tokens, "total_tokens", (json_int_t)w->n_tokens);
}

/* Ollama's two. */
static json_t *ollama_json(const serve_call *c, const vectors *w) {
    const uint64_t total_ns = base_now_ns() - w->start_ns;
    json_t *list = json_array();
    if (w->shape == OLLAMA_ONE) {
        json_decref(list);
        return json_pack("{s:o}", "embedding", vector_json(w, 0));
    }
    for (size_t i = 0; i < w->n; i++) json_array_append_new(list, vector_json(w, i));
    return json_pack("{s:o, s:o, s:I, s:i, s:I}", "model",
                     serve_json_text(c->model_id, strlen(c->model_id)), "embeddings", list,
                     "total_duration", (json_int_t)total_ns, "load_duration", 0,
                     "prompt_eval_count", (json_int_t)w->n_tokens);
}

/* Documents by a cross-encoder's scores, or by the cosine of their vectors to the query's, as
 * Cohere and Jina lay it out. They give a share: of a score that is its sigmoid, which is told
 * beside it. */
typedef struct ranked {
    size_t i;     /* document */
    double score; /* cosine, or what the cross-encoder says */
} ranked;

static int by_score(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->i > y->i) - (x->i < y->i);
}

static json_t *rerank_json(serve_call *c, const vectors *w) {
    ranked *list = serve_keep(c, w->n, sizeof *list);
    json_t *results = json_array();
    if (!list) return json_decref(results), NULL;
    for (size_t i = 1; i < w->n; i++) {
        list[i - 1].i = i - 1;
        if (w->scored) list[i - 1].score = (double)w->out[i];
        for (size_t k = 0; !w->scored && k < w->width; k++)
            list[i - 1].score += (double)w->out[k] * (double)w->out[i * w->width + k];
    }
    qsort(list, w->n - 1, sizeof *list, by_score);
    for (size_t i = 0; i + 1 < w->n && (int64_t)i < w->top_n; i++) {
        const rotor_embed_text *t = &w->texts[list[i].i + 1];
        const double score = list[i].score, share = 1 / (1 + exp(-score));
        json_t *one = json_pack("{s:I, s:o}", "index", (json_int_t)list[i].i, "relevance_score",
                                serve_json_real(w->scored ? share : score));
        if (w->scored) json_object_set_new(one, "score", serve_json_real(score));
        if (w->with_text)
            json_object_set_new(one, "document",
                                json_pack("{s:o}", "text", serve_json_text(t->text, t->n_bytes)));
        json_array_append_new(results, one);
    }
    return json_pack("{s:s, s:s, s:o, s:s, s:o, s:{s:I, s:I}}", "object", "list", "id", c->id,
                     "model", serve_json_text(c->model_id, strlen(c->model_id)), "method",
                     w->scored ? "cross_encoder" : "embedding_cosine", "results", results, "usage",
                     "prompt_tokens", (json_int_t)w->n_tokens, "total_tokens",
                     (json_int_t)w->n_tokens);
}

/* ==== Work ==================================================================================== */

/* Of what is left; the query, which is the first text, goes with every document. */
static rotor_status compute_some(const serve_call *c, vectors *w, rotor_error *err) {
    rotor_engine *e = c->inside->model->vectors;
    if (w->scored && !w->done) w->done = 1;
    const size_t at = w->done, most = w->scored ? PAIRS_PER_TURN : TEXTS_PER_TURN;
    const size_t n = BASE_MIN(most, w->n - at);
    w->done += n;
    return w->scored ? rotor_rerank(e, &w->texts[0], w->texts + at, n, w->out + at, err)
                     : rotor_embed(e, w->texts + at, n, w->flags, w->out + at * w->width, err);
}

static void embed_some(serve_call *c) {
    vectors *w = c->inside->task_state;
    rotor_error err = {0};
    serve_fault f = {0};
    const rotor_status st = compute_some(c, w, &err);
    if (st == ROTOR_OK && w->done < w->n) return;
    if (st == ROTOR_OK) {
        serve_call_reply(c, 200,
                         w->shape == OPENAI   ? reply_json(c, w)
                         : w->shape == RERANK ? rerank_json(c, w)
                                              : ollama_json(c, w));
        return;
    }
    if (st == ROTOR_E_FULL || st == ROTOR_E_ARG)
        serve_refuse(&f, w->key,
                     st == ROTOR_E_FULL ? SERVE_CONTEXT_LENGTH_EXCEEDED : SERVE_INVALID_VALUE,
                     "%.500s", err.message);
    else
        serve_fail_with(&f, SERVE_INTERNAL_ERROR, "%.500s", err.message);
    serve_call_fault(c, &f);
}

static void post(serve_exchange *x, vectors how) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    vectors *w = c ? serve_keep(c, 1, sizeof *w) : NULL;
    bool ok = w || serve_no_memory(&f);
    if (ok) {
        *w = how;
        w->start_ns = base_now_ns();
        c->dialect = x->route->dialect; /* of errors */
        c->inside->task = embed_some;
        c->inside->task_state = w;
        ok = read_call(c, &x->body, w, &f);
    }
    serve_hand_over(x, c, ok, &f);
}

void serve_post_embeddings(serve_exchange *x) {
    post(x, (vectors){.shape = OPENAI, .key = "input"});
}

/* The reply's "method" says who has judged: "cross_encoder" or "embedding_cosine". */
void serve_post_rerank(serve_exchange *x) {
    post(x, (vectors){.shape = RERANK, .key = "documents", .flags = ROTOR_EMBED_TRUNCATE});
}

void serve_post_embed(serve_exchange *x) { post(x, (vectors){.shape = OLLAMA, .key = "input"}); }

void serve_post_one_embedding(serve_exchange *x) {
    post(x, (vectors){.shape = OLLAMA_ONE, .key = "prompt", .flags = ROTOR_EMBED_RAW});
}
