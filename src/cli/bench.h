/* SPDX-License-Identifier: MIT
 *
 * bench: what rotor bench measures (verb_bench.c) and how it is told (bench_report.c).
 */
#ifndef BENCH_H
#define BENCH_H

#include "cli/cli.h"

struct json_t;

enum bench_kind { BENCH_PROMPT, BENCH_DECODE, BENCH_SESSIONS, BENCH_KINDS };

/* One kind of run, repeated; every run stands between two probes of the machine. */
typedef struct bench_result {
    bool asked;        /* measured at all */
    tool_work work;    /* of a token that the floor counts */
    size_t n_tok;      /* tokens of a run, over all sessions */
    tool_series tps;   /* tokens per second */
    tool_series share; /* of the ceiling that the probes beside it allow, 0..1 */
    tool_series ratio; /* BENCH_SESSIONS: to the one session of the same repetition */
    double joules;     /* of all runs, when counted */
    double newest;     /* tokens per second of the last run */
    tool_stat tps_stat, share_stat, ratio_stat; /* of the series */
} bench_result;

/* What --plan measures beside. */
typedef struct bench_plan {
    double one_us;                   /* one token from nothing */
    double whole_us;                 /* n_prompt tokens from nothing */
    double cached_us;                /* the last of them, the others being cached */
    double counts[BASE_PERF_EVENTS]; /* of the processor, a generated token … */
    bool counted;                    /* … where it could be asked */
    size_t n_tensors;                /* of the file */
} bench_plan;

typedef struct bench {
    const cli_args *a;                  /* options */
    rotor_engine *e;                    /* owned */
    rotor_session **s;                  /* [n_sessions] owned */
    rotor_engine_info info;             /* of e */
    uint32_t *ids;                      /* [depth + most] random ids, owned */
    uint32_t *next;                     /* [n_sessions] of one step, owned */
    const float **logits;               /* [n_sessions] likewise */
    size_t depth, n_prompt, n_gen;      /* tokens */
    size_t n_sessions;                  /* that decode together; 1: not asked for */
    double load_ms;                     /* opening the model */
    double first_ms;                    /* load and first prompt */
    uint64_t peak_bytes;                /* resident memory after the first prompt and decode */
    bench_result of[BENCH_KINDS];       /* results */
    tool_probe *probe;                  /* owned */
    tool_rates last;                    /* newest sample */
    tool_series rates[TOOL_N_CEILINGS]; /* all samples */
    tool_stat machine[TOOL_N_CEILINGS]; /* of them */
    tool_rates rates_median;            /* medians of them; had: the least of all */
    double kv_bytes;                    /* cache read by a decoded token, on average */
    size_t n_asked;                     /* kinds of runs */
    bool has_energy;                    /* a counter could be read */
    tool_device device;                 /* where it runs, measured; id "": on the CPU */
    rotor_error not_measured;           /* why the device could not be */
    double dispatches;                  /* that wait for each other, per decoded token on it */
    base_perf perf;                     /* with --plan: counters of all threads … */
    const char *perf_why;               /* … or why there are none */
    bench_plan plan;                    /* with --plan */
    cli_progress progress;              /* over repetitions */
    struct json_t *ops;                 /* list of --ops with --json */
    struct json_t *step_ops;            /* the same of a whole step */
    struct json_t *before;              /* the table of the project before, likewise */
} bench;

/* Other programs took so much of the processors that a probe's thread had no more than this. */
#define BENCH_BUSY 0.9
/* The samples of some ceiling lie further apart than this share of their median. */
#define BENCH_UNSTABLE 0.15
/* Logits that the exact head is asked for: as many as sampling by default looks at. */
enum { BENCH_BEST = 40 };
bool bench_stable(const bench *b);
/* part / whole, 0 when there is nothing to divide by. */
double bench_ratio(double part, double whole);

/* What a run of this kind could reach at most: with the machine's rates on the CPU, with the
 * device's on a device; tps 0: not known (no peak of arithmetic is measured on a device). */
tool_floor bench_ceiling(const bench *b, enum bench_kind kind, const tool_rates *machine);

/* bench_before.c: measures and prints, or keeps as JSON, the table of the project before. */
rotor_status bench_before(bench *b, rotor_error *err);

/* bench_plan.c: --plan, after everything else has been measured. */
rotor_status bench_plan_measure(bench *b, const cli_model *m, rotor_error *err);
void bench_plan_print(const bench *b);
struct json_t *bench_plan_json(const bench *b);

void bench_print(const bench *b);
struct json_t *bench_json(const bench *b);
/* Prints the change against the file that --compare names; now: bench_json of this run. */
rotor_status bench_compare(const bench *b, const struct json_t *now, rotor_error *err);

#endif
