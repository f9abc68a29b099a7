/* SPDX-License-Identifier: MIT
 *
 * hub: names taken apart, files chosen, entries matched, files that grow, sums in pieces. What
 * talks to a server is tested by tests/program/test_cli_pull.py.
 */
#include "hub/layout.h"

#include "base/part.h"

#include <setjmp.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* ==== SHA-256 ================================================================================= */

static void hex_of(const uint8_t h[32], char hex[65]) {
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", h[i]);
}

static void sums_match_the_standard(void **state) {
    (void)state;
    uint8_t h[32], million[1000];
    char hex[65];
    base_sha256_run r;
    base_sha256(NULL, 0, h);
    hex_of(h, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    memset(million, 'a', sizeof million);
    base_sha256_begin(&r);
    for (int i = 0; i < 1000; i++) base_sha256_add(&r, million, sizeof million);
    base_sha256_end(&r, h);
    hex_of(h, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void sums_do_not_depend_on_the_pieces(void **state) {
    (void)state;
    uint8_t data[200], whole[32], pieces[32];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n <= sizeof data; n++) {
        base_sha256(data, n, whole);
        for (size_t cut = 0; cut <= n; cut += 1 + n / 9) {
            base_sha256_run r;
            base_sha256_begin(&r);
            base_sha256_add(&r, data, cut);
            base_sha256_add(&r, data + cut, n - cut);
            base_sha256_end(&r, pieces);
            assert_memory_equal(whole, pieces, 32);
        }
    }
}

/* ==== Names =================================================================================== */

static void names_are_taken_apart(void **state) {
    (void)state;
    static const struct {
        const char *word, *repo, *part;
        rotor_status status;
    } cases[] = {
        {"org/name", "org/name", NULL, ROTOR_OK},
        {"hf:org/name", "org/name", NULL, ROTOR_OK},
        {"org/na.me-1_x:Q4_K_M", "org/na.me-1_x", "Q4_K_M", ROTOR_OK},
        {"org/name:folder/file.gguf", "org/name", "folder/file.gguf", ROTOR_OK},
        {"minilm", "sentence-transformers/all-MiniLM-L6-v2", NULL, ROTOR_OK},
        {"word", NULL, NULL, ROTOR_E_NOTFOUND},
        {"word:a/b", NULL, NULL, ROTOR_E_NOTFOUND},
        {"", NULL, NULL, ROTOR_E_NOTFOUND},
        {"org/name:", NULL, NULL, ROTOR_E_ARG},
        {"/name", NULL, NULL, ROTOR_E_ARG},
        {"org/", NULL, NULL, ROTOR_E_ARG},
        {"../name", NULL, NULL, ROTOR_E_ARG},
        {"org/..", NULL, NULL, ROTOR_E_ARG},
        {"org/a--b", NULL, NULL, ROTOR_E_ARG},
        {"org/a/b", NULL, NULL, ROTOR_E_ARG},
        {"org/a b", NULL, NULL, ROTOR_E_ARG},
        {"org/a?b", NULL, NULL, ROTOR_E_ARG},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        hub_ref ref;
        rotor_error err = {0};
        assert_int_equal(hub_ref_parse(&ref, cases[i].word, &err), cases[i].status);
        if (cases[i].status != ROTOR_OK) continue;
        assert_string_equal(ref.repo, cases[i].repo);
        assert_true(!ref.part == !cases[i].part);
        if (ref.part) assert_string_equal(ref.part, cases[i].part);
        hub_ref_free(&ref);
    }
}

static void short_names_are_names_of_the_hub(void **state) {
    (void)state;
    for (size_t i = 0; hub_short_at(i); i++) {
        hub_ref ref;
        assert_int_equal(hub_ref_parse(&ref, hub_short_at(i)->repo, NULL), ROTOR_OK);
        hub_ref_free(&ref);
        assert_ptr_equal(hub_short_find(hub_short_at(i)->name), hub_short_at(i));
        assert_null(strchr(hub_short_at(i)->name, '/'));
    }
}

static void folders_and_repositories_are_each_other(void **state) {
    (void)state;
    char *folder = hub_folder_of("org/a-b.c"), *repo = hub_repo_of(folder);
    assert_string_equal(folder, "models--org--a-b.c");
    assert_string_equal(repo, "org/a-b.c");
    base_free(folder);
    base_free(repo);
}

static void paths_stay_inside(void **state) {
    (void)state;
    static const char *const good[] = {"a", "a.gguf", "a/b/c.json", "..a", "a..", ".gitattributes"};
    static const char *const bad[] = {"",    ".",   "..",   "/a",   "a/",  "a//b",
                                      "../", "a/.", "a/..", "a\\b", "a\nb"};
    for (size_t i = 0; i < BASE_COUNT(good); i++) assert_true(hub_is_safe_path(good[i]));
    for (size_t i = 0; i < BASE_COUNT(bad); i++) assert_false(hub_is_safe_path(bad[i]));
}

static void parts_of_split_files_are_known(void **state) {
    (void)state;
    size_t at = 0;
    assert_int_equal(hub_split_count("x-00002-of-00013.gguf", &at), 13);
    assert_int_equal(at, 2);
    assert_int_equal(hub_split_count("x-0002-of-0003.gguf", NULL), 0);
    assert_int_equal(hub_split_count("-of-.gguf", NULL), 0);
    assert_true(hub_is_model("x-00001-of-00002.gguf") && hub_is_model("-of-the-art.gguf"));
    assert_false(hub_is_model("x-00002-of-00002.gguf") || hub_is_model("mmproj-x.gguf"));
    assert_false(hub_is_model("x.gguf.txt"));
}

/* ==== Choosing ================================================================================ */

/* "a,b c": the indices chosen among files a and b by the word c; "!": an error of this status. */
static void choose(const char *const *names, size_t n, const char *part, rotor_status status,
                   const char *expected) {
    hub_file files[16] = {0};
    size_t *picked = NULL, n_picked = 0;
    bool folder;
    rotor_error err = {0};
    char got[64] = "";
    for (size_t i = 0; i < n; i++) files[i].path = (char *)(uintptr_t)names[i];
    assert_int_equal(hub_select(files, n, part, &picked, &n_picked, &folder, &err), status);
    if (status != ROTOR_OK) {
        assert_non_null(strstr(err.message, expected));
        return;
    }
    for (size_t i = 0; i < n_picked; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%zu ", picked[i]);
    assert_string_equal(got, expected);
    base_free(picked);
}

static void files_are_chosen(void **state) {
    (void)state;
    static const char *const quants[] = {"m-Q4_0.gguf",   "m-IQ4_0.gguf",  "m-Q4_K_M.gguf",
                                         "m-Q4_K_S.gguf", "mmproj-m.gguf", "README.md"};
    choose(quants, 6, "Q4_0", ROTOR_OK, "0 ");
    choose(quants, 6, "q4_k_m", ROTOR_OK, "2 ");
    choose(quants, 6, "Q4_K", ROTOR_E_ARG, "2 files fit");
    choose(quants, 6, "mmproj-m.gguf", ROTOR_OK, "4 ");
    choose(quants, 6, NULL, ROTOR_E_ARG, "4 files fit");
    choose(quants, 6, "Q8_0", ROTOR_E_NOTFOUND, "no file 'Q8_0'; there are m-Q4_0.gguf");
    choose(quants + 4, 2, NULL, ROTOR_E_NOTFOUND, "neither GGUF files nor config.json");
    static const char *const split[] = {"x-00002-of-00002.gguf", "x-00001-of-00002.gguf",
                                        "y-00001-of-00002.gguf"};
    choose(split, 2, NULL, ROTOR_OK, "1 0 ");
    choose(split, 3, "y", ROTOR_E_NOTFOUND, "part 2 of 2");
    static const char *const folder[] = {"config.json",
                                         "model-00001-of-00001.safetensors",
                                         "consolidated.safetensors",
                                         "tokenizer.json",
                                         "pytorch_model.bin",
                                         "original/model.safetensors",
                                         "1_Pooling/config.json"};
    choose(folder, 7, NULL, ROTOR_OK, "0 1 3 6 ");
    choose(folder + 1, 6, NULL, ROTOR_E_NOTFOUND, "neither");
}

static void exact_names_win(void **state) {
    (void)state;
    char names[][24] = {"org/m", "story:1b", "story:1b-text", "org/n:a.gguf", "org/n:b.gguf"};
    hub_entry e[5];
    size_t fits;
    for (size_t i = 0; i < 5; i++) e[i] = (hub_entry){names[i], names[i], HUB_CACHE};
    assert_ptr_equal(hub_match(e, 5, "story:1b", &fits), &e[1]);
    assert_int_equal(fits, 1);
    assert_ptr_equal(hub_match(e, 5, "m", &fits), &e[0]);
    hub_match(e, 5, "n", &fits);
    assert_int_equal(fits, 2);
    assert_ptr_equal(hub_match(e, 5, "n:B", &fits), &e[4]);
    assert_int_equal(fits, 1);
    assert_null(hub_match(e, 5, "or", &fits));
}

/* ==== Files that grow ========================================================================= */

static void a_part_grows_and_is_cut(void **state) {
    (void)state;
    char path[64];
    base_part p;
    rotor_error err = {0};
    snprintf(path, sizeof path, "/tmp/rotor-part-%ld", (long)getpid());
    assert_int_equal(base_part_open(&p, path, &err), ROTOR_OK);
    assert_int_equal(base_part_add(&p, "hello", 5, &err), ROTOR_OK);
    base_part_close(&p);
    assert_int_equal(base_part_open(&p, path, &err), ROTOR_OK);
    assert_int_equal(p.size, 5);
    assert_int_equal(base_part_cut(&p, 2, &err), ROTOR_OK);
    assert_int_equal(base_part_add(&p, "y", 1, &err), ROTOR_OK);
    base_fault_after(1);
    assert_int_equal(base_part_add(&p, "lost", 4, &err), ROTOR_E_IO);
    base_fault_after(0);
    base_part_close(&p);
    base_buf text = {0};
    assert_true(hub_read_small(path, 10, &text));
    assert_string_equal(text.data, "hey");
    assert_false(hub_read_small(path, 2, &text));
    base_buf_free(&text);
    assert_int_equal(base_symlink("elsewhere", path, &err), ROTOR_OK);
    char *link = base_link_text(path);
    assert_string_equal(link, "elsewhere");
    base_free(link);
    assert_int_equal(base_remove_file(path, &err), ROTOR_OK);
    assert_null(base_link_text(path));
    assert_true(base_free_disk_bytes("/tmp/not/there/yet") > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_match_the_standard),
        cmocka_unit_test(sums_do_not_depend_on_the_pieces),
        cmocka_unit_test(names_are_taken_apart),
        cmocka_unit_test(short_names_are_names_of_the_hub),
        cmocka_unit_test(folders_and_repositories_are_each_other),
        cmocka_unit_test(paths_stay_inside),
        cmocka_unit_test(parts_of_split_files_are_known),
        cmocka_unit_test(files_are_chosen),
        cmocka_unit_test(exact_names_win),
        cmocka_unit_test(a_part_grows_and_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
