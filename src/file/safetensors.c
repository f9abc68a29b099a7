/* SPDX-License-Identifier: MIT
 *
 * Reading one safetensors file.
 *
 *   header length N u64 | N bytes of JSON | tensor data, to the end of the file
 *   JSON: { "name": {"dtype": "BF16", "shape": [out, in], "data_offsets": [begin, end]}, …,
 *           "__metadata__": {string: string} }
 *
 * The format wants the tensors to cover the data section exactly, without holes or overlap; that
 * is checked. Shapes list the slowest dimension first; dims[] has the fastest first, as in GGUF.
 * Names are unescaped by the JSON reader and copied into one block per shard: their bytes cannot
 * exceed the header's.
 */
#include "file/file_internal.h"

#include <jansson.h>

enum { MAX_HEADER_BYTES = 100000000 }; /* the reference implementation's limit */

typedef struct dtype_row {
    const char *name; /* as in the header */
    uint32_t type;    /* quant_type */
} dtype_row;

static const dtype_row dtypes[] = {
    {"F32", QUANT_F32}, {"BF16", QUANT_BF16},       {"F16", QUANT_F16},        {"U8", QUANT_U8},
    {"I8", QUANT_I8},   {"BOOL", QUANT_BOOL},       {"I16", QUANT_I16},        {"I32", QUANT_I32},
    {"I64", QUANT_I64}, {"F64", QUANT_F64},         {"U16", QUANT_U16},        {"U32", QUANT_U32},
    {"U64", QUANT_U64}, {"F8_E4M3", QUANT_F8_E4M3}, {"F8_E5M2", QUANT_F8_E5M2}};

static const quant_info *find_dtype(const char *name) {
    for (size_t i = 0; name && i < BASE_COUNT(dtypes); i++)
        if (strcmp(dtypes[i].name, name) == 0) return quant_find(dtypes[i].type);
    return NULL;
}

static rotor_status read_shape(const json_t *shape, file_tensor *t, rotor_error *err) {
    size_t n = json_array_size(shape);
    uint64_t total = 1;
    if (!json_is_array(shape)) return base_fail(err, ROTOR_E_FORMAT, "shape is not an array");
    if (n > 4)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%zu dimensions, at most 4 are supported", n);
    t->n_dims = n ? (uint32_t)n : 1;
    for (size_t i = 0; i < 4; i++) t->dims[i] = 1;
    t->rows = 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(shape, n - 1 - i);
        if (!json_is_integer(v) || json_integer_value(v) < 1)
            return base_fail(err, ROTOR_E_UNSUPPORTED,
                             "dimension %zu of shape: a number of at least 1 expected", n - 1 - i);
        t->dims[i] = (uint64_t)json_integer_value(v);
        if (!base_mul_u64(total, t->dims[i], &total) || total > INT64_MAX)
            return base_fail(err, ROTOR_E_FORMAT, "shape multiplies to more than 2^63");
        if (i > 0) t->rows *= t->dims[i];
    }
    return ROTOR_OK;
}

static rotor_status read_offsets(const json_t *offsets, file_tensor *t, rotor_error *err) {
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return base_fail(err, ROTOR_E_FORMAT, "data_offsets: two numbers expected");
    int64_t b = json_integer_value(begin), e = json_integer_value(end);
    if (b < 0 || e < b || (uint64_t)(e - b) != t->bytes)
        return base_fail(err, ROTOR_E_FORMAT,
                         "data_offsets [%lld, %lld], expected %llu bytes of %s", (long long)b,
                         (long long)e, (ull)t->bytes, t->info->name);
    t->offset = (uint64_t)b;
    return ROTOR_OK;
}

