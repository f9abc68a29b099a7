/* SPDX-License-Identifier: MIT
 *
 * convert: model files into GGUF files of other types.
 *
 * A plan lists every tensor with its new type; then the header is written, then the tensors one
 * after another. From a GGUF file everything is kept except the types asked for: one-dimensional
 * tensors, biases and routers stay as they are. A HF folder is read as a model (hf_export.c).
 *
 * A tensor whose type does not change is copied byte for byte.
 */
#include "tool/convert.h"

#include <stdio.h>

#define SCALE_KEY "rotor.scale_f32."

/* ==== Types =================================================================================== */

static const uint32_t writable[] = {QUANT_F32,   QUANT_F16,    QUANT_BF16,   QUANT_Q8_0,
                                    QUANT_Q6_K,  QUANT_Q4_0,   QUANT_I2_S,   QUANT_TQ1_0,
                                    QUANT_TQ2_0, QUANT_IQ1_BN, QUANT_IQ2_BN, QUANT_T5};

const char *tool_convert_type(size_t i) {
    return i < BASE_COUNT(writable) ? quant_find(writable[i])->name : NULL;
}

static rotor_status find_type(const char *name, const quant_info **out, rotor_error *err) {
    char names[160];
    size_t n = 0;
    *out = name ? quant_find_name(base_str_of(name)) : NULL;
    if (!name) return ROTOR_OK;
    for (size_t i = 0; i < BASE_COUNT(writable); i++)
        if (*out && writable[i] == (*out)->id) return ROTOR_OK;
    for (size_t i = 0; i < BASE_COUNT(writable) && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "",
                              tool_convert_type(i));
    return base_fail(err, ROTOR_E_ARG, "type %s cannot be written; expected one of %s", name,
                     names);
}

/* general.file_type as other programs number it. */
uint32_t conv_file_type(uint32_t type) {
    static const struct {
        uint32_t type, number; /* quant_type, general.file_type */
    } known[] = {{QUANT_F32, 0},   {QUANT_F16, 1},      {QUANT_Q4_0, 2},    {QUANT_Q8_0, 7},
                 {QUANT_Q6_K, 18}, {QUANT_BF16, 32},    {QUANT_TQ1_0, 36},  {QUANT_TQ2_0, 37},
                 {QUANT_I2_S, 40}, {QUANT_IQ1_BN, 136}, {QUANT_IQ2_BN, 137}};
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (known[i].type == type) return known[i].number;
    return 1024; /* "guessed" */
}

void conv_note(const conv *c, const char *fmt, ...) {
    char line[400];
    va_list ap;
    if (!c->opt->note) return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    c->opt->note(c->opt->note_user, line);
}

uint32_t conv_fit(conv *c, const char *name, const quant_info *wanted, uint32_t is, uint64_t cols) {
    if (!wanted || wanted->id == is) return is;
    bool fits = wanted->id == QUANT_T5 || cols % wanted->block_elems == 0;
    if (!fits)
        conv_note(c, "%s: rows of %llu do not fit %s blocks of %u; kept as %s", name,
                  (unsigned long long)cols, wanted->name, wanted->block_elems,
                  quant_find(is)->name);
    return fits ? wanted->id : is;
}

conv_tensor *conv_add(conv *c) {
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 256;
        conv_tensor *more = base_realloc(c->list, cap * sizeof *more);
        if (!more) return NULL;
        c->list = more;
        c->cap = cap;
    }
    conv_tensor *t = &c->list[c->n++];
    memset(t, 0, sizeof *t);
    return t;
}

/* ==== Plan of a GGUF file ===================================================================== */

