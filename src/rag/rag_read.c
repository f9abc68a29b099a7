/* SPDX-License-Identifier: MIT
 *
 * Files to text. What a file is follows from its name; whether it is text, from its bytes.
 *
 * Files are read whole into memory, not mapped: one that somebody cuts meanwhile would end the
 * program. A file that changed while it was read is read again.
 */
#include "rag/rag_internal.h"

#include <jansson.h>
#include <stdio.h>
#include <strings.h>

enum {
    MAX_TEXT = 32 << 20,
    MAX_DOCUMENT = 256 << 20,
    MAX_CORPUS = 1 << 30,
    MAX_LINE = 16 << 20,
    TRIES = 3
};

/* ==== Kinds =================================================================================== */

static bool among(const char *ext, const char *list) {
    char find[16];
    const int n = snprintf(find, sizeof find, " %s ", ext);
    if (n < 3 || (size_t)n >= sizeof find) return false;
    for (const char *at = list; *at; at++)
        if (strncasecmp(at, find, (size_t)n) == 0) return true;
    return false;
}

rag_reader rag_reader_of(const char *path, rag_form *form) {
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    const char *ext = dot ? dot + 1 : "";
    *form = RAG_FORM_TEXT;
    if (among(ext, " jsonl ")) return RAG_READ_CORPUS;
    if (among(ext, " md markdown mdown ")) *form = RAG_FORM_MARKDOWN;
    if (among(ext,
              " c h cc cpp hpp cs go rs py js ts tsx jsx java kt swift rb php pl lua sh sql r m "
              "scala zig hs ml el lisp asm s cmake "))
        *form = RAG_FORM_CODE;
    if (among(ext, " pdf docx odt epub rtf doc html htm xhtml xlsx pptx eml mbox csv tsv xml "))
        return RAG_READ_EXTRACT;
    return RAG_READ_TEXT;
}

/* ==== Bytes =================================================================================== */

static bool same_node(const base_node *a, const base_node *b) {
    return a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
           a->ino == b->ino && a->dev == b->dev;
}

static rotor_status read_once(const char *path, uint64_t limit, base_node *before, base_buf *out,
                              bool *steady, rotor_error *err) {
    base_node after;
    base_file f;
    *steady = false;
    if (!base_node_of(before, path, true))
        return base_fail(err, ROTOR_E_IO, "%s: it is not there, or may not be read", path);
    if (before->kind != BASE_NODE_FILE)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: not a regular file", path);
    if (before->size > limit)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: %.1f MiB, at most %.0f are read", path,
                         (double)before->size / 1048576, (double)limit / 1048576);
    ROTOR_TRY(base_file_open(&f, path, false, err));
    base_buf_reset(out);
    base_buf_append(out, f.data, f.size);
    *steady = base_node_of(&after, path, true) && same_node(before, &after) && f.size == after.size;
    base_file_close(&f);
    return out->failed ? base_fail_nomem(err, "reading a file") : ROTOR_OK;
}

rotor_status rag_read_bytes(const char *path, rag_reader reader, base_node *node, base_buf *out,
                            rotor_error *err) {
    const uint64_t limit = reader == RAG_READ_CORPUS    ? MAX_CORPUS
                           : reader == RAG_READ_EXTRACT ? MAX_DOCUMENT
                                                        : MAX_TEXT;
    uint64_t wait_us = 200000;
    for (int i = 0; i < TRIES; i++, wait_us *= 2) {
        bool steady;
        if (i) base_sleep_us(wait_us);
        ROTOR_TRY(read_once(path, limit, node, out, &steady, err));
        if (steady) return ROTOR_OK;
    }
    return base_fail(err, ROTOR_E_STATE, "%s: it keeps changing while it is read", path);
}

/* ==== Encodings =============================================================================== */

static bool is_utf8(const base_buf *b) {
    int32_t c;
    for (size_t at = 0; at < b->len;) {
        if ((signed char)b->data[at] >= 0) {
            at++;
            continue;
        }
        const int n = base_utf8_decode(b->data + at, b->len - at, &c);
        if (c < 0) return false;
        at += (size_t)n;
    }
    return true;
}

static void put_code(base_buf *out, uint32_t c) {
    char utf8[4];
    base_buf_append(out, utf8, (size_t)base_utf8_encode(c, utf8));
}

