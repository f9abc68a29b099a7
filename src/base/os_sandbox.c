/* SPDX-License-Identifier: MIT
 *
 * A cage for a server that reads strangers' words: Landlock for files and ports, seccomp for calls
 * to the kernel. The first holds for the calling thread and what it starts, the second for all
 * threads; so the cage is entered before there are others, and there is no way out of it.
 *
 *   Landlock   nothing can be opened but the system's folders and the given paths, no program can
 *              be started, no TCP socket bound or connected (from version 4 on), no process outside
 *              be looked into
 *   seccomp    a list of what is refused, with EPERM: other programs and processes, new sockets,
 *              tracing, mounts, keys, what loads code into the kernel, typing into a terminal.
 *              What is left over is what threads, memory, open sockets and files need
 *
 * A thread and a process are made by the same call; its flags tell them apart. clone3 hides them in
 * memory, where a filter cannot look: it answers "no such call", and libraries go back to clone.
 * Built with a checker (ASan, TSan) nothing is locked, as in os_lock.c.
 */
#define _GNU_SOURCE
#include "base/base_internal.h"
#include "base/os_filter.h"
#include "base/service.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#if CAN_LOCK

#include <linux/sched.h>

#if defined(__has_include)
#if __has_include(<linux/landlock.h>)
#include <linux/landlock.h>
#define HAVE_LANDLOCK 1
#endif
#endif
#ifndef HAVE_LANDLOCK
#define HAVE_LANDLOCK 0
#endif

/* ==== Files =================================================================================== */

#if HAVE_LANDLOCK

/* Version by version what can be refused; headers may be older than the kernel. */
#define FS_EXECUTE     (1ULL << 0)
#define FS_WRITE_FILE  (1ULL << 1)
#define FS_READ_FILE   (1ULL << 2)
#define FS_READ_DIR    (1ULL << 3)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_FIRST_ALL   ((1ULL << 13) - 1)
#define FS_REFER       (1ULL << 13) /* 2 */
#define FS_TRUNCATE    (1ULL << 14) /* 3 */
#define FS_DEVICE      (1ULL << 15) /* 5 */
#define NET_BOTH       3ULL         /* 4: bind and connect of TCP */

/* The attribute of version 4; a shorter one is asked for where the kernel is older. */
typedef struct ruleset_attr {
    uint64_t files, net; /* what is refused unless a rule allows it */
} ruleset_attr;

static const uint64_t can_read = FS_READ_FILE | FS_READ_DIR;
static const uint64_t of_files = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE;

static int version(void) {
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static ruleset_attr refused_in(int v) {
    ruleset_attr a = {.files = FS_FIRST_ALL};
    if (v >= 2) a.files |= FS_REFER;
    if (v >= 3) a.files |= FS_TRUNCATE;
    if (v >= 5) a.files |= FS_DEVICE;
    if (v >= 4) a.net = NET_BOTH;
    return a;
}

/* A path that is not there needs no rule. */
static bool allow(int rules, const char *path, uint64_t access) {
    struct stat st;
    const int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return true;
    const bool folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    const struct landlock_path_beneath_attr rule = {
        .allowed_access = folder ? access : access & of_files, .parent_fd = fd};
    const bool ok = !rule.allowed_access || syscall(SYS_landlock_add_rule, rules,
                                                    LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
    close(fd);
    return ok;
}

/* Libraries that are opened later, certificates, the machine's own facts; nobody's documents. */
static const char *const system_folders[] = {"/usr", "/lib", "/lib64", "/etc",
                                             "/sys", "/dev", "/proc"};

static bool add_rules(int rules, const base_sandbox *s, uint64_t all) {
    bool ok = true;
    for (size_t i = 0; i < BASE_COUNT(system_folders); i++)
        ok = ok && allow(rules, system_folders[i], can_read & all);
    ok = ok && allow(rules, "/dev/null", (can_read | FS_WRITE_FILE) & all);
    for (size_t i = 0; i < s->n_read; i++) ok = ok && allow(rules, s->read[i], can_read & all);
    for (size_t i = 0; i < s->n_write; i++)
        ok = ok && allow(rules, s->write[i], all & ~(FS_EXECUTE | FS_DEVICE));
    for (size_t i = 0; i < s->n_remove; i++)
        ok = ok && allow(rules, s->remove[i], FS_REMOVE_FILE & all);
    return ok;
}

/* False: this kernel has no Landlock, or has it switched off. */
static bool lock_files(const base_sandbox *s) {
    const int v = version();
    if (v < 1) return false;
    const ruleset_attr attr = refused_in(v);
    const size_t size = v >= 4 ? sizeof attr : sizeof attr.files;
    const int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (rules < 0) return false;
    const bool ok =
        add_rules(rules, s, attr.files) && syscall(SYS_landlock_restrict_self, rules, 0) == 0;
    close(rules);
    return ok;
}

#else

static bool lock_files(const base_sandbox *s) {
    (void)s;
    return false;
}

#endif

/* ==== Calls =================================================================================== */

#define ARG_LOW(i)                                                                                 \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (i)))
#define IF_BITS(bits) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(bits), 0, 1)

static bool lock_calls(void) {
    struct sock_filter code[] = {
        HEAD,
        REFUSE_CALL(execve),
        REFUSE_CALL(execveat),
        REFUSE_CALL(socket),
        REFUSE_CALL(connect),
        REFUSE_CALL(bind),
        REFUSE_PRYING,
        REFUSE_CALL(pivot_root),
        REFUSE_CALL(chroot),
        REFUSE_CALL(add_key),
        REFUSE_CALL(request_key),
        REFUSE_CALL(init_module),
        REFUSE_CALL(finit_module),
        REFUSE_CALL(delete_module),
        REFUSE_CALL(kexec_load),
        REFUSE_CALL(personality),
        REFUSE_CALL(open_by_handle_at),
        REFUSE_CALL(reboot),
        REFUSE_CALL(swapon),
        REFUSE_CALL(settimeofday),
        REFUSE_CALL(clock_settime),
        REFUSE_CALL(setuid),
        REFUSE_CALL(setgid),
#ifdef SYS_fork
        REFUSE_CALL(fork),
        REFUSE_CALL(vfork),
#endif
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 6),
        ARG_LOW(1), /* typing into the terminal it was started from, or pasting there */
        IF(TIOCSTI),
        REFUSE(EPERM),
        IF(TIOCLINUX),
        REFUSE(EPERM),
        ALLOW,
        IF(SYS_clone3),
        REFUSE(ENOSYS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
        ALLOW,
        ARG_LOW(0), /* its flags, on both our architectures */
        IF_BITS(CLONE_THREAD),
        ALLOW,
        REFUSE(EPERM),
    };
    const struct sock_fprog program = {(unsigned short)BASE_COUNT(code), code};
    /* For threads there may be already, too; a filter of one thread would be none. */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

rotor_status base_sandbox_enter(const base_sandbox *s, base_caged *what, rotor_error *err) {
    *what = (base_caged){0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "this kernel cannot be told not to give rights");
    what->files = lock_files(s);
    what->calls = lock_calls();
    if (what->files || what->calls) return ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED, "this kernel has neither Landlock nor seccomp");
}

#else

rotor_status base_sandbox_enter(const base_sandbox *s, base_caged *what, rotor_error *err) {
    (void)s;
    *what = (base_caged){0};
    return base_fail(err, ROTOR_E_UNSUPPORTED, "%s",
                     BASE_CHECKED_BUILD ? "this build's checker needs what a cage takes away"
                                        : "there is no cage for this processor");
}

#endif
