/* SPDX-License-Identifier: MIT
 *
 * input_file: the bytes of an input as a file, for functions that take a path. One file per name
 * ending, written over each time, in memory where the system has a place for that, and gone when
 * the process ends well. And what every failure has to say.
 */
#ifndef FUZZ_INPUT_FILE_H
#define FUZZ_INPUT_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

typedef struct input_file {
    char path[64]; /* empty: not made yet */
    int fd;        /* open for writing */
} input_file;

enum { INPUT_FILES = 4 };
static input_file input_files[INPUT_FILES];

static void input_files_remove(void) {
    for (int i = 0; i < INPUT_FILES; i++)
        if (input_files[i].path[0]) unlink(input_files[i].path);
}

/* The path of file `which`, whose name ends in `end`, with these bytes in it. */
static const char *input_file_put(int which, const char *end, const void *data, size_t n_bytes) {
    input_file *f = &input_files[which];
    if (!f->path[0]) {
        snprintf(f->path, sizeof f->path, "%s/rotor_fuzz_XXXXXX%s",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", end);
        f->fd = mkstemps(f->path, (int)strlen(end));
        if (f->fd < 0) abort();
        atexit(input_files_remove); /* once for each file does no harm */
    }
    if (ftruncate(f->fd, 0) || pwrite(f->fd, data, n_bytes, 0) != (ssize_t)n_bytes) abort();
    return f->path;
}

/* One line, without bytes that a terminal would obey. */
static void must_be_told(rotor_status st, const rotor_error *err) {
    if (err->code != st || !err->message[0]) abort();
    for (const char *p = err->message; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7F) abort();
}

#endif
