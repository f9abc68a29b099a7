/* SPDX-License-Identifier: MIT
 *
 * Opening a knowledge store for a verb, and telling where an answer's sources are.
 */
#include "cli/store.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* ==== Opening ================================================================================= */

/* A word without a slash, where no such folder is, names a store of the user's own. An address has
 * slashes. */
static char *store_place(const char *word) {
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    base_buf b = {0};
    if (strchr(word, '/') || base_path_kind_of(word) == BASE_PATH_DIR) return base_strdup(word);
    if (xdg && xdg[0] == '/')
        base_buf_printf(&b, "%s/rotor/rag", xdg);
    else if (home && home[0])
        base_buf_printf(&b, "%s/.local/share/rotor/rag", home);
    else
        return base_strdup(word);
    base_mkdirs(b.data, NULL);
    base_buf_printf(&b, "/%s", word);
    return b.failed ? (base_buf_free(&b), NULL) : b.data;
}

bool cli_is_address(const char *word) { return base_url_is(word, "postgres", "postgresql"); }

void cli_store_close(cli_store *s) {
    rotor_rag_close(&s->r);
    if (!s->borrowed) rotor_engine_close(&s->e);
    hub_endpoint_close(&s->far);
    base_free(s->far_at);
    base_free(s->kept_at);
    s->far_at = s->kept_at = NULL;
    s->e = NULL;
    s->borrowed = false;
    cli_model_free(&s->model);
    s->model = (cli_model){0};
    base_free(s->place);
    base_free(s->folder);
    s->place = s->folder = NULL;
}

/* Loading the embedding model says nothing but what went wrong. */
static void log_trouble(void *user, int level, const char *line) {
    if (level <= BASE_LOG_WARN) cli_log_line(user, level, line);
}

/* Two words for one model. */
static bool is_same(const cli_model *a, const cli_model *b) {
    return a->path && b->path ? strcmp(a->path, b->path) == 0 : !a->path && !b->path;
}

/* --ctx, --layers and --lora are about the model that writes. */
static rotor_engine_options beside_writer(const cli_args *a, const cli_store_how *how) {
    rotor_engine_options opt = cli_engine_options(a);
    opt.embed = true;
    opt.log = log_trouble;
    opt.ctx = UINT32_MAX;
    opt.max_layers = 0;
    opt.lora = NULL;
    opt.trace = NULL; /* the writer's: one file, one engine */
    opt.threads_of = how->writer;
    if (how->one_thread) opt.threads = 1;
    return opt;
}

static rotor_status open_model(cli_store *s, const char *word, const cli_store_how *how,
                               rotor_error *err) {
    ROTOR_TRY(cli_model_find(&s->model, word, err));
    for (size_t i = 0; i < how->n_others; i++) {
        const cli_store *other = &how->others[i];
        if (!other->e || !is_same(&other->model, &s->model)) continue;
        s->e = other->e;
        s->borrowed = true;
        return ROTOR_OK;
    }
    rotor_engine_options opt = beside_writer(s->a, how);
    opt.embed_int8 = !opt.float_act; /* finds the same: docs/rag.md */
    return cli_engine_open(&s->e, s->a, &s->model, opt, err);
}

rotor_status cli_judge_open(rotor_engine **out, const cli_args *a, cli_model *m,
                            const cli_store_how *how, rotor_error *err) {
    const char *word = cli_text(a, OPT_RERANK);
    rotor_engine_info info = {.size = sizeof info};
    if (!word) return ROTOR_OK;
    ROTOR_TRY(cli_model_find(m, word, err));
    ROTOR_TRY(cli_engine_open(out, a, m, beside_writer(a, how), err));
    ROTOR_TRY(rotor_engine_get_info(*out, &info));
    if (info.pool == ROTOR_POOL_RANK) return ROTOR_OK;
    return base_fail(err, ROTOR_E_ARG,
                     "--rerank %s: it makes vectors and judges nothing; a cross-encoder is wanted "
                     "(docs/embeddings.md)",
                     word);
}

bool cli_goes_on(void *user) {
    (void)user;
    return !cli_interrupted();
}

static rotor_rag_options patient_options(const cli_store_how *how) {
    rotor_rag_options opt = rotor_rag_options_default();
    opt.go_on = how->go_on ? how->go_on : cli_goes_on;
    opt.go_on_user = how->user;
    return opt;
}

/* What the store says of itself. A server that is not there now will not be there in a moment. */
static rotor_status peek_into(const cli_store *s, const cli_store_how *how, rotor_rag_info *info,
                              rotor_error *err) {
    rotor_rag *peek = NULL;
    rotor_error why = {0};
    const rotor_rag_options opt = patient_options(how);
    const rotor_status st = rotor_rag_open(&peek, s->place, &opt, &why);
    if (cli_is_address(s->place) && (st == ROTOR_E_IO || st == ROTOR_E_CANCELLED))
        return base_fail(err, st, "%s", why.message);
    if (st == ROTOR_OK) rotor_rag_get_info(peek, info, NULL);
    rotor_rag_close(&peek);
    return ROTOR_OK;
}

