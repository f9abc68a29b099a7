/* SPDX-License-Identifier: MIT
 *
 * rag_move: a store in one file, to be kept or taken elsewhere: documents with their texts and
 * passages, and the vectors of these. Words are counted and passages named anew when it is read, so
 * that a file can say nothing about a document but what it is made of.
 *
 *     "ROTORRAG"  u32 version (1)  u32 0
 *     records:    u8 kind  u64 bytes  body
 *       'm' model     hash, u32 dims, str name, str path        at most one, the first
 *       'f' file      u64 size, i64 mtime, i64 ctime, i64 seen, hash, u32 pipeline,
 *                     str path, str status, str message
 *       'd' document  hash, u32 line, str key, str title, str meta, str text     of the last file
 *       'c' passage   u64 begin, u64 end, u32 line, last_line, page, last_page, tokens,
 *                     str heading                               of the last document, in order
 *       'v' vector    hash, f32 scale, dims bytes, dims bytes   of the model
 *       'e' end       u64 files, documents, passages, vectors   the last
 *     hash of all that
 *
 * Numbers are little-endian; hash: 32 bytes of SHA-256; str: u64 bytes, these, a zero. Reading
 * keeps one record in memory, and the last document's text with its passages.
 */
#ifndef RAG_MOVE_H
#define RAG_MOVE_H

#include "rag/rag_internal.h"

#define RAG_MOVE_MAGIC "ROTORRAG"
enum { RAG_MOVE_VERSION = 1, RAG_MOVE_HEAD = 16, RAG_MOVE_MAX_DIMS = 1 << 17 };
#define RAG_MOVE_MAX_RECORD ((uint64_t)1 << 30) /* bytes */

/* Where the bytes come from. */
typedef struct rag_move_source {
    /* n bytes from byte at on, all of them or an error. */
    rotor_status (*read)(void *user, uint64_t at, void *p, size_t n, rotor_error *err);
    void *user;       /* of read */
    uint64_t n_bytes; /* there are */
} rag_move_source;

/* Who gets what is read, in the file's order; what is pointed at is borrowed until it returns. */
typedef struct rag_move_sink {
    rotor_status (*model)(void *user, const rag_embedder *m);
    rotor_status (*file)(void *user, const char *path, const rag_db_file *f, const char *message);
    rotor_status (*document)(void *user, rag_document *d); /* row.file is not set */
    rotor_status (*vector)(void *user, const uint8_t hash[RAG_HASH], float scale, base_str high,
                           base_str low);
    void *user; /* of all of them */
} rag_move_sink;

/* Is it such a file, of a version that is known, and every byte as it was written? */
rotor_status rag_move_check(const rag_move_source *from, rotor_error *err);
/* Its records; any bytes are fine. Names and texts that are no UTF-8 get a question mark for each
 * byte that does not fit, but for paths, which name files. ROTOR_E_FORMAT: no store is like that,
 * or it is not what was checked, which is known at the end: what was given is to be undone. */
rotor_status rag_move_read(const rag_move_source *from, const rag_move_sink *to, rotor_error *err);

#endif
