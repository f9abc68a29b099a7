/* SPDX-License-Identifier: MIT
 *
 * inspect: the open file that inspect.c and verify.c share.
 */
#ifndef INSPECT_H
#define INSPECT_H

#include "file/file.h"
#include "tool/tool.h"

struct tool_file {
    file_model *f;    /* owned */
    tool_facts facts; /* gathered at open */
    char *name;       /* owned text behind facts.name when it comes from config.json */
    char *arch;       /* likewise facts.architecture */
};

/* The view of tensor i that quant works on. */
quant_tensor tool_view(const tool_file *f, size_t i, tool_i2s order);

#endif
