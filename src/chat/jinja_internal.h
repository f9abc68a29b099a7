/* SPDX-License-Identifier: MIT
 *
 * jinja_internal: what the files of the template interpreter share. No other room includes this.
 *
 *   text --jinja_lex--> tokens --jinja_parse--> tree --jinja_exec/jinja_eval--> marked text
 *
 * A tree (jin_tree) is immutable and owns its memory in one pool. A rendering (jin_rt) owns a
 * second pool and an output buffer; nothing it makes outlives it, so values are never freed one by
 * one and cannot leak.
 *
 * Marks: each byte of a string value is either the template's own or the user's. The mark travels
 * with the byte through every operation, so that the tokeniser never reads a control token in
 * something a user wrote.
 *
 * Limits (all give an error, none a crash): JIN_MAX_* below. The depth counter covers the nesting
 * of source, of evaluation and of values alike, because each of them recurses on the C stack.
 */
#ifndef JINJA_INTERNAL_H
#define JINJA_INTERNAL_H

#include "base/base.h"

#define JIN_MAX_SOURCE_BYTES (1u << 20)   /* a template */
#define JIN_MAX_TREE_BYTES   (128u << 20) /* its tokens and nodes */
#define JIN_MAX_VALUE_BYTES  (256u << 20) /* everything one rendering makes */
#define JIN_MAX_OUT_BYTES    (64u << 20)  /* output, and any single string */
#define JIN_MAX_STEPS        10000000u    /* nodes visited plus bytes scanned / 64 */
#define JIN_MAX_DEPTH        200          /* nesting */
#define JIN_MAX_RANGE        100000       /* items of range(), as in the reference sandbox */
#define JIN_MAX_ARGS         16           /* arguments of one call */
#define JIN_MAX_SLOTS        5            /* named parameters of a built-in callable */

/* ---- Memory ---------------------------------------------------------------------------------- */

typedef struct jin_chunk jin_chunk;
typedef struct jin_pool {
    jin_chunk *chunks; /* newest first, owned */
    size_t bytes;      /* taken from the heap so far */
    size_t max_bytes;  /* refuse beyond this */
    bool over_limit;   /* the last refusal was the limit, not the heap */
} jin_pool;
void *jin_take(jin_pool *p, size_t bytes); /* zeroed, 16-byte aligned; NULL when refused */
void jin_pool_free(jin_pool *p);

/* ---- Values ---------------------------------------------------------------------------------- */

typedef enum jin_kind {
    JIN_UNDEFINED,
    JIN_NONE,
    JIN_BOOL,
    JIN_INT,
    JIN_FLOAT,
    JIN_STR,
    JIN_LIST,
    JIN_TUPLE,
    JIN_DICT,
    JIN_NAMESPACE,
    JIN_LOOP,
    JIN_MACRO,
    JIN_METHOD,
    JIN_FUNC
} jin_kind;

typedef struct jin_str {
    const char *p;       /* bytes, borrowed from a pool or from the caller of the rendering */
    size_t n;            /* bytes */
    const uint8_t *user; /* NULL: all the template's; jin_all_user: all the user's; else n marks */
} jin_str;
extern const uint8_t jin_all_user[1];

typedef struct jin_node jin_node;
typedef struct jin_list jin_list;
typedef struct jin_dict jin_dict;
typedef struct jin_loop jin_loop;
typedef struct jin_macro jin_macro;
typedef struct jin_method jin_method;
typedef struct jin_func jin_func;
typedef struct jin_rt jin_rt;

typedef struct jin_val {
    jin_kind kind; /* selects the member of u */
    union {
        bool b;                   /* JIN_BOOL */
        int64_t i;                /* JIN_INT */
        double f;                 /* JIN_FLOAT */
        jin_str s;                /* JIN_STR */
        base_str name;            /* JIN_UNDEFINED: what was looked up, for messages */
        const jin_list *list;     /* JIN_LIST, JIN_TUPLE */
        jin_dict *dict;           /* JIN_DICT (never changed once made), JIN_NAMESPACE */
        const jin_loop *loop;     /* JIN_LOOP */
        const jin_macro *macro;   /* JIN_MACRO */
        const jin_method *method; /* JIN_METHOD */
        const jin_func *func;     /* JIN_FUNC */
    } u;                          /* payload */
} jin_val;

