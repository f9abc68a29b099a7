/* SPDX-License-Identifier: MIT
 *
 * The operating system: what stands under a name without following links, folders that only their
 * owner may enter, and one writer at a time.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static base_node_kind kind_of(mode_t mode) {
    if (S_ISREG(mode)) return BASE_NODE_FILE;
    if (S_ISDIR(mode)) return BASE_NODE_DIR;
    return S_ISLNK(mode) ? BASE_NODE_LINK : BASE_NODE_OTHER;
}

bool base_node_of(base_node *n, const char *path, bool follow) {
    struct stat st;
    *n = (base_node){.kind = BASE_NODE_NONE};
    if ((follow ? stat : lstat)(path, &st) != 0) {
        if (errno != ENOENT && errno != ENOTDIR) n->kind = BASE_NODE_OTHER;
        return false;
    }
    n->kind = kind_of(st.st_mode);
    n->size = (uint64_t)st.st_size;
    n->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    n->ctime_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
    n->dev = (uint64_t)st.st_dev;
    n->ino = (uint64_t)st.st_ino;
    return true;
}

char *base_path_absolute(const char *path) {
    char *real = realpath(path, NULL);
    char *copy = real ? base_strdup(real) : NULL;
    free(real);
    return copy;
}

rotor_status base_mkdir_private(const char *path, rotor_error *err) {
    if (mkdir(path, 0700) == 0 || errno == EEXIST) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot make folder: %s", path, strerror(errno));
}

rotor_status base_make_private(const char *path, rotor_error *err) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EEXIST)
        return base_fail(err, ROTOR_E_IO, "%s: cannot make: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ROTOR_OK;
}

rotor_status base_remove_file(const char *path, rotor_error *err) {
    if (unlink(path) == 0 || errno == ENOENT) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot remove: %s", path, strerror(errno));
}

rotor_status base_lock_take(int *lock, const char *path, rotor_error *err) {
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return base_fail(err, ROTOR_E_IO, "%s: cannot open: %s", path, strerror(errno));
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        const int why = errno;
        close(fd);
        if (why == EWOULDBLOCK)
            return base_fail(err, ROTOR_E_STATE, "%s: another program holds it", path);
        return base_fail(err, ROTOR_E_IO, "%s: cannot lock: %s", path, strerror(why));
    }
    *lock = fd;
    return ROTOR_OK;
}

void base_lock_drop(int *lock) {
    if (*lock >= 0) close(*lock);
    *lock = -1;
}
