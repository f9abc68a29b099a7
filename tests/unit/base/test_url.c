/* SPDX-License-Identifier: MIT
 *
 * Addresses: what is shown of them, and what is taken for a password.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/base.h"

static void secrets_are_not_shown(void **state) {
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"postgres://ann:pass@h:5/db", "postgres://ann@h:5/db"},
        {"postgres://ann:a/b@h/db", "postgres://ann@h/db"},
        {"postgres://ann:a@b@h/db?port=1", "postgres://ann@h/db?port=1"},
        {"postgres://ann:a?b@h/db", "postgres://ann@h/db"},
        {"postgres://127.0.0.1/db?password=hunter2:x@y", "postgres://127.0.0.1/db"},
        {"postgres://127.0.0.1/db?password=hunter2:x@y&port=5", "postgres://127.0.0.1/db?port=5"},
        {"postgres://h/db?p%61ssword=x&schema=s", "postgres://h/db?schema=s"},
        {"postgres://h/db?options=-c%20x=y&user=a", "postgres://h/db?options=...&user=a"},
        {"postgres://h/db?password=a&b=c&d", "postgres://h/db?b=..."},
        {"postgres://db.example:5432/library?user=ann@server",
         "postgres://db.example:5432/library?user=ann@server"},
        {"postgres://[::1]:5432/db", "postgres://[::1]:5432/db"},
    };
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        char *shown = base_url_without_password(cases[i].url);
        assert_string_equal(shown, cases[i].shown);
        base_free(shown);
    }
}

static void a_password_stands_before_the_at(void **state) {
    (void)state;
    assert_true(base_str_is(base_url_password("postgres://ann:100%sure@h:1/db"), "100%sure"));
    assert_true(base_str_is(base_url_password("postgres://ann:a/b@/db?host=/x@y"), "a/b"));
    assert_null(base_url_password("postgres://db.example:5432/library?user=ann@server").p);
    assert_null(base_url_password("postgres://ann@h:5/db").p);
    assert_null(base_url_password("postgres://h:5/db").p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(a_password_stands_before_the_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
