/* SPDX-License-Identifier: MIT
 *
 * Expressions of a tokenizer.json that no hand scanner covers, run by PCRE2.
 *
 * The files are written for Oniguruma or Rust's regex crate. Three differences matter and are
 * bridged or refused here: \s means White_Space (PCRE2's differs by U+180E), ^ and $ match at
 * lines, and "&&" inside brackets (set intersection) does not exist in PCRE2, where it would
 * silently mean something else. Match and heap limits bound what a hostile expression can cost.
 * Bytes that are not UTF-8 are never part of a match.
 */
#include "text/text_internal.h"

#ifdef ROTOR_HAVE_PCRE2

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MATCH_LIMIT = 10000000, HEAP_LIMIT_KIB = 65536, JIT_STACK_BYTES = 4 << 20 };

struct text_regex {
    pcre2_general_context *memory; /* base_alloc and base_free, owned */
    pcre2_code *code;              /* owned, immutable after compilation */
    char *pattern;                 /* as published, for messages; owned */
};

struct text_regex_scratch {
    pcre2_general_context *memory; /* owned */
    pcre2_match_data *data;        /* owned */
    pcre2_match_context *context;  /* limits, owned */
    pcre2_jit_stack *stack;        /* owned */
};

static void *take(size_t n, void *user) { return (void)user, base_alloc(n); }
static void give(void *p, void *user) {
    (void)user;
    base_free(p);
}

/* The White_Space property as members of a class. */
static const char white[] = "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
                            "\\x{202f}\\x{205f}\\x{3000}";

/* Rewrites \s and \S; false when the expression uses what PCRE2 reads differently. */
static bool translate(base_str in, base_buf *out) {
    bool in_class = false;
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i], d = i + 1 < in.n ? in.p[i + 1] : 0;
        if (c == '\\' && d) {
            if (d == 'h' || d == 'H' || d == 'R' || d == 'X') return false;
            if (d == 's')
                base_buf_printf(out, in_class ? "%s" : "[%s]", white);
            else if (d == 'S' && !in_class)
                base_buf_printf(out, "[^%s]", white);
            else
                base_buf_append(out, in.p + i, 2);
            i++;
            continue;
        }
        if (in_class && ((c == '&' && d == '&') || (c == '[' && d != ':'))) return false;
        if (c == '[') {
            in_class = true;
            base_buf_append(out, &c, 1);
            if (d == '^') base_buf_append(out, &in.p[++i], 1);
            if (i + 1 < in.n && in.p[i + 1] == ']') base_buf_append(out, &in.p[++i], 1);
            continue;
        }
        if (c == ']') in_class = false;
        base_buf_append(out, &c, 1);
    }
    return true;
}

static rotor_status compile(text_regex *re, base_str pattern, rotor_error *err) {
    int code, shown = (int)BASE_MIN(pattern.n, 120u);
    size_t at;
    base_buf b = {0};
    rotor_status st = ROTOR_OK;
    pcre2_compile_context *context = pcre2_compile_context_create(re->memory);
    if (!translate(pattern, &b)) {
        st = base_fail(err, ROTOR_E_UNSUPPORTED,
                       "tokenizer.json: the expression '%.*s' uses set operations or escapes that "
                       "PCRE2 reads differently",
                       shown, pattern.p);
        goto done;
    }
    if (!context || b.failed || !base_buf_reserve(&b, 1)) {
        st = base_fail_nomem(err, "compiling an expression");
        goto done;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    re->code = pcre2_compile((PCRE2_SPTR)b.data, b.len,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_MULTILINE |
                                 PCRE2_NEVER_BACKSLASH_C,
                             &code, &at, context);
    if (!re->code) {
        PCRE2_UCHAR why[120];
        pcre2_get_error_message(code, why, sizeof why);
        bool memory = code == PCRE2_ERROR_HEAP_FAILED;
        st = base_fail(err, memory ? ROTOR_E_NOMEM : ROTOR_E_FORMAT,
                       "tokenizer.json: the expression '%.*s' does not compile: %s", shown,
                       pattern.p, (const char *)why);
        goto done;
    }
    pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE); /* without it the interpreter runs */
done:
    pcre2_compile_context_free(context);
    base_buf_free(&b);
    return st;
}