/* A server is asked unnamed only where the store's model is its own: whoever can write another
 * place into a store must not learn what is asked of it. */
static bool is_believed(const cli_store *s, const rotor_rag_info *info) {
    char line[512];
    const char *hash = strchr(info->model_path, '#');
    if (!hub_is_endpoint(info->model_path)) return true;
    if (hash && strcmp(hash + 1, info->model) == 0) return true;
    snprintf(line, sizeof line,
             "%s remembers a server (%.200s) that is not one of its model's (%.100s): words only; "
             "--embed-model names one",
             s->folder, info->model_path, info->model);
    cli_log_line((void *)(uintptr_t)s->a, BASE_LOG_WARN, line);
    return false;
}

/* An address that somebody has put into a store decides nothing about a server of ours. */
static bool may_use(const cli_store *s, const cli_store_how *how, const char *remembered) {
    if (!how->named_only || !hub_is_endpoint(remembered)) return true;
    cli_log(s->a, BASE_LOG_WARN,
            "rotor: %s: its vectors are made by a server, which is not asked unless "
            "--embed-model names it: words only",
            s->folder);
    return false;
}

/* Which model makes vectors: the one asked for, else the one the store was filled with. */
static rotor_status remembered_model(cli_store *s, const cli_store_how *how, rotor_rag_info *info,
                                     char **word, bool *asked, rotor_error *err) {
    const char *named = cli_text(s->a, OPT_EMBED_MODEL);
    *asked = named != NULL;
    *word = NULL;
    if (!named || hub_is_endpoint(named)) ROTOR_TRY(peek_into(s, how, info, err));
    if (!named && info->model_path[0] && is_believed(s, info) && may_use(s, how, info->model_path))
        named = info->model_path;
    if (named) *word = base_strdup(named);
    return *word || !named ? ROTOR_OK : base_fail_nomem(err, "opening a store");
}

static rotor_status find_model(cli_store *s, const cli_store_how *how, rotor_error *err) {
    char *word = NULL;
    bool asked;
    rotor_error why = {0};
    rotor_rag_info info = {.size = sizeof info};
    if (cli_on(s->a, OPT_NO_EMBED)) return ROTOR_OK;
    ROTOR_TRY(remembered_model(s, how, &info, &word, &asked, err));
    rotor_status st = !word                   ? ROTOR_OK
                      : hub_is_endpoint(word) ? cli_far_open(s, word, asked, how, &info, &why)
                                              : open_model(s, word, how, &why);
    if (st != ROTOR_OK && asked) st = base_fail(err, st, "%s", why.message);
    if (st != ROTOR_OK && !asked) {
        char line[sizeof why.message + 80];
        snprintf(line, sizeof line, "the store's embedding model cannot be opened, words only: %s",
                 why.message);
        cli_log_line((void *)(uintptr_t)s->a, BASE_LOG_WARN, line);
        st = ROTOR_OK;
    }
    if (!asked && s->e) /* unnamed, it stays where the store has it */
        s->kept_at = word;
    else
        base_free(word);
    return st;
}

/* rotor-extract lies beside this program; NULL: it does not. */
static char *find_extract(void) {
    char *own = base_path_absolute("/proc/self/exe"), *slash = own ? strrchr(own, '/') : NULL;
    if (slash) *slash = 0;
    char *path = slash ? base_path_join(own, "rotor-extract") : NULL;
    if (path && base_path_kind_of(path) != BASE_PATH_FILE) {
        base_free(path);
        path = NULL;
    }
    base_free(own);
    return path;
}

rotor_status cli_store_open(cli_store *s, const char *word, const cli_store_how *how,
                            rotor_error *err) {
    rotor_rag_options opt = patient_options(how);
    char *whole = NULL, *extract;
    s->place = store_place(word);
    if (s->place)
        s->folder =
            cli_is_address(s->place) ? base_url_without_password(s->place) : base_strdup(s->place);
    if (!s->folder) return base_fail_nomem(err, "opening a store");
    if (how->model) ROTOR_TRY(find_model(s, how, err));
    if (s->e && s->model.path) whole = base_path_absolute(s->model.path);
    opt.create = how->create;
    opt.write = how->write;
    opt.share = how->share;
    opt.embedder = s->e;
    opt.embedder_path = s->kept_at ? s->kept_at : whole ? whole : "embedded";
    const rotor_rag_embedder far = s->far ? cli_far_source(s) : (rotor_rag_embedder){0};
    if (s->far) opt.source = &far;
    opt.extract = extract = how->write ? find_extract() : NULL;
    opt.cpu = cli_text(s->a, OPT_CPU);
    opt.label = how->label;
    opt.log = cli_log_line;
    opt.log_user = (void *)(uintptr_t)s->a;
    const rotor_status st = rotor_rag_open(&s->r, s->place, &opt, err);
    base_free(whole);
    base_free(extract);
    return st;
}

