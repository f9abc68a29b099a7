/* SPDX-License-Identifier: MIT
 *
 * The operating system, where it is Windows: memory, clock, seed, threads and locks, and how a
 * program is started there. Files: os_windows_file.c. As much as builds of room lite need.
 */
#include "base/base.h"
#include "base/base_internal.h"
#include "base/os_windows.h"
#include "base/start.h"

#include <fcntl.h>
#include <io.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <windows.h> /* before what needs its types */

#include <ntsecapi.h>
#include <shellapi.h>

/* ==== Memory ================================================================================== */

void *os_pages_alloc(size_t bytes) {
    uint64_t total;
    if (!base_round_up_u64(bytes ? bytes : 1, 64, &total)) return NULL;
    void *p = _aligned_malloc(total, 64);
    return p ? memset(p, 0, total) : NULL;
}

void os_pages_free(void *p) { _aligned_free(p); }

uint64_t base_total_memory_bytes(void) {
    MEMORYSTATUSEX s = {.dwLength = sizeof s};
    return GlobalMemoryStatusEx(&s) ? s.ullTotalPhys : 0;
}

void base_advise(const void *p, size_t n_bytes, base_advice advice) {
    (void)p, (void)n_bytes, (void)advice;
}

/* ==== Clock, seed ============================================================================= */

uint64_t base_now_ns(void) {
    LARGE_INTEGER now, rate;
    QueryPerformanceFrequency(&rate);
    QueryPerformanceCounter(&now);
    const uint64_t n = (uint64_t)now.QuadPart, per_s = (uint64_t)rate.QuadPart;
    return n / per_s * 1000000000u + n % per_s * 1000000000u / per_s;
}

uint64_t base_now_us(void) { return base_now_ns() / 1000u; }

uint64_t base_random_seed(void) {
    uint64_t seed;
    return RtlGenRandom(&seed, sizeof seed) ? seed : base_now_ns() * 0x9E3779B97F4A7C15u;
}

/* ==== Threads ================================================================================= */

struct base_thread {
    HANDLE handle;      /* of the thread */
    void (*fn)(void *); /* what it runs */
    void *arg;          /* passed to fn */
};
struct base_mutex {
    SRWLOCK lock; /* held for writing */
};
struct base_cond {
    CONDITION_VARIABLE c; /* goes with an SRWLOCK */
};

static DWORD WINAPI trampoline(void *arg) {
    base_thread *t = arg;
    t->fn(t->arg);
    return 0;
}

rotor_status base_thread_start(base_thread **out, void (*fn)(void *), void *arg) {
    base_thread *t = base_alloc(sizeof *t);
    if (!t) return ROTOR_E_NOMEM;
    t->fn = fn;
    t->arg = arg;
    t->handle = CreateThread(NULL, 0, trampoline, t, 0, NULL);
    if (!t->handle) return base_free(t), ROTOR_E_NOMEM;
    *out = t;
    return ROTOR_OK;
}

void base_thread_join(base_thread **t) {
    if (!t || !*t) return;
    WaitForSingleObject((*t)->handle, INFINITE);
    CloseHandle((*t)->handle);
    base_free(*t);
    *t = NULL;
}

/* The system knows better, as long as nobody measures. */
void base_thread_pin(int cpu_index) { (void)cpu_index; }

/* Of zeros the system's locks and conditions begin. */
static rotor_status begin(void **out, size_t bytes) {
    *out = base_alloc(bytes);
    return *out ? ROTOR_OK : ROTOR_E_NOMEM;
}

rotor_status base_mutex_create(base_mutex **out) { return begin((void **)out, sizeof **out); }

void base_mutex_free(base_mutex **m) {
    if (!m) return;
    base_free(*m);
    *m = NULL;
}

void base_mutex_lock(base_mutex *m) { AcquireSRWLockExclusive(&m->lock); }
void base_mutex_unlock(base_mutex *m) { ReleaseSRWLockExclusive(&m->lock); }

rotor_status base_cond_create(base_cond **out) { return begin((void **)out, sizeof **out); }

void base_cond_free(base_cond **c) {
    if (!c) return;
    base_free(*c);
    *c = NULL;
}

void base_cond_wait(base_cond *c, base_mutex *m) {
    SleepConditionVariableSRW(&c->c, &m->lock, INFINITE, 0);
}

