/* SPDX-License-Identifier: MIT
 *
 * file: model files as names, types, shapes and bytes, without meaning. GGUF v2/v3 (single and
 * split), safetensors (single and sharded HF folders), and the GGUF writer.
 *
 * A file_model is immutable after open and may be read from any thread. Everything it returns is
 * borrowed and lives until file_close. Every size and offset in it has been checked against the
 * file once, at open: readers need no further checks.
 */
#ifndef FILE_H
#define FILE_H

#include "base/base.h"
#include "quant/quant.h"

typedef struct file_model file_model;

typedef enum file_kind { FILE_GGUF, FILE_SAFETENSORS } file_kind;

typedef struct file_options {
    bool no_map;         /* read into memory instead of mapping */
    const base_log *log; /* warnings; may be NULL */
} file_options;

/* path: a GGUF file (first shard of a split), a safetensors file (both recognised by content), or a
 * HF folder. */
rotor_status file_open(file_model **out, const char *path, const file_options *opt,
                       rotor_error *err);
/* Parses a GGUF or safetensors image in memory (tests, fuzzing, the embedded model). The bytes are
 * borrowed and must outlive the file_model; name is used in messages. */
rotor_status file_open_memory(file_model **out, const void *data, size_t n_bytes, const char *name,
                              const file_options *opt, rotor_error *err);
void file_close(file_model **m);

file_kind file_kind_of(const file_model *m);
const char *file_path(const file_model *m);
uint64_t file_total_bytes(const file_model *m); /* of all shards */
/* Of which files it was opened from, and when they were written; 0: from memory. */
uint64_t file_id(const file_model *m);
/* Fails when a mapped file was cut or changed since open. */
rotor_status file_unchanged(const file_model *m, rotor_error *err);
/* Whole mapped files, to release pages (i in [0, n)). */
size_t file_n_shards(const file_model *m);
const base_file *file_shard(const file_model *m, size_t i);

/* ---- Tensors --------------------------------------------------------------------------------- */

typedef struct file_tensor {
    base_str name;          /* unique over all shards */
    const quant_info *info; /* registry row; a type without decoder is still listed */
    uint32_t n_dims;        /* 1..4 (0-d safetensors read as 1) */
    uint64_t dims[4];       /* dims[0] is the fastest (row length); unused ones are 1 */
    uint64_t rows;          /* dims[1] * dims[2] * dims[3] */
    uint64_t bytes;         /* size in the file */
    const uint8_t *data;    /* any alignment */
    uint64_t offset;        /* absolute, in its shard, for messages */
    uint32_t shard;         /* index for file_shard */
} file_tensor;

size_t file_n_tensors(const file_model *m);
const file_tensor *file_tensor_at(const file_model *m, size_t i);           /* in file order */
const file_tensor *file_tensor_find(const file_model *m, const char *name); /* NULL: absent */
/* Tells the system that bytes of the file are not needed now; they can still be read. */
void file_drop(const file_model *m, const uint8_t *data, size_t n_bytes);

/* ---- GGUF metadata (none in safetensors) ----------------------------------------------------- */

typedef enum file_kv_type {
    FILE_U8,
    FILE_I8,
    FILE_U16,
    FILE_I16,
    FILE_U32,
    FILE_I32,
    FILE_F32,
    FILE_BOOL,
    FILE_STR,
    FILE_ARR,
    FILE_U64,
    FILE_I64,
    FILE_F64
} file_kv_type;

typedef struct file_kv {
    base_str key;           /* unique */
    file_kv_type type;      /* FILE_ARR for arrays */
    file_kv_type elem;      /* element type of an array, else same as type */
    uint64_t n;             /* elements; 1 for scalars */
    const uint8_t *data;    /* first value byte (strings: the length field), any alignment */
    const uint64_t *str_at; /* string arrays: offset of each element's length field from data */
} file_kv;

size_t file_n_kvs(const file_model *m);
const file_kv *file_kv_at(const file_model *m, size_t i);
const file_kv *file_kv_find(const file_model *m, const char *key); /* NULL: absent */

/* Element i of a scalar (i = 0) or array, converted. False when the type cannot be converted
 * (float to integer, out of range, negative to unsigned). */
bool file_kv_u64(const file_kv *kv, uint64_t i, uint64_t *out);
bool file_kv_i64(const file_kv *kv, uint64_t i, int64_t *out);
bool file_kv_f64(const file_kv *kv, uint64_t i, double *out); /* any number */
bool file_kv_bool(const file_kv *kv, uint64_t i, bool *out);
bool file_kv_str(const file_kv *kv, uint64_t i, base_str *out);

/* ---- HF folders ------------------------------------------------------------------------------ */

/* Whole text of a side file of the folder ("config.json", "tokenizer.json", "1_Pooling/config.json"
 * …; the list stands in hf_folder.c); empty and false when it does not exist. Beside a bare
 * .safetensors file, its own folder is searched. */
bool file_side(const file_model *m, const char *name, base_str *text);

/* ---- Writing GGUF -------------------------------------------------------------------------------
 * create; put metadata; declare tensors; begin (writes the header); write each tensor's bytes in
 * declared order; commit. The file appears under its name only at commit. */
typedef struct file_writer file_writer;
rotor_status file_writer_create(file_writer **out, const char *path, rotor_error *err);
void file_writer_free(file_writer **w); /* before commit: removes what was written */

rotor_status file_put_u32(file_writer *w, const char *key, uint32_t v);
rotor_status file_put_i32(file_writer *w, const char *key, int32_t v);
rotor_status file_put_u64(file_writer *w, const char *key, uint64_t v);
rotor_status file_put_f32(file_writer *w, const char *key, float v);
rotor_status file_put_bool(file_writer *w, const char *key, bool v);
rotor_status file_put_str(file_writer *w, const char *key, base_str v);
/* elem: FILE_U8 … FILE_F64 (not FILE_STR); data: n elements, packed little-endian. */
rotor_status file_put_array(file_writer *w, const char *key, file_kv_type elem, const void *data,
                            uint64_t n);
rotor_status file_put_strings(file_writer *w, const char *key, const base_str *v, uint64_t n);
rotor_status file_put_kv(file_writer *w, const file_kv *kv); /* copies one from another file */
rotor_status file_declare(file_writer *w, base_str name, uint32_t type, uint32_t n_dims,
                          const uint64_t dims[4], rotor_error *err);
rotor_status file_begin(file_writer *w, rotor_error *err);
/* Bytes of the current tensor, in any number of pieces. */
rotor_status file_write(file_writer *w, const void *p, size_t n_bytes, rotor_error *err);
/* Leaves the rest of the current tensor as a hole (reads as zeros). */
rotor_status file_write_hole(file_writer *w, rotor_error *err);
rotor_status file_commit(file_writer *w, rotor_error *err);

#endif
