/* SPDX-License-Identifier: MIT
 *
 * Moving bytes. In pieces of VK_STAGE_BYTES through two halves of mapped staging memory, so that
 * the host fills or empties one while the device copies the other:
 *
 *   write  host | fill A | fill B |  fill A ...         read   device | copy A | copy B | copy A
 *        device          | copy A | copy B ...                 host            | take A | take B
 *
 * Where device memory is the host's memory and no list is running, the host waits for what little
 * is under way and writes or reads the memory itself; reads only where the host caches it.
 */
#include <assert.h>

#include "dev/vulkan/vk.h"

/* The next mover, when the device is done with it and its half. */
static rotor_status claim(vk_gpu *g, unsigned *which, rotor_error *err) {
    const unsigned i = g->next_mover;
    ROTOR_TRY(vk_finish(g, &g->mover[i], err));
    g->next_mover = (i + 1) % VK_MOVERS;
    *which = i;
    return ROTOR_OK;
}

static rotor_status begin(vk_gpu *g, unsigned *which, rotor_error *err) {
    ROTOR_TRY(claim(g, which, err));
    return vk_begin(g, &g->mover[*which], true, err);
}

static rotor_status end(vk_gpu *g, unsigned which, rotor_error *err) {
    ROTOR_TRY(vk_end(g, &g->mover[which], err));
    return vk_start(g, &g->mover[which], err);
}

static void copy_buffer(vk_gpu *g, unsigned which, const gpu_mem *dst, const gpu_mem *src,
                        VkBufferCopy part) {
    g->f.CmdCopyBuffer(g->mover[which].cmd, src->buffer, dst->buffer, 1, &part);
}

rotor_status vk_zero(vk_gpu *g, gpu_mem *m, rotor_error *err) {
    unsigned i;
    ROTOR_TRY(begin(g, &i, err));
    g->f.CmdFillBuffer(g->mover[i].cmd, m->buffer, 0, VK_WHOLE_SIZE, 0);
    return end(g, i, err);
}

rotor_status vk_copy(gpu *base, gpu_mem *dst, uint64_t dst_at, gpu_mem *src, uint64_t src_at,
                     uint64_t bytes, rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    unsigned i;
    assert(dst_at + bytes <= dst->bytes && src_at + bytes <= src->bytes);
    if (!bytes) return ROTOR_OK;
    ROTOR_TRY(begin(g, &i, err));
    copy_buffer(g, i, dst, src, (VkBufferCopy){src_at, dst_at, bytes});
    return end(g, i, err);
}

static bool may_touch(const vk_gpu *g, const gpu_mem *m) {
    return g->straight && m->block->map && !g->lists_running;
}

static rotor_status write_piece(vk_gpu *g, gpu_mem *m, uint64_t at, const void *src, uint64_t bytes,
                                rotor_error *err) {
    unsigned i;
    ROTOR_TRY(claim(g, &i, err));
    const uint64_t half = (uint64_t)i * VK_STAGE_BYTES;
    memcpy(g->stage->block->map + g->stage->at + half, src, bytes);
    ROTOR_TRY(vk_flush(g, g->stage, half, bytes, err));
    ROTOR_TRY(vk_begin(g, &g->mover[i], true, err));
    copy_buffer(g, i, m, g->stage, (VkBufferCopy){half, at, bytes});
    return end(g, i, err);
}

rotor_status vk_write(gpu *base, gpu_mem *m, uint64_t at, const void *src, uint64_t bytes,
                      rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    assert(at % 4 == 0 && bytes % 4 == 0 && at + bytes <= m->bytes);
    if (may_touch(g, m)) {
        ROTOR_TRY(vk_settle(g, err));
        if (bytes) memcpy(m->block->map + m->at + at, src, bytes);
        ROTOR_TRY(vk_flush(g, m, at, bytes, err));
    } else {
        for (uint64_t done = 0; done < bytes; done += VK_STAGE_BYTES)
            ROTOR_TRY(write_piece(g, m, at + done, (const uint8_t *)src + done,
                                  BASE_MIN(bytes - done, VK_STAGE_BYTES), err));
    }
    base->counters.bytes_up += bytes;
    return ROTOR_OK;
}

/* The device's half of reading a piece, and the host's. */
static rotor_status fetch(vk_gpu *g, const gpu_mem *m, uint64_t at, uint64_t bytes, unsigned *which,
                          rotor_error *err) {
    ROTOR_TRY(begin(g, which, err));
    copy_buffer(g, *which, g->stage, m,
                (VkBufferCopy){at, (uint64_t)*which * VK_STAGE_BYTES, bytes});
    return end(g, *which, err);
}

static rotor_status empty(vk_gpu *g, unsigned which, void *dst, uint64_t bytes, rotor_error *err) {
    const uint64_t half = (uint64_t)which * VK_STAGE_BYTES;
    ROTOR_TRY(vk_finish(g, &g->mover[which], err));
    ROTOR_TRY(vk_invalidate(g, g->stage, half, bytes, err));
    memcpy(dst, g->stage->block->map + g->stage->at + half, bytes);
    return ROTOR_OK;
}

static rotor_status read_pieces(vk_gpu *g, const gpu_mem *m, uint64_t at, uint8_t *dst,
                                uint64_t bytes, rotor_error *err) {
    uint64_t asked = 0;
    unsigned next = 0, now;
    if (bytes) ROTOR_TRY(fetch(g, m, at, BASE_MIN(bytes, VK_STAGE_BYTES), &next, err));
    for (uint64_t done = 0; done < bytes; done = asked) {
        const uint64_t piece = BASE_MIN(bytes - done, VK_STAGE_BYTES);
        asked = done + piece;
        now = next;
        if (asked < bytes)
            ROTOR_TRY(fetch(g, m, at + asked, BASE_MIN(bytes - asked, VK_STAGE_BYTES), &next, err));
        ROTOR_TRY(empty(g, now, dst + done, piece, err));
    }
    return ROTOR_OK;
}

rotor_status vk_read(gpu *base, gpu_mem *m, uint64_t at, void *dst, uint64_t bytes,
                     rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    assert(at % 4 == 0 && bytes % 4 == 0 && at + bytes <= m->bytes);
    if (g->straight && m->block->map && m->block->flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT) {
        ROTOR_TRY(vk_settle(g, err));
        ROTOR_TRY(vk_invalidate(g, m, at, bytes, err));
        if (bytes) memcpy(dst, m->block->map + m->at + at, bytes);
    } else {
        ROTOR_TRY(read_pieces(g, m, at, dst, bytes, err));
    }
    base->counters.bytes_down += bytes;
    return ROTOR_OK;
}
