/* SPDX-License-Identifier: MIT
 *
 * api_rig: opens the embedded story model through the public API, as a program would.
 */
#ifndef API_RIG_H
#define API_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rotor.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        rotor_status ok_status_ = (call);                                                          \
        if (ok_status_ != ROTOR_OK)                                                                \
            fail_msg("%s: %d %s", #call, (int)ok_status_, api_err.message);                        \
    } while (0)

static rotor_error api_err; /* of the last call */

static inline const char *story_path(void) {
    static char path[4096];
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/tests/data/model/stories260K.gguf", root ? root : ".");
    return path;
}

static inline rotor_engine *story(uint32_t ctx, uint32_t sessions) {
    rotor_engine *e = NULL;
    rotor_engine_options o = rotor_engine_options_default();
    o.threads = 2;
    if (ctx) o.ctx = ctx;
    o.max_sessions = sessions;
    OK(rotor_engine_open(&e, story_path(), &o, &api_err));
    return e;
}

#endif
