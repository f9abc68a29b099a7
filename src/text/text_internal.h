/* SPDX-License-Identifier: MIT
 *
 * text_internal: what the files of this room share.
 *
 * A vocabulary is tokens (bytes, type, id), a table from bytes to id, and a short list of steps
 * that turn a stretch of plain text into pieces; a model then turns each piece into ids. Encoding
 * walks: text -> (special tokens cut out) -> fragments -> normalising steps -> splitting steps ->
 * pieces -> model -> ids. Everything reachable from a text_vocab is const after creation; whatever
 * changes during a call lives in text_run.
 */
#ifndef TEXT_INTERNAL_H
#define TEXT_INTERNAL_H

#include "text/text.h"

enum {
    TEXT_MAX_TOKENS = 1 << 21,      /* ids of a vocabulary */
    TEXT_MAX_TOKEN_BYTES = 1 << 16, /* of one token */
    TEXT_MAX_STEPS = 16,            /* normalising and splitting steps together */
    TEXT_MAX_AFFIX = 8              /* ids put before or after a text */
};
#define TEXT_NO_RANK UINT32_MAX
#define SPACE_MARK   "\xE2\x96\x81" /* U+2581, a space in SentencePiece and WordPiece tokens */

/* ---- char_class.c (without utf8proc: char_lookup.c), char_run.c: classes of code points ------ */

enum {
    CH_UPPER = 1,    /* Lu, Lt */
    CH_LOWER = 2,    /* Ll */
    CH_CASELESS = 4, /* Lm, Lo */
    CH_MARK = 8,     /* Mn, Mc, Me */
    CH_NUMBER = 16,  /* Nd, Nl, No */
    CH_SPACE = 32,   /* the 25 White_Space code points */
    CH_NEWLINE = 64, /* CR and LF, also CH_SPACE */
    CH_PUNCT = 128,  /* general category P */
    CH_REST = 256,   /* symbols, controls, unassigned */
    CH_BAD = 512     /* a byte that is not UTF-8 */
};
#define CH_LETTER (CH_UPPER | CH_LOWER | CH_CASELESS)
#define CH_CASED  (CH_UPPER | CH_LOWER)
/* What the expressions write as [^\s\p{L}\p{N}]. */
#define CH_OTHER (CH_MARK | CH_PUNCT | CH_REST | CH_BAD)

extern const uint16_t text_ascii_class[128];
unsigned text_class_of(int32_t cp); /* cp -1: CH_BAD */
size_t text_char_beyond_ascii(const char *s, size_t n, unsigned *cls);

/* Class and length in bytes of the character at s[i]; i < n. */
static inline size_t text_char(const char *s, size_t n, size_t i, unsigned *cls) {
    uint8_t c = (uint8_t)s[i];
    if (c < 0x80) return *cls = text_ascii_class[c], 1;
    return text_char_beyond_ascii(s + i, n - i, cls);
}
bool text_is_word_char(int32_t cp); /* \w: letters, marks, digits, connectors */
/* End of the longest run from i whose characters have a class in mask. */
size_t text_class_run(const char *s, size_t n, size_t i, unsigned mask);

/* ---- lookup.c: tables ------------------------------------------------------------------------ */

typedef struct text_token_ref {
    uint32_t at; /* first byte in the blob */
    uint32_t n;  /* bytes */
} text_token_ref;

/* Bytes of a token to its id; the bytes stay in the vocabulary's blob. */
typedef struct text_index {
    uint64_t *slots; /* hash tag << 32 | id + 1; 0: empty. Open addressing, owned */
    size_t mask;     /* slots - 1, slots a power of two */
    uint64_t seed;   /* of the hash */
} text_index;

rotor_status text_index_build(text_vocab *v);
/* TEXT_NO_ID when absent. Of equal tokens the last wins, and a plain one over a special one. */
uint32_t text_index_get(const text_vocab *v, const char *p, size_t n);
/* The same in stages, for callers that look up many tokens and can wait for memory meanwhile:
 * hash, then prefetch stages 0, 1, 2 each for all of them, then find. */
