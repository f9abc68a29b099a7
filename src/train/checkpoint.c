/* SPDX-License-Identifier: MIT
 *
 * Checkpoints: settings, step, weights and moments of a run, from which it goes on bit for bit.
 *
 *     | "RotorCkp" | version u32 | fields u32 | field u64[fields] | step u64 | n_params u64 |
 *     | params f32[n] | m f32[n] | v f32[n] | hash u64 of all before |
 *
 * A file is written beside its name, flushed to the disk and renamed: whatever happens meanwhile,
 * the name holds the old checkpoint or the new one, whole.
 */
#include "train/train.h"

#include <stdio.h>

#define MAGIC "RotorCkp"

enum { VERSION = 1, VERSION_LORA = 2, HASH_BYTES = 1 << 20 };

typedef enum field_kind { FIELD_U32, FIELD_U64, FIELD_F32, FIELD_BOOL } field_kind;

static const struct {
    const char *name; /* as the user says it */
    size_t at;        /* in train_settings */
    field_kind kind;  /* type there */
} fields[] = {
    {"the tokenizer", offsetof(train_settings, vocab_hash), FIELD_U64},
    {"the vocabulary", offsetof(train_settings, shape.n_vocab), FIELD_U32},
    {"--embd", offsetof(train_settings, shape.n_embd), FIELD_U32},
    {"--layers", offsetof(train_settings, shape.n_layer), FIELD_U32},
    {"--heads", offsetof(train_settings, shape.n_head), FIELD_U32},
    {"--kv-heads", offsetof(train_settings, shape.n_head_kv), FIELD_U32},
    {"the head size", offsetof(train_settings, shape.d_head), FIELD_U32},
    {"--ff", offsetof(train_settings, shape.n_ff), FIELD_U32},
    {"--ctx", offsetof(train_settings, shape.n_ctx), FIELD_U32},
    {"the rope base", offsetof(train_settings, shape.rope_base), FIELD_F32},
    {"the norm epsilon", offsetof(train_settings, shape.eps), FIELD_F32},
    {"--full-precision", offsetof(train_settings, shape.full_float), FIELD_BOOL},
    {"the data", offsetof(train_settings, content_hash), FIELD_U64},
    {"--steps", offsetof(train_settings, schedule.steps), FIELD_U64},
    {"--lr", offsetof(train_settings, schedule.lr), FIELD_F32},
    {"--decay", offsetof(train_settings, schedule.decay), FIELD_F32},
    {"--warm-up", offsetof(train_settings, schedule.warm_steps), FIELD_U64},
    {"--one-stage", offsetof(train_settings, schedule.one_stage), FIELD_BOOL},
    {"the optimiser", offsetof(train_settings, opt.beta1), FIELD_F32},
    {"the optimiser", offsetof(train_settings, opt.beta2), FIELD_F32},
    {"the optimiser", offsetof(train_settings, opt.eps), FIELD_F32},
    {"--clip", offsetof(train_settings, opt.clip), FIELD_F32},
    {"--batch", offsetof(train_settings, batch), FIELD_U32},
    {"--accumulate", offsetof(train_settings, accumulate), FIELD_U32},
    {"--seed", offsetof(train_settings, seed), FIELD_U64},
    /* of runs with an adapter: */
    {"--lora", offsetof(train_settings, shape.lora_rank), FIELD_U32},
    {"--lora-alpha", offsetof(train_settings, shape.lora_alpha), FIELD_F32},
    {"the model", offsetof(train_settings, frozen_hash), FIELD_U64},
};
enum { N_FIELDS = BASE_COUNT(fields), N_PLAIN = N_FIELDS - 3, STEPS_FIELD = 13 };

/* In the file only n_fields of the fields stand. */
typedef struct head {
    char magic[8];            /* MAGIC */
    uint32_t version;         /* VERSION, VERSION_LORA */
    uint32_t n_fields;        /* N_PLAIN, N_FIELDS */
    uint64_t field[N_FIELDS]; /* settings */
    uint64_t step;            /* done */
    uint64_t n_params;        /* floats in each vector */
} head;

