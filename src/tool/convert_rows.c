/* SPDX-License-Identifier: MIT
 *
 * Rows on their way from one type to another.
 *
 * Ternary tensors travel as codes and a scale for each row, never as floats, so that codes arrive
 * exactly. TQ1_0 and TQ2_0 keep a scale per 256 columns: between these two a "row" is one block.
 *
 * A scale that the new type cannot give back bit for bit is put as metadata
 * rotor.scale_f32.<tensor>: one f32, or one for each row when rows differ. Whoever converts back
 * takes the scale from there.
 */
#include "tool/convert.h"

#include <math.h>
#include <stdio.h>

enum { PIECE_VALUES = 1 << 21 };

static bool is_tq(uint32_t type) { return type == QUANT_TQ1_0 || type == QUANT_TQ2_0; }
static bool is_ternary_type(uint32_t type) {
    return (quant_find(type)->flags & QUANT_TERNARY) != 0;
}

/* ==== Reading rows ============================================================================ */

/* The stored row that becomes row r when the halves of each head turn into adjacent pairs. */
static uint64_t stored_row(const conv_source *s, uint64_t r) {
    if (!s->pair_heads) return r;
    uint64_t per_head = s->view.rows / s->pair_heads, head = r / per_head, i = r % per_head;
    return head * per_head + i % 2 * (per_head / 2) + i / 2;
}

static float kept_or(const conv_source *s, uint64_t row, float scale) {
    if (!s->kept || scale == 0) return scale;
    return s->kept[s->n_kept == 1 ? 0 : row];
}

/* Codes of a row of floats that are all 0 or plus or minus one value. */
static rotor_status codes_of_values(const conv_source *s, uint64_t row, int8_t *dst, float *scale,
                                    rotor_error *err) {
    size_t cols = (size_t)s->view.cols;
    float *x = base_alloc_array(cols, sizeof *x), most = 0;
    if (!x) return base_fail_nomem(err, "reading a row");
    rotor_status st = quant_decode_rows(&s->view, row, row + 1, x, err);
    for (size_t i = 0; i < cols && st == ROTOR_OK; i++) most = fmaxf(most, fabsf(x[i]));
    for (size_t i = 0; i < cols && st == ROTOR_OK; i++) {
        dst[i] = (int8_t)((x[i] > 0) - (x[i] < 0));
        if (x[i] != 0 && !(fabsf(x[i]) >= most * (1 - 1e-6f)))
            st =
                base_fail(err, ROTOR_E_ARG,
                          "row %llu column %zu is %g, neither 0 nor plus or minus %g: only ternary "
                          "matrices go into a ternary type",
                          (unsigned long long)row, i, (double)x[i], (double)most);
    }
    *scale = most;
    base_free(x);
    return st;
}

rotor_status conv_row_codes(const conv_source *s, uint64_t row, int8_t *dst, float *scale,
                            bool *uniform, rotor_error *err) {
    uint64_t r = stored_row(s, row), bad;
    *uniform = true;
    if (s->t2) {
        if (!quant_t2_unpack_row(s->t2->data + r * s->t2->row_bytes, s->t2->cols, dst, &bad))
            return base_fail(err, ROTOR_E_FORMAT, "illegal code in row %llu",
                             (unsigned long long)r);
        *scale = s->t2->row_scale ? s->t2->row_scale[r] : s->t2->scale;
        return ROTOR_OK;
    }
    if (is_ternary_type(s->view.type))
        ROTOR_TRY(quant_ternary_row(&s->view, r, dst, scale, uniform, err));
    else
        ROTOR_TRY(codes_of_values(s, r, dst, scale, err));
    *scale = kept_or(s, r, *scale);
    return ROTOR_OK;
}

rotor_status conv_row_values(const conv_source *s, uint64_t row, float *dst, rotor_error *err) {
    uint64_t r = stored_row(s, row);
    if (!s->t2 && !s->kept) return quant_decode_rows(&s->view, r, r + 1, dst, err);
    size_t cols = (size_t)s->view.cols;
    int8_t *codes = base_alloc(cols);
    float scale;
    bool uniform;
    if (!codes) return base_fail_nomem(err, "reading a row");
    rotor_status st = conv_row_codes(s, row, codes, &scale, &uniform, err);
    for (size_t i = 0; i < cols && st == ROTOR_OK; i++) dst[i] = scale * (float)codes[i];
    base_free(codes);
    return st;
}

/* ==== Scales ================================================================================== */

