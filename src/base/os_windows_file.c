/* SPDX-License-Identifier: MIT
 *
 * The operating system, where it is Windows: files that are read. Paths are UTF-8 here and UTF-16
 * there. A file that is mapped cannot be cut meanwhile: the system refuses.
 */
#include "base/base.h"
#include "base/base_internal.h"
#include "base/os_windows.h"

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#include <windows.h>

wchar_t *os_wide_of(const char *text) {
    const int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, NULL, 0);
    wchar_t *wide = n > 0 ? base_alloc_array((size_t)n, sizeof *wide) : NULL;
    if (wide) MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, n);
    if (!wide) errno = EINVAL;
    return wide;
}

char *os_utf8_of(const wchar_t *wide) {
    const int n = WideCharToMultiByte(CP_UTF8, 0, wide, -1, NULL, 0, NULL, NULL);
    char *s = n > 0 ? base_alloc((size_t)n) : NULL;
    if (s) WideCharToMultiByte(CP_UTF8, 0, wide, -1, s, n, NULL, NULL);
    return s;
}

int64_t os_read_at(int fd, void *p, size_t n_bytes, uint64_t at) {
    enum { PIECE = 1 << 30 }; /* more does not fit what _read counts in */
    if (_lseeki64(fd, (int64_t)at, SEEK_SET) < 0) return -1;
    return _read(fd, p, (unsigned)BASE_MIN(n_bytes, (size_t)PIECE));
}

base_path_kind base_path_kind_of(const char *path) {
    struct _stat64 st;
    wchar_t *wide = os_wide_of(path);
    const bool found = wide && _wstat64(wide, &st) == 0;
    base_free(wide);
    if (!found) return BASE_PATH_NONE;
    return st.st_mode & S_IFDIR ? BASE_PATH_DIR : BASE_PATH_FILE;
}

static rotor_status map_all(base_file *f, rotor_error *err) {
    const HANDLE file = (HANDLE)_get_osfhandle(f->fd);
    const HANDLE map = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    void *p = map && !mem_fault_now() ? MapViewOfFile(map, FILE_MAP_READ, 0, 0, f->size) : NULL;
    if (map) CloseHandle(map); /* the view keeps it */
    if (!p)
        return base_fail(err, ROTOR_E_IO, "%s: cannot map %zu bytes: system error %lu", f->path,
                         f->size, GetLastError());
    f->data = p;
    f->mapped = true;
    return ROTOR_OK;
}

static rotor_status open_regular(base_file *f, bool map, rotor_error *err) {
    struct _stat64 st;
    if (_fstat64(f->fd, &st) != 0)
        return base_fail(err, ROTOR_E_IO, "%s: cannot read its size: %s", f->path, strerror(errno));
    if (!(st.st_mode & S_IFREG))
        return base_fail(err, ROTOR_E_IO, "%s: not a regular file", f->path);
    f->size = (size_t)st.st_size;
    f->mtime_ns = (int64_t)st.st_mtime * 1000000000;
    const uint64_t id[] = {(uint64_t)st.st_dev, base_hash64(f->path, strlen(f->path), 0), f->size,
                           (uint64_t)f->mtime_ns};
    f->id = base_hash64(id, sizeof id, 0);
    if (f->size == 0) return ROTOR_OK;
    return map ? map_all(f, err) : os_read_whole(f, f->fd, err);
}

rotor_status base_file_open(base_file *f, const char *path, bool map, rotor_error *err) {
    memset(f, 0, sizeof *f);
    f->fd = -1;
    f->path = base_strdup(path);
    wchar_t *wide = os_wide_of(path);
    if (wide && f->path) f->fd = _wopen(wide, _O_RDONLY | _O_BINARY | _O_NOINHERIT);
    const rotor_status st =
        f->fd < 0
            ? base_fail(err, ROTOR_E_IO, "%s: cannot open: %s", path,
                        wide ? strerror(errno) : "the name is not UTF-8, or there is no memory")
            : open_regular(f, map, err);
    base_free(wide);
    if (f->fd >= 0 && !f->mapped) {
        _close(f->fd);
        f->fd = -1;
    }
    if (st != ROTOR_OK) base_file_close(f);
    return st;
}

void base_file_close(base_file *f) {
    if (!f) return;
    if (f->mapped)
        UnmapViewOfFile(f->data);
    else
        base_free_aligned((void *)(uintptr_t)f->data);
    if (f->mapped) _close(f->fd);
    base_free(f->path);
    *f = (base_file){.fd = -1};
}

rotor_status base_file_unchanged(const base_file *f, rotor_error *err) {
    struct _stat64 st;
    if (!f->mapped) return ROTOR_OK;
    if (_fstat64(f->fd, &st) != 0 || (size_t)st.st_size != f->size ||
        (int64_t)st.st_mtime * 1000000000 != f->mtime_ns)
        return base_fail(
            err, ROTOR_E_IO,
            "%s: the file changed while it was in use (it had %zu bytes); load it again", f->path,
            f->size);
    return ROTOR_OK;
}

/* Pages of a mapped file leave when the system wants them. */
void base_file_drop(const base_file *f, size_t offset, size_t n_bytes) {
    (void)f, (void)offset, (void)n_bytes;
}
