/* SPDX-License-Identifier: MIT
 *
 * The small program: what `rotor` is where its libraries are not to be had, as on Windows. It goes
 * on with a text and shows how texts are cut, by the same names and options as the full one; what
 * else that can do is said to be missing. Standard output is the product, standard error the log;
 * exit status 0, 1 (failed), 2 (bad usage).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/start.h"
#include "cpu/cpu.h"
#include "lite/lite.h"

extern const unsigned char lite_embedded_model[];
extern const size_t lite_embedded_model_size;

enum { DONE, FAILED, USAGE };

typedef struct request {
    lite_options open;   /* -t, -c, --cpu, MODEL */
    lite_task task;      /* -p, -n, --temp, --seed */
    bool ids;            /* run: print the tokens' ids in place of the text */
    const char *word[2]; /* what is no option */
    int n_words;         /* how many */
} request;

static const char *const help =
    "usage: rotor run [MODEL] -p TEXT [-n N] [--temp X] [--seed N] [--ids]\n"
    "       rotor tokenize MODEL TEXT\n"
    "       rotor info\n"
    "       rotor version\n"
    "common options: -t N threads, -c N positions of context, --cpu LEVEL of instructions at most\n"
    "MODEL is a GGUF file, or \"embedded\", the small one inside; TEXT is UTF-8\n";

static int usage(const char *what, const char *word) {
    fprintf(stderr, "rotor: %s%s\n%s", what, word, help);
    return USAGE;
}

static int failed(const rotor_error *err) {
    fprintf(stderr, "rotor: %s\n", err->message);
    return FAILED;
}

/* ==== Options ================================================================================= */

static bool whole(const char *s, uint64_t most, uint64_t *out) {
    char *end;
    errno = 0;
    *out = strtoull(s, &end, 10);
    return *s >= '0' && *s <= '9' && !*end && !errno && *out <= most;
}

/* False: there is no such option, or this is no value of it. */
static bool take_option(request *r, const char *name, const char *value) {
    uint64_t n;
    char *end;
    if (strcmp(name, "-p") == 0) return r->task.prompt = base_str_of(value), true;
    if (strcmp(name, "--cpu") == 0) return r->open.cpu = value, true;
    if (strcmp(name, "--temp") == 0) {
        r->task.temperature = strtof(value, &end);
        return end != value && !*end && r->task.temperature >= 0;
    }
    if (strcmp(name, "--seed") == 0) return whole(value, UINT64_MAX, &r->task.seed);
    if (!whole(value, INT32_MAX, &n)) return false;
    if (strcmp(name, "-n") == 0) return r->task.n_new = (uint32_t)n, true;
    if (strcmp(name, "-c") == 0) return r->open.ctx = (uint32_t)n, true;
    if (strcmp(name, "-t") == 0) return r->open.threads = (int)BASE_MIN(n, 1024u), true;
    return false;
}

static int read_options(request *r, char **argv) {
    for (; *argv; argv++) {
        const char *word = *argv;
        if (strcmp(word, "--ids") == 0) {
            r->ids = true;
        } else if (word[0] == '-' && word[1]) {
            if (!argv[1]) return usage("a value is missing behind ", word);
            if (!take_option(r, word, *++argv))
                return usage("not an option with such a value: ", word);
        } else if (r->n_words == 2) {
            return usage("one word too many: ", word);
        } else {
            r->word[r->n_words++] = word;
        }
    }
    return DONE;
}

static void choose_model(request *r, const char *name) {
    if (name && strcmp(name, "embedded") != 0) {
        r->open.path = name;
        return;
    }
    r->open.name = "embedded";
    r->open.data = lite_embedded_model;
    r->open.n_bytes = lite_embedded_model_size;
}

/* ==== Verbs =================================================================================== */

