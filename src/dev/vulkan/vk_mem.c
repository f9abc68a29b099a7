/* SPDX-License-Identifier: MIT
 *
 * Device memory: every gpu_mem is a VkBuffer inside a block of driver memory. Blocks are shared, as
 * drivers limit how many there may be; large buffers get one of their own. A block without buffers
 * goes back.
 *
 *   block | buffer | gap | buffer | buffer | free ... |      buffers are listed by place, first fit
 *
 * A block comes from the best memory type whose heap still has room for it, then from the next
 * best. On a device that shares the host's memory every type is good enough in the end; a card of
 * its own never spills over its bus: reading weights there is slower than the CPU.
 *
 * Host-visible blocks stay mapped. Places and sizes are multiples of the device's atom, so that a
 * flush never reaches into a neighbour.
 */
#include <assert.h>

#include "dev/vulkan/vk.h"

enum {
    BLOCK_BYTES = 64 << 20,     /* shared by small buffers */
    HOST_BLOCK_BYTES = 16 << 20 /* staging takes memory from the system */
};

/* ==== Types and heaps ========================================================================= */

/* How well a memory type suits; negative: not at all. */
static int suits(const vk_gpu *g, VkMemoryPropertyFlags f, vk_use use) {
    const VkMemoryPropertyFlags plain =
        VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
        VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    const bool local = f & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const bool visible = f & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    const bool coherent = f & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const bool cached = f & VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    if (f & ~plain) return -1; /* protected, lazily allocated, vendors' own */
    if (use == VK_FOR_HOST) return visible ? 4 * cached + 2 * coherent + !local : -1;
    if (!local && !g->straight) return -1;
    return 8 * local + 4 * (visible == g->straight) + 2 * (coherent || !visible) + !cached;
}

/* Bytes the heap still has, as far as the driver says. */
static uint64_t heap_room(const vk_gpu *g, uint32_t heap) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = g->found.budget ? &budget : NULL};
    g->vk.f.GetPhysicalDeviceMemoryProperties2(g->found.physical, &m);
    uint64_t total = g->memory.memoryHeaps[heap].size, used = g->heap_used[heap];
    if (budget.heapBudget[heap]) {
        total = budget.heapBudget[heap];
        used = BASE_MAX(used, budget.heapUsage[heap]);
    }
    return total > used ? total - used : 0;
}

/* ==== Blocks ================================================================================== */

static void block_free(vk_gpu *g, vk_block *b) {
    vk_block **at = &g->blocks;
    while (*at && *at != b) at = &(*at)->next;
    if (*at) *at = b->next;
    g->heap_used[g->memory.memoryTypes[b->type].heapIndex] -= b->bytes;
    if (!g->hung && b->memory) g->f.FreeMemory(g->device, b->memory, NULL); /* unmaps it too */
    base_free(b);
}

static VkResult block_make(vk_gpu *g, uint32_t type, uint64_t bytes, vk_block **out) {
    const uint32_t heap = g->memory.memoryTypes[type].heapIndex;
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .allocationSize = bytes,
                                       .memoryTypeIndex = type};
    if (heap_room(g, heap) < bytes) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    vk_block *b = base_alloc(sizeof *b);
    if (!b) return VK_ERROR_OUT_OF_HOST_MEMORY;
    b->bytes = bytes;
    b->type = type;
    b->flags = g->memory.memoryTypes[type].propertyFlags;
    g->heap_used[heap] += bytes;
    VkResult r = g->f.AllocateMemory(g->device, &info, NULL, &b->memory);
    if (r != VK_SUCCESS) b->memory = VK_NULL_HANDLE;
    void *map = NULL;
    if (r == VK_SUCCESS && b->flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)
        r = g->f.MapMemory(g->device, b->memory, 0, VK_WHOLE_SIZE, 0, &map);
    if (r != VK_SUCCESS) {
        block_free(g, b);
        return r;
    }
    b->map = map;
    b->next = g->blocks;
    g->blocks = b;
    *out = b;
    return VK_SUCCESS;
}

