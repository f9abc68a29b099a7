/* SPDX-License-Identifier: MIT
 *
 * Conditions on documents: "path=GLOB", "title=GLOB", "id=ID", or "name=VALUE" for a field of a
 * corpus line. They are decided once per document, before anything is scored, so that k hits come
 * whenever k exist.
 */
#include "rag/rag_internal.h"

#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>

static bool meta_fits(const char *meta, base_str name, const char *value) {
    bool fits = false;
    json_t *v = meta[0] ? json_loads(meta, 0, NULL) : NULL;
    char key[64], number[32];
    snprintf(key, sizeof key, "%.*s", (int)BASE_MIN(name.n, sizeof key - 1), name.p);
    const json_t *field = json_object_get(v, key);
    if (json_is_string(field)) fits = strcmp(json_string_value(field), value) == 0;
    if (json_is_integer(field)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(field));
        fits = strcmp(number, value) == 0;
    }
    if (json_is_boolean(field)) fits = strcmp(json_is_true(field) ? "true" : "false", value) == 0;
    json_decref(v);
    return fits;
}

static bool fits(const rag_index_doc *d, const char *condition) {
    const char *equals = strchr(condition, '=');
    const base_str name = {condition, (size_t)(equals - condition)};
    const char *value = equals + 1;
    if (base_str_is(name, "path")) return fnmatch(value, d->path, 0) == 0;
    if (base_str_is(name, "title")) return fnmatch(value, d->title, 0) == 0;
    if (base_str_is(name, "id")) return strcmp(value, d->key) == 0;
    return meta_fits(d->meta, name, value);
}

rotor_status rag_filter(const rag_index *x, const char *const *filter, size_t n, uint8_t **out,
                        rotor_error *err) {
    *out = NULL;
    for (size_t i = 0; i < n; i++)
        if (!strchr(filter[i], '=') || filter[i][0] == '=')
            return base_fail(err, ROTOR_E_ARG,
                             "filter '%s': expected path=GLOB, title=GLOB, id=ID or FIELD=VALUE",
                             filter[i]);
    if (!n) return ROTOR_OK;
    uint8_t *allowed = base_alloc(BASE_MAX(x->n_chunks, (size_t)1));
    if (!allowed) return base_fail_nomem(err, "filtering");
    for (size_t d = 0; d < x->n_docs; d++) {
        bool all = true;
        for (size_t i = 0; all && i < n; i++) all = fits(&x->docs[d], filter[i]);
        if (all) memset(allowed + x->docs[d].first, 1, x->docs[d].n);
    }
    *out = allowed;
    return ROTOR_OK;
}
