/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the first byte picks Markdown, code or text, the rest is the file. And what type it
 * is.
 */
#include "document_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const ex_type types[] = {EX_MARKDOWN, EX_CODE, EX_TEXT};
    const char *what;
    if (size == 0) return 0;
    ex_detect((base_str){(const char *)data + 1, size - 1}, NULL, &what);
    document_check(types[data[0] % BASE_COUNT(types)], data + 1, size - 1, size - 1);
    return 0;
}
