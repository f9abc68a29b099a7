/* SPDX-License-Identifier: MIT
 *
 * The automaton against a matcher that shares nothing with it: random grammars as trees, which are
 * printed as GBNF for the one and followed by plain recursion over characters by the other. Then
 * its limits.
 */
#include "grammar_rig.h"

/* ==== A naive matcher ========================================================================= */

enum { MAX_PARTS = 200, N_RULES = 4, MAX_CHARS = 14 };

typedef enum sort { CHARS, SEQUENCE, CHOICE, REPEATED, CALLED } sort;

typedef struct part {
    sort kind;    /* says what the others are */
    unsigned set; /* CHARS: a bit for each letter */
    int a, b;     /* parts; CALLED: a rule */
    int min, max; /* REPEATED; max -1: any number */
} part;

typedef struct tree {
    part part[MAX_PARTS]; /* [n] */
    int n;                /* in use */
    int rule[N_RULES];    /* their parts; rule 0 is the root */
} tree;

static const char *const letters[] = {"a", "b", "\xC3\xA9", "\xC3\xA8", "\xE2\x82\xAC"};

/* Ends of what the part fits, from characters begin on, as bits; guarded against recursion without
 * reading by its depth. */
static unsigned ends_of(const tree *t, int at, const int *text, int n, int begin, int depth) {
    const part *p = &t->part[at];
    unsigned out = 0, now, next;
    if (depth > 60) return 0;
    switch (p->kind) {
    case CHARS:
        return begin < n && (p->set >> text[begin] & 1) ? 1u << (begin + 1) : 0;
    case SEQUENCE:
        now = ends_of(t, p->a, text, n, begin, depth + 1);
        for (int i = 0; i <= n; i++)
            if (now >> i & 1) out |= ends_of(t, p->b, text, n, i, depth + 1);
        return out;
    case CHOICE:
        return ends_of(t, p->a, text, n, begin, depth + 1) |
               ends_of(t, p->b, text, n, begin, depth + 1);
    case CALLED:
        return ends_of(t, t->rule[p->a], text, n, begin, depth + 1);
    default:
        break;
    }
    now = 1u << begin;
    for (int times = 0; times <= MAX_CHARS + 4; times++) {
        if (times >= p->min) out |= now;
        if (times == p->max) break;
        next = 0;
        for (int i = 0; i <= n; i++)
            if (now >> i & 1) next |= ends_of(t, p->a, text, n, i, depth + 1);
        now = next;
    }
    return out;
}

/* ==== Random grammars ========================================================================= */

static int grow(tree *t, base_rng *r, int depth) {
    part p = {.kind = depth ? (sort)base_rng_below(r, 5) : CHARS};
    if (t->n > MAX_PARTS / 2) p.kind = CHARS;
    if (p.kind == CHARS) p.set = 1 + base_rng_below(r, 31);
    if (p.kind == SEQUENCE || p.kind == CHOICE || p.kind == REPEATED) p.a = grow(t, r, depth - 1);
    if (p.kind == SEQUENCE || p.kind == CHOICE) p.b = grow(t, r, depth - 1);
    if (p.kind == CALLED) p.a = (int)base_rng_below(r, N_RULES);
    if (p.kind == REPEATED) {
        p.min = (int)base_rng_below(r, 3);
        p.max = base_rng_below(r, 2) ? -1 : p.min + (int)base_rng_below(r, 6);
    }
    t->part[t->n] = p;
    return t->n++;
}

static void print(const tree *t, int at, base_buf *out) {
    const part *p = &t->part[at];
    switch (p->kind) {
    case CHARS:
        base_buf_puts(out, "[");
        for (int i = 0; i < 5; i++)
            if (p->set >> i & 1) base_buf_puts(out, letters[i]);
        base_buf_puts(out, "]");
        return;
    case CALLED:
        base_buf_puts(out, p->a ? "" : "root");
        if (p->a) base_buf_printf(out, "r%d", p->a);
        return;
    default:
        break;
    }
    base_buf_puts(out, "(");
    print(t, p->a, out);
    if (p->kind != REPEATED) {
        base_buf_puts(out, p->kind == CHOICE ? " | " : " ");
        print(t, p->b, out);
    }
    base_buf_puts(out, ")");
    if (p->kind == REPEATED && p->max < 0) base_buf_printf(out, "{%d,}", p->min);
    if (p->kind == REPEATED && p->max >= 0) base_buf_printf(out, "{%d,%d}", p->min, p->max);
}

