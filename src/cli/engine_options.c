/* SPDX-License-Identifier: MIT
 *
 * From options to an engine: what every verb that runs a model shares.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

rotor_engine_options cli_engine_options(const cli_args *a) {
    static const rotor_head heads[] = {ROTOR_HEAD_AUTO, ROTOR_HEAD_FILE, ROTOR_HEAD_Q8,
                                       ROTOR_HEAD_Q6, ROTOR_HEAD_EXACT};
    static const rotor_kv kvs[] = {ROTOR_KV_F16, ROTOR_KV_F32, ROTOR_KV_Q8};
    static const rotor_i2s orders[] = {ROTOR_I2S_AUTO, ROTOR_I2S_X86, ROTOR_I2S_ARM,
                                       ROTOR_I2S_4ROW};
    rotor_engine_options o = rotor_engine_options_default();
    bool whole = (cli_options[OPT_HEAD_EXACT].verbs & a->verb->bit) != 0;
    int64_t head = cli_int(a, whole ? OPT_HEAD_EXACT : OPT_HEAD);
    o.threads = (int32_t)cli_int(a, OPT_THREADS);
    o.ctx = cli_given(a, OPT_CTX) ? (uint32_t)cli_int(a, OPT_CTX) : UINT32_MAX;
    o.chunk = (uint32_t)cli_int(a, OPT_CHUNK);
    o.max_layers = (uint32_t)cli_int(a, OPT_LAYERS);
    o.kv = kvs[cli_int(a, OPT_KV)];
    o.head =
        whole && (head == 0 || heads[head] == ROTOR_HEAD_EXACT) ? ROTOR_HEAD_FILE : heads[head];
    o.i2s = orders[cli_int(a, OPT_I2S)];
    o.yarn = (rotor_yarn)cli_int(a, OPT_YARN);
    o.float_act = cli_int(a, OPT_ACT) == 2;
    o.embed_int8 = cli_int(a, OPT_ACT) == 1;
    o.no_mmap = cli_on(a, OPT_NO_MMAP);
    o.memory_bytes = (uint64_t)cli_int(a, OPT_MEMORY) << 20;
    o.cpu = cli_text(a, OPT_CPU);
    if (cli_on(a, OPT_SELF_CHECK)) o.self_check = (float)(cli_real(a, OPT_CHECK_SHARE) / 100);
    o.trace = cli_text(a, OPT_TRACE);
    if (o.trace) o.trace_events = (uint32_t)cli_int(a, OPT_TRACE_EVENTS);
    o.lora = cli_text(a, OPT_LORA);
    if (o.lora) o.lora_scale = (float)cli_real(a, OPT_LORA_SCALE);
    o.log = cli_log_line;
    o.log_user = (void *)(uintptr_t)a;
    return o;
}

/* --chat-template is a built-in name or a file with Jinja text, kept in *text. */
static rotor_status read_template(const cli_args *a, base_buf *text, const char **out,
                                  rotor_error *err) {
    const char *word = cli_text(a, OPT_TEMPLATE);
    *out = word;
    if (!word) return ROTOR_OK;
    for (size_t i = 0; rotor_chat_template_name(i); i++)
        if (strcmp(rotor_chat_template_name(i), word) == 0) return ROTOR_OK;
    if (base_path_kind_of(word) != BASE_PATH_FILE) {
        base_buf names = {0};
        for (size_t i = 0; rotor_chat_template_name(i); i++)
            base_buf_printf(&names, "%s, ", rotor_chat_template_name(i));
        base_fail(err, ROTOR_E_ARG,
                  "--chat-template %s: expected one of %sor a file with Jinja text", word,
                  names.data ? names.data : "");
        base_buf_free(&names);
        return ROTOR_E_ARG;
    }
    base_file f;
    ROTOR_TRY(base_file_open(&f, word, false, err));
    base_buf_append(text, f.data, f.size);
    base_file_close(&f);
    *out = text->data ? text->data : "";
    return text->failed ? base_fail_nomem(err, "reading the chat template") : ROTOR_OK;
}

char *cli_device_cache(void) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    base_buf b = {0};
    if (xdg && xdg[0])
        base_buf_printf(&b, "%s/rotor", xdg);
    else if (home && home[0])
        base_buf_printf(&b, "%s/.cache/rotor", home);
    if (b.data && base_mkdirs(b.data, NULL) == ROTOR_OK) return b.data;
    base_buf_free(&b);
    return NULL;
}

