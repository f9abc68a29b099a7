/* SPDX-License-Identifier: MIT
 *
 * The choice of api_auto.h. Remembered results are lines of a text file in the cache folder, the
 * newest last:
 *
 *   16 hexadecimal digits, the key | best device | its t/s | t/s of the CPU
 *
 * The key knows the devices and drivers, too: a changed machine is measured again. A device that
 * could not run the model may be able to later: then nothing is remembered. Whatever is wrong with
 * the file only means that it is measured.
 */
#include "api/api_auto.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEVICES = 16, LINE_BYTES = 128 };

static const char *const api_names[] = {"cpu", "opencl", "vulkan"};

/* What is known about the race. */
typedef struct race {
    api_device rival[MAX_DEVICES]; /* hardware that can be used */
    size_t n;                      /* how many */
    uint64_t key;                  /* of all of it */
    char best[24];                 /* fastest rival: "vulkan:0" */
    size_t best_at;                /* which */
    double best_rate, cpu_rate;    /* tokens a second */
    bool all_ran;                  /* nobody failed */
} race;

static void name_of(const api_device *d, char out[24]) {
    snprintf(out, 24, "%s:%u", api_names[d->api], (unsigned)d->index);
}

/* ==== Who takes part ========================================================================== */

static void find_rivals(const api_rivals *r, race *out) {
    for (dev_api api = DEV_OPENCL; api <= DEV_VULKAN; api++) {
        dev_facts facts[MAX_DEVICES];
        size_t n = 0;
        if (r->list(r->user, api, facts, MAX_DEVICES, &n) != ROTOR_OK) continue;
        for (size_t i = 0; i < BASE_MIN(n, (size_t)MAX_DEVICES) && out->n < MAX_DEVICES; i++)
            if (!facts[i].software && !facts[i].missing[0])
                out->rival[out->n++] = (api_device){api, i, facts[i]};
    }
}

/* The same for the same devices with the same drivers in the same places. */
static uint64_t key_of(const race *r, uint64_t key) {
    for (size_t i = 0; i < r->n; i++) {
        const api_device *d = &r->rival[i];
        char name[24];
        name_of(d, name);
        key = base_hash64(name, strlen(name), key);
        key = base_hash64(d->facts.name, strlen(d->facts.name), key);
        key = base_hash64(d->facts.driver, strlen(d->facts.driver), key);
    }
    return key;
}

/* ==== What is remembered ====================================================================== */

static char *path_of(const api_auto *a) {
    return a->cache_dir ? base_path_join(a->cache_dir, "auto.txt") : NULL;
}

/* One line of the file; false: it is none. */
static bool parse(const char *line, race *out) {
    unsigned long long key;
    race r = {.n = 0};
    if (sscanf(line, "%16llx %23s %lf %lf", &key, r.best, &r.best_rate, &r.cpu_rate) != 4)
        return false;
    if (!(r.best_rate > 0 && r.best_rate < 1e9 && r.cpu_rate > 0 && r.cpu_rate < 1e9)) return false;
    r.key = key;
    *out = r;
    return true;
}

/* The next line of text[*at, n) that fits; false: the end. */
static bool next_line(const base_file *f, size_t *at, char line[LINE_BYTES]) {
    while (*at < f->size) {
        const uint8_t *from = f->data + *at, *end = memchr(from, '\n', f->size - *at);
        const size_t n = end ? (size_t)(end - from) : f->size - *at;
        *at += n + 1;
        if (n >= LINE_BYTES) continue;
        memcpy(line, from, n);
        line[n] = 0;
        return true;
    }
    return false;
}

static bool recall(const api_auto *a, race *r) {
    char *path = path_of(a), line[LINE_BYTES];
    base_file f;
    race old;
    size_t at = 0;
    bool found = false;
    if (path && base_file_open(&f, path, false, NULL) == ROTOR_OK) {
        while (next_line(&f, &at, line))
            for (size_t i = 0; parse(line, &old) && old.key == r->key && i < r->n; i++) {
                char name[24];
                name_of(&r->rival[i], name);
                if (strcmp(name, old.best) != 0) continue;
                memcpy(r->best, old.best, sizeof r->best);
                r->best_at = i;
                r->best_rate = old.best_rate;
                r->cpu_rate = old.cpu_rate;
                found = true;
            }
        base_file_close(&f);
    }
    base_free(path);
    return found;
}

