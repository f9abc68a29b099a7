/* SPDX-License-Identifier: MIT
 *
 * What the physical devices are. Asks only for what a device offers: a structure of a newer Vulkan
 * or of an extension is chained only when the device has it.
 *
 * Order: discrete, integrated, other GPUs, then software; those that lack something come last.
 * Within a kind it is the loader's order, which stays the same between calls.
 */
#include <stdio.h>

#include "dev/vulkan/vk_matrix.h"

/* The extensions a device offers. */
typedef struct vk_names {
    VkExtensionProperties *row; /* owned */
    uint32_t n;                 /* rows */
} vk_names;

static rotor_status names_of(const vk_instance *vk, VkPhysicalDevice d, vk_names *out,
                             rotor_error *err) {
    uint32_t n = 0;
    if (vk->f.EnumerateDeviceExtensionProperties(d, NULL, &n, NULL) != VK_SUCCESS) n = 0;
    out->row = base_alloc_array(n, sizeof *out->row);
    if (!out->row) return base_fail_nomem(err, "looking at Vulkan devices");
    if (vk->f.EnumerateDeviceExtensionProperties(d, NULL, &n, out->row) < 0) n = 0;
    out->n = n;
    return ROTOR_OK;
}

static bool has(const vk_names *names, const char *name) {
    for (uint32_t i = 0; i < names->n; i++)
        if (!strcmp(names->row[i].extensionName, name)) return true;
    return false;
}

/* Everything asked of a device in one go; what was not asked stays zero. */
typedef struct vk_asked {
    VkPhysicalDeviceProperties2 props;                    /* head of the properties */
    VkPhysicalDeviceSubgroupProperties subgroup;          /* lanes */
    VkPhysicalDeviceMaintenance3Properties alloc;         /* largest allocation */
    VkPhysicalDeviceMaintenance4Properties buffer;        /* largest buffer */
    VkPhysicalDeviceDriverProperties driver;              /* name, version */
    VkPhysicalDeviceShaderCorePropertiesAMD amd;          /* compute units */
    VkPhysicalDeviceShaderSMBuiltinsPropertiesNV nv;      /* multiprocessors */
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host; /* of pages to import */
    VkPhysicalDeviceFeatures2 features;                   /* head of the features */
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot;  /* packed 4 x int8 */
    VkPhysicalDeviceShaderFloat16Int8Features half;       /* 16-bit floats, 8-bit integers */
    VkPhysicalDeviceVulkanMemoryModelFeatures model;      /* what matrices are defined with */
    vk_matrix_feature matrix;                             /* int8 matrices */
} vk_asked;

/* Puts a structure at the front of a chain. Every Vulkan structure begins with these two fields. */
static void chain(void *head, void *item, VkStructureType type) {
    VkBaseOutStructure *h = head, *i = item;
    i->sType = type;
    i->pNext = h->pNext;
    h->pNext = i;
}

