/* SPDX-License-Identifier: MIT
 *
 * base: errors, checked sizes, memory, buffers, UTF-8, map, random numbers, hashes, files.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/base_internal.h"
#include "base/part.h"

static void errors_carry_code_and_prefix(void **state) {
    (void)state;
    rotor_error err = {0};
    assert_int_equal(base_fail(&err, ROTOR_E_FORMAT, "tensor %s", "x"), ROTOR_E_FORMAT);
    assert_int_equal(base_fail_in(&err, ROTOR_E_FORMAT, "a.gguf"), ROTOR_E_FORMAT);
    assert_string_equal(err.message, "a.gguf: tensor x");
    base_fail(&err, ROTOR_E_FORMAT, "tensor %s", "a\x1b[2J\nb\x7F\xC3\xA9");
    assert_string_equal(err.message, "tensor a?[2J?b?\xC3\xA9");
    assert_int_equal(base_fail(NULL, ROTOR_E_IO, "unseen"), ROTOR_E_IO);
}

static void sizes_are_checked(void **state) {
    (void)state;
    size_t s;
    uint64_t u;
    assert_false(base_mul_size(SIZE_MAX / 2, 3, &s));
    assert_true(base_mul_size(7, 6, &s) && s == 42);
    assert_false(base_add_u64(UINT64_MAX, 1, &u));
    assert_false(base_round_up_u64(UINT64_MAX - 3, 32, &u));
    assert_true(base_round_up_u64(33, 32, &u) && u == 64);
    assert_null(base_alloc_array(SIZE_MAX / 2, 4));
}

static void fault_switch_fails_the_nth(void **state) {
    (void)state;
    base_fault_after(2);
    void *a = base_alloc(8), *b = base_alloc(8), *c = base_alloc(8);
    assert_true(a && !b && c && base_fault_fired());
    base_fault_after(0);
    base_free(a);
    base_free(c);
}

static void pages_are_zeroed_and_aligned(void **state) {
    (void)state;
    size_t sizes[] = {1, 100, 5 << 20};
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        uint8_t *p = base_alloc_aligned(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_int_equal(p[0] | p[sizes[i] - 1], 0);
        base_free_aligned(p);
    }
}

static void utf8_round_trips_and_rejects(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        char buf[4];
        int32_t back;
        int n = base_utf8_encode(cp, buf);
        assert_int_equal(base_utf8_decode(buf, (size_t)n, &back), n);
        assert_int_equal(back, cp);
        if (n > 1) assert_int_equal(base_utf8_decode(buf, (size_t)n - 1, &back), 1);
        if (n > 1) assert_int_equal(back, -1);
    }
    const char *bad[] = {"\xC0\x80",         "\xE0\x80\x80", "\xED\xA0\x80",
                         "\xF4\x90\x80\x80", "\xFF",         "\x80"};
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        int32_t cp;
        assert_int_equal(base_utf8_decode(bad[i], strlen(bad[i]), &cp), 1);
        assert_int_equal(cp, -1);
    }
}

static void map_holds_a_million(void **state) {
    (void)state;
    enum { N = 100000 };
    static char keys[N][12];
    base_map *m = NULL;
    assert_int_equal(base_map_create(&m, 4), ROTOR_OK);
    for (uint32_t i = 0; i < N; i++) {
        bool existed = true;
        snprintf(keys[i], sizeof keys[i], "k%u", i);
        assert_int_equal(base_map_put(m, base_str_of(keys[i]), i, &existed), ROTOR_OK);
        assert_false(existed);
    }
    for (uint32_t i = 0; i < N; i++) {
        uint32_t v = 0;
        assert_true(base_map_get(m, base_str_of(keys[i]), &v));
        assert_int_equal(v, i);
    }
    uint32_t v;
    assert_false(base_map_get(m, base_str_of("absent"), &v));
    assert_false(base_map_get(m, (base_str){NULL, 0}, &v));
    assert_int_equal(base_map_put(m, (base_str){NULL, 0}, 7, NULL), ROTOR_OK);
    assert_true(base_map_get(m, (base_str){NULL, 0}, &v) && v == 7);
    assert_int_equal(base_map_count(m), N + 1);
    base_map_free(&m);
    assert_null(m);
}

static void random_repeats_and_is_uniform(void **state) {
    (void)state;
    base_rng a, b;
    base_rng_seed(&a, 1);
    base_rng_seed(&b, 1);
    double sum = 0, sq = 0;
    for (int i = 0; i < 100000; i++) {
        assert_true(base_rng_u64(&a) == base_rng_u64(&b));
        double x = base_rng_normal(&a);
        base_rng_normal(&b);
        sum += x;
        sq += x * x;
    }
    assert_true(sum / 1e5 > -0.02 && sum / 1e5 < 0.02);
    assert_true(sq / 1e5 > 0.97 && sq / 1e5 < 1.03);
}

static void sha256_matches_the_standard(void **state) {
    (void)state;
    uint8_t h[32];
    char hex[65] = {0};
    base_sha256("abc", 3, h);
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", h[i]);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    base_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, h);
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", h[i]);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* The last of the standard's examples, handed over in pieces of all sizes. */
static void sha256_of_a_million_letters(void **state) {
    static const uint8_t want[] = {0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92, 0x81, 0xa1, 0xc7,
                                   0xe2, 0x84, 0xd7, 0x3e, 0x67, 0xf1, 0x80, 0x9a, 0x48, 0xa4, 0x97,
                                   0x20, 0x0e, 0x04, 0x6d, 0x39, 0xcc, 0xc7, 0x11, 0x2c, 0xd0};
    (void)state;
    uint8_t letters[1500], got[32];
    memset(letters, 'a', sizeof letters);
    base_sha256_run r;
    base_sha256_begin(&r);
    for (size_t n = 0, left = 1000000; left; left -= n) {
        n = BASE_MIN((n + 1) % sizeof letters, left);
        base_sha256_add(&r, letters, n);
    }
    base_sha256_end(&r, got);
    assert_memory_equal(got, want, sizeof got);
}

