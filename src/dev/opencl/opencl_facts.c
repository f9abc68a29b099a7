/* SPDX-License-Identifier: MIT
 *
 * Which OpenCL devices there are and what they can do. Every device of every platform counts,
 * whatever its name or maker; one that falls short of the baseline is listed with the reason.
 */
#include "dev/opencl/opencl.h"

#include <stdio.h>
#include <stdlib.h>

/* Queries of extensions that the headers of 1.2 do not name. */
enum {
    ASK_WARP_NVIDIA = 0x4003,
    ASK_WAVEFRONT_AMD = 0x4043,
    ASK_SUBGROUPS_INTEL = 0x4108,
    ASK_DOT = 0x1073,
    DOT_PACKED = 1,
    MIN_GROUP = 256,
    MIN_LOCAL_BYTES = GPU_LOCAL_BYTES
};

typedef struct asking {
    const ocl_calls *cl; /* the loader */
    cl_device_id device; /* who is asked */
    bool *no_room;       /* set when a text could not be kept */
} asking;

/* A number; 0 when the driver does not know the question. */
static uint64_t number(asking a, cl_device_info what) {
    uint8_t raw[8] = {0};
    size_t got = 0;
    if (a.cl->GetDeviceInfo(a.device, what, sizeof raw, raw, &got) != CL_SUCCESS) return 0;
    uint32_t narrow;
    uint64_t wide;
    memcpy(&narrow, raw, sizeof narrow);
    memcpy(&wide, raw, sizeof wide);
    return got == sizeof narrow ? narrow : got == sizeof wide ? wide : 0;
}

/* A text of any length, blanks around it taken away; NULL when there is none. Caller frees. */
static char *text_of(asking a, cl_device_info what) {
    size_t n = 0;
    if (a.cl->GetDeviceInfo(a.device, what, 0, NULL, &n) != CL_SUCCESS || n > 1 << 20) return NULL;
    char *raw = base_alloc(n + 1);
    if (!raw) {
        *a.no_room = true;
        return NULL;
    }
    if (a.cl->GetDeviceInfo(a.device, what, n, raw, NULL) != CL_SUCCESS) raw[0] = 0;
    size_t from = strspn(raw, " \t"), len = strlen(raw + from);
    while (len && strchr(" \t\n", raw[from + len - 1])) len--;
    memmove(raw, raw + from, len);
    raw[len] = 0;
    return raw;
}

static void copy_text(asking a, cl_device_info what, char *out, size_t cap) {
    char *t = text_of(a, what);
    snprintf(out, cap, "%s", t ? t : "");
    base_free(t);
}

/* Whether a list of words holds the word. */
static bool has_word(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = list ? strstr(list, word) : NULL; at; at = strstr(at + n, word))
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return true;
    return false;
}

static void driver_of(const ocl_calls *cl, cl_platform_id platform, asking a, gpu_facts *f) {
    char name[48] = "", version[40] = "";
    if (cl->GetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL) != CL_SUCCESS)
        snprintf(name, sizeof name, "OpenCL platform");
    copy_text(a, CL_DEVICE_VENDOR, f->driver, 32);
    copy_text(a, CL_DRIVER_VERSION, version, sizeof version);
    char vendor[32];
    memcpy(vendor, f->driver, sizeof vendor);
    snprintf(f->driver, sizeof f->driver, "%s%s%s%s %s", name, vendor[0] ? " (" : "", vendor,
             vendor[0] ? ")" : "", version);
}

/* "OpenCL 3.0" of "OpenCL 3.0 and what its maker adds"; returns the version as 300. */
static int version_of(asking a, gpu_facts *f) {
    copy_text(a, CL_DEVICE_VERSION, f->version, sizeof f->version);
    int major = 0, minor = 0;
    if (sscanf(f->version, "OpenCL %d.%d", &major, &minor) != 2) return 0;
    char *second = strchr(f->version + 7, ' ');
    if (second) *second = 0;
    return major * 100 + minor * 10;
}

