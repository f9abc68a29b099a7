/* SPDX-License-Identifier: MIT
 *
 * rotor_status.h: the one error convention of Rotor.
 *
 * Every function that can fail returns a rotor_status: 0 is success, a negative value says what
 * kind of failure it was. Results are written only on success. Functions at a border also take a
 * rotor_error as their last argument (NULL is allowed) and leave there a sentence that says what
 * failed, where (file, tensor, offset or flag), what was expected and what was found.
 */
#ifndef ROTOR_STATUS_H
#define ROTOR_STATUS_H

/* Marks the symbols a shared librotor exports; everything else is hidden. */
#if defined(__GNUC__)
#define ROTOR_API __attribute__((visibility("default")))
#else
#define ROTOR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rotor_status {
    ROTOR_OK = 0,
    ROTOR_E_NOMEM = -1,       /* an allocation failed; nothing was changed */
    ROTOR_E_IO = -2,          /* the operating system refused a file operation */
    ROTOR_E_FORMAT = -3,      /* data from outside is malformed */
    ROTOR_E_UNSUPPORTED = -4, /* well formed, but this build or program cannot do it */
    ROTOR_E_ARG = -5,         /* an argument from the caller is out of its documented range */
    ROTOR_E_FULL = -6,        /* the context, a pool or a caller's buffer is too small */
    ROTOR_E_NOTFOUND = -7,    /* a named thing does not exist */
    ROTOR_E_CANCELLED = -8,   /* a callback or another thread asked to stop */
    ROTOR_E_STATE = -9,       /* the object is not in a state that allows this call */
    ROTOR_E_DEVICE = -10      /* a device is lost, hangs or computes wrong answers */
} rotor_status;

/* Caller-owned; written only by a failing call. */
typedef struct rotor_error {
    rotor_status code; /* same value as the call returned */
    char message[496]; /* one line, UTF-8, NUL-terminated, no trailing newline */
} rotor_error;

#ifdef __cplusplus
}
#endif
#endif