static void sha256_by_the_processor_is_the_same(void **state) {
    (void)state;
    sha256_blocks *own = sha256_blocks_cpu();
    if (!own) skip(); /* it has no instructions for it */
    uint8_t bytes[64 * 9 + 3];
    base_rng rng;
    base_rng_seed(&rng, 7);
    for (size_t n = 0; n < 200; n++) {
        uint32_t h[8], same[8];
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)base_rng_u64(&rng);
        for (size_t i = 0; i < 8; i++) h[i] = same[i] = (uint32_t)base_rng_u64(&rng);
        own(h, bytes + n % 4, n % 10);
        sha256_blocks_c(same, bytes + n % 4, n % 10);
        assert_memory_equal(h, same, sizeof h);
    }
}

static char *temp_name(char buf[64], const char *tail) {
    snprintf(buf, 64, "/tmp/rotor-base-%ld-%s", (long)getpid(), tail);
    return buf;
}

static void files_are_written_whole_or_not_at_all(void **state) {
    (void)state;
    char path[64];
    rotor_error err = {0};
    base_out o;
    base_file f;
    temp_name(path, "out");
    assert_int_equal(base_out_open(&o, path, &err), ROTOR_OK);
    assert_int_equal(base_out_write(&o, "hello", 5, &err), ROTOR_OK);
    assert_int_equal(base_path_kind_of(path), BASE_PATH_NONE);
    base_out_abort(&o);
    assert_int_equal(base_path_kind_of(path), BASE_PATH_NONE);

    assert_int_equal(base_out_open(&o, path, &err), ROTOR_OK);
    assert_int_equal(base_out_write(&o, "hello", 5, &err), ROTOR_OK);
    assert_int_equal(base_out_skip(&o, 10, &err), ROTOR_OK);
    assert_int_equal(base_out_zeros(&o, 5000, &err), ROTOR_OK);
    assert_int_equal(base_out_commit(&o, &err), ROTOR_OK);
    for (int map = 0; map < 2; map++) {
        assert_int_equal(base_file_open(&f, path, map, &err), ROTOR_OK);
        assert_int_equal(f.size, 5015);
        assert_memory_equal(f.data, "hello\0\0", 7);
        assert_int_equal(base_file_unchanged(&f, &err), ROTOR_OK);
        if (map) {
            assert_int_equal(truncate(path, 100), 0);
            assert_int_equal(base_file_unchanged(&f, &err), ROTOR_E_IO);
        }
        base_file_close(&f);
    }
    unlink(path);
    assert_int_equal(base_file_open(&f, path, true, &err), ROTOR_E_IO);
    assert_int_equal(base_file_open(&f, "/tmp", true, &err), ROTOR_E_IO);
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(120); /* nobody writes: it is refused, not waited for */
    assert_int_equal(base_file_open(&f, path, true, &err), ROTOR_E_IO);
    alarm(0);
    unlink(path);
    base_file_close(&f);
}

static void writing_survives_every_fault(void **state) {
    (void)state;
    char path[64];
    temp_name(path, "fault");
    for (long n = 1; n < 100; n++) {
        base_out o;
        base_fault_after(n);
        rotor_status st = base_out_open(&o, path, NULL);
        if (st == ROTOR_OK) {
            st = base_out_write(&o, "x", 1, NULL);
            if (st == ROTOR_OK)
                st = base_out_commit(&o, NULL);
            else
                base_out_abort(&o);
        }
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st == ROTOR_OK, !fired);
        assert_int_equal(base_path_kind_of(path), fired ? BASE_PATH_NONE : BASE_PATH_FILE);
        if (!fired) break;
    }
    unlink(path);
}

