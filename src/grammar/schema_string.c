/* SPDX-License-Identifier: MIT
 *
 * Strings: of a length in characters, of a format, or by a pattern.
 */
#include "grammar/schema_internal.h"

static uint32_t quoted(gram_rules *r, uint32_t inside) {
    return gram_seq(r, gram_seq(r, gram_cstr(r, "\""), inside), gram_cstr(r, "\""));
}

static rotor_status write_format(schema *s, const char *format, uint32_t *out) {
    static const char *const known[] = {"date", "time", "date-time", "uuid", "ipv4"};
    for (size_t i = 0; format && i < BASE_COUNT(known); i++)
        if (strcmp(format, known[i]) == 0) return *out = schema_rule(s, format), ROTOR_OK;
    return schema_fail(s, ROTOR_E_UNSUPPORTED,
                       "format %.60s is not supported; there are date, time, date-time, uuid, ipv4",
                       format ? format : "(no text)");
}

rotor_status schema_string(schema *s, const json_t *j, uint32_t *out) {
    const json_t *format = json_object_get(j, "format"), *pattern = json_object_get(j, "pattern");
    uint32_t min = 0, max = GRAM_NONE, inside;
    ROTOR_TRY(schema_count(s, j, "minLength", &min));
    ROTOR_TRY(schema_count(s, j, "maxLength", &max));
    if ((format != NULL) + (pattern != NULL) + (min || max != GRAM_NONE) > 1)
        return schema_fail(s, ROTOR_E_UNSUPPORTED,
                           "only one of format, pattern and a length can be kept to");
    if (format) return write_format(s, json_string_value(format), out);
    if (pattern && !json_is_string(pattern))
        return schema_fail(s, ROTOR_E_FORMAT, "pattern is no text");
    if (pattern) {
        ROTOR_TRY(schema_regex(s, json_string_value(pattern), &inside));
        *out = quoted(&s->rules, inside);
    } else if (min > max) {
        *out = gram_nothing(&s->rules);
    } else if (!min && max == GRAM_NONE) {
        *out = schema_rule(s, "string");
    } else {
        *out = quoted(&s->rules, gram_repeat(&s->rules, schema_rule(s, "char"), min, max));
    }
    return ROTOR_OK;
}