uint64_t text_index_hash(const text_vocab *v, const char *p, size_t n);
void text_index_prefetch(const text_vocab *v, uint64_t hash, int stage);
uint32_t text_index_find(const text_vocab *v, uint64_t hash, const char *p, size_t n);

typedef struct text_merge {
    uint64_t pair; /* (left id << 32 | right id) + 1; 0: empty slot */
    uint32_t rank; /* order of the merge */
    uint32_t id;   /* what the pair becomes */
} text_merge;

typedef struct text_merges {
    text_merge *slots; /* open addressing; NULL: the vocabulary has no merge list */
    size_t mask;       /* slots - 1 */
    uint64_t seed;     /* of the hash */
} text_merges;

rotor_status text_merges_create(text_merges *m, size_t n);
void text_merges_prefetch(const text_merges *m, uint32_t left, uint32_t right);
/* Keeps the first of equal pairs. */
void text_merges_put(text_merges *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t id);
/* NULL when the pair does not merge. */
const text_merge *text_merges_get(const text_merges *m, uint32_t left, uint32_t right);
void text_merges_free(text_merges *m);

typedef struct text_trie_edge {
    uint32_t key;  /* (node << 8 | byte) + 1; 0: empty */
    uint32_t node; /* where the byte leads */
} text_trie_edge;

/* Prefix tree over token bytes: node 0 is the root, an edge is an entry of a hash table. */
typedef struct text_trie {
    text_trie_edge *edges; /* open addressing, owned; NULL: empty trie */
    uint32_t *id;          /* [cap_nodes] token ending here or TEXT_NO_ID, owned */
    size_t mask;           /* edges - 1 */
    uint32_t n_nodes;      /* in use */
    uint32_t cap_nodes;    /* allocated */
    uint32_t seed;         /* of the hash */
} text_trie;

rotor_status text_trie_put(text_trie *t, base_str key, uint32_t id);
/* Follows one byte; false when no token continues so. */
bool text_trie_step(const text_trie *t, uint32_t *node, uint8_t byte);
void text_trie_free(text_trie *t);

/* ---- Steps ----------------------------------------------------------------------------------- */

typedef enum step_kind {
    STEP_NFC,
    STEP_NFD,
    STEP_NFKC,
    STEP_NFKD,          /* Unicode normal forms */
    STEP_LOWER,         /* simple lower case */
    STEP_STRIP_ACCENTS, /* drop Mn, with flag 1 all marks */
    STEP_BERT_CLEAN,    /* flag 1: delete controls, white space to ' '; flag 2: spaces round CJK */
    STEP_REPLACE,       /* a -> b, literal; flag 1: runs of two or more a, which is one byte */
    STEP_REPLACE_REGEX, /* re -> b, literal */
    STEP_PREPEND,       /* a in front of a text that is not empty */
    STEP_STRIP,         /* white space: flag 1 left, flag 2 right */
    STEP_SQUEEZE,       /* drop outer spaces, make runs of U+0020 one */
    STEP_CHARSMAP,      /* precompiled SentencePiece normaliser */
    STEP_FIRST_SPLIT,   /* ---- from here on steps cut ---- */
    STEP_MATCH = STEP_FIRST_SPLIT, /* built-in expression */
    STEP_REGEX,                    /* compiled expression */
    STEP_LITERAL,                  /* occurrences of a */
    STEP_METASPACE,   /* ' ' -> a, prefix (flag 1: always, 2: at the very start), flag 4: cut */
    STEP_PREFIX_SPACE /* one space in front unless there is one */
} step_kind;

/* What happens to the stretches a splitting step finds. */
typedef enum step_cut {
    CUT_ISOLATED,
    CUT_REMOVED,
    CUT_WITH_PREVIOUS,
    CUT_WITH_NEXT,
    CUT_CONTIGUOUS
} step_cut;

/* Matches at s[i]: returns the end (> i), or i for no match with *skip = the next place to try. */
typedef size_t (*text_match_fn)(const char *s, size_t n, size_t i, size_t *skip);
typedef struct text_regex text_regex;
typedef struct text_charsmap text_charsmap;

