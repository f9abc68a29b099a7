/* SPDX-License-Identifier: MIT
 *
 * grammar, inside: how rules are put together (rules.c, both parsers), what they become
 * (grammar_nodes.c, grammar_check.c), the automaton that reads them (automaton.c), and the tree of
 * a vocabulary's tokens (word_tree.c).
 */
#ifndef GRAMMAR_INTERNAL_H
#define GRAMMAR_INTERNAL_H

#include "grammar/grammar.h"

enum {
    GRAM_MAX_DEPTH = 200,      /* groups, or schemas, inside each other */
    GRAM_MAX_REPEAT = 100000,  /* {m,n} */
    GRAM_MAX_TEXT = 1 << 20,   /* bytes of a grammar or schema */
    GRAM_MAX_EXPRS = 1 << 20,  /* parts of rules */
    GRAM_MAX_NODES = 1 << 19,  /* nodes they become */
    GRAM_LAST_CHAR = 0x10FFFF, /* of Unicode */
    GRAM_MARK = 0xF8,          /* the byte of mark 0 */
};
#define GRAM_NONE UINT32_MAX

/* ---- rules.c: rules while they are being written ----------------------------------------------
 */

typedef enum gram_kind {
    GRAM_EMPTY,  /* the empty text */
    GRAM_TEXT,   /* bytes[a .. a + b] */
    GRAM_CLASS,  /* one character of spans[a .. a + b]; b 0: nothing fits */
    GRAM_SEQ,    /* a, then b */
    GRAM_ALT,    /* a or b */
    GRAM_REPEAT, /* a, from b to c times (c GRAM_NONE: any number) */
    GRAM_RULE    /* rule a */
} gram_kind;

typedef struct gram_expr {
    gram_kind kind;   /* says what the others are */
    uint32_t a, b, c; /* see gram_kind */
} gram_expr;

typedef struct gram_span {
    uint32_t lo, hi; /* characters, both included */
} gram_span;

typedef struct gram_rule {
    uint32_t body;    /* expression; GRAM_NONE: not written yet */
    uint32_t line;    /* where it stands, from 1; 0: nowhere */
    uint32_t column;  /* likewise */
    uint32_t name_at; /* in names; its bytes end with a NUL */
} gram_rule;

/* Expressions are numbers. Whatever goes wrong while rules are written shows in `full` or
 * `failed`, so that writing needs no checks in between. */
typedef struct gram_rules {
    gram_expr *expr; /* [n_expr], owned */
    size_t n_expr;   /* in use */
    size_t cap_expr; /* allocated */
    gram_span *span; /* [n_span], owned */
    size_t n_span;   /* in use */
    size_t cap_span; /* allocated */
    gram_rule *rule; /* [n_rule], owned; rule 0 is the root */
    size_t n_rule;   /* in use */
    size_t cap_rule; /* allocated */
    base_buf bytes;  /* of texts */
    base_buf names;  /* of rules */
    bool failed;     /* out of memory */
    bool full;       /* too large */
} gram_rules;

void gram_rules_free(gram_rules *r);
uint32_t gram_empty(gram_rules *r);
uint32_t gram_text(gram_rules *r, base_str text);
uint32_t gram_cstr(gram_rules *r, const char *text);
/* span[n] in any order, may overlap; sorted in place. Surrogates are left out. */
uint32_t gram_class(gram_rules *r, gram_span *span, size_t n, bool negate);
uint32_t gram_seq(gram_rules *r, uint32_t a, uint32_t b);
uint32_t gram_alt(gram_rules *r, uint32_t a, uint32_t b); /* a may be GRAM_NONE: b */
uint32_t gram_repeat(gram_rules *r, uint32_t a, uint32_t min, uint32_t max);
uint32_t gram_maybe(gram_rules *r, uint32_t a);
uint32_t gram_call(gram_rules *r, uint32_t rule);
uint32_t gram_nothing(gram_rules *r); /* what no text fits */
/* A rule without a body. */
uint32_t gram_rule_new(gram_rules *r, base_str name, uint32_t line, uint32_t column);
const char *gram_rule_name(const gram_rules *r, uint32_t rule);

/* ---- gbnf.c -----------------------------------------------------------------------------------
 */

