/* SPDX-License-Identifier: MIT
 *
 * The public API, engines: options of older and newer programs, what is refused and how it is
 * named, the automatic context, the log, facts, two engines at once, every fault.
 */
#define _GNU_SOURCE
#include "api_rig.h"

#include "base/base.h"

/* ==== Options ================================================================================= */

static void defaults_open_the_model(void **state) {
    (void)state;
    rotor_engine *e = NULL;
    rotor_session *s = NULL;
    OK(rotor_engine_open(&e, story_path(), NULL, &api_err));
    OK(rotor_session_create(&s, e, 0, &api_err));
    assert_true(rotor_session_max(s) > 0);
    rotor_session_free(&s);
    rotor_engine_close(&e);
    assert_null(e);
    assert_null(s);
}

/* A program compiled against a shorter struct: what it does not know has its default. */
static void older_structs_are_accepted(void **state) {
    (void)state;
    rotor_engine_options full = rotor_engine_options_default();
    full.threads = 1;
    full.ctx = 100;
    uint8_t old[sizeof full];
    for (uint32_t size = 8; size <= sizeof full; size += 8) {
        rotor_engine *e = NULL;
        rotor_engine_info info = {.size = sizeof info};
        memset(old, 0xEE, sizeof old); /* what follows the old struct is not ours to read */
        memcpy(old, &full, size);
        memcpy(old, &size, sizeof size);
        OK(rotor_engine_open(&e, story_path(), (const rotor_engine_options *)(void *)old,
                             &api_err));
        OK(rotor_engine_get_info(e, &info));
        assert_int_equal(info.n_ctx, size >= 16 ? 100 : BASE_MIN(info.n_ctx_train, 4096));
        rotor_engine_close(&e);
    }
}

typedef struct newer_options {
    rotor_engine_options known; /* today's */
    uint64_t future;            /* a field of tomorrow */
} newer_options;

