/* SPDX-License-Identifier: MIT
 *
 * Stores from files to hits, with a toy embedder: words and vectors against plain sums, documents
 * that change and go, models that differ, and every allocation failing in turn.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "rag/rag_internal.h"
#include "rag/rag_sql.h"
#include "test_folder.h"
#include "toy_embed.h"

static void remove_all(const char *name) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", in_folder(name));
    assert_int_equal(system(command), 0);
}

static rag *open_store(const char *name, const rag_embedder *e) {
    rag *r = NULL;
    rotor_error err = {0};
    const rag_options opt = {.create = true, .write = true, .cpu = cpu_detect(), .embedder = e};
    if (rag_open(&r, in_folder(name), &opt, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return r;
}

static rag_report add(rag *r, const char *name) {
    rag_report report;
    rotor_error err = {0};
    const char *path = in_folder(name);
    if (rag_add(r, &path, 1, NULL, &report, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return report;
}

static size_t n_found(rag *r, const char *text, rag_mode mode) {
    const rag_query q = {.mode = mode, .k = 20};
    rag_hits h;
    rotor_error err = {0};
    if (rag_search(r, base_str_of(text), &q, &h, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const size_t n = h.n;
    rag_hits_free(&h);
    return n;
}

static rag_facts facts_of(rag *r) {
    rag_facts f;
    assert_int_equal(rag_get_facts(r, &f, NULL), ROTOR_OK);
    return f;
}

/* ==== What is found =========================================================================== */

static void make_corpus(const char *name, int n) {
    static const char *const words[] = {"river",  "bridge", "stone", "letter", "window", "garden",
                                        "engine", "signal", "metal", "harbor", "winter", "candle"};
    base_buf text = {0};
    base_rng rng;
    base_rng_seed(&rng, 9);
    for (int d = 0; d < n; d++) {
        base_buf_printf(&text,
                        "{\"_id\": \"d%d\", \"title\": \"about %s\", \"year\": %d, \"text\": \"", d,
                        words[base_rng_below(&rng, 12)], 1900 + d % 3);
        for (uint32_t w = 5 + base_rng_below(&rng, 400); w > 0; w--)
            base_buf_printf(&text, "%s%s",
                            words[base_rng_below(&rng, 12) * base_rng_below(&rng, 12) / 12],
                            base_rng_below(&rng, 9) ? " " : ". Then ");
        base_buf_puts(&text, "\"}\n");
    }
    write_text(name, text.data);
    base_buf_free(&text);
}

typedef struct counting {
    base_str want; /* term */
    double n;      /* times */
    double words;  /* all that count */
} counting;

static rotor_status count(void *user, const rag_term *t) {
    counting *c = user;
    c->n += base_str_eq(c->want, t->t);
    c->words += !t->extra;
    return ROTOR_OK;
}

static double times(const char *text, const char *term, double *words) {
    counting c = {.want = base_str_of(term)};
    rag_terms_of(base_str_of(text), count, &c);
    if (words) *words = c.words;
    return c.n;
}

/* BM25 from the passages' texts, in double. */
static void words_score_by_the_formula(void **state) {
    (void)state;
    static const char *const terms[] = {"bridg", "candl", "harbor"};
    make_corpus("c.jsonl", 60);
    rag *r = open_store("words", NULL);
    add(r, "c.jsonl");
    rag_query q = {.mode = RAG_LEXICAL, .k = 100, .plain = true};
    rag_hits all, found;
    assert_int_equal(rag_search(r,
                                base_str_of("river bridge stone letter window garden engine "
                                            "signal metal harbor winter candle then"),
                                &q, &all, NULL),
                     ROTOR_OK);
    const size_t n = facts_of(r).n_chunks;
    assert_int_equal(all.n, n);
    double mean = 0, idf[3];
    for (size_t i = 0; i < n; i++) {
        double words;
        times(all.hits[i].text, "", &words);
        mean += words / (double)n;
    }
    for (int t = 0; t < 3; t++) {
        double with = 0;
        for (size_t i = 0; i < n; i++)
            with +=
                times(all.hits[i].text, terms[t], NULL) + times(all.hits[i].title, terms[t], NULL) >
                0;
        idf[t] = log(1 + ((double)n - with + 0.5) / (with + 0.5));
    }
    assert_int_equal(rag_search(r, base_str_of("the bridge, candles; harbor?"), &q, &found, NULL),
                     ROTOR_OK);
    assert_true(found.n > 5);
    for (size_t i = 0; i < found.n; i++) {
        double words, score = 0;
        const rag_hit *h = &found.hits[i];
        times(h->text, "", &words);
        for (int t = 0; t < 3; t++) {
            const double tf = times(h->text, terms[t], NULL) + 2 * times(h->title, terms[t], NULL);
            score += idf[t] * tf * 2.5 / (tf + 1.5 * (0.25 + 0.75 * words / mean));
        }
        assert_true(fabs(score - h->bm25) < 1e-4 * score);
        if (i) assert_true(found.hits[i - 1].score >= h->score);
    }
    rag_hits_free(&all);
    rag_hits_free(&found);
    rag_close(&r);
    remove_all("words");
}

