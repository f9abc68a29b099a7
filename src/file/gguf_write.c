/* SPDX-License-Identifier: MIT
 *
 * Writing GGUF version 3, little-endian.
 *
 * Metadata and tensor infos are gathered in memory, the header goes out at file_begin(), tensor
 * bytes stream through. Offsets follow each other in declared order, each tensor padded to the
 * alignment, the last one too, as other writers do. A failed put is remembered and reported by
 * file_begin(), so that a run of puts needs no check after each.
 *
 * States: gathering (put, declare), data (write, hole), committed. Invariants in the data state:
 * (W1) tensors before `current` are complete and padded; (W2) `left` bytes of `current` are still
 * to come, at least one.
 */
#include "file/file_internal.h"

#include <assert.h>

enum { DEFAULT_ALIGNMENT = 32, MAX_ALIGNMENT = 1 << 20, MAX_TENSOR_NAME = 63 };

typedef struct declared {
    char *name;             /* owned */
    const quant_info *info; /* registry row */
    uint32_t n_dims;        /* 1..4 */
    uint64_t dims[4];       /* fastest first */
    uint64_t bytes;         /* without padding */
} declared;

struct file_writer {
    base_out out;       /* the file; its name appears at commit */
    base_buf kvs;       /* encoded metadata */
    char **keys;        /* owned copies, n_kvs of them; key_map points into them */
    size_t n_kvs;       /* entries in kvs */
    base_map *key_map;  /* keys put so far */
    declared *tensors;  /* n_tensors of them */
    size_t n_tensors;   /* declared so far */
    base_map *name_map; /* tensor names declared so far */
    uint64_t alignment; /* bytes, power of two */
    bool begun;         /* the header is written */
    size_t current;     /* tensor being written; n_tensors: all done */
    uint64_t left;      /* bytes it still needs */
    rotor_error failed; /* first failed put; code ROTOR_OK: none */
};

