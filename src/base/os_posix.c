/* SPDX-License-Identifier: MIT
 *
 * The operating system: files, pages, clock, random seed.
 *
 * Reading: a base_file is a whole file, mapped read-only or copied to the heap. A mapping of a
 * file that somebody cuts raises SIGBUS; base_file_unchanged() is asked before work starts, and
 * reading into memory (map = false) avoids the question.
 * Writing: a base_out is written under a temporary name beside the final one, flushed, synced and
 * renamed, so that readers see the old file or the whole new one.
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

static rotor_status read_all(base_file *f, int fd, rotor_error *err) {
    uint8_t *data = base_alloc_aligned(f->size);
    if (!data)
        return base_fail(err, ROTOR_E_NOMEM, "%s: no memory for %zu bytes", f->path, f->size);
    for (size_t at = 0; at < f->size;) {
        ssize_t n = mem_fault_now() ? -1 : pread(fd, data + at, f->size - at, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            base_free_aligned(data);
            return base_fail(err, ROTOR_E_IO, "%s: read failed at byte %zu of %zu: %s", f->path, at,
                             f->size, n < 0 ? strerror(errno) : "the file became shorter");
        }
        at += (size_t)n;
    }
    f->data = data;
    return ROTOR_OK;
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
    return map ? map_all(f, fd, err) : read_all(f, fd, err);
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

enum { OUT_BUF = 1 << 18 };

static rotor_status write_fd(base_out *o, const uint8_t *p, size_t n, rotor_error *err) {
    while (n) {
        ssize_t w = mem_fault_now() ? (errno = ENOSPC, -1) : write(o->fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0)
            return base_fail(err, ROTOR_E_IO, "%s: cannot write at byte %llu: %s", o->path,
                             (unsigned long long)o->pos, strerror(errno));
        p += w;
        n -= (size_t)w;
    }
    return ROTOR_OK;
}

static rotor_status flush(base_out *o, rotor_error *err) {
    size_t n = o->buf_len;
    o->buf_len = 0;
    return write_fd(o, o->buf, n, err);
}

/* The name beside the last one, and what is written to. False: out of memory. */
static bool begin_out(base_out *o, const char *path, const char *ending) {
    base_buf tmp = {0};
    memset(o, 0, sizeof *o);
    o->fd = -1;
    base_buf_printf(&tmp, "%s.part-%s", path, ending);
    o->tmp_path = tmp.data;
    o->path = base_strdup(path);
    o->buf = base_alloc(OUT_BUF);
    if (o->path && !tmp.failed && o->buf) return true;
    base_out_abort(o);
    return false;
}

static rotor_status fail_out(base_out *o, rotor_error *err) {
    const rotor_status st =
        base_fail(err, ROTOR_E_IO, "%s: cannot write: %s", o->path, strerror(errno));
    base_free(o->tmp_path); /* whatever has that name is not ours */
    o->tmp_path = NULL;
    base_out_abort(o);
    return st;
}

