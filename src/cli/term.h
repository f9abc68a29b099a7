/* SPDX-License-Identifier: MIT
 *
 * term: the prompt of `rotor chat`. Editing and history through libedit on a terminal, plain lines
 * otherwise (a pipe, or a build without libedit).
 *
 * A message may have several lines: between two """ marks, after a trailing backslash, or pasted
 * (terminals that announce a paste: its line ends do not send). History holds whole messages.
 *
 * One cli_term at a time, used by one thread. The terminal's settings are as before between calls.
 */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include "base/base.h"

/* ---- A message in the making; no terminal needed ------------------------------------------------
 */

typedef struct cli_entry {
    base_buf text;  /* lines so far, joined by \n */
    size_t n_lines; /* how many are in text */
    bool quoted;    /* inside """ */
    bool started;   /* a line was added */
} cli_entry;
/* Adds a line without its line end; true when the message is complete. */
bool cli_entry_add(cli_entry *e, const char *line, size_t n_bytes);
void cli_entry_reset(cli_entry *e);

/* ---- Colour -------------------------------------------------------------------------------------
 */

/* when: "auto", "always" or "never"; environment values may be NULL. auto: on a terminal that is
 * not "dumb", unless NO_COLOR is set to anything but the empty text. */
bool cli_wants_colour(const char *when, bool is_terminal, const char *no_color, const char *term);

/* ---- The prompt ---------------------------------------------------------------------------------
 */

typedef struct cli_term cli_term;

typedef enum cli_read {
    CLI_READ_MESSAGE,   /* *out holds it */
    CLI_READ_END,       /* Ctrl-D, or the end of the input */
    CLI_READ_INTERRUPT, /* Ctrl-C: what was typed is dropped */
    CLI_READ_FAILED     /* out of memory */
} cli_read;

/* history_path: file kept between runs, NULL for none; in and out: what is read and drawn on.
 * interrupted tells whether Ctrl-C was pressed (cli_interrupted); its handler must not restart
 * system calls. Editing is used when both files are terminals. */
typedef struct cli_term_options {
    const char *history_path;  /* NULL: history of this run only */
    int history_lines;         /* messages kept */
    int in_fd, out_fd;         /* 0 and 1 */
    bool (*interrupted)(void); /* Ctrl-C since the last message */
    /* Ctrl-G: the line in an editor (cli_edit_text); NULL: no such key */
    rotor_status (*edit)(const char *text, base_buf *out, rotor_error *err);
} cli_term_options;
rotor_status cli_term_open(cli_term **out, const cli_term_options *options, rotor_error *err);
/* Saves the history. */
void cli_term_close(cli_term **t);
bool cli_term_edits(const cli_term *t); /* false: plain lines */
/* Asks for one message; `prompt` before its first line, dots before the others. */
cli_read cli_term_read(cli_term *t, const char *prompt, base_buf *out);

#endif
