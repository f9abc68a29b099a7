/* SPDX-License-Identifier: MIT
 *
 * What a page in a browser calls: one model, one text at a time. Bytes go in through room the page
 * asks for here, and come out by address. packaging/wasm/engine.js is the other side.
 *
 * Functions that can fail return 0, or below 0 and why_at().
 */
#include "lite/lite.h"

#define EXPORT(name) __attribute__((export_name(#name))) name

static lite *engine;    /* the model that is open */
static void *image;     /* its file, owned */
static rotor_error why; /* of the last failure */

void *EXPORT(room)(size_t n_bytes);
void EXPORT(give_back)(void *room);
int EXPORT(open_model)(void *gguf, size_t n_bytes, uint32_t ctx);
int EXPORT(begin)(const char *prompt, size_t n_bytes, uint32_t n_new, float temperature,
                  uint32_t seed);
int EXPORT(step)(void);
void EXPORT(stop)(void);
const char *EXPORT(text_at)(void);
size_t EXPORT(text_bytes)(void);
int EXPORT(token)(void);
int EXPORT(finish)(void);
uint32_t EXPORT(context)(void);
const char *EXPORT(name_at)(void);
const char *EXPORT(why_at)(void);

void *room(size_t n_bytes) { return base_alloc(n_bytes); }
void give_back(void *room_of) { base_free(room_of); }

/* gguf is room(), and this module's from now on. */
int open_model(void *gguf, size_t n_bytes, uint32_t ctx) {
    lite_close(&engine);
    base_free(image);
    image = gguf;
    const lite_options opt = {
        .data = gguf, .n_bytes = n_bytes, .name = "the model", .ctx = ctx, .threads = 1};
    return lite_open(&engine, &opt, &why);
}

int begin(const char *prompt, size_t n_bytes, uint32_t n_new, float temperature, uint32_t seed) {
    const lite_task task = {
        .prompt = {prompt, n_bytes}, .n_new = n_new, .temperature = temperature, .seed = seed};
    if (!engine) return base_fail(&why, ROTOR_E_STATE, "no model is open");
    return lite_begin(engine, &task, &why);
}

/* 1: there is another step. */
int step(void) {
    bool more = false;
    if (!engine) return base_fail(&why, ROTOR_E_STATE, "no model is open");
    const rotor_status st = lite_step(engine, &more, &why);
    return st == ROTOR_OK ? more : st;
}

void stop(void) {
    if (engine) lite_stop(engine);
}

const char *text_at(void) { return engine ? lite_text(engine).p : NULL; }
size_t text_bytes(void) { return engine ? lite_text(engine).n : 0; }
int token(void) { return engine ? (int)lite_token(engine) : -1; } /* -1: none */
int finish(void) { return engine ? (int)lite_result(engine)->finish : 0; }
uint32_t context(void) { return engine ? lite_ctx(engine) : 0; }
const char *name_at(void) { return engine ? lite_model(engine)->name : ""; }
const char *why_at(void) { return why.message; }
