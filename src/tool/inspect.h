/* SPDX-License-Identifier: MIT
 *
 * inspect: the open file that inspect.c and verify.c share.
 */
#ifndef INSPECT_H
#define INSPECT_H

#include "file/file.h"
#include "tool/tool.h"

struct tool_file {
    file_model *f;      /* owned */
    tool_facts facts;   /* gathered at open */
    char *name;         /* owned text behind facts.name when it comes from config.json */
    void *image;        /* owned; a beginning in a hole as large as the file; NULL: none */
    size_t image_bytes; /* of image */
    char *arch;         /* likewise facts.architecture */
};

/* A published file. */
typedef struct tool_known {
    const char *name;   /* what it is, for people */
    uint64_t bytes;     /* its size */
    const char *sha256; /* of its bytes, lower-case hex */
} tool_known;
/* Name of the list's file with these bytes; NULL when none has. */
const char *tool_known_in(const tool_known *list, size_t n, const void *data, uint64_t n_bytes);

/* The view of tensor i that quant works on. */
quant_tensor tool_view(const tool_file *f, size_t i, tool_i2s order);

#endif
