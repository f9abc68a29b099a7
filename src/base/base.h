/* SPDX-License-Identifier: MIT
 *
 * base: what every other room stands on. Errors, checked sizes, memory, byte buffers, a string
 * map, random numbers, hashes, and the few operating-system services Rotor needs.
 *
 * Owns: the allocation and read counters (used by tests to fail the n-th one), nothing else.
 * Threading: everything here is re-entrant; objects are used by one thread at a time unless said.
 * All operating-system calls of the library are made in base/os_*.c and nowhere else.
 */
#ifndef BASE_H
#define BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "rotor_status.h"

#if defined(__GNUC__)
#define BASE_PRINTF(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))
#else
#define BASE_PRINTF(fmt_at, args_at)
#endif

/* ---- Errors ---------------------------------------------------------------------------------- */

/* Fills *err (when not NULL) with code and the formatted sentence; returns code. */
rotor_status base_fail(rotor_error *err, rotor_status code, const char *fmt, ...) BASE_PRINTF(3, 4);
/* Puts "prefix: " in front of the message already in *err. Returns err->code (or code if NULL). */
rotor_status base_fail_in(rotor_error *err, rotor_status code, const char *fmt, ...)
    BASE_PRINTF(3, 4);
/* "out of memory while <what>" with ROTOR_E_NOMEM. */
rotor_status base_fail_nomem(rotor_error *err, const char *what);

#define ROTOR_TRY(expr)                                                                            \
    do {                                                                                           \
        rotor_status try_status_ = (expr);                                                         \
        if (try_status_ != ROTOR_OK) return try_status_;                                           \
    } while (0)

#define BASE_COUNT(a)  (sizeof(a) / sizeof((a)[0]))
#define BASE_MIN(a, b) ((a) < (b) ? (a) : (b))
#define BASE_MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- Checked sizes: false means the result does not fit -------------------------------------- */

bool base_mul_size(size_t a, size_t b, size_t *out);
bool base_add_size(size_t a, size_t b, size_t *out);
bool base_mul_u64(uint64_t a, uint64_t b, uint64_t *out);
bool base_add_u64(uint64_t a, uint64_t b, uint64_t *out);
/* Rounds up to a multiple of align (a power of two). */
bool base_round_up_u64(uint64_t a, uint64_t align, uint64_t *out);

/* ---- Memory ---------------------------------------------------------------------------------- */

void *base_alloc(size_t bytes);                      /* zeroed, 16-byte aligned; NULL when out */
void *base_alloc_array(size_t n, size_t elem_bytes); /* zeroed, overflow checked */
void *base_realloc(void *p, size_t bytes);           /* old block stays valid on NULL */
void base_free(void *p);
void *base_alloc_aligned(size_t bytes); /* zeroed, 64-byte aligned, huge pages when large */
void base_free_aligned(void *p);
char *base_strdup(const char *s);
char *base_strndup(const char *s, size_t n);

/* Fault injection and accounting, for tests. base_fault_after(n) makes the n-th allocation or
 * file read from now (1 = the next) fail once; 0 switches it off. Process-wide. */
void base_fault_after(long n);
bool base_fault_fired(void);
uint64_t base_alloc_count(void); /* allocations made so far in this process */

/* One block carved from the front; freed as a whole. Slices are 64-byte aligned and zeroed once. */
typedef struct base_arena {
    uint8_t *mem; /* owned, 64-byte aligned */
    size_t cap;   /* bytes */
    size_t used;  /* bytes, multiple of 64 */
} base_arena;
rotor_status base_arena_create(base_arena *a, size_t cap_bytes);
void *base_arena_take(base_arena *a, size_t bytes); /* NULL when the arena is exhausted */
void base_arena_free(base_arena *a);

/* ---- Bytes and text -------------------------------------------------------------------------- */

