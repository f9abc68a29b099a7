/* SPDX-License-Identifier: MIT
 *
 * Which template a model gets, and rendering through the one chosen.
 *
 * The order of choice: what the user asked for; the built-in format of a BitNet model; the file's
 * own template; the format whose tokens the vocabulary has; plain.
 */
#include "chat/chat_internal.h"

#include <assert.h>
#include <stdio.h>

/* ==== Rendering =============================================================================== */

static rotor_status set_globals(jin_rt *rt, const chat_template *t, const chat_conversation *talk) {
    ROTOR_TRY(chat_set_messages(rt, talk));
    ROTOR_TRY(jin_set_global(rt, "add_generation_prompt", jin_of_bool(talk->add_reply)));
    ROTOR_TRY(jin_set_global(rt, "bos_token", jin_of_text(base_str_of(t->bos))));
    ROTOR_TRY(jin_set_global(rt, "eos_token", jin_of_text(base_str_of(t->eos))));
    return jin_set_global(rt, "documents", jin_none());
}

/* Marked text to parts. */
static rotor_status take_output(const jin_rt *rt, chat_prompt *out) {
    const char *text = rt->out.data, *marks = rt->marks.data;
    for (size_t begin = 0, end; begin < rt->out.len; begin = end) {
        for (end = begin; end < rt->out.len && marks[end] == marks[begin];) end++;
        ROTOR_TRY(chat_prompt_add(out, (base_str){text + begin, end - begin}, marks[begin]));
    }
    return ROTOR_OK;
}

static rotor_status render_jinja(const chat_template *t, const chat_conversation *talk,
                                 chat_prompt *out, rotor_error *err) {
    jin_rt rt;
    rotor_status st = jin_rt_init(&rt, t->now_s(), err);
    if (st == ROTOR_OK) st = set_globals(&rt, t, talk);
    if (st == ROTOR_OK) st = jin_render(&rt, &t->tree);
    if (st == ROTOR_OK && take_output(&rt, out) != ROTOR_OK)
        st = base_fail_nomem(err, "rendering a conversation");
    jin_rt_free(&rt);
    return st;
}

rotor_status chat_render_all(const chat_template *t, const chat_conversation *talk,
                             chat_prompt *out, rotor_error *err) {
    assert(t && out);
    chat_prompt made = {0};
    rotor_status st =
        t->builtin ? chat_builtin_render(t, talk->messages, talk->n, talk->add_reply, &made, err)
                   : render_jinja(t, talk, &made, err);
    if (st != ROTOR_OK) return chat_prompt_free(&made), st;
    *out = made;
    return ROTOR_OK;
}

rotor_status chat_render(const chat_template *t, const chat_message *messages, size_t n,
                         bool add_reply, chat_prompt *out, rotor_error *err) {
    const chat_conversation talk = {.messages = messages, .n = n, .add_reply = add_reply};
    return chat_render_all(t, &talk, out, err);
}

const chat_family *chat_calls_of(const chat_template *t) { return t->calls; }

/* ==== Choosing ================================================================================ */

static int64_t machine_clock(void) { return base_unix_s(); }

static bool looks_like_jinja(base_str s) {
    for (size_t i = 0; i + 1 < s.n; i++)
        if (s.p[i] == '{' && (s.p[i + 1] == '{' || s.p[i + 1] == '%')) return true;
    return false;
}

static rotor_status use_builtin(chat_template *t, base_str name, const char *why) {
    t->builtin = chat_builtin_find(name);
    assert(t->builtin);
    snprintf(t->describe, sizeof t->describe, "%.*s (built in; %s)", (int)name.n, name.p, why);
    return ROTOR_OK;
}

/* A conversation of one word finds the methods and functions outside the subset at load time, not
 * at the first request. Other failures may be this conversation's fault and are no reason to refuse
 * the template. */
static rotor_status try_out(const chat_template *t, rotor_error *err) {
    chat_message hello = {base_str_of("user"), base_str_of("Hello")};
    chat_prompt p = {0};
    rotor_status st = chat_render(t, &hello, 1, true, &p, err);
    chat_prompt_free(&p);
    return st == ROTOR_E_UNSUPPORTED || st == ROTOR_E_NOMEM ? st : ROTOR_OK;
}