static void store_le(uint8_t *p, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static void append_le(base_buf *b, uint64_t v, size_t n) {
    uint8_t bytes[8];
    store_le(bytes, v, n);
    base_buf_append(b, bytes, n);
}

static void append_str(base_buf *b, base_str s) {
    append_le(b, s.n, 8);
    base_buf_append(b, s.p, s.n);
}

/* ==== Life
 * ======================================================================================== */

rotor_status file_writer_create(file_writer **out, const char *path, rotor_error *err) {
    file_writer *w = base_alloc(sizeof *w);
    if (!w) return base_fail_nomem(err, "opening a file for writing");
    w->alignment = DEFAULT_ALIGNMENT;
    w->out.fd = -1;
    rotor_status st = ROTOR_OK;
    if (base_map_create(&w->key_map, 32) != ROTOR_OK ||
        base_map_create(&w->name_map, 64) != ROTOR_OK)
        st = base_fail_nomem(err, "opening a file for writing");
    if (st == ROTOR_OK) st = base_out_open(&w->out, path, err);
    if (st == ROTOR_OK)
        *out = w;
    else
        file_writer_free(&w);
    return st;
}

void file_writer_free(file_writer **writer) {
    if (!writer || !*writer) return;
    file_writer *w = *writer;
    base_out_abort(&w->out);
    for (size_t i = 0; i < w->n_kvs; i++) base_free(w->keys[i]);
    for (size_t i = 0; i < w->n_tensors; i++) base_free(w->tensors[i].name);
    base_map_free(&w->key_map);
    base_map_free(&w->name_map);
    base_free(w->keys);
    base_free(w->tensors);
    base_buf_free(&w->kvs);
    base_free(w);
    *writer = NULL;
}

/* ==== Metadata
 * ==================================================================================== */

static bool is_printable(base_str s, size_t max) {
    for (size_t i = 0; i < s.n; i++)
        if ((uint8_t)s.p[i] < 0x20 || (uint8_t)s.p[i] > 0x7E) return false;
    return s.n >= 1 && s.n <= max;
}

/* Makes room for one more element when n is a power of two or zero. */
static bool grow(void *array, size_t n, size_t elem_bytes) {
    void **at = array;
    if (n & (n - 1)) return true;
    void *more = base_realloc(*at, (n ? 2 * n : 1) * elem_bytes);
    if (more) *at = more;
    return more != NULL;
}

static rotor_status add_key(file_writer *w, const char *key) {
    base_str name = base_str_of(key);
    uint32_t seen;
    if (w->begun) return base_fail(&w->failed, ROTOR_E_STATE, "key %s: the header is written", key);
    if (!is_printable(name, FILE_MAX_NAME_BYTES))
        return base_fail(&w->failed, ROTOR_E_ARG, "a key of 1 to %d printable bytes expected",
                         FILE_MAX_NAME_BYTES);
    if (base_map_get(w->key_map, name, &seen))
        return base_fail(&w->failed, ROTOR_E_ARG, "key %s is put twice", key);
    char *copy = base_strdup(key);
    if (!copy || !grow(&w->keys, w->n_kvs, sizeof *w->keys) ||
        base_map_put(w->key_map, (base_str){copy, name.n}, 0, NULL) != ROTOR_OK) {
        base_free(copy);
        return base_fail_nomem(&w->failed, "gathering metadata");
    }
    w->keys[w->n_kvs++] = copy;
    return ROTOR_OK;
}

static rotor_status note_alignment(file_writer *w, file_kv_type type, const void *value) {
    uint64_t v = type == FILE_U32 ? load_u32(value) : 0;
    if (v < 8 || v > MAX_ALIGNMENT || (v & (v - 1)) != 0)
        return base_fail(&w->failed, ROTOR_E_ARG,
                         "key general.alignment: a u32 power of two from 8 to %d expected",
                         MAX_ALIGNMENT);
    w->alignment = v;
    return ROTOR_OK;
}

/* Adds key, type and n_bytes of encoded value. */
static rotor_status put(file_writer *w, const char *key, file_kv_type type, const void *value,
                        size_t n_bytes) {
    if (w->failed.code != ROTOR_OK) return w->failed.code;
    if (strcmp(key, "general.alignment") == 0) ROTOR_TRY(note_alignment(w, type, value));
    ROTOR_TRY(add_key(w, key));
    append_str(&w->kvs, base_str_of(key));
    append_le(&w->kvs, type, 4);
    base_buf_append(&w->kvs, value, n_bytes);
    return w->kvs.failed ? base_fail_nomem(&w->failed, "gathering metadata") : ROTOR_OK;
}

static rotor_status put_number(file_writer *w, const char *key, file_kv_type type, uint64_t bits) {
    uint8_t bytes[8];
    store_le(bytes, bits, kv_value_bytes(type));
    return put(w, key, type, bytes, kv_value_bytes(type));
}

rotor_status file_put_u32(file_writer *w, const char *key, uint32_t v) {
    return put_number(w, key, FILE_U32, v);
}

rotor_status file_put_i32(file_writer *w, const char *key, int32_t v) {
    return put_number(w, key, FILE_I32, (uint32_t)v);
}

rotor_status file_put_u64(file_writer *w, const char *key, uint64_t v) {
    return put_number(w, key, FILE_U64, v);
}

rotor_status file_put_bool(file_writer *w, const char *key, bool v) {
    return put_number(w, key, FILE_BOOL, v);
}

rotor_status file_put_f32(file_writer *w, const char *key, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_number(w, key, FILE_F32, bits);
}

/* Puts what was encoded in value, and frees it. */
static rotor_status put_encoded(file_writer *w, const char *key, file_kv_type type,
                                base_buf *value) {
    rotor_status st = ROTOR_OK;
    if (value->failed)
        st = base_fail_nomem(&w->failed, "gathering metadata");
    else
        st = put(w, key, type, value->data, value->len);
    base_buf_free(value);
    return st;
}

rotor_status file_put_str(file_writer *w, const char *key, base_str v) {
    base_buf value = {0};
    append_str(&value, v);
    return put_encoded(w, key, FILE_STR, &value);
}

rotor_status file_put_array(file_writer *w, const char *key, file_kv_type elem, const void *data,
                            uint64_t n) {
    base_buf value = {0};
    size_t n_bytes;
    assert(kv_value_bytes(elem) != 0);
    append_le(&value, elem, 4);
    append_le(&value, n, 8);
    if (n > SIZE_MAX || !base_mul_size((size_t)n, kv_value_bytes(elem), &n_bytes))
        value.failed = true;
    else
        base_buf_append(&value, data, n_bytes);
    return put_encoded(w, key, FILE_ARR, &value);
}

rotor_status file_put_strings(file_writer *w, const char *key, const base_str *v, uint64_t n) {
    base_buf value = {0};
    append_le(&value, FILE_STR, 4);
    append_le(&value, n, 8);
    for (uint64_t i = 0; i < n; i++) append_str(&value, v[i]);
    return put_encoded(w, key, FILE_ARR, &value);
}

static uint64_t payload_bytes(const file_kv *kv) {
    if (kv->elem != FILE_STR) return kv->n * kv_value_bytes(kv->elem);
    if (kv->n == 0) return 0;
    uint64_t last = kv->str_at ? kv->str_at[kv->n - 1] : 0;
    return last + 8 + load_u64(kv->data + last);
}

rotor_status file_put_kv(file_writer *w, const file_kv *kv) {
    base_buf value = {0};
    char *key = base_strndup(kv->key.p, kv->key.n);
    if (!key) return base_fail_nomem(&w->failed, "gathering metadata");
    if (kv->type == FILE_ARR) {
        append_le(&value, kv->elem, 4);
        append_le(&value, kv->n, 8);
    }
    base_buf_append(&value, kv->data, (size_t)payload_bytes(kv));
    rotor_status st = put_encoded(w, key, kv->type, &value);
    base_free(key);
    return st;
}

/* ==== Tensors
 * ===================================================================================== */

static rotor_status describe(declared *d, uint32_t type, uint32_t n_dims, const uint64_t dims[4],
                             rotor_error *err) {
    d->info = type < QUANT_U8 ? quant_find(type) : NULL;
    if (!d->info || d->info->block_elems == 0)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "type %s cannot stand in a GGUF file",
                         quant_find(type) ? quant_find(type)->name : "unknown");
    if (n_dims < 1 || n_dims > 4)
        return base_fail(err, ROTOR_E_ARG, "%u dimensions, 1 to 4 expected", n_dims);
    uint64_t rows = 1;
    d->n_dims = n_dims;
    for (uint32_t i = 0; i < n_dims; i++) {
        d->dims[i] = dims[i];
        if (dims[i] == 0) return base_fail(err, ROTOR_E_ARG, "dimension %u is 0", i);
        if (i > 0 && !base_mul_u64(rows, dims[i], &rows))
            return base_fail(err, ROTOR_E_ARG, "dimensions multiply to more than 2^64");
    }
    return quant_tensor_bytes(d->info, rows, dims[0], &d->bytes, err);
}

