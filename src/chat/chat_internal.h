/* SPDX-License-Identifier: MIT
 *
 * chat_internal: what the room's own files share. No other room includes this.
 */
#ifndef CHAT_INTERNAL_H
#define CHAT_INTERNAL_H

#include "chat/calls.h"
#include "chat/chat.h"
#include "chat/jinja_internal.h"

typedef struct chat_builtin chat_builtin;

struct chat_template {
    const chat_builtin *builtin; /* NULL: the Jinja tree below */
    jin_tree tree;               /* when builtin is NULL */
    const chat_family *calls;    /* how calls are written; NULL: no tools */
    char *bos, *eos;             /* token texts, owned */
    int64_t (*now_s)(void);      /* clock of strftime_now */
    char describe[200];          /* one line for the log */
};

const chat_builtin *chat_builtin_find(base_str name);
const char *chat_builtin_stop(const chat_builtin *b, size_t i);
rotor_status chat_builtin_render(const chat_template *t, const chat_message *messages, size_t n,
                                 bool add_reply, chat_prompt *out, rotor_error *err);

/* chat_values.c: the conversation and its tools as values of a template. */
rotor_status chat_set_messages(jin_rt *rt, const chat_conversation *talk);

/* Whether a text stands somewhere in another. */
bool chat_has(base_str text, const char *what);

/* A text in quotes of GBNF. */
void chat_put_literal(base_buf *out, const char *s);

/* Appends text to a prompt; neighbours of the same kind become one part. */
rotor_status chat_prompt_add(chat_prompt *p, base_str text, bool literal);
/* False for the roles that templates know: those may be part of a control token's text. */
bool chat_role_is_literal(base_str role);

#endif
