/* SPDX-License-Identifier: MIT
 *
 * The model file object: opening by content, closing, and looking things up.
 *
 * Owns the mappings, the tables of tensors and metadata, and their indices; the parsers of the two
 * formats fill them. A format is recognised by its first bytes, never by its name.
 *
 * Invariants: (F1) a shard's bytes stay where they are from its opening to file_close, because
 * tensors, keys and the maps point into them; (F2) after open every tensor's [data, data + bytes)
 * lies inside its shard and no two overlap; (F3) names and keys are unique over all shards.
 */
#include "file/file_internal.h"

#include <assert.h>
#include <stdlib.h>

rotor_status model_reserve_shards(file_model *m, size_t n_shards, rotor_error *err) {
    assert(n_shards >= 1 && m->n_shards <= 1);
    base_file *shards = base_alloc_array(n_shards, sizeof *shards);
    char **names = base_alloc_array(n_shards, sizeof *names);
    if (!shards || !names) {
        base_free(shards);
        base_free(names);
        return base_fail_nomem(err, "opening a model");
    }
    if (m->n_shards) shards[0] = m->shards[0];
    if (m->n_shards) names[0] = m->names[0];
    base_free(m->shards);
    base_free(m->names);
    m->shards = shards;
    m->names = names;
    return ROTOR_OK;
}

rotor_status model_open_shard(file_model *m, const char *path, bool map, rotor_error *err) {
    ROTOR_TRY(base_file_open(&m->shards[m->n_shards], path, map, err));
    m->n_shards++;
    return ROTOR_OK;
}

rotor_status model_reserve_tensors(file_model *m, size_t n, rotor_error *err) {
    size_t total, bytes;
    if (!base_add_size(m->n_tensors, n, &total) ||
        !base_mul_size(total, sizeof(file_tensor), &bytes))
        return base_fail_nomem(err, "listing tensors");
    file_tensor *more = base_realloc(m->tensors, bytes);
    if (!more) return base_fail_nomem(err, "listing tensors");
    m->tensors = more;
    if (!m->tensor_by_name && base_map_create(&m->tensor_by_name, n) != ROTOR_OK)
        return base_fail_nomem(err, "listing tensors");
    return ROTOR_OK;
}

rotor_status model_add_tensor(file_model *m, const file_tensor *t, rotor_error *err) {
    bool existed = false;
    if (base_map_put(m->tensor_by_name, t->name, (uint32_t)m->n_tensors, &existed) != ROTOR_OK)
        return base_fail_nomem(err, "listing tensors");
    if (existed)
        return base_fail(err, ROTOR_E_FORMAT, "tensor %.*s appears twice", (int)t->name.n,
                         t->name.p);
    m->tensors[m->n_tensors++] = *t;
    return ROTOR_OK;
}

/* ==== Placement ==================================================================================
 */

typedef struct place {
    uint64_t offset; /* from the start of the data section */
    uint32_t index;  /* in m->tensors */
} place;

