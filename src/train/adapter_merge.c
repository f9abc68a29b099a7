/* SPDX-License-Identifier: MIT
 *
 * An adapter put into its model: W + alpha / r B A, rounded back to ternary by absmean. The model's
 * file is written anew with other projections; every other tensor and key is copied byte for byte.
 *
 * Most of what a small adapter says is lost in the rounding: a code changes only where the sum
 * crosses a border. The scale is the one that fits the new codes best, by least squares, so that
 * where nothing changes nothing is lost: the mean magnitude itself would shrink every matrix by its
 * share of zeros, which were no zeros when it was rounded first. The caller measures what is left.
 */
#include "train/pass.h"

#include <stdio.h>

#define SCALE_KEY "rotor.scale_f32."

enum { FILE_TYPE_I2_S = 40 }; /* general.file_type */

typedef struct merge {
    const train_frozen *f;  /* the model */
    const file_model *from; /* its file */
    const train_shape *s;   /* shape, rank and alpha */
    const float *params;    /* adapter */
    file_writer *w;         /* file being written, owned */
    float *sum;             /* one projection, owned */
    int8_t *codes, *before; /* of it, owned */
    uint8_t *bytes;         /* as written, owned */
    bool retyped;           /* a projection was of a type that cannot be written */
    train_merged report;    /* so far */
    rotor_error *err;       /* where messages go */
} merge;

/* ==== Which tensor is which =================================================================== */

/* The projection that a tensor of the file is, if any; tail: ".weight" or ".scale". */
static bool is_projection(const train_shape *s, base_str name, const char *tail, train_tensor *t) {
    unsigned layer = 0;
    int n = 0;
    char text[80];
    if (name.n >= sizeof text) return false;
    memcpy(text, name.p, name.n);
    text[name.n] = 0;
    if (sscanf(text, "blk.%5u.%n", &layer, &n) != 1 || !n || layer >= s->n_layer) return false;
    for (int r = 0; r < TRAIN_N_ROLES; r++) {
        char own[80];
        if (!train_is_ternary((train_role)r)) continue;
        *t = train_tensor_of(s, (train_role)r, layer);
        snprintf(own, sizeof own, "blk.%u.%s%s", layer, model_proj_name(train_proj_of(t->role)),
                 tail);
        if (strcmp(text, own) == 0) return true;
    }
    return false;
}

/* The file's own type where it can be written, else I2_S. */
static const quant_info *type_of(const file_tensor *x) {
    const unsigned both = QUANT_TERNARY | QUANT_CAN_ENCODE;
    return (x->info->flags & both) == both ? x->info : quant_find(QUANT_I2_S);
}

uint64_t train_merge_bytes(const train_shape *s) {
    uint64_t codes = 0, largest = 0;
    for (int r = 0; r < TRAIN_N_ROLES; r++) {
        const train_tensor t = train_tensor_of(s, (train_role)r, 0);
        if (!train_is_ternary(t.role)) continue;
        codes += (uint64_t)s->n_layer * t.rows * quant_t2_row_bytes(t.cols);
        largest = BASE_MAX(largest, (uint64_t)t.rows * t.cols);
    }
    return codes + largest * (sizeof(float) + 3); /* the merged model; sum, codes, before, bytes */
}

rotor_status train_merge_check(const file_model *from, const train_shape *s, rotor_error *err) {
    for (size_t i = 0; i < file_n_tensors(from); i++) {
        const file_tensor *x = file_tensor_at(from, i);
        train_tensor t;
        if (!is_projection(s, x->name, ".weight", &t) || type_of(x)->id != QUANT_I2_S) continue;
        if ((uint64_t)t.rows * t.cols % 128 != 0)
            return base_fail(err, ROTOR_E_UNSUPPORTED,
                             "%s: tensor %.*s of %u x %u does not fit I2_S, which wants values in "
                             "multiples of 128; it cannot be merged into",
                             file_path(from), (int)x->name.n, x->name.p, t.rows, t.cols);
    }
    return ROTOR_OK;
}

/* ==== One projection ========================================================================== */

static void codes_of_row(const model_mat *w, size_t r, int8_t *codes) {
    const quant_tensor view = {.type = w->type, .rows = w->rows, .cols = w->cols, .data = w->data};
    uint64_t bad;
    float scale;
    bool uniform;
    if (w->type == QUANT_T5)
        quant_ternary_row(&view, r, codes, &scale, &uniform, NULL);
    else
        quant_t2_unpack_row(w->data + r * w->row_bytes, w->cols, codes, &bad);
}

/* sum(x t) / sum(t t): what multiplies the codes to come nearest to x. */
static float best_scale(const float *x, const int8_t *t, size_t n, float otherwise) {
    double sum = 0, count = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * t[i];
        count += t[i] != 0;
    }
    return count > 0 ? (float)(sum / count) : otherwise;
}

