/* SPDX-License-Identifier: MIT
 *
 * tool: what the verbs about model files and about this machine do, without printing: making,
 * converting and describing files, token ids, NumPy files, perplexity, measuring.
 *
 * Everything long takes a tool_progress. Files are written beside their final name and renamed.
 * Threading: one thread at a time per object; verify and measure start threads of their own.
 */
#ifndef TOOL_H
#define TOOL_H

#include "base/base.h"

/* Told now and then how far the work is (units are the work's own); false cancels it. */
typedef struct tool_progress {
    bool (*fn)(void *user, uint64_t done, uint64_t total); /* NULL: nobody listens */
    void *user;                                            /* passed to fn */
} tool_progress;

/* Where a model comes from. Borrowed. */
typedef struct tool_source {
    const char *path; /* file or folder; NULL: data */
    const void *data; /* a GGUF image in memory */
    size_t n_bytes;   /* of data */
    const char *name; /* of data, for messages */
} tool_source;

/* ---- Model files of published shapes (synth.c, synth_vocab.c) -------------------------------- */

typedef struct tool_synth_options {
    uint64_t seed;     /* of the weights */
    uint32_t layers;   /* 0: the preset's */
    const char *vocab; /* GGUF file or "base64 rank" lines to take tokens from; NULL: made up */
    bool sparse;       /* leave matrices as holes */
    tool_progress progress; /* in bytes */
} tool_synth_options;

/* Name and one-line description of the i-th preset; NULL past the end. */
const char *tool_preset_name(size_t i);
const char *tool_preset_help(size_t i);
rotor_status tool_synth(const char *preset, const char *path, const tool_synth_options *opt,
                        rotor_error *err);

/* ---- Describing files (inspect.c, verify.c) -------------------------------------------------- */

typedef struct tool_file tool_file;

typedef struct tool_tensor {
    base_str name;    /* as in the file */
    const char *type; /* "Q4_K" */
    uint32_t n_dims;  /* 1..4 */
    uint64_t dims[4]; /* fastest first */
    uint64_t bytes;   /* in the file */
    uint64_t offset;  /* absolute, in its shard */
    bool decodable;   /* verify and stats work on it */
    bool ternary;     /* values -1, 0, +1 times a scale */
} tool_tensor;

/* What the metadata says; 0 or empty: not said. Strings live as long as the file. */
typedef struct tool_facts {
    const char *format;      /* "GGUF", "safetensors" */
    base_str architecture;   /* "bitnet-b1.58" */
    base_str name, license;  /* of the model */
    base_str tokenizer, pre; /* algorithm and pre-tokenizer */
    const char *type;        /* type of most matrix weights */
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, d_key, d_value; /* shape */
    uint32_t n_ctx;                                                    /* context of training */
    uint32_t n_vocab;                                                  /* tokens */
    uint32_t n_expert, n_expert_used;                                  /* mixture of experts */
    uint32_t window;         /* sliding window of alternate layers, tokens */
    uint64_t n_params;       /* elements of all tensors */
    uint64_t file_bytes;     /* all files */
    uint64_t tensor_bytes;   /* all tensors */
    size_t n_tensors, n_kvs; /* how many */
    bool loadable;           /* the architecture is one that loads */
    bool float_head;         /* the output head is stored in floats: running keeps a smaller copy */
    bool adapter;            /* no model but an adapter for models of the architecture */
    uint32_t lora_rank;      /* adapter: of its first pair */
    double lora_alpha;       /* adapter: alpha */
} tool_facts;

rotor_status tool_file_open(tool_file **out, const tool_source *src, rotor_error *err);
/* The same from the first n_bytes of a GGUF file of file_bytes: facts and tensors, no contents.
 * ROTOR_E_FORMAT: the header is longer, or wrong. Of a split file this part counts. */
rotor_status tool_file_open_head(tool_file **out, const void *data, size_t n_bytes,
                                 uint64_t file_bytes, const char *name, rotor_error *err);
