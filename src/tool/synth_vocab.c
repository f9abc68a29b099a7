/* SPDX-License-Identifier: MIT
 *
 * Vocabularies for made-up model files: byte-level BPE with the published number of tokens, merges
 * and special ids, either made up or taken from a file.
 *
 * Made-up tokens are the 256 bytes, then strings of the letters a-z in six groups:
 *   xy, _x, _xy, xyz, _xyz, wxyz   (_ is a space)
 * A string of n letters can be put together in n - 1 ways (one more with a space); as in published
 * files several of these ways are listed as merges. Letters run by frequency in English, so that
 * common pairs come first.
 *
 * A file of "base64 rank" lines gives the tokens by rank; merges are all pairs of tokens that join
 * to a token, ordered by the token and then by the pair, which is how published files were made
 * from ranks.
 */
#include "tool/synth.h"

#include "text/text.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_LETTERS = 4, N_LETTERS = 26, N_BYTES = 256 };

/* A growing list of strings kept in one buffer. */
typedef struct strings {
    base_buf text; /* one after another */
    size_t *end;   /* [n] end of each in text, owned */
    size_t n, cap; /* used, allocated */
} strings;

static bool push(strings *s, const char *p, size_t n_bytes) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 1024;
        size_t *more = base_realloc(s->end, cap * sizeof *more);
        if (!more) return false;
        s->end = more;
        s->cap = cap;
    }
    if (!base_buf_append(&s->text, p, n_bytes)) return false;
    s->end[s->n++] = s->text.len;
    return true;
}

static base_str at(const strings *s, size_t i) {
    size_t begin = i ? s->end[i - 1] : 0;
    return (base_str){s->text.data + begin, s->end[i] - begin};
}

static void free_strings(strings *s) {
    base_free(s->end);
    base_buf_free(&s->text);
}

typedef struct vocab {
    strings tokens; /* in file form (byte-level) */
    strings merges; /* "left right" */
} vocab;

/* ==== Bytes as printable characters =========================================================== */