rotor_status cli_engine_open(rotor_engine **out, const cli_args *a, const cli_model *m,
                             rotor_engine_options opt, rotor_error *err) {
    base_buf text = {0};
    char *cache = cli_device_cache();
    opt.device = cli_text(a, OPT_DEVICE);
    opt.device_layers = (uint32_t)cli_int(a, OPT_DEVICE_LAYERS);
    opt.device_prompt = cli_text(a, OPT_DEVICE_PROMPT);
    opt.device_cache = cache;
    rotor_status st = read_template(a, &text, &opt.chat_template, err);
    if (st == ROTOR_OK && m->src.path)
        st = rotor_engine_open(out, m->src.path, &opt, err);
    else if (st == ROTOR_OK)
        st = rotor_engine_open_memory(out, m->src.data, m->src.n_bytes, m->src.name, &opt, err);
    base_buf_free(&text);
    base_free(cache);
    return st;
}

/* ==== Speculation ============================================================================= */

/* Of a draft model only what went wrong is worth a line. */
static void log_trouble(void *user, int level, const char *line) {
    if (level <= BASE_LOG_WARN) cli_log_line(user, level, line);
}

static rotor_status open_draft(cli_draft *d, const cli_args *a, const cli_model *m,
                               const rotor_engine *own, rotor_error *err) {
    rotor_engine_info of_own = {.size = sizeof of_own}, of_draft = {.size = sizeof of_draft};
    char bytes[32];
    rotor_engine_options opt = cli_engine_options(a);
    ROTOR_TRY(rotor_engine_get_info(own, &of_own));
    opt.ctx = of_own.n_ctx;
    opt.max_layers = 0; /* --layers and --lora are about the model itself */
    opt.lora = NULL;
    opt.self_check = 0; /* what it guesses is judged by the model */
    opt.trace = NULL;   /* the file is of the model */
    opt.threads_of = own;
    opt.log = log_trouble;
    if (m->src.path)
        ROTOR_TRY(rotor_engine_open(&d->e, m->src.path, &opt, err));
    else
        ROTOR_TRY(
            rotor_engine_open_memory(&d->e, m->src.data, m->src.n_bytes, m->src.name, &opt, err));
    ROTOR_TRY(rotor_session_create(&d->s, d->e, 0, err));
    ROTOR_TRY(rotor_engine_get_info(d->e, &of_draft));
    cli_log(a, BASE_LOG_INFO, "draft: %s (%s, %s), %s", of_draft.name, of_draft.architecture,
            of_draft.type_name, cli_bytes(of_draft.file_bytes, bytes));
    return ROTOR_OK;
}

rotor_status cli_draft_open(cli_draft *d, const cli_args *a, const rotor_engine *own,
                            rotor_session *s, rotor_error *err) {
    cli_model m;
    if (!cli_text(a, OPT_DRAFT)) return ROTOR_OK;
    ROTOR_TRY(cli_model_find(&m, cli_text(a, OPT_DRAFT), err));
    rotor_status st = open_draft(d, a, &m, own, err);
    cli_model_free(&m);
    return st == ROTOR_OK ? rotor_draft_check(s, d->s, err) : st;
}

void cli_draft_close(cli_draft *d) {
    rotor_session_free(&d->s);
    rotor_engine_close(&d->e);
}

/* ==== Grammars ================================================================================ */

static rotor_status read_grammar(rotor_grammar **out, rotor_engine *e, rotor_grammar_kind kind,
                                 const char *word, rotor_error *err) {
    const char *sign = kind == ROTOR_GRAMMAR_GBNF ? "::=" : "{";
    base_file f;
    base_buf text = {0};
    if (base_path_kind_of(word) != BASE_PATH_FILE) {
        if (!strstr(word, sign))
            return base_fail(err, ROTOR_E_ARG,
                             "%.200s is neither a file nor a %s (there is no %s in it)", word,
                             kind == ROTOR_GRAMMAR_GBNF ? "grammar" : "schema", sign);
        return rotor_grammar_create(out, e, kind, word, err);
    }
    ROTOR_TRY(base_file_open(&f, word, false, err));
    rotor_status st = ROTOR_OK;
    if (memchr(f.data ? f.data : (const uint8_t *)"", 0, f.size))
        st = base_fail(err, ROTOR_E_FORMAT, "there is a zero byte in it");
    else if (!base_buf_append(&text, f.data ? f.data : (const uint8_t *)"", f.size))
        st = base_fail_nomem(err, "reading a grammar");
    if (st == ROTOR_OK) st = rotor_grammar_create(out, e, kind, text.data ? text.data : "", err);
    base_file_close(&f);
    base_buf_free(&text);
    return st == ROTOR_OK ? st : base_fail_in(err, st, "%.200s", word);
}

