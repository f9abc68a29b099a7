/* SPDX-License-Identifier: MIT
 *
 * hub: models on this machine in the layout that Hugging Face tools share, their download into it,
 * models that other programs keep, and models on a server that make vectors.
 *
 *   ROOT/CACHEDIR.TAG
 *   ROOT/.locks/models--ORG--NAME/ETAG.lock      held while a blob is written
 *   ROOT/models--ORG--NAME/refs/main             commit id
 *   ROOT/models--ORG--NAME/blobs/ETAG            bytes (large files: ETAG is their SHA-256)
 *   ROOT/models--ORG--NAME/blobs/ETAG.incomplete the beginning of a download
 *   ROOT/models--ORG--NAME/snapshots/COMMIT/…    the files: relative links into blobs/
 *
 * The program reads the environment and hands plain values in. Files are used where they lie.
 * Threading: one thread at a time per object.
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
    const char *ollama_models;  /* OLLAMA_MODELS: where Ollama keeps its models */
    const char *llama_cache;    /* LLAMA_CACHE: llama.cpp's cache of its own */
} hub_places;

/* The root of the cache, whether it exists or not; base_free. NULL: no home, or out of memory. */
char *hub_root(const hub_places *places);
/* Where a token lies unless HF_TOKEN_PATH says otherwise ("~/.cache/huggingface/token");
 * base_free. NULL: no home. */
char *hub_token_path(const hub_places *places);

/* ---- What is there (cache.c, stores.c) ------------------------------------------------------- */

typedef enum hub_source { HUB_CACHE, HUB_OLLAMA, HUB_LM_STUDIO, HUB_LLAMA_CPP } hub_source;
const char *hub_source_name(hub_source s); /* "cache", "Ollama", "LM Studio", "llama.cpp" */

typedef struct hub_entry {
    char *name; /* "org/name", or "org/name:file.gguf" when the model has several files; owned */
    char *path; /* GGUF file or folder with config.json; owned */
    hub_source source; /* whose it is */
} hub_entry;

/* Every model in the cache, sorted by name; a missing root is an empty list. */
rotor_status hub_list(const char *root, hub_entry **entries, size_t *n, rotor_error *err);
/* The same and, behind them, what other programs keep: Ollama, LM Studio, llama.cpp. */
rotor_status hub_list_all(const hub_places *places, hub_entry **entries, size_t *n,
                          rotor_error *err);
void hub_entries_free(hub_entry *entries, size_t n);

/* The entry that name means: a whole name, its part after the organisation, or "name:part" where
 * part occurs in the file's name. NULL: none. *n_matches counts how many fit; the one with exactly
 * this name fits alone. */
const hub_entry *hub_match(const hub_entry *entries, size_t n, const char *name, size_t *n_matches);

/* "x-00001-of-00003.gguf": how many parts there are, and where the number stands; 0: not split. */
uint32_t hub_split_count(const char *path, size_t *number_at);

/* ---- Names of models to pull (names.c) ------------------------------------------------------- */

/* A short name and what it stands for. */
typedef struct hub_short {
    const char *name; /* "bitnet-2b4t" */
    const char *repo; /* "org/name" */
    const char *file; /* of the repository; NULL: the folder's files */
    const char *note; /* for people */
} hub_short;
const hub_short *hub_short_at(size_t i);           /* NULL past the end */
const hub_short *hub_short_find(const char *name); /* NULL: none */

/* "hf:org/name:part", "org/name:part" or a short name, taken apart. */
typedef struct hub_ref {
    char *repo; /* "org/name"; owned */
    char *part; /* file, or a word in its name such as Q4_K_M; owned; NULL: not said */
} hub_ref;
/* ROTOR_E_NOTFOUND: a word that is neither. ROTOR_E_ARG: not a name the hub can have. */
rotor_status hub_ref_parse(hub_ref *ref, const char *word, rotor_error *err);
void hub_ref_free(hub_ref *ref);
/* "org/name:part" as hub_match takes it; base_free. */
char *hub_ref_text(const hub_ref *ref);

/* ---- Downloading (pull.c, select.c) ---------------------------------------------------------- */

typedef struct hub_pull_options {
    const char *root;     /* of the cache */
    const char *endpoint; /* address of the hub; NULL: the public one */
    const char *token;    /* bearer token; NULL: none */
    bool no_links;        /* files instead of links in snapshots/ */
    uint32_t connect_s;   /* 0: 10 */
    uint32_t stall_s;     /* 0: 10 */
    uint32_t connections; /* 0: 4 */
    bool (*progress)(void *user, uint64_t done, uint64_t total); /* bytes; false stops it */
    void *user;                                                  /* for progress */
    const base_log *log;                                         /* may be NULL */
} hub_pull_options;

