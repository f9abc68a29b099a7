/* SPDX-License-Identifier: MIT
 *
 * Reading: bytes of an open file, all that were asked for or none. How a system reads a piece is
 * its own affair (os_read_at).
 */
#include "base/base_internal.h"
#include "base/part.h"

#include <errno.h>

rotor_status base_fd_read(int fd, uint64_t at, void *p, size_t n_bytes, rotor_error *err) {
    for (size_t done = 0; done < n_bytes;) {
        const int64_t n = mem_fault_now()
                              ? (errno = EIO, -1)
                              : os_read_at(fd, (char *)p + done, n_bytes - done, at + done);
        if (n <= 0)
            return base_fail(err, ROTOR_E_IO, "read failed at byte %llu: %s",
                             (unsigned long long)(at + done),
                             n < 0 ? strerror(errno) : "the file became shorter");
        done += (size_t)n;
    }
    return ROTOR_OK;
}

rotor_status os_read_whole(base_file *f, int fd, rotor_error *err) {
    uint8_t *data = base_alloc_aligned(f->size);
    if (!data)
        return base_fail(err, ROTOR_E_NOMEM, "%s: no memory for %zu bytes", f->path, f->size);
    const rotor_status st = base_fd_read(fd, 0, data, f->size, err);
    if (st != ROTOR_OK) {
        base_free_aligned(data);
        return base_fail_in(err, st, "%s (%zu bytes)", f->path, f->size);
    }
    f->data = data;
    return ROTOR_OK;
}
