/* SPDX-License-Identifier: MIT
 *
 * GET /metrics: counters in Prometheus' text form, under our names and those that people have
 * dashboards for. No label holds what somebody wrote.
 */
#include "serve/serve_internal.h"

const double serve_bucket_bounds[SERVE_BUCKETS] = {.001, .0025, .005, .01, .025, .05, .1,
                                                   .25,  .5,    1,    2.5, 5,    10,  60};

void serve_observe(serve_histogram *h, double seconds) {
    int i = 0;
    h->n++;
    h->sum += seconds;
    while (i < SERVE_BUCKETS && seconds > serve_bucket_bounds[i]) i++;
    if (i < SERVE_BUCKETS) h->at[i]++;
}

/* One value under up to two names. */
static void put(base_buf *out, const char *type, const char *own, const char *other,
                const char *help, double value) {
    const char *const names[] = {own, other};
    for (size_t i = 0; i < 2; i++)
        if (names[i])
            base_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", names[i], help, names[i],
                            type, names[i], value);
}

static void put_histogram(base_buf *out, const char *name, const char *help,
                          const serve_histogram *h) {
    uint64_t n = 0;
    base_buf_printf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    for (int i = 0; i < SERVE_BUCKETS; i++) {
        n += h->at[i];
        base_buf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", name, serve_bucket_bounds[i],
                        (unsigned long long)n);
    }
    base_buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name,
                    (unsigned long long)h->n, name, h->sum, name, (unsigned long long)h->n);
}

static double seconds(uint64_t us) { return (double)us / 1e6; }
static double ratio(double a, double b) { return b > 0 ? a / b : 0; }

static void put_tokens(base_buf *out, const serve_metrics *m) {
    put(out, "counter", "rotor_prompt_tokens_total", "llamacpp:prompt_tokens_total",
        "Prompt tokens that were evaluated", (double)m->prompt_tokens);
    put(out, "counter", "rotor_prompt_seconds_total", "llamacpp:prompt_seconds_total",
        "Seconds that calls waited for their prompts", seconds(m->prompt_us));
    put(out, "counter", "rotor_cached_tokens_total", NULL, "Prompt tokens found in the cache",
        (double)m->cached_tokens);
    put(out, "counter", "rotor_generated_tokens_total", "llamacpp:tokens_predicted_total",
        "Tokens generated", (double)m->made_tokens);
    put(out, "counter", "rotor_generated_seconds_total", "llamacpp:tokens_predicted_seconds_total",
        "Seconds that answers took, summed over answers", seconds(m->made_us));
    put(out, "counter", "rotor_dropped_tokens_total", NULL, "Prompt tokens cut by truncation",
        (double)m->dropped_tokens);
    put(out, "gauge", "rotor_prompt_tokens_per_second", "llamacpp:prompt_tokens_seconds",
        "Prompt tokens per second, on average",
        ratio((double)m->prompt_tokens, seconds(m->prompt_us)));
    put(out, "gauge", "rotor_generated_tokens_per_second", "llamacpp:predicted_tokens_seconds",
        "Tokens per second of an answer, on average",
        ratio((double)m->made_tokens, seconds(m->made_us)));
}

static void put_load(base_buf *out, const serve_metrics *m) {
    put(out, "gauge", "rotor_requests_running", "llamacpp:requests_processing",
        "Requests being worked on", m->running);
    put(out, "gauge", "rotor_requests_waiting", "llamacpp:requests_deferred",
        "Requests that wait for a place", m->waiting);
    put(out, "counter", "rotor_requests_cancelled_total", NULL, "Requests whose client left",
        (double)m->cancelled);
    put(out, "counter", "rotor_rag_rewritten_total", NULL,
        "Questions a model wrote anew before they were searched for", (double)m->rewritten);
    put(out, "counter", "rotor_rag_not_rewritten_total", NULL,
        "Questions searched for as they were though a model was asked", (double)m->not_rewritten);
    put(out, "counter", "rotor_steps_total", "llamacpp:n_decode_total", "Steps of the engines",
        (double)m->steps);
    put(out, "gauge", "rotor_jobs_per_step", "llamacpp:n_busy_slots_per_decode",
        "Answers that shared a step, on average", ratio((double)m->step_jobs, (double)m->steps));
    put(out, "gauge", "rotor_longest_tokens", "llamacpp:n_tokens_max",
        "Longest prompt and answer so far", (double)m->longest);
    put(out, "gauge", "rotor_cache_use_ratio", NULL, "Share of the cache that holds tokens",
        m->cache_use);
    put(out, "counter", "rotor_grammars_known_total", NULL,
        "Grammars asked for that were there already", (double)m->rules_known);
    put(out, "counter", "rotor_grammars_made_total", NULL, "Grammars asked for that were made anew",
        (double)m->rules_made);
    put(out, "gauge", "rotor_grammars_kept", NULL, "Grammars that are kept", m->rules);
    base_buf_puts(out, "# HELP rotor_http_requests_total Exchanges, by class of status\n"
                       "# TYPE rotor_http_requests_total counter\n");
    for (unsigned i = 1; i < 6; i++)
        base_buf_printf(out, "rotor_http_requests_total{status=\"%uxx\"} %llu\n", i,
                        (unsigned long long)m->requests[i]);
}