struct jin_list {
    jin_val *v; /* [n] */
    size_t n;   /* items */
};
typedef struct jin_pair {
    jin_val key;   /* hashable */
    jin_val value; /* anything */
} jin_pair;
struct jin_dict {
    jin_pair *v; /* in order of insertion */
    size_t n;    /* pairs */
    size_t cap;  /* allocated */
};
struct jin_loop {
    const jin_list *items; /* what is walked, after the loop's own filter */
    size_t i;              /* current index */
    int64_t depth;         /* enclosing loops */
};
typedef struct jin_scope {
    struct jin_scope *parent; /* looked in next; NULL: globals */
    jin_dict vars;            /* names to values */
} jin_scope;
struct jin_macro {
    const jin_node *def; /* the macro statement */
    jin_scope *scope;    /* where it was defined */
};

static inline jin_val jin_of_bool(bool b) { return (jin_val){JIN_BOOL, {.b = b}}; }
static inline jin_val jin_of_int(int64_t i) { return (jin_val){JIN_INT, {.i = i}}; }
static inline jin_val jin_of_float(double f) { return (jin_val){JIN_FLOAT, {.f = f}}; }
static inline jin_val jin_of_str(jin_str s) { return (jin_val){JIN_STR, {.s = s}}; }
static inline jin_val jin_of_text(base_str s) { return jin_of_str((jin_str){s.p, s.n, NULL}); }
static inline jin_val jin_none(void) { return (jin_val){.kind = JIN_NONE}; }
static inline jin_val jin_undefined(base_str name) {
    return (jin_val){JIN_UNDEFINED, {.name = name}};
}
static inline base_str jin_bytes(jin_str s) { return (base_str){s.p, s.n}; }
static inline bool jin_is_list(jin_val v) { return v.kind == JIN_LIST || v.kind == JIN_TUPLE; }
static inline bool jin_is_int(jin_val v) { return v.kind == JIN_INT || v.kind == JIN_BOOL; }
static inline bool jin_is_number(jin_val v) { return jin_is_int(v) || v.kind == JIN_FLOAT; }
static inline int64_t jin_int(jin_val v) { return v.kind == JIN_BOOL ? v.u.b : v.u.i; }
static inline double jin_float(jin_val v) {
    return v.kind == JIN_FLOAT ? v.u.f : (double)jin_int(v);
}

/* ---- Tree ------------------------------------------------------------------------------------ */

/* Children by kind. `list` is a chain through next. */
typedef enum jin_node_kind {
    /* expressions */
    JIN_E_CONST,   /* value */
    JIN_E_NAME,    /* name */
    JIN_E_LIST,    /* list of items */
    JIN_E_TUPLE,   /* list of items */
    JIN_E_DICT,    /* list of key, value, key, value … */
    JIN_E_ATTR,    /* a . name */
    JIN_E_ITEM,    /* a [ b ] */
    JIN_E_SLICE,   /* a [ list: start, stop, step; an absent one is the constant none ] */
    JIN_E_CALL,    /* a ( list ) */
    JIN_E_KEYWORD, /* name = a, in argument lists and macro parameters (a may be NULL there) */
    JIN_E_FILTER,  /* a | name ( list ) */
    JIN_E_TEST,    /* a is name ( list ) */
    JIN_E_NOT,     /* a */
    JIN_E_NEG,     /* a */
    JIN_E_POS,     /* a */
    JIN_E_AND,     /* a, b */
    JIN_E_OR,      /* a, b */
    JIN_E_BINARY,  /* a op b */
    JIN_E_CONCAT,  /* list */
    JIN_E_COMPARE, /* a, then list of JIN_E_OPERAND: a < b < c */
    JIN_E_OPERAND, /* op, a */
    JIN_E_COND,    /* a if b else c; c may be NULL */
    /* statements */
    JIN_S_TEXT,     /* value */
    JIN_S_PRINT,    /* a */
    JIN_S_IF,       /* a: test, body, other: else branch or one JIN_S_IF with op = JIN_OP_ELIF */
    JIN_S_FOR,      /* a: target, b: iterable, c: filter or NULL, body, other: when empty */
    JIN_S_SET,      /* a: target, b: value */
    JIN_S_SETBLOCK, /* a: target, b: filters applied to the name JIN_BLOCK or NULL, body */
    JIN_S_MACRO,    /* name, list of JIN_E_KEYWORD, body */
    JIN_S_SCOPE,    /* body in a scope of its own */
    JIN_S_BREAK,
    JIN_S_CONTINUE
} jin_node_kind;