/* ==== Several ================================================================================= */

void cli_stores_close(cli_stores *s) {
    while (s->n) cli_store_close(&s->list[--s->n]); /* who borrows a model goes first */
    rotor_engine_close(&s->judge);
    cli_model_free(&s->judge_model);
    s->judge_model = (cli_model){0};
}

static rotor_status open_next(cli_stores *s, const cli_args *a, const char *word, cli_store_how how,
                              rotor_error *err) {
    if (s->n == ROTOR_RAG_STORES)
        return base_fail(err, ROTOR_E_ARG, "more than %d stores at once", ROTOR_RAG_STORES);
    how.others = s->list;
    how.n_others = s->n;
    cli_store *next = &s->list[s->n++];
    next->a = a;
    ROTOR_TRY(cli_store_open(next, word, &how, err));
    for (size_t i = 0; i + 1 < s->n; i++)
        if (strcmp(s->list[i].place, next->place) == 0)
            return base_fail(err, ROTOR_E_ARG, "%s is named twice", next->folder);
    s->r[s->n - 1] = next->r;
    return ROTOR_OK;
}

static bool is_store(const char *word) {
    char *folder = store_place(word);
    const bool is = folder && base_path_kind_of(folder) == BASE_PATH_DIR;
    base_free(folder);
    return is;
}

rotor_status cli_stores_open(cli_stores *s, const cli_args *a, const char *words,
                             const cli_store_how *how, rotor_error *err) {
    ROTOR_TRY(cli_judge_open(&s->judge, a, &s->judge_model, how, err));
    if (!strchr(words, ',') || is_store(words)) return open_next(s, a, words, *how, err);
    for (const char *at = words;; at++) {
        const size_t n = strcspn(at, ",");
        char *word = base_strndup(at, n);
        rotor_status st = word ? ROTOR_OK : base_fail_nomem(err, "opening a store");
        if (word && !n)
            st = base_fail(err, ROTOR_E_ARG, "'%s' names a store without a name", words);
        if (st == ROTOR_OK) st = open_next(s, a, word, *how, err);
        base_free(word);
        at += n;
        if (st != ROTOR_OK || !*at) return st;
    }
}

rotor_rag_query cli_store_query(const cli_args *a) {
    static const rotor_rag_mode modes[] = {ROTOR_RAG_HYBRID, ROTOR_RAG_LEXICAL, ROTOR_RAG_VECTOR};
    rotor_rag_query q = rotor_rag_query_default();
    if (cli_int(a, OPT_HITS)) q.k = (uint32_t)cli_int(a, OPT_HITS);
    q.mode = modes[cli_int(a, OPT_RAG_MODE)];
    if (cli_on(a, OPT_NO_EMBED) && q.mode == ROTOR_RAG_HYBRID) q.mode = ROTOR_RAG_LEXICAL;
    q.fusion = cli_int(a, OPT_FUSION) ? ROTOR_RAG_RRF : ROTOR_RAG_CONVEX;
    q.filter = a->many[OPT_FILTER];
    q.n_filter = a->n_many[OPT_FILTER];
    q.plain = cli_on(a, OPT_PLAIN);
    q.rerank_n = (uint32_t)cli_int(a, OPT_RERANK_N);
    q.rerank_ms = (uint32_t)cli_int(a, OPT_RERANK_MS);
    return q;
}

rotor_rag_query cli_stores_query(const cli_stores *s) {
    rotor_rag_query q = cli_store_query(s->list[0].a);
    q.reranker = s->judge;
    return q;
}

/* ==== Rewriting =============================================================================== */

bool cli_rewrites(const cli_args *a) { return cli_int(a, OPT_REWRITE) == 1; }

rotor_status cli_rewrite(const cli_args *a, rotor_engine *e, const rotor_turn *turns, size_t n,
                         char **out, rotor_error *err) {
    rotor_error why = {0};
    *out = NULL;
    if (!cli_rewrites(a) || n < 2) return ROTOR_OK;
    const rotor_status st = rotor_rag_rewrite(e, turns, n, cli_goes_on, NULL, out, &why);
    if (st == ROTOR_E_CANCELLED) return base_fail(err, st, "%s", why.message);
    if (st != ROTOR_OK)
        cli_log(a, BASE_LOG_WARN, "rotor: the question is not rewritten: %s", why.message);
    else if (*out)
        cli_log(a, BASE_LOG_INFO, "searched for, too: %s", *out);
    else
        cli_log(a, BASE_LOG_INFO, "the question stays as it is: what the model made of it is none");
    return ROTOR_OK;
}