rotor_status base_out_open_private(base_out *o, const char *path, rotor_error *err) {
    char ending[17];
    snprintf(ending, sizeof ending, "%016llx", (unsigned long long)base_random_seed());
    if (!begin_out(o, path, ending)) return base_fail_nomem(err, "opening a file for writing");
    o->fd = open(o->tmp_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return o->fd >= 0 ? ROTOR_OK : fail_out(o, err);
}

rotor_status base_out_open(base_out *o, const char *path, rotor_error *err) {
    char ending[24];
    snprintf(ending, sizeof ending, "%ld", (long)getpid());
    if (!begin_out(o, path, ending)) return base_fail_nomem(err, "opening a file for writing");
    o->fd = open(o->tmp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    struct stat old; /* that is replaced: who could not read it cannot read the new one */
    if (o->fd >= 0 && stat(path, &old) == 0 && S_ISREG(old.st_mode))
        (void)fchmod(o->fd, old.st_mode & 0777);
    return o->fd >= 0 ? ROTOR_OK : fail_out(o, err);
}

rotor_status base_out_write(base_out *o, const void *p, size_t n_bytes, rotor_error *err) {
    if (n_bytes > OUT_BUF - o->buf_len) ROTOR_TRY(flush(o, err));
    if (n_bytes > OUT_BUF) {
        ROTOR_TRY(write_fd(o, p, n_bytes, err));
    } else if (n_bytes) {
        memcpy(o->buf + o->buf_len, p, n_bytes);
        o->buf_len += n_bytes;
    }
    o->pos += n_bytes;
    return ROTOR_OK;
}

rotor_status base_out_zeros(base_out *o, uint64_t n_bytes, rotor_error *err) {
    static const uint8_t zeros[4096];
    for (; n_bytes; n_bytes -= BASE_MIN(n_bytes, sizeof zeros))
        ROTOR_TRY(base_out_write(o, zeros, (size_t)BASE_MIN(n_bytes, sizeof zeros), err));
    return ROTOR_OK;
}

rotor_status base_out_skip(base_out *o, uint64_t n_bytes, rotor_error *err) {
    ROTOR_TRY(flush(o, err));
    if (lseek(o->fd, (off_t)n_bytes, SEEK_CUR) < 0)
        return base_fail(err, ROTOR_E_IO, "%s: cannot seek: %s", o->path, strerror(errno));
    o->pos += n_bytes;
    return ROTOR_OK;
}

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

static rotor_status finish(base_out *o, rotor_error *err) {
    ROTOR_TRY(flush(o, err));
    if (ftruncate(o->fd, (off_t)o->pos) != 0 || fsync(o->fd) != 0)
        return base_fail(err, ROTOR_E_IO, "%s: cannot finish writing: %s", o->path,
                         strerror(errno));
    int fd = o->fd;
    o->fd = -1;
    if (close(fd) != 0 || rename(o->tmp_path, o->path) != 0)
        return base_fail(err, ROTOR_E_IO, "%s: cannot rename into place: %s", o->path,
                         strerror(errno));
    flush_folder(o->path);
    base_free(o->tmp_path);
    o->tmp_path = NULL;
    return ROTOR_OK;
}

rotor_status base_out_commit(base_out *o, rotor_error *err) {
    rotor_status st = finish(o, err);
    base_out_abort(o);
    return st;
}

void base_out_abort(base_out *o) {
    if (o->fd >= 0) close(o->fd);
    if (o->tmp_path && o->path) unlink(o->tmp_path);
    base_free(o->tmp_path);
    base_free(o->path);
    base_free(o->buf);
    memset(o, 0, sizeof *o);
    o->fd = -1;
}

/* ==== Paths =================================================================================== */

base_path_kind base_path_kind_of(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return BASE_PATH_NONE;
    return S_ISDIR(st.st_mode) ? BASE_PATH_DIR : BASE_PATH_FILE;
}

rotor_status base_mkdirs(const char *path, rotor_error *err) {
    char *copy = base_strdup(path);
    if (!copy) return base_fail_nomem(err, "making a folder");
    rotor_status st = ROTOR_OK;
    for (char *p = copy + 1; st == ROTOR_OK; p++) {
        if (*p != '/' && *p != 0) continue;
        char keep = *p;
        *p = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            st = base_fail(err, ROTOR_E_IO, "%s: cannot make folder: %s", copy, strerror(errno));
        *p = keep;
        if (keep == 0) break;
    }
    base_free(copy);
    return st;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

rotor_status base_list_dir(const char *path, char ***names, size_t *n, rotor_error *err) {
    DIR *dir = opendir(path);
    if (!dir) return base_fail(err, ROTOR_E_IO, "%s: cannot list: %s", path, strerror(errno));
    char **list = NULL;
    size_t count = 0, cap = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (count == cap) {
            cap = cap * 2 + 16;
            char **more = base_realloc(list, cap * sizeof *list);
            if (!more) goto nomem;
            list = more;
        }
        if (!(list[count] = base_strdup(e->d_name))) goto nomem;
        count++;
    }
    closedir(dir);
    if (count) qsort(list, count, sizeof *list, by_name);
    *names = list;
    *n = count;
    return ROTOR_OK;
nomem:
    closedir(dir);
    base_names_free(list, count);
    return base_fail_nomem(err, "listing a folder");
}

void base_names_free(char **names, size_t n) {
    for (size_t i = 0; i < n; i++) base_free(names[i]);
    base_free(names);
}

char *base_path_join(const char *dir, const char *name) {
    base_buf b = {0};
    size_t n = strlen(dir);
    base_buf_printf(&b, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    if (b.failed) base_buf_free(&b);
    return b.data;
}