/* On a CPU invocations are turns of a loop, which the compiler may or may not make vectors of. */
static uint32_t subgroup_of(asking a, const char *extensions) {
    if (number(a, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) return 1;
    if (has_word(extensions, "cl_nv_device_attribute_query"))
        return (uint32_t)number(a, ASK_WARP_NVIDIA);
    if (has_word(extensions, "cl_amd_device_attribute_query"))
        return (uint32_t)number(a, ASK_WAVEFRONT_AMD);
    size_t sizes[8] = {0}, got = 0, least = 0;
    if (!has_word(extensions, "cl_intel_required_subgroup_size") ||
        a.cl->GetDeviceInfo(a.device, ASK_SUBGROUPS_INTEL, sizeof sizes, sizes, &got) != CL_SUCCESS)
        return 0;
    for (size_t i = 0; i < got / sizeof *sizes; i++)
        if (!least || sizes[i] < least) least = sizes[i];
    return (uint32_t)least;
}

static void missing_of(asking a, int version, gpu_facts *f) {
    char profile[32];
    copy_text(a, CL_DEVICE_PROFILE, profile, sizeof profile);
    char *out = f->missing;
    const size_t cap = sizeof f->missing;
    if (!number(a, CL_DEVICE_AVAILABLE))
        snprintf(out, cap, "the driver says that it is not available");
    else if (!number(a, CL_DEVICE_COMPILER_AVAILABLE))
        snprintf(out, cap, "its driver has no compiler");
    else if (version < 120)
        snprintf(out, cap, "OpenCL 1.2 or newer needed, it has \"%s\"", f->version);
    else if (strcmp(profile, "FULL_PROFILE"))
        snprintf(out, cap, "the full profile needed, it has \"%s\"", profile);
    else if (!number(a, CL_DEVICE_ENDIAN_LITTLE))
        snprintf(out, cap, "it is big-endian");
    else if (f->max_group < MIN_GROUP)
        snprintf(out, cap, "groups of %d needed, it has at most %u", MIN_GROUP, f->max_group);
    else if (f->local_bytes < MIN_LOCAL_BYTES)
        snprintf(out, cap, "%d bytes of local memory needed, it has %u", MIN_LOCAL_BYTES,
                 f->local_bytes);
}

static bool facts_of(const ocl_calls *cl, ocl_row *r) {
    bool no_room = false;
    const asking a = {cl, r->device, &no_room};
    gpu_facts *f = &r->facts;
    copy_text(a, CL_DEVICE_NAME, f->name, sizeof f->name);
    driver_of(cl, r->platform, a, f);
    const int version = version_of(a, f);
    f->software = number(a, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU;
    f->unified = f->imports = number(a, CL_DEVICE_HOST_UNIFIED_MEMORY);
    f->heap_bytes = number(a, CL_DEVICE_GLOBAL_MEM_SIZE);
    f->max_alloc_bytes = f->max_bind_bytes = number(a, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    f->max_group = (uint32_t)BASE_MIN(number(a, CL_DEVICE_MAX_WORK_GROUP_SIZE), UINT32_MAX);
    f->local_bytes = (uint32_t)BASE_MIN(number(a, CL_DEVICE_LOCAL_MEM_SIZE), UINT32_MAX);
    f->units = (uint32_t)number(a, CL_DEVICE_MAX_COMPUTE_UNITS);
    char *extensions = text_of(a, CL_DEVICE_EXTENSIONS);
    f->subgroup = subgroup_of(a, extensions);
    f->subgroup_sums =
        f->subgroup >= 8 && (has_word(extensions, "cl_intel_subgroups") ||
                             (version >= 300 && has_word(extensions, "cl_khr_subgroups")));
    f->half_shaders = has_word(extensions, "cl_khr_fp16");
    f->dot4 = version >= 300 && has_word(extensions, "cl_khr_integer_dot_product") &&
              (number(a, ASK_DOT) & DOT_PACKED);
    base_free(extensions);
    missing_of(a, version, f);
    return !no_room;
}

static int rank(const gpu_facts *f) { return (f->missing[0] ? 2 : 0) + (f->software ? 1 : 0); }

/* Usable ones first, hardware before software, otherwise as the loader has them. */
static void sort_rows(ocl_row *rows, size_t n) {
    for (size_t i = 1; i < n; i++) {
        const ocl_row moved = rows[i];
        size_t at = i;
        for (; at && rank(&rows[at - 1].facts) > rank(&moved.facts); at--) rows[at] = rows[at - 1];
        rows[at] = moved;
    }
}

/* The devices of one platform, appended; false: no memory. A platform that has none or fails is
 * passed over. */
static bool add_platform(const ocl_calls *cl, cl_platform_id platform, ocl_row **rows, size_t *n) {
    enum { MOST = 64 };
    cl_device_id ids[MOST];
    cl_uint found = 0;
    if (cl->GetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MOST, ids, &found) != CL_SUCCESS)
        return true;
    found = BASE_MIN(found, (cl_uint)MOST);
    if (!found) return true;
    ocl_row *longer = base_realloc(*rows, (*n + found) * sizeof **rows);
    if (!longer) return false;
    *rows = longer;
    for (cl_uint i = 0; i < found; i++) {
        ocl_row *r = &longer[(*n)++];
        *r = (ocl_row){.platform = platform, .device = ids[i]};
        if (!facts_of(cl, r)) return false;
    }
    return true;
}

rotor_status ocl_rows(const ocl_calls *cl, ocl_row **rows, size_t *n, rotor_error *err) {
    enum { MOST = 32 };
    cl_platform_id platforms[MOST];
    cl_uint found = 0;
    cl_int code = cl->GetPlatformIDs(MOST, platforms, &found);
    if (code != CL_SUCCESS || !found)
        return base_fail(err, ROTOR_E_NOTFOUND,
                         "OpenCL: the loader finds no driver (none is named in "
                         "/etc/OpenCL/vendors/*.icd): clGetPlatformIDs: %s (%d)",
                         code == CL_SUCCESS ? "none" : ocl_code_name(code), code);
    ocl_row *made = NULL;
    size_t count = 0;
    for (cl_uint i = 0; i < BASE_MIN(found, (cl_uint)MOST); i++)
        if (!add_platform(cl, platforms[i], &made, &count)) {
            base_free(made);
            return base_fail_nomem(err, "listing OpenCL devices");
        }
    sort_rows(made, count);
    *rows = made, *n = count;
    return ROTOR_OK;
}
