/* SPDX-License-Identifier: MIT
 *
 * rotor.h: run a language model on the machine in front of you.
 *
 *     rotor_engine *engine = NULL;
 *     rotor_session *session = NULL;
 *     rotor_engine_open(&engine, "model.gguf", NULL, &err);
 *     rotor_session_create(&session, engine, 0, &err);
 *     rotor_generate_text(session, "Once upon a time", NULL, &result, &err);
 *
 * An engine is a model ready to run: weights mapped, threads started, cache allocated. A session is
 * one token timeline on it. Engines may be shared by sessions, not by threads: calls on one engine
 * and its sessions are made by one thread at a time, unless a function says otherwise.
 *
 * Option structs begin with their size and come from their ..._default() function, so that old
 * programs keep working with new libraries: fields are only added, at the end, to multiples of 8
 * bytes. A newer struct than the library knows is fine as long as its new fields are zero. Strings
 * are UTF-8. Pointers are borrowed for the call unless a comment says otherwise. Nothing here
 * prints, exits or reads the environment.
 */
#ifndef ROTOR_H
#define ROTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotor_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0"; static. */
ROTOR_API const char *rotor_version(void);
/* Optional features of this build, one per line "name: on|off (why)"; static. */
ROTOR_API const char *rotor_features(void);

typedef struct rotor_engine rotor_engine;
typedef struct rotor_session rotor_session;

/* ---- Engine ---------------------------------------------------------------------------------- */

typedef enum rotor_kv { ROTOR_KV_F16, ROTOR_KV_F32, ROTOR_KV_Q8 } rotor_kv;
typedef enum rotor_head {
    ROTOR_HEAD_AUTO,
    ROTOR_HEAD_FILE,
    ROTOR_HEAD_Q8,
    ROTOR_HEAD_Q6,
    ROTOR_HEAD_EXACT /* the file's logits; where only the best count, for a fraction of its bytes */
} rotor_head;
typedef enum rotor_yarn { ROTOR_YARN_AUTO, ROTOR_YARN_EXACT, ROTOR_YARN_ROUNDED } rotor_yarn;
typedef enum rotor_i2s { ROTOR_I2S_AUTO, ROTOR_I2S_X86, ROTOR_I2S_ARM, ROTOR_I2S_4ROW } rotor_i2s;

/* What of a text's hidden states makes its vector. */
typedef enum rotor_pool {
    ROTOR_POOL_AUTO, /* as the model says; where it does not: the mean of an encoder, else the last
                      */
    ROTOR_POOL_MEAN, /* the mean of all tokens */
    ROTOR_POOL_CLS,  /* the first token */
    ROTOR_POOL_LAST, /* the last token */
    ROTOR_POOL_RANK /* a cross-encoder: pairs of texts become scores (rotor_rerank). Only told of an
                       engine, not asked for */
} rotor_pool;

