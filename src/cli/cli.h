/* SPDX-License-Identifier: MIT
 *
 * cli: the program. One option table (options_table.c) from which the parser, --help, the ROTOR_*
 * variables and the configuration file are made, and one file per verb (verb_*.c).
 *
 * Standard output carries the product, standard error everything else. A verb returns the exit
 * status: 0 done, 1 failed, 2 bad usage. Only this room prints, reads the environment or installs
 * signal handlers.
 */
#ifndef CLI_H
#define CLI_H

#include "base/base.h"
#include "rotor.h"
#include "rotor_chat.h"
#include "tool/tool.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* ---- Verbs ----------------------------------------------------------------------------------- */

enum { /* bits of cli_option.verbs */
       VERB_RUN = 1 << 0,
       VERB_CHAT = 1 << 1,
       VERB_BENCH = 1 << 2,
       VERB_SYNTH = 1 << 3,
       VERB_INSPECT = 1 << 4,
       VERB_CONVERT = 1 << 5,
       VERB_QUANTIZE = 1 << 6,
       VERB_TOKENIZE = 1 << 7,
       VERB_LOGITS = 1 << 8,
       VERB_PERPLEXITY = 1 << 9,
       VERB_INFO = 1 << 10,
       VERB_MODELS = 1 << 11,
       VERB_HELP = 1 << 12,
       VERB_VERSION = 1 << 13,
       VERB_TRAIN = 1 << 14,
       VERB_TRAIN_TOKENIZER = 1 << 15,
       VERB_FINETUNE = 1 << 16,
       VERB_EMBED = 1 << 17,
       VERB_SERVE = 1 << 18,
       VERB_RAG = 1 << 19,
       VERB_PULL = 1 << 20,
       VERB_RM = 1 << 21,
       VERBS_ENGINE =
           VERB_RUN | VERB_CHAT | VERB_BENCH | VERB_LOGITS | VERB_PERPLEXITY | VERB_SERVE,
       VERBS_ALL = (1 << 22) - 1
};

struct cli_args;
typedef struct cli_verb {
    const char *name;                    /* as typed */
    uint32_t bit;                        /* VERB_… */
    const char *usage;                   /* what follows "rotor NAME" */
    const char *help;                    /* one line */
    const char *notes;                   /* paragraphs under the options of its help; NULL: none */
    int min_words, max_words;            /* words beside options */
    int (*run)(const struct cli_args *); /* exit status */
} cli_verb;

const cli_verb *cli_verb_at(size_t i);           /* NULL past the end */
const cli_verb *cli_verb_find(const char *name); /* NULL: none */

/* ---- Options --------------------------------------------------------------------------------- */

