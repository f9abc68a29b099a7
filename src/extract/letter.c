/* SPDX-License-Identifier: MIT
 *
 * Letters (RFC 5322, MIME): one, or a box of them.
 *
 * Each letter is a document: its subject the title; sender, recipients, date and id META; its text
 * the parts that are text. Of alternatives the plain one is taken, unless it is blank. What is
 * attached is named and not read. A letter inside a letter comes as a heading and its text.
 *
 * In a box a letter begins at a line "From " after a blank line.
 *
 * Where text stands: in parts that were not encoded, to the byte; else the whole part. The raw
 * bytes are walked once for line numbers: places are asked for in rising order, nearly.
 */
#include "extract/extract.h"

#include <stdio.h>
#include <strings.h>

enum { PARTS_DEPTH_MAX = 16, PARTS_MAX = 2000, BOUNDARY_MAX = 128 };

typedef struct letters {
    ex *x;          /* where blocks go */
    base_str raw;   /* the file */
    size_t at;      /* how far lines were counted */
    uint32_t lines; /* before it */
    size_t first;   /* where this letter begins … */
    uint32_t above; /* … and the lines before it */
    uint32_t parts; /* seen in this letter */
} letters;

/* The headers of a letter or a part; values are slices with their folds. */
typedef struct head {
    base_str subject, from, to, date, id; /* of a letter */
    base_str type, encoding, disposition; /* of a part */
    size_t end;                           /* offset of the body in what was given */
} head;

static uint32_t line_at(letters *l, size_t offset) {
    if (offset < l->at) {
        const bool here = offset >= l->first;
        l->at = here ? l->first : 0;
        l->lines = here ? l->above : 0;
    }
    for (; l->at < offset && l->at < l->raw.n; l->at++)
        l->lines +=
            l->raw.p[l->at] == '\n' ||
            (l->raw.p[l->at] == '\r' && (l->at + 1 == l->raw.n || l->raw.p[l->at + 1] != '\n'));
    return l->lines;
}

static size_t offset_of(const letters *l, base_str s) { return (size_t)(s.p - l->raw.p); }

/* ---- Headers ------------------------------------------------------------------------------- */

static head read_head(base_str s) {
    head h = {0};
    const struct {
        const char *name;
        base_str *to;
    } known[] = {{"subject:", &h.subject},
                 {"from:", &h.from},
                 {"to:", &h.to},
                 {"date:", &h.date},
                 {"message-id:", &h.id},
                 {"content-type:", &h.type},
                 {"content-transfer-encoding:", &h.encoding},
                 {"content-disposition:", &h.disposition}};
    base_str *open = NULL; /* the value that folded lines belong to */
    size_t next = 0;
    for (size_t at = 0; at < s.n; at = next) {
        const base_str line = ex_line(s, at, &next);
        if (line.n == 0) break;
        if (line.p[0] == ' ' || line.p[0] == '\t') {
            if (open) open->n = (size_t)(line.p + line.n - open->p);
            continue;
        }
        open = NULL;
        for (size_t i = 0; i < BASE_COUNT(known); i++) {
            const size_t n = strlen(known[i].name);
            if (!ex_starts_with(line, known[i].name) || known[i].to->p) continue;
            open = known[i].to;
            *open = (base_str){line.p + n, line.n - n};
        }
    }
    h.end = next;
    return h;
}

/* The value of name="..." in a header; cut to what `out` holds. */
static bool parameter(base_str value, const char *name, char *out, size_t out_bytes) {
    const size_t m = strlen(name);
    for (size_t i = 1; i + m < value.n; i++) {
        const char before = value.p[i - 1];
        if (before != ';' && before != ' ' && before != '\t' && before != '\n') continue;
        if (!ex_starts_with((base_str){value.p + i, value.n - i}, name)) continue;
        size_t at = i + m, n = 0;
        while (at < value.n && (value.p[at] == ' ' || value.p[at] == '=')) at++;
        if (at == i + m || at >= value.n) continue;
        const bool quoted = value.p[at] == '"';
        at += quoted;
        while (at < value.n && n + 1 < out_bytes &&
               (quoted ? value.p[at] != '"' : value.p[at] > ' ' && value.p[at] != ';'))
            out[n++] = value.p[at++];
        out[n] = 0;
        return n > 0;
    }
    return false;
}