bool base_cond_wait_us(base_cond *c, base_mutex *m, uint64_t us) {
    const uint64_t ms = BASE_MIN((us + 999) / 1000, (uint64_t)INFINITE - 1);
    return SleepConditionVariableSRW(&c->c, &m->lock, (DWORD)ms, 0) != 0;
}

void base_cond_broadcast(base_cond *c) { WakeAllConditionVariable(&c->c); }

uint64_t os_sum_of_processors(int relation, uint64_t (*take)(uint64_t sum, const void *entry)) {
    DWORD bytes = 0;
    uint64_t sum = 0;
    GetLogicalProcessorInformationEx((LOGICAL_PROCESSOR_RELATIONSHIP)relation, NULL, &bytes);
    uint8_t *list = base_alloc(bytes);
    SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX *at = (void *)list;
    if (list &&
        GetLogicalProcessorInformationEx((LOGICAL_PROCESSOR_RELATIONSHIP)relation, at, &bytes))
        for (DWORD i = 0; i < bytes; i += at->Size) {
            at = (void *)(list + i);
            sum = take(sum, at);
        }
    base_free(list);
    return sum;
}

static uint64_t one_more(uint64_t sum, const void *entry) {
    (void)entry;
    return sum + 1;
}

/* Cores, not the threads they have: the entries of the system's list are one for each core. */
int base_core_count(void) {
    const int n = (int)os_sum_of_processors(RelationProcessorCore, one_more);
    return BASE_MAX(n, 1);
}

/* ==== How a program starts ==================================================================== */

static bool stands_somewhere(const wchar_t *path, size_t n) {
    wchar_t folder[MAX_PATH];
    if (n >= BASE_COUNT(folder)) return false;
    memcpy(folder, path, n * sizeof *path);
    folder[n] = 0;
    return GetFileAttributesW(folder) != INVALID_FILE_ATTRIBUTES;
}

/* A path there is, or that could be made in a folder there is, gets the one mark between folders
 * that the program knows, and that Windows knows as well. A text stays what it is. */
static void turn_slashes(wchar_t *word) {
    const wchar_t *last = wcsrchr(word, L'\\');
    if (!last ||
        !(stands_somewhere(word, wcslen(word)) || stands_somewhere(word, (size_t)(last - word))))
        return;
    for (; *word; word++)
        if (*word == L'\\') *word = L'/';
}

/* What getenv() gives is in the letters of the machine's country: here all of it becomes UTF-8. */
static void read_surroundings(void) {
    wchar_t *all = GetEnvironmentStringsW();
    for (wchar_t *at = all; at && *at; at += wcslen(at) + 1) {
        char *line = *at == L'=' ? NULL : os_utf8_of(at);
        if (line) _putenv(line);
        base_free(line);
    }
    if (all) FreeEnvironmentStringsW(all);
}

/* Where others have a home and a place for passing files, under the names they have there. */
static void name_places(const wchar_t *name, const wchar_t *is) {
    wchar_t line[MAX_PATH + 32], place[MAX_PATH];
    const DWORD n = GetEnvironmentVariableW(is, place, MAX_PATH);
    if (!n || n >= MAX_PATH || GetEnvironmentVariableW(name, NULL, 0)) return;
    for (wchar_t *p = place; *p; p++)
        if (*p == L'\\') *p = L'/';
    swprintf(line, BASE_COUNT(line), L"%ls=%ls", name, place);
    char *utf8 = os_utf8_of(line);
    if (utf8) _putenv(utf8);
    base_free(utf8);
}

static void prepare_output(void) {
    const HANDLE out = GetStdHandle(STD_OUTPUT_HANDLE);
    DWORD mode;
    SetConsoleOutputCP(CP_UTF8);
    if (GetConsoleMode(out, &mode)) /* colours come as the sequences of terminals */
        SetConsoleMode(out, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
}

char **base_program_start(char **argv) {
    int n = 0;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &n);
    char **args = wide ? base_alloc_array((size_t)n + 1, sizeof *args) : NULL;
    bool ok = args != NULL;
    for (int i = 0; ok && i < n; i++) {
        turn_slashes(wide[i]);
        ok = (args[i] = os_utf8_of(wide[i])) != NULL;
    }
    LocalFree(wide);
    read_surroundings();
    name_places(L"HOME", L"USERPROFILE");
    name_places(L"TMPDIR", L"TEMP");
    prepare_output();
    return ok ? args : argv;
}
