/* SPDX-License-Identifier: MIT
 *
 * rotor rm: removes a model from the cache and says how much room that makes. What belongs to other
 * programs is left alone unless --force is said; a file given by its path is the user's own to
 * remove.
 */
#include "cli/cli.h"
#include "hub/hub.h"

#include <jansson.h>

/* The repository's folder where no model is in it, only the beginning of one. Who names a part of
 * it means that part, never the folder; a short name's part is not the user's word. */
static rotor_status remove_beginning(const cli_args *a, const hub_places *places, const char *word,
                                     hub_removal *r, rotor_error *err) {
    hub_ref ref = {0};
    char *root = hub_root(places), *near = NULL;
    rotor_status st = root ? hub_ref_parse(&ref, word, err) : ROTOR_E_NOTFOUND;
    if (st == ROTOR_OK && ref.part && !hub_short_find(word)) st = ROTOR_E_NOTFOUND;
    if (st == ROTOR_OK)
        st = hub_remove_beginning(root, ref.repo, cli_on(a, OPT_FORCE_RM), cli_on(a, OPT_ONLY_SAY),
                                  r, err);
    hub_ref_free(&ref);
    if (st == ROTOR_E_NOTFOUND) {
        near = cli_nearest_model(word);
        if (near && strcmp(near, word) != 0)
            base_fail(err, st, "no model '%s' here; did you mean '%s'?", word, near);
        else
            base_fail(err, st, "no model '%s' here; rotor models lists what there is", word);
    }
    base_free(near);
    base_free(root);
    return st;
}

static rotor_status remove_entry(const cli_args *a, const hub_places *places, const hub_entry *e,
                                 hub_removal *r, rotor_error *err) {
    const bool dry = cli_on(a, OPT_ONLY_SAY);
    if (e->source != HUB_CACHE && !dry && !cli_on(a, OPT_FORCE_RM))
        return base_fail(err, ROTOR_E_STATE,
                         "%s belongs to %s (%s); remove it there, or with --force here", e->name,
                         hub_source_name(e->source), e->path);
    return hub_remove(places, e, dry, r, err);
}

static rotor_status remove_named(const cli_args *a, const char *word, const char **name,
                                 hub_removal *r, rotor_error *err) {
    hub_places places;
    hub_entry *entries = NULL;
    size_t n = 0, fits = 0;
    cli_places(&places);
    char *text = cli_cache_name(word);
    if (!text) return base_fail_nomem(err, "removing a model");
    rotor_status st = hub_list_all(&places, &entries, &n, err);
    const hub_entry *e = hub_match(entries, n, text, &fits);
    if (st == ROTOR_OK && fits > 1)
        st = cli_several_models(entries, n, text, true, err);
    else if (st == ROTOR_OK && e)
        st = remove_entry(a, &places, e, r, err);
    else if (st == ROTOR_OK)
        st = remove_beginning(a, &places, word, r, err);
    *name = word;
    hub_entries_free(entries, n);
    base_free(text);
    return st;
}

static int say_json(const cli_args *a, const char *name, const hub_removal *r) {
    json_t *o = json_object();
    json_object_set_new(o, "name", cli_json_text(name, strlen(name)));
    json_object_set_new(o, "removed", json_boolean(!cli_on(a, OPT_ONLY_SAY)));
    json_object_set_new(o, "files", json_integer((json_int_t)r->n_files));
    json_object_set_new(o, "freed_bytes", json_integer((json_int_t)r->freed_bytes));
    json_object_set_new(o, "kept_bytes", json_integer((json_int_t)r->kept_bytes));
    return cli_json_print(a, o);
}

int verb_rm(const cli_args *a) {
    const char *word = cli_word(a, 0), *name = word;
    rotor_error err = {0};
    hub_removal r = {0};
    char freed[32], kept[32];
    if (base_path_kind_of(word) != BASE_PATH_NONE)
        return cli_usage(a, "'%s' is a path; rm removes names of the model cache only", word);
    rotor_status st = remove_named(a, word, &name, &r, &err);
    if (st != ROTOR_OK) return cli_status(a, st, &err);
    if (cli_on(a, OPT_JSON)) return say_json(a, name, &r);
    cli_outf("%s %s: %s %s", cli_on(a, OPT_ONLY_SAY) ? "would remove" : "removed", name,
             cli_bytes(r.freed_bytes, freed), cli_on(a, OPT_ONLY_SAY) ? "to free" : "freed");
    if (r.kept_bytes) cli_outf("; %s stay, another model uses them", cli_bytes(r.kept_bytes, kept));
    cli_outf("\n");
    return CLI_DONE;
}
