/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a file of a prefix store, under the name of the tokens it claims to
 * have; as they are, and with the right sum written behind them. The store opens, whatever they
 * are; what it finds and loads has these tokens and goes on; what it does not load leaves the
 * session empty, and no page lost.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "session_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64], model_part[17]; /* names of this model's files begin like this */

static void remove_folder(void) { rmdir(folder); }

static run_store *open_store(void) {
    const run_store_options o = {.dir = folder, .min_tok = 1};
    rotor_error err = {0};
    run_store *s = NULL;
    if (run_store_open(&s, run_session_engine(the_session), &o, &err) != ROTOR_OK) die(&err);
    return s;
}

static void remove_files(void) {
    char **names, path[512];
    size_t n;
    if (base_list_dir(folder, &names, &n, NULL) != ROTOR_OK) abort();
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    base_names_free(names, n);
}

/* A file of the store's own says how names begin. */
static void learn_names(void) {
    static const uint32_t tokens[4] = {1, 2, 3, 4};
    char **names;
    size_t n;
    rotor_error err = {0};
    run_store *s = open_store();
    if (run_session_sync(the_session, tokens, 4, NULL, NULL, NULL, &err) != ROTOR_OK) die(&err);
    run_store_keep(s, the_session);
    run_store_close(&s);
    if (base_list_dir(folder, &names, &n, NULL) != ROTOR_OK || n != 1) abort();
    memcpy(model_part, names[0], 16);
    base_names_free(names, n);
    remove_files();
}

static void set_up(void) {
    open_once("fuzz_prefix_store");
    snprintf(folder, sizeof folder, "%s/rotor_fuzz_XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) abort();
    atexit(remove_folder);
    learn_names();
}

/* Tokens that the bytes claim to hold, at most CTX, into out. */
static uint32_t claimed(const uint8_t *data, size_t size, uint32_t *out) {
    uint32_t n = 0;
    if (size >= HEAD_BYTES) memcpy(&n, data + AT_LEN, sizeof n);
    if (n > CTX || size < HEAD_BYTES + 4ull * n) n = 0;
    memcpy(out, data + (n ? HEAD_BYTES : 0), 4ull * n);
    return n;
}

static void put(const uint8_t *data, size_t size, const uint32_t *tokens, uint32_t n) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s-%016llx.prefix", folder, model_part,
             (unsigned long long)base_hash64(tokens, 4ull * n, 0));
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) abort();
}

static void use(const uint8_t *data, size_t size) {
    uint32_t tokens[CTX + 1];
    const uint32_t n = claimed(data, size, tokens);
    run_session *s = the_session;
    run_engine *e = run_session_engine(s);
    run_session_rewind(s, 0);
    const uint32_t free_pages = run_free_pages(e);
    put(data, size, tokens, n);
    run_store *st = open_store();
    tokens[n] = 1;
    if (run_store_find(st, tokens, n + 1, 0)) {
        if (run_store_load(st, s)) {
            if (run_session_len(s) != n || memcmp(run_session_tokens(s), tokens, 4ull * n) != 0)
                abort();
            goes_on(s);
            run_session_rewind(s, 0);
        }
        if (run_session_len(s) != 0) abort();
    }
    run_store_close(&st);
    if (run_free_pages(e) != free_pages) abort();
    remove_files();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t copy[MOST_BYTES];
    if (!the_session) set_up();
    use(data, size);
    if (size > MOST_BYTES) return 0;
    memcpy(copy, data, size);
    if (seal(copy, size)) use(copy, size);
    return 0;
}
