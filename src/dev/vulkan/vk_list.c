/* SPDX-License-Identifier: MIT
 *
 * Lists: one command buffer for each submission that may be under way, recorded when the list is
 * made and never touched again.
 *
 *   barrier | staging -> up | barrier | dispatch | barrier | dispatch ... | barrier | down ->
 * staging
 *
 * Staging is mapped: a submission is a memcpy and one vkQueueSubmit, a wait is a fence and a
 * memcpy. The copy to up always has the length it was recorded with. When a submission brings fewer
 * bytes, the words of up behind them, up to up_bytes, become what this flight sent there before.
 *
 * A memory may be bound twice to one dispatch, but compilers take the bindings for different
 * memory: a kernel must not read through one what it has written through the other.
 */
#include <assert.h>

#include "dev/vulkan/vk.h"

struct gpu_list {
    vk_run run[GPU_FLIGHTS];      /* recorded */
    gpu_mem *stage[GPU_FLIGHTS];  /* up's bytes, then down's; NULL when neither is there */
    VkDescriptorPool pool;        /* of the sets of all dispatches */
    uint64_t up_bytes;            /* taken from the beginning of a stage */
    uint64_t down_at, down_bytes; /* where in a stage down comes to lie */
    size_t n;                     /* dispatches */
    unsigned oldest, running;     /* flights: the one to wait for, how many */
};

/* What list_make was asked for, for the functions that record it. */
typedef struct plan {
    const gpu_dispatch *d; /* dispatches */
    gpu_mem *up, *down;    /* as in list_make */
    VkDescriptorSet *set;  /* one a dispatch */
} plan;

/* ==== Descriptor sets ========================================================================= */

static rotor_status pool_make(vk_gpu *g, gpu_list *l, const plan *p, rotor_error *err) {
    uint32_t n_binds = 0;
    for (size_t i = 0; i < l->n; i++) n_binds += p->d[i].n_binds;
    const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, BASE_MAX(n_binds, 1)};
    const VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                             .maxSets = (uint32_t)BASE_MAX(l->n, 1),
                                             .poolSizeCount = 1,
                                             .pPoolSizes = &size};
    const VkResult r = g->f.CreateDescriptorPool(g->device, &info, NULL, &l->pool);
    return r == VK_SUCCESS ? ROTOR_OK : vk_bad(g, err, r, "making a list");
}

static rotor_status set_make(vk_gpu *g, gpu_list *l, const gpu_dispatch *d, VkDescriptorSet *set,
                             rotor_error *err) {
    VkDescriptorBufferInfo buffer[GPU_MAX_BINDS];
    VkWriteDescriptorSet write[GPU_MAX_BINDS];
    const VkDescriptorSetAllocateInfo info = {.sType =
                                                  VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                              .descriptorPool = l->pool,
                                              .descriptorSetCount = 1,
                                              .pSetLayouts = &g->set_layout[d->n_binds]};
    const VkResult r = g->f.AllocateDescriptorSets(g->device, &info, set);
    if (r != VK_SUCCESS) return vk_bad(g, err, r, "making a list");
    for (uint32_t i = 0; i < d->n_binds; i++) {
        buffer[i] = (VkDescriptorBufferInfo){d->bind[i]->buffer, 0, VK_WHOLE_SIZE};
        write[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                          .dstSet = *set,
                                          .dstBinding = i,
                                          .descriptorCount = 1,
                                          .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                          .pBufferInfo = &buffer[i]};
    }
    g->f.UpdateDescriptorSets(g->device, d->n_binds, write, 0, NULL);
    return ROTOR_OK;
}

/* ==== Recording =============================================================================== */

static void barrier(vk_gpu *g, VkCommandBuffer cmd, VkPipelineStageFlags from,
                    VkPipelineStageFlags to) {
    const bool moved = from == VK_PIPELINE_STAGE_TRANSFER_BIT;
    const bool moves = to == VK_PIPELINE_STAGE_TRANSFER_BIT;
    const VkMemoryBarrier b = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = moved ? VK_ACCESS_TRANSFER_WRITE_BIT : VK_ACCESS_SHADER_WRITE_BIT,
        .dstAccessMask = moves ? VK_ACCESS_TRANSFER_READ_BIT
                               : VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT};
    g->f.CmdPipelineBarrier(cmd, from, to, 0, 1, &b, 0, NULL, 0, NULL);
}

static void record_dispatch(vk_gpu *g, VkCommandBuffer cmd, const gpu_dispatch *d,
                            VkDescriptorSet set) {
    const VkPipelineLayout layout = g->layout[d->n_binds];
    g->f.CmdBindPipeline(cmd, VK_PIPELINE_BIND_POINT_COMPUTE, d->kernel->pipeline);
    g->f.CmdBindDescriptorSets(cmd, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0, NULL);
    if (d->n_params)
        g->f.CmdPushConstants(cmd, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, 4 * d->n_params,
                              d->param);
    g->f.CmdDispatch(cmd, d->groups[0], d->groups[1], d->groups[2]);
}

static rotor_status record(vk_gpu *g, gpu_list *l, unsigned flight, const plan *p,
                           rotor_error *err) {
    enum {
        KERNELS = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
        COPIES = VK_PIPELINE_STAGE_TRANSFER_BIT
    };
    const VkCommandBuffer cmd = l->run[flight].cmd;
    const VkBufferCopy up = {0, 0, l->up_bytes}, down = {0, l->down_at, l->down_bytes};
    ROTOR_TRY(vk_begin(g, &l->run[flight], false, err));
    if (l->up_bytes) {
        g->f.CmdCopyBuffer(cmd, l->stage[flight]->buffer, p->up->buffer, 1, &up);
        barrier(g, cmd, COPIES, l->n ? KERNELS : COPIES);
    }
    for (size_t i = 0; i < l->n; i++) {
        if (i && !p->d[i].beside) barrier(g, cmd, KERNELS, KERNELS);
        record_dispatch(g, cmd, &p->d[i], p->set[i]);
    }
    if (l->down_bytes) {
        if (l->n) barrier(g, cmd, KERNELS, COPIES);
        g->f.CmdCopyBuffer(cmd, p->down->buffer, l->stage[flight]->buffer, 1, &down);
    }
    return vk_end(g, &l->run[flight], err);
}