typedef struct rotor_engine_options {
    uint32_t size;             /* sizeof(rotor_engine_options) */
    int32_t threads;           /* 0: one per processor core */
    uint32_t ctx;              /* positions per session; 0: the model's; UINT32_MAX: automatic
                                  (the smallest of the model's, 4096 and what fits) */
    uint32_t max_sessions;     /* sessions the cache must hold at full length; default 1 */
    uint32_t chunk;            /* prompt tokens per step; 0: default */
    uint32_t max_logits;       /* rows with logits per rotor_eval; 0: default (16) */
    uint32_t max_layers;       /* load only the first N layers; 0: all */
    rotor_kv kv;               /* cache type */
    rotor_head head;           /* precision of the output head; automatic: q8 */
    rotor_i2s i2s;             /* byte order of I2_S tensors; automatic: x86 */
    bool float_act;            /* --act f32: float activations everywhere */
    bool no_mmap;              /* read the file into memory instead of mapping it */
    const char *cpu;           /* highest CPU level to use ("c", "avx2", …); NULL: all */
    const char *chat_template; /* built-in name or Jinja text; NULL: the model's */
    void (*log)(void *user, int level, const char *line); /* 0 error … 3 debug; NULL: silent */
    void *log_user;                                       /* passed to log */
    const rotor_engine *threads_of; /* run on the threads of this engine, which is closed later;
                                       NULL: on threads of its own */
    const char *lora;               /* low-rank adapter beside the model: a GGUF file; NULL: none */
    float lora_scale;               /* multiplies its alpha; default 1 */
    uint8_t zero[4];                /* 0 */
    const char *device;             /* "cpu", "auto", "opencl", "vulkan:1" …; NULL: cpu. Of an API
                                       without number the first device; none there is an error.
                                       auto: the fastest of the CPU and the hardware devices.
                                       A device that cannot run the model, or fails later, is given
                                       up for the CPU with one warning */
    const char *device_cache;       /* folder for compiled kernels of devices and for what auto has
                                       measured; NULL: nothing is kept */
    uint32_t device_layers;         /* the device takes the first N layers, the CPU the rest and the
                                       head; 0: as many as fit */
    rotor_yarn yarn;                /* bounds of the YaRN ramp, where the model has one; automatic:
                                       exact for gpt-oss, else as the file says or rounded */
    const char *device_prompt;      /* where prompts run, as device but not auto; NULL: there, too.
                                       Both hold the model; one that cannot leaves prompts to device
                                       with one warning */
    bool embed;                     /* the engine makes vectors (rotor_embed) and no text: it has no
                                       sessions, and runs on the CPU. ctx: tokens of the longest
                                       text; kv, head, device and max_sessions do not count */
    bool embed_int8;                /* with embed: the float matrices of an encoder, and what they
                                       multiply, are rounded to 8 bits in blocks of 32: faster, the
                                       cosine to the exact vector about 0.9995; not with float_act */
    uint8_t zero_embed[2];          /* 0 */
    rotor_pool pool;                /* with embed */
    uint64_t memory_bytes;          /* plan as if there were so much memory for all of this; 0: what
                                       the system and its control groups leave */
    float self_check;               /* share of the time of steps that checks while running may take
                                       (docs/self-check.md); 0: none, 0.04 is good, 1: no limit.
                                       Each weight is read once more at opening. What is wrong ends
                                       the call with ROTOR_E_DEVICE; where a product or a weight is,
                                       all later calls, too. A summary is logged at closing.
                                       With embed there are no checks */
    uint32_t trace_events;          /* with trace: events kept; 0: 200000 */
    const char *trace;              /* file for a timeline of loading, steps, ops and tokens, which
                                       closing writes (docs/tracing.md); NULL: none */
} rotor_engine_options;
ROTOR_API rotor_engine_options rotor_engine_options_default(void);

/* path: a .gguf file, a .safetensors file or a HF folder. opt may be NULL. */
ROTOR_API rotor_status rotor_engine_open(rotor_engine **out, const char *path,
                                         const rotor_engine_options *opt, rotor_error *err);
/* A GGUF image in memory, borrowed until close; name appears in messages. */
ROTOR_API rotor_status rotor_engine_open_memory(rotor_engine **out, const void *data,
                                                size_t n_bytes, const char *name,
                                                const rotor_engine_options *opt, rotor_error *err);
/* After its sessions. NULL is fine; *e becomes NULL. */
ROTOR_API void rotor_engine_close(rotor_engine **e);