/* What a scale becomes in a type: one value sent there and back. */
static float through_type(uint32_t type, float scale) {
    float x[256] = {scale};
    uint8_t bytes[2048];
    const quant_info *info = quant_find(type);
    const uint64_t cols = BASE_COUNT(x); /* a multiple of every block */
    quant_tensor t = {.type = type, .i2s = QUANT_I2S_X86, .rows = 1, .cols = cols, .data = bytes};
    if (info->flags & QUANT_TERNARY) {
        int8_t code[256] = {1};
        if (quant_ternary_pack(type, QUANT_I2S_X86, 1, cols, code, scale, bytes, NULL)) return NAN;
    } else if (quant_encode(type, 1, cols, x, bytes, NULL) != ROTOR_OK) {
        return NAN;
    }
    return quant_decode_rows(&t, 0, 1, x, NULL) == ROTOR_OK ? x[0] : NAN;
}

typedef struct scan {
    const conv_source *s; /* source */
    float *scale;         /* [rows] */
    bool *mixed;          /* [threads] a row has several scales */
    rotor_error *errs;    /* [threads] */
} scan;

static void scan_rows(void *arg, int thread, int n_threads) {
    scan *job = arg;
    size_t begin, end;
    int8_t *codes = base_alloc((size_t)job->s->view.cols);
    if (!codes) base_fail_nomem(&job->errs[thread], "reading scales");
    par_slice((size_t)job->s->view.rows, 1, thread, n_threads, &begin, &end);
    for (size_t r = begin; codes && r < end; r++) {
        bool uniform;
        if (conv_row_codes(job->s, r, codes, &job->scale[r], &uniform, &job->errs[thread])) break;
        bool zero = true;
        for (size_t i = 0; i < job->s->view.cols && zero; i++) zero = codes[i] == 0;
        bool own = job->s->view.type == QUANT_I2_S || job->s->view.type == QUANT_T5;
        if (zero && !own) job->scale[r] = 0; /* nothing to scale */
        if (!uniform) job->mixed[thread] = true;
    }
    base_free(codes);
}

static rotor_status scan_scales(conv *c, conv_tensor *t, bool *mixed) {
    size_t n_threads = (size_t)par_n_threads(c->pool);
    scan job = {.s = &t->from};
    rotor_status st = ROTOR_OK;
    *mixed = false;
    job.scale = t->scale = base_alloc_array((size_t)t->from.view.rows, sizeof *t->scale);
    job.mixed = base_alloc_array(n_threads, sizeof *job.mixed);
    job.errs = base_alloc_array(n_threads, sizeof *job.errs);
    if (job.scale && job.mixed && job.errs)
        par_run(c->pool, scan_rows, &job);
    else
        st = base_fail_nomem(c->err, "reading scales");
    for (size_t i = 0; i < n_threads && st == ROTOR_OK; i++) {
        *mixed |= job.mixed[i];
        if (job.errs[i].code) *c->err = job.errs[i], st = job.errs[i].code;
    }
    base_free(job.mixed);
    base_free(job.errs);
    return st;
}

/* The scale all rows agree on (rows of zeros agree with any); false when they do not. */
static bool common_scale(const float *scale, uint64_t rows, float *common) {
    *common = 0;
    for (uint64_t r = 0; r < rows; r++) {
        if (scale[r] == 0) continue;
        if (*common == 0) *common = scale[r];
        if (scale[r] != *common) return false;
    }
    return true;
}

static rotor_status keep_scales(conv *c, const conv_tensor *t, bool common, float scale) {
    char key[128];
    uint64_t rows = t->from.view.rows, n_off = 0;
    snprintf(key, sizeof key, "rotor.scale_f32.%s", t->name);
    if (common) {
        float there = through_type(t->type, scale);
        if (there == scale) return c->report.n_restored_scales += t->from.kept != NULL, ROTOR_OK;
        conv_note(c, "%s: scale %.9g becomes %.9g in %s; kept as %s", t->name, (double)scale,
                  (double)there, quant_find(t->type)->name, key);
        c->report.n_rounded_scales++;
        return file_put_f32(c->w, key, scale);
    }
    for (uint64_t r = 0; r < rows; r++)
        n_off += t->scale[r] != 0 && through_type(t->type, t->scale[r]) != t->scale[r];
    if (!n_off) return c->report.n_restored_scales += t->from.kept != NULL, ROTOR_OK;
    conv_note(c, "%s: %llu of %llu row scales are rounded in %s; kept as %s", t->name,
              (unsigned long long)n_off, (unsigned long long)rows, quant_find(t->type)->name, key);
    c->report.n_rounded_scales++;
    return file_put_array(c->w, key, FILE_F32, t->scale, rows);
}

