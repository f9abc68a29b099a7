/* SPDX-License-Identifier: MIT
 *
 * Sessions in files: what is loaded, in another engine, goes on with the bits of the session that
 * was never saved, for every cache type, with windows that have moved on, across two devices. And
 * files of other models, cut, damaged and made-up ones, which leave the session as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "run/run_internal.h"
#include "tiny_model.h"

enum { MAX_TOK = 700, LONG = 450, MORE = 24, CHUNK = 48 };

typedef struct rig {
    par_pool *pool; /* two threads */
    model *m;       /* tiny */
    char path[96];  /* of the session file */
} rig;

static void rig_up(rig *g, tiny_kind kind, uint64_t seed) {
    char path[96];
    rotor_error err = {0};
    const model_options mo = {.i2s = -1, .no_map = true};
    tiny_write(tiny_path(path, "session.gguf"), kind, tiny_default(), seed, NULL);
    assert_int_equal(par_create(&g->pool, 2, false, &err), ROTOR_OK);
    if (model_open(&g->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    unlink(path);
    tiny_path(g->path, "a.session");
}

static void rig_down(rig *g) {
    unlink(g->path);
    model_close(&g->m);
    par_free(&g->pool);
}

static run_engine *engine(const rig *g, kern_kv kv, uint32_t n_sessions, uint32_t layers) {
    const run_options o = {.cpu = cpu_detect(),
                           .kv = kv,
                           .n_pages = 24,
                           .n_sessions = n_sessions,
                           .chunk = CHUNK,
                           .solo_bytes = 1u << 30,
                           .device_layers = layers,
                           .max_logits = 4};
    run_engine *e = NULL;
    rotor_error err = {0};
    if (run_create(&e, g->m, g->pool, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return e;
}

static uint32_t token(uint32_t i) { return (i * 37 + i / 7) % 91; }

static void extend(run_session *s, uint32_t n) {
    uint32_t line[MAX_TOK];
    for (uint32_t i = 0; i < n; i++) line[i] = token(i);
    assert_int_equal(run_session_sync(s, line, n, NULL, NULL, NULL, NULL), ROTOR_OK);
}

static run_session *session(run_engine *e, uint32_t max_tok) {
    run_session *s = NULL;
    assert_int_equal(run_session_create(&s, e, max_tok, NULL), ROTOR_OK);
    return s;
}

static void save(run_session *s, const rig *g, const char *note) {
    rotor_error err = {0};
    if (run_session_save(s, g->path, base_str_of(note), &err) != ROTOR_OK)
        fail_msg("%s", err.message);
}

/* Both go on together, token by token. */
static void same_bits_from_here(run_session *a, run_session *b) {
    const size_t n_vocab = run_model(a->e)->hp.n_vocab;
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->tokens, b->tokens, a->len * sizeof *a->tokens);
    for (uint32_t i = 0; i < MORE; i++) {
        const run_row ra = {a, token(i * 3), true}, rb = {b, token(i * 3), true};
        assert_int_equal(run_eval(a->e, &ra, 1, NULL), ROTOR_OK);
        assert_int_equal(run_eval(b->e, &rb, 1, NULL), ROTOR_OK);
        assert_memory_equal(run_logits(a->e, 0), run_logits(b->e, 0), n_vocab * sizeof(float));
    }
}

/* Saved by one engine at `len` positions, loaded by another; the first goes on without the file. */
static void check(const rig *g, run_engine *from, run_engine *to, uint32_t len) {
    base_buf note = {0};
    rotor_error err = {0};
    run_session *a = session(from, MAX_TOK), *b = session(to, MAX_TOK);
    extend(a, len);
    extend(b, len / 3 + 1); /* what it held is forgotten */
    save(a, g, "said so far");
    if (run_session_load(b, g->path, &note, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_string_equal(note.data, "said so far");
    same_bits_from_here(a, b);
    base_buf_free(&note);
    run_session_free(&a);
    run_session_free(&b);
    assert_int_equal(run_free_pages(to), 24); /* every page came back */
    assert_int_equal(to->ring.n_free, to->ring.n);
}

static void what_is_loaded_goes_on_with_the_same_bits(void **state) {
    (void)state;
    static const tiny_kind kinds[] = {TINY_BITNET, TINY_LLAMA_Q8, TINY_GPT_OSS};
    for (size_t k = 0; k < BASE_COUNT(kinds); k++) {
        rig g;
        rig_up(&g, kinds[k], 3);
        for (int kv = KERN_KV_F32; kv <= (int)KERN_KV_Q8; kv++) {
            run_engine *a = engine(&g, (kern_kv)kv, 1, 0), *b = engine(&g, (kern_kv)kv, 1, 0);
            if (kinds[k] == TINY_GPT_OSS) assert_true(a->ring.n > 0);
            check(&g, a, b, LONG); /* the window is far from the beginning */
            check(&g, a, b, 64);
            check(&g, a, b, 1);
            run_free(&a);
            run_free(&b);
        }
        rig_down(&g);
    }
}

/* An engine that keeps everything, one on several devices, one that keeps a window. */
static void engines_that_keep_more_or_less(void **state) {
    (void)state;
    rig g;
    rotor_error err = {0};
    rig_up(&g, TINY_GPT_OSS, 3);
    run_engine *all = engine(&g, KERN_KV_F16, 0, 0), *ring = engine(&g, KERN_KV_F16, 1, 0);
    check(&g, all, ring, LONG);
    run_session *a = session(ring, MAX_TOK), *b = session(all, MAX_TOK);
    extend(a, LONG);
    save(a, &g, "");
    assert_true(a->ring_first > 0);
    assert_int_equal(run_session_load(b, g.path, NULL, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "window"));
    run_session_free(&a);
    run_session_free(&b);
    run_free(&all);
    run_free(&ring);
    rig_down(&g);
    rig_up(&g, TINY_LLAMA_F32, 3);
    run_engine *one = engine(&g, KERN_KV_F16, 1, 0), *split = engine(&g, KERN_KV_F16, 1, 1);
    check(&g, one, split, 130);
    check(&g, split, one, 130);
    run_free(&one);
    run_free(&split);
    rig_down(&g);
}

static uint64_t print_of(const rig *g) {
    uint64_t print;
    run_engine *e = engine(g, KERN_KV_F16, 1, 0);
    assert_int_equal(run_fingerprint(e, &print, NULL), ROTOR_OK);
    run_free(&e);
    return print;
}

/* One byte, wherever it is: a row in the middle of a matrix, a bias that only a mixture has. */
static void every_weight_counts(void **state) {
    (void)state;
    rig g;
    rig_up(&g, TINY_GPT_OSS, 3);
    const model_layer *l = &g.m->layers[g.m->hp.n_layer - 1];
    const model_mat *const mats[] = {&g.m->embd, &l->v, &l->down, &l->router};
    const uint64_t print = print_of(&g);
    for (size_t i = 0; i <= BASE_COUNT(mats); i++) {
        const size_t at = i ? mats[i - 1]->rows * mats[i - 1]->row_bytes / 4 + 1 : 2;
        uint8_t *w = (uint8_t *)(uintptr_t)(i ? (const void *)mats[i - 1]->data : l->router_bias);
        w[at] ^= 1;
        assert_true(print_of(&g) != print);
        w[at] ^= 1;
        assert_true(print_of(&g) == print);
    }
    rig_down(&g);
}

static void refused(run_session *s, const char *path, rotor_status want, const char *word) {
    rotor_error err = {0};
    base_buf note = {0};
    const uint32_t len = s->len;
    assert_int_equal(run_session_load(s, path, &note, &err), want);
    if (!strstr(err.message, word)) fail_msg("no '%s' in: %s", word, err.message);
    assert_int_equal(s->len, len);
    assert_null(note.data);
}

static void other_models_and_caches_are_refused(void **state) {
    (void)state;
    rig g, other;
    rig_up(&g, TINY_LLAMA_F32, 3);
    run_engine *e = engine(&g, KERN_KV_F16, 1, 0), *q8 = engine(&g, KERN_KV_Q8, 1, 0);
    run_session *s = session(e, MAX_TOK), *t = session(q8, MAX_TOK), *small = session(e, 50);
    extend(s, 100);
    save(s, &g, "");
    refused(t, g.path, ROTOR_E_UNSUPPORTED, "--kv f16");
    refused(small, g.path, ROTOR_E_FULL, "100 tokens");
    refused(s, "/nowhere/at/all", ROTOR_E_IO, "nowhere");
    rig_up(&other, TINY_LLAMA_F32, 4); /* other weights, nothing else */
    extend(s, 101);
    save(s, &g, "");
    run_engine *wrong = engine(&other, KERN_KV_F16, 1, 0);
    run_session *u = session(wrong, MAX_TOK);
    extend(u, 10);
    refused(u, g.path, ROTOR_E_UNSUPPORTED, "another model");
    run_session_free(&u);
    run_free(&wrong);
    rig_down(&other);
    run_session_free(&s);
    run_session_free(&t);
    run_session_free(&small);
    run_free(&e);
    run_free(&q8);
    rig_down(&g);
}

/* Whoever can write the sum can write any token: one past the vocabulary would read past the table.
 */
static void tokens_that_the_vocabulary_lacks_are_refused(void **state) {
    (void)state;
    rig g;
    rig_up(&g, TINY_LLAMA_F32, 3);
    run_engine *e = engine(&g, KERN_KV_F16, 1, 0);
    run_session *s = session(e, MAX_TOK);
    extend(s, 9);
    const uint32_t n_vocab = run_model(e)->hp.n_vocab, was = s->tokens[4];
    s->tokens[4] = n_vocab;
    save(s, &g, "");
    s->tokens[4] = was;
    refused(s, g.path, ROTOR_E_FORMAT, "token 4");
    run_session_free(&s);
    run_free(&e);
    rig_down(&g);
}

static void write_file(const char *path, const uint8_t *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Every byte of head, tokens and note turned, some of the pages; every length. */
static void damaged_files_change_nothing(void **state) {
    (void)state;
    rig g;
    rotor_error err = {0};
    base_file f;
    rig_up(&g, TINY_LLAMA_F32, 3);
    run_engine *e = engine(&g, KERN_KV_F16, 1, 0);
    run_session *s = session(e, MAX_TOK);
    extend(s, 9);
    save(s, &g, "note");
    assert_int_equal(base_file_open(&f, g.path, false, &err), ROTOR_OK);
    uint8_t *copy = base_alloc(f.size + 1);
    for (size_t i = 0; i < f.size; i += i < 120 ? 1 : 1009) {
        memcpy(copy, f.data, f.size);
        copy[i] ^= 0x41;
        write_file(g.path, copy, f.size);
        const rotor_status st = run_session_load(s, g.path, NULL, &err);
        if (st == ROTOR_OK || !err.message[0]) fail_msg("byte %zu turned: loaded", i);
        assert_int_equal(s->len, 9);
        write_file(g.path, f.data, i);
        assert_true(run_session_load(s, g.path, NULL, &err) < 0);
    }
    memcpy(copy, f.data, f.size);
    write_file(g.path, copy, f.size + 1);
    assert_int_equal(run_session_load(s, g.path, NULL, &err), ROTOR_E_FORMAT);
    base_free(copy);
    base_file_close(&f);
    run_session_free(&s);
    run_free(&e);
    rig_down(&g);
}

static void every_failing_allocation_is_told(void **state) {
    (void)state;
    rig g;
    rig_up(&g, TINY_GPT_OSS, 3);
    run_engine *e = engine(&g, KERN_KV_F16, 1, 0);
    run_session *s = session(e, MAX_TOK);
    extend(s, 70);
    save(s, &g, "");
    for (long n = 1;; n++) {
        rotor_error err = {0};
        base_buf note = {0};
        base_fault_after(n);
        rotor_status st = run_session_save(s, g.path, base_str_of("x"), &err);
        if (st == ROTOR_OK) st = run_session_load(s, g.path, &note, &err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        base_buf_free(&note);
        assert_int_equal(s->len, 70);
        if (!fired) break;
        assert_true(st != ROTOR_OK && err.message[0] && n < 100);
    }
    run_session_free(&s);
    run_free(&e);
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_loaded_goes_on_with_the_same_bits),
        cmocka_unit_test(engines_that_keep_more_or_less),
        cmocka_unit_test(every_weight_counts),
        cmocka_unit_test(other_models_and_caches_are_refused),
        cmocka_unit_test(tokens_that_the_vocabulary_lacks_are_refused),
        cmocka_unit_test(damaged_files_change_nothing),
        cmocka_unit_test(every_failing_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
