/* SPDX-License-Identifier: MIT
 *
 * The Vulkan device from the inside: what a healthy driver never shows. Addresses of driver
 * functions are replaced to make memory run out, lose the device and let it hang; the staging path,
 * memory that is not coherent and a second memory type are forced on a device that has none of it;
 * files of compiled pipelines are damaged.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dev/vulkan/vk.h"

static rotor_error err;
static const gpu_api *api;

#define OK(call)                                                                                   \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        if ((call) != ROTOR_OK) fail_msg("%s: %s", #call, err.message);                            \
    } while (0)

static vk_gpu *open_with(const char *cache_dir) {
    gpu_facts facts = {0};
    gpu *g = NULL;
    size_t n = 0;
    api = gpu_vulkan();
    if (api->list(&facts, 1, &n, &err) != ROTOR_OK || facts.missing[0]) {
        print_message("skipped: no Vulkan device\n");
        skip();
    }
    OK(api->open(&g, 0, cache_dir, &err));
    return (vk_gpu *)g;
}

static gpu_kernel *best_kernel(vk_gpu *g) {
    const uint32_t spec[] = {256};
    gpu_kernel *k = NULL;
    for (size_t i = 0; i < gpu_n_sources; i++)
        if (!strcmp(gpu_sources[i].name, "best"))
            OK(api->kernel(&g->base, &gpu_sources[i], spec, 1, 3, 4, &k, &err));
    assert_non_null(k);
    return k;
}

static rotor_status best_list(vk_gpu *g, gpu_kernel *k, gpu_mem *m, uint32_t groups,
                              gpu_list **out) {
    const gpu_dispatch d = {.kernel = k,
                            .groups = {groups, 1, 1},
                            .n_binds = 3,
                            .bind = {m, m, m},
                            .n_params = 4,
                            .param = {0, 1, 0, 0}};
    return api->list_make(&g->base, &d, 1, m, 16, m, 16, out, &err);
}

/* ==== Memory ================================================================================== */

static void round_trip(vk_gpu *g, uint64_t total, uint64_t at, uint64_t bytes) {
    uint32_t *here = calloc(1, total), *there = malloc(total);
    gpu_mem *m = NULL;
    OK(api->alloc(&g->base, total, false, &m, &err));
    for (uint64_t i = 0; i < bytes / 4; i++) here[at / 4 + i] = (uint32_t)(i * 2654435761u + 1);
    OK(api->write(&g->base, m, at, here + at / 4, bytes, &err));
    OK(api->read(&g->base, m, 0, there, total, &err));
    assert_memory_equal(here, there, total);
    memset(there, 0, total);
    OK(api->read(&g->base, m, at, there, bytes, &err));
    assert_memory_equal(here + at / 4, there, bytes);
    api->mem_free(&g->base, m);
    free(here);
    free(there);
}

static void test_staged(void **state) {
    (void)state;
    vk_gpu *g = open_with(NULL);
    const uint64_t half = VK_STAGE_BYTES;
    for (int coherent = 1; coherent >= 0; coherent--) {
        const uint64_t was = g->base.counters.submissions;
        g->straight = false;
        if (!coherent) g->stage->block->flags &= ~(unsigned)VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
        round_trip(g, half + 64, 4, 52);
        round_trip(g, half + 64, 0, half);
        round_trip(g, 5 * half + 20, 12, 4 * half + 8);
        /* zero + write + two reads: 1+1+2+1, 1+1+2+1, 1+5+6+5 */
        assert_int_equal(g->base.counters.submissions, was + 5 + 5 + 17);
    }
    api->close(&g->base);
}

/* The host's own view of memory, with flushes a driver does not really need. */
static void test_not_coherent(void **state) {
    (void)state;
    vk_gpu *g = open_with(NULL);
    for (uint32_t i = 0; i < g->memory.memoryTypeCount; i++)
        g->memory.memoryTypes[i].propertyFlags &= ~(unsigned)VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    round_trip(g, 4100, 4, 4092);
    round_trip(g, 36, 32, 4);
    gpu_kernel *k = best_kernel(g);
    gpu_mem *m = NULL;
    gpu_list *l = NULL;
    uint32_t up[4] = {1, 7, 8, 9}, down[4] = {0};
    OK(api->alloc(&g->base, 100, true, &m, &err));
    OK(best_list(g, k, m, 1, &l));
    OK(api->submit(&g->base, l, up, sizeof up, &err));
    OK(api->wait(&g->base, l, down, &err));
    assert_int_equal(down[0], 0); /* found: row 0's only element, a tiny float */
    assert_int_equal(down[2], 8);
    assert_int_equal(down[3], 9);
    api->list_free(&g->base, l);
    api->mem_free(&g->base, m);
    api->kernel_free(&g->base, k);
    api->close(&g->base);
}

