/* SPDX-License-Identifier: MIT
 *
 * NumPy files, format 1.0, float32 in C order with two dimensions, and nothing else.
 *
 *   | 93 'NUMPY' 1 0 | header length u16 | {'descr': '<f4', …} spaces \n | rows … |
 *
 * The header is padded so that the data starts on a multiple of 64. A file appears under its name
 * only when all rows are written.
 */
#include "tool/tool.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAGIC_BYTES = 8, LENGTH_BYTES = 2, HEADER_ALIGN = 64 };

static const char magic[MAGIC_BYTES + 1] = "\x93NUMPY\x01";

rotor_status tool_npy_create(tool_npy_out *w, const char *path, size_t rows, size_t cols,
                             rotor_error *err) {
    char dict[192], head[256];
    memset(head, ' ', sizeof head);
    int n = snprintf(dict, sizeof dict,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, cols);
    size_t before = MAGIC_BYTES + LENGTH_BYTES;
    size_t total = (before + (size_t)n + HEADER_ALIGN) / HEADER_ALIGN * HEADER_ALIGN;
    memcpy(head, magic, MAGIC_BYTES);
    head[8] = (char)((total - before) & 0xFF);
    head[9] = (char)((total - before) >> 8);
    memcpy(head + before, dict, (size_t)n);
    head[total - 1] = '\n';
    ROTOR_TRY(base_out_open(&w->out, path, err));
    w->cols = cols;
    w->left = rows;
    rotor_status st = base_out_write(&w->out, head, total, err);
    if (st != ROTOR_OK) tool_npy_abort(w);
    return st;
}

rotor_status tool_npy_row(tool_npy_out *w, const float *row, rotor_error *err) {
    if (w->left == 0) return base_fail(err, ROTOR_E_STATE, "more rows than announced");
    w->left--;
    return base_out_write(&w->out, row, w->cols * sizeof *row, err);
}

rotor_status tool_npy_commit(tool_npy_out *w, rotor_error *err) {
    if (w->left) {
        base_fail(err, ROTOR_E_STATE, "%zu rows are missing", w->left);
        tool_npy_abort(w);
        return ROTOR_E_STATE;
    }
    return base_out_commit(&w->out, err);
}

void tool_npy_abort(tool_npy_out *w) {
    base_out_abort(&w->out);
    w->left = 0;
}

/* ==== Reading ================================================================================= */

static rotor_status bad(const char *path, const char *what, rotor_error *err) {
    return base_fail(err, ROTOR_E_FORMAT, "%s: %s; expected a NumPy file of float32 [rows, cols]",
                     path, what);
}

/* Text after "key': " in the header, NULL when absent. */
static const char *field(const char *header, const char *key) {
    const char *p = strstr(header, key);
    if (!p) return NULL;
    p = strchr(p, ':');
    if (!p) return NULL;
    return p + 1 + strspn(p + 1, " ");
}

static rotor_status parse(tool_npy_in *r, const char *path, rotor_error *err) {
    char header[512];
    const uint8_t *p = r->file.data;
    if (r->file.size < 10 || memcmp(p, magic, MAGIC_BYTES - 1) != 0)
        return bad(path, "not a NumPy file", err);
    if (p[6] != 1) return bad(path, "not NumPy format version 1", err);
    size_t n = (size_t)p[8] | (size_t)p[9] << 8;
    if (n >= sizeof header || 10 + n > r->file.size) return bad(path, "header is cut short", err);
    memcpy(header, p + 10, n);
    header[n] = 0;
    const char *descr = field(header, "'descr'"), *order = field(header, "'fortran_order'"),
               *shape = field(header, "'shape'");
    if (!descr || strncmp(descr, "'<f4'", 5) != 0) return bad(path, "not float32", err);
    if (!order || strncmp(order, "False", 5) != 0) return bad(path, "not in C order", err);
    char *end = NULL;
    if (!shape || *shape != '(') return bad(path, "no shape", err);
    r->rows = strtoull(shape + 1, &end, 10);
    if (*end != ',') return bad(path, "not two-dimensional", err);
    r->cols = strtoull(end + 1, &end, 10);
    size_t bytes;
    if (*end != ')' || r->cols == 0) return bad(path, "not two-dimensional", err);
    if (!base_mul_size(r->rows, r->cols, &bytes) || !base_mul_size(bytes, 4, &bytes) ||
        bytes != r->file.size - 10 - n)
        return bad(path, "size and shape disagree", err);
    r->data = p + 10 + n;
    return ROTOR_OK;
}

rotor_status tool_npy_open(tool_npy_in *r, const char *path, rotor_error *err) {
    memset(r, 0, sizeof *r);
    ROTOR_TRY(base_file_open(&r->file, path, true, err));
    rotor_status st = parse(r, path, err);
    if (st != ROTOR_OK) tool_npy_close(r);
    return st;
}

void tool_npy_read(const tool_npy_in *r, size_t row, float *dst) {
    memcpy(dst, r->data + row * r->cols * sizeof *dst, r->cols * sizeof *dst);
}

void tool_npy_close(tool_npy_in *r) { base_file_close(&r->file); }
