/* SPDX-License-Identifier: MIT
 *
 * api_auto: which device --device auto takes. Hardware devices only; each of them and the CPU
 * decode a few tokens of the model, the faster one is taken, and the result is remembered for this
 * machine, these devices and this model. What it sees of the world comes through api_rivals, so
 * that tests can be a machine with any devices.
 */
#ifndef API_AUTO_H
#define API_AUTO_H

#include "base/base.h"
#include "dev/dev.h"

/* A device and where it stands in the list of its API. */
typedef struct api_device {
    dev_api api;     /* DEV_CPU: none of them */
    size_t index;    /* of dev_list */
    dev_facts facts; /* of it; unset for the CPU */
} api_device;

typedef struct api_rivals {
    void *user; /* passed to both */
    /* As dev_list. */
    rotor_status (*list)(void *user, dev_api api, dev_facts *out, size_t max, size_t *n);
    /* Tokens a second of the model on this device, or why it cannot run it. */
    rotor_status (*measure)(void *user, const api_device *d, double *tok_per_s, rotor_error *err);
} api_rivals;

typedef struct api_auto {
    uint64_t step_bytes;   /* weight bytes a decoded token reads */
    uint64_t key;          /* of machine, model and settings */
    const char *cache_dir; /* where the result is remembered; NULL: nowhere */
    const base_log *log;   /* what was chosen and why, at level info */
    char *why;             /* the same text; NULL: nobody wants it */
    size_t why_bytes;      /* room for it */
} api_auto;

enum {
    API_AUTO_TINY = 4 << 20, /* step_bytes below it are the CPU's: a step is over too soon */
    API_AUTO_KEPT = 64       /* results remembered at most, the newest */
};

/* Never fails: what cannot be found out speaks for the CPU. */
api_device api_auto_choose(const api_rivals *r, const api_auto *a);

#endif
