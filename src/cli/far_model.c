/* SPDX-License-Identifier: MIT
 *
 * Knowledge stores whose vectors come from a server: --embed-model http://HOST:PORT/v1#MODEL. Its
 * key is no part of the store, nor of anything that is shown, and goes to an address that the user
 * has named: one that a store remembers may be somebody else's choice.
 */
#include "base/service.h"
#include "cli/store.h"

/* ==== The key ================================================================================= */

/* The first word of a file. */
static rotor_status read_key(const cli_args *a, const char *path, char **key, rotor_error *err) {
    base_file f;
    ROTOR_TRY(base_file_open(&f, path, false, err));
    char *text = f.size ? base_strndup((const char *)f.data, f.size) : base_strdup("");
    base_file_close(&f);
    *key = text ? base_strndup(text, strcspn(text, " \t\r\n")) : NULL;
    base_free(text);
    if (!*key) return base_fail_nomem(err, "reading a key");
    if (!**key) return base_fail(err, ROTOR_E_ARG, "--embed-key-file %s holds no key", path);
    if (base_others_can_read(path))
        cli_log(a, BASE_LOG_WARN, "%s holds a key and others can read it: chmod 600 %s", path,
                path);
    return ROTOR_OK;
}

/* The key or its file, whichever was said by the stronger: a key that is exported for one server
 * must not go where another's file was typed. */
static rotor_status find_key(const cli_args *a, bool asked, char **key, rotor_error *err) {
    const cli_value *said = &a->value[OPT_EMBED_KEY], *file = &a->value[OPT_EMBED_KEY_FILE];
    *key = NULL;
    if (!asked || (!said->text && !file->text)) return ROTOR_OK;
    if (said->text && file->text && said->by == file->by)
        return base_fail(err, ROTOR_E_ARG,
                         "embed-key and embed-key-file are both said in one place (command line, "
                         "environment or configuration): expected one of them");
    if (!said->text || (file->text && file->by < said->by))
        return read_key(a, file->text, key, err);
    *key = base_strdup(said->text);
    return *key ? ROTOR_OK : base_fail_nomem(err, "reading a key");
}

/* ==== The endpoint ============================================================================ */

static void say(void *user, base_log_level level, const char *line) {
    cli_log_line(user, (int)level, line);
}

/* Floats of a vector as the store has them; 0: the server has to say. Whoever names the model to
 * write learns at once that it is another one, and reembed that it is the one it was. */
static size_t known_dims(const char *word, bool asked, const cli_store_how *how,
                         const rotor_rag_info *info) {
    const char *hash = strchr(word, '#');
    if (!info->dims || !hash || strcmp(hash + 1, info->model) != 0) return 0;
    return asked && how->write ? 0 : info->dims;
}

rotor_status cli_far_open(cli_store *s, const char *word, bool asked, const cli_store_how *how,
                          const rotor_rag_info *info, rotor_error *err) {
    enum { PATIENT = 6, HASTY = 1, HASTY_S = 30, LATER_S = 60, SHORT_S = 2 };
    const bool hasty = !how->write || how->again; /* somebody, or something else, waits */
    char *key;
    s->far_log = (base_log){say, (void *)(uintptr_t)s->a};
    ROTOR_TRY(find_key(s->a, asked, &key, err));
    const hub_endpoint_options o = {.key = key,
                                    .dims = known_dims(word, asked, how, info),
                                    .stall_s = !how->write  ? HASTY_S
                                               : how->again ? LATER_S
                                                            : 0,
                                    .retries = hasty ? HASTY : PATIENT,
                                    .pause_s = hasty ? SHORT_S : 0,
                                    .go_on = how->go_on ? how->go_on : cli_goes_on,
                                    .user = how->user,
                                    .log = &s->far_log};
    s->far_at = base_strdup(word);
    const rotor_status st = s->far_at ? hub_endpoint_open(&s->far, word, &o, err)
                                      : base_fail_nomem(err, "opening an endpoint");
    base_free(key);
    return st;
}

static rotor_status embed(void *user, const rotor_embed_text *texts, size_t n, float *out,
                          rotor_error *err) {
    base_str *list = base_alloc_array(n, sizeof *list);
    if (!list) return base_fail_nomem(err, "embedding");
    for (size_t i = 0; i < n; i++) list[i] = (base_str){texts[i].text, texts[i].n_bytes};
    const rotor_status st = hub_endpoint_embed(user, list, n, out, err);
    base_free(list);
    return st;
}

rotor_rag_embedder cli_far_source(const cli_store *s) {
    return (rotor_rag_embedder){.size = sizeof(rotor_rag_embedder),
                                .dims = (uint32_t)hub_endpoint_dims(s->far),
                                .name = hub_endpoint_model(s->far),
                                .place = s->far_at,
                                .embed = embed,
                                .user = s->far};
}