static rotor_status put_header(ex *x, const char *name, base_str value) {
    base_buf text = {0};
    rotor_status st = ex_decode_header(&text, ex_trim(value)) ? ROTOR_OK : ex_nomem(x);
    if (st == ROTOR_OK) st = ex_put_meta(x, name, (base_str){text.data, text.len});
    base_buf_free(&text);
    return st;
}

static rotor_status put_subject(letters *l, base_block_kind kind, uint32_t level, base_str s,
                                base_str subject) {
    base_buf text = {0};
    rotor_status st = ex_decode_header(&text, ex_trim(subject)) ? ROTOR_OK : ex_nomem(l->x);
    const size_t from = offset_of(l, s);
    l->x->fixed = true;
    l->x->where = (base_block){.byte_begin = from,
                               .byte_end = from + s.n,
                               .line_begin = line_at(l, from) + 1,
                               .line_end = line_at(l, from + (s.n ? s.n - 1 : 0)) + 1};
    if (st == ROTOR_OK) st = ex_put(l->x, kind, level, (base_str){text.data, text.len}, EX_NOWHERE);
    l->x->fixed = false;
    base_buf_free(&text);
    return st;
}

/* ---- Parts --------------------------------------------------------------------------------- */

static rotor_status parse_text(letters *l, ex_source *source, bool html) {
    l->x->source = source;
    const rotor_status st =
        html ? ex_parse_html(l->x, (base_str){0}, false) : ex_put_paragraphs(l->x);
    l->x->source = NULL;
    return st;
}

/* body: as it stands in the file. */
static rotor_status put_text(letters *l, const head *h, base_str body, bool html) {
    ex *x = l->x;
    base_buf bytes = {0};
    ex_source source = {0};
    char label[32];
    const base_str how = ex_trim(h->encoding);
    const bool quoted = ex_starts_with(how, "quoted-printable"),
               b64 = ex_starts_with(how, "base64");
    const size_t from = offset_of(l, body);
    rotor_status st = ROTOR_OK;
    if (quoted && !ex_decode_quoted(&bytes, body)) st = ex_nomem(x);
    if (b64 && !ex_decode_base64(&bytes, body)) st = ex_nomem(x);
    if (quoted || b64) {
        const uint32_t first = line_at(l, from);
        x->fixed = true;
        x->where =
            (base_block){.byte_begin = from, .byte_end = from + body.n, .line_begin = first + 1};
        x->where.line_end = line_at(l, from + (body.n ? body.n - 1 : 0)) + 1;
        body = (base_str){bytes.data, bytes.len};
    } else {
        x->base_bytes = from;
        x->base_lines = line_at(l, from);
    }
    const bool labelled = parameter(h->type, "charset", label, sizeof label);
    if (st == ROTOR_OK && body.n) st = ex_source_open(x, &source, body, labelled ? label : NULL);
    if (st == ROTOR_OK && body.n) st = parse_text(l, &source, html);
    x->fixed = false;
    x->base_bytes = x->base_lines = 0;
    ex_source_close(&source);
    base_buf_free(&bytes);
    if (st != ROTOR_OK && x->reason == BASE_REASON_NOT_TEXT) {
        x->reason = BASE_REASON_NONE;
        return ex_put_note(x, "a part of a letter is said to be text and is none");
    }
    return st;
}

static rotor_status put_part(letters *l, base_str part, uint32_t depth);

typedef struct multipart {
    char mark[BOUNDARY_MAX + 2]; /* "--" and the boundary */
    base_str body;               /* what is cut */
    size_t at;                   /* how far */
} multipart;

/* The next part, without the line end that belongs to the mark after it. */
static bool next_part(multipart *m, base_str *part) {
    size_t begin = SIZE_MAX, next;
    const size_t n = strlen(m->mark);
    for (; m->at < m->body.n; m->at = next) {
        const base_str line = ex_line(m->body, m->at, &next);
        const bool mark = line.n >= n && memcmp(line.p, m->mark, n) == 0;
        if (!mark) continue;
        if (begin == SIZE_MAX) {
            if (line.n >= n + 2 && line.p[n] == '-' && line.p[n + 1] == '-') return false;
            begin = next;
            continue;
        }
        break;
    }
    if (begin == SIZE_MAX) return false;
    size_t end = BASE_MIN(m->at, m->body.n);
    if (end > begin && m->body.p[end - 1] == '\n') end--;
    if (end > begin && m->body.p[end - 1] == '\r') end--;
    *part = (base_str){m->body.p + begin, end - begin};
    return true;
}

