/* SPDX-License-Identifier: MIT
 *
 * base/service.h: what a program needs that runs for others, for weeks: sockets that have a name
 * instead of a port or were opened by whoever started it, a word to that one, memory given back,
 * and a cage. A second header beside base.h: few files need it, and all would be compiled again.
 */
#ifndef BASE_SERVICE_H
#define BASE_SERVICE_H

#include "base/base.h"

/* ---- Sockets (os_service.c) ------------------------------------------------------------------ */

/* A socket at a path, for programs of this user alone (mode 0600). A name that nobody answers at is
 * what an earlier run left, and is taken over; one that somebody answers at is an error. */
rotor_status base_listen_path(const char *path, int *fd, rotor_error *err);
/* Removes the name if it is still the socket fd's. */
void base_unlisten_path(const char *path, int fd);

/* A listening socket that this program was started with: told apart, and made ready for use. */
typedef struct base_given {
    bool path;     /* it has a path, no port */
    uint16_t port; /* its port */
    base_ip reach; /* from where it can be reached; BASE_IP_LOOPBACK with path */
} base_given;
rotor_status base_take_socket(int fd, base_given *what, rotor_error *err);
/* Descriptors 3 … that systemd gives to the process pid: how many; 0: none, or not to this one. */
int base_count_given(const char *pid, const char *n);

/* A line to systemd ("READY=1\nSTATUS=…"): the socket that NOTIFY_SOCKET names, a path or @name.
 * *fd is the caller's; base_close_socket. */
rotor_status base_notify_open(const char *where, int *fd, rotor_error *err);
void base_notify(int fd, const char *text); /* -1: does nothing. Nobody waits for an answer */

bool base_others_can_read(const char *path); /* the group or everybody; false: nobody, or no file */
void base_give_memory_back(void);            /* what was freed goes from the heap to the system */
uint64_t base_rss_bytes(void);               /* memory in use now; 0: not known */

/* ---- A cage (os_sandbox.c) ------------------------------------------------------------------- */

/* What the calling thread, and all it starts from then on, may still do. The system's own folders
 * can always be read. Paths that do not exist are left out. */
typedef struct base_sandbox {
    const char *const *read;   /* [n_read] files, and folders with all that is in them */
    size_t n_read;             /* how many */
    const char *const *write;  /* [n_write] the same, to write, make and remove in, too */
    size_t n_write;            /* how many */
    const char *const *remove; /* [n_remove] folders in which names may be removed */
    size_t n_remove;           /* how many */
} base_sandbox;

typedef struct base_caged {
    bool files; /* Landlock: only these paths, no program, no TCP socket bound or connected */
    bool calls; /* seccomp: no other program, process or socket, nobody else's memory … */
} base_caged;

/* Locks as much as this kernel can; *what says what that was, all false: nothing has changed. There
 * is no way back. Threads can be started and sockets accepted as before. */
rotor_status base_sandbox_enter(const base_sandbox *s, base_caged *what, rotor_error *err);

#endif
