/* SPDX-License-Identifier: MIT
 *
 * part: what downloads take, for the rooms that keep them (hub) and look at their beginnings
 * (tool): files that grow over several runs, sums of bytes that come in pieces, links, room on a
 * disk.
 */
#ifndef PART_H
#define PART_H

#include "base/base.h"

/* ---- SHA-256 of bytes that come in pieces: begin, add any number of times, end (random.c) ------
 */

typedef struct base_sha256_run {
    uint32_t h[8];     /* state after the whole blocks */
    uint8_t block[64]; /* the first n_bytes % 64 of it wait for the rest of a block */
    uint64_t n_bytes;  /* added so far */
} base_sha256_run;
void base_sha256_begin(base_sha256_run *r);
void base_sha256_add(base_sha256_run *r, const void *p, size_t n_bytes);
void base_sha256_end(base_sha256_run *r, uint8_t out[32]);

/* ---- A file that grows at its end, over several runs if need be (os_part.c) --------------------
 */

typedef struct base_part {
    int fd;        /* -1 when closed */
    char *path;    /* owned */
    uint64_t size; /* bytes in it now */
} base_part;
rotor_status base_part_open(base_part *p, const char *path, rotor_error *err); /* made if need be */
rotor_status base_part_add(base_part *p, const void *data, size_t n_bytes, rotor_error *err);
rotor_status base_part_cut(base_part *p, uint64_t size, rotor_error *err);
rotor_status base_part_sync(base_part *p, rotor_error *err); /* to the disk */
/* False: its name leads to another file by now, or to none. */
bool base_part_in_place(const base_part *p);
void base_part_close(base_part *p);

/* n bytes of an open file from byte at on, all of them or ROTOR_E_IO. */
rotor_status base_fd_read(int fd, uint64_t at, void *p, size_t n_bytes, rotor_error *err);

/* ---- Names and disks (os_part.c) ---------------------------------------------------------------
 */

rotor_status base_rename(const char *from, const char *to, rotor_error *err);
/* A symbolic link of any text, in place of what was at path. ROTOR_E_UNSUPPORTED: the file system
 * has none, or they are forbidden. */
rotor_status base_symlink(const char *text, const char *path, rotor_error *err);
char *base_link_text(const char *path); /* what a link says; base_free. NULL: no link */
rotor_status base_remove_dir(const char *path, rotor_error *err); /* empty; may be gone */
/* What a user may still write where path is or would be made; 0: nobody says. */
uint64_t base_free_disk_bytes(const char *path);

/* ---- Memory that is mostly a hole (os_part.c) --------------------------------------------------
 */

/* n_bytes of zeros that take memory only where they are written to; NULL: no room for addresses. */
void *base_hole_alloc(size_t n_bytes);
void base_hole_free(void *p, size_t n_bytes);

#endif