typedef struct rotor_engine_info {
    uint32_t size;            /* set by the caller: sizeof(rotor_engine_info); kept */
    const char *name;         /* model's own name; these strings live as long as the engine */
    const char *architecture; /* "bitnet-b1.58", "llama", … */
    const char *type_name;    /* storage of the projections */
    const char
        *template_line; /* which chat template, and why; or why the model's own is unusable */
    const char *head;   /* output head in use */
    const char *cpu;    /* CPU level in use */
    uint32_t n_vocab, n_embd, n_layer, n_head, n_head_kv, n_ff; /* shape */
    uint32_t n_ctx_train;                                       /* context of the model */
    uint32_t n_ctx;                                             /* context of a session */
    int32_t threads;                                            /* in use */
    uint64_t n_params;                                          /* weights */
    uint64_t file_bytes;                                        /* of the model file */
    uint64_t kv_bytes;                                          /* cache of all sessions */
    uint64_t step_bytes; /* weight bytes read per decoded token */
    float temperature, top_p, min_p,
        repeat_penalty;      /* model's own sampling defaults, < 0: not said */
    int32_t top_k;           /* likewise */
    bool has_template;       /* the model file brings a chat template or has a built-in one */
    uint64_t head_bytes;     /* of step_bytes, those of the output head; of the exact head what its
                                tokens have read on average since opening */
    uint64_t kv_tok_bytes;   /* cache bytes of one position, all layers */
    uint64_t head_all_bytes; /* bytes of the head where all logits are computed */
    /* Exact head, since opening; 0 with other heads. */
    uint64_t head_tokens;       /* tokens chosen through it */
    uint64_t head_whole;        /* of which it could not decide: the whole head ran */
    uint64_t head_survivors[5]; /* rows left after 4, 5, 6, 7 and 8 bits, sums; 0: not needed */
    uint64_t head_rows;         /* rows computed in full precision, sum */
    const char *device;         /* where it runs now: "cpu", "vulkan:1" … */
    const char *device_name;    /* what the driver calls it; "cpu" */
    const char *device_why;     /* how it was chosen */
    /* What the device has done since opening. */
    uint64_t device_steps;     /* steps: a decoded token, a piece of a prompt */
    uint64_t device_dependent; /* kernels started that waited for the one before; 0 on the CPU */
    uint64_t device_up, device_down; /* bytes to and from it; 0 on the CPU */
    uint64_t device_layers;          /* layers on it, the CPU has the rest; 0 on the CPU */
    uint64_t device_imported;  /* bytes of weights that it reads in the processor's memory; 0 on
                                  the CPU */
    const char *device_prompt; /* where prompts run: as device, or another */
    /* Of an engine opened to embed; else ROTOR_POOL_AUTO and 0. */
    rotor_pool pool;          /* in use */
    uint32_t n_vector;        /* floats of a text's vector; 1, a score, of a cross-encoder */
    uint64_t work_bytes;      /* buffers of a step and copies, about, as planned at opening */
    uint64_t available_bytes; /* memory there was for cache, work and mapped weights then */
    uint64_t on_demand;       /* 1: that is too little, and experts are read as they are needed */
    uint64_t wanted_bytes;    /* of experts asked for ahead of their use, since opening */
    uint64_t file_id;         /* which files it was opened from, and when they were written: another
                                 where one was exchanged since; 0: from memory */
} rotor_engine_info;
ROTOR_API rotor_status rotor_engine_get_info(const rotor_engine *e, rotor_engine_info *info);

/* What the checks of rotor_engine_options.self_check have done since opening. */
typedef struct rotor_self_check {
    uint32_t size;             /* set by the caller: sizeof(rotor_self_check); kept */
    uint32_t zero;             /* 0 */
    uint64_t steps;            /* steps begun */
    uint64_t logits;           /* rows of logits that were looked at, each whole */
    uint64_t values;           /* activations and logits that were looked at */
    uint64_t products;         /* matrix products of which a row was done twice … */
    uint64_t macs;             /* … and the multiplications of that */
    uint64_t weight_bytes;     /* bytes of weights whose checksum was taken again */
    uint64_t weight_all_bytes; /* bytes of weights with a checksum; 0: they have none */
    uint64_t total_ns;         /* nanoseconds that steps took, checks included … */
    uint64_t spent_ns;         /* … and of these the checks */
    uint64_t faults;           /* found */
    char fault[496];           /* the first of them, one line; empty: there is none */
} rotor_self_check;
/* ROTOR_E_STATE: the engine was opened without. By the thread that uses the engine. */
ROTOR_API rotor_status rotor_engine_get_self_check(const rotor_engine *e, rotor_self_check *out);

/* ---- Text and ids ---------------------------------------------------------------------------- */

#define ROTOR_NO_ID UINT32_MAX

enum {                       /* flags of rotor_tokenize */
       ROTOR_TOK_BOS = 1,    /* put the beginning-of-text id in front if the model wants one */
       ROTOR_TOK_SPECIAL = 2 /* recognise control tokens in the text */
};
/* Ids of text[n_bytes] in a new array *ids (free with rotor_free). Thread-safe. */
ROTOR_API rotor_status rotor_tokenize(const rotor_engine *e, const char *text, size_t n_bytes,
                                      unsigned flags, uint32_t **ids, size_t *n, rotor_error *err);
