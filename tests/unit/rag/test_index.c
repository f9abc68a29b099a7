/* SPDX-License-Identifier: MIT
 *
 * The index in memory: one that follows the database is, byte for byte, the one that is read anew;
 * the screen in front of the vectors leaves out none that a scan of all of them finds.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "rag/rag_internal.h"
#include "test_folder.h"
#include "toy_embed.h"

enum { FILES = 24, STEPS = 60 };

/* ==== Following =============================================================================== */

/* Sections of words of no language, a passage or two each, so that files have several. */
static void write_sections(base_rng *rng, uint32_t number) {
    base_buf text = {0};
    char name[32];
    const uint32_t sections = base_rng_below(rng, 5);
    for (uint32_t s = 0; s < sections; s++) {
        base_buf_printf(&text, "# head%u part%u\n\n", base_rng_below(rng, 30), s);
        for (uint32_t w = 0; w < 150; w++)
            base_buf_printf(&text, "w%ux%c", base_rng_below(rng, 400), w % 12 == 11 ? '\n' : ' ');
        base_buf_puts(&text, "\n\n");
    }
    base_buf_puts(&text, "end\n");
    snprintf(name, sizeof name, "in/f%02u.md", number);
    write_file(name, text.data, text.len);
    base_buf_free(&text);
}

static void drop_file(uint32_t number) {
    char name[32];
    snprintf(name, sizeof name, "in/f%02u.md", number);
    unlink(in_folder(name));
}

static void move_file(uint32_t number, uint32_t to) {
    char name[2][32];
    snprintf(name[0], sizeof name[0], "in/f%02u.md", number);
    snprintf(name[1], sizeof name[1], "in/f%02u.md", to);
    rename(in_folder(name[0]), in_folder(name[1]));
}

