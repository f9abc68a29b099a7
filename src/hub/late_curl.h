/* SPDX-License-Identifier: MIT
 *
 * The functions of libcurl that are used, found when they are first needed: with the thirty
 * libraries that it brings along it takes longer to load than all of the program.
 *
 *   ROTOR_TRY(hub_curl_open(err));    before the first use, from any thread
 *   curl()->easy_cleanup(…)          what its own header calls curl_easy_cleanup
 */
#ifndef LATE_CURL_H
#define LATE_CURL_H

#include "base/base.h"

#include <curl/curl.h>
#include <stdatomic.h>

/* clang-format off */
#define HUB_CURL_FUNCTIONS(F)                                                                     \
    F(easy_cleanup) F(easy_getinfo) F(easy_init) F(easy_perform) F(easy_reset) F(easy_setopt)     \
    F(easy_strerror) F(free) F(global_init) F(multi_add_handle) F(multi_cleanup)                  \
    F(multi_info_read) F(multi_init) F(multi_perform) F(multi_poll) F(multi_remove_handle)        \
    F(slist_append) F(slist_free_all) F(url) F(url_cleanup) F(url_get) F(url_set) F(version)
/* clang-format on */

typedef struct hub_curl {
#define MEMBER(name) __typeof__(curl_##name) *name; /* as the header declares it */
    HUB_CURL_FUNCTIONS(MEMBER)
#undef MEMBER
} hub_curl;

extern base_late hub_curl_library;

/* ROTOR_E_UNSUPPORTED: it is not installed; the message says how to get it. */
rotor_status hub_curl_open(rotor_error *err);

/* Once it is open. */
static inline const hub_curl *curl(void) {
    return atomic_load_explicit(&hub_curl_library.table, memory_order_acquire);
}

#endif