static int by_offset(const void *a, const void *b) {
    const place *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool arch_is_bitnet(const file_model *m) {
    base_str arch;
    const file_kv *kv = file_kv_find(m, "general.architecture");
    return kv && file_kv_str(kv, 0, &arch) && arch.n >= 6 && memcmp(arch.p, "bitnet", 6) == 0;
}

/* Two ids name different layouts in different programs; the room a tensor has tells which. */
static rotor_status check_collision(const file_model *m, const file_tensor *t, uint64_t span,
                                    rotor_error *err) {
    uint64_t n = t->rows * t->dims[0];
    bool is_tl2 =
        t->info->id == QUANT_MXFP4 && span < t->bytes && span >= n / 5 && arch_is_bitnet(m);
    bool is_group128 =
        t->info->id == QUANT_Q2_0 && span < t->bytes && n % 128 == 0 && span >= n / 128 * 34;
    if (is_tl2)
        return base_fail(
            err, ROTOR_E_UNSUPPORTED,
            "tensor %.*s: type id 39 with %llu bytes for %llu weights is TL2 of "
            "bitnet.cpp, not MXFP4; its tiling is fixed when that program is built and "
            "is not in the file. Use the I2_S file of this model",
            (int)t->name.n, t->name.p, (ull)span, (ull)n);
    if (is_group128)
        return base_fail(
            err, ROTOR_E_UNSUPPORTED,
            "tensor %.*s: type id 42 with %llu bytes for %llu weights is the fork's Q2_0 "
            "with groups of 128; only Q2_0 with groups of 64 (%llu bytes) is known here",
            (int)t->name.n, t->name.p, (ull)span, (ull)n, (ull)t->bytes);
    return ROTOR_OK;
}

static rotor_status check_place(const file_model *m, const place *p, const place *next,
                                uint64_t data_bytes, rotor_error *err) {
    const file_tensor *t = &m->tensors[p->index];
    const int n = (int)t->name.n;
    if (p->offset > data_bytes)
        return base_fail(err, ROTOR_E_FORMAT,
                         "tensor %.*s: data offset %llu is past the end of the %llu data bytes", n,
                         t->name.p, (ull)p->offset, (ull)data_bytes);
    uint64_t end = next ? BASE_MIN(next->offset, data_bytes) : data_bytes, span = end - p->offset;
    ROTOR_TRY(check_collision(m, t, span, err));
    if (t->bytes > data_bytes - p->offset)
        return base_fail(err, ROTOR_E_FORMAT,
                         "tensor %.*s: %llu bytes of %s at data offset %llu, but the file has only "
                         "%llu more: it is cut short (download it again) or not what it says",
                         n, t->name.p, (ull)t->bytes, t->info->name, (ull)p->offset,
                         (ull)(data_bytes - p->offset));
    if (t->bytes > span) {
        const file_tensor *o = &m->tensors[next->index];
        return base_fail(err, ROTOR_E_FORMAT,
                         "tensor %.*s: %llu bytes of %s at data offset %llu overlap tensor %.*s at "
                         "%llu",
                         n, t->name.p, (ull)t->bytes, t->info->name, (ull)p->offset, (int)o->name.n,
                         o->name.p, (ull)next->offset);
    }
    return ROTOR_OK;
}

static void warn_about_gap(const file_model *m, const place *p, const place *next, uint64_t align) {
    const file_tensor *t = &m->tensors[p->index];
    uint64_t padded;
    if (!base_round_up_u64(t->bytes, align, &padded) || next->offset - p->offset <= padded) return;
    base_log_printf(m->log, BASE_LOG_WARN,
                    "%s: tensor %.*s: %llu unused bytes follow its %llu bytes of %s", m->path,
                    (int)t->name.n, t->name.p, (ull)(next->offset - p->offset - t->bytes),
                    (ull)t->bytes, t->info->name);
}

static rotor_status check_places(const file_model *m, const place *list, size_t n,
                                 uint64_t data_bytes, uint64_t align, rotor_error *err) {
    for (size_t i = 0; i < n; i++) {
        const place *next = i + 1 < n ? &list[i + 1] : NULL;
        ROTOR_TRY(check_place(m, &list[i], next, data_bytes, err));
        if (next) warn_about_gap(m, &list[i], next, align);
    }
    return ROTOR_OK;
}

rotor_status model_place_tensors(file_model *m, size_t first, uint64_t base_offset, uint64_t align,
                                 rotor_error *err) {
    const size_t n = m->n_tensors - first;
    place *list = base_alloc_array(n + 1, sizeof *list);
    if (!list) return base_fail_nomem(err, "checking tensor offsets");
    for (size_t i = 0; i < n; i++)
        list[i] = (place){m->tensors[first + i].offset, (uint32_t)(first + i)};
    qsort(list, n, sizeof *list, by_offset);
    rotor_status st = ROTOR_OK;
    for (size_t i = first; i < m->n_tensors && st == ROTOR_OK; i++) {
        const file_tensor *t = &m->tensors[i];
        if (t->offset % align != 0)
            st = base_fail(err, ROTOR_E_FORMAT,
                           "tensor %.*s: data offset %llu is not a multiple of the alignment %llu",
                           (int)t->name.n, t->name.p, (ull)t->offset, (ull)align);
    }
    for (size_t i = first; i < m->n_tensors && st == ROTOR_OK; i++) {
        const base_file *f = &m->shards[m->tensors[i].shard];
        if (i == first) st = check_places(m, list, n, f->size - base_offset, align, err);
        m->tensors[i].offset += base_offset;
        if (st == ROTOR_OK) m->tensors[i].data = f->data + m->tensors[i].offset;
    }
    base_free(list);
    return st;
}

/* ==== Opening and closing
 * ========================================================================= */

static rotor_status wrong_kind(const base_file *f, rotor_error *err) {
    static const char old_magics[][5] = {"lmgg", "fmgg", "tjgg", "algg", "GGML"};
    for (size_t i = 0; i < BASE_COUNT(old_magics) && f->size >= 4; i++)
        if (memcmp(f->data, old_magics[i], 4) == 0)
            return base_fail(err, ROTOR_E_UNSUPPORTED,
                             "byte 0: a GGML file from before GGUF; convert it or get a GGUF file");
    char head[32] = "nothing";
    base_buf b = {0};
    for (size_t i = 0; i < 4 && i < f->size; i++) base_buf_printf(&b, "%02X ", f->data[i]);
    if (b.data && !b.failed) memcpy(head, b.data, BASE_MIN(b.len, sizeof head - 1) + 1);
    base_buf_free(&b);
    return base_fail(
        err, ROTOR_E_FORMAT,
        "byte 0: neither a GGUF file (47 47 55 46) nor safetensors: found %s(%zu bytes)", head,
        f->size);
}

static rotor_status parse_first(file_model *m, rotor_error *err) {
    const base_file *f = &m->shards[0];
    if (f->size >= 4 && memcmp(f->data, "GGUF", 4) == 0) return gguf_parse(m, 0, err);
    if (f->size >= 9 && f->data[8] == '{') {
        m->kind = FILE_SAFETENSORS;
        return safetensors_parse(m, 0, err);
    }
    return wrong_kind(f, err);
}

static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return base_strdup(".");
    return base_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static rotor_status open_file(file_model *m, const char *path, bool map, rotor_error *err) {
    ROTOR_TRY(model_reserve_shards(m, 1, err));
    ROTOR_TRY(model_open_shard(m, path, map, err));
    rotor_status st = parse_first(m, err);
    if (st != ROTOR_OK) return base_fail_in(err, st, "%s", path), st;
    if (m->kind == FILE_GGUF) return gguf_open_split(m, map, err);
    char *dir = folder_of(path);
    if (!dir) return base_fail_nomem(err, "opening a model");
    st = hf_open_sides(m, dir, map, err);
    base_free(dir);
    return st;
}

static rotor_status create(file_model **out, const char *path, const file_options *opt,
                           rotor_error *err) {
    file_model *m = base_alloc(sizeof *m);
    if (!m) return base_fail_nomem(err, "opening a model");
    m->log = opt ? opt->log : NULL;
    m->path = base_strdup(path);
    *out = m;
    return m->path ? ROTOR_OK : base_fail_nomem(err, "opening a model");
}

rotor_status file_open(file_model **out, const char *path, const file_options *opt,
                       rotor_error *err) {
    file_model *m = NULL;
    bool map = !(opt && opt->no_map);
    rotor_status st = create(&m, path, opt, err);
    if (st == ROTOR_OK) {
        if (base_path_kind_of(path) == BASE_PATH_DIR)
            st = hf_open_folder(m, path, map, err);
        else
            st = open_file(m, path, map, err);
    }
    if (st == ROTOR_OK)
        *out = m;
    else
        file_close(&m);
    return st;
}

rotor_status file_open_memory(file_model **out, const void *data, size_t n_bytes, const char *name,
                              const file_options *opt, rotor_error *err) {
    file_model *m = NULL;
    rotor_status st = create(&m, name, opt, err);
    if (st == ROTOR_OK) st = model_reserve_shards(m, 1, err);
    if (st == ROTOR_OK) {
        m->borrowed = true;
        m->shards[0] = (base_file){.data = data, .size = n_bytes, .path = m->path, .fd = -1};
        m->n_shards = 1;
        st = parse_first(m, err);
        if (st == ROTOR_OK && m->kind == FILE_GGUF) st = gguf_open_split(m, false, err);
        if (st != ROTOR_OK) base_fail_in(err, st, "%s", name);
    }
    if (st == ROTOR_OK)
        *out = m;
    else
        file_close(&m);
    return st;
}

void file_close(file_model **model) {
    if (!model || !*model) return;
    file_model *m = *model;
    for (size_t i = 0; i < m->n_kvs; i++) base_free((void *)(uintptr_t)m->kvs[i].str_at);
    for (size_t i = 0; i < m->n_shards; i++) {
        base_free(m->names[i]);
        if (!m->borrowed) base_file_close(&m->shards[i]);
    }
    for (size_t i = 0; i < m->n_sides; i++) base_file_close(&m->sides[i].file);
    base_map_free(&m->kv_by_key);
    base_map_free(&m->tensor_by_name);
    base_free(m->kvs);
    base_free(m->tensors);
    base_free(m->shards);
    base_free(m->names);
    base_free(m->sides);
    base_free(m->path);
    base_free(m);
    *model = NULL;
}

/* ==== Looking things up
 * =========================================================================== */

file_kind file_kind_of(const file_model *m) { return m->kind; }
const char *file_path(const file_model *m) { return m->path; }
size_t file_n_shards(const file_model *m) { return m->n_shards; }
const base_file *file_shard(const file_model *m, size_t i) { return &m->shards[i]; }
size_t file_n_tensors(const file_model *m) { return m->n_tensors; }
const file_tensor *file_tensor_at(const file_model *m, size_t i) { return &m->tensors[i]; }
size_t file_n_kvs(const file_model *m) { return m->n_kvs; }
const file_kv *file_kv_at(const file_model *m, size_t i) { return &m->kvs[i]; }

uint64_t file_total_bytes(const file_model *m) {
    uint64_t total = 0;
    for (size_t i = 0; i < m->n_shards; i++) total += m->shards[i].size;
    return total;
}

uint64_t file_id(const file_model *m) {
    uint64_t h = 0;
    for (size_t i = 0; i < m->n_shards; i++) h = base_hash64(&m->shards[i].id, sizeof h, h);
    for (size_t i = 0; i < m->n_sides; i++) h = base_hash64(&m->sides[i].file.id, sizeof h, h);
    return m->borrowed ? 0 : h;
}

rotor_status file_unchanged(const file_model *m, rotor_error *err) {
    for (size_t i = 0; i < m->n_shards; i++) ROTOR_TRY(base_file_unchanged(&m->shards[i], err));
    return ROTOR_OK;
}

const file_tensor *file_tensor_find(const file_model *m, const char *name) {
    uint32_t i;
    if (!m->tensor_by_name || !base_map_get(m->tensor_by_name, base_str_of(name), &i)) return NULL;
    return &m->tensors[i];
}

void file_drop(const file_model *m, const uint8_t *data, size_t n_bytes) {
    for (size_t i = 0; i < m->n_shards && !m->borrowed; i++) {
        const base_file *f = &m->shards[i];
        if (f->data && data >= f->data && data < f->data + f->size)
            base_file_drop(f, (size_t)(data - f->data), n_bytes);
    }
}

const file_kv *file_kv_find(const file_model *m, const char *key) {
    uint32_t i;
    if (!m->kv_by_key || !base_map_get(m->kv_by_key, base_str_of(key), &i)) return NULL;
    return &m->kvs[i];
}

bool file_side(const file_model *m, const char *name, base_str *text) {
    *text = (base_str){"", 0};
    for (size_t i = 0; i < m->n_sides; i++) {
        const base_file *f = &m->sides[i].file;
        if (strcmp(m->sides[i].name, name) != 0) continue;
        if (f->size) *text = (base_str){(const char *)f->data, f->size};
        return true;
    }
    return false;
}
