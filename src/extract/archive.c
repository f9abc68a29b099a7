/* SPDX-License-Identifier: MIT
 *
 * The text inside a zip file (DOCX, EPUB), by libarchive, in one pass.
 *
 * Only entries whose names say markup are unpacked, and three limits hold while they are: entries,
 * bytes in all, and bytes against the size of the archive, so that a small file cannot become a
 * large one. The first 4 MiB are free of the ratio: a short document of long tables is no bomb.
 */
#include "extract/extract.h"

#if ROTOR_HAVE_LIBARCHIVE
#include <archive.h>
#include <archive_entry.h>

enum { PIECE = 1 << 16, FREE_BYTES = 4 << 20, NAME_MAX_BYTES = 1024 };

typedef struct entry {
    char *name;    /* owned */
    base_buf data; /* owned; unpacked */
} entry;

struct ex_archive {
    entry *entries; /* [n] owned */
    size_t n;       /* entries kept */
    size_t cap;     /* allocated */
    uint64_t bytes; /* unpacked in all */
    bool encrypted; /* some entry is */
};

static bool is_markup_name(const char *name) {
    static const char *const ends[] = {".xml", ".xhtml", ".html", ".htm", ".opf", "mimetype"};
    for (size_t i = 0; i < BASE_COUNT(ends); i++)
        if (ex_ends_with(name, ends[i])) return true;
    return false;
}

static rotor_status unpack(ex *x, ex_archive *a, struct archive *zip, base_str raw, base_buf *to) {
    for (;;) {
        if (!base_buf_reserve(to, PIECE)) return ex_nomem(x);
        const la_ssize_t n = archive_read_data(zip, to->data + to->len, PIECE);
        if (n < 0)
            return ex_fail(x, BASE_REASON_BROKEN, "the archive is damaged: %.120s",
                           archive_error_string(zip) ? archive_error_string(zip) : "");
        if (n == 0) return ROTOR_OK;
        to->len += (size_t)n;
        a->bytes += (uint64_t)n;
        if (a->bytes > x->limits.unpacked_bytes)
            return ex_fail(x, BASE_REASON_TOO_LARGE, "it unpacks to more than %llu MiB",
                           (unsigned long long)(x->limits.unpacked_bytes >> 20));
        if (a->bytes > FREE_BYTES && a->bytes / x->limits.unpacked_ratio > raw.n)
            return ex_fail(x, BASE_REASON_TOO_LARGE, "it unpacks to more than %u times its size",
                           x->limits.unpacked_ratio);
    }
}

static entry *new_entry(ex_archive *a, const char *name) {
    if (a->n == a->cap) {
        const size_t cap = a->cap ? 2 * a->cap : 32;
        entry *grown = base_realloc(a->entries, cap * sizeof *grown);
        if (!grown) return NULL;
        a->entries = grown;
        a->cap = cap;
    }
    a->entries[a->n] = (entry){.name = base_strdup(name)};
    return a->entries[a->n].name ? &a->entries[a->n++] : NULL;
}

static rotor_status read_entries(ex *x, ex_archive *a, struct archive *zip, base_str raw) {
    struct archive_entry *e;
    for (uint32_t seen = 0;; seen++) {
        const int got = archive_read_next_header(zip, &e);
        if (got == ARCHIVE_EOF) return ROTOR_OK;
        if (got < ARCHIVE_WARN)
            return ex_fail(x, BASE_REASON_BROKEN, "not a readable archive: %.120s",
                           archive_error_string(zip) ? archive_error_string(zip) : "");
        if (seen >= x->limits.entries)
            return ex_fail(x, BASE_REASON_TOO_LARGE, "more than %u entries", x->limits.entries);
        const char *name = archive_entry_pathname(e);
        if (!name || strlen(name) > NAME_MAX_BYTES || !is_markup_name(name)) continue;
        if (archive_entry_is_encrypted(e)) {
            a->encrypted = true;
            continue;
        }
        entry *kept = new_entry(a, name);
        if (!kept) return ex_nomem(x);
        ROTOR_TRY(unpack(x, a, zip, raw, &kept->data));
    }
}

rotor_status ex_archive_open(ex *x, ex_archive **out, base_str raw) {
    ex_archive *a = base_alloc(sizeof *a);
    struct archive *zip = archive_read_new();
    rotor_status st = a && zip ? ROTOR_OK : ex_nomem(x);
    if (st == ROTOR_OK) {
        archive_read_support_format_zip(zip);
        if (archive_read_open_memory(zip, raw.p, raw.n) != ARCHIVE_OK)
            st = ex_fail(x, BASE_REASON_BROKEN, "not a readable archive");
        else
            st = read_entries(x, a, zip, raw);
    }
    if (zip) archive_read_free(zip);
    if (st == ROTOR_OK && a->encrypted)
        st = ex_fail(x, BASE_REASON_ENCRYPTED, "this archive opens with a password only");
    if (st == ROTOR_OK)
        *out = a;
    else
        ex_archive_close(&a);
    return st;
}

void ex_archive_close(ex_archive **a) {
    if (!a || !*a) return;
    for (size_t i = 0; i < (*a)->n; i++) {
        base_free((*a)->entries[i].name);
        base_buf_free(&(*a)->entries[i].data);
    }
    base_free((*a)->entries);
    base_free(*a);
    *a = NULL;
}

bool ex_archive_get(const ex_archive *a, const char *name, base_str *out) {
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->entries[i].name, name) == 0) {
            *out = (base_str){a->entries[i].data.data, a->entries[i].data.len};
            return true;
        }
    return false;
}

#else

rotor_status ex_archive_open(ex *x, ex_archive **out, base_str raw) {
    (void)out, (void)raw;
    return ex_fail(x, BASE_REASON_MISSING_TOOL, "DOCX and EPUB: built without libarchive");
}
void ex_archive_close(ex_archive **a) { *a = NULL; }
bool ex_archive_get(const ex_archive *a, const char *name, base_str *out) {
    (void)a, (void)name, (void)out;
    return false;
}

#endif
