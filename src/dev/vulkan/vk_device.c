/* SPDX-License-Identifier: MIT
 *
 * A Vulkan device: opened and closed; work started on its queue and waited for.
 *
 * When the driver says that the device is lost, or a submission is not done after VK_WAIT_S
 * seconds, nothing more is started. Of a lost device everything can still be freed; one that hangs
 * may still write, so its objects are left to the end of the process.
 */
#include <stdio.h>

#include "dev/vulkan/vk_matrix.h"

/* ==== What went wrong ========================================================================= */

static rotor_status gone(vk_gpu *g, rotor_error *err, const char *how) {
    return base_fail(err, ROTOR_E_DEVICE, "Vulkan: %s %s (driver %s)", g->base.facts.name, how,
                     g->base.facts.driver);
}

rotor_status vk_bad(vk_gpu *g, rotor_error *err, VkResult r, const char *what) {
    switch (r) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return base_fail_nomem(err, what);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
    case VK_ERROR_FRAGMENTED_POOL:
        return base_fail(err, ROTOR_E_NOMEM, "Vulkan: %s has no memory left while %s",
                         g->base.facts.name, what);
    case VK_ERROR_DEVICE_LOST:
        g->lost = true;
        return gone(g, err, "is lost");
    default:
        return base_fail(err, ROTOR_E_DEVICE, "Vulkan: %s failed while %s: error %d (driver %s)",
                         g->base.facts.name, what, (int)r, g->base.facts.driver);
    }
}

rotor_status vk_alive(vk_gpu *g, rotor_error *err) {
    return g->lost ? gone(g, err, "was lost") : ROTOR_OK;
}

/* ==== Runs ==================================================================================== */

rotor_status vk_run_make(vk_gpu *g, vk_run *run, rotor_error *err) {
    const VkCommandBufferAllocateInfo cmd = {.sType =
                                                 VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                             .commandPool = g->pool,
                                             .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                             .commandBufferCount = 1};
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    VkResult r = g->f.AllocateCommandBuffers(g->device, &cmd, &run->cmd);
    if (r == VK_SUCCESS) r = g->f.CreateFence(g->device, &fence, NULL, &run->fence);
    return r == VK_SUCCESS ? ROTOR_OK : vk_bad(g, err, r, "making a command buffer");
}

void vk_run_free(vk_gpu *g, vk_run *run) {
    if (g->last == run) g->last = NULL;
    if (g->hung) return;
    if (run->fence) g->f.DestroyFence(g->device, run->fence, NULL);
    if (run->cmd) g->f.FreeCommandBuffers(g->device, g->pool, 1, &run->cmd);
}

/* Everything that memory can be used for on the device. */
enum {
    STAGES = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
    WRITES = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
    READS = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT
};

rotor_status vk_begin(vk_gpu *g, vk_run *run, bool once, rotor_error *err) {
    const VkCommandBufferBeginInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = once ? VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT : 0};
    const VkMemoryBarrier all = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                 .srcAccessMask = WRITES,
                                 .dstAccessMask = READS | WRITES};
    const VkResult r = g->f.BeginCommandBuffer(run->cmd, &info);
    if (r != VK_SUCCESS) return vk_bad(g, err, r, "recording");
    g->f.CmdPipelineBarrier(run->cmd, STAGES, STAGES, 0, 1, &all, 0, NULL, 0, NULL);
    return ROTOR_OK;
}

rotor_status vk_end(vk_gpu *g, vk_run *run, rotor_error *err) {
    const VkMemoryBarrier host = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                  .srcAccessMask = WRITES,
                                  .dstAccessMask =
                                      VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT};
    g->f.CmdPipelineBarrier(run->cmd, STAGES, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &host, 0, NULL, 0,
                            NULL);
    const VkResult r = g->f.EndCommandBuffer(run->cmd);
    return r == VK_SUCCESS ? ROTOR_OK : vk_bad(g, err, r, "recording");
}

