/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a session file of a small model (the first layer of the story model),
 * as they are and with the right sum written behind them. What loads has the tokens of the file and
 * goes on; what does not leaves the session as it was.
 */
#define _GNU_SOURCE
#include "input_file.h"
#include "session_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void load(const uint8_t *data, size_t size) {
    static const uint32_t before[3] = {1, 2, 3};
    run_session *s = the_session;
    const char *path = input_file_put(0, ".session", data, size);
    rotor_error err = {0};
    base_buf note = {0};
    uint32_t len;
    if (run_session_sync(s, before, 3, NULL, NULL, NULL, &err) != ROTOR_OK) die(&err);
    const rotor_status st = run_session_load(s, path, &note, &err);
    if (st != ROTOR_OK) {
        must_be_told(st, &err);
        if (run_session_len(s) != 3 || memcmp(run_session_tokens(s), before, sizeof before) != 0)
            abort();
    } else {
        memcpy(&len, data + AT_LEN, sizeof len);
        if (run_session_len(s) != len || len > CTX) abort();
        if (memcmp(run_session_tokens(s), data + HEAD_BYTES, 4 * len) != 0) abort();
        if (note.len && memcmp(note.data, data + HEAD_BYTES + 4 * len, note.len) != 0) abort();
        goes_on(s);
    }
    base_buf_free(&note);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t copy[MOST_BYTES];
    if (!the_session) open_once("fuzz_session");
    load(data, size);
    if (size > MOST_BYTES) return 0;
    memcpy(copy, data, size);
    if (seal(copy, size)) load(copy, size);
    return 0;
}