/* The scan finds what sums over the embedder's own floats find. */
static void vectors_rank_by_cosine(void **state) {
    (void)state;
    make_corpus("c.jsonl", 60);
    rag *r = open_store("vectors", &toy);
    const rag_report report = add(r, "c.jsonl");
    assert_int_equal(report.n_vectors, facts_of(r).n_chunks);
    const rag_query q = {.mode = RAG_VECTOR, .k = 10, .plain = true};
    const base_str text = base_str_of("a stone bridge in winter");
    rag_hits h;
    float want[DIMS], got[DIMS];
    assert_int_equal(rag_search(r, text, &q, &h, NULL), ROTOR_OK);
    assert_int_equal(h.n, 10);
    toy_embed(NULL, &text, 1, want, NULL);
    for (size_t i = 0; i < h.n; i++) {
        base_buf whole = {0};
        double cosine = 0;
        base_buf_printf(&whole, "%s\n%s", h.hits[i].title, h.hits[i].text);
        toy_embed(NULL, &(base_str){whole.data, whole.len}, 1, got, NULL);
        for (int k = 0; k < DIMS; k++) cosine += (double)want[k] * (double)got[k];
        assert_true(fabs(cosine - h.hits[i].cosine) < 2e-4);
        if (i) assert_true(h.hits[i - 1].cosine >= h.hits[i].cosine);
        base_buf_free(&whole);
    }
    rag_hits_free(&h);
    rag_close(&r);
    remove_all("vectors");
}

static void hybrid_says_the_same_twice_and_filters(void **state) {
    (void)state;
    make_corpus("c.jsonl", 60);
    rag *r = open_store("hybrid", &toy);
    add(r, "c.jsonl");
    const char *const filter[] = {"year=1901", "title=about *"};
    const rag_query q = {.k = 12, .filter = filter, .n_filter = 2, .plain = true};
    rag_hits a, b;
    assert_int_equal(rag_search(r, base_str_of("winter harbor"), &q, &a, NULL), ROTOR_OK);
    assert_int_equal(rag_search(r, base_str_of("winter harbor"), &q, &b, NULL), ROTOR_OK);
    assert_true(a.n > 3 && a.n == b.n);
    for (size_t i = 0; i < a.n; i++) {
        assert_int_equal(a.hits[i].chunk, b.hits[i].chunk);
        assert_memory_equal(&a.hits[i].score, &b.hits[i].score, sizeof(float));
        assert_int_equal(atoi(a.hits[i].id + 1) % 3, 1);
        assert_in_range(a.hits[i].line, 1, 60);
    }
    assert_true(a.coverage > 0.9f && a.best_cosine > 0);
    rag_hits_free(&a);
    rag_hits_free(&b);
    const rag_query some = {.mode = RAG_LEXICAL, .k = 100, .plain = true};
    assert_int_equal(rag_search(r, base_str_of("river"), &some, &a, NULL), ROTOR_OK);
    assert_int_equal(rag_search(r, base_str_of("river -candle"), &some, &b, NULL), ROTOR_OK);
    assert_in_range(b.n, 1, a.n - 1);
    for (size_t i = 0; i < b.n; i++) assert_true(times(b.hits[i].text, "candl", NULL) == 0);
    rag_hits_free(&a);
    rag_hits_free(&b);
    const rag_query bad = {.k = 1, .filter = (const char *const[]){"nothing"}, .n_filter = 1};
    assert_int_equal(rag_search(r, base_str_of("x"), &bad, &a, NULL), ROTOR_E_ARG);
    rag_close(&r);
    remove_all("hybrid");
}

/* ==== Several stores ========================================================================== */

/* The first n lines of a file, or what is behind them. */
static void cut_lines(const char *from, const char *to, int n, bool behind) {
    base_file f;
    base_buf out = {0};
    assert_int_equal(base_file_open(&f, in_folder(from), false, NULL), ROTOR_OK);
    for (size_t i = 0; i < f.size; i++) {
        if ((n > 0) != behind) base_buf_append(&out, f.data + i, 1);
        n -= ((const char *)f.data)[i] == '\n';
    }
    base_buf_puts(&out, "");
    write_text(to, out.data);
    base_buf_free(&out);
    base_file_close(&f);
}

static rag *store_of(const char *name, const rag_embedder *e, const char *file) {
    rag *r = open_store(name, e);
    add(r, file);
    return r;
}

