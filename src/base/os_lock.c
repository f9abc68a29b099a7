/* SPDX-License-Identifier: MIT
 *
 * What a program that reads strangers' files may not ask of the kernel (seccomp).
 *
 * Two filters, both kept by everything the program starts later:
 *   a list of what is refused, set before another program begins: sockets, looking into other
 *     processes, mounts; on request, new processes too;
 *   a list of what alone is left, set by a parser about itself once it holds its file: reading and
 *     writing open descriptors, memory, the clock, the end. Then it can open nothing, not even to
 *     read, and whatever takes it over can only say something wrong about this one document.
 *
 * How a filter is written: os_filter.h. A server's cage: os_sandbox.c.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/base_internal.h"

#include "base/os_filter.h"

#if CAN_LOCK

/* Called between fork and exec: takes no memory. */
bool os_deny_network(bool processes_too) {
    struct sock_filter code[] = {
        HEAD, REFUSE_CALL(socket), REFUSE_CALL(socketpair), REFUSE_PRYING, ALLOW,
    };
    struct sock_filter alone[] = {
        HEAD,
        REFUSE_CALL(clone),
        IF(SYS_clone3),
        REFUSE(ENOSYS),
#ifdef SYS_fork
        REFUSE_CALL(fork),
        REFUSE_CALL(vfork),
#endif
        ALLOW,
    };
    return set_filter(code, BASE_COUNT(code)) &&
           (!processes_too || set_filter(alone, BASE_COUNT(alone)));
}

bool base_lock_self(void) {
    struct sock_filter code[] = {
        HEAD,
        ALLOW_CALL(read),
        ALLOW_CALL(write),
        ALLOW_CALL(readv),
        ALLOW_CALL(writev),
        ALLOW_CALL(lseek),
        ALLOW_CALL(fstat),
        ALLOW_CALL(newfstatat),
        ALLOW_CALL(close),
        ALLOW_CALL(mmap),
        ALLOW_CALL(munmap),
        ALLOW_CALL(mremap),
        ALLOW_CALL(mprotect),
        ALLOW_CALL(madvise),
        ALLOW_CALL(brk),
        ALLOW_CALL(futex),
        ALLOW_CALL(clock_gettime),
        ALLOW_CALL(getrandom),
        ALLOW_CALL(rt_sigreturn),
        ALLOW_CALL(rt_sigprocmask),
        ALLOW_CALL(getpid),
        ALLOW_CALL(gettid),
        ALLOW_CALL(restart_syscall),
        ALLOW_CALL(exit),
        ALLOW_CALL(exit_group),
        REFUSE(EPERM),
    };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && set_filter(code, BASE_COUNT(code));
}

#else

bool os_deny_network(bool processes_too) {
    (void)processes_too;
    return false;
}
bool base_lock_self(void) { return false; }

#endif
