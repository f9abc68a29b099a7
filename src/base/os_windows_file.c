/* SPDX-License-Identifier: MIT
 *
 * The operating system, where it is Windows: files that are read. Paths are UTF-8 here and UTF-16
 * there. A file that is mapped cannot be cut meanwhile: the system refuses.
 */
#include "base/base.h"
#include "base/base_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#include <windows.h>

/* NULL: no memory, or not UTF-8. Caller frees. */
static wchar_t *wide_of(const char *path) {
    const int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *wide = n > 0 ? base_alloc_array((size_t)n, sizeof *wide) : NULL;
    if (wide) MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, n);
    return wide;
}

base_path_kind base_path_kind_of(const char *path) {
    struct _stat64 st;
    wchar_t *wide = wide_of(path);
    const bool found = wide && _wstat64(wide, &st) == 0;
    base_free(wide);
    if (!found) return BASE_PATH_NONE;
    return st.st_mode & S_IFDIR ? BASE_PATH_DIR : BASE_PATH_FILE;
}

static rotor_status read_all(base_file *f, rotor_error *err) {
    enum { PIECE = 1 << 30 }; /* more does not fit what _read counts in */
    uint8_t *data = base_alloc_aligned(f->size);
    if (!data)
        return base_fail(err, ROTOR_E_NOMEM, "%s: no memory for %zu bytes", f->path, f->size);
    for (size_t at = 0; at < f->size;) {
        const unsigned piece = (unsigned)BASE_MIN(f->size - at, (size_t)PIECE);
        const int n = mem_fault_now() ? -1 : _read(f->fd, data + at, piece);
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
    return map ? map_all(f, err) : read_all(f, err);
}

rotor_status base_file_open(base_file *f, const char *path, bool map, rotor_error *err) {
    memset(f, 0, sizeof *f);
    f->fd = -1;
    f->path = base_strdup(path);
    wchar_t *wide = wide_of(path);
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