rotor_status text_regex_compile(text_regex **out, base_str pattern, rotor_error *err) {
    text_regex *re = base_alloc(sizeof *re);
    rotor_status st = ROTOR_E_NOMEM;
    if (!re) return base_fail_nomem(err, "compiling an expression");
    re->memory = pcre2_general_context_create(take, give, NULL);
    re->pattern = base_strndup(pattern.p ? pattern.p : "", pattern.n);
    if (re->memory && re->pattern)
        st = compile(re, pattern, err);
    else
        base_fail_nomem(err, "compiling an expression");
    if (st) return text_regex_free(&re), st;
    *out = re;
    return ROTOR_OK;
}

void text_regex_free(text_regex **re) {
    if (!re || !*re) return;
    pcre2_code_free((*re)->code);
    pcre2_general_context_free((*re)->memory);
    base_free((*re)->pattern);
    base_free(*re);
    *re = NULL;
}

void text_regex_scratch_free(text_regex_scratch **scratch) {
    text_regex_scratch *s = scratch ? *scratch : NULL;
    if (!s) return;
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    pcre2_general_context_free(s->memory);
    base_free(s);
    *scratch = NULL;
}

static rotor_status scratch_create(text_regex_scratch **out, rotor_error *err) {
    text_regex_scratch *s = base_alloc(sizeof *s);
    if (!s) return base_fail_nomem(err, "running an expression");
    s->memory = pcre2_general_context_create(take, give, NULL);
    if (!s->memory) goto fail;
    s->data = pcre2_match_data_create(1, s->memory);
    s->context = pcre2_match_context_create(s->memory);
    s->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_BYTES, s->memory);
    if (!s->data || !s->context) goto fail;
    pcre2_set_match_limit(s->context, MATCH_LIMIT);
    pcre2_set_heap_limit(s->context, HEAP_LIMIT_KIB);
    if (s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    *out = s;
    return ROTOR_OK;
fail:
    text_regex_scratch_free(&s);
    return base_fail_nomem(err, "running an expression");
}

rotor_status text_regex_next(const text_regex *re, text_regex_scratch **scratch, base_str text,
                             size_t from, bool *found, size_t *start, size_t *end,
                             rotor_error *err) {
    if (!*scratch) ROTOR_TRY(scratch_create(scratch, err));
    text_regex_scratch *s = *scratch;
    *found = false;
    while (from < text.n) {
        int rc = pcre2_match(re->code, (PCRE2_SPTR)text.p, text.n, from, 0, s->data, s->context);
        if (rc == PCRE2_ERROR_NOMATCH) return ROTOR_OK;
        if (rc == PCRE2_ERROR_NOMEMORY) return base_fail_nomem(err, "running an expression");
        if (rc < 0)
            return base_fail(err, ROTOR_E_UNSUPPORTED,
                             "tokenizer: the expression '%.60s' took too long on a text of %zu "
                             "bytes (PCRE2 code %d)",
                             re->pattern, text.n, rc);
        const size_t *span = pcre2_get_ovector_pointer(s->data);
        if (span[1] > span[0]) {
            *start = span[0];
            *end = span[1];
            *found = true;
            return ROTOR_OK;
        }
        unsigned cls; /* an empty match is of no use: try after the next character */
        from = BASE_MAX(from, span[0]);
        from += from < text.n ? text_char(text.p, text.n, from, &cls) : 1;
    }
    return ROTOR_OK;
}

#else

rotor_status text_regex_compile(text_regex **out, base_str pattern, rotor_error *err) {
    (void)out;
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "tokenizer.json: the expression '%.*s' needs a build with PCRE2",
                     (int)BASE_MIN(pattern.n, 120u), pattern.p ? pattern.p : "");
}

void text_regex_free(text_regex **re) { (void)re; }
void text_regex_scratch_free(text_regex_scratch **scratch) { (void)scratch; }

rotor_status text_regex_next(const text_regex *re, text_regex_scratch **scratch, base_str text,
                             size_t from, bool *found, size_t *start, size_t *end,
                             rotor_error *err) {
    (void)re, (void)scratch, (void)text, (void)from, (void)found, (void)start, (void)end;
    return base_fail(err, ROTOR_E_UNSUPPORTED, "tokenizer: this build has no PCRE2");
}

#endif
