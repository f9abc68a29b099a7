/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the first byte picks a table or a form of JSON, the rest is the file.
 */
#include "document_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const ex_type types[] = {EX_CSV, EX_TSV, EX_JSON, EX_JSONL};
    if (size == 0) return 0;
    document_check(types[data[0] % BASE_COUNT(types)], data + 1, size - 1, size - 1);
    return 0;
}
