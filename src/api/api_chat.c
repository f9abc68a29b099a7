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

const char *rotor_chat_template_name(size_t i) { return chat_builtin_name(i); }

static rotor_status render(const rotor_engine *e, const rotor_message *messages, size_t n,
                           chat_prompt *out, rotor_error *err) {
    chat_message *list = base_alloc_array(n, sizeof *list);
    if (!list) return base_fail_nomem(err, "rendering a conversation");
    rotor_status status = ROTOR_OK;
    for (size_t i = 0; i < n && status == ROTOR_OK; i++) {
        if (!messages[i].role || !messages[i].content)
            status = base_fail(err, ROTOR_E_ARG, "message %zu: role or content is NULL", i);
        else
            list[i] =
                (chat_message){base_str_of(messages[i].role), base_str_of(messages[i].content)};
    }
    if (status == ROTOR_OK) status = chat_render(e->tmpl, list, n, true, out, err);
    base_free(list);
    return status;
}

rotor_status rotor_chat_tokenize(const rotor_engine *e, const rotor_message *messages,
                                 size_t n_messages, uint32_t **ids, size_t *n, char **prompt,
                                 rotor_error *err) {
    if (!e || !ids || !n || (n_messages && !messages))
        return base_fail(err, ROTOR_E_ARG, "rotor_chat_tokenize: a required argument is NULL");
    if (!e->m->vocab)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s has no vocabulary: it can only be given ids",
                         e->m->name);
    if (!e->tmpl) {
        if (err) *err = e->tmpl_error;
        return e->tmpl_error.code;
    }
    chat_prompt rendered = {0};
    text_ids list = {0};
    uint32_t *array = NULL;
    rotor_status status = render(e, messages, n_messages, &rendered, err);
    if (status != ROTOR_OK) goto done;
    status = chat_encode(&rendered, e->m->vocab, &list, err);
    if (status != ROTOR_OK) goto done;
    size_t count = list.n;
    array = api_take_ids(&list);
    char *text = prompt ? api_take_text(&rendered.text) : NULL;
    if (!array || (prompt && !text)) {
        base_free(array);
        status = base_fail_nomem(err, "rendering a conversation");
        goto done;
    }
    if (prompt) *prompt = text;
    *ids = array;
    *n = count;
done:
    text_ids_free(&list);
    chat_prompt_free(&rendered);
    return status;
}
