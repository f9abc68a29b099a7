/* SPDX-License-Identifier: MIT
 *
 * opencl: gpu.h on OpenCL 1.2. What its files share: the calls of the loader, the opened device,
 * errors.
 *
 *   opencl_load.c    the loader's calls, names of error codes
 *   opencl_facts.c   which devices there are and what they can do
 *   opencl_kernel.c  programs, and their binaries on disk
 *   opencl_list.c    recorded dispatches
 *   opencl.c         the device: opening, memory, the table gpu_opencl()
 *
 * A device has one in-order queue; everything it does goes through it, so nothing overtakes and
 * `beside` means nothing here. The loader is opened at run time and never closed: drivers keep
 * threads of their own, which would not survive their code being unmapped.
 * Threading: one thread at a time per opened device; no state outside it.
 */
#ifndef OPENCL_H
#define OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "dev/gpu/gpu.h"

/* Every call Rotor makes. */
#define OCL_CALLS(X)                                                                               \
    X(GetPlatformIDs)                                                                              \
    X(GetPlatformInfo)                                                                             \
    X(GetDeviceIDs)                                                                                \
    X(GetDeviceInfo)                                                                               \
    X(CreateContext)                                                                               \
    X(ReleaseContext)                                                                              \
    X(CreateCommandQueue)                                                                          \
    X(ReleaseCommandQueue)                                                                         \
    X(CreateBuffer)                                                                                \
    X(ReleaseMemObject)                                                                            \
    X(CreateProgramWithSource)                                                                     \
    X(CreateProgramWithBinary)                                                                     \
    X(BuildProgram)                                                                                \
    X(GetProgramInfo)                                                                              \
    X(GetProgramBuildInfo)                                                                         \
    X(ReleaseProgram)                                                                              \
    X(CreateKernel)                                                                                \
    X(SetKernelArg)                                                                                \
    X(GetKernelInfo)                                                                               \
    X(GetKernelWorkGroupInfo)                                                                      \
    X(ReleaseKernel)                                                                               \
    X(EnqueueNDRangeKernel)                                                                        \
    X(EnqueueWriteBuffer)                                                                          \
    X(EnqueueReadBuffer)                                                                           \
    X(EnqueueCopyBuffer)                                                                           \
    X(EnqueueFillBuffer)                                                                           \
    X(EnqueueMarkerWithWaitList)                                                                   \
    X(WaitForEvents)                                                                               \
    X(GetEventInfo)                                                                                \
    X(ReleaseEvent)                                                                                \
    X(Flush)                                                                                       \
    X(Finish)

typedef struct ocl_calls {
#define OCL_MEMBER(name) __typeof__(cl##name) *name; /* cl<name> of the loader */
    OCL_CALLS(OCL_MEMBER)
#undef OCL_MEMBER
} ocl_calls;

/* One device of one platform. */
typedef struct ocl_row {
    cl_platform_id platform; /* whose driver runs it */
    cl_device_id device;     /* the device */
    gpu_facts facts;         /* what is known of it */
} ocl_row;

typedef struct ocl {
    gpu base;                 /* facts, counters; first */
    ocl_calls cl;             /* the loader */
    cl_device_id device;      /* borrowed from the platform */
    cl_context context;       /* owned */
    cl_command_queue queue;   /* owned, in order */
    char *cache_dir;          /* owned; NULL: no binaries on disk */
    uint8_t identity[32];     /* hash of platform, device and driver: whose binaries these are */
    size_t index;             /* of gpu_api.list */
    bool import_tried;        /* on another context; facts.imports says how that went */
    bool newer;               /* OpenCL 3.0: its compiler knows that language */
    bool exact_divide;        /* the compiler can round division and square root correctly */
    uint32_t built_here;      /* programs compiled from their text */
    uint32_t built_from_disk; /* programs taken from the cache */
} ocl;

struct gpu_mem {
    cl_mem mem;     /* owned */
    uint64_t bytes; /* as asked for */
    bool imported;  /* the host's memory */
};

struct gpu_kernel {
    cl_program program; /* owned */
    const char *name;   /* of its function; the source's */
    uint32_t lx;        /* invocations of a group */
    uint32_t n_binds;   /* memories */
    uint32_t n_params;  /* 32-bit parameters */
};

/* In front of a program's binary on disk. */
typedef struct ocl_header {
    char magic[8];       /* "rotorcl" */
    uint32_t version;    /* CACHE_VERSION */
    uint32_t endian;     /* 0x01020304 as this machine has it */
    uint8_t key[32];     /* what was compiled, and for whom */
    uint64_t bytes;      /* of the binary behind this header */
    uint8_t content[32]; /* SHA-256 of the binary */
} ocl_header;

/* The first of the n names that can be opened, with all its calls. */
rotor_status ocl_load(ocl_calls *out, const char *const *names, size_t n, rotor_error *err);
/* The same with the names an OpenCL loader has. */
rotor_status ocl_load_default(ocl_calls *out, rotor_error *err);
const char *ocl_code_name(cl_int code);

/* All devices, in the order of gpu_api.list; *rows is the caller's to base_free. */
rotor_status ocl_rows(const ocl_calls *cl, ocl_row **rows, size_t *n, rotor_error *err);

/* A call that failed, said with device, driver, call and code; no_room: running out of the device's
 * resources means that it has no memory left, not that it is broken. */
rotor_status ocl_fail(const ocl *g, cl_int code, const char *call, rotor_error *err);
rotor_status ocl_fail_room(const ocl *g, cl_int code, const char *call, rotor_error *err);

rotor_status ocl_kernel_make(gpu *base, const gpu_source *src, const uint32_t *spec,
                             uint32_t n_spec, uint32_t n_binds, uint32_t n_params, gpu_kernel **out,
                             rotor_error *err);
void ocl_kernel_free(gpu *base, gpu_kernel *k);

rotor_status ocl_list_make(gpu *base, const gpu_dispatch *d, size_t n, gpu_mem *up,
                           uint64_t up_bytes, gpu_mem *down, uint64_t down_bytes, gpu_list **out,
                           rotor_error *err);
void ocl_list_free(gpu *base, gpu_list *l);
rotor_status ocl_submit(gpu *base, gpu_list *l, const void *data, uint64_t bytes, rotor_error *err);
rotor_status ocl_wait(gpu *base, gpu_list *l, void *dst, rotor_error *err);

#endif
