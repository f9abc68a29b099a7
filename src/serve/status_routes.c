/* SPDX-License-Identifier: MIT
 *
 * What the server says about itself: health, models, properties, the sessions in use.
 */
#include "serve/serve_internal.h"

bool serve_is_up(serve_server *s, serve_fault *f) {
    if (atomic_load(&s->closing)) {
        serve_fail_with(f, SERVE_SHUTTING_DOWN, "the server is ending");
        f->retry_s = 5;
        return false;
    }
    if (atomic_load(&s->state) == SERVE_READY) return true;
    serve_fail_with(f, SERVE_MODEL_LOADING, "Loading model");
    f->retry_s = 1;
    f->n_loaded = (uint32_t)atomic_load(&s->loaded);
    f->n_models = (uint32_t)s->opt.n_models;
    return false;
}

void serve_get_health(serve_exchange *x) {
    serve_fault f;
    if (serve_is_up(x->s, &f))
        serve_reply_json(x, 200, json_pack("{s:s}", "status", "ok"));
    else
        serve_reply_fault(x, &f);
}

/* ==== Models ================================================================================== */

static json_t *capabilities(const serve_model *m) {
    json_t *list = json_array();
    if (m->writes) json_array_append_new(list, json_string("completion"));
    if (m->writes) json_array_append_new(list, json_string("chat"));
    if (m->parts) {
        json_array_append_new(list, json_string("tools"));
        json_array_append_new(list, json_string("reasoning"));
    }
    if (m->embeds) json_array_append_new(list, json_string("embedding"));
    if (m->ranks) json_array_append_new(list, json_string("rerank"));
    return list;
}

static json_t *text_of(const char *s) { return serve_json_text(s ? s : "", s ? strlen(s) : 0); }

static json_t *model_json(const serve_server *s, const serve_model *m) {
    const rotor_engine_info *i = &m->info;
    return json_pack("{s:o, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:[s]}", "id",
                     text_of(m->id), "object", "model", "created", (json_int_t)s->started_s,
                     "owned_by", "rotor", "n_ctx", (json_int_t)i->n_ctx, "n_ctx_train",
                     (json_int_t)i->n_ctx_train, "n_params", (json_int_t)i->n_params, "size",
                     (json_int_t)i->file_bytes, "quant", text_of(i->type_name), "architecture",
                     text_of(i->architecture), "capabilities", capabilities(m), "modalities",
                     "text");
}

void serve_get_models(serve_exchange *x) {
    json_t *data = json_array();
    for (size_t i = 0; i < x->s->opt.n_models; i++)
        json_array_append_new(data, model_json(x->s, &x->s->models[i]));
    serve_reply_json(x, 200,
                     json_pack("{s:s, s:O, s:o}", "object", "list", "data", data, "models",
                               data)); /* some look for "models" */
}

void serve_get_model(serve_exchange *x) {
    serve_fault f = {0};
    const serve_model *m = NULL;
    for (size_t i = 0; i < x->s->opt.n_models && !m; i++)
        if (strcmp(x->s->models[i].id, x->tail) == 0) m = &x->s->models[i];
    if (m) {
        serve_reply_json(x, 200, model_json(x->s, m));
        return;
    }
    serve_fail_with(&f, SERVE_MODEL_NOT_FOUND,
                    "there is no model '%.100s'; GET /v1/models lists them", x->tail);
    serve_reply_fault(x, &f);
}

/* ==== Properties and sessions ================================================================= */

static json_t *defaults_json(const serve_model *m) {
    const rotor_gen_options g = m->usual;
    return json_pack("{s:o, s:i, s:o, s:o, s:o, s:o, s:o}", "temperature",
                     serve_json_real(g.temperature), "top_k", g.top_k, "top_p",
                     serve_json_real(g.top_p), "min_p", serve_json_real(g.min_p), "repeat_penalty",
                     serve_json_real(g.repeat_penalty), "presence_penalty",
                     serve_json_real(g.presence_penalty), "frequency_penalty",
                     serve_json_real(g.frequency_penalty));
}

/* Which models are in memory, and what happens to them when nobody asks. */
static json_t *residence(serve_server *s) {
    const uint64_t us = s->opt.idle_us;
    json_t *list = json_array();
    base_mutex_lock(s->lock);
    for (size_t i = 0; i < s->opt.n_models; i++) {
        const serve_model *m = &s->models[i];
        json_array_append_new(list,
                              json_pack("{s:o, s:b, s:I}", "id", text_of(m->id), "loaded",
                                        m->state == SERVE_AWAKE, "loads", (json_int_t)m->n_loads));
    }
    base_mutex_unlock(s->lock);
    json_t *idle = us == SERVE_NEVER ? json_null() : json_integer((json_int_t)(us / 1000000));
    return json_pack("{s:o, s:o}", "idle_unload_s", idle, "models", list);
}

void serve_get_props(serve_exchange *x) {
    const serve_model *m = &x->s->models[0];
    const bool exact = strcmp(m->info.device, "cpu") == 0;
    const char *template = m->info.template_line ? m->info.template_line : "";
    serve_reply_json(
        x, 200,
        json_pack("{s:{s:I, s:o}, s:i, s:o, s:o, s:o, s:o, s:b, s:o, s:b, s:o, s:{s:b, s:b}}",
                  "default_generation_settings", "n_ctx", (json_int_t)m->info.n_ctx, "params",
                  defaults_json(m), "total_slots", (int)x->s->opt.parallel, "model_alias",
                  text_of(m->id), "chat_template_kind", text_of(template), "build_info",
                  json_sprintf("rotor %s", rotor_version()), "device", text_of(m->info.device_why),
                  "cached_equals_uncached", exact, "sandbox", text_of(x->s->cage_line),
                  "is_sleeping", !serve_is_awake(x->s, m), "residence", residence(x->s),
                  "modalities", "vision", 0, "audio", 0));
}

void serve_get_version(serve_exchange *x) {
    serve_reply_json(
        x, 200, json_pack("{s:s, s:s}", "version", rotor_version(), "features", rotor_features()));
}

/* The worker's: one row for each session of each model. */
static void list_slots(serve_call *c) {
    serve_server *s = c->inside->s;
    json_t *list = json_array();
    for (size_t i = 0; i < s->opt.n_models; i++) {
        rotor_batch_session row;
        for (size_t k = 0; rotor_batch_get_session(s->models[i].batch, k, NULL, 0, &row); k++)
            json_array_append_new(list, json_pack("{s:I, s:o, s:b, s:I, s:I}", "id", (json_int_t)k,
                                                  "model", text_of(s->models[i].id),
                                                  "is_processing", row.job != 0, "n_ctx",
                                                  (json_int_t)s->models[i].info.n_ctx, "n_tokens",
                                                  (json_int_t)row.n_tokens));
    }
    serve_call_reply(c, 200, list);
}

void serve_get_slots(serve_exchange *x) {
    serve_fault f = {0};
    serve_call *c = serve_call_create(x->s);
    if (c) c->inside->task = list_slots;
    serve_hand_over(x, c, c || serve_no_memory(&f), &f);
}
