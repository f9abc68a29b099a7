/* SPDX-License-Identifier: MIT
 *
 * The OpenCL device: opening, memory, and the table of gpu.h. Transfers outside lists block until
 * the host's side is done with; copies on the device are only put in the queue.
 */
#include "dev/opencl/opencl.h"

#include <assert.h>

/* ---- Errors ---------------------------------------------------------------------------------- */

static rotor_status say(const ocl *g, rotor_status st, cl_int code, const char *call,
                        rotor_error *err) {
    return base_fail(err, st, "OpenCL device %s, driver %s: %s: %s (%d)", g->base.facts.name,
                     g->base.facts.driver, call, ocl_code_name(code), code);
}

rotor_status ocl_fail(const ocl *g, cl_int code, const char *call, rotor_error *err) {
    const bool room = code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_HOST_MEMORY;
    return say(g, room ? ROTOR_E_NOMEM : ROTOR_E_DEVICE, code, call, err);
}

rotor_status ocl_fail_room(const ocl *g, cl_int code, const char *call, rotor_error *err) {
    if (code == CL_OUT_OF_RESOURCES || code == CL_INVALID_BUFFER_SIZE)
        return say(g, ROTOR_E_NOMEM, code, call, err);
    return ocl_fail(g, code, call, err);
}

/* ---- Devices --------------------------------------------------------------------------------- */

static rotor_status list(gpu_facts *out, size_t max, size_t *n, rotor_error *err) {
    ocl_calls cl;
    ocl_row *rows;
    size_t count;
    ROTOR_TRY(ocl_load_default(&cl, err));
    ROTOR_TRY(ocl_rows(&cl, &rows, &count, err));
    for (size_t i = 0; i < count && i < max; i++) out[i] = rows[i].facts;
    *n = count;
    base_free(rows);
    return ROTOR_OK;
}

static void close_device(gpu *base) {
    ocl *g = (ocl *)base;
    if (!g) return;
    if (g->queue) {
        g->cl.Finish(g->queue);
        g->cl.ReleaseCommandQueue(g->queue);
    }
    if (g->context) g->cl.ReleaseContext(g->context);
    base_free(g->cache_dir);
    base_free(g);
}

/* What a compiled program depends on beside its text and options. */
static rotor_status identify(ocl *g, cl_platform_id platform, rotor_error *err) {
    char texts[2][256] = {"", ""};
    g->cl.GetPlatformInfo(platform, CL_PLATFORM_VERSION, sizeof *texts - 1, texts[0], NULL);
    g->cl.GetDeviceInfo(g->device, CL_DEVICE_VERSION, sizeof *texts - 1, texts[1], NULL);
    base_buf b = {0};
    base_buf_printf(&b, "%s\n%s\n%s\n%s\n", texts[0], texts[1], g->base.facts.name,
                    g->base.facts.driver);
    const bool failed = b.failed;
    if (!failed) base_sha256(b.data, b.len, g->identity);
    base_buf_free(&b);
    return failed ? base_fail_nomem(err, "opening an OpenCL device") : ROTOR_OK;
}

/* PoCL has a cache of programs, which it reads even when it is handed a binary, and aborts when
 * another process is just writing there. What we keep would only add to that. */
static bool keeps_its_own(const gpu_facts *f) {
    static const char pocl[] = "Portable Computing Language"; /* the platform: driver begins so */
    return !strncmp(f->driver, pocl, sizeof pocl - 1);
}

static rotor_status open_row(ocl *g, const ocl_row *row, const char *cache_dir, rotor_error *err) {
    g->base.api = gpu_opencl();
    g->base.facts = row->facts;
    g->device = row->device;
    if (cache_dir && !keeps_its_own(&row->facts) && !(g->cache_dir = base_strdup(cache_dir)))
        return base_fail_nomem(err, "opening an OpenCL device");
    ROTOR_TRY(identify(g, row->platform, err));
    cl_device_fp_config fp = 0;
    g->cl.GetDeviceInfo(g->device, CL_DEVICE_SINGLE_FP_CONFIG, sizeof fp, &fp, NULL);
    g->newer = !strncmp(row->facts.version, "OpenCL 3", 8);
    g->exact_divide = fp & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    cl_int code = CL_SUCCESS;
    const cl_context_properties of[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)row->platform,
                                        0};
    g->context = g->cl.CreateContext(of, 1, &g->device, NULL, NULL, &code);
    if (!g->context) return ocl_fail(g, code, "clCreateContext", err);
    g->queue = g->cl.CreateCommandQueue(g->context, g->device, 0, &code);
    if (!g->queue) return ocl_fail(g, code, "clCreateCommandQueue", err);
    return ROTOR_OK;
}

