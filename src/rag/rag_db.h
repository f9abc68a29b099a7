/* SPDX-License-Identifier: MIT
 *
 * rag_db: the store's database. The only door to it: another kind of database comes behind these
 * functions, and nothing else in the room knows SQL.
 *
 * Changes happen between rag_db_begin and rag_db_commit. What a cursor or a row callback is given
 * is borrowed until it returns.
 */
#ifndef RAG_DB_H
#define RAG_DB_H

#include "rag/rag.h"

typedef struct rag_db rag_db;

/* Is it no folder but the address of a server? */
bool rag_db_is_server(const char *store);
/* Of the options create (folder and database), write (takes the store's lock), log and patience
 * count. folder: or an address. */
rotor_status rag_db_open(rag_db **out, const char *folder, const rag_options *opt,
                         rotor_error *err);
void rag_db_close(rag_db **db);
bool rag_db_can_write(const rag_db *db);
/* Lets another program be the writer, and becomes it again: ROTOR_E_STATE where another is. */
void rag_db_rest(rag_db *db);
rotor_status rag_db_resume(rag_db *db, rotor_error *err);
uint64_t rag_db_bytes(const rag_db *db);

rotor_status rag_db_begin(rag_db *db, rotor_error *err);
rotor_status rag_db_commit(rag_db *db, rotor_error *err);
void rag_db_rollback(rag_db *db); /* nothing begun: nothing happens */
bool rag_db_in_change(const rag_db *db);
uint64_t rag_db_commits(const rag_db *db); /* since it was opened */
/* What is read until look_end is of one state of the database, whoever changes it meanwhile. Inside
 * a change it is anyway: nothing happens then. look_end without a look is fine. */
rotor_status rag_db_look(rag_db *db, rotor_error *err);
void rag_db_look_end(rag_db *db);
/* A part that can be taken back by itself, inside a change. */
rotor_status rag_db_mark(rag_db *db, rotor_error *err);
rotor_status rag_db_keep(rag_db *db, rotor_error *err);
void rag_db_take_back(rag_db *db);
/* A number that differs after every committed change, by whomever, and after what is undone. */
rotor_status rag_db_version(rag_db *db, int64_t *version, rotor_error *err);
rotor_status rag_db_check(rag_db *db, bool whole, rotor_error *err);

/* Rows of the tables that rag_facts counts. */
rotor_status rag_db_facts(rag_db *db, rag_facts *facts, rotor_error *err);

/* ---- Files ----------------------------------------------------------------------------------- */

typedef struct rag_db_file {
    int64_t id;             /* row; 0: none yet */
    base_node node;         /* as it was when it was read */
    int64_t seen_ns;        /* when that was, wall clock */
    uint8_t hash[RAG_HASH]; /* of its bytes */
    int pipeline;           /* revision of reader and chunker */
    char status[16];        /* ok, pending, skipped, error */
} rag_db_file;
/* f->id is 0 when there is none. */
rotor_status rag_db_find_file(rag_db *db, const char *path, rag_db_file *f, rotor_error *err);
rotor_status rag_db_put_file(rag_db *db, const char *path, rag_db_file *f, const char *message,
                             rotor_error *err);
rotor_status rag_db_delete_file(rag_db *db, int64_t id, rotor_error *err);
/* The same file under another path; a title that was its name follows. */
rotor_status rag_db_rename_file(rag_db *db, int64_t id, const char *from, const char *to,
                                rotor_error *err);
/* All there are, in order of path, with no more than this of each. */
typedef struct rag_db_name {
    int64_t id;             /* row */
    const char *path;       /* borrowed until the callback returns */
    uint64_t dev;           /* of what it lay on */
    uint8_t hash[RAG_HASH]; /* of its bytes */
    bool ok;                /* it was read */
} rag_db_name;
rotor_status rag_db_each_name(rag_db *db, rotor_status (*fn)(void *user, const rag_db_name *n),
                              void *user, rotor_error *err);
/* In order of path; or, after >= 0, those with a greater id, in order of that. */
rotor_status rag_db_each_file(rag_db *db, int64_t after,
                              rotor_status (*fn)(void *user, int64_t id, const rag_file *f),
                              void *user, rotor_error *err);

/* ---- Folders that were added ----------------------------------------------------------------- */

/* globs: those of rag_add_options, a line each, + before one to include, - before one to exclude.
 */
