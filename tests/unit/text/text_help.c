/* SPDX-License-Identifier: MIT
 *
 * Helpers of the tokenizer tests. The GGUF reader here knows only the vocabulary keys and trusts
 * its input; the real one lives in another room.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "plain_spec.h"
#include "text_help.h"

static bool read_file(const char *path, base_buf *out) {
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    *out = (base_buf){0};
    base_buf_append(out, "", 0);
    for (size_t n; base_buf_reserve(out, 65536) && (n = fread(out->data + out->len, 1, 65536, f));)
        out->len += n;
    out->data[out->len] = 0;
    fclose(f);
    return !out->failed;
}

base_str help_str(const base_buf *b) { return (base_str){b->data, b->len}; }

base_buf help_fixture(const char *name) {
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    char path[1024];
    base_buf b = {0};
    snprintf(path, sizeof path, "%s/tests/data/text/%s", root ? root : ".", name);
    if (!read_file(path, &b)) fail_msg("cannot read %s", path);
    return b;
}

bool help_data(const char *name, base_buf *out) {
    const char *root = getenv("ROTOR_TEST_DATA");
    char path[1024];
    snprintf(path, sizeof path, "%s/vocab/%s", root ? root : "", name);
    return root && *root && read_file(path, out);
}

static text_spec empty_spec(void) {
    text_spec s = plain_spec(TEXT_BPE);
    s.add_bos = s.add_eos = s.add_space_prefix = -1;
    return s;
}

static text_vocab *create(const text_spec *s) {
    rotor_error err = {0};
    text_vocab *v = NULL;
    if (text_vocab_create(&v, s, &err)) fail_msg("%s", err.message);
    return v;
}

/* ==== Fixtures ================================================================================ */

typedef struct tokens {
    base_str *text; /* [n] */
    float *score;   /* [n] */
    int32_t *type;  /* [n] */
    size_t n;       /* tokens */
} tokens;

static tokens tokens_new(size_t n) {
    return (tokens){calloc(n, sizeof(base_str)), calloc(n, sizeof(float)),
                    calloc(n, sizeof(int32_t)), n};
}

static void tokens_free(tokens *t) {
    free(t->text);
    free(t->score);
    free(t->type);
}

static uint32_t u32_at(const char *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

text_vocab *help_vocab(const char *name, text_model model) {
    char file[128];
    snprintf(file, sizeof file, "%s.vocab", name);
    base_buf b = help_fixture(file);
    tokens t = tokens_new(u32_at(b.data));
    text_spec s = empty_spec();
    s.charsmap = (base_str){b.data + 8, u32_at(b.data + 4)};
    const char *p = s.charsmap.p + s.charsmap.n;
    for (size_t i = 0; i < t.n; i++) {
        uint16_t n;
        t.type[i] = (uint8_t)p[0];
        memcpy(&t.score[i], p + 1, 4);
        memcpy(&n, p + 5, 2);
        t.text[i] = (base_str){p + 7, n};
        p += 7 + n;
    }
    s.model = model;
    s.tokens = t.text;
    s.scores = t.score;
    s.types = t.type;
    s.n_tokens = t.n;
    s.remove_extra_whitespaces = model == TEXT_UNIGRAM;
    text_vocab *v = create(&s);
    tokens_free(&t);
    base_buf_free(&b);
    return v;
}

/* The 256 byte tokens come first, in the order of their printable characters. */
static void gpt2_bytes(char out[256][4], base_str *text) {
    size_t at = 0;
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t b = 0, next = 0x100; b < 256; b++) {
            bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
            uint32_t cp = printable ? b : next++;
            if (printable != (pass == 0)) continue;
            text[at] = (base_str){out[at], (size_t)base_utf8_encode(cp, out[at])};
            at++;
        }
}

