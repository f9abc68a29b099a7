/* SPDX-License-Identifier: MIT
 *
 * chat: conversations to prompts. Built-in renderers (bitnet, ChatML, Llama-3, plain), a bounded
 * subset of Jinja for models' own templates, and what ends an answer.
 *
 * A prompt is a list of parts, each either template text (control tokens are parsed in it) or user
 * text (never): a user cannot write a control token. A chat_template is immutable; rendering keeps
 * all state on the heap per call, so one template serves many threads.
 */
#ifndef CHAT_H
#define CHAT_H

#include "base/base.h"
#include "chat/calls.h"   /* functions that are called in the text of an answer */
#include "chat/harmony.h" /* the format of gpt-oss, which has more to it than text */
#include "text/text.h"

typedef struct chat_message {
    base_str role;    /* "system", "user", "assistant", "tool" … */
    base_str content; /* UTF-8 */
} chat_message;

/* What a message may have beside its text. */
typedef struct chat_called {
    base_str name, arguments, id; /* of the function; JSON; id may be empty */
} chat_called;
typedef struct chat_extra {
    const chat_called *calls; /* [n_calls] of the assistant */
    size_t n_calls;           /* how many */
    base_str name, call_id;   /* of a tool: which function, which call; may be empty */
    base_str reasoning;       /* what the assistant thought; p NULL: not known */
} chat_extra;
typedef struct chat_conversation {
    const chat_message *messages; /* [n] */
    const chat_extra *extras;     /* [n]; NULL: none has any */
    size_t n;                     /* messages */
    base_str tools;               /* JSON array of functions; empty: none */
    bool add_reply;               /* append the opening of the assistant's turn */
} chat_conversation;

typedef struct chat_template chat_template;

/* What is known about the model when choosing. */
typedef struct chat_hints {
    base_str architecture;       /* general.architecture or model_type; may be empty */
    base_str model_template;     /* Jinja text from the file; may be empty */
    base_str bos_text, eos_text; /* token texts, for the template's bos_token, eos_token */
    const text_vocab *vocab;     /* for the marks of calls; may be NULL */
    bool has_im_start;           /* the vocabulary has <|im_start|> */
    bool has_header_id;          /* the vocabulary has <|start_header_id|> */
    int64_t (*now_s)(void); /* UTC seconds since 1970 for templates that print the date; NULL: the
                               machine's clock */
} chat_hints;

/* override: NULL, a built-in name ("bitnet", "chatml", "llama3", "plain", …) or Jinja text. A model
 * of a bitnet architecture gets the built-in rendering, whatever its file says (the official file's
 * template is a placeholder). A model without any template gets chatml or llama3 when its
 * vocabulary has their tokens, else "plain": `User: … Assistant: `. Jinja text outside the subset
 * fails with ROTOR_E_UNSUPPORTED, malformed text with ROTOR_E_FORMAT; the message names the
 * construct and its line. The caller may then choose a built-in. */
rotor_status chat_template_create(chat_template **out, const chat_hints *hints,
                                  const char *override, rotor_error *err);
void chat_template_free(chat_template **t);
/* One line for the log: which template and why. */
const char *chat_template_describe(const chat_template *t);
/* Names of the built-in templates; NULL past the end. */
const char *chat_builtin_name(size_t i);

/* A prompt in parts; owned by the caller, freed by chat_prompt_free. */
typedef struct chat_part {
    size_t begin, end;   /* byte range in text */
    bool literal;        /* user text: control tokens are not parsed in it */
    const uint32_t *ids; /* [n_ids] that it was generated as, borrowed */
    size_t n_ids;        /* 0: not known */
} chat_part;
typedef struct chat_prompt {
    base_buf text;    /* the rendered prompt */
    chat_part *parts; /* in order, covering text */
    size_t n_parts;   /* how many */
    size_t cap_parts; /* allocated */
} chat_prompt;
void chat_prompt_free(chat_prompt *p);

/* Renders messages[n]; add_reply: append the opening of the assistant's turn. Content and unusual
 * roles are user text. A template that refuses the conversation fails with ROTOR_E_ARG. */
rotor_status chat_render(const chat_template *t, const chat_message *messages, size_t n,
                         bool add_reply, chat_prompt *out, rotor_error *err);
/* The same with functions and calls, for a template that knows them (chat_calls_of). Arguments that
 * are a JSON object are given to it as one. Calls have ids of nine letters and digits there,
 * counted from the first, and results that of their call. ROTOR_E_FORMAT: tools are no JSON array.
 */
rotor_status chat_render_all(const chat_template *t, const chat_conversation *talk,
                             chat_prompt *out, rotor_error *err);
/* How the models of a template write calls; NULL: it knows no tools. */
const chat_family *chat_calls_of(const chat_template *t);
/* A text that was generated: where it stands in the prompt as it is, the first time at or behind
 * part `from`, its ids are known. Returns the part behind it; `from`: it is not there. */
size_t chat_prompt_known(chat_prompt *p, size_t from, base_str text, const uint32_t *ids,
                         size_t n_ids);
/* Tokenises a rendered prompt: control tokens are found in template text only, the text between
 * them is encoded as one run, so that borders between parts do not change the ids. Exactly one BOS
 * if the vocabulary wants one or the prompt begins with its text. A part whose ids are known is
 * these, if a control token follows it: then what stands before it is encoded as it was when it was
 * the whole prompt. *out is written only on success. */
rotor_status chat_encode(const chat_prompt *p, const text_vocab *v, text_ids *out,
                         rotor_error *err);
/* Texts that end an answer beside the end-of-generation ids ("\nUser:" for plain); i from 0. */
const char *chat_stop_text(const chat_template *t, size_t i);

#endif