typedef enum jin_op {
    JIN_OP_NONE,
    JIN_OP_ADD,
    JIN_OP_SUB,
    JIN_OP_MUL,
    JIN_OP_DIV,
    JIN_OP_FLOORDIV,
    JIN_OP_MOD,
    JIN_OP_POW,
    JIN_OP_EQ,
    JIN_OP_NE,
    JIN_OP_LT,
    JIN_OP_LE,
    JIN_OP_GT,
    JIN_OP_GE,
    JIN_OP_IN,
    JIN_OP_NOTIN,
    JIN_OP_ELIF
} jin_op;

struct jin_node {
    uint8_t kind;    /* jin_node_kind */
    uint8_t op;      /* jin_op */
    int line;        /* of the source, from 1 */
    jin_node *a;     /* see jin_node_kind */
    jin_node *b;     /* see jin_node_kind */
    jin_node *c;     /* see jin_node_kind */
    jin_node *list;  /* see jin_node_kind */
    jin_node *body;  /* statements */
    jin_node *other; /* statements of the else branch */
    jin_node *next;  /* sibling */
    base_str name;   /* borrowed from the tree's pool */
    jin_val value;   /* constants and text */
};

/* What a block set's filters call the text of the block; no template can write this name. */
#define JIN_BLOCK "{block}"

typedef struct jin_tree {
    jin_pool pool;  /* owns everything below */
    jin_node *body; /* statements of the template */
} jin_tree;

typedef enum jin_tok_kind {
    JIN_T_TEXT,
    JIN_T_PRINT_BEGIN,
    JIN_T_PRINT_END,
    JIN_T_BLOCK_BEGIN,
    JIN_T_BLOCK_END,
    JIN_T_NAME,
    JIN_T_STR,
    JIN_T_INT,
    JIN_T_FLOAT,
    JIN_T_OP,
    JIN_T_END
} jin_tok_kind;

typedef struct jin_tok {
    jin_tok_kind kind; /* what it is */
    int line;          /* from 1 */
    base_str text;     /* as written (strings: between the quotes) */
} jin_tok;

/* The parser's state; expressions and statements live in two files. */
typedef struct jin_parser {
    jin_tree *tree;     /* where nodes go */
    const jin_tok *tok; /* current token; the last one is JIN_T_END */
    rotor_error *err;   /* where messages go */
    int depth;          /* nesting */
    int loops;          /* enclosing for statements, for break and continue */
} jin_parser;

/* Cuts text into tokens ending in JIN_T_END; memory from the pool. */
rotor_status jin_lex(jin_pool *pool, base_str source, jin_tok **out, rotor_error *err);

rotor_status jin_parse(jin_tree *tree, base_str source, rotor_error *err);
void jin_tree_free(jin_tree *tree);

rotor_status jin_syntax(jin_parser *p, const char *expected);
rotor_status jin_node_new(jin_parser *p, jin_node_kind kind, jin_node **out);
rotor_status jin_enter(jin_parser *p);
bool jin_at_op(const jin_parser *p, const char *op);
bool jin_at_name(const jin_parser *p, const char *name);
bool jin_skip_op(jin_parser *p, const char *op);
bool jin_skip_name(jin_parser *p, const char *name);

