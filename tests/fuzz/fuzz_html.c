/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a page of HTML.
 */
#include "document_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    document_check(EX_HTML, data, size, size);
    return 0;
}
