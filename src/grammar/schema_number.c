/* SPDX-License-Identifier: MIT
 *
 * Numbers between bounds, as digits.
 *
 *     27 to 415:   2[7-9] | [3-9][0-9]  |  [1-3][0-9]{2} | 4 (0[0-9] | 1[0-5])
 *
 * Ranges are split by the number of digits, and then digit by digit where they differ. A fraction
 * may follow a whole number that is not the upper bound, so decimal numbers need whole bounds.
 */
#include "grammar/schema_internal.h"

#include <math.h>
#include <stdio.h>

static uint32_t digit(schema *s, char lo, char hi) {
    gram_span span = {(uint8_t)lo, (uint8_t)hi};
    return gram_class(&s->rules, &span, 1, false);
}

static bool all(const char *digits, size_t n, char c) {
    for (size_t i = 0; i < n; i++)
        if (digits[i] != c) return false;
    return true;
}

/* n digits from lo to hi. */
static uint32_t same_length(schema *s, const char *lo, const char *hi, size_t n) {
    static const char zeros[] = "00000000000000000000", nines[] = "99999999999999999999";
    gram_rules *r = &s->rules;
    if (!n) return gram_empty(r);
    if (all(lo, n, '0') && all(hi, n, '9'))
        return gram_repeat(r, digit(s, '0', '9'), (uint32_t)n, (uint32_t)n);
    if (*lo == *hi) return gram_seq(r, digit(s, *lo, *lo), same_length(s, lo + 1, hi + 1, n - 1));
    const bool low = !all(lo + 1, n - 1, '0'), high = !all(hi + 1, n - 1, '9');
    const char first = (char)(*lo + low), last = (char)(*hi - high);
    uint32_t out = GRAM_NONE;
    if (low) out = gram_seq(r, digit(s, *lo, *lo), same_length(s, lo + 1, nines, n - 1));
    if (first <= last)
        out = gram_alt(r, out,
                       gram_seq(r, digit(s, first, last), same_length(s, zeros, nines, n - 1)));
    if (high)
        out =
            gram_alt(r, out, gram_seq(r, digit(s, *hi, *hi), same_length(s, zeros, hi + 1, n - 1)));
    return out;
}

/* Whole numbers from lo to hi, lo <= hi, of 19 digits at most. */
static uint32_t range(schema *s, uint64_t lo, uint64_t hi) {
    uint32_t out = GRAM_NONE;
    for (uint64_t first = lo;;) {
        char a[24], b[24];
        const size_t n = (size_t)snprintf(a, sizeof a, "%llu", (unsigned long long)first);
        uint64_t last = 9; /* of n digits */
        for (size_t i = 1; i < n; i++) last = last * 10 + 9;
        snprintf(b, sizeof b, "%llu", (unsigned long long)BASE_MIN(last, hi));
        out = gram_alt(&s->rules, out, same_length(s, a, b, n));
        if (last >= hi) return out;
        first = last + 1;
    }
}

typedef struct bounds {
    double lo, hi;         /* of any number; infinite where there are none */
    bool lo_open, hi_open; /* the bound itself is too small, or large */
} bounds;

/* From the keywords; *said: there are any. */
static rotor_status read_bounds(schema *s, const json_t *j, bounds *b, bool *said) {
    static const char *const keys[] = {"minimum", "exclusiveMinimum", "maximum",
                                       "exclusiveMaximum"};
    *b = (bounds){.lo = -INFINITY, .hi = INFINITY};
    *said = false;
    for (size_t i = 0; i < BASE_COUNT(keys); i++) {
        const json_t *value = json_object_get(j, keys[i]);
        const double x = json_number_value(value);
        if (!value) continue;
        *said = true;
        if (!json_is_number(value))
            return schema_fail(s, ROTOR_E_FORMAT, "%s is no number", keys[i]);
        if (fabs(x) > 9007199254740992.0) /* beyond, not every whole number is a double */
            return schema_fail(s, ROTOR_E_UNSUPPORTED, "%s is beyond 2^53", keys[i]);
        if (i < 2 ? x > b->lo || (x == b->lo && i == 1) : x < b->hi || (x == b->hi && i == 3)) {
            *(i < 2 ? &b->lo : &b->hi) = x;
            *(i < 2 ? &b->lo_open : &b->hi_open) = i % 2;
        }
    }
    return ROTOR_OK;
}

/* Only 1 can be kept to, and only whole numbers do. */
static rotor_status check_multiple(schema *s, const json_t *j, bool integer) {
    const json_t *value = json_object_get(j, "multipleOf");
    if (!value || (integer && json_is_number(value) && json_number_value(value) == 1))
        return ROTOR_OK;
    return schema_fail(s, ROTOR_E_UNSUPPORTED, "multipleOf is not supported");
}

