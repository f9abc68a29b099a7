/* SPDX-License-Identifier: MIT
 *
 * layout: names inside the cache and inside repositories, shared by this room's files.
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#include "hub/hub.h"

/* The public hub. HF_ENDPOINT names another one; nothing else in the program names any. */
#define HUB_PUBLIC "https://huggingface.co"

/* ---- layout.c ---- */

bool hub_ends_with(const char *s, const char *end);
bool hub_has_word(const char *text, const char *word); /* ASCII letters without case */
/* The bytes of a small file; false: there is none, or it is larger than max_bytes. */
bool hub_read_small(const char *path, size_t max_bytes, base_buf *out);
/* a/b/c; base_free. NULL: no memory, or a is NULL. */
char *hub_path(const char *a, const char *b, const char *c);
/* "org/name" to "models--org--name" and back; base_free. */
char *hub_folder_of(const char *repo);
char *hub_repo_of(const char *folder);
/* Of a file's last name: a GGUF file to open: not a later part of a split one, not a projector of
 * another network. */
bool hub_is_model(const char *name);
/* A relative path of plain names, none of them "." or "..". */
bool hub_is_safe_path(const char *path);
/* Grows a list of owned entries; name and path are taken, also on failure. */
typedef struct hub_entry_list {
    hub_entry *at; /* owned */
    size_t n, cap; /* used, allocated */
} hub_entry_list;
rotor_status hub_push(hub_entry_list *l, hub_source source, char *name, char *path,
                      rotor_error *err);

/* ---- select.c ---- */

/* Of the files of a repository, those that a model consists of (indices, new array, base_free).
 * part: a file or a word in its name, NULL: what there is only one of. *folder: the model is the
 * folder, not its first file. */
rotor_status hub_select(const hub_file *files, size_t n, const char *part, size_t **picked,
                        size_t *n_picked, bool *folder, rotor_error *err);

/* ---- stores.c: what other programs keep, pushed to l ---- */

rotor_status hub_list_ollama(hub_entry_list *l, const hub_places *p, rotor_error *err);
rotor_status hub_list_lm_studio(hub_entry_list *l, const hub_places *p, rotor_error *err);
rotor_status hub_list_llama_cpp(hub_entry_list *l, const hub_places *p, rotor_error *err);
/* Where Ollama keeps models, the i-th place to look at; base_free. NULL: no more. */
char *hub_ollama_root(const hub_places *p, size_t i);
/* Calls fn with each manifest below an Ollama root: "llama3.2:1b", its file, and its JSON text. */
typedef rotor_status (*hub_manifest_fn)(void *user, const char *name, const char *path,
                                        base_str json, rotor_error *err);
rotor_status hub_each_manifest(const char *root, hub_manifest_fn fn, void *user, rotor_error *err);

#endif