/* ==== gpu.h =================================================================================== */

static rotor_status check(const vk_gpu *g, const gpu_dispatch *d, size_t n, rotor_error *err) {
    const uint32_t *most = g->found.props.limits.maxComputeWorkGroupCount;
    for (size_t i = 0; i < n; i++) {
        assert(d[i].n_binds == d[i].kernel->n_binds && d[i].n_params == d[i].kernel->n_params);
        for (uint32_t b = 0; b < d[i].n_binds; b++) assert(d[i].bind[b]);
        for (int a = 0; a < 3; a++)
            if (d[i].groups[a] > most[a])
                return base_fail(err, ROTOR_E_UNSUPPORTED,
                                 "Vulkan: %s starts at most %u groups at once, not %u",
                                 g->base.facts.name, most[a], d[i].groups[a]);
    }
    return ROTOR_OK;
}

static rotor_status make_flight(vk_gpu *g, gpu_list *l, unsigned flight, const plan *p,
                                rotor_error *err) {
    const uint64_t bytes = l->down_at + l->down_bytes;
    if (bytes) ROTOR_TRY(vk_take(g, bytes, VK_FOR_HOST, &l->stage[flight], err));
    if (bytes) memset(l->stage[flight]->block->map + l->stage[flight]->at, 0, bytes);
    ROTOR_TRY(vk_run_make(g, &l->run[flight], err));
    return record(g, l, flight, p, err);
}

static rotor_status make_all(vk_gpu *g, gpu_list *l, plan *p, rotor_error *err) {
    ROTOR_TRY(pool_make(g, l, p, err));
    for (size_t i = 0; i < l->n; i++) ROTOR_TRY(set_make(g, l, &p->d[i], &p->set[i], err));
    for (unsigned i = 0; i < GPU_FLIGHTS; i++) ROTOR_TRY(make_flight(g, l, i, p, err));
    return ROTOR_OK;
}

rotor_status vk_list_make(gpu *base, const gpu_dispatch *d, size_t n, gpu_mem *up,
                          uint64_t up_bytes, gpu_mem *down, uint64_t down_bytes, gpu_list **out,
                          rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    ROTOR_TRY(vk_alive(g, err));
    plan p = {d, up, down, base_alloc_array(n, sizeof *p.set)};
    gpu_list *l = base_alloc(sizeof *l);
    assert(up_bytes <= GPU_MAX_UP && (!up || up_bytes <= up->bytes));
    assert(!down || down_bytes <= down->bytes);
    rotor_status st = p.set && l ? check(g, d, n, err) : base_fail_nomem(err, "making a list");
    if (st == ROTOR_OK) {
        l->n = n;
        l->up_bytes = up ? up_bytes : 0;
        l->down_at = (l->up_bytes + 255) & ~(uint64_t)255;
        l->down_bytes = down ? down_bytes : 0;
        st = make_all(g, l, &p, err);
    }
    base_free(p.set);
    if (st != ROTOR_OK) {
        vk_list_free(base, l);
        return st;
    }
    base->counters.allocations++;
    *out = l;
    return ROTOR_OK;
}

void vk_list_free(gpu *base, gpu_list *l) {
    vk_gpu *g = (vk_gpu *)base;
    if (!l) return;
    for (unsigned i = 0; i < GPU_FLIGHTS; i++) {
        (void)vk_finish(g, &l->run[i], NULL);
        vk_run_free(g, &l->run[i]);
        if (l->stage[i]) vk_give(g, l->stage[i]);
    }
    g->lists_running -= l->running;
    if (l->pool && !g->hung) g->f.DestroyDescriptorPool(g->device, l->pool, NULL);
    base_free(l);
}

rotor_status vk_submit(gpu *base, gpu_list *l, const void *data, uint64_t bytes, rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    const unsigned flight = (l->oldest + l->running) % GPU_FLIGHTS;
    assert(l->running < GPU_FLIGHTS && bytes <= l->up_bytes);
    if (bytes) {
        const gpu_mem *stage = l->stage[flight];
        memcpy(stage->block->map + stage->at, data, bytes);
        ROTOR_TRY(vk_flush(g, stage, 0, bytes, err));
    }
    ROTOR_TRY(vk_start(g, &l->run[flight], err));
    l->running++;
    g->lists_running++;
    base->counters.dispatches += l->n;
    base->counters.bytes_up += bytes;
    return ROTOR_OK;
}

rotor_status vk_wait(gpu *base, gpu_list *l, void *dst, rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    const unsigned flight = l->oldest;
    assert(l->running > 0);
    ROTOR_TRY(vk_finish(g, &l->run[flight], err));
    if (l->down_bytes) {
        const gpu_mem *stage = l->stage[flight];
        ROTOR_TRY(vk_invalidate(g, stage, l->down_at, l->down_bytes, err));
        if (dst) memcpy(dst, stage->block->map + stage->at + l->down_at, l->down_bytes);
    }
    l->oldest = (flight + 1) % GPU_FLIGHTS;
    l->running--;
    g->lists_running--;
    base->counters.bytes_down += l->down_bytes;
    return ROTOR_OK;
}