/* A tensor that is copied keeps what the metadata says about its scale. */
static rotor_status copy_kept(conv *c, const conv_tensor *t) {
    char key[128];
    snprintf(key, sizeof key, "rotor.scale_f32.%s", t->name);
    if (!t->from.kept) return ROTOR_OK;
    if (t->from.n_kept == 1) return file_put_f32(c->w, key, t->from.kept[0]);
    return file_put_array(c->w, key, FILE_F32, t->from.kept, t->from.n_kept);
}

static bool copies_bytes(const conv_tensor *t) {
    const conv_source *s = &t->from;
    bool order = s->view.type == QUANT_I2_S && s->view.i2s != QUANT_I2S_X86;
    return !s->t2 && !s->pair_heads && s->view.type == t->type && !order;
}

rotor_status conv_settle_scales(conv *c, conv_tensor *t) {
    bool mixed, wants_codes = t->ternary || is_ternary_type(t->type);
    float common;
    if (t->plain) return ROTOR_OK;
    if (copies_bytes(t)) return copy_kept(c, t);
    if (!wants_codes) return ROTOR_OK;
    if (is_tq(t->from.view.type) && is_tq(t->type) && !t->from.kept)
        return ROTOR_OK; /* by blocks */
    rotor_status st = scan_scales(c, t, &mixed);
    if (st != ROTOR_OK) return base_fail_in(c->err, st, "tensor %s", t->name), st;
    bool same = common_scale(t->scale, t->from.view.rows, &common);
    if (is_ternary_type(t->type) && (mixed || (t->type == QUANT_I2_S && !same)))
        return base_fail(c->err, ROTOR_E_UNSUPPORTED,
                         "tensor %s: its %s scales differ and %s holds one%s", t->name,
                         mixed ? "block" : "row", quant_find(t->type)->name,
                         mixed ? " per row; TQ1_0 and TQ2_0 can hold them" : "");
    if (mixed) return ROTOR_OK; /* floats of any block scale */
    t->ternary = true;
    if (same) /* rows of zeros too: their scale is lost otherwise */
        for (uint64_t r = 0; r < t->from.view.rows; r++) t->scale[r] = common;
    return keep_scales(c, t, same, common);
}

/* ==== Writing rows ============================================================================ */

typedef struct emit {
    const conv_tensor *t; /* tensor */
    conv_source from;     /* its source, reshaped for TQ blocks */
    const float *scale;   /* [rows] or NULL: as the source says */
    uint64_t first, n;    /* rows of this piece */
    size_t row_bytes;     /* of the new type; 0: codes are gathered instead */
    uint8_t *dst;         /* [n, row_bytes] or int8 codes [n, cols] */
    rotor_error *errs;    /* [threads] */
} emit;

static rotor_status emit_codes(emit *e, uint64_t row, int8_t *codes, uint8_t *dst,
                               rotor_error *err) {
    float scale;
    bool uniform;
    ROTOR_TRY(conv_row_codes(&e->from, row, codes, &scale, &uniform, err));
    if (!e->row_bytes) return ROTOR_OK;
    if (e->scale) scale = e->scale[row];
    return quant_ternary_pack(e->t->type, QUANT_I2S_X86, 1, e->from.view.cols, codes, scale, dst,
                              err);
}

static void emit_rows(void *arg, int thread, int n_threads) {
    emit *e = arg;
    rotor_error *err = &e->errs[thread];
    size_t begin, end, cols = (size_t)e->from.view.cols;
    bool ternary = is_ternary_type(e->t->type);
    float *values = ternary ? NULL : base_alloc_array(cols, sizeof *values);
    int8_t *codes = ternary && e->row_bytes ? base_alloc(cols) : NULL;
    if (!values && !codes && e->row_bytes) base_fail_nomem(err, "converting rows");
    par_slice((size_t)e->n, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end && err->code == ROTOR_OK; i++) {
        uint64_t row = e->first + i;
        uint8_t *dst = e->dst + i * (e->row_bytes ? e->row_bytes : cols);
        if (ternary) {
            emit_codes(e, row, codes ? codes : (int8_t *)dst, dst, err);
        } else if (conv_row_values(&e->from, row, values, err) == ROTOR_OK) {
            quant_encode(e->t->type, 1, cols, values, dst, err);
        }
    }
    base_free(values);
    base_free(codes);
}

static rotor_status run_emit(conv *c, emit *e) {
    size_t n_threads = (size_t)par_n_threads(c->pool);
    rotor_status st = ROTOR_OK;
    e->errs = base_alloc_array(n_threads, sizeof *e->errs);
    if (!e->errs) return base_fail_nomem(c->err, "converting rows");
    par_run(c->pool, emit_rows, e);
    for (size_t i = 0; i < n_threads && st == ROTOR_OK; i++)
        if (e->errs[i].code) *c->err = e->errs[i], st = e->errs[i].code;
    base_free(e->errs);
    return st;
}