/* A borrowed slice of bytes; not NUL-terminated. */
typedef struct base_str {
    const char *p; /* may be NULL only when n is 0 */
    size_t n;      /* bytes */
} base_str;
base_str base_str_of(const char *cstr);
bool base_str_eq(base_str a, base_str b);
bool base_str_is(base_str a, const char *cstr);
/* Does url begin with scheme:// or other://? */
bool base_url_is(const char *url, const char *scheme, const char *other);
/* What stands between user: and @, as written there: all up to the last @ that is not in the
 * settings behind the question mark. NULL: nothing does. */
base_str base_url_password(const char *url);
/* The same address without the password in it, and without the values of settings that might
 * hold one: what may be shown. New; NULL: no memory. */
char *base_url_without_password(const char *url);
/* The last part of a path, or of such an address without its settings. New; NULL: no memory. */
char *base_last_part(const char *path);

/* A growing byte buffer. Zero-initialise to start; always NUL-terminated beyond len once written.
 * A failed append sets `failed` and leaves the content; callers may check once at the end. */
typedef struct base_buf {
    char *data;  /* owned; NULL while empty */
    size_t len;  /* bytes in use */
    size_t cap;  /* bytes allocated */
    bool failed; /* an append ran out of memory */
} base_buf;
bool base_buf_reserve(base_buf *b, size_t more_bytes);
bool base_buf_append(base_buf *b, const void *p, size_t n_bytes);
bool base_buf_puts(base_buf *b, const char *cstr);
bool base_buf_printf(base_buf *b, const char *fmt, ...) BASE_PRINTF(2, 3);
void base_buf_reset(base_buf *b); /* keeps the memory */
void base_buf_free(base_buf *b);

/* Decodes one code point from s[0..n), n >= 1. Returns the bytes consumed; an invalid sequence
 * (overlong, surrogate, above U+10FFFF, cut short) consumes one byte and yields -1. */
int base_utf8_decode(const char *s, size_t n, int32_t *cp);
/* Writes 1-4 bytes; cp must be a Unicode scalar value. */
int base_utf8_encode(uint32_t cp, char out[4]);

/* ---- String map: borrowed key slices to 32-bit values, seeded against chosen-key attacks ----- */

typedef struct base_map base_map;
rotor_status base_map_create(base_map **out, size_t expected_n);
void base_map_free(base_map **m);
/* Inserts or overwrites. *existed (may be NULL) tells whether the key was there before. */
rotor_status base_map_put(base_map *m, base_str key, uint32_t value, bool *existed);
bool base_map_get(const base_map *m, base_str key, uint32_t *value);
size_t base_map_count(const base_map *m);

/* ---- Random numbers and hashes --------------------------------------------------------------- */

/* xoshiro256**, seeded by splitmix64: same seed, same sequence, on every machine. */
typedef struct base_rng {
    uint64_t s[4]; /* state, never all zero */
} base_rng;
void base_rng_seed(base_rng *r, uint64_t seed);
uint64_t base_rng_u64(base_rng *r);
uint32_t base_rng_below(base_rng *r, uint32_t n); /* uniform in [0, n), n >= 1 */
double base_rng_double(base_rng *r);              /* uniform in [0, 1), 53 bits */
float base_rng_normal(base_rng *r);               /* mean 0, variance 1 */

uint64_t base_hash64(const void *p, size_t n_bytes, uint64_t seed);
/* SHA-256 of a byte range; out[32]. */
void base_sha256(const void *p, size_t n_bytes, uint8_t out[32]);

/* ---- Log: a library never prints ------------------------------------------------------------- */

typedef enum base_log_level {
    BASE_LOG_ERROR,
    BASE_LOG_WARN,
    BASE_LOG_INFO,
    BASE_LOG_DEBUG
} base_log_level;
typedef struct base_log {
    void (*fn)(void *user, base_log_level level, const char *line); /* NULL: silent */
    void *user;                                                     /* passed back untouched */
} base_log;
void base_log_printf(const base_log *log, base_log_level level, const char *fmt, ...)
    BASE_PRINTF(3, 4);