/* Facts of a HF folder from the text of its config.json and the size of its weights. */
rotor_status tool_file_open_config(tool_file **out, base_str config, uint64_t weight_bytes,
                                   rotor_error *err);
void tool_file_close(tool_file **f);
const tool_facts *tool_file_facts(const tool_file *f);
tool_tensor tool_file_tensor(const tool_file *f, size_t i);
/* Metadata entry i as text: long arrays and strings are cut. */
rotor_status tool_file_kv(const tool_file *f, size_t i, base_str *key, base_buf *value);
/* Bytes of the key and value cache for n_ctx tokens at bytes_per_elem (4, 2, 34/32); 0: unknown. */
uint64_t tool_kv_bytes(const tool_facts *facts, uint64_t n_ctx, double bytes_per_elem);
/* About what running takes beside weights and cache: buffers of a step, a copy of the head. */
uint64_t tool_work_bytes(const tool_facts *facts);

typedef enum tool_i2s { TOOL_I2S_X86, TOOL_I2S_ARM, TOOL_I2S_4ROW } tool_i2s; /* as quant_i2s */

typedef struct tool_verify_result {
    uint64_t n_values;  /* decoded */
    uint64_t n_tensors; /* decoded and found good */
    uint64_t n_bad;     /* with an illegal code or a value that is not finite */
    uint64_t n_skipped; /* of types that cannot be decoded */
} tool_verify_result;
/* Decodes every block of the file (layer < 0) or of one layer; told of each bad tensor. */
typedef void (*tool_bad_fn)(void *user, base_str tensor, const char *why);
rotor_status tool_verify(const tool_file *f, int layer, tool_i2s order, tool_bad_fn bad, void *user,
                         const tool_progress *progress, tool_verify_result *out, rotor_error *err);

/* Which published file this is, by size and SHA-256; NULL: none that is known. Static. */
const char *tool_known_file(const tool_file *f);

typedef struct tool_stats {
    uint64_t n;                  /* values */
    uint64_t minus, zero, plus;  /* ternary: codes of each kind; else: signs */
    uint64_t n_not_finite;       /* NaN and infinities */
    double min, max, mean, rms;  /* of the finite values, scales applied */
    double scale_min, scale_max; /* ternary: smallest and largest row scale */
} tool_stats;
rotor_status tool_tensor_stats(const tool_file *f, size_t i, tool_i2s order, tool_stats *out,
                               rotor_error *err);
/* Does tensor i belong to this layer ("blk.N." or "layers.N.")? */
bool tool_in_layer(const tool_file *f, size_t i, uint32_t layer);

/* ---- Token ids (tokens.c) -------------------------------------------------------------------- */

typedef struct tool_vocab tool_vocab;
typedef void (*tool_log_fn)(void *user, int level, const char *line);

enum { TOOL_TOK_BOS = 1, TOOL_TOK_SPECIAL = 2 };

/* The vocabulary of a GGUF file (vocabulary-only is enough) or a HF folder, without its weights. */
rotor_status tool_vocab_open(tool_vocab **out, const tool_source *src, tool_log_fn log, void *user,
                             rotor_error *err);
void tool_vocab_close(tool_vocab **v);
size_t tool_vocab_size(const tool_vocab *v);
/* New array *ids, base_free. */
rotor_status tool_tokenize(const tool_vocab *v, const char *text, size_t n_bytes, unsigned flags,
                           uint32_t **ids, size_t *n, rotor_error *err);
/* Appends the text of the ids; special: control tokens too. */
rotor_status tool_detokenize(const tool_vocab *v, const uint32_t *ids, size_t n, bool special,
                             base_buf *out, rotor_error *err);

/* ---- NumPy files (npy.c): float32 [rows, cols], row by row ----------------------------------- */

