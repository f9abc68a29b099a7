/* SPDX-License-Identifier: MIT
 *
 * post in a build without libcurl: opening it says what is missing; the rest is never reached.
 */
#include "hub/post.h"

static rotor_status missing(rotor_error *err) {
    return base_fail(
        err, ROTOR_E_UNSUPPORTED,
        "this program was built without libcurl, which vectors from a server need: install "
        "libcurl4-openssl-dev (Debian; libcurl-devel, curl elsewhere) and build again");
}

rotor_status post_open(post **out, const post_options *opt, rotor_error *err) {
    (void)opt;
    *out = NULL;
    return missing(err);
}

void post_close(post **p) { (void)p; }

rotor_status post_send(post *p, base_str body, size_t max_bytes, long *status, base_buf *answer,
                       rotor_error *err) {
    (void)p;
    (void)body;
    (void)max_bytes;
    (void)status;
    (void)answer;
    return missing(err);
}

const char *post_leads_to(const post *p) {
    (void)p;
    return "";
}