/* ---- Traces (base/trace.c) --------------------------------------------------------------------
 * A timeline in a file, for Perfetto or chrome://tracing. */

#define BASE_TRACE_NONE UINT32_MAX
enum { BASE_TRACE_PHASES = 1024 }; /* the track of what lasts for many steps; below: threads */

typedef struct base_trace_event {
    const char *name;          /* what was done; static, as is … */
    const char *cat;           /* … its kind: "op", "wait", "step", "token", "phase", "load" */
    const char *label;         /* the tensor that was read, or NULL; lives as long as the trace */
    uint64_t start_ns, end_ns; /* of base_now_ns */
    uint64_t bytes;            /* of weights, by all threads together; 0: not said */
    uint32_t layer;            /* BASE_TRACE_NONE: of none */
    uint32_t id;               /* token, or BASE_TRACE_NONE */
    uint32_t rows;             /* tokens of a step; 0: not said */
    uint16_t track;            /* thread, or BASE_TRACE_PHASES */
    uint8_t n_text;            /* of text */
    char text[17];             /* of a token, cut */
} base_trace_event;

typedef struct base_trace base_trace;
/* Keeps the first events and the newest, max in all. The file is begun now, so that one that cannot
 * be is known at once. */
rotor_status base_trace_create(base_trace **out, const char *path, uint32_t max, rotor_error *err);
void base_trace_add(base_trace *t, const base_trace_event *e); /* any thread */
/* Writes and frees it; the file appears under its name when it is whole. NULL is fine. */
rotor_status base_trace_finish(base_trace **t, rotor_error *err);

/* ---- Operating system (base/os_*.c) ---------------------------------------------------------- */

uint64_t base_now_us(void);      /* monotonic */
uint64_t base_now_ns(void);      /* the same clock, finer */
int64_t base_unix_s(void);       /* wall clock: seconds since 1970-01-01 UTC */
uint64_t base_random_seed(void); /* from the kernel; never fails */
uint64_t base_total_memory_bytes(void);
uint64_t base_memory_limit_bytes(void); /* of them, what this program's control group may use */
size_t base_page_bytes(void);           /* of the smallest piece of memory the OS maps */
/* For this program now: what the system has free, file cache included, and what is left of the
 * limits of its control groups. */
uint64_t base_available_memory_bytes(void);
uint64_t base_peak_rss_bytes(void);
uint64_t base_cache_bytes(void);   /* of the largest processor cache; 0: nobody says */
uint64_t base_thread_cpu_us(void); /* processor time of the calling thread */
void base_sleep_us(uint64_t us);   /* at least so long; signals do not shorten it */

bool base_may_have_gpu(void); /* false: the system knows of no hardware that could be one */

/* Hardware counters of this thread and of all that it starts from now on, in user mode. */
enum { BASE_PERF_EVENTS = 3 }; /* instructions, references and misses of the last cache */
typedef struct base_perf {
    int fd[BASE_PERF_EVENTS]; /* -1: closed */
} base_perf;
/* False, and *why in a few words (static): there are none. */
bool base_perf_open(base_perf *p, const char **why);
bool base_perf_read(const base_perf *p, uint64_t count[BASE_PERF_EVENTS]); /* since opening */
void base_perf_close(base_perf *p);

/* Energy counters of the processor packages (RAPL): everything that runs on them, not this program
 * alone. A counter wraps; two readings must lie less than a wrap (minutes) apart. */
enum { BASE_MAX_PACKAGES = 16 };
typedef struct base_energy {
    size_t n;                           /* packages; 0: no counter can be read */
    uint64_t uj[BASE_MAX_PACKAGES];     /* counter, microjoules */
    uint64_t max_uj[BASE_MAX_PACKAGES]; /* where it wraps */
} base_energy;
/* folder NULL: the system's own (/sys/class/powercap). */
void base_energy_read(base_energy *e, const char *folder);
double base_energy_joules(const base_energy *from, const base_energy *to);