static rotor_status write_text(lite *l, const request *r, rotor_error *err) {
    bool more = true;
    ROTOR_TRY(lite_begin(l, &r->task, err));
    while (more) {
        ROTOR_TRY(lite_step(l, &more, err));
        const base_str text = lite_text(l);
        if (r->ids && lite_token(l) != TEXT_NO_ID) printf("%u ", (unsigned)lite_token(l));
        if (!r->ids && text.n) fwrite(text.p, 1, text.n, stdout);
        fflush(stdout);
    }
    putchar('\n');
    return ROTOR_OK;
}

static int run(request *r) {
    lite *l = NULL;
    rotor_error err = {0};
    if (!r->task.prompt.n) return usage("nothing to go on with: give -p TEXT", "");
    if (r->n_words > 1) return usage("one word too many: ", r->word[1]);
    choose_model(r, r->word[0]);
    rotor_status st = lite_open(&l, &r->open, &err);
    if (st == ROTOR_OK) st = write_text(l, r, &err);
    if (st == ROTOR_OK) {
        const gen_result *g = lite_result(l);
        const double s = (double)g->decode_us / 1e6;
        fprintf(stderr, "%s: %zu tokens, %.1f t/s, %d threads\n", lite_model(l)->name, g->ids.n,
                s > 0 ? (double)g->ids.n / s : 0, lite_threads(l));
    }
    lite_close(&l);
    return st == ROTOR_OK ? DONE : failed(&err);
}

/* Ids of plain text, without the mark of a beginning. */
static int tokenize(request *r) {
    model *m = NULL;
    text_ids ids = {0};
    rotor_error err = {0};
    if (r->n_words < 2) return usage("tokenize takes MODEL and TEXT", "");
    choose_model(r, r->word[0]);
    const lite_options *o = &r->open;
    const model_options opt = {.i2s = -1};
    rotor_status st = o->path ? model_open(&m, o->path, &opt, &err)
                              : model_open_memory(&m, o->data, o->n_bytes, o->name, &opt, &err);
    if (st == ROTOR_OK && !m->vocab)
        st = base_fail(&err, ROTOR_E_UNSUPPORTED, "%s has no vocabulary", m->name);
    if (st == ROTOR_OK) st = text_encode(m->vocab, base_str_of(r->word[1]), 0, &ids, &err);
    for (size_t i = 0; st == ROTOR_OK && i < ids.n; i++)
        printf("%s%u", i ? " " : "", (unsigned)ids.ids[i]);
    if (st == ROTOR_OK) putchar('\n');
    text_ids_free(&ids);
    model_close(&m);
    return st == ROTOR_OK ? DONE : failed(&err);
}

static int info(void) {
    printf("processor    %d cores, best level %s\n", base_core_count(),
           cpu_level_name(cpu_detect()));
    printf("memory       %.2f GiB\n", (double)base_total_memory_bytes() / (1 << 30));
    printf("build        rotor %s, the small program: run, tokenize, info, version\n",
           ROTOR_VERSION);
    printf(
        "not here     chat and its templates, serve, rag, train, pull, convert, GPUs, folders of\n"
        "             Hugging Face, grammars, tokenizers that want Unicode normal forms\n");
    return DONE;
}

int main(int argc, char **argv) {
    request r = {.task = {.temperature = -1, .seed = base_random_seed()}};
    argv = base_program_start(argv);
    if (argc < 2) return usage("which verb?", "");
    const int status = read_options(&r, argv + 2);
    if (status != DONE) return status;
    if (strcmp(argv[1], "run") == 0) return run(&r);
    if (strcmp(argv[1], "tokenize") == 0) return tokenize(&r);
    if (strcmp(argv[1], "info") == 0) return info();
    if (strcmp(argv[1], "version") == 0) return printf("rotor %s\n", ROTOR_VERSION) < 0;
    if (strcmp(argv[1], "help") == 0) return fputs(help, stdout) < 0;
    return usage("this small program has no verb ", argv[1]);
}
