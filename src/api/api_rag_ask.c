/* SPDX-License-Identifier: MIT
 *
 * The public face of asking: the budget of a session's context, and the writer's own token counts.
 */
#include "api/api_internal.h"
#include "api/api_rag.h"

enum { BUDGET_TOK = 1200, SOURCES = 6, ANSWER_TOK = 512, SAFETY_TOK = 48, CTX_TOK = 4096 };

rotor_rag_ask_options rotor_rag_ask_options_default(void) {
    return (rotor_rag_ask_options){
        .size = sizeof(rotor_rag_ask_options), .budget_tok = BUDGET_TOK, .max_sources = SOURCES};
}

/* ==== Budget ================================================================================== */

/* Control tokens in a text stay text, as they do in a conversation. */
static size_t count(void *user, base_str text) {
    uint32_t *ids = NULL;
    size_t n = 0;
    if (rotor_tokenize(user, text.p, text.n, 0, &ids, &n, NULL) != ROTOR_OK) return SIZE_MAX / 4;
    rotor_free(ids);
    return n;
}

static size_t tokens_of(const rotor_rag_ask_options *o, const char *text) {
    const base_str s = base_str_of(text);
    return o->writer ? count((void *)(uintptr_t)o->writer, s) : s.n / 3 + 1;
}

/* What the context leaves for sources: without the answer, the question, the rules, what is there
 * already, and a little for the template. */
static rotor_status fit(const rotor_rag_ask_options *o, const char *question, size_t *budget,
                        rotor_error *err) {
    enum { LEAST = 48, RULES_TOK = 72 };
    size_t n_ctx = o->n_ctx ? o->n_ctx : CTX_TOK;
    if (!o->n_ctx && o->writer) {
        rotor_engine_info info = {.size = sizeof info};
        ROTOR_TRY(rotor_engine_get_info(o->writer, &info));
        n_ctx = info.n_ctx;
    }
    const size_t answer = o->answer_tok ? o->answer_tok : BASE_MIN((size_t)ANSWER_TOK, n_ctx / 4);
    const size_t asked = tokens_of(o, question);
    const size_t rules = o->writer ? tokens_of(o, rag_rules()) : RULES_TOK;
    const size_t taken = answer + asked + rules + o->other_tok + SAFETY_TOK;
    if (asked > BASE_MAX((size_t)64, BASE_MIN((size_t)512, n_ctx / 4)) || taken + LEAST > n_ctx)
        return base_fail(err, ROTOR_E_FULL,
                         "the question has %zu tokens, rules, answer and earlier turns want %zu "
                         "more, and the context has %zu: nothing is left for sources. Ask "
                         "shorter, or make the context larger",
                         asked, taken - asked, n_ctx);
    *budget = BASE_MIN(o->budget_tok ? (size_t)o->budget_tok : (size_t)BUDGET_TOK, n_ctx - taken);
    return ROTOR_OK;
}

/* ==== Gathering =============================================================================== */

static rotor_status give_context(rotor_rag_context *out, rag_context *c, rotor_rag *const *stores,
                                 rotor_error *err) {
    *out = (rotor_rag_context){.sources = base_alloc_array(c->n + 1, sizeof *out->sources),
                               .n = c->n,
                               .rules = c->rules,
                               .turn = c->turn,
                               .relevant = c->relevant,
                               .followed_up = c->followed_up,
                               .lexical_only = c->lexical_only,
                               .best_cosine = c->best_cosine,
                               .coverage = c->coverage,
                               .match = c->match,
                               .n_tok = (uint32_t)c->n_tok,
                               .search_us = c->search_us,
                               .query = c->query,
                               .rewritten = c->rewritten,
                               .rerank_failed = c->rerank_failed,
                               .inside = base_alloc(sizeof *c)};
    if (!out->sources || !out->inside) {
        base_free(out->sources);
        base_free(out->inside);
        rag_context_free(c);
        return base_fail_nomem(err, "asking");
    }
    memcpy(out->inside, c, sizeof *c);
    for (size_t i = 0; i < c->n; i++) {
        api_give_hit(&out->sources[i].hit, &c->sources[i].hit, stores);
        out->sources[i].suspicious = c->sources[i].suspicious;
    }
    return ROTOR_OK;
}

rotor_status rotor_rag_gather_all(rotor_rag *const *stores, size_t n, const char *question,
                                  const rotor_rag_ask_options *user, rotor_rag_context *out,
                                  rotor_error *err) {
    rag *list[RAG_MAX_STORES];
    rotor_rag_ask_options opt = rotor_rag_ask_options_default();
    rag_ask a = {0};
    rag_context c;
    if (!question || !out)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_gather: a required argument is missing");
    ROTOR_TRY(api_take_stores(list, stores, n, "rotor_rag_gather", err));
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_rag_ask_options", err));
    ROTOR_TRY(api_take_query(&a.query, opt.find, err));
    ROTOR_TRY(fit(&opt, question, &a.budget_tok, err));
    a.max_sources = opt.max_sources ? opt.max_sources : SOURCES;
    a.earlier = opt.earlier;
    a.n_earlier = opt.n_earlier;
    if (opt.rewritten) a.rewritten = base_str_of(opt.rewritten);
    a.count = opt.writer ? count : NULL;
    a.user = (void *)(uintptr_t)opt.writer;
    ROTOR_TRY(rag_gather(list, n, base_str_of(question), &a, &c, err));
    return give_context(out, &c, stores, err);
}

rotor_status rotor_rag_gather(rotor_rag *r, const char *question, const rotor_rag_ask_options *opt,
                              rotor_rag_context *out, rotor_error *err) {
    return rotor_rag_gather_all(&r, 1, question, opt, out, err);
}

