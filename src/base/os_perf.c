/* SPDX-License-Identifier: MIT
 *
 * The operating system: what the processor counts about its caches, as Linux hands it out
 * (perf_event_open). Counted are the calling thread and all threads that it starts afterwards, in
 * user mode. Containers and virtual machines often have none of it: that is an ordinary answer.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <errno.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/perf_event.h>
#include <sys/syscall.h>

static int open_one(uint64_t event) {
    struct perf_event_attr a = {.type = PERF_TYPE_HARDWARE,
                                .size = sizeof a,
                                .config = event,
                                .inherit = 1,
                                .exclude_kernel = 1,
                                .exclude_hv = 1};
    return (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

bool base_perf_open(base_perf *p, const char **why) {
    static const uint64_t events[BASE_PERF_EVENTS] = {
        PERF_COUNT_HW_INSTRUCTIONS, PERF_COUNT_HW_CACHE_REFERENCES, PERF_COUNT_HW_CACHE_MISSES};
    for (int i = 0; i < BASE_PERF_EVENTS; i++) p->fd[i] = -1;
    for (int i = 0; i < BASE_PERF_EVENTS; i++) {
        p->fd[i] = open_one(events[i]);
        if (p->fd[i] >= 0) continue;
        *why = errno == EACCES || errno == EPERM || errno == ENOSYS ? "not allowed here"
                                                                    : "no such counter here";
        base_perf_close(p);
        return false;
    }
    return true;
}
#else
bool base_perf_open(base_perf *p, const char **why) {
    for (int i = 0; i < BASE_PERF_EVENTS; i++) p->fd[i] = -1;
    *why = "not on this system";
    return false;
}
#endif

bool base_perf_read(const base_perf *p, uint64_t count[BASE_PERF_EVENTS]) {
    for (int i = 0; i < BASE_PERF_EVENTS; i++)
        if (p->fd[i] < 0 || read(p->fd[i], &count[i], sizeof count[i]) != sizeof count[i])
            return false;
    return true;
}

void base_perf_close(base_perf *p) {
    for (int i = 0; i < BASE_PERF_EVENTS; i++) {
        if (p->fd[i] >= 0) close(p->fd[i]);
        p->fd[i] = -1;
    }
}
