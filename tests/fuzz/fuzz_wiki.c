/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a dump of wiki pages.
 */
#include "document_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    document_check(EX_WIKI, data, size, size);
    return 0;
}
