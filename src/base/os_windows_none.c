/* SPDX-License-Identifier: MIT
 *
 * What the build for Windows does not do: sockets, other programs on a short lead, watches on
 * folders, links, downloads and counters of the processor. Each is refused in a sentence, or
 * answered as on a machine that has none.
 */
#include "base/base_internal.h"
#include "base/part.h"
#include "base/service.h"

#include <stdlib.h>

static rotor_status missing(rotor_error *err, const char *what) {
    return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: not in the Windows build", what);
}

/* ==== Programs on a short lead ================================================================ */

rotor_status base_child_run(const base_child *c, base_child_end *end, rotor_error *err) {
    (void)c, (void)end;
    return base_fail(err, ROTOR_E_NOTFOUND,
                     "documents that a parser has to take apart: not in the Windows build");
}

bool base_lock_self(void) { return false; }

bool os_deny_network(bool processes_too) {
    (void)processes_too;
    return false;
}

/* ==== Watches: folders are looked at now and then instead ===================================== */

base_watch_options base_watch_default(void) {
    return (base_watch_options){.quiet_ms = 500, .most_ms = 10000, .gone_ms = 5000};
}

rotor_status base_watch_open(base_watch **out, const char *root, const base_watch_options *opt,
                             rotor_error *err) {
    (void)opt;
    *out = NULL;
    return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: watching a folder: not in the Windows build",
                     root);
}

void base_watch_close(base_watch **w) { (void)w; }

rotor_status base_watch_wait(base_watch *w, uint32_t wait_ms, base_change_fn fn, void *user,
                             rotor_error *err) {
    (void)w, (void)wait_ms, (void)fn, (void)user;
    return missing(err, "watching a folder");
}

size_t base_watch_unwatched(const base_watch *w) {
    (void)w;
    return 0;
}

/* ==== Sockets and cages ======================================================================= */

rotor_status base_listen(const char *host, uint16_t port, int *fd, uint16_t *actual, base_ip *reach,
                         rotor_error *err) {
    (void)host, (void)port, (void)fd, (void)actual, (void)reach;
    return missing(err, "listening");
}

rotor_status base_sockets(rotor_error *err) { return missing(err, "addresses"); }

bool base_socket_wait(int fd, bool read, bool write, uint64_t us) {
    (void)fd, (void)read, (void)write, (void)us;
    return false;
}

bool base_others_can_read(const char *path) {
    (void)path;
    return false;
}

/* ==== Downloads and links ===================================================================== */

rotor_status base_part_open(base_part *p, const char *path, rotor_error *err) {
    *p = (base_part){.fd = -1};
    (void)path;
    return missing(err, "downloading");
}

rotor_status base_part_add(base_part *p, const void *data, size_t n_bytes, rotor_error *err) {
    (void)p, (void)data, (void)n_bytes;
    return missing(err, "downloading");
}

rotor_status base_part_cut(base_part *p, uint64_t size, rotor_error *err) {
    (void)p, (void)size;
    return missing(err, "downloading");
}

rotor_status base_part_sync(base_part *p, rotor_error *err) {
    (void)p;
    return missing(err, "downloading");
}

bool base_part_in_place(const base_part *p) {
    (void)p;
    return false;
}

void base_part_close(base_part *p) { (void)p; }

rotor_status base_symlink(const char *text, const char *path, rotor_error *err) {
    (void)text, (void)path;
    return missing(err, "links");
}

char *base_link_text(const char *path) {
    (void)path;
    return NULL;
}

/* ==== Counters ================================================================================ */

bool base_perf_open(base_perf *p, const char **why) {
    for (int i = 0; i < BASE_PERF_EVENTS; i++) p->fd[i] = -1;
    *why = "not in the Windows build";
    return false;
}

bool base_perf_read(const base_perf *p, uint64_t count[BASE_PERF_EVENTS]) {
    (void)p, (void)count;
    return false;
}

void base_perf_close(base_perf *p) { (void)p; }

void base_energy_read(base_energy *e, const char *folder) {
    (void)folder;
    memset(e, 0, sizeof *e);
}

double base_energy_joules(const base_energy *from, const base_energy *to) {
    (void)from, (void)to;
    return 0;
}
