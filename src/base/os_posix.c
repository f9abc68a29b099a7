/* SPDX-License-Identifier: MIT
 *
 * The operating system: files, pages, clock, random seed.
 *
 * Reading: a base_file is a whole file, mapped read-only or copied to the heap. A mapping of a
 * file that somebody cuts raises SIGBUS; base_file_unchanged() is asked before work starts, and
 * reading into memory (map = false) avoids the question.
 * Writing and paths: the few calls that file_out.c and file_paths.c are made of.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/base_internal.h"
#include "base/start.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ==== Pages =================================================================================== */

enum { PAGE_HEADER = 64, HUGE = 2 << 20 };

/* Layout: | 64-byte header: offset to the start of the mapping, its length | block … | */
void *os_pages_alloc(size_t bytes) {
    uint64_t total;
    if (!base_round_up_u64(bytes, 64, &total) || !base_add_u64(total, PAGE_HEADER, &total))
        return NULL;
    size_t align = total >= HUGE ? HUGE : 64;
    uint8_t *raw = NULL;
    if (align == 64) {
        if (posix_memalign((void **)&raw, 64, total) != 0) return NULL;
        memset(raw, 0, total);
    } else {
        if (!base_round_up_u64(total, HUGE, &total)) return NULL;
        raw = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (raw == MAP_FAILED) return NULL;
        madvise(raw, total, MADV_HUGEPAGE);
    }
    ((uint64_t *)raw)[0] = align == 64 ? 0 : total;
    return raw + PAGE_HEADER;
}

void os_pages_free(void *p) {
    if (!p) return;
    uint8_t *raw = (uint8_t *)p - PAGE_HEADER;
    uint64_t mapped = ((uint64_t *)raw)[0];
    if (mapped)
        munmap(raw, mapped);
    else
        free(raw);
}

/* ==== Clock, seed, memory ===================================================================== */

uint64_t base_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t base_thread_cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t base_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t base_unix_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec;
}

uint64_t base_random_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = base_now_us() * 0x9E3779B97F4A7C15u ^ (uint64_t)getpid();
    return seed;
}

/* Nodes of the drivers for graphics and computing: PC, NVIDIA, AMD, WSL, Adreno, Mali, PowerVR. */
bool base_may_have_gpu(void) {
#ifdef __linux__
    static const char *const nodes[] = {"/dev/dri",      "/dev/nvidiactl", "/dev/kfd",
                                        "/dev/dxg",      "/dev/kgsl-3d0",  "/dev/mali0",
                                        "/dev/pvr_sync", "/dev/pvrsrvkm"};
    for (size_t i = 0; i < BASE_COUNT(nodes); i++)
        if (access(nodes[i], F_OK) == 0) return true;
    return false;
#else
    return true;
#endif
}

size_t base_page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

