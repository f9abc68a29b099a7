/* SPDX-License-Identifier: MIT
 *
 * The operating system: waiting, for a while or for a key or Ctrl-C, whichever comes first.
 *
 * SIGINT is let in only while waiting (pselect): one that came between a look at the flag and a
 * plain read() would be noticed a key too late. It relies on every other thread of the program
 * blocking signals, as base's threads do.
 */
#define _GNU_SOURCE
#include "base/base.h"

#include <errno.h>
#include <signal.h>
#include <sys/select.h>
#include <time.h>

void base_sleep_us(uint64_t us) {
    struct timespec left = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

bool base_wait_readable(int fd, bool (*interrupted)(void)) {
    sigset_t interrupt, before;
    bool stopped = false;
    int ready = -1;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_BLOCK, &interrupt, &before);
    while (ready < 0 && !(stopped = interrupted && interrupted())) {
        fd_set fds;
        FD_ZERO(&fds);
        FD_SET(fd, &fds);
        ready = pselect(fd + 1, &fds, NULL, NULL, NULL, &before);
        if (ready < 0 && errno != EINTR) break; /* read() will say what is wrong */
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !stopped;
}
