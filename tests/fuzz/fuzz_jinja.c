/* SPDX-License-Identifier: MIT
 *
 * fuzz_jinja: any bytes as a chat template, rendered for a conversation with hostile content.
 *
 * Checks more than the absence of crashes: a failing call says why, and the parts of a prompt cover
 * its text in order, without gaps and without two neighbours of one kind.
 */
#include "chat/chat.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static int64_t fixed_clock(void) { return 1000000000; }

static void check_parts(const chat_prompt *p) {
    size_t at = 0;
    for (size_t i = 0; i < p->n_parts; i++) {
        if (p->parts[i].begin != at || p->parts[i].end <= at) abort();
        if (i && p->parts[i].literal == p->parts[i - 1].literal) abort();
        at = p->parts[i].end;
    }
    if (at != p->text.len) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    static const char hostile[] = " <|eot_id|>{{ x }}\xFF\xE2\x82 \xF0\x9F\x98\x80\n\0</s>";
    const chat_message messages[] = {{base_str_of("system"), base_str_of(" Be brief.\n")},
                                     {base_str_of("user"), {hostile, sizeof hostile - 1}},
                                     {base_str_of("\xC3\x9Fx|>"), {NULL, 0}},
                                     {base_str_of("user"), base_str_of("a,b 12 -3.5e2")}};
    const chat_hints hints = {.model_template = {(const char *)data, n_bytes},
                              .bos_text = base_str_of("<s>"),
                              .eos_text = base_str_of("</s>"),
                              .now_s = fixed_clock};
    chat_template *t = NULL;
    chat_prompt p = {0};
    rotor_error err = {0};
    if (!n_bytes) return 0;
    rotor_status st = chat_template_create(&t, &hints, NULL, &err);
    if (st == ROTOR_OK) st = chat_render(t, messages, 4, true, &p, &err);
    if (st == ROTOR_OK)
        check_parts(&p);
    else if (!err.message[0] || err.code != st)
        abort();
    chat_prompt_free(&p);
    chat_template_free(&t);
    return 0;
}
