/* SPDX-License-Identifier: MIT
 *
 * The log of a run: one row per step, written whole each time, as CSV and as a plot. The CSV on the
 * disk is complete up to some step at any moment; a run that goes on reads it and cuts it back to
 * the step of its checkpoint.
 */
#include "train/train.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#define CSV_HEAD "step,loss,heldout_loss,tok_per_s\n"
#define MOST     1e40 /* floats end before it */

void train_log_free(train_log *l) {
    base_free(l->rows);
    memset(l, 0, sizeof *l);
}

rotor_status train_log_add(train_log *l, train_row row, rotor_error *err) {
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 256;
        train_row *more = base_realloc(l->rows, cap * sizeof *more);
        if (!more) return base_fail_nomem(err, "logging a step");
        l->rows = more;
        l->cap = cap;
    }
    l->rows[l->n++] = row;
    return ROTOR_OK;
}

/* ==== CSV ===================================================================================== */

static rotor_status write_text(const char *path, base_buf *b, rotor_error *err) {
    base_out o;
    rotor_status st = b->failed ? base_fail_nomem(err, "writing the log") : ROTOR_OK;
    if (st == ROTOR_OK) st = base_out_open(&o, path, err);
    if (st == ROTOR_OK) {
        st = base_out_write(&o, b->data, b->len, err);
        if (st == ROTOR_OK) st = base_out_commit(&o, err);
        base_out_abort(&o);
    }
    base_buf_free(b);
    return st;
}

rotor_status train_log_write_csv(const train_log *l, const char *path, rotor_error *err) {
    base_buf b = {0};
    base_buf_puts(&b, CSV_HEAD);
    for (size_t i = 0; i < l->n; i++) {
        const train_row *r = &l->rows[i];
        base_buf_printf(&b, "%llu,%.9g,", (unsigned long long)r->step, r->loss);
        if (!isnan(r->held)) base_buf_printf(&b, "%.9g", r->held);
        base_buf_printf(&b, ",%.0f\n", r->tok_per_s);
    }
    return write_text(path, &b, err);
}

/* A number that begins with a digit or a minus and ends at `stop`; *p goes behind that. */
static bool take_number(const char **p, char stop, double *v) {
    char *end;
    if (!isdigit((unsigned char)**p) && **p != '-') return false;
    *v = strtod(*p, &end);
    if (!(fabs(*v) <= MOST) || *end != stop) return false;
    *p = end + 1;
    return true;
}

/* "7,3.25,,1000" and the end of its line; *p goes behind that. */
static bool take_row(const char **p, train_row *r) {
    char *end;
    const char *s = *p;
    if (!isdigit((unsigned char)*s)) return false;
    r->step = strtoull(s, &end, 10);
    if (*end != ',') return false;
    s = end + 1;
    if (!take_number(&s, ',', &r->loss)) return false;
    r->held = (double)NAN;
    if (*s == ',')
        s++;
    else if (!take_number(&s, ',', &r->held))
        return false;
    if (!isdigit((unsigned char)*s)) return false;
    r->tok_per_s = strtod(s, &end);
    if (!(r->tok_per_s <= MOST)) return false;
    if (*end && *end != '\n') return false;
    *p = end + (*end == '\n');
    return true;
}

static rotor_status read_rows(train_log *l, const char *path, const base_buf *text,
                              uint64_t last_step, rotor_error *err) {
    const size_t n_head = strlen(CSV_HEAD);
    uint64_t before = 0;
    if (!text->len) return ROTOR_OK;
    if (text->len < n_head || memcmp(text->data, CSV_HEAD, n_head) != 0)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: not the log of a run, whose first line is %.*s; it will not be "
                         "overwritten: give another --log",
                         path, (int)n_head - 1, CSV_HEAD);
    const char *p = text->data + n_head, *stop = text->data + text->len;
    for (size_t line = 2; p < stop && before < last_step; line++) {
        train_row row;
        if (!take_row(&p, &row) || row.step <= before)
            return base_fail(err, ROTOR_E_FORMAT,
                             "%s line %zu: not a row of a run's log (a step above the one before, "
                             "a loss, a held-out loss or nothing, a speed); repair or remove the "
                             "file, or give another --log",
                             path, line);
        if (row.step > last_step) break;
        ROTOR_TRY(train_log_add(l, row, err));
        before = row.step;
    }
    return ROTOR_OK;
}

rotor_status train_log_read(train_log *l, const char *path, uint64_t last_step, rotor_error *err) {
    base_file f;
    base_buf text = {0};
    if (base_path_kind_of(path) == BASE_PATH_NONE) return ROTOR_OK;
    ROTOR_TRY(base_file_open(&f, path, false, err));
    base_buf_append(&text, f.data ? (const char *)f.data : "", f.size); /* with a zero behind it */
    base_file_close(&f);
    const rotor_status st = text.failed ? base_fail_nomem(err, "reading the log")
                                        : read_rows(l, path, &text, last_step, err);
    base_buf_free(&text);
    return st;
}

/* ==== Plot ==================================================================================== */

enum { WIDE = 800, HIGH = 420, LEFT = 56, RIGHT = 16, TOP = 28, BOTTOM = 40, MAX_POINTS = 600 };

