/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a box of letters. One letter is a box of one without its first line.
 */
#include "document_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    document_check(EX_MBOX, data, size, size);
    return 0;
}