/* Brings the store up to date, with vectors or without. */
static void add_all(const rag_embedder *e, bool again) {
    rag *r = NULL;
    rag_report report;
    rotor_error err = {0};
    const char *path = in_folder("in");
    const rag_add_options how = {.confirm_deletes = true};
    const rag_options opt = {.create = true, .write = true, .cpu = cpu_detect(), .embedder = e};
    if (rag_open(&r, in_folder("store"), &opt, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const rotor_status st =
        again ? rag_reembed(r, &how, &report, &err) : rag_add(r, &path, 1, &how, &report, &err);
    if (st != ROTOR_OK) fail_msg("%s", err.message);
    rag_close(&r);
}

static void same_bytes(const void *a, const void *b, size_t n, const char *what) {
    assert_int_equal(a == NULL, b == NULL);
    if (a && memcmp(a, b, n) != 0) fail_msg("%s differ", what);
}

static rotor_status same_term(void *user, uint32_t id, base_str t) {
    uint32_t a, b;
    const rag_index *const *x = user;
    assert_true(base_map_get(x[0]->terms, t, &a) && base_map_get(x[1]->terms, t, &b));
    assert_true(a == id && b == id);
    return ROTOR_OK;
}

static void same_index(const rag_index *a, const rag_index *b, rag_db *db) {
    const rag_index *both[] = {a, b};
    const size_t n = a->n_chunks, n_post = a->n_terms ? a->at[a->n_terms] : 0;
    assert_int_equal(n, b->n_chunks);
    assert_int_equal(a->n_docs, b->n_docs);
    assert_int_equal(a->n_terms, b->n_terms);
    assert_int_equal(a->n_vectors, b->n_vectors);
    assert_true(a->model == b->model && a->dims == b->dims && a->ld == b->ld);
    assert_true(a->mean_length == b->mean_length && a->mean_doc_length == b->mean_doc_length);
    for (size_t d = 0; d < a->n_docs; d++) {
        const rag_index_doc *x = &a->docs[d], *y = &b->docs[d];
        assert_true(x->id == y->id && x->first == y->first && x->n == y->n);
        assert_string_equal(x->path, y->path);
        assert_string_equal(x->title, y->title);
    }
    same_bytes(a->chunk, b->chunk, n * sizeof *a->chunk, "ids");
    same_bytes(a->doc, b->doc, n * sizeof *a->doc, "documents");
    same_bytes(a->length, b->length, n * sizeof *a->length, "lengths");
    same_bytes(a->at, b->at, (a->n_terms + 1) * sizeof *a->at, "places of postings");
    same_bytes(a->n_docs_with, b->n_docs_with, a->n_terms * sizeof *a->n_docs_with, "counts");
    same_bytes(a->slot, b->slot, n_post * sizeof *a->slot, "postings");
    same_bytes(a->body, b->body, n_post, "times in the text");
    same_bytes(a->head, b->head, n_post, "times in the headings");
    same_bytes(a->high, b->high, n * a->ld, "high planes");
    same_bytes(a->low, b->low, n * a->ld, "low planes");
    same_bytes(a->scale, b->scale, n * sizeof *a->scale, "scales");
    same_bytes(a->coarse, b->coarse, n * a->ld / 4, "codes of the screen");
    same_bytes(a->coarse_scale, b->coarse_scale, n * sizeof *a->coarse_scale, "their factors");
    same_bytes(a->signs, b->signs, 2 * a->ld, "signs");
    assert_int_equal(rag_db_each_term(db, 0, same_term, both, NULL), ROTOR_OK);
}

/* One change of the files, from one of them to all; sometimes with what stays without vectors. */
static void change_something(base_rng *rng, int step) {
    const uint32_t what = base_rng_below(rng, 10), at = base_rng_below(rng, FILES);
    if (step == 0 || what == 0)
        for (uint32_t i = 0; i < FILES; i++) write_sections(rng, i);
    else if (what < 3)
        drop_file(at);
    else if (what < 5)
        move_file(at, FILES + at);
    else
        write_sections(rng, at);
    const rag_embedder *e = step > 40 ? &other : &toy;
    if (step == 41) add_all(e, true);
    add_all(step < 5 || base_rng_below(rng, 3) == 0 ? NULL : e, false);
}

static void what_follows_is_what_is_read_anew(void **state) {
    (void)state;
    rag_index x = {0}, anew;
    rag_db *db = NULL;
    base_rng rng;
    int followed = 0, screens[2][2] = {{0}}; /* [there before][there now] */
    base_rng_seed(&rng, 11);
    rag_screen_from = 157;
    assert_int_equal(base_mkdir_private(in_folder("in"), NULL), ROTOR_OK);
    for (int step = 0; step < STEPS; step++) {
        bool done = false;
        const bool screen = x.coarse != NULL;
        rotor_error err = {0};
        change_something(&rng, step);
        if (!db && rag_db_open(&db, in_folder("store"), &(rag_options){0}, &err) != ROTOR_OK)
            fail_msg("%s", err.message);
        assert_int_equal(rag_db_look(db, NULL), ROTOR_OK);
        if (step && rag_index_follow(&x, db, &done, &err) != ROTOR_OK) fail_msg("%s", err.message);
        if (!done) {
            rag_index_free(&x);
            assert_int_equal(rag_index_load(&x, db, NULL), ROTOR_OK);
        }
        followed += done;
        screens[screen][x.coarse != NULL] += done && x.high;
        assert_int_equal(rag_index_load(&anew, db, NULL), ROTOR_OK);
        same_index(&x, &anew, db);
        rag_index_free(&anew);
        rag_db_look_end(db);
    }
    assert_in_range(followed, STEPS / 2, STEPS - 2); /* most are, some are too much */
    for (int i = 0; i < 4; i++) assert_true(screens[i / 2][i % 2] > 0);
    rag_screen_from = RAG_SCREEN_FROM;
    rag_index_free(&x);
    rag_db_close(&db);
}

/* An index that was read in a change is not taken for one of what is there when it is undone. */
static void what_is_undone_has_another_version(void **state) {
    (void)state;
    rag_db *db = NULL;
    int64_t version[3];
    assert_int_equal(
        rag_db_open(&db, in_folder("undone"), &(rag_options){.create = true, .write = true}, NULL),
        ROTOR_OK);
    assert_int_equal(rag_db_begin(db, NULL), ROTOR_OK);
    assert_int_equal(rag_db_mark(db, NULL), ROTOR_OK);
    assert_int_equal(rag_db_put_root(db, "/a", "", NULL), ROTOR_OK);
    assert_int_equal(rag_db_version(db, &version[0], NULL), ROTOR_OK);
    rag_db_take_back(db);
    assert_int_equal(rag_db_version(db, &version[1], NULL), ROTOR_OK);
    rag_db_rollback(db);
    assert_int_equal(rag_db_version(db, &version[2], NULL), ROTOR_OK);
    assert_true(version[0] != version[1] && version[1] != version[2]);
    rag_db_close(&db);
}

/* ==== The screen ============================================================================== */

typedef enum shape { BELL, CLUSTERS, SPIKES, ALIKE, SHAPES } shape;

static void vector_of(float *v, size_t dims, shape s, uint32_t i) {
    base_rng rng, centre;
    double sum = 0;
    base_rng_seed(&rng, 1000 + i);
    base_rng_seed(&centre, i % 50);
    for (size_t c = 0; c < dims; c++) v[c] = base_rng_normal(&rng);
    for (size_t c = 0; c < dims && s == CLUSTERS; c++) v[c] += 1.5f * base_rng_normal(&centre);
    for (size_t c = 0; c < dims && s == SPIKES; c++) v[c] *= c % 61 == i % 61 ? 40 : 0.5f;
    for (size_t c = 0; c < dims && s == ALIKE; c++) v[c] = 0.05f * v[c] + (c < 9 ? 3 : 0.1f);
    for (size_t c = 0; c < dims; c++) sum += (double)v[c] * (double)v[c];
    for (size_t c = 0; c < dims; c++) v[c] = (float)((double)v[c] / sqrt(sum));
}

static void fill_vectors(rag_index *x, size_t n, size_t dims, shape s) {
    float *v = base_alloc_array(dims, sizeof *v);
    int8_t *bytes = base_alloc(2 * dims);
    memset(x, 0, sizeof *x);
    x->n_chunks = n;
    assert_int_equal(rag_index_matrix(x, dims, NULL), ROTOR_OK);
    for (uint32_t i = 0; i < n; i++) {
        float scale;
        vector_of(v, dims, s, i);
        if (i % 1000 == 17) continue; /* has none */
        assert_true(rag_vec_pack(bytes, bytes + dims, &scale, v, dims, dims));
        const base_str high = {(char *)bytes, dims}, low = {(char *)bytes + dims, dims};
        assert_true(rag_index_put_vector(x, i, scale, high, low));
    }
    base_free(v);
    base_free(bytes);
}

static size_t check_question(const rag_index *x, const kern *k, float *near, shape s, uint32_t i,
                             const uint8_t *allowed) {
    enum { MOST = 50 };
    rag_vec_query q;
    rag_rank all[MOST], screened[MOST];
    size_t n_all, n_screened;
    assert_true(rag_vec_query_make(&q, x));
    vector_of(q.x, x->dims, s, i);
    assert_true(rag_vec_query_pack(&q, x));
    rag_vec_rank(x, k, &q, allowed, all, &n_all, MOST);
    assert_int_equal(q.n_scored, x->n_chunks);
    q.near = near;
    rag_vec_rank(x, k, &q, allowed, screened, &n_screened, MOST);
    assert_int_equal(n_all, MOST);
    assert_int_equal(n_screened, MOST);
    assert_memory_equal(all, screened, sizeof all);
    const size_t n = q.n_scored;
    rag_vec_query_free(&q);
    return n;
}

static void the_screen_hides_none_of_the_best(void **state) {
    (void)state;
    const size_t widths[] = {384, 100};
    const size_t n = RAG_SCREEN_FROM + 37;
    kern k;
    kern_init(&k, cpu_detect());
    float *near = base_alloc_array(n, sizeof *near);
    uint8_t *some = base_alloc(n);
    for (size_t i = 0; i < n; i++) some[i] = i % 3 == 1;
    for (size_t w = 0; w < 2; w++)
        for (int s = 0; s < SHAPES; s++) {
            rag_index x;
            size_t scored = 0;
            fill_vectors(&x, n, widths[w], (shape)s);
            for (uint32_t i = 0; i < 10; i++) /* those of the store, and others */
                scored += check_question(&x, &k, near, (shape)s, i < 5 ? i * 900 : 1u << 20 | i,
                                         i % 5 == 4 ? some : NULL);
            if (s == CLUSTERS && w == 0) assert_in_range(scored / 10, 50, n / 10);
            rag_index_free(&x);
        }
    base_free(near);
    base_free(some);
}

/* Rows whose length is not one, and those of one column, are looked at whatever the screen says. */
static void odd_rows_are_always_looked_at(void **state) {
    (void)state;
    int8_t high[64] = {0}, signs[128];
    uint8_t codes[16];
    float factor;
    rag_screen_signs(signs, 64);
    rag_screen_pack(codes, &factor, high, 0.01f, signs, 64);
    assert_true(factor < 0);
    for (int i = 0; i < 64; i++) high[i] = (int8_t)(i % 2 ? 100 - i : i - 90);
    rag_screen_pack(codes, &factor, high, 0.9f, signs, 64);
    assert_true(factor < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_follows_is_what_is_read_anew),
        cmocka_unit_test(what_is_undone_has_another_version),
        cmocka_unit_test(the_screen_hides_none_of_the_best),
        cmocka_unit_test(odd_rows_are_always_looked_at),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