enum { AT_FIELDS = offsetof(head, field), TAIL = sizeof(head) - offsetof(head, step) };

/* Bytes of a head in the file, and the head as those bytes: without the fields that it lacks. */
static size_t head_bytes(const head *h) { return AT_FIELDS + h->n_fields * 8 + TAIL; }
static void pack_head(const head *h, uint8_t out[sizeof(head)]) {
    memcpy(out, h, AT_FIELDS + h->n_fields * 8);
    memcpy(out + AT_FIELDS + h->n_fields * 8, &h->step, TAIL);
}

static uint64_t field_of(const train_settings *set, size_t i) {
    const uint8_t *p = (const uint8_t *)set + fields[i].at;
    uint64_t value = 0;
    memcpy(&value, p, fields[i].kind == FIELD_U64 ? 8 : fields[i].kind == FIELD_BOOL ? 1 : 4);
    return value;
}

static void show(char out[32], size_t i, uint64_t value) {
    float f;
    memcpy(&f, &value, sizeof f);
    if (fields[i].kind == FIELD_F32)
        snprintf(out, 32, "%g", (double)f);
    else if (fields[i].kind == FIELD_BOOL)
        snprintf(out, 32, "%s", value ? "on" : "off");
    else
        snprintf(out, 32, "%llu", (unsigned long long)value);
}

static uint64_t hash_of(const void *data, size_t n_bytes, uint64_t hash) {
    const uint8_t *p = data;
    for (; n_bytes > HASH_BYTES; n_bytes -= HASH_BYTES, p += HASH_BYTES)
        hash = base_hash64(p, HASH_BYTES, hash);
    return base_hash64(p, n_bytes, hash);
}

/* ==== Writing ================================================================================= */

static rotor_status put(base_out *o, const void *p, size_t n_bytes, uint64_t *hash,
                        rotor_error *err) {
    *hash = hash_of(p, n_bytes, *hash);
    return base_out_write(o, p, n_bytes, err);
}

static rotor_status write_all(base_out *o, const head *h, const train_vectors *x,
                              rotor_error *err) {
    const size_t n_bytes = (size_t)h->n_params * sizeof(float);
    uint8_t bytes[sizeof *h];
    uint64_t hash = 0;
    pack_head(h, bytes);
    ROTOR_TRY(put(o, bytes, head_bytes(h), &hash, err));
    ROTOR_TRY(put(o, x->params, n_bytes, &hash, err));
    ROTOR_TRY(put(o, x->m, n_bytes, &hash, err));
    ROTOR_TRY(put(o, x->v, n_bytes, &hash, err));
    return base_out_write(o, &hash, sizeof hash, err);
}

rotor_status train_checkpoint_save(const char *path, const train_settings *set, uint64_t step,
                                   const train_vectors *x, rotor_error *err) {
    head h = {.magic = MAGIC,
              .version = set->shape.lora_rank ? VERSION_LORA : VERSION,
              .n_fields = set->shape.lora_rank ? N_FIELDS : N_PLAIN,
              .step = step,
              .n_params = train_n_params(&set->shape)};
    base_out o;
    for (size_t i = 0; i < N_FIELDS; i++) h.field[i] = field_of(set, i);
    ROTOR_TRY(base_out_open(&o, path, err));
    rotor_status st = write_all(&o, &h, x, err);
    if (st == ROTOR_OK) st = base_out_commit(&o, err);
    base_out_abort(&o);
    return st;
}

/* ==== Reading ================================================================================= */