/* A template knows tools if it says the name of one. */
static rotor_status find_calls(chat_template *t, base_str source, const text_vocab *v) {
    const chat_message hello = {base_str_of("user"), base_str_of("Hello")};
    const chat_conversation c = {
        .messages = &hello,
        .n = 1,
        .tools = base_str_of("[{\"type\":\"function\",\"function\":{\"name\":"
                             "\"a_function_nobody_has\",\"description\":\"\",\"parameters\":"
                             "{\"type\":\"object\",\"properties\":{},\"required\":[]}}}]"),
        .add_reply = true};
    chat_prompt p = {0};
    if (!chat_has(source, "tools")) return ROTOR_OK;
    const rotor_status st = chat_render_all(t, &c, &p, NULL);
    if (st == ROTOR_OK && chat_has((base_str){p.text.data, p.text.len}, "a_function_nobody_has"))
        t->calls = chat_family_of(source, v);
    chat_prompt_free(&p);
    return st == ROTOR_E_NOMEM ? st : ROTOR_OK;
}

static rotor_status use_jinja(chat_template *t, base_str source, const char *whose,
                              const chat_hints *h, rotor_error *err) {
    rotor_status st = jin_parse(&t->tree, source, err);
    if (st == ROTOR_OK) st = try_out(t, err);
    if (st != ROTOR_OK) return st == ROTOR_E_NOMEM ? st : base_fail_in(err, st, "%s", whose);
    if (find_calls(t, source, h->vocab) != ROTOR_OK)
        return base_fail_nomem(err, "making a chat template");
    snprintf(t->describe, sizeof t->describe, "%s (Jinja, %zu bytes)", whose, source.n);
    return ROTOR_OK;
}

static rotor_status use_override(chat_template *t, const chat_hints *h, const char *override,
                                 rotor_error *err) {
    char names[200];
    size_t n = 0;
    if (chat_builtin_find(base_str_of(override)))
        return use_builtin(t, base_str_of(override), "asked for");
    if (looks_like_jinja(base_str_of(override)))
        return use_jinja(t, base_str_of(override), "the template asked for", h, err);
    for (size_t i = 0; chat_builtin_name(i) && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "",
                              chat_builtin_name(i));
    return base_fail(err, ROTOR_E_ARG,
                     "chat template '%.60s': neither Jinja text nor one of the built-in ones: %s",
                     override, names);
}

static rotor_status choose(chat_template *t, const chat_hints *h, const char *override,
                           rotor_error *err) {
    if (override) return use_override(t, h, override, err);
    if (h->architecture.n >= 6 && memcmp(h->architecture.p, "bitnet", 6) == 0)
        return use_builtin(t, base_str_of("bitnet"),
                           h->model_template.n ? "BitNet model; its file's template is not used"
                                               : "BitNet model");
    if (h->model_template.n)
        return use_jinja(t, h->model_template, "the model's own template", h, err);
    if (h->has_im_start)
        return use_builtin(t, base_str_of("chatml"),
                           "no template; the vocabulary has <|im_start|>");
    if (h->has_header_id)
        return use_builtin(t, base_str_of("llama3"),
                           "no template; the vocabulary has <|start_header_id|>");
    return use_builtin(t, base_str_of("plain"), "the model has no template");
}

rotor_status chat_template_create(chat_template **out, const chat_hints *hints,
                                  const char *override, rotor_error *err) {
    assert(out && hints);
    rotor_status st = ROTOR_E_NOMEM;
    chat_template *t = base_alloc(sizeof *t);
    if (!t) return base_fail_nomem(err, "making a chat template");
    t->now_s = hints->now_s ? hints->now_s : machine_clock;
    t->bos = base_strndup(hints->bos_text.p, hints->bos_text.n);
    t->eos = base_strndup(hints->eos_text.p, hints->eos_text.n);
    if (!t->bos || !t->eos) {
        base_fail_nomem(err, "making a chat template");
        goto fail;
    }
    st = choose(t, hints, override, err);
    if (st != ROTOR_OK) goto fail;
    *out = t;
    return ROTOR_OK;
fail:
    chat_template_free(&t);
    return st;
}

void chat_template_free(chat_template **t) {
    if (!t || !*t) return;
    jin_tree_free(&(*t)->tree);
    base_free((*t)->bos);
    base_free((*t)->eos);
    base_free(*t);
    *t = NULL;
}

const char *chat_template_describe(const chat_template *t) { return t->describe; }

const char *chat_stop_text(const chat_template *t, size_t i) {
    return t->builtin ? chat_builtin_stop(t->builtin, i) : NULL;
}
