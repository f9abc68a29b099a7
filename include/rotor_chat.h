/* SPDX-License-Identifier: MIT
 *
 * rotor_chat.h: conversations that are more than text. Models of the Harmony format (gpt-oss) think
 * before they answer and may call functions; other models write calls in the text of their answer.
 *
 *     rotor_chat_prompt(engine, turns, n_turns, NULL, &ids, &n, NULL, &err);
 *     rotor_reply_create(&options.reply, engine, on_piece, &me, &err);
 *     rotor_generate(session, ids, n, &options, &result, &err);
 *
 * What follows such a prompt keeps to the format, with a reply or without, in beams, too: an id
 * that is neither text nor has its place there is not chosen. What is read is not asked to.
 *
 * With other models rotor_chat_prompt does what rotor_chat_tokenize does, and replies have calls
 * and answer only (rotor_reply_create_calls). Rendering is safe from any thread; a reply is used by
 * one thread at a time. Rules as in rotor.h.
 */
#ifndef ROTOR_CHAT_H
#define ROTOR_CHAT_H

#include "rotor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Does this model's answer come in parts (rotor_reply)? */
ROTOR_API bool rotor_chat_has_parts(const rotor_engine *e);
/* How this model writes calls of functions: "harmony", or the family of its chat template
 * ("hermes", "llama", "mistral", … docs/serving.md); NULL: it knows no tools. */
ROTOR_API const char *rotor_chat_calls(const rotor_engine *e);

typedef struct rotor_tool_call {
    const char *name;      /* function; of a tool that is none of the caller's "browser.search" */
    const char *arguments; /* as the model wrote them: JSON if all went well */
    const char *id; /* of a turn: what its result names it by; may be NULL. Of a reply NULL */
} rotor_tool_call;

typedef struct rotor_turn {
    const char *role;             /* "system", "user", "assistant", "tool" */
    const char *content;          /* text; NULL: none */
    const char *name;             /* of "tool": the function whose result content is */
    const char *reasoning;        /* of "assistant": what it thought; NULL: not known */
    const rotor_tool_call *calls; /* [n_calls] of "assistant", behind its content */
    size_t n_calls;               /* how many */
    const uint32_t *ids;          /* [n_ids] of "assistant": the answer as it was generated. It
                                     stands for all the rest and keeps the session's cache of use.
                                     In a format without parts it stands for content, without the
                                     id that ended it, and only where the template writes content
                                     unchanged and a control token behind it */
    size_t n_ids;                 /* 0: not known */
    const char *call_id;          /* of "tool": id of the call; NULL: the oldest without a result */
} rotor_turn;

typedef enum rotor_effort {
    ROTOR_EFFORT_DEFAULT, /* medium */
    ROTOR_EFFORT_LOW,
    ROTOR_EFFORT_MEDIUM,
    ROTOR_EFFORT_HIGH
} rotor_effort;

typedef struct rotor_chat_options {
    uint32_t size;       /* sizeof(rotor_chat_options) */
    rotor_effort effort; /* how long to think */
    const char *date;    /* "2025-06-28"; NULL: today; "": none */
    const char *tools;   /* functions the model may call, a JSON array of {"type": "function",
                            "function": {name, description, parameters}}; NULL: none */
} rotor_chat_options;
ROTOR_API rotor_chat_options rotor_chat_options_default(void);
/* As rotor_chat_tokenize. opt may be NULL. A format without tools refuses tools and calls with
 * ROTOR_E_UNSUPPORTED. */
ROTOR_API rotor_status rotor_chat_prompt(const rotor_engine *e, const rotor_turn *turns,
                                         size_t n_turns, const rotor_chat_options *opt,
                                         uint32_t **ids, size_t *n, char **prompt,
                                         rotor_error *err);

typedef enum rotor_part {
    ROTOR_PART_REASONING, /* not for everybody's eyes */
    ROTOR_PART_PREAMBLE,  /* said before functions are called */
    ROTOR_PART_ANSWER,    /* of several, a line feed between two is part of the text */
    ROTOR_PART_CALL       /* arguments of a function */
} rotor_part;

typedef struct rotor_piece {
    rotor_part part;  /* of which */
    bool begins;      /* a message of this part begins; no text */
    bool ends;        /* it has ended; no text */
    const char *name; /* of a call; else "" */
    const char *text; /* whole characters; valid during the call */
    size_t n_bytes;   /* of text */
} rotor_piece;

/* An answer taken apart as it comes, whatever the model has made of its format. on_piece may be
 * NULL. ROTOR_E_UNSUPPORTED: this model's answers have no parts. Used by one thread at a time; the
 * engine outlives it. */
typedef struct rotor_reply rotor_reply;
ROTOR_API rotor_status rotor_reply_create(rotor_reply **out, const rotor_engine *e,
                                          void (*on_piece)(void *user, const rotor_piece *piece),
                                          void *user, rotor_error *err);
ROTOR_API void rotor_reply_free(rotor_reply **r);
/* Functions that may be called in the text of an answer. */
typedef struct rotor_call_options {
    uint32_t size;     /* sizeof(rotor_call_options) */
    const char *tools; /* as in rotor_chat_options; a function with "strict": true must have
                          parameters that a grammar can keep to, others that have not are kept to a
                          JSON object */
    bool required;     /* the answer is a call, or several; else it may be text, too. With the
                          Harmony format the model may think before it */
    bool single;       /* at most one */
} rotor_call_options;
ROTOR_API rotor_call_options rotor_call_options_default(void);
/* A reply for a model that writes calls in its text (rotor_chat_calls, not "harmony"): it has
 * answer and calls, each of which is told when it is whole. ROTOR_E_FORMAT: tools are not what they
 * should be. */
ROTOR_API rotor_status rotor_reply_create_calls(
    rotor_reply **out, const rotor_engine *e, const rotor_call_options *opt,
    void (*on_piece)(void *user, const rotor_piece *piece), void *user, rotor_error *err);
/* Keeps calls to the parameters of their functions: from the first token if calls are required,
 * else from where one begins. For rotor_gen_options.grammar, with a model of the Harmony format for
 * rotor_gen_options.calls. */
ROTOR_API rotor_status rotor_grammar_create_calls(rotor_grammar **out, rotor_engine *e,
                                                  const rotor_call_options *opt, rotor_error *err);
/* Where no generation does it (rotor_gen_options.reply): a generated id, in order, and last the
 * result's end_id. ROTOR_NO_ID is ignored. */
ROTOR_API rotor_status rotor_reply_put(rotor_reply *r, uint32_t id, rotor_error *err);
/* Of a reply that reads calls: what the last id has written, calls and all; in whole characters, so
 * that one which is cut short comes with a later id. Valid until the next. */
ROTOR_API const char *rotor_reply_wrote(const rotor_reply *r, size_t *n_bytes);
/* No more ids. */
ROTOR_API rotor_status rotor_reply_end(rotor_reply *r, rotor_error *err);
/* After the end: all text of a part (not ROTOR_PART_CALL), never NULL; lives as long as the reply.
 */
ROTOR_API const char *rotor_reply_text(const rotor_reply *r, rotor_part part);
/* Its bytes; there may be zeros among them. */
ROTOR_API size_t rotor_reply_bytes(const rotor_reply *r, rotor_part part);
/* After the end: calls[n]. */
ROTOR_API size_t rotor_reply_calls(const rotor_reply *r, const rotor_tool_call **calls);

#ifdef __cplusplus
}
#endif
#endif