static rag_hits search_all(rag *const *stores, size_t n, const char *text, rag_query q) {
    rag_hits h;
    rotor_error err = {0};
    if (!q.k) q.k = 20;
    if (rag_search_all(stores, n, base_str_of(text), &q, &h, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    return h;
}

static void assert_near(float a, float b) {
    if (fabsf(a - b) > 1e-5f * fmaxf(1, fabsf(a))) fail_msg("%g and %g", (double)a, (double)b);
}

static void assert_same_hits(rag *whole, rag *const *parts, const char *text, rag_query q) {
    rag_hits a = search_all(&whole, 1, text, q), b = search_all(parts, 2, text, q);
    size_t of[2] = {0};
    assert_true(a.n > 3);
    assert_int_equal(a.n, b.n);
    for (size_t i = 0; i < a.n; i++) {
        const rag_hit *x = &a.hits[i], *y = &b.hits[i];
        assert_string_equal(x->text, y->text);
        assert_string_equal(x->id, y->id);
        assert_int_equal(x->rank_lex, y->rank_lex);
        assert_int_equal(x->rank_vec, y->rank_vec);
        assert_near(x->score, y->score);
        assert_near(x->bm25, y->bm25);
        assert_near(x->cosine, y->cosine);
        of[y->store]++;
    }
    assert_true(of[0] && of[1]);
    assert_near(a.match, b.match);
    assert_near(a.coverage, b.coverage);
    assert_near(a.best_cosine, b.best_cosine);
    assert_int_equal(a.relevant, b.relevant);
    rag_hits_free(&a);
    rag_hits_free(&b);
}

/* n documents in one store and in two, asked in the first so many modes. */
static void assert_same_stores(int n, int modes, bool few, rag **parts) {
    static const char *const questions[] = {"the bridge, candles; harbor?", "winter -candle river",
                                            "zebra in the garden", "letter letter zebra signal"};
    static const rag_mode mode[] = {RAG_LEXICAL, RAG_HYBRID, RAG_VECTOR};
    make_corpus("c.jsonl", n);
    cut_lines("c.jsonl", "c1.jsonl", n * 3 / 5, false);
    cut_lines("c.jsonl", "c2.jsonl", n * 3 / 5, true);
    rag *whole = store_of("whole", &toy, "c1.jsonl");
    add(whole, "c2.jsonl");
    parts[0] = store_of("west", &toy, "c1.jsonl");
    parts[1] = store_of("east", &toy, "c2.jsonl");
    assert_int_equal(facts_of(whole).n_chunks <= RAG_LEG, few);
    for (size_t i = 0; i < BASE_COUNT(questions); i++)
        for (int how = 0; how < modes * 4; how++) {
            const rag_query q = {.mode = mode[how / 4], .fusion = how % 2, .plain = how / 2 % 2};
            assert_same_hits(whole, parts, questions[i], q);
        }
    rag_close(&whole);
    remove_all("whole");
}

/* However documents lie in stores: the same hits, order and scores. Of more than a leg's hundred
 * passages, vectors' bytes alone decide which are its last: there it holds for words only. */
static void two_stores_are_as_one(void **state) {
    (void)state;
    rag *parts[2];
    assert_same_stores(150, 1, false, parts);
    for (size_t i = 0; i < 2; i++) rag_close(&parts[i]);
    remove_all("west");
    remove_all("east");
    assert_same_stores(50, 3, true, parts);
    embed_calls = 0;
    rag_hits h = search_all(parts, 2, "winter", (rag_query){0});
    assert_int_equal(embed_calls, 1); /* one model */
    assert_false(h.lexical_only);
    rag_hits_free(&h);
    rag *twice[] = {parts[0], parts[0]}, *many[RAG_MAX_STORES + 1];
    const rag_query q = {.k = 1};
    for (size_t i = 0; i < BASE_COUNT(many); i++) many[i] = parts[i % 2];
    assert_int_equal(rag_search_all(twice, 2, base_str_of("x"), &q, &h, NULL), ROTOR_E_ARG);
    assert_int_equal(rag_search_all(many, RAG_MAX_STORES + 1, base_str_of("x"), &q, &h, NULL),
                     ROTOR_E_ARG);
    for (size_t i = 0; i < 2; i++) rag_close(&parts[i]);
}

/* Each model's cosines count by themselves, and words alone where there are no vectors. */
static void stores_of_several_models(void **state) {
    (void)state;
    write_text("kettle.md", "# Kettle\n\nA kettle of copper sings at noon.\n");
    rag *r[] = {store_of("one", &toy, "c1.jsonl"), store_of("two", &other, "c2.jsonl"),
                store_of("three", NULL, "kettle.md")};
    embed_calls = 0;
    rag_hits a = search_all(r, 3, "a copper kettle in winter", (rag_query){0});
    rag_hits b = search_all(r, 3, "a copper kettle in winter", (rag_query){0});
    assert_int_equal(embed_calls, 4); /* two searches, two models */
    assert_true(a.lexical_only && a.relevant && a.n > 3 && a.n == b.n);
    assert_int_equal(a.hits[0].store, 2);
    assert_string_equal(a.hits[0].title, "Kettle");
    bool of[3] = {false};
    for (size_t i = 0; i < a.n; i++) {
        assert_memory_equal(&a.hits[i].score, &b.hits[i].score, sizeof(float));
        assert_string_equal(a.hits[i].text, b.hits[i].text);
        of[a.hits[i].store] = true;
    }
    assert_true(of[0] && of[1] && of[2]);
    rag_hits_free(&a);
    rag_hits_free(&b);
    const rag_query q = {.mode = RAG_VECTOR, .k = 3};
    assert_int_equal(rag_search_all(r, 3, base_str_of("x"), &q, &a, NULL), ROTOR_E_STATE);
    a = search_all(r, 2, "harbor", (rag_query){.mode = RAG_VECTOR, .k = 3, .plain = true});
    assert_true(a.n == 3 && a.hits[0].score >= a.hits[2].score);
    rag_hits_free(&a);
    for (size_t i = 0; i < 3; i++) rag_close(&r[i]);
}

static void a_copy_in_another_store_is_said_once(void **state) {
    (void)state;
    rag *r[] = {store_of("four", NULL, "kettle.md"), store_of("five", NULL, "kettle.md")};
    rag_hits h = search_all(r, 2, "kettle", (rag_query){0});
    assert_int_equal(h.n, 1);
    assert_int_equal(h.hits[0].store, 0);
    rag_hits_free(&h);
    h = search_all(r, 2, "kettle", (rag_query){.plain = true});
    assert_int_equal(h.n, 2);
    rag_hits_free(&h);
    bool fired = true;
    for (long n = 1; fired; n++) {
        const rag_query q = {.k = 3};
        rotor_error err = {0};
        base_fault_after(n);
        const rotor_status st = rag_search_all(r, 2, base_str_of("kettle"), &q, &h, &err);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_true(st == ROTOR_OK || strlen(err.message) > 5);
        rag_hits_free(&h);
    }
    for (size_t i = 0; i < 2; i++) rag_close(&r[i]);
}

/* ==== What changes ============================================================================ */

static void files_change_and_go(void **state) {
    (void)state;
    assert_int_equal(mkdir(in_folder("notes"), 0700), 0);
    write_text("notes/a.md", "# Deck\n\nThe battery lasts nine hours.\n");
    write_text("notes/b.txt", "An old lighthouse keeper.\n\nHis lamp burns oil.\n");
    write_text("notes/.hidden.txt", "battery");
    write_text("notes/x.pdf", "%PDF");
    rag *r = open_store("files", &toy);
    rag_report report = add(r, "notes");
    assert_int_equal(report.n_indexed, 2);
    assert_int_equal(report.n_skipped, 1);
    assert_int_equal(n_found(r, "battery", RAG_LEXICAL), 1);
    assert_int_equal(n_found(r, "lighthouses", RAG_LEXICAL), 1);
    embed_calls = 0;
    report =
        add(r, "notes"); /* within the two seconds in which times say nothing: read, and equal */
    assert_int_equal(report.n_unchanged + report.n_skipped, 3);
    assert_int_equal(report.n_docs + report.n_vectors, 0);
    assert_int_equal(embed_calls, 0);
    write_text("notes/a.md", "# Deck\n\nIt runs on a dynamo.\n");
    report = add(r, "notes");
    assert_int_equal(report.n_docs, 1);
    assert_int_equal(embed_calls, 1);
    assert_int_equal(n_found(r, "battery", RAG_LEXICAL), 0);
    assert_int_equal(n_found(r, "dynamo", RAG_HYBRID), 2);
    assert_int_equal(unlink(in_folder("notes/b.txt")), 0);
    report = add(r, "notes");
    assert_int_equal(report.n_gone, 1);
    assert_int_equal(n_found(r, "lighthouse", RAG_LEXICAL), 0);
    assert_int_equal(facts_of(r).n_vectors, 1);
    size_t n = 0;
    const char *what[] = {in_folder("notes/a.md"), "no such thing"};
    assert_int_equal(rag_remove(r, what, 2, &n, NULL), ROTOR_E_NOTFOUND);
    assert_int_equal(facts_of(r).n_docs, 1); /* all or nothing */
    assert_int_equal(rag_remove(r, what, 1, &n, NULL), ROTOR_OK);
    assert_int_equal(facts_of(r).n_docs + facts_of(r).n_chunks, 0);
    assert_int_equal(rag_verify(r, NULL), ROTOR_OK);
    rag_close(&r);
    remove_all("files");
    remove_all("notes");
}

/* Most of a folder gone at once: probably a disk that is not there. */
static void mass_deletes_are_guarded(void **state) {
    (void)state;
    char name[64];
    assert_int_equal(mkdir(in_folder("many"), 0700), 0);
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "many/%d.txt", i);
        write_text(name, "words in a file");
    }
    rag *r = open_store("guard", NULL);
    add(r, "many");

    for (int i = 0; i < 29; i++)
        unlink((snprintf(name, sizeof name, "many/%d.txt", i), in_folder(name)));
    assert_int_equal(add(r, "many").n_gone, 0);
    assert_int_equal(facts_of(r).n_files, 30);
    const rag_add_options sure = {.confirm_deletes = true};
    rag_report report;
    const char *path = in_folder("many");
    assert_int_equal(rag_add(r, &path, 1, &sure, &report, NULL), ROTOR_OK);
    assert_int_equal(report.n_gone, 29);
    rag_close(&r);
    remove_all("guard");
    remove_all("many");
}

