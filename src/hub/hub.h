/* SPDX-License-Identifier: MIT
 *
 * hub: models on this machine in the layout that Hugging Face tools share.
 *
 *   ROOT/models--ORG--NAME/refs/main            commit id
 *   ROOT/models--ORG--NAME/snapshots/COMMIT/…   the files (links into blobs/)
 *
 * The program reads the environment and hands plain values in. Files are used where they lie.
 */
#ifndef HUB_H
#define HUB_H

#include "base/base.h"

/* What the environment says; NULL: not set. */
typedef struct hub_places {
    const char *hf_hub_cache;   /* HF_HUB_CACHE: the root itself */
    const char *hf_home;        /* HF_HOME: the root is hub/ inside */
    const char *xdg_cache_home; /* XDG_CACHE_HOME */
    const char *home;           /* HOME */
} hub_places;

/* The root of the cache, whether it exists or not; base_free. NULL: no home, or out of memory. */
char *hub_root(const hub_places *places);

typedef struct hub_entry {
    char *name; /* "org/name", or "org/name:file.gguf" when the model has several files; owned */
    char *path; /* GGUF file or folder with config.json; owned */
} hub_entry;

/* Every model in the cache, sorted by name; a missing root is an empty list. */
rotor_status hub_list(const char *root, hub_entry **entries, size_t *n, rotor_error *err);
void hub_entries_free(hub_entry *entries, size_t n);

/* The entry that name means: a whole name, its part after the organisation, or "name:part" where
 * part occurs in the file's name. NULL: none. *n_matches counts how many fit. */
const hub_entry *hub_match(const hub_entry *entries, size_t n, const char *name, size_t *n_matches);

#endif
