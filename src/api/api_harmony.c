/* SPDX-License-Identifier: MIT
 *
 * Which engines speak Harmony, and turns of the public interface as its messages.
 *
 * The system turns become the instructions of the developer message, as the format wants it. An
 * answer that is given as text goes to the final channel, its reasoning to analysis before it, its
 * calls to commentary behind it.
 */
#include "api/api_internal.h"

#include <stdio.h>

/* ==== Choosing ================================================================================ */

static bool contains(base_str s, const char *what) {
    size_t n = strlen(what);
    for (size_t i = 0; i + n <= s.n; i++)
        if (memcmp(s.p + i, what, n) == 0) return true;
    return false;
}

rotor_status api_choose_harmony(rotor_engine *e, rotor_error *err) {
    const char *override = e->opt.chat_template;
    bool asked = override && strcmp(override, "harmony") == 0;
    bool arch = strcmp(e->m->arch, "gpt-oss") == 0 || strcmp(e->m->arch, "gptoss") == 0;
    bool own =
        contains(e->m->chat_template, "<|start|>") && contains(e->m->chat_template, "<|channel|>");
    if (!asked && (override || !(arch || own))) return ROTOR_OK;
    if (asked && !e->m->vocab)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "chat template harmony: %s has no vocabulary",
                         e->m->name);
    if (!e->m->vocab) return ROTOR_OK;
    rotor_status status = harmony_find(&e->harmony, e->m->vocab, err);
    if (status != ROTOR_OK)
        return asked ? base_fail_in(err, status, "chat template harmony") : ROTOR_OK;
    if (harmony_guide_create(&e->guide, &e->harmony, e->m->hp.n_vocab) != ROTOR_OK)
        return base_fail_nomem(err, "reading the vocabulary");
    e->has_template = true;
    e->harmony_line = asked  ? "harmony (built in; asked for)"
                      : arch ? "harmony (built in; gpt-oss model)"
                             : "harmony (built in; the model's own template has its marks)";
    return ROTOR_OK;
}

/* ==== Turns =================================================================================== */

typedef struct listing {
    harmony_message *m;    /* [n], owned */
    size_t n;              /* used */
    base_buf instructions; /* the system turns, a blank line between two */
} listing;

static base_str text_of(const char *s) { return s ? base_str_of(s) : (base_str){0}; }

static void add_assistant(listing *l, const rotor_turn *t) {
    const base_str role = base_str_of("assistant");
    if (t->n_ids) {
        l->m[l->n++] = (harmony_message){.role = role, .ids = t->ids, .n_ids = t->n_ids};
        return;
    }
    if (t->reasoning && *t->reasoning)
        l->m[l->n++] = (harmony_message){
            .role = role, .channel = base_str_of("analysis"), .content = base_str_of(t->reasoning)};
    if (t->content && (*t->content || !t->n_calls)) /* before a call it is no answer yet */
        l->m[l->n++] =
            (harmony_message){.role = role,
                              .channel = base_str_of(t->n_calls ? "commentary" : "final"),
                              .content = base_str_of(t->content)};
    for (size_t i = 0; i < t->n_calls; i++)
        l->m[l->n++] = (harmony_message){.role = role,
                                         .recipient = text_of(t->calls[i].name),
                                         .function = true,
                                         .channel = base_str_of("commentary"),
                                         .content_type = base_str_of("json"),
                                         .constrained = true,
                                         .content = text_of(t->calls[i].arguments)};
}

static void add_turn(listing *l, const rotor_turn *t) {
    if (strcmp(t->role, "system") == 0 || strcmp(t->role, "developer") == 0) {
        if (l->instructions.len) base_buf_puts(&l->instructions, "\n\n");
        base_buf_puts(&l->instructions, t->content ? t->content : "");
    } else if (strcmp(t->role, "assistant") == 0) {
        add_assistant(l, t);
    } else if (strcmp(t->role, "tool") == 0) {
        l->m[l->n++] = (harmony_message){.role = base_str_of("tool"),
                                         .name = text_of(t->name),
                                         .function = true,
                                         .recipient = base_str_of("assistant"),
                                         .channel = base_str_of("commentary"),
                                         .content = text_of(t->content)};
    } else {
        l->m[l->n++] =
            (harmony_message){.role = base_str_of(t->role), .content = text_of(t->content)};
    }
}

/* Today in UTC, "2025-06-28". */
static void write_date(char out[32], int64_t unix_s) {
    int64_t days = unix_s / 86400 + 719468, era = days / 146097, day = days - era * 146097;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t of_year = day - (365 * year + year / 4 - year / 100), m = (5 * of_year + 2) / 153;
    int month = (int)(m < 10 ? m + 3 : m - 9);
    snprintf(out, 32, "%04d-%02d-%02d", (int)(year + era * 400 + (month <= 2)), month,
             (int)(of_year - (153 * m + 2) / 5 + 1));
}

rotor_status api_render_harmony(const rotor_engine *e, const rotor_turn *turns, size_t n,
                                const rotor_chat_options *opt, text_ids *out, rotor_error *err) {
    static const harmony_effort efforts[] = {HARMONY_MEDIUM, HARMONY_LOW, HARMONY_MEDIUM,
                                             HARMONY_HIGH};
    listing l = {0};
    char today[32];
    size_t room = 0;
    if (opt->effort > ROTOR_EFFORT_HIGH)
        return base_fail(err, ROTOR_E_ARG, "rotor_chat_options: unknown effort %d",
                         (int)opt->effort);
    for (size_t i = 0; i < n; i++) room += 2 + turns[i].n_calls;
    l.m = base_alloc_array(room, sizeof *l.m);
    if (!l.m) return base_fail_nomem(err, "rendering a conversation");
    for (size_t i = 0; i < n; i++) add_turn(&l, &turns[i]);
    write_date(today, base_unix_s());
    harmony_chat c = {.date = base_str_of(opt->date ? opt->date : today),
                      .effort = efforts[opt->effort],
                      .instructions = {l.instructions.data, l.instructions.len},
                      .tools = text_of(opt->tools),
                      .messages = l.m,
                      .n_messages = l.n,
                      .add_reply = true};
    rotor_status status = l.instructions.failed ? base_fail_nomem(err, "rendering a conversation")
                                                : harmony_render(&e->harmony, &c, out, err);
    base_buf_free(&l.instructions);
    base_free(l.m);
    return status;
}