/* A read-only view of a whole file: mapped, or read into memory (map = false). */
typedef struct base_file {
    const uint8_t *data; /* NULL when the file is empty */
    size_t size;         /* bytes, fixed at open */
    int64_t mtime_ns;    /* modification time at open */
    uint64_t id;         /* hash of which file it was, its size and when it was written, at open */
    char *path;          /* owned copy */
    bool mapped;         /* data is a mapping (else heap) */
    int fd;              /* kept open while mapped, -1 otherwise */
} base_file;
rotor_status base_file_open(base_file *f, const char *path, bool map, rotor_error *err);
void base_file_close(base_file *f); /* NULL and closed objects are fine */
/* Fails when the file on disk was cut or changed since it was opened. */
rotor_status base_file_unchanged(const base_file *f, rotor_error *err);
/* Tells the kernel a range is not needed now (mapped files; a hint). */
void base_file_drop(const base_file *f, size_t offset, size_t n_bytes);
/* Hints about memory that may be mapped: its pages are going to be read soon, all of them; or here
 * and there, so that what lies beside a page that is read should be left alone. */
typedef enum base_advice { BASE_WILL_NEED, BASE_HERE_AND_THERE } base_advice;
void base_advise(const void *p, size_t n_bytes, base_advice advice);

/* A descriptor of a regular file, for a child: *size its bytes now, the offset at its start. Open
 * never waits (a pipe or a device is refused); rewind is for one that is open already. */
rotor_status base_fd_open(int *fd, const char *path, uint64_t *size, rotor_error *err);
rotor_status base_fd_rewind(int fd, uint64_t *size, rotor_error *err);
void base_fd_close(int *fd); /* -1 is fine, and what it becomes */

/* A file written beside its final name and renamed on commit; abort removes it. */
typedef struct base_out {
    char *path;     /* final name, owned */
    char *tmp_path; /* name being written, owned */
    int fd;         /* -1 when closed */
    uint64_t pos;   /* bytes written so far */
    uint8_t *buf;   /* owned write buffer */
    size_t buf_len; /* bytes waiting in buf */
} base_out;
rotor_status base_out_open(base_out *o, const char *path, rotor_error *err);
/* 0600 whatever stood there, under a name of its own: other machines may write the same file. */
rotor_status base_out_open_private(base_out *o, const char *path, rotor_error *err);
rotor_status base_out_write(base_out *o, const void *p, size_t n_bytes, rotor_error *err);
rotor_status base_out_zeros(base_out *o, uint64_t n_bytes, rotor_error *err);
/* Leaves a hole of n bytes (reads as zeros, takes no disk). */
rotor_status base_out_skip(base_out *o, uint64_t n_bytes, rotor_error *err);
rotor_status base_out_commit(base_out *o, rotor_error *err);
void base_out_abort(base_out *o); /* after commit: does nothing */

typedef enum base_path_kind { BASE_PATH_NONE, BASE_PATH_FILE, BASE_PATH_DIR } base_path_kind;
base_path_kind base_path_kind_of(const char *path);
rotor_status base_mkdirs(const char *path, rotor_error *err);
/* Names in a directory, sorted, without . and ..; free with base_names_free. */
rotor_status base_list_dir(const char *path, char ***names, size_t *n, rotor_error *err);
void base_names_free(char **names, size_t n);
/* Joins with one '/'; NULL when out of memory. Caller frees. */
char *base_path_join(const char *dir, const char *name);