static bool ends_with(base_str s, const char *end) {
    size_t n = strlen(end);
    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

static const quant_info *wanted_type(const conv *c, const file_tensor *t) {
    bool head = base_str_is(t->name, "token_embd.weight") || base_str_is(t->name, "output.weight");
    bool matrix = t->n_dims > 1 && t->dims[0] > 1 && ends_with(t->name, ".weight") &&
                  !ends_with(t->name, "norm.weight") && !ends_with(t->name, "ffn_gate_inp.weight");
    if (!matrix || !(t->info->flags & QUANT_CAN_DECODE)) return NULL;
    return head ? c->head_type : c->type;
}

static const file_kv *kept_scale(const file_model *f, base_str name) {
    char key[128];
    snprintf(key, sizeof key, SCALE_KEY "%.*s", (int)BASE_MIN(name.n, 64), name.p);
    const file_kv *kv = file_kv_find(f, key);
    return kv && kv->elem == FILE_F32 && kv->n ? kv : NULL;
}

static rotor_status plan_tensor(conv *c, const file_model *f, const file_tensor *x) {
    conv_tensor *t = conv_add(c);
    if (!t) return base_fail_nomem(c->err, "planning a conversion");
    const file_kv *kv = kept_scale(f, x->name);
    snprintf(t->name, sizeof t->name, "%.*s", (int)x->name.n, x->name.p);
    t->n_dims = x->n_dims;
    memcpy(t->dims, x->dims, sizeof t->dims);
    t->from.view = (quant_tensor){.type = x->info->id,
                                  .i2s = (quant_i2s)c->opt->order,
                                  .rows = x->rows,
                                  .cols = x->dims[0],
                                  .data = x->data};
    t->type = conv_fit(c, t->name, wanted_type(c, x), x->info->id, x->dims[0]);
    t->ternary = (x->info->flags & QUANT_TERNARY) != 0 || kv != NULL;
    if (!kv || (kv->n != 1 && kv->n != x->rows)) return ROTOR_OK;
    float *kept = base_alloc_array((size_t)kv->n, sizeof *kept);
    if (!kept) return base_fail_nomem(c->err, "planning a conversion");
    memcpy(kept, kv->data, (size_t)kv->n * sizeof *kept);
    t->from.kept = kept;
    t->from.n_kept = (size_t)kv->n;
    return ROTOR_OK;
}

static bool starts_with(base_str s, const char *start) {
    size_t n = strlen(start);
    return s.n >= n && memcmp(s.p, start, n) == 0;
}

static rotor_status plan_file(conv *c, const file_model *f) {
    for (size_t i = 0; i < file_n_kvs(f); i++) {
        const file_kv *kv = file_kv_at(f, i);
        bool dropped = starts_with(kv->key, SCALE_KEY) || starts_with(kv->key, "split.") ||
                       base_str_is(kv->key, QUANT_T5_KEY); /* the writer puts it where it belongs */
        if (base_str_is(kv->key, "general.file_type") && c->type)
            file_put_u32(c->w, "general.file_type", conv_file_type(c->type->id));
        else if (!dropped)
            file_put_kv(c->w, kv); /* the writer remembers a failure */
    }
    for (size_t i = 0; i < file_n_tensors(f); i++)
        ROTOR_TRY(plan_tensor(c, f, file_tensor_at(f, i)));
    return ROTOR_OK;
}

/* ==== Writing ================================================================================= */

static rotor_status declare_all(conv *c) {
    for (size_t i = 0; i < c->n; i++) {
        conv_tensor *t = &c->list[i];
        uint64_t bytes;
        ROTOR_TRY(conv_settle_scales(c, t));
        ROTOR_TRY(file_declare(c->w, base_str_of(t->name), t->type, t->n_dims, t->dims, c->err));
        ROTOR_TRY(quant_tensor_bytes(quant_find(t->type), t->dims[1] * t->dims[2] * t->dims[3],
                                     t->dims[0], &bytes, c->err));
        c->report.bytes += bytes;
    }
    return file_begin(c->w, c->err);
}

static rotor_status write_all(conv *c) {
    ROTOR_TRY(declare_all(c));
    for (size_t i = 0; i < c->n; i++) {
        const tool_progress *p = &c->opt->progress;
        uint64_t bytes = 0;
        rotor_status st = conv_emit(c, &c->list[i]);
        if (st != ROTOR_OK) return base_fail_in(c->err, st, "tensor %s", c->list[i].name), st;
        quant_tensor_bytes(quant_find(c->list[i].type), c->list[i].dims[1] * c->list[i].dims[2],
                           c->list[i].dims[0], &bytes, NULL);
        c->done_bytes += bytes;
        if (p->fn && !p->fn(p->user, c->done_bytes, c->report.bytes))
            return base_fail(c->err, ROTOR_E_CANCELLED, "cancelled");
    }
    c->report.n_tensors = c->n;
    return file_commit(c->w, c->err);
}

static void free_plan(conv *c) {
    for (size_t i = 0; i < c->n; i++) {
        base_free(c->list[i].scale);
        base_free((void *)(uintptr_t)c->list[i].from.kept);
    }
    base_free(c->list);
    file_writer_free(&c->w);
    par_free(&c->pool);
}

static void run_on_pool(void *pool, void (*fn)(void *, int, int), void *arg) {
    par_run(pool, fn, arg);
}

static rotor_status convert_folder(conv *c, const char *in) {
    static const quant_i2s order[] = {QUANT_I2S_X86, QUANT_I2S_ARM, QUANT_I2S_4ROW};
    model *m = NULL;
    model_options mo = {.i2s = (int)order[c->opt->order], .parallel = {run_on_pool, c->pool}};
    ROTOR_TRY(model_open(&m, in, &mo, c->err));
    rotor_status st = conv_plan_folder(c, m);
    if (st == ROTOR_OK) st = write_all(c);
    model_close(&m);
    return st;
}

static rotor_status convert(conv *c, const char *in, const char *out) {
    file_model *f = NULL;
    ROTOR_TRY(find_type(c->opt->type, &c->type, c->err));
    ROTOR_TRY(find_type(c->opt->head_type, &c->head_type, c->err));
    ROTOR_TRY(par_create(&c->pool, base_cpu_count(), false, c->err));
    ROTOR_TRY(file_open(&f, in, NULL, c->err));
    rotor_status st = file_writer_create(&c->w, out, c->err);
    if (st == ROTOR_OK && file_kind_of(f) == FILE_GGUF) {
        st = plan_file(c, f);
        if (st == ROTOR_OK) st = write_all(c);
    } else if (st == ROTOR_OK) {
        st = convert_folder(c, in);
    }
    file_close(&f);
    return st;
}

rotor_status tool_convert(const char *in, const char *out, const tool_convert_options *opt,
                          tool_convert_report *report, rotor_error *err) {
    rotor_error own = {0};
    conv c = {.opt = opt, .err = err ? err : &own};
    rotor_status st = convert(&c, in, out);
    if (st == ROTOR_OK) *report = c.report;
    free_plan(&c);
    return st;
}