/* Codes of W + s B A into m->codes; returns their scale. */
static float merged_codes(merge *m, const train_tensor *t) {
    const model_mat *w = model_proj_mat(&m->f->m->layers[t->layer], train_proj_of(t->role));
    const float *a = m->params + train_lora_of(m->s, t->role, t->layer, TRAIN_LORA_A).at;
    const float *b = m->params + train_lora_of(m->s, t->role, t->layer, TRAIN_LORA_B).at;
    const float s = train_lora_scale(m->s);
    const size_t rank = m->s->lora_rank;
    for (size_t r = 0; r < t->rows; r++) {
        float *sum = m->sum + r * t->cols;
        int8_t *before = m->before + r * t->cols;
        const float scale = w->row_scale ? w->row_scale[r] : w->scale;
        codes_of_row(w, r, before);
        for (size_t c = 0; c < t->cols; c++) sum[c] = scale * (float)before[c];
        for (size_t k = 0; k < rank; k++) {
            const float f = s * b[r * rank + k], *row = a + k * t->cols;
            for (size_t c = 0; c < t->cols; c++) sum[c] += f * row[c];
        }
    }
    const size_t n = (size_t)t->rows * t->cols;
    const float mean = quant_absmean(m->sum, n, m->codes);
    return best_scale(m->sum, m->codes, n, mean);
}

static rotor_status write_projection(merge *m, const train_tensor *t, const quant_info *info) {
    const float scale = merged_codes(m, t);
    const size_t n = (size_t)t->rows * t->cols;
    uint64_t bytes;
    for (size_t i = 0; i < n; i++) m->report.changed += m->codes[i] != m->before[i];
    m->report.n += n;
    ROTOR_TRY(quant_tensor_bytes(info, t->rows, t->cols, &bytes, m->err));
    ROTOR_TRY(quant_ternary_pack(info->id, QUANT_I2S_X86, t->rows, t->cols, m->codes, scale,
                                 m->bytes, m->err));
    return file_write(m->w, m->bytes, (size_t)bytes, m->err);
}

/* ==== The file ================================================================================ */

static bool starts_with(base_str s, const char *start) {
    const size_t n = strlen(start);
    return s.n >= n && memcmp(s.p, start, n) == 0;
}

static void put_keys(merge *m) {
    for (size_t i = 0; i < file_n_kvs(m->from); i++) {
        const file_kv *kv = file_kv_at(m->from, i);
        if (m->retyped && base_str_is(kv->key, "general.file_type"))
            file_put_u32(m->w, "general.file_type", FILE_TYPE_I2_S);
        else if (!starts_with(kv->key, SCALE_KEY) && !starts_with(kv->key, "split.") &&
                 !base_str_is(kv->key, QUANT_T5_KEY)) /* the writer puts it where it belongs */
            file_put_kv(m->w, kv);
    }
}

static rotor_status declare(merge *m) {
    for (size_t i = 0; i < file_n_tensors(m->from); i++) {
        const file_tensor *x = file_tensor_at(m->from, i);
        train_tensor t;
        char key[112];
        if (is_projection(m->s, x->name, ".scale", &t)) continue; /* in the new scale */
        const bool ours = is_projection(m->s, x->name, ".weight", &t);
        const quant_info *info = ours ? type_of(x) : x->info;
        ROTOR_TRY(file_declare(m->w, x->name, info->id, x->n_dims, x->dims, m->err));
        if (!ours || (info->id != QUANT_TQ1_0 && info->id != QUANT_TQ2_0)) continue;
        const float scale = merged_codes(m, &t);
        if (quant_f16_to_f32(quant_f32_to_f16(scale)) == scale) continue;
        snprintf(key, sizeof key, SCALE_KEY "%.*s", (int)x->name.n, x->name.p);
        file_put_array(m->w, key, FILE_F32, &scale, 1);
    }
    return file_begin(m->w, m->err);
}

static rotor_status take_room(merge *m) {
    size_t most = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < file_n_tensors(m->from); i++) {
        const file_tensor *x = file_tensor_at(m->from, i);
        train_tensor t;
        uint64_t n;
        if (!is_projection(m->s, x->name, ".weight", &t)) continue;
        ROTOR_TRY(quant_tensor_bytes(type_of(x), t.rows, t.cols, &n, m->err));
        bytes = BASE_MAX(bytes, n);
        most = BASE_MAX(most, (size_t)t.rows * t.cols);
        m->retyped |= type_of(x) != x->info;
    }
    m->sum = base_alloc_array(most, sizeof *m->sum);
    m->codes = base_alloc(most);
    m->before = base_alloc(most);
    m->bytes = base_alloc((size_t)bytes);
    if (m->sum && m->codes && m->before && m->bytes) return ROTOR_OK;
    return base_fail_nomem(m->err, "merging an adapter");
}

static rotor_status write_all(merge *m) {
    ROTOR_TRY(take_room(m));
    put_keys(m);
    ROTOR_TRY(declare(m));
    for (size_t i = 0; i < file_n_tensors(m->from); i++) {
        const file_tensor *x = file_tensor_at(m->from, i);
        train_tensor t;
        if (is_projection(m->s, x->name, ".scale", &t)) continue;
        if (is_projection(m->s, x->name, ".weight", &t))
            ROTOR_TRY(write_projection(m, &t, type_of(x)));
        else
            ROTOR_TRY(file_write(m->w, x->data, (size_t)x->bytes, m->err));
    }
    return file_commit(m->w, m->err);
}

rotor_status train_merge(const train_frozen *f, const file_model *from, const train_shape *s,
                         const float *params, const char *path, train_merged *report,
                         rotor_error *err) {
    merge m = {.f = f, .from = from, .s = s, .params = params, .err = err};
    ROTOR_TRY(file_writer_create(&m.w, path, err));
    rotor_status st = write_all(&m);
    if (st == ROTOR_OK) *report = m.report;
    file_writer_free(&m.w);
    base_free(m.sum);
    base_free(m.codes);
    base_free(m.before);
    base_free(m.bytes);
    return st;
}