static void models_are_not_mixed(void **state) {
    (void)state;
    make_corpus("c.jsonl", 12);
    rag *r = open_store("models", &toy);
    add(r, "c.jsonl");
    const size_t n = facts_of(r).n_chunks;
    rag_close(&r);
    r = open_store("models", &other);
    rotor_error err = {0};
    rag_report report;
    const char *path = in_folder("c.jsonl");
    assert_int_equal(rag_add(r, &path, 1, NULL, &report, &err), ROTOR_E_STATE);
    assert_non_null(strstr(err.message, "rotor rag reembed"));
    assert_non_null(strstr(err.message, "toy"));
    const rag_query q = {.k = 3};
    rag_hits h;
    assert_int_equal(rag_search(r, base_str_of("winter"), &q, &h, NULL), ROTOR_OK);
    assert_true(h.lexical_only && h.n > 0); /* words still work */
    rag_hits_free(&h);
    assert_int_equal(rag_reembed(r, NULL, &report, NULL), ROTOR_OK);
    assert_int_equal(report.n_vectors, n);
    assert_string_equal(facts_of(r).model, "other");
    assert_int_equal(facts_of(r).n_vectors, n);
    rag_close(&r);
    remove_all("models");
}

static void one_writes_and_others_read(void **state) {
    (void)state;
    make_corpus("c.jsonl", 5);
    rag *r = open_store("locked", NULL), *second = NULL;
    rotor_error err = {0};
    add(r, "c.jsonl");
    const rag_options writer = {.write = true}, reader = {0};
    assert_int_equal(rag_open(&second, in_folder("locked"), &writer, &err), ROTOR_E_STATE);
    assert_non_null(strstr(err.message, "another program"));
    assert_int_equal(rag_open(&second, in_folder("locked"), &reader, &err), ROTOR_OK);
    assert_true(n_found(second, "winter", RAG_LEXICAL) > 0);
    write_text("more.txt", "a zebra in the snow");
    add(r, "more.txt");
    assert_int_equal(n_found(second, "zebra", RAG_LEXICAL), 1); /* seen without opening again */
    rag_close(&second);
    rag_close(&r);
    assert_int_equal(rag_open(&second, in_folder("nowhere"), &reader, &err), ROTOR_E_NOTFOUND);
    remove_all("locked");
}

