/* SPDX-License-Identifier: MIT
 *
 * rotor train: a ternary model from texts; rotor finetune: the same from a master. Options to
 * rotor_train_options, a plan of the memory, a line that shows how it goes. Ctrl-C saves a
 * checkpoint first; --resume goes on from it.
 */
#include "cli/cli.h"
#include "rotor_train.h"

#include <math.h>
#include <stdio.h>

enum { DRAW_EVERY_US = 100000, BAR = 24 };

typedef struct show {
    const cli_args *a; /* flags */
    uint64_t drawn_us; /* last time */
    double held;       /* last measured; NaN: never */
    bool line;         /* a progress line stands on the terminal */
} show;

/* ==== Options ================================================================================= */

typedef struct number {
    cli_opt o;       /* given as */
    uint32_t *field; /* goes to */
} number;

static void take_numbers(const cli_args *a, rotor_train_options *t) {
    const number numbers[] = {{OPT_N_LAYER, &t->n_layer},
                              {OPT_N_EMBD, &t->n_embd},
                              {OPT_N_HEAD, &t->n_head},
                              {OPT_N_HEAD_KV, &t->n_head_kv},
                              {OPT_N_FF, &t->n_ff},
                              {OPT_CTX_TRAIN, &t->n_ctx},
                              {OPT_BATCH, &t->batch},
                              {OPT_ACCUMULATE, &t->accumulate},
                              {OPT_STEPS, &t->steps},
                              {OPT_WARM_UP, &t->warm_steps},
                              {OPT_SAVE_EVERY, &t->save_every},
                              {OPT_EVAL_EVERY, &t->eval_every}};
    for (size_t i = 0; i < BASE_COUNT(numbers); i++)
        if (cli_given(a, numbers[i].o)) *numbers[i].field = (uint32_t)cli_int(a, numbers[i].o);
    if (cli_given(a, OPT_LR)) t->lr = (float)cli_real(a, OPT_LR);
    if (cli_given(a, OPT_DECAY)) t->decay = (float)cli_real(a, OPT_DECAY);
    if (cli_given(a, OPT_CLIP)) t->clip = (float)cli_real(a, OPT_CLIP);
    if (cli_given(a, OPT_SEED)) t->seed = (uint64_t)cli_int(a, OPT_SEED);
    if (cli_given(a, OPT_THREADS)) t->threads = (int32_t)cli_int(a, OPT_THREADS);
}

/* What fine-tuning does unless told otherwise: few steps at a gentle rate, sizes of the master. */
static rotor_train_options gentle(const cli_args *a) {
    rotor_train_options t = rotor_train_options_default(NULL);
    t.start = cli_word(a, 0);
    t.n_ctx = 0;
    t.steps = 200;
    t.lr = 5e-4f;
    if (!cli_given(a, OPT_LORA_RANK)) return t;
    t.lr = 2e-3f;
    t.lora_rank = (uint32_t)cli_int(a, OPT_LORA_RANK);
    if (cli_given(a, OPT_LORA_ALPHA)) t.lora_alpha = (float)cli_real(a, OPT_LORA_ALPHA);
    t.merge = cli_text(a, OPT_MERGE);
    return t;
}

static rotor_train_options options(const cli_args *a) {
    rotor_train_options t = a->verb->bit == VERB_FINETUNE
                                ? gentle(a)
                                : rotor_train_options_default(cli_text(a, OPT_TRAIN_PRESET));
    take_numbers(a, &t);
    t.full_precision = cli_on(a, OPT_FULL_PRECISION);
    t.recompute = cli_on(a, OPT_RECOMPUTE);
    t.one_stage = cli_on(a, OPT_ONE_STAGE);
    t.resume = cli_on(a, OPT_RESUME);
    t.heldout = cli_text(a, OPT_HELDOUT);
    t.tokenizer = cli_text(a, OPT_TOKENIZER);
    t.out = cli_text(a, OPT_OUTPUT);
    t.log = cli_text(a, OPT_LOG);
    t.type = cli_text(a, OPT_TRAIN_TYPE);
    t.head_type = cli_text(a, OPT_TRAIN_HEAD);
    t.cpu = cli_text(a, OPT_CPU);
    return t;
}

/* Files of --data and words beside the options but the first `from`; base_free the array. */
static const char **data_files(const cli_args *a, size_t from, size_t *n) {
    const char **files = base_alloc_array(a->n_words + a->n_many[OPT_DATA] + 1, sizeof *files);
    *n = 0;
    for (size_t i = 0; files && i < a->n_many[OPT_DATA]; i++) files[(*n)++] = a->many[OPT_DATA][i];
    for (size_t i = from; files && i < a->n_words; i++) files[(*n)++] = a->words[i];
    return files;
}