typedef struct tool_npy_out {
    base_out out; /* the file */
    size_t cols;  /* of every row */
    size_t left;  /* rows still to come */
} tool_npy_out;
rotor_status tool_npy_create(tool_npy_out *w, const char *path, size_t rows, size_t cols,
                             rotor_error *err);
rotor_status tool_npy_row(tool_npy_out *w, const float *row, rotor_error *err);
rotor_status tool_npy_commit(tool_npy_out *w, rotor_error *err);
void tool_npy_abort(tool_npy_out *w);

typedef struct tool_npy_in {
    base_file file;      /* mapped */
    const uint8_t *data; /* first value, any alignment */
    size_t rows, cols;   /* shape */
} tool_npy_in;
rotor_status tool_npy_open(tool_npy_in *r, const char *path, rotor_error *err);
void tool_npy_read(const tool_npy_in *r, size_t row, float *dst); /* dst[cols] */
void tool_npy_close(tool_npy_in *r);

/* ---- Perplexity and KL divergence (perplexity.c) --------------------------------------------- */

typedef struct tool_score {
    double nll_sum; /* of negative log-likelihoods, natural */
    double nll_sq;  /* of their squares, for the error */
    uint64_t n;     /* tokens scored */
} tool_score;
void tool_score_add(tool_score *s, const float *logits, size_t n_vocab, uint32_t target);
double tool_perplexity(const tool_score *s);       /* exp(mean) */
double tool_perplexity_error(const tool_score *s); /* its standard error */

typedef struct tool_kld {
    float *each;       /* [cap] divergence of each position, owned */
    size_t n, cap;     /* positions */
    uint64_t same_top; /* positions where both have the same likeliest token */
} tool_kld;
typedef struct tool_kld_result {
    double mean, max, p999, p99, median; /* nats */
    double same_top;                     /* share of positions, 0..1 */
} tool_kld_result;
rotor_status tool_kld_add(tool_kld *k, const float *base, const float *logits, size_t n_vocab);
tool_kld_result tool_kld_finish(tool_kld *k); /* sorts */
void tool_kld_free(tool_kld *k);

/* ---- Converting (convert.c, hf_export.c, hf_tokenizer.c) ------------------------------------- */

typedef struct tool_convert_options {
    const char *type;       /* of the matrices; NULL: as they are (HF ternary: I2_S) */
    const char *head_type;  /* of embedding and output head; NULL: as they are */
    tool_i2s order;         /* of I2_S tensors read */
    tool_progress progress; /* in tensors' bytes */
    /* Told of each change that is not exact ("tensor blk.0.attn_q.weight: scale 0.1 rounded …"). */
    void (*note)(void *user, const char *line);
    void *note_user; /* passed to note */
} tool_convert_options;
typedef struct tool_convert_report {
    size_t n_tensors;         /* written */
    size_t n_changed;         /* of another type than before */
    size_t n_rounded_scales;  /* ternary scales that were rounded (and kept as metadata) */
    size_t n_restored_scales; /* ternary scales taken back from metadata */
    uint64_t bytes;           /* of the new file's tensors */
} tool_convert_report;
rotor_status tool_convert(const char *in, const char *out, const tool_convert_options *opt,
                          tool_convert_report *report, rotor_error *err);
/* The i-th type that convert can write; NULL past the end. */
const char *tool_convert_type(size_t i);

/* ---- This machine (machine.c, floor.c, series.c) --------------------------------------------- */

typedef struct tool_machine {
    char cpu_name[128];       /* marketing name */
    const char *cpu_level;    /* best instruction set level */
    char cpu_levels[96];      /* all of them here, as --cpu takes them: "c avx2 avxvnni" */
    int n_cpus;               /* logical processors this process may use */
    uint64_t memory_bytes;    /* installed */
    uint64_t available_bytes; /* free for use now */
    uint64_t cache_bytes;     /* largest processor cache; 0: unknown */
} tool_machine;
void tool_machine_get(tool_machine *m);

