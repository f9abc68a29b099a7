/* SPDX-License-Identifier: MIT
 *
 * Normalising steps in a build without utf8proc: none of those that ask what a character is.
 * Byte-level vocabularies have no such step; those that do are refused when a text is encoded.
 */
#include "text/text_internal.h"

rotor_status text_unicode_step(const text_step *step, base_str in, base_buf *out,
                               rotor_error *err) {
    (void)step, (void)in, (void)out;
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "this vocabulary wants its text in a Unicode normal form or in lower case, "
                     "and this build has no utf8proc to make it so");
}
