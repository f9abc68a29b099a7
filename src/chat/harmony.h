/* SPDX-License-Identifier: MIT
 *
 * harmony: the conversation format of gpt-oss. Messages to ids, and generated ids back to
 * reasoning, answer and tool calls.
 *
 *     <|start|> role[:name][ to=recipient] [<|channel|> channel] [ type] <|message|> text <|end|>
 *
 * The marks are single control ids, found by their text: any vocabulary that has them will do.
 * Rendering puts ids, never the marks' text: what users, tools and instructions say is tokenised
 * with control tokens off, so no text can become a mark, not even where a vocabulary calls the
 * marks ordinary words.
 *
 * Parsing works on ids and never fails, whatever the model has written: a malformed header costs
 * a flag, not the answer. Everything here is re-entrant; a parser is used by one thread at a time.
 */
#ifndef HARMONY_H
#define HARMONY_H

#include "base/base.h"
#include "text/text.h"

/* ---- The marks ------------------------------------------------------------------------------- */

typedef struct harmony {
    const text_vocab *v; /* borrowed */
    uint32_t start;      /* <|start|>: a message begins */
    uint32_t channel;    /* <|channel|> */
    uint32_t message;    /* <|message|>: the header is over */
    uint32_t end;        /* <|end|>: the message is over, the turn goes on */
    uint32_t ret;        /* <|return|>: the turn is over */
    uint32_t call;       /* <|call|>: so is it, until a tool has answered */
    uint32_t constrain;  /* <|constrain|>: the type follows; TEXT_NO_ID: none */
    uint32_t endoftext;  /* <|endoftext|>; TEXT_NO_ID: none */
} harmony;

/* ROTOR_E_UNSUPPORTED names the mark that the vocabulary lacks. */
rotor_status harmony_find(harmony *out, const text_vocab *v, rotor_error *err);
/* Does this id end the assistant's turn? <|end|> does not. */
bool harmony_is_stop(const harmony *h, uint32_t id);
/* May the assistant write this id? Not the reserved, the unused and other models' control ids, nor
 * those past the vocabulary. */
bool harmony_may_write(const harmony *h, uint32_t id);
bool harmony_is_mark(const harmony *h, uint32_t id); /* one of the above */

/* ---- What may come next ---------------------------------------------------------------------- */

/* Keeps generation to the format: an automaton over ids, whose state is a number. In a message's
 * text only ids of text and those that end it may come, in its header only what belongs there:
 * behind <|start|> the assistant, behind <|channel|> one of the three. Immutable, for any number of
 * threads. What is parsed is not asked to keep to it. */
typedef struct harmony_guide harmony_guide;

enum { HARMONY_UNGUIDED }; /* state outside a conversation, or in another's message */

typedef struct harmony_allowed {
    const uint32_t *only;   /* [n_only] one of these; NULL: any id … */
    size_t n_only;          /* how many */
    const uint32_t *banned; /* [(n_ids + 31) / 32] … but those whose bits are set; NULL: none are */
} harmony_allowed;

/* n_ids: rows of the output head. Fails for want of memory only. */
rotor_status harmony_guide_create(harmony_guide **out, const harmony *h, size_t n_ids);
void harmony_guide_free(harmony_guide **g);
/* The state behind a prompt. */
uint32_t harmony_guide_begin(const harmony_guide *g, const uint32_t *ids, size_t n);
uint32_t harmony_guide_step(const harmony_guide *g, uint32_t state, uint32_t id);
/* What may end the turn. */
typedef enum harmony_ends {
    HARMONY_ENDS_ANY,   /* whatever does */
    HARMONY_ENDS_NEVER, /* nothing */
    HARMONY_ENDS_CALL   /* a call, and what the caller allows in the answer itself */
} harmony_ends;
/* Borrowed from the guide. */
harmony_allowed harmony_guide_may(const harmony_guide *g, uint32_t state, harmony_ends ends);
/* In the text of the final channel: the answer. */
bool harmony_guide_answers(uint32_t state);
bool harmony_guide_speaks(uint32_t state); /* in the text of any channel */
bool harmony_guide_opens(uint32_t state);  /* right behind <|start|>assistant … */
bool harmony_guide_heads(uint32_t state);  /* … or further on in that header */

/* ---- Rendering ------------------------------------------------------------------------------- */

typedef enum harmony_effort {
    HARMONY_MEDIUM, /* default */
    HARMONY_LOW,
    HARMONY_HIGH
} harmony_effort;

typedef struct harmony_message {
    base_str role;      /* "user", "assistant", "developer", "system"; "tool": its name instead */
    base_str name;      /* of a tool, else of the speaker; may be empty */
    base_str recipient; /* whom it is for; empty: everyone. The assistant's makes it a call */
    base_str channel;   /* "analysis", "commentary", "final"; empty: none */
    base_str content_type; /* "json"; empty: none */
    bool constrained;      /* the type stands behind <|constrain|> */
    bool function;         /* name (of a tool) or recipient (of a call) lacks "functions." */
    base_str content;      /* text */
    /* The ids of an assistant's turn as generated after "<|start|>assistant": they stand in the
     * prompt again as they are, whatever else is set here. */
    const uint32_t *ids; /* [n_ids] */
    size_t n_ids;        /* 0: the fields above count */
} harmony_message;