/* Puts m into the first gap of the block it fits. */
static bool place(vk_block *b, gpu_mem *m, uint64_t align) {
    uint64_t at = 0;
    gpu_mem **link = &b->first;
    for (; *link; link = &(*link)->next) {
        if (at <= (*link)->at && (*link)->at - at >= m->span) break;
        at = ((*link)->at + (*link)->span + align - 1) & ~(align - 1);
    }
    if (at > b->bytes || b->bytes - at < m->span) return false;
    m->block = b;
    m->at = at;
    m->next = *link;
    *link = m;
    return true;
}

static void displace(vk_gpu *g, gpu_mem *m) {
    gpu_mem **link = &m->block->first;
    while (*link != m) link = &(*link)->next;
    *link = m->next;
    if (!m->block->first) block_free(g, m->block);
}

/* Room for m in memory of this type: in a block there is, in a new shared one, in one of its own.
 */
static VkResult place_in_type(vk_gpu *g, gpu_mem *m, uint32_t type, uint64_t align, vk_use use) {
    const uint64_t shared = use == VK_FOR_HOST ? HOST_BLOCK_BYTES : BLOCK_BYTES;
    for (vk_block *b = g->blocks; b; b = b->next)
        if (b->type == type && place(b, m, align)) return VK_SUCCESS;
    vk_block *b = NULL;
    VkResult r = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (m->span <= shared / 2) r = block_make(g, type, shared, &b);
    if (r == VK_ERROR_OUT_OF_DEVICE_MEMORY) r = block_make(g, type, m->span, &b);
    if (r == VK_SUCCESS && !place(b, m, align)) assert(!"a new block has room");
    return r;
}

static VkResult place_somewhere(vk_gpu *g, gpu_mem *m, const VkMemoryRequirements *need,
                                vk_use use) {
    const uint64_t align = BASE_MAX(need->alignment, g->found.props.limits.nonCoherentAtomSize);
    VkResult r = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    m->span = (need->size + align - 1) & ~(align - 1);
    for (int want = 15; want >= 0 && r == VK_ERROR_OUT_OF_DEVICE_MEMORY; want--)
        for (uint32_t i = 0; i < g->memory.memoryTypeCount; i++) {
            if (!(need->memoryTypeBits >> i & 1)) continue;
            if (suits(g, g->memory.memoryTypes[i].propertyFlags, use) != want) continue;
            r = place_in_type(g, m, i, align, use);
            if (r != VK_ERROR_OUT_OF_DEVICE_MEMORY) break;
        }
    return r;
}

/* ==== Buffers ================================================================================= */

static rotor_status no_room(const vk_gpu *g, uint64_t bytes, rotor_error *err) {
    uint64_t room = 0;
    for (uint32_t i = 0; i < g->memory.memoryHeapCount; i++) {
        const bool local = g->memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;
        if (local || g->straight) room += heap_room(g, i);
    }
    return base_fail(err, ROTOR_E_NOMEM,
                     "Vulkan: %s has no room for %llu more bytes (%llu MiB held, about %llu MiB "
                     "free in all its heaps)",
                     g->base.facts.name, (unsigned long long)bytes,
                     (unsigned long long)(g->base.counters.mem_bytes >> 20),
                     (unsigned long long)(room >> 20));
}

rotor_status vk_take(vk_gpu *g, uint64_t bytes, vk_use use, gpu_mem **out, rotor_error *err) {
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .size = (bytes + 15) & ~(uint64_t)15,
                                     .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                              VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                              VK_BUFFER_USAGE_TRANSFER_DST_BIT,
                                     .sharingMode = VK_SHARING_MODE_EXCLUSIVE};
    VkMemoryRequirements need;
    gpu_mem *m = base_alloc(sizeof *m);
    if (!m) return base_fail_nomem(err, "taking device memory");
    m->bytes = bytes;
    VkResult r = g->f.CreateBuffer(g->device, &info, NULL, &m->buffer);
    if (r != VK_SUCCESS) {
        base_free(m);
        return vk_bad(g, err, r, "making a buffer");
    }
    g->f.GetBufferMemoryRequirements(g->device, m->buffer, &need);
    r = place_somewhere(g, m, &need, use);
    if (r == VK_SUCCESS) r = g->f.BindBufferMemory(g->device, m->buffer, m->block->memory, m->at);
    if (r == VK_SUCCESS) {
        *out = m;
        return ROTOR_OK;
    }
    vk_give(g, m);
    return r == VK_ERROR_OUT_OF_DEVICE_MEMORY ? no_room(g, bytes, err)
                                              : vk_bad(g, err, r, "taking device memory");
}

