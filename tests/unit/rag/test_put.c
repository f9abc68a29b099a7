/* SPDX-License-Identifier: MIT
 *
 * Texts that are put into a store under ids: which ids there are, old or new whatever fails, and
 * vectors that come later.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "rag/rag_db_internal.h"
#include "rag/rag_internal.h"
#include "test_folder.h"
#include "toy_embed.h"

static rag *open_store(const char *name, const rag_embedder *e) {
    rag *r = NULL;
    rotor_error err = {0};
    const rag_options opt = {.create = true, .write = true, .cpu = cpu_detect(), .embedder = e};
    if (rag_open(&r, in_folder(name), &opt, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return r;
}

static rotor_status put(rag *r, const char *id, const char *text, rag_put_report *done,
                        rotor_error *err) {
    const rag_text t = {.id = id, .text = base_str_of(text)};
    return rag_put(r, &t, done, err);
}

static rag_hits find(rag *r, const char *text) {
    const rag_query q = {.mode = RAG_HYBRID, .k = 20};
    rag_hits h;
    rotor_error err = {0};
    if (rag_search(r, base_str_of(text), &q, &h, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return h;
}

static bool finds(rag *r, const char *word) {
    rag_hits h = find(r, word);
    bool found = false;
    for (size_t i = 0; i < h.n; i++) found |= strstr(h.hits[i].text, word) != NULL;
    rag_hits_free(&h);
    return found;
}

static void ids_are_names_that_fit_into_a_path(void **state) {
    (void)state;
    char most[RAG_ID_BYTES + 2] = "";
    static const char *const good[] = {"a", "x y", "é", "a.b-c_d:e@f", "...", "漢"};
    static const char *const bad[] = {"", ".", "..", "a/b", "a\n", "\x7f", "\xC3", "\xC2\x85"};
    for (size_t i = 0; i < BASE_COUNT(good); i++) assert_true(rag_is_id(good[i]));
    for (size_t i = 0; i < BASE_COUNT(bad); i++) assert_false(rag_is_id(bad[i]));
    memset(most, 'a', RAG_ID_BYTES);
    assert_true(rag_is_id(most));
    most[RAG_ID_BYTES] = 'a';
    assert_false(rag_is_id(most));
}

/* Every allocation and write fails once: the old text is there or the new one, and what is told of
 * it is so. */
static void a_text_takes_the_place_of_another_or_does_not(void **state) {
    (void)state;
    rag_put_report done;
    rotor_error err = {0};
    rag *r = open_store("words", NULL);
    assert_int_equal(put(r, "owl", "# Owl\n\nowls hoot", &done, &err), ROTOR_OK);
    assert_string_equal(done.path, "mem:owl");
    assert_true(done.n_chunks == 1 && !done.replaced && !done.unchanged);
    assert_int_equal(put(r, "owl", "# Owl\n\nowls hoot", &done, &err), ROTOR_OK);
    assert_true(done.n_chunks == 1 && done.replaced && done.unchanged);
    bool fired = true;
    for (long n = 1; fired; n++) {
        rotor_error why = {0};
        base_fault_after(n);
        const rotor_status st = put(r, "owl", "# Owl\n\nowls screech", &done, &why);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_true(st == ROTOR_OK || why.message[0]);
        assert_true(finds(r, "screech") == (st == ROTOR_OK));
        assert_true(finds(r, "hoot") == (st != ROTOR_OK));
        if (st != ROTOR_OK) continue;
        assert_true(done.replaced && !done.unchanged);
        if (fired) put(r, "owl", "# Owl\n\nowls hoot", &done, &why); /* it got over that */
    }
    assert_int_equal(put(r, "owl", " \n# \n", &done, &err), ROTOR_E_ARG);
    assert_int_equal(put(r, "a/b", "words", &done, &err), ROTOR_E_ARG);
    assert_int_equal(put(r, "owl", "\1\2\3", &done, &err), ROTOR_E_UNSUPPORTED);
    assert_true(finds(r, "screech"));
    assert_int_equal(rag_verify(r, NULL), ROTOR_OK);
    rag_close(&r);
}