typedef struct hub_file {
    char *path;     /* in the repository; owned */
    char *etag;     /* name of its blob; owned; NULL: not asked yet */
    uint64_t bytes; /* its size */
    uint64_t have;  /* bytes of it that are here already */
    bool whole;     /* all of them, checked if hashed */
    bool hashed;    /* etag is its SHA-256 */
    bool sized;     /* the hub has said how large it is */
    bool fresh;     /* its blob was made by this pull */
} hub_file;

/* "libcurl: on (…)\n", or off and what is missing. */
const char *hub_features(void);
/* Loads libcurl: "libcurl/7.88.1 …", static. ROTOR_E_UNSUPPORTED: it is not here, and why. */
rotor_status hub_library(const char **out, rotor_error *err);

/* Which files a pull consists of, and what is here of them. */
typedef struct hub_pull hub_pull;
/* Asks the hub. Nothing is written. ROTOR_E_NOTFOUND: no such model or file; ROTOR_E_ARG: several
 * files fit, and the message lists them. */
rotor_status hub_pull_plan(hub_pull **out, const hub_ref *ref, const hub_pull_options *opt,
                           rotor_error *err);
void hub_pull_free(hub_pull **p);
const char *hub_pull_repo(const hub_pull *p);
const char *hub_pull_commit(const hub_pull *p);
/* The file or folder to open when all is done. */
const char *hub_pull_path(const hub_pull *p);
size_t hub_pull_n_files(const hub_pull *p);
const hub_file *hub_pull_file(const hub_pull *p,
                              size_t i);      /* of a split model the first part first */
uint64_t hub_pull_bytes(const hub_pull *p);   /* all files */
uint64_t hub_pull_missing(const hub_pull *p); /* not here yet */
uint64_t hub_pull_room(const hub_pull *p);    /* bytes the cache's disk has left; 0: nobody says */
/* The first n bytes of file i, or all of it where it has fewer: from here or from the hub. */
rotor_status hub_pull_head(hub_pull *p, size_t i, uint64_t n, base_buf *out, rotor_error *err);
/* Fetches what is missing, checks it, and installs all of it at once. */
rotor_status hub_pull_run(hub_pull *p, rotor_error *err);

/* ---- Vectors from a server (endpoint.c, post.c) ---------------------------------------------- */

/* "http://HOST:PORT/v1#MODEL": POST BASE/embeddings, as OpenAI's API has it. */
typedef struct hub_endpoint hub_endpoint;
typedef struct hub_endpoint_options {
    const char *key;    /* sent to that address alone; NULL: none */
    size_t dims;        /* floats of a vector, where they are known; 0: the server is asked */
    uint32_t connect_s; /* 0: 10 */
    uint32_t stall_s;   /* 0: 120 */
    uint32_t whole_s;   /* of a request, tried once, until its answer is whole; 0: twice stall_s */
    uint32_t retries;   /* of a request that failed in passing */
    uint32_t pause_s;   /* the longest between two of these; 0: 30, 120 where the server says so */
    bool (*go_on)(void *user); /* asked at least once a second; false ends it. NULL: always */
    void *user;                /* for go_on */
    const base_log *log;       /* outlives it; may be NULL */
} hub_endpoint_options;
/* Is it an address of that kind, whole or not? */
bool hub_is_endpoint(const char *word);
/* ROTOR_E_ARG: no such address; ROTOR_E_UNSUPPORTED: built without libcurl; else as embedding. */
rotor_status hub_endpoint_open(hub_endpoint **out, const char *address,
                               const hub_endpoint_options *opt, rotor_error *err);
void hub_endpoint_close(hub_endpoint **e);
const char *hub_endpoint_model(const hub_endpoint *e); /* as the server calls it; borrowed */
size_t hub_endpoint_dims(const hub_endpoint *e);
/* out[n][dims], each of length one. A text that the server refuses alone is cut until it is taken,
 * with a warning. ROTOR_E_IO: it does not answer, or refuses; ROTOR_E_FORMAT: it answers something
 * else than n such vectors; ROTOR_E_CANCELLED. */
rotor_status hub_endpoint_embed(hub_endpoint *e, const base_str *texts, size_t n, float *out,
                                rotor_error *err);

/* ---- Removing (remove.c) --------------------------------------------------------------------- */

typedef struct hub_removal {
    uint64_t freed_bytes; /* that the disk gets back */
    uint64_t kept_bytes;  /* of the model, but others use them, too */
    size_t n_files;       /* removed */
} hub_removal;
/* Removes an entry, or with dry only counts. STATE: a download into its repository is under way. */
rotor_status hub_remove(const hub_places *places, const hub_entry *e, bool dry, hub_removal *out,
                        rotor_error *err);
/* The beginning of a download: a repository's folder without snapshots. Whole blobs in it, and a
 * folder with snapshots in which rotor finds no model, need force. NOTFOUND: no such repository;
 * STATE: force is needed, or another program holds it. */
rotor_status hub_remove_beginning(const char *root, const char *repo, bool force, bool dry,
                                  hub_removal *out, rotor_error *err);

#endif
