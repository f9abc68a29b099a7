/* SPDX-License-Identifier: MIT
 *
 * Text without markup: paragraphs between blank lines, and tables of separated values.
 *
 * A table's rows come out as "name: value | name: value", because a row must be understood by
 * itself wherever it is found. Values in quotes may hold separators, line ends and doubled quotes
 * (RFC 4180).
 */
#include "extract/extract.h"

enum { ROW_MAX = 64 << 10, COLUMNS_MAX = 1000 };

base_str ex_file_title(const char *name) {
    const char *slash = name ? strrchr(name, '/') : NULL;
    return base_str_of(slash ? slash + 1 : name ? name : "");
}

rotor_status ex_parse_text(ex *x, const char *name) {
    ROTOR_TRY(ex_put(x, BASE_BLOCK_DOC, 0, ex_file_title(name), EX_NOWHERE));
    return ex_put_paragraphs(x);
}

rotor_status ex_put_paragraphs(ex *x) {
    const base_str text = x->source->text;
    size_t begin = 0, end = 0; /* of the paragraph so far */
    for (size_t at = 0; at < text.n;) {
        size_t next;
        const base_str line = ex_line(text, at, &next);
        const bool blank = ex_blank(line);
        if (!blank && end == begin) begin = at;
        if (!blank) end = at + line.n;
        if ((blank || next >= text.n || end - begin > BASE_BLOCK_TEXT_MAX / 2) && end > begin) {
            ROTOR_TRY(ex_put(x, BASE_BLOCK_PARA, 0, (base_str){text.p + begin, end - begin},
                             (ex_span){begin, end}));
            begin = end = next;
        } else if (blank)
            begin = end = next;
        at = next;
    }
    return ROTOR_OK;
}

/* ---- Tables -------------------------------------------------------------------------------- */

typedef struct table {
    ex *x;          /* where rows go */
    base_str text;  /* the source */
    size_t at;      /* how far it was read */
    char separator; /* between values */
    base_buf value; /* one value, its quotes taken off */
    base_buf row;   /* "name: value | ..." */
    base_buf names; /* the header's values, each ended by a zero byte */
    size_t n_names; /* of the header */
} table;

/* Reads one value into t->value; false when it was the last of its row. */
static bool next_value(table *t) {
    const char *p = t->text.p;
    bool quoted = false, any = false;
    base_buf_reset(&t->value);
    for (; t->at < t->text.n; t->at++) {
        const char c = p[t->at];
        if (c == '"' && quoted && t->at + 1 < t->text.n && p[t->at + 1] == '"')
            base_buf_append(&t->value, p + t->at++, 1);
        else if (c == '"' && (quoted || !any))
            quoted = !quoted;
        else if (!quoted && c == t->separator) {
            t->at++;
            return true;
        } else if (!quoted && (c == '\n' || c == '\r')) {
            t->at += c == '\r' && t->at + 1 < t->text.n && p[t->at + 1] == '\n' ? 2 : 1;
            return false;
        } else
            base_buf_append(&t->value, p + t->at, 1);
        any = true;
    }
    return false;
}

static void add_value(table *t, const char **name) {
    const base_str v = ex_trim((base_str){t->value.data, t->value.len});
    if (v.n == 0 || t->row.len > ROW_MAX) return;
    if (t->row.len) base_buf_puts(&t->row, " | ");
    if (*name && **name) base_buf_printf(&t->row, "%s: ", *name);
    base_buf_append(&t->row, v.p, v.n);
}

static void keep_name(table *t) {
    const base_str v = ex_trim((base_str){t->value.data, t->value.len});
    if (t->n_names++ >= COLUMNS_MAX) return;
    base_buf_append(&t->names, v.p, v.n);
    base_buf_append(&t->names, "", 1);
}

static rotor_status read_row(table *t, bool header) {
    const size_t begin = t->at;
    const char *name = header ? NULL : t->names.data;
    const char *const names_end = t->names.data ? t->names.data + t->names.len : NULL;
    base_buf_reset(&t->row);
    for (bool more = true; more;) {
        more = next_value(t);
        add_value(t, &name);
        if (header) keep_name(t);
        if (name) name += strlen(name) + 1;
        if (name >= names_end) name = NULL;
    }
    if (t->row.failed || t->value.failed || t->names.failed) return ex_nomem(t->x);
    return ex_put(t->x, BASE_BLOCK_ROW, header, (base_str){t->row.data, t->row.len},
                  (ex_span){begin, t->at});
}

/* Names of columns are words: a first row with a number in it is a row like the others. */
static bool is_header(const table *t) {
    size_t next;
    const base_str line = ex_line(t->text, t->at, &next);
    bool digits = true, any = false;
    for (size_t i = 0; i <= line.n; i++) {
        const char c = i < line.n ? line.p[i] : t->separator;
        if (c == t->separator) {
            if (any && digits) return false;
            digits = true;
            any = false;
        } else if (c != ' ' && c != '"') {
            any = true;
            digits &= (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+';
        }
    }
    return true;
}

/* European tables are separated by semicolons under the same name. */
static char guess_separator(base_str text, char separator) {
    size_t next, commas = 0, semicolons = 0;
    const base_str line = ex_line(text, 0, &next);
    for (size_t i = 0; i < line.n; i++) {
        commas += line.p[i] == ',';
        semicolons += line.p[i] == ';';
    }
    return separator == ',' && semicolons > commas ? ';' : separator;
}

rotor_status ex_parse_table(ex *x, char separator) {
    table t = {.x = x, .text = x->source->text};
    t.separator = guess_separator(t.text, separator);
    rotor_status st = ROTOR_OK;
    if (t.text.n && is_header(&t)) st = read_row(&t, true);
    while (st == ROTOR_OK && t.at < t.text.n) st = read_row(&t, false);
    base_buf_free(&t.value);
    base_buf_free(&t.row);
    base_buf_free(&t.names);
    return st;
}