/* What the last file to be read is remembered for depends on its age. */
static void make_old(const char *name) {
    char command[256];
    snprintf(command, sizeof command, "touch -d '1 hour ago' '%s'", in_folder(name));
    assert_int_equal(system(command), 0);
}

/* What has no reader is tried again; what has no text any more has no documents. */
static void left_out_files_are_tried_again_and_emptied_ones_go(void **state) {
    (void)state;
    assert_int_equal(mkdir(in_folder("left"), 0700), 0);
    write_text("left/x.pdf", "%PDF");
    write_text("left/a.txt", "a kettle on the stove");
    write_text("left/b.txt", "a ladle in the drawer");
    make_old("left/x.pdf");
    rag *r = open_store("left.store", &toy);
    add(r, "left");
    rag_report report = add(r, "left");
    assert_int_equal(report.n_skipped, 1);
    assert_int_equal(report.n_unchanged, 2); /* not x.pdf */
    write_text("left/a.txt", "");
    write_text("left/b.txt", "ladle \001\002\003\004\005\006");
    report = add(r, "left");
    assert_int_equal(report.n_skipped, 3);
    assert_int_equal(n_found(r, "kettle ladle", RAG_LEXICAL), 0);
    assert_int_equal(facts_of(r).n_docs + facts_of(r).n_vectors, 0);
    rag_close(&r);
    remove_all("left.store");
    remove_all("left");
}

/* ==== Readers of documents that are played by a script =========================================
 */

static void put(base_buf *to, base_block_kind kind, uint32_t level, const char *text) {
    const base_block b = {.kind = kind, .level = level, .text = base_str_of(text)};
    assert_true(base_block_put(to, &b));
}

/* A store whose reader says these blocks of every file. */
static rag *open_played(const char *name, const base_buf *blocks) {
    char script[256];
    rag *r = NULL;
    base_out o;
    assert_int_equal(base_out_open(&o, in_folder("played"), NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&o, "RXBLOCK1", 8, NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&o, blocks->data, blocks->len, NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&o, NULL), ROTOR_OK);
    snprintf(script, sizeof script, "#!/bin/sh\nexec cat '%s'\n", in_folder("played"));
    write_text("reader", script);
    assert_int_equal(chmod(in_folder("reader"), 0700), 0);
    const rag_options opt = {.create = true, .write = true, .extract = in_folder("reader")};
    assert_int_equal(rag_open(&r, in_folder(name), &opt, NULL), ROTOR_OK);
    return r;
}

static void a_tool_that_was_missing_is_tried_again(void **state) {
    (void)state;
    base_buf blocks = {0};
    put(&blocks, BASE_BLOCK_ERROR, BASE_REASON_MISSING_TOOL, "no pdftotext");
    write_text("x.pdf", "%PDF");
    make_old("x.pdf");
    rag *r = open_played("tool", &blocks);
    for (int i = 0; i < 2; i++) {
        const rag_report report = add(r, "x.pdf");
        assert_int_equal(report.n_skipped, 1);
        assert_int_equal(report.n_unchanged, 0);
    }
    rag_close(&r);
    base_buf_free(&blocks);
    remove_all("tool");
}

static void too_many_facts_are_one_documents_failure(void **state) {
    (void)state;
    for (int n = 64; n < 66; n++) {
        char fact[32];
        base_buf blocks = {0};
        put(&blocks, BASE_BLOCK_DOC, 0, "title");
        for (int i = 0; i < n; i++) {
            snprintf(fact, sizeof fact, "%c%c=x", 'a' + i / 26, 'a' + i % 26);
            put(&blocks, BASE_BLOCK_META, 0, fact);
        }
        put(&blocks, BASE_BLOCK_PARA, 0, "kettle");
        put(&blocks, BASE_BLOCK_END, 0, "");
        rag *r = open_played("facts", &blocks);
        assert_int_equal(add(r, "x.pdf").n_skipped, n > 64);
        assert_int_equal(n_found(r, "kettle", RAG_LEXICAL), n <= 64);
        rag_close(&r);
        base_buf_free(&blocks);
        remove_all("facts");
    }
}

static bool never(void *user, uint64_t done, uint64_t total) {
    (void)user, (void)done, (void)total;
    return false;
}