/* UTF-16 behind its mark; high: where the high byte of a unit stands. */
static rotor_status from_utf16(base_buf *b, size_t high) {
    base_buf out = {0};
    for (size_t at = 2; at + 1 < b->len; at += 2) {
        const uint8_t *p = (const uint8_t *)b->data + at;
        uint32_t c = (uint32_t)p[high] << 8 | p[1 - high];
        if (c >= 0xD800 && c < 0xDC00 && at + 3 < b->len) {
            const uint32_t low = (uint32_t)p[2 + high] << 8 | p[3 - high];
            if (low >= 0xDC00 && low < 0xE000) {
                c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
                at += 2;
            }
        }
        put_code(&out, !c || (c >= 0xD800 && c < 0xE000) ? 0xFFFD : c); /* no text has a zero */
    }
    base_buf_free(b);
    *b = out;
    return out.failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

static rotor_status from_latin1(base_buf *b) {
    base_buf out = {0};
    for (size_t i = 0; i < b->len; i++) put_code(&out, (uint8_t)b->data[i]);
    base_buf_free(b);
    *b = out;
    return out.failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

/* Control characters that no text has, in a hundred. */
static bool looks_binary(const base_buf *b) {
    size_t bad = 0;
    for (size_t i = 0; i < b->len; i++) {
        const uint8_t c = (uint8_t)b->data[i];
        if (c == 0) return true;
        bad += (c < 32 && !strchr("\t\n\r\f\v\033", c)) || c == 127;
    }
    return bad * 50 > b->len;
}

rotor_status rag_to_utf8(base_buf *b, const char *path, rotor_error *err) {
    const uint8_t *p = (const uint8_t *)b->data;
    rotor_status st = ROTOR_OK;
    if (b->len >= 2 && p[0] == 0xFF && p[1] == 0xFE) {
        st = from_utf16(b, 1);
    } else if (b->len >= 2 && p[0] == 0xFE && p[1] == 0xFF) {
        st = from_utf16(b, 0);
    } else {
        if (b->len >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) {
            memmove(b->data, b->data + 3, b->len - 3);
            b->len -= 3;
        }
        if (looks_binary(b))
            return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: binary, not text", path);
        if (!is_utf8(b)) st = from_latin1(b);
    }
    return st == ROTOR_OK ? st : base_fail_nomem(err, "reading a file");
}

/* ==== Corpora ================================================================================= */

/* A field as text: strings as they are, whole numbers in digits; NULL: neither. */
static char *as_text(const json_t *v, size_t *n) {
    char digits[32];
    if (json_is_string(v)) {
        *n = json_string_length(v);
        return base_strndup(json_string_value(v), *n);
    }
    if (!json_is_integer(v)) return NULL;
    *n = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(v));
    return base_strdup(digits);
}

/* Everything else the line says, in short. */
static char *other_fields(json_t *line) {
    json_object_del(line, "_id");
    json_object_del(line, "title");
    json_object_del(line, "text");
    if (!json_object_size(line)) return base_strdup("");
    const size_t n = json_dumpb(line, NULL, 0, JSON_COMPACT | JSON_SORT_KEYS);
    char *out = base_alloc(n + 1);
    if (out) json_dumpb(line, out, n, JSON_COMPACT | JSON_SORT_KEYS);
    return out;
}

static rotor_status take_fields(json_t *v, rag_corpus_line *out, rotor_error *err) {
    size_t n = 0;
    json_t *id = json_object_get(v, "_id");
    if (!id) id = json_object_get(v, "id");
    const json_t *title = json_object_get(v, "title"), *text = json_object_get(v, "text");
    if (!json_is_string(id) && !json_is_integer(id))
        return base_fail(err, ROTOR_E_FORMAT, "no \"_id\"");
    if (!json_is_string(text)) return base_fail(err, ROTOR_E_FORMAT, "no \"text\"");
    out->key = as_text(id, &n);
    out->title = json_is_string(title) ? as_text(title, &n) : base_strdup("");
    out->text = as_text(text, &out->n_text);
    out->meta = other_fields(v);
    if (out->key && out->title && out->text && out->meta) return ROTOR_OK;
    return base_fail_nomem(err, "reading a corpus");
}

rotor_status rag_read_line(base_str line, rag_corpus_line *out, rotor_error *err) {
    json_error_t why;
    memset(out, 0, sizeof *out);
    if (line.n > MAX_LINE) return base_fail(err, ROTOR_E_FORMAT, "a line of %zu bytes", line.n);
    json_t *v = json_loadb(line.p, line.n, 0, &why);
    if (!v) return base_fail(err, ROTOR_E_FORMAT, "not JSON: %s", why.text);
    rotor_status st = json_is_object(v) ? take_fields(v, out, err)
                                        : base_fail(err, ROTOR_E_FORMAT, "not a JSON object");
    json_decref(v);
    if (st != ROTOR_OK) rag_corpus_line_free(out);
    return st;
}

void rag_corpus_line_free(rag_corpus_line *l) {
    base_free(l->key);
    base_free(l->title);
    base_free(l->text);
    base_free(l->meta);
    memset(l, 0, sizeof *l);
}