uint64_t base_total_memory_bytes(void) {
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t base_peak_rss_bytes(void) {
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (uint64_t)u.ru_maxrss * 1024u : 0;
}

uint64_t base_cache_bytes(void) {
    long bytes = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (bytes <= 0) bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? (uint64_t)bytes : 0;
}

char **base_program_start(char **argv) { return argv; }

/* ==== Reading ================================================================================= */

static int64_t mtime_ns(const struct stat *st) {
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

int64_t os_read_at(int fd, void *p, size_t n_bytes, uint64_t at) {
    ssize_t n;
    do n = pread(fd, p, n_bytes, (off_t)at);
    while (n < 0 && errno == EINTR);
    return n;
}

enum { HUGE_FILE = 32 << 20 };

static rotor_status map_all(base_file *f, int fd, rotor_error *err) {
    void *p = mem_fault_now() ? MAP_FAILED : mmap(NULL, f->size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return base_fail(err, ROTOR_E_IO, "%s: cannot map %zu bytes: %s", f->path, f->size,
                         strerror(errno));
    f->data = p;
    f->mapped = true;
#if defined(MADV_HUGEPAGE)
    /* Where the file system caches files in large pages, what is read from now on comes in those:
     * a tenth of a decode step was spent on page tables. Elsewhere this does nothing. */
    if (f->size >= HUGE_FILE) madvise(p, f->size, MADV_HUGEPAGE);
#endif
    return ROTOR_OK;
}

static rotor_status open_regular(base_file *f, int fd, bool map, rotor_error *err) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return base_fail(err, ROTOR_E_IO, "%s: cannot read its size: %s", f->path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return base_fail(err, ROTOR_E_IO, "%s: not a regular file", f->path);
    if ((uint64_t)st.st_size > SIZE_MAX / 2)
        return base_fail(err, ROTOR_E_IO, "%s: too large for this machine", f->path);
    f->size = (size_t)st.st_size;
    f->mtime_ns = mtime_ns(&st);
    const uint64_t id[] = {(uint64_t)st.st_dev, (uint64_t)st.st_ino, f->size,
                           (uint64_t)f->mtime_ns};
    f->id = base_hash64(id, sizeof id, 0);
    if (f->size == 0) return ROTOR_OK;
    return map ? map_all(f, fd, err) : os_read_whole(f, fd, err);
}

rotor_status base_file_open(base_file *f, const char *path, bool map, rotor_error *err) {
    memset(f, 0, sizeof *f);
    f->fd = -1;
    f->path = base_strdup(path);
    if (!f->path) return base_fail_nomem(err, "opening a file");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* pipes: refused below */
    rotor_status st;
    if (fd < 0)
        st = base_fail(err, ROTOR_E_IO, "%s: cannot open: %s", path, strerror(errno));
    else
        st = open_regular(f, fd, map, err);
    if (st == ROTOR_OK && f->mapped)
        f->fd = fd;
    else if (fd >= 0)
        close(fd);
    if (st != ROTOR_OK) base_file_close(f);
    return st;
}

rotor_status base_fd_rewind(int fd, uint64_t *size, rotor_error *err) {
    struct stat st;
    if (fstat(fd, &st) != 0 || (S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_SET) != 0))
        return base_fail(err, ROTOR_E_IO, "cannot read the file's size: %s", strerror(errno));
    if (!S_ISREG(st.st_mode)) return base_fail(err, ROTOR_E_IO, "not a regular file");
    *size = (uint64_t)st.st_size;
    return ROTOR_OK;
}

rotor_status base_fd_open(int *fd, const char *path, uint64_t *size, rotor_error *err) {
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (opened < 0)
        return base_fail(err, errno == ENOENT ? ROTOR_E_NOTFOUND : ROTOR_E_IO,
                         "%s: cannot open: %s", path, strerror(errno));
    const rotor_status st = base_fd_rewind(opened, size, err);
    if (st != ROTOR_OK) {
        close(opened);
        return base_fail_in(err, st, "%s", path);
    }
    *fd = opened;
    return ROTOR_OK;
}

void base_fd_close(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

void base_file_close(base_file *f) {
    if (!f) return;
    if (f->mapped)
        munmap((void *)(uintptr_t)f->data, f->size);
    else
        base_free_aligned((void *)(uintptr_t)f->data);
    if (f->fd >= 0 && f->mapped) close(f->fd);
    base_free(f->path);
    memset(f, 0, sizeof *f);
    f->fd = -1;
}

rotor_status base_file_unchanged(const base_file *f, rotor_error *err) {
    struct stat st;
    if (!f->mapped) return ROTOR_OK;
    if (fstat(f->fd, &st) != 0 || (uint64_t)st.st_size != f->size || mtime_ns(&st) != f->mtime_ns)
        return base_fail(
            err, ROTOR_E_IO,
            "%s: the file changed while it was in use (it had %zu bytes); load it again", f->path,
            f->size);
    return ROTOR_OK;
}

void base_file_drop(const base_file *f, size_t offset, size_t n_bytes) {
    if (!f->mapped || offset >= f->size) return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = (offset + page - 1) / page * page;
    size_t end = BASE_MIN(offset + n_bytes, f->size) / page * page;
    if (begin < end) madvise((void *)(uintptr_t)(f->data + begin), end - begin, MADV_DONTNEED);
}

void base_advise(const void *p, size_t n_bytes, base_advice advice) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)p / page * page;
    const uintptr_t end = ((uintptr_t)p + n_bytes + page - 1) / page * page;
    madvise((void *)begin, end - begin, advice == BASE_WILL_NEED ? MADV_WILLNEED : MADV_RANDOM);
}

/* ==== Writing ================================================================================= */

int64_t os_write(int fd, const void *p, size_t n_bytes) {
    ssize_t n;
    do n = write(fd, p, n_bytes);
    while (n < 0 && errno == EINTR);
    return n;
}

int os_create_private(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

int os_create(const char *path, const char *instead_of) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    struct stat old; /* who could not read it cannot read the new one */
    if (fd >= 0 && stat(instead_of, &old) == 0 && S_ISREG(old.st_mode))
        (void)fchmod(fd, old.st_mode & 0777);
    return fd;
}

long os_process_id(void) { return (long)getpid(); }
bool os_skip(int fd, uint64_t n_bytes) { return lseek(fd, (off_t)n_bytes, SEEK_CUR) >= 0; }
bool os_end_at(int fd, uint64_t size) { return ftruncate(fd, (off_t)size) == 0 && fsync(fd) == 0; }
bool os_close(int fd) { return close(fd) == 0; }
void os_unlink(const char *path) { (void)unlink(path); }

/* A rename is on the disk when its folder is. Where folders cannot be flushed, nothing is lost. */
static void flush_folder(const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    int fd = open(*folder ? folder : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

bool os_replace(const char *from, const char *to) {
    if (rename(from, to) != 0) return false;
    flush_folder(to);
    return true;
}

/* ==== Paths =================================================================================== */

base_path_kind base_path_kind_of(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return BASE_PATH_NONE;
    return S_ISDIR(st.st_mode) ? BASE_PATH_DIR : BASE_PATH_FILE;
}

bool os_mkdir(const char *path) { return mkdir(path, 0777) == 0; }

bool os_list(const char *path, bool (*each)(void *user, const char *name), void *user) {
    DIR *dir = opendir(path);
    if (!dir) return false;
    struct dirent *e;
    do {
        errno = 0;
        e = readdir(dir);
    } while (e && each(user, e->d_name));
    const int why = e ? 0 : errno; /* a list that breaks off is none: what is missing is not gone */
    closedir(dir);
    errno = why;
    return !why;
}
