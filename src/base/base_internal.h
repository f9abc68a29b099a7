/* SPDX-License-Identifier: MIT
 *
 * base_internal: what base's own files share. No other room includes this.
 */
#ifndef BASE_INTERNAL_H
#define BASE_INTERNAL_H

#include "base/base.h"

#include <stdatomic.h>

/* True exactly once, when the event armed by base_fault_after() is reached. */
bool mem_fault_now(void);

/* Zeroed pages on a 64-byte border (2 MB border when large); freed with os_pages_free. */
void *os_pages_alloc(size_t bytes);
void os_pages_free(void *p);

/* ---- What file_read.c, file_out.c and file_paths.c ask of the system; errno says why not. No call
 * ends early for a signal. Paths are UTF-8. ---- */

/* Reads or writes a piece: its bytes, 0 at the end of the file, or -1. */
int64_t os_read_at(int fd, void *p, size_t n_bytes, uint64_t at);
int64_t os_write(int fd, const void *p, size_t n_bytes);
int os_create_private(const char *path);                 /* new, for this user alone; -1 */
int os_create(const char *path, const char *instead_of); /* whoever could read that one; -1 */
bool os_skip(int fd, uint64_t n_bytes);                  /* from where it stands */
bool os_end_at(int fd, uint64_t size);                   /* cut or grown, and on the disk */
bool os_close(int fd);                                   /* it is closed in any case */
bool os_replace(const char *from, const char *to);       /* at once; both are whole */
void os_unlink(const char *path);                        /* if it can be */
bool os_mkdir(const char *path);                         /* EEXIST: something has that name */
/* Names in a folder, until each() returns false. False: it cannot be listed. */
bool os_list(const char *path, bool (*each)(void *user, const char *name), void *user);

long os_process_id(void);

/* Fills data of an open file of f->size bytes from memory it takes. */
rotor_status os_read_whole(base_file *f, int fd, rotor_error *err);

/* Refuses the calling process and all that it starts sockets and other processes' memory; with
 * processes_too, also new processes. For use between fork and exec; false: there is no way here. */
bool os_deny_network(bool processes_too);

/* Takes n blocks of 64 bytes into the eight words h of a SHA-256. */
typedef void sha256_blocks(uint32_t h[8], const uint8_t *p, size_t n);
sha256_blocks sha256_blocks_c;
/* The processor's own; NULL: it has none. */
sha256_blocks *sha256_blocks_cpu(void);
extern const uint32_t sha256_k[64]; /* the rounds' constants */

/* What trace.c adds to and trace_file.c writes. */
struct base_trace {
    base_out out;            /* the file to be */
    base_trace_event *event; /* [max], owned */
    size_t max, keep;        /* room; of which for the first */
    uint64_t begin_ns;       /* time 0 of the file */
    atomic_ullong n;         /* events added */
};

#endif
