/* SPDX-License-Identifier: MIT
 *
 * gen, stop strings: every way to cut a text into pieces gives what a search over the whole text
 * gives, nothing of a stop string is ever shown, and nothing is shown late without need.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gen/gen_internal.h"

enum { MAX_STOPS = 3 };

typedef struct wanted {
    size_t n; /* bytes of text before the stop */
    bool hit; /* a stop was found */
} wanted;

/* The stop that ends first, the longest of those that end there. */
static wanted search(const char *text, const base_str *stops, size_t n_stops) {
    size_t len = strlen(text);
    for (size_t end = 1; end <= len; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_stops; i++)
            if (stops[i].n <= end && stops[i].n > longest &&
                memcmp(text + end - stops[i].n, stops[i].p, stops[i].n) == 0)
                longest = stops[i].n;
        if (longest) return (wanted){end - longest, true};
    }
    return (wanted){len, false};
}

/* How much of text[0..n) has to wait: its longest end that begins a stop. */
static size_t must_wait(const char *text, size_t n, const base_str *stops, size_t n_stops) {
    for (size_t w = n; w > 0; w--)
        for (size_t i = 0; i < n_stops; i++)
            if (w < stops[i].n && memcmp(text + n - w, stops[i].p, w) == 0) return w;
    return 0;
}

/* Feeds text in the pieces that the bits of `cuts` mark and compares. */
static void feed(const char *text, const base_str *stops, size_t n_stops, unsigned cuts) {
    gen_stops *s = NULL;
    base_buf out = {0};
    size_t len = strlen(text), from = 0;
    bool hit = false;
    wanted want = search(text, stops, n_stops);
    assert_int_equal(gen_stops_create(&s, stops, n_stops, NULL), ROTOR_OK);
    for (size_t i = 1; i <= len && !hit; i++) {
        if (i < len && !(cuts >> (i - 1) & 1)) continue;
        assert_int_equal(gen_stops_feed(s, (base_str){text + from, i - from}, &out, &hit),
                         ROTOR_OK);
        from = i;
        if (!hit) assert_int_equal(out.len, i - must_wait(text, i, stops, n_stops));
    }
    if (!hit) assert_int_equal(gen_stops_flush(s, &out), ROTOR_OK);
    assert_int_equal(hit, want.hit);
    assert_int_equal(out.len, want.n);
    if (out.len) assert_memory_equal(out.data, text, out.len);
    base_buf_free(&out);
    gen_stops_free(&s);
}

static void any_splitting_gives_the_same(void **state) {
    (void)state;
    const char *texts[] = {"hello world", "aaab",        "aabaabaac",
                           "xabcabcd",    "stop",        "a\n\nUser: b",
                           "ababababc",   "aabaaabaaax", "\xC3\xA9\xE2\x82\xAC!",
                           "abcde"};
    const char *stops[][MAX_STOPS] = {{"world"},       {"aab"},          {"aabaac"},
                                      {"abcd"},        {"stop"},         {"\n\nUser:", "\n\n\n"},
                                      {"ababc", "zz"}, {"\xE2\x82\xAC"}, {"abcdx", "bc", "abc"},
                                      {"o"},           {"never seen"},   {"aa", "a"},
                                      {"aabaaax"},     {"bcd", "c"},     {"abc", "bc"}};
    for (size_t t = 0; t < BASE_COUNT(texts); t++)
        for (size_t g = 0; g < BASE_COUNT(stops); g++) {
            base_str list[MAX_STOPS];
            size_t n = 0;
            while (n < MAX_STOPS && stops[g][n]) {
                list[n] = base_str_of(stops[g][n]);
                n++;
            }
            unsigned ways = 1u << (strlen(texts[t]) - 1);
            for (unsigned cuts = 0; cuts < ways; cuts++) feed(texts[t], list, n, cuts);
        }
}

/* All texts of two letters up to 9 bytes, all pairs of stops up to 3: automata have no gaps. */
static void all_small_texts_and_stops(void **state) {
    (void)state;
    char word[14][4];
    size_t n_words = 0;
    for (int len = 1; len <= 3; len++)
        for (int bits = 0; bits < 1 << len; bits++) {
            for (int i = 0; i < len; i++) word[n_words][i] = (char)('a' + (bits >> i & 1));
            word[n_words++][len] = 0;
        }
    for (int bits = 0; bits < 1 << 8; bits++) {
        char text[9] = {0};
        for (int i = 0; i < 8; i++) text[i] = (char)('a' + (bits >> i & 1));
        for (size_t a = 0; a < n_words; a++)
            for (size_t b = 0; b < n_words; b++) {
                base_str list[] = {base_str_of(word[a]), base_str_of(word[b])};
                feed(text, list, 2, 0);
                feed(text, list, 2, ~0u);
                feed(text, list, 2, 0x55);
            }
    }
}

static void without_stops_nothing_waits(void **state) {
    (void)state;
    feed("any text", NULL, 0, 0);
    feed("any text", NULL, 0, ~0u);
}

static void bad_stops_are_refused(void **state) {
    (void)state;
    gen_stops *s = NULL;
    rotor_error err = {0};
    const base_str empty[] = {{"a", 1}, {"", 0}}, half = {"\xE2\x82", 2};
    assert_int_equal(gen_stops_create(&s, empty, 2, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "stop string 1 is empty"));
    assert_int_equal(gen_stops_create(&s, &half, 1, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "UTF-8"));
    assert_null(s);
}

static void creation_survives_every_fault(void **state) {
    (void)state;
    const base_str stops[] = {{"abc", 3}, {"d", 1}};
    for (long n = 1; n < 50; n++) {
        gen_stops *s = NULL;
        base_fault_after(n);
        rotor_status st = gen_stops_create(&s, stops, 2, NULL);
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        assert_int_equal(s == NULL, fired);
        gen_stops_free(&s);
        if (!fired) return;
    }
    fail();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_splitting_gives_the_same),
        cmocka_unit_test(all_small_texts_and_stops),
        cmocka_unit_test(without_stops_nothing_waits),
        cmocka_unit_test(bad_stops_are_refused),
        cmocka_unit_test(creation_survives_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
