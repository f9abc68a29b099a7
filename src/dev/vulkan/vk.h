/* SPDX-License-Identifier: MIT
 *
 * vulkan: gpu.h on Vulkan 1.1. The loader is opened at run time; nothing links to it.
 *
 *   vk_loader.c   the library, the instance, addresses of functions
 *   vk_facts.c    what a physical device is and whether it is enough
 *   vk_device.c   list, open, close; starting work and waiting for it; what went wrong
 *   vk_mem.c      memory: buffers inside blocks of device memory
 *   vk_import.c   memory: pages of the host
 *   vk_move.c     write, read, copy, zeroing, through two staging halves
 *   vk_matrix.c   whether it multiplies int8 matrices as our kernel wants it
 *   vk_kernel.c   compute pipelines;  vk_cache.c  the compiled ones on disk
 *   vk_list.c     command buffers recorded once
 *
 * Order: one queue, and every command buffer begins with a barrier that covers all submitted before
 * it, so nothing overtakes. A fence is signalled when everything before it is done too: waiting for
 * the last run is waiting for all. Threading: as gpu.h says.
 */
#ifndef VK_H
#define VK_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "dev/gpu/gpu.h"

#define VK_INSTANCE_FNS(X)                                                                         \
    X(DestroyInstance)                                                                             \
    X(EnumeratePhysicalDevices)                                                                    \
    X(GetPhysicalDeviceProperties)                                                                 \
    X(GetPhysicalDeviceProperties2)                                                                \
    X(GetPhysicalDeviceFeatures2)                                                                  \
    X(GetPhysicalDeviceMemoryProperties2)                                                          \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                      \
    X(EnumerateDeviceExtensionProperties)                                                          \
    X(CreateDevice)                                                                                \
    X(GetDeviceProcAddr)

#define VK_DEVICE_FNS(X)                                                                           \
    X(DestroyDevice)                                                                               \
    X(DeviceWaitIdle)                                                                              \
    X(GetDeviceQueue)                                                                              \
    X(QueueSubmit)                                                                                 \
    X(AllocateMemory)                                                                              \
    X(FreeMemory)                                                                                  \
    X(MapMemory)                                                                                   \
    X(FlushMappedMemoryRanges)                                                                     \
    X(InvalidateMappedMemoryRanges)                                                                \
    X(CreateBuffer)                                                                                \
    X(DestroyBuffer)                                                                               \
    X(GetBufferMemoryRequirements)                                                                 \
    X(BindBufferMemory)                                                                            \
    X(CreateFence)                                                                                 \
    X(DestroyFence)                                                                                \
    X(ResetFences)                                                                                 \
    X(WaitForFences)                                                                               \
    X(CreateCommandPool)                                                                           \
    X(DestroyCommandPool)                                                                          \
    X(AllocateCommandBuffers)                                                                      \
    X(FreeCommandBuffers)                                                                          \
    X(BeginCommandBuffer)                                                                          \
    X(EndCommandBuffer)                                                                            \
    X(CreateShaderModule)                                                                          \
    X(DestroyShaderModule)                                                                         \
    X(CreatePipelineCache)                                                                         \
    X(DestroyPipelineCache)                                                                        \
    X(GetPipelineCacheData)                                                                        \
    X(CreateComputePipelines)                                                                      \
    X(DestroyPipeline)                                                                             \
    X(CreatePipelineLayout)                                                                        \
    X(DestroyPipelineLayout)                                                                       \
    X(CreateDescriptorSetLayout)                                                                   \
    X(DestroyDescriptorSetLayout)                                                                  \
    X(CreateDescriptorPool)                                                                        \
    X(DestroyDescriptorPool)                                                                       \
    X(AllocateDescriptorSets)                                                                      \
    X(UpdateDescriptorSets)                                                                        \
    X(CmdBindPipeline)                                                                             \
    X(CmdBindDescriptorSets)                                                                       \
    X(CmdPushConstants)                                                                            \
    X(CmdDispatch)                                                                                 \
    X(CmdCopyBuffer)                                                                               \
    X(CmdFillBuffer)                                                                               \
    X(CmdPipelineBarrier)

#define VK_FIELD(name) PFN_vk##name name;

/* The loader and one instance. */
typedef struct vk_instance {
    void *library;                                 /* libvulkan */
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr; /* its one exported symbol in use */
    VkInstance handle;                             /* VK_NULL_HANDLE until created */
    struct {
        VK_INSTANCE_FNS(VK_FIELD) /* addresses, named as in Vulkan without vk */
    } f;
} vk_instance;

