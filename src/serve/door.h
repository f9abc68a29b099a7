/* SPDX-License-Identifier: MIT
 *
 * door.h: THE DOOR for protocols. A protocol is one file (openai_chat.c is the model to read)
 * with one `serve_dialect` and one row or more in the route table (routes.c). It knows JSON on one
 * side and, on the other, what stands in this header; it knows neither sockets nor engines.
 *
 *     JSON body --read()--> serve_request --core--> serve_event … --event()--> bytes of a stream
 *                                                                 --whole()--> one JSON object
 *
 * To write one:
 *   1. read(): fill c->req from c->body. Use the readers below: they say what is wrong, with the
 *      path of the field, and treat null as absent. Make memory with serve_keep(): it lives as long
 *      as the call, as do the strings inside c->body. Start sampling from c->req.gen, which holds
 *      the model's own settings. Anything of your own goes to c->state.
 *   2. event(): for a stream. Append to `out` what this event means in your protocol; often
 *      nothing. Called in order, for each choice: events are listed below.
 *   3. whole(): without a stream. All choices have ended; c->choices says what came.
 *   4. fault(): the body of an error in your protocol.
 *
 * Threading: read() runs on a connection's thread, or the librarian's where a store is searched,
 * the rest later on the worker's; never two at once for a call. Formatting should be quick: the
 * engine waits meanwhile.
 */
#ifndef SERVE_DIALECT_H
#define SERVE_DIALECT_H

#include <jansson.h>

#include "base/base.h"
#include "rotor.h"
#include "rotor_chat.h"

typedef struct serve_call serve_call;

/* ---- What went wrong, for whoever asked ------------------------------------------------------ */

typedef struct serve_fault {
    int status;        /* HTTP */
    const char *type;  /* "invalid_request_error" …; static */
    const char *code;  /* "invalid_value" …; static; NULL: none */
    char param[96];    /* "messages[1].role"; "": none */
    char message[640]; /* a sentence */
    uint64_t n_prompt; /* a prompt that is too long: its tokens … */
    uint64_t n_ctx;    /* … and what fits; 0: another fault */
    int retry_s;       /* worth another try after so many seconds; 0: it is not */
    uint32_t n_loaded; /* while models are being opened: how many are open … */
    uint32_t n_models; /* … of how many; 0: another fault */
} serve_fault;

/* Every reason there is; reasons.c has a row for each. */
typedef enum serve_reason {
    SERVE_INVALID_JSON,
    SERVE_INVALID_VALUE,
    SERVE_MISSING_REQUIRED_PARAMETER,
    SERVE_UNSUPPORTED_PARAMETER,
    SERVE_CONTEXT_LENGTH_EXCEEDED,
    SERVE_PREVIOUS_RESPONSE_NOT_FOUND,
    SERVE_INVALID_API_KEY,
    SERVE_ORIGIN_NOT_ALLOWED,
    SERVE_HOST_NOT_ALLOWED,
    SERVE_STORE_READ_ONLY,
    SERVE_UNKNOWN_URL,
    SERVE_MODEL_NOT_FOUND,
    SERVE_STORE_NOT_FOUND,
    SERVE_DOCUMENT_NOT_FOUND,
    SERVE_RESPONSE_NOT_FOUND,
    SERVE_METHOD_NOT_ALLOWED,
    SERVE_STORE_LOCKED,
    SERVE_REQUEST_TOO_LARGE,
    SERVE_NO_ROOM_FOR_SOURCES,
    SERVE_URI_TOO_LONG,
    SERVE_UNSUPPORTED_MEDIA_TYPE,
    SERVE_QUEUE_FULL,
    SERVE_INTERNAL_ERROR,
    SERVE_NOT_SUPPORTED,
    SERVE_MODEL_LOADING,
    SERVE_MODEL_CHANGED,
    SERVE_STORE_UNAVAILABLE,
    SERVE_CANCELLED,
    SERVE_SHUTTING_DOWN,
    SERVE_STORAGE_FAILED,
    SERVE_N_REASONS
} serve_reason;
typedef struct serve_reason_row {
    int status;         /* HTTP */
    const char *type;   /* class of the code, as OpenAI and Anthropic have them */
    const char *code;   /* for programs */
    const char *means;  /* for the documentation, which is made from it … */
    const char *advice; /* … and what to do */
} serve_reason_row;
extern const serve_reason_row serve_reasons[SERVE_N_REASONS];

