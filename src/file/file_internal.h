/* SPDX-License-Identifier: MIT
 *
 * file_internal: the model file object and the steps of opening one, shared by this room's files.
 * No other room includes this.
 */
#ifndef FILE_INTERNAL_H
#define FILE_INTERNAL_H

#include "file/file.h"

enum {
    FILE_MAX_SHARDS = 1024,    /* parts of a split model */
    FILE_MAX_TENSORS = 262144, /* in one shard */
    FILE_MAX_NAME_BYTES = 1024 /* of a key or a safetensors tensor name */
};

typedef struct file_side_file {
    const char *name; /* static; relative to the folder */
    base_file file;   /* owned */
} file_side_file;

struct file_model {
    file_kind kind;           /* container format */
    char *path;               /* owned; what the caller asked for */
    const base_log *log;      /* where warnings go; may be NULL */
    bool borrowed;            /* the one shard's bytes belong to the caller */
    base_file *shards;        /* owned array; never moved once a tensor points into it */
    size_t n_shards;          /* files opened */
    file_kv *kvs;             /* owned; str_at of each owned too */
    size_t n_kvs;             /* rows of kvs */
    base_map *kv_by_key;      /* key to index in kvs; NULL without metadata */
    file_tensor *tensors;     /* owned, all shards in file order */
    size_t n_tensors;         /* rows of tensors */
    base_map *tensor_by_name; /* name to index in tensors */
    char **names;             /* one block per shard: unescaped safetensors names; else NULL */
    file_side_file *sides;    /* owned; side files of a HF folder */
    size_t n_sides;           /* rows of sides */
};

typedef unsigned long long ull; /* for messages */

static inline uint32_t load_u32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t load_u64(const uint8_t *p) {
    return load_u32(p) | (uint64_t)load_u32(p + 4) << 32;
}

/* Bytes of one GGUF metadata value; 0 for strings, arrays and unknown ids. */
uint32_t kv_value_bytes(uint32_t type);
const char *kv_type_name(uint32_t type);

/* Room for n_shards files; a shard's data pointer stays put from then on. */
rotor_status model_reserve_shards(file_model *m, size_t n_shards, rotor_error *err);
/* Opens the next shard. */
rotor_status model_open_shard(file_model *m, const char *path, bool map, rotor_error *err);
/* Room for n more tensors. */
rotor_status model_reserve_tensors(file_model *m, size_t n, rotor_error *err);
/* Appends to the reserved room; fails on a name that is there already. */
rotor_status model_add_tensor(file_model *m, const file_tensor *t, rotor_error *err);
/* Checks that tensors [first, n_tensors) lie inside data_bytes bytes without overlapping, given
 * their offsets relative to base_offset, and makes those absolute. */
rotor_status model_place_tensors(file_model *m, size_t first, uint64_t base_offset, uint64_t align,
                                 rotor_error *err);

/* Parses shard number `shard`, already open: metadata of shard 0 is kept, of later ones only the
 * split keys are checked. */
rotor_status gguf_parse(file_model *m, uint32_t shard, rotor_error *err);
/* Opens the other shards when split.count says there are any. */
rotor_status gguf_open_split(file_model *m, bool map, rotor_error *err);

rotor_status safetensors_parse(file_model *m, uint32_t shard, rotor_error *err);
/* Opens the weights and side files of a folder. */
rotor_status hf_open_folder(file_model *m, const char *dir, bool map, rotor_error *err);
/* Opens those side files (configuration, tokenizer, templates) of a folder that exist. */
rotor_status hf_open_sides(file_model *m, const char *dir, bool map, rotor_error *err);

#endif