cli_gate cli_gate_of(const cli_args *a, cli_gate fallback) {
    return cli_given(a, OPT_GATE) ? (cli_gate)cli_int(a, OPT_GATE) : fallback;
}

/* ==== Telling ================================================================================= */

const char cli_not_in_documents[] = "Not in your documents: nothing there is near enough to the "
                                    "question.";

void cli_say_story_model(const cli_args *a, const cli_model *m) {
    if (m->path) return;
    cli_log(a, BASE_LOG_WARN,
            "rotor: the built-in model tells stories, and does not answer from documents; "
            "rotor pull bitnet-2b4t (1.2 GB) gets one that can, to be named as MODEL");
}

int cli_json_line(const cli_args *a, json_t *v) {
    const size_t n = v ? json_dumpb(v, NULL, 0, JSON_COMPACT) : 0;
    char *text = base_alloc(n + 1);
    if (!v || !text) return cli_fail_text(a, "out of memory while writing JSON");
    json_dumpb(v, text, n, JSON_COMPACT);
    cli_out(text, n);
    cli_outf("\n");
    base_free(text);
    json_decref(v);
    return CLI_DONE;
}

void cli_put_plain(base_buf *out, const char *s) {
    for (size_t n = strlen(s); n;) {
        int32_t cp;
        const size_t k = (size_t)base_utf8_decode(s, n, &cp);
        const bool line_end = cp == '\r' && (n == 1 || s[1] == '\n'); /* as on Windows */
        const bool control = (cp < 32 && cp != '\n' && cp != '\t') || (cp >= 127 && cp < 160);
        if (!line_end) base_buf_append(out, control ? "?" : s, control ? 1 : k);
        s += k;
        n -= k;
    }
}

void cli_put_place(base_buf *out, const rotor_rag_hit *h, bool several) {
    if (several) {
        cli_put_plain(out, h->store);
        base_buf_puts(out, ": ");
    }
    const size_t n = rotor_rag_place(h, NULL, 0);
    if (!base_buf_reserve(out, n + 1)) return;
    rotor_rag_place(h, out->data + out->len, n + 1);
    out->len += n;
}

static bool is_cited(const rotor_rag_checked *k, size_t source, bool *unsure) {
    bool cited = false;
    *unsure = true;
    for (size_t i = 0; i < k->n_citations; i++) {
        if (k->citations[i].source != source) continue;
        cited = true;
        *unsure &= !k->citations[i].supported;
    }
    *unsure &= cited;
    return cited;
}

void cli_put_about(base_buf *out, const rotor_rag_hit *h) {
    const size_t from = out->len, n = strlen(h->title);
    const bool repeated = n && strncmp(h->title, h->heading, n) == 0 && /* a file's first heading */
                          (!h->heading[n] || strncmp(h->heading + n, " › ", 5) == 0);
    if (!repeated) cli_put_plain(out, h->title);
    if (n && !repeated && h->heading[0]) base_buf_puts(out, " › ");
    cli_put_plain(out, h->heading);
    for (size_t i = from; i < out->len; i++)
        if (out->data[i] == '\n' || out->data[i] == '\t') out->data[i] = '?';
}

static void put_source(base_buf *out, const rotor_rag_context *c, size_t i, bool several,
                       const char *note) {
    const rotor_rag_hit *h = &c->sources[i].hit;
    base_buf_printf(out, "[%zu] ", i + 1);
    cli_put_place(out, h, several);
    if (h->title[0] || h->heading[0]) base_buf_puts(out, "  ");
    cli_put_about(out, h);
    base_buf_printf(out, "%s%s\n", note,
                    c->sources[i].suspicious ? "  (this passage gives orders; they do not count)"
                                             : "");
}

void cli_put_sources(base_buf *out, const rotor_rag_context *c, const rotor_rag_checked *k,
                     bool several) {
    bool unsure, any = false;
    for (size_t i = 0; i < c->n; i++) any |= is_cited(k, i, &unsure);
    base_buf_puts(out, any ? "Sources:\n" : "No source is named; consulted:\n");
    for (size_t i = 0; i < c->n; i++)
        if (is_cited(k, i, &unsure) || !any)
            put_source(out, c, i, several,
                       unsure ? "  (hardly a word of the sentence is there)" : "");
    if (k->n_removed)
        base_buf_printf(out, "(%zu number%s of no source taken out)\n", k->n_removed,
                        k->n_removed > 1 ? "s" : "");
}
