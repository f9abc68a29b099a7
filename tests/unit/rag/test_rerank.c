/* SPDX-License-Identifier: MIT
 *
 * A reranker's judgement of what a search has found, and questions that were rewritten. The judge
 * here gives a passage the number behind its word "worth"; what it is asked is kept.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "rag/rag_internal.h"

enum { N_DOCS = 12 };

static char folder[] = "/tmp/rotor_rerank_XXXXXX";
static rag *store;
static char log_line[512];

typedef struct judge {
    int n_judged;      /* passages so far */
    int fails_at;      /* passage with which it fails; 0: never */
    uint64_t spins_us; /* how long it takes at least, each time */
    char asked[256];   /* the last question */
    char text[256];    /* the last passage */
} judge;

static rotor_status score(void *user, base_str query, const base_str *texts, size_t n, float *out,
                          rotor_error *err) {
    judge *j = user;
    const uint64_t start = base_now_us();
    snprintf(j->asked, sizeof j->asked, "%.*s", (int)query.n, query.p);
    for (size_t i = 0; i < n; i++) {
        snprintf(j->text, sizeof j->text, "%.*s", (int)texts[i].n, texts[i].p);
        const char *at = strstr(j->text, "worth ");
        if (++j->n_judged == j->fails_at) return base_fail(err, ROTOR_E_FULL, "no more");
        out[i] = at ? strtof(at + 6, NULL) : -100;
    }
    while (base_now_us() - start < j->spins_us) continue;
    return ROTOR_OK;
}

static void keep_line(void *user, base_log_level level, const char *line) {
    (void)user;
    if (level <= BASE_LOG_WARN) snprintf(log_line, sizeof log_line, "%s", line);
}

