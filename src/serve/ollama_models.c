/* SPDX-License-Identifier: MIT
 *
 * What Ollama's clients ask about models: which there are (/api/tags), which are in memory
 * (/api/ps), what one is (/api/show), the version, and for one to be fetched
 * (/api/pull: it is here, or `rotor pull` has to do it; this server fetches nothing).
 */
#include "serve/serve_internal.h"

#include <stdio.h>

const serve_dialect serve_ollama_dialect = {.name = "ollama", .fault = serve_ollama_fault};

static json_t *text_of(const char *s) { return serve_json_text(s ? s : "", s ? strlen(s) : 0); }

/* "2.4B", "260K" */
static json_t *short_count(uint64_t n) {
    static const char units[] = " KMBT";
    double x = (double)n;
    int unit = 0;
    char text[32];
    for (; x >= 999.5 && unit < 4; unit++) x /= 1000;
    snprintf(text, sizeof text, x < 10 && unit ? "%.1f%c" : "%.0f%c", x, units[unit]);
    return json_string(text);
}

static json_t *details(const serve_model *m) {
    const rotor_engine_info *i = &m->info;
    return json_pack("{s:s, s:s, s:o, s:[o], s:o, s:o}", "parent_model", "", "format", "gguf",
                     "family", text_of(i->architecture), "families", text_of(i->architecture),
                     "parameter_size", short_count(i->n_params), "quantization_level",
                     text_of(i->type_name));
}

/* Of the served name, size and shape: the file itself is not read for it. */
static void put_digest(const serve_model *m, char out[65]) {
    uint8_t sum[32];
    base_buf b = {0};
    base_buf_printf(&b, "%s %llu %llu %u", m->id, (unsigned long long)m->info.file_bytes,
                    (unsigned long long)m->info.n_params, m->info.n_vocab);
    base_sha256(b.data ? b.data : "", b.len, sum);
    base_buf_free(&b);
    for (int i = 0; i < 32; i++) snprintf(out + (size_t)i * 2, 3, "%02x", sum[i]);
}

static json_t *model_json(const serve_server *s, const serve_model *m) {
    char digest[65], time[32];
    put_digest(m, digest);
    serve_put_time(time, s->started_s);
    return json_pack("{s:o, s:o, s:s, s:I, s:s, s:o}", "name", text_of(m->id), "model",
                     text_of(m->id), "modified_at", time, "size", (json_int_t)m->info.file_bytes,
                     "digest", digest, "details", details(m));
}

void serve_get_tags(serve_exchange *x) {
    json_t *list = json_array();
    for (size_t i = 0; i < x->s->opt.n_models; i++)
        json_array_append_new(list, model_json(x->s, &x->s->models[i]));
    serve_reply_json(x, 200, json_pack("{s:o}", "models", list));
}

/* When it is released if nobody asks; false: it is not in memory. */
static bool put_expiry(serve_server *s, const serve_model *m, char out[32]) {
    base_mutex_lock(s->lock);
    const bool there = m->state == SERVE_AWAKE;
    const uint64_t us = serve_until_sleep(m);
    base_mutex_unlock(s->lock);
    const bool ends = us < (uint64_t)1 << 60;
    if (ends) serve_put_time(out, base_unix_s() + (int64_t)(us / 1000000));
    if (!ends) snprintf(out, 32, "9999-12-31T23:59:59Z");
    return there;
}

void serve_get_ps(serve_exchange *x) {
    json_t *list = json_array();
    for (size_t i = 0; i < x->s->opt.n_models; i++) {
        const serve_model *m = &x->s->models[i];
        char ends[32];
        if (!put_expiry(x->s, m, ends)) continue;
        const bool cpu = !m->info.device || strcmp(m->info.device, "cpu") == 0;
        json_t *v = model_json(x->s, m);
        json_object_set_new(v, "expires_at", json_string(ends));
        json_object_set_new(v, "size_vram", json_integer(cpu ? 0 : (json_int_t)m->info.file_bytes));
        json_object_set_new(v, "context_length", json_integer(m->info.n_ctx));
        json_array_append_new(list, v);
    }
    serve_reply_json(x, 200, json_pack("{s:o}", "models", list));
}