static bool prints_itself(unsigned b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

/* The character that stands for byte b; out[2], returns its length. */
static int byte_text(unsigned b, char out[4]) {
    unsigned cp = b;
    if (!prints_itself(b)) {
        cp = 256;
        for (unsigned i = 0; i < b; i++) cp += !prints_itself(i);
    }
    return base_utf8_encode(cp, out);
}

static bool push_bytes(strings *s, const uint8_t *p, size_t n, const char *before) {
    base_buf b = {0};
    base_buf_puts(&b, before);
    for (size_t i = 0; i < n; i++) {
        char text[4];
        base_buf_append(&b, text, (size_t)byte_text(p[i], text));
    }
    bool ok = !b.failed && push(s, b.data, b.len);
    base_buf_free(&b);
    return ok;
}

static bool push_single_bytes(strings *s) {
    for (int round = 0; round < 2; round++)
        for (unsigned b = 0; b < N_BYTES; b++) {
            uint8_t byte = (uint8_t)b;
            if (prints_itself(b) == (round == 0) && !push_bytes(s, &byte, 1, "")) return false;
        }
    return true;
}

/* ==== Made-up tokens ========================================================================== */

typedef struct word {
    bool space;                /* starts with a space */
    int n;                     /* letters */
    char letters[MAX_LETTERS]; /* a-z */
} word;

/* Writes units [from, to) of a word, the space being unit 0 when there is one. */
static size_t units(const word *w, int from, int to, char *out) {
    size_t n = 0;
    for (int u = from; u < to; u++) {
        int letter = u - w->space;
        if (letter < 0)
            n += (size_t)byte_text(' ', out + n);
        else
            out[n++] = w->letters[letter];
    }
    return n;
}

static bool push_word(vocab *v, const word *w, int n_merges) {
    char text[2 * MAX_LETTERS + 4];
    int all = w->n + w->space;
    if (!push(&v->tokens, text, units(w, 0, all, text))) return false;
    for (int cut = 1; cut < all && cut <= n_merges; cut++) {
        size_t n = units(w, 0, cut, text);
        text[n++] = ' ';
        n += units(w, cut, all, text + n);
        if (!push(&v->merges, text, n)) return false;
    }
    return true;
}

static word nth_word(bool space, int n_letters, size_t index) {
    static const char by_frequency[] = "etaoinshrdlcumwfgypbvkjxqz";
    word w = {.space = space, .n = n_letters};
    for (int i = n_letters - 1; i >= 0; i--) {
        w.letters[i] = by_frequency[index % N_LETTERS];
        index /= N_LETTERS;
    }
    return w;
}

/* n_words tokens beyond the bytes with n_merges merges: as many ways of putting each together as
 * leave one for every token still to come. */
static rotor_status make_words(vocab *v, size_t n_words, size_t n_merges, rotor_error *err) {
    static const struct {
        bool space; /* group starts with a space */
        int n;      /* letters */
    } groups[] = {{false, 2}, {true, 1}, {true, 2}, {false, 3}, {true, 3}, {false, 4}};
    for (size_t g = 0; g < BASE_COUNT(groups) && n_words; g++) {
        size_t members = 1;
        for (int i = 0; i < groups[g].n; i++) members *= N_LETTERS;
        for (size_t i = 0; i < members && n_words; i++) {
            word w = nth_word(groups[g].space, groups[g].n, i);
            size_t ways = (size_t)(w.n + w.space - 1), spare = n_merges - n_words;
            size_t take = 1 + BASE_MIN(ways - 1, spare);
            if (!push_word(v, &w, (int)take)) return base_fail_nomem(err, "making a vocabulary");
            n_merges -= take;
            n_words--;
        }
    }
    return ROTOR_OK;
}

/* ==== Special tokens ========================================================================== */

/* Text of special token i of n and whether it is only padding. */
static bool special_text(const synth_vocab_plan *p, uint32_t i, char out[48]) {
    static const char *const llama3[] = {
        "<|begin_of_text|>",   "<|end_of_text|>",   NULL, NULL,        NULL, NULL,
        "<|start_header_id|>", "<|end_header_id|>", NULL, "<|eot_id|>"};
    static const char *const harmony[] = {"<|startoftext|>",
                                          "<|endoftext|>",
                                          NULL,
                                          NULL,
                                          "<|return|>",
                                          "<|constrain|>",
                                          NULL,
                                          "<|channel|>",
                                          "<|start|>",
                                          "<|end|>",
                                          "<|message|>",
                                          NULL,
                                          NULL,
                                          NULL,
                                          "<|call|>"};
    uint32_t id = p->n_vocab - p->n_special + i;
    if (p->kind == SYNTH_LLAMA3) {
        uint32_t n_named = 0;
        for (uint32_t k = 0; k < i && k < BASE_COUNT(llama3); k++) n_named += llama3[k] != NULL;
        if (i < BASE_COUNT(llama3) && llama3[i])
            snprintf(out, 48, "%s", llama3[i]);
        else
            snprintf(out, 48, "<|reserved_special_token_%u|>", i - n_named);
        return false;
    }
    if (i < BASE_COUNT(harmony) && harmony[i])
        snprintf(out, 48, "%s", harmony[i]);
    else if (i == 20)
        snprintf(out, 48, "<|endofprompt|>");
    else if (i > 20)
        snprintf(out, 48, "[PAD%u]", id);
    else
        snprintf(out, 48, "<|reserved_%u|>", id);
    return i > 20;
}

static rotor_status push_specials(vocab *v, const synth_vocab_plan *p, int32_t *types,
                                  rotor_error *err) {
    for (uint32_t i = 0; i < p->n_special; i++) {
        char text[48];
        size_t id = v->tokens.n;
        types[id] = special_text(p, i, text) ? TEXT_UNUSED : TEXT_CONTROL;
        if (!push(&v->tokens, text, strlen(text)))
            return base_fail_nomem(err, "making a vocabulary");
    }
    return ROTOR_OK;
}

/* ==== Ranks =================================================================================== */

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Appends the bytes of a base64 word; false when it is malformed. */
static bool base64_decode(const char *p, size_t n, base_buf *out) {
    uint32_t bits = 0;
    int n_bits = 0;
    while (n && p[n - 1] == '=') n--;
    for (size_t i = 0; i < n; i++) {
        int d = base64_digit(p[i]);
        if (d < 0) return false;
        bits = (bits << 6 | (uint32_t)d) & 0xFFFFFF;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        char byte = (char)(bits >> n_bits);
        base_buf_append(out, &byte, 1);
    }
    return true;
}

/* Raw bytes of each rank, in order. Lines must be in rank order from 0, as published. */
static rotor_status read_ranks(strings *raw, base_str text, const char *path, rotor_error *err) {
    base_buf token = {0};
    rotor_status st = ROTOR_OK;
    for (size_t i = 0, line = 1; i < text.n && st == ROTOR_OK; line++) {
        const char *p = text.p + i;
        const char *end = memchr(p, '\n', text.n - i);
        size_t n = end ? (size_t)(end - p) : text.n - i;
        i += n + 1;
        if (n == 0) continue;
        const char *space = memchr(p, ' ', n);
        base_buf_reset(&token);
        if (!space || !base64_decode(p, (size_t)(space - p), &token) || !token.len ||
            strtoull(space + 1, NULL, 10) != raw->n)
            st = base_fail(err, ROTOR_E_FORMAT, "%s line %zu: expected \"base64 %zu\"", path, line,
                           raw->n);
        else if (!push(raw, token.data, token.len))
            st = base_fail_nomem(err, "reading ranks");
    }
    base_buf_free(&token);
    return st;
}

typedef struct pair {
    uint32_t left, right; /* ranks */
    size_t cut;           /* bytes of the left half */
} pair;

static int by_rank(const void *a, const void *b) {
    const pair *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

/* All merges of one token. */
static bool push_merges(vocab *v, const base_map *rank_of, base_str token) {
    pair pairs[256];
    size_t n = 0;
    for (size_t cut = 1; cut < token.n && n < BASE_COUNT(pairs); cut++) {
        pair p = {.cut = cut};
        if (base_map_get(rank_of, (base_str){token.p, cut}, &p.left) &&
            base_map_get(rank_of, (base_str){token.p + cut, token.n - cut}, &p.right))
            pairs[n++] = p;
    }
    qsort(pairs, n, sizeof *pairs, by_rank);
    for (size_t i = 0; i < n; i++) {
        strings one = {0};
        const uint8_t *bytes = (const uint8_t *)token.p;
        bool ok = push_bytes(&one, bytes, pairs[i].cut, "") &&
                  push_bytes(&one, bytes + pairs[i].cut, token.n - pairs[i].cut, " ") &&
                  push(&v->merges, one.text.data, one.text.len);
        free_strings(&one);
        if (!ok) return false;
    }
    return true;
}

static rotor_status words_from_ranks(vocab *v, size_t n_expected, base_str text, const char *path,
                                     rotor_error *err) {
    strings raw = {0};
    base_map *rank_of = NULL;
    rotor_status st = read_ranks(&raw, text, path, err);
    if (st == ROTOR_OK && raw.n != n_expected)
        st = base_fail(err, ROTOR_E_ARG, "%s holds %zu tokens, this preset needs %zu", path, raw.n,
                       n_expected);
    if (st == ROTOR_OK && base_map_create(&rank_of, raw.n) != ROTOR_OK)
        st = base_fail_nomem(err, "reading ranks");
    for (size_t i = 0; i < raw.n && st == ROTOR_OK; i++)
        if (base_map_put(rank_of, at(&raw, i), (uint32_t)i, NULL) != ROTOR_OK)
            st = base_fail_nomem(err, "reading ranks");
    for (size_t i = 0; i < raw.n && st == ROTOR_OK; i++) {
        base_str token = at(&raw, i);
        if (!push_bytes(&v->tokens, (const uint8_t *)token.p, token.n, "") ||
            !push_merges(v, rank_of, token))
            st = base_fail_nomem(err, "reading ranks");
    }
    base_map_free(&rank_of);
    free_strings(&raw);
    return st;
}

/* ==== Putting it into the file ================================================================ */

static rotor_status put_strings(file_writer *w, const char *key, const strings *s,
                                rotor_error *err) {
    base_str *list = base_alloc_array(s->n, sizeof *list);
    if (!list) return base_fail_nomem(err, "writing a vocabulary");
    for (size_t i = 0; i < s->n; i++) list[i] = at(s, i);
    rotor_status st = file_put_strings(w, key, list, s->n);
    base_free(list);
    return st == ROTOR_OK ? st : base_fail(err, st, "cannot write metadata %s", key);
}

static rotor_status put_vocab(file_writer *w, const vocab *v, const synth_vocab_plan *p,
                              const int32_t *types, rotor_error *err) {
    uint32_t first = p->n_vocab - p->n_special;
    bool harmony = p->kind == SYNTH_HARMONY;
    file_put_str(w, "tokenizer.ggml.model", base_str_of("gpt2"));
    if (p->pre) file_put_str(w, "tokenizer.ggml.pre", base_str_of(p->pre));
    ROTOR_TRY(put_strings(w, "tokenizer.ggml.tokens", &v->tokens, err));
    if (p->scores) {
        float *zeros = base_alloc_array(p->n_vocab, sizeof *zeros);
        if (!zeros) return base_fail_nomem(err, "writing a vocabulary");
        file_put_array(w, "tokenizer.ggml.scores", FILE_F32, zeros, p->n_vocab);
        base_free(zeros);
    }
    file_put_array(w, "tokenizer.ggml.token_type", FILE_I32, types, p->n_vocab);
    ROTOR_TRY(put_strings(w, "tokenizer.ggml.merges", &v->merges, err));
    file_put_u32(w, "tokenizer.ggml.bos_token_id", first);
    file_put_u32(w, "tokenizer.ggml.eos_token_id", first + p->eos);
    file_put_u32(w, "tokenizer.ggml.padding_token_id", first + 1);
    file_put_bool(w, "tokenizer.ggml.add_bos_token", !harmony);
    file_put_str(w, "tokenizer.chat_template", base_str_of(p->chat_template));
    return ROTOR_OK;
}

static rotor_status copy_from_gguf(file_writer *w, const synth_vocab_plan *p, const char *path,
                                   rotor_error *err) {
    file_model *f = NULL;
    ROTOR_TRY(file_open(&f, path, NULL, err));
    const file_kv *tokens = file_kv_find(f, "tokenizer.ggml.tokens");
    rotor_status st = ROTOR_OK;
    if (!tokens || tokens->n != p->n_vocab)
        st = base_fail(err, ROTOR_E_ARG, "%s holds %llu tokens, this preset needs %u", path,
                       (unsigned long long)(tokens ? tokens->n : 0), p->n_vocab);
    for (size_t i = 0; i < file_n_kvs(f) && st == ROTOR_OK; i++) {
        const file_kv *kv = file_kv_at(f, i);
        if (kv->key.n > 10 && memcmp(kv->key.p, "tokenizer.", 10) == 0) st = file_put_kv(w, kv);
    }
    if (st == ROTOR_OK && !file_kv_find(f, "tokenizer.chat_template"))
        st = file_put_str(w, "tokenizer.chat_template", base_str_of(p->chat_template));
    file_close(&f);
    return st;
}

static rotor_status make_vocab(file_writer *w, const synth_vocab_plan *p, base_str ranks,
                               const char *source, rotor_error *err) {
    vocab v = {0};
    size_t n_words = p->n_vocab - p->n_special;
    int32_t *types = base_alloc_array(p->n_vocab, sizeof *types);
    rotor_status st = types ? ROTOR_OK : base_fail_nomem(err, "making a vocabulary");
    for (size_t i = 0; types && i < n_words; i++) types[i] = TEXT_NORMAL;
    if (st == ROTOR_OK && source) {
        st = words_from_ranks(&v, n_words, ranks, source, err);
    } else if (st == ROTOR_OK) {
        if (!push_single_bytes(&v.tokens))
            st = base_fail_nomem(err, "making a vocabulary");
        else
            st = make_words(&v, n_words - N_BYTES, p->n_merges, err);
    }
    if (st == ROTOR_OK) st = push_specials(&v, p, types, err);
    if (st == ROTOR_OK) st = put_vocab(w, &v, p, types, err);
    free_strings(&v.tokens);
    free_strings(&v.merges);
    base_free(types);
    return st;
}

rotor_status synth_put_vocab(file_writer *w, const synth_vocab_plan *plan, const char *source,
                             rotor_error *err) {
    base_file f = {.fd = -1};
    if (!source) return make_vocab(w, plan, (base_str){0}, NULL, err);
    ROTOR_TRY(base_file_open(&f, source, true, err));
    rotor_status st;
    if (f.size >= 4 && memcmp(f.data, "GGUF", 4) == 0)
        st = copy_from_gguf(w, plan, source, err);
    else
        st = make_vocab(w, plan, (base_str){(const char *)f.data, f.size}, source, err);
    base_file_close(&f);
    return st;
}