/* All return false, to be passed on. */
bool serve_refuse(serve_fault *f, const char *param, serve_reason why, const char *fmt, ...)
    BASE_PRINTF(4, 5);
bool serve_fail_with(serve_fault *f, serve_reason why, const char *fmt, ...) BASE_PRINTF(3, 4);
bool serve_no_memory(serve_fault *f);
/* {"error": {"message", "type", "param", "code"}}, OpenAI's form. */
json_t *serve_openai_fault(const serve_fault *f);

/* ---- Reading JSON ---------------------------------------------------------------------------- */

/* An object inside the body, and the path to it ("messages[1]"; "": the body itself). */
typedef struct serve_at {
    const json_t *object; /* borrowed */
    char path[72];        /* for messages */
} serve_at;

/* The field; NULL when it is absent or null. */
json_t *serve_field(serve_at at, const char *key);
/* "messages[1].role" into out[96]. */
const char *serve_path(serve_at at, const char *key, char out[96]);
/* The i-th object of the list at.key. False: it is no object. */
bool serve_item(serve_at at, const char *key, size_t i, serve_at *out, serve_fault *f);
/* An object that is a field. *out has object NULL when it is absent. */
bool serve_object(serve_at at, const char *key, serve_at *out, serve_fault *f);
/* These leave *out as it is when the field is absent; false: a wrong type or out of range. */
bool serve_read_bool(serve_at at, const char *key, bool *out, serve_fault *f);
bool serve_read_int(serve_at at, const char *key, int64_t min, int64_t max, int64_t *out,
                    serve_fault *f);
bool serve_read_real(serve_at at, const char *key, double min, double max, double *out,
                     serve_fault *f);
bool serve_read_text(serve_at at, const char *key, const char **out, serve_fault *f);
/* An array; NULL when absent. */
bool serve_read_list(serve_at at, const char *key, const json_t **out, serve_fault *f);

/* ---- What is asked for ----------------------------------------------------------------------- */

typedef struct serve_prompt {
    /* One of these three: a conversation, a text, ids. */
    const rotor_turn *turns; /* [n_turns] */
    size_t n_turns;          /* how many */
    const char *text;        /* [n_bytes], plain; with `suffix` the model fills the gap */
    size_t n_bytes;          /* of text */
    const char *suffix;      /* what stands behind the gap; NULL: there is none */
    const uint32_t *ids;     /* [n_ids] */
    size_t n_ids;            /* how many */
    const uint32_t *before;  /* [n_before] of a conversation: tokens that stand in front of it */
    size_t n_before;         /* how many */
    bool special;            /* of text: control tokens in it count as such */
    /* The core's: */
    const uint32_t *tokens; /* [n_tokens] what the model gets */
    size_t n_tokens;        /* how many */
    const char *rendered;   /* of a conversation: as text */
    size_t n_dropped;       /* truncation: tokens that were left out … */
    size_t n_dropped_turns; /* … with so many turns */
    uint8_t said[32];       /* of a conversation whose answer is in parts: digest of all turns */
} serve_prompt;

typedef struct serve_request {
    const char *model;       /* name asked for; NULL: any */
    serve_prompt *prompts;   /* [n_prompts], at least 1 */
    size_t n_prompts;        /* each gives n answers: choice i is answer i % n of prompt i / n */
    uint32_t n;              /* answers per prompt */
    rotor_gen_options gen;   /* sampling, stops, bias, n_top; callbacks are the core's */
    bool max_zero;           /* not one token is to be made */
    bool calls_in_text;      /* calls stand in the text of the answer */
    bool single_call;        /* one call at most */
    const char *tools;       /* JSON array of functions; NULL: none */
    rotor_effort effort;     /* how long to think */
    bool stream;             /* events as they come */
    bool logprobs;           /* of every token */
    bool echo;               /* completions: the prompt is part of the answer */
    bool usage;              /* stream: usage at the end */
    bool progress;           /* stream: how far the prompt is */
    bool truncate;           /* a prompt that is too long loses its oldest turns */
    bool fresh;              /* do not use what is known of the prompt */
    bool timings_per_token;  /* stream: timings in every event */
    uint64_t max_predict_us; /* time for the answer; 0: any */
} serve_request;