static char *gbnf_of(const tree *t) {
    base_buf b = {0};
    for (int i = 0; i < N_RULES; i++) {
        if (i)
            base_buf_printf(&b, "r%d ::= ", i);
        else
            base_buf_puts(&b, "root ::= ");
        print(t, t->rule[i], &b);
        base_buf_puts(&b, "\n");
    }
    assert_false(b.failed);
    return b.data;
}

/* A text that goes on while it lives, with a wrong letter now and then. Returns its length; -1: it
 * needs more states than there may be. */
static int draw_text(grammar_masks *m, base_rng *r, int *text) {
    uint32_t state = grammar_start(m);
    int n = 0;
    const int wanted = (int)base_rng_below(r, MAX_CHARS + 1);
    while (n < wanted) {
        uint32_t next = GRAMMAR_DEAD;
        for (int tries = 0; tries < 8 && next == GRAMMAR_DEAD; tries++) {
            text[n] = (int)base_rng_below(r, 5);
            if (grammar_put(m, state, base_str_of(letters[text[n]]), &next, NULL) != ROTOR_OK)
                return -1;
        }
        n++;
        if (next == GRAMMAR_DEAD) break;
        state = next;
    }
    return n;
}

static void agrees_with_plain_recursion(void **state) {
    (void)state;
    base_rng r;
    int n_read = 0, n_yes = 0, n_full = 0;
    base_rng_seed(&r, 7);
    for (int i = 0; i < 3000; i++) {
        tree t = {.n = 0};
        for (int k = 0; k < N_RULES; k++) t.rule[k] = grow(&t, &r, 3);
        char *gbnf = gbnf_of(&t);
        grammar *g = NULL;
        if (grammar_from_gbnf(&g, base_str_of(gbnf), NULL) == ROTOR_OK) {
            const grammar_limits small = {.state_bytes = 1 << 20};
            grammar_masks *m = NULL;
            assert_int_equal(grammar_masks_create(&m, g, NULL, &small, NULL), ROTOR_OK);
            n_read++;
            for (int k = 0; k < 12; k++) {
                int text[MAX_CHARS + 1];
                const int n = draw_text(m, &r, text);
                if (n < 0) { /* a grammar of very many meanings */
                    n_full++;
                    break;
                }
                base_buf bytes = {0};
                for (int c = 0; c < n; c++) base_buf_puts(&bytes, letters[text[c]]);
                const bool want = ends_of(&t, t.rule[0], text, n, 0, 0) >> n & 1;
                const bool got = judge(m, (base_str){bytes.data, bytes.len}) == ENDS;
                if (got != want)
                    fail_msg("'%.*s' is %s by\n%s", (int)bytes.len, bytes.data ? bytes.data : "",
                             want ? "right" : "wrong", gbnf);
                n_yes += want;
                base_buf_free(&bytes);
            }
            grammar_masks_free(&m);
        }
        grammar_free(&g);
        base_free(gbnf);
    }
    /* Enough of both to mean something. */
    if (n_read < 700 || n_yes < 1500 || n_full > n_read / 20)
        fail_msg("%d grammars, %d texts, %d too ambiguous", n_read, n_yes, n_full);
}

/* Nothing that lives is a dead end. */
static void what_lives_can_end(void **state) {
    (void)state;
    grammar *g =
        read_gbnf("root ::= v\nv ::= \"(\" v \")\" | \"[\" (v (\",\" v){0,3})? \"]\" | [0-9]{1,4}"
                  " | \"<\" trap\ntrap ::= \"x\" trap");
    grammar_masks *m = masks_for(g, NULL);
    base_rng r;
    base_rng_seed(&r, 3);
    for (int i = 0; i < 200; i++) {
        uint32_t at = grammar_start(m);
        int steps = 0;
        for (; steps < 4000 && !(grammar_may_end(m, at) && base_rng_below(&r, 2)); steps++) {
            uint32_t next = GRAMMAR_DEAD;
            char c[2] = "";
            for (int tries = 0; tries < 4000 && next == GRAMMAR_DEAD; tries++) {
                static const char bytes[] = ")]),]0123456789([x<"; /* more that closes */
                c[0] = bytes[base_rng_below(&r, sizeof bytes - 1)];
                assert_int_equal(grammar_put(m, at, base_str_of(c), &next, NULL), ROTOR_OK);
            }
            if (next == GRAMMAR_DEAD) {
                assert_true(grammar_may_end(m, at));
                break;
            }
            at = next;
        }
        assert_true(steps < 4000);
    }
    grammar_masks_free(&m);
    grammar_free(&g);
}

/* ==== States ================================================================================== */