text_vocab *help_gpt2(void) {
    base_buf b = help_fixture("gpt2.merges");
    static char bytes[256][4];
    tokens t = tokens_new(50257);
    base_str *merges = calloc(50000, sizeof *merges);
    char *joined = malloc(b.len), *w = joined, *p = b.data;
    if (strncmp(p, "#version", 8) == 0) p = strchr(p, '\n') + 1;
    gpt2_bytes(bytes, t.text);
    for (size_t i = 0; i < 50000; i++) {
        char *end = strchr(p, '\n'), *space = strchr(p + 1, ' ');
        merges[i] = (base_str){p, (size_t)(end - p)};
        t.text[256 + i] = (base_str){w, merges[i].n - 1};
        memcpy(w, p, (size_t)(space - p));
        memcpy(w + (space - p), space + 1, (size_t)(end - space - 1));
        w += merges[i].n - 1;
        p = end + 1;
    }
    for (size_t i = 0; i < 50256; i++) t.type[i] = TEXT_NORMAL;
    t.text[50256] = base_str_of("<|endoftext|>");
    t.type[50256] = TEXT_CONTROL;
    text_spec s = empty_spec();
    s.model = TEXT_BPE;
    s.pre = base_str_of("gpt-2");
    s.tokens = t.text;
    s.types = t.type;
    s.n_tokens = t.n;
    s.merges = merges;
    s.n_merges = 50000;
    s.bos = s.eos = 50256;
    text_vocab *v = create(&s);
    free(merges);
    free(joined);
    tokens_free(&t);
    base_buf_free(&b);
    return v;
}

text_vocab *help_json(const char *name) {
    char file[128];
    snprintf(file, sizeof file, "%s.json", name);
    base_buf b = help_fixture(file);
    rotor_error err = {0};
    text_vocab *v = NULL;
    if (text_vocab_from_json(&v, help_str(&b), (base_str){0}, NULL, &err))
        fail_msg("%s: %s", file, err.message);
    base_buf_free(&b);
    return v;
}

static text_vocab *from_ranks(const char *file, const char *pre, const char *const *names, size_t n,
                              uint32_t first) {
    base_buf b;
    base_str specials[4];
    rotor_error err = {0};
    text_vocab *v = NULL;
    if (!help_data(file, &b)) return NULL;
    for (size_t i = 0; i < n; i++) specials[i] = base_str_of(names[i]);
    if (text_vocab_from_ranks(&v, help_str(&b), base_str_of(pre), specials, n, first, &err))
        fail_msg("%s: %s", file, err.message);
    base_buf_free(&b);
    return v;
}

text_vocab *help_llama3(void) {
    static const char *const specials[] = {"<|begin_of_text|>", "<|end_of_text|>"};
    return from_ranks("llama3_tokenizer.model", "llama-bpe", specials, 2, 128000);
}

text_vocab *help_o200k(void) {
    static const char *const specials[] = {"<|startoftext|>", "<|endoftext|>"};
    return from_ranks("o200k_base.tiktoken", "gpt-4o", specials, 2, 199998);
}

static base_str printable(base_str bytes, base_buf *out) {
    size_t start = out->len;
    for (size_t i = 0; i < bytes.n; i++) {
        uint8_t b = (uint8_t)bytes.p[i];
        uint32_t cp = b;
        char c[4];
        if (b <= 0x20)
            cp = 0x100u + b;
        else if (b >= 0x7F && b <= 0xA0)
            cp = 0x121u + b - 0x7F;
        else if (b == 0xAD)
            cp = 0x143;
        base_buf_append(out, c, (size_t)base_utf8_encode(cp, c));
    }
    return (base_str){out->data + start, out->len - start};
}

/* Every way to cut a token into two tokens, tokens in order, cuts by the ranks of the halves. */
static size_t add_cuts(const text_vocab *v, uint32_t id, base_str *merges, base_buf *text) {
    base_str t = text_token(v, id);
    uint64_t cuts[128];
    size_t n = 0;
    for (size_t i = 1; i < t.n && n < BASE_COUNT(cuts); i++) {
        uint32_t a = text_find(v, (base_str){t.p, i}),
                 b = text_find(v, (base_str){t.p + i, t.n - i});
        if (a != TEXT_NO_ID && b != TEXT_NO_ID) cuts[n++] = (uint64_t)a << 32 | b;
        for (size_t k = n; k > 1 && cuts[k - 1] < cuts[k - 2]; k--) {
            uint64_t swap = cuts[k - 1];
            cuts[k - 1] = cuts[k - 2];
            cuts[k - 2] = swap;
        }
    }
    for (size_t k = 0; k < n; k++) {
        size_t start = text->len;
        printable(text_token(v, (uint32_t)(cuts[k] >> 32)), text);
        base_buf_puts(text, " ");
        printable(text_token(v, (uint32_t)cuts[k]), text);
        merges[k] = (base_str){text->data + start, text->len - start};
    }
    return n;
}