static void a_file_of_many_documents_can_be_stopped(void **state) {
    (void)state;
    base_buf blocks = {0};
    for (int i = 0; i < 50; i++) {
        put(&blocks, BASE_BLOCK_DOC, 0, "title");
        put(&blocks, BASE_BLOCK_PARA, 0, "kettle");
    }
    put(&blocks, BASE_BLOCK_END, 0, "");
    rag *r = open_played("stopped", &blocks);
    const rag_add_options opt = {.progress = never};
    const char *path = in_folder("x.pdf");
    rag_report report;
    assert_int_equal(rag_add(r, &path, 1, &opt, &report, NULL), ROTOR_E_CANCELLED);
    assert_int_equal(facts_of(r).n_docs, 1);
    rag_close(&r);
    base_buf_free(&blocks);
    remove_all("stopped");
}

/* ==== What is there, and whose ================================================================ */

/* A name too long to be looked at stands for a folder that may not be entered. */
static void what_cannot_be_looked_at_is_kept(void **state) {
    (void)state;
    char name[512];
    assert_int_equal(mkdir(in_folder("kept"), 0700), 0);
    write_text("kept/a.txt", "words");
    rag *r = open_store("kept.store", NULL);
    rag_db_file f = {.status = "ok"};
    snprintf(name, sizeof name, "%s/%0300d", in_folder("kept"), 1);
    assert_int_equal(rag_db_put_file(r->db, name, &f, "", NULL), ROTOR_OK);
    f.id = 0;
    assert_int_equal(rag_db_put_file(r->db, in_folder("kept/gone.txt"), &f, "", NULL), ROTOR_OK);
    assert_int_equal(add(r, "kept").n_gone, 1);
    assert_int_equal(facts_of(r).n_files, 2);
    rag_close(&r);
    remove_all("kept.store");
    remove_all("kept");
}

