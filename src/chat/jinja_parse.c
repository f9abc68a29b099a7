/* SPDX-License-Identifier: MIT
 *
 * Tokens to a tree: statements. Expressions are in jinja_expr.c.
 *
 * Statements of the subset: if / elif / else, for (with filter and else), set (value, block and
 * namespace attribute), macro, break, continue, raw (in the lexer), and generation, which marks
 * the assistant's text for training and means nothing here but a scope. Other tags are refused by
 * name, so that whoever loads a model learns at once why its template cannot be used.
 */
#include "chat/jinja_internal.h"

static const char *describe(const jin_tok *t, char buf[48]) {
    switch (t->kind) {
    case JIN_T_END:
        return "the end of the template";
    case JIN_T_PRINT_END:
        return "'}}'";
    case JIN_T_BLOCK_END:
        return "'%}'";
    case JIN_T_TEXT:
    case JIN_T_PRINT_BEGIN:
    case JIN_T_BLOCK_BEGIN:
        return "text";
    default:
        break;
    }
    size_t n = BASE_MIN(t->text.n, 40);
    memcpy(buf + 1, t->text.p, n);
    buf[0] = buf[n + 1] = '\'';
    buf[n + 2] = 0;
    return buf;
}

rotor_status jin_syntax(jin_parser *p, const char *expected) {
    char buf[48];
    return base_fail(p->err, ROTOR_E_FORMAT, "chat template line %d: expected %s, found %s",
                     p->tok->line, expected, describe(p->tok, buf));
}

rotor_status jin_node_new(jin_parser *p, jin_node_kind kind, jin_node **out) {
    jin_node *node = jin_take(&p->tree->pool, sizeof *node);
    if (!node) return base_fail_nomem(p->err, "parsing a chat template");
    node->kind = (uint8_t)kind;
    node->line = p->tok->line;
    *out = node;
    return ROTOR_OK;
}

rotor_status jin_enter(jin_parser *p) {
    if (++p->depth <= JIN_MAX_DEPTH) return ROTOR_OK;
    return base_fail(p->err, ROTOR_E_FORMAT, "chat template line %d: nested deeper than %d levels",
                     p->tok->line, JIN_MAX_DEPTH);
}

bool jin_at_op(const jin_parser *p, const char *op) {
    return p->tok->kind == JIN_T_OP && base_str_is(p->tok->text, op);
}

bool jin_at_name(const jin_parser *p, const char *name) {
    return p->tok->kind == JIN_T_NAME && base_str_is(p->tok->text, name);
}

bool jin_skip_op(jin_parser *p, const char *op) {
    bool at = jin_at_op(p, op);
    p->tok += at;
    return at;
}

bool jin_skip_name(jin_parser *p, const char *name) {
    bool at = jin_at_name(p, name);
    p->tok += at;
    return at;
}

static rotor_status block_end(jin_parser *p) {
    if (p->tok->kind != JIN_T_BLOCK_END) return jin_syntax(p, "'%}'");
    p->tok++;
    return ROTOR_OK;
}

/* ==== Bodies ================================================================================== */

static rotor_status parse_statement(jin_parser *p, jin_node **out);

/* True at {% followed by one of the words of `ends` (separated by spaces). */
static bool at_tag(const jin_parser *p, const char *ends) {
    if (p->tok->kind != JIN_T_BLOCK_BEGIN || p->tok[1].kind != JIN_T_NAME) return false;
    base_str word = p->tok[1].text;
    for (const char *e = ends; *e;) {
        size_t n = strcspn(e, " ");
        if (n == word.n && memcmp(e, word.p, n) == 0) return true;
        e += n + (e[n] == ' ');
    }
    return false;
}

static rotor_status parse_piece(jin_parser *p, jin_node **out) {
    if (p->tok->kind == JIN_T_BLOCK_BEGIN) {
        p->tok++;
        return parse_statement(p, out);
    }
    jin_node *node = NULL;
    if (p->tok->kind == JIN_T_TEXT) {
        ROTOR_TRY(jin_node_new(p, JIN_S_TEXT, &node));
        node->value = jin_of_text(p->tok->text);
    } else {
        ROTOR_TRY(jin_node_new(p, JIN_S_PRINT, &node));
        p->tok++;
        ROTOR_TRY(jin_parse_tuple(p, JIN_TERNARY, &node->a));
        if (p->tok->kind != JIN_T_PRINT_END) return jin_syntax(p, "'}}'");
    }
    p->tok++;
    *out = node;
    return ROTOR_OK;
}

/* Statements up to a tag named in `ends`, whose name becomes the current token (its {% is past).
 * Without ends: up to the end of the template. */