/* Text of ids in a new NUL-terminated string (free with rotor_free); *n_bytes may be NULL.
 * special: print control tokens too. Thread-safe. */
ROTOR_API rotor_status rotor_detokenize(const rotor_engine *e, const uint32_t *ids, size_t n,
                                        bool special, char **text, size_t *n_bytes,
                                        rotor_error *err);
/* Is this id an end of generation? Thread-safe. */
ROTOR_API bool rotor_is_eog(const rotor_engine *e, uint32_t id);
ROTOR_API void rotor_free(void *p);

typedef struct rotor_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* text; control tokens in it stay text */
} rotor_message;
/* Ids of a conversation rendered with the model's template, ready for an answer. Thread-safe.
 * *prompt (may be NULL): the rendered text, free with rotor_free. */
ROTOR_API rotor_status rotor_chat_tokenize(const rotor_engine *e, const rotor_message *messages,
                                           size_t n_messages, uint32_t **ids, size_t *n,
                                           char **prompt, rotor_error *err);
/* The i-th text that ends an answer in this template beside the model's own end ids; NULL past the
 * last. */
ROTOR_API const char *rotor_chat_stop(const rotor_engine *e, size_t i);
/* Names of the built-in chat templates; NULL past the end. */
ROTOR_API const char *rotor_chat_template_name(size_t i);

/* ---- Vectors of texts ------------------------------------------------------------------------ */

typedef struct rotor_embed_text {
    const char *text;    /* [n_bytes]; control tokens in it stay text. NULL: ids */
    size_t n_bytes;      /* of text */
    const uint32_t *ids; /* [n_ids], as they are; where text is NULL */
    size_t n_ids;        /* of ids */
} rotor_embed_text;

enum {                          /* flags of rotor_embed */
       ROTOR_EMBED_RAW = 1,     /* vectors as they come, not brought to length one */
       ROTOR_EMBED_TRUNCATE = 2 /* a text that is too long is cut to the engine's n_ctx, the tokens
                                   around it kept, instead of refused */
};
/* The vectors of n texts, out[n][n_vector] of the caller's, for an engine opened with `embed`.
 * Texts get what the model wants around them, and an end token where the last one speaks for them.
 * Many texts in a call are faster than many calls: they share steps. ROTOR_E_ARG: a text without
 * tokens, an id outside the vocabulary; ROTOR_E_FULL: one too long; messages name it by its number.
 * On failure out is unspecified. One thread at a time per engine. */
ROTOR_API rotor_status rotor_embed(rotor_engine *e, const rotor_embed_text *texts, size_t n,
                                   unsigned flags, float *out, rotor_error *err);

/* How well each of n passages answers the query: scores[n] of the caller's, for an engine opened
 * with `embed` whose pool is ROTOR_POOL_RANK, a cross-encoder. Higher is better; the scores are the
 * model's own numbers (logits), without bounds, and only comparable among passages of one query.
 * The model reads query and passage together, so that nothing can be computed ahead: a pair costs
 * a pass over both. Texts get what the model wants around them; ids are taken as they are, query
 * before passage. A passage that is too long is cut to the engine's n_ctx beside the whole query.
 * Scores do not depend on which passages share a call. ROTOR_E_ARG: a text without tokens, an id
 * outside the vocabulary; ROTOR_E_FULL: the query leaves no room for a passage; ROTOR_E_STATE:
 * another kind of engine. On failure scores are unspecified. One thread at a time per engine. */
ROTOR_API rotor_status rotor_rerank(rotor_engine *e, const rotor_embed_text *query,
                                    const rotor_embed_text *passages, size_t n, float *scores,
                                    rotor_error *err);

/* ---- Session --------------------------------------------------------------------------------- */

/* max_tok: positions; 0: the engine's context. */
ROTOR_API rotor_status rotor_session_create(rotor_session **out, rotor_engine *e, uint32_t max_tok,
                                            rotor_error *err);
ROTOR_API void rotor_session_free(rotor_session **s);
ROTOR_API uint32_t rotor_session_len(const rotor_session *s); /* positions used */
ROTOR_API uint32_t rotor_session_max(const rotor_session *s); /* positions there are */
/* Keeps the first n_keep positions. Where layers keep only their window (gpt-oss) and what is
 * before it is gone, nothing is kept: rotor_session_len says. */
