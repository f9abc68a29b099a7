/* SPDX-License-Identifier: MIT
 *
 * vk_matrix: what of VK_KHR_cooperative_matrix the device needs to know.
 */
#ifndef VK_MATRIX_H
#define VK_MATRIX_H

#include "dev/vulkan/vk.h"

#define VK_MATRIX_NAME "VK_KHR_cooperative_matrix"

/* Whether the build has kernels for it: its glslc knew the language's extension. */
#ifdef ROTOR_HAVE_MATRIX
#define VK_MATRIX_KERNELS true
#else
#define VK_MATRIX_KERNELS false
#endif

typedef struct vk_matrix_feature { /* VkPhysicalDeviceCooperativeMatrixFeaturesKHR */
    VkStructureType sType;         /* its own */
    void *pNext;                   /* next in the chain */
    VkBool32 matrix, robust;       /* matrices; accesses out of range are defined */
} vk_matrix_feature;

/* One that enables matrices. */
void vk_matrix_features(vk_matrix_feature *out, void *next);

#endif
