/* SPDX-License-Identifier: MIT
 *
 * tool_device: what the files that measure devices share.
 */
#ifndef TOOL_DEVICE_H
#define TOOL_DEVICE_H

#include "dev/dev.h"
#include "tool/tool.h"

/* The API and the place in its list that an id ("vulkan:1") stands for; DEV_CPU: none. */
dev_api tool_device_api(const char *id, size_t *index);

#endif
