/* SPDX-License-Identifier: MIT
 *
 * document_check: any bytes through one document parser, and every block through the check that the
 * other side of the pipe makes. A parser may fail, in one sentence with a reason; it may not say
 * what its reader refuses.
 */
#ifndef FUZZ_DOCUMENT_CHECK_H
#define FUZZ_DOCUMENT_CHECK_H

#include <stdlib.h>

#include "extract/extract.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static rotor_status document_block(void *user, const base_block *b, rotor_error *err) {
    (void)user, (void)b, (void)err;
    return ROTOR_OK;
}

static rotor_status document_pass(void *user, const base_block *b, rotor_error *err) {
    base_block_reader *r = user;
    base_buf bytes = {0};
    if (!r->begun) base_buf_puts(&bytes, BASE_BLOCK_MAGIC);
    if (!base_block_put(&bytes, b)) abort();
    if (base_block_read(r, bytes.data, bytes.len, err) != ROTOR_OK) abort();
    base_buf_free(&bytes);
    return ROTOR_OK;
}

/* Small limits: they too must hold. */
static void document_check(ex_type type, const void *data, size_t n_bytes, size_t file_bytes) {
    rotor_error err = {0};
    base_block_reader reader = {.fn = document_block, .file_bytes = file_bytes};
    ex x = {.limits = ex_limits_default(), .fn = document_pass, .user = &reader, .err = &err};
    const base_str bytes = {n_bytes ? data : "", n_bytes};
    x.limits.unpacked_bytes = x.limits.text_bytes = 8 << 20;
    x.limits.blocks = 100000;
    const rotor_status st =
        type == EX_WIKI ? ex_parse_wiki(&x, bytes, NULL) : ex_document(&x, type, bytes, "name.c");
    if (st != ROTOR_OK && (!x.reason || !err.message[0])) abort();
    for (const char *p = err.message; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7F) abort();
    base_block_reader_reset(&reader);
    ex_close(&x);
}

#endif
