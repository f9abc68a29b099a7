/* SPDX-License-Identifier: MIT
 *
 * text: words to numbers and back. Vocabularies, byte-level BPE, SentencePiece (BPE and unigram),
 * WordPiece, and the streaming detokenizer.
 *
 * A text_vocab is immutable after creation and shared by any number of threads; encoding keeps its
 * scratch on the heap per call. Text is bytes: invalid UTF-8 is never an error. Byte-level models
 * treat a bad byte as one character of the class "other" and carry it through unchanged, so that
 * any bytes survive a round trip; SentencePiece models write it as a byte token if they have one,
 * else as the unknown token; WordPiece drops it.
 *
 * Plain text never becomes a control token: those are recognised only with TEXT_PARSE_SPECIAL,
 * leftmost and longest, in the text as given (also those that a tokenizer.json marks
 * "normalized").
 */
#ifndef TEXT_H
#define TEXT_H

#include "base/base.h"

typedef struct text_vocab text_vocab;

typedef enum text_model { TEXT_BPE, TEXT_SPM, TEXT_UNIGRAM, TEXT_WORDPIECE } text_model;

/* GGUF token types. */
typedef enum text_token_type {
    TEXT_UNDEFINED = 0,
    TEXT_NORMAL = 1,
    TEXT_UNKNOWN = 2,
    TEXT_CONTROL = 3,
    TEXT_USER_DEFINED = 4,
    TEXT_UNUSED = 5,
    TEXT_BYTE = 6
} text_token_type;

#define TEXT_NO_ID UINT32_MAX

/* What a vocabulary is made from; mirrors the tokenizer.ggml.* keys. Borrowed during creation. */
typedef struct text_spec {
    text_model model;       /* algorithm */
    base_str pre;           /* pre-tokenizer name for TEXT_BPE; empty: "default" with a warning */
    const base_str *tokens; /* [n_tokens] text as in the file */
    const float *scores;    /* [n_tokens] or NULL */
    const int32_t *types;   /* [n_tokens] text_token_type or NULL (all normal) */
    size_t n_tokens;        /* vocabulary size */
    const base_str *merges; /* [n_merges] "left right" */
    size_t n_merges;        /* 0 for models without merges */
    base_str charsmap;      /* precompiled normaliser of unigram models; empty: none */
    uint32_t bos, eos, unk, sep, pad, cls, mask; /* TEXT_NO_ID: the model kind's default */
    uint32_t eot, eom;                           /* end of turn, end of message; TEXT_NO_ID: none */
    const uint32_t *extra_eog;                   /* further end-of-generation ids */
    size_t n_extra_eog;                          /* how many */
    int add_bos, add_eos, add_space_prefix;      /* 1, 0, or -1: the model kind's default */
    bool remove_extra_whitespaces;               /* unigram */
    const base_log *log;                         /* warnings; may be NULL */
} text_spec;

rotor_status text_vocab_create(text_vocab **out, const text_spec *spec, rotor_error *err);
/* From the text of a HF tokenizer.json (and tokenizer_config.json, may be empty). */
rotor_status text_vocab_from_json(text_vocab **out, base_str tokenizer_json, base_str config_json,
                                  const base_log *log, rotor_error *err);
/* From "base64 rank" lines (tiktoken); special tokens start at first_special. */
rotor_status text_vocab_from_ranks(text_vocab **out, base_str ranks, base_str pre,
                                   const base_str *specials, size_t n_specials,
                                   uint32_t first_special, rotor_error *err);
/* Marks an id as ending a generation; ids outside the vocabulary are ignored. Before sharing only.
 */
void text_vocab_add_eog(text_vocab *v, uint32_t id);
void text_vocab_free(text_vocab **v);

size_t text_n_tokens(const text_vocab *v);
text_model text_model_of(const text_vocab *v);
/* Rule set in use, for the start-up line; "tokenizer.json" for its own, "none" without one. */
base_str text_pre(const text_vocab *v);
/* The rule set whose expression is written exactly so in a tokenizer.json; NULL: none. */
const char *text_pre_of_regex(base_str pattern);
/* Text of a token as stored (specials literal, others mapped back to raw bytes); borrowed. */
base_str text_token(const text_vocab *v, uint32_t id);
text_token_type text_type(const text_vocab *v, uint32_t id);
/* Id of a token by its exact raw text; TEXT_NO_ID when absent. */
uint32_t text_find(const text_vocab *v, base_str token);
uint32_t text_bos(const text_vocab *v); /* TEXT_NO_ID: none */
uint32_t text_eos(const text_vocab *v);
bool text_adds_bos(const text_vocab *v);
bool text_is_eog(const text_vocab *v, uint32_t id); /* ends a generation */
/* Decodes padded base64 into out (3 bytes for every 4); false when it is malformed. */
bool text_base64(base_str in, char *out, size_t *n);

/* ---- Encoding -------------------------------------------------------------------------------- */

enum {                   /* flags of text_encode */
       TEXT_ADD_BOS = 1, /* put the beginning-of-text id (WordPiece: [CLS]) in front, once, if the
                            vocabulary asks for it */
       TEXT_ADD_EOS = 2, /* likewise at the end (WordPiece: [SEP]) */
       TEXT_PARSE_SPECIAL = 4, /* recognise control tokens; user-defined ones always are */
       TEXT_FORCE_BOS = 8      /* put it there even if the vocabulary does not ask for it */
};

/* A growing list of ids; zero-initialise, free with text_ids_free. */
typedef struct text_ids {
    uint32_t *ids; /* owned */
    size_t n;      /* in use */
    size_t cap;    /* allocated */
} text_ids;
void text_ids_free(text_ids *ids);
rotor_status text_ids_push(text_ids *ids, uint32_t id);

/* Appends the ids of text to *out (left as it was on failure). */
rotor_status text_encode(const text_vocab *v, base_str text, unsigned flags, text_ids *out,
                         rotor_error *err);
/* Splits text into the pieces BPE would merge inside; calls fn for each. For tests. */
rotor_status text_split(base_str pre, base_str text, void (*fn)(void *user, base_str piece),
                        void *user, rotor_error *err);

/* ---- Decoding -------------------------------------------------------------------------------- */

/* Turns ids to text one at a time and never emits half a UTF-8 sequence: bytes wait until the
 * sequence is whole or proven invalid. Invalid bytes become U+FFFD unless raw is set. */
typedef struct text_stream {
    const text_vocab *v; /* borrowed */
    char wait[4];        /* bytes of an unfinished sequence */
    int n_wait;          /* how many */
    bool at_start;       /* nothing emitted yet: a leading space may be dropped */
    bool render_special; /* print control tokens too */
    bool raw;            /* pass bytes through unchecked */
} text_stream;
void text_stream_init(text_stream *s, const text_vocab *v);
/* Appends what may be shown after this id to *out. */
rotor_status text_stream_put(text_stream *s, uint32_t id, base_buf *out);
/* Flushes what waits (as U+FFFD unless raw). */
rotor_status text_stream_end(text_stream *s, base_buf *out);
/* All at once; raw bytes, so that encode and decode round-trip any input. */
rotor_status text_decode(const text_vocab *v, const uint32_t *ids, size_t n, bool render_special,
                         base_buf *out);

#endif
