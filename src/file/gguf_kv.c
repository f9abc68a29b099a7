/* SPDX-License-Identifier: MIT
 *
 * Typed access to GGUF metadata. Writers disagree about integer widths (u16, i32, u32 and u64 are
 * all met for counts), so every getter takes any type whose value fits its own, and fails, never
 * truncates, otherwise. Strings and booleans are not numbers here.
 */
#include "file/file_internal.h"

static const char *const type_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
static const uint8_t type_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

uint32_t kv_value_bytes(uint32_t type) { return type <= FILE_F64 ? type_bytes[type] : 0; }
const char *kv_type_name(uint32_t type) { return type <= FILE_F64 ? type_names[type] : "unknown"; }

/* *above_i64: v holds the bits of a u64 that an i64 cannot. */
static bool integer(const file_kv *kv, uint64_t i, int64_t *v, bool *above_i64) {
    if (i >= kv->n) return false;
    uint32_t bytes = kv_value_bytes(kv->elem);
    const uint8_t *p = kv->data + i * bytes;
    *above_i64 = false;
    switch (kv->elem) {
    case FILE_U8:
        *v = p[0];
        return true;
    case FILE_I8:
        *v = (int8_t)p[0];
        return true;
    case FILE_U16:
        *v = p[0] | p[1] << 8;
        return true;
    case FILE_I16:
        *v = (int16_t)(p[0] | p[1] << 8);
        return true;
    case FILE_U32:
        *v = load_u32(p);
        return true;
    case FILE_I32:
        *v = (int32_t)load_u32(p);
        return true;
    case FILE_U64:
        *above_i64 = load_u64(p) > INT64_MAX; /* fallthrough */
    case FILE_I64:
        *v = (int64_t)load_u64(p);
        return true;
    default:
        return false;
    }
}

bool file_kv_u64(const file_kv *kv, uint64_t i, uint64_t *out) {
    int64_t v;
    bool above;
    if (!integer(kv, i, &v, &above) || (v < 0 && !above)) return false;
    *out = (uint64_t)v;
    return true;
}

bool file_kv_i64(const file_kv *kv, uint64_t i, int64_t *out) {
    int64_t v;
    bool above;
    if (!integer(kv, i, &v, &above) || above) return false;
    *out = v;
    return true;
}

bool file_kv_f64(const file_kv *kv, uint64_t i, double *out) {
    int64_t v;
    bool above;
    if (integer(kv, i, &v, &above)) {
        *out = above ? (double)(uint64_t)v : (double)v;
        return true;
    }
    if (i >= kv->n || (kv->elem != FILE_F32 && kv->elem != FILE_F64)) return false;
    if (kv->elem == FILE_F64) {
        memcpy(out, kv->data + i * 8, 8);
    } else {
        float f;
        memcpy(&f, kv->data + i * 4, 4);
        *out = (double)f;
    }
    return true;
}

bool file_kv_bool(const file_kv *kv, uint64_t i, bool *out) {
    if (i >= kv->n || kv->elem != FILE_BOOL) return false;
    *out = kv->data[i] != 0;
    return true;
}

bool file_kv_str(const file_kv *kv, uint64_t i, base_str *out) {
    if (i >= kv->n || kv->elem != FILE_STR) return false;
    const uint8_t *p = kv->data + (kv->str_at ? kv->str_at[i] : 0);
    *out = (base_str){(const char *)p + 8, (size_t)load_u64(p)};
    return true;
}
