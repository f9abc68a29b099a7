/* SPDX-License-Identifier: MIT
 *
 * The operating system, where it is Windows: what the machine has and how much of it is left, time
 * that passes, libraries and other programs.
 */
#include "base/base.h"
#include "base/base_internal.h"
#include "base/os_windows.h"

#include <errno.h>
#include <process.h>
#include <stdio.h>
#include <windows.h> /* before what needs its types */

#include <psapi.h>

/* ==== Memory ================================================================================== */

size_t base_page_bytes(void) {
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwPageSize;
}

uint64_t base_memory_limit_bytes(void) { return base_total_memory_bytes(); }

uint64_t base_available_memory_bytes(void) {
    MEMORYSTATUSEX s = {.dwLength = sizeof s};
    return GlobalMemoryStatusEx(&s) ? s.ullAvailPhys : base_total_memory_bytes() / 2;
}

static PROCESS_MEMORY_COUNTERS memory_now(void) {
    PROCESS_MEMORY_COUNTERS now = {.cb = sizeof now};
    GetProcessMemoryInfo(GetCurrentProcess(), &now, sizeof now);
    return now;
}

uint64_t base_peak_rss_bytes(void) { return memory_now().PeakWorkingSetSize; }

/* ==== Processors ============================================================================== */

int base_cpu_count(void) {
    const DWORD n = GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    return n ? (int)n : 1;
}

static uint64_t larger(uint64_t most, const void *entry) {
    const SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX *at = entry;
    return BASE_MAX(most, (uint64_t)at->Cache.CacheSize);
}

uint64_t base_cache_bytes(void) { return os_sum_of_processors(RelationCache, larger); }

/* Drivers are looked for by those parts of the program that are not in this build. */
bool base_may_have_gpu(void) { return false; }

/* ==== Time ==================================================================================== */

static uint64_t ticks(FILETIME t) { return (uint64_t)t.dwHighDateTime << 32 | t.dwLowDateTime; }

uint64_t base_thread_cpu_us(void) {
    FILETIME begin, end, kernel, user;
    if (!GetThreadTimes(GetCurrentThread(), &begin, &end, &kernel, &user)) return 0;
    return (ticks(kernel) + ticks(user)) / 10;
}

int64_t base_unix_s(void) {
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    return (int64_t)(ticks(now) / 10000000) - 11644473600; /* seconds since 1601 */
}

void base_sleep_us(uint64_t us) {
    const uint64_t until = base_now_us() + us;
    for (uint64_t now; (now = base_now_us()) < until;)
        Sleep((DWORD)BASE_MIN((until - now + 999) / 1000, (uint64_t)1000000));
}

void base_thread_yield(void) { SwitchToThread(); }

/* ==== Libraries and programs ================================================================== */

/* Beside the program or with the system; not in the current folder, where documents may lie. */
void *base_library_open(const char *name) {
    wchar_t *wide = os_wide_of(name);
    void *library =
        wide ? (void *)LoadLibraryExW(wide, NULL, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS) : NULL;
    const DWORD why = GetLastError();
    base_free(wide);
    SetLastError(why);
    return library;
}

void base_library_why(char *out, size_t n_bytes, const char *name) {
    const DWORD why = GetLastError();
    (void)name;
    if (why == ERROR_MOD_NOT_FOUND)
        *out = 0;
    else
        snprintf(out, n_bytes, "system error %lu", why);
}

void *base_library_symbol(void *library, const char *name) {
    const FARPROC f = GetProcAddress(library, name);
    void *symbol;
    memcpy(&symbol, &f, sizeof symbol);
    return symbol;
}

void base_library_close(void *library) {
    if (library) FreeLibrary(library);
}

/* The shell takes the outermost quotes away, whatever is inside. */
rotor_status base_run_shell(const char *command, const char *arg, int *exit_status,
                            rotor_error *err) {
    base_buf line = {0};
    base_buf_printf(&line, "\"%s \"%s\"\"", command, arg);
    wchar_t *wide = line.failed ? NULL : os_wide_of(line.data);
    base_buf_free(&line);
    if (!wide) return base_fail_nomem(err, "starting a program");
    *exit_status = _wsystem(wide);
    base_free(wide);
    if (*exit_status >= 0) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "cannot start '%s': %s", command, strerror(errno));
}

/* A read that Ctrl-C ends says so itself. */
bool base_wait_readable(int fd, bool (*interrupted)(void)) {
    (void)fd;
    return !(interrupted && interrupted());
}

long os_process_id(void) { return (long)GetCurrentProcessId(); }