/* A served name inside a label. */
static void put_label(base_buf *out, const char *text) {
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') base_buf_puts(out, "\\");
        base_buf_append(out, *text == '\n' ? " " : text, 1);
    }
}

static void put_residence(base_buf *out, serve_server *s) {
    static const struct {
        const char *name, *type, *help;
    } rows[] = {{"rotor_model_loaded", "gauge", "Whether the model is in memory"},
                {"rotor_model_loads_total", "counter", "How often the model was loaded"}};
    for (size_t r = 0; r < BASE_COUNT(rows); r++) {
        base_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", rows[r].name, rows[r].help,
                        rows[r].name, rows[r].type);
        base_mutex_lock(s->lock);
        for (size_t i = 0; i < s->opt.n_models; i++) {
            const serve_model *m = &s->models[i];
            const uint64_t value = r ? m->n_loads : m->state == SERVE_AWAKE;
            base_buf_printf(out, "%s{model=\"", rows[r].name);
            put_label(out, m->id);
            base_buf_printf(out, "\"} %llu\n", (unsigned long long)value);
        }
        base_mutex_unlock(s->lock);
    }
    put(out, "gauge", "rotor_resident_bytes", NULL, "Memory of the program",
        (double)base_rss_bytes());
}

/* Of --rag-write; zeros without. */
static void put_knowledge(base_buf *out, const serve_metrics *m) {
    put(out, "counter", "rotor_rag_documents_put_total", NULL,
        "Documents that requests put into knowledge stores", (double)m->docs_put);
    put(out, "counter", "rotor_rag_documents_removed_total", NULL,
        "Documents that requests took out of knowledge stores", (double)m->docs_removed);
    put(out, "counter", "rotor_rag_vectors_made_total", NULL,
        "Passages that were embedded for that", (double)m->vectors_made);
}

/* Of --prefix-store; zeros without. */
static void put_prefixes(base_buf *out, const rotor_batch_prefixes *p) {
    put(out, "counter", "rotor_prefix_hits_total", NULL, "Prompts that began with a file's tokens",
        (double)p->hits);
    put(out, "counter", "rotor_prefix_misses_total", NULL,
        "Prompts for which no file was worth reading", (double)p->misses);
    put(out, "counter", "rotor_prefix_read_bytes_total", NULL, "Bytes of files read",
        (double)p->loaded_bytes);
    put(out, "counter", "rotor_prefix_written_total", NULL, "Files written", (double)p->written);
    put(out, "counter", "rotor_prefix_written_bytes_total", NULL, "Bytes of files written",
        (double)p->written_bytes);
    put(out, "counter", "rotor_prefix_evicted_total", NULL, "Files removed to keep to the limit",
        (double)p->evicted);
    put(out, "counter", "rotor_prefix_refused_total", NULL, "Files removed as damaged",
        (double)p->refused);
    put(out, "gauge", "rotor_prefix_bytes", NULL, "Bytes in the folder", (double)p->bytes);
    put(out, "gauge", "rotor_prefix_files", NULL, "Files of the models served", (double)p->n_files);
}

void serve_get_metrics(serve_exchange *x) {
    base_buf out = {0};
    base_mutex_lock(x->s->lock);
    const serve_metrics m = x->s->metrics;
    base_mutex_unlock(x->s->lock);
    put_tokens(&out, &m);
    put_load(&out, &m);
    put_residence(&out, x->s);
    put_prefixes(&out, &m.prefixes);
    put_knowledge(&out, &m);
    put_histogram(&out, "rotor_time_to_first_token_seconds", "From request to first token",
                  &m.first);
    put_histogram(&out, "rotor_time_between_tokens_seconds",
                  "From one token to the next, mean of an answer", &m.between);
    put_histogram(&out, "rotor_request_seconds", "Whole requests", &m.whole);
    if (!out.failed)
        serve_reply_bytes(x, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len);
    base_buf_free(&out);
}
