/* SPDX-License-Identifier: MIT
 *
 * A question is rewritten before it is searched for: a call of our own, with one short greedy
 * answer, goes to the worker like any other and takes its turn among them, so that neither the
 * worker nor the librarian waits for it. The call it is for (its parent) lies still meanwhile: it
 * counts among those who wait, in no list, and whoever has the child looks after it.
 *
 * Whatever becomes of the child, the parent goes back to the librarian, with the question as it was
 * if need be: if it was left by its client, that is noticed there. The child's tokens are counted
 * like others; its place in the cache is given back (jobs.c).
 */
#include "serve/serve_internal.h"

/* Nothing of it is sent to anybody. */
static void no_event(serve_call *c, const serve_event *e, base_buf *out) {
    (void)c, (void)e, (void)out;
}

const serve_dialect serve_rewrite_dialect = {
    .name = "rewrite", .event = no_event, .fault = serve_openai_fault};

static bool prepare(serve_call *child, serve_call *c, const char *prompt) {
    serve_fault f = {0};
    const rotor_gen_options gen = rotor_rag_rewrite_options(c->engine);
    char *kept = serve_keep(child, strlen(prompt) + 1, 1);
    if (!kept) return false;
    memcpy(kept, prompt, strlen(prompt));
    child->dialect = &serve_rewrite_dialect;
    child->inside->generates = true;
    if (!serve_hold(child, c->inside->model)) return false; /* it is awake: c holds it, too */
    return serve_prepare_turn(child, kept, &gen, &f);
}

bool serve_rewrite(serve_call *c) {
    serve_fault f = {0};
    char *prompt = serve_rewriting_prompt(c);
    serve_call *child = prompt ? serve_call_create(c->inside->s) : NULL;
    bool ok = child && prepare(child, c, prompt);
    if (ok) {
        child->inside->parent = c;
        ok = serve_submit(child, &f); /* from here on c is the worker's */
    }
    if (!ok) serve_put_rewritten(c, NULL, 0); /* it is nobody else's */
    if (child && !ok) serve_call_release(child);
    rotor_free(prompt);
    return ok;
}

/* What is cut off in the middle is no question. */
void serve_end_rewriting(serve_call *c) {
    const serve_choice *ch = &c->choices[0];
    serve_call *parent = c->inside->parent;
    const bool whole = ch->finish == SERVE_STOP && !c->inside->cancelled && !c->inside->failed;
    serve_put_rewritten(parent, ch->text.data, whole ? ch->text.len : 0);
    serve_search_again(parent);
    serve_call_release(c); /* for who would read it; the worker's own follows */
}