static void ask(const vk_instance *vk, VkPhysicalDevice d, uint32_t version, const vk_names *names,
                vk_asked *a) {
    memset(a, 0, sizeof *a);
    a->props.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
    a->features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    chain(&a->props, &a->subgroup, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
    chain(&a->props, &a->alloc, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
    if (version >= VK_API_VERSION_1_2 || has(names, "VK_KHR_driver_properties"))
        chain(&a->props, &a->driver, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
    if (version >= VK_API_VERSION_1_3 || has(names, "VK_KHR_maintenance4"))
        chain(&a->props, &a->buffer, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES);
    if (has(names, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME))
        chain(&a->props, &a->host,
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT);
    if (has(names, "VK_AMD_shader_core_properties"))
        chain(&a->props, &a->amd, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_AMD);
    if (has(names, "VK_NV_shader_sm_builtins"))
        chain(&a->props, &a->nv,
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV);
    if (version >= VK_API_VERSION_1_3 || has(names, "VK_KHR_shader_integer_dot_product"))
        chain(&a->features, &a->dot,
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES);
    if (version >= VK_API_VERSION_1_2 || has(names, "VK_KHR_shader_float16_int8"))
        chain(&a->features, &a->half,
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES);
    if (VK_MATRIX_KERNELS && version >= VK_API_VERSION_1_3 && has(names, VK_MATRIX_NAME)) {
        vk_matrix_features(&a->matrix, NULL);
        a->matrix.matrix = VK_FALSE;
        chain(&a->features, &a->matrix, a->matrix.sType);
        chain(&a->features, &a->model,
              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES);
    }
    vk->f.GetPhysicalDeviceProperties2(d, &a->props);
    vk->f.GetPhysicalDeviceFeatures2(d, &a->features);
}

/* What the heaps have room for, as the driver sees it now. A device that shares the host's memory
 * reads every heap equally fast: AMD's drivers call only a part of it device-local. */
static uint64_t heap_bytes(const vk_instance *vk, const vk_found *d) {
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {0};
    VkPhysicalDeviceMemoryProperties2 m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    if (d->budget)
        chain(&m, &budget, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT);
    vk->f.GetPhysicalDeviceMemoryProperties2(d->physical, &m);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m.memoryProperties.memoryHeapCount; i++) {
        const VkMemoryHeap *heap = &m.memoryProperties.memoryHeaps[i];
        const uint64_t bytes = budget.heapBudget[i] ? budget.heapBudget[i] : heap->size;
        if (d->facts.unified || heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
            sum += BASE_MIN(bytes, heap->size);
    }
    return sum;
}

/* A family for compute alone is not held up by the desktop's drawing. */
static uint32_t compute_family(const vk_instance *vk, VkPhysicalDevice d) {
    VkQueueFamilyProperties row[32];
    uint32_t n = BASE_COUNT(row), any = UINT32_MAX;
    vk->f.GetPhysicalDeviceQueueFamilyProperties(d, &n, row);
    for (uint32_t i = 0; i < n; i++) {
        if (!(row[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || !row[i].queueCount) continue;
        if (!(row[i].queueFlags & VK_QUEUE_GRAPHICS_BIT)) return i;
        if (any == UINT32_MAX) any = i;
    }
    return any;
}

static void name_driver(const vk_asked *a, uint32_t version, gpu_facts *f) {
    if (a->driver.driverName[0] && a->driver.driverInfo[0])
        snprintf(f->driver, sizeof f->driver, "%.60s %.60s", a->driver.driverName,
                 a->driver.driverInfo);
    else
        snprintf(f->driver, sizeof f->driver, "%.60s version 0x%x",
                 a->driver.driverName[0] ? a->driver.driverName : "driver", version);
}

static void name_missing(const vk_found *d, gpu_facts *f) {
    const VkPhysicalDeviceLimits *l = &d->props.limits;
    const struct {
        uint32_t have, need; /* the limit and our floor */
        const char *what;    /* its name for people */
    } floors[] = {{l->maxComputeWorkGroupInvocations, 256, "invocations in a group"},
                  {l->maxComputeWorkGroupSize[0], 256, "invocations along a group"},
                  {l->maxComputeSharedMemorySize, GPU_LOCAL_BYTES, "bytes of shared memory"},
                  {l->maxPushConstantsSize, GPU_MAX_PARAMS * 4, "bytes of push constants"},
                  {l->maxPerStageDescriptorStorageBuffers, GPU_MAX_BINDS, "buffers in a kernel"}};
    for (size_t i = BASE_COUNT(floors); i-- > 0;)
        if (floors[i].have < floors[i].need)
            snprintf(f->missing, sizeof f->missing, "has %u %s, Rotor needs %u", floors[i].have,
                     floors[i].what, floors[i].need);
    if (d->family == UINT32_MAX) snprintf(f->missing, sizeof f->missing, "has no compute queue");
}

static void fill_facts(const vk_instance *vk, vk_found *d, const vk_asked *a) {
    gpu_facts *f = &d->facts;
    const VkPhysicalDeviceLimits *l = &d->props.limits;
    const VkPhysicalDeviceType type = d->props.deviceType;
    const uint64_t whole = ~(uint64_t)15; /* limits like 2^32 - 1 are no size of a buffer */
    f->software = type == VK_PHYSICAL_DEVICE_TYPE_CPU;
    f->unified = f->software || type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    d->import_align = a->host.minImportedHostPointerAlignment;
    f->imports = f->unified && d->import_align && base_page_bytes() % d->import_align == 0;
    f->heap_bytes = heap_bytes(vk, d);
    f->max_alloc_bytes = a->alloc.maxMemoryAllocationSize & whole;
    if (a->buffer.maxBufferSize)
        f->max_alloc_bytes = BASE_MIN(f->max_alloc_bytes, a->buffer.maxBufferSize & whole);
    f->max_bind_bytes = l->maxStorageBufferRange & whole;
    f->max_group = BASE_MIN(l->maxComputeWorkGroupInvocations, l->maxComputeWorkGroupSize[0]);
    f->local_bytes = l->maxComputeSharedMemorySize;
    f->subgroup = a->subgroup.subgroupSize;
    f->subgroup_sums = f->subgroup >= 8 &&
                       (a->subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
                       (a->subgroup.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT);
    f->dot4 = a->dot.shaderIntegerDotProduct;
    f->half_shaders = a->half.shaderFloat16;
    f->units = a->nv.shaderSMCount ? a->nv.shaderSMCount
                                   : a->amd.shaderEngineCount * a->amd.shaderArraysPerEngineCount *
                                         a->amd.computeUnitsPerShaderArray;
    if (a->matrix.matrix && a->model.vulkanMemoryModel && a->half.shaderInt8)
        f->matrix = vk_matrix_of(vk, d);
    name_driver(a, d->props.driverVersion, f);
    name_missing(d, f);
}

static rotor_status look(const vk_instance *vk, VkPhysicalDevice physical, vk_found *d,
                         rotor_error *err) {
    d->physical = physical;
    vk->f.GetPhysicalDeviceProperties(physical, &d->props);
    const uint32_t version = d->props.apiVersion;
    snprintf(d->facts.name, sizeof d->facts.name, "%.127s", d->props.deviceName);
    snprintf(d->facts.version, sizeof d->facts.version, "Vulkan %u.%u.%u",
             VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version),
             VK_API_VERSION_PATCH(version));
    d->family = compute_family(vk, physical);
    if (version < VK_API_VERSION_1_1) { /* the rest cannot be asked */
        d->facts.software = d->props.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
        snprintf(d->facts.driver, sizeof d->facts.driver, "version 0x%x", d->props.driverVersion);
        snprintf(d->facts.missing, sizeof d->facts.missing, "offers %s, Rotor needs 1.1",
                 d->facts.version);
        return ROTOR_OK;
    }
    vk_names names = {0};
    vk_asked a;
    ROTOR_TRY(names_of(vk, physical, &names, err));
    d->budget = has(&names, "VK_EXT_memory_budget");
    d->dot_extension = version < VK_API_VERSION_1_3; /* in 1.3 it is part of Vulkan */
    ask(vk, physical, version, &names, &a);
    base_free(names.row);
    fill_facts(vk, d, &a);
    return ROTOR_OK;
}

static unsigned rank(const vk_found *d) {
    const unsigned last = d->facts.missing[0] ? 8 : 0;
    switch (d->props.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return last;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return last + 1;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return last + 3;
    default:
        return last + 2;
    }
}

static void sort(vk_found *d, size_t n) {
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && rank(&d[j]) < rank(&d[j - 1]); j--) {
            const vk_found other = d[j];
            d[j] = d[j - 1];
            d[j - 1] = other;
        }
}

rotor_status vk_find(const vk_instance *vk, vk_found **out, size_t *n, rotor_error *err) {
    uint32_t count = 0;
    VkResult r = vk->f.EnumeratePhysicalDevices(vk->handle, &count, NULL);
    if (r < 0 || !count)
        return base_fail(err, ROTOR_E_NOTFOUND, "Vulkan: the drivers found no device (%d)", (int)r);
    VkPhysicalDevice *handles = base_alloc_array(count, sizeof *handles);
    vk_found *found = base_alloc_array(count, sizeof *found);
    rotor_status st = ROTOR_OK;
    if (!handles || !found) st = base_fail_nomem(err, "looking at Vulkan devices");
    if (st == ROTOR_OK && (r = vk->f.EnumeratePhysicalDevices(vk->handle, &count, handles)) < 0)
        st = base_fail(err, ROTOR_E_NOTFOUND, "Vulkan: no list of devices (%d)", (int)r);
    for (uint32_t i = 0; i < count && st == ROTOR_OK; i++)
        st = look(vk, handles[i], &found[i], err);
    base_free(handles);
    if (st != ROTOR_OK) {
        base_free(found);
        return st;
    }
    sort(found, count);
    *out = found;
    *n = count;
    return ROTOR_OK;
}