/* What a name stands for, and what tells that it changed. */
typedef enum base_node_kind {
    BASE_NODE_NONE,
    BASE_NODE_FILE,
    BASE_NODE_DIR,
    BASE_NODE_LINK, /* only where links are not followed */
    BASE_NODE_OTHER /* a pipe, socket or device: never to be opened */
} base_node_kind;
typedef struct base_node {
    base_node_kind kind;        /* NONE: there is nothing */
    uint64_t size;              /* bytes */
    int64_t mtime_ns, ctime_ns; /* of the content, of anything */
    uint64_t dev, ino;          /* which file it is */
} base_node;
/* false: there is nothing (NONE), or what is there cannot be looked at (OTHER). */
bool base_node_of(base_node *n, const char *path, bool follow);
/* Without links, . and ..; NULL: there is none, or no memory. Caller frees. */
char *base_path_absolute(const char *path);
rotor_status base_mkdir_private(const char *path, rotor_error *err); /* mode 0700; may exist */
rotor_status base_make_private(const char *path, rotor_error *err);  /* empty, 0600; may exist */
rotor_status base_remove_file(const char *path, rotor_error *err);   /* may be gone */
/* One holder at a time, to the end of the program at the latest. ROTOR_E_STATE: somebody else. */
rotor_status base_lock_take(int *lock, const char *path, rotor_error *err);
void base_lock_drop(int *lock); /* -1 afterwards */

/* Threads. A mutex and a condition are created once and never copied. */
typedef struct base_thread base_thread;
typedef struct base_mutex base_mutex;
typedef struct base_cond base_cond;
rotor_status base_thread_start(base_thread **out, void (*fn)(void *), void *arg);
void base_thread_join(base_thread **t);
rotor_status base_mutex_create(base_mutex **out);
void base_mutex_free(base_mutex **m);
void base_mutex_lock(base_mutex *m);
void base_mutex_unlock(base_mutex *m);
rotor_status base_cond_create(base_cond **out);
void base_cond_free(base_cond **c);
void base_cond_wait(base_cond *c, base_mutex *m);
/* Waits at most so many microseconds; false: nobody woke it. */
bool base_cond_wait_us(base_cond *c, base_mutex *m, uint64_t us);
void base_cond_broadcast(base_cond *c);
int base_cpu_count(void);            /* logical CPUs this process may use */
int base_core_count(void);           /* of these, how many have a core of their own */
void base_thread_pin(int cpu_index); /* binds the calling thread; a hint */
void base_thread_yield(void);
/* A shared library opened at run time; NULL when there is none of that name. */
void *base_library_open(const char *name);
/* Why this thread's last base_library_open(name) gave NULL, in the loader's words; "": as far as
 * they tell, there is just no file of that name. Call it at once, and once. */
void base_library_why(char *out, size_t n_bytes, const char *name);
/* Address of a symbol, NULL when the library has none. Copy it into a function pointer. */
void *base_library_symbol(void *library, const char *name);
void base_library_close(void *library);

/* A library that the program starts without: opened when it is first needed, and then kept. Its
 * functions stand in a table of pointers, which its user lays out:
 *
 *   names   "libx.so.4" …      files that are tried, in this order
 *   rows    {"x_open", place}  each function's name in the library, and its place in the table
 *   table   NULL, then for ever the table, whole before others see it and never written again
 */
typedef struct base_late_row {
    const char *name; /* of a function */
    size_t at;        /* of its pointer in the table, bytes */
} base_late_row;
typedef struct base_late {
    const char *const *names;  /* n_names file names */
    const base_late_row *rows; /* n_rows functions */
    size_t n_names, n_rows;    /* how many */
    size_t table_bytes;        /* size of the table */
    const char *what;          /* "rotor pull needs libcurl", for messages */
    const char *advice;        /* how to get it, for messages */
    _Atomic(void *) table;     /* NULL: not found yet */
} base_late;
/* Finds it, or has found it. From any thread. The first file that loads and has every function is
 * taken. ROTOR_E_UNSUPPORTED: none is there, or none does; the message has the loader's reason. */