rotor_status file_declare(file_writer *w, base_str name, uint32_t type, uint32_t n_dims,
                          const uint64_t dims[4], rotor_error *err) {
    declared d = {0};
    uint32_t seen;
    if (w->begun)
        return base_fail(err, ROTOR_E_STATE, "tensor %.*s: the header is written", (int)name.n,
                         name.p);
    if (!is_printable(name, MAX_TENSOR_NAME))
        return base_fail(err, ROTOR_E_ARG, "tensor name %.*s: 1 to %d printable bytes expected",
                         (int)BASE_MIN(name.n, 200), name.p, MAX_TENSOR_NAME);
    if (base_map_get(w->name_map, name, &seen))
        return base_fail(err, ROTOR_E_ARG, "tensor %.*s is declared twice", (int)name.n, name.p);
    rotor_status st = describe(&d, type, n_dims, dims, err);
    if (st != ROTOR_OK) return base_fail_in(err, st, "tensor %.*s", (int)name.n, name.p), st;
    d.name = base_strndup(name.p, name.n);
    if (!d.name || !grow(&w->tensors, w->n_tensors, sizeof *w->tensors) ||
        base_map_put(w->name_map, (base_str){d.name, name.n}, 0, NULL) != ROTOR_OK) {
        base_free(d.name);
        return base_fail_nomem(err, "declaring a tensor");
    }
    w->tensors[w->n_tensors++] = d;
    return ROTOR_OK;
}