static rotor_status open_device(gpu **out, size_t index, const char *cache_dir, rotor_error *err) {
    ocl_row *rows = NULL;
    size_t n = 0;
    rotor_status st = ROTOR_OK;
    ocl *g = base_alloc(sizeof *g);
    if (!g) return base_fail_nomem(err, "opening an OpenCL device");
    st = ocl_load_default(&g->cl, err);
    if (st == ROTOR_OK) st = ocl_rows(&g->cl, &rows, &n, err);
    if (st == ROTOR_OK && index >= n)
        st = base_fail(err, ROTOR_E_NOTFOUND, "OpenCL: no device %zu, there are %zu", index, n);
    if (st == ROTOR_OK && rows[index].facts.missing[0])
        st = base_fail(err, ROTOR_E_UNSUPPORTED, "OpenCL device %s cannot be used: %s",
                       rows[index].facts.name, rows[index].facts.missing);
    g->index = index;
    if (st == ROTOR_OK) st = open_row(g, &rows[index], cache_dir, err);
    base_free(rows);
    if (st != ROTOR_OK) {
        close_device(&g->base);
        return st;
    }
    *out = &g->base;
    return ROTOR_OK;
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void mem_free(gpu *base, gpu_mem *m) {
    ocl *g = (ocl *)base;
    if (!m) return;
    if (m->mem) {
        g->cl.ReleaseMemObject(m->mem);
        *(m->imported ? &base->counters.imported : &base->counters.mem_bytes) -= m->bytes;
    }
    base_free(m);
}

/* Drivers may take memory only when it is first used: zeroing it here shows that it is there. */
static rotor_status mem_fill(ocl *g, gpu_mem *m, uint64_t bytes, rotor_error *err) {
    const uint32_t zero = 0;
    cl_int code = g->cl.EnqueueFillBuffer(g->queue, m->mem, &zero, sizeof zero, 0, (size_t)bytes, 0,
                                          NULL, NULL);
    if (code != CL_SUCCESS) return ocl_fail_room(g, code, "clEnqueueFillBuffer", err);
    code = g->cl.Finish(g->queue);
    if (code != CL_SUCCESS) return ocl_fail_room(g, code, "clFinish after a fill", err);
    return ROTOR_OK;
}

static rotor_status alloc(gpu *base, uint64_t bytes, bool host, gpu_mem **out, rotor_error *err) {
    ocl *g = (ocl *)base;
    uint64_t rounded;
    if (!base_round_up_u64(BASE_MAX(bytes, 1u), 4, &rounded) || rounded > SIZE_MAX ||
        rounded > base->facts.max_alloc_bytes)
        return base_fail(err, ROTOR_E_NOMEM,
                         "OpenCL device %s: %llu bytes wanted in one piece, at most %llu are had",
                         base->facts.name, (unsigned long long)bytes,
                         (unsigned long long)base->facts.max_alloc_bytes);
    gpu_mem *m = base_alloc(sizeof *m);
    if (!m) return base_fail_nomem(err, "taking OpenCL memory");
    cl_int code = CL_SUCCESS;
    cl_mem_flags flags = CL_MEM_READ_WRITE | (host ? CL_MEM_ALLOC_HOST_PTR : 0u);
    rotor_status st = ROTOR_OK;
    m->mem = g->cl.CreateBuffer(g->context, flags, (size_t)rounded, NULL, &code);
    if (m->mem) {
        m->bytes = bytes;
        base->counters.mem_bytes += bytes;
        st = mem_fill(g, m, rounded, err);
    } else
        st = ocl_fail_room(g, code, "clCreateBuffer", err);
    if (st != ROTOR_OK) {
        mem_free(base, m);
        return st;
    }
    base->counters.allocations++;
    *out = m;
    return ROTOR_OK;
}

/* Whole pages: what drivers that share the host's memory take as it is. One that cannot may keep a
 * copy; that is its own affair. */
static rotor_status import_pages(ocl *g, const void *host, uint64_t bytes, gpu_mem **out,
                                 rotor_error *err) {
    cl_int code = CL_SUCCESS;
    gpu_mem *m = base_alloc(sizeof *m);
    if (!m) return base_fail_nomem(err, "importing memory");
    m->bytes = bytes;
    m->imported = true;
    m->mem = g->cl.CreateBuffer(g->context, CL_MEM_READ_ONLY | CL_MEM_USE_HOST_PTR, (size_t)bytes,
                                (void *)(uintptr_t)host, &code);
    if (!m->mem) {
        base_free(m);
        return say(g, ROTOR_E_UNSUPPORTED, code, "clCreateBuffer of the host's memory", err);
    }
    g->base.counters.allocations++;
    g->base.counters.imported += bytes;
    *out = m;
    return ROTOR_OK;
}

static rotor_status write_mem(gpu *base, gpu_mem *m, uint64_t at, const void *src, uint64_t bytes,
                              rotor_error *err) {
    ocl *g = (ocl *)base;
    if (!bytes) return ROTOR_OK;
    cl_int code = g->cl.EnqueueWriteBuffer(g->queue, m->mem, CL_TRUE, (size_t)at, (size_t)bytes,
                                           src, 0, NULL, NULL);
    if (code != CL_SUCCESS) return ocl_fail(g, code, "clEnqueueWriteBuffer", err);
    base->counters.bytes_up += bytes;
    return ROTOR_OK;
}

static rotor_status read_mem(gpu *base, gpu_mem *m, uint64_t at, void *dst, uint64_t bytes,
                             rotor_error *err) {
    ocl *g = (ocl *)base;
    if (!bytes) return ROTOR_OK;
    cl_int code = g->cl.EnqueueReadBuffer(g->queue, m->mem, CL_TRUE, (size_t)at, (size_t)bytes, dst,
                                          0, NULL, NULL);
    if (code != CL_SUCCESS) return ocl_fail(g, code, "clEnqueueReadBuffer", err);
    base->counters.bytes_down += bytes;
    return ROTOR_OK;
}

/* Whether another context of the device can read both ends of it: some drivers say no only when
 * work uses the pages, and with the queue all that is on it is lost. */
static bool try_elsewhere(const ocl *g, const uint8_t *host, uint64_t bytes) {
    enum { SEEN = 64 };
    const uint64_t ends[] = {0, bytes - SEEN};
    uint8_t seen[SEEN];
    gpu *other = NULL;
    gpu_mem *m = NULL;
    if (gpu_opencl()->open(&other, g->index, NULL, NULL) != ROTOR_OK) return false;
    ((ocl *)other)->cl = g->cl;
    bool good = import_pages((ocl *)other, host, bytes, &m, NULL) == ROTOR_OK;
    for (size_t i = 0; i < BASE_COUNT(ends) && good; i++)
        good = read_mem(other, m, ends[i], seen, SEEN, NULL) == ROTOR_OK &&
               memcmp(seen, host + ends[i], SEEN) == 0;
    mem_free(other, m);
    close_device(other);
    return good;
}

static rotor_status import_mem(gpu *base, const void *host, uint64_t bytes, gpu_mem **out,
                               rotor_error *err) {
    ocl *g = (ocl *)base;
    assert(bytes && bytes % base_page_bytes() == 0 && (uintptr_t)host % base_page_bytes() == 0);
    if (base->facts.imports && !g->import_tried) {
        g->import_tried = true;
        base->facts.imports = try_elsewhere(g, host, bytes);
    }
    if (!base->facts.imports || bytes > base->facts.max_alloc_bytes)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "OpenCL device %s does not import this memory",
                         base->facts.name);
    return import_pages(g, host, bytes, out, err);
}

static rotor_status copy_mem(gpu *base, gpu_mem *dst, uint64_t dst_at, gpu_mem *src,
                             uint64_t src_at, uint64_t bytes, rotor_error *err) {
    ocl *g = (ocl *)base;
    if (!bytes) return ROTOR_OK;
    cl_int code = g->cl.EnqueueCopyBuffer(g->queue, src->mem, dst->mem, (size_t)src_at,
                                          (size_t)dst_at, (size_t)bytes, 0, NULL, NULL);
    return code == CL_SUCCESS ? ROTOR_OK : ocl_fail(g, code, "clEnqueueCopyBuffer", err);
}

const gpu_api *gpu_opencl(void) {
    static const gpu_api api = {.name = "opencl",
                                .list = list,
                                .open = open_device,
                                .close = close_device,
                                .alloc = alloc,
                                .mem_free = mem_free,
                                .import = import_mem,
                                .write = write_mem,
                                .read = read_mem,
                                .copy = copy_mem,
                                .kernel = ocl_kernel_make,
                                .kernel_free = ocl_kernel_free,
                                .list_make = ocl_list_make,
                                .list_free = ocl_list_free,
                                .submit = ocl_submit,
                                .wait = ocl_wait};
    return &api;
}
