/* SPDX-License-Identifier: MIT
 *
 * fetch in a build without libcurl: opening it says what is missing; the rest is never reached.
 */
#include "hub/fetch.h"
#include "hub/hub.h"

const char *hub_features(void) {
    return "libcurl: off (built without libcurl: no rotor pull, no vectors from a server)\n";
}

static rotor_status missing(rotor_error *err) {
    return base_fail(
        err, ROTOR_E_UNSUPPORTED,
        "this program was built without libcurl, which downloads need: install "
        "libcurl4-openssl-dev (Debian; libcurl-devel, curl elsewhere) and build again");
}

rotor_status hub_library(const char **out, rotor_error *err) {
    *out = NULL;
    return missing(err);
}

rotor_status fetch_open(fetch **out, const fetch_options *opt, rotor_error *err) {
    (void)opt;
    *out = NULL;
    return missing(err);
}

void fetch_close(fetch **f) { (void)f; }

rotor_status fetch_facts_of(fetch *f, const char *url, fetch_facts *out, rotor_error *err) {
    (void)f;
    (void)url;
    (void)out;
    return missing(err);
}

rotor_status fetch_text(fetch *f, const char *url, size_t max_bytes, base_buf *out,
                        rotor_error *err) {
    (void)f;
    (void)url;
    (void)max_bytes;
    (void)out;
    return missing(err);
}

rotor_status fetch_bytes(fetch *f, const char *url, uint64_t begin, uint64_t end, fetch_sink sink,
                         void *user, rotor_error *err) {
    (void)f;
    (void)url;
    (void)begin;
    (void)end;
    (void)sink;
    (void)user;
    return missing(err);
}
