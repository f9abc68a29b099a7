/* SPDX-License-Identifier: MIT
 *
 * api, inside: what an engine and a session hold, and the rule for option structs.
 */
#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include "api/api_auto.h"
#include "base/base.h"
#include "chat/chat.h"
#include "gen/gen.h"
#include "grammar/grammar.h"
#include "model/model.h"
#include "par/par.h"
#include "rotor.h"
#include "rotor_chat.h"
#include "run/run.h"

struct rotor_engine {
    model *m;                  /* owned */
    model_adapter *adapter;    /* owned; NULL: none */
    par_pool *pool;            /* owned, unless opt.threads_of */
    base_trace *trace;         /* of opt.trace, owned; NULL: none */
    run_engine *run;           /* owned */
    chat_template *tmpl;       /* owned; NULL: Harmony, or the model's own cannot be used */
    harmony harmony;           /* marks of the format; v NULL: another format */
    const char *harmony_line;  /* which, and why */
    harmony_guide *guide;      /* keeps answers to it, owned; NULL: another format */
    grammar_words *words;      /* the vocabulary as grammars want it, owned; NULL: not made yet */
    grammar_words *call_words; /* the same with the marks of calls, owned; NULL: not made yet */
    base_mutex *words_lock;    /* guards their making, owned */
    rotor_error tmpl_error;    /* why not */
    bool has_template;         /* the model brings one or has a built-in one */
    rotor_engine_options opt;  /* as given; its strings are not used after opening */
    base_log log;              /* forwards to opt.log */
    unsigned cpu;              /* CPU_* flags in use */
    uint32_t n_ctx;            /* positions per session */
    model_pool pool_in_use;    /* opened to embed: how; else UNSAID */
    uint64_t kv_bytes;         /* cache of all sessions */
    uint64_t kv_tok_bytes;     /* cache of one position */
    uint64_t work_bytes;       /* of buffers, about */
    uint64_t have_bytes;       /* memory there was for cache, work and mapped weights */
    bool on_demand;            /* too little: experts are read as they are needed */
    run_row *rows;             /* [run_max_logits] rows of one step, owned */
    uint64_t vocab_hash;       /* of its words; 0: not made yet */
    char device[24];           /* "cpu", "vulkan:1": where it was opened */
    char device_name[128];     /* what the driver calls that */
    char device_why[192];      /* how it was chosen */
    char device_prompt[24];    /* where prompts run, when that is another; or "" */
};

struct rotor_session {
    rotor_engine *e;  /* borrowed */
    run_session *run; /* owned */
};

typedef struct api_watch api_watch; /* api_calls.c */
struct rotor_grammar {
    rotor_engine *e;            /* whose words */
    grammar *g;                 /* owned */
    const grammar_words *words; /* of the engine */
    grammar_masks *m;           /* owned; used by the engine's thread */
    api_watch *watch;           /* it counts from a call on, owned; NULL: from the start */
    bool headers;               /* of messages of the Harmony format: rotor_gen_options.calls … */
    bool required;              /* … which a call must end */
};

/* Copies an option struct of any version over *dst, which holds the defaults: what the caller's
 * version does not know keeps its default, what ours does not know must be zero. src may be NULL.
 */
rotor_status api_take_options(void *dst, size_t dst_bytes, const void *src, const char *what,
                              rotor_error *err);

/* A new array of the ids, never NULL; the list is emptied. */
uint32_t *api_take_ids(text_ids *ids);
/* The buffer's text, NUL-terminated, never NULL on success; the buffer is emptied. */
char *api_take_text(base_buf *buf);

/* ---- api_generate.c: one generation, from the caller's options to room gen's and back -----------
 */

/* What an answer is kept to. It stays where it is while it is used. */
typedef struct api_guide {
    gen_guide guide;             /* for room gen */
    const harmony_guide *format; /* of the conversation; NULL: none */
    grammar_masks *masks;        /* of a grammar; NULL: none */
    grammar_masks *calls;        /* of headers and calls; NULL: none */
    uint32_t opening;            /* their state where a header begins */
    const api_watch *watch;      /* it counts from a call on; NULL: from the start */
    harmony_ends ends;           /* what may end the turn */
} api_guide;
/* api_grammar.c: what follows a prompt with these options; *out NULL: anything may. */
rotor_status api_guide_for(api_guide *g, const rotor_engine *e, const uint32_t *ids, size_t n,
                           const rotor_gen_options *o, const gen_guide **out, rotor_error *err);
/* Words of the engine's vocabulary; calls: with the marks of calls among them. */
rotor_status api_words_of(rotor_engine *e, bool calls, const grammar_words **out, rotor_error *err);
rotor_status api_check_grammar(const rotor_gen_options *o, const rotor_engine *e, rotor_error *err);

/* Room gen's view of the caller's options; stays where it is while the generation runs. */
typedef struct api_call {
    rotor_gen_options opt; /* a copy, whole */
    gen_options gen;       /* what room gen gets */
    api_guide guide;       /* what the answer is kept to */
    base_str *stops;       /* owned */
    gen_bias *bias;        /* owned */
} api_call;
/* Reads the options; what they point to is borrowed until api_call_end. */
rotor_status api_call_begin(api_call *c, rotor_session *s, const rotor_gen_options *user,
                            rotor_error *err);