/* ---- What comes ------------------------------------------------------------------------------ */

typedef struct serve_token {
    char *text;          /* what it adds to the answer; all together are the answer */
    size_t n_bytes;      /* of text */
    size_t at;           /* where that begins in the choice's text */
    uint32_t id;         /* vocabulary id */
    float logprob;       /* natural logarithm */
    rotor_token top[20]; /* [n_top] alternatives, likeliest first */
    char *top_text[20];  /* [n_top] theirs */
    uint32_t n_top;      /* how many */
} serve_token;

typedef struct serve_tool_call {
    char id[40];        /* "call_…" */
    char *name;         /* of the function */
    base_buf arguments; /* JSON, if the model did well */
} serve_tool_call;

typedef enum serve_finish {
    SERVE_RUNNING, /* it has not ended */
    SERVE_STOP,    /* end of turn or a stop string */
    SERVE_LENGTH,  /* max_tokens, or the context is full */
    SERVE_CALLS,   /* functions are to be called */
    SERVE_CUT      /* cancelled, by the server */
} serve_finish;

typedef struct serve_timing {
    uint32_t n_cached;  /* prompt tokens the cache held */
    uint32_t n_prompt;  /* prompt tokens, those included */
    uint64_t prompt_us; /* for the rest */
    uint32_t n_made;    /* tokens generated */
    uint64_t made_us;   /* from the first of them to the last */
} serve_timing;

/* An answer so far; whole when finish says so. */
typedef struct serve_choice {
    size_t index;           /* among all of the call */
    const serve_prompt *of; /* prompt */
    base_buf text;          /* the answer; with echo, behind the prompt */
    base_buf reasoning;     /* what was thought */
    serve_tool_call *calls; /* [n_calls] */
    size_t n_calls;         /* how many */
    serve_token *tokens;    /* [n_tokens] with logprobs: of the answer (echo: of the prompt, too) */
    size_t n_tokens;        /* how many */
    uint32_t n_reasoning;   /* tokens that were thought */
    serve_finish finish;    /* why it ended */
    const char *stop;       /* the stop string that ended it; NULL: none did */
    bool by_eos;            /* SERVE_STOP: by the model itself */
    bool full;              /* SERVE_LENGTH: by the context */
    serve_timing timing;    /* so far */
    uint32_t *ids;          /* [n_ids] what was generated, when it has ended; the core's */
    size_t n_ids;           /* how many */
    uint32_t end_id;        /* behind them, the id that ended it; ROTOR_NO_ID: none did */
    void *state;            /* the dialect's own */
    struct serve_job *job;  /* the core's */
} serve_choice;

typedef struct serve_usage {
    uint64_t prompt, cached, completion, reasoning; /* tokens */
} serve_usage;

typedef enum serve_event_kind {
    SERVE_BEGIN,          /* first of all, once; no choice */
    SERVE_PING,           /* nothing has come for a while; no choice */
    SERVE_PROGRESS,       /* of a prompt: done, total */
    SERVE_TEXT,           /* more of the answer: text (may be empty where token is there) */
    SERVE_REASONING,      /* more of what is thought: text */
    SERVE_CALL_BEGIN,     /* a function is called: call */
    SERVE_CALL_ARGUMENTS, /* more of its arguments: text, call */
    SERVE_CALL_END,       /* they are whole: call */
    SERVE_CHOICE_END,     /* the choice has ended: choice->finish */
    SERVE_END,            /* last of all, once; serve_usage_of(c); no choice */
    SERVE_FAULT           /* instead of the rest: fault */
} serve_event_kind;

