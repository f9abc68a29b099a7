/* SPDX-License-Identifier: MIT
 *
 * The operating system: sockets that listen, addresses, and whether the other side is still there.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static base_ip kind_of_v4(const struct in_addr *a) {
    const uint32_t ip = ntohl(a->s_addr);
    return ip >> 24 == 127 ? BASE_IP_LOOPBACK : ip == 0 ? BASE_IP_ANY : BASE_IP_OTHER;
}

static base_ip kind_of_v6(const struct in6_addr *a) {
    struct in_addr v4;
    if (IN6_IS_ADDR_LOOPBACK(a)) return BASE_IP_LOOPBACK;
    if (IN6_IS_ADDR_UNSPECIFIED(a)) return BASE_IP_ANY;
    if (!IN6_IS_ADDR_V4MAPPED(a)) return BASE_IP_OTHER;
    memcpy(&v4, a->s6_addr + 12, sizeof v4);
    return kind_of_v4(&v4);
}

base_ip base_ip_of(const char *text) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1) return kind_of_v4(&v4);
    if (inet_pton(AF_INET6, text, &v6) == 1) return kind_of_v6(&v6);
    return BASE_IP_NONE;
}

static base_ip kind_of(const struct sockaddr *a) {
    if (a->sa_family == AF_INET) return kind_of_v4(&((const struct sockaddr_in *)a)->sin_addr);
    if (a->sa_family == AF_INET6) return kind_of_v6(&((const struct sockaddr_in6 *)a)->sin6_addr);
    return BASE_IP_OTHER;
}

static uint16_t port_of(int fd) {
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0) return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

/* errno says why it is -1. */
static int listen_at(const struct addrinfo *a) {
    const int on = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 511) == 0) return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

rotor_status base_listen(const char *host, uint16_t port, int *fd, uint16_t *actual, base_ip *reach,
                         rotor_error *err) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    const int rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0)
        return base_fail(err, ROTOR_E_ARG, "cannot listen at '%s': %s", host, gai_strerror(rc));
    int got = -1, why = 0;
    for (const struct addrinfo *a = list; a && got < 0; a = a->ai_next) {
        got = listen_at(a);
        why = errno;
        if (got >= 0) *reach = kind_of(a->ai_addr);
    }
    freeaddrinfo(list);
    if (got < 0)
        return base_fail(err, ROTOR_E_IO, "cannot listen at %s port %u: %s%s", host, port,
                         strerror(why),
                         why == EADDRINUSE ? "; another program does, try --port N" : "");
    *fd = got;
    *actual = port_of(got);
    return ROTOR_OK;
}

bool base_peer_gone(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

rotor_status base_sockets(rotor_error *err) {
    (void)err;
    return ROTOR_OK;
}

bool base_socket_wait(int fd, bool read, bool write, uint64_t us) {
    struct pollfd p = {.fd = fd};
    if (read) p.events |= POLLIN;
    if (write) p.events |= POLLOUT;
    return poll(&p, 1, (int)BASE_MIN(us / 1000, (uint64_t)INT32_MAX)) > 0;
}

void base_stop_listening(int fd) { shutdown(fd, SHUT_RDWR); }

void base_close_socket(int fd) { close(fd); }