rotor_status vk_start(vk_gpu *g, vk_run *run, rotor_error *err) {
    const VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                               .commandBufferCount = 1,
                               .pCommandBuffers = &run->cmd};
    ROTOR_TRY(vk_alive(g, err));
    VkResult r = g->f.ResetFences(g->device, 1, &run->fence);
    if (r == VK_SUCCESS) r = g->f.QueueSubmit(g->queue, 1, &info, run->fence);
    if (r != VK_SUCCESS) return vk_bad(g, err, r, "starting work");
    run->pending = true;
    g->last = run;
    g->base.counters.submissions++;
    return ROTOR_OK;
}

rotor_status vk_finish(vk_gpu *g, vk_run *run, rotor_error *err) {
    ROTOR_TRY(vk_alive(g, err));
    if (!run->pending) return ROTOR_OK;
    const VkResult r = g->f.WaitForFences(g->device, 1, &run->fence, VK_TRUE, g->wait_ns);
    if (r == VK_SUCCESS) {
        run->pending = false;
        if (g->last == run) g->last = NULL;
        return ROTOR_OK;
    }
    if (r != VK_TIMEOUT) return vk_bad(g, err, r, "waiting for it");
    g->lost = g->hung = true;
    return gone(g, err, "hangs");
}

rotor_status vk_settle(vk_gpu *g, rotor_error *err) {
    return g->last ? vk_finish(g, g->last, err) : ROTOR_OK;
}

/* ==== Open and close ========================================================================== */

static rotor_status list(gpu_facts *out, size_t max, size_t *n, rotor_error *err) {
    vk_instance vk;
    vk_found *found = NULL;
    size_t count = 0;
    ROTOR_TRY(vk_instance_open(&vk, err));
    const rotor_status st = vk_find(&vk, &found, &count, err);
    for (size_t i = 0; i < count && i < max; i++) out[i] = found[i].facts;
    base_free(found);
    vk_instance_close(&vk);
    if (st == ROTOR_OK) *n = count;
    return st;
}

static rotor_status choose(vk_gpu *g, size_t index, rotor_error *err) {
    vk_found *found = NULL;
    size_t n = 0;
    ROTOR_TRY(vk_find(&g->vk, &found, &n, err));
    if (index < n) g->found = found[index];
    base_free(found);
    if (index >= n)
        return base_fail(err, ROTOR_E_NOTFOUND, "Vulkan: no device %zu, there are %zu", index, n);
    g->base.facts = g->found.facts;
    if (!g->base.facts.missing[0]) return ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED, "Vulkan: %s %s", g->base.facts.name,
                     g->base.facts.missing);
}

static rotor_status create_device(vk_gpu *g, rotor_error *err) {
    const char *names[3];
    const float priority = 1;
    const bool dot = g->base.facts.dot4, matrix = g->base.facts.matrix;
    uint32_t n_names = 0;
    if (dot && g->found.dot_extension) names[n_names++] = "VK_KHR_shader_integer_dot_product";
    if (matrix) names[n_names++] = VK_MATRIX_NAME;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = g->found.family,
                                           .queueCount = 1,
                                           .pQueuePriorities = &priority};
    VkPhysicalDeviceShaderIntegerDotProductFeatures feature = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
        .shaderIntegerDotProduct = VK_TRUE};
    VkPhysicalDeviceShaderFloat16Int8Features bytes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES,
        .pNext = dot ? &feature : NULL,
        .shaderInt8 = VK_TRUE};
    VkPhysicalDeviceVulkanMemoryModelFeatures model = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES,
        .pNext = &bytes,
        .vulkanMemoryModel = VK_TRUE};
    vk_matrix_feature matrices;
    vk_matrix_features(&matrices, &model);
    if (g->base.facts.imports) names[n_names++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                     .pNext = matrix ? (void *)&matrices
                                              : dot  ? &feature
                                                     : NULL,
                                     .queueCreateInfoCount = 1,
                                     .pQueueCreateInfos = &queue,
                                     .enabledExtensionCount = n_names,
                                     .ppEnabledExtensionNames = names};
    const VkResult r = g->vk.f.CreateDevice(g->found.physical, &info, NULL, &g->device);
    if (r != VK_SUCCESS) {
        g->device = VK_NULL_HANDLE;
        return vk_bad(g, err, r, "opening it");
    }
    if (!vk_load_device(g)) return vk_bad(g, err, VK_ERROR_INCOMPATIBLE_DRIVER, "opening it");
    if (g->base.facts.imports)
        g->host_pointer = (PFN_vkGetMemoryHostPointerPropertiesEXT)g->vk.f.GetDeviceProcAddr(
            g->device, "vkGetMemoryHostPointerPropertiesEXT");
    g->base.facts.imports = g->host_pointer;
    g->f.GetDeviceQueue(g->device, g->found.family, 0, &g->queue);
    return ROTOR_OK;
}