/* Numbers of terms are kept from one time it holds the lock to the next, unless another wrote. */
static void terms_are_those_of_the_store(void **state) {
    (void)state;
    rag_put_report done;
    rotor_error err = {0};
    rag *a = open_store("shared", NULL), *b;
    assert_int_equal(put(a, "1", "owls hoot", &done, &err), ROTOR_OK);
    rag_let_go(a);
    const base_map *kept = a->db->ids;
    assert_non_null(kept);
    assert_int_equal(rag_hold(a, &err), ROTOR_OK);
    assert_ptr_equal(a->db->ids, kept);
    rag_let_go(a);
    b = open_store("shared", NULL);
    assert_int_equal(put(b, "2", "foxes bark", &done, &err), ROTOR_OK);
    rag_let_go(b);
    assert_int_equal(rag_hold(a, &err), ROTOR_OK);
    assert_null(a->db->ids);
    assert_int_equal(put(a, "3", "foxes bark and walruses sleep", &done, &err), ROTOR_OK);
    rag_let_go(a);
    assert_int_equal(rag_hold(b, &err), ROTOR_OK);
    assert_int_equal(put(b, "4", "walruses sleep and bats fly", &done, &err), ROTOR_OK);
    assert_true(finds(a, "bats") && finds(b, "walruses") && finds(a, "foxes"));
    assert_int_equal(rag_verify(b, NULL), ROTOR_OK);
    rag_close(&a);
    rag_close(&b);
}

static void only_what_was_put_in_is_taken_out(void **state) {
    (void)state;
    rag_put_report done;
    rotor_error err = {0};
    rag *r = open_store("out", &toy);
    assert_int_equal(put(r, "owl", "owls hoot", &done, &err), ROTOR_OK);
    assert_int_equal(done.n_pending, 1);
    int64_t last = 0;
    size_t n;
    assert_int_equal(rag_embed_some(r, 9, &last, &n, &err), ROTOR_OK);
    assert_int_equal(put(r, "owl", "owls hoot", &done, &err), ROTOR_OK);
    assert_true(done.unchanged && done.n_pending == 0);
    assert_int_equal(rag_take_out(r, "mem:owl", &err), ROTOR_E_NOTFOUND);
    assert_int_equal(rag_take_out(r, "../owl", &err), ROTOR_E_ARG);
    assert_true(finds(r, "owls"));
    assert_int_equal(rag_take_out(r, "owl", &err), ROTOR_OK);
    assert_false(finds(r, "owls"));
    assert_int_equal(rag_take_out(r, "owl", &err), ROTOR_E_NOTFOUND);
    rag_close(&r);
}

/* Words at once; of vectors it is said that they are to come, until they have. */
static void vectors_come_later(void **state) {
    (void)state;
    rag_put_report done;
    rotor_error err = {0};
    int64_t last = 0;
    size_t n;
    rag *r = open_store("vectors", &toy);
    assert_int_equal(put(r, NULL, "foxes bark", &done, &err), ROTOR_OK);
    assert_int_equal(strlen(done.path), 4 + 16);
    rag_hits h = find(r, "foxes bark");
    assert_true(h.n && h.pending && h.lexical_only);
    rag_hits_free(&h);
    do assert_int_equal(rag_embed_some(r, 1, &last, &n, &err), ROTOR_OK);
    while (n);
    assert_true(rag_db_can_write(r->db)); /* the lock was held before, and is still */
    h = find(r, "foxes bark");
    assert_true(h.n && !h.pending && !h.lexical_only && h.hits[0].cosine > 0);
    rag_hits_free(&h);
    rag_let_go(r);
    assert_int_equal(rag_embed_some(r, 1, &last, &n, &err), ROTOR_OK);
    assert_false(rag_db_can_write(r->db));
    rag_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_names_that_fit_into_a_path),
        cmocka_unit_test(a_text_takes_the_place_of_another_or_does_not),
        cmocka_unit_test(terms_are_those_of_the_store),
        cmocka_unit_test(only_what_was_put_in_is_taken_out),
        cmocka_unit_test(vectors_come_later),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
