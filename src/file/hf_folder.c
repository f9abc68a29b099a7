/* SPDX-License-Identifier: MIT
 *
 * Hugging Face folders: the weights (one safetensors file, or several with an index) and the side
 * files that describe the model.
 *
 * model.safetensors.index.json maps tensor names to file names. The file names come from outside:
 * only plain names inside the folder are followed. Side files are mapped when the folder is
 * opened, so that file_side() stays a pure look-up.
 */
#include "file/file_internal.h"

#include <jansson.h>

static const char index_name[] = "model.safetensors.index.json";

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n > k && strcmp(s + n - k, tail) == 0;
}

/* ==== Side files
 * ================================================================================== */

/* Everything that some loader of this project asks for; a folder has a few of them. */
static const char *const side_names[] = {index_name,
                                         "config.json",
                                         "generation_config.json",
                                         "tokenizer.json",
                                         "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "vocab.txt",
                                         "tokenizer.model",
                                         "chat_template.jinja",
                                         "chat_template.json",
                                         "modules.json",
                                         "sentence_bert_config.json",
                                         "config_sentence_transformers.json",
                                         "1_Pooling/config.json",
                                         "adapter_config.json"};

static rotor_status open_side(file_model *m, const char *dir, const char *name, bool map,
                              rotor_error *err) {
    char *path = base_path_join(dir, name);
    rotor_status st = ROTOR_OK;
    if (!path) return base_fail_nomem(err, "opening a model folder");
    if (base_path_kind_of(path) == BASE_PATH_FILE) {
        file_side_file *side = &m->sides[m->n_sides];
        side->name = name;
        st = base_file_open(&side->file, path, map, err);
        if (st == ROTOR_OK) m->n_sides++;
    }
    base_free(path);
    return st;
}

rotor_status hf_open_sides(file_model *m, const char *dir, bool map, rotor_error *err) {
    m->sides = base_alloc_array(BASE_COUNT(side_names), sizeof *m->sides);
    if (!m->sides) return base_fail_nomem(err, "opening a model folder");
    for (size_t i = 0; i < BASE_COUNT(side_names); i++)
        ROTOR_TRY(open_side(m, dir, side_names[i], map, err));
    return ROTOR_OK;
}

/* ==== Weights
 * ===================================================================================== */

static rotor_status open_weights(file_model *m, const char *dir, const char *name, bool map,
                                 rotor_error *err) {
    char *path = base_path_join(dir, name);
    if (!path) return base_fail_nomem(err, "opening a model folder");
    uint32_t shard = (uint32_t)m->n_shards;
    rotor_status st = model_open_shard(m, path, map, err);
    if (st == ROTOR_OK) {
        st = safetensors_parse(m, shard, err);
        if (st != ROTOR_OK) base_fail_in(err, st, "%s", path);
    }
    base_free(path);
    return st;
}

static bool is_plain_name(const char *name) {
    return name && ends_with(name, ".safetensors") && !strchr(name, '/') && !strchr(name, '\\') &&
           name[0] != '.' && strlen(name) < 256;
}

/* Distinct file names of the weight map, in order of first mention; files borrows their text. */
static rotor_status index_files(json_t *map, const char **files, size_t *n_files,
                                rotor_error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value) {
        const char *file = json_string_value(value);
        size_t i = 0;
        if (!is_plain_name(file))
            return base_fail(
                err, ROTOR_E_FORMAT,
                "%s: tensor %.100s: a safetensors file of this folder expected, found %.60s",
                index_name, tensor, file ? file : "no text");
        while (i < *n_files && strcmp(files[i], file) != 0) i++;
        if (i == FILE_MAX_SHARDS)
            return base_fail(err, ROTOR_E_FORMAT, "%s: more than %d files", index_name,
                             FILE_MAX_SHARDS);
        files[i] = file;
        *n_files = BASE_MAX(*n_files, i + 1);
    }
    return ROTOR_OK;
}

