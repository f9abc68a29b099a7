/* SPDX-License-Identifier: MIT
 *
 * The prompt of `rotor chat`; see term.h.
 *
 * libedit reads through read_char below, for two reasons: its own reader swallows the first Ctrl-C,
 * and bytes must become characters without asking the locale twice. A paste arrives between
 * ESC [ 200 ~ and ESC [ 201 ~ (bracketed paste, switched on only while a message is being asked
 * for); take_paste puts it into the line as it is, line ends included.
 */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "cli/term.h"

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef ROTOR_HAVE_LIBEDIT
#include <histedit.h>
#endif

#define PASTE_ON  "\x1b[?2004h" /* the terminal announces pastes */
#define PASTE_OFF "\x1b[?2004l"

/* ==== Entry =================================================================================== */

void cli_entry_reset(cli_entry *e) {
    base_buf_free(&e->text);
    *e = (cli_entry){.quoted = false};
}

static bool quotes_at(const char *p) { return memcmp(p, "\"\"\"", 3) == 0; }

bool cli_entry_add(cli_entry *e, const char *line, size_t n_bytes) {
    const char *p = line;
    size_t n = n_bytes;
    bool first = !e->started, opens = first && n >= 3 && quotes_at(p);
    if (opens) {
        p += 3;
        n -= 3;
        e->quoted = true;
    }
    bool closes = e->quoted && n >= 3 && quotes_at(p + n - 3);
    if (closes) n -= 3;
    bool backslash = !e->quoted && n > 0 && p[n - 1] == '\\';
    if (backslash) n--;
    /* The lines that only hold the marks are not part of the message. */
    bool skip = n == 0 && (opens || closes);
    if (!skip) {
        if (e->n_lines++) base_buf_puts(&e->text, "\n");
        base_buf_append(&e->text, p, n);
    }
    e->started = true;
    if (closes) e->quoted = false;
    return !e->quoted && !backslash;
}

bool cli_wants_colour(const char *when, bool is_terminal, const char *no_color, const char *term) {
    if (strcmp(when, "always") == 0) return true;
    if (strcmp(when, "never") == 0 || !is_terminal) return false;
    if (no_color && *no_color) return false;
    return term && *term && strcmp(term, "dumb") != 0;
}

/* ==== Reading lines =========================================================================== */

struct cli_term {
    cli_term_options o; /* as given; history_path is owned */
    const char *prompt; /* of the line being asked for, borrowed during a read */
    base_buf line;      /* of plain reading */
    char chunk[4096];   /* bytes read ahead in plain reading */
    size_t at, n_chunk; /* next byte of chunk, bytes in it */
    bool stopped;       /* the reader saw Ctrl-C */
#ifdef ROTOR_HAVE_LIBEDIT
    EditLine *edit;   /* NULL: plain lines */
    History *history; /* whole messages */
    FILE *files[3];   /* in, out and out again, as libedit wants them */
#endif
};

static bool was_interrupted(cli_term *t) {
    if (t->o.interrupted && t->o.interrupted()) t->stopped = true;
    return t->stopped;
}

/* Waits for input; false after Ctrl-C. */
static bool wait_for_input(cli_term *t) {
    if (!t->stopped) t->stopped = !base_wait_readable(t->o.in_fd, t->o.interrupted);
    return !t->stopped;
}

/* 1, 0 at the end of the input or after Ctrl-C. */
static int next_byte(cli_term *t, char *c) {
    while (t->at == t->n_chunk) {
        if (!wait_for_input(t)) return 0;
        const int64_t n = cli_read_some(t->o.in_fd, t->chunk, sizeof t->chunk);
        if (n < 0 && errno == EINTR && !was_interrupted(t)) continue;
        if (n <= 0) return 0;
        t->at = 0;
        t->n_chunk = (size_t)n;
    }
    *c = t->chunk[t->at++];
    return 1;
}

static cli_read read_plain(cli_term *t) {
    char c = 0;
    base_buf_reset(&t->line);
    while (next_byte(t, &c)) {
        if (c == '\n') return t->line.failed ? CLI_READ_FAILED : CLI_READ_MESSAGE;
        base_buf_append(&t->line, &c, 1);
    }
    if (t->stopped) return CLI_READ_INTERRUPT;
    if (t->line.failed) return CLI_READ_FAILED;
    return t->line.len ? CLI_READ_MESSAGE : CLI_READ_END;
}

static void drop_return(base_buf *line) {
    if (line->len && line->data[line->len - 1] == '\r') line->data[--line->len] = 0;
}