/* A physical device, looked at. */
typedef struct vk_found {
    VkPhysicalDevice physical;        /* of the instance */
    gpu_facts facts;                  /* as gpu.h wants them */
    VkPhysicalDeviceProperties props; /* limits, ids */
    uint32_t family;                  /* queue family for compute; UINT32_MAX: none */
    bool budget;                      /* VK_EXT_memory_budget */
    bool dot_extension;               /* the dot product needs its extension enabled */
    uint64_t import_align; /* VK_EXT_external_memory_host: of pages; 0: it is not there */
} vk_found;

/* Device memory of the driver, shared by buffers. */
typedef struct vk_block {
    struct vk_block *next;       /* of the device */
    VkDeviceMemory memory;       /* owned */
    uint64_t bytes;              /* its size */
    uint32_t type;               /* memory type */
    VkMemoryPropertyFlags flags; /* of the type */
    uint8_t *map;                /* where the host sees it; NULL: it does not */
    gpu_mem *first;              /* buffers inside, by place */
} vk_block;

struct gpu_mem {
    gpu_mem *next;   /* the one behind it in the block */
    vk_block *block; /* where it lies */
    uint64_t at;     /* place in the block */
    uint64_t span;   /* bytes taken in the block */
    uint64_t bytes;  /* asked for */
    VkBuffer buffer; /* owned */
    bool imported;   /* the block is the host's memory */
};

/* A command buffer that may be on its way. */
typedef struct vk_run {
    VkCommandBuffer cmd; /* of the device's pool */
    VkFence fence;       /* signalled when it is done, and all before it */
    bool pending;        /* submitted, and nobody has waited for it */
} vk_run;

struct gpu_kernel {
    VkPipeline pipeline;        /* owned */
    uint32_t n_binds, n_params; /* as it was made */
};

enum {
    VK_MOVERS = 2,            /* staging halves, each with a command buffer */
    VK_STAGE_BYTES = 4 << 20, /* of a half */
    VK_WAIT_S = 30,           /* a GPU that has not finished a submission by then hangs */
    VK_WAIT_SOFTWARE_S = 1800 /* the CPU may be busy with other things */
};

typedef struct vk_gpu {
    gpu base;                                             /* must be first */
    vk_instance vk;                                       /* owned */
    vk_found found;                                       /* the physical device */
    size_t index;                                         /* in gpu_api.list's order */
    PFN_vkGetMemoryHostPointerPropertiesEXT host_pointer; /* of the extension; NULL: without it */
    bool import_tried;                       /* another device has been asked: facts.imports */
    VkPhysicalDeviceMemoryProperties memory; /* heaps and types */
    VkDevice device;                         /* owned */
    VkQueue queue;                           /* the only one */
    VkCommandPool pool;                      /* of all command buffers */
    struct {
        VK_DEVICE_FNS(VK_FIELD) /* addresses, named as in Vulkan without vk */
    } f;
    bool lost;                                           /* nothing more can be started */
    bool hung;                                           /* it may still write: free nothing */
    bool straight;                                       /* host reads and writes without staging */
    uint64_t wait_ns;                                    /* patience */
    vk_block *blocks;                                    /* owned */
    uint64_t heap_used[VK_MAX_MEMORY_HEAPS];             /* bytes of blocks */
    vk_run *last;                                        /* newest submission; NULL: all is done */
    unsigned lists_running;                              /* submissions of lists not waited for */
    vk_run mover[VK_MOVERS];                             /* for write, read, copy */
    unsigned next_mover;                                 /* whose turn it is */
    gpu_mem *stage;                                      /* mapped; a half for each mover */
    VkDescriptorSetLayout set_layout[GPU_MAX_BINDS + 1]; /* by n_binds */
    VkPipelineLayout layout[GPU_MAX_BINDS + 1];          /* the same */
    VkPipelineCache cache;                               /* compiled pipelines */
    char *cache_path;                                    /* where they are kept; NULL: nowhere */
    uint64_t cache_hash;                                 /* of what was found there */
} vk_gpu;

/* vk_loader.c */
rotor_status vk_instance_open(vk_instance *vk, rotor_error *err);
void vk_instance_close(vk_instance *vk); /* half open ones too */
bool vk_load_device(vk_gpu *g);          /* false: the driver lacks a function */

