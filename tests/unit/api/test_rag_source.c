/* SPDX-License-Identifier: MIT
 *
 * A store whose vectors a function of the program's makes, through the public API.
 */
#define _GNU_SOURCE
#include "api_rig.h"

#include "rotor_rag.h"

#include <unistd.h>

static char folder[] = "/tmp/rotor_source_XXXXXX";

/* What the function does; its vectors say how often a text has the letters a and b. */
typedef struct source {
    rotor_status fails; /* ROTOR_OK: it does not */
    bool empty;         /* its vectors are of no length */
    size_t n_texts;     /* asked for */
} source;

static rotor_status letters(void *user, const rotor_embed_text *texts, size_t n, float *out,
                            rotor_error *err) {
    source *s = user;
    s->n_texts += n;
    if (s->fails) {
        snprintf(err->message, sizeof err->message, "the letters are out");
        return err->code = s->fails;
    }
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = out[2 * i + 1] = s->empty ? 0 : 0.25f;
        for (size_t k = 0; k < texts[i].n_bytes; k++)
            if (texts[i].text[k] == 'a' || texts[i].text[k] == 'b')
                out[2 * i + (texts[i].text[k] == 'b')] += s->empty ? 0 : 5;
    }
    return ROTOR_OK;
}

static rotor_status open_it(rotor_rag **r, source *s, const char *name, uint32_t dims,
                            const char *place) {
    char path[64];
    const rotor_rag_embedder e = {
        .size = sizeof e, .dims = dims, .name = name, .place = place, .embed = letters, .user = s};
    rotor_rag_options o = rotor_rag_options_default();
    o.create = o.write = true;
    o.source = &e;
    snprintf(path, sizeof path, "%s/s", folder);
    return rotor_rag_open(r, path, &o, &api_err);
}

static void put(rotor_rag *r, const char *id, const char *text) {
    const rotor_rag_text t = {
        .size = sizeof t, .plain = true, .id = id, .text = text, .n_bytes = strlen(text)};
    OK(rotor_rag_put(r, &t, NULL, &api_err));
}

static void expect_best(rotor_rag *r, rotor_rag_mode mode, const char *query, const char *path,
                        bool by_words) {
    rotor_rag_hits h;
    rotor_rag_query q = rotor_rag_query_default();
    q.mode = mode;
    OK(rotor_rag_search(r, query, &q, &h, &api_err));
    assert_true(h.n > 0);
    assert_string_equal(h.hits[0].path, path);
    assert_int_equal(h.lexical_only, by_words);
    rotor_rag_hits_free(&h);
}

static void test_a_function_makes_vectors(void **state) {
    source s = {0};
    rotor_rag *r;
    uint64_t n = 0;
    rotor_rag_info info = {.size = sizeof info};
    (void)state;
    OK(open_it(&r, &s, "letters", 2, "here"));
    put(r, "a", "aaaa xylophone");
    put(r, "b", "bbbb");
    OK(rotor_rag_embed(r, 10, &n, &api_err));
    assert_int_equal(n, 2);
    assert_int_equal(s.n_texts, 2);
    expect_best(r, ROTOR_RAG_VECTOR, "b", "mem:b", false);
    expect_best(r, ROTOR_RAG_VECTOR, "a a", "mem:a", false);
    OK(rotor_rag_get_info(r, &info, &api_err));
    assert_string_equal(info.model, "letters");
    assert_string_equal(info.model_path, "here");
    assert_int_equal(info.dims, 2);
    rotor_rag_close(&r);
}

static void test_failures(void **state) {
    source s = {.fails = ROTOR_E_IO};
    rotor_rag *r;
    rotor_rag_hits h;
    rotor_rag_query q = rotor_rag_query_default();
    uint64_t n;
    (void)state;
    OK(open_it(&r, &s, "letters", 2, NULL));
    expect_best(r, ROTOR_RAG_HYBRID, "xylophone", "mem:a", true);
    q.mode = ROTOR_RAG_VECTOR;
    assert_int_equal(rotor_rag_search(r, "b", &q, &h, &api_err), ROTOR_E_IO);
    assert_non_null(strstr(api_err.message, "the letters are out"));
    s.fails = ROTOR_E_FORMAT; /* not what may pass: said, whatever is searched */
    q.mode = ROTOR_RAG_HYBRID;
    assert_int_equal(rotor_rag_search(r, "b", &q, &h, &api_err), ROTOR_E_FORMAT);
    s = (source){.empty = true};
    put(r, "c", "ab");
    assert_int_equal(rotor_rag_embed(r, 10, &n, &api_err), ROTOR_E_FORMAT);
    rotor_rag_close(&r);
}

static void test_identity(void **state) {
    source s = {0};
    rotor_rag *r;
    uint64_t n;
    rotor_rag_info info = {.size = sizeof info};
    (void)state;
    OK(open_it(&r, &s, "letters", 2, "there"));
    OK(rotor_rag_embed(r, 10, &n, &api_err)); /* also follows where it is */
    OK(rotor_rag_get_info(r, &info, &api_err));
    assert_string_equal(info.model_path, "there");
    rotor_rag_close(&r);
    const char *const names[] = {"letters", "others"};
    for (uint32_t i = 0; i < 2; i++) {
        OK(open_it(&r, &s, names[i], i ? 2 : 3, NULL));
        assert_int_equal(rotor_rag_embed(r, 10, &n, &api_err), ROTOR_E_UNSUPPORTED);
        rotor_rag_close(&r);
    }
    assert_int_equal(open_it(&r, &s, NULL, 2, NULL), ROTOR_E_ARG);
    assert_int_equal(open_it(&r, &s, "", 2, NULL), ROTOR_E_ARG);
    assert_int_equal(open_it(&r, &s, "letters", 0, NULL), ROTOR_E_ARG);
    assert_int_equal(open_it(&r, &s, "letters", 65537, NULL), ROTOR_E_ARG);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state) {
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_function_makes_vectors),
                                       cmocka_unit_test(test_failures),
                                       cmocka_unit_test(test_identity)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
