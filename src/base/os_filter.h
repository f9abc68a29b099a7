/* SPDX-License-Identifier: MIT
 *
 * Filters of calls to the kernel (seccomp), in words. Included by os_lock.c and os_sandbox.c only.
 *
 * What is refused answers EPERM: a library that asks for a convenience goes on without it.
 * Calls of another word size or numbering than ours are refused as a whole. Built with a checker
 * (ASan, TSan) nothing is locked: they ask for much more than the program does.
 */
#ifndef BASE_OS_FILTER_H
#define BASE_OS_FILTER_H

#include "base/base.h"

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

/* Other processes, other views of the system, ways around the filter: nobody here needs them. */
#define REFUSE_PRYING                                                                              \
    REFUSE_CALL(ptrace), REFUSE_CALL(process_vm_readv), REFUSE_CALL(process_vm_writev),            \
        REFUSE_CALL(io_uring_setup), REFUSE_CALL(mount), REFUSE_CALL(umount2), REFUSE_CALL(setns), \
        REFUSE_CALL(unshare), REFUSE_CALL(bpf), REFUSE_CALL(perf_event_open),                      \
        REFUSE_CALL(userfaultfd), REFUSE_CALL(keyctl)

/* Calls of our own numbering go on with their number in hand. */
#define HEAD                                                                                       \
    LOAD(arch), UNLESS(OUR_ARCH), REFUSE(EPERM), LOAD(nr), BELOW(OTHER_NUMBERING), REFUSE(EPERM)

static inline bool set_filter(struct sock_filter *code, size_t n) {
    const struct sock_fprog program = {(unsigned short)n, code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

#endif
#endif