rotor_status base_late_open(base_late *l, rotor_error *err);
/* Runs `command "arg"` in a shell, on this program's terminal and files, and waits for its end.
 * *exit_status: what it ended with; 128 and the signal that ended it. */
rotor_status base_run_shell(const char *command, const char *arg, int *exit_status,
                            rotor_error *err);
/* Waits until fd can be read (true) or, after SIGINT, interrupted() says so (false; may be NULL).
 */
bool base_wait_readable(int fd, bool (*interrupted)(void));

/* ---- Network (base/os_net.c) ----------------------------------------------------------------- */

typedef enum base_ip { BASE_IP_NONE, BASE_IP_LOOPBACK, BASE_IP_ANY, BASE_IP_OTHER } base_ip;
/* What a text without brackets is as an address: none, 127.0.0.0/8 and ::1, 0.0.0.0 and ::, else.
 */
base_ip base_ip_of(const char *text);
/* A socket that listens at host (a name or an address), port 0: any free one. *fd is the caller's,
 * *actual its port, *reach what was bound. */
rotor_status base_listen(const char *host, uint16_t port, int *fd, uint16_t *actual, base_ip *reach,
                         rotor_error *err);
/* Has the other side of a connected socket closed it, or its half? */
bool base_peer_gone(int fd);
/* ROTOR_E_UNSUPPORTED where this system's build has no sockets. */
rotor_status base_sockets(rotor_error *err);
/* Waits at most so many microseconds, or for a signal, until the socket can be read (or has come to
 * its end) or written, of these what is asked for. */
bool base_socket_wait(int fd, bool read, bool write, uint64_t us);
/* A listening socket takes no more connections from here on; it stays open. */
void base_stop_listening(int fd);
void base_close_socket(int fd);

/* ---- Programs on a short lead (os_child.c, os_lock.c) ---------------------------------------- */

/* Built with a checker that needs terabytes of address space and its own calls to the kernel. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BASE_CHECKED_BUILD 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define BASE_CHECKED_BUILD 1
#endif
#endif
#ifndef BASE_CHECKED_BUILD
#define BASE_CHECKED_BUILD 0
#endif

typedef struct base_child_limits {
    uint32_t wall_ms;      /* time by the clock until it is killed; 0 in any field: no limit */
    uint32_t cpu_s;        /* processor time */
    uint64_t memory_bytes; /* address space, of it and of each program it starts */
    uint64_t file_bytes;   /* size of a file it writes */
    uint64_t output_bytes; /* what it says in all */
    uint32_t open_files;   /* descriptors */
    bool no_network;       /* no sockets, no looking into other processes (where the system can) */
    bool no_processes;     /* with no_network: it cannot start another either */
} base_child_limits;

typedef struct base_child {
    const char *const *argv;  /* ends in NULL; argv[0] is a path, not looked for anywhere */
    const char *const *env;   /* NAME=value ..., NULL; NULL: none at all */
    int input_fd;             /* becomes its descriptor 0, the only one it gets; -1: /dev/null */
    base_child_limits limits; /* what it may take */
    /* Called with each piece of what it says; NULL: thrown away. Anything but ROTOR_OK kills the
     * child, and the run returns that. */
    rotor_status (*output)(void *user, const void *p, size_t n_bytes, rotor_error *err);
    void *user; /* for output */
} base_child;

typedef enum base_child_why {
    BASE_CHILD_EXITED, /* status: its exit status */
    BASE_CHILD_SIGNAL, /* status: the signal, not one of the limits below */
    BASE_CHILD_WALL,   /* wall_ms were over */
    BASE_CHILD_CPU,    /* cpu_s were used up */
    BASE_CHILD_OUTPUT  /* it said, or wrote into a file, more than it may */
} base_child_why;

typedef struct base_child_end {
    base_child_why why; /* how it ended */
    int status;         /* exit status or signal */
    char errors[512];   /* the beginning of what it wrote to descriptor 2; printable ASCII */
} base_child_end;