static rotor_status parse_until(jin_parser *p, const char *ends, jin_node **out) {
    jin_node *first = NULL, **tail = &first;
    ROTOR_TRY(jin_enter(p));
    while (!at_tag(p, ends)) {
        if (p->tok->kind == JIN_T_END) {
            if (!*ends) break;
            return base_fail(p->err, ROTOR_E_FORMAT,
                             "chat template line %d: the template ends where {%% %s %%} is missing",
                             p->tok->line, ends);
        }
        ROTOR_TRY(parse_piece(p, tail));
        tail = &(*tail)->next;
    }
    p->depth--;
    p->tok += *ends != 0;
    *out = first;
    return ROTOR_OK;
}

/* The rest of an opening tag, the body, and the closing tag. */
static rotor_status parse_body(jin_parser *p, const char *end, jin_node **out) {
    ROTOR_TRY(block_end(p));
    ROTOR_TRY(parse_until(p, end, out));
    p->tok++;
    return block_end(p);
}

/* ==== Statements ============================================================================== */

static rotor_status parse_if(jin_parser *p, jin_node *first) {
    for (jin_node *node = first;;) {
        ROTOR_TRY(jin_parse_tuple(p, 0, &node->a));
        ROTOR_TRY(block_end(p));
        ROTOR_TRY(parse_until(p, "elif else endif", &node->body));
        if (jin_skip_name(p, "elif")) {
            ROTOR_TRY(jin_node_new(p, JIN_S_IF, &node->other));
            node = node->other;
            node->op = JIN_OP_ELIF;
            continue;
        }
        if (jin_skip_name(p, "else")) {
            ROTOR_TRY(block_end(p));
            ROTOR_TRY(parse_until(p, "endif", &node->other));
        }
        p->tok++;
        return block_end(p);
    }
}

static rotor_status check_names(jin_parser *p, const jin_node *t, bool allow_attr) {
    if (t->kind == JIN_E_NAME) {
        static const char *const fixed[] = {"loop", "self", "super"};
        for (size_t i = 0; i < BASE_COUNT(fixed); i++)
            if (base_str_is(t->name, fixed[i]) && (i || !allow_attr)) goto bad;
        return ROTOR_OK;
    }
    if (allow_attr && t->kind == JIN_E_ATTR && t->a->kind == JIN_E_NAME) return ROTOR_OK;
    if (t->kind != JIN_E_TUPLE && t->kind != JIN_E_LIST) goto bad;
    for (const jin_node *c = t->list; c; c = c->next) ROTOR_TRY(check_names(p, c, allow_attr));
    return ROTOR_OK;
bad:
    return base_fail(p->err, ROTOR_E_FORMAT, "chat template line %d: cannot assign to this",
                     t->line);
}

/* A name, names with commas, or (set only) an attribute of a namespace. */
static rotor_status parse_target(jin_parser *p, bool allow_attr, jin_node **out) {
    jin_node *first = NULL, *tuple = NULL;
    ROTOR_TRY(jin_parse_primary(p, &first));
    if (allow_attr && jin_skip_op(p, ".")) {
        jin_node *attr = NULL;
        ROTOR_TRY(jin_node_new(p, JIN_E_ATTR, &attr));
        if (p->tok->kind != JIN_T_NAME) return jin_syntax(p, "a name");
        attr->a = first;
        attr->name = (p->tok++)->text;
        first = attr;
    }
    *out = first;
    if (jin_at_op(p, ",")) {
        ROTOR_TRY(jin_node_new(p, JIN_E_TUPLE, &tuple));
        tuple->list = first;
        for (jin_node **tail = &first->next; jin_skip_op(p, ",");) {
            if (p->tok->kind != JIN_T_NAME || jin_at_name(p, "in")) {
                if (!jin_at_op(p, "(")) break;
            }
            ROTOR_TRY(jin_parse_primary(p, tail));
            tail = &(*tail)->next;
        }
        *out = tuple;
    }
    return check_names(p, *out, allow_attr);
}

static rotor_status parse_for(jin_parser *p, jin_node *node) {
    ROTOR_TRY(parse_target(p, false, &node->a));
    if (!jin_skip_name(p, "in")) return jin_syntax(p, "'in'");
    ROTOR_TRY(jin_parse_tuple(p, 0, &node->b));
    if (jin_skip_name(p, "if")) ROTOR_TRY(jin_parse_expr(p, &node->c));
    if (jin_at_name(p, "recursive"))
        return base_fail(p->err, ROTOR_E_UNSUPPORTED,
                         "chat template line %d: recursive loops are outside the template subset",
                         p->tok->line);
    ROTOR_TRY(block_end(p));
    p->loops++;
    ROTOR_TRY(parse_until(p, "else endfor", &node->body));
    p->loops--;
    if (jin_skip_name(p, "else")) {
        ROTOR_TRY(block_end(p));
        ROTOR_TRY(parse_until(p, "endfor", &node->other));
    }
    p->tok++;
    return block_end(p);
}

