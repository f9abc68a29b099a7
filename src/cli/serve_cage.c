/* SPDX-License-Identifier: MIT
 *
 * What rotor serve reads after its start: its models (again, when one was released), an adapter, a
 * template; and it writes in the folder of --prefix-store. Of a GGUF file it is the file with its
 * other parts, not the folder: that may be somebody's home. Of a model that is a folder it is the
 * folder; names in it may be links, as in the cache of downloads: the folders they lead to count,
 * too. Drivers of devices open files, start threads of their own and run compilers: with a device
 * there is no cage.
 */
#include "cli/serve_cage.h"

#include "hub/hub.h"

#include <stdio.h>

static rotor_status no_memory(rotor_error *err) { return base_fail_nomem(err, "planning a cage"); }

/* Takes path; NULL: there was no memory for it. */
static rotor_status keep(cli_cage *c, char *path, rotor_error *err) {
    char **more = path ? base_realloc(c->read, (c->n_read + 1) * sizeof *more) : NULL;
    if (more) c->read = more;
    if (more) more[c->n_read++] = path;
    if (!more) base_free(path);
    return more ? ROTOR_OK : no_memory(err);
}

/* The folder a name is in: "." for a plain word. NULL: no memory. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return base_strdup(".");
    return base_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* The folder of what a name stands for, links followed; nothing where it stands for nothing. */
static rotor_status keep_target(cli_cage *c, const char *path, rotor_error *err) {
    char *real = base_path_absolute(path);
    if (!real) return ROTOR_OK;
    const rotor_status st = keep(c, folder_of(real), err);
    base_free(real);
    return st;
}

static rotor_status keep_entries(cli_cage *c, const char *folder, rotor_error *err) {
    char **names = NULL;
    size_t n = 0;
    ROTOR_TRY(base_list_dir(folder, &names, &n, err));
    rotor_status st = keep(c, base_strdup(folder), err);
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) {
        char *path = base_path_join(folder, names[i]);
        base_node node;
        if (!path) st = no_memory(err);
        if (path && base_node_of(&node, path, false) && node.kind == BASE_NODE_LINK)
            st = keep_target(c, path, err);
        base_free(path);
    }
    base_names_free(names, n);
    return st;
}

/* A rule for a name that is a link is one for the file it leads to. */
static rotor_status keep_parts(cli_cage *c, const char *path, rotor_error *err) {
    size_t at;
    const uint32_t n = hub_split_count(path, &at);
    rotor_status st = keep(c, base_strdup(path), err);
    for (uint32_t i = 1; i <= n && st == ROTOR_OK; i++) {
        char number[16], *part = base_strdup(path);
        snprintf(number, sizeof number, "%05u", i);
        if (part) memcpy(part + at, number, 5);
        st = keep(c, part, err);
    }
    return st;
}

static rotor_status keep_model(cli_cage *c, const char *path, rotor_error *err) {
    const size_t n = strlen(path);
    if (base_path_kind_of(path) == BASE_PATH_DIR) return keep_entries(c, path, err);
    if (n < 12 || strcmp(path + n - 12, ".safetensors") != 0) return keep_parts(c, path, err);
    ROTOR_TRY(keep(c, folder_of(path), err)); /* its config.json stands beside it */
    return keep_target(c, path, err);
}

/* NULL: it can be caged. */
static const char *obstacle(const cli_args *a) {
    const char *device = cli_text(a, OPT_DEVICE), *prompt = cli_text(a, OPT_DEVICE_PROMPT);
    for (size_t i = 0; i < a->n_many[OPT_RAG_STORES]; i++)
        if (cli_is_address(a->many[OPT_RAG_STORES][i]))
            return "a store on a server may need a new connection, which it takes away";
    const bool maybe = strcmp(device, "auto") == 0 && base_may_have_gpu();
    if (strcmp(device, "cpu") != 0 && strcmp(device, "auto") != 0)
        return "the driver of a device needs what it takes away";
    if (prompt && strcmp(prompt, "cpu") != 0)
        return "the driver of a device needs what it takes away";
    return maybe ? "there may be a device, whose driver needs what it takes away (--device cpu)"
                 : NULL;
}

rotor_status cli_cage_plan(cli_cage *c, const cli_args *a, const cli_model *models, size_t n,
                           const char *socket_path, rotor_error *err) {
    enum { AUTO, ON, OFF };
    const char *more[] = {cli_text(a, OPT_LORA), cli_text(a, OPT_TEMPLATE)};
    const int64_t when = cli_int(a, OPT_SANDBOX);
    c->prefixes = cli_text(a, OPT_PREFIX_STORE);
    c->must = when == ON;
    c->off = when == OFF ? "--sandbox off" : obstacle(a);
    if (c->must && c->off) return base_fail(err, ROTOR_E_ARG, "--sandbox on: %s", c->off);
    for (size_t i = 0; i < n; i++)
        if (models[i].path) ROTOR_TRY(keep_model(c, models[i].path, err));
    for (size_t i = 0; i < BASE_COUNT(more); i++)
        if (more[i] && base_path_kind_of(more[i]) == BASE_PATH_FILE)
            ROTOR_TRY(keep(c, base_strdup(more[i]), err));
    if (c->prefixes) ROTOR_TRY(base_mkdir_private(c->prefixes, err)); /* has to be there by then */
    if (socket_path && !(c->socket_dir = folder_of(socket_path))) return no_memory(err);
    c->paths = (base_sandbox){.read = (const char *const *)c->read,
                              .n_read = c->n_read,
                              .remove = (const char *const *)&c->socket_dir,
                              .n_remove = c->socket_dir ? 1 : 0};
    return ROTOR_OK;
}

rotor_status cli_cage_add_stores(cli_cage *c, const cli_store *stores, size_t n, rotor_error *err) {
    for (size_t i = 0; i < n && !c->off; i++)
        if (stores[i].far)
            c->off = "a store's vectors come from a server, which needs connections that it takes "
                     "away";
    if (c->must && c->off) return base_fail(err, ROTOR_E_ARG, "--sandbox on: %s", c->off);
    c->write = base_alloc_array(n + 1, sizeof *c->write);
    if (!c->write) return no_memory(err);
    for (size_t i = 0; i < n; i++) c->write[i] = stores[i].folder; /* or it has no cage */
    if (c->prefixes) c->write[n] = c->prefixes;
    c->paths.write = c->write;
    c->paths.n_write = n + (c->prefixes ? 1 : 0);
    return ROTOR_OK;
}

void cli_cage_free(cli_cage *c) {
    base_free(c->write);
    base_names_free(c->read, c->n_read);
    base_free(c->socket_dir);
    memset(c, 0, sizeof *c);
}
