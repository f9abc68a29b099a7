/* SPDX-License-Identifier: MIT
 *
 * Built-in conversation formats, for models whose file has no usable template.
 *
 * A format is a row: what surrounds each role's content, what opens the reply, and a few habits.
 * With B and E for the texts of the begin and end tokens, and content C:
 *
 *   bitnet   System: C<|eot_id|>User: C<|eot_id|>Assistant:_     (content trimmed; _ is a space)
 *   chatml   <|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n
 *   llama3   B<|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|>…  (trimmed)
 *   llama2   B[INST] <<SYS>>\nS\n<</SYS>>\n\nC [/INST] C E B[INST] …   (trimmed)
 *   mistral  B[INST] C [/INST]C E [INST] …
 *   gemma    B<start_of_turn>user\nC<end_of_turn>\n<start_of_turn>model\n  (trimmed)
 *   zephyr   <|user|>\nCE\n<|assistant|>\n
 *   phi3     <|user|>\nC<|end|>\n<|assistant|>\n
 *   falcon3  <|user|>\nC\n<|assistant|>\n
 *   plain    S\n\nUser: C\nAssistant: C\nUser: C\nAssistant:_     (trimmed)
 *
 * llama2, mistral and gemma have no system turn: the system text opens the first user turn.
 */
#include "chat/chat_internal.h"

#include <utf8proc.h>

/* Habits of a format. */
enum {
    TRIM = 1,        /* white space around content goes */
    BOS = 2,         /* the text begins with the begin token's text */
    BOS_EACH = 4,    /* every user turn begins with it */
    ANY_ROLE = 8,    /* the role itself is printed, by the format below */
    FOLD_SYSTEM = 16 /* no system turn */
};

/* In these texts \1 stands for the role and \2 for the end token's text. */
struct chat_builtin {
    const char *name;                /* as users write it */
    unsigned habits;                 /* see above */
    const char *open, *close;        /* around content of a role without texts of its own */
    const char *user, *user_end;     /* around a user's content; NULL: open and close */
    const char *reply, *reply_end;   /* around the assistant's content; NULL: open and close */
    const char *system, *system_end; /* around the system's content; NULL: open and close */
    const char *start_reply;         /* invites the answer */
    const char *stop;                /* text that ends an answer, or NULL */
};

static const chat_builtin builtins[] = {
    {.name = "bitnet",
     .habits = TRIM | ANY_ROLE,
     .open = "\1: ",
     .close = "<|eot_id|>",
     .start_reply = "Assistant: "},
    {.name = "chatml",
     .open = "<|im_start|>\1\n",
     .close = "<|im_end|>\n",
     .start_reply = "<|im_start|>assistant\n"},
    {.name = "llama3",
     .habits = TRIM | BOS,
     .open = "<|start_header_id|>\1<|end_header_id|>\n\n",
     .close = "<|eot_id|>",
     .start_reply = "<|start_header_id|>assistant<|end_header_id|>\n\n"},
    {.name = "llama2",
     .habits = TRIM | BOS_EACH | FOLD_SYSTEM,
     .open = "",
     .close = "",
     .user = "[INST] ",
     .user_end = " [/INST]",
     .reply = " ",
     .reply_end = " \2",
     .system = "<<SYS>>\n",
     .system_end = "\n<</SYS>>\n\n",
     .start_reply = ""},
    {.name = "mistral",
     .habits = BOS | FOLD_SYSTEM,
     .open = "",
     .close = "",
     .user = "[INST] ",
     .user_end = " [/INST]",
     .reply = "",
     .reply_end = "\2 ",
     .system = "",
     .system_end = "\n\n",
     .start_reply = ""},
    {.name = "gemma",
     .habits = TRIM | BOS | FOLD_SYSTEM,
     .open = "<start_of_turn>\1\n",
     .close = "<end_of_turn>\n",
     .reply = "<start_of_turn>model\n",
     .reply_end = "<end_of_turn>\n",
     .system = "",
     .system_end = "\n\n",
     .start_reply = "<start_of_turn>model\n"},
    {.name = "zephyr", .open = "<|\1|>\n", .close = "\2\n", .start_reply = "<|assistant|>\n"},
    {.name = "phi3", .open = "<|\1|>\n", .close = "<|end|>\n", .start_reply = "<|assistant|>\n"},
    {.name = "falcon3", .open = "<|\1|>\n", .close = "\n", .start_reply = "<|assistant|>\n"},
    {.name = "plain",
     .habits = TRIM | ANY_ROLE,
     .open = "\1: ",
     .close = "\n",
     .system = "",
     .system_end = "\n\n",
     .start_reply = "Assistant: ",
     .stop = "\nUser:"},
};

const char *chat_builtin_name(size_t i) {
    return i < BASE_COUNT(builtins) ? builtins[i].name : NULL;
}

const chat_builtin *chat_builtin_find(base_str name) {
    for (size_t i = 0; i < BASE_COUNT(builtins); i++)
        if (base_str_is(name, builtins[i].name)) return &builtins[i];
    return NULL;
}

const char *chat_builtin_stop(const chat_builtin *b, size_t i) { return i ? NULL : b->stop; }