static rotor_status read_head(const base_file *f, head *h, rotor_error *err) {
    memset(h, 0, sizeof *h);
    if (f->size < AT_FIELDS || memcmp(f->data, MAGIC, 8) != 0)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: not a checkpoint (%zu bytes, expected \"%s\" and at least %d); "
                         "without it a run begins anew: remove it, or give another -o",
                         f->path, f->size, MAGIC, AT_FIELDS);
    memcpy(h, f->data, AT_FIELDS);
    if (!(h->version == VERSION && h->n_fields == N_PLAIN) &&
        !(h->version == VERSION_LORA && h->n_fields == N_FIELDS))
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: checkpoint version %u; this program reads %d and %d", f->path,
                         h->version, VERSION, VERSION_LORA);
    const size_t n = head_bytes(h);
    if (f->size >= n + 8) {
        memcpy(h->field, f->data + AT_FIELDS, n - AT_FIELDS - TAIL);
        memcpy(&h->step, f->data + n - TAIL, TAIL);
    }
    if (f->size < n + 8 || h->n_params > f->size / 12 ||
        f->size != n + 12 * (size_t)h->n_params + 8)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: the file was cut: it has %zu bytes for %llu weights; without it a "
                         "run begins anew: remove it, or give another -o",
                         f->path, f->size, (unsigned long long)h->n_params);
    return ROTOR_OK;
}

static rotor_status same_settings(const char *path, const head *h, const train_settings *set,
                                  rotor_error *err) {
    if ((h->n_fields == N_FIELDS) != (set->shape.lora_rank != 0))
        return base_fail(err, ROTOR_E_ARG, "%s: training began %s --lora", path,
                         set->shape.lora_rank ? "without" : "with");
    for (size_t i = 0; i < h->n_fields; i++) {
        char was[32], is[32];
        if (h->field[i] == field_of(set, i)) continue;
        if (strncmp(fields[i].name, "--", 2) != 0)
            return base_fail(err, ROTOR_E_ARG,
                             "%s: %s differs from when training began; a run goes on only with the "
                             "same one",
                             path, fields[i].name);
        show(was, i, h->field[i]);
        show(is, i, field_of(set, i));
        return base_fail(err, ROTOR_E_ARG,
                         "%s: training began with %s %s, now it is %s; a run goes on only with the "
                         "same settings",
                         path, fields[i].name, was, is);
    }
    return ROTOR_OK;
}

static rotor_status read_all(const base_file *f, const train_settings *set, uint64_t *step,
                             train_vectors *x, rotor_error *err) {
    head h;
    uint64_t hash = 0, told;
    ROTOR_TRY(read_head(f, &h, err));
    const size_t n_bytes = (size_t)h.n_params * sizeof(float);
    const uint8_t *p = f->data + head_bytes(&h);
    hash = hash_of(f->data, head_bytes(&h), hash);
    for (size_t i = 0; i < 3; i++) hash = hash_of(p + i * n_bytes, n_bytes, hash);
    memcpy(&told, p + 3 * n_bytes, sizeof told);
    if (hash != told)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: the checkpoint is damaged: its sum is %016llx, expected %016llx; "
                         "without it a run begins anew: remove it, or give another -o",
                         f->path, (unsigned long long)hash, (unsigned long long)told);
    ROTOR_TRY(same_settings(f->path, &h, set, err));
    if (h.n_params != train_n_params(&set->shape))
        return base_fail(err, ROTOR_E_FORMAT, "%s: %llu weights, expected %zu of these sizes",
                         f->path, (unsigned long long)h.n_params, train_n_params(&set->shape));
    memcpy(x->params, p, n_bytes);
    memcpy(x->m, p + n_bytes, n_bytes);
    memcpy(x->v, p + 2 * n_bytes, n_bytes);
    *step = h.step;
    return ROTOR_OK;
}

rotor_status train_checkpoint_load(const char *path, const train_settings *set, uint64_t *step,
                                   train_vectors *x, rotor_error *err) {
    base_file f;
    ROTOR_TRY(base_file_open(&f, path, true, err));
    rotor_status st = read_all(&f, set, step, x, err);
    base_file_close(&f);
    return st;
}

rotor_status train_checkpoint_peek(const char *path, uint64_t *step, uint64_t *steps,
                                   rotor_error *err) {
    base_file f;
    head h;
    ROTOR_TRY(base_file_open(&f, path, true, err));
    rotor_status st = read_head(&f, &h, err);
    base_file_close(&f);
    if (st != ROTOR_OK) return st;
    *step = h.step;
    *steps = h.field[STEPS_FIELD];
    return ROTOR_OK;
}