static uint64_t padding(const file_writer *w, uint64_t n) {
    return (w->alignment - n % w->alignment) % w->alignment;
}

static void append_infos(const file_writer *w, base_buf *b) {
    uint64_t offset = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const declared *d = &w->tensors[i];
        append_str(b, base_str_of(d->name));
        append_le(b, d->n_dims, 4);
        for (uint32_t k = 0; k < d->n_dims; k++) append_le(b, d->dims[k], 8);
        append_le(b, d->info->id, 4);
        append_le(b, offset, 8);
        offset += d->bytes + padding(w, d->bytes); /* a sum past 2^64 fills no disk */
    }
}

/* Every file with a T5 tensor says the version of its layout; no writer can forget it. */
static void put_t5_version(file_writer *w) {
    size_t i = 0;
    while (i < w->n_tensors && w->tensors[i].info->id != QUANT_T5) i++;
    if (i < w->n_tensors) file_put_u32(w, QUANT_T5_KEY, QUANT_T5_VERSION);
}

rotor_status file_begin(file_writer *w, rotor_error *err) {
    base_buf head = {0};
    if (w->begun) return base_fail(err, ROTOR_E_STATE, "the header is written already");
    put_t5_version(w);
    if (w->failed.code != ROTOR_OK)
        return base_fail(err, w->failed.code, "%s: %s", w->out.path, w->failed.message);
    base_buf_append(&head, "GGUF", 4);
    append_le(&head, 3, 4);
    append_le(&head, w->n_tensors, 8);
    append_le(&head, w->n_kvs, 8);
    if (w->kvs.len) base_buf_append(&head, w->kvs.data, w->kvs.len);
    append_infos(w, &head);
    rotor_status st = head.failed ? base_fail_nomem(err, "writing a header")
                                  : base_out_write(&w->out, head.data, head.len, err);
    if (st == ROTOR_OK && w->n_tensors) st = base_out_zeros(&w->out, padding(w, head.len), err);
    base_buf_free(&head);
    w->begun = st == ROTOR_OK;
    w->left = w->begun && w->n_tensors ? w->tensors[0].bytes : 0;
    return st;
}

/* Counts n bytes as written; pads and moves on when the tensor is complete. */
static rotor_status advance(file_writer *w, uint64_t n, rotor_error *err) {
    w->left -= n;
    if (w->left) return ROTOR_OK;
    uint64_t pad = padding(w, w->tensors[w->current].bytes);
    w->current++;
    w->left = w->current < w->n_tensors ? w->tensors[w->current].bytes : 0;
    return base_out_zeros(&w->out, pad, err);
}

rotor_status file_write(file_writer *w, const void *p, size_t n_bytes, rotor_error *err) {
    if (!w->begun) return base_fail(err, ROTOR_E_STATE, "tensor bytes before the header");
    if (n_bytes == 0) return ROTOR_OK;
    if (n_bytes > w->left)
        return base_fail(err, ROTOR_E_ARG, "tensor %s: %zu bytes given, %llu are missing",
                         w->current < w->n_tensors ? w->tensors[w->current].name
                                                   : "(all are written)",
                         n_bytes, (ull)w->left);
    ROTOR_TRY(base_out_write(&w->out, p, n_bytes, err));
    return advance(w, n_bytes, err);
}

rotor_status file_write_hole(file_writer *w, rotor_error *err) {
    if (!w->begun || w->left == 0)
        return base_fail(err, ROTOR_E_STATE, "a hole where no tensor is expected");
    ROTOR_TRY(base_out_skip(&w->out, w->left, err));
    return advance(w, w->left, err);
}

rotor_status file_commit(file_writer *w, rotor_error *err) {
    if (!w->begun || w->current != w->n_tensors)
        return base_fail(err, ROTOR_E_STATE, "%s: %s of %zu tensors is incomplete by %llu bytes",
                         w->out.path ? w->out.path : "(closed)",
                         w->begun ? w->tensors[w->current].name : "the first", w->n_tensors,
                         (ull)w->left);
    return base_out_commit(&w->out, err);
}
