/* SPDX-License-Identifier: MIT
 *
 * Reading GGUF, versions 2 and 3, little-endian.
 *
 *   "GGUF" | version u32 | n_tensors u64 | n_kvs u64
 *   n_kvs     x  key string | type u32 | value            string = length u64 | bytes
 *   n_tensors x  name string | n_dims u32 | dims u64[n_dims] | type u32 | offset u64
 *   zeros up to general.alignment, then the data section that offsets count from
 *
 * The file is hostile until proven otherwise. One cursor walks it; nothing is added to a position
 * before the remaining bytes are known to suffice, no count is believed before the bytes it needs
 * are there, and a file byte buys at most about four bytes of heap. Nothing is copied: keys, names
 * and values are slices of the mapping; only the tables and the offsets of array strings are heap.
 */
#include "file/file_internal.h"

#include <stdio.h>

enum {
    MAX_KVS = 65536,
    MIN_KV_BYTES = 14,     /* one-byte key, one-byte value */
    MIN_TENSOR_BYTES = 33, /* one-byte name, one dimension */
    MAX_TENSOR_NAME = 63,
    MAX_ARRAY = 16 << 20,       /* elements */
    MAX_ARRAY_STRING = 1 << 20, /* bytes of one string in an array */
    MAX_STRING = 64 << 20,      /* bytes of a string value */
    MAX_ALIGNMENT = 1 << 20,
    DEFAULT_ALIGNMENT = 32
};

typedef struct cursor {
    const uint8_t *base; /* start of the file */
    uint64_t size;       /* bytes in the file */
    uint64_t pos;        /* next byte; pos <= size always */
    rotor_error *err;    /* where failures are written */
} cursor;

typedef struct header {
    uint64_t n_tensors; /* tensor infos that follow the metadata */
    uint64_t n_kvs;     /* metadata entries */
} header;

/* Metadata of one shard while it is read. */
typedef struct kv_table {
    file_kv *rows; /* n_rows of them */
    size_t n_rows; /* complete rows */
    base_map *map; /* key to row */
} kv_table;

/* ==== Cursor
 * ====================================================================================== */

static rotor_status take(cursor *c, uint64_t n, const char *what, const uint8_t **p) {
    if (n > c->size - c->pos) {
        base_fail(c->err, ROTOR_E_FORMAT, "byte %llu: %s needs %llu bytes, the file has %llu left",
                  (ull)c->pos, what, (ull)n, (ull)(c->size - c->pos));
        return ROTOR_E_FORMAT;
    }
    *p = c->base + c->pos;
    c->pos += n;
    return ROTOR_OK;
}

static rotor_status take_u32(cursor *c, const char *what, uint32_t *v) {
    const uint8_t *p;
    ROTOR_TRY(take(c, 4, what, &p));
    *v = load_u32(p);
    return ROTOR_OK;
}

static rotor_status take_u64(cursor *c, const char *what, uint64_t *v) {
    const uint8_t *p;
    ROTOR_TRY(take(c, 8, what, &p));
    *v = load_u64(p);
    return ROTOR_OK;
}

static rotor_status take_string(cursor *c, const char *what, uint64_t max, base_str *s) {
    const uint64_t at = c->pos;
    uint64_t n;
    const uint8_t *p;
    ROTOR_TRY(take_u64(c, what, &n));
    if (n > c->size - c->pos || n > max)
        return base_fail(c->err, ROTOR_E_FORMAT,
                         "byte %llu: %s has length %llu, at most %llu is possible here", (ull)at,
                         what, (ull)n, (ull)BASE_MIN(max, c->size - c->pos));
    ROTOR_TRY(take(c, n, what, &p));
    *s = (base_str){(const char *)p, (size_t)n};
    return ROTOR_OK;
}