/* What limits a model: plain reads of memory, GB/s; int8 and f32 multiply-adds, GMAC/s. */
typedef enum tool_ceiling { TOOL_READ, TOOL_INT8, TOOL_F32, TOOL_N_CEILINGS } tool_ceiling;
typedef struct tool_rates {
    double of[TOOL_N_CEILINGS]; /* by ceiling */
    double had;                 /* share of its processor that the least lucky thread had, 0..1 */
} tool_rates;

/* Measures the ceilings again and again: n_threads pinned threads that stay alive and memory to
 * read, read_bytes of it or, if 0, a gibibyte where so much is free. One thread at a time. */
typedef struct tool_probe tool_probe;
rotor_status tool_probe_create(tool_probe **out, int n_threads, size_t read_bytes,
                               rotor_error *err);
void tool_probe_free(tool_probe **p);
uint64_t tool_probe_bytes(const tool_probe *p); /* memory that is read */
/* One sample of each ceiling, about 0.2 s. */
rotor_status tool_probe_take(tool_probe *p, tool_rates *out, rotor_error *err);
/* What a run between two samples could have reached: their mean. */
tool_rates tool_rates_between(const tool_rates *a, const tool_rates *b);

/* Multiply-adds of a model per token. */
typedef struct tool_macs {
    double layers;  /* of the matrices inside layers */
    double head;    /* of the output head */
    double per_key; /* of attention, for each key that the token sees */
} tool_macs;
/* n_layer: layers that are loaded. */
rotor_status tool_count_macs(const tool_source *src, uint32_t n_layer, tool_macs *out,
                             rotor_error *err);

/* What a token of some run must read and multiply, and how long that takes at given rates. Reading
 * hides behind multiplying or the other way round; the two kinds of multiplying do not. */
typedef struct tool_work {
    double bytes;               /* read from memory */
    double int8_macs, f32_macs; /* multiply-adds */
} tool_work;
typedef struct tool_floor {
    double read_us, int8_us, f32_us; /* of a token */
    double tps;                      /* tokens per second at most; 0: no work */
} tool_floor;
tool_floor tool_floor_of(const tool_work *w, const tool_rates *r);

/* ---- Devices (devices.c) --------------------------------------------------------------------- */

/* A compute device of this machine and, once measured, what it reaches. */
typedef struct tool_device {
    char id[24];              /* as --device takes it: "vulkan:1" */
    char name[128];           /* of the device */
    char driver[128];         /* name and version */
    char version[48];         /* of the API it offers */
    char missing[128];        /* why it cannot be used, or "" */
    bool software;            /* runs on the CPU */
    bool unified;             /* shares the host's memory */
    bool subgroup_sums;       /* its lanes can add up and compare */
    bool imports;             /* reads tables in it */
    bool dot4, halves;        /* packed int8 dot product; computes in 16-bit floats */
    uint32_t subgroup;        /* lanes that run together; 0: not known */
    uint32_t units;           /* compute units; 0: not known */
    uint32_t max_group;       /* invocations in a group */
    uint64_t heap_bytes;      /* memory there is */
    uint64_t max_alloc_bytes; /* largest single allocation */
    uint64_t max_bind_bytes;  /* largest memory a kernel may see */
    double copy_gbps;         /* measured: read and written by a copy; 0: not measured */
    uint64_t copy_bytes;      /* of that copy, one way */
    double dispatch_us;       /* measured: a dispatch that waits for the one before */
    double submit_us;         /* measured: a list of one dispatch, there and back */
} tool_device;