static void a_database_is_its_owners(void **state) {
    (void)state;
    struct stat st;
    assert_int_equal(mkdir(in_folder("open.store"), 0755), 0);
    assert_int_equal(chmod(in_folder("open.store"), 0755), 0);
    rag *r = open_store("open.store", NULL);
    assert_int_equal(stat(in_folder("open.store/rag.db"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(in_folder("open.store/rag.db-wal"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    rag_close(&r);
    remove_all("open.store");
}

/* ==== Damage, and others that write =========================================================== */

static void damaged_rows_are_refused(void **state) {
    (void)state;
    static const char *const damage[] = {
        "UPDATE chunk_terms SET packed=x'010000'",       /* a word that does not stand there */
        "UPDATE chunk_terms SET packed=x'010100000100'", /* the same word twice */
        "UPDATE term SET id=id+4294967296 WHERE id=1",
        "UPDATE term SET id=0 WHERE id=1",
        "UPDATE vec SET scale=1.5",
        "UPDATE vec SET scale=9e999",
        "UPDATE vec SET scale=-0.5",
        "UPDATE vec SET high=x'01', low=x'01'", /* fewer floats than the model makes */
        "UPDATE vec SET high=zeroblob(131073), low=zeroblob(131073)"};
    write_text("a.txt", "kettle stove ladle drawer");
    for (size_t i = 0; i < BASE_COUNT(damage); i++) {
        rag *r = open_store("damaged", &toy);
        rag_sql q;
        rag_hits h;
        rotor_error err = {0};
        const rag_query ask = {.k = 3};
        add(r, "a.txt");
        assert_int_equal(n_found(r, "kettle", RAG_HYBRID), 1);
        assert_int_equal(rag_sqlite_open(&q, in_folder("damaged/rag.db"), false, NULL), ROTOR_OK);
        if (rag_sql_run(&q, damage[i], &err) != ROTOR_OK) fail_msg("%s", err.message);
        rag_sql_close(&q);
        rag_close(&r); /* what it has read it does not read again */
        r = open_store("damaged", &toy);
        if (rag_search(r, base_str_of("kettle"), &ask, &h, &err) != ROTOR_E_FORMAT)
            fail_msg("%s: not refused", damage[i]);
        rag_close(&r);
        remove_all("damaged");
    }
}

/* Files that change one after another, in a process of its own, until the other end is closed. */
static void keep_adding(int until) {
    const rag_options opt = {.write = true, .cpu = cpu_detect()};
    rag *r = NULL;
    rag_report report;
    base_buf text = {0};
    const char *path = in_folder("busy/a.jsonl");
    if (rag_open(&r, in_folder("busy.store"), &opt, NULL) != ROTOR_OK) _exit(1);
    for (int i = 0; i < 10000; i++) {
        base_out o;
        struct pollfd closed = {.fd = until};
        if (i >= 150 && poll(&closed, 1, 0) != 0) break;
        base_buf_reset(&text);
        for (int d = 0; d < 20; d++)
            base_buf_printf(&text, "{\"_id\": \"%d\", \"text\": \"word new%d and %d\"}\n", d + i, i,
                            d);
        if (base_out_open(&o, path, NULL) != ROTOR_OK ||
            base_out_write(&o, text.data, text.len, NULL) != ROTOR_OK ||
            base_out_commit(&o, NULL) != ROTOR_OK ||
            rag_add(r, &path, 1, NULL, &report, NULL) != ROTOR_OK)
            _exit(2);
    }
    rag_close(&r);
    _exit(0);
}

static void searches_see_one_state_while_another_adds(void **state) {
    (void)state;
    const rag_options reader = {0};
    const rag_query q = {.mode = RAG_LEXICAL, .k = 20};
    rotor_error err = {0};
    int status, n = 0;
    assert_int_equal(mkdir(in_folder("busy"), 0700), 0);
    write_text("busy/a.jsonl", "{\"_id\": \"0\", \"text\": \"word\"}\n");
    rag *r = open_store("busy.store", NULL);
    add(r, "busy");
    rag_close(&r);
    int until[2];
    assert_int_equal(pipe(until), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    close(until[pid != 0 ? 0 : 1]);
    if (pid == 0) keep_adding(until[0]);
    assert_int_equal(rag_open(&r, in_folder("busy.store"), &reader, &err), ROTOR_OK);
    for (; waitpid(pid, &status, WNOHANG) == 0; n++) {
        rag_hits h = {0};
        if (rag_search(r, base_str_of("word"), &q, &h, &err) != ROTOR_OK || !h.n)
            fail_msg("search %d: %zu hits, %s", n, h.n, err.message);
        rag_hits_free(&h);
        if (n == 5) close(until[1]);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(n > 5);
    rag_close(&r);
    remove_all("busy.store");
    remove_all("busy");
}

static void facts_are_of_now(void **state) {
    (void)state;
    const rag_options reader = {0};
    rag *r = open_store("now", NULL), *second = NULL;
    write_text("a.txt", "one");
    write_text("b.txt", "two");
    add(r, "a.txt");
    assert_int_equal(rag_open(&second, in_folder("now"), &reader, NULL), ROTOR_OK);
    assert_int_equal(facts_of(second).n_docs, 1);
    add(r, "b.txt");
    assert_int_equal(n_found(second, "two", RAG_LEXICAL), 1);
    assert_int_equal(facts_of(second).n_docs, 2);
    rag_close(&second);
    rag_close(&r);
    remove_all("now");
}

/* ==== Words of a query ======================================================================== */

static void a_hyphen_behind_an_accent_leaves_nothing_out(void **state) {
    (void)state;
    write_text("a.txt", "the bar opens late");
    rag *r = open_store("accents", NULL);
    add(r, "a.txt");
    assert_int_equal(n_found(r, "Caf\303\251-Bar", RAG_LEXICAL), 1);
    rag_close(&r);
    remove_all("accents");
}

static void left_out_words_stay_out_of_vectors(void **state) {
    (void)state;
    write_text("d.jsonl", "{\"_id\": \"1\", \"text\": \"river and bridge\"}\n"
                          "{\"_id\": \"2\", \"text\": \"river and candle\"}\n"
                          "{\"_id\": \"3\", \"text\": \"\"}\n");
    rag *r = open_store("minus", &toy);
    add(r, "d.jsonl");
    assert_int_equal(n_found(r, "river", RAG_HYBRID), 2);
    assert_int_equal(n_found(r, "river -candle", RAG_HYBRID), 1);
    rag_close(&r);
    remove_all("minus");
}

/* A title stands before every passage: it is cut, between two characters. */
static void long_titles_are_cut(void **state) {
    (void)state;
    base_buf text = {0};
    base_buf_puts(&text, "# x");
    for (int i = 0; i < 2000; i++) base_buf_puts(&text, "\303\251");
    base_buf_puts(&text, "\n\nkettle\n");
    write_text("long.md", text.data);
    base_buf_free(&text);
    rag *r = open_store("titles", NULL);
    const rag_query q = {.mode = RAG_LEXICAL, .k = 1};
    rag_hits h;
    add(r, "long.md");
    assert_int_equal(rag_search(r, base_str_of("kettle"), &q, &h, NULL), ROTOR_OK);
    assert_int_equal(h.n, 1);
    assert_int_equal(strlen(h.hits[0].title), 1023); /* x and 511 of two bytes */
    assert_string_equal(h.hits[0].heading, "");
    rag_hits_free(&h);
    rag_close(&r);
    remove_all("titles");
}

/* Every allocation and read fails once: an error, and afterwards a store that is whole. */
static void any_failure_leaves_a_whole_store(void **state) {
    (void)state;
    make_corpus("c.jsonl", 3);
    write_text("a.md", "# One\n\nwords of a note\n");
    bool fired = true;
    for (long n = 1; fired; n += 1 + n / 40) {
        rag *r = NULL;
        rag_report report;
        rag_hits h = {0};
        rotor_error err = {0};
        const char *paths[] = {in_folder("c.jsonl"), in_folder("a.md")};
        const rag_options opt = {.create = true, .write = true, .embedder = &toy};
        const rag_query q = {.k = 3};
        base_fault_after(n);
        rotor_status st = rag_open(&r, in_folder("fault"), &opt, &err);
        if (st == ROTOR_OK) st = rag_add(r, paths, 2, NULL, &report, &err);
        if (st == ROTOR_OK) st = rag_search(r, base_str_of("winter note"), &q, &h, &err);
        fired = base_fault_fired();
        base_fault_after(0);
        if (st != ROTOR_OK && strlen(err.message) < 6) fail_msg("%ld: %d without a word", n, st);
        rag_hits_free(&h);
        rag_close(&r);
        r = open_store("fault", &toy);
        assert_int_equal(rag_verify(r, NULL), ROTOR_OK);
        assert_int_equal(rag_add(r, paths, 2, NULL, &report, NULL), ROTOR_OK);
        assert_int_equal(facts_of(r).n_docs, 4);
        assert_int_equal(facts_of(r).n_vectors, facts_of(r).n_chunks);
        assert_true(n_found(r, "note", RAG_HYBRID) > 0);
        rag_close(&r);
        remove_all("fault");
    }
}

static rotor_status import_and_find(rag *r, size_t *n_found, rotor_error *err) {
    rag_report report;
    rag_hits h = {0};
    const rag_query q = {.k = 3};
    *n_found = 0;
    ROTOR_TRY(rag_import(r, in_folder("m.rag"), &report, err));
    ROTOR_TRY(rag_search(r, base_str_of("\"words of a\" note -\"of words\""), &q, &h, err));
    *n_found = h.n;
    rag_hits_free(&h);
    return ROTOR_OK;
}

static void export_fails_whole(rag *r) {
    rag_report report;
    bool fired = true;
    for (long n = 1; fired; n += 1 + n / 20) {
        rotor_error err = {0};
        base_fault_after(n);
        const rotor_status st = rag_export(r, in_folder("m.rag"), &report, &err);
        fired = base_fault_fired();
        base_fault_after(0);
        if (st != ROTOR_OK && strlen(err.message) < 6) fail_msg("%ld: %d without a word", n, st);
        assert_true((st == ROTOR_OK) == (base_path_kind_of(in_folder("m.rag")) == BASE_PATH_FILE));
        if (fired) base_remove_file(in_folder("m.rag"), NULL);
    }
    assert_int_equal(report.n_docs, 5);
    assert_int_equal(report.n_vectors, facts_of(r).n_vectors);
}

/* Out of a store, and into another: every allocation and read fails once, and there is all of it or
 * nothing. */
static void a_moved_store_is_whole_or_not_there(void **state) {
    (void)state;
    char path[RAG_NOTE_PATH];
    rag_report report;
    rag_gc_report gc;
    make_corpus("c.jsonl", 3);
    write_text("a.md", "# One\n\nwords of a note\n");
    rag *r = open_store("from", &toy);
    add(r, "c.jsonl");
    add(r, "a.md");
    const base_str note = base_str_of("# Herons\n\nThey stand still.");
    assert_int_equal(rag_note(r, NULL, note, path, &report, NULL), ROTOR_OK);
    assert_int_equal(report.n_vectors, 1);
    export_fails_whole(r);
    const rag_facts from = facts_of(r);
    rag_close(&r);
    r = open_store("into", &toy);
    bool fired = true;
    size_t n_hits = 0;
    for (long n = 1; fired; n += 1 + n / 20) {
        rotor_error err = {0};
        base_fault_after(n);
        const rotor_status st = import_and_find(r, &n_hits, &err);
        fired = base_fault_fired();
        base_fault_after(0);
        if (st != ROTOR_OK && strlen(err.message) < 6) fail_msg("%ld: %d without a word", n, st);
        const size_t n_docs = facts_of(r).n_docs;
        assert_true(n_docs == from.n_docs || (n_docs == 0 && st != ROTOR_OK));
    }
    assert_int_equal(n_hits, 1);
    assert_int_equal(facts_of(r).n_chunks, from.n_chunks);
    assert_int_equal(facts_of(r).n_vectors, from.n_vectors);
    assert_int_equal(rag_verify(r, NULL), ROTOR_OK);
    assert_int_equal(rag_gc(r, &gc, NULL), ROTOR_OK);
    assert_int_equal(gc.n_vectors, 0);
    rag_close(&r);
    remove_all("from");
    remove_all("into");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_score_by_the_formula),
        cmocka_unit_test(vectors_rank_by_cosine),
        cmocka_unit_test(hybrid_says_the_same_twice_and_filters),
        cmocka_unit_test(two_stores_are_as_one),
        cmocka_unit_test(stores_of_several_models),
        cmocka_unit_test(a_copy_in_another_store_is_said_once),
        cmocka_unit_test(files_change_and_go),
        cmocka_unit_test(mass_deletes_are_guarded),
        cmocka_unit_test(models_are_not_mixed),
        cmocka_unit_test(one_writes_and_others_read),
        cmocka_unit_test(left_out_files_are_tried_again_and_emptied_ones_go),
        cmocka_unit_test(a_tool_that_was_missing_is_tried_again),
        cmocka_unit_test(too_many_facts_are_one_documents_failure),
        cmocka_unit_test(a_file_of_many_documents_can_be_stopped),
        cmocka_unit_test(what_cannot_be_looked_at_is_kept),
        cmocka_unit_test(a_database_is_its_owners),
        cmocka_unit_test(damaged_rows_are_refused),
        cmocka_unit_test(searches_see_one_state_while_another_adds),
        cmocka_unit_test(facts_are_of_now),
        cmocka_unit_test(a_hyphen_behind_an_accent_leaves_nothing_out),
        cmocka_unit_test(left_out_words_stay_out_of_vectors),
        cmocka_unit_test(long_titles_are_cut),
        cmocka_unit_test(any_failure_leaves_a_whole_store),
        cmocka_unit_test(a_moved_store_is_whole_or_not_there),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