static void newer_structs_are_accepted_while_unused(void **state) {
    (void)state;
    rotor_engine *e = NULL;
    newer_options o = {.known = rotor_engine_options_default()};
    o.known.size = sizeof o;
    OK(rotor_engine_open(&e, story_path(), &o.known, &api_err));
    rotor_engine_close(&e);
    o.future = 1;
    assert_int_equal(rotor_engine_open(&e, story_path(), &o.known, &api_err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(api_err.message, "rotor_engine_options"));
    assert_null(e);
}

static void refused(rotor_engine_options o, rotor_status status, const char *word) {
    rotor_engine *e = NULL;
    memset(&api_err, 0, sizeof api_err);
    rotor_status got = rotor_engine_open(&e, story_path(), &o, &api_err);
    if (got != status || !strstr(api_err.message, word))
        fail_msg("expected %d and \"%s\", got %d: %s", (int)status, word, (int)got,
                 api_err.message);
    assert_int_equal(api_err.code, status);
    assert_null(e);
}

static void bad_options_are_named(void **state) {
    (void)state;
    const rotor_engine_options good = rotor_engine_options_default();
    rotor_engine_options o = good;
    o.size = 0, refused(o, ROTOR_E_ARG, "size");
    o.size = 13, refused(o, ROTOR_E_ARG, "size");
    o = good, o.threads = -1, refused(o, ROTOR_E_ARG, "threads");
    o = good, o.threads = 5000, refused(o, ROTOR_E_ARG, "threads");
    o = good, o.max_sessions = 0, refused(o, ROTOR_E_ARG, "max_sessions");
    o = good, o.chunk = 1u << 30, refused(o, ROTOR_E_ARG, "chunk");
    o = good, o.kv = (rotor_kv)9, refused(o, ROTOR_E_ARG, "kv");
    o = good, o.head = (rotor_head)9, refused(o, ROTOR_E_ARG, "head");
    o = good, o.cpu = "pentium", refused(o, ROTOR_E_ARG, "avx2");
    o = good, o.ctx = 4000000000u, o.max_sessions = 65536, refused(o, ROTOR_E_ARG, "ctx");
    o = good, o.chat_template = "{% for %}", refused(o, ROTOR_E_FORMAT, "");
}

static void null_is_an_error_or_harmless(void **state) {
    (void)state;
    rotor_engine *e = NULL;
    rotor_session *s = NULL;
    assert_int_equal(rotor_engine_open(NULL, "x", NULL, NULL), ROTOR_E_ARG);
    assert_int_equal(rotor_engine_open(&e, NULL, NULL, NULL), ROTOR_E_ARG);
    assert_int_equal(rotor_engine_open_memory(&e, NULL, 5, NULL, NULL, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_session_create(&s, NULL, 0, NULL), ROTOR_E_ARG);
    assert_int_equal(rotor_engine_get_info(NULL, NULL), ROTOR_E_ARG);
    rotor_engine_close(NULL);
    rotor_engine_close(&e);
    rotor_session_free(NULL);
    rotor_session_free(&s);
    rotor_gen_result_free(NULL);
    rotor_free(NULL);
    rotor_session_rewind(NULL, 0);
    assert_int_equal(rotor_session_len(NULL) + rotor_session_max(NULL), 0);
    assert_false(rotor_is_eog(NULL, 2));
    assert_null(rotor_chat_stop(NULL, 0));
    assert_true(rotor_gen_options_default(NULL).size == sizeof(rotor_gen_options));
}

static void files_that_are_no_models_are_refused(void **state) {
    (void)state;
    rotor_engine *e = NULL;
    assert_int_equal(rotor_engine_open(&e, "/nonexistent/model.gguf", NULL, &api_err), ROTOR_E_IO);
    assert_non_null(strstr(api_err.message, "/nonexistent/model.gguf"));
    assert_int_equal(rotor_engine_open_memory(&e, "GGUF", 4, "four bytes", NULL, &api_err),
                     ROTOR_E_FORMAT);
    assert_non_null(strstr(api_err.message, "four bytes"));
    assert_null(e);
}

/* ==== Context, facts, log ===================================================================== */

static uint32_t ctx_of(uint32_t asked) {
    rotor_engine *e = NULL;
    rotor_engine_options o = rotor_engine_options_default();
    rotor_engine_info info = {.size = sizeof info};
    o.ctx = asked;
    OK(rotor_engine_open(&e, story_path(), &o, &api_err));
    OK(rotor_engine_get_info(e, &info));
    rotor_engine_close(&e);
    return info.n_ctx;
}

static void the_context_is_as_asked(void **state) {
    (void)state;
    rotor_engine *e = story(0, 1);
    rotor_session *s = NULL;
    rotor_engine_info info = {.size = sizeof info};
    OK(rotor_engine_get_info(e, &info));
    assert_int_equal(info.n_ctx, BASE_MIN(info.n_ctx_train, 4096));
    assert_int_equal(rotor_session_create(&s, e, info.n_ctx + 1, &api_err), ROTOR_E_ARG);
    OK(rotor_session_create(&s, e, 7, &api_err));
    assert_int_equal(rotor_session_max(s), 7);
    rotor_session_free(&s);
    rotor_engine_close(&e);
    assert_int_equal(ctx_of(0), info.n_ctx_train);
    assert_int_equal(ctx_of(70), 70);
    assert_int_equal(ctx_of(info.n_ctx_train * 2), info.n_ctx_train * 2);
}

static void facts_are_those_of_the_model(void **state) {
    (void)state;
    rotor_engine *e = story(128, 3);
    rotor_engine_info info = {.size = sizeof info};
    OK(rotor_engine_get_info(e, &info));
    assert_string_equal(info.architecture, "llama");
    assert_int_equal(info.n_vocab, 512);
    assert_int_equal(info.n_embd, 64);
    assert_int_equal(info.n_layer, 5);
    assert_int_equal(info.threads, 2);
    assert_true(info.n_params > 250000 && info.n_params < 300000);
    assert_true(info.file_bytes > 100000 && info.step_bytes > 100000);
    /* two tensors, 5 layers, K * d values of 2 bytes, 3 sessions of 128 */
    assert_int_equal(info.kv_bytes, 2u * 5 * info.n_head_kv * (64 / info.n_head) * 2 * 3 * 128);
    assert_int_equal(info.kv_tok_bytes * 3 * 128, info.kv_bytes);
    assert_int_equal(info.head_bytes, 512 * 64 / 32 * 34); /* q8: 34 bytes for 32 */
    assert_true(strlen(info.name) && strlen(info.type_name) && strlen(info.template_line));
    assert_true(strlen(info.head) && strlen(info.cpu));
    rotor_engine_info old;
    memset(&old, 0xEE, sizeof old);
    old.size = 24;
    OK(rotor_engine_get_info(e, &old));
    assert_true(old.size == 24 && old.architecture == info.architecture);
    assert_int_equal(((uint8_t *)&old)[24], 0xEE);
    old.size = 0;
    assert_int_equal(rotor_engine_get_info(e, &old), ROTOR_E_ARG);
    rotor_engine_close(&e);
}

typedef struct lines {
    char text[4096]; /* all lines */
    int worst;       /* lowest level seen */
} lines;

static void keep_line(void *user, int level, const char *line) {
    lines *l = user;
    size_t n = strlen(l->text);
    snprintf(l->text + n, sizeof l->text - n, "%s\n", line);
    l->worst = BASE_MIN(l->worst, level);
}

static void decisions_are_logged_once(void **state) {
    (void)state;
    rotor_engine *e = NULL;
    rotor_engine_options o = rotor_engine_options_default();
    lines l = {.worst = 9};
    o.log = keep_line;
    o.log_user = &l;
    OK(rotor_engine_open(&e, story_path(), &o, &api_err));
    const char *words[] = {"model: ", "context: ", "automatic", "processor: ", "template"};
    for (size_t i = 0; i < BASE_COUNT(words); i++) {
        const char *first = strstr(l.text, words[i]);
        if (!first) fail_msg("no \"%s\" in the log:\n%s", words[i], l.text);
        if (i < 2) assert_null(strstr(first + 1, words[i]));
    }
    assert_int_equal(l.worst, 2);
    rotor_engine_close(&e);
    o.ctx = 100000;
    OK(rotor_engine_open(&e, story_path(), &o, &api_err));
    assert_int_equal(l.worst, 1); /* a longer context than the model's is worth a warning */
    rotor_engine_close(&e);
}

static void constants_are_there(void **state) {
    (void)state;
    assert_string_equal(rotor_version(), ROTOR_VERSION);
    const char *features = rotor_features();
    assert_true(strstr(features, "pcre2: o") && strstr(features, "libedit: o"));
    assert_true(strstr(features, "libxml2: o") && strstr(features, "libarchive: o"));
    assert_non_null(strstr(features, "md4c: o"));
    size_t n = 0;
    while (rotor_chat_template_name(n)) n++;
    assert_true(n >= 4);
}

/* ==== Two engines, memory images, faults ====================================================== */

static void *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    void *p = malloc(*n);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

static char *tell(rotor_engine *e, uint64_t seed) {
    rotor_session *s = NULL;
    rotor_gen_result r = {0};
    rotor_gen_options o = rotor_gen_options_default(e);
    o.max_tokens = 40;
    o.seed = seed;
    rotor_error err;
    char *text = NULL;
    if (rotor_session_create(&s, e, 0, &err) == ROTOR_OK &&
        rotor_generate_text(s, "Once upon a time", &o, &r, &err) == ROTOR_OK)
        text = strdup(r.text);
    rotor_gen_result_free(&r);
    rotor_session_free(&s);
    return text;
}

static void a_memory_image_is_the_same_model(void **state) {
    (void)state;
    size_t n;
    void *image = read_file(story_path(), &n);
    rotor_engine *a = story(0, 1), *b = NULL;
    OK(rotor_engine_open_memory(&b, image, n, "image", NULL, &api_err));
    char *x = tell(a, 3), *y = tell(b, 3);
    assert_non_null(x);
    assert_string_equal(x, y);
    free(x);
    free(y);
    rotor_engine_close(&a);
    rotor_engine_close(&b);
    free(image);
}

typedef struct teller {
    const char *path;     /* of the model */
    char *first, *second; /* two stories with the same seed */
} teller;

static void open_and_tell(void *arg) {
    teller *t = arg;
    rotor_engine *e = NULL;
    rotor_engine_options o = rotor_engine_options_default();
    rotor_error err;
    o.threads = 2;
    o.max_sessions = 2;
    if (rotor_engine_open(&e, t->path, &o, &err) != ROTOR_OK) return;
    t->first = tell(e, 5);
    t->second = tell(e, 5);
    rotor_engine_close(&e);
}

static void two_engines_run_at_the_same_time(void **state) {
    (void)state;
    teller t[2] = {{.path = story_path()}, {.path = story_path()}};
    base_thread *threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(base_thread_start(&threads[i], open_and_tell, &t[i]), ROTOR_OK);
    for (int i = 0; i < 2; i++) base_thread_join(&threads[i]);
    for (int i = 0; i < 2; i++) {
        assert_non_null(t[i].first);
        assert_string_equal(t[i].first, t[0].first);
        assert_string_equal(t[i].second, t[0].first);
    }
    for (int i = 0; i < 2; i++) free(t[i].first), free(t[i].second);
}

typedef struct reader {
    const rotor_engine *e; /* shared */
    size_t n_wrong;        /* answers that differ */
} reader;

static void read_many(void *arg) {
    reader *r = arg;
    const rotor_message talk = {"user", "Tell me about the dog."};
    const char *text = "The dog and the cat.";
    for (int i = 0; i < 60; i++) {
        uint32_t *ids = NULL, *chat = NULL;
        size_t n = 0, n_chat = 0;
        char *back = NULL;
        bool good = rotor_tokenize(r->e, text, strlen(text), 0, &ids, &n, NULL) == ROTOR_OK &&
                    rotor_detokenize(r->e, ids, n, false, &back, NULL, NULL) == ROTOR_OK &&
                    strcmp(back, text) == 0 && !rotor_is_eog(r->e, ids[0]) &&
                    rotor_chat_tokenize(r->e, &talk, 1, &chat, &n_chat, NULL, NULL) == ROTOR_OK;
        r->n_wrong += !good || n_chat < n;
        rotor_free(ids);
        rotor_free(chat);
        rotor_free(back);
    }
}

static void text_may_be_read_by_many_threads_while_one_generates(void **state) {
    (void)state;
    rotor_engine *e = story(0, 1);
    reader r[3] = {{e, 0}, {e, 0}, {e, 0}};
    base_thread *threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(base_thread_start(&threads[i], read_many, &r[i]), ROTOR_OK);
    char *text = tell(e, 1);
    for (int i = 0; i < 3; i++) base_thread_join(&threads[i]);
    for (int i = 0; i < 3; i++) assert_int_equal(r[i].n_wrong, 0);
    assert_non_null(text);
    free(text);
    rotor_engine_close(&e);
}

static void a_file_that_changed_is_noticed(void **state) {
    (void)state;
    char path[] = "/tmp/rotor-api-XXXXXX";
    size_t n;
    void *image = read_file(story_path(), &n);
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "wb");
    assert_int_equal(fwrite(image, 1, n, f), n);
    fclose(f);
    rotor_engine *e = NULL;
    rotor_session *s = NULL;
    OK(rotor_engine_open(&e, path, NULL, &api_err));
    OK(rotor_session_create(&s, e, 0, &api_err));
    rotor_session_free(&s);
    f = fopen(path, "ab");
    fputc(0, f);
    fclose(f);
    assert_int_not_equal(rotor_session_create(&s, e, 0, &api_err), ROTOR_OK);
    assert_non_null(strstr(api_err.message, path));
    rotor_engine_close(&e);
    remove(path);
    free(image);
}

static void opening_survives_every_fault(void **state) {
    (void)state;
    rotor_engine_options o = rotor_engine_options_default();
    bool fired = true;
    o.threads = 1;
    o.ctx = 64;
    o.chunk = 8;
    for (long n = 1; fired; n++) {
        rotor_engine *e = NULL;
        rotor_session *s = NULL;
        assert_true(n < 5000);
        base_fault_after(n);
        rotor_status st = rotor_engine_open(&e, story_path(), &o, NULL);
        if (st == ROTOR_OK) st = rotor_session_create(&s, e, 0, NULL);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st == ROTOR_OK, !fired);
        rotor_session_free(&s);
        rotor_engine_close(&e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_open_the_model),
        cmocka_unit_test(older_structs_are_accepted),
        cmocka_unit_test(newer_structs_are_accepted_while_unused),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(null_is_an_error_or_harmless),
        cmocka_unit_test(files_that_are_no_models_are_refused),
        cmocka_unit_test(the_context_is_as_asked),
        cmocka_unit_test(facts_are_those_of_the_model),
        cmocka_unit_test(decisions_are_logged_once),
        cmocka_unit_test(constants_are_there),
        cmocka_unit_test(a_memory_image_is_the_same_model),
        cmocka_unit_test(two_engines_run_at_the_same_time),
        cmocka_unit_test(text_may_be_read_by_many_threads_while_one_generates),
        cmocka_unit_test(a_file_that_changed_is_noticed),
        cmocka_unit_test(opening_survives_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
