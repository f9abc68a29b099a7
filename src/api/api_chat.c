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
        hints.vocab = v;
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

const chat_family *api_calls_of(const rotor_engine *e) {
    return e->tmpl ? chat_calls_of(e->tmpl) : NULL;
}

const char *rotor_chat_calls(const rotor_engine *e) {
    if (!e || e->harmony.v) return e ? "harmony" : NULL;
    return api_calls_of(e) ? api_calls_of(e)->name : NULL;
}

/* ==== Rendering =============================================================================== */

static rotor_status check_turns(const rotor_engine *e, const rotor_turn *turns, size_t n,
                                const rotor_chat_options *opt, rotor_error *err) {
    const bool calls = e->harmony.v || api_calls_of(e);
    if (opt->tools && !calls)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "this model's chat template knows no tools");
    for (size_t i = 0; i < n; i++) {
        const rotor_turn *t = &turns[i];
        const bool other = t->n_ids || t->n_calls || t->reasoning;
        const bool empty_call = t->n_calls && calls;
        if (!t->role || (!t->content && !empty_call && !(other && e->harmony.v)))
            return base_fail(err, ROTOR_E_ARG, "message %zu: role or content is NULL", i);
        if ((t->n_ids && !t->ids) || (t->n_calls && !t->calls))
            return base_fail(err, ROTOR_E_ARG, "message %zu: ids or calls is NULL but counted", i);
        if (t->n_calls && !calls)
            return base_fail(err, ROTOR_E_UNSUPPORTED,
                             "message %zu: this model's chat template "
                             "knows no tools",
                             i);
    }
    return ROTOR_OK;
}

static base_str text_of(const char *s) { return s ? base_str_of(s) : (base_str){0}; }

/* Turns as room chat takes them. Lists are owned by the caller. */
typedef struct listing {
    chat_message *messages; /* [n] */
    chat_extra *extras;     /* [n] */
    chat_called *calls;     /* of all turns */
    size_t n_calls;         /* of these in use */
} listing;

static bool listing_init(listing *l, const rotor_turn *turns, size_t n) {
    size_t n_calls = 0;
    for (size_t i = 0; i < n; i++) n_calls += turns[i].n_calls;
    l->messages = base_alloc_array(n, sizeof *l->messages);
    l->extras = base_alloc_array(n, sizeof *l->extras);
    l->calls = base_alloc_array(n_calls + 1, sizeof *l->calls);
    return l->messages && l->extras && l->calls;
}

static void listing_free(listing *l) {
    base_free(l->messages);
    base_free(l->extras);
    base_free(l->calls);
}

static void list_turn(listing *l, size_t i, const rotor_turn *t) {
    l->messages[i] = (chat_message){base_str_of(t->role), text_of(t->content)};
    l->extras[i] = (chat_extra){.calls = l->calls + l->n_calls,
                                .n_calls = t->n_calls,
                                .name = text_of(t->name),
                                .call_id = text_of(t->call_id),
                                .reasoning = text_of(t->reasoning)};
    for (size_t k = 0; k < t->n_calls; k++)
        l->calls[l->n_calls++] = (chat_called){.name = text_of(t->calls[k].name),
                                               .arguments = text_of(t->calls[k].arguments),
                                               .id = text_of(t->calls[k].id)};
}

/* Answers among the turns as the ids they were generated as. */
static void put_known(chat_prompt *p, const rotor_turn *turns, size_t n) {
    size_t part = 0;
    for (size_t i = 0; i < n; i++)
        part = chat_prompt_known(p, part, text_of(turns[i].content), turns[i].ids, turns[i].n_ids);
}

static rotor_status render_template(const rotor_engine *e, const rotor_turn *turns, size_t n,
                                    const char *tools, text_ids *ids, base_buf *text,
                                    rotor_error *err) {
    chat_prompt rendered = {0};
    listing l = {0};
    if (!listing_init(&l, turns, n)) {
        listing_free(&l);
        return base_fail_nomem(err, "rendering a conversation");
    }
    for (size_t i = 0; i < n; i++) list_turn(&l, i, &turns[i]);
    const chat_conversation c = {.messages = l.messages,
                                 .extras = l.extras,
                                 .n = n,
                                 .tools = text_of(tools),
                                 .add_reply = true};
    rotor_status status = chat_render_all(e->tmpl, &c, &rendered, err);
    put_known(&rendered, turns, n);
    if (status == ROTOR_OK) status = chat_encode(&rendered, e->m->vocab, ids, err);
    *text = rendered.text;
    rendered.text = (base_buf){0};
    chat_prompt_free(&rendered);
    listing_free(&l);
    return status;
}

static rotor_status render(const rotor_engine *e, const rotor_turn *turns, size_t n,
                           const rotor_chat_options *user, text_ids *ids, base_buf *text,
                           rotor_error *err) {
    rotor_chat_options opt = rotor_chat_options_default();
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_chat_options", err));
    ROTOR_TRY(check_turns(e, turns, n, &opt, err));
    if (!e->harmony.v) return render_template(e, turns, n, opt.tools, ids, text, err);
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
