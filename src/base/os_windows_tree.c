/* SPDX-License-Identifier: MIT
 *
 * The operating system, where it is Windows: files that are written, names and what stands under
 * them, folders, locks and disks.
 *
 * Rights are those of the folder a file is made in: what others call private is as private as the
 * user's own folders are.
 */
#include "base/base.h"
#include "base/base_internal.h"
#include "base/os_windows.h"
#include "base/part.h"

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#include <windows.h>

/* The last error of the system as one of C. */
static bool fail_with(DWORD why) {
    errno = why == ERROR_FILE_NOT_FOUND || why == ERROR_PATH_NOT_FOUND     ? ENOENT
            : why == ERROR_ACCESS_DENIED || why == ERROR_SHARING_VIOLATION ? EACCES
            : why == ERROR_ALREADY_EXISTS || why == ERROR_FILE_EXISTS      ? EEXIST
            : why == ERROR_DISK_FULL                                       ? ENOSPC
                                                                           : EIO;
    return false;
}

/* ==== Writing ================================================================================= */

static int open_at(const char *path, int flags) {
    wchar_t *wide = os_wide_of(path);
    const int fd = wide ? _wopen(wide, flags | _O_BINARY | _O_NOINHERIT, _S_IREAD | _S_IWRITE) : -1;
    base_free(wide);
    return fd;
}

int64_t os_write(int fd, const void *p, size_t n_bytes) {
    return _write(fd, p, (unsigned)BASE_MIN(n_bytes, (size_t)1 << 30));
}

int os_create_private(const char *path) { return open_at(path, _O_WRONLY | _O_CREAT | _O_EXCL); }

int os_create(const char *path, const char *instead_of) {
    (void)instead_of;
    return open_at(path, _O_WRONLY | _O_CREAT | _O_TRUNC);
}

bool os_skip(int fd, uint64_t n_bytes) { return _lseeki64(fd, (int64_t)n_bytes, SEEK_CUR) >= 0; }
bool os_end_at(int fd, uint64_t size) {
    return _chsize_s(fd, (int64_t)size) == 0 && _commit(fd) == 0;
}
bool os_close(int fd) { return _close(fd) == 0; }

bool os_replace(const char *from, const char *to) {
    wchar_t *a = os_wide_of(from), *b = os_wide_of(to);
    const DWORD how = MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH;
    const bool done = a && b && (MoveFileExW(a, b, how) || fail_with(GetLastError()));
    base_free(a);
    base_free(b);
    return done;
}

static bool remove_name(const char *path, bool folder) {
    wchar_t *wide = os_wide_of(path);
    const bool done = wide && ((folder ? RemoveDirectoryW(wide) : DeleteFileW(wide)) ||
                               fail_with(GetLastError()));
    base_free(wide);
    return done;
}

void os_unlink(const char *path) { (void)remove_name(path, false); }

rotor_status base_remove_file(const char *path, rotor_error *err) {
    if (remove_name(path, false) || errno == ENOENT) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot remove: %s", path, strerror(errno));
}

rotor_status base_remove_dir(const char *path, rotor_error *err) {
    if (remove_name(path, true) || errno == ENOENT) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot remove: %s", path, strerror(errno));
}

rotor_status base_rename(const char *from, const char *to, rotor_error *err) {
    if (os_replace(from, to)) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot rename to %s: %s", from, to, strerror(errno));
}

/* ==== Names =================================================================================== */

static bool is_dir(DWORD attributes) {
    return attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_DIRECTORY;
}

bool os_mkdir(const char *path) {
    wchar_t *wide = os_wide_of(path);
    bool done = wide && (CreateDirectoryW(wide, NULL) || fail_with(GetLastError()));
    if (!done && wide && is_dir(GetFileAttributesW(wide))) errno = EEXIST; /* "C:", too */
    base_free(wide);
    return done;
}