void serve_get_ollama_version(serve_exchange *x) {
    serve_reply_json(x, 200, json_pack("{s:s}", "version", rotor_version()));
}

/* ==== One model =============================================================================== */

/* "model", or "name" as it was once called; a tag ":latest" says nothing. NULL: refused. */
static serve_model *named_model(serve_exchange *x, json_t **body) {
    serve_fault f = {0};
    const char *name = NULL;
    serve_model *m = NULL;
    if (serve_parse(&x->body, body, &f)) {
        const serve_at top = {.object = *body};
        if (serve_read_text(top, "name", &name, &f) && serve_read_text(top, "model", &name, &f)) {
            if (!name || !name[0])
                serve_refuse(&f, "model", SERVE_MISSING_REQUIRED_PARAMETER, "'model' is missing");
            else
                m = serve_find_model(x->s, name, &f);
        }
    }
    if (!m) serve_reply_fault(x, &f);
    return m;
}

static json_t *capabilities(const serve_model *m) {
    json_t *list = json_array();
    if (m->writes) json_array_append_new(list, json_string("completion"));
    if (m->parts) {
        json_array_append_new(list, json_string("tools"));
        json_array_append_new(list, json_string("thinking"));
    }
    if (m->embeds) json_array_append_new(list, json_string("embedding"));
    return list;
}

static void add_info(json_t *v, const char *architecture, const char *key, uint64_t value) {
    char name[128];
    snprintf(name, sizeof name, "%.80s.%s", architecture, key);
    json_object_set_new(v, name, json_integer((json_int_t)value));
}

void serve_post_show(serve_exchange *x) {
    json_t *body = NULL;
    char time[32];
    const serve_model *m = named_model(x, &body);
    if (m) {
        const rotor_engine_info *i = &m->info;
        const char *a = i->architecture ? i->architecture : "unknown";
        json_t *info = json_pack("{s:o, s:I}", "general.architecture", text_of(a),
                                 "general.parameter_count", (json_int_t)i->n_params);
        add_info(info, a, "context_length", i->n_ctx_train);
        add_info(info, a, "embedding_length", i->n_embd);
        add_info(info, a, "block_count", i->n_layer);
        add_info(info, a, "attention.head_count", i->n_head);
        add_info(info, a, "attention.head_count_kv", i->n_head_kv);
        add_info(info, a, "feed_forward_length", i->n_ff);
        serve_put_time(time, x->s->started_s);
        serve_reply_json(x, 200,
                         json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:s}", "modelfile", "",
                                   "parameters", "", "template", "", "details", details(m),
                                   "model_info", info, "capabilities", capabilities(m),
                                   "modified_at", time));
    }
    json_decref(body);
}

void serve_post_pull(serve_exchange *x) {
    json_t *body = NULL;
    serve_fault f = {0};
    const char *name = NULL;
    const serve_model *m = NULL;
    if (!serve_parse(&x->body, &body, &f)) {
        serve_reply_fault(x, &f);
        return;
    }
    const serve_at top = {.object = body};
    const bool ok =
        serve_read_text(top, "name", &name, &f) && serve_read_text(top, "model", &name, &f);
    const size_t n = name ? strcspn(name, ":") : 0;
    for (size_t i = 0; name && !m && i < x->s->opt.n_models; i++) {
        const char *id = x->s->models[i].id;
        if (strcmp(id, name) == 0 ||
            (strlen(id) == n && strcmp(name + n, ":latest") == 0 && strncmp(id, name, n) == 0))
            m = &x->s->models[i];
    }
    if (ok && !m)
        serve_fail_with(
            &f, SERVE_MODEL_NOT_FOUND,
            "there is no model '%.100s' here, and this server fetches none: `rotor pull "
            "NAME`, then `rotor serve NAME`",
            name ? name : "");
    if (m)
        serve_reply_json(x, 200, json_pack("{s:s}", "status", "success"));
    else
        serve_reply_fault(x, &f);
    json_decref(body);
}