typedef struct serve_event {
    serve_event_kind kind;    /* what happened */
    serve_choice *choice;     /* to which; NULL: the call */
    const char *text;         /* [n_bytes] whole characters */
    size_t n_bytes;           /* of text */
    const serve_token *token; /* SERVE_TEXT with logprobs; NULL: text without one */
    size_t call;              /* of choice->calls */
    uint32_t done, total;     /* SERVE_PROGRESS: tokens */
    uint32_t position;        /* SERVE_PING: in the queue, from 1; 0: being worked on */
    const serve_fault *fault; /* SERVE_FAULT */
} serve_event;

/* ---- A call ---------------------------------------------------------------------------------- */

struct serve_call {
    const struct serve_dialect *dialect; /* how it speaks */
    void *state;                         /* the dialect's own */
    json_t *body;                        /* what was sent; owned */
    serve_request req;                   /* what that means */
    char id[40];                         /* hexadecimal digits, for "chatcmpl-…" and the like */
    int64_t created_s;                   /* Unix time */
    const char *model_id;                /* served name of the model that answers */
    const rotor_engine *engine;          /* it; for thread-safe questions only */
    serve_choice *choices;               /* [n_choices] */
    size_t n_choices;                    /* prompts times n */
    struct serve_inside *inside;         /* the core's */
};

typedef struct serve_dialect {
    const char *name;        /* in metrics and logs: "chat" */
    const char *stream_type; /* Content-Type of a stream */
    bool streams;            /* unless the body says otherwise */
    bool watches;            /* event() comes without a stream, too, and then has no `out` */
    bool (*read)(serve_call *c, serve_fault *f);
    void (*event)(serve_call *c, const serve_event *e, base_buf *out);
    json_t *(*whole)(serve_call *c); /* NULL: out of memory */
    json_t *(*fault)(const serve_fault *f);
} serve_dialect;

/* Zeroed memory that lives as long as the call; NULL: there is none. */
void *serve_keep(serve_call *c, size_t n, size_t elem_bytes);
/* Tokens of the whole call. */
serve_usage serve_usage_of(const serve_call *c);

/* ---- Writing JSON ---------------------------------------------------------------------------- */

/* Text as a JSON string; what is not UTF-8 becomes U+FFFD, and so does U+0000: many who get texts
 * (databases, C programs) cannot keep it, and one that comes back could not be taken. */
json_t *serve_json_text(const char *s, size_t n_bytes);
/* A number, to nine digits; null for what is none. */
json_t *serve_json_real(double x);
/* Appends v without white space, and releases it. */
void serve_put_json(base_buf *out, json_t *v);
/* Appends "event: NAME\ndata: {…}\n\n" (name NULL: no event line), and releases v. */
void serve_put_sse(base_buf *out, const char *name, json_t *v);
/* "call_" and 24 random characters; prefix of at most 12. */
void serve_make_id(char out[40], const char *prefix);

/* ---- For protocols that write in items or blocks (turns.c) ----------------------------------- */

/* A conversation that is put together. Begin with {.c = c}; end with serve_turns_end. */
typedef struct serve_turns {
    serve_call *c;      /* whose prompt it becomes */
    rotor_turn *list;   /* [n], kept */
    size_t n, cap;      /* how many; room */
    size_t n_room;      /* calls the last turn has room for */
    base_map *calls;    /* place among names, by the call's id; owned */
    const char **names; /* [n_names] functions that were called */
    size_t n_names;     /* how many */
    size_t cap_names;   /* room */
} serve_turns;
/* Valid until the next is added; NULL: out of memory. */
rotor_turn *serve_turn_add(serve_turns *t, const char *role);
/* The last turn, if it is of that role; else NULL. */
rotor_turn *serve_turn_last(serve_turns *t, const char *role);
/* The last turn calls a function; id may be NULL. False: out of memory. */
bool serve_turn_call(serve_turns *t, const char *id, const char *name, const char *arguments);
/* The function that was called with this id; "function" when it is not known. */
const char *serve_turn_called(const serve_turns *t, const char *id);
/* Always: releases what is owned, and, if ok, makes the turns the call's only prompt. */
bool serve_turns_end(serve_turns *t, bool ok, serve_fault *f);

