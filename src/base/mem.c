/* SPDX-License-Identifier: MIT
 *
 * Memory: zeroed allocation with a counter and a fault switch, arenas, growing byte buffers.
 *
 * Every heap block of the library comes from here, so that a test can fail the n-th allocation
 * for n = 1, 2, 3 … and watch each error path release what it took. The same switch covers file
 * reads (os_posix.c asks mem_fault_now()).
 *
 * Threading: the counters are atomic; a block may be freed by another thread.
 */
#include "base/base.h"
#include "base/base_internal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_long fault_left;        /* 0: off; n: the n-th event from now fails */
static atomic_bool fault_fired;       /* set when it did */
static atomic_uint_fast64_t n_allocs; /* allocations since the start of the process */

void base_fault_after(long n) {
    atomic_store(&fault_fired, false);
    atomic_store(&fault_left, n);
}

bool base_fault_fired(void) { return atomic_load(&fault_fired); }
uint64_t base_alloc_count(void) { return atomic_load(&n_allocs); }

bool mem_fault_now(void) {
    if (atomic_load_explicit(&fault_left, memory_order_relaxed) <= 0) return false;
    if (atomic_fetch_sub(&fault_left, 1) != 1) return false;
    atomic_store(&fault_fired, true);
    return true;
}

static bool refuse_alloc(void) {
    atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed);
    return mem_fault_now();
}

void *base_alloc(size_t bytes) {
    if (refuse_alloc()) return NULL;
    return calloc(1, bytes ? bytes : 1);
}

void *base_alloc_array(size_t n, size_t elem_bytes) {
    size_t bytes;
    return base_mul_size(n, elem_bytes, &bytes) ? base_alloc(bytes) : NULL;
}

void *base_realloc(void *p, size_t bytes) {
    if (refuse_alloc()) return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void base_free(void *p) { free(p); }

char *base_strndup(const char *s, size_t n) {
    char *copy = n < SIZE_MAX ? base_alloc(n + 1) : NULL;
    if (copy && n) memcpy(copy, s, n);
    return copy;
}

char *base_strdup(const char *s) { return base_strndup(s, strlen(s)); }

/* Large blocks come straight from the kernel on 2 MB borders, so that huge pages can back them;
 * the size is kept in front of the block to give it back. */
void *base_alloc_aligned(size_t bytes) {
    if (refuse_alloc()) return NULL;
    return os_pages_alloc(bytes);
}

void base_free_aligned(void *p) { os_pages_free(p); }

/* ==== Arena =================================================================================== */

rotor_status base_arena_create(base_arena *a, size_t cap_bytes) {
    a->mem = base_alloc_aligned(cap_bytes ? cap_bytes : 64);
    a->cap = a->mem ? cap_bytes : 0;
    a->used = 0;
    return a->mem ? ROTOR_OK : ROTOR_E_NOMEM;
}

void *base_arena_take(base_arena *a, size_t bytes) {
    uint64_t padded;
    if (!base_round_up_u64(bytes ? bytes : 1, 64, &padded) || padded > a->cap - a->used)
        return NULL;
    void *p = a->mem + a->used;
    a->used += (size_t)padded;
    return p;
}

void base_arena_free(base_arena *a) {
    base_free_aligned(a->mem);
    memset(a, 0, sizeof *a);
}

/* ==== Slices and buffers ====================================================================== */

base_str base_str_of(const char *cstr) { return (base_str){cstr, strlen(cstr)}; }

bool base_str_eq(base_str a, base_str b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool base_str_is(base_str a, const char *cstr) { return base_str_eq(a, base_str_of(cstr)); }

bool base_buf_reserve(base_buf *b, size_t more_bytes) {
    size_t need;
    if (!base_add_size(b->len, more_bytes, &need) || !base_add_size(need, 1, &need)) goto fail;
    if (need <= b->cap) return true;
    size_t cap = BASE_MAX(need, b->cap + b->cap / 2 + 64);
    char *data = base_realloc(b->data, cap);
    if (!data) goto fail;
    b->data = data;
    b->cap = cap;
    return true;
fail:
    b->failed = true;
    return false;
}

bool base_buf_append(base_buf *b, const void *p, size_t n_bytes) {
    if (!base_buf_reserve(b, n_bytes)) return false;
    if (n_bytes) memcpy(b->data + b->len, p, n_bytes);
    b->len += n_bytes;
    b->data[b->len] = 0;
    return true;
}

bool base_buf_puts(base_buf *b, const char *cstr) { return base_buf_append(b, cstr, strlen(cstr)); }

bool base_buf_printf(base_buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !base_buf_reserve(b, (size_t)n)) return false;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return true;
}

void base_buf_reset(base_buf *b) {
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

void base_buf_free(base_buf *b) {
    base_free(b->data);
    memset(b, 0, sizeof *b);
}

/* ==== UTF-8 =================================================================================== */

static int utf8_tail(const char *s, size_t n, int len, int32_t *cp, int32_t min) {
    if ((size_t)len > n) goto bad;
    for (int i = 1; i < len; i++) {
        if (((uint8_t)s[i] & 0xC0) != 0x80) goto bad;
        *cp = *cp << 6 | ((uint8_t)s[i] & 0x3F);
    }
    if (*cp < min || *cp > 0x10FFFF || (*cp >= 0xD800 && *cp <= 0xDFFF)) goto bad;
    return len;
bad:
    *cp = -1;
    return 1;
}

int base_utf8_decode(const char *s, size_t n, int32_t *cp) {
    uint8_t c = (uint8_t)s[0];
    *cp = c;
    if (c < 0x80) return 1;
    if (c >= 0xC2 && c <= 0xDF) return *cp = c & 0x1F, utf8_tail(s, n, 2, cp, 0x80);
    if (c >= 0xE0 && c <= 0xEF) return *cp = c & 0x0F, utf8_tail(s, n, 3, cp, 0x800);
    if (c >= 0xF0 && c <= 0xF4) return *cp = c & 0x07, utf8_tail(s, n, 4, cp, 0x10000);
    *cp = -1;
    return 1;
}

int base_utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) return out[0] = (char)cp, 1;
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}