text_vocab *help_llama3_merges(size_t *n_merges, uint64_t *load_us) {
    text_vocab *ranks = help_llama3(), *v;
    if (!ranks) return NULL;
    base_buf text = {0};
    base_buf_reserve(&text, 32 << 20); /* slices point into it, so it must not move */
    tokens t = tokens_new(text_n_tokens(ranks));
    base_str *merges = calloc(400000, sizeof *merges);
    *n_merges = 0;
    for (uint32_t id = 0; id < t.n; id++) {
        bool special = text_type(ranks, id) == TEXT_CONTROL;
        t.type[id] = (int32_t)text_type(ranks, id);
        t.text[id] = special ? text_token(ranks, id) : printable(text_token(ranks, id), &text);
        if (!special) *n_merges += add_cuts(ranks, id, merges + *n_merges, &text);
    }
    text_spec s = empty_spec();
    s.pre = base_str_of("llama-bpe");
    s.tokens = t.text;
    s.types = t.type;
    s.n_tokens = t.n;
    s.merges = merges;
    s.n_merges = *n_merges;
    *load_us = base_now_us();
    v = create(&s);
    *load_us = base_now_us() - *load_us;
    text_vocab_free(&ranks);
    base_buf_free(&text);
    free(merges);
    tokens_free(&t);
    return v;
}

/* ==== GGUF ==================================================================================== */

enum { GGUF_STRING = 8, GGUF_ARRAY = 9 };

static uint64_t take(const char **p, size_t n) {
    uint64_t x = 0;
    memcpy(&x, *p, n);
    *p += n;
    return x;
}

static base_str take_str(const char **p) {
    size_t n = (size_t)take(p, 8);
    base_str s = {*p, n};
    *p += n;
    return s;
}