/* ==== Showing ================================================================================= */

static void end_line(show *s) {
    if (s->line) fputs("\r\033[K", stderr);
    s->line = false;
}

static void draw(show *s, const rotor_train_step *r) {
    char bar[BAR + 1], held[32] = "", left[32];
    const uint64_t now = base_now_us();
    if (now - s->drawn_us < DRAW_EVERY_US) return;
    const int full = (int)(r->step * BAR / r->steps);
    for (int i = 0; i < BAR; i++) bar[i] = i < full ? '#' : '.';
    bar[BAR] = 0;
    if (!isnan(s->held)) snprintf(held, sizeof held, ", held out %.3f", s->held);
    if (r->left_s < 90)
        snprintf(left, sizeof left, "%.0f s", r->left_s);
    else
        snprintf(left, sizeof left, "%.0f min", r->left_s / 60);
    fprintf(stderr, "\r\033[K[%s] step %llu of %llu, loss %.3f%s, %.0f tok/s, %s left", bar,
            (unsigned long long)r->step, (unsigned long long)r->steps, r->loss, held, r->tok_per_s,
            left);
    fflush(stderr);
    s->drawn_us = now;
    s->line = true;
}

static bool on_step(void *user, const rotor_train_step *r) {
    show *s = user;
    if (!isnan(r->held_loss)) s->held = r->held_loss;
    if (!cli_on(s->a, OPT_NO_PROGRESS) && cli_is_terminal(2))
        draw(s, r);
    else if (!isnan(r->held_loss))
        cli_log(s->a, BASE_LOG_INFO, "step %llu of %llu: loss %.4f, held out %.4f, %.0f tok/s",
                (unsigned long long)r->step, (unsigned long long)r->steps, r->loss, r->held_loss,
                r->tok_per_s);
    return !cli_interrupted();
}

static void on_line(void *user, int level, const char *line) {
    show *s = user;
    end_line(s);
    cli_log(s->a, level, level <= BASE_LOG_WARN ? "rotor: %s" : "%s", line);
}

static void say_plan(const cli_args *a, const rotor_train_plan *p) {
    char b[8][32];
    const bool adapter = p->n_learnt < p->n_params;
    char learnt[48] = "", frozen[48] = "";
    if (adapter)
        snprintf(learnt, sizeof learnt, "; %.3f M in the adapter", (double)p->n_learnt / 1e6);
    if (adapter) snprintf(frozen, sizeof frozen, "model %s, ", cli_bytes(p->frozen_bytes, b[7]));
    cli_log(
        a, BASE_LOG_INFO,
        "network: %.2f M weights, of which %.2f M ternary%s; vocabulary of %u; %llu tokens a step",
        (double)p->n_params / 1e6, (double)p->n_ternary / 1e6, learnt, p->n_vocab,
        (unsigned long long)p->tok_per_step);
    cli_log(
        a, BASE_LOG_INFO,
        "memory: %s (%sweights %s, gradients %s, moments %s, activations %s, working copies %s)",
        cli_bytes(p->total_bytes, b[0]), frozen, cli_bytes(p->params_bytes, b[1]),
        cli_bytes(p->grads_bytes, b[2]), cli_bytes(p->moments_bytes, b[3]),
        cli_bytes(p->activation_bytes, b[4]), cli_bytes(p->scratch_bytes, b[5]));
    if (p->model_bytes)
        cli_log(a, BASE_LOG_INFO, "%s: %s", adapter ? "adapter" : "model",
                cli_bytes(p->model_bytes, b[6]));
}

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* ==== The verb ================================================================================ */

static rotor_status run(const cli_args *a, rotor_train *t, show *s, rotor_error *err) {
    const char *folder = cli_text(a, OPT_HF), *head = cli_text(a, OPT_TRAIN_HEAD);
    const char *master = cli_text(a, OPT_MASTER);
    cli_catch_interrupt(true);
    rotor_status st = rotor_train_run(t, err);
    end_line(s);
    if (st == ROTOR_OK && folder)
        st = rotor_train_export(t, folder, NULL, cli_given(a, OPT_TRAIN_HEAD) ? head : "BF16", err);
    if (st == ROTOR_OK && master) st = rotor_train_export(t, master, "BF16", "BF16", err);
    if (st == ROTOR_OK && cli_given(a, OPT_LORA_RANK))
        cli_log(a, BASE_LOG_INFO, "%s is ready: rotor run %s --lora %s -p TEXT",
                cli_text(a, OPT_OUTPUT), cli_word(a, 0), cli_text(a, OPT_OUTPUT));
    else if (st == ROTOR_OK && !cli_on(a, OPT_FULL_PRECISION))
        cli_log(a, BASE_LOG_INFO, "%s is ready: rotor run %s -p TEXT", cli_text(a, OPT_OUTPUT),
                cli_text(a, OPT_OUTPUT));
    return st;
}

