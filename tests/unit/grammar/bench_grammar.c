/* SPDX-License-Identifier: MIT
 *
 * bench_grammar MODEL.gguf: what masks cost. Texts are drawn under the masks of some schemas,
 * any allowed token as likely as another but closing ones likelier; each step's mask and move are
 * timed. Prints, for each schema: the first mask, the median, the mean, the slowest, all in
 * microseconds. Not a test: built by `ninja -C build tests/unit/grammar/bench_grammar`.
 */
#include "grammar/grammar.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const schemas[] = {
    "{\"type\":\"object\"}",
    "{}",
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
    "\"integer\"},"
    "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}}},\"required\":[\"name\",\"age\"]"
    "}",
    "{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\",\"maxLength\":200},"
    "\"when\":"
    "{\"type\":\"string\",\"format\":\"date-time\"},\"kind\":{\"enum\":[\"a\",\"bee\",\"sea\"]},"
    "\"n\":"
    "{\"type\":\"integer\",\"minimum\":3,\"maximum\":4000}},\"required\":[\"title\",\"when\","
    "\"kind\","
    "\"n\"]}",
    "{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"string\"},\"kids\":{"
    "\"type\":"
    "\"array\",\"items\":{\"$ref\":\"#/$defs/n\"}}},\"required\":[\"v\",\"kids\"]}},\"$ref\":\"#/"
    "$defs/n\"}",
    "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"type\":{"
    "\"const\":"
    "\"move\"},\"x\":{\"type\":\"number\"},\"y\":{\"type\":\"number\"}},\"required\":[\"type\","
    "\"x\",\"y\"]},"
    "{\"type\":\"object\",\"properties\":{\"type\":{\"const\":\"say\"},\"text\":{\"type\":"
    "\"string\"}},"
    "\"required\":[\"type\",\"text\"]}]},\"minItems\":5}",
    "{\"type\":\"string\",\"pattern\":\"^[A-Z][a-z]+( [A-Z][a-z]+)*$\"}",
    ("{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"}},\"additionalProperties\":"
     "{\"type\":\"string\"}}"),
};

enum { TEXTS = 20, TOKENS = 200, MAX_TIMES = TEXTS * TOKENS };

static void need(rotor_status status, const rotor_error *err) {
    if (status == ROTOR_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static uint32_t draw(const grammar_allowed *a, const text_vocab *v, uint32_t n_ids, base_rng *r) {
    uint32_t id = 0;
    for (int tries = 0; tries < 1000; tries++) { /* something that closes, half of the time */
        id = base_rng_below(r, n_ids);
        const base_str s = text_token(v, id);
        const bool allowed = !(a->banned[id / 32] >> id % 32 & 1);
        if (allowed && s.n && (tries > 500 || (r->s[0] & 1) || strchr("\"]},", s.p[0]))) return id;
    }
    for (id = 0; id < n_ids; id++)
        if (!(a->banned[id / 32] >> id % 32 & 1)) return id;
    return id;
}

static void bench(const char *text, const grammar_words *w, const text_vocab *v, uint32_t n_ids) {
    static double time_us[MAX_TIMES];
    grammar *g = NULL;
    grammar_masks *m = NULL;
    rotor_error err;
    base_rng r;
    size_t n = 0;
    double first = 0, sum = 0;
    base_rng_seed(&r, 1);
    const uint64_t start = base_now_ns();
    need(grammar_from_schema(&g, base_str_of(text), &err), &err);
    need(grammar_masks_create(&m, g, w, NULL, &err), &err);
    const double read_us = (double)(base_now_ns() - start) / 1e3;
    for (int k = 0; k < TEXTS; k++) {
        uint32_t state = grammar_start(m);
        for (int i = 0; i < TOKENS; i++) {
            grammar_allowed a;
            const uint64_t t0 = base_now_ns();
            need(grammar_allow(m, state, &a, &err), &err);
            const uint64_t t1 = base_now_ns();
            const uint32_t id = draw(&a, v, n_ids, &r);
            if (text_is_eog(v, id)) break;
            const uint64_t t2 = base_now_ns();
            need(grammar_step(m, state, id, &state, &err), &err);
            time_us[n] = (double)(t1 - t0 + base_now_ns() - t2) / 1e3;
            if (!n) first = time_us[0];
            sum += time_us[n++];
        }
    }
    qsort(time_us, n, sizeof *time_us, by_value);
    const grammar_counts c = grammar_count(m);
    printf(
        "%-40.40s read %6.0f first %6.0f median %6.2f mean %6.1f p99 %6.0f max %6.0f  (%zu steps, "
        "%llu made, %llu walks, %.1f + %.1f MiB)\n",
        text, read_us, first, time_us[n / 2], sum / (double)n, time_us[n * 99 / 100],
        time_us[n - 1], n, (unsigned long long)c.n_made, (unsigned long long)c.n_walks,
        (double)c.state_bytes / 1048576, (double)c.mask_bytes / 1048576);
    grammar_masks_free(&m);
    grammar_free(&g);
}

int main(int argc, char **argv) {
    model *m = NULL;
    grammar_words *w = NULL;
    rotor_error err;
    if (argc != 2) return fprintf(stderr, "usage: bench_grammar VOCABULARY.gguf\n"), 2;
    const model_options opt = {.i2s = -1};
    need(model_open(&m, argv[1], &opt, &err), &err);
    const uint64_t start = base_now_us();
    need(grammar_words_create(&w, m->vocab, m->hp.n_vocab, NULL, NULL, &err), &err);
    printf("%u ids, tree made in %.1f ms\n", m->hp.n_vocab, (double)(base_now_us() - start) / 1e3);
    for (size_t i = 0; i < BASE_COUNT(schemas); i++) bench(schemas[i], w, m->vocab, m->hp.n_vocab);
    grammar_words_free(&w);
    model_close(&m);
    return 0;
}
