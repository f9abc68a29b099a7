/* SPDX-License-Identifier: MIT
 *
 * A compute API that fails on request. The opened device is the real one's own: nobody looks at
 * which API it says it belongs to.
 */
#include "faulty_gpu.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_KERNELS = 256 };

const char *const faulty_names[FAULTY_CALLS] = {"open", "alloc",  "import", "write",  "read",
                                                "copy", "kernel", "list",   "submit", "wait"};

typedef struct kept_kernel {
    const gpu_source *src;        /* kernel */
    uint32_t spec[GPU_MAX_SPECS]; /* compiled with, zero behind the last */
    gpu_kernel *kernel;           /* result */
} kept_kernel;

static const gpu_api *real;            /* behind */
static gpu *device;                    /* opened behind, or NULL */
static size_t device_index;            /* which one */
static kept_kernel kept[MOST_KERNELS]; /* of device */
static size_t n_kept;                  /* in use */
static unsigned counts[FAULTY_CALLS];  /* calls so far */
static faulty_call at_call;            /* the kind that fails … */
static unsigned at;                    /* … at this call of it */
static rotor_status status;            /* … with this status */
static bool fired, lost;               /* it has; with the device gone for good */
static unsigned after_loss;            /* calls it should not have got since */

/* Whether this call is to fail. */
static rotor_status due(faulty_call call, rotor_error *err) {
    if (lost) {
        after_loss++;
        return base_fail(err, ROTOR_E_DEVICE, "the device is lost: %s", faulty_names[call]);
    }
    if (call != at_call || ++counts[call] != at) return ROTOR_OK;
    fired = true;
    lost = status == ROTOR_E_DEVICE && call != FAULTY_OPEN;
    return base_fail(err, status, "%s %u fails on purpose", faulty_names[call], at);
}

static rotor_status list(gpu_facts *out, size_t max, size_t *n, rotor_error *err) {
    return real->list(out, max, n, err);
}

static rotor_status open_device(gpu **out, size_t index, const char *cache_dir, rotor_error *err) {
    ROTOR_TRY(due(FAULTY_OPEN, err));
    if (device && device_index != index) faulty_done();
    if (!device) ROTOR_TRY(real->open(&device, index, cache_dir, err));
    device_index = index;
    *out = device;
    return ROTOR_OK;
}

static void close_device(gpu *g) { (void)g; }

static rotor_status alloc_mem(gpu *g, uint64_t bytes, bool host, gpu_mem **out, rotor_error *err) {
    ROTOR_TRY(due(FAULTY_ALLOC, err));
    return real->alloc(g, bytes, host, out, err);
}

static rotor_status import_mem(gpu *g, const void *host, uint64_t bytes, gpu_mem **out,
                               rotor_error *err) {
    ROTOR_TRY(due(FAULTY_IMPORT, err));
    return real->import(g, host, bytes, out, err);
}

static void free_mem(gpu *g, gpu_mem *m) { real->mem_free(g, m); }

static rotor_status write_mem(gpu *g, gpu_mem *m, uint64_t pos, const void *src, uint64_t bytes,
                              rotor_error *err) {
    ROTOR_TRY(due(FAULTY_WRITE, err));
    return real->write(g, m, pos, src, bytes, err);
}

static rotor_status read_mem(gpu *g, gpu_mem *m, uint64_t pos, void *dst, uint64_t bytes,
                             rotor_error *err) {
    ROTOR_TRY(due(FAULTY_READ, err));
    return real->read(g, m, pos, dst, bytes, err);
}

static rotor_status copy_mem(gpu *g, gpu_mem *dst, uint64_t dst_at, gpu_mem *src, uint64_t src_at,
                             uint64_t bytes, rotor_error *err) {
    ROTOR_TRY(due(FAULTY_COPY, err));
    return real->copy(g, dst, dst_at, src, src_at, bytes, err);
}

static rotor_status make_kernel(gpu *g, const gpu_source *src, const uint32_t *spec,
                                uint32_t n_spec, uint32_t n_binds, uint32_t n_params,
                                gpu_kernel **out, rotor_error *err) {
    kept_kernel k = {.src = src};
    ROTOR_TRY(due(FAULTY_KERNEL, err));
    memcpy(k.spec, spec, n_spec * sizeof *spec);
    for (size_t i = 0; i < n_kept; i++)
        if (kept[i].src == src && memcmp(kept[i].spec, k.spec, sizeof k.spec) == 0)
            return *out = kept[i].kernel, ROTOR_OK;
    if (n_kept == MOST_KERNELS) abort();
    ROTOR_TRY(real->kernel(g, src, spec, n_spec, n_binds, n_params, &k.kernel, err));
    kept[n_kept++] = k;
    *out = k.kernel;
    return ROTOR_OK;
}

static void free_kernel(gpu *g, gpu_kernel *k) { (void)g, (void)k; }

static rotor_status make_list(gpu *g, const gpu_dispatch *d, size_t n, gpu_mem *up,
                              uint64_t up_bytes, gpu_mem *down, uint64_t down_bytes, gpu_list **out,
                              rotor_error *err) {
    ROTOR_TRY(due(FAULTY_LIST, err));
    return real->list_make(g, d, n, up, up_bytes, down, down_bytes, out, err);
}

static void free_list(gpu *g, gpu_list *l) { real->list_free(g, l); }

static rotor_status submit(gpu *g, gpu_list *l, const void *data, uint64_t bytes,
                           rotor_error *err) {
    ROTOR_TRY(due(FAULTY_SUBMIT, err));
    return real->submit(g, l, data, bytes, err);
}

static rotor_status wait_for(gpu *g, gpu_list *l, void *dst, rotor_error *err) {
    ROTOR_TRY(due(FAULTY_WAIT, err));
    return real->wait(g, l, dst, err);
}

const gpu_api *faulty_gpu(const gpu_api *behind) {
    static const gpu_api faulty = {.name = "faulty",
                                   .list = list,
                                   .open = open_device,
                                   .close = close_device,
                                   .alloc = alloc_mem,
                                   .mem_free = free_mem,
                                   .import = import_mem,
                                   .write = write_mem,
                                   .read = read_mem,
                                   .copy = copy_mem,
                                   .kernel = make_kernel,
                                   .kernel_free = free_kernel,
                                   .list_make = make_list,
                                   .list_free = free_list,
                                   .submit = submit,
                                   .wait = wait_for};
    if (real != behind) faulty_done();
    real = behind;
    return &faulty;
}

void faulty_at(faulty_call call, unsigned n, rotor_status st) {
    memset(counts, 0, sizeof counts);
    at_call = call;
    at = n;
    status = st;
    fired = lost = false;
    after_loss = 0;
}

bool faulty_fired(void) { return fired; }
unsigned faulty_after_loss(void) { return after_loss; }
uint64_t faulty_bytes_up(void) { return device ? device->counters.bytes_up : 0; }
uint64_t faulty_imported(void) { return device ? device->counters.imported : 0; }
uint64_t faulty_mem_bytes(void) { return device ? device->counters.mem_bytes : 0; }

void faulty_done(void) {
    if (!device) return;
    for (size_t i = 0; i < n_kept; i++) real->kernel_free(device, kept[i].kernel);
    real->close(device);
    n_kept = 0;
    device = NULL;
}