/* Of several forms of one text: the plain one, unless there is nothing in it. */
static bool pick_alternative(multipart m, base_str *best) {
    base_str part, other = {0};
    bool any = false;
    while (next_part(&m, &part)) {
        const head h = read_head(part);
        const base_str type = ex_trim(h.type);
        const bool plain = !type.n || ex_starts_with(type, "text/plain");
        if (plain && !ex_blank((base_str){part.p + h.end, part.n - h.end})) {
            *best = part;
            return true;
        }
        if (!plain) {
            other = part;
            any = true;
        }
    }
    *best = other;
    return any;
}

static rotor_status put_parts(letters *l, const head *h, base_str body, uint32_t depth) {
    multipart m = {.body = body};
    base_str part;
    if (depth >= PARTS_DEPTH_MAX)
        return ex_fail(l->x, BASE_REASON_TOO_LARGE, "parts more than %d deep", PARTS_DEPTH_MAX);
    memcpy(m.mark, "--", 2);
    if (!parameter(h->type, "boundary", m.mark + 2, BOUNDARY_MAX))
        return put_text(l, &(head){0}, body, false);
    if (ex_starts_with(ex_trim(h->type), "multipart/alternative"))
        return pick_alternative(m, &part) ? put_part(l, part, depth + 1) : ROTOR_OK;
    while (next_part(&m, &part)) {
        if (++l->parts > PARTS_MAX)
            return ex_fail(l->x, BASE_REASON_TOO_LARGE, "more than %d parts", PARTS_MAX);
        ROTOR_TRY(put_part(l, part, depth + 1));
    }
    return ROTOR_OK;
}

static rotor_status put_part(letters *l, base_str part, uint32_t depth) {
    const head h = read_head(part);
    const base_str type = ex_trim(h.type), body = {part.p + h.end, part.n - h.end};
    char file[256];
    const bool named = parameter(h.disposition, "filename", file, sizeof file) ||
                       parameter(h.type, "name", file, sizeof file);
    if (ex_starts_with(ex_trim(h.disposition), "attachment") && depth > 0)
        return put_header(l->x, "attachment", base_str_of(named ? file : "without a name"));
    if (ex_starts_with(type, "multipart/")) return put_parts(l, &h, body, depth);
    if (ex_starts_with(type, "message/rfc822") && depth < PARTS_DEPTH_MAX) {
        const head inner = read_head(body);
        ROTOR_TRY(
            put_subject(l, BASE_BLOCK_HEADING, 2, (base_str){body.p, inner.end}, inner.subject));
        return put_part(l, body, depth + 1);
    }
    if (ex_starts_with(type, "text/html")) return put_text(l, &h, body, true);
    if (!type.n || ex_starts_with(type, "text/")) return put_text(l, &h, body, false);
    return named ? put_header(l->x, "attachment", base_str_of(file)) : ROTOR_OK;
}

/* ---- Letters ------------------------------------------------------------------------------- */

static rotor_status put_letter(letters *l, base_str letter) {
    const head h = read_head(letter);
    l->parts = 0;
    l->above = line_at(l, offset_of(l, letter));
    l->first = l->at;
    ROTOR_TRY(put_subject(l, BASE_BLOCK_DOC, 0, letter, h.subject));
    ROTOR_TRY(put_header(l->x, "id", h.id));
    ROTOR_TRY(put_header(l->x, "from", h.from));
    ROTOR_TRY(put_header(l->x, "to", h.to));
    ROTOR_TRY(put_header(l->x, "date", h.date));
    return put_part(l, letter, 0);
}

rotor_status ex_parse_letters(ex *x, base_str raw, bool box) {
    letters l = {.x = x, .raw = raw};
    size_t begin = 0, next;
    bool after_blank = true;
    if (!box) return put_letter(&l, raw);
    for (size_t at = 0; at < raw.n; at = next) {
        const base_str line = ex_line(raw, at, &next);
        if (after_blank && line.n > 5 && memcmp(line.p, "From ", 5) == 0) {
            if (at > begin) ROTOR_TRY(put_letter(&l, (base_str){raw.p + begin, at - begin}));
            begin = next;
        }
        after_blank = line.n == 0;
    }
    return begin < raw.n ? put_letter(&l, (base_str){raw.p + begin, raw.n - begin}) : ROTOR_OK;
}