/* Keys and tensor names: not empty, printable ASCII, so that they can be shown and compared. */
static rotor_status take_name(cursor *c, const char *what, uint64_t max, base_str *s) {
    const uint64_t at = c->pos;
    ROTOR_TRY(take_string(c, what, max, s));
    if (s->n == 0)
        return base_fail(c->err, ROTOR_E_FORMAT, "byte %llu: %s is empty", (ull)at, what);
    for (size_t i = 0; i < s->n; i++)
        if ((uint8_t)s->p[i] < 0x20 || (uint8_t)s->p[i] > 0x7E)
            return base_fail(
                c->err, ROTOR_E_FORMAT,
                "byte %llu: %s holds byte %02X at position %zu; printable ASCII expected", (ull)at,
                what, (unsigned)(uint8_t)s->p[i], i);
    return ROTOR_OK;
}

/* ==== Header
 * ====================================================================================== */

static rotor_status check_count(const cursor *c, const char *what, uint64_t n, uint64_t max,
                                uint64_t min_bytes) {
    uint64_t room = (c->size - c->pos) / min_bytes;
    if (n <= max && n <= room) return ROTOR_OK;
    return base_fail(c->err, ROTOR_E_FORMAT,
                     "header: %llu %s cannot stand in the %llu bytes that follow (at most %llu)",
                     (ull)n, what, (ull)(c->size - c->pos), (ull)BASE_MIN(max, room));
}

