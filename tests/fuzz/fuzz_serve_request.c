/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as the body of a request. The first byte chooses the protocol, by its
 * place among the routes that have one; the rest goes the way of a body up to the tokens. What is
 * taken has tokens that the model knows; what is not says why, in JSON, as a fault of the client's.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "serve/serve_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[] = {"stories"};
static serve_model the_model = {.id = "stories"};
static serve_server the_server;

static void open_once(void) {
    char path[4096];
    rotor_error err = {0};
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    rotor_engine_options o = rotor_engine_options_default();
    o.threads = 1;
    o.ctx = 256;
    snprintf(path, sizeof path, "%s/tests/data/model/stories260K.gguf", root ? root : ".");
    the_model.info.size = sizeof the_model.info;
    if (rotor_engine_open(&the_model.engine, path, &o, &err) ||
        rotor_engine_get_info(the_model.engine, &the_model.info)) {
        fprintf(stderr, "fuzz_serve_request: %s\n", err.message);
        abort(); /* it lives as long as the process */
    }
    the_server.opt = serve_options_default();
    the_server.opt.models = names;
    the_server.opt.n_models = 1;
    the_server.models = &the_model;
}

static const serve_dialect *dialect_of(uint8_t number) {
    const serve_dialect *list[32];
    size_t n = 0;
    const serve_route *r;
    for (size_t i = 0; (r = serve_route_at(i)) && n < BASE_COUNT(list); i++)
        if (r->dialect && r->handle == serve_generate) list[n++] = r->dialect;
    return list[(uint8_t)(number - '0') % n];
}

static void check_taken(const serve_call *c) {
    if (!c->n_choices || c->n_choices != c->req.n_prompts * c->req.n) abort();
    for (size_t i = 0; i < c->req.n_prompts; i++) {
        const serve_prompt *p = &c->req.prompts[i];
        if (!p->n_tokens || p->n_tokens >= the_model.info.n_ctx) abort();
        for (size_t k = 0; k < p->n_tokens; k++)
            if (p->tokens[k] >= the_model.info.n_vocab) abort();
    }
}

static void check_refused(const serve_call *c, const serve_fault *f) {
    base_buf text = {0};
    if (f->status < 400 || f->status > 501 || f->status == 500 || !f->type || !f->message[0])
        abort();
    serve_put_json(&text, c->dialect->fault(f));
    if (text.failed || !text.len) abort();
    base_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    serve_fault f = {0};
    base_buf body = {0};
    if (!the_model.engine) open_once();
    if (!size) return 0;
    serve_call *c = serve_call_create(&the_server);
    if (!c || !base_buf_reserve(&body, size)) abort();
    base_buf_append(&body, data + 1, size - 1);
    c->dialect = dialect_of(data[0]);
    if (serve_prepare(c, &body, &f))
        check_taken(c);
    else
        check_refused(c, &f);
    serve_call_release(c);
    base_buf_free(&body);
    return 0;
}