static void put_file(const char *folder, const char *name, const char *text) {
    char path[256];
    rotor_error err;
    assert_int_equal(base_mkdirs(folder, &err), ROTOR_OK);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void put_zone(const char *root, int zone, const char *name, const char *uj) {
    char folder[128];
    snprintf(folder, sizeof folder, "%s/intel-rapl:%d", root, zone);
    put_file(folder, "name", name);
    put_file(folder, "max_energy_range_uj", "1000000000\n");
    put_file(folder, "energy_uj", uj);
}

static void energy_counts_packages_once_and_wraps(void **state) {
    (void)state;
    char root[] = "/tmp/rotor-test-power-XXXXXX", command[64];
    base_energy before, after;
    assert_non_null(mkdtemp(root));
    base_energy_read(&before, root);
    assert_int_equal(before.n, 0);
    assert_true(base_energy_joules(&before, &before) == 0);
    put_zone(root, 0, "package-0\n", "999000000\n");
    put_zone(root, 1, "psys\n", "5\n"); /* the board: holds the packages too */
    put_zone(root, 2, "package-1\n", "1000000\n");
    base_energy_read(&before, root);
    assert_int_equal(before.n, 2);
    put_zone(root, 0, "package-0\n", "2000000\n"); /* wrapped */
    put_zone(root, 2, "package-1\n", "1500000\n");
    base_energy_read(&after, root);
    assert_true(base_energy_joules(&before, &after) == 3.5);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
    base_energy_read(&after, NULL); /* whatever this machine has */
}

static void sleeping_takes_its_time(void **state) {
    (void)state;
    uint64_t start = base_now_us();
    base_sleep_us(3000);
    assert_true(base_now_us() - start >= 3000);
}

static void programs_are_run_and_waited_for(void **state) {
    (void)state;
    int status = -1;
    rotor_error err = {0};
    assert_int_equal(base_run_shell("exit 3;", "", &status, &err), ROTOR_OK);
    assert_int_equal(status, 3);
    const char *odd = "two words 'and' \"marks\" $HOME";
    assert_int_equal(base_run_shell("test 1 = 1 && test -n", odd, &status, &err), ROTOR_OK);
    assert_int_equal(status, 0);
    assert_int_equal(base_run_shell("test 'two words' =", "two words", &status, &err), ROTOR_OK);
    assert_int_equal(status, 0);
    assert_int_equal(base_run_shell("kill -TERM $$;", "", &status, &err), ROTOR_OK);
    assert_int_equal(status, 128 + 15);
    for (long n = 1; n <= 2; n++) {
        base_fault_after(n);
        assert_int_equal(base_run_shell("exit 0;", "x", &status, &err), ROTOR_E_NOMEM);
        base_fault_after(0);
    }
}

/* What cannot be looked at is not the same as what is not there. */
static void nothing_there_and_no_way_to_look_differ(void **state) {
    (void)state;
    char name[400];
    base_node n;
    snprintf(name, sizeof name, "/tmp/%0300d", 1);
    assert_false(base_node_of(&n, name, true));
    assert_int_equal(n.kind, BASE_NODE_OTHER);
    assert_false(base_node_of(&n, "/tmp/rotor_no_such_thing", true));
    assert_int_equal(n.kind, BASE_NODE_NONE);
    assert_false(base_node_of(&n, "/dev/null/below", true));
    assert_int_equal(n.kind, BASE_NODE_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_carry_code_and_prefix),
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(fault_switch_fails_the_nth),
        cmocka_unit_test(pages_are_zeroed_and_aligned),
        cmocka_unit_test(utf8_round_trips_and_rejects),
        cmocka_unit_test(map_holds_a_million),
        cmocka_unit_test(random_repeats_and_is_uniform),
        cmocka_unit_test(energy_counts_packages_once_and_wraps),
        cmocka_unit_test(sleeping_takes_its_time),
        cmocka_unit_test(sha256_matches_the_standard),
        cmocka_unit_test(sha256_of_a_million_letters),
        cmocka_unit_test(sha256_by_the_processor_is_the_same),
        cmocka_unit_test(files_are_written_whole_or_not_at_all),
        cmocka_unit_test(writing_survives_every_fault),
        cmocka_unit_test(nothing_there_and_no_way_to_look_differ),
        cmocka_unit_test(programs_are_run_and_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
