/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a text and as conversations to learn from. What is handed out is UTF-8
 * without white space around it, holds no mark between documents, and of a conversation only what
 * the assistant says counts.
 */
#define _GNU_SOURCE
#include "train/train.h"

#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct reader {
    bool chat;     /* conversations */
    size_t n_docs; /* so far */
} reader;

static void check_utf8(base_str s) {
    for (size_t i = 0; i < s.n;) {
        int32_t cp;
        i += (size_t)base_utf8_decode(s.p + i, s.n - i, &cp);
        if (cp < 0) abort();
    }
}

static bool is_white(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static bool begins(base_str s, const char *with) {
    return s.n >= strlen(with) && memcmp(s.p, with, strlen(with)) == 0;
}

static rotor_status one_document(void *user, const train_part *parts, size_t n, rotor_error *err) {
    reader *r = user;
    size_t n_learn = 0;
    (void)err;
    if (n < 1 || (!r->chat && n != 1)) abort();
    for (size_t i = 0; i < n; i++) {
        const train_part *p = &parts[i];
        if (!p->text.n || !p->text.p) abort();
        check_utf8(p->text);
        n_learn += p->learn;
        if (p->learn && (is_white(p->text.p[0]) || is_white(p->text.p[p->text.n - 1]))) abort();
        if (p->learn && p->ends_turn != r->chat) abort();
        if (p->learn && r->chat && (!i || !base_str_is(parts[i - 1].text, "Assistant: "))) abort();
        if (p->ends_turn && !p->learn && !begins(p->text, "User: ") && !begins(p->text, "System: "))
            abort();
        if (!r->chat && memmem(p->text.p, p->text.n, "<|endoftext|>", 13)) abort();
    }
    if (!n_learn) abort();
    r->n_docs++;
    return ROTOR_OK;
}

static void read_docs(const char *path, bool chat) {
    reader r = {.chat = chat};
    rotor_error err = {0};
    const rotor_status st = train_read_docs(path, one_document, &r, &err);
    if (st != ROTOR_OK) must_be_told(st, &err);
    if (st == ROTOR_OK && chat && !r.n_docs) abort(); /* there was text, and no conversation */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_docs(input_file_put(0, ".txt", data, size), false);
    read_docs(input_file_put(1, ".jsonl", data, size), true);
    return 0;
}
