/* SPDX-License-Identifier: MIT
 *
 * Watching a folder: what is told when files are written, removed, moved, saved as editors do.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"

typedef struct rig {
    char root[64];     /* the folder, made for one test */
    base_watch *watch; /* of it */
    base_buf told;     /* "W path\n", "G path\n", "M from path\n", "R path\n"; folders with "/" */
} rig;

static const char *below(const rig *r, const char *path) {
    const size_t n = strlen(r->root);
    return path[n] ? path + n + 1 : ".";
}

static void note(void *user, const base_change *c) {
    rig *r = user;
    base_buf_printf(&r->told, "%c ", "WGMR"[c->kind]);
    if (c->from) base_buf_printf(&r->told, "%s ", below(r, c->from));
    base_buf_printf(&r->told, "%s%s\n", below(r, c->path), c->folder ? "/" : "");
}

static base_watch_options quick(void) {
    return (base_watch_options){.quiet_ms = 40, .most_ms = 400, .gone_ms = 80};
}

static rig start(const base_watch_options *opt, const char *prepare) {
    rig r = {.root = "/tmp/rotor_watch_XXXXXX"};
    char line[512];
    rotor_error err = {0};
    assert_non_null(mkdtemp(r.root));
    snprintf(line, sizeof line, "cd %s && %s", r.root, prepare);
    assert_int_equal(system(line), 0);
    assert_int_equal(base_watch_open(&r.watch, r.root, opt, &err), ROTOR_OK);
    return r;
}

static void make(const rig *r, const char *line) {
    char whole[1024];
    snprintf(whole, sizeof whole, "cd %s && %s", r->root, line);
    assert_int_equal(system(whole), 0);
}

/* Everything that is told until nothing has been for a while. */
static const char *settle(rig *r) {
    rotor_error err = {0};
    base_buf_reset(&r->told);
    for (size_t before = SIZE_MAX; before != r->told.len;) {
        before = r->told.len;
        assert_int_equal(base_watch_wait(r->watch, 130, note, r, &err), ROTOR_OK);
    }
    return r->told.data ? r->told.data : "";
}

static void finish(rig *r) {
    char line[128];
    base_watch_close(&r->watch);
    base_buf_free(&r->told);
    snprintf(line, sizeof line, "rm -rf %s", r->root);
    assert_int_equal(system(line), 0);
}

static void expect(rig *r, const char *line, const char *told) {
    make(r, line);
    assert_string_equal(settle(r), told);
}

static void files_are_told(void **state) {
    (void)state;
    const base_watch_options opt = quick();
    rig r = start(&opt, "mkdir -p a/b && echo x >a/old");
    expect(&r, "true", "");
    expect(&r, "echo x >new", "W new\n");
    expect(&r, "echo y >a/b/deep", "W a/b/deep\n");
    expect(&r, "echo z >>a/old; echo z >>a/old", "W a/old\n"); /* once */
    expect(&r, "rm a/old", "G a/old\n");
    expect(&r, "echo x >gone; rm gone", "G gone\n");
    finish(&r);
}

static void moves_are_told_as_moves(void **state) {
    (void)state;
    const base_watch_options opt = quick();
    rig r = start(&opt, "mkdir a b && echo x >a/f && echo y >g");
    expect(&r, "mv a/f b/f", "M a/f b/f\n");
    expect(&r, "mv b/f b/h; mv b/h a/k", "M b/f a/k\n");
    expect(&r, "mv a/k a/l; echo more >>a/l", "M a/k a/l\nW a/l\n");
    expect(&r, "mv a/l a/m; mv a/m a/l", "W a/l\n");
    expect(&r, "mv a/l /tmp/rotor_watch_out.$PPID; rm /tmp/rotor_watch_out.$PPID", "G a/l\n");
    expect(&r, "mv g h; mv h /tmp/rotor_watch_out.$PPID; rm /tmp/rotor_watch_out.$PPID", "G g\n");
    finish(&r);
}