static int train(const cli_args *a, rotor_train_options *opt) {
    rotor_train *t = NULL;
    rotor_error err = {0};
    rotor_train_plan plan = {.size = sizeof plan};
    show s = {.a = a, .held = (double)NAN};
    opt->on_step = on_step;
    opt->log_line = on_line;
    opt->user = &s;
    rotor_status st = rotor_train_open(&t, opt, &err);
    if (st == ROTOR_OK) st = rotor_train_get_plan(t, &plan);
    if (st == ROTOR_OK) {
        say_plan(a, &plan);
        if (!cli_on(a, OPT_DRY_RUN)) st = run(a, t, &s, &err);
    }
    rotor_train_close(&t);
    if (st != ROTOR_OK && st != ROTOR_E_CANCELLED) return cli_status(a, st, &err);
    if (st == ROTOR_OK) return CLI_DONE;
    cli_log(a, BASE_LOG_WARN, "rotor: train: %s", err.message);
    cli_die_interrupted();
    return CLI_FAILED;
}

static const char *no_adapter(const cli_args *a) {
    const bool lora = cli_given(a, OPT_LORA_RANK);
    const char *merged = cli_text(a, OPT_MERGE), *out = cli_text(a, OPT_OUTPUT);
    const char *from = cli_word(a, 0);
    if (!lora && (merged || cli_given(a, OPT_LORA_ALPHA)))
        return "--merge and --lora-alpha are about an adapter: --lora RANK";
    if (lora && (cli_text(a, OPT_HF) || cli_text(a, OPT_MASTER) || cli_given(a, OPT_TRAIN_TYPE) ||
                 cli_given(a, OPT_TRAIN_HEAD)))
        return "with --lora an adapter is written: no --hf, --master, --type, --head";
    if (merged && !ends_with(merged, ".gguf")) return "the name after --merge must end in .gguf";
    if ((merged && out && strcmp(merged, out) == 0) ||
        (merged && from && strcmp(merged, from) == 0) ||
        (lora && out && from && strcmp(out, from) == 0))
        return "MODEL, -o and --merge name different files";
    return NULL;
}

/* What could only fail after the training; NULL: nothing. */
static const char *cannot_end(const cli_args *a) {
    if (a->verb->bit == VERB_FINETUNE && no_adapter(a)) return no_adapter(a);
    const char *folder = cli_text(a, OPT_HF), *master = cli_text(a, OPT_MASTER);
    const char *head = cli_text(a, OPT_TRAIN_HEAD);
    if (cli_on(a, OPT_FULL_PRECISION) && (folder || master))
        return "a --full-precision twin is not written: no --hf, no --master";
    if (master && !ends_with(master, ".gguf")) return "the name after --master must end in .gguf";
    if (folder && ends_with(folder, ".gguf")) return "--hf names a folder, not a .gguf file";
    if (folder && strcmp(head, "F32") != 0 && strcmp(head, "F16") != 0 && strcmp(head, "BF16") != 0)
        return "with --hf, --head is F32, F16 or BF16";
    return NULL;
}

static int verb(const cli_args *a, size_t first_text) {
    size_t n;
    rotor_train_options opt = options(a);
    const char **files = data_files(a, first_text, &n);
    const char *why = cannot_end(a);
    int status;
    opt.data = files;
    opt.n_data = n;
    if (!files)
        status = cli_fail_text(a, "out of memory");
    else if (!n)
        status = cli_usage(a, "nothing to learn from: --data FILE");
    else if (!opt.tokenizer && !opt.start)
        status = cli_usage(a, "no --tokenizer; rotor train-tokenizer %s -o VOCAB.gguf makes one",
                           files[0]);
    else if (!opt.out)
        status = cli_usage(a, "no file to write: -o OUT.gguf");
    else if (why)
        status = cli_usage(a, "%s", why);
    else
        status = train(a, &opt);
    base_free(files);
    return status;
}

int verb_train(const cli_args *a) { return verb(a, 0); }
int verb_finetune(const cli_args *a) { return verb(a, 1); }
