/* SPDX-License-Identifier: MIT
 *
 * PDF by pdftotext of poppler-utils (GPL: run as a program, never linked), in reading order, its
 * pages parted by form feeds.
 *
 * The program gets the file as descriptor 0 inside the limits we are in ourselves, and may start
 * nothing. Of what it says: lines that stand at the top or bottom of most pages (page numbers
 * aside) are dropped, words parted at a line's end are joined, the lines of a paragraph become one.
 */
#include "extract/extract.h"

#include <stdio.h>

enum { EDGE_LINES = 2, FEW_PAGES = 3, SHARE_PCT = 60, TEXT_MAX = 256 << 20 };

typedef struct pdf {
    ex *x;          /* where blocks go */
    base_buf text;  /* all that pdftotext said */
    base_buf key;   /* the same with every digit a '#': "page 7" equals "page 8" */
    base_map *seen; /* lines at the edges of pages, by key: on how many pages */
    uint32_t pages; /* in text */
    base_buf para;  /* the paragraph so far */
} pdf;

/* ---- pdftotext ----------------------------------------------------------------------------- */

static rotor_status take(void *user, const void *p, size_t n, rotor_error *err) {
    (void)err;
    pdf *d = user;
    if (d->text.len + n > TEXT_MAX)
        return ex_fail(d->x, BASE_REASON_TOO_LARGE, "more than %d MiB of text", TEXT_MAX >> 20);
    return base_buf_append(&d->text, p, n) ? ROTOR_OK : ex_nomem(d->x);
}

static bool mentions(const char *s, const char *word) {
    const size_t n = strlen(word);
    for (; *s; s++)
        if (ex_starts_with(base_str_of(s), word) && n) return true;
    return false;
}

static rotor_status judge(pdf *d, const base_child_end *end) {
    ex *x = d->x;
    if (end->why == BASE_CHILD_WALL || end->why == BASE_CHILD_CPU)
        return ex_fail(x, BASE_REASON_TIMEOUT, "pdftotext took too long");
    if (end->why != BASE_CHILD_EXITED)
        return ex_fail(x, BASE_REASON_CRASHED, "pdftotext was ended by signal %d", end->status);
    if (end->status == 0) return ROTOR_OK;
    if (mentions(end->errors, "password"))
        return ex_fail(x, BASE_REASON_ENCRYPTED, "this PDF opens with a password only");
    if (end->status == 3)
        return ex_fail(x, BASE_REASON_ENCRYPTED, "this PDF does not allow its text to be taken");
    return ex_fail(x, BASE_REASON_BROKEN, "pdftotext: %.150s",
                   end->errors[0] ? end->errors : "it failed without a word");
}

static rotor_status run_tool(pdf *d) {
    static const char *const places[] = {"/usr/bin/pdftotext", "/usr/local/bin/pdftotext",
                                         "/bin/pdftotext", "/opt/homebrew/bin/pdftotext"};
    static const char *const env[] = {"LC_ALL=C.UTF-8", "HOME=/nonexistent", NULL};
    char last[16];
    const size_t n = d->x->pdftotext ? 1 : BASE_COUNT(places);
    rotor_error err = {0};
    base_child_end end;
    uint64_t size;
    snprintf(last, sizeof last, "%u", d->x->limits.pages);
    for (size_t i = 0; i < n; i++) {
        const char *path = d->x->pdftotext ? d->x->pdftotext : places[i];
        const char *const argv[] = {path, "-enc", "UTF-8", "-eol", "unix",
                                    "-l", last,   "-",     "-",    NULL};
        const base_child c = {.argv = argv,
                              .env = env,
                              .input_fd = 0,
                              .limits = {.wall_ms = d->x->limits.tool_ms,
                                         .open_files = 64,
                                         .no_network = true,
                                         .no_processes = true},
                              .output = take,
                              .user = d};
        ROTOR_TRY(base_fd_rewind(0, &size, d->x->err));
        const rotor_status st = base_child_run(&c, &end, &err);
        if (st == ROTOR_OK) return judge(d, &end);
        if (d->x->reason) return st; /* of take() */
        if (st != ROTOR_E_NOTFOUND)
            return ex_fail(d->x, BASE_REASON_MISSING_TOOL, "%.180s", err.message);
    }
    return ex_fail(d->x, BASE_REASON_MISSING_TOOL,
                   "pdftotext is not installed (package poppler-utils)");
}

/* ---- Pages --------------------------------------------------------------------------------- */

/* The page that begins at `at`, without its form feed; *next is where the next one begins. */
static base_str page_at(const pdf *d, size_t at, size_t *next) {
    const char *p = d->text.data + at;
    const char *feed = memchr(p, '\f', d->text.len - at);
    const size_t n = feed ? (size_t)(feed - p) : d->text.len - at;
    *next = at + n + (feed != NULL);
    return (base_str){p, n};
}

