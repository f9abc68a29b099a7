/* SPDX-License-Identifier: MIT
 *
 * gpu: what a compute API offers, in the few words that a forward pass needs: memory, kernels, and
 * lists of dispatches that are recorded once and replayed. OpenCL (dev/opencl) and Vulkan
 * (dev/vulkan) each implement a gpu_api; everything else about a device on a GPU (dev_gpu*.c) is
 * written once, against this header.
 *
 *   open -> alloc, write, kernel -> list -> submit, wait, submit, wait ... -> close
 *
 * Nothing is created between two submissions of a list. Work runs in the order it was handed over:
 * write, read, copy and submit of one device never overtake one another.
 *
 * Kernels are written once, in a dialect that is both OpenCL C and GLSL (kernels/dialect.h). The
 * build keeps their text and their SPIR-V in gpu_sources.
 *
 * Errors: ROTOR_E_DEVICE when the device is lost, hangs or its driver fails; after it only free,
 * close and the *_free functions may be called. ROTOR_E_NOMEM: the device has no room.
 * Threading: one thread at a time per opened device.
 */
#ifndef GPU_H
#define GPU_H

#include "base/base.h"
#include "dev/dev_facts.h"

#include <assert.h>

typedef struct gpu gpu;               /* an opened device; each API begins its own struct with it */
typedef struct gpu_mem gpu_mem;       /* memory on the device */
typedef struct gpu_kernel gpu_kernel; /* a compiled kernel */
typedef struct gpu_list gpu_list;     /* recorded dispatches */

enum {
    GPU_MAX_BINDS = 8,          /* memories a kernel takes */
    GPU_MAX_PARAMS = 24,        /* 32-bit parameters of a dispatch */
    GPU_MAX_SPECS = 8,          /* constants a kernel is compiled with; the first is LX */
    GPU_LOCAL_BYTES = 22 << 10, /* a group shares at most so much: attention of heads of 512 */
    GPU_MAX_UP = 1 << 26,       /* bytes a submission may send along at most */
    GPU_FLIGHTS = 2             /* submissions of one list that may be under way at once */
};

typedef dev_facts gpu_facts;

/* What a kernel may be compiled with beyond the plain dialect; forms are sums of these. */
enum {
    GPU_WITH_DOT = 1,       /* the packed dot product: HAVE_DOT */
    GPU_WITH_SUBGROUPS = 2, /* sums and maxima of sub-groups: HAVE_SUBGROUPS */
    GPU_FORMS = 4
};
/* What this device offers of it; gpu.facts may be told that it offers less. */
static inline unsigned gpu_form_of(const gpu_facts *f) {
    return (f->dot4 ? GPU_WITH_DOT : 0u) | (f->subgroup_sums ? GPU_WITH_SUBGROUPS : 0u);
}

/* A module as the build packed it (tools/gpu_sources.py). */
typedef struct gpu_spirv {
    const uint8_t *packed; /* [bytes] NULL: no such form */
    size_t bytes;          /* of packed */
    size_t n_words;        /* of the module */
} gpu_spirv;
/* word: [n_words]. */
static inline void gpu_unpack(const gpu_spirv *s, uint32_t *word) {
    const uint8_t *p = s->packed;
    for (size_t i = 0; i < s->n_words; i++) {
        unsigned shift = 0;
        for (word[i] = 0; *p & 128; shift += 7) word[i] |= (*p++ & 127u) << shift;
        word[i] |= (uint32_t)*p++ << shift;
    }
    assert(p == s->packed + s->bytes);
}

/* A kernel as the build left it. */
typedef struct gpu_source {
    const char *name;           /* "mv_t2" */
    const char *dialect;        /* what stands before the text of every kernel; NULL: nothing */
    const char *text;           /* OpenCL C */
    gpu_spirv spirv[GPU_FORMS]; /* only forms that differ; none when built without glslc */
} gpu_source;
extern const gpu_source gpu_sources[];
extern const size_t gpu_n_sources;

typedef struct gpu_dispatch {
    gpu_kernel *kernel;             /* what */
    uint32_t groups[3];             /* grid, in groups; the group size is the kernel's LX */
    uint32_t n_binds;               /* memories in use */
    gpu_mem *bind[GPU_MAX_BINDS];   /* binding i of the kernel */
    uint32_t n_params;              /* 32-bit parameters in use */
    uint32_t param[GPU_MAX_PARAMS]; /* the fields of the kernel's params in order; floats as bits */
    bool beside;                    /* may run together with the dispatch before it */
} gpu_dispatch;

