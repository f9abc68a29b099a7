/* SPDX-License-Identifier: MIT
 *
 * The host's pages as memory of the device: VK_EXT_external_memory_host.
 *
 * Drivers pin such pages when work first uses them, and some ask for pages that can be written,
 * which those of a mapped file cannot: then it is the submission that fails, and the device is lost
 * with everything on it. So the first import of a device goes to another one, opened for that and
 * closed again: it copies from both ends of the memory. When it cannot, nothing is imported.
 */
#include <assert.h>

#include "dev/vulkan/vk.h"

static rotor_status refuse(const vk_gpu *g, VkResult r, rotor_error *err) {
    return base_fail(err, ROTOR_E_UNSUPPORTED, "Vulkan: %s does not import this memory (%d)",
                     g->base.facts.name, (int)r);
}

/* The first memory type that suits the buffer and the pages; UINT32_MAX: there is none. */
static uint32_t type_for(const vk_gpu *g, VkBuffer buffer, const void *host, uint64_t bytes) {
    VkMemoryHostPointerPropertiesEXT pages = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkMemoryRequirements need;
    g->f.GetBufferMemoryRequirements(g->device, buffer, &need);
    if (need.size > bytes ||
        g->host_pointer(g->device, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT, host,
                        &pages) != VK_SUCCESS)
        return UINT32_MAX;
    for (uint32_t i = 0; i < g->memory.memoryTypeCount; i++)
        if (need.memoryTypeBits & pages.memoryTypeBits & UINT32_C(1) << i) return i;
    return UINT32_MAX;
}

/* A block of its own: of no heap, not mapped, and not shared with others. */
static VkResult bind_pages(vk_gpu *g, gpu_mem *m, void *host, uint64_t bytes) {
    const uint32_t type = type_for(g, m->buffer, host, bytes);
    if (type == UINT32_MAX) return VK_ERROR_FEATURE_NOT_PRESENT;
    const VkImportMemoryHostPointerInfoEXT from = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
        .pHostPointer = host};
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .pNext = &from,
                                       .allocationSize = bytes,
                                       .memoryTypeIndex = type};
    vk_block *b = base_alloc(sizeof *b);
    if (!b) return VK_ERROR_OUT_OF_HOST_MEMORY;
    b->type = type;
    b->first = m;
    m->block = b;
    const VkResult r = g->f.AllocateMemory(g->device, &info, NULL, &b->memory);
    if (r != VK_SUCCESS) {
        b->memory = VK_NULL_HANDLE;
        return r;
    }
    return g->f.BindBufferMemory(g->device, m->buffer, b->memory, 0);
}

static rotor_status import_pages(vk_gpu *g, const void *host, uint64_t bytes, gpu_mem **out,
                                 rotor_error *err) {
    const VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT};
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .pNext = &external,
                                     .size = bytes,
                                     .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                              VK_BUFFER_USAGE_TRANSFER_SRC_BIT,
                                     .sharingMode = VK_SHARING_MODE_EXCLUSIVE};
    gpu_mem *m = base_alloc(sizeof *m);
    if (!m) return base_fail_nomem(err, "importing memory");
    m->bytes = bytes;
    m->imported = true;
    VkResult r = g->f.CreateBuffer(g->device, &info, NULL, &m->buffer);
    if (r != VK_SUCCESS) {
        base_free(m);
        return refuse(g, r, err);
    }
    r = bind_pages(g, m, (void *)(uintptr_t)host, bytes);
    if (r == VK_SUCCESS) {
        *out = m;
        return ROTOR_OK;
    }
    vk_give(g, m);
    return refuse(g, r, err);
}

/* Whether another device of the same kind can do it and lives on. */
static bool try_elsewhere(const vk_gpu *g, const uint8_t *host, uint64_t bytes) {
    enum { SEEN = 64 };
    const uint64_t ends[] = {0, bytes - SEEN};
    uint8_t seen[SEEN];
    gpu *other = NULL;
    gpu_mem *m = NULL;
    if (gpu_vulkan()->open(&other, g->index, NULL, NULL) != ROTOR_OK) return false;
    bool good = import_pages((vk_gpu *)other, host, bytes, &m, NULL) == ROTOR_OK;
    for (size_t i = 0; i < BASE_COUNT(ends) && good; i++)
        good = vk_read(other, m, ends[i], seen, SEEN, NULL) == ROTOR_OK &&
               memcmp(seen, host + ends[i], SEEN) == 0;
    if (m) vk_give((vk_gpu *)other, m);
    gpu_vulkan()->close(other);
    return good;
}

rotor_status vk_import(gpu *base, const void *host, uint64_t bytes, gpu_mem **out,
                       rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    assert(bytes && bytes % base_page_bytes() == 0 && (uintptr_t)host % base_page_bytes() == 0);
    ROTOR_TRY(vk_alive(g, err));
    if (!base->facts.imports ||
        bytes > BASE_MIN(base->facts.max_alloc_bytes, base->facts.max_bind_bytes))
        return refuse(g, VK_ERROR_FEATURE_NOT_PRESENT, err);
    if (!g->import_tried) {
        g->import_tried = true;
        base->facts.imports = try_elsewhere(g, host, bytes);
        if (!base->facts.imports) return refuse(g, VK_ERROR_DEVICE_LOST, err);
    }
    ROTOR_TRY(import_pages(g, host, bytes, out, err));
    base->counters.allocations++;
    base->counters.imported += bytes;
    return ROTOR_OK;
}