ROTOR_API void rotor_session_rewind(rotor_session *s, uint32_t n_keep);

/* The tokens of the timeline, [rotor_session_len]; valid until the session changes. */
ROTOR_API const uint32_t *rotor_session_tokens(const rotor_session *s);
/* Writes the session to a file: tokens, cache and a note of the caller's (may be NULL). The file
 * appears under its name when it is whole, for its owner alone (mode 0600). Its layout:
 * docs/formats.md. */
ROTOR_API rotor_status rotor_session_save(rotor_session *s, const char *path, const char *note,
                                          rotor_error *err);
/* Makes the session what such a file holds: it goes on bit for bit as the saved one would have. The
 * file is checked before anything changes. ROTOR_E_UNSUPPORTED: it is of another model, adapter or
 * cache type; ROTOR_E_FULL: it is longer than the session may be. *note (may be NULL): a new
 * string, free with rotor_free. */
ROTOR_API rotor_status rotor_session_load(rotor_session *s, const char *path, char **note,
                                          rotor_error *err);

/* Makes the timeline equal tokens[n] (n >= 1), reusing the common prefix, and returns the logits
 * after the last token, float[n_vocab], valid until the next call on the engine. */
ROTOR_API rotor_status rotor_eval(rotor_session *s, const uint32_t *tokens, size_t n,
                                  const float **logits, rotor_error *err);
typedef struct rotor_logit {
    uint32_t id; /* vocabulary id; ROTOR_NO_ID past the end of the vocabulary */
    float value; /* its logit */
} rotor_logit;
/* As rotor_eval, for the k (1 to 256) largest logits after the last token, best first (the lower id
 * on ties): top[k]. All that is needed where only the best count, and with ROTOR_HEAD_EXACT a
 * fraction of the work; the values are those of rotor_eval. */
ROTOR_API rotor_status rotor_eval_top(rotor_session *s, const uint32_t *tokens, size_t n,
                                      rotor_logit *top, size_t k, rotor_error *err);
/* One step for several sessions of one engine: tokens[i] is appended to sessions[i]; logits[i] is
 * what follows it, valid until the next call on the engine. The weights are read once for all of
 * them. n: 1 to the engine's max_logits. On failure no session has changed. */
ROTOR_API rotor_status rotor_eval_together(rotor_session *const *sessions, const uint32_t *tokens,
                                           size_t n, const float **logits, rotor_error *err);
/* Evaluates tokens[n] from an empty timeline and hands every position's logits to fn in order;
 * false stops. */
ROTOR_API rotor_status rotor_eval_all(rotor_session *s, const uint32_t *tokens, size_t n,
                                      bool (*fn)(void *user, size_t pos, const float *logits),
                                      void *user, rotor_error *err);

/* ---- Generation ------------------------------------------------------------------------------ */

typedef struct rotor_token {
    uint32_t id;   /* vocabulary id */
    float logprob; /* natural logarithm of its probability; NAN: see no_logprobs */
} rotor_token;

/* What happens when the context is full. ROTOR_FULL_SHIFT drops the oldest tokens behind the
 * beginning that stays, half of them, and evaluates the rest again at its new positions, so that
 * the text goes on as it would from these tokens alone. */
typedef enum rotor_full {
    ROTOR_FULL_STOP, /* the text ends with ROTOR_FINISH_FULL; a prompt that is longer is refused */
    ROTOR_FULL_SHIFT /* the text goes on; a prompt that is longer loses its oldest part */
} rotor_full;

/* Rules that a text is kept to: tokens that would break them are not chosen, and the text ends only
 * where they are fulfilled, unless something else ends it (max_tokens, a full context, a stop
 * string, a callback). docs/grammar.md says what there is. */
