/* SPDX-License-Identifier: MIT
 *
 * VK_KHR_cooperative_matrix, which the headers of Vulkan 1.3.239 do not know: its names and numbers
 * as the registry has them, and whether a device multiplies int8 matrices as mm_t2_matrix wants it.
 * Never run on a device: none was at hand. What it computes is checked before it is used
 * (dev_gpu_check.c).
 */
#include "dev/vulkan/vk_matrix.h"

enum {
    MATRIX_FEATURES = 1000506000,   /* structure types */
    MATRIX_PROPERTIES = 1000506001, /* of one shape */
    SINT8 = 3,                      /* VkComponentTypeKHR */
    SINT32 = 5,                     /* the same */
    SUBGROUP = 3,                   /* VkScopeKHR */
    TILE = 64,                      /* rows and tokens of a group of mm_t2_matrix */
    GROUP = 256,                    /* its invocations */
    LOCAL_BYTES = 2 * TILE * 80 + TILE * TILE * 4
};

typedef struct matrix_shape { /* VkCooperativeMatrixPropertiesKHR */
    VkStructureType sType;    /* MATRIX_PROPERTIES */
    void *pNext;              /* nothing */
    uint32_t m, n, k;         /* a: m x k, b: k x n, c and the result: m x n */
    int32_t a, b, c, result;  /* component types */
    VkBool32 saturating;      /* sums stop at the ends of their range */
    int32_t scope;            /* who holds a matrix together */
} matrix_shape;

typedef VkResult(VKAPI_PTR *shapes_fn)(VkPhysicalDevice, uint32_t *, matrix_shape *);

static bool divides(uint32_t part) { return part >= 8 && part <= TILE && TILE % part == 0; }

/* Whether its tiles can be shared out over a group of so many lanes a sub-group. */
static bool fits(const matrix_shape *s, uint32_t lanes) {
    return s->a == SINT8 && s->b == SINT8 && s->c == SINT32 && s->result == SINT32 &&
           s->scope == SUBGROUP && !s->saturating && divides(s->m) && divides(s->n) &&
           divides(s->k) && TILE / s->m * (TILE / s->n) * lanes % GROUP == 0;
}

uint32_t vk_matrix_of(const vk_instance *vk, const vk_found *d) {
    matrix_shape row[64] = {{0}};
    uint32_t n = BASE_COUNT(row), best = 0;
    const uint32_t lanes = d->facts.subgroup;
    const shapes_fn ask = (shapes_fn)vk->GetInstanceProcAddr(
        vk->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    if (!ask || lanes < 8 || lanes > 128 || GROUP % lanes || d->facts.local_bytes < LOCAL_BYTES)
        return 0;
    for (size_t i = 0; i < BASE_COUNT(row); i++) row[i].sType = (VkStructureType)MATRIX_PROPERTIES;
    if (ask(d->physical, &n, row) < 0) return 0;
    for (uint32_t i = 0; i < n; i++) /* the deepest: fewest instructions */
        if (fits(&row[i], lanes) && row[i].k > (best >> 16 & 255))
            best = row[i].m | row[i].n << 8 | row[i].k << 16 | lanes << 24;
    return best;
}

void vk_matrix_features(vk_matrix_feature *out, void *next) {
    *out = (vk_matrix_feature){
        .sType = (VkStructureType)MATRIX_FEATURES, .pNext = next, .matrix = VK_TRUE};
}