bool os_list(const char *path, bool (*each)(void *user, const char *name), void *user) {
    WIN32_FIND_DATAW found;
    char *all = base_path_join(path, "*");
    wchar_t *wide = all ? os_wide_of(all) : NULL;
    HANDLE h = wide ? FindFirstFileW(wide, &found) : INVALID_HANDLE_VALUE;
    if (h == INVALID_HANDLE_VALUE && wide) fail_with(GetLastError());
    bool more = h != INVALID_HANDLE_VALUE;
    base_free(all);
    base_free(wide);
    if (!more) return false;
    bool whole = true;
    while (more) {
        char *name = os_utf8_of(found.cFileName);
        if (!name) errno = ENOMEM;
        whole = name != NULL;
        more = name && each(user, name);
        base_free(name);
        if (!more || FindNextFileW(h, &found)) continue;
        more = false;
        whole = GetLastError() == ERROR_NO_MORE_FILES || fail_with(GetLastError());
    }
    FindClose(h);
    return whole;
}

static HANDLE look_at(const char *path, bool follow) {
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    const DWORD how = FILE_FLAG_BACKUP_SEMANTICS | (follow ? 0 : FILE_FLAG_OPEN_REPARSE_POINT);
    wchar_t *wide = os_wide_of(path);
    const HANDLE h =
        wide ? CreateFileW(wide, FILE_READ_ATTRIBUTES, share, NULL, OPEN_EXISTING, how, NULL)
             : INVALID_HANDLE_VALUE;
    if (h == INVALID_HANDLE_VALUE && wide) fail_with(GetLastError());
    base_free(wide);
    return h;
}

/* From 100 ns since 1601 to 1 ns since 1970. */
static int64_t unix_ns(LARGE_INTEGER t) { return (t.QuadPart - 116444736000000000) * 100; }

static void fill_node(base_node *n, HANDLE h, const BY_HANDLE_FILE_INFORMATION *f) {
    FILE_BASIC_INFO times;
    n->kind = f->dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT ? BASE_NODE_LINK
              : is_dir(f->dwFileAttributes)                      ? BASE_NODE_DIR
                                                                 : BASE_NODE_FILE;
    n->size = (uint64_t)f->nFileSizeHigh << 32 | f->nFileSizeLow;
    n->dev = f->dwVolumeSerialNumber;
    n->ino = (uint64_t)f->nFileIndexHigh << 32 | f->nFileIndexLow;
    if (!GetFileInformationByHandleEx(h, FileBasicInfo, &times, sizeof times)) return;
    n->mtime_ns = unix_ns(times.LastWriteTime);
    n->ctime_ns = unix_ns(times.ChangeTime);
}

bool base_node_of(base_node *n, const char *path, bool follow) {
    BY_HANDLE_FILE_INFORMATION facts;
    *n = (base_node){.kind = BASE_NODE_NONE};
    const HANDLE h = look_at(path, follow);
    if (h == INVALID_HANDLE_VALUE) {
        if (errno != ENOENT) n->kind = BASE_NODE_OTHER;
        return false;
    }
    const bool found = GetFileType(h) == FILE_TYPE_DISK && GetFileInformationByHandle(h, &facts);
    if (found)
        fill_node(n, h, &facts);
    else
        n->kind = BASE_NODE_OTHER;
    CloseHandle(h);
    return found;
}

/* Without the mark for long names in front; with '/' between folders. */
static char *plain(wchar_t *path) {
    const bool network = wcsncmp(path, L"\\\\?\\UNC\\", 8) == 0;
    if (network) path[6] = L'\\';
    if (wcsncmp(path, L"\\\\?\\", 4) == 0) path += network ? 6 : 4;
    for (wchar_t *p = path; *p; p++)
        if (*p == L'\\') *p = L'/';
    return os_utf8_of(path);
}

char *base_path_absolute(const char *path) {
    wchar_t *real = NULL;
    const HANDLE h = look_at(path, true);
    if (h == INVALID_HANDLE_VALUE) return NULL;
    const DWORD n = GetFinalPathNameByHandleW(h, NULL, 0, 0);
    if (n) real = base_alloc_array((size_t)n + 1, sizeof *real);
    const bool found = real && GetFinalPathNameByHandleW(h, real, n + 1, 0);
    CloseHandle(h);
    char *utf8 = found ? plain(real) : NULL;
    base_free(real);
    return utf8;
}