/* Runs a program to its end, however it ends; everything it started is killed then. Fails when it
 * could not be started (ROTOR_E_NOTFOUND: there is none), or with what output() returned. */
rotor_status base_child_run(const base_child *c, base_child_end *end, rotor_error *err);

/* From now on this process can use the descriptors it has, memory and the clock, and nothing else:
 * no file can be opened, no program started. False: there is no way here, nothing has changed. */
bool base_lock_self(void);

/* ---- Watching a folder and all that is in it (os_watch.c) -------------------------------------
 */

typedef enum base_change_kind {
    BASE_CHANGE_WRITTEN, /* a file is new, or was written */
    BASE_CHANGE_GONE,    /* a file, or a folder with all that was in it, is not there any more */
    BASE_CHANGE_MOVED,   /* a file, or a folder with all that is in it, has another path */
    BASE_CHANGE_RESCAN   /* more happened than can be told: look at everything below path */
} base_change_kind;

typedef struct base_change {
    base_change_kind kind; /* what happened */
    const char *path;      /* where; begins with the root as it was given */
    const char *from;      /* of a move: where it was; else NULL */
    bool folder;           /* path is a folder */
} base_change;
typedef void (*base_change_fn)(void *user, const base_change *c);

/* Globs with a '/' are held against the path below the root, others against the last name. They
 * stay borrowed. What is excluded is not looked into; folders need not be included. */
typedef struct base_watch_options {
    const char *const *include;         /* [n_include] files that count; none: all */
    size_t n_include;                   /* how many */
    const char *const *exclude;         /* [n_exclude] files and folders that do not */
    size_t n_exclude;                   /* how many */
    const char *const *exclude_folders; /* [n_exclude_folders] folders that do not */
    size_t n_exclude_folders;           /* how many */
    uint32_t quiet_ms; /* a path is told when nothing has happened to it for so long, */
    uint32_t most_ms;  /* or when its first event is so old; */
    uint32_t gone_ms;  /* and one that went away, when it has not come back for so long */
} base_watch_options;
base_watch_options base_watch_default(void); /* 500 ms, 10 s, 5 s */

typedef struct base_watch base_watch; /* one thread at a time */
rotor_status base_watch_open(base_watch **out, const char *root, const base_watch_options *opt,
                             rotor_error *err);
void base_watch_close(base_watch **w); /* NULL is fine */
/* Waits until there is something to tell, at most wait_ms, and gives it to fn. What fn gets may be
 * out of date again: it must look for itself. */
rotor_status base_watch_wait(base_watch *w, uint32_t wait_ms, base_change_fn fn, void *user,
                             rotor_error *err);
/* Folders that the kernel had no watch left for (fs.inotify.max_user_watches): to be polled. */
size_t base_watch_unwatched(const base_watch *w);

/* ---- Documents as blocks (block_stream.c, extract_run.c): docs/documents.md -------------------
 */

typedef enum base_block_kind {
    BASE_BLOCK_DOC = 1, /* a document begins; text: its title, may be empty */
    BASE_BLOCK_META,    /* text: "name=value" about the document that began last */
    BASE_BLOCK_HEADING, /* level 1-6 */
    BASE_BLOCK_PARA,    /* running text */
    BASE_BLOCK_CODE,  /* lines whose layout matters; level 1: a top-level definition begins here */
    BASE_BLOCK_LIST,  /* one item; level: depth from 1 */
    BASE_BLOCK_ROW,   /* one row of a table, cells joined by " | "; level 1: its header */
    BASE_BLOCK_PAGE,  /* page `page` begins; no text */
    BASE_BLOCK_NOTE,  /* something was left out; text: what, in one line */
    BASE_BLOCK_ERROR, /* the end, in failure; level: base_reason, text: one line */
    BASE_BLOCK_END    /* the end; no text */
} base_block_kind;

