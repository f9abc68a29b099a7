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
 * What is refused answers EPERM: a library that asks for a convenience goes on without it.
 * Calls of another word size or numbering than ours are refused as a whole. Built with a checker
 * (ASan, TSan) nothing is locked: they ask for much more than the program does.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/base_internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

#if defined(OUR_ARCH) && !BASE_CHECKED_BUILD
#define CAN_LOCK 1
#else
#define CAN_LOCK 0
#endif

#if CAN_LOCK

#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define REFUSE(why)       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (why))
#define ALLOW             BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define UNLESS(value)     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 1, 0)
#define IF(value)         BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, 1)
#define BELOW(value)      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)(value), 0, 1)
#define OTHER_NUMBERING   0x40000000u /* x32 */
#define REFUSE_CALL(name) IF(SYS_##name), REFUSE(EPERM)
#define ALLOW_CALL(name)  IF(SYS_##name), ALLOW

/* Calls of our own numbering go on with their number in hand. */
#define HEAD                                                                                       \
    LOAD(arch), UNLESS(OUR_ARCH), REFUSE(EPERM), LOAD(nr), BELOW(OTHER_NUMBERING), REFUSE(EPERM)

static bool set_filter(struct sock_filter *code, size_t n) {
    const struct sock_fprog program = {(unsigned short)n, code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Called between fork and exec: takes no memory. */
bool os_deny_network(bool processes_too) {
    struct sock_filter code[] = {
        HEAD,
        REFUSE_CALL(socket),
        REFUSE_CALL(socketpair),
        REFUSE_CALL(ptrace),
        REFUSE_CALL(process_vm_readv),
        REFUSE_CALL(process_vm_writev),
        REFUSE_CALL(io_uring_setup),
        REFUSE_CALL(mount),
        REFUSE_CALL(umount2),
        REFUSE_CALL(setns),
        REFUSE_CALL(unshare),
        REFUSE_CALL(bpf),
        REFUSE_CALL(perf_event_open),
        REFUSE_CALL(userfaultfd),
        REFUSE_CALL(keyctl),
        ALLOW,
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