rotor_status cli_grammar_open(rotor_grammar **out, const cli_args *a, rotor_engine *e,
                              rotor_error *err) {
    const char *gbnf = cli_text(a, OPT_GRAMMAR), *schema = cli_text(a, OPT_JSON_SCHEMA);
    *out = NULL;
    if (gbnf && schema)
        return base_fail(err, ROTOR_E_ARG, "--grammar and --json-schema: one of them");
    if (gbnf) return read_grammar(out, e, ROTOR_GRAMMAR_GBNF, gbnf, err);
    return schema ? read_grammar(out, e, ROTOR_GRAMMAR_JSON_SCHEMA, schema, err) : ROTOR_OK;
}

/* ==== Generation ============================================================================== */

enum { LOOKUP_MIN = 2 }; /* tokens that must agree before a guess */

rotor_gen_options cli_gen_options(const cli_args *a, const rotor_engine *e, const cli_draft *d) {
    rotor_gen_options g = rotor_gen_options_default(e);
    if (cli_given(a, OPT_N_PREDICT)) g.max_tokens = (uint32_t)cli_int(a, OPT_N_PREDICT);
    if (cli_given(a, OPT_TEMP)) g.temperature = (float)cli_real(a, OPT_TEMP);
    if (cli_given(a, OPT_TOP_K)) g.top_k = (int32_t)cli_int(a, OPT_TOP_K);
    if (cli_given(a, OPT_TOP_P)) g.top_p = (float)cli_real(a, OPT_TOP_P);
    if (cli_given(a, OPT_MIN_P)) g.min_p = (float)cli_real(a, OPT_MIN_P);
    if (cli_given(a, OPT_REPEAT)) g.repeat_penalty = (float)cli_real(a, OPT_REPEAT);
    g.seed = cli_given(a, OPT_SEED) ? (uint64_t)cli_int(a, OPT_SEED) : base_random_seed() >> 12;
    g.stops = a->many[OPT_STOP];
    g.n_stops = a->n_many[OPT_STOP];
    g.no_logprobs = true; /* no verb shows them */
    g.lookup = cli_on(a, OPT_LOOKUP) ? LOOKUP_MIN : 0;
    g.draft = d ? d->s : NULL;
    g.draft_max = (uint32_t)cli_int(a, OPT_DRAFT_MAX);
    g.full = (rotor_full)cli_int(a, OPT_ON_FULL);
    return g;
}

rotor_status cli_chat_stops(const rotor_engine *e, rotor_gen_options *g, const char ***owned,
                            rotor_error *err) {
    size_t n = 0, n_template = 0;
    while (rotor_chat_stop(e, n_template)) n_template++;
    const char **stops = base_alloc_array(g->n_stops + n_template + 1, sizeof *stops);
    if (!stops) return base_fail_nomem(err, "answering");
    for (size_t i = 0; i < g->n_stops; i++) stops[n++] = g->stops[i];
    for (size_t i = 0; i < n_template; i++) stops[n++] = rotor_chat_stop(e, i);
    g->stops = *owned = stops;
    g->n_stops = n;
    return ROTOR_OK;
}

rotor_chat_options cli_chat_options(const cli_args *a) {
    static const rotor_effort efforts[] = {ROTOR_EFFORT_LOW, ROTOR_EFFORT_MEDIUM,
                                           ROTOR_EFFORT_HIGH};
    rotor_chat_options o = rotor_chat_options_default();
    o.effort = efforts[cli_int(a, OPT_EFFORT)];
    return o;
}

double cli_rate(uint64_t n, uint64_t us) { return us ? (double)n * 1e6 / (double)us : 0; }

void cli_speed_line(base_buf *out, const rotor_gen_result *r, uint32_t used, uint32_t max) {
    uint32_t fresh = r->n_prompt - r->n_reused;
    uint64_t steps = r->n_ids ? r->n_ids - 1 : 0;
    base_buf_printf(out, "prompt %u tok %.1f t/s", fresh, cli_rate(fresh, r->prompt_us));
    if (r->n_reused) base_buf_printf(out, " (%u kept)", r->n_reused);
    base_buf_printf(out, " | decode %zu tok %.1f t/s", r->n_ids, cli_rate(steps, r->decode_us));
    if (r->n_drafted) base_buf_printf(out, ", drafts %u of %u right", r->n_accepted, r->n_drafted);
    base_buf_printf(out, " | first token %.0f ms | context %u of %u", (double)r->first_us / 1e3,
                    used, max);
}