typedef enum cli_opt {
    OPT_HELP,
    OPT_JSON,
    OPT_LOG_LEVEL,
    OPT_NO_PROGRESS,
    OPT_CONFIG,
    OPT_THREADS,
    OPT_CTX,
    OPT_CTX_PPL,
    OPT_CTX_EMBED,
    OPT_DEVICE,
    OPT_DEVICE_LAYERS,
    OPT_DEVICE_PROMPT,
    OPT_CPU,
    OPT_KV,
    OPT_HEAD,
    OPT_HEAD_EXACT,
    OPT_ACT,
    OPT_CHUNK,
    OPT_LAYERS,
    OPT_NO_MMAP,
    OPT_SELF_CHECK,
    OPT_CHECK_SHARE,
    OPT_TRACE,
    OPT_TRACE_EVENTS,
    OPT_MEMORY,
    OPT_I2S,
    OPT_YARN,
    OPT_TEMPLATE,
    OPT_LORA,
    OPT_LORA_SCALE,
    OPT_MODELS,
    OPT_HOST,
    OPT_PORT,
    OPT_ALIAS,
    OPT_PARALLEL,
    OPT_EMBED,
    OPT_STRICT_MODEL,
    OPT_KEEP_VOLATILE,
    OPT_PREFIX_STORE,
    OPT_PREFIX_SIZE,
    OPT_PREFIX_MIN,
    OPT_PING_MS,
    OPT_REQUEST_S,
    OPT_API_KEY,
    OPT_API_KEY_FILE,
    OPT_INSECURE,
    OPT_ALLOWED_HOSTS,
    OPT_CORS,
    OPT_TLS_CERT,
    OPT_TLS_KEY,
    OPT_MAX_QUEUE,
    OPT_MAX_CONNECTIONS,
    OPT_MAX_BODY,
    OPT_LOG_JSON,
    OPT_LOG_PROMPTS,
    OPT_SANDBOX,
    OPT_IDLE_UNLOAD,
    OPT_PROMPT,
    OPT_N_PREDICT,
    OPT_ECHO,
    OPT_CHAT,
    OPT_SYSTEM,
    OPT_EFFORT,
    OPT_THINK,
    OPT_BEAMS,
    OPT_IGNORE_EOS,
    OPT_TEMP,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_REPEAT,
    OPT_SEED,
    OPT_STOP,
    OPT_GRAMMAR,
    OPT_JSON_SCHEMA,
    OPT_LOOKUP,
    OPT_DRAFT,
    OPT_DRAFT_MAX,
    OPT_ON_FULL,
    OPT_KEEP,
    OPT_SESSION,
    OPT_NO_HISTORY,
    OPT_COLOR,
    OPT_N_PROMPT,
    OPT_N_GEN,
    OPT_REPS,
    OPT_DEPTH,
    OPT_SESSIONS,
    OPT_OPS,
    OPT_PLAN,
    OPT_COMPARE,
    OPT_PRESET,
    OPT_OUTPUT,
    OPT_OUTPUT_LOGITS,
    OPT_VOCAB,
    OPT_SPARSE,
    OPT_VERIFY,
    OPT_LAYER,
    OPT_STATS,
    OPT_TYPE,
    OPT_HEAD_TYPE,
    OPT_IDS,
    OPT_DECODE,
    OPT_LINES,
    OPT_SPECIAL,
    OPT_BOS,
    OPT_TOKENS,
    OPT_ALL,
    OPT_POOL,
    OPT_NO_NORMALIZE,
    OPT_TRUNCATE,
    OPT_KLD,
    OPT_WINDOWS,
    OPT_N_VOCAB,
    OPT_DATA,
    OPT_HELDOUT,
    OPT_TOKENIZER,
    OPT_TRAIN_PRESET,
    OPT_N_LAYER,
    OPT_N_EMBD,
    OPT_N_HEAD,
    OPT_N_HEAD_KV,
    OPT_N_FF,
    OPT_CTX_TRAIN,
    OPT_STEPS,
    OPT_BATCH,
    OPT_ACCUMULATE,
    OPT_LR,
    OPT_DECAY,
    OPT_CLIP,
    OPT_WARM_UP,
    OPT_ONE_STAGE,
    OPT_FULL_PRECISION,
    OPT_RECOMPUTE,
    OPT_SAVE_EVERY,
    OPT_EVAL_EVERY,
    OPT_RESUME,
    OPT_LOG,
    OPT_DRY_RUN,
    OPT_HF,
    OPT_TRAIN_TYPE,
    OPT_TRAIN_HEAD,
    OPT_MASTER,
    OPT_LORA_RANK,
    OPT_LORA_ALPHA,
    OPT_MERGE,
    OPT_EMBED_MODEL,
    OPT_EMBED_KEY,
    OPT_EMBED_KEY_FILE,
    OPT_NO_EMBED,
    OPT_INCLUDE,
    OPT_EXCLUDE,
    OPT_CONFIRM_DELETES,
    OPT_HITS,
    OPT_RAG_MODE,
    OPT_FUSION,
    OPT_FILTER,
    OPT_PLAIN,
    OPT_EXPLAIN,
    OPT_STATUS,
    OPT_ALL_DOCS,
    OPT_NOTE_TITLE,
    OPT_QUERIES,
    OPT_QRELS,
    OPT_RUN_FILE,
    OPT_CHUNKED,
    OPT_REFUSE,
    OPT_RAG,
    OPT_RAG_STORES,
    OPT_RAG_WRITE,
    OPT_GATE,
    OPT_STRICT,
    OPT_SHOW_CONTEXT,
    OPT_NO_ANSWER,
    OPT_BUDGET,
    OPT_RERANK,
    OPT_RERANK_N,
    OPT_RERANK_MS,
    OPT_REWRITE,
    OPT_EARLIER,
    OPT_RETRIEVE,
    OPT_FORCE,
    OPT_FORCE_RM,
    OPT_ONLY_SAY,
    OPT_OFFLINE,
    OPT_CONNECTIONS,
    OPT_MAN,
    OPT_COMPLETIONS,
    OPT_COMPLETE,
    CLI_N_OPTS
} cli_opt;