typedef enum base_reason { /* why a file gave no document, or not all of it */
                           BASE_REASON_NONE,
                           BASE_REASON_ENCRYPTED, /* a password is needed */
                           BASE_REASON_TOO_LARGE, /* of the file, or what it unpacks to, or of its
                                                     depth */
                           BASE_REASON_NOT_TEXT,  /* binary, of no known type */
                           BASE_REASON_BROKEN,    /* it does not keep to its format */
                           BASE_REASON_TIMEOUT,   /* by the clock or the processor's */
                           BASE_REASON_MEMORY,    /* it needs more than a document may */
                           BASE_REASON_MISSING_TOOL, /* a program or a library that is not here */
                           BASE_REASON_EMPTY,        /* no text in it */
                           BASE_REASON_CRASHED,      /* the parser died */
                           BASE_REASONS
} base_reason;
const char *base_reason_name(base_reason r); /* "none", "encrypted", "too_large", ... */

/* Text is UTF-8, in NFC, its only control characters \n and \t. Borrowed. */
typedef struct base_block {
    base_block_kind kind; /* what it is */
    uint32_t level;       /* by kind, see there; else 0 */
    uint32_t page;        /* from 1; 0: the format has no pages */
    uint32_t line_begin;  /* first source line, from 1; 0: not known */
    uint32_t line_end;    /* last source line */
    uint64_t byte_begin;  /* in the source file; both 0: not known */
    uint64_t byte_end;    /* after its last byte */
    base_str text;        /* at most BASE_BLOCK_TEXT_MAX bytes */
} base_block;
enum { BASE_BLOCK_TEXT_MAX = 1 << 20 };

/* The stream: "RXBLOCK1", then records of BASE_BLOCK_HEAD bytes and their text. */
#define BASE_BLOCK_MAGIC "RXBLOCK1"
enum { BASE_BLOCK_HEAD = 40 };
bool base_block_put(base_buf *to, const base_block *b);

typedef rotor_status (*base_block_fn)(void *user, const base_block *b, rotor_error *err);

/* Takes a stream apart, piece by piece, believing nothing: set the first three fields. */
typedef struct base_block_reader {
    base_block_fn fn;    /* called with each block that is in order, but for the END and ERROR */
    void *user;          /* for fn */
    uint64_t file_bytes; /* spans must lie within it */
    base_buf pending;    /* owned; the beginning of a record that has not come whole */
    uint64_t n_blocks;   /* given to fn */
    uint32_t page;       /* the last one that began */
    bool begun;          /* the magic was there */
    bool in_doc;         /* a DOC was there */
    bool ended;          /* END or ERROR was there */
    base_reason reason;  /* of the ERROR */
    char why[256];       /* text of the ERROR, else empty */
} base_block_reader;
rotor_status base_block_read(base_block_reader *r, const void *p, size_t n, rotor_error *err);
void base_block_reader_reset(base_block_reader *r);

/* Reads one file through the program rotor-extract. */
typedef struct base_extract {
    const char *program;      /* path of rotor-extract */
    const char *pdftotext;    /* path of pdftotext; NULL: where programs usually are */
    const char *type;         /* such as "html"; NULL: by content and name */
    const char *name;         /* of the file: a hint at its type; NULL: none */
    int fd;                   /* of the file, open for reading; its offset is moved */
    base_child_limits limits; /* base_extract_limits() */
    base_block_fn block;      /* called with each block: DOC first, then what is in it */
    void *user;               /* for block */
} base_extract;
base_child_limits base_extract_limits(void);
/* ROTOR_OK: the whole file was read. Otherwise *reason says why not and *err in one sentence;
 * blocks may have been given before that. What block() returns other than ROTOR_OK ends the run and
 * is returned, with BASE_REASON_NONE. */
rotor_status base_extract_run(const base_extract *x, base_reason *reason, rotor_error *err);

#endif