/* The lines of the file that stay: the newest, and none with this key. */
static void keep_lines(const char *path, uint64_t key, base_buf *out) {
    char line[LINE_BYTES];
    base_file f;
    race old;
    if (base_file_open(&f, path, false, NULL) != ROTOR_OK) return;
    size_t n = 0;
    for (size_t at = 0; next_line(&f, &at, line);) n += parse(line, &old) && old.key != key;
    for (size_t at = 0; next_line(&f, &at, line);) {
        if (!parse(line, &old) || old.key == key) continue;
        if (n-- < API_AUTO_KEPT) base_buf_printf(out, "%s\n", line);
    }
    base_file_close(&f);
}

static void remember(const api_auto *a, const race *r) {
    char *path = path_of(a);
    base_buf text = {0};
    base_out out;
    if (path) {
        keep_lines(path, r->key, &text);
        base_buf_printf(&text, "%016llx %s %.3f %.3f\n", (unsigned long long)r->key, r->best,
                        r->best_rate, r->cpu_rate);
    }
    if (path && !text.failed && base_out_open(&out, path, NULL) == ROTOR_OK) {
        if (base_out_write(&out, text.data, text.len, NULL) == ROTOR_OK)
            (void)base_out_commit(&out, NULL); /* not remembered: measured again */
        base_out_abort(&out);
    }
    base_buf_free(&text);
    base_free(path);
}

/* ==== The race ================================================================================ */

static void measure_rivals(const api_rivals *r, const api_auto *a, race *out) {
    out->all_ran = true;
    for (size_t i = 0; i < out->n; i++) {
        rotor_error err = {0};
        double rate = 0;
        char name[24];
        name_of(&out->rival[i], name);
        if (r->measure(r->user, &out->rival[i], &rate, &err) != ROTOR_OK) {
            base_log_printf(a->log, BASE_LOG_INFO, "auto: %s is left out: %s", name, err.message);
            out->all_ran = false;
        } else if (rate > out->best_rate) {
            out->best_rate = rate;
            out->best_at = i;
            memcpy(out->best, name, sizeof out->best);
        }
    }
}

static bool measure_all(const api_rivals *r, const api_auto *a, race *out) {
    const api_device cpu = {.api = DEV_CPU};
    rotor_error err = {0};
    measure_rivals(r, a, out);
    if (!(out->best_rate > 0)) return false;
    if (r->measure(r->user, &cpu, &out->cpu_rate, &err) != ROTOR_OK) return false;
    return out->cpu_rate > 0;
}

/* What was chosen and why. */
BASE_PRINTF(2, 3) static void tell(const api_auto *a, const char *fmt, ...) {
    char line[192];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    base_log_printf(a->log, BASE_LOG_INFO, "%s", line);
    if (a->why) snprintf(a->why, a->why_bytes, "%s", line);
}

static api_device stay(const api_auto *a, const char *why) {
    tell(a, "auto: cpu: %s", why);
    return (api_device){.api = DEV_CPU};
}

api_device api_auto_choose(const api_rivals *r, const api_auto *a) {
    race all = {.n = 0};
    if (a->step_bytes < API_AUTO_TINY) return stay(a, "a model as small as this one");
    find_rivals(r, &all);
    if (!all.n) return stay(a, "no hardware device");
    all.key = key_of(&all, a->key);
    const bool known = recall(a, &all);
    if (!known) {
        if (!measure_all(r, a, &all)) return stay(a, "no device ran this model");
        if (all.all_ran) remember(a, &all);
    }
    const bool faster = all.best_rate > all.cpu_rate;
    const char *how = known ? "remembered" : "measured now";
    if (faster)
        tell(a, "auto: %s %.1f t/s, cpu %.1f t/s (%s)", all.best, all.best_rate, all.cpu_rate, how);
    else
        tell(a, "auto: cpu %.1f t/s, %s %.1f t/s (%s)", all.cpu_rate, all.best, all.best_rate, how);
    return faster ? all.rival[all.best_at] : (api_device){.api = DEV_CPU};
}
