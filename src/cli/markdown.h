/* SPDX-License-Identifier: MIT
 *
 * markdown: an answer's Markdown as terminal text, while it arrives.
 *
 * Shown: headings, bold, italics, struck-out text, inline code, fenced code, lists, quotes, rules.
 * Everything else (tables, links, HTML) passes as written. Nothing is held back but what could
 * still become a mark: the blanks and the first marks of a line, a run of * _ ~ or `, one
 * backslash. A style never outlives its line (fenced code: its fence), so an unclosed mark does
 * little harm.
 *
 * Control characters of the answer are dropped: a model must not drive the terminal. Without styles
 * (output that is not a terminal) bytes pass untouched.
 */
#ifndef CLI_MARKDOWN_H
#define CLI_MARKDOWN_H

#include "base/base.h"

typedef struct cli_markdown {
    bool styled;       /* false: bytes pass as they are */
    int state;         /* of the current line */
    char hold[64];     /* start of a line not yet understood */
    size_t n_hold;     /* bytes in hold */
    char run;          /* mark being counted: * _ ~ ` or \ ; 0: none */
    size_t n_run;      /* how many of it */
    char before;       /* last byte shown on this line; space at its start */
    char bold, italic; /* the mark that opened it; 0: off */
    bool strike;       /* struck out */
    size_t code;       /* length of the ` run that opened inline code; 0: not in code */
    char fence;        /* ` or ~ of the open fence; 0: none */
    size_t n_fence;    /* its length */
    unsigned line;     /* styles of the whole line (heading, quote) */
    unsigned shown;    /* styles the terminal has now */
    bool half;         /* 0xC2 waits: with the next byte it may be a control character */
} cli_markdown;

void cli_markdown_init(cli_markdown *m, bool styled);
/* Appends what can be shown now to *out (out->failed tells when memory ran out). */
void cli_markdown_put(cli_markdown *m, const char *text, size_t n_bytes, base_buf *out);
/* Shows what was held and switches styles off. The object may be used again. */
void cli_markdown_end(cli_markdown *m, base_buf *out);

#endif
