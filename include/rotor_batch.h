/* SPDX-License-Identifier: MIT
 *
 * rotor_batch.h: many generations on one engine at once. The weights are read once a step for all
 * of them, jobs come and go between steps, and every job gets the text that it would get alone.
 *
 *     rotor_batch_create(&batch, engine, NULL, &err);
 *     rotor_batch_add(batch, ids, n, &options, 0, &job, &err);
 *     while (n_live) rotor_batch_step(batch, &n_live, &err);
 *     rotor_batch_result(batch, job, &result, &err);
 *
 * The batch owns its sessions and leaves them as they are when a job ends: a new job begins with
 * the longest beginning that any of them holds, shared with those who still use it. When the cache
 * is full, what has not been used for longest is forgotten first. Long prompts are evaluated in
 * pieces, small ones while other jobs wait for their next token.
 *
 * One thread at a time per engine, as everywhere; callbacks may call rotor_batch_cancel and nothing
 * else here. Rules as in rotor.h.
 */
#ifndef ROTOR_BATCH_H
#define ROTOR_BATCH_H

#include "rotor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rotor_batch rotor_batch;

typedef struct rotor_batch_options {
    uint32_t size;     /* sizeof(rotor_batch_options) */
    uint32_t max_jobs; /* jobs at once; 0: the engine's max_sessions */
    uint32_t n_warm;   /* sessions kept beside those in use; 0: as many as jobs */
    uint32_t zero;     /* 0 */
    uint64_t step_us;  /* how long a step should last at most, in microseconds, when a prompt is
                          evaluated while jobs decode; 0: two and a half times a step without */
    const char *prefix_dir; /* folder in which what the cache forgets is kept in files, made if
                               need be (copied); NULL: none */
    uint64_t prefix_bytes;  /* of these files together; 0: 8 GiB */
    uint32_t prefix_min;    /* tokens of the shortest that is kept or read; 0: as far as reading
                               costs less than evaluating */
    uint32_t zero2;         /* 0 */
} rotor_batch_options;
ROTOR_API rotor_batch_options rotor_batch_options_default(void);

/* With prefix_dir, a session that is forgotten to make room is written to a file there, and so are
 * all at the end (rotor_batch_free) and those with a long prompt at rotor_batch_tidy. A job added
 * later, in this process or another, begins with the longest beginning that a session or a file
 * has: with the same bits as if it had been evaluated. Files of other models are left alone, but
 * count; damaged ones are removed. Neither that nor a full disk fails anything: the engine's log
 * has a line. Who can write in the folder decides what the model remembers; it is made with mode
 * 0700, files with 0600. They hold what was said, as token ids.
 *
 * opt may be NULL. The engine needs room for logits of all jobs (max_logits) to decode them in one
 * step, and outlives the batch. */
ROTOR_API rotor_status rotor_batch_create(rotor_batch **out, rotor_engine *e,
                                          const rotor_batch_options *opt, rotor_error *err);
/* Begins to write all that is known now, as rotor_batch_free does; it is written when
 * rotor_batch_tidy says so. */
ROTOR_API void rotor_batch_keep(rotor_batch *b);
/* Ends all jobs. NULL is fine; *b becomes NULL. */
ROTOR_API void rotor_batch_free(rotor_batch **b);

enum {                        /* flags of rotor_batch_add */
       ROTOR_BATCH_FRESH = 1, /* evaluate the whole prompt, whatever is known of it */
       ROTOR_BATCH_FORGET = 2 /* leave no trace of this job's tokens for others */
};
/* Adds a generation that continues ids[n], n >= 1 (copied). What opt points to is borrowed until
 * rotor_batch_result. *job is its handle, never 0. ROTOR_E_FULL: all places are taken
 * (rotor_batch_free_places), or the prompt exceeds the context. Not with ROTOR_FULL_SHIFT. */
ROTOR_API rotor_status rotor_batch_add(rotor_batch *b, const uint32_t *ids, size_t n,
                                       const rotor_gen_options *opt, unsigned flags, uint32_t *job,
                                       rotor_error *err);
/* One step for all jobs. *n_live (may be NULL): those that have not ended. A job that fails by
 * itself ends, and its result says why; an error here is about the step, and all jobs are intact.
 */
ROTOR_API rotor_status rotor_batch_step(rotor_batch *b, uint32_t *n_live, rotor_error *err);
/* The next step ends the job with ROTOR_FINISH_CANCEL, in the middle of its prompt, too. */
ROTOR_API void rotor_batch_cancel(rotor_batch *b, uint32_t job);
/* Has this job ended? */
ROTOR_API bool rotor_batch_ended(const rotor_batch *b, uint32_t job);
/* Takes the result of a job that has ended (else ROTOR_E_STATE) and frees its place. When the job
 * failed, its error, and no result. */
ROTOR_API rotor_status rotor_batch_result(rotor_batch *b, uint32_t job, rotor_gen_result *out,
                                          rotor_error *err);
/* Jobs that can be added now. */
ROTOR_API uint32_t rotor_batch_free_places(const rotor_batch *b);

typedef struct rotor_batch_session {
    uint32_t job;      /* that uses it; 0: none, it is kept warm */
    uint32_t n_tokens; /* in its timeline */
    uint32_t n_shared; /* of which a job added now with ids[n] could begin with */
} rotor_batch_session;
/* Facts about session i of the batch; false past the last. ids may be NULL when n is 0. */
ROTOR_API bool rotor_batch_get_session(const rotor_batch *b, size_t i, const uint32_t *ids,
                                       size_t n, rotor_batch_session *out);
/* Forgets sessions that are only kept warm, those that were not used for longest first, until the
 * engine's cache has room for n_tok tokens of a session beside the batch, or none is left. */
ROTOR_API void rotor_batch_make_room(rotor_batch *b, size_t n_tok);
/* Writes what can wait until answers are sent: call it between steps, when convenient. Files are
 * written on a thread of the batch's own, from copies of at most 256 MiB or one session. True: some
 * are under way; they are found and counted when it has been called again. */
ROTOR_API bool rotor_batch_tidy(rotor_batch *b);

typedef struct rotor_batch_prefixes {
    uint64_t hits;          /* files read, and gone on from */
    uint64_t misses;        /* prompts of which no file had more than the cache, or not enough */
    uint64_t loaded_bytes;  /* of files read */
    uint64_t written;       /* files written … */
    uint64_t written_bytes; /* … and their bytes */
    uint64_t evicted;       /* files removed to keep to prefix_bytes */
    uint64_t refused;       /* files removed because they were damaged */
    uint64_t bytes;         /* of all files in the folder, when it was last looked at */
    uint64_t n_files;       /* of this model */
} rotor_batch_prefixes;
/* What prefix_dir has been good for; false: there is none. */
ROTOR_API bool rotor_batch_get_prefixes(const rotor_batch *b, rotor_batch_prefixes *out);
/* Share of the engine's cache in use, 0 to 1. */
ROTOR_API double rotor_batch_cache_use(const rotor_batch *b);

#ifdef __cplusplus
}
#endif
#endif
