/* SPDX-License-Identifier: MIT
 *
 * What a folder says of pooling, in files of its own beside config.json:
 *
 *   modules.json              what follows what: Transformer, Pooling, Dense …, Normalize
 *   1_Pooling/config.json     one pooling_mode_… that is true
 *   2_Dense/ …                config.json and a safetensors file with linear.weight
 *   sentence_bert_config.json max_seq_length
 *
 * None of it is needed to load a model. What it means: pooling.c.
 */
#include "model/model_internal.h"

#include <jansson.h>
#include <stdio.h>

/* ==== Pooling ================================================================================= */

static rotor_status pooling_name(const model_loader *ld, base_str name, model_pool *out) {
    static const struct {
        const char *name; /* in a folder */
        model_pool pool;  /* what it means */
    } known[] = {{"mean", MODEL_POOL_MEAN}, {"mean_tokens", MODEL_POOL_MEAN},
                 {"cls", MODEL_POOL_CLS},   {"cls_token", MODEL_POOL_CLS},
                 {"last", MODEL_POOL_LAST}, {"lasttoken", MODEL_POOL_LAST}};
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (base_str_is(name, known[i].name)) return *out = known[i].pool, ROTOR_OK;
    return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                     "%s: 1_Pooling/config.json: pooling \"%.*s\" is not supported; mean, cls and "
                     "lasttoken are",
                     file_path(ld->f), (int)BASE_MIN(name.n, 60), name.p);
}

/* Older files have a switch for each kind, newer ones may have one name. */
static rotor_status read_pooling(model_loader *ld, const json_t *config) {
    static const char prefix[] = "pooling_mode_";
    model_pool *pool = &ld->m->hp.pool;
    const json_t *one = json_object_get(config, "pooling_mode");
    const char *key;
    json_t *v;
    if (json_is_string(one)) return pooling_name(ld, base_str_of(json_string_value(one)), pool);
    json_object_foreach((json_t *)(uintptr_t)config, key, v) {
        if (strncmp(key, prefix, sizeof prefix - 1) != 0 || !json_is_true(v)) continue;
        if (*pool)
            return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                             "%s: 1_Pooling/config.json: several kinds of pooling together are not "
                             "supported",
                             file_path(ld->f));
        ROTOR_TRY(pooling_name(ld, base_str_of(key + sizeof prefix - 1), pool));
    }
    return ROTOR_OK;
}

static rotor_status folder_pooling(model_loader *ld) {
    json_t *config;
    ROTOR_TRY(model_side_json(ld, "1_Pooling/config.json", &config));
    rotor_status st = config ? read_pooling(ld, config) : ROTOR_OK;
    json_decref(config);
    return st;
}

static rotor_status folder_length(model_loader *ld) {
    json_t *config;
    ROTOR_TRY(model_side_json(ld, "sentence_bert_config.json", &config));
    const json_t *most = json_object_get(config, "max_seq_length");
    if (json_is_integer(most) && json_integer_value(most) > 0 &&
        json_integer_value(most) < ld->m->hp.n_ctx)
        ld->m->hp.n_text = (uint32_t)json_integer_value(most);
    json_decref(config);
    return ROTOR_OK;
}

/* ==== Dense layers ============================================================================ */

static rotor_status check_dense(const model_loader *ld, const char *dir, const json_t *config) {
    const char *act = json_string_value(json_object_get(config, "activation_function"));
    const size_t n = act ? strlen(act) : 0;
    if (act && (n < 8 || strcmp(act + n - 8, "Identity") != 0))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: %s/config.json: activation_function %.80s is not supported",
                         file_path(ld->f), dir, act);
    return ROTOR_OK;
}

/* base/dir/name, where base is the model's folder or the folder of its file. */
static char *path_in(const model_loader *ld, const char *dir, const char *name) {
    const char *path = file_path(ld->f), *slash = strrchr(path, '/');
    base_buf b = {0};
    if (base_path_kind_of(path) == BASE_PATH_DIR)
        base_buf_printf(&b, "%s/%s/%s", path, dir, name);
    else
        base_buf_printf(&b, "%.*s%s/%s", slash ? (int)(slash + 1 - path) : 0, path, dir, name);
    if (b.failed) base_buf_free(&b);
    return b.data; /* NULL: out of memory */
}

