/* SPDX-License-Identifier: MIT
 *
 * The operating system: files that grow over several runs (a download that was cut goes on where
 * it ended), links, renames, and the room there is on a disk.
 *
 * A base_part holds a beginning of the file and nothing else: what was added is there in order, and
 * a program killed at any moment leaves some beginning. It is on the disk after base_part_sync.
 */
#define _GNU_SOURCE
#include "base/part.h"
#include "base/base_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

rotor_status base_part_open(base_part *p, const char *path, rotor_error *err) {
    struct stat st;
    *p = (base_part){.fd = -1, .path = base_strdup(path)};
    if (!p->path) return base_fail_nomem(err, "opening a file");
    p->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
    if (p->fd < 0 || fstat(p->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rotor_status status = base_fail(err, ROTOR_E_IO, "%s: cannot write: %s", path,
                                        p->fd < 0 ? strerror(errno) : "not a regular file");
        base_part_close(p);
        return status;
    }
    p->size = (uint64_t)st.st_size;
    return ROTOR_OK;
}

rotor_status base_part_add(base_part *p, const void *data, size_t n, rotor_error *err) {
    for (const uint8_t *at = data; n;) {
        ssize_t w = mem_fault_now() ? (errno = ENOSPC, -1) : write(p->fd, at, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0)
            return base_fail(err, ROTOR_E_IO, "%s: cannot write at byte %llu: %s", p->path,
                             (unsigned long long)p->size, strerror(errno));
        at += w;
        n -= (size_t)w;
        p->size += (uint64_t)w;
    }
    return ROTOR_OK;
}

rotor_status base_part_cut(base_part *p, uint64_t size, rotor_error *err) {
    if (ftruncate(p->fd, (off_t)size) != 0)
        return base_fail(err, ROTOR_E_IO, "%s: cannot cut: %s", p->path, strerror(errno));
    p->size = size;
    return ROTOR_OK;
}

rotor_status base_part_sync(base_part *p, rotor_error *err) {
    if (fsync(p->fd) == 0) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot finish writing: %s", p->path, strerror(errno));
}

bool base_part_in_place(const base_part *p) {
    struct stat open, named;
    return fstat(p->fd, &open) == 0 && stat(p->path, &named) == 0 && open.st_dev == named.st_dev &&
           open.st_ino == named.st_ino;
}

void base_part_close(base_part *p) {
    if (p->fd >= 0) close(p->fd);
    base_free(p->path);
    *p = (base_part){.fd = -1};
}

rotor_status base_rename(const char *from, const char *to, rotor_error *err) {
    if (rename(from, to) == 0) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot rename to %s: %s", from, to, strerror(errno));
}

rotor_status base_symlink(const char *text, const char *path, rotor_error *err) {
    if (unlink(path) != 0 && errno != ENOENT)
        return base_fail(err, ROTOR_E_IO, "%s: cannot replace: %s", path, strerror(errno));
    if (symlink(text, path) == 0) return ROTOR_OK;
    const bool none = errno == EPERM || errno == ENOSYS || errno == EOPNOTSUPP;
    return base_fail(err, none ? ROTOR_E_UNSUPPORTED : ROTOR_E_IO, "%s: cannot make a link: %s",
                     path, strerror(errno));
}

char *base_link_text(const char *path) {
    char text[4096];
    const ssize_t n = readlink(path, text, sizeof text);
    return n > 0 && (size_t)n < sizeof text ? base_strndup(text, (size_t)n) : NULL;
}

rotor_status base_remove_dir(const char *path, rotor_error *err) {
    if (rmdir(path) == 0 || errno == ENOENT) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot remove: %s", path, strerror(errno));
}

uint64_t base_free_disk_bytes(const char *path) {
    struct statvfs v;
    char *at = base_strdup(path);
    if (!at) return 0;
    while (statvfs(at, &v) != 0) { /* up to a folder that is there */
        char *slash = strrchr(at, '/');
        if (errno != ENOENT || !slash) return base_free(at), 0;
        if (slash == at) slash++;
        if (!*slash) return base_free(at), 0;
        *slash = 0;
    }
    base_free(at);
    return (uint64_t)v.f_bavail * v.f_frsize;
}

void *base_hole_alloc(size_t n_bytes) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *p = n_bytes ? mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, flags, -1, 0) : MAP_FAILED;
    return p == MAP_FAILED ? NULL : p;
}

void base_hole_free(void *p, size_t n_bytes) {
    if (p) munmap(p, n_bytes);
}
