/* SPDX-License-Identifier: MIT
 *
 * What protocols share that write conversations and answers in pieces: turns that are put together
 * from items or blocks, and an answer that is told as a row of parts.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

/* ==== Conversations =========================================================================== */

/* Room for one more of n elements; *list moves when it grows. */
static bool grow(serve_call *c, void **list, size_t n, size_t *cap, size_t elem_bytes) {
    if (n < *cap) return true;
    const size_t more = *cap ? 2 * *cap : 8;
    void *p = serve_keep(c, more, elem_bytes);
    if (!p) return false;
    if (n) memcpy(p, *list, n * elem_bytes);
    *list = p;
    *cap = more;
    return true;
}

rotor_turn *serve_turn_add(serve_turns *t, const char *role) {
    void *list = t->list;
    if (!grow(t->c, &list, t->n, &t->cap, sizeof *t->list)) return NULL;
    t->list = list;
    t->n_room = 0;
    t->list[t->n] = (rotor_turn){.role = role};
    return &t->list[t->n++];
}

rotor_turn *serve_turn_last(serve_turns *t, const char *role) {
    if (!t->n || strcmp(t->list[t->n - 1].role, role) != 0) return NULL;
    return &t->list[t->n - 1];
}

static bool remember(serve_turns *t, const char *id, const char *name) {
    void *names = t->names;
    if (!t->calls && base_map_create(&t->calls, 16) != ROTOR_OK) return false;
    if (!grow(t->c, &names, t->n_names, &t->cap_names, sizeof *t->names)) return false;
    t->names = names;
    t->names[t->n_names] = name;
    return base_map_put(t->calls, base_str_of(id), (uint32_t)t->n_names++, NULL) == ROTOR_OK;
}

bool serve_turn_call(serve_turns *t, const char *id, const char *name, const char *arguments) {
    rotor_turn *last = &t->list[t->n - 1];
    void *calls = (void *)(uintptr_t)last->calls;
    if (!grow(t->c, &calls, last->n_calls, &t->n_room, sizeof *last->calls)) return false;
    ((rotor_tool_call *)calls)[last->n_calls++] =
        (rotor_tool_call){.name = name, .arguments = arguments, .id = id};
    last->calls = calls;
    return !id || remember(t, id, name);
}

const char *serve_turn_called(const serve_turns *t, const char *id) {
    uint32_t i;
    if (!id || !t->calls || !base_map_get(t->calls, base_str_of(id), &i)) return "function";
    return t->names[i];
}

bool serve_turns_end(serve_turns *t, bool ok, serve_fault *f) {
    serve_call *c = t->c;
    base_map_free(&t->calls);
    if (!ok) return false;
    serve_prompt *prompt = serve_keep(c, 1, sizeof *prompt);
    if (!prompt) return serve_no_memory(f);
    for (size_t i = 0; i < t->n; i++)
        if (!rotor_chat_has_parts(c->engine)) t->list[i].reasoning = NULL;
    prompt->turns = t->list;
    prompt->n_turns = t->n;
    c->req.prompts = prompt;
    c->req.n_prompts = 1;
    return true;
}

/* ==== Parts of an answer ====================================================================== */

static serve_part_kind kind_of(const serve_event *e) {
    return e->kind == SERVE_TEXT        ? SERVE_PART_TEXT
           : e->kind == SERVE_REASONING ? SERVE_PART_REASONING
                                        : SERVE_PART_CALL;
}

static serve_part *add_part(serve_call *c, serve_parts *p, const serve_event *e) {
    void *list = p->list;
    if (!grow(c, &list, p->n, &p->cap, sizeof *p->list)) return NULL;
    p->list = list;
    serve_part *part = &p->list[p->n++];
    *part = (serve_part){.kind = kind_of(e), .index = p->n - 1, .call = e->call};
    if (part->kind != SERVE_PART_CALL)
        part->from =
            (part->kind == SERVE_PART_TEXT ? e->choice->text.len : e->choice->reasoning.len) -
            e->n_bytes;
    p->open = true;
    return part;
}

static void end_part(serve_call *c, serve_parts *p, const serve_part_hooks *h, base_buf *out) {
    if (!p->open) return;
    p->open = false;
    if (out) h->end(c, &p->list[p->n - 1], out);
}

static void more_of_part(serve_call *c, serve_parts *p, const serve_part_hooks *h,
                         const serve_event *e, base_buf *out) {
    const bool same =
        p->open && p->list[p->n - 1].kind == kind_of(e) && e->kind != SERVE_CALL_BEGIN;
    if (!same && !e->n_bytes && e->kind != SERVE_CALL_BEGIN) return;
    if (!same) {
        end_part(c, p, h, out);
        serve_part *part = add_part(c, p, e);
        if (!part) return;
        h->named(part);
        if (out) h->begin(c, part, out);
    }
    serve_part *part = &p->list[p->n - 1];
    part->n_bytes += e->n_bytes;
    if (out && e->n_bytes) h->more(c, part, e, out);
}

void serve_parts_event(serve_call *c, serve_parts *p, const serve_part_hooks *h,
                       const serve_event *e, base_buf *out) {
    switch (e->kind) {
    case SERVE_TEXT:
    case SERVE_REASONING:
    case SERVE_CALL_BEGIN:
    case SERVE_CALL_ARGUMENTS:
        more_of_part(c, p, h, e, out);
        break;
    case SERVE_CALL_END:
    case SERVE_CHOICE_END:
        end_part(c, p, h, out);
        break;
    default:
        break;
    }
}

json_t *serve_part_text(const serve_call *c, const serve_part *part) {
    const serve_choice *ch = &c->choices[0];
    if (part->kind == SERVE_PART_CALL) {
        const base_buf *b = &ch->calls[part->call].arguments;
        return serve_json_text(b->data, b->len);
    }
    const base_buf *b = part->kind == SERVE_PART_TEXT ? &ch->text : &ch->reasoning;
    return serve_json_text(part->n_bytes ? b->data + part->from : "", part->n_bytes);
}

json_t *serve_arguments(const serve_tool_call *t) {
    json_t *v = json_loadb(t->arguments.len ? t->arguments.data : "{}",
                           t->arguments.len ? t->arguments.len : 2, 0, NULL);
    if (json_is_object(v)) return v;
    json_decref(v);
    return json_pack("{s:o}", "text", serve_json_text(t->arguments.data, t->arguments.len));
}