/* The prompt's format, and who takes the answer apart. */
rotor_status api_call_format(api_call *c, const rotor_session *s, const uint32_t *ids, size_t n,
                             rotor_error *err);
void api_call_end(api_call *c);
rotor_status api_check_prompt(const rotor_session *s, const uint32_t *ids, size_t n, bool shift,
                              const rotor_gen_result *out, rotor_error *err);
/* Moves text and ids over; empties r either way. */
rotor_status api_give(gen_result *r, rotor_gen_result *out, rotor_error *err);

/* Chooses the chat template; fails only for one the caller named. */
rotor_status api_choose_template(rotor_engine *e, rotor_error *err);
/* How the model writes calls in its text; NULL: it knows no tools, or has the Harmony format. */
const chat_family *api_calls_of(const rotor_engine *e);
/* api_harmony.c: chooses Harmony if it is asked for (then it must be possible) or the model's. */
rotor_status api_choose_harmony(rotor_engine *e, rotor_error *err);
rotor_status api_render_harmony(const rotor_engine *e, const rotor_turn *turns, size_t n,
                                const rotor_chat_options *opt, text_ids *out, rotor_error *err);

/* api_embed.c: refuses to write text with a model that cannot. */
rotor_status api_check_use(const rotor_engine *e, rotor_error *err);
/* How an engine that embeds does it, and what that means for run. */
void api_choose_pool(rotor_engine *e);
const char *api_pool_line(const rotor_engine *e); /* in words */
void api_embed_options(const rotor_engine *e, run_options *opt);
/* api_reply.c: a generation of session e begins to put its answer into r. stops: borrowed until the
 * reply has ended. */
rotor_status api_reply_begin(rotor_reply *r, const rotor_engine *e, const base_str *stops, size_t n,
                             rotor_error *err);
/* As gen_options.read. */
rotor_status api_reply_read(rotor_reply *r, uint32_t id, base_buf *text, bool *stop);
/* api_checks.c: the summary of the checks while running, as a line of the log. */
void api_log_checks(const rotor_engine *e);
/* api_memory.c: memory for cache, work and mapped weights. */
uint64_t api_available(const rotor_engine *e);
/* Says what is going to be needed and what there is; true: of a mixture on the CPU, which does not
 * fit, experts are to be read on demand. */
bool api_plan_memory(rotor_engine *e, bool on_cpu);

/* api_device.c: the device that e->opt.device names, and in e->device_why how it was chosen. opt:
 * of the engine to be made, for auto. */
rotor_status api_choose_device(rotor_engine *e, const run_options *opt, api_device *out,
                               rotor_error *err);
/* Likewise for prompts. False in *apart: they have none of their own. */
rotor_status api_choose_prompt_device(rotor_engine *e, const api_device *device, api_device *out,
                                      bool *apart, rotor_error *err);
/* Fills in e->device and e->device_name, once e->run is there. */
void api_name_device(rotor_engine *e, const api_device *d);
/* Tokens a second that a device decodes with these options, or why it cannot run the model. */
rotor_status api_time_decode(const rotor_engine *e, const run_options *run_opt, const api_device *d,
                             double *tok_per_s, rotor_error *err);

/* ---- api_calls.c: functions called in the text of an answer ------------------------------------
 */

/* What waits for a call in an answer that is free until then. */
struct api_watch {
    const char *mark;           /* that begins calls; NULL: they have none, see `beginning` */
    const grammar_words *words; /* borrowed */
    grammar *rules;             /* of a call's beginning, owned; NULL: with a mark */
    grammar_masks *beginning;   /* of them, owned; NULL: with a mark */
    size_t n_mark;              /* bytes of the mark */
    uint32_t back[32];          /* [n_mark] longest proper border of its first i + 1 bytes */
};
enum { API_WATCH_OFF, API_WATCH_BOUND, API_WATCH_FIRST }; /* states; from the last on: waiting */
uint32_t api_watch_start(const api_watch *w);
/* After a token; rules: state of the calls' grammar. */
void api_watch_step(const api_watch *w, grammar_masks *calls, uint32_t id, uint32_t *state,
                    uint32_t *rules);
void api_watch_free(api_watch *w);
/* Whether an id is a control token that is a mark of calls; its text in *mark. */
bool api_is_mark(const rotor_engine *e, uint32_t id, const char **mark);

/* Reads an answer token by token. */
typedef struct api_call_reader {
    const rotor_engine *e; /* borrowed */
    chat_tools tools;      /* owned */
    chat_reader *reader;   /* owned */
    text_stream stream;    /* of its tokens */
    base_buf piece;        /* text of one, owned */
    bool whole;            /* the model has ended it */
} api_call_reader;
rotor_status api_call_reader_init(api_call_reader *r, const rotor_engine *e,
                                  const rotor_call_options *opt, const chat_reader_hooks *hooks,
                                  rotor_error *err);
void api_call_reader_free(api_call_reader *r);
rotor_status api_call_reader_put(api_call_reader *r, uint32_t id);
rotor_status api_call_reader_end(api_call_reader *r);

#endif
