/* SPDX-License-Identifier: MIT
 *
 * Normalising steps: replacements, spaces, a precompiled map; those that ask what a character is
 * are in unicode_steps.c. Bytes that are not UTF-8 pass through unchanged.
 */
#include "text/text_internal.h"

static bool replace_runs(const text_step *step, base_str in, base_buf *out) {
    for (size_t i = 0; i < in.n;) {
        size_t start = i;
        while (i < in.n && in.p[i] == step->a[0]) i++;
        bool ok = i - start > 1 ? base_buf_append(out, step->b, step->b_n)
                                : base_buf_append(out, in.p + start, i - start);
        start = i;
        while (i < in.n && in.p[i] != step->a[0]) i++;
        if (!ok || !base_buf_append(out, in.p + start, i - start)) return false;
    }
    return true;
}

static bool replace_literal(const text_step *step, base_str in, base_buf *out) {
    size_t done = 0;
    for (size_t i = 0; step->a_n && i + step->a_n <= in.n;) {
        const char *hit = memchr(in.p + i, step->a[0], in.n - step->a_n + 1 - i);
        if (!hit) break;
        i = (size_t)(hit - in.p);
        if (memcmp(hit, step->a, step->a_n) != 0) {
            i++;
            continue;
        }
        if (!base_buf_append(out, in.p + done, i - done) ||
            !base_buf_append(out, step->b, step->b_n))
            return false;
        done = i += step->a_n;
    }
    return base_buf_append(out, in.p + done, in.n - done);
}

static rotor_status replace_regex(text_run *r, const text_step *step, base_str in, base_buf *out) {
    size_t done = 0;
    while (done < in.n) {
        bool found;
        size_t start, end;
        ROTOR_TRY(text_regex_next(step->re, &r->regex, in, done, &found, &start, &end, r->err));
        if (!found) break;
        base_buf_append(out, in.p + done, start - done);
        base_buf_append(out, step->b, step->b_n);
        done = end;
    }
    base_buf_append(out, in.p + done, in.n - done);
    return ROTOR_OK;
}

static base_str stripped(base_str in, bool left, bool right) {
    size_t start = left ? text_class_run(in.p, in.n, 0, CH_SPACE) : 0, end = start;
    if (!right) return (base_str){in.p + start, in.n - start};
    for (size_t i = start; i < in.n;) {
        unsigned cls;
        i += text_char(in.p, in.n, i, &cls);
        if (!(cls & CH_SPACE)) end = i;
    }
    return (base_str){in.p + start, end - start};
}

static bool squeeze(base_str in, base_buf *out) {
    while (in.n && in.p[in.n - 1] == ' ') in.n--;
    for (size_t i = 0; i < in.n;) {
        size_t start = i;
        while (i < in.n && in.p[i] == ' ') i++;
        if (i > start && start && !base_buf_puts(out, " ")) return false;
        start = i;
        while (i < in.n && in.p[i] != ' ') i++;
        if (!base_buf_append(out, in.p + start, i - start)) return false;
    }
    return true;
}

static bool prepend(const text_step *step, base_str in, base_buf *out) {
    return !in.n || (base_buf_append(out, step->a, step->a_n) && base_buf_append(out, in.p, in.n));
}

rotor_status text_normalize_step(text_run *r, const text_step *step, base_str in, base_buf *out) {
    base_str part;
    switch (step->kind) {
    case STEP_NFC:
    case STEP_NFD:
    case STEP_NFKC:
    case STEP_NFKD:
    case STEP_LOWER:
    case STEP_STRIP_ACCENTS:
    case STEP_BERT_CLEAN:
        ROTOR_TRY(text_unicode_step(step, in, out, r->err));
        break;
    case STEP_REPLACE:
        if (step->flags & 1)
            replace_runs(step, in, out);
        else
            replace_literal(step, in, out);
        break;
    case STEP_REPLACE_REGEX:
        ROTOR_TRY(replace_regex(r, step, in, out));
        break;
    case STEP_PREPEND:
        prepend(step, in, out);
        break;
    case STEP_STRIP:
        part = stripped(in, step->flags & 1, step->flags & 2);
        base_buf_append(out, part.p, part.n);
        break;
    case STEP_SQUEEZE:
        squeeze(in, out);
        break;
    case STEP_CHARSMAP:
        text_charsmap_apply(step->map, in, out);
        break;
    default:
        break;
    }
    return out->failed ? base_fail_nomem(r->err, "normalising text") : ROTOR_OK;
}