static PFN_vkAllocateMemory real_allocate;
static PFN_vkGetBufferMemoryRequirements real_requirements;
static uint32_t full_types; /* bits: allocations of these fail */

static VkResult VKAPI_CALL scarce(VkDevice d, const VkMemoryAllocateInfo *info,
                                  const VkAllocationCallbacks *c, VkDeviceMemory *out) {
    VkMemoryAllocateInfo real = *info;
    if (full_types >> info->memoryTypeIndex & 1) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    real.memoryTypeIndex = 0;
    return real_allocate(d, &real, c, out);
}

static void VKAPI_CALL any_type(VkDevice d, VkBuffer b, VkMemoryRequirements *out) {
    real_requirements(d, b, out);
    out->memoryTypeBits = 3;
}

/* Two heaps, as on a handheld: the one called device-local and the rest of the same memory. */
static void two_heaps(vk_gpu *g) {
    real_allocate = g->f.AllocateMemory, g->f.AllocateMemory = scarce;
    real_requirements = g->f.GetBufferMemoryRequirements;
    g->f.GetBufferMemoryRequirements = any_type;
    g->found.budget = false;
    g->memory.memoryTypeCount = g->memory.memoryHeapCount = 2;
    g->memory.memoryTypes[1] = (VkMemoryType){
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, 1};
    g->memory.memoryHeaps[1] = (VkMemoryHeap){(uint64_t)1 << 30, 0};
}

static void test_full_heaps(void **state) {
    (void)state;
    vk_gpu *g = open_with(NULL);
    if (!g->base.facts.software) {
        api->close(&g->base);
        skip();
    }
    two_heaps(g);
    gpu_mem *m = NULL;
    full_types = 0;
    OK(api->alloc(&g->base, 4096, false, &m, &err));
    assert_int_equal(m->block->type, 0); /* the best one while it has room */
    api->mem_free(&g->base, m);

    full_types = 1;
    OK(api->alloc(&g->base, 100 << 20, false, &m, &err));
    assert_int_equal(m->block->type, 1);
    assert_int_equal(g->heap_used[1], m->block->bytes);
    api->mem_free(&g->base, m);
    assert_int_equal(g->heap_used[1], 0);
    g->memory.memoryHeaps[1].size = 40 << 20; /* no shared block fits, one of its own does */
    OK(api->alloc(&g->base, 20 << 20, false, &m, &err));
    assert_int_equal(m->block->type, 1);
    api->mem_free(&g->base, m);

    m = NULL;
    g->straight = false; /* a card of its own does not spill over its bus */
    assert_int_equal(api->alloc(&g->base, 20 << 20, false, &m, &err), ROTOR_E_NOMEM);
    g->straight = true;
    full_types = 3;
    assert_int_equal(api->alloc(&g->base, 23456780, false, &m, &err), ROTOR_E_NOMEM);
    assert_null(m);
    assert_non_null(strstr(err.message, "23456780"));
    assert_non_null(strstr(err.message, g->base.facts.name));
    assert_int_equal(g->base.counters.mem_bytes, 0);
    full_types = 0;
    OK(api->alloc(&g->base, 4096, false, &m, &err)); /* and it goes on */
    api->mem_free(&g->base, m);
    api->close(&g->base);
}

/* ==== Losing the device ======================================================================= */

static VkResult VKAPI_CALL submit_lost(VkQueue q, uint32_t n, const VkSubmitInfo *s, VkFence f) {
    (void)q, (void)n, (void)s, (void)f;
    return VK_ERROR_DEVICE_LOST;
}

static VkResult VKAPI_CALL wait_lost(VkDevice d, uint32_t n, const VkFence *f, VkBool32 all,
                                     uint64_t ns) {
    (void)d, (void)n, (void)f, (void)all, (void)ns;
    return VK_ERROR_DEVICE_LOST;
}

static VkResult VKAPI_CALL wait_forever(VkDevice d, uint32_t n, const VkFence *f, VkBool32 all,
                                        uint64_t ns) {
    (void)d, (void)n, (void)f, (void)all, (void)ns;
    return VK_TIMEOUT;
}

static void is_gone(rotor_status st, const vk_gpu *g) {
    assert_int_equal(st, ROTOR_E_DEVICE);
    assert_non_null(strstr(err.message, g->base.facts.name));
    assert_non_null(strstr(err.message, g->base.facts.driver));
}