typedef enum cli_type { CLI_FLAG, CLI_INT, CLI_REAL, CLI_TEXT, CLI_CHOICE } cli_type;

enum {                  /* cli_option.flags */
       CLI_MANY = 1,    /* may be given several times */
       CLI_SAVED = 2,   /* may stand in the configuration file and in ROTOR_<NAME> … */
       CLI_NO_DASH = 4, /* … and nowhere else: on the command line it is a plain word */
       CLI_SECRET = 8   /* nobody else may read it */
};

typedef struct cli_option {
    const char *name;     /* long form without dashes */
    char letter;          /* short form, 0: none */
    cli_type type;        /* what its value is */
    const char *group;    /* heading in the help */
    const char *value;    /* how the help calls the value */
    double min, max;      /* of numbers */
    const char *choices;  /* "f16|f32|q8" */
    const char *fallback; /* the default as text; NULL: none */
    const char *help;     /* one line */
    uint32_t verbs;       /* VERB_… bits it applies to */
    unsigned flags;       /* CLI_MANY, CLI_SAVED … */
} cli_option;

extern const cli_option cli_options[CLI_N_OPTS];

/* Who said a value, the strongest first. */
typedef enum cli_origin { CLI_TYPED, CLI_VARIABLE, CLI_SECTION, CLI_GENERAL } cli_origin;

typedef struct cli_value {
    bool given;       /* by the command line, a variable or the file; else the fallback */
    int64_t i;        /* CLI_INT; CLI_CHOICE: index; CLI_FLAG: 0 or 1 */
    double f;         /* CLI_REAL */
    const char *text; /* as written; NULL when absent without fallback */
    cli_origin by;    /* who gave it */
} cli_value;

/* A parsed command line. Zero-initialise; free with cli_args_free. */
typedef struct cli_args {
    const cli_verb *verb;          /* what is being done */
    cli_value value[CLI_N_OPTS];   /* by option */
    const char **words;            /* [n_words] arguments beside options; owned array */
    size_t n_words;                /* how many */
    const char **many[CLI_N_OPTS]; /* values of CLI_MANY options; owned arrays */
    size_t n_many[CLI_N_OPTS];     /* how many of each */
    base_buf kept;                 /* text of the configuration file, which values point into */
    bool secret_in_file;           /* a CLI_SECRET option stands in it */
} cli_args;

/* argv[0] is the first word after the verb. Fills values from fallbacks, then arguments. */
rotor_status cli_parse(cli_args *a, const cli_verb *verb, int argc, char **argv, rotor_error *err);
/* Where the command line was silent: what ROTOR_<NAME> says. Values stay in the environment. */
rotor_status cli_read_environment(cli_args *a, const char *(*get_env)(const char *name),
                                  rotor_error *err);
/* Where that was silent, too: what a configuration file says, config its whole text, file its name
 * in messages (settings.c has the form). Once. */
rotor_status cli_read_config(cli_args *a, const char *config, const char *file, rotor_error *err);
/* "ROTOR_LOG_LEVEL" of "log-level". */
enum { CLI_VARIABLE_MAX = 40 };
void cli_variable_of(const cli_option *o, char out[CLI_VARIABLE_MAX]);
/* Sets one option afterwards; where names the origin in messages. text is borrowed. */
rotor_status cli_set(cli_args *a, cli_opt o, const char *text, const char *where, rotor_error *err);
void cli_args_free(cli_args *a);

