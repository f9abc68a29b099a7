/* SPDX-License-Identifier: MIT
 *
 * The functions of libmicrohttpd that are used, found when they are first needed: with the
 * TLS library that it brings along it takes longer to load than the rest of the program.
 *
 *   ROTOR_TRY(serve_mhd_open(err));   before the first use, from any thread
 *   mhd()->add_response_header(…)    what its own header calls MHD_add_response_header
 */
#ifndef LATE_MHD_H
#define LATE_MHD_H

#include "base/base.h"

#include <microhttpd.h>
#include <stdatomic.h>

/* clang-format off */
#define SERVE_MHD_FUNCTIONS(F)                                                                    \
    F(add_response_header) F(create_response_from_buffer) F(create_response_from_callback)        \
    F(destroy_response) F(get_connection_info) F(get_version) F(is_feature_supported)             \
    F(lookup_connection_value) F(queue_response) F(quiesce_daemon) F(resume_connection)           \
    F(start_daemon) F(stop_daemon) F(suspend_connection)
/* clang-format on */

typedef struct serve_mhd {
#define MEMBER(name) __typeof__(MHD_##name) *name; /* as the header declares it */
    SERVE_MHD_FUNCTIONS(MEMBER)
#undef MEMBER
} serve_mhd;

extern base_late serve_mhd_library;

/* ROTOR_E_UNSUPPORTED: it is not installed; the message says how to get it. */
rotor_status serve_mhd_open(rotor_error *err);

/* Once it is open. */
static inline const serve_mhd *mhd(void) {
    return atomic_load_explicit(&serve_mhd_library.table, memory_order_acquire);
}

#endif