static void say(const cli_term *t, const char *text) {
    size_t n = strlen(text), at = 0;
    while (at < n) {
        const int64_t k = cli_write_some(t->o.out_fd, text + at, n - at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return;
        at += (size_t)k;
    }
}

/* ==== libedit ================================================================================= */

#ifdef ROTOR_HAVE_LIBEDIT
static cli_term *term_of(EditLine *edit) {
    void *t = NULL;
    el_get(edit, EL_CLIENTDATA, &t);
    return t;
}

static char *prompt_now(EditLine *edit) {
    cli_term *t = term_of(edit);
    return (char *)(uintptr_t)t->prompt;
}

static int read_byte(cli_term *t, char *c) {
    while (wait_for_input(t)) {
        const int64_t n = cli_read_some(t->o.in_fd, c, 1);
        if (n == 1) return 1;
        if (n == 0 || errno != EINTR) return 0;
    }
    return 0;
}

/* libedit's source of characters: 1, 0 at the end, -1 when the line is to be given up. */
static int read_char(EditLine *edit, wchar_t *out) {
    cli_term *t = term_of(edit);
    char buf[4];
    int32_t cp;
    for (size_t n = 0; n < sizeof buf;) {
        if (!read_byte(t, buf + n)) return t->stopped ? -1 : 0;
        n++;
        /* A lead byte says how many follow; anything invalid becomes U+FFFD. */
        uint8_t lead = (uint8_t)buf[0];
        size_t want = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        if (n < want) continue;
        base_utf8_decode(buf, n, &cp);
        *out = cp < 0 ? 0xFFFD : (wchar_t)cp;
        return 1;
    }
    return 0;
}

/* ESC [ 200 ~ was read: everything up to ESC [ 201 ~ goes into the line. */
static unsigned char take_paste(EditLine *edit, int key) {
    static const char end[] = "\x1b[201~";
    cli_term *t = term_of(edit);
    base_buf text = {0};
    char c;
    (void)key;
    while (read_byte(t, &c)) {
        base_buf_append(&text, c == '\r' ? "\n" : &c, 1);
        size_t n = sizeof end - 1;
        if (text.failed || text.len < n || memcmp(text.data + text.len - n, end, n) != 0) continue;
        text.data[text.len - n] = 0;
        break;
    }
    if (text.data && !text.failed) el_insertstr(edit, text.data);
    base_buf_free(&text);
    return CC_REFRESH;
}

static void replace_line(EditLine *edit, const char *text) {
    const LineInfoW *line = el_wline(edit);
    el_cursor(edit, (int)(line->lastchar - line->cursor));
    el_deletestr(edit, (int)(line->lastchar - line->buffer));
    el_insertstr(edit, text);
}

/* Ctrl-G: the line goes to an editor and comes back. */
static unsigned char edit_line(EditLine *edit, int key) {
    cli_term *t = term_of(edit);
    const LineInfo *line = el_line(edit);
    base_buf before = {0}, after = {0};
    rotor_error err;
    (void)key;
    base_buf_append(&before, line->buffer, (size_t)(line->lastchar - line->buffer));
    el_set(edit, EL_PREP_TERM, 0);
    say(t, PASTE_OFF "\n");
    rotor_status st = before.failed ? base_fail_nomem(&err, "editing")
                                    : t->o.edit(before.data ? before.data : "", &after, &err);
    if (st != ROTOR_OK) {
        say(t, err.message);
        say(t, "\n");
    }
    say(t, PASTE_ON);
    el_set(edit, EL_PREP_TERM, 1);
    if (st == ROTOR_OK) replace_line(edit, after.data ? after.data : "");
    base_buf_free(&before);
    base_buf_free(&after);
    return CC_REDISPLAY;
}

static void edit_close(cli_term *t) {
    HistEvent event;
    if (t->history && t->o.history_path) history(t->history, &event, H_SAVE, t->o.history_path);
    if (t->edit) el_end(t->edit);
    if (t->history) history_end(t->history);
    for (size_t i = 0; i < BASE_COUNT(t->files); i++)
        if (t->files[i]) fclose(t->files[i]);
}

static FILE *open_copy(int fd, const char *mode) {
    int copy = dup(fd);
    FILE *f = copy < 0 ? NULL : fdopen(copy, mode);
    if (!f && copy >= 0) close(copy);
    return f;
}

static void edit_set_up(cli_term *t) {
    HistEvent event;
    el_set(t->edit, EL_CLIENTDATA, t);
    el_set(t->edit, EL_SIGNAL, 0);
    el_set(t->edit, EL_EDITOR, "emacs");
    el_set(t->edit, EL_PROMPT, prompt_now);
    el_set(t->edit, EL_GETCFN, read_char);
    el_wset(t->edit, EL_ADDFN, L"rotor-paste", L"takes a paste as it is",
            take_paste); /* no copies */
    el_set(t->edit, EL_BIND, "\x1b[200~", "rotor-paste", NULL);
    if (t->o.edit) {
        el_wset(t->edit, EL_ADDFN, L"rotor-edit", L"opens the line in an editor", edit_line);
        el_set(t->edit, EL_BIND, "^G", "rotor-edit", NULL);
    }
    el_set(t->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(t->edit, EL_BIND, "^W", "ed-delete-prev-word", NULL);
    history(t->history, &event, H_SETSIZE, t->o.history_lines > 0 ? t->o.history_lines : 1000);
    history(t->history, &event, H_SETUNIQUE, 1);
    if (t->o.history_path) history(t->history, &event, H_LOAD, t->o.history_path);
    el_set(t->edit, EL_HIST, history, t->history);
}

/* Leaves t->edit NULL when the terminal cannot be edited on; plain lines do then. */
static void edit_open(cli_term *t) {
    if (!isatty(t->o.in_fd) || !isatty(t->o.out_fd)) return;
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8"); /* typed text is UTF-8 all the same */
    t->files[0] = open_copy(t->o.in_fd, "r");
    t->files[1] = open_copy(t->o.out_fd, "w");
    t->files[2] = open_copy(t->o.out_fd, "w");
    t->history = history_init();
    if (t->files[0] && t->files[1] && t->files[2] && t->history)
        t->edit = el_init("rotor", t->files[0], t->files[1], t->files[2]);
    if (t->edit) edit_set_up(t);
}

static cli_read read_edited(cli_term *t) {
    int n = 0;
    el_set(t->edit, EL_PREP_TERM, 1); /* before the prompt shows: a Ctrl-D typed at once counts */
    const char *text = el_gets(t->edit, &n);
    base_buf_reset(&t->line);
    if (t->stopped || (!text && was_interrupted(t))) {
        el_reset(t->edit);
        return CLI_READ_INTERRUPT;
    }
    if (!text || n <= 0) return CLI_READ_END;
    if (text[n - 1] == '\n') n--;
    return base_buf_append(&t->line, text, (size_t)n) ? CLI_READ_MESSAGE : CLI_READ_FAILED;
}

static void remember(cli_term *t, const base_buf *message) {
    HistEvent event;
    bool blank = strspn(message->data, " \t\n") == message->len;
    if (t->edit && !blank) history(t->history, &event, H_ENTER, message->data);
}
#endif

/* ==== Prompt ================================================================================== */

bool cli_term_edits(const cli_term *t) {
#ifdef ROTOR_HAVE_LIBEDIT
    return t->edit != NULL;
#else
    return (void)t, false;
#endif
}

rotor_status cli_term_open(cli_term **out, const cli_term_options *options, rotor_error *err) {
    cli_term *t = base_alloc(sizeof *t);
    if (!t) return base_fail_nomem(err, "opening the prompt");
    t->o = *options;
    if (options->history_path && !(t->o.history_path = base_strdup(options->history_path))) {
        base_free(t);
        return base_fail_nomem(err, "opening the prompt");
    }
#ifdef ROTOR_HAVE_LIBEDIT
    edit_open(t);
#endif
    *out = t;
    return ROTOR_OK;
}

void cli_term_close(cli_term **term) {
    if (!term || !*term) return;
    cli_term *t = *term;
#ifdef ROTOR_HAVE_LIBEDIT
    edit_close(t);
#endif
    base_buf_free(&t->line);
    base_free((char *)(uintptr_t)t->o.history_path);
    base_free(t);
    *term = NULL;
}

/* One line into t->line. Plain reading shows a prompt only where somebody can see it. */
static cli_read read_line(cli_term *t, const char *prompt) {
    t->prompt = prompt;
    t->stopped = false;
#ifdef ROTOR_HAVE_LIBEDIT
    if (t->edit) {
        say(t, PASTE_ON);
        cli_read r = read_edited(t);
        say(t, PASTE_OFF);
        if (r != CLI_READ_MESSAGE) say(t, "\n");
        return r;
    }
#endif
    bool seen = cli_is_terminal(t->o.in_fd) && cli_is_terminal(t->o.out_fd);
    if (seen) say(t, prompt);
    cli_read r = read_plain(t);
    if (seen && r != CLI_READ_MESSAGE) say(t, "\n");
    drop_return(&t->line);
    return r;
}

cli_read cli_term_read(cli_term *t, const char *prompt, base_buf *out) {
    cli_entry e = {.quoted = false};
    cli_read r;
    do {
        r = read_line(t, e.started ? "... " : prompt);
    } while (r == CLI_READ_MESSAGE &&
             !cli_entry_add(&e, t->line.data ? t->line.data : "", t->line.len));
    /* The end of the input also ends a message that was begun. */
    if (r == CLI_READ_END && e.text.len) r = CLI_READ_MESSAGE;
    if (r == CLI_READ_MESSAGE) {
        base_buf_reset(out);
        base_buf_append(out, e.text.data ? e.text.data : "", e.text.len);
        if (out->failed || e.text.failed) r = CLI_READ_FAILED;
    }
#ifdef ROTOR_HAVE_LIBEDIT
    if (r == CLI_READ_MESSAGE) remember(t, out);
#endif
    cli_entry_reset(&e);
    return r;
}
