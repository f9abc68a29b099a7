/* SPDX-License-Identifier: MIT
 *
 * Conversations: the engine's chat template, and messages to ids.
 *
 * A model whose own template cannot be read still completes text: the reason is kept and returned
 * by rotor_chat_tokenize. A template that the caller named must work, or opening fails.
 */
#include "api/api_internal.h"

static base_str token_text(const text_vocab *v, uint32_t id) {
    return id == TEXT_NO_ID ? (base_str){0} : text_token(v, id);
}

rotor_status api_choose_template(rotor_engine *e, rotor_error *err) {
    const text_vocab *v = e->m->vocab;
    chat_hints hints = {.architecture = base_str_of(e->m->arch),
                        .model_template = e->m->chat_template};
    if (v) {
        hints.bos_text = token_text(v, text_bos(v));
        hints.eos_text = token_text(v, text_eos(v));
        hints.has_im_start = text_find(v, base_str_of("<|im_start|>")) != TEXT_NO_ID;
        hints.has_header_id = text_find(v, base_str_of("<|start_header_id|>")) != TEXT_NO_ID;
    }
    e->has_template = hints.model_template.n > 0 || strncmp(e->m->arch, "bitnet", 6) == 0 ||
                      hints.has_im_start || hints.has_header_id;
    ROTOR_TRY(api_choose_harmony(e, err));
    if (e->harmony.v) return ROTOR_OK;
    rotor_status status =
        chat_template_create(&e->tmpl, &hints, e->opt.chat_template, &e->tmpl_error);
    if (status == ROTOR_OK) return ROTOR_OK;
    if (status != ROTOR_E_NOMEM && !e->opt.chat_template) {
        base_fail_in(&e->tmpl_error, status, "the model's chat template cannot be used");
        return ROTOR_OK;
    }
    if (err) *err = e->tmpl_error;
    return status;
}

const char *rotor_chat_stop(const rotor_engine *e, size_t i) {
    return e && e->tmpl ? chat_stop_text(e->tmpl, i) : NULL;
}

const char *rotor_chat_template_name(size_t i) {
    size_t n = 0;
    while (n < i && chat_builtin_name(n)) n++;
    if (chat_builtin_name(n)) return chat_builtin_name(n);
    return i == n ? "harmony" : NULL;
}

rotor_chat_options rotor_chat_options_default(void) {
    return (rotor_chat_options){.size = sizeof(rotor_chat_options)};
}

bool rotor_chat_has_parts(const rotor_engine *e) { return e && e->harmony.v; }

/* ==== Rendering =============================================================================== */

static rotor_status check_turns(const rotor_engine *e, const rotor_turn *turns, size_t n,
                                const rotor_chat_options *opt, rotor_error *err) {
    if (opt->tools && !e->harmony.v)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "this model's chat template knows no tools");
    for (size_t i = 0; i < n; i++) {
        const rotor_turn *t = &turns[i];
        bool other = t->n_ids || t->n_calls || t->reasoning;
        if (!t->role || (!t->content && !(other && e->harmony.v)))
            return base_fail(err, ROTOR_E_ARG, "message %zu: role or content is NULL", i);
        if ((t->n_ids && !t->ids) || (t->n_calls && !t->calls))
            return base_fail(err, ROTOR_E_ARG, "message %zu: ids or calls is NULL but counted", i);
        if (t->n_calls && !e->harmony.v)
            return base_fail(err, ROTOR_E_UNSUPPORTED,
                             "message %zu: this model's chat template "
                             "knows no tools",
                             i);
    }
    return ROTOR_OK;
}

static rotor_status render_template(const rotor_engine *e, const rotor_turn *turns, size_t n,
                                    text_ids *ids, base_buf *text, rotor_error *err) {
    chat_prompt rendered = {0};
    chat_message *list = base_alloc_array(n, sizeof *list);
    if (!list) return base_fail_nomem(err, "rendering a conversation");
    for (size_t i = 0; i < n; i++)
        list[i] = (chat_message){base_str_of(turns[i].role), base_str_of(turns[i].content)};
    rotor_status status = chat_render(e->tmpl, list, n, true, &rendered, err);
    if (status == ROTOR_OK) status = chat_encode(&rendered, e->m->vocab, ids, err);
    *text = rendered.text;
    rendered.text = (base_buf){0};
    chat_prompt_free(&rendered);
    base_free(list);
    return status;
}

static rotor_status render(const rotor_engine *e, const rotor_turn *turns, size_t n,
                           const rotor_chat_options *user, text_ids *ids, base_buf *text,
                           rotor_error *err) {
    rotor_chat_options opt = rotor_chat_options_default();
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_chat_options", err));
    ROTOR_TRY(check_turns(e, turns, n, &opt, err));
    if (!e->harmony.v) return render_template(e, turns, n, ids, text, err);
    ROTOR_TRY(api_render_harmony(e, turns, n, &opt, ids, err));
    return text_decode(e->m->vocab, ids->ids, ids->n, true, text) == ROTOR_OK
               ? ROTOR_OK
               : base_fail_nomem(err, "rendering a conversation");
}

rotor_status rotor_chat_prompt(const rotor_engine *e, const rotor_turn *turns, size_t n_turns,
                               const rotor_chat_options *opt, uint32_t **ids, size_t *n,
                               char **prompt, rotor_error *err) {
    if (!e || !ids || !n || (n_turns && !turns))
        return base_fail(err, ROTOR_E_ARG, "rendering a chat: a required argument is NULL");
    if (!e->m->vocab)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s has no vocabulary: it can only be given ids",
                         e->m->name);
    if (!e->tmpl && !e->harmony.v) {
        if (err) *err = e->tmpl_error;
        return e->tmpl_error.code;
    }
    base_buf rendered = {0};
    text_ids list = {0};
    uint32_t *array = NULL;
    rotor_status status = render(e, turns, n_turns, opt, &list, &rendered, err);
    if (status != ROTOR_OK) goto done;
    size_t count = list.n;
    array = api_take_ids(&list);
    char *text = prompt ? api_take_text(&rendered) : NULL;
    if (!array || (prompt && !text)) {
        base_free(array);
        base_free(text);
        status = base_fail_nomem(err, "rendering a conversation");
        goto done;
    }
    if (prompt) *prompt = text;
    *ids = array;
    *n = count;
done:
    text_ids_free(&list);
    base_buf_free(&rendered);
    return status;
}

rotor_status rotor_chat_tokenize(const rotor_engine *e, const rotor_message *messages,
                                 size_t n_messages, uint32_t **ids, size_t *n, char **prompt,
                                 rotor_error *err) {
    if (n_messages && !messages)
        return base_fail(err, ROTOR_E_ARG, "rendering a chat: a required argument is NULL");
    rotor_turn *turns = base_alloc_array(n_messages, sizeof *turns);
    if (!turns) return base_fail_nomem(err, "rendering a conversation");
    for (size_t i = 0; i < n_messages; i++)
        turns[i] = (rotor_turn){.role = messages[i].role, .content = messages[i].content};
    rotor_status status = rotor_chat_prompt(e, turns, n_messages, NULL, ids, n, prompt, err);
    base_free(turns);
    return status;
}
