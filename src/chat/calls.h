/* SPDX-License-Identifier: MIT
 *
 * calls: functions that a model calls in the text of its answer. How calls are written is a matter
 * of the model's family; which one, its chat template and vocabulary say.
 *
 *     hermes   <tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>, several in a row
 *     bar      <|tool_call|>[{"name": …, "arguments": {…}}, …]
 *     mistral  [TOOL_CALLS][{"name": …, "arguments": {…}}, …]
 *     args     [TOOL_CALLS]NAME[ARGS]{…}, several in a row
 *     llama    {"name": …, "parameters": {…}}, also behind <|python_tag|>
 *     generic  {"name": …, "arguments": {…}}
 *
 * Harmony has its own parser (harmony.h); its calls are messages, whose rules are here.
 */
#ifndef CALLS_H
#define CALLS_H

#include "base/base.h"
#include "chat/harmony.h"
#include "text/text.h"

/* ---- Families -------------------------------------------------------------------------------- */

enum { CHAT_MARKS = 4 };

typedef struct chat_family {
    const char *name;          /* as above */
    const char *hint, *hint_2; /* texts that the template has; NULL: none is asked for */
    const char *token;         /* or a token that the vocabulary has; NULL: none */
    const char *open;          /* in front of calls; NULL: nothing */
    const char *close;         /* behind a call; NULL: nothing */
    const char *args;          /* between a name and its arguments, where no key is; else NULL */
    const char *id;  /* in front of an id behind the name, which is passed over; or NULL */
    const char *key; /* of the arguments */
    bool list;       /* calls stand in a JSON list */
    bool bare;       /* they may come without `open`, where a line begins */
    bool one;        /* one call in an answer */
} chat_family;

/* Of a template that renders tools; v may be NULL. Never NULL. */
const chat_family *chat_family_of(base_str source, const text_vocab *v);
const chat_family *chat_family_named(const char *name); /* NULL: there is none */
/* Marks of a family, for i below CHAT_MARKS; NULL: it has none there. */
const char *chat_family_mark(const chat_family *f, size_t i);

/* ---- Functions ------------------------------------------------------------------------------- */

typedef struct chat_tool {
    char *name;   /* owned */
    char *schema; /* of its parameters, a JSON object; owned */
    bool strict;  /* arguments are to be kept to it */
} chat_tool;
typedef struct chat_tools {
    chat_tool *list; /* [n], owned */
    size_t n;        /* how many */
} chat_tools;
/* From a JSON array of {"type": "function", "function": {name, parameters, strict}}. ROTOR_E_FORMAT
 * says what is wrong with it. */
rotor_status chat_tools_read(chat_tools *out, base_str json, rotor_error *err);
void chat_tools_free(chat_tools *t);

/* What answers are kept to, as GBNF in which the parameters of function i are the rule "args-i". */
typedef struct chat_calls_rules {
    base_buf text;  /* an answer of calls and nothing else */
    base_buf watch; /* of a family without `open`: a beginning that is one of a call, and whatever
                       follows; else empty */
} chat_calls_rules;
/* single: one call. Fails for want of memory only. */
rotor_status chat_calls_write(const chat_family *f, const chat_tools *t, bool single,
                              chat_calls_rules *out);
void chat_calls_rules_free(chat_calls_rules *r);

/* Marks of Harmony in the following rules, numbered as grammars want them. */
typedef enum harmony_rule_mark {
    HARMONY_RULE_CHANNEL,   /* <|channel|> */
    HARMONY_RULE_MESSAGE,   /* <|message|> */
    HARMONY_RULE_CONSTRAIN, /* <|constrain|> */
    HARMONY_RULE_CALL,      /* <|call|> */
    HARMONY_RULE_END,       /* <|end|> */
    HARMONY_RULE_MARKS      /* how many; an id that is none of these */
} harmony_rule_mark;
harmony_rule_mark harmony_rule_mark_of(const harmony *h, uint32_t id);
const char *harmony_rule_mark_name(size_t i); /* the rule that stands for it, for i below MARKS */
/* GBNF of one message of the assistant's, from behind its role: up to <|message|> where that is all
 * that is bound, up to <|call|> where it calls a function, whose parameters are the rule "args-i".
 * In front of it stands HARMONY_RULE_FIRST, or HARMONY_RULE_LATER for messages behind the first.
 * required: thinking comes first, if at all, then a call. Fails for want of memory only. */
#define HARMONY_RULE_FIRST "1"
#define HARMONY_RULE_LATER "2"
rotor_status harmony_write_rules(const chat_tools *t, bool required, bool single, base_buf *out);

/* ---- Reading answers ------------------------------------------------------------------------- */

/* Takes an answer apart as it comes. Text goes on at once, but for what may be the beginning of a
 * call and for white space, which goes with it. A call is told when it is whole: a JSON object with
 * the name of a function and an object of arguments, which models may write as a JSON string,
 * without its last brackets, and with line ends inside strings. What turns out to be no call is
 * text, marks and all. */
typedef struct chat_reader chat_reader;
typedef struct chat_reader_hooks {
    void (*text)(void *user, base_str text);                     /* more of the answer */
    void (*call)(void *user, base_str name, base_str arguments); /* a JSON object */
    void *user;                                                  /* passed to them */
} chat_reader_hooks;
/* f and tools outlive it. single: nothing counts behind the first call. */
rotor_status chat_reader_create(chat_reader **out, const chat_family *f, const chat_tools *tools,
                                bool single, const chat_reader_hooks *hooks);
void chat_reader_free(chat_reader **r);
/* Fails for want of memory only. */
rotor_status chat_reader_put(chat_reader *r, base_str text);
/* No more text. whole: the model has ended it, nothing was cut. */
rotor_status chat_reader_end(chat_reader *r, bool whole);
/* Nothing that follows counts. */
bool chat_reader_is_done(const chat_reader *r);

#endif
