/* SPDX-License-Identifier: MIT
 *
 * fuzz_calls: any text as an answer with calls in it, and as the tools that are there.
 *
 * The input's first byte chooses the family (its low bits), whether one call is enough (8), whether
 * the model ended its answer (16) and the size of pieces (the rest). Checks: the same is told
 * however the answer is cut; a call has the name of a function and an object of arguments; text
 * without calls comes back byte for byte.
 */
#include "chat/calls.h"

#include <jansson.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static const char *const families[] = {"hermes", "bar", "mistral", "args", "llama", "generic"};
static const char tools_json[] =
    "[{\"function\":{\"name\":\"f\"}},{\"function\":{\"name\":\"get_it\"}}]";

typedef struct told {
    base_buf text;  /* of the answer */
    base_buf all;   /* with calls in their places */
    size_t n_calls; /* how many */
} told;

static void on_text(void *user, base_str text) {
    told *t = user;
    if (!text.n) abort();
    base_buf_append(&t->text, text.p, text.n);
    base_buf_append(&t->all, text.p, text.n);
}

static void on_call(void *user, base_str name, base_str arguments) {
    told *t = user;
    json_t *v = json_loadb(arguments.p, arguments.n, 0, NULL);
    if (!json_is_object(v)) abort();
    json_decref(v);
    if (!base_str_is(name, "f") && !base_str_is(name, "get_it")) abort();
    base_buf_printf(&t->all, "(%.*s ", (int)name.n, name.p);
    base_buf_append(&t->all, arguments.p, arguments.n);
    base_buf_puts(&t->all, ")");
    t->n_calls++;
}

static told read_answer(const chat_tools *tools, uint8_t how, base_str answer, size_t piece) {
    told t = {0};
    chat_reader *r = NULL;
    const chat_reader_hooks hooks = {on_text, on_call, &t};
    const chat_family *f = chat_family_named(families[(how & 7) % BASE_COUNT(families)]);
    if (chat_reader_create(&r, f, tools, how & 8, &hooks) != ROTOR_OK) abort();
    for (size_t at = 0; at < answer.n; at += piece)
        if (chat_reader_put(r, (base_str){answer.p + at, BASE_MIN(piece, answer.n - at)}) !=
            ROTOR_OK)
            abort();
    if (chat_reader_end(r, how & 16) != ROTOR_OK) abort();
    if ((how & 8) && t.n_calls > 1) abort();
    chat_reader_free(&r);
    return t;
}

static bool same(const base_buf *a, const char *p, size_t n) {
    return a->len == n && (!n || memcmp(a->data, p, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    chat_tools tools = {0}, others = {0};
    rotor_error err = {0};
    if (n_bytes < 1) return 0;
    const base_str answer = {(const char *)data + 1, n_bytes - 1};
    if (chat_tools_read(&others, answer, &err) == ROTOR_OK) chat_tools_free(&others);
    if (chat_tools_read(&tools, base_str_of(tools_json), &err) != ROTOR_OK) abort();
    told whole = read_answer(&tools, data[0], answer, n_bytes);
    told cut = read_answer(&tools, data[0], answer, 1 + (data[0] >> 5));
    if (!same(&whole.all, cut.all.data, cut.all.len)) abort();
    if (!whole.n_calls && !same(&whole.text, answer.p, answer.n)) abort();
    base_buf_free(&whole.text);
    base_buf_free(&whole.all);
    base_buf_free(&cut.text);
    base_buf_free(&cut.all);
    chat_tools_free(&tools);
    return 0;
}