rotor_status base_mkdir_private(const char *path, rotor_error *err) {
    if (os_mkdir(path) || errno == EEXIST) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO, "%s: cannot make folder: %s", path, strerror(errno));
}

rotor_status base_make_private(const char *path, rotor_error *err) {
    const int fd = os_create_private(path);
    if (fd < 0 && errno != EEXIST)
        return base_fail(err, ROTOR_E_IO, "%s: cannot make: %s", path, strerror(errno));
    if (fd >= 0) _close(fd);
    return ROTOR_OK;
}

/* ==== One holder at a time ==================================================================== */

rotor_status base_lock_take(int *lock, const char *path, rotor_error *err) {
    OVERLAPPED first = {0};
    const int fd = open_at(path, _O_RDWR | _O_CREAT);
    if (fd < 0) return base_fail(err, ROTOR_E_IO, "%s: cannot open: %s", path, strerror(errno));
    const DWORD how = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    if (!LockFileEx((HANDLE)_get_osfhandle(fd), how, 0, 1, 0, &first)) {
        const DWORD why = GetLastError();
        _close(fd);
        if (why == ERROR_LOCK_VIOLATION || why == ERROR_IO_PENDING)
            return base_fail(err, ROTOR_E_STATE, "%s: another program holds it", path);
        return base_fail(err, ROTOR_E_IO, "%s: cannot lock: system error %lu", path, why);
    }
    *lock = fd;
    return ROTOR_OK;
}

void base_lock_drop(int *lock) { base_fd_close(lock); }

/* ==== Descriptors, disks, memory that is mostly a hole ======================================== */

rotor_status base_fd_rewind(int fd, uint64_t *size, rotor_error *err) {
    struct _stat64 st;
    if (_fstat64(fd, &st) != 0 || (st.st_mode & S_IFREG && _lseeki64(fd, 0, SEEK_SET) != 0))
        return base_fail(err, ROTOR_E_IO, "cannot read the file's size: %s", strerror(errno));
    if (!(st.st_mode & S_IFREG)) return base_fail(err, ROTOR_E_IO, "not a regular file");
    *size = (uint64_t)st.st_size;
    return ROTOR_OK;
}

rotor_status base_fd_open(int *fd, const char *path, uint64_t *size, rotor_error *err) {
    int opened = open_at(path, _O_RDONLY);
    if (opened < 0)
        return base_fail(err, errno == ENOENT ? ROTOR_E_NOTFOUND : ROTOR_E_IO,
                         "%s: cannot open: %s", path, strerror(errno));
    const rotor_status st = base_fd_rewind(opened, size, err);
    if (st != ROTOR_OK) {
        base_fd_close(&opened);
        return base_fail_in(err, st, "%s", path);
    }
    *fd = opened;
    return ROTOR_OK;
}

void base_fd_close(int *fd) {
    if (*fd >= 0) _close(*fd);
    *fd = -1;
}

uint64_t base_free_disk_bytes(const char *path) {
    ULARGE_INTEGER mine = {.QuadPart = 0};
    char *at = base_strdup(path);
    for (bool there = false; at && !there;) { /* up to a folder that is there */
        wchar_t *wide = os_wide_of(*at ? at : ".");
        there = !wide || GetDiskFreeSpaceExW(wide, &mine, NULL, NULL);
        base_free(wide);
        char *slash = strrchr(at, '/');
        if (!slash && !*at) break;
        *(slash ? slash : at) = 0;
    }
    base_free(at);
    return mine.QuadPart;
}

void *base_hole_alloc(size_t n_bytes) {
    return n_bytes ? VirtualAlloc(NULL, n_bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE) : NULL;
}

void base_hole_free(void *p, size_t n_bytes) {
    (void)n_bytes;
    if (p) VirtualFree(p, 0, MEM_RELEASE);
}
