/* SPDX-License-Identifier: MIT
 *
 * info: the devices of rotor info (info_devices.c), for verb_info.c.
 */
#ifndef INFO_H
#define INFO_H

#include "cli/cli.h"

struct json_t;

/* The devices of this machine, measured where they can be used. */
typedef struct info_devices {
    tool_devices found;                         /* and what they reach */
    rotor_error not_measured[TOOL_MAX_DEVICES]; /* why a usable one could not be measured */
} info_devices;

void info_devices_measure(info_devices *d);
/* model: what a token of it reads, or NULL. */
void info_devices_text(const info_devices *d, const rotor_engine_info *model);
struct json_t *info_devices_json(const info_devices *d, const rotor_engine_info *model);
/* {"vulkan": "no loader …"} for each API without a device. */
struct json_t *info_missing_json(const info_devices *d);

#endif
