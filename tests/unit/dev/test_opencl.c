/* SPDX-License-Identifier: MIT
 *
 * What only the OpenCL device has: the loader found at run time, the order of devices, binaries of
 * programs on disk, messages of a compiler, error codes of a driver. Drivers that are not here are
 * played by functions put in the place of the loader's. What all compute APIs do alike is tested by
 * test_gpu_api.c.
 */
#define _XOPEN_SOURCE 700 /* nftw, mkdtemp, setenv */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/opencl/opencl.h"

static char folder[] = "/tmp/rotor-opencl-XXXXXX";
static char cache[64]; /* of this program's binaries, in the folder */

static const char bump_text[] =
    "struct params { uint n; uint add; };\n"
    "__kernel __attribute__((reqd_work_group_size(SPEC_0, 1, 1))) void bump(\n"
    "    __global const uint *x, __global uint *y, const struct params p) {\n"
    "    const uint i = (uint)get_global_id(0);\n"
    "    if (i < p.n) y[i] = x[i] + p.add + SPEC_1;\n"
    "}\n";
static const gpu_source bump = {.name = "bump", .text = bump_text};
enum { N = 100, LX = 32 };

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st, (void)type, (void)at;
    return remove(path);
}
static void empty(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

/* Opens the first device, which keeps its binaries even if it is PoCL. */
static rotor_status open_keeping(gpu **out, const char *cache_dir, rotor_error *err) {
    gpu *g = NULL;
    ROTOR_TRY(gpu_opencl()->open(&g, 0, cache_dir, err));
    ocl *o = (ocl *)g;
    if (cache_dir && !o->cache_dir && !(o->cache_dir = base_strdup(cache_dir))) {
        g->api->close(g);
        return base_fail_nomem(err, "keeping binaries");
    }
    *out = g;
    return ROTOR_OK;
}

/* The first device, or NULL and the test skipped. */
static ocl *open_first(const char *cache_dir) {
    gpu *g = NULL;
    rotor_error err = {0};
    rotor_status st = open_keeping(&g, cache_dir, &err);
    if (st == ROTOR_E_NOTFOUND) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    if (st != ROTOR_OK) fail_msg("%s", err.message);
    return (ocl *)g;
}

static gpu_kernel *bump_kernel(ocl *g, uint32_t plus) {
    rotor_error err = {0};
    gpu_kernel *k = NULL;
    const uint32_t spec[] = {LX, plus};
    if (g->base.api->kernel(&g->base, &bump, spec, 2, 2, 2, &k, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    return k;
}

/* Memory, a list of one dispatch, one submission: everything a kernel is for. */
static rotor_status run_kernel(ocl *g, gpu_kernel *k, uint32_t out[N], rotor_error *err) {
    const gpu_api *api = g->base.api;
    gpu_mem *x = NULL, *y = NULL;
    gpu_list *l = NULL;
    uint32_t in[N];
    for (uint32_t i = 0; i < N; i++) in[i] = i * i;
    rotor_status st = api->alloc(&g->base, sizeof in, false, &x, err);
    if (st == ROTOR_OK) st = api->alloc(&g->base, sizeof in, false, &y, err);
    if (st == ROTOR_OK) {
        const gpu_dispatch d = {.kernel = k,
                                .groups = {(N + LX - 1) / LX, 1, 1},
                                .n_binds = 2,
                                .bind = {x, y},
                                .n_params = 2,
                                .param = {N, 1000}};
        st = api->list_make(&g->base, &d, 1, x, sizeof in, y, sizeof in, &l, err);
    }
    if (st == ROTOR_OK) st = api->submit(&g->base, l, in, sizeof in, err);
    if (st == ROTOR_OK) st = api->wait(&g->base, l, out, err);
    api->list_free(&g->base, l);
    api->mem_free(&g->base, x);
    api->mem_free(&g->base, y);
    return st;
}

static void check_kernel(ocl *g, gpu_kernel *k, uint32_t plus) {
    uint32_t out[N];
    rotor_error err = {0};
    if (run_kernel(g, k, out, &err) != ROTOR_OK) fail_msg("%s", err.message);
    for (uint32_t i = 0; i < N; i++) assert_int_equal(out[i], i * i + 1000 + plus);
}

/* Opens, compiles, runs, closes. */
static void once(uint32_t plus, uint32_t built_here, uint32_t built_from_disk) {
    ocl *g = open_first(cache);
    gpu_kernel *k = bump_kernel(g, plus);
    assert_int_equal(g->built_here, built_here);
    assert_int_equal(g->built_from_disk, built_from_disk);
    check_kernel(g, k, plus);
    g->base.api->kernel_free(&g->base, k);
    assert_int_equal(g->base.counters.mem_bytes, 0);
    g->base.api->close(&g->base);
}

static size_t binaries(char *path, size_t cap) {
    char **names = NULL;
    size_t n = 0;
    if (base_path_kind_of(cache) != BASE_PATH_DIR) return 0;
    assert_int_equal(base_list_dir(cache, &names, &n, NULL), ROTOR_OK);
    if (n) snprintf(path, cap, "%s/%s", cache, names[0]);
    base_names_free(names, n);
    return n;
}

/* ---- Binaries on disk ------------------------------------------------------------------------ */

static void binaries_are_used_again(void **state) {
    (void)state;
    char path[512];
    struct stat before, after;
    empty(cache);
    once(7, 1, 0);
    assert_int_equal(binaries(path, sizeof path), 1);
    assert_int_equal(stat(path, &before), 0);
    once(7, 0, 1);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* not written again */
    once(8, 1, 0);                                 /* another constant is another program */
    assert_int_equal(binaries(path, sizeof path), 2);
    once(7, 0, 1);
    once(8, 0, 1);
}

/* Writes a file of the first n bytes of data. */
static void put(const char *path, const uint8_t *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void a_damaged_binary_is_passed_over(void **state) {
    (void)state;
    char path[512];
    base_file f;
    empty(cache);
    once(7, 1, 0);
    assert_int_equal(binaries(path, sizeof path), 1);
    assert_int_equal(base_file_open(&f, path, false, NULL), ROTOR_OK);
    uint8_t *bad = malloc(f.size + 1);
    const size_t flips[] = {0, 8, 12, 16, 48, 56, sizeof(ocl_header), f.size / 2, f.size - 1};
    for (size_t i = 0; i < BASE_COUNT(flips); i++) {
        memcpy(bad, f.data, f.size);
        bad[flips[i]] ^= 1;
        put(path, bad, f.size);
        once(7, 1, 0);
        once(7, 0, 1); /* it was written anew */
    }
    memcpy(bad, f.data, f.size);
    bad[f.size] = 0;
    const size_t sizes[] = {0, 1, sizeof(ocl_header), f.size - 1, f.size + 1};
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        put(path, bad, sizes[i]);
        once(7, 1, 0);
    }
    free(bad);
    base_file_close(&f);
}

/* A whole file that only the driver can tell is not its own. */
static void a_binary_the_driver_refuses_is_passed_over(void **state) {
    (void)state;
    char path[512];
    base_file f;
    empty(cache);
    once(7, 1, 0);
    assert_int_equal(binaries(path, sizeof path), 1);
    assert_int_equal(base_file_open(&f, path, false, NULL), ROTOR_OK);
    uint8_t bad[sizeof(ocl_header) + 64];
    ocl_header h;
    memset(bad, 'x', sizeof bad);
    memcpy(&h, f.data, sizeof h);
    h.bytes = 64;
    base_sha256(bad + sizeof h, 64, h.content);
    memcpy(bad, &h, sizeof h);
    put(path, bad, sizeof bad);
    base_file_close(&f);
    once(7, 1, 0);
    once(7, 0, 1);
}

static void no_folder_for_binaries_is_no_error(void **state) {
    (void)state;
    empty(cache);
    put(cache, (const uint8_t *)"a file", 6);
    once(7, 1, 0);
    once(7, 1, 0);
    empty(cache);
    ocl *g = open_first(NULL);
    gpu_kernel *k = bump_kernel(g, 1);
    check_kernel(g, k, 1);
    g->base.api->kernel_free(&g->base, k);
    g->base.api->close(&g->base);
    assert_int_equal(base_path_kind_of(cache), BASE_PATH_NONE);
}

/* PoCL keeps its programs itself. */
static void pocl_gets_no_binaries(void **state) {
    (void)state;
    char path[512];
    gpu *g = NULL;
    rotor_error err = {0};
    empty(cache);
    gpu_opencl()->close(&open_first(NULL)->base); /* skips */
    assert_int_equal(gpu_opencl()->open(&g, 0, cache, &err), ROTOR_OK);
    const bool pocl = strstr(g->facts.driver, "Portable Computing Language") != NULL;
    gpu_kernel *k = bump_kernel((ocl *)g, 5);
    check_kernel((ocl *)g, k, 5);
    g->api->kernel_free(g, k);
    g->api->close(g);
    assert_int_equal(binaries(path, sizeof path), pocl ? 0 : 1);
}

/* ---- The compiler ---------------------------------------------------------------------------- */

static void a_text_that_does_not_compile(void **state) {
    (void)state;
    const gpu_source bad = {.name = "bad",
                            .text = "__kernel void bad(__global uint *x, uint n) {\n"
                                    "    x[0] = no_such_thing + n;\n}\n"};
    const uint32_t spec[] = {LX};
    rotor_error err = {0};
    gpu_kernel *k = NULL;
    ocl *g = open_first(NULL);
    assert_int_equal(g->base.api->kernel(&g->base, &bad, spec, 1, 1, 1, &k, &err), ROTOR_E_DEVICE);
    assert_null(k);
    assert_non_null(strstr(err.message, "kernel bad does not compile"));
    assert_non_null(strstr(err.message, "no_such_thing")); /* from the compiler's log */
    assert_non_null(strstr(err.message, g->base.facts.name));
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(g->base.counters.allocations, 0);
    g->base.api->close(&g->base);
}

/* A driver that offers sub-groups or the packed dot product and has no such function is served
 * without it, and without the other only when that has none either. */
#define WORKS                                                                                      \
    "struct params { uint n; uint add; };\n"                                                       \
    "__kernel void bump(__global const uint *x, __global uint *y, struct params p) {\n"            \
    "    const uint i = (uint)get_global_id(0);\n"                                                 \
    "    if (i < p.n) y[i] = x[i] + p.add;\n"                                                      \
    "}\n"
#define WITHOUT(word) "#ifdef " word "\nuint y(uint x) { return no_such_thing(x); }\n#endif\n" WORKS

static void an_offer_the_compiler_does_not_keep(void **state) {
    (void)state;
    static const gpu_source lacks[] = {{.name = "bump", .text = WITHOUT("HAVE_SUBGROUPS")},
                                       {.name = "bump", .text = WITHOUT("HAVE_DOT")},
                                       {.name = "bump", .text = WORKS}};
    static const bool dot_left[] = {true, false, true}, sums_left[] = {false, false, true};
    const uint32_t spec[] = {LX};
    for (size_t i = 0; i < BASE_COUNT(lacks); i++) {
        rotor_error err = {0};
        gpu_kernel *k = NULL;
        ocl *g = open_first(NULL);
        g->base.facts.dot4 = g->base.facts.subgroup_sums = true;
        if (g->base.api->kernel(&g->base, &lacks[i], spec, 1, 2, 2, &k, &err) != ROTOR_OK)
            fail_msg("%s", err.message);
        assert_int_equal(g->base.facts.dot4, dot_left[i]);
        assert_int_equal(g->base.facts.subgroup_sums, sums_left[i]);
        check_kernel(g, k, 0);
        g->base.api->kernel_free(&g->base, k);
        g->base.api->close(&g->base);
    }
}

/* ---- The loader and devices ------------------------------------------------------------------ */

static void no_loader(void **state) {
    (void)state;
    static const char *const names[] = {"libNoSuchLoader.so.1", "libNoSuchLoader.so"};
    static const char *const other[] = {"libNoSuchLoader.so.1", "libm.so.6"};
    ocl_calls cl;
    rotor_error err = {0};
    assert_int_equal(ocl_load(&cl, names, 2, &err), ROTOR_E_NOTFOUND);
    assert_non_null(strstr(err.message, "libNoSuchLoader.so.1, libNoSuchLoader.so"));
    assert_int_equal(ocl_load(&cl, other, 2, &err), ROTOR_E_NOTFOUND);
    assert_non_null(strstr(err.message, "libm.so.6 has no clGetPlatformIDs"));
}

/* Devices of a machine that is not here: three platforms, the last without any. */
typedef struct fake {
    const char *name, *version, *profile, *extensions; /* as queried */
    cl_device_type type;                               /* CPU, GPU */
    size_t group;                                      /* largest */
    cl_bool compiler, little;                          /* as queried */
} fake;
static const fake fakes[] = {
    {"soft", "OpenCL 3.0 soft", "FULL_PROFILE", "", CL_DEVICE_TYPE_CPU, 4096, 1, 1},
    {"tiny", "OpenCL 1.2 x", "EMBEDDED_PROFILE", "", CL_DEVICE_TYPE_GPU, 256, 1, 1},
    {"any GPU", "OpenCL 3.0 y z", "FULL_PROFILE",
     "cl_khr_fp16 cl_khr_integer_dot_product cl_amd_device_attribute_query cl_khr_subgroups",
     CL_DEVICE_TYPE_GPU, 256, 1, 1},
    {"narrow", "OpenCL 1.2", "FULL_PROFILE", "", CL_DEVICE_TYPE_GPU, 128, 1, 1},
    {"old", "OpenCL 1.1 old", "FULL_PROFILE", "", CL_DEVICE_TYPE_GPU, 256, 1, 1},
    {"mute", "OpenCL 1.2 v", "FULL_PROFILE", "", CL_DEVICE_TYPE_CPU, 256, 0, 1},
    {"big", "OpenCL 1.2 v", "FULL_PROFILE", "", CL_DEVICE_TYPE_GPU, 256, 1, 0},
    {"board", "OpenCL 1.2 b", "FULL_PROFILE",
     "cl_khr_fp16_not cl_khr_subgroups cl_amd_device_attribute_query", CL_DEVICE_TYPE_ACCELERATOR,
     1024, 1, 1}};

static cl_int fake_platforms(cl_uint max, cl_platform_id *out, cl_uint *n) {
    (void)max;
    for (intptr_t i = 0; i < 3; i++) out[i] = (cl_platform_id)(i + 1);
    *n = 3;
    return CL_SUCCESS;
}
static cl_int no_platforms(cl_uint max, cl_platform_id *out, cl_uint *n) {
    (void)max, (void)out, (void)n;
    return -1001;
}
static cl_int answer(const void *p, size_t n, size_t max, void *out, size_t *got) {
    if (got) *got = n;
    if (!out) return CL_SUCCESS;
    if (max < n) return CL_INVALID_VALUE;
    memcpy(out, p, n);
    return CL_SUCCESS;
}
static cl_int fake_platform_info(cl_platform_id p, cl_platform_info what, size_t max, void *out,
                                 size_t *got) {
    (void)p, (void)what;
    return answer("Fakes", 6, max, out, got);
}
static cl_int fake_devices(cl_platform_id p, cl_device_type type, cl_uint max, cl_device_id *out,
                           cl_uint *n) {
    const intptr_t from[] = {0, 3, BASE_COUNT(fakes), BASE_COUNT(fakes)}, at = (intptr_t)p;
    assert_int_equal(type, CL_DEVICE_TYPE_ALL);
    if (from[at - 1] == from[at]) return CL_DEVICE_NOT_FOUND;
    *n = (cl_uint)(from[at] - from[at - 1]);
    assert_true(*n <= max);
    for (cl_uint i = 0; i < *n; i++) out[i] = (cl_device_id)(from[at - 1] + (intptr_t)i + 1);
    return CL_SUCCESS;
}
static cl_int fake_info(cl_device_id device, cl_device_info what, size_t max, void *out,
                        size_t *got) {
    const fake *f = &fakes[(intptr_t)device - 1];
    const cl_bool yes = 1;
    const cl_ulong bytes = 1 << 20;
    const cl_uint packed = 3, wavefront = 32;
#define TEXT(t)  answer(t, strlen(t) + 1, max, out, got)
#define VALUE(v) answer(&(v), sizeof(v), max, out, got)
    switch (what) {
    case CL_DEVICE_NAME:
        return TEXT(f->name);
    case CL_DEVICE_VERSION:
        return TEXT(f->version);
    case CL_DEVICE_PROFILE:
        return TEXT(f->profile);
    case CL_DEVICE_EXTENSIONS:
        return TEXT(f->extensions);
    case CL_DEVICE_VENDOR:
        return TEXT(" Somebody ");
    case CL_DRIVER_VERSION:
        return TEXT("12.3");
    case CL_DEVICE_TYPE:
        return VALUE(f->type);
    case CL_DEVICE_MAX_WORK_GROUP_SIZE:
        return VALUE(f->group);
    case CL_DEVICE_COMPILER_AVAILABLE:
        return VALUE(f->compiler);
    case CL_DEVICE_ENDIAN_LITTLE:
        return VALUE(f->little);
    case CL_DEVICE_AVAILABLE:
        return VALUE(yes);
    case CL_DEVICE_GLOBAL_MEM_SIZE:
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE:
    case CL_DEVICE_LOCAL_MEM_SIZE:
        return VALUE(bytes);
    case 0x1073:
        return VALUE(packed); /* dot products */
    case 0x4043:
        return VALUE(wavefront);
    default:
        return CL_INVALID_VALUE;
    }
}

static void devices_in_order(void **state) {
    (void)state;
    static const char *const order[] = {"any GPU", "board", "soft", "tiny",
                                        "narrow",  "old",   "big",  "mute"};
    static const char *const missing[] = {"",    "",    "",       "profile",
                                          "128", "1.1", "endian", "compiler"};
    const ocl_calls cl = {.GetPlatformIDs = fake_platforms,
                          .GetPlatformInfo = fake_platform_info,
                          .GetDeviceIDs = fake_devices,
                          .GetDeviceInfo = fake_info};
    ocl_row *rows = NULL;
    size_t n = 0;
    rotor_error err = {0};
    assert_int_equal(ocl_rows(&cl, &rows, &n, &err), ROTOR_OK);
    assert_int_equal(n, BASE_COUNT(fakes));
    for (size_t i = 0; i < n; i++) {
        const gpu_facts *f = &rows[i].facts;
        assert_string_equal(f->name, order[i]);
        assert_string_equal(f->driver, "Fakes (Somebody) 12.3");
        if (missing[i][0])
            assert_non_null(strstr(f->missing, missing[i]));
        else
            assert_string_equal(f->missing, "");
        assert_int_equal(f->software, i == 2 || i == 7);
        assert_int_equal(f->dot4, i == 0);
        assert_int_equal(f->subgroup, i < 2 ? 32 : i == 2 || i == 7 ? 1 : 0);
        assert_int_equal(f->subgroup_sums, i == 0); /* the other one's language is older */
        assert_int_equal(f->half_shaders, i == 0);
        assert_int_equal(f->max_alloc_bytes, 1 << 20);
    }
    assert_string_equal(rows[0].facts.version, "OpenCL 3.0");
    assert_string_equal(rows[4].facts.version, "OpenCL 1.2");
    base_free(rows);
    const ocl_calls none = {.GetPlatformIDs = no_platforms};
    assert_int_equal(ocl_rows(&none, &rows, &n, &err), ROTOR_E_NOTFOUND);
    assert_non_null(strstr(err.message, "/etc/OpenCL/vendors"));
}

static void a_device_that_is_not_there(void **state) {
    (void)state;
    gpu *g = NULL;
    rotor_error err = {0};
    size_t n = 0;
    gpu_opencl()->close(&open_first(NULL)->base); /* skips */
    assert_int_equal(gpu_opencl()->list(NULL, 0, &n, &err), ROTOR_OK);
    assert_int_equal(gpu_opencl()->open(&g, n, NULL, &err), ROTOR_E_NOTFOUND);
    assert_null(g);
}

/* ---- Drivers that fail ----------------------------------------------------------------------- */

static cl_int refuse_dispatch(cl_command_queue q, cl_kernel k, cl_uint dim, const size_t *from,
                              const size_t *global, const size_t *local, cl_uint n,
                              const cl_event *list, cl_event *event) {
    (void)q, (void)k, (void)dim, (void)from, (void)global, (void)local, (void)n, (void)list;
    (void)event;
    return CL_OUT_OF_RESOURCES;
}
static cl_int failed_wait(cl_uint n, const cl_event *events) {
    (void)n, (void)events;
    return CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST;
}
static cl_int failed_event(cl_event event, cl_event_info what, size_t max, void *out, size_t *got) {
    const cl_int status = -9999;
    (void)event, (void)what;
    return answer(&status, sizeof status, max, out, got);
}
static cl_int refuse_fill(cl_command_queue q, cl_mem m, const void *pattern, size_t pattern_bytes,
                          size_t at, size_t bytes, cl_uint n, const cl_event *list,
                          cl_event *event) {
    (void)q, (void)m, (void)pattern, (void)pattern_bytes, (void)at, (void)bytes, (void)n;
    (void)list, (void)event;
    return CL_MEM_OBJECT_ALLOCATION_FAILURE;
}
static cl_mem refuse_buffer(cl_context c, cl_mem_flags flags, size_t bytes, void *host,
                            cl_int *code) {
    (void)c, (void)flags, (void)bytes, (void)host;
    *code = CL_OUT_OF_RESOURCES;
    return NULL;
}

static void says(const ocl *g, const rotor_error *err, const char *call, const char *code) {
    assert_non_null(strstr(err->message, g->base.facts.name));
    assert_non_null(strstr(err->message, g->base.facts.driver));
    assert_non_null(strstr(err->message, call));
    assert_non_null(strstr(err->message, code));
}

static void failures_have_names(void **state) {
    (void)state;
    uint32_t out[N];
    rotor_error err = {0};
    ocl *g = open_first(NULL);
    gpu_kernel *k = bump_kernel(g, 2);
    const ocl_calls real = g->cl;
    g->cl.EnqueueNDRangeKernel = refuse_dispatch;
    assert_int_equal(run_kernel(g, k, out, &err), ROTOR_E_DEVICE);
    says(g, &err, "clEnqueueNDRangeKernel", "OUT_OF_RESOURCES (-5)");
    g->cl = real;
    g->cl.WaitForEvents = failed_wait;
    g->cl.GetEventInfo = failed_event;
    assert_int_equal(run_kernel(g, k, out, &err), ROTOR_E_DEVICE);
    says(g, &err, "waiting", "(-9999)");
    g->cl = real;
    g->cl.EnqueueFillBuffer = refuse_fill;
    assert_int_equal(run_kernel(g, k, out, &err), ROTOR_E_NOMEM);
    says(g, &err, "clEnqueueFillBuffer", "MEM_OBJECT_ALLOCATION_FAILURE (-4)");
    g->cl = real;
    g->cl.CreateBuffer = refuse_buffer;
    assert_int_equal(run_kernel(g, k, out, &err), ROTOR_E_NOMEM);
    says(g, &err, "clCreateBuffer", "OUT_OF_RESOURCES (-5)");
    g->cl = real;
    gpu_mem *m = NULL;
    assert_int_equal(
        g->base.api->alloc(&g->base, g->base.facts.max_alloc_bytes + 4, false, &m, &err),
        ROTOR_E_NOMEM);
    assert_null(m);
    assert_int_equal(g->base.counters.mem_bytes, 0);
    check_kernel(g, k, 2);
    g->base.api->kernel_free(&g->base, k);
    g->base.api->close(&g->base);
}

static cl_int refuse_read(cl_command_queue q, cl_mem m, cl_bool wait, size_t at, size_t bytes,
                          void *dst, cl_uint n, const cl_event *list, cl_event *event) {
    (void)q, (void)m, (void)wait, (void)at, (void)bytes, (void)dst, (void)n, (void)list;
    (void)event;
    return CL_OUT_OF_RESOURCES;
}

/* A driver that takes the host's pages and fails when they are used fails on another context. */
static void an_import_is_tried_elsewhere(void **state) {
    (void)state;
    rotor_error err = {0};
    gpu_mem *m = NULL;
    ocl *g = open_first(NULL);
    const size_t page = base_page_bytes();
    uint8_t *block = base_alloc_aligned(2 * page);
    assert_non_null(block);
    const void *host = block + (page - (uintptr_t)block % page) % page;
    const ocl_calls real = g->cl;
    gpu_kernel *k = bump_kernel(g, 2);
    if (g->base.facts.imports) {
        g->cl.EnqueueReadBuffer = refuse_read;
        assert_int_equal(gpu_opencl()->import(&g->base, host, page, &m, &err), ROTOR_E_UNSUPPORTED);
        assert_null(m);
        g->cl = real;
        assert_false(g->base.facts.imports);
        assert_int_equal(g->base.counters.imported, 0);
        check_kernel(g, k, 2);
    }
    g->base.api->kernel_free(&g->base, k);
    g->base.api->close(&g->base);
    base_free_aligned(block);
}

/* What a compiler has to say of a kernel that it takes is nobody's business. */
static void compilers_keep_warnings_to_themselves(void **state) {
    (void)state;
    static const char text[] =
        "struct params { uint n; };\n"
        "__kernel __attribute__((reqd_work_group_size(SPEC_0, 1, 1))) void odd(\n"
        "    __global uint *y, const struct params p) {\n"
        "    if (p.n && SPEC_1) y[0] = p.n / (SPEC_1 - 7);\n"
        "}\n";
    const gpu_source odd = {.name = "odd", .text = text};
    const uint32_t spec[] = {LX, 7};
    char log[4096] = "";
    rotor_error err = {0};
    gpu_kernel *k = NULL;
    ocl *g = open_first(NULL);
    if (g->base.api->kernel(&g->base, &odd, spec, 2, 1, 1, &k, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    g->cl.GetProgramBuildInfo(k->program, g->device, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log,
                              NULL);
    if (strstr(log, "warning")) fail_msg("%s", log);
    g->base.api->kernel_free(&g->base, k);
    g->base.api->close(&g->base);
}

/* Every allocation and read fails once: an error, never a leak or a wrong result. */
static void memory_that_runs_out(void **state) {
    (void)state;
    uint32_t out[N];
    const uint32_t spec[] = {LX, 3};
    gpu_opencl()->close(&open_first(NULL)->base); /* skips; the driver is up */
    for (int from_disk = 0; from_disk < 2; from_disk++)
        for (long n = 1, fired = 1; fired; n++) {
            rotor_error err = {0};
            gpu *g = NULL;
            gpu_kernel *k = NULL;
            if (!from_disk) empty(cache);
            base_fault_after(n);
            rotor_status st = open_keeping(&g, cache, &err);
            if (st == ROTOR_OK) st = g->api->kernel(g, &bump, spec, 2, 2, 2, &k, &err);
            if (st == ROTOR_OK) st = run_kernel((ocl *)g, k, out, &err);
            fired = base_fault_fired();
            base_fault_after(0);
            if (st == ROTOR_OK)
                for (uint32_t i = 0; i < N; i++) assert_int_equal(out[i], i * i + 1003);
            else
                assert_int_equal(st, ROTOR_E_NOMEM);
            if (!fired) assert_int_equal(st, ROTOR_OK);
            if (g) g->api->kernel_free(g, k);
            if (g) assert_int_equal(g->counters.mem_bytes, 0);
            if (g) g->api->close(g);
            assert_true(n < 1000);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_loader),
        cmocka_unit_test(an_import_is_tried_elsewhere),
        cmocka_unit_test(compilers_keep_warnings_to_themselves),
        cmocka_unit_test(devices_in_order),
        cmocka_unit_test(a_device_that_is_not_there),
        cmocka_unit_test(binaries_are_used_again),
        cmocka_unit_test(a_damaged_binary_is_passed_over),
        cmocka_unit_test(a_binary_the_driver_refuses_is_passed_over),
        cmocka_unit_test(no_folder_for_binaries_is_no_error),
        cmocka_unit_test(pocl_gets_no_binaries),
        cmocka_unit_test(a_text_that_does_not_compile),
        cmocka_unit_test(an_offer_the_compiler_does_not_keep),
        cmocka_unit_test(failures_have_names),
        cmocka_unit_test(memory_that_runs_out),
    };
    if (!mkdtemp(folder)) return 1;
    snprintf(cache, sizeof cache, "%s/programs", folder);
    char pocl[64];
    snprintf(pocl, sizeof pocl, "%s/pocl", folder);
    setenv("POCL_CACHE_DIR", pocl, 1); /* PoCL keeps programs of its own */
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    empty(folder);
    return failed;
}
