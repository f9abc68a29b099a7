/* SPDX-License-Identifier: MIT
 *
 * chat_talk: the state of `rotor chat` and what can be done to it. The verb (verb_chat.c) reads
 * messages, the commands (chat_commands.c) change the state, chat_talk.c keeps and answers it.
 */
#ifndef CHAT_TALK_H
#define CHAT_TALK_H

#include "cli/store.h"

typedef struct chat_turn {
    char *role;    /* "user" or "assistant", owned */
    char *text;    /* owned */
    uint32_t *ids; /* [n_ids] an answer in parts as it was generated, owned; NULL: none */
    size_t n_ids;  /* how many */
} chat_turn;

typedef struct chat_talk {
    cli_args a;             /* options; /set changes the copy */
    rotor_engine *e;        /* owned */
    rotor_session *s;       /* owned */
    cli_draft draft;        /* of --draft */
    rotor_grammar *grammar; /* what answers are kept to, owned; NULL: nothing */
    rotor_engine_info info; /* of e */
    char *system;           /* system prompt, owned; NULL: none */
    chat_turn *turns;       /* [n_turns], owned */
    size_t n_turns, cap;    /* used, allocated */
    size_t n_gone;          /* of these the oldest, which the context has no room for (--on-full) */
    bool told_shift;        /* that there are such, or that an answer lost its beginning */
    base_buf attached;      /* files put in front of the next message by /read */
    base_buf edited;        /* message that /edit made, to be sent next */
    cli_stores stores;      /* of --rag; n 0: none */
    bool rag_off;           /* /rag off: it is not asked */
    rotor_rag_context found;   /* for the last question; nothing: it was not asked */
    rotor_rag_checked checked; /* the last answer's citations */
    bool grounded;             /* the model gets what was found */
    base_buf speed;            /* speed line of the last answer */
    uint64_t n_answers;        /* given so far */
    uint64_t n_decoded;        /* tokens in them */
    uint64_t decode_us;        /* time for those */
    bool styled;               /* colours and Markdown */
    bool terminal;             /* a person is typing */
    bool leave;                /* /exit was given */
    bool stopped;              /* Ctrl-C ended the last answer or line */
} chat_talk;

/* Drops turns from index n on. */
void chat_cut(chat_talk *t, size_t n);
rotor_status chat_add(chat_talk *t, const char *role, const char *text, rotor_error *err);
rotor_status chat_set_system(chat_talk *t, const char *text, rotor_error *err);
/* Answers the turns, the last of which is the user's; adds the answer as a turn, after a failure as
 * far as it came, if it has begun. */
rotor_status chat_answer(chat_talk *t, rotor_error *err);
/* The conversation as a JSON file and back. */
rotor_status chat_save(const chat_talk *t, const char *path, rotor_error *err);
rotor_status chat_load(chat_talk *t, const char *path, rotor_error *err);
/* The same with what the cache holds, so that nothing is read again: a session file. */
rotor_status chat_save_session(const chat_talk *t, const char *path, rotor_error *err);
rotor_status chat_load_session(chat_talk *t, const char *path, rotor_error *err);
bool chat_is_session(const char *path); /* whether it looks like such a file */
void chat_free(chat_talk *t);

/* ---- A knowledge store (chat_rag.c) ---- */

rotor_status chat_open_store(chat_talk *t, rotor_error *err);
/* Searches for the last turn, the user's, with the earlier ones where it follows up; n_tok: tokens
 * of the conversation as it is. *refused: nothing fits, and no answer is wanted then. */
rotor_status chat_find_sources(chat_talk *t, size_t n_tok, bool *refused, rotor_error *err);
/* Compares the answer with the sources, and tells them. */
rotor_status chat_check_sources(chat_talk *t, const char *answer, size_t n_bytes, rotor_error *err);
void chat_forget_sources(chat_talk *t);

/* Runs a line that starts with '/'. */
void chat_command(chat_talk *t, const char *line);

#endif
