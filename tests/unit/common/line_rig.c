/* SPDX-License-Identifier: MIT
 *
 * A model on an engine, and the tokens it is fed.
 */
#include "line_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void must(rotor_status st, const rotor_error *err) {
    if (st == ROTOR_OK) return;
    fprintf(stderr, "line_rig: %s\n", err->message);
    abort();
}

void line_open(line_rig *r, const char *path, const char *lora, int n_threads) {
    const model_options mo = {.i2s = -1};
    rotor_error err = {0};
    memset(r, 0, sizeof *r);
    must(par_create(&r->pool, n_threads, false, &err), &err);
    must(model_open(&r->m, path, &mo, &err), &err);
    if (lora) must(model_adapter_open(&r->a, lora, r->m, &mo, &err), &err);
}

rotor_status line_try(line_rig *r, run_options o, rotor_error *err) {
    o.adapter = r->a;
    ROTOR_TRY(run_create(&r->e, r->m, r->pool, &o, err));
    return run_session_create(&r->s, r->e, LINE_MAX_TOK, err);
}

void line_up(line_rig *r, run_options o) {
    rotor_error err = {0};
    must(line_try(r, o, &err), &err);
}

void line_down(line_rig *r) {
    run_session_free(&r->s);
    run_free(&r->e);
    model_adapter_close(&r->a);
    model_close(&r->m);
    par_free(&r->pool);
}

void line_feed(line_rig *r, uint32_t n) {
    uint32_t tokens[LINE_MAX_TOK];
    rotor_error err = {0};
    for (uint32_t i = 0; i < n; i++) tokens[i] = (i * 37u + i / 11u * 5u) % 95u;
    must(run_session_sync(r->s, tokens, n, NULL, NULL, NULL, &err), &err);
}

const float *line_logits(line_rig *r, uint32_t n) {
    line_feed(r, n);
    return run_logits(r->e, 0);
}

double line_distance(const float *a, const float *b, size_t n) {
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return sqrt(diff / norm);
}
