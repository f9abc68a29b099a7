/* SPDX-License-Identifier: MIT
 *
 * rotor chat --rag: every message is looked up in a knowledge store, and what is found goes to the
 * model with it, for this one answer: the conversation keeps messages and answers, not passages.
 * Each search sees the store as it is then.
 */
#include "cli/chat_talk.h"

rotor_status chat_open_store(chat_talk *t, rotor_error *err) {
    const cli_store_how how = {.model = true, .writer = t->e};
    const char *word = cli_text(&t->a, OPT_RAG);
    return word ? cli_stores_open(&t->stores, &t->a, word, &how, err) : ROTOR_OK;
}

void chat_forget_sources(chat_talk *t) {
    rotor_rag_checked_free(&t->checked);
    rotor_rag_context_free(&t->found);
    t->grounded = false;
}

/* What the user has said before the last message; [*n], base_free. */
static const char **earlier_questions(const chat_talk *t, size_t *n) {
    const char **list = base_alloc_array(t->n_turns + 1, sizeof *list);
    *n = 0;
    for (size_t i = 0; list && i + 1 < t->n_turns; i++)
        if (strcmp(t->turns[i].role, "user") == 0) list[(*n)++] = t->turns[i].text;
    return list;
}

/* As the model writes the last message; of the conversation all that is kept counts. */
static rotor_status rewrite(const chat_talk *t, char **out, rotor_error *err) {
    rotor_turn *turns = base_alloc_array(t->n_turns, sizeof *turns);
    if (!turns) return base_fail_nomem(err, "searching");
    for (size_t i = 0; i < t->n_turns; i++)
        turns[i] = (rotor_turn){.role = t->turns[i].role, .content = t->turns[i].text};
    const rotor_status st = cli_rewrite(&t->a, t->e, turns, t->n_turns, out, err);
    base_free(turns);
    return st;
}

static rotor_status gather(chat_talk *t, size_t n_tok, rotor_error *err) {
    char *rewritten = NULL;
    rotor_rag_ask_options o = rotor_rag_ask_options_default();
    const rotor_rag_query q = cli_stores_query(&t->stores);
    const char **earlier = earlier_questions(t, &o.n_earlier);
    if (!earlier) return base_fail_nomem(err, "searching");
    rotor_status st = rewrite(t, &rewritten, err);
    o.budget_tok = (uint32_t)cli_int(&t->a, OPT_BUDGET);
    o.answer_tok = (uint32_t)cli_int(&t->a, OPT_N_PREDICT);
    o.n_ctx = rotor_session_max(t->s);
    o.other_tok = (uint32_t)n_tok;
    o.writer = t->e;
    o.find = &q;
    o.earlier = earlier;
    o.rewritten = rewritten;
    if (st == ROTOR_OK)
        st = rotor_rag_gather_all(t->stores.r, t->stores.n, t->turns[t->n_turns - 1].text, &o,
                                  &t->found, err);
    base_free(earlier);
    rotor_free(rewritten);
    return st;
}

rotor_status chat_find_sources(chat_talk *t, size_t n_tok, bool *refused, rotor_error *err) {
    rotor_error why = {0};
    const cli_gate gate = cli_gate_of(&t->a, CLI_GATE_AUTO);
    const char *question = t->turns[t->n_turns - 1].text;
    if (!rotor_rag_asks_something(question)) return ROTOR_OK;
    if (cli_int(&t->a, OPT_RETRIEVE) == 1 && t->n_turns > 2 && rotor_rag_about_the_answer(question))
        return ROTOR_OK;
    const rotor_status st = gather(t, n_tok, &why);
    if (st == ROTOR_E_FULL) {
        cli_log(&t->a, BASE_LOG_WARN, "rotor: chat: answered without the store: %s", why.message);
        return ROTOR_OK;
    }
    if (st != ROTOR_OK) return base_fail(err, st, "%s", why.message);
    t->grounded = t->found.n && (t->found.relevant || gate == CLI_GATE_ALWAYS);
    *refused = !t->found.relevant && gate == CLI_GATE_STRICT;
    if (*refused) {
        cli_outf("%s\n", cli_not_in_documents);
        cli_finish(&t->a, CLI_DONE);
    }
    return ROTOR_OK;
}

rotor_status chat_check_sources(chat_talk *t, const char *answer, size_t n_bytes,
                                rotor_error *err) {
    base_buf b = {0};
    if (!t->grounded) {
        rotor_rag_context_free(&t->found); /* nobody has seen it */
        cli_log(&t->a, BASE_LOG_INFO, "no local source: nothing in the store is near enough");
        return ROTOR_OK;
    }
    ROTOR_TRY(rotor_rag_check(&t->found, answer, n_bytes, &t->checked, err));
    cli_put_sources(&b, &t->found, &t->checked, t->stores.n > 1);
    if (b.len && b.data[b.len - 1] == '\n') b.data[--b.len] = 0;
    cli_log(&t->a, BASE_LOG_INFO, "%s", b.data ? b.data : "");
    base_buf_free(&b);
    return ROTOR_OK;
}