void vk_give(vk_gpu *g, gpu_mem *m) {
    if (!g->hung) g->f.DestroyBuffer(g->device, m->buffer, NULL);
    if (m->block) displace(g, m);
    base_free(m);
}

/* [at, at + bytes) of m widened to whole atoms. */
static VkMappedMemoryRange range_of(const vk_gpu *g, const gpu_mem *m, uint64_t at,
                                    uint64_t bytes) {
    const uint64_t atom = g->found.props.limits.nonCoherentAtomSize;
    const uint64_t begin = (m->at + at) & ~(atom - 1);
    const uint64_t end = (m->at + at + bytes + atom - 1) & ~(atom - 1);
    return (VkMappedMemoryRange){.sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE,
                                 .memory = m->block->memory,
                                 .offset = begin,
                                 .size = end >= m->block->bytes ? VK_WHOLE_SIZE : end - begin};
}

rotor_status vk_flush(vk_gpu *g, const gpu_mem *m, uint64_t at, uint64_t bytes, rotor_error *err) {
    if (!bytes || m->block->flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT) return ROTOR_OK;
    const VkMappedMemoryRange range = range_of(g, m, at, bytes);
    const VkResult r = g->f.FlushMappedMemoryRanges(g->device, 1, &range);
    return r == VK_SUCCESS ? ROTOR_OK : vk_bad(g, err, r, "writing to it");
}

rotor_status vk_invalidate(vk_gpu *g, const gpu_mem *m, uint64_t at, uint64_t bytes,
                           rotor_error *err) {
    if (!bytes || m->block->flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT) return ROTOR_OK;
    const VkMappedMemoryRange range = range_of(g, m, at, bytes);
    const VkResult r = g->f.InvalidateMappedMemoryRanges(g->device, 1, &range);
    return r == VK_SUCCESS ? ROTOR_OK : vk_bad(g, err, r, "reading from it");
}

/* ==== gpu.h =================================================================================== */

rotor_status vk_alloc(gpu *base, uint64_t bytes, bool host, gpu_mem **out, rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    const uint64_t most = BASE_MIN(base->facts.max_alloc_bytes, base->facts.max_bind_bytes);
    gpu_mem *m = NULL;
    assert(bytes > 0);
    (void)host; /* what the host writes often goes through a list's staging */
    ROTOR_TRY(vk_alive(g, err));
    if (bytes > most)
        return base_fail(err, ROTOR_E_NOMEM,
                         "Vulkan: %s takes at most %llu bytes in one piece, not %llu",
                         base->facts.name, (unsigned long long)most, (unsigned long long)bytes);
    ROTOR_TRY(vk_take(g, bytes, VK_FOR_DEVICE, &m, err));
    const rotor_status st = vk_zero(g, m, err);
    if (st != ROTOR_OK) {
        vk_give(g, m);
        return st;
    }
    base->counters.allocations++;
    base->counters.mem_bytes += bytes;
    *out = m;
    return ROTOR_OK;
}

void vk_mem_free(gpu *base, gpu_mem *m) {
    vk_gpu *g = (vk_gpu *)base;
    if (!m) return;
    (void)vk_settle(g, NULL); /* a write or a copy may still be under way */
    *(m->imported ? &base->counters.imported : &base->counters.mem_bytes) -= m->bytes;
    vk_give(g, m);
}