static int set_up(void **state) {
    (void)state;
    char path[160];
    base_buf text = {0};
    base_out o;
    rotor_error err = {0};
    rag_report report;
    const rag_options opt = {
        .create = true, .write = true, .cpu = cpu_detect(), .log = {keep_line, NULL}};
    const rag_add_options add = {0};
    /* the word weighs less in longer texts: the fused order is that of the numbers, 1 first */
    for (int i = 1; i <= N_DOCS; i++) {
        base_buf_printf(&text, "{\"_id\": \"%d\", \"text\": \"pump worth %d", i, i * 7 % 13);
        for (int k = 0; k < i; k++) base_buf_printf(&text, " filler%d", k);
        base_buf_puts(&text, "\"}\n");
    }
    base_buf_puts(&text, "{\"_id\": \"valve\", \"text\": \"A red valve closes the tank.\"}\n");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/notes.jsonl", folder);
    assert_int_equal(base_out_open(&o, path, NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&o, text.data, text.len, NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&o, NULL), ROTOR_OK);
    base_buf_free(&text);
    const char *paths[] = {path};
    char at[160];
    snprintf(at, sizeof at, "%s/store", folder);
    if (rag_open(&store, at, &opt, &err) != ROTOR_OK ||
        rag_add(store, paths, 1, &add, &report, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char command[200];
    rag_close(&store);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static rag_hits search(judge *j, size_t most, uint64_t limit_us) {
    rag_hits h;
    rotor_error err = {0};
    rag_query q = {.k = N_DOCS, .plain = true};
    log_line[0] = 0;
    if (j)
        q.reranker = (rag_reranker){
            .name = "judge", .most = most, .limit_us = limit_us, .score = score, .user = j};
    if (rag_search(store, base_str_of("pump"), &q, &h, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(h.n, N_DOCS);
    return h;
}

static void assert_order(const rag_hits *h, const char *want) {
    base_buf b = {0};
    for (size_t i = 0; i < h->n; i++) base_buf_printf(&b, "%s%s", i ? " " : "", h->hits[i].id);
    assert_string_equal(b.data, want);
    base_buf_free(&b);
}

static const char by_words[] = "1 2 3 4 5 6 7 8 9 10 11 12";

static void test_order(void **state) {
    (void)state;
    judge j = {0};
    rag_hits plain = search(NULL, 0, 0), h = search(&j, 20, 0);
    assert_order(&plain, by_words);
    assert_false(plain.hits[0].reranked);
    /* worth: 7 1 8 2 9 3 10 4 11 5 12 6 */
    assert_order(&h, "11 9 7 5 3 1 12 10 8 6 4 2");
    assert_int_equal(j.n_judged, N_DOCS);
    assert_string_equal(j.asked, "pump");
    assert_false(h.rerank_failed);
    for (size_t i = 0; i < h.n; i++) {
        assert_true(h.hits[i].reranked);
        assert_true(h.hits[i].rerank == (float)(N_DOCS - i));
        assert_true(h.hits[i].fused == plain.hits[atoi(h.hits[i].id) - 1].score);
        assert_true(!i || h.hits[i].score < h.hits[i - 1].score);
    }
    assert_true(h.hits[0].score == 1);
    assert_true(h.relevant == plain.relevant);
    rag_hits_free(&plain);
    rag_hits_free(&h);
}

static void test_only_the_first(void **state) {
    (void)state;
    judge j = {0};
    rag_hits h = search(&j, 5, 0);
    assert_order(&h, "5 3 1 4 2 6 7 8 9 10 11 12");
    assert_int_equal(j.n_judged, 5);
    assert_true(h.hits[4].reranked && !h.hits[5].reranked);
    for (size_t i = 1; i < h.n; i++) assert_true(h.hits[i].score < h.hits[i - 1].score);
    assert_true(h.hits[h.n - 1].score > 0);
    rag_hits_free(&h);
}

static void test_failure(void **state) {
    (void)state;
    judge j = {.fails_at = 7};
    rag_hits h = search(&j, 20, 0);
    assert_order(&h, by_words);
    assert_true(h.rerank_failed);
    assert_false(h.hits[0].reranked);
    assert_non_null(strstr(log_line, "judge does not rerank, the order stays as it was: no more"));
    rag_hits_free(&h);
}

/* Between every few passages it is looked at the clock, which the judge holds up. */
static void test_limit(void **state) {
    (void)state;
    judge j = {.spins_us = 300}, patient = {.spins_us = 300};
    rag_hits h = search(&j, 20, 200);
    assert_order(&h, by_words);
    assert_true(h.rerank_failed);
    assert_true(j.n_judged < N_DOCS);
    assert_non_null(strstr(log_line, "passages were judged in 0 ms"));
    rag_hits_free(&h);
    h = search(&patient, 20, 0);
    assert_false(h.rerank_failed);
    assert_true(h.hits[0].reranked);
    rag_hits_free(&h);
}

/* ==== Questions that follow up ================================================================ */

static rag_context gather(const char *question, const char *earlier, const char *rewritten,
                          judge *j) {
    rag_context c;
    rotor_error err = {0};
    rag_ask a = {.query = {.k = 8}, .budget_tok = 10000, .max_sources = 6};
    a.earlier = &earlier;
    a.n_earlier = earlier != NULL;
    if (rewritten) a.rewritten = base_str_of(rewritten);
    if (j)
        a.query.reranker = (rag_reranker){.name = "judge", .most = 20, .score = score, .user = j};
    if (rag_gather(&store, 1, base_str_of(question), &a, &c, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    return c;
}

static void test_rewritten(void **state) {
    (void)state;
    judge j = {0};
    const char question[] = "and how does it work?", alone[] = "How is the tank closed by a valve?";
    rag_context c = gather(question, NULL, NULL, NULL);
    assert_int_equal(c.n, 0); /* none of its words is there */
    assert_string_equal(c.query, question);
    assert_false(c.rewritten);
    rag_context_free(&c);
    c = gather(question, "Tell me of the pump", alone, &j);
    assert_int_equal(c.n, 1); /* in place of what was asked before */
    assert_string_equal(c.sources[0].hit.id, "valve");
    assert_string_equal(c.query, alone);
    assert_true(c.rewritten && !c.followed_up);
    assert_string_equal(j.asked, alone);
    assert_non_null(strstr(c.turn, question)); /* the model is asked what the user asked */
    assert_null(strstr(c.turn, alone));
    rag_context_free(&c);
    c = gather(question, NULL, question, NULL);
    assert_false(c.rewritten);
    rag_context_free(&c);
}

static void test_judged_by_what_says_more(void **state) {
    (void)state;
    judge j = {0};
    rag_context c = gather("and the valve?", "Tell me of the pump", NULL, &j);
    assert_true(c.followed_up);
    assert_string_equal(j.asked, "and the valve?\nTell me of the pump");
    assert_string_equal(c.query, "and the valve?");
    rag_context_free(&c);
}

/* ==== Whether to search ======================================================================= */

static void test_what_needs_no_search(void **state) {
    (void)state;
    static const char *const form[] = {"Shorter, please.",
                                       "rewrite that shorter",
                                       "Can you say that again in two sentences?",
                                       "translate it into German",
                                       "As a bullet list",
                                       "Summarise your last answer"};
    static const char *const search[] = {"",
                                         "that",
                                         "Tell me more",
                                         "summarise the manual",
                                         "translate the letter into German",
                                         "Is there a shorter cable?",
                                         "list 3 pumps",
                                         "plus court, s\xC3\xA9il vous pla\xC3\xAEt"};
    for (size_t i = 0; i < BASE_COUNT(form); i++)
        if (!rag_about_the_answer(base_str_of(form[i]))) fail_msg("%s", form[i]);
    for (size_t i = 0; i < BASE_COUNT(search); i++)
        if (rag_about_the_answer(base_str_of(search[i]))) fail_msg("%s", search[i]);
    assert_true(rag_asks_something(base_str_of("what is a valve?")));
    assert_false(rag_asks_something(base_str_of("Thanks!")));
    assert_false(rag_asks_something(base_str_of("hello")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_only_the_first),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_rewritten),
        cmocka_unit_test(test_judged_by_what_says_more),
        cmocka_unit_test(test_what_needs_no_search),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