static rotor_status dense_config(model_loader *ld, const char *dir) {
    char *path = path_in(ld, dir, "config.json");
    base_file f = {.fd = -1};
    json_error_t je;
    if (!path) return base_fail_nomem(ld->err, "loading a dense layer");
    rotor_status st = base_file_open(&f, path, false, ld->err);
    json_t *config = st == ROTOR_OK ? json_loadb((const char *)f.data, f.size, 0, &je) : NULL;
    if (st == ROTOR_OK && !json_is_object(config))
        st = base_fail(ld->err, ROTOR_E_FORMAT, "%s is no JSON object", path);
    if (st == ROTOR_OK) st = check_dense(ld, dir, config);
    json_decref(config);
    base_file_close(&f);
    base_free(path);
    return st;
}

static rotor_status folder_dense(model_loader *ld, const char *dir) {
    model *m = ld->m;
    const file_options fo = {.no_map = ld->opt->no_map, .log = ld->opt->log};
    if (m->n_dense == MODEL_MAX_DENSE) return model_too_many_dense(ld);
    ROTOR_TRY(dense_config(ld, dir));
    char *path = path_in(ld, dir, "model.safetensors");
    if (!path) return base_fail_nomem(ld->err, "loading a dense layer");
    file_model **f = &m->dense_file[m->n_dense];
    rotor_status st = file_open(f, path, &fo, ld->err);
    const file_tensor *t = st == ROTOR_OK ? file_tensor_find(*f, "linear.weight") : NULL;
    if (st == ROTOR_OK && !t)
        st = base_fail(ld->err, ROTOR_E_FORMAT, "%s: tensor linear.weight is missing", path);
    if (st == ROTOR_OK && file_tensor_find(*f, "linear.bias"))
        st = base_fail(ld->err, ROTOR_E_UNSUPPORTED, "%s: tensor linear.bias is not supported",
                       path);
    if (st == ROTOR_OK) st = model_add_dense(ld, t);
    base_free(path);
    return st;
}

/* ==== Folders ================================================================================= */

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Names of folders come from outside: only those inside are followed. */
static bool is_plain(const char *dir) {
    return dir && dir[0] && dir[0] != '.' && strlen(dir) < 100 && !strpbrk(dir, "/\\");
}

static rotor_status folder_module(model_loader *ld, const json_t *module) {
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *dir = json_string_value(json_object_get(module, "path"));
    if (!type) return ROTOR_OK;
    if (ends_with(type, ".Transformer") || ends_with(type, ".Pooling") ||
        ends_with(type, ".Normalize"))
        return ROTOR_OK;
    if (ends_with(type, ".Dense") && is_plain(dir)) return folder_dense(ld, dir);
    return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                     "%s: modules.json: a module of type %.80s in \"%.80s\" is not supported",
                     file_path(ld->f), type, dir ? dir : "");
}

static rotor_status folder_modules(model_loader *ld) {
    base_str text;
    json_error_t je;
    rotor_status st = ROTOR_OK;
    if (!file_side(ld->f, "modules.json", &text)) return ROTOR_OK;
    json_t *list = json_loadb(text.p, text.n, 0, &je);
    if (!json_is_array(list))
        st = base_fail(ld->err, ROTOR_E_FORMAT, "%s: modules.json is no JSON list",
                       file_path(ld->f));
    for (size_t i = 0; st == ROTOR_OK && i < json_array_size(list); i++)
        st = folder_module(ld, json_array_get(list, i));
    json_decref(list);
    return st;
}

rotor_status model_folder_pooling(model_loader *ld) {
    ROTOR_TRY(folder_pooling(ld));
    ROTOR_TRY(folder_length(ld));
    return folder_modules(ld);
}
