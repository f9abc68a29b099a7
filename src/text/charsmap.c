/* SPDX-License-Identifier: MIT
 *
 * Precompiled normaliser of SentencePiece models: a double-array tree from byte strings to
 * replacements.
 *
 *   u32 LE   bytes of the tree (a multiple of 4)
 *   u32 LE[] tree units:  bits 0-7 label, 8 has a value, 9 the offset is shifted by 8 more,
 *                         10-30 offset, 31 set in units that hold a value (bits 0-30)
 *   bytes    replacements, each ended by a zero byte; a value is where one starts
 *
 * At each place the longest key that matches is replaced, else one character is copied. Every
 * index that comes from the file is checked at each step.
 */
#include "text/text_internal.h"

struct text_charsmap {
    uint32_t *units;  /* [n_units] owned, host byte order */
    size_t n_units;   /* of the tree */
    char *strings;    /* owned, ends in a zero byte */
    size_t n_strings; /* bytes */
};

static uint32_t le32(const char *p) {
    const uint8_t *b = (const uint8_t *)p;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

rotor_status text_charsmap_create(text_charsmap **out, base_str blob, rotor_error *err) {
    uint32_t tree_bytes = blob.n >= 4 ? le32(blob.p) : 0;
    if (blob.n < 4 || tree_bytes % 4 || tree_bytes > blob.n - 4)
        return base_fail(err, ROTOR_E_FORMAT,
                         "charsmap: %zu bytes with a tree of %u bytes, expected a multiple of 4 "
                         "that fits",
                         blob.n, tree_bytes);
    text_charsmap *m = base_alloc(sizeof *m);
    if (!m) goto fail;
    m->n_units = tree_bytes / 4;
    m->n_strings = blob.n - 4 - tree_bytes;
    m->units = base_alloc_array(m->n_units, sizeof *m->units);
    m->strings = base_strndup(blob.p + 4 + tree_bytes, m->n_strings);
    if (!m->units || !m->strings) goto fail;
    for (size_t i = 0; i < m->n_units; i++) m->units[i] = le32(blob.p + 4 + 4 * i);
    *out = m;
    return ROTOR_OK;
fail:
    text_charsmap_free(&m);
    return base_fail_nomem(err, "reading a charsmap");
}

void text_charsmap_free(text_charsmap **map) {
    if (!map || !*map) return;
    base_free((*map)->units);
    base_free((*map)->strings);
    base_free(*map);
    *map = NULL;
}

static uint32_t unit_offset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

/* Length of the longest key at s and its replacement; 0 when no key matches. */
static size_t longest_key(const text_charsmap *m, base_str s, base_str *replacement) {
    size_t found = 0, at = 0;
    if (!m->n_units) return 0;
    at ^= unit_offset(m->units[0]);
    for (size_t i = 0; i < s.n; i++) {
        uint8_t byte = (uint8_t)s.p[i];
        at ^= byte;
        if (at >= m->n_units || (m->units[at] & 0x800000FFu) != byte) break;
        uint32_t unit = m->units[at];
        at ^= unit_offset(unit);
        if (!(unit & 1u << 8)) continue;
        if (at >= m->n_units) break;
        uint32_t value = m->units[at] & 0x7FFFFFFFu;
        if (value >= m->n_strings) continue;
        found = i + 1;
        *replacement = base_str_of(m->strings + value);
    }
    return found;
}

void text_charsmap_apply(const text_charsmap *map, base_str in, base_buf *out) {
    for (size_t i = 0; i < in.n && !out->failed;) {
        base_str with = {0};
        size_t len = longest_key(map, (base_str){in.p + i, in.n - i}, &with);
        if (!len) {
            int32_t cp;
            len = (size_t)base_utf8_decode(in.p + i, in.n - i, &cp);
            with = (base_str){in.p + i, len};
        }
        base_buf_append(out, with.p, with.n);
        i += len;
    }
}