enum { JIN_TERNARY = 1, JIN_PARENS = 2 }; /* flags of jin_parse_tuple */
rotor_status jin_parse_expr(jin_parser *p, jin_node **out);
/* One expression, or several with commas as a tuple. JIN_TERNARY: `a if b` is allowed outside
 * parentheses; JIN_PARENS: inside them, so an empty tuple is allowed. */
rotor_status jin_parse_tuple(jin_parser *p, unsigned flags, jin_node **out);
rotor_status jin_parse_primary(jin_parser *p, jin_node **out);
rotor_status jin_parse_filters(jin_parser *p, jin_node *in, jin_node **out);

/* ---- Rendering ------------------------------------------------------------------------------- */

typedef enum jin_flow { JIN_FLOW_ON, JIN_FLOW_BREAK, JIN_FLOW_CONTINUE } jin_flow;

struct jin_rt {
    jin_pool pool;     /* every value made */
    base_buf out;      /* text written so far; string building works at its end */
    base_buf marks;    /* one byte per byte of out: 1 = the user's */
    jin_scope globals; /* messages, bos_token, range … */
    rotor_error *err;  /* where messages go */
    uint32_t steps;    /* used, up to JIN_MAX_STEPS */
    int depth;         /* nesting, up to JIN_MAX_DEPTH */
    int loop_depth;    /* enclosing for loops */
    int line;          /* of the node being worked on */
    int64_t now_s;     /* wall clock for strftime_now: seconds since 1970-01-01 UTC */
    jin_flow flow;     /* a break or continue on its way to its loop */
};

void jin_rt_free(jin_rt *rt);
/* Renders tree into rt->out and rt->marks; rt was set up by jin_rt_init and the caller's globals.
 */
rotor_status jin_rt_init(jin_rt *rt, int64_t now_s, rotor_error *err);
rotor_status jin_set_global(jin_rt *rt, const char *name, jin_val v);
rotor_status jin_render(jin_rt *rt, const jin_tree *tree);

/* "chat template line N: " in front of the sentence. */
rotor_status jin_fail(jin_rt *rt, rotor_status code, const char *fmt, ...) BASE_PRINTF(3, 4);
rotor_status jin_fail_memory(jin_rt *rt);
rotor_status jin_step(jin_rt *rt, size_t bytes); /* one step, plus bytes scanned / 64 */
rotor_status jin_down(jin_rt *rt);               /* one level deeper; undo with rt->depth-- */
const char *jin_kind_name(jin_kind k);

/* jinja_value.c: strings. */
jin_str jin_slice(jin_str s, size_t begin, size_t n);
bool jin_user_at(jin_str s, size_t i);
rotor_status jin_put(jin_rt *rt, jin_str s);
rotor_status jin_put_text(jin_rt *rt, const char *cstr);
rotor_status jin_put_marked(jin_rt *rt, const char *p, size_t n, bool user);
/* Text put since the mark becomes a value and leaves the output. */
size_t jin_mark(const jin_rt *rt);
rotor_status jin_cut(jin_rt *rt, size_t mark, jin_val *out);
rotor_status jin_put_val(jin_rt *rt, jin_val v);  /* as str() */
rotor_status jin_put_repr(jin_rt *rt, jin_val v); /* as repr() */
rotor_status jin_put_float(jin_rt *rt, double f, bool user);
rotor_status jin_to_str(jin_rt *rt, jin_val v, jin_val *out);
bool jin_parse_float(base_str s, double *out);
size_t jin_find(jin_str hay, jin_str needle, size_t from); /* SIZE_MAX: absent */
size_t jin_count_chars(jin_str s);
size_t jin_char_offset(jin_str s, size_t chars); /* byte offset of a character index */
bool jin_is_space(int32_t cp);
jin_str jin_strip(jin_str s, const jin_str *chars, bool left, bool right);

