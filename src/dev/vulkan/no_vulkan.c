/* SPDX-License-Identifier: MIT
 *
 * A build without Vulkan's headers or without glslc.
 */
#include "dev/gpu/gpu.h"

const gpu_api *gpu_vulkan(void) { return NULL; }