static rotor_status parse_set(jin_parser *p, jin_node *node) {
    ROTOR_TRY(parse_target(p, true, &node->a));
    if (jin_skip_op(p, "=")) {
        ROTOR_TRY(jin_parse_tuple(p, JIN_TERNARY, &node->b));
        return block_end(p);
    }
    node->kind = JIN_S_SETBLOCK;
    if (jin_at_op(p, "|")) {
        jin_node *text = NULL;
        ROTOR_TRY(jin_node_new(p, JIN_E_NAME, &text));
        text->name = base_str_of(JIN_BLOCK);
        ROTOR_TRY(jin_parse_filters(p, text, &node->b));
    }
    return parse_body(p, "endset", &node->body);
}

static rotor_status parse_macro(jin_parser *p, jin_node *node) {
    if (p->tok->kind != JIN_T_NAME) return jin_syntax(p, "the macro's name");
    node->name = (p->tok++)->text;
    if (!jin_skip_op(p, "(")) return jin_syntax(p, "'('");
    jin_node **tail = &node->list;
    bool has_default = false;
    for (int n = 0; !jin_skip_op(p, ")"); n++) {
        if (n && !jin_skip_op(p, ",")) return jin_syntax(p, "',' or ')'");
        if (p->tok->kind != JIN_T_NAME || n == JIN_MAX_ARGS)
            return jin_syntax(p, "a parameter (at most 16)");
        ROTOR_TRY(jin_node_new(p, JIN_E_KEYWORD, tail));
        (*tail)->name = (p->tok++)->text;
        if (jin_skip_op(p, "=")) {
            has_default = true;
            ROTOR_TRY(jin_parse_expr(p, &(*tail)->a));
        } else if (has_default) {
            return jin_syntax(p, "a default value");
        }
        tail = &(*tail)->next;
    }
    int outer_loops = p->loops;
    p->loops = 0;
    ROTOR_TRY(parse_body(p, "endmacro", &node->body));
    p->loops = outer_loops;
    return ROTOR_OK;
}

static rotor_status parse_jump(jin_parser *p, jin_node *node) {
    if (!p->loops)
        return base_fail(p->err, ROTOR_E_FORMAT,
                         "chat template line %d: break or continue outside a loop", node->line);
    return block_end(p);
}

static rotor_status unknown_tag(jin_parser *p) {
    static const char *const known[] = {"call",       "filter", "with",    "include",
                                        "import",     "from",   "extends", "block",
                                        "autoescape", "do",     "trans",   "debug"};
    char buf[48];
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (base_str_is(p->tok->text, known[i]))
            return base_fail(p->err, ROTOR_E_UNSUPPORTED,
                             "chat template line %d: the tag {%% %s %%} is outside the template "
                             "subset",
                             p->tok->line, known[i]);
    return base_fail(p->err, ROTOR_E_FORMAT, "chat template line %d: unexpected tag %s",
                     p->tok->line, describe(p->tok, buf));
}

static rotor_status parse_statement(jin_parser *p, jin_node **out) {
    static const struct {
        const char *word;                                /* after {% */
        jin_node_kind kind;                              /* of the node */
        rotor_status (*parse)(jin_parser *, jin_node *); /* the rest of it */
    } table[] = {{"if", JIN_S_IF, parse_if},         {"for", JIN_S_FOR, parse_for},
                 {"set", JIN_S_SET, parse_set},      {"macro", JIN_S_MACRO, parse_macro},
                 {"break", JIN_S_BREAK, parse_jump}, {"continue", JIN_S_CONTINUE, parse_jump}};
    for (size_t i = 0; i < BASE_COUNT(table); i++) {
        if (!jin_at_name(p, table[i].word)) continue;
        ROTOR_TRY(jin_node_new(p, table[i].kind, out));
        p->tok++;
        return table[i].parse(p, *out);
    }
    if (!jin_skip_name(p, "generation")) return unknown_tag(p);
    ROTOR_TRY(jin_node_new(p, JIN_S_SCOPE, out));
    int outer_loops = p->loops;
    p->loops = 0; /* the reference compiles the body as a function of its own */
    ROTOR_TRY(parse_body(p, "endgeneration", &(*out)->body));
    p->loops = outer_loops;
    return ROTOR_OK;
}

rotor_status jin_parse(jin_tree *tree, base_str source, rotor_error *err) {
    jin_tok *tok;
    tree->pool.max_bytes = JIN_MAX_TREE_BYTES;
    ROTOR_TRY(jin_lex(&tree->pool, source, &tok, err));
    jin_parser p = {.tree = tree, .tok = tok, .err = err};
    return parse_until(&p, "", &tree->body);
}

void jin_tree_free(jin_tree *tree) {
    jin_pool_free(&tree->pool);
    tree->body = NULL;
}