typedef enum rotor_grammar_kind {
    ROTOR_GRAMMAR_GBNF,        /* a grammar in the notation of llama.cpp */
    ROTOR_GRAMMAR_JSON_SCHEMA, /* a JSON schema */
    ROTOR_GRAMMAR_JSON_OBJECT  /* any JSON object; there is no text */
} rotor_grammar_kind;
typedef struct rotor_grammar rotor_grammar;
/* Reads rules for texts of an engine, which outlives them. ROTOR_E_FORMAT: they are wrong, with the
 * line and column of a grammar or the place in a schema; ROTOR_E_UNSUPPORTED: a keyword of a schema
 * that cannot be kept to; ROTOR_E_FULL: too large. The first one for an engine takes longest. Safe
 * from any thread, also while the engine generates. */
ROTOR_API rotor_status rotor_grammar_create(rotor_grammar **out, rotor_engine *e,
                                            rotor_grammar_kind kind, const char *text,
                                            rotor_error *err);
/* Memory for what it has learnt so far, which grows with what is generated, within limits. By the
 * thread that generates. */
ROTOR_API size_t rotor_grammar_bytes(const rotor_grammar *g);
/* After the generations that use it. NULL is fine; *g becomes NULL. */
ROTOR_API void rotor_grammar_free(rotor_grammar **g);

typedef struct rotor_gen_options {
    uint32_t size;            /* sizeof(rotor_gen_options) */
    uint32_t max_tokens;      /* 0: until the context is full (shift: until the model ends) */
    float temperature;        /* 0: arg-max */
    int32_t top_k;            /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repeat_penalty;     /* 1: off; the three penalties look at the last 64 tokens */
    float frequency_penalty;  /* 0: off */
    float presence_penalty;   /* 0: off */
    uint64_t seed;            /* same seed, same text */
    const char *const *stops; /* stop strings */
    size_t n_stops;           /* how many */
    const uint32_t *bias_ids; /* tokens whose logits are shifted */
    const float *bias;        /* by this much */
    size_t n_bias;            /* how many */
    uint32_t n_top;           /* alternatives reported per token, at most 20 */
    bool ignore_eog;          /* keep going past end-of-generation tokens; an answer in parts
                                 (rotor_chat.h) cannot: they are not chosen */
    bool special;             /* show control tokens */
    bool no_logprobs;         /* with n_top 0: the token's logprob may be NAN where that saves work
                                 (ROTOR_HEAD_EXACT); so it is when on_text is NULL */
    /* Called once per token with the text that has become safe to show (whole characters, nothing
     * of a stop string; often empty), and once more with token NULL if the end releases text that
     * was held back. Return false to stop. */
    bool (*on_text)(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                    const rotor_token *top, size_t n_top);
    /* Prompt progress; return false to stop. */
    bool (*on_prompt)(void *user, uint32_t done_tok, uint32_t total_tok);
    /* May rewrite logits before sampling. */
    void (*on_logits)(void *user, float *logits, uint32_t n_vocab);
    void *user; /* passed to all of them */
    /* Speculation: tokens are guessed and evaluated several at a time; those that the model would
     * have chosen anyway are kept. Same text, same probabilities, with these settings or without;
     * only the time differs. Guessing stops by itself while it does not pay. */
    uint32_t lookup;    /* guess what followed the last time that the newest tokens stood in the
                           session, at least so many of them (2 is good); 0: off */
    uint32_t draft_max; /* guesses per step at most, up to 64; 0: 8. The engine's max_logits - 1 is
                           a limit too */
    /* Guess with a smaller model: a session of another engine that rotor_draft_check accepts. Its
     * timeline is overwritten, by the thread of the call. NULL: off */
    rotor_session *draft;
    /* Takes the answer apart as it comes (rotor_chat.h): a new one of the same engine, which nobody
     * else puts ids into. The text, here and in the result, is then that of the answer alone, stop
     * strings are looked for in it and not in what was thought, and when the call returns the reply
     * has ended, after an error, too. NULL: none */
    struct rotor_reply *reply;
    rotor_full full; /* policy for a full context */
    uint32_t keep;   /* shift: the first so many tokens stay, at most half of the context; 0: the
                        BOS token, where the model has one */
    /* shift, may be NULL: asked when an answer fills the context. Gives a shorter prompt in place
     * of the one there was (say, the conversation without its oldest turns; borrowed until
     * generation ends), behind which the answer so far is put; it then stays as `keep` does as long
     * as it fits half of the context. False: there is none, and the oldest tokens are dropped. */
    bool (*on_shorten)(void *user, const uint32_t **ids, size_t *n);
    /* shift, may be NULL: n_dropped tokens are being dropped, n_left are evaluated again. */
    void (*on_shift)(void *user, uint32_t n_dropped, uint32_t n_left);
    /* The text is kept to these rules, of the same engine. In a conversation of the Harmony format
     * they bind the answer and not what is thought before it; the answer may be a call of a
     * function instead. Used by any number of generations, also at once in a batch. Not with
     * ignore_eog. ROTOR_E_FULL while generating: so ambiguous, or so deeply nested, that the work
     * exceeds a limit. NULL: none */
    const rotor_grammar *grammar;
    /* With a model of the Harmony format: rules of its calls (rotor_grammar_create_calls in
     * rotor_chat.h), which bind the headers of messages and the arguments of calls. They go with a
     * grammar for the answer, and in a conversation only. NULL: none */
    const rotor_grammar *calls;
} rotor_gen_options;
/* The model's own sampling settings over Rotor's defaults. e may be NULL. */
ROTOR_API rotor_gen_options rotor_gen_options_default(const rotor_engine *e);

