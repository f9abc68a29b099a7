/* SPDX-License-Identifier: MIT
 *
 * OpenCL in a build without its headers: none.
 */
#include "dev/gpu/gpu.h"

const gpu_api *gpu_opencl(void) { return NULL; }
