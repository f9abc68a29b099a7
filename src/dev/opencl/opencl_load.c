/* SPDX-License-Identifier: MIT
 *
 * The OpenCL loader, opened at run time: a machine without it runs everything else. And what the
 * loader's error codes are called.
 */
#include "dev/opencl/opencl.h"

#include <stdio.h>

static const char *const calls[] = {
#define OCL_NAME(name) "cl" #name,
    OCL_CALLS(OCL_NAME)
#undef OCL_NAME
};
_Static_assert(sizeof(ocl_calls) == BASE_COUNT(calls) * sizeof(void *), "one pointer a call");

static rotor_status all_calls(ocl_calls *out, void *library, const char *name, rotor_error *err) {
    void *at[BASE_COUNT(calls)];
    for (size_t i = 0; i < BASE_COUNT(calls); i++) {
        at[i] = base_library_symbol(library, calls[i]);
        if (!at[i])
            return base_fail(err, ROTOR_E_NOTFOUND,
                             "OpenCL: %s has no %s: it is no loader of OpenCL 1.2 or newer", name,
                             calls[i]);
    }
    memcpy(out, at, sizeof *out);
    return ROTOR_OK;
}

rotor_status ocl_load(ocl_calls *out, const char *const *names, size_t n, rotor_error *err) {
    char list[256] = "";
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        void *library = base_library_open(names[i]);
        if (library) {
            rotor_status st = all_calls(out, library, names[i], err);
            if (st != ROTOR_OK) base_library_close(library);
            return st;
        }
        int wrote = snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", names[i]);
        len = BASE_MIN(len + (size_t)wrote, sizeof list - 1);
    }
    return base_fail(err, ROTOR_E_NOTFOUND, "OpenCL: no loader on this machine: looked for %s",
                     list);
}

rotor_status ocl_load_default(ocl_calls *out, rotor_error *err) {
    static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so"};
    return ocl_load(out, names, BASE_COUNT(names), err);
}

const char *ocl_code_name(cl_int code) {
    static const struct {
        cl_int code;      /* as the driver returns it */
        const char *name; /* without CL_ */
    } names[] = {
        {-1, "DEVICE_NOT_FOUND"},
        {-2, "DEVICE_NOT_AVAILABLE"},
        {-3, "COMPILER_NOT_AVAILABLE"},
        {-4, "MEM_OBJECT_ALLOCATION_FAILURE"},
        {-5, "OUT_OF_RESOURCES"},
        {-6, "OUT_OF_HOST_MEMORY"},
        {-8, "MEM_COPY_OVERLAP"},
        {-11, "BUILD_PROGRAM_FAILURE"},
        {-12, "MAP_FAILURE"},
        {-13, "MISALIGNED_SUB_BUFFER_OFFSET"},
        {-14, "EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST"},
        {-15, "COMPILE_PROGRAM_FAILURE"},
        {-16, "LINKER_NOT_AVAILABLE"},
        {-17, "LINK_PROGRAM_FAILURE"},
        {-30, "INVALID_VALUE"},
        {-32, "INVALID_PLATFORM"},
        {-33, "INVALID_DEVICE"},
        {-34, "INVALID_CONTEXT"},
        {-36, "INVALID_COMMAND_QUEUE"},
        {-38, "INVALID_MEM_OBJECT"},
        {-42, "INVALID_BINARY"},
        {-43, "INVALID_BUILD_OPTIONS"},
        {-44, "INVALID_PROGRAM"},
        {-45, "INVALID_PROGRAM_EXECUTABLE"},
        {-46, "INVALID_KERNEL_NAME"},
        {-47, "INVALID_KERNEL_DEFINITION"},
        {-48, "INVALID_KERNEL"},
        {-49, "INVALID_ARG_INDEX"},
        {-50, "INVALID_ARG_VALUE"},
        {-51, "INVALID_ARG_SIZE"},
        {-52, "INVALID_KERNEL_ARGS"},
        {-53, "INVALID_WORK_DIMENSION"},
        {-54, "INVALID_WORK_GROUP_SIZE"},
        {-55, "INVALID_WORK_ITEM_SIZE"},
        {-57, "INVALID_EVENT_WAIT_LIST"},
        {-58, "INVALID_EVENT"},
        {-59, "INVALID_OPERATION"},
        {-61, "INVALID_BUFFER_SIZE"},
        {-63, "INVALID_GLOBAL_WORK_SIZE"},
        {-1001, "PLATFORM_NOT_FOUND_KHR"},
        {-9999, "illegal access of a buffer (NVIDIA)"},
    };
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (names[i].code == code) return names[i].name;
    return "unknown code";
}