bool cli_given(const cli_args *a, cli_opt o);
bool cli_on(const cli_args *a, cli_opt o);
int64_t cli_int(const cli_args *a, cli_opt o);
double cli_real(const cli_args *a, cli_opt o);
const char *cli_text(const cli_args *a, cli_opt o); /* NULL: absent */
/* Word i beside options, NULL past the end. */
const char *cli_word(const cli_args *a, size_t i);
/* The option called by this long name in this verb; CLI_N_OPTS: none. */
cli_opt cli_find_option(const char *name, size_t n_bytes, uint32_t verb_bit);
/* The nearest of the names that next(ctx, i) lists (NULL ends), NULL when none is near. */
const char *cli_nearest(const char *word, const char *(*next)(const void *ctx, size_t i),
                        const void *ctx);
/* The order of I2_S bytes that --i2s-layout asks for. */
tool_i2s cli_i2s(const cli_args *a);
/* Parses "1,2 3" into a new array (base_free). */
rotor_status cli_parse_ids(const char *text, uint32_t **ids, size_t *n, rotor_error *err);

/* ---- Help ------------------------------------------------------------------------------------ */

void cli_help_all(base_buf *out);
void cli_help_verb(base_buf *out, const cli_verb *verb);
/* What it does, its choices and its default. */
void cli_option_text(base_buf *out, const cli_option *o);
/* The options of a verb under their headings, in the order of the table. */
void cli_list_options(base_buf *out, uint32_t verb_bit,
                      void (*group)(base_buf *out, const char *name),
                      void (*option)(base_buf *out, const cli_option *o));
/* The manual page of a verb, NULL: of the program, in the language of man(7) (manual.c). */
void cli_manual(base_buf *out, const cli_verb *verb);
/* The script with which bash, zsh or fish completes a command line (complete.c) … */
void cli_completions(base_buf *out, const char *shell);
/* … and what it asks: what may stand in place of the last of the words behind "rotor", one a line,
 * a tab before what is said about it; ":files" stands for the names of files. */
void cli_complete(base_buf *out, const char *const *words, size_t n);

/* ---- Speaking (report.c) --------------------------------------------------------------------- */

/* "rotor: verb: message" on standard error; returns CLI_FAILED. */
int cli_fail(const cli_args *a, const rotor_error *err);
int cli_fail_text(const cli_args *a, const char *fmt, ...) BASE_PRINTF(2, 3);
/* The same with a hint where to read on; returns CLI_USAGE. */
int cli_usage(const cli_args *a, const char *fmt, ...) BASE_PRINTF(2, 3);
/* A line on standard error if the log level lets it through (BASE_LOG_…). */
void cli_log(const cli_args *a, int level, const char *fmt, ...) BASE_PRINTF(3, 4);
/* Log callback for the library; user is the cli_args. */
void cli_log_line(void *user, int level, const char *line);

/* Writes to standard output; failures are remembered and told by cli_finish. */
void cli_out(const void *p, size_t n_bytes);
void cli_outf(const char *fmt, ...) BASE_PRINTF(1, 2);
/* Flushes standard output; turns status into CLI_FAILED with a line when writing failed. */
int cli_finish(const cli_args *a, int status);

/* "1.11 GiB"; into out[32]. */
const char *cli_bytes(uint64_t bytes, char out[32]);

/* Progress on standard error: only on a terminal, only after a second, unless --no-progress. */
typedef struct cli_progress {
    const cli_args *a; /* whose flags decide */
    const char *what;  /* label */
    uint64_t start_us; /* when it began */
    uint64_t shown_us; /* last drawn; 0: never */
} cli_progress;
void cli_progress_start(cli_progress *p, const cli_args *a, const char *what);
/* Matches the progress callbacks of tool: user is the cli_progress; false after Ctrl-C. */
bool cli_progress_step(void *user, uint64_t done, uint64_t total);
void cli_progress_end(cli_progress *p);

/* ---- JSON (json_out.c): jansson values that never fail on foreign bytes ---------------------- */