/* vk_facts.c: all devices in gpu_api.list's order; base_free *out. */
rotor_status vk_find(const vk_instance *vk, vk_found **out, size_t *n, rotor_error *err);

/* vk_matrix.c: facts.matrix of a device that has the extension and the features beside it; all else
 * of d is known. */
uint32_t vk_matrix_of(const vk_instance *vk, const vk_found *d);

/* vk_device.c. vk_bad maps a VkResult: what failed, on which device, with which driver. */
rotor_status vk_bad(vk_gpu *g, rotor_error *err, VkResult r, const char *what);
rotor_status vk_alive(vk_gpu *g, rotor_error *err); /* an error once it is lost */
rotor_status vk_run_make(vk_gpu *g, vk_run *run, rotor_error *err);
void vk_run_free(vk_gpu *g, vk_run *run);
rotor_status vk_begin(vk_gpu *g, vk_run *run, bool once, rotor_error *err); /* and a barrier */
rotor_status vk_end(vk_gpu *g, vk_run *run, rotor_error *err); /* a barrier before it */
rotor_status vk_start(vk_gpu *g, vk_run *run, rotor_error *err);
rotor_status vk_finish(vk_gpu *g, vk_run *run, rotor_error *err); /* waits if it is pending */
rotor_status vk_settle(vk_gpu *g, rotor_error *err);              /* waits for everything */

/* vk_mem.c */
typedef enum vk_use {
    VK_FOR_DEVICE, /* kernels read and write it */
    VK_FOR_HOST    /* staging: always mapped */
} vk_use;
/* A buffer with whatever is in the memory. Not counted. */
rotor_status vk_take(vk_gpu *g, uint64_t bytes, vk_use use, gpu_mem **out, rotor_error *err);
void vk_give(vk_gpu *g, gpu_mem *m); /* nothing may be using it */
rotor_status vk_flush(vk_gpu *g, const gpu_mem *m, uint64_t at, uint64_t bytes, rotor_error *err);
rotor_status vk_invalidate(vk_gpu *g, const gpu_mem *m, uint64_t at, uint64_t bytes,
                           rotor_error *err);
rotor_status vk_alloc(gpu *g, uint64_t bytes, bool host, gpu_mem **out, rotor_error *err);
void vk_mem_free(gpu *g, gpu_mem *m);

/* vk_import.c */
rotor_status vk_import(gpu *g, const void *host, uint64_t bytes, gpu_mem **out, rotor_error *err);

/* vk_move.c */
rotor_status vk_zero(vk_gpu *g, gpu_mem *m, rotor_error *err);
rotor_status vk_write(gpu *g, gpu_mem *m, uint64_t at, const void *src, uint64_t bytes,
                      rotor_error *err);
rotor_status vk_read(gpu *g, gpu_mem *m, uint64_t at, void *dst, uint64_t bytes, rotor_error *err);
rotor_status vk_copy(gpu *g, gpu_mem *dst, uint64_t dst_at, gpu_mem *src, uint64_t src_at,
                     uint64_t bytes, rotor_error *err);

/* vk_kernel.c */
rotor_status vk_layouts_make(vk_gpu *g, rotor_error *err);
void vk_layouts_free(vk_gpu *g);
rotor_status vk_kernel(gpu *g, const gpu_source *src, const uint32_t *spec, uint32_t n_spec,
                       uint32_t n_binds, uint32_t n_params, gpu_kernel **out, rotor_error *err);
void vk_kernel_free(gpu *g, gpu_kernel *k);

/* vk_cache.c: the file is a help, never a reason to fail; only lack of memory is reported. */
rotor_status vk_cache_open(vk_gpu *g, const char *dir, rotor_error *err);
void vk_cache_close(vk_gpu *g); /* writes what is new */

/* vk_list.c */
rotor_status vk_list_make(gpu *g, const gpu_dispatch *d, size_t n, gpu_mem *up, uint64_t up_bytes,
                          gpu_mem *down, uint64_t down_bytes, gpu_list **out, rotor_error *err);
void vk_list_free(gpu *g, gpu_list *l);
rotor_status vk_submit(gpu *g, gpu_list *l, const void *data, uint64_t bytes, rotor_error *err);
rotor_status vk_wait(gpu *g, gpu_list *l, void *dst, rotor_error *err);

#endif