typedef struct text_step {
    step_kind kind;      /* which */
    step_cut cut;        /* of splitting steps */
    bool invert;         /* cut at what does not match */
    unsigned flags;      /* see step_kind */
    text_match_fn match; /* STEP_MATCH */
    text_regex *re;      /* owned */
    text_charsmap *map;  /* owned */
    char *a, *b;         /* owned, NUL-terminated; see step_kind */
    size_t a_n, b_n;     /* bytes of a and b */
} text_step;

typedef struct text_steps {
    text_step at[TEXT_MAX_STEPS]; /* in order */
    int n;                        /* how many */
    int n_normal;                 /* the first of them that normalise */
} text_steps;

/* Appends a step; a normalising one may not follow a splitting one. */
rotor_status text_steps_add(text_steps *s, const text_step *step, rotor_error *err);
rotor_status text_steps_add_text(text_steps *s, step_kind kind, unsigned flags, base_str a,
                                 base_str b, rotor_error *err);
/* What precedes WordPiece: clean, cut off accents and case if lower, words, punctuation. */
rotor_status text_steps_add_bert(text_steps *steps, bool lower, rotor_error *err);
void text_steps_free(text_steps *s);

/* ---- pre.c: named rule sets ------------------------------------------------------------------ */

typedef struct text_rule {
    const char *name;        /* shown to people */
    bool ignore_merges;      /* a piece that is a token needs no merging */
    bool add_bos;            /* default of the flag */
    text_match_fn passes[7]; /* expressions, NULL-terminated */
} text_rule;
/* NULL: a known name whose rules are not implemented. *known is false for a strange name (the
 * default rules are returned then). */
const text_rule *text_rule_find(base_str pre, bool *known);
/* The rule set whose single expression is written exactly so in a tokenizer.json; NULL if none. */
const text_rule *text_rule_of_regex(base_str pattern);
rotor_status text_rule_steps(const text_rule *rule, text_steps *steps, rotor_error *err);