typedef enum rotor_finish {
    ROTOR_FINISH_END,    /* the model ended its answer */
    ROTOR_FINISH_STOP,   /* a stop string */
    ROTOR_FINISH_LENGTH, /* max_tokens */
    ROTOR_FINISH_FULL,   /* the context is full */
    ROTOR_FINISH_CANCEL  /* a callback said so */
} rotor_finish;

typedef struct rotor_gen_result {
    char *text;          /* owned by the result, NUL-terminated */
    size_t n_bytes;      /* of text */
    uint32_t *ids;       /* generated ids, owned by the result */
    size_t n_ids;        /* how many */
    rotor_finish finish; /* why it ended */
    uint32_t n_prompt;   /* prompt tokens, without those dropped before it began */
    uint32_t n_reused;   /* of which the cache already held */
    uint64_t prompt_us;  /* microseconds for the prompt */
    uint64_t first_us;   /* from the call to the first token */
    uint64_t decode_us;  /* from the first to the last generated token */
    uint32_t n_drafted;  /* guesses evaluated (see rotor_gen_options.lookup and draft) */
    uint32_t n_accepted; /* of which right: tokens that needed no step of their own */
    uint32_t end_id;     /* the id that ended it, not among ids; ROTOR_NO_ID: none did */
    uint32_t n_shifts;   /* times the oldest tokens were dropped (ROTOR_FULL_SHIFT) … */
    uint32_t n_shifted;  /* … and how many all together */
} rotor_gen_result;
ROTOR_API void rotor_gen_result_free(rotor_gen_result *r);

/* Whether the session `draft`, of another engine, may guess for s: every id must stand for the same
 * text in both models. ROTOR_E_ARG says where they differ. Slow the first time, then not. */
ROTOR_API rotor_status rotor_draft_check(rotor_session *s, rotor_session *draft, rotor_error *err);

/* Continues the session to ids[n], n >= 1, and generates. opt may be NULL. */
ROTOR_API rotor_status rotor_generate(rotor_session *s, const uint32_t *ids, size_t n,
                                      const rotor_gen_options *opt, rotor_gen_result *out,
                                      rotor_error *err);
/* The same for a plain text (BOS as the model wants). */
ROTOR_API rotor_status rotor_generate_text(rotor_session *s, const char *text,
                                           const rotor_gen_options *opt, rotor_gen_result *out,
                                           rotor_error *err);
/* Beam search, without speculation; the best of `width` beams (1 to 64), by log-probability per
 * token. Beams share the engine's cache: ROTOR_E_FULL when they do not fit. grammar: what each of
 * them is kept to (rotor_gen_options.grammar), NULL: nothing. The best may be one that max_tokens
 * has cut: then finish is ROTOR_FINISH_LENGTH. */
ROTOR_API rotor_status rotor_generate_beam(rotor_session *s, const uint32_t *ids, size_t n,
                                           uint32_t width, uint32_t max_tokens,
                                           const rotor_grammar *grammar, rotor_gen_result *out,
                                           rotor_error *err);

#ifdef __cplusplus
}
#endif
#endif