/* jinja_value.c: containers and comparison. */
rotor_status jin_list_new(jin_rt *rt, size_t n, jin_list **out);
rotor_status jin_dict_put(jin_rt *rt, jin_dict *d, jin_val key, jin_val value);
rotor_status jin_dict_find(jin_rt *rt, const jin_dict *d, jin_val key, jin_val **out);
bool jin_truthy(jin_val v);
rotor_status jin_equal(jin_rt *rt, jin_val a, jin_val b, bool *out);
rotor_status jin_less(jin_rt *rt, jin_val a, jin_val b, bool *out);
rotor_status jin_contains(jin_rt *rt, jin_val box, jin_val item, bool *out);
rotor_status jin_length(jin_rt *rt, jin_val v, size_t *out);
/* The items of anything that can be walked (a dict: its keys, a string: its characters). */
rotor_status jin_items(jin_rt *rt, jin_val v, const jin_list **out);

/* Arguments of one call. */
typedef struct jin_args {
    jin_val v[JIN_MAX_ARGS];            /* positional first, then keywords */
    base_str names[JIN_MAX_ARGS];       /* of keywords; positional: empty */
    size_t n;                           /* how many */
    size_t n_pos;                       /* of them positional */
    const jin_val *slot[JIN_MAX_SLOTS]; /* by parameter, NULL when absent (see jin_bind) */
} jin_args;

/* A callable of the subset: filter, method, function. `params` names its parameters in order,
 * separated by spaces; "*" takes anything and reads args itself. `self` is the filtered value or
 * the object of the method. */
typedef rotor_status jin_callable(jin_rt *rt, jin_val self, jin_args *args, jin_val *out);
struct jin_func {
    const char *name;   /* as written in templates */
    const char *params; /* see above */
    jin_callable *fn;   /* the work */
};
struct jin_method {
    jin_val self;         /* bound object */
    const jin_func *func; /* the work */
};

/* jinja_eval.c */
rotor_status jin_eval(jin_rt *rt, const jin_node *e, jin_scope *scope, jin_val *out);
rotor_status jin_eval_args(jin_rt *rt, const jin_node *list, jin_scope *scope, jin_args *out);
rotor_status jin_invoke(jin_rt *rt, const jin_func *f, jin_val self, jin_args *args, jin_val *out);
rotor_status jin_attr(jin_rt *rt, jin_val obj, base_str name, jin_val *out);
rotor_status jin_item(jin_rt *rt, jin_val obj, jin_val key, jin_val *out);
rotor_status jin_assign(jin_rt *rt, const jin_node *target, jin_val v, jin_scope *scope);
/* jinja_ops.c */
rotor_status jin_binary(jin_rt *rt, jin_op op, jin_val a, jin_val b, jin_val *out);
rotor_status jin_compare(jin_rt *rt, jin_op op, jin_val a, jin_val b, bool *out);
rotor_status jin_slice_value(jin_rt *rt, jin_val v, const jin_val bounds[3], jin_val *out);
/* jinja_exec.c */
rotor_status jin_call_macro(jin_rt *rt, const jin_macro *m, const jin_args *args, jin_val *out);
/* jinja_filters.c, jinja_tests.c, jinja_methods.c, jinja_funcs.c, jinja_json.c: tables */
const jin_func *jin_find_filter(base_str name);
const jin_func *jin_find_sequence_filter(base_str name);
const jin_func *jin_find_method(jin_kind kind, base_str name);
const jin_func *jin_func_at(size_t i); /* global functions; NULL past the end */
bool jin_have_test(base_str name);
rotor_status jin_test(jin_rt *rt, base_str name, jin_val v, const jin_args *args, bool *out);
jin_callable jin_filter_tojson;
jin_callable jin_strftime_now;
/* String transformations shared by filters and methods. */
typedef enum jin_case {
    JIN_UPPER,
    JIN_LOWER,
    JIN_CAPITALIZE,
    JIN_TITLE_FILTER,
    JIN_TITLE
} jin_case;
rotor_status jin_change_case(jin_rt *rt, jin_str s, jin_case how, jin_val *out);
rotor_status jin_replace(jin_rt *rt, jin_val s, const jin_val *const old_new[2],
                         const jin_val *count, jin_val *out);
rotor_status jin_split_lines(jin_rt *rt, jin_str s, jin_val *out);

#endif
