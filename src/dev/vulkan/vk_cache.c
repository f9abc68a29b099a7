/* SPDX-License-Identifier: MIT
 *
 * Compiled pipelines kept between runs, so that a driver compiles each kernel once. The file's name
 * says whose it is: vendor, device, driver version, the driver's cache id and a hash of all kernels
 * of this build. Its first bytes guard it:
 *
 *   | "RotorVkC" | bytes of the payload | SHA-256 of the payload | payload: the driver's data |
 *
 * A driver may crash on a cache that is not its own, so a file that does not fit in any point is
 * ignored, and replaced when the device is closed. Trouble with the file is never an error.
 */
#include <stdio.h>

#include "dev/vulkan/vk.h"

typedef struct vk_cache_head {
    char magic[8];   /* cache_magic */
    uint64_t bytes;  /* of the payload */
    uint8_t sha[32]; /* SHA-256 of it */
} vk_cache_head;

static const char cache_magic[8] = {'R', 'o', 't', 'o', 'r', 'V', 'k', 'C'};

static uint64_t hash_of_kernels(void) {
    uint64_t h = 1;
    for (size_t i = 0; i < gpu_n_sources; i++)
        for (size_t form = 0; form < GPU_FORMS; form++) {
            const gpu_spirv *s = &gpu_sources[i].spirv[form];
            if (s->packed) h = base_hash64(s->packed, s->bytes, h);
        }
    return h;
}

static char *path_of(const vk_gpu *g, const char *dir) {
    const VkPhysicalDeviceProperties *p = &g->found.props;
    char name[128], id[2 * VK_UUID_SIZE + 1];
    for (size_t i = 0; i < VK_UUID_SIZE; i++)
        snprintf(id + 2 * i, 3, "%02x", p->pipelineCacheUUID[i]);
    snprintf(name, sizeof name, "vulkan-%04x-%04x-%08x-%s-%016llx.cache", p->vendorID, p->deviceID,
             p->driverVersion, id, (unsigned long long)hash_of_kernels());
    return base_path_join(dir, name);
}

/* The payload of a file that is whole and this driver's; its length, or 0. */
static size_t payload_of(const vk_gpu *g, const base_file *f, const uint8_t **payload) {
    const VkPhysicalDeviceProperties *p = &g->found.props;
    VkPipelineCacheHeaderVersionOne own;
    vk_cache_head head;
    uint8_t sha[32];
    if (f->size < sizeof head + sizeof own) return 0;
    memcpy(&head, f->data, sizeof head);
    memcpy(&own, f->data + sizeof head, sizeof own);
    const size_t bytes = f->size - sizeof head;
    if (memcmp(head.magic, cache_magic, sizeof cache_magic) || head.bytes != bytes) return 0;
    base_sha256(f->data + sizeof head, bytes, sha);
    if (memcmp(head.sha, sha, sizeof sha)) return 0;
    if (own.headerVersion != VK_PIPELINE_CACHE_HEADER_VERSION_ONE || own.vendorID != p->vendorID ||
        own.deviceID != p->deviceID ||
        memcmp(own.pipelineCacheUUID, p->pipelineCacheUUID, VK_UUID_SIZE))
        return 0;
    *payload = f->data + sizeof head;
    return bytes;
}

static VkResult make(vk_gpu *g, const void *data, size_t bytes) {
    const VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                            .initialDataSize = bytes,
                                            .pInitialData = data};
    const VkResult r = g->f.CreatePipelineCache(g->device, &info, NULL, &g->cache);
    if (r != VK_SUCCESS)
        g->cache = VK_NULL_HANDLE;
    else if (bytes)
        g->cache_hash = base_hash64(data, bytes, 1);
    return r;
}

rotor_status vk_cache_open(vk_gpu *g, const char *dir, rotor_error *err) {
    if (!dir) return ROTOR_OK; /* pipelines are made without a cache */
    (void)base_mkdirs(dir, NULL);
    if (!(g->cache_path = path_of(g, dir))) return base_fail_nomem(err, "opening a Vulkan device");
    base_file f = {.fd = -1};
    const uint8_t *payload = NULL;
    size_t bytes = 0;
    if (base_file_open(&f, g->cache_path, false, NULL) == ROTOR_OK)
        bytes = payload_of(g, &f, &payload);
    VkResult r = make(g, payload, bytes);
    if (r != VK_SUCCESS && bytes) r = make(g, NULL, 0);
    base_file_close(&f);
    return r == VK_SUCCESS ? ROTOR_OK : vk_bad(g, err, r, "opening it");
}

static void save(const char *path, const uint8_t *data, size_t bytes) {
    vk_cache_head head = {.bytes = bytes};
    base_out out;
    memcpy(head.magic, cache_magic, sizeof head.magic);
    base_sha256(data, bytes, head.sha);
    if (base_out_open(&out, path, NULL) != ROTOR_OK) return;
    if (base_out_write(&out, &head, sizeof head, NULL) == ROTOR_OK &&
        base_out_write(&out, data, bytes, NULL) == ROTOR_OK)
        (void)base_out_commit(&out, NULL);
    base_out_abort(&out);
}

static void save_if_new(vk_gpu *g) {
    size_t bytes = 0;
    if (g->f.GetPipelineCacheData(g->device, g->cache, &bytes, NULL) != VK_SUCCESS || !bytes)
        return;
    uint8_t *data = base_alloc(bytes);
    if (data && g->f.GetPipelineCacheData(g->device, g->cache, &bytes, data) == VK_SUCCESS &&
        base_hash64(data, bytes, 1) != g->cache_hash)
        save(g->cache_path, data, bytes);
    base_free(data);
}

void vk_cache_close(vk_gpu *g) {
    if (!g->cache || g->hung) return;
    if (!g->lost) save_if_new(g);
    g->f.DestroyPipelineCache(g->device, g->cache, NULL);
    g->cache = VK_NULL_HANDLE;
}