/* ==== Integers ================================================================================ */

/* Whole numbers whose distance from zero is lo to hi; hi infinite: any above. */
static uint32_t magnitudes(schema *s, double lo, double hi) {
    static const uint64_t most = UINT64_C(9999999999999999999);
    if (lo > hi) return gram_nothing(&s->rules);
    return range(s, (uint64_t)lo, isinf(hi) ? most : (uint64_t)hi);
}

rotor_status schema_integer(schema *s, const json_t *j, uint32_t *out) {
    bounds b;
    bool said;
    ROTOR_TRY(check_multiple(s, j, true));
    ROTOR_TRY(read_bounds(s, j, &b, &said));
    if (!said) return *out = schema_rule(s, "integer"), ROTOR_OK;
    const double lo = b.lo_open ? floor(b.lo) + 1 : ceil(b.lo);
    const double hi = b.hi_open ? ceil(b.hi) - 1 : floor(b.hi);
    gram_rules *r = &s->rules;
    *out = gram_nothing(r);
    if (hi >= 0) *out = gram_alt(r, *out, magnitudes(s, BASE_MAX(lo, 0), hi));
    if (lo < 0)
        *out =
            gram_alt(r, *out, gram_seq(r, gram_cstr(r, "-"), magnitudes(s, BASE_MAX(-hi, 1), -lo)));
    return ROTOR_OK;
}

/* ==== Decimal numbers ========================================================================= */

/* ".", digits, not all of which are 0; or only zeros. */
static uint32_t fraction(schema *s, bool zero) {
    gram_rules *r = &s->rules;
    const uint32_t point = gram_cstr(r, ".");
    if (zero) return gram_seq(r, point, gram_repeat(r, gram_cstr(r, "0"), 1, 18));
    const uint32_t zeros = gram_repeat(r, gram_cstr(r, "0"), 0, 17);
    const uint32_t rest = gram_repeat(r, digit(s, '0', '9'), 0, 17);
    return gram_seq(r, gram_seq(r, gram_seq(r, point, zeros), digit(s, '1', '9')), rest);
}

/* Decimal numbers whose distance from zero is between the bounds, which are 0 or more. */
static uint32_t decimals(schema *s, bounds b) {
    gram_rules *r = &s->rules;
    uint32_t out = gram_nothing(r);
    if (b.lo > b.hi || (b.lo == b.hi && (b.lo_open || b.hi_open))) return out;
    const double first = b.lo_open ? b.lo + 1 : b.lo; /* whole numbers with any fraction … */
    const double past = b.hi;                         /* … below the last */
    if (b.lo_open)
        out = gram_alt(r, out, gram_seq(r, magnitudes(s, b.lo, b.lo), fraction(s, false)));
    if (first < past) {
        const uint32_t any = gram_alt(r, fraction(s, true), fraction(s, false));
        out = gram_alt(
            r, out,
            gram_seq(r, magnitudes(s, first, isinf(past) ? past : past - 1), gram_maybe(r, any)));
    }
    if (!isinf(b.hi) && !b.hi_open)
        out = gram_alt(r, out,
                       gram_seq(r, magnitudes(s, b.hi, b.hi), gram_maybe(r, fraction(s, true))));
    return out;
}

rotor_status schema_number(schema *s, const json_t *j, uint32_t *out) {
    bounds b;
    bool said;
    ROTOR_TRY(check_multiple(s, j, false));
    ROTOR_TRY(read_bounds(s, j, &b, &said));
    if (!said) return *out = schema_rule(s, "number"), ROTOR_OK;
    if ((!isinf(b.lo) && b.lo != floor(b.lo)) || (!isinf(b.hi) && b.hi != floor(b.hi)))
        return schema_fail(s, ROTOR_E_UNSUPPORTED,
                           "bounds of decimal numbers are whole numbers here");
    gram_rules *r = &s->rules;
    const bounds above = {BASE_MAX(b.lo, 0), b.hi, b.lo_open && b.lo >= 0, b.hi_open};
    const bounds below = {BASE_MAX(-b.hi, 0), -b.lo, b.hi_open && b.hi <= 0, b.lo_open};
    *out = gram_nothing(r);
    if (b.hi >= 0) *out = gram_alt(r, *out, decimals(s, above));
    if (b.lo < 0) *out = gram_alt(r, *out, gram_seq(r, gram_cstr(r, "-"), decimals(s, below)));
    return ROTOR_OK;
}