/* A shape that the answer is asked to have. */
typedef struct harmony_format {
    base_str name;        /* heading */
    base_str description; /* may be empty */
    base_str schema;      /* JSON text */
} harmony_format;

typedef struct harmony_chat {
    bool bare;             /* neither system nor developer message: the fields below do not count */
    base_str identity;     /* p NULL: the one that the models were trained with */
    base_str cutoff;       /* knowledge cutoff; p NULL: 2024-06 */
    base_str date;         /* "2025-06-28"; empty: none */
    harmony_effort effort; /* how long to think */
    base_str channels;     /* p NULL: "analysis, commentary, final" */
    base_str builtin;      /* section of the system message on tools that the models were trained
                              with (browser, python), verbatim; empty: none */
    base_str instructions; /* what callers know as the system prompt; empty: none */
    base_str tools;        /* JSON array of functions, each {name, description, parameters}, bare or
                              as {"type": "function", "function": …}; empty: none */
    const harmony_format *formats;   /* [n_formats] */
    size_t n_formats;                /* how many */
    const harmony_message *messages; /* [n_messages] */
    size_t n_messages;               /* how many */
    bool keep_analysis; /* also what was thought before the last final answer; else it is dropped */
    bool add_reply;     /* end with the opening of the assistant's turn */
} harmony_chat;

/* Appends the ids of a conversation; *out is as it was on failure. ROTOR_E_FORMAT: tools or a
 * schema are not what they should be; ROTOR_E_ARG: a message is. */
rotor_status harmony_render(const harmony *h, const harmony_chat *c, text_ids *out,
                            rotor_error *err);
/* The developer message's text: instructions, tools, formats; nothing when there are none. */
rotor_status harmony_developer(const harmony_chat *c, base_buf *out, rotor_error *err);

/* ---- Parsing --------------------------------------------------------------------------------- */

typedef enum harmony_kind {
    HARMONY_ANALYSIS,   /* thinking: not for everybody's eyes */
    HARMONY_COMMENTARY, /* said to the user before a tool is called */
    HARMONY_FINAL,      /* the answer */
    HARMONY_CALL,       /* arguments for a tool */
    HARMONY_OTHER,      /* not the assistant's; in its turn nothing to show */
    HARMONY_UNKNOWN     /* until the next message (then thinking) or the end (then the answer) */
} harmony_kind;

typedef enum harmony_end {
    HARMONY_OPEN,      /* not yet */
    HARMONY_ENDED,     /* <|end|>, of a message only */
    HARMONY_RETURNED,  /* <|return|> */
    HARMONY_CALLED,    /* <|call|> */
    HARMONY_ENDOFTEXT, /* <|endoftext|> */
    HARMONY_CUT        /* nothing: the next message, or no more ids */
} harmony_end;

typedef struct harmony_parsed {
    harmony_kind kind;  /* what it is to the reader */
    char *role;         /* "assistant", "user", …; of a tool its name */
    char *recipient;    /* "functions.get_weather"; "": none */
    char *channel;      /* as written; "": none */
    char *content_type; /* "json", "code"; "": none */
    bool constrained;   /* the type stood behind <|constrain|> */
    base_buf content;   /* text so far, UTF-8 */
    size_t first, past; /* which of the ids put so far it was made of */
    harmony_end end;    /* how it ended */
    bool malformed;     /* the header or the end was not as it should be */
    bool json;          /* of a call that has ended: the arguments are a JSON object */
} harmony_parsed;

typedef enum harmony_event_kind {
    HARMONY_BEGINS, /* a message: its channel or the tool it calls are known */
    HARMONY_TEXT,   /* a piece of its text or arguments; whole characters */
    HARMONY_ENDS,   /* the message is over */
    HARMONY_OVER    /* the turn is: see why; m is NULL */
} harmony_event_kind;

typedef struct harmony_event {
    harmony_event_kind kind; /* what has happened */
    const harmony_parsed *m; /* to which message; valid during the call */
    base_str text;           /* of HARMONY_TEXT */
    harmony_end why;         /* of HARMONY_OVER */
} harmony_event;

typedef struct harmony_parser harmony_parser;

/* whole false: ids that follow "<|start|>assistant", one turn; what comes after its end is ignored.
 * whole true: a conversation, from its first <|start|>. fn may be NULL. */
rotor_status harmony_parser_create(harmony_parser **out, const harmony *h, bool whole,
                                   void (*fn)(void *user, const harmony_event *e), void *user);
void harmony_parser_free(harmony_parser **p);
/* One id. Fails for want of memory only; then the parser can only be freed. */
rotor_status harmony_parser_put(harmony_parser *p, uint32_t id);
/* No more ids: an unfinished message ends, and the turn with HARMONY_CUT if it was not over. */
rotor_status harmony_parser_end(harmony_parser *p);
/* Messages so far; the last may be unfinished. A call's name without "functions." is what follows
 * the dot of its recipient. */
size_t harmony_parser_count(const harmony_parser *p);
const harmony_parsed *harmony_parser_at(const harmony_parser *p, size_t i);
/* Why the turn ended; HARMONY_OPEN: it has not. */
harmony_end harmony_parser_why(const harmony_parser *p);
/* Appends the texts of one kind, a line feed between two. */
rotor_status harmony_parser_text(const harmony_parser *p, harmony_kind kind, base_buf *out);
/* The function that a recipient means ("functions.f": "f"); empty: none of the caller's. */
base_str harmony_function(const char *recipient);

#endif