rotor_status rag_db_put_root(rag_db *db, const char *path, const char *globs, rotor_error *err);
/* Appends its globs; nothing where it is no such folder. */
rotor_status rag_db_get_root(rag_db *db, const char *path, base_buf *globs, rotor_error *err);
/* NULL: all. */
rotor_status rag_db_delete_root(rag_db *db, const char *path, rotor_error *err);
rotor_status rag_db_each_root(rag_db *db,
                              rotor_status (*fn)(void *user, const char *path, const char *globs),
                              void *user, rotor_error *err);

/* ---- Documents ------------------------------------------------------------------------------- */

typedef struct rag_db_doc {
    int64_t id, file;               /* rows */
    const char *key, *title, *meta; /* id in a corpus or ""; may be ""; JSON object or "" */
    uint32_t line;                  /* first line in the file */
    uint8_t hash[RAG_HASH];         /* of title, metadata and text */
} rag_db_doc;
/* *id 0: there is none; else its hash. */
rotor_status rag_db_find_doc(rag_db *db, int64_t file, const char *key, int64_t *id,
                             uint8_t hash[RAG_HASH], rotor_error *err);
/* In place of the document of that file and key, whose chunks go; sets doc->id. */
rotor_status rag_db_put_doc(rag_db *db, rag_db_doc *doc, base_str text, int64_t run,
                            rotor_error *err);
rotor_status rag_db_touch_doc(rag_db *db, int64_t id, uint32_t line, int64_t run, rotor_error *err);
/* Documents of a file that were neither put nor touched in this run. */
rotor_status rag_db_drop_stale(rag_db *db, int64_t file, int64_t run, size_t *n, rotor_error *err);
rotor_status rag_db_delete_key(rag_db *db, const char *key, size_t *n, rotor_error *err);
/* All documents of a file with their texts, for an export. */
rotor_status rag_db_each_doc_of(rag_db *db, int64_t file,
                                rotor_status (*fn)(void *user, const rag_db_doc *doc,
                                                   base_str text),
                                void *user, rotor_error *err);
/* In order of id. */
rotor_status
rag_db_each_doc(rag_db *db, rotor_status (*fn)(void *user, const rag_db_doc *doc, const char *path),
                void *user, rotor_error *err);

/* ---- Chunks ---------------------------------------------------------------------------------- */

typedef struct rag_db_chunk {
    int64_t id, doc;          /* rows */
    uint32_t ord;             /* place in its document, from 0 */
    const char *heading;      /* headings above it */
    uint64_t begin, end;      /* bytes of the document's text */
    uint32_t line, last_line; /* of the file */
    uint32_t page, last_page; /* 0: no pages */
    uint32_t n_tok;           /* about */
    uint32_t n_words;         /* counted by keyword search */
    uint8_t hash[RAG_HASH];   /* of what is embedded */
    base_str terms;           /* packed (rag_index.h) */
} rag_db_chunk;
rotor_status rag_db_put_chunk(rag_db *db, rag_db_chunk *c, rotor_error *err);
/* Number of a term, given to it if it has none. */
rotor_status rag_db_term(rag_db *db, base_str term, uint32_t *id, rotor_error *err);
/* Those from this number on; numbers rise and are never given twice. */
rotor_status rag_db_each_term(rag_db *db, uint32_t from,
                              rotor_status (*fn)(void *user, uint32_t id, base_str t), void *user,
                              rotor_error *err);
/* In order of document and place: id, doc, ord, n_words and terms only. */
rotor_status rag_db_each_chunk(rag_db *db, rotor_status (*fn)(void *user, const rag_db_chunk *c),
                               void *user, rotor_error *err);
/* The same, id and doc only, of all; n_words and terms of one. Chunks never change, and no two ever
 * have the same id. */
rotor_status rag_db_each_place(rag_db *db, rotor_status (*fn)(void *user, const rag_db_chunk *c),
                               void *user, rotor_error *err);
rotor_status rag_db_read_words(rag_db *db, int64_t chunk,
                               rotor_status (*fn)(void *user, const rag_db_chunk *c), void *user,
                               rotor_error *err);
/* All of a document, in order: everything but n_words, hash and terms. */
rotor_status rag_db_each_chunk_of(rag_db *db, int64_t doc,
                                  rotor_status (*fn)(void *user, const rag_db_chunk *c), void *user,
                                  rotor_error *err);
/* Places and text of one; the strings of hit are new. */
rotor_status rag_db_read_hit(rag_db *db, int64_t chunk, rag_hit *hit, rotor_error *err);
/* The document's text from byte begin to end, appended. */
rotor_status rag_db_read_text(rag_db *db, int64_t chunk, uint64_t begin, uint64_t end,
                              base_buf *out, rotor_error *err);

/* ---- Vectors --------------------------------------------------------------------------------- */

