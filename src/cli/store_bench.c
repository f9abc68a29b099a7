/* SPDX-License-Identifier: MIT
 *
 * rotor rag bench: how long searches take on this machine, in a store that is made up.
 */
#include <jansson.h>
#include <stdlib.h>

#include "cli/store.h"

/* A count at this place, or what it is by default. */
static bool take_count(const cli_args *a, size_t at, uint32_t *n) {
    char *end;
    const char *word = cli_word(a, at);
    if (a->n_words <= at) return true;
    const unsigned long long v = strtoull(word, &end, 10);
    *n = (uint32_t)v;
    return word[0] >= '1' && word[0] <= '9' && !*end && v <= UINT32_MAX;
}

static json_t *times_json(rotor_rag_bench_times t) {
    return json_pack("{s:f,s:f}", "median_ms", t.median_us / 1e3, "p95_ms", t.p95_us / 1e3);
}

static void print_times(const char *name, rotor_rag_bench_times t) {
    cli_outf("%-9s %9.3f %9.3f\n", name, t.median_us / 1e3, t.p95_us / 1e3);
}

static int print_result(const cli_args *a, const rotor_rag_bench_options *o,
                        const rotor_rag_bench_result *r) {
    const double bytes = (double)o->n_passages * o->dims;
    if (cli_on(a, OPT_JSON))
        return cli_json_print(a, json_pack("{s:I,s:i,s:i,s:o,s:o,s:o,s:o,s:f,s:f,s:f,s:f}",
                                           "passages", (json_int_t)o->n_passages, "dims",
                                           (int)o->dims, "questions", (int)o->n_questions, "vector",
                                           times_json(r->vector), "words", times_json(r->words),
                                           "hybrid", times_json(r->hybrid), "vector_whole",
                                           times_json(r->whole), "read_ms", r->read_us / 1e3,
                                           "read_gbps", bytes / r->read_us / 1e3, "recall@10",
                                           r->recall10, "rows_scored", r->scored));
    cli_outf("%u passages of %u floats, %u questions, one thread\n          median ms    p95 ms\n",
             o->n_passages, o->dims, o->n_questions);
    print_times("vectors", r->vector);
    print_times("words", r->words);
    print_times("hybrid", r->hybrid);
    cli_outf("recall@10 %.4f of the vectors, against floats\n", r->recall10);
    cli_outf("scored    %.0f rows of bytes by a question\n", r->scored);
    print_times("unscreened", r->whole);
    cli_outf("read      %9.3f           the bytes of all rows once, %.1f GB/s\n", r->read_us / 1e3,
             bytes / r->read_us / 1e3);
    return CLI_DONE;
}

int cli_rag_bench(cli_store *s) {
    const cli_args *a = s->a;
    rotor_error err = {0};
    rotor_rag_bench_result r;
    rotor_rag_bench_options o = rotor_rag_bench_options_default();
    if (a->n_words > 4 || !take_count(a, 1, &o.n_passages) || !take_count(a, 2, &o.dims) ||
        !take_count(a, 3, &o.n_questions))
        return cli_usage(a, "rotor rag bench [PASSAGES [FLOATS [QUESTIONS]]]: whole numbers, as in "
                            "rotor rag bench 100000 384 100");
    o.seed = (uint64_t)cli_int(a, OPT_SEED);
    o.cpu = cli_text(a, OPT_CPU);
    const rotor_status st = rotor_rag_bench(&o, &r, &err);
    return st == ROTOR_OK ? print_result(a, &o, &r) : cli_status(a, st, &err);
}
