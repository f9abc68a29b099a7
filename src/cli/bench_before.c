/* SPDX-License-Identifier: MIT
 *
 * The project before this one published a small table: two ternary products, a batch of five
 * tokens, loading, a first token and a token behind cached ones. rotor bench --ops measures the
 * same things and puts its words beside them; what it did not publish is said to be so.
 *
 * A product here is a whole call: activations in, quantised and multiplied where the weights lie,
 * all results back on the host.
 */
#include "cli/bench.h"

#include <jansson.h>
#include <stdio.h>

enum { PRODUCTS = 3, REPETITIONS = 31 };

static const struct {
    const char *name;      /* of the row */
    tool_product p;        /* what */
    const char *published; /* NULL: nothing */
} products[PRODUCTS] = {{"ternary product 256 x 256", {256, 256, 1}, NULL},
                        {"ternary product 2560 x 2560", {2560, 2560, 1}, NULL},
                        {"the same, five tokens", {2560, 2560, 5}, NULL}};

/* Device to CPU, of the products named by index. */
static const struct {
    const char *name;      /* of the row */
    size_t product;        /* whose ratio */
    const char *published; /* words */
} ratios[] = {{"speed over the CPU, one token", 1, "about 2x, one layer, OpenCL on an HD 615"},
              {"speed over the CPU, five tokens", 2, "3.25x, OpenCL on an HD 615"}};

static const char *const published_load = "103 min, then 78 s (a file of 1.2 GB)";

typedef struct times {
    double cpu[PRODUCTS];    /* microseconds */
    double device[PRODUCTS]; /* 0: not measured */
} times;

static bool on_device(const bench *b) { return b->device.id[0] != 0; }

static rotor_status take_times(const bench *b, times *t, rotor_error *err) {
    const tool_ops_options opt = {
        .n_threads = b->info.threads, .cpu = cli_text(b->a, OPT_CPU), .repetitions = REPETITIONS};
    char *cache = cli_device_cache();
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; i < PRODUCTS && st == ROTOR_OK; i++) {
        st = tool_product_time(&products[i].p, "cpu", NULL, &opt, &t->cpu[i], err);
        if (st == ROTOR_OK && on_device(b))
            st = tool_product_time(&products[i].p, b->device.id, cache, &opt, &t->device[i], err);
    }
    base_free(cache);
    return st;
}

/* ==== Text ==================================================================================== */

static void row(const char *name, const char *published, const char *cpu, const char *device) {
    cli_outf("%-30s %-42s %14s %14s\n", name, published ? published : "not published", cpu, device);
}

static const char *in_us(double us, char out[32]) {
    out[0] = 0;
    if (us > 0) snprintf(out, 32, "%.1f us", us);
    return out;
}

static void text_run(const bench *b, const char *name, const char *published, double ms) {
    char text[32] = "";
    if (ms > 0) snprintf(text, sizeof text, "%.2f ms", ms);
    row(name, published, on_device(b) ? "" : text, on_device(b) ? text : "");
}

static double cached_ms(const bench *b) {
    return bench_ratio(1e3, b->of[BENCH_DECODE].tps_stat.median);
}

static void print_table(const bench *b, const times *t) {
    char cpu[32], device[32];
    cli_outf("\n");
    row("the project before this one", "published", "cpu", b->device.id);
    for (size_t i = 0; i < PRODUCTS; i++)
        row(products[i].name, products[i].published, in_us(t->cpu[i], cpu),
            in_us(t->device[i], device));
    for (size_t i = 0; i < BASE_COUNT(ratios) && on_device(b); i++) {
        const size_t p = ratios[i].product;
        snprintf(device, sizeof device, "%.2fx", bench_ratio(t->cpu[p], t->device[p]));
        row(ratios[i].name, ratios[i].published, "", device);
    }
    text_run(b, "load, this model", published_load, b->load_ms);
    text_run(b, "load and first token", NULL, b->first_ms);
    text_run(b, "a token behind cached ones", NULL, cached_ms(b));
    cli_outf("products: activations in, quantised and multiplied, all results read back; weights "
             "stay there; medians of %d\n",
             REPETITIONS);
}

/* ==== JSON ==================================================================================== */

static json_t *number(double x) { return x > 0 ? json_real(x) : json_null(); }

static void json_row(json_t *list, const char *name, const char *published, const char *unit,
                     double cpu, double device) {
    json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:o, s:o}", "what", name, "published",
                                          published ? json_string(published) : json_null(), "unit",
                                          unit, "cpu", number(cpu), "device", number(device)));
}

static json_t *table_json(const bench *b, const times *t) {
    json_t *list = json_array();
    const bool dev = on_device(b);
    const double runs[] = {b->load_ms, b->first_ms, cached_ms(b)};
    static const char *const names[] = {"load, this model", "load and first token",
                                        "a token behind cached ones"};
    for (size_t i = 0; i < PRODUCTS; i++)
        json_row(list, products[i].name, products[i].published, "us", t->cpu[i], t->device[i]);
    for (size_t i = 0; i < BASE_COUNT(ratios); i++)
        json_row(list, ratios[i].name, ratios[i].published, "x", 0,
                 bench_ratio(t->cpu[ratios[i].product], t->device[ratios[i].product]));
    for (size_t i = 0; i < BASE_COUNT(runs); i++)
        json_row(list, names[i], i ? NULL : published_load, "ms", dev ? 0 : runs[i],
                 dev ? runs[i] : 0);
    return list;
}

rotor_status bench_before(bench *b, rotor_error *err) {
    times t = {0};
    ROTOR_TRY(take_times(b, &t, err));
    if (b->ops)
        b->before = table_json(b, &t);
    else
        print_table(b, &t);
    return ROTOR_OK;
}
