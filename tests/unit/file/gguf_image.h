/* SPDX-License-Identifier: MIT
 *
 * Building GGUF images byte by byte, good and bad, for tests.
 */
#ifndef GGUF_IMAGE_H
#define GGUF_IMAGE_H

#include "file/file.h"

static inline void put_le(base_buf *b, uint64_t v, int n) {
    for (int i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(v >> 8 * i);
        base_buf_append(b, &byte, 1);
    }
}

static inline void put_text(base_buf *b, const char *s) {
    put_le(b, strlen(s), 8);
    base_buf_puts(b, s);
}

static inline void put_head(base_buf *b, uint64_t n_tensors, uint64_t n_kvs) {
    base_buf_append(b, "GGUF", 4);
    put_le(b, 3, 4);
    put_le(b, n_tensors, 8);
    put_le(b, n_kvs, 8);
}

static inline void put_key(base_buf *b, const char *key, uint32_t type) {
    put_text(b, key);
    put_le(b, type, 4);
}

static inline void put_text_kv(base_buf *b, const char *key, const char *value) {
    put_key(b, key, FILE_STR);
    put_text(b, value);
}

static inline void put_u32_kv(base_buf *b, const char *key, uint32_t v) {
    put_key(b, key, FILE_U32);
    put_le(b, v, 4);
}

/* A two-dimensional tensor. */
static inline void put_tensor(base_buf *b, const char *name, uint64_t cols, uint64_t rows,
                              uint32_t type, uint64_t offset) {
    put_text(b, name);
    put_le(b, 2, 4);
    put_le(b, cols, 8);
    put_le(b, rows, 8);
    put_le(b, type, 4);
    put_le(b, offset, 8);
}

static inline void put_data(base_buf *b, size_t align, size_t n_bytes) {
    while (b->len % align) put_le(b, 0, 1);
    for (size_t i = 0; i < n_bytes; i++) put_le(b, i, 1);
}

#endif