static rotor_status read_entry(const json_t *entry, file_tensor *t, rotor_error *err) {
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!json_is_object(entry)) return base_fail(err, ROTOR_E_FORMAT, "not an object");
    t->info = find_dtype(dtype);
    if (!t->info)
        return base_fail(
            err, dtype ? ROTOR_E_UNSUPPORTED : ROTOR_E_FORMAT,
            "dtype %.40s is unknown; F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL and their "
            "like are known",
            dtype ? dtype : "(missing)");
    ROTOR_TRY(read_shape(json_object_get(entry, "shape"), t, err));
    ROTOR_TRY(quant_tensor_bytes(t->info, t->rows, t->dims[0], &t->bytes, err));
    return read_offsets(json_object_get(entry, "data_offsets"), t, err);
}

static bool name_is_good(const char *name, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)name[i] < 0x20 || name[i] == 0x7F) return false;
    return n >= 1 && n <= FILE_MAX_NAME_BYTES;
}

static rotor_status read_entries(file_model *m, json_t *root, uint32_t shard, size_t room,
                                 rotor_error *err) {
    char *names = base_alloc(room);
    const char *name;
    json_t *entry;
    if (!names) return base_fail_nomem(err, "reading tensor names");
    m->names[shard] = names;
    ROTOR_TRY(model_reserve_tensors(m, json_object_size(root), err));
    json_object_foreach(root, name, entry) {
        file_tensor t = {.shard = shard};
        size_t n = strlen(name);
        if (strcmp(name, "__metadata__") == 0) continue;
        if (!name_is_good(name, n))
            return base_fail(err, ROTOR_E_FORMAT,
                             "header: a tensor name of %zu bytes; 1 to %d printable ones expected",
                             n, FILE_MAX_NAME_BYTES);
        memcpy(names, name, n);
        t.name = (base_str){names, n};
        names += n;
        rotor_status st = read_entry(entry, &t, err);
        if (st != ROTOR_OK) return base_fail_in(err, st, "tensor %.100s", name), st;
        ROTOR_TRY(model_add_tensor(m, &t, err));
    }
    return ROTOR_OK;
}

/* Together with the overlap check: no byte of the data section is unaccounted for. */
static rotor_status check_cover(const file_model *m, size_t first, uint64_t data_bytes,
                                rotor_error *err) {
    uint64_t total = 0;
    for (size_t i = first; i < m->n_tensors; i++) total += m->tensors[i].bytes;
    if (total == data_bytes) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FORMAT,
                     "the tensors take %llu bytes, but the data section has %llu", (ull)total,
                     (ull)data_bytes);
}

rotor_status safetensors_parse(file_model *m, uint32_t shard, rotor_error *err) {
    const base_file *f = &m->shards[shard];
    const size_t first = m->n_tensors;
    json_error_t json_err;
    if (f->size < 8)
        return base_fail(err, ROTOR_E_FORMAT, "%zu bytes, a safetensors file has at least 8",
                         f->size);
    uint64_t n = load_u64(f->data);
    if (n > f->size - 8 || n > MAX_HEADER_BYTES)
        return base_fail(
            err, ROTOR_E_FORMAT,
            "byte 0: header length %llu, at most %llu is possible in a file of %zu bytes", (ull)n,
            (ull)BASE_MIN(f->size - 8, (size_t)MAX_HEADER_BYTES), f->size);
    json_t *root =
        json_loadb((const char *)f->data + 8, (size_t)n, JSON_REJECT_DUPLICATES, &json_err);
    if (!root || !json_is_object(root)) {
        rotor_status st =
            root ? base_fail(err, ROTOR_E_FORMAT, "byte 8: the header is not a JSON object")
                 : base_fail(err, ROTOR_E_FORMAT, "byte %d: header: %s",
                             8 + BASE_MAX(json_err.position, 0), json_err.text);
        json_decref(root);
        return st;
    }
    rotor_status st = read_entries(m, root, shard, (size_t)n, err);
    json_decref(root);
    if (st == ROTOR_OK) st = model_place_tensors(m, first, 8 + n, 1, err);
    if (st == ROTOR_OK) st = check_cover(m, first, f->size - 8 - n, err);
    return st;
}