static size_t scalar_bytes(uint64_t type) {
    static const uint8_t bytes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

typedef struct gguf_vocab {
    text_spec spec;   /* being filled */
    base_str *merges; /* owned */
    tokens t;         /* owned */
} gguf_vocab;

static void take_array(gguf_vocab *g, base_str key, const char **p) {
    uint64_t type = take(p, 4), n = take(p, 8);
    if (!g->t.n && base_str_is(key, "tokenizer.ggml.tokens")) g->t = tokens_new(n);
    if (base_str_is(key, "tokenizer.ggml.merges")) {
        g->merges = calloc(n, sizeof *g->merges);
        g->spec.n_merges = n;
    }
    if (base_str_is(key, "tokenizer.ggml.scores")) g->spec.scores = g->t.score;
    if (base_str_is(key, "tokenizer.ggml.token_type")) g->spec.types = g->t.type;
    for (uint64_t i = 0; i < n; i++) {
        base_str s = {0};
        uint64_t x = 0;
        if (type == GGUF_STRING)
            s = take_str(p);
        else
            x = take(p, scalar_bytes(type));
        if (base_str_is(key, "tokenizer.ggml.tokens")) g->t.text[i] = s;
        if (base_str_is(key, "tokenizer.ggml.merges")) g->merges[i] = s;
        if (base_str_is(key, "tokenizer.ggml.scores")) memcpy(&g->t.score[i], &x, 4);
        if (base_str_is(key, "tokenizer.ggml.token_type")) g->t.type[i] = (int32_t)x;
    }
}

static void take_scalar(text_spec *s, base_str key, uint64_t x) {
    struct {
        const char *key;
        uint32_t *id;
    } ids[] = {{"bos_token_id", &s->bos},     {"eos_token_id", &s->eos},
               {"unknown_token_id", &s->unk}, {"seperator_token_id", &s->sep},
               {"padding_token_id", &s->pad}, {"cls_token_id", &s->cls},
               {"mask_token_id", &s->mask}};
    const size_t front = strlen("tokenizer.ggml.");
    if (key.n < front || memcmp(key.p, "tokenizer.ggml.", front) != 0) return;
    base_str tail = {key.p + front, key.n - front};
    for (size_t i = 0; i < BASE_COUNT(ids); i++)
        if (base_str_is(tail, ids[i].key)) *ids[i].id = (uint32_t)x;
    if (base_str_is(tail, "add_bos_token")) s->add_bos = x != 0;
    if (base_str_is(tail, "add_eos_token")) s->add_eos = x != 0;
}

static text_model model_called(base_str name) {
    if (base_str_is(name, "llama")) return TEXT_SPM;
    return base_str_is(name, "bert") ? TEXT_WORDPIECE : TEXT_BPE;
}

text_vocab *help_gguf(const char *name) {
    char file[256];
    base_buf b;
    snprintf(file, sizeof file, "llama.cpp/ggml-vocab-%s.gguf", name);
    if (!help_data(file, &b)) return NULL;
    gguf_vocab g = {.spec = empty_spec()};
    const char *p = b.data + 16;
    for (uint64_t n = take(&p, 8), i = 0; i < n; i++) {
        base_str key = take_str(&p), value = {0};
        uint64_t type = take(&p, 4);
        if (type == GGUF_ARRAY)
            take_array(&g, key, &p);
        else if (type == GGUF_STRING)
            value = take_str(&p);
        else
            take_scalar(&g.spec, key, take(&p, scalar_bytes(type)));
        if (base_str_is(key, "tokenizer.ggml.model")) g.spec.model = model_called(value);
        if (base_str_is(key, "tokenizer.ggml.pre")) g.spec.pre = value;
    }
    g.spec.tokens = g.t.text;
    g.spec.n_tokens = g.t.n;
    g.spec.merges = g.merges;
    text_vocab *v = create(&g.spec);
    free(g.merges);
    tokens_free(&g.t);
    base_buf_free(&b);
    return v;
}

/* ==== Random strings ========================================================================== */

enum { MAX_GROUPS = 32, MAX_ATOMS = 64 };

struct help_atoms {
    char *atom[MAX_GROUPS][MAX_ATOMS]; /* owned */
    uint32_t n[MAX_GROUPS];            /* atoms of each group */
    uint32_t n_groups;                 /* groups */
};

static char *hex_atom(const char *item) {
    base_buf b = {0};
    for (const char *p = item; *p;) {
        char *end, bytes[4];
        uint32_t cp = (uint32_t)strtoul(p, &end, 16);
        base_buf_append(&b, bytes, (size_t)base_utf8_encode(cp, bytes));
        p = *end ? end + 1 : end;
    }
    return b.data;
}

help_atoms *help_atoms_read(void) {
    help_atoms *a = calloc(1, sizeof *a);
    base_buf b = help_fixture("atoms.txt");
    char *line_end, *item_end;
    for (char *line = strtok_r(b.data, "\n", &line_end); line;
         line = strtok_r(NULL, "\n", &line_end)) {
        uint32_t g = a->n_groups++;
        bool hex = *line == 'x';
        for (char *item = strtok_r(line + 2, " ", &item_end); item;
             item = strtok_r(NULL, " ", &item_end))
            a->atom[g][a->n[g]++] = hex ? hex_atom(item) : base_strdup(item);
    }
    base_buf_free(&b);
    return a;
}

void help_atoms_free(help_atoms *a) {
    for (uint32_t g = 0; g < a->n_groups; g++)
        for (uint32_t i = 0; i < a->n[g]; i++) base_free(a->atom[g][i]);
    free(a);
}

static uint32_t below(uint64_t *x, uint32_t n) {
    uint64_t z = (*x += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (uint32_t)((z >> 32) % n);
}

void help_random_string(const help_atoms *a, uint64_t seed, base_buf *out) {
    base_buf_reset(out);
    base_buf_append(out, "", 0);
    for (uint32_t n = below(&seed, 25); n > 0; n--) {
        uint32_t g = below(&seed, a->n_groups);
        base_buf_puts(out, a->atom[g][below(&seed, a->n[g])]);
    }
}

uint32_t help_fnv(const uint32_t *ids, size_t n) {
    uint32_t h = 0x811C9DC5u;
    for (size_t i = 0; i < 4 * n; i++) h = (h ^ (ids[i / 4] >> 8 * (i % 4) & 255)) * 0x01000193u;
    return h;
}

uint32_t help_hash_at(const base_buf *hashes, size_t i) { return u32_at(hashes->data + 4 * i); }

text_ids help_encode(const text_vocab *v, base_str text, unsigned flags) {
    text_ids ids = {0};
    rotor_error err = {0};
    if (text_encode(v, text, flags, &ids, &err)) fail_msg("%s", err.message);
    return ids;
}