struct json_t;
struct json_t *cli_json_text(const char *s, size_t n_bytes); /* invalid UTF-8 becomes U+FFFD */
/* Prints and frees; returns CLI_DONE, or CLI_FAILED when memory ran out. */
int cli_json_print(const cli_args *a, struct json_t *v);

/* ---- Terminal and signals (os_terminal.c) ---------------------------------------------------- */

bool cli_is_terminal(int fd);
int cli_terminal_columns(void);
/* Before anything else: what main was given becomes UTF-8, closed pipes failed writes. */
char **cli_start(char **argv);
uint32_t cli_left_out(void); /* bits of the verbs that the build for this system does not have */
const char *cli_usual_editor(void);
/* As read() and write(): bytes, 0 at the end, -1 and errno (EINTR: Ctrl-C). */
int64_t cli_read_some(int fd, void *p, size_t n_bytes);
int64_t cli_write_some(int fd, const void *p, size_t n_bytes);
/* From now Ctrl-C sets a flag instead of ending the program; off restores the default. */
void cli_catch_interrupt(bool on);
/* The same for being asked to end (SIGTERM). */
void cli_catch_end(void);
bool cli_interrupted(void);
void cli_clear_interrupt(void);
/* Ends as the shell expects after Ctrl-C: by the signal itself. */
void cli_die_interrupted(void);
/* All of standard input, byte for byte. */
rotor_status cli_read_stdin(base_buf *out, rotor_error *err);

/* ---- The user's editor (os_editor.c) ----------------------------------------------------------
 */

/* Opens text in VISUAL, EDITOR or vi; *out is what the file holds afterwards, without line ends at
 * its end. Fails when the editor does. The terminal must be in its ordinary state. */
rotor_status cli_edit_text(const char *text, base_buf *out, rotor_error *err);

/* ---- Models (model_ref.c, engine_options.c) -------------------------------------------------- */

/* Where a MODEL argument leads. */
typedef struct cli_model {
    tool_source src; /* what tool and the library take */
    char *path;      /* owned text behind src.path; NULL: the model inside the program */
} cli_model;
/* word: path, folder, name in the model cache, or NULL for the embedded default. */
rotor_status cli_model_find(cli_model *m, const char *word, rotor_error *err);
void cli_model_free(cli_model *m);
/* Where the model cache lies ("~/.cache/huggingface/hub"); base_free. */
char *cli_cache_root(void);
/* What the environment says about where models lie; borrowed. */
struct hub_places;
void cli_places(struct hub_places *out);
/* The nearest of the names one could have meant: short ones and models that are here, in a new text
 * (base_free); NULL: none is near. */
char *cli_nearest_model(const char *word);
/* A short name as the cache knows it, another without "hf:"; base_free. NULL: no memory. */
char *cli_cache_name(const char *word);
/* ROTOR_E_ARG: the word fits several of the entries, which the message lists; sources: and whose
 * each is. */
struct hub_entry;
rotor_status cli_several_models(const struct hub_entry *entries, size_t n, const char *word,
                                bool sources, rotor_error *err);

/* ---- Does it fit (fit.c) --------------------------------------------------------------------- */

typedef struct cli_fit {
    uint64_t n_ctx;                               /* tokens reckoned with */
    const char *kv;                               /* type of the cache */
    uint64_t weights_bytes, kv_bytes, work_bytes; /* what running takes */
    uint64_t need_bytes;                          /* their sum */
    uint64_t limit_bytes;                         /* --memory, or this machine's */
    uint64_t free_bytes;                          /* of it now */
    bool fits;                                    /* need <= limit */
    const char *knob;                             /* what to turn where it does not; else "" */
} cli_fit;
/* By --ctx, --kv and --memory. */
cli_fit cli_fit_of(const cli_args *a, const tool_facts *t);
void cli_fit_text(const cli_fit *f, base_buf *out); /* one line, without its end */
/* --memory, or what is free now. */
uint64_t cli_memory_available(const cli_args *a);
/* Which of what can be changed would make weights and a cache of n_ctx tokens fit; "": they do. */
const char *cli_memory_advice(const tool_facts *t, uint64_t n_ctx, uint64_t have);

