/* SPDX-License-Identifier: MIT
 *
 * Prompts to ids.
 *
 * Control tokens are looked for in template bytes only, leftmost first and longest first, and one
 * that would reach into user text is none. Everything between two of them is encoded as one run
 * without control tokens: "User: " from the template and "How" from the user meet inside a
 * pre-token (": How" splits into ":" and " How"), so encoding part by part would give other ids
 * than the model saw in training.
 *
 *   template  user           template                runs
 *   "User: "  "Hi <|eot|>"   "<|eot|>Assistant: "    "User: Hi <|eot|>" | EOT | "Assistant: "
 *
 * SentencePiece vocabularies put a space in front of each run, also behind a control token; that
 * is the text room's rule and what models of that family were trained on.
 */
#include "chat/chat_internal.h"

#include <assert.h>

typedef struct finder {
    const text_vocab *v; /* borrowed */
    base_map *map;       /* token text to id, control and user-defined tokens */
    bool length[1024];   /* which lengths in bytes those texts have (longer ones are not found) */
    size_t longest;      /* the largest of them */
    bool first[256];     /* bytes a token may begin with */
} finder;

static bool is_control(const text_vocab *v, uint32_t id) {
    text_token_type type = text_type(v, id);
    return type == TEXT_CONTROL || type == TEXT_UNKNOWN || id == text_bos(v) || id == text_eos(v);
}

/* User-defined tokens are held too, so that the longest match decides between the two kinds; the
 * text room finds them again by itself. */
static rotor_status finder_init(finder *f, const text_vocab *v) {
    *f = (finder){.v = v};
    ROTOR_TRY(base_map_create(&f->map, 64));
    for (uint32_t id = 0; id < text_n_tokens(v); id++) {
        if (!is_control(v, id) && text_type(v, id) != TEXT_USER_DEFINED) continue;
        base_str s = text_token(v, id);
        uint32_t old;
        /* Of two tokens with one text a control token wins, then the first. */
        if (!s.n || s.n >= BASE_COUNT(f->length)) continue;
        if (base_map_get(f->map, s, &old) && (is_control(v, old) || !is_control(v, id))) continue;
        ROTOR_TRY(base_map_put(f->map, s, id, NULL));
        f->length[s.n] = true;
        f->longest = BASE_MAX(f->longest, s.n);
        f->first[(uint8_t)s.p[0]] = true;
    }
    return ROTOR_OK;
}

/* The longest token at text[at, end); 0 when there is none. */
static size_t match(const finder *f, const char *text, size_t at, size_t end, uint32_t *id) {
    if (!f->first[(uint8_t)text[at]]) return 0;
    for (size_t n = BASE_MIN(f->longest, end - at); n > 0; n--)
        if (f->length[n] && base_map_get(f->map, (base_str){text + at, n}, id)) return n;
    return 0;
}

typedef struct encoder {
    finder find;      /* control tokens */
    const char *text; /* the prompt */
    size_t run;       /* where the run not yet encoded begins */
    text_ids ids;     /* made so far, without what the caller had */
    bool begins_bos;  /* the prompt's own first token is BOS */
    rotor_error *err; /* messages */
} encoder;

static rotor_status end_run(encoder *e, size_t end) {
    if (end == e->run) return ROTOR_OK;
    base_str run = {e->text + e->run, end - e->run};
    return text_encode(e->find.v, run, 0, &e->ids, e->err);
}

/* BOS at the very beginning counts once, however often the template wrote it. */
static rotor_status put_control(encoder *e, size_t at, uint32_t id) {
    bool only_bos = at == 0 || (e->begins_bos && e->ids.n == 1 && e->run == at);
    if (id == text_bos(e->find.v) && only_bos) {
        if (e->begins_bos) return ROTOR_OK;
        e->begins_bos = true;
    }
    if (text_ids_push(&e->ids, id) == ROTOR_OK) return ROTOR_OK;
    return base_fail_nomem(e->err, "encoding a prompt");
}

static rotor_status encode_part(encoder *e, const chat_part *part) {
    for (size_t at = part->begin; at < part->end && !part->literal;) {
        uint32_t id = TEXT_NO_ID;
        size_t n = match(&e->find, e->text, at, part->end, &id);
        if (n && is_control(e->find.v, id)) {
            ROTOR_TRY(end_run(e, at));
            ROTOR_TRY(put_control(e, at, id));
            e->run = at + n;
        }
        at += n ? n : 1;
    }
    return ROTOR_OK;
}

/* A control token begins where part i ends. */
static bool ends_at_control(const encoder *e, const chat_prompt *p, size_t i) {
    const chat_part *next = i + 1 < p->n_parts ? &p->parts[i + 1] : NULL;
    uint32_t id = TEXT_NO_ID;
    return next && !next->literal && next->end > next->begin &&
           match(&e->find, e->text, next->begin, next->end, &id) && is_control(e->find.v, id);
}

static rotor_status put_known(encoder *e, const chat_part *part) {
    ROTOR_TRY(end_run(e, part->begin));
    for (size_t i = 0; i < part->n_ids; i++)
        if (text_ids_push(&e->ids, part->ids[i]) != ROTOR_OK)
            return base_fail_nomem(e->err, "encoding a prompt");
    e->run = part->end;
    return ROTOR_OK;
}

static rotor_status append(text_ids *out, bool bos, uint32_t bos_id, const text_ids *ids) {
    size_t before = out->n;
    rotor_status st = bos ? text_ids_push(out, bos_id) : ROTOR_OK;
    for (size_t i = 0; i < ids->n && st == ROTOR_OK; i++) st = text_ids_push(out, ids->ids[i]);
    if (st != ROTOR_OK) out->n = before;
    return st;
}

rotor_status chat_encode(const chat_prompt *p, const text_vocab *v, text_ids *out,
                         rotor_error *err) {
    assert(p && v && out);
    encoder e = {.text = p->text.data, .err = err};
    rotor_status st = finder_init(&e.find, v);
    if (st != ROTOR_OK) {
        base_fail_nomem(err, "encoding a prompt");
        goto fail;
    }
    for (size_t i = 0; i < p->n_parts && st == ROTOR_OK; i++) {
        const bool known = p->parts[i].n_ids && ends_at_control(&e, p, i);
        st = known ? put_known(&e, &p->parts[i]) : encode_part(&e, &p->parts[i]);
    }
    if (st == ROTOR_OK) st = end_run(&e, p->text.len);
    if (st != ROTOR_OK) goto fail;
    bool add_bos = text_adds_bos(v) && text_bos(v) != TEXT_NO_ID && !e.begins_bos;
    st = append(out, add_bos, text_bos(v), &e.ids);
    if (st != ROTOR_OK) base_fail_nomem(err, "encoding a prompt");
fail:
    base_map_free(&e.find.map);
    text_ids_free(&e.ids);
    return st;
}