/* ==== Rendering =============================================================================== */

/* First letter up, the rest down; written to the prompt as it goes. */
static rotor_status add_capitalised(chat_prompt *out, base_str role, bool literal) {
    for (size_t at = 0; at < role.n;) {
        int32_t cp;
        char buf[4];
        size_t len = (size_t)base_utf8_decode(role.p + at, role.n - at, &cp);
        base_str piece = {role.p + at, len};
        if (cp >= 0) {
            int32_t to = at ? utf8proc_tolower(cp) : utf8proc_totitle(cp);
            piece = (base_str){buf, (size_t)base_utf8_encode((uint32_t)to, buf)};
        }
        ROTOR_TRY(chat_prompt_add(out, piece, literal));
        at += len;
    }
    return ROTOR_OK;
}

static rotor_status add_role(chat_prompt *out, const chat_builtin *b, base_str role) {
    bool literal = chat_role_is_literal(role);
    return b->habits & ANY_ROLE ? add_capitalised(out, role, literal)
                                : chat_prompt_add(out, role, literal);
}

/* Template text with \1 and \2 filled in. */
static rotor_status add_frame(chat_prompt *out, const chat_template *t, const char *frame,
                              base_str role) {
    while (*frame) {
        size_t n = strcspn(frame, "\1\2");
        ROTOR_TRY(chat_prompt_add(out, (base_str){frame, n}, false));
        frame += n;
        if (*frame == '\1') ROTOR_TRY(add_role(out, t->builtin, role));
        if (*frame == '\2') ROTOR_TRY(chat_prompt_add(out, base_str_of(t->eos), false));
        frame += *frame != 0;
    }
    return ROTOR_OK;
}

static rotor_status add_content(chat_prompt *out, const chat_builtin *b, base_str content) {
    jin_str s = {content.p, content.n, NULL};
    if (b->habits & TRIM) s = jin_strip(s, NULL, true, true);
    return chat_prompt_add(out, jin_bytes(s), true);
}

/* llama2 trims the system text and the first content as one text, so only its two ends. */
static rotor_status add_llama2_system(const chat_template *t, const chat_message *m,
                                      const chat_message *system, chat_prompt *out) {
    jin_str end = {t->builtin->system_end, strlen(t->builtin->system_end), NULL};
    jin_str content = jin_strip((jin_str){m->content.p, m->content.n, NULL}, NULL, false, true);
    if (!content.n) end = jin_strip(end, NULL, false, true);
    ROTOR_TRY(chat_prompt_add(out, system->content, true));
    ROTOR_TRY(chat_prompt_add(out, jin_bytes(end), false));
    ROTOR_TRY(chat_prompt_add(out, jin_bytes(content), true));
    return chat_prompt_add(out, base_str_of(t->builtin->user_end), false);
}

static rotor_status add_turn(const chat_template *t, const chat_message *m,
                             const chat_message *system, chat_prompt *out) {
    const chat_builtin *b = t->builtin;
    const char *open = b->open, *close = b->close;
    if (base_str_is(m->role, "user") && b->user) open = b->user, close = b->user_end;
    if (base_str_is(m->role, "assistant") && b->reply) open = b->reply, close = b->reply_end;
    if (base_str_is(m->role, "system") && b->system) open = b->system, close = b->system_end;
    if (b->habits & BOS_EACH && base_str_is(m->role, "user"))
        ROTOR_TRY(chat_prompt_add(out, base_str_of(t->bos), false));
    ROTOR_TRY(add_frame(out, t, open, m->role));
    if (system) {
        ROTOR_TRY(add_frame(out, t, b->system, system->role));
        if (b->habits & BOS_EACH) return add_llama2_system(t, m, system, out);
        ROTOR_TRY(add_content(out, b, system->content));
        ROTOR_TRY(add_frame(out, t, b->system_end, system->role));
    }
    ROTOR_TRY(add_content(out, b, m->content));
    return add_frame(out, t, close, m->role);
}

static rotor_status render(const chat_template *t, const chat_message *messages, size_t n,
                           bool add_reply, chat_prompt *out) {
    const chat_builtin *b = t->builtin;
    const chat_message *system = NULL;
    if (b->habits & BOS) ROTOR_TRY(chat_prompt_add(out, base_str_of(t->bos), false));
    for (size_t i = 0; i < n; i++) {
        if (b->habits & FOLD_SYSTEM && base_str_is(messages[i].role, "system")) {
            system = &messages[i];
            continue;
        }
        bool takes_system = system && base_str_is(messages[i].role, "user");
        ROTOR_TRY(add_turn(t, &messages[i], takes_system ? system : NULL, out));
        if (takes_system) system = NULL;
    }
    return add_reply ? chat_prompt_add(out, base_str_of(b->start_reply), false) : ROTOR_OK;
}

rotor_status chat_builtin_render(const chat_template *t, const chat_message *messages, size_t n,
                                 bool add_reply, chat_prompt *out, rotor_error *err) {
    rotor_status st = render(t, messages, n, add_reply, out);
    return st == ROTOR_OK ? ROTOR_OK : base_fail_nomem(err, "rendering a conversation");
}
