/* SPDX-License-Identifier: MIT
 *
 * Vulkan, in a build without its headers or glslc.
 */
#include "dev/gpu/gpu.h"

const gpu_api *gpu_vulkan(void) { return NULL; }