/* how: 0 lost on submission, 1 lost while waiting, 2 hanging. */
static void lose(int how) {
    vk_gpu *g = open_with(NULL);
    gpu_kernel *k = best_kernel(g);
    gpu_mem *m = NULL;
    gpu_list *l = NULL;
    uint32_t words[4] = {0};
    OK(api->alloc(&g->base, 4096, false, &m, &err));
    OK(best_list(g, k, m, 1, &l));
    OK(api->submit(&g->base, l, words, sizeof words, &err));
    if (how == 0) {
        PFN_vkQueueSubmit real = g->f.QueueSubmit;
        g->f.QueueSubmit = submit_lost;
        is_gone(api->submit(&g->base, l, words, sizeof words, &err), g);
        g->f.QueueSubmit = real;
    } else {
        PFN_vkWaitForFences real = g->f.WaitForFences;
        g->f.WaitForFences = how == 1 ? wait_lost : wait_forever;
        OK(api->submit(&g->base, l, words, sizeof words, &err));
        is_gone(api->read(&g->base, m, 0, words, sizeof words, &err), g);
        g->f.WaitForFences = real;
    }
    assert_true(g->lost);
    assert_int_equal(g->hung, how == 2);
    is_gone(api->wait(&g->base, l, words, &err), g);
    is_gone(api->write(&g->base, m, 0, words, sizeof words, &err), g);
    is_gone(api->read(&g->base, m, 0, words, sizeof words, &err), g);
    gpu_mem *none = NULL;
    is_gone(api->alloc(&g->base, 4096, false, &none, &err), g);
    assert_null(none);
    g->hung = false; /* it does not really: let everything go back */
    (void)g->f.DeviceWaitIdle(g->device);
    api->list_free(&g->base, l);
    api->mem_free(&g->base, m);
    api->kernel_free(&g->base, k);
    api->close(&g->base);
}

static void test_lost(void **state) {
    (void)state;
    for (int how = 0; how < 3; how++) lose(how);
}

/* ==== Limits ================================================================================== */

static void test_limits(void **state) {
    (void)state;
    vk_gpu *g = open_with(NULL);
    const uint32_t spec[] = {2 * g->base.facts.max_group};
    gpu_kernel *k = NULL;
    gpu_mem *m = NULL;
    gpu_list *l = NULL;
    assert_int_equal(api->kernel(&g->base, &gpu_sources[0], spec, 1, 3, 4, &k, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_null(k);
    const gpu_source bare = {.name = "bare", .text = ""};
    const uint32_t small[] = {64};
    assert_int_equal(api->kernel(&g->base, &bare, small, 1, 3, 4, &k, &err), ROTOR_E_UNSUPPORTED);
    k = best_kernel(g);
    OK(api->alloc(&g->base, 64, false, &m, &err));
    const uint32_t most = g->found.props.limits.maxComputeWorkGroupCount[0];
    if (most < UINT32_MAX) assert_int_equal(best_list(g, k, m, most + 1, &l), ROTOR_E_UNSUPPORTED);
    assert_null(l);
    api->mem_free(&g->base, m);
    api->kernel_free(&g->base, k);
    api->close(&g->base);
}

/* ==== The file of compiled pipelines ========================================================== */

/* Opens a device with the folder, makes a kernel; whether the file was taken. */
static bool cache_taken(const char *dir, char *path, size_t room) {
    vk_gpu *g = open_with(dir);
    const bool taken = g->cache_hash != 0;
    snprintf(path, room, "%s", g->cache_path);
    api->kernel_free(&g->base, best_kernel(g));
    api->close(&g->base);
    return taken;
}

/* The file with byte `at` changed and cut to `keep` bytes. */
static void damage(const char *path, size_t at, size_t keep) {
    uint8_t bytes[65536];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    if (at < n) bytes[at] ^= 0x10;
    f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(bytes, 1, BASE_MIN(n, keep), f);
    fclose(f);
}

static void test_cache(void **state) {
    (void)state;
    char top[] = "/tmp/rotor-vulkan-XXXXXX", dir[64], path[512];
    assert_non_null(mkdtemp(top));
    snprintf(dir, sizeof dir, "%s/new", top);
    assert_false(cache_taken(dir, path, sizeof path));
    assert_true(cache_taken(dir, path, sizeof path));
    const struct {
        size_t at, keep; /* as damage has it */
    } cases[] = {{0, SIZE_MAX},  {9, SIZE_MAX}, {17, SIZE_MAX}, {50, SIZE_MAX}, {56, SIZE_MAX},
                 {70, SIZE_MAX}, {SIZE_MAX, 0}, {SIZE_MAX, 47}, {SIZE_MAX, 60}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        damage(path, cases[i].at, cases[i].keep);
        assert_false(cache_taken(dir, path, sizeof path)); /* ignored, and replaced */
        assert_true(cache_taken(dir, path, sizeof path));
    }
    unlink(path);
    rmdir(dir);
    assert_int_equal(rmdir(top), 0); /* nothing else was left there */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_staged),     cmocka_unit_test(test_not_coherent),
        cmocka_unit_test(test_full_heaps), cmocka_unit_test(test_lost),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_cache)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