/* Editors write beside a file and rename over it, or move it away first. */
static void saves_are_one_change(void **state) {
    (void)state;
    const char *const exclude[] = {"*.swp", "*~"};
    base_watch_options opt = quick();
    opt.exclude = exclude;
    opt.n_exclude = 2;
    rig r = start(&opt, "echo x >f");
    expect(&r, "echo y >f.swp; mv f.swp f", "W f\n");
    expect(&r, "mv f f~; echo z >f; rm f~", "W f\n");
    expect(&r, "rm f; echo z >f", "W f\n");
    finish(&r);
}

static void folders_come_and_go(void **state) {
    (void)state;
    const base_watch_options opt = quick();
    rig r = start(&opt, "mkdir a && echo x >a/f");
    expect(&r, "mkdir -p n/m && echo x >n/m/f", "W n/m/f\n");
    expect(&r, "echo y >n/m/g", "W n/m/g\n"); /* it is watched by now */
    expect(&r, "mv n o", "M n o/\n");
    expect(&r, "echo y >o/m/g", "W o/m/g\n"); /* under its new name */
    expect(&r, "echo y >o/m/h; mv o p", "W p/m/h\nM o p/\n");
    expect(&r, "cd p/m && rm f && rm g && rm h && cd ../.. && rmdir p/m && rmdir p",
           "G p/m/f\nG p/m/g\nG p/m/h\nG p/m/\nG p/\n");
    finish(&r);
}

static void globs_are_obeyed(void **state) {
    (void)state;
    const char *const include[] = {"*.md", "docs/*"}, *const exclude[] = {"node_modules", "x*"};
    base_watch_options opt = quick();
    opt.include = include;
    opt.n_include = 2;
    opt.exclude = exclude;
    opt.n_exclude = 2;
    rig r = start(&opt, "mkdir -p docs a node_modules/p");
    expect(&r, "touch a/n.md a/n.c docs/c.c x.md node_modules/p/n.md", "W a/n.md\nW docs/c.c\n");
    expect(&r, "mv a/n.c a/n2.md; mv a/n.md a/n.txt", "W a/n2.md\nG a/n.md\n");
    finish(&r);
}

static void a_steady_writer_is_told_in_time(void **state) {
    (void)state;
    const base_watch_options opt = quick();
    rig r = start(&opt, "true");
    rotor_error err = {0};
    const uint64_t begin = base_now_us();
    char path[128];
    snprintf(path, sizeof path, "%s/f", r.root);
    while (!r.told.len && base_now_us() - begin < 60000000) { /* never quiet for 40 ms */
        close(open(path, O_WRONLY | O_CREAT, 0600));
        assert_int_equal(base_watch_wait(r.watch, 5, note, &r, &err), ROTOR_OK);
    }
    assert_non_null(r.told.data);
    assert_string_equal(r.told.data, "W f\n");
    finish(&r);
}

/* More than can wait becomes one look at everything; and so does the end of the root. */
static void too_much_is_a_rescan(void **state) {
    (void)state;
    const base_watch_options opt = quick();
    rig r = start(&opt, "true");
    make(&r, "mkdir in && seq -f in/%.0f 33000 | xargs touch");
    const char *told = settle(&r);
    assert_non_null(strstr(told, "R ./\n"));
    expect(&r, "echo x >in/5", "W in/5\n"); /* it goes on */
    make(&r, "rm -rf \"$PWD\"");
    assert_non_null(strstr(settle(&r), "R ./\n"));
    finish(&r);
}

static void what_is_no_folder_is_refused(void **state) {
    (void)state;
    const base_watch_options opt = base_watch_default();
    base_watch *w = NULL;
    rotor_error err = {0};
    assert_int_equal(base_watch_open(&w, "/nonexistent", &opt, &err), ROTOR_E_NOTFOUND);
    assert_null(w);
    assert_non_null(strstr(err.message, "/nonexistent"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_told),       cmocka_unit_test(moves_are_told_as_moves),
        cmocka_unit_test(saves_are_one_change), cmocka_unit_test(folders_come_and_go),
        cmocka_unit_test(globs_are_obeyed),     cmocka_unit_test(a_steady_writer_is_told_in_time),
        cmocka_unit_test(too_much_is_a_rescan), cmocka_unit_test(what_is_no_folder_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
