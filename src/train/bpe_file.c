/* SPDX-License-Identifier: MIT
 *
 * From texts to a vocabulary-only GGUF file: documents are counted, merges learnt, and the
 * tokenizer.* keys written with two special tokens, the end of a text and the end of a turn.
 */
#include "file/file.h"
#include "train/bpe.h"
#include "train/train.h"

typedef struct word_list {
    base_str *token; /* [n], owned array */
    int32_t *type;   /* [n], owned */
    base_str *merge; /* [n_merges], owned array */
    base_buf text;   /* behind both */
    size_t n;        /* tokens */
    size_t n_merges; /* merges */
} word_list;

const char train_chat_template[] =
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | "
    "trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif "
    "%}";

/* ==== Texts of tokens ========================================================================= */

static void free_words(word_list *w) {
    base_free(w->token);
    base_free(w->type);
    base_free(w->merge);
    base_buf_free(&w->text);
}

/* Every byte as its printable character. */
static size_t put_mapped(word_list *w, base_str raw) {
    const size_t from = w->text.len;
    for (size_t i = 0; i < raw.n; i++) {
        char utf8[4];
        const int n = base_utf8_encode(bpe_char_of_byte((uint8_t)raw.p[i]), utf8);
        base_buf_append(&w->text, utf8, (size_t)n);
    }
    return w->text.len - from;
}

static void put_texts(word_list *w, const bpe *b, const bpe_merge *m) {
    static const char *const specials[BPE_N_SPECIAL] = {"<|endoftext|>", "<|eot_id|>"};
    for (uint32_t id = 0; id < w->n; id++) {
        const bool special = id < BPE_N_SPECIAL;
        if (special) base_buf_puts(&w->text, specials[id]);
        w->token[id].n = special ? strlen(specials[id]) : put_mapped(w, bpe_word(b, id));
        w->type[id] = special ? TEXT_CONTROL : TEXT_NORMAL;
    }
    for (size_t i = 0; i < w->n_merges; i++) {
        w->merge[i].n = put_mapped(w, bpe_word(b, m[i].left)) + 1;
        base_buf_puts(&w->text, " ");
        w->merge[i].n += put_mapped(w, bpe_word(b, m[i].right));
    }
}

static bool make_words(word_list *w, const bpe *b) {
    const bpe_merge *m = bpe_merges(b, &w->n_merges);
    w->n = bpe_n_tokens(b);
    w->token = base_alloc_array(w->n, sizeof *w->token);
    w->type = base_alloc_array(w->n, sizeof *w->type);
    w->merge = base_alloc_array(w->n_merges + 1, sizeof *w->merge);
    if (!w->token || !w->type || !w->merge) return false;
    put_texts(w, b, m);
    const char *p = w->text.data; /* it has stopped moving */
    for (size_t i = 0; i < w->n && !w->text.failed; p += w->token[i++].n) w->token[i].p = p;
    for (size_t i = 0; i < w->n_merges && !w->text.failed; p += w->merge[i++].n) w->merge[i].p = p;
    return !w->text.failed;
}

/* ==== The file ================================================================================ */

static rotor_status write_words(const char *path, const word_list *w, rotor_error *err) {
    file_writer *f = NULL;
    ROTOR_TRY(file_writer_create(&f, path, err));
    file_put_str(f, "general.architecture", base_str_of("bitnet-b1.58"));
    file_put_str(f, "tokenizer.ggml.model", base_str_of("gpt2"));
    file_put_str(f, "tokenizer.ggml.pre", base_str_of(BPE_PRE));
    file_put_strings(f, "tokenizer.ggml.tokens", w->token, w->n);
    file_put_array(f, "tokenizer.ggml.token_type", FILE_I32, w->type, w->n);
    file_put_strings(f, "tokenizer.ggml.merges", w->merge, w->n_merges);
    file_put_u32(f, "tokenizer.ggml.bos_token_id", 0);
    file_put_u32(f, "tokenizer.ggml.eos_token_id", 0);
    file_put_u32(f, "tokenizer.ggml.eot_token_id", 1);
    file_put_bool(f, "tokenizer.ggml.add_bos_token", true);
    file_put_str(f, "tokenizer.chat_template", base_str_of(train_chat_template));
    rotor_status st = file_begin(f, err); /* the writer remembered a failure */
    if (st == ROTOR_OK) st = file_commit(f, err);
    file_writer_free(&f);
    return st;
}

static rotor_status count_doc(void *user, const train_part *parts, size_t n, rotor_error *err) {
    for (size_t i = 0; i < n; i++) ROTOR_TRY(bpe_count(user, parts[i].text, err));
    return ROTOR_OK;
}

static rotor_status learn_file(bpe *b, const train_tokenizer_options *o, word_list *w,
                               rotor_error *err) {
    for (size_t i = 0; i < o->n_files; i++)
        ROTOR_TRY(train_read_docs(o->files[i], count_doc, b, err));
    ROTOR_TRY(bpe_learn(b, o->n_vocab, o->progress, o->user, err));
    if (!make_words(w, b)) return base_fail_nomem(err, "writing a vocabulary");
    return write_words(o->out, w, err);
}

rotor_status train_tokenizer(const train_tokenizer_options *o, rotor_error *err) {
    bpe *b = NULL;
    word_list w = {0};
    ROTOR_TRY(bpe_create(&b, err));
    rotor_status st = learn_file(b, o, &w, err);
    free_words(&w);
    bpe_free(&b);
    return st;
}