/* Offsets in the page of its first and last lines that are not blank; *n of them. */
static void edges(base_str page, size_t at[2 * EDGE_LINES], size_t *n) {
    size_t lines = 0, last[EDGE_LINES] = {0}, next;
    *n = 0;
    for (size_t i = 0; i < page.n; i = next) {
        if (ex_blank(ex_line(page, i, &next))) continue;
        if (lines < EDGE_LINES)
            at[(*n)++] = i;
        else
            last[lines % EDGE_LINES] = i;
        lines++;
    }
    for (size_t i = lines > EDGE_LINES ? BASE_MAX(lines - EDGE_LINES, (size_t)EDGE_LINES) : lines;
         i < lines; i++)
        at[(*n)++] = last[i % EDGE_LINES];
}

static base_str key_of(const pdf *d, base_str page, size_t offset) {
    size_t next;
    const base_str line = ex_trim(ex_line(page, offset, &next));
    return (base_str){d->key.data + (line.p - d->text.data), line.n};
}

static rotor_status count_edges(pdf *d) {
    size_t at[2 * EDGE_LINES], n;
    if (!base_buf_append(&d->key, d->text.data, d->text.len)) return ex_nomem(d->x);
    for (size_t i = 0; i < d->key.len; i++)
        if (d->key.data[i] >= '0' && d->key.data[i] <= '9') d->key.data[i] = '#';
    ROTOR_TRY(base_map_create(&d->seen, 1024));
    for (size_t begin = 0, next; begin < d->text.len; begin = next) {
        const base_str page = page_at(d, begin, &next);
        d->pages++;
        edges(page, at, &n);
        for (size_t i = 0; i < n; i++) {
            const base_str key = key_of(d, page, at[i]);
            uint32_t count = 0;
            base_map_get(d->seen, key, &count);
            if (base_map_put(d->seen, key, count + 1, NULL) != ROTOR_OK) return ex_nomem(d->x);
        }
    }
    return ROTOR_OK;
}

static bool is_running_line(const pdf *d, base_str page, size_t offset, const size_t *at,
                            size_t n) {
    uint32_t count = 0;
    bool edge = false;
    for (size_t i = 0; i < n; i++) edge |= at[i] == offset;
    if (!edge || d->pages < FEW_PAGES) return false;
    base_map_get(d->seen, key_of(d, page, offset), &count);
    return count * 100 > d->pages * SHARE_PCT;
}

static bool is_lower(const char *p, size_t n) {
    return (n && *p >= 'a' && *p <= 'z') || (n > 1 && (uint8_t)*p == 0xC3 && (uint8_t)p[1] >= 0x9F);
}

/* "exam-" and "ple" are one word. */
static bool add_line(pdf *d, base_str line) {
    base_buf *b = &d->para;
    const bool parted = b->len > 1 && b->data[b->len - 1] == '-' &&
                        is_lower(b->data + b->len - 2, 1) && is_lower(line.p, line.n);
    if (parted)
        b->len--;
    else if (b->len)
        base_buf_append(b, " ", 1);
    return base_buf_append(b, line.p, line.n);
}

static rotor_status flush(pdf *d) {
    const rotor_status st = d->para.len ? ex_put(d->x, BASE_BLOCK_PARA, 0,
                                                 (base_str){d->para.data, d->para.len}, EX_NOWHERE)
                                        : ROTOR_OK;
    base_buf_reset(&d->para);
    return st;
}

static rotor_status put_page(pdf *d, base_str page, uint32_t number) {
    size_t at[2 * EDGE_LINES], n, next;
    edges(page, at, &n);
    ROTOR_TRY(ex_put_page(d->x, number));
    for (size_t i = 0; i < page.n; i = next) {
        const base_str line = ex_trim(ex_line(page, i, &next));
        if (line.n && is_running_line(d, page, i, at, n)) continue;
        if (line.n && !add_line(d, line)) return ex_nomem(d->x);
        if (!line.n || d->para.len > BASE_BLOCK_TEXT_MAX / 2) ROTOR_TRY(flush(d));
    }
    return flush(d);
}

static rotor_status put_pages(pdf *d) {
    uint32_t number = 0;
    ROTOR_TRY(count_edges(d));
    for (size_t at = 0, next; at < d->text.len; at = next) {
        const base_str page = page_at(d, at, &next);
        ROTOR_TRY(put_page(d, page, ++number));
    }
    if (number >= d->x->limits.pages)
        return ex_put_note(d->x, "only the first %u pages were read", number);
    return ROTOR_OK;
}

rotor_status ex_parse_pdf(ex *x, const char *name) {
    pdf d = {.x = x};
    rotor_status st = ex_put(x, BASE_BLOCK_DOC, 0, ex_file_title(name), EX_NOWHERE);
    if (st == ROTOR_OK) st = run_tool(&d);
    if (st == ROTOR_OK) st = put_pages(&d);
    if (st == ROTOR_OK && x->n_blocks == 0)
        st = ex_fail(x, BASE_REASON_EMPTY, "%u pages without text: images, perhaps", d.pages);
    base_map_free(&d.seen);
    base_buf_free(&d.text);
    base_buf_free(&d.key);
    base_buf_free(&d.para);
    return st;
}