enum { TOOL_MAX_DEVICES = 16 };
typedef struct tool_devices {
    tool_device of[TOOL_MAX_DEVICES]; /* OpenCL's, then Vulkan's */
    size_t n;                         /* how many */
    struct {
        const char *name;  /* "opencl" */
        char without[512]; /* why it has none: no loader, no driver …; "" when it has */
    } api[2];
} tool_devices;
/* Never fails: what is not there is said in api[].without. */
void tool_devices_find(tool_devices *out);
/* Opens a device for a moment and fills in what it reaches. cache_dir as for an engine, or NULL. */
rotor_status tool_device_measure(tool_device *d, const char *cache_dir, rotor_error *err);
/* Tokens per second at most when each reads so many bytes and starts so many dispatches that wait
 * for each other; 0 when nothing is measured. */
double tool_device_bound(const tool_device *d, double bytes, double dispatches);
/* About so many a token takes, before it has run: those of a BitNet layer, the largest there is. */
double tool_device_dispatches(uint32_t n_layer);

/* How products are timed. */
typedef struct tool_ops_options {
    int n_threads;        /* threads */
    const char *cpu;      /* highest level; NULL: all */
    uint32_t n_tok;       /* tokens of the large product (tool_bench_ops) */
    uint32_t repetitions; /* timings of each */
} tool_ops_options;

/* One ternary product as a program asks for it that keeps its weights on the device: activations
 * in, quantised and multiplied there, all results back on the host. */
typedef struct tool_product {
    uint32_t rows, cols; /* of the matrix */
    uint32_t n_tok;      /* rows of activations */
} tool_product;
/* Median microseconds of repetitions, all of one product. device: "cpu" or an id. */
rotor_status tool_product_time(const tool_product *p, const char *device, const char *cache_dir,
                               const tool_ops_options *opt, double *us, rotor_error *err);

/* A list of measurements. Zero-initialise. */
typedef struct tool_series {
    double *v;  /* [n] owned */
    size_t n;   /* values */
    size_t cap; /* room */
} tool_series;
typedef struct tool_stat {
    size_t n;        /* values; 0: the rest is 0 */
    double mean, sd; /* of them */
    double median;   /* of them */
    double min, max; /* of them */
    double spread;   /* (max - min) / median */
} tool_stat;
rotor_status tool_series_add(tool_series *s, double value, rotor_error *err);
tool_stat tool_series_stat(tool_series *s); /* sorts */
void tool_series_free(tool_series *s);

/* One matrix product of a model, timed on its own. */
typedef struct tool_op_time {
    const char *name;  /* tensor name of the first layer, or the head */
    const char *type;  /* its storage */
    size_t rows, cols; /* shape */
    uint64_t bytes;    /* read per call */
    double us_one;     /* median time for one token */
    double gb_per_s;   /* reached with one token */
    double us_many;    /* median time for n_tok tokens */
    double gmac_per_s; /* reached with n_tok tokens */
} tool_op_time;
rotor_status tool_bench_ops(const tool_source *src, const tool_ops_options *opt,
                            void (*fn)(void *user, const tool_op_time *t), void *user,
                            rotor_error *err);

/* One kind of op of a step (bench_step.c). */
typedef struct tool_step_op {
    const char *name; /* "attn q+k+v", "norm" … */
    double calls;     /* per step */
    double work_us;   /* per step, share of the wall */
    double wait_us;   /* threads waiting for each other behind it, likewise */
    double share;     /* of the step, 0..1 */
    uint64_t bytes;   /* weights read per step */
    double gb_per_s;  /* bytes in work_us */
} tool_step_op;
typedef struct tool_step_options {
    int n_threads;        /* threads */
    const char *cpu;      /* highest level; NULL: all */
    uint32_t n_tok;       /* tokens of a step: 1 is a decode step */
    uint32_t depth;       /* tokens in the cache before */
    uint32_t repetitions; /* steps timed, at least 1 */
} tool_step_options;
typedef struct tool_step_report {
    double step_us;  /* mean */
    double meetings; /* of the threads per step */
} tool_step_report;
rotor_status tool_bench_step(const tool_source *src, const tool_step_options *opt,
                             void (*fn)(void *user, const tool_step_op *op), void *user,
                             tool_step_report *r, rotor_error *err);

#endif