static rotor_status make_parts(vk_gpu *g, const char *cache_dir, rotor_error *err) {
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = g->found.family};
    const VkResult r = g->f.CreateCommandPool(g->device, &pool, NULL, &g->pool);
    if (r != VK_SUCCESS) return vk_bad(g, err, r, "opening it");
    for (size_t i = 0; i < VK_MOVERS; i++) ROTOR_TRY(vk_run_make(g, &g->mover[i], err));
    ROTOR_TRY(vk_take(g, VK_MOVERS * VK_STAGE_BYTES, VK_FOR_HOST, &g->stage, err));
    ROTOR_TRY(vk_layouts_make(g, err));
    return vk_cache_open(g, cache_dir, err);
}

static void look_at_memory(vk_gpu *g) {
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    g->vk.f.GetPhysicalDeviceMemoryProperties2(g->found.physical, &m);
    g->memory = m.memoryProperties;
    g->straight = g->base.facts.unified;
    g->wait_ns = (g->base.facts.software ? VK_WAIT_SOFTWARE_S : VK_WAIT_S) * UINT64_C(1000000000);
}

static void close_device(gpu *base) {
    vk_gpu *g = (vk_gpu *)base;
    if (!g) return;
    if (g->device && g->f.DestroyDevice && !g->hung) {
        (void)vk_settle(g, NULL); /* with patience; the next line has none */
        if (!g->hung) (void)g->f.DeviceWaitIdle(g->device);
    }
    if (g->pool) {
        vk_cache_close(g);
        vk_layouts_free(g);
        if (g->stage) vk_give(g, g->stage);
        for (size_t i = 0; i < VK_MOVERS; i++) vk_run_free(g, &g->mover[i]);
        if (!g->hung) g->f.DestroyCommandPool(g->device, g->pool, NULL);
    }
    if (g->device && g->f.DestroyDevice && !g->hung) g->f.DestroyDevice(g->device, NULL);
    if (!g->hung) vk_instance_close(&g->vk);
    base_free(g->cache_path);
    base_free(g);
}

static rotor_status open_device(gpu **out, size_t index, const char *cache_dir, rotor_error *err) {
    vk_gpu *g = base_alloc(sizeof *g);
    if (!g) return base_fail_nomem(err, "opening a Vulkan device");
    g->base.api = gpu_vulkan();
    g->index = index;
    rotor_status st = vk_instance_open(&g->vk, err);
    if (st == ROTOR_OK) st = choose(g, index, err);
    if (st == ROTOR_OK) look_at_memory(g);
    if (st == ROTOR_OK) st = create_device(g, err);
    if (st == ROTOR_OK) st = make_parts(g, cache_dir, err);
    if (st == ROTOR_OK)
        *out = &g->base;
    else
        close_device(&g->base);
    return st;
}

const gpu_api *gpu_vulkan(void) {
    static const gpu_api api = {.name = "vulkan",
                                .list = list,
                                .open = open_device,
                                .close = close_device,
                                .alloc = vk_alloc,
                                .mem_free = vk_mem_free,
                                .import = vk_import,
                                .write = vk_write,
                                .read = vk_read,
                                .copy = vk_copy,
                                .kernel = vk_kernel,
                                .kernel_free = vk_kernel_free,
                                .list_make = vk_list_make,
                                .list_free = vk_list_free,
                                .submit = vk_submit,
                                .wait = vk_wait};
    return &api;
}