/* scan.c: linear hand scanners, each the exact language of its published expression. */
size_t text_scan_gpt2(const char *s, size_t n, size_t i, size_t *skip);
size_t text_scan_llama3(const char *s, size_t n, size_t i, size_t *skip);
size_t text_scan_qwen2(const char *s, size_t n, size_t i, size_t *skip);
size_t text_scan_qwen35(const char *s, size_t n, size_t i, size_t *skip);
size_t text_scan_o200k(const char *s, size_t n, size_t i, size_t *skip);
size_t text_scan_gpt2_no_tail(const char *s, size_t n, size_t i, size_t *skip);
/* expressions.c: small expressions of the multi-pass rule sets and of tokenizer.json. */
size_t text_match_newline(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_digit(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_digits(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_three_digits(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_falcon_punct(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_default_punct(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_cased_word(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_word(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_wide_punct(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_punct_run(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_end_spaces(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_cjk(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_space(const char *s, size_t n, size_t i, size_t *skip);
size_t text_match_bert_punct(const char *s, size_t n, size_t i, size_t *skip);

/* ---- regex.c (PCRE2, optional) --------------------------------------------------------------- */

/* cut_short: the pattern is shown in messages at most this long. */
rotor_status text_regex_compile(text_regex **out, base_str pattern, rotor_error *err);
void text_regex_free(text_regex **re);
/* Scratch of one caller; created on first use, freed with text_regex_scratch_free. */
typedef struct text_regex_scratch text_regex_scratch;
void text_regex_scratch_free(text_regex_scratch **scratch);
/* Next match at or after from: *found tells, [*start, *end) is never empty. */
rotor_status text_regex_next(const text_regex *re, text_regex_scratch **scratch, base_str text,
                             size_t from, bool *found, size_t *start, size_t *end,
                             rotor_error *err);

/* ---- normalize.c, unicode_steps.c, charsmap.c ------------------------------------------------ */

rotor_status text_charsmap_create(text_charsmap **out, base_str blob, rotor_error *err);
void text_charsmap_free(text_charsmap **map);
void text_charsmap_apply(const text_charsmap *map, base_str in, base_buf *out);

/* ---- The vocabulary -------------------------------------------------------------------------- */

enum {                     /* token flags */
       TOK_TYPE = 7,       /* text_token_type */
       TOK_EOG = 8,        /* ends a generation */
       TOK_EAT_LEFT = 16,  /* a special token that swallows white space on its left */
       TOK_EAT_RIGHT = 32, /* and on its right */
       TOK_WHOLE_WORD = 64 /* matched only between non-word characters */
};

struct text_vocab {
    text_model model;         /* algorithm */
    const text_rule *rule;    /* TEXT_BPE: named rule set; NULL: steps of a tokenizer.json */
    const char *pre;          /* shown to people; NULL: the name of rule, or none */
    size_t n_tokens;          /* ids */
    char *blob;               /* all token bytes, owned */
    size_t blob_n, blob_cap;  /* bytes used, bytes allocated */
    text_token_ref *tokens;   /* [n_tokens], owned */
    uint8_t *flags;           /* [n_tokens] TOK_*, owned */
    uint32_t *order;          /* [n_tokens] merge order of SPM, owned; NULL: by id or by merges */
    double *scores;           /* [n_tokens] of unigram, owned */
    double unk_score;         /* of a character no token covers */
    text_index index;         /* bytes to id */
    size_t longest;           /* bytes of the longest plain token */
    text_merges merges;       /* BPE */
    text_trie special;        /* control, user-defined and unknown tokens */
    bool starts_special[256]; /* first bytes of those */
    bool starts_user[256];    /* first bytes of the user-defined ones */
    text_trie plain;          /* unigram: all normal tokens */
    uint32_t byte_id[256];    /* token of a single byte */
    bool bytes_are_symbols;   /* BPE over bytes (else over characters) */
    bool whole_piece;         /* a piece that is a token is taken as it is */
    bool cut_before_space;    /* no token has U+2581 after another character */
    bool fuse_unk;            /* neighbouring unknowns become one */
    bool drop_first_space;    /* the decoder removes one leading space */
    bool phantom;             /* tokens write a space as U+2581 */
    size_t max_word_chars;    /* WordPiece: longer words are unknown */
    text_steps steps;         /* normalise, then split */
    uint32_t bos, eos, unk;   /* TEXT_NO_ID: none */
    uint32_t prefix[TEXT_MAX_AFFIX], suffix[TEXT_MAX_AFFIX]; /* put around a text */
    int n_prefix, n_suffix;                                  /* how many */
    bool add_bos, add_eos; /* whether TEXT_ADD_BOS / TEXT_ADD_EOS do anything */
};

/* vocabulary.c: building. */
rotor_status text_vocab_new(text_vocab **out, size_t n_tokens, size_t blob_bytes, rotor_error *err);
/* Sets a token; the blob must have been sized for it. */
void text_vocab_set(text_vocab *v, uint32_t id, base_str bytes, text_token_type type);
/* As above, undoing the byte-to-printable map of byte-level files (literal if it does not fit). */
void text_vocab_set_mapped(text_vocab *v, uint32_t id, base_str bytes, text_token_type type);
/* Undoes the map into out (at least bytes.n long); false if a character is outside it. */
bool text_unmap(base_str bytes, char *out, size_t *n);
/* Index, byte tokens, specials, end-of-generation set; call once all tokens are set. retype: a
 * plain token that reads like a known end marker is made a control token (converters forget). */
rotor_status text_vocab_finish(text_vocab *v, bool retype, const base_log *log, rotor_error *err);
rotor_status text_vocab_set_scores(text_vocab *v, const float *scores, rotor_error *err);
rotor_status text_unigram_prepare(text_vocab *v, rotor_error *err);
/* Puts bos and eos around a text, as far as they exist. */
void text_vocab_set_affixes(text_vocab *v);
bool text_parse_byte_token(base_str token, uint8_t *byte);
/* Id of a token that plain text may become (never control, unknown or byte tokens). */
uint32_t text_find_plain(const text_vocab *v, const char *p, size_t n);

/* merge_list.c: reading a merge list. Merges wait in a small queue so that their table look-ups
 * overlap; those whose halves or sum are no tokens are counted and left out. */
enum { TEXT_QUEUE = 32 };
typedef struct text_queued_merge {
    size_t at;        /* its bytes in the queue's buffer */
    size_t n[3];      /* bytes of the left half, the right half, both */
    uint64_t hash[3]; /* of the three */
    uint32_t id[3];   /* tokens found */
    uint32_t rank;    /* order */
} text_queued_merge;
typedef struct text_merge_queue {
    text_vocab *v;                         /* receives them */
    base_buf bytes;                        /* raw bytes of those that wait */
    text_queued_merge waiting[TEXT_QUEUE]; /* in order */
    int n;                                 /* how many wait */
    size_t n_all, n_bad;                   /* added so far, left out so far */
} text_merge_queue;
rotor_status text_merges_begin(text_merge_queue *q, text_vocab *v, size_t n, rotor_error *err);
void text_merges_add(text_merge_queue *q, base_str left, base_str right, uint32_t rank);
/* "left right", split at the first space that leaves a left half. */
void text_merges_add_line(text_merge_queue *q, base_str line, uint32_t rank);
rotor_status text_merges_end(text_merge_queue *q, const base_log *log, rotor_error *err);

/* Whether plain text may become this token. */
static inline bool text_type_is_plain(text_token_type type) {
    return type != TEXT_CONTROL && type != TEXT_UNKNOWN && type != TEXT_BYTE;
}

static inline text_token_type text_type_at(const text_vocab *v, uint32_t id) {
    return (text_token_type)(v->flags[id] & TOK_TYPE);
}

/* ---- One call of text_encode ----------------------------------------------------------------- */

typedef struct text_cache_line {
    uint64_t key[2]; /* bytes of the piece, zero padded */
    uint32_t ids[6]; /* its ids */
    uint8_t n_key;   /* bytes; 0: empty line */
    uint8_t n_ids;   /* ids */
} text_cache_line;

typedef struct text_run {
    const text_vocab *v;                                       /* borrowed */
    const text_steps *steps;                                   /* of v, or of text_split */
    text_ids *out;                                             /* results */
    rotor_error *err;                                          /* where failures are explained */
    rotor_status (*piece)(struct text_run *r, base_str piece); /* takes what the steps make */
    void *user;                                                /* for piece */
    base_buf bufs[TEXT_MAX_STEPS];                             /* texts that steps had to rewrite */
    const char *origin;        /* start of the fragment, when it starts the whole text */
    text_regex_scratch *regex; /* made on first use */
    void *work;                /* scratch of the model, grown as needed */
    size_t work_bytes;         /* its size */
    base_buf word;             /* scratch of WordPiece */
    bool after_unknown;        /* the id before this one stands for unknown bytes */
    text_cache_line *cache;    /* recent pieces; NULL for short texts */
    size_t cache_lines;        /* a power of two */
} text_run;

void *text_run_work(text_run *r, size_t bytes); /* NULL when out of memory */
rotor_status text_run_steps(text_run *r, int first, base_str text);
rotor_status text_run_normal(text_run *r, base_str in, base_str *out);
void text_run_free(text_run *r);
rotor_status text_normalize_step(text_run *r, const text_step *step, base_str in, base_buf *out);
/* Of these STEP_NFC … STEP_NFKD, STEP_LOWER, STEP_STRIP_ACCENTS, STEP_BERT_CLEAN: unicode_steps.c.
 * ROTOR_E_UNSUPPORTED: this build has no utf8proc (no_unicode.c). */
rotor_status text_unicode_step(const text_step *step, base_str in, base_buf *out, rotor_error *err);

/* The models: a piece to ids. */
rotor_status text_bpe_piece(text_run *r, base_str piece);
rotor_status text_unigram_piece(text_run *r, base_str piece);
rotor_status text_wordpiece_piece(text_run *r, base_str piece);
/* Ids of bytes no token covers: byte tokens, else the unknown id, else nothing. */
rotor_status text_emit_unknown(text_run *r, const char *p, size_t n);

#endif
