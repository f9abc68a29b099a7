/* SPDX-License-Identifier: MIT
 *
 * rotor models: what can be named as MODEL on this machine: the model inside the program, the model
 * cache, what other programs keep, and the current folder.
 */
#include "cli/cli.h"
#include "hub/hub.h"

#include <jansson.h>
#include <stdio.h>

typedef struct listing {
    const cli_args *a; /* options */
    json_t *json;      /* list with --json; else NULL */
    size_t n;          /* listed so far */
} listing;

static void text_line(const char *name, const char *source, const char *where,
                      const tool_facts *t) {
    char size[32], params[32];
    snprintf(params, sizeof params, t->n_params >= 1000000000 ? "%.2f B" : "%.2f M",
             (double)t->n_params / (t->n_params >= 1000000000 ? 1e9 : 1e6));
    cli_outf("%-40s %11s %9s  %-8s %-14.*s ctx %-7u %-9s %s%s\n", name,
             cli_bytes(t->file_bytes, size), params, t->type, (int)t->architecture.n,
             t->architecture.p ? t->architecture.p : "", t->n_ctx, source,
             t->loadable ? "" : "(cannot run) ", where);
}

static void json_line(listing *l, const char *name, const char *source, const char *where,
                      const tool_facts *t) {
    json_t *o = json_object();
    json_object_set_new(o, "name", cli_json_text(name, strlen(name)));
    json_object_set_new(o, "path", cli_json_text(where, strlen(where)));
    json_object_set_new(o, "source", json_string(source));
    json_object_set_new(o, "bytes", json_integer((json_int_t)t->file_bytes));
    json_object_set_new(o, "n_params", json_integer((json_int_t)t->n_params));
    json_object_set_new(o, "type", json_string(t->type));
    json_object_set_new(
        o, "architecture",
        cli_json_text(t->architecture.p ? t->architecture.p : "", t->architecture.n));
    json_object_set_new(o, "n_ctx", json_integer(t->n_ctx));
    json_object_set_new(o, "license",
                        cli_json_text(t->license.p ? t->license.p : "", t->license.n));
    json_object_set_new(o, "loadable", json_boolean(t->loadable));
    json_array_append_new(l->json, o);
}

static void show(listing *l, const char *name, const char *source, const tool_source *src) {
    tool_file *f = NULL;
    rotor_error err = {0};
    if (tool_file_open(&f, src, &err) != ROTOR_OK) {
        cli_log(l->a, BASE_LOG_WARN, "rotor: models: %s", err.message);
        return;
    }
    const char *where = src->path ? src->path : "in the program";
    if (l->json)
        json_line(l, name, source, where, tool_file_facts(f));
    else
        text_line(name, source, where, tool_file_facts(f));
    l->n++;
    tool_file_close(&f);
}

static rotor_status show_kept(listing *l, rotor_error *err) {
    hub_entry *entries = NULL;
    size_t n = 0;
    hub_places places;
    cli_places(&places);
    ROTOR_TRY(hub_list_all(&places, &entries, &n, err));
    for (size_t i = 0; i < n; i++)
        show(l, entries[i].name, hub_source_name(entries[i].source),
             &(tool_source){.path = entries[i].path});
    hub_entries_free(entries, n);
    return ROTOR_OK;
}

static bool is_model(const char *name) {
    size_t n = strlen(name);
    if (n > 5 && strcmp(name + n - 5, ".gguf") == 0) return true;
    char *config = base_path_join(name, "config.json");
    bool folder = config && base_path_kind_of(config) == BASE_PATH_FILE;
    base_free(config);
    return folder;
}

static rotor_status show_here(listing *l, rotor_error *err) {
    char **names = NULL;
    size_t n = 0;
    ROTOR_TRY(base_list_dir(".", &names, &n, err));
    for (size_t i = 0; i < n; i++)
        if (is_model(names[i])) show(l, names[i], "folder", &(tool_source){.path = names[i]});
    base_names_free(names, n);
    return ROTOR_OK;
}

/* What runs when no model is named. */
static void show_default(listing *l) {
    cli_model m;
    rotor_error err = {0};
    if (cli_model_find(&m, NULL, &err) == ROTOR_OK)
        show(l, "(default)", "default", &m.src);
    else
        cli_log(l->a, BASE_LOG_WARN, "rotor: models: ROTOR_MODEL: %s", err.message);
    cli_model_free(&m);
}

int verb_models(const cli_args *a) {
    listing l = {.a = a, .json = cli_on(a, OPT_JSON) ? json_array() : NULL};
    rotor_error err = {0};
    char *root = cli_cache_root();
    show_default(&l);
    rotor_status st = show_kept(&l, &err);
    if (st == ROTOR_OK) st = show_here(&l, &err);
    cli_log(a, BASE_LOG_INFO,
            "looked in the model cache %s, in those of Ollama, LM Studio and "
            "llama.cpp, and in the current folder",
            root ? root : "(none)");
    int status = cli_status(a, st, &err);
    if (l.json && status == CLI_DONE) status = cli_json_print(a, json_incref(l.json));
    json_decref(l.json);
    base_free(root);
    return status;
}
