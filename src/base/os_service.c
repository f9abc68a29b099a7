/* SPDX-License-Identifier: MIT
 *
 * The operating system: sockets with a path, sockets that were handed over, a word to the service
 * manager (the protocol of sd_notify: one datagram), and memory given back.
 */
#define _GNU_SOURCE
#include "base/service.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* ==== Sockets with a path ===================================================================== */

/* A leading @ means a name that is no file. *n: bytes of the address. */
static bool path_address(struct sockaddr_un *a, socklen_t *n, const char *path) {
    const size_t len = strlen(path);
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    if (!len || len >= sizeof a->sun_path) return false;
    memcpy(a->sun_path, path, len);
    if (path[0] == '@') a->sun_path[0] = 0;
    *n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] != '@'));
    return true;
}

static rotor_status bad_path(const char *path, const char *why, rotor_error *err) {
    return base_fail(err, ROTOR_E_IO, "cannot listen at unix:%s: %s", path, why);
}

/* What lies at the path makes way if it is a socket that nobody answers at. */
static rotor_status clear_path(const struct sockaddr_un *a, socklen_t n, rotor_error *err) {
    struct stat st;
    if (lstat(a->sun_path, &st) != 0) return ROTOR_OK;
    if (!S_ISSOCK(st.st_mode))
        return bad_path(a->sun_path, "something that is no socket has this name", err);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return bad_path(a->sun_path, strerror(errno), err);
    const bool answers = connect(fd, (const struct sockaddr *)a, n) == 0 || errno != ECONNREFUSED;
    close(fd);
    if (answers) return bad_path(a->sun_path, "another program listens there", err);
    if (unlink(a->sun_path) == 0) return ROTOR_OK;
    return bad_path(a->sun_path, strerror(errno), err);
}

rotor_status base_listen_path(const char *path, int *out, rotor_error *err) {
    struct sockaddr_un a;
    socklen_t n;
    if (!path_address(&a, &n, path) || path[0] == '@')
        return base_fail(err, ROTOR_E_ARG,
                         "cannot listen at unix:%s: expected a path of 1 to %zu bytes", path,
                         sizeof a.sun_path - 1);
    ROTOR_TRY(clear_path(&a, n, err));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return bad_path(path, strerror(errno), err);
    const mode_t before = umask(0177); /* no moment in which others could connect */
    const bool ok = bind(fd, (const struct sockaddr *)&a, n) == 0 && listen(fd, 511) == 0;
    const int why = errno;
    umask(before);
    if (ok) {
        *out = fd;
        return ROTOR_OK;
    }
    close(fd);
    return bad_path(path, strerror(why), err);
}

void base_unlisten_path(const char *path, int fd) {
    struct sockaddr_un a = {0};
    socklen_t n = sizeof a;
    struct stat st;
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0 || strcmp(a.sun_path, path) != 0) return;
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) unlink(path);
}

/* ==== Sockets that were handed over =========================================================== */

int base_count_given(const char *pid, const char *n) {
    if (!pid || !n || strtol(pid, NULL, 10) != (long)getpid()) return 0;
    const long count = strtol(n, NULL, 10);
    return count > 0 && count < 1024 ? (int)count : 0;
}

static base_ip reach_of(const struct sockaddr_storage *a, uint16_t *port) {
    char text[64] = "";
    const unsigned char *b;
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
        b = (const unsigned char *)&v4->sin_addr;
        *port = ntohs(v4->sin_port);
        snprintf(text, sizeof text, "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
    } else {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;
        *port = ntohs(v6->sin6_port);
        b = (const unsigned char *)&v6->sin6_addr;
        for (size_t i = 0; i < 16; i += 2) {
            const size_t at = strlen(text);
            snprintf(text + at, sizeof text - at, "%s%x", i ? ":" : "", b[i] << 8 | b[i + 1]);
        }
    }
    return base_ip_of(text);
}

rotor_status base_take_socket(int fd, base_given *what, rotor_error *err) {
    struct sockaddr_storage a = {0};
    int listens = 0;
    socklen_t n = sizeof a, n_int = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n_int) != 0 || !listens ||
        getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        return base_fail(err, ROTOR_E_ARG,
                         "descriptor %d, given by whoever started this program, is no socket that "
                         "listens",
                         fd);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    *what = (base_given){.path = a.ss_family == AF_UNIX, .reach = BASE_IP_LOOPBACK};
    if (!what->path) what->reach = reach_of(&a, &what->port);
    return ROTOR_OK;
}

/* ==== The service manager ===================================================================== */

rotor_status base_notify_open(const char *where, int *out, rotor_error *err) {
    struct sockaddr_un a;
    socklen_t n;
    if (!path_address(&a, &n, where) || (where[0] != '/' && where[0] != '@'))
        return base_fail(err, ROTOR_E_ARG,
                         "NOTIFY_SOCKET is %s: expected an absolute path or @name", where);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, n) == 0) {
        *out = fd;
        return ROTOR_OK;
    }
    const int why = errno;
    if (fd >= 0) close(fd);
    return base_fail(err, ROTOR_E_IO, "NOTIFY_SOCKET %s: %s", where, strerror(why));
}

void base_notify(int fd, const char *text) {
    if (fd >= 0) (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* ==== Files and memory ======================================================================== */

bool base_others_can_read(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & (S_IRGRP | S_IROTH));
}

void base_give_memory_back(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

uint64_t base_rss_bytes(void) {
    char text[128] = "";
    unsigned long long all, resident;
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0 || sscanf(text, "%llu %llu", &all, &resident) != 2) return 0;
    return resident * base_page_bytes();
}