static rotor_status check_index(const file_model *m, json_t *map, rotor_error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value) {
        const file_tensor *t = file_tensor_find(m, tensor);
        if (!t || !ends_with(m->shards[t->shard].path, json_string_value(value)))
            return base_fail(err, ROTOR_E_FORMAT, "%s: tensor %.100s is not in %s", index_name,
                             tensor, json_string_value(value));
    }
    if (json_object_size(map) != m->n_tensors)
        base_log_printf(m->log, BASE_LOG_WARN, "%s: the files hold %zu tensors, %s names %zu",
                        m->path, m->n_tensors, index_name, json_object_size(map));
    return ROTOR_OK;
}

static rotor_status open_indexed(file_model *m, const char *dir, json_t *map, bool mapped,
                                 rotor_error *err) {
    size_t n = 0;
    const char **files = base_alloc_array(FILE_MAX_SHARDS, sizeof *files);
    if (!files) return base_fail_nomem(err, "opening a model folder");
    rotor_status st = index_files(map, files, &n, err);
    if (st == ROTOR_OK && n == 0)
        st = base_fail(err, ROTOR_E_FORMAT, "%s: weight_map names no tensor", index_name);
    if (st == ROTOR_OK) st = model_reserve_shards(m, n, err);
    for (size_t i = 0; i < n && st == ROTOR_OK; i++)
        st = open_weights(m, dir, files[i], mapped, err);
    if (st == ROTOR_OK) st = check_index(m, map, err);
    base_free(files);
    return st;
}

static rotor_status open_sharded(file_model *m, const char *dir, base_str text, bool map,
                                 rotor_error *err) {
    json_error_t json_err;
    json_t *root = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &json_err);
    json_t *weights = json_object_get(root, "weight_map");
    rotor_status st;
    if (!root)
        st = base_fail(err, ROTOR_E_FORMAT, "%s: byte %d: %s", index_name,
                       BASE_MAX(json_err.position, 0), json_err.text);
    else if (!json_is_object(weights))
        st = base_fail(err, ROTOR_E_FORMAT, "%s: weight_map is missing", index_name);
    else
        st = open_indexed(m, dir, weights, map, err);
    json_decref(root);
    return st;
}

/* Without an index: model.safetensors, or the only safetensors file there is. */
static rotor_status open_single(file_model *m, const char *dir, bool map, rotor_error *err) {
    char **names;
    size_t n, found = 0, n_gguf = 0, gguf = 0, pick = 0;
    ROTOR_TRY(base_list_dir(dir, &names, &n, err));
    bool exact = false;
    for (size_t i = 0; i < n; i++) {
        if (ends_with(names[i], ".gguf") && n_gguf++ == 0) gguf = i;
        if (!ends_with(names[i], ".safetensors") || exact) continue;
        exact = strcmp(names[i], "model.safetensors") == 0;
        pick = i;
        found = exact ? 1 : found + 1;
    }
    rotor_status st;
    if (found == 1) {
        st = model_reserve_shards(m, 1, err);
        if (st == ROTOR_OK) st = open_weights(m, dir, names[pick], map, err);
    } else if (found == 0 && n_gguf) {
        st = base_fail(err, ROTOR_E_NOTFOUND,
                       "no safetensors file; to use the GGUF file open %s/%s", dir, names[gguf]);
    } else {
        st = base_fail(err, ROTOR_E_NOTFOUND,
                       "%zu safetensors files and no %s; expected model.safetensors", found,
                       index_name);
    }
    base_names_free(names, n);
    return st;
}

rotor_status hf_open_folder(file_model *m, const char *dir, bool map, rotor_error *err) {
    base_str text;
    m->kind = FILE_SAFETENSORS;
    rotor_status st = hf_open_sides(m, dir, map, err);
    if (st != ROTOR_OK) return st;
    if (file_side(m, index_name, &text))
        st = open_sharded(m, dir, text, map, err);
    else
        st = open_single(m, dir, map, err);
    if (st != ROTOR_OK) base_fail_in(err, st, "%s", dir);
    return st;
}
