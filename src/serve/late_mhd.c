/* SPDX-License-Identifier: MIT
 *
 * Finding libmicrohttpd.
 */
#include "serve/late_mhd.h"
#include "serve/serve.h"

static const base_late_row functions[] = {
#define ROW(name) {"MHD_" #name, offsetof(serve_mhd, name)},
    SERVE_MHD_FUNCTIONS(ROW)
#undef ROW
};

static const char *const names[] = {"libmicrohttpd.so.12", "libmicrohttpd.12.dylib",
                                    "libmicrohttpd-12.dll", "libmicrohttpd.so"};

base_late serve_mhd_library = {
    .names = names,
    .n_names = BASE_COUNT(names),
    .rows = functions,
    .n_rows = BASE_COUNT(functions),
    .table_bytes = sizeof(serve_mhd),
    .what = "rotor serve needs libmicrohttpd",
    .advice = "Debian and Ubuntu: apt install libmicrohttpd12; elsewhere libmicrohttpd"};

rotor_status serve_mhd_open(rotor_error *err) { return base_late_open(&serve_mhd_library, err); }

rotor_status serve_library(const char **version, rotor_error *err) {
    ROTOR_TRY(serve_mhd_open(err));
    *version = mhd()->get_version();
    return ROTOR_OK;
}
