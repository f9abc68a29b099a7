/* SPDX-License-Identifier: MIT
 *
 * Writing: a base_out is written under a temporary name beside the final one, flushed, synced and
 * renamed, so that readers see the old file or the whole new one.
 */
#include "base/base_internal.h"

#include <errno.h>
#include <stdio.h>

enum { OUT_BUF = 1 << 18 };

static rotor_status write_fd(base_out *o, const uint8_t *p, size_t n, rotor_error *err) {
    while (n) {
        const int64_t w = mem_fault_now() ? (errno = ENOSPC, -1) : os_write(o->fd, p, n);
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
    o->fd = os_create_private(o->tmp_path);
    return o->fd >= 0 ? ROTOR_OK : fail_out(o, err);
}

rotor_status base_out_open(base_out *o, const char *path, rotor_error *err) {
    char ending[24];
    snprintf(ending, sizeof ending, "%ld", os_process_id());
    if (!begin_out(o, path, ending)) return base_fail_nomem(err, "opening a file for writing");
    o->fd = os_create(o->tmp_path, path);
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
    if (!os_skip(o->fd, n_bytes))
        return base_fail(err, ROTOR_E_IO, "%s: cannot seek: %s", o->path, strerror(errno));
    o->pos += n_bytes;
    return ROTOR_OK;
}

static rotor_status finish(base_out *o, rotor_error *err) {
    ROTOR_TRY(flush(o, err));
    if (!os_end_at(o->fd, o->pos))
        return base_fail(err, ROTOR_E_IO, "%s: cannot finish writing: %s", o->path,
                         strerror(errno));
    int fd = o->fd;
    o->fd = -1;
    if (!os_close(fd) || !os_replace(o->tmp_path, o->path))
        return base_fail(err, ROTOR_E_IO, "%s: cannot rename into place: %s", o->path,
                         strerror(errno));
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
    if (o->fd >= 0) os_close(o->fd);
    if (o->tmp_path && o->path) os_unlink(o->tmp_path);
    base_free(o->tmp_path);
    base_free(o->path);
    base_free(o->buf);
    memset(o, 0, sizeof *o);
    o->fd = -1;
}