typedef struct plot {
    const train_log *l; /* rows */
    double last;        /* step at the right border */
    double low, high;   /* losses at the borders */
    double tick;        /* loss between grid lines */
} plot;

static double x_of(const plot *p, double step) {
    return LEFT + (WIDE - LEFT - RIGHT) * (step / p->last);
}
static double y_of(const plot *p, double loss) {
    return TOP + (HIGH - TOP - BOTTOM) * (p->high - loss) / (p->high - p->low);
}

/* 1, 2 or 5 times a power of ten, about a sixth of the range. */
static double tick_of(double range) {
    const double raw = range / 6, power = pow(10, floor(log10(raw)));
    const double digit = raw / power;
    return power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
}

static plot plot_of(const train_log *l) {
    plot p = {
        .l = l, .last = l->n ? (double)l->rows[l->n - 1].step : 1, .low = 1e30, .high = -1e30};
    for (size_t i = 0; i < l->n; i++) {
        const double v[2] = {l->rows[i].loss, l->rows[i].held};
        for (size_t k = 0; k < 2; k++) {
            if (isnan(v[k])) continue;
            p.low = fmin(p.low, v[k]);
            p.high = fmax(p.high, v[k]);
        }
    }
    if (!l->n) p.low = 0, p.high = 1;
    const double large = fmax(fabs(p.low), fabs(p.high));
    p.tick = tick_of(fmax(p.high - p.low, fmax(0.01, 1e-6 * large)));
    p.low = floor(p.low / p.tick) * p.tick;
    p.high = (floor(p.high / p.tick) + 1) * p.tick;
    return p;
}

static void draw_grid(const plot *p, base_buf *b) {
    base_buf_puts(b, "<g stroke=\"#ddd\" font-size=\"12\">\n");
    const int n_lines = (int)round((p->high - p->low) / p->tick);
    for (int i = 0; i <= n_lines; i++) {
        const double v = p->low + i * p->tick;
        base_buf_printf(b,
                        "<path d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\" "
                        "stroke=\"none\">%.4g</text>\n",
                        LEFT, y_of(p, v), WIDE - RIGHT, LEFT - 6, y_of(p, v) + 4, v);
    }
    const double tick = fmax(tick_of(p->last), 1);
    for (double s = 0; s <= p->last; s += tick)
        base_buf_printf(b,
                        "<path d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" "
                        "stroke=\"none\">%.0f</text>\n",
                        x_of(p, s), TOP, HIGH - BOTTOM, x_of(p, s), HIGH - BOTTOM + 16, s);
    base_buf_printf(b,
                    "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" stroke=\"none\">step</text>\n"
                    "<text x=\"%d\" y=\"18\" stroke=\"none\">nats per token</text>\n</g>\n",
                    (WIDE + LEFT - RIGHT) / 2, HIGH - 6, LEFT);
}

/* Means of equal stretches of rows, so that a long run is a line and not a cloud. */
static void draw_losses(const plot *p, base_buf *b) {
    const size_t n = p->l->n, points = BASE_MIN(n, (size_t)MAX_POINTS);
    base_buf_puts(b, "<path fill=\"none\" stroke=\"#4477aa\" stroke-width=\"1.5\" d=\"");
    for (size_t i = 0; i < points; i++) {
        const size_t from = i * n / points, to = (i + 1) * n / points;
        double step = 0, loss = 0;
        for (size_t k = from; k < to; k++) {
            step += (double)p->l->rows[k].step / (double)(to - from);
            loss += p->l->rows[k].loss / (double)(to - from);
        }
        base_buf_printf(b, "%c%.1f %.1f", i ? 'L' : 'M', x_of(p, step), y_of(p, loss));
    }
    base_buf_puts(b, "\"/>\n");
}

static void draw_held(const plot *p, base_buf *b) {
    bool first = true;
    base_buf_puts(b, "<path fill=\"none\" stroke=\"#cc6677\" stroke-width=\"2\" d=\"");
    for (size_t i = 0; i < p->l->n; i++) {
        const train_row *r = &p->l->rows[i];
        if (isnan(r->held)) continue;
        base_buf_printf(b, "%c%.1f %.1f", first ? 'M' : 'L', x_of(p, (double)r->step),
                        y_of(p, r->held));
        first = false;
    }
    base_buf_puts(b, "\"/>\n");
}

rotor_status train_log_write_svg(const train_log *l, const char *path, rotor_error *err) {
    const plot p = plot_of(l);
    base_buf b = {0};
    base_buf_printf(&b,
                    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                    "font-family=\"sans-serif\">\n<rect width=\"%d\" height=\"%d\" "
                    "fill=\"white\"/>\n",
                    WIDE, HIGH, WIDE, HIGH);
    draw_grid(&p, &b);
    draw_losses(&p, &b);
    draw_held(&p, &b);
    base_buf_printf(&b,
                    "<text x=\"%d\" y=\"18\" font-size=\"12\" text-anchor=\"end\"><tspan "
                    "fill=\"#4477aa\">training</tspan> <tspan fill=\"#cc6677\">held out</tspan>"
                    "</text>\n</svg>\n",
                    WIDE - RIGHT);
    return write_text(path, &b, err);
}