/* Kept by the implementation, for tests and reports. */
typedef struct gpu_counters {
    uint64_t submissions; /* hand-overs to the driver that start work (OpenCL: flushes) */
    uint64_t dispatches;  /* kernels started */
    uint64_t bytes_up;    /* host to device */
    uint64_t bytes_down;  /* device to host */
    uint64_t allocations; /* memories, kernels, lists made so far */
    uint64_t mem_bytes;   /* device memory held now */
    uint64_t imported;    /* bytes of the host's memory that kernels may read now: no part of it */
} gpu_counters;

typedef struct gpu_api {
    const char *name; /* "opencl", "vulkan" */

    /* Every device of this API, in an order that stays the same between calls: those that can be
     * used first, hardware before software. Writes at most max rows, sets *n to how many there are.
     * ROTOR_E_NOTFOUND: no loader or no driver, and which file was looked for. */
    rotor_status (*list)(gpu_facts *out, size_t max, size_t *n, rotor_error *err);

    /* Opens the index-th of them. cache_dir: a folder for compiled programs, or NULL for none. */
    rotor_status (*open)(gpu **out, size_t index, const char *cache_dir, rotor_error *err);
    void (*close)(gpu *g); /* waits for the work, frees the device; its objects must be gone */

    /* Device memory, zeroed. bytes <= both limits of the facts. host: a hint that the host writes
     * it often. */
    rotor_status (*alloc)(gpu *g, uint64_t bytes, bool host, gpu_mem **out, rotor_error *err);
    void (*mem_free)(gpu *g, gpu_mem *m); /* NULL is allowed, here and below */
    /* Pages of the host's as memory that is only read, bind, read and copy's src; they stay as they
     * are until it is freed. host and bytes are multiples of base_page_bytes(). The pages may be
     * those of a file that nobody can write: a driver that cannot cope with that is not let near
     * them, or refuses. ROTOR_E_UNSUPPORTED, ROTOR_E_NOMEM: not these, and no harm done; the way
     * is to copy. NULL: this API never does. */
    rotor_status (*import)(gpu *g, const void *host, uint64_t bytes, gpu_mem **out,
                           rotor_error *err);
    /* at and bytes are multiples of 4. They return when src has been read, or dst written. */
    rotor_status (*write)(gpu *g, gpu_mem *m, uint64_t at, const void *src, uint64_t bytes,
                          rotor_error *err);
    rotor_status (*read)(gpu *g, gpu_mem *m, uint64_t at, void *dst, uint64_t bytes,
                         rotor_error *err);
    rotor_status (*copy)(gpu *g, gpu_mem *dst, uint64_t dst_at, gpu_mem *src, uint64_t src_at,
                         uint64_t bytes, rotor_error *err);

    /* Compiles src with these constants: spec[0] is LX, the invocations of a group; the others are
     * the SPEC(i, ...) of the kernel. n_binds and n_params as its ARGS and FIELDS have them. */
    rotor_status (*kernel)(gpu *g, const gpu_source *src, const uint32_t *spec, uint32_t n_spec,
                           uint32_t n_binds, uint32_t n_params, gpu_kernel **out, rotor_error *err);
    void (*kernel_free)(gpu *g, gpu_kernel *k);

    /* Records n dispatches, each after the one before has finished unless it says beside. A
     * submission first puts up to up_bytes of the host's into the beginning of up, and leaves the
     * first down_bytes of down with the host. up and down may be NULL. All is copied. */
    rotor_status (*list_make)(gpu *g, const gpu_dispatch *d, size_t n, gpu_mem *up,
                              uint64_t up_bytes, gpu_mem *down, uint64_t down_bytes, gpu_list **out,
                              rotor_error *err);
    void (*list_free)(gpu *g, gpu_list *l); /* waits for its submissions */
    /* Starts the list with data[bytes] put into up; returns at once. At most GPU_FLIGHTS under way:
     * the caller waits in between. */
    rotor_status (*submit)(gpu *g, gpu_list *l, const void *data, uint64_t bytes, rotor_error *err);
    /* Waits for the oldest submission of the list that nobody has waited for, and copies what it
     * left in down to dst (dst may be NULL). */
    rotor_status (*wait)(gpu *g, gpu_list *l, void *dst, rotor_error *err);
} gpu_api;

struct gpu {
    const gpu_api *api;    /* the implementation */
    gpu_facts facts;       /* of this device */
    gpu_counters counters; /* so far */
};

/* NULL in a build without it. */
const gpu_api *gpu_opencl(void);
const gpu_api *gpu_vulkan(void);

#endif