typedef enum serve_part_kind {
    SERVE_PART_REASONING, /* what is thought */
    SERVE_PART_TEXT,      /* the answer, and what is said before functions are called */
    SERVE_PART_CALL       /* a function that is called */
} serve_part_kind;

/* An answer as a row of parts, in the order they came. Of the call's first choice. */
typedef struct serve_part {
    serve_part_kind kind; /* what it is */
    size_t index;         /* its place in the row */
    size_t from, n_bytes; /* in the choice's text or reasoning */
    size_t call;          /* SERVE_PART_CALL: of the choice's calls */
    char id[40];          /* the protocol's */
} serve_part;
typedef struct serve_parts {
    serve_part *list; /* [n], kept */
    size_t n, cap;    /* how many; room */
    bool open;        /* the last one goes on */
} serve_parts;
typedef struct serve_part_hooks {
    void (*named)(serve_part *part); /* gives it an id */
    void (*begin)(serve_call *c, const serve_part *part, base_buf *out);
    void (*more)(serve_call *c, const serve_part *part, const serve_event *e, base_buf *out);
    void (*end)(serve_call *c, const serve_part *part, base_buf *out);
} serve_part_hooks;
/* For a protocol that watches: sorts events into parts. Without `out` nothing is told but names. */
void serve_parts_event(serve_call *c, serve_parts *p, const serve_part_hooks *h,
                       const serve_event *e, base_buf *out);
/* Its text, or the arguments, as a JSON string. */
json_t *serve_part_text(const serve_call *c, const serve_part *part);
/* Arguments as an object; {"text": …} holds what is none. */
json_t *serve_arguments(const serve_tool_call *t);

/* ---- Fields that OpenAI's protocols share (openai_shared.c) ---------------------------------- */

/* temperature, top_p, seed, stop, max_tokens, penalties, logit_bias, n, stream, and extensions. */
bool serve_read_sampling(serve_call *c, serve_at at, serve_fault *f);
/* A text or a list of texts that end the answer. */
bool serve_read_stops(serve_call *c, serve_at at, const char *key, serve_fault *f);
/* A text, or parts of which only text is known here. *out NULL: null. */
bool serve_read_content(serve_call *c, serve_at at, const char *key, const char **out,
                        serve_fault *f);
/* messages: roles, contents in parts, tool calls and their results. */
bool serve_read_messages(serve_call *c, serve_at at, const char *key, serve_fault *f);
/* prompt: a text, ids, or a list of those. */
bool serve_read_prompts(serve_call *c, serve_at at, serve_fault *f);
/* tools, tool_choice and parallel_tool_calls to c->req.tools. After the sampling fields, and before
 * other rules for the answer (tool_fields.c). */
bool serve_read_tools(serve_call *c, serve_at at, serve_fault *f);
/* Tools of another protocol in that form: those of a type, or (untyped) of none, whose parameters
 * stand under `schema`. */
json_t *serve_functions(const json_t *list, const char *type, bool untyped, const char *schema);
/* reasoning_effort, also inside chat_template_kwargs. */
bool serve_read_effort(serve_call *c, serve_at at, serve_fault *f);
/* A name for an effort; false: there is none of that name. */
bool serve_effort_of(const char *word, rotor_effort *out);
/* response_format, grammar and json_schema. After the sampling fields. */
bool serve_read_rules(serve_call *c, serve_at at, serve_fault *f);
/* {"type": "text"}, "json_object" or "json_schema", the schema beside the type or, as in the Chat
 * API, in an object json_schema. */
bool serve_read_format(serve_call *c, serve_at format, serve_fault *f);
/* For rules of another form: the answer is kept to them; param: the field they are from. */
bool serve_keep_to(serve_call *c, rotor_grammar_kind kind, const char *text, const char *param,
                   serve_fault *f);
bool serve_keep_to_schema(serve_call *c, json_t *schema, const char *param, serve_fault *f);
json_t *serve_openai_usage(const serve_call *c);
/* A token with its alternatives. */
json_t *serve_openai_logprob(const serve_token *t);
json_t *serve_timings(const serve_timing *t);
const char *serve_openai_finish(serve_finish finish);

#endif