static uint32_t after(grammar_masks *m, const char *text) {
    uint32_t state;
    assert_int_equal(grammar_put(m, grammar_start(m), base_str_of(text), &state, NULL), ROTOR_OK);
    return state;
}

static void equal_places_are_equal_states(void **state) {
    (void)state;
    grammar *g = read_gbnf("root ::= \"[\" (s (\",\" s)*)? \"]\"\ns ::= \"'\" [a-z]* \"'\" | root");
    grammar_masks *m = masks_for(g, NULL);
    assert_int_equal(after(m, "['a"), after(m, "['abc','x',[],'defg"));
    assert_int_equal(after(m, "[['a'"), after(m, "['x',['a','b'"));
    assert_int_not_equal(after(m, "['a"), after(m, "[['a"));
    const size_t before = grammar_count(m).n_configs;
    base_buf deep = {0};
    for (int i = 0; i < 3000; i++) base_buf_puts(&deep, "['ab',");
    assert_int_not_equal(after(m, deep.data), GRAMMAR_DEAD);
    assert_true(grammar_count(m).n_configs < before + 20); /* depth makes no new ones */
    base_buf_free(&deep);
    grammar_masks_free(&m);
    grammar_free(&g);
}

static void ambiguity_is_bounded(void **state) {
    (void)state;
    grammar *g = read_gbnf("root ::= \"x\" root \"y\" | \"x\" root \"z\" | \"\"");
    grammar_masks *m = NULL;
    rotor_error err = {0};
    uint32_t at = 0;
    const grammar_limits small = {.state_bytes = 4 << 20, .mask_bytes = 1 << 20};
    assert_int_equal(grammar_masks_create(&m, g, NULL, &small, &err), ROTOR_OK);
    uint32_t state_now = grammar_start(m);
    rotor_status status = ROTOR_OK;
    for (int i = 0; i < 60 && status == ROTOR_OK; i++) {
        status = grammar_put(m, state_now, base_str_of("x"), &at, &err);
        if (status == ROTOR_OK) state_now = at;
    }
    assert_int_equal(status, ROTOR_E_FULL);
    assert_non_null(strstr(err.message, "ambiguous"));
    assert_true(grammar_count(m).state_bytes <= small.state_bytes);
    assert_int_equal(judge(m, base_str_of("xy")), ENDS); /* what is known stays known */
    grammar_masks_free(&m);
    grammar_free(&g);
}

/* Every letter looks at thousands of places, and the states never repeat. */
static void looking_is_bounded(void **state) {
    (void)state;
    base_buf text = {0};
    base_buf_puts(&text, "root ::= [a-z]* (");
    for (int c = 'a'; c <= 'z'; c++)
        base_buf_printf(&text, "%s\"%c\" y{16}", c == 'a' ? "" : " | ", c);
    base_buf_puts(&text, ")\ny ::= [a-z] e\ne ::= \"\"");
    for (int i = 0; i < 1500; i++) base_buf_puts(&text, " | \"\"");
    assert_false(text.failed);
    grammar *g = read_gbnf(text.data);
    grammar_masks *m = masks_for(g, NULL);
    rotor_error err = {0};
    base_rng r;
    base_rng_seed(&r, 5);
    uint32_t at = grammar_start(m);
    rotor_status status = ROTOR_OK;
    const uint64_t start = base_thread_cpu_us();
    for (int i = 0; i < 10000 && status == ROTOR_OK; i++) {
        const char letter = (char)('a' + base_rng_below(&r, 26));
        status = grammar_put(m, at, (base_str){&letter, 1}, &at, &err);
    }
    const uint64_t us = base_thread_cpu_us() - start;
    assert_int_equal(status, ROTOR_E_FULL);
    assert_non_null(strstr(err.message, "ambiguous"));
    assert_true(us < 10 * 1000000);
    assert_int_equal(at, GRAMMAR_UNKNOWN); /* which remembers why */
    assert_false(grammar_may_end(m, at));
    err = (rotor_error){0};
    grammar_allowed a;
    assert_int_equal(grammar_allow(m, at, &a, &err), ROTOR_E_FULL);
    assert_non_null(strstr(err.message, "ambiguous"));
    assert_int_equal(grammar_put(m, at, base_str_of("a"), &at, &err), ROTOR_E_FULL);
    grammar_masks_free(&m);
    grammar_free(&g);
    base_buf_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_plain_recursion),
        cmocka_unit_test(what_lives_can_end),
        cmocka_unit_test(equal_places_are_equal_states),
        cmocka_unit_test(ambiguity_is_bounded),
        cmocka_unit_test(looking_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