/* I2_S flattens the whole tensor: gather all codes, pack once. */
static rotor_status emit_i2s(conv *c, emit *e, uint64_t bytes) {
    uint64_t n = e->from.view.rows * e->from.view.cols;
    uint8_t *packed = base_alloc((size_t)bytes);
    e->dst = base_alloc((size_t)n);
    e->n = e->from.view.rows;
    rotor_status st =
        packed && e->dst ? run_emit(c, e) : base_fail_nomem(c->err, "packing a tensor");
    if (st == ROTOR_OK)
        st = quant_ternary_pack(QUANT_I2_S, QUANT_I2S_X86, e->from.view.rows, e->from.view.cols,
                                (const int8_t *)e->dst, e->scale[0], packed, c->err);
    if (st == ROTOR_OK) st = file_write(c->w, packed, (size_t)bytes, c->err);
    base_free(packed);
    base_free(e->dst);
    return st;
}

/* Codes in groups of 16 rows, then the scales of all. */
static rotor_status emit_t5(conv *c, emit *e) {
    const uint64_t rows = e->from.view.rows, cols = e->from.view.cols;
    for (uint64_t r = 0; r < rows; r++)
        if (!isfinite(e->scale[r]))
            return base_fail(c->err, ROTOR_E_ARG,
                             "the scale of row %llu is %g, which is not finite",
                             (unsigned long long)r, (double)e->scale[r]);
    const uint64_t at_once = (PIECE_VALUES / cols + QUANT_T5_ROWS) / QUANT_T5_ROWS * QUANT_T5_ROWS;
    uint8_t *packed = base_alloc((size_t)quant_t5_code_bytes(at_once, cols));
    e->dst = base_alloc((size_t)(at_once * cols));
    rotor_status st = packed && e->dst ? ROTOR_OK : base_fail_nomem(c->err, "packing a tensor");
    for (e->first = 0; e->first < rows && st == ROTOR_OK; e->first += e->n) {
        e->n = BASE_MIN(at_once, rows - e->first);
        st = run_emit(c, e);
        if (st != ROTOR_OK) break;
        quant_t5_pack_rows((const int8_t *)e->dst, e->n, cols, packed);
        st = file_write(c->w, packed, (size_t)quant_t5_code_bytes(e->n, cols), c->err);
    }
    if (st == ROTOR_OK) st = file_write(c->w, e->scale, (size_t)rows * sizeof *e->scale, c->err);
    base_free(packed);
    base_free(e->dst);
    return st;
}

static rotor_status emit_pieces(conv *c, emit *e) {
    uint64_t rows_at_once = BASE_MAX(PIECE_VALUES / e->from.view.cols, 1);
    e->dst = base_alloc((size_t)rows_at_once * e->row_bytes);
    rotor_status st = e->dst ? ROTOR_OK : base_fail_nomem(c->err, "converting rows");
    for (e->first = 0; e->first < e->from.view.rows && st == ROTOR_OK; e->first += e->n) {
        e->n = BASE_MIN(rows_at_once, e->from.view.rows - e->first);
        st = run_emit(c, e);
        if (st == ROTOR_OK) st = file_write(c->w, e->dst, (size_t)e->n * e->row_bytes, c->err);
    }
    base_free(e->dst);
    return st;
}

rotor_status conv_emit(conv *c, const conv_tensor *t) {
    emit e = {.t = t, .from = t->from, .scale = t->scale};
    const quant_info *info = quant_find(t->type);
    uint64_t bytes, cols = t->dims[0], rows = t->dims[1] * t->dims[2] * t->dims[3];
    if (t->plain)
        return file_write(c->w, t->plain, (size_t)(rows * cols) * sizeof *t->plain, c->err);
    ROTOR_TRY(quant_tensor_bytes(info, rows, cols, &bytes, c->err));
    if (copies_bytes(t)) return file_write(c->w, t->from.view.data, (size_t)bytes, c->err);
    c->report.n_changed++;
    if (t->type == QUANT_I2_S) return emit_i2s(c, &e, bytes);
    if (t->type == QUANT_T5) return emit_t5(c, &e);
    if (is_tq(t->type) && is_tq(t->from.view.type) && !t->scale) {
        e.from.view.rows = rows * cols / 256;
        e.from.view.cols = 256;
    }
    e.row_bytes =
        (size_t)(e.from.view.cols / info->block_elems * info->block_bytes + info->row_bytes);
    return emit_pieces(c, &e);
}