/* Adds the rules of a GBNF text, rule 0 of them being root; names: a map of rules, whose keys are
 * in the text. whole: all rules that are named must be there. What is wrong with the rules
 * themselves shows in them. */
rotor_status gram_read(gram_rules *rules, base_map *names, base_str text, bool whole,
                       rotor_error *err);

/* ---- grammar_nodes.c: rules as a graph over bytes ----------------------------------------------
 */

typedef enum gram_node_kind {
    GRAM_N_RETURN, /* the rule is over; node 0 and no other */
    GRAM_N_BYTE,   /* a byte from lo to hi, then next */
    GRAM_N_SPLIT,  /* next or other, without reading */
    GRAM_N_CALL    /* the rule that begins at `other`, then next */
} gram_node_kind;

typedef struct gram_node {
    uint8_t kind;   /* gram_node_kind */
    uint8_t lo, hi; /* GRAM_N_BYTE */
    bool live;      /* the end can be reached from here */
    uint32_t next;  /* node */
    uint32_t other; /* node; while being made, of a call: the rule */
    uint32_t chain; /* 1 + its index among the chain's links; 0: none */
} gram_node;

/* Nodes that differ in how many repetitions are left. Those of one chain stand together, the one
 * with the fewest left first. */
typedef struct gram_link {
    uint32_t node; /* what comes after one repetition … */
    uint32_t left; /* … when so many may or must follow */
    uint32_t rule; /* what is repeated */
} gram_link;

struct grammar {
    gram_node *node;       /* [n_node], owned */
    uint32_t n_node;       /* nodes */
    uint32_t root;         /* first node of the root */
    gram_link *link;       /* [n_link], owned */
    uint32_t n_link;       /* links */
    uint32_t n_class;      /* bytes fall in so many classes … */
    uint8_t class_of[256]; /* … that no node tells apart */
    uint8_t byte_of[256];  /* a byte of each class */
};

typedef struct gram_place {
    const char *what; /* "grammar" or "schema", for messages */
    bool lines;       /* rules have places in the text */
} gram_place;

/* Rules to nodes. ROTOR_E_FORMAT: left recursion, or nothing fits; ROTOR_E_FULL: too large. */
rotor_status gram_build(grammar **out, gram_rules *r, const gram_place *place, rotor_error *err);

/* ---- grammar_check.c --------------------------------------------------------------------------
 */

/* Sets `live`; null[n_node]: the end of the rule can be reached without reading. Calls are
 * resolved. */
rotor_status gram_reach(gram_node *node, uint32_t n, bool *null);
/* A call that leads back to itself without reading; GRAM_NONE: there is none. */
rotor_status gram_find_left_recursion(const gram_node *node, uint32_t n, const bool *null,
                                      uint32_t *call);

/* ---- automaton.c ------------------------------------------------------------------------------
 */

/* Places to return to, the innermost first, as a list; equal lists are equal numbers. 0: empty. */
typedef struct gram_frame {
    uint32_t ret;   /* node */
    uint32_t below; /* frame */
} gram_frame;

typedef struct gram_item {
    uint32_t node;  /* GRAM_N_BYTE */
    uint32_t stack; /* frame; its end is where the configuration began */
} gram_item;

/* A set of places in the rules, with what is to be returned to as far as it is known here. */
typedef struct gram_config {
    uint32_t first;  /* items[first .. first + n] */
    uint32_t n;      /* how many, sorted */
    bool pops;       /* one alternative has ended, and goes on where this began */
    uint32_t normal; /* the same without the frames that all items end with; GRAM_NONE: not known */
    uint32_t suffix; /* these frames */
    uint32_t like;   /* one that allows the same tokens; GRAM_NONE: not known */
} gram_config;

typedef struct gram_state {
    uint32_t config; /* normal */
    uint32_t tail;   /* frames below it */
} gram_state;

/* A set of numbered things that are found again by their content. */
typedef struct gram_index {
    uint32_t *slot; /* [mask + 1] number + 1; 0: empty; owned */
    uint32_t mask;  /* a power of two less one */
    uint32_t n;     /* in use */
} gram_index;