/* The engine options of the command line; a verb may change them before it opens. */
rotor_engine_options cli_engine_options(const cli_args *a);
rotor_status cli_engine_open(rotor_engine **out, const cli_args *a, const cli_model *m,
                             rotor_engine_options opt, rotor_error *err);
/* Where devices keep compiled kernels, made if need be: $XDG_CACHE_HOME/rotor or ~/.cache/rotor;
 * base_free. NULL: nowhere. */
char *cli_device_cache(void);
/* The smaller model of --draft; all NULL without it. Zero-initialise; closed before the engine it
 * drafts for. */
typedef struct cli_draft {
    rotor_engine *e;  /* owned; runs on the threads of the other */
    rotor_session *s; /* owned */
} cli_draft;
rotor_status cli_draft_open(cli_draft *d, const cli_args *a, const rotor_engine *own,
                            rotor_session *s, rotor_error *err);
void cli_draft_close(cli_draft *d);
/* The rules of --grammar or --json-schema, a file or the text itself; NULL without them. */
rotor_status cli_grammar_open(rotor_grammar **out, const cli_args *a, rotor_engine *e,
                              rotor_error *err);
/* The exit status for a failed call: CLI_USAGE for a wrong argument, else CLI_FAILED; says why. */
int cli_status(const cli_args *a, rotor_status st, const rotor_error *err);
/* Sampling from the command line over the model's own settings; d may be NULL. */
rotor_gen_options cli_gen_options(const cli_args *a, const rotor_engine *e, const cli_draft *d);
/* The stop texts of g and of the model's chat template, in g; *owned is the caller's. */
rotor_status cli_chat_stops(const rotor_engine *e, rotor_gen_options *g, const char ***owned,
                            rotor_error *err);
/* --on-full: how many tokens of a chat's prompt ids[n] a shift keeps: all where that is half the
 * context or less, else what is in front of the first user's text. */
rotor_status cli_chat_keep(const cli_args *a, const rotor_engine *e, const char *system,
                           const uint32_t *ids, size_t n, uint32_t n_ctx, uint32_t *keep,
                           rotor_error *err);
/* One warning where the context has ended a text, with the numbers and what would help. */
void cli_say_full(const cli_args *a, const rotor_gen_result *r, uint32_t n_ctx);
/* What the options say about a chat. */
rotor_chat_options cli_chat_options(const cli_args *a);
/* The ids of --tokens, from standard input where it is -; at least one. base_free. */
rotor_status cli_token_ids(const cli_args *a, uint32_t **ids, size_t *n, rotor_error *err);
/* n per second, 0 when nothing was timed. */
double cli_rate(uint64_t n, uint64_t us);
/* "prompt 12 tok 103.2 t/s | decode 64 tok 41.0 t/s | first token 120 ms | context 76 of 4096",
 * with speculation "drafts 30 of 41 right" behind the decode. */
void cli_speed_line(base_buf *out, const rotor_gen_result *r, uint32_t used, uint32_t max);

/* ---- Verbs ----------------------------------------------------------------------------------- */

int verb_run(const cli_args *a);
int verb_serve(const cli_args *a);
int verb_chat(const cli_args *a);
int verb_bench(const cli_args *a);
int verb_synth(const cli_args *a);
int verb_inspect(const cli_args *a);
int verb_convert(const cli_args *a);
int verb_quantize(const cli_args *a);
int verb_tokenize(const cli_args *a);
int verb_logits(const cli_args *a);
int verb_embed(const cli_args *a);
int verb_perplexity(const cli_args *a);
int verb_info(const cli_args *a);
int verb_models(const cli_args *a);
int verb_pull(const cli_args *a);
int verb_rm(const cli_args *a);
int verb_rag(const cli_args *a);
int verb_train(const cli_args *a);
int verb_finetune(const cli_args *a);
int verb_train_tokenizer(const cli_args *a);
int verb_help(const cli_args *a);
int verb_version(const cli_args *a);

#endif