/* Row of a model with this fingerprint, made if need be. */
rotor_status rag_db_model(rag_db *db, const rag_embedder *e, int64_t *id, rotor_error *err);
/* Is path what the model's row says of where it lies? */
rotor_status rag_db_model_lies_at(rag_db *db, int64_t id, const char *path, bool *at,
                                  rotor_error *err);
/* The model whose vectors the store searches; *id 0: none. */
rotor_status rag_db_get_model(rag_db *db, int64_t *id, uint8_t fingerprint[RAG_HASH],
                              rotor_error *err);
rotor_status rag_db_set_model(rag_db *db, int64_t id, rotor_error *err);

/* A text that has no vector of a model yet. */
typedef struct rag_db_wanted {
    int64_t chunk;          /* its row */
    uint8_t hash[RAG_HASH]; /* its name */
    base_str text;          /* what is embedded */
} rag_db_wanted;
rotor_status rag_db_each_wanted(rag_db *db, int64_t model, int64_t after, size_t most,
                                rotor_status (*fn)(void *user, const rag_db_wanted *w), void *user,
                                rotor_error *err);
rotor_status rag_db_count_wanted(rag_db *db, int64_t model, size_t *n, rotor_error *err);
/* Those of a file, for the model that the store uses; for none: all. */
rotor_status rag_db_count_wanted_of(rag_db *db, int64_t file, size_t *n, rotor_error *err);
/* high and low: the two planes of rag_vec.h. */
rotor_status rag_db_put_vector(rag_db *db, int64_t model, const uint8_t hash[RAG_HASH], float scale,
                               base_str high, base_str low, rotor_error *err);
/* Chunks that have one, in order of document and place. */
rotor_status rag_db_each_vector(rag_db *db, int64_t model,
                                rotor_status (*fn)(void *user, int64_t chunk, float scale,
                                                   base_str high, base_str low),
                                void *user, rotor_error *err);
/* That of one chunk; fn is not called where there is none. */
rotor_status rag_db_read_vector(rag_db *db, int64_t model, int64_t chunk,
                                rotor_status (*fn)(void *user, int64_t chunk, float scale,
                                                   base_str high, base_str low),
                                void *user, rotor_error *err);
/* Whether the database itself finds near vectors: *n chunks that have one, of dims floats; *n 0: it
 * does not. */
rotor_status rag_db_near_size(rag_db *db, int64_t model, size_t *n, size_t *dims, rotor_error *err);
/* Where it does: the chunks of the `most` vectors nearest to x[dims] that chunks have, in order of
 * document and place. cosine: as the database has it. */
rotor_status rag_db_each_near(rag_db *db, int64_t model, const float *x, size_t dims, size_t most,
                              rotor_status (*fn)(void *user, int64_t chunk, float cosine,
                                                 float scale, base_str high, base_str low),
                              void *user, rotor_error *err);
/* And of the chunks ids[n] those that have one, in the same order; cosine 0. */
rotor_status rag_db_each_of_chunks(rag_db *db, int64_t model, const int64_t *ids, size_t n,
                                   rotor_status (*fn)(void *user, int64_t chunk, float cosine,
                                                      float scale, base_str high, base_str low),
                                   void *user, rotor_error *err);
/* The same where that name has none yet. */
rotor_status rag_db_add_vector(rag_db *db, int64_t model, const uint8_t hash[RAG_HASH], float scale,
                               base_str high, base_str low, rotor_error *err);
/* Whether there are passages of that name, and all of documents that were put or touched in this
 * run. */
rotor_status rag_db_is_of_run(rag_db *db, const uint8_t hash[RAG_HASH], int64_t run, bool *is,
                              rotor_error *err);
/* Each vector that a chunk has, once. */
rotor_status rag_db_each_vector_of(rag_db *db, int64_t model,
                                   rotor_status (*fn)(void *user, const uint8_t hash[RAG_HASH],
                                                      float scale, base_str high, base_str low),
                                   void *user, rotor_error *err);
/* Vectors no chunk has, and those of models the store does not use. */
rotor_status rag_db_sweep(rag_db *db, rotor_error *err);
size_t rag_db_changes(rag_db *db); /* rows written or deleted since it was opened */
/* Gives what is free in the file back to the disk, not inside a change; what others are reading
 * just now is given back later. */
rotor_status rag_db_shrink(rag_db *db, rotor_error *err);

/* ---- Work under way -------------------------------------------------------------------------- */

/* Notes that work has begun; the note outlives a program that is killed. */
rotor_status rag_db_job_begin(rag_db *db, const char *kind, const char *what, int64_t *job,
                              rotor_error *err);
rotor_status rag_db_job_end(rag_db *db, int64_t job, rotor_error *err);

#endif