typedef struct gram_unfold {
    uint32_t config, ret; /* what, under which frame */
    uint32_t result;      /* config */
} gram_unfold;

typedef struct gram_visit {
    uint64_t *slot; /* [mask + 1] item + 1, owned */
    uint32_t mask;  /* a power of two less one */
    uint32_t n;     /* in use */
} gram_visit;

typedef struct gram_automaton {
    const grammar *g;          /* borrowed */
    uint32_t longest;          /* bytes of the longest word */
    gram_frame *frame;         /* [n_frame], owned */
    gram_item *item;           /* [n_item], owned */
    gram_config *config;       /* [n_config], owned */
    uint32_t *move;            /* [n_config, n_class] config after a byte; GRAM_NONE: not known */
    gram_state *state;         /* [n_state], owned */
    gram_unfold *unfold;       /* [n_unfold], owned */
    size_t n_frame, cap_frame; /* in use, allocated; so are all of these */
    size_t n_item, cap_item;
    size_t n_config, cap_config, cap_move;
    size_t n_state, cap_state;
    size_t n_unfold, cap_unfold;
    gram_index frames, configs, states, unfolds; /* by content */
    gram_item *work;                             /* [cap_work] items to be followed, owned */
    gram_item *found;                            /* [cap_found] items found, owned */
    uint32_t *rets; /* [cap_rets] nodes of a list being rebuilt, owned */
    size_t n_work, cap_work, n_found, cap_found, cap_rets;
    gram_visit visit; /* items already followed */
    uint32_t start;   /* state */
    size_t limit;     /* bytes of all tables at most */
    size_t used;      /* bytes of all tables */
    uint64_t n_looks; /* places looked at while the tables were made */
    rotor_error why;  /* of the last failure */
} gram_automaton;

rotor_status gram_automaton_init(gram_automaton *a, const grammar *g, uint32_t longest,
                                 size_t limit_bytes, rotor_error *err);
void gram_automaton_free(gram_automaton *a);
/* The configuration after a byte, in *c and with what has been returned to taken from *tail; 0: the
 * byte does not fit. On failure a->why says why. */
rotor_status gram_move(gram_automaton *a, uint32_t *c, uint32_t *tail, uint8_t byte);
/* The same, as far as the configuration alone knows. */
rotor_status gram_move_inside(gram_automaton *a, uint32_t c, uint8_t byte, uint32_t *next);
/* What comes when a configuration has ended above `tail`, which is not empty. */
rotor_status gram_return(gram_automaton *a, uint32_t *c, uint32_t *tail);
/* The configuration that begins at a node. */
rotor_status gram_after(gram_automaton *a, uint32_t node, uint32_t *config);
/* Moves what all items of the configuration return to into the tail. */
rotor_status gram_normalise(gram_automaton *a, gram_state *s);
rotor_status gram_state_of(gram_automaton *a, gram_state s, uint32_t *state);
/* One that allows the same tokens, and is the same for more. */
rotor_status gram_like(gram_automaton *a, uint32_t config, uint32_t *like);
/* Grows an array of the automaton's within its limit. */
rotor_status gram_more(gram_automaton *a, void **p, size_t *cap, size_t n, size_t elem_bytes);

/* ---- word_tree.c ------------------------------------------------------------------------------
 */

/* A vocabulary as a tree of bytes, in preorder: what begins alike stands together. */
struct grammar_words {
    const text_vocab *v; /* borrowed */
    size_t n_ids;        /* of masks */
    uint8_t *byte;       /* [n] of a node, owned */
    uint16_t *depth;     /* [n] bytes down to it, 1 or more, owned */
    uint32_t *past;      /* [n] first node that does not begin like it, owned */
    uint32_t *id;        /* [n] token that ends here; GRAM_NONE: none; owned */
    uint32_t *twin;      /* [n_ids] another of the same bytes; GRAM_NONE: no more; owned */
    base_buf blob;       /* bytes of all tokens */
    uint32_t *start;     /* [n_ids + 1] where those of a token are, owned */
    uint32_t *ends;      /* [n_ends] tokens that end a text, owned */
    size_t n_ends;       /* how many */
    uint32_t n;          /* nodes */
    uint32_t longest;    /* bytes of the longest token */
};

#endif