void rotor_rag_context_free(rotor_rag_context *c) {
    if (!c) return;
    if (c->inside) rag_context_free(c->inside);
    base_free(c->inside);
    base_free(c->sources);
    memset(c, 0, sizeof *c);
}

/* ==== Turns =================================================================================== */

static bool takes_system(const rotor_engine *e) {
    const rotor_turn two[] = {{.role = "system", .content = "a"}, {.role = "user", .content = "b"}};
    uint32_t *ids = NULL;
    size_t n = 0;
    const bool ok = rotor_chat_prompt(e, two, 2, NULL, &ids, &n, NULL, NULL) == ROTOR_OK;
    rotor_free(ids);
    return ok;
}

static void put_paragraphs(base_buf *out, const char *a, const char *b) {
    if (a && *a) base_buf_printf(out, "%s\n\n", a);
    base_buf_puts(out, b);
}

/* Turns, then text, which of the two becomes the system's, in one block. */
static rotor_status lay_out(const rotor_turn *turns, size_t n, const base_buf *text, bool system,
                            const char *last, rotor_turn **out, size_t *n_out, rotor_error *err) {
    size_t count = 0;
    const size_t room = n + 1;
    rotor_turn *list = base_alloc(room * sizeof *list + text->len + 1);
    if (!list) return base_fail_nomem(err, "asking");
    char *copy = memcpy(list + room, text->data, text->len);
    if (system) list[count++] = (rotor_turn){.role = "system", .content = copy};
    for (size_t i = system && strcmp(turns[0].role, "system") == 0; i < n; i++)
        list[count++] = turns[i];
    list[count - 1] = (rotor_turn){.role = "user", .content = system ? last : copy};
    *out = list;
    *n_out = count;
    return ROTOR_OK;
}

rotor_status rotor_rag_ground(const rotor_engine *e, const rotor_rag_context *c,
                              const rotor_turn *turns, size_t n, rotor_turn **out, size_t *n_out,
                              rotor_error *err) {
    base_buf text = {0};
    if (!e || !c || !c->turn || !turns || !n || !out || !n_out || !turns[n - 1].role ||
        strcmp(turns[n - 1].role, "user") != 0)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_rag_ground: the last turn is to be the user's question");
    const bool own = strcmp(turns[0].role, "system") == 0, system = takes_system(e);
    put_paragraphs(&text, own && system ? turns[0].content : NULL, c->rules);
    if (!system) base_buf_printf(&text, "\n\n%s", c->turn);
    const rotor_status st = text.failed
                                ? base_fail_nomem(err, "asking")
                                : lay_out(turns, n, &text, system, c->turn, out, n_out, err);
    base_buf_free(&text);
    return st;
}

bool rotor_rag_asks_something(const char *question) {
    return question && rag_asks_something(base_str_of(question));
}

bool rotor_rag_about_the_answer(const char *question) {
    return question && rag_about_the_answer(base_str_of(question));
}

/* ==== Citations =============================================================================== */

struct rotor_rag_marks {
    rag_marks m;   /* state */
    base_buf text; /* of the last call, owned */
};

rotor_status rotor_rag_marks_create(rotor_rag_marks **out, size_t n_sources, rotor_error *err) {
    rotor_rag_marks *m = base_alloc(sizeof *m);
    if (!m) return base_fail_nomem(err, "checking citations");
    m->m.n_sources = n_sources;
    *out = m;
    return ROTOR_OK;
}

void rotor_rag_marks_free(rotor_rag_marks **m) {
    if (!m || !*m) return;
    base_buf_free(&(*m)->text);
    base_free(*m);
    *m = NULL;
}

const char *rotor_rag_marks_put(rotor_rag_marks *m, const char *text, size_t n_bytes, size_t *n) {
    base_buf_reset(&m->text);
    if (text)
        rag_marks_put(&m->m, (base_str){text, n_bytes}, &m->text);
    else
        rag_marks_end(&m->m, &m->text);
    *n = m->text.len;
    return m->text.data ? m->text.data : "";
}

static rotor_status give_checked(rotor_rag_checked *out, rag_checked *c, rotor_error *err) {
    rotor_rag_citation *list = base_alloc_array(c->n + 1, sizeof *list);
    rag_checked *kept = base_alloc(sizeof *kept);
    if (!list || !kept) {
        base_free(list);
        base_free(kept);
        rag_checked_free(c);
        return base_fail_nomem(err, "checking citations");
    }
    for (size_t i = 0; i < c->n; i++)
        list[i] = (rotor_rag_citation){.source = c->list[i].source,
                                       .begin = c->list[i].begin,
                                       .end = c->list[i].end,
                                       .support = c->list[i].support,
                                       .supported = c->list[i].supported,
                                       .added = c->list[i].added};
    *kept = *c;
    *out = (rotor_rag_checked){.text = c->text.data ? c->text.data : "",
                               .n_bytes = c->text.len,
                               .citations = list,
                               .n_citations = c->n,
                               .n_removed = c->n_removed,
                               .inside = kept};
    return ROTOR_OK;
}

rotor_status rotor_rag_check(const rotor_rag_context *c, const char *answer, size_t n_bytes,
                             rotor_rag_checked *out, rotor_error *err) {
    static const rag_context none = {0};
    rag_checked checked;
    if (!c || !out || (!answer && n_bytes))
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_check: a required argument is missing");
    ROTOR_TRY(rag_check(c->inside ? c->inside : &none, (base_str){answer, n_bytes}, &checked, err));
    return give_checked(out, &checked, err);
}

void rotor_rag_checked_free(rotor_rag_checked *c) {
    if (!c) return;
    if (c->inside) rag_checked_free(c->inside);
    base_free(c->inside);
    base_free((void *)(uintptr_t)c->citations);
    memset(c, 0, sizeof *c);
}
