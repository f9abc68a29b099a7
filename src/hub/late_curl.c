/* SPDX-License-Identifier: MIT
 *
 * Finding libcurl.
 */
#include "hub/late_curl.h"
#include "hub/hub.h"

static const base_late_row functions[] = {
#define ROW(name) {"curl_" #name, offsetof(hub_curl, name)},
    HUB_CURL_FUNCTIONS(ROW)
#undef ROW
};

static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.4.dylib",
                                    "libcurl.dll", "libcurl.so"};

base_late hub_curl_library = {
    .names = names,
    .n_names = BASE_COUNT(names),
    .rows = functions,
    .n_rows = BASE_COUNT(functions),
    .table_bytes = sizeof(hub_curl),
    .what = "asking another server needs libcurl",
    .advice = "Debian and Ubuntu: apt install libcurl4; elsewhere libcurl or curl"};

rotor_status hub_curl_open(rotor_error *err) { return base_late_open(&hub_curl_library, err); }

rotor_status hub_library(const char **out, rotor_error *err) {
    ROTOR_TRY(hub_curl_open(err));
    *out = curl()->version();
    return ROTOR_OK;
}
