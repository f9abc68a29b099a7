/* SPDX-License-Identifier: MIT
 *
 * Sessions in a folder: what was kept is found by the longest beginning, after a restart, and goes
 * on with the bits it would have had, with windows too; the least used goes when room is short;
 * what does not pay is left out; a slow disk is waited for by nobody else; and damaged, foreign,
 * missing and unwritable files do no harm.
 */
#define _GNU_SOURCE /* syscall */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "run/run_internal.h"
#include "tiny_model.h"

enum { MAX_TOK = 900, CHUNK = 48, PAGES = 32, LINES = 16 };

typedef struct rig {
    par_pool *pool; /* two threads */
    model *m;       /* tiny */
    char dir[96];   /* the folder */
    unsigned lines; /* of the log so far … */
    char last[512]; /* … and the last of them */
    base_log log;   /* counts them */
} rig;

static void on_log(void *user, base_log_level level, const char *line) {
    rig *g = user;
    (void)level;
    g->lines++;
    snprintf(g->last, sizeof g->last, "%s", line);
}

static void rig_up(rig *g, tiny_kind kind) {
    char path[96];
    rotor_error err = {0};
    const model_options mo = {.i2s = -1, .no_map = true};
    memset(g, 0, sizeof *g);
    g->log = (base_log){.fn = on_log, .user = g};
    tiny_write(tiny_path(path, "store.gguf"), kind, tiny_default(), 3, NULL);
    assert_int_equal(par_create(&g->pool, 2, false, &err), ROTOR_OK);
    if (model_open(&g->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    unlink(path);
    tiny_path(g->dir, "prefixes");
}

/* The disk: while it is shut, who waits for it waits, at most a minute. */
static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t disk_news = PTHREAD_COND_INITIALIZER;
static bool disk_shut, disk_asked, disk_late;

int fsync(int fd) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    pthread_mutex_lock(&disk);
    disk_asked = true;
    pthread_cond_broadcast(&disk_news);
    while (disk_shut && !disk_late)
        disk_late = pthread_cond_timedwait(&disk_news, &disk, &end) != 0;
    pthread_mutex_unlock(&disk);
    return (int)syscall(SYS_fsync, fd);
}

static void set_disk(bool shut) {
    pthread_mutex_lock(&disk);
    disk_shut = shut;
    disk_asked = false;
    pthread_cond_broadcast(&disk_news);
    pthread_mutex_unlock(&disk);
}

static bool disk_is_asked(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    pthread_mutex_lock(&disk);
    while (!disk_asked && pthread_cond_timedwait(&disk_news, &disk, &end) == 0) {
    }
    const bool asked = disk_asked;
    pthread_mutex_unlock(&disk);
    return asked;
}

static void keep_now(run_store *st, const run_session *s) {
    run_store_keep(st, s);
    run_store_flush(st);
}

static size_t files(const rig *g, char out[LINES][256]) {
    char **names;
    size_t n = 0;
    if (base_list_dir(g->dir, &names, &n, NULL) != ROTOR_OK) return 0;
    size_t kept = 0; /* without the times of use, which are kept here */
    for (size_t i = 0; i < n && kept < LINES; i++)
        if (!strstr(names[i], ".used")) snprintf(out[kept++], 256, "%s/%s", g->dir, names[i]);
    base_names_free(names, n);
    return kept;
}

static size_t n_files(const rig *g) {
    char names[LINES][256];
    return files(g, names);
}

static void empty(const rig *g) {
    char names[LINES][256], used[300];
    for (size_t i = 0, n = files(g, names); i < n; i++) {
        unlink(names[i]);
        snprintf(used, sizeof used, "%s.used", names[i]);
        unlink(used);
    }
}

static void rig_down(rig *g) {
    empty(g);
    rmdir(g->dir);
    model_close(&g->m);
    par_free(&g->pool);
}

static run_engine *engine(const rig *g, uint32_t n_sessions) {
    const run_options o = {.cpu = cpu_detect(),
                           .kv = KERN_KV_F16,
                           .n_pages = PAGES,
                           .n_sessions = n_sessions,
                           .chunk = CHUNK,
                           .solo_bytes = 1u << 30,
                           .log = &g->log,
                           .max_logits = 4};
    run_engine *e = NULL;
    rotor_error err = {0};
    if (run_create(&e, g->m, g->pool, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return e;
}

static run_store *store(const rig *g, run_engine *e, uint64_t bytes, uint32_t min_tok) {
    const run_store_options o = {.dir = g->dir, .max_bytes = bytes, .min_tok = min_tok};
    run_store *s = NULL;
    rotor_error err = {0};
    if (run_store_open(&s, e, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return s;
}

/* Texts of one kind begin with the same `same` tokens. */
static void text(uint32_t *out, uint32_t n, uint32_t same, uint32_t kind) {
    for (uint32_t i = 0; i < n; i++) out[i] = (i * 37 + i / 7 + (i >= same ? kind : 0)) % 91;
}

static run_session *with(run_engine *e, const uint32_t *tokens, uint32_t n) {
    run_session *s = NULL;
    assert_int_equal(run_session_create(&s, e, MAX_TOK, NULL), ROTOR_OK);
    if (n) assert_int_equal(run_session_sync(s, tokens, n, NULL, NULL, NULL, NULL), ROTOR_OK);
    return s;
}

static void keep_text(run_store *st, run_engine *e, uint32_t n, uint32_t same, uint32_t kind) {
    uint32_t line[MAX_TOK];
    text(line, n, same, kind);
    run_session *s = with(e, line, n);
    keep_now(st, s);
    run_session_free(&s);
}

/* The prompt's logits with what the store has of it, and without. */
static void same_as_without(run_store *st, run_engine *e, const uint32_t *line, uint32_t n,
                            uint32_t expected) {
    uint32_t reused = 0;
    const size_t n_vocab = run_model(e)->hp.n_vocab;
    float *cold = calloc(n_vocab, sizeof *cold);
    run_session *a = with(e, line, n), *b = NULL;
    memcpy(cold, run_logits(e, 0), n_vocab * sizeof *cold);
    run_session_free(&a);
    assert_true(run_store_find(st, line, n, 0) > 0);
    assert_int_equal(run_session_create(&b, e, MAX_TOK, NULL), ROTOR_OK);
    assert_true(run_store_load(st, b));
    assert_int_equal(run_session_sync(b, line, n, NULL, NULL, &reused, NULL), ROTOR_OK);
    assert_int_equal(reused, expected);
    assert_memory_equal(run_logits(e, 0), cold, n_vocab * sizeof *cold);
    run_session_free(&b);
    free(cold);
}

static void what_was_kept_is_found_again(void **state) {
    (void)state;
    rig g;
    uint32_t line[MAX_TOK];
    struct stat is;
    char names[LINES][256];
    rig_up(&g, TINY_BITNET);
    run_engine *e = engine(&g, 2);
    run_store *st = store(&g, e, 0, 8);
    keep_text(st, e, 200, 150, 1);
    keep_text(st, e, 300, 150, 2);
    keep_text(st, e, 7, 0, 3);     /* too short */
    keep_text(st, e, 180, 150, 1); /* the first has it */
    assert_int_equal(run_store_get_facts(st).written, 2);
    keep_text(st, e, 260, 150, 1); /* has the first */
    assert_int_equal(run_store_get_facts(st).written, 3);
    assert_int_equal(files(&g, names), 2);
    assert_int_equal(stat(names[0], &is), 0);
    assert_int_equal(is.st_mode & 0777, 0600);
    assert_int_equal(stat(g.dir, &is), 0);
    assert_int_equal(is.st_mode & 0777, 0700);
    run_store_close(&st);
    run_free(&e);
    e = engine(&g, 2); /* as after a restart */
    st = store(&g, e, 0, 8);
    assert_int_equal(run_store_get_facts(st).n_files, 2);
    assert_true(run_store_get_facts(st).bytes > 0);
    text(line, 310, 150, 2);
    same_as_without(st, e, line, 310, 300);
    same_as_without(st, e, line, 300, 299); /* the last gives the logits */
    text(line, 310, 220, 1);                /* only 150 tokens of any */
    line[150] = 90;
    same_as_without(st, e, line, 310, 150);
    assert_int_equal(run_store_find(st, line, 310, 150), 0); /* no more than is there */
    line[0] = 77;
    assert_int_equal(run_store_find(st, line, 310, 0), 0);
    assert_int_equal(run_store_get_facts(st).hits, 3);
    assert_int_equal(run_store_get_facts(st).misses, 2);
    assert_int_equal(g.lines, 0);
    run_store_close(&st);
    run_free(&e);
    rig_down(&g);
}

/* What is written is what can be gone on from: the end of the prompt, where its window has gone. */
static void windows_are_kept_where_turns_begin(void **state) {
    (void)state;
    rig g;
    uint32_t line[MAX_TOK];
    rig_up(&g, TINY_GPT_OSS);
    run_engine *e = engine(&g, 1);
    assert_true(e->ring.n > 0);
    run_store *st = store(&g, e, 0, 8);
    text(line, 800, 0, 0);
    run_session *s = with(e, line, 300);
    for (uint32_t i = 300; i < 800; i++) { /* the answer */
        const run_row row = {s, line[i], true};
        assert_int_equal(run_eval(e, &row, 1, NULL), ROTOR_OK);
    }
    assert_false(run_has_window(s, 300));
    keep_now(st, s);
    run_session_free(&s);
    run_store_close(&st);
    st = store(&g, e, 0, 8);
    line[301] = 5; /* what was thought is left out */
    same_as_without(st, e, line, 350, 300);
    same_as_without(st, e, line, 300, 299);
    line[100] = 6;
    assert_int_equal(run_store_find(st, line, 350, 0), 0); /* no window there */
    run_store_close(&st);
    run_free(&e);
    rig_down(&g);
}

static void the_least_used_goes(void **state) {
    (void)state;
    rig g;
    uint32_t line[MAX_TOK];
    rig_up(&g, TINY_LLAMA_F32);
    run_engine *e = engine(&g, 2);
    run_store *st = store(&g, e, 0, 8);
    keep_text(st, e, 100, 0, 1);
    const uint64_t one = run_store_get_facts(st).bytes;
    run_store_close(&st);
    st = store(&g, e, 3 * one + one / 2, 8); /* three of them */
    for (uint32_t kind = 2; kind <= 3; kind++) keep_text(st, e, 100, 0, kind);
    text(line, 110, 0, 1);
    same_as_without(st, e, line, 110, 100); /* the oldest is of use */
    keep_text(st, e, 100, 0, 4);
    assert_int_equal(run_store_get_facts(st).evicted, 1);
    assert_int_equal(n_files(&g), 3);
    same_as_without(st, e, line, 110, 100);
    text(line, 110, 0, 2);
    assert_int_equal(run_store_find(st, line, 110, 0), 0);
    keep_text(st, e, 600, 0, 5); /* larger than the limit */
    assert_int_equal(n_files(&g), 3);
    run_store_close(&st);
    st = store(&g, e, one + one / 2, 8); /* a smaller limit */
    assert_int_equal(n_files(&g), 1);
    assert_true(run_store_get_facts(st).bytes <= one + one / 2);
    run_store_close(&st);
    run_free(&e);
    rig_down(&g);
}

static void only_what_pays(void **state) {
    (void)state;
    rig g;
    uint32_t line[MAX_TOK];
    rig_up(&g, TINY_LLAMA_F32);
    run_engine *e = engine(&g, 2);
    run_store *st = store(&g, e, 0, 0);
    text(line, 110, 0, 1);
    keep_text(st, e, 100, 0, 1);
    assert_int_equal(n_files(&g), 0); /* nobody knows what tokens cost */
    run_store_learn(st, 1000, 1);
    keep_text(st, e, 100, 0, 1);
    assert_int_equal(n_files(&g), 0); /* nothing */
    for (int i = 0; i < 40; i++) run_store_learn(st, 100, 100000000);
    keep_text(st, e, 100, 0, 1);
    assert_int_equal(n_files(&g), 1);
    run_store_close(&st);
    st = store(&g, e, 0, 0); /* the file knows what it had cost */
    same_as_without(st, e, line, 110, 100);
    for (int i = 0; i < 90; i++) run_store_learn(st, 1000, 1);
    assert_int_equal(run_store_find(st, line, 110, 0), 0); /* here they cost nothing */
    run_store_close(&st);
    run_free(&e);
    rig_down(&g);
}

static void write_file(const char *path, const uint8_t *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Every byte of head and tokens turned, some of the rest; every few lengths. Whatever the store
 * thinks of the file, it does not load, or is what it was. */
static void damaged_files_are_removed(void **state) {
    (void)state;
    rig g;
    base_file f;
    uint32_t line[MAX_TOK];
    char names[LINES][256];
    rig_up(&g, TINY_LLAMA_F32);
    run_engine *e = engine(&g, 2);
    run_store *st = store(&g, e, 0, 8);
    keep_text(st, e, 20, 0, 1);
    run_store_close(&st);
    assert_int_equal(files(&g, names), 1);
    assert_int_equal(base_file_open(&f, names[0], false, NULL), ROTOR_OK);
    uint8_t *copy = malloc(f.size);
    text(line, 30, 0, 1);
    run_session *s = with(e, line, 0);
    for (size_t i = 0; i < 2 * f.size; i += i % f.size < 150 ? 3 : 2003) {
        const size_t at = i % f.size;
        const bool cut = i >= f.size;
        memcpy(copy, f.data, f.size);
        copy[at] ^= 0x21;
        write_file(names[0], copy, cut ? at : f.size);
        st = store(&g, e, 0, 8);
        if (run_store_find(st, line, 30, 0) && run_store_load(st, s))
            fail_msg("byte %zu %s: loaded", at, cut ? "cut" : "turned");
        assert_int_equal(s->len, 0);
        if (g.lines) assert_true(g.lines == 1 && strstr(g.last, "removed"));
        assert_int_equal(n_files(&g), 1 - g.lines); /* told and gone, or of nobody here */
        if (cut) assert_int_equal(g.lines, 1);
        g.lines = 0;
        run_store_close(&st);
    }
    write_file(names[0], f.data, f.size);
    st = store(&g, e, 0, 8);
    same_as_without(st, e, line, 30, 20); /* the whole one is still good */
    write_file(names[0], copy, f.size - 9);
    assert_true(run_store_find(st, line, 30, 0) > 0); /* changed since it was looked at */
    assert_false(run_store_load(st, s));
    assert_int_equal(n_files(&g), 0);
    run_store_close(&st);
    run_session_free(&s);
    free(copy);
    base_file_close(&f);
    run_free(&e);
    rig_down(&g);
}

static void others_files_are_left_alone(void **state) {
    (void)state;
    rig g, h;
    char path[300], names[LINES][256];
    rig_up(&g, TINY_LLAMA_F32);
    run_engine *e = engine(&g, 2);
    run_store *st = store(&g, e, 0, 8);
    keep_text(st, e, 40, 0, 1);
    snprintf(path, sizeof path, "%s/letter.txt", g.dir);
    write_file(path, (const uint8_t *)"dear", 4);
    files(&g, names);
    snprintf(path, sizeof path, "%s.part-123", names[0]);
    write_file(path, (const uint8_t *)"half", 4); /* somebody may be writing */
    run_store_close(&st);
    rig_up(&h, TINY_BITNET);
    run_engine *other = engine(&h, 2);
    memcpy(h.dir, g.dir, sizeof h.dir);
    st = store(&h, other, 0, 8);
    assert_int_equal(run_store_get_facts(st).n_files, 0);
    assert_true(run_store_get_facts(st).bytes > 0); /* but they count */
    keep_text(st, other, 40, 0, 1);
    assert_int_equal(n_files(&g), 4);
    run_store_close(&st);
    st = store(&h, other, 1, 8); /* and go, the letter and what is being written excepted */
    assert_int_equal(n_files(&g), 2);
    run_store_close(&st);
    assert_int_equal(g.lines + h.lines, 0);
    run_free(&other);
    run_free(&e);
    model_close(&h.m);
    par_free(&h.pool);
    rig_down(&g);
}

/* A folder that has gone stands for a disk that is full. */
static void what_cannot_be_written_is_told_once(void **state) {
    (void)state;
    rig g;
    rig_up(&g, TINY_LLAMA_F32);
    run_engine *e = engine(&g, 2);
    run_store *st = store(&g, e, 0, 8);
    rmdir(g.dir);
    for (uint32_t kind = 0; kind < 3; kind++) keep_text(st, e, 40, 0, kind);
    assert_int_equal(g.lines, 1);
    assert_non_null(strstr(g.last, "prefix store: "));
    assert_int_equal(run_store_get_facts(st).written, 0);
    run_store_close(&st);
    run_store_options o = {.dir = "/nowhere/at/all"};
    rotor_error err = {0};
    assert_int_equal(run_store_open(&st, e, &o, &err), ROTOR_E_IO);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
    run_free(&e);
    rig_down(&g);
}

static void memory_that_ends_is_no_harm(void **state) {
    (void)state;
    rig g;
    uint32_t line[MAX_TOK];
    rig_up(&g, TINY_GPT_OSS);
    run_engine *e = engine(&g, 1);
    text(line, 90, 0, 1);
    run_session *s = with(e, line, 70), *to = with(e, line, 0);
    const uint32_t free_pages = run_free_pages(e);
    for (long n = 1;; n++) {
        const run_store_options o = {.dir = g.dir, .min_tok = 8};
        run_store *st = NULL;
        base_fault_after(n);
        if (run_store_open(&st, e, &o, NULL) == ROTOR_OK) {
            keep_now(st, s);
            if (run_store_find(st, line, 90, 0)) (void)run_store_load(st, to);
        }
        const bool fired = base_fault_fired();
        base_fault_after(0);
        run_store_close(&st);
        if (!fired) assert_int_equal(to->len, 70);
        run_session_rewind(to, 0);
        assert_int_equal(run_free_pages(e), free_pages);
        assert_int_equal(s->len, 70);
        empty(&g);
        if (!fired) break;
        assert_true(n < 200);
    }
    run_session_free(&s);
    run_session_free(&to);
    run_free(&e);
    rig_down(&g);
}

/* Answers go on while a file is written; who wants what is in it waits. */
static void a_slow_disk_holds_nobody_up(void **state) {
    (void)state;
    rig g;
    uint32_t line[MAX_TOK], other[MAX_TOK];
    char names[LINES][256];
    rig_up(&g, TINY_BITNET);
    run_engine *e = engine(&g, 3);
    run_store *st = store(&g, e, 0, 8);
    text(line, 200, 0, 1);
    text(other, 300, 0, 2);
    set_disk(true);
    run_session *s = with(e, line, 200);
    run_store_keep(st, s);
    assert_true(disk_is_asked());
    run_session_rewind(s, 150); /* what is written is a copy */
    run_session *t = with(e, other, 300);
    assert_true(run_store_is_writing(st));
    run_store_keep(st, s); /* it is on its way */
    assert_int_equal(run_store_find(st, other, 300, 0), 0);
    assert_int_equal(run_store_get_facts(st).written, 0);
    assert_int_equal(files(&g, names), 1);
    assert_non_null(strstr(names[0], ".part-"));
    set_disk(false);
    assert_int_equal(run_store_find(st, line, 200, 0), 200);
    assert_false(disk_late);
    assert_int_equal(run_store_get_facts(st).written, 1);
    same_as_without(st, e, line, 200, 199);
    run_session_free(&s);
    run_session_free(&t);
    run_store_close(&st);
    run_free(&e);
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_kept_is_found_again),
        cmocka_unit_test(windows_are_kept_where_turns_begin),
        cmocka_unit_test(a_slow_disk_holds_nobody_up),
        cmocka_unit_test(the_least_used_goes),
        cmocka_unit_test(only_what_pays),
        cmocka_unit_test(damaged_files_are_removed),
        cmocka_unit_test(others_files_are_left_alone),
        cmocka_unit_test(what_cannot_be_written_is_told_once),
        cmocka_unit_test(memory_that_ends_is_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