static rotor_status read_header(cursor *c, header *h) {
    const uint8_t *magic;
    uint32_t version;
    ROTOR_TRY(take(c, 4, "magic", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return base_fail(c->err, ROTOR_E_FORMAT,
                         "byte 0: magic %02X %02X %02X %02X, expected 47 47 55 46 (GGUF)", magic[0],
                         magic[1], magic[2], magic[3]);
    ROTOR_TRY(take_u32(c, "version", &version));
    if (version != 0 && (version & 0xFFFF) == 0)
        return base_fail(c->err, ROTOR_E_UNSUPPORTED,
                         "byte 4: a big-endian GGUF file (version %08X); only little-endian files "
                         "can be read",
                         version);
    if (version == 1)
        return base_fail(c->err, ROTOR_E_UNSUPPORTED,
                         "byte 4: GGUF version 1, which nobody writes any more; convert the model "
                         "again (expected version 2 or 3)");
    if (version != 2 && version != 3)
        return base_fail(c->err, ROTOR_E_UNSUPPORTED, "byte 4: GGUF version %u, expected 2 or 3",
                         version);
    ROTOR_TRY(take_u64(c, "tensor count", &h->n_tensors));
    ROTOR_TRY(take_u64(c, "metadata count", &h->n_kvs));
    ROTOR_TRY(check_count(c, "metadata entries", h->n_kvs, MAX_KVS, MIN_KV_BYTES));
    return check_count(c, "tensors", h->n_tensors, FILE_MAX_TENSORS, MIN_TENSOR_BYTES);
}

/* ==== Metadata
 * ==================================================================================== */

static rotor_status check_bools(const cursor *c, const uint8_t *p, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return base_fail(c->err, ROTOR_E_FORMAT,
                             "element %llu: boolean byte %02X, expected 00 or 01", (ull)i, p[i]);
    return ROTOR_OK;
}

static rotor_status read_string_array(cursor *c, file_kv *kv) {
    const uint64_t begin = c->pos;
    if (kv->n > (c->size - c->pos) / 8) /* each has a length field */
        return base_fail(c->err, ROTOR_E_FORMAT,
                         "byte %llu: %llu strings do not fit the %llu bytes left", (ull)c->pos,
                         (ull)kv->n, (ull)(c->size - c->pos));
    uint64_t *at = base_alloc_array((size_t)kv->n, sizeof *at);
    if (!at) return base_fail_nomem(c->err, "indexing an array of strings");
    kv->str_at = at; /* owned by the row from here on, also when this fails */
    for (uint64_t i = 0; i < kv->n; i++) {
        base_str s;
        at[i] = c->pos - begin;
        rotor_status st = take_string(c, "array string", MAX_ARRAY_STRING, &s);
        if (st != ROTOR_OK) return base_fail_in(c->err, st, "element %llu", (ull)i), st;
    }
    return ROTOR_OK;
}

static rotor_status read_array(cursor *c, file_kv *kv) {
    uint32_t elem;
    const uint8_t *p;
    ROTOR_TRY(take_u32(c, "array element type", &elem));
    ROTOR_TRY(take_u64(c, "array length", &kv->n));
    if (elem == FILE_ARR || elem > FILE_F64)
        return base_fail(c->err, ROTOR_E_FORMAT, "array of type %u (%s); 0-8 and 10-12 expected",
                         elem, kv_type_name(elem));
    if (kv->n > MAX_ARRAY)
        return base_fail(c->err, ROTOR_E_FORMAT, "array of %llu elements, at most %d are accepted",
                         (ull)kv->n, MAX_ARRAY);
    kv->elem = (file_kv_type)elem;
    kv->data = c->base + c->pos;
    if (elem == FILE_STR) return read_string_array(c, kv);
    ROTOR_TRY(take(c, kv->n * kv_value_bytes(elem), "array", &p)); /* n is capped: no overflow */
    return elem == FILE_BOOL ? check_bools(c, p, kv->n) : ROTOR_OK;
}

static rotor_status read_value(cursor *c, uint32_t type, file_kv *kv) {
    base_str s;
    const uint8_t *p;
    if (type > FILE_F64)
        return base_fail(c->err, ROTOR_E_FORMAT, "value type %u, 0-12 expected", type);
    kv->type = kv->elem = (file_kv_type)type;
    kv->n = 1;
    kv->data = c->base + c->pos;
    if (type == FILE_ARR) return read_array(c, kv);
    if (type == FILE_STR) return take_string(c, "string value", MAX_STRING, &s);
    ROTOR_TRY(take(c, kv_value_bytes(type), "value", &p));
    return type == FILE_BOOL ? check_bools(c, p, 1) : ROTOR_OK;
}

static rotor_status read_kv(cursor *c, kv_table *t) {
    file_kv *kv = &t->rows[t->n_rows];
    const uint64_t at = c->pos;
    uint32_t type;
    bool existed = false;
    ROTOR_TRY(take_name(c, "metadata key", FILE_MAX_NAME_BYTES, &kv->key));
    ROTOR_TRY(take_u32(c, "metadata type", &type));
    if (base_map_put(t->map, kv->key, (uint32_t)t->n_rows, &existed) != ROTOR_OK)
        return base_fail_nomem(c->err, "indexing metadata");
    if (existed)
        return base_fail(c->err, ROTOR_E_FORMAT, "byte %llu: key %.*s appears twice", (ull)at,
                         (int)BASE_MIN(kv->key.n, 100), kv->key.p);
    t->n_rows++; /* before the value, so that a failed one releases its index */
    rotor_status st = read_value(c, type, kv);
    if (st != ROTOR_OK)
        base_fail_in(c->err, st, "byte %llu: key %.*s", (ull)at, (int)BASE_MIN(kv->key.n, 100),
                     kv->key.p);
    return st;
}

static rotor_status read_kvs(cursor *c, uint64_t n, kv_table *t) {
    t->rows = base_alloc_array((size_t)n, sizeof *t->rows);
    if (!t->rows || base_map_create(&t->map, (size_t)n) != ROTOR_OK)
        return base_fail_nomem(c->err, "reading metadata");
    for (uint64_t i = 0; i < n; i++) ROTOR_TRY(read_kv(c, t));
    return ROTOR_OK;
}

static void free_kvs(kv_table *t) {
    for (size_t i = 0; i < t->n_rows; i++) base_free((void *)(uintptr_t)t->rows[i].str_at);
    base_free(t->rows);
    base_map_free(&t->map);
}

static const file_kv *find_kv(const kv_table *t, const char *key) {
    uint32_t i;
    return base_map_get(t->map, base_str_of(key), &i) ? &t->rows[i] : NULL;
}

static rotor_status read_alignment(const cursor *c, const kv_table *t, uint64_t *align) {
    const file_kv *kv = find_kv(t, "general.alignment");
    *align = DEFAULT_ALIGNMENT;
    if (!kv) return ROTOR_OK;
    if (kv->type != FILE_U32)
        return base_fail(c->err, ROTOR_E_FORMAT, "key general.alignment: type %s, expected u32",
                         kv_type_name(kv->type));
    *align = load_u32(kv->data);
    if (*align < 8 || *align > MAX_ALIGNMENT || (*align & (*align - 1)) != 0)
        return base_fail(c->err, ROTOR_E_FORMAT,
                         "key general.alignment: %llu, expected a power of two from 8 to %d",
                         (ull)*align, MAX_ALIGNMENT);
    return ROTOR_OK;
}

/* ==== Tensor infos
 * ================================================================================ */

static rotor_status refuse_type(const cursor *c, uint32_t id, const quant_info *info) {
    bool private_id =
        (id >= 97 && id <= 99) || (id >= 133 && id <= 158) || (id >= 202 && id <= 399);
    if (id == QUANT_TL1)
        return base_fail(
            c->err, ROTOR_E_UNSUPPORTED,
            "type id 38 is TL1 of bitnet.cpp: its tiling is fixed when that program is "
            "built and is not in the file. Use the I2_S file of this model");
    if (info)
        return base_fail(c->err, ROTOR_E_UNSUPPORTED,
                         "type id %u, %s, was withdrawn from the format; convert the model again",
                         id, info->name);
    return base_fail(c->err, ROTOR_E_UNSUPPORTED, "type id %u is unknown%s", id,
                     private_id ? " (a private type of ik_llama.cpp)" : "");
}

static rotor_status read_dims(cursor *c, file_tensor *t) {
    ROTOR_TRY(take_u32(c, "dimension count", &t->n_dims));
    if (t->n_dims < 1 || t->n_dims > 4)
        return base_fail(c->err, ROTOR_E_FORMAT, "%u dimensions, 1 to 4 expected", t->n_dims);
    uint64_t total = 1;
    t->rows = 1;
    for (uint32_t i = 0; i < 4; i++) {
        t->dims[i] = 1;
        if (i < t->n_dims) ROTOR_TRY(take_u64(c, "dimension", &t->dims[i]));
        if (t->dims[i] == 0)
            return base_fail(c->err, ROTOR_E_FORMAT, "dimension %u is 0, at least 1 expected", i);
        if (!base_mul_u64(total, t->dims[i], &total) || total > INT64_MAX)
            return base_fail(c->err, ROTOR_E_FORMAT,
                             "dimensions multiply to more than 2^63 (%llu at %u)", (ull)t->dims[i],
                             i);
        if (i > 0) t->rows *= t->dims[i];
    }
    return ROTOR_OK;
}

static rotor_status read_tensor(cursor *c, file_tensor *t) {
    uint32_t id;
    ROTOR_TRY(read_dims(c, t));
    ROTOR_TRY(take_u32(c, "tensor type", &id));
    ROTOR_TRY(take_u64(c, "tensor offset", &t->offset));
    t->info = id < QUANT_U8 ? quant_find(id) : NULL;
    if (!t->info || t->info->block_elems == 0) return refuse_type(c, id, t->info);
    return quant_tensor_bytes(t->info, t->rows, t->dims[0], &t->bytes, c->err);
}

static rotor_status read_tensors(file_model *m, cursor *c, uint64_t n, uint32_t shard) {
    ROTOR_TRY(model_reserve_tensors(m, (size_t)n, c->err));
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t at = c->pos;
        file_tensor t = {.shard = shard};
        rotor_status st = take_name(c, "tensor name", MAX_TENSOR_NAME, &t.name);
        if (st != ROTOR_OK)
            return base_fail_in(c->err, st, "tensor %llu of %llu", (ull)i, (ull)n), st;
        st = read_tensor(c, &t);
        if (st != ROTOR_OK)
            return base_fail_in(c->err, st, "tensor %.*s (info at byte %llu)", (int)t.name.n,
                                t.name.p, (ull)at),
                   st;
        ROTOR_TRY(model_add_tensor(m, &t, c->err));
    }
    return ROTOR_OK;
}

/* T5 tensors are laid out as the version in the metadata says: bytes of another version would be
 * read as other weights. */
static rotor_status check_t5_version(const file_model *m, const cursor *c, size_t first) {
    size_t i = first;
    while (i < m->n_tensors && m->tensors[i].info->id != QUANT_T5) i++;
    if (i == m->n_tensors) return ROTOR_OK;
    const file_tensor *t = &m->tensors[i];
    const file_kv *kv = file_kv_find(m, QUANT_T5_KEY);
    uint64_t version;
    if (!kv || !file_kv_u64(kv, 0, &version))
        return base_fail(c->err, ROTOR_E_FORMAT,
                         "tensor %.*s is of type T5, and key " QUANT_T5_KEY
                         ", the version of its layout, is missing or no number",
                         (int)t->name.n, t->name.p);
    if (version == QUANT_T5_VERSION) return ROTOR_OK;
    return base_fail(c->err, ROTOR_E_UNSUPPORTED,
                     "tensor %.*s is of type T5 version %llu; this program knows version %d "
                     "(key " QUANT_T5_KEY ")",
                     (int)t->name.n, t->name.p, (ull)version, QUANT_T5_VERSION);
}

/* ==== A whole shard
 * =============================================================================== */

static rotor_status data_begins(const cursor *c, uint64_t align, uint64_t *begin) {
    if (base_round_up_u64(c->pos, align, begin) && *begin <= c->size) return ROTOR_OK;
    return base_fail(
        c->err, ROTOR_E_FORMAT,
        "the tensor list ends at byte %llu of %llu and no tensor data follows: the file "
        "is cut short (download it again)",
        (ull)c->pos, (ull)c->size);
}

static rotor_status check_shard_number(const cursor *c, const kv_table *t, uint32_t shard) {
    const file_kv *kv = find_kv(t, "split.no");
    uint64_t no;
    if (shard == 0) return ROTOR_OK; /* gguf_open_split asks, with the path at hand */
    if (!kv || !file_kv_u64(kv, 0, &no))
        return base_fail(c->err, ROTOR_E_FORMAT,
                         "key split.no is missing from a part of a split model");
    if (no != shard)
        return base_fail(c->err, ROTOR_E_FORMAT,
                         "key split.no: %llu, expected %u by the file's name", (ull)no, shard);
    return ROTOR_OK;
}

static rotor_status parse_shard(file_model *m, cursor *c, uint32_t shard, kv_table *kvs) {
    header h;
    uint64_t align, begin;
    const size_t first = m->n_tensors;
    ROTOR_TRY(read_header(c, &h));
    ROTOR_TRY(read_kvs(c, h.n_kvs, kvs));
    ROTOR_TRY(read_alignment(c, kvs, &align));
    ROTOR_TRY(check_shard_number(c, kvs, shard));
    if (shard == 0) { /* moved before the tensors are placed: the architecture is asked for there */
        m->kvs = kvs->rows;
        m->n_kvs = kvs->n_rows;
        m->kv_by_key = kvs->map;
        *kvs = (kv_table){0};
    }
    ROTOR_TRY(read_tensors(m, c, h.n_tensors, shard));
    ROTOR_TRY(check_t5_version(m, c, first));
    if (h.n_tensors == 0) return ROTOR_OK;
    ROTOR_TRY(data_begins(c, align, &begin));
    return model_place_tensors(m, first, begin, align, c->err);
}

rotor_status gguf_parse(file_model *m, uint32_t shard, rotor_error *err) {
    const base_file *f = &m->shards[shard];
    cursor c = {f->data, f->size, 0, err};
    kv_table kvs = {0};
    rotor_status st = parse_shard(m, &c, shard, &kvs);
    free_kvs(&kvs);
    return st;
}

/* ==== Split models
 * ================================================================================ */

/* "<prefix>-00001-of-00003.gguf": rewrites the number in place. False when path does not end so. */
static bool set_shard_number(char *path, uint64_t no, uint64_t count) {
    char tail[64];
    size_t n = strlen(path);
    int k = snprintf(tail, sizeof tail, "-of-%05llu.gguf", (ull)count);
    if (k < 0 || n < (size_t)k + 6 || strcmp(path + n - k, tail) != 0) return false;
    char *digits = path + n - k - 5;
    if (digits[-1] != '-') return false;
    for (int i = 0; i < 5; i++)
        if (digits[i] < '0' || digits[i] > '9') return false;
    snprintf(tail, sizeof tail, "%05llu", (ull)no);
    memcpy(digits, tail, 5);
    return true;
}

static rotor_status open_rest(file_model *m, char *path, uint64_t count, bool map,
                              rotor_error *err) {
    ROTOR_TRY(model_reserve_shards(m, (size_t)count, err));
    for (uint32_t i = 1; i < count; i++) {
        set_shard_number(path, i + 1, count);
        rotor_status st = model_open_shard(m, path, map, err);
        if (st != ROTOR_OK)
            return base_fail_in(err, st, "part %u of %llu of a split model", i + 1, (ull)count), st;
        st = gguf_parse(m, i, err);
        if (st != ROTOR_OK) return base_fail_in(err, st, "%s", path), st;
    }
    return ROTOR_OK;
}

static bool kv_number(const file_model *m, const char *key, uint64_t *v) {
    const file_kv *kv = file_kv_find(m, key);
    return kv && file_kv_u64(kv, 0, v);
}

rotor_status gguf_open_split(file_model *m, bool map, rotor_error *err) {
    uint64_t count = 1, no = 0, total;
    if (!file_kv_find(m, "split.count")) return ROTOR_OK;
    if (!kv_number(m, "split.count", &count) || count < 1 || count > FILE_MAX_SHARDS)
        return base_fail(err, ROTOR_E_FORMAT, "%s: key split.count: a number from 1 to %d expected",
                         m->path, FILE_MAX_SHARDS);
    if (count == 1) return ROTOR_OK;
    char *path = base_strdup(m->path);
    if (!path) return base_fail_nomem(err, "opening a split model");
    kv_number(m, "split.no", &no);
    rotor_status st;
    if (m->borrowed)
        st = base_fail(err, ROTOR_E_UNSUPPORTED, "a split model cannot be read from memory");
    else if (!set_shard_number(path, 1, count))
        st = base_fail(err, ROTOR_E_FORMAT,
                       "%s: part %llu of %llu of a split model, but its name does not end in "
                       "-%05llu-of-%05llu.gguf, so the other parts cannot be found",
                       m->path, (ull)no + 1, (ull)count, (ull)no + 1, (ull)count);
    else if (no != 0)
        st = base_fail(err, ROTOR_E_ARG, "%s: part %llu of %llu of a split model; open %s instead",
                       m->path, (ull)no + 1, (ull)count, path);
    else
        st = open_rest(m, path, count, map, err);
    if (st == ROTOR_OK && kv_number(m, "split.tensors.count", &total) && total != m->n_tensors)
        st = base_fail(err, ROTOR_E_FORMAT,
                       "%s: key split.tensors.count: %llu, but the %llu parts hold %zu tensors",
                       m->path, (ull)total, (ull)count, m->n_tensors);
    base_free(path);
    return st;
}
