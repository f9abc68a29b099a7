/* SPDX-License-Identifier: MIT
 *
 * rotor inspect: what is in a model file, as text or as one JSON object. Exit status 1 when
 * --verify finds a bad tensor.
 */
#include "cli/cli.h"

#include <jansson.h>
#include <stdio.h>

typedef struct view {
    const cli_args *a;          /* options */
    tool_file *f;               /* the file */
    const tool_facts *t;        /* its facts */
    json_t *root;               /* with --json; else NULL */
    json_t *bad;                /* list of bad tensors with --json */
    tool_verify_result verdict; /* of --verify */
} view;

static bool shown(const view *v, size_t i) {
    return !cli_given(v->a, OPT_LAYER) ||
           tool_in_layer(v->f, i, (uint32_t)cli_int(v->a, OPT_LAYER));
}

static const uint64_t contexts[] = {512, 2048, 4096, 8192, 32768, 131072};

/* ==== Text ==================================================================================== */

static void fact_str(const char *label, base_str s) {
    if (s.n) cli_outf("%-14s %.*s\n", label, (int)s.n, s.p);
}

static void fact_num(const char *label, uint64_t v) {
    if (v) cli_outf("%-14s %llu\n", label, (unsigned long long)v);
}

static void text_facts(const view *v, const char *name) {
    const tool_facts *t = v->t;
    char b[32];
    cli_outf("%-14s %s (%s, %s, %zu tensors, %zu metadata entries)\n", "file", name, t->format,
             cli_bytes(t->file_bytes, b), t->n_tensors, t->n_kvs);
    fact_str("name", t->name);
    if (t->architecture.n)
        cli_outf("%-14s %.*s%s\n", "architecture", (int)t->architecture.n, t->architecture.p,
                 t->loadable || t->adapter ? "" : " (can be inspected, not run, by this version)");
    if (t->adapter)
        cli_outf(
            "%-14s low-rank, rank %u, alpha %g; for a model of this architecture: --lora FILE\n",
            "adapter", t->lora_rank, t->lora_alpha);
    fact_str("license", t->license);
    cli_outf("%-14s %.3f billion\n", "parameters", (double)t->n_params / 1e9);
    cli_outf("%-14s %s\n", "matrices", t->type);
    fact_num("layers", t->n_layer);
    fact_num("embedding", t->n_embd);
    fact_num("feed-forward", t->n_ff);
    if (t->n_head)
        cli_outf("%-14s %u of size %u, %u for keys and values\n", "heads", t->n_head, t->d_key,
                 t->n_head_kv);
    if (t->n_expert) cli_outf("%-14s %u, %u per token\n", "experts", t->n_expert, t->n_expert_used);
    fact_num("window", t->window);
    fact_num("context", t->n_ctx);
    fact_num("vocabulary", t->n_vocab);
    if (t->tokenizer.n)
        cli_outf("%-14s %.*s%s%.*s\n", "tokenizer", (int)t->tokenizer.n, t->tokenizer.p,
                 t->pre.n ? " / " : "", (int)t->pre.n, t->pre.n ? t->pre.p : "");
}

static void text_memory(const view *v) {
    char a[32], b[32], c[32], d[32];
    const uint64_t have = cli_memory_available(v->a);
    if (!v->t->n_layer || !v->t->n_head) return;
    cli_outf("\nmemory          weights      KV f16       KV q8        weights + KV f16, of %s "
             "available\n",
             cli_bytes(have, a));
    for (size_t i = 0; i < BASE_COUNT(contexts); i++) {
        if (i && contexts[i] > v->t->n_ctx) break;
        uint64_t n = BASE_MIN(contexts[i], BASE_MAX(v->t->n_ctx, 1u));
        uint64_t kv = tool_kv_bytes(v->t, n, 2);
        cli_outf("%6llu tokens   %-12s %-12s %-12s %s%s\n", (unsigned long long)n,
                 cli_bytes(v->t->tensor_bytes, a), cli_bytes(kv, b),
                 cli_bytes(tool_kv_bytes(v->t, n, 34.0 / 32), c),
                 cli_bytes(v->t->tensor_bytes + kv, d), cli_memory_advice(v->t, n, have));
    }
}

static void text_kvs(const view *v) {
    if (!v->t->n_kvs) return;
    cli_outf("\nmetadata\n");
    for (size_t i = 0; i < v->t->n_kvs; i++) {
        base_str key;
        base_buf value = {0};
        tool_file_kv(v->f, i, &key, &value);
        for (size_t k = 0; k < value.len; k++)
            if ((unsigned char)value.data[k] < ' ') value.data[k] = ' ';
        cli_outf("  %-44.*s %s\n", (int)key.n, key.p, value.data ? value.data : "");
        base_buf_free(&value);
    }
}

static void dims_text(const tool_tensor *t, char *out, size_t n) {
    int at = 0;
    for (uint32_t i = 0; i < t->n_dims && at >= 0 && (size_t)at < n; i++)
        at += snprintf(out + at, n - (size_t)at, "%s%llu", i ? " x " : "",
                       (unsigned long long)t->dims[i]);
}

static void text_tensors(const view *v) {
    cli_outf("\n%-36s %-8s %-24s %14s %14s\n", "tensor", "type", "shape (fastest first)", "bytes",
             "offset");
    for (size_t i = 0; i < v->t->n_tensors; i++) {
        tool_tensor t = tool_file_tensor(v->f, i);
        char dims[96];
        if (!shown(v, i)) continue;
        dims_text(&t, dims, sizeof dims);
        cli_outf("%-36.*s %-8s %-24s %14llu %14llu\n", (int)t.name.n, t.name.p, t.type, dims,
                 (unsigned long long)t.bytes, (unsigned long long)t.offset);
    }
}

/* ==== JSON ==================================================================================== */

static void set_num(json_t *o, const char *key, uint64_t v) {
    json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void set_str(json_t *o, const char *key, base_str s) {
    json_object_set_new(o, key, cli_json_text(s.p ? s.p : "", s.n));
}

static void json_facts(const view *v, const char *name) {
    const tool_facts *t = v->t;
    set_str(v->root, "file", base_str_of(name));
    set_str(v->root, "format", base_str_of(t->format));
    set_str(v->root, "architecture", t->architecture);
    json_object_set_new(v->root, "loadable", json_boolean(t->loadable));
    json_object_set_new(v->root, "adapter", json_boolean(t->adapter));
    if (t->adapter) {
        set_num(v->root, "lora_rank", t->lora_rank);
        json_object_set_new(v->root, "lora_alpha", json_real(t->lora_alpha));
    }
    set_str(v->root, "name", t->name);
    set_str(v->root, "license", t->license);
    set_str(v->root, "type", base_str_of(t->type));
    set_str(v->root, "tokenizer", t->tokenizer);
    set_str(v->root, "pre", t->pre);
    set_num(v->root, "n_params", t->n_params);
    set_num(v->root, "file_bytes", t->file_bytes);
    set_num(v->root, "tensor_bytes", t->tensor_bytes);
    set_num(v->root, "n_layer", t->n_layer);
    set_num(v->root, "n_embd", t->n_embd);
    set_num(v->root, "n_ff", t->n_ff);
    set_num(v->root, "n_head", t->n_head);
    set_num(v->root, "n_head_kv", t->n_head_kv);
    set_num(v->root, "d_head", t->d_key);
    set_num(v->root, "n_ctx", t->n_ctx);
    set_num(v->root, "n_vocab", t->n_vocab);
    set_num(v->root, "n_expert", t->n_expert);
    set_num(v->root, "n_expert_used", t->n_expert_used);
    set_num(v->root, "window", t->window);
    set_num(v->root, "n_tensors", t->n_tensors);
    set_num(v->root, "n_metadata", t->n_kvs);
}

static void json_memory(const view *v) {
    json_t *list = json_array();
    for (size_t i = 0; i < BASE_COUNT(contexts) && v->t->n_head; i++) {
        if (i && contexts[i] > v->t->n_ctx) break;
        uint64_t n = BASE_MIN(contexts[i], BASE_MAX(v->t->n_ctx, 1u));
        json_t *one = json_object();
        set_num(one, "ctx", n);
        set_num(one, "kv_f32_bytes", tool_kv_bytes(v->t, n, 4));
        set_num(one, "kv_f16_bytes", tool_kv_bytes(v->t, n, 2));
        set_num(one, "kv_q8_bytes", tool_kv_bytes(v->t, n, 34.0 / 32));
        set_num(one, "total_f16_bytes", v->t->tensor_bytes + tool_kv_bytes(v->t, n, 2));
        json_object_set_new(
            one, "fits",
            json_boolean(*cli_memory_advice(v->t, n, cli_memory_available(v->a)) == 0));
        json_array_append_new(list, one);
    }
    json_object_set_new(v->root, "memory", list);
    set_num(v->root, "available_bytes", cli_memory_available(v->a));
}

static void json_kvs(const view *v) {
    json_t *o = json_object();
    for (size_t i = 0; i < v->t->n_kvs; i++) {
        base_str key;
        base_buf value = {0};
        tool_file_kv(v->f, i, &key, &value);
        char *name = base_strndup(key.p, key.n);
        if (name) set_str(o, name, (base_str){value.data, value.len});
        base_free(name);
        base_buf_free(&value);
    }
    json_object_set_new(v->root, "metadata", o);
}

static void json_tensors(const view *v) {
    json_t *list = json_array();
    for (size_t i = 0; i < v->t->n_tensors; i++) {
        tool_tensor t = tool_file_tensor(v->f, i);
        if (!shown(v, i)) continue;
        json_t *one = json_object(), *dims = json_array();
        for (uint32_t k = 0; k < t.n_dims; k++)
            json_array_append_new(dims, json_integer((json_int_t)t.dims[k]));
        set_str(one, "name", t.name);
        set_str(one, "type", base_str_of(t.type));
        json_object_set_new(one, "dims", dims);
        set_num(one, "bytes", t.bytes);
        set_num(one, "offset", t.offset);
        json_array_append_new(list, one);
    }
    json_object_set_new(v->root, "tensors", list);
}

/* ==== Verify and stats ======================================================================== */

static void on_bad(void *user, base_str tensor, const char *why) {
    view *v = user;
    if (v->root) {
        json_t *one = json_object();
        set_str(one, "tensor", tensor);
        set_str(one, "reason", base_str_of(why));
        json_array_append_new(v->bad, one);
    } else {
        cli_outf("bad            %.*s: %s\n", (int)tensor.n, tensor.p, why);
    }
}

static rotor_status verify(view *v, rotor_error *err) {
    cli_progress p;
    int layer = cli_given(v->a, OPT_LAYER) ? (int)cli_int(v->a, OPT_LAYER) : -1;
    cli_progress_start(&p, v->a, "verifying");
    tool_progress progress = {cli_progress_step, &p};
    if (v->root) v->bad = json_array();
    rotor_status st =
        tool_verify(v->f, layer, cli_i2s(v->a), on_bad, v, &progress, &v->verdict, err);
    cli_progress_end(&p);
    if (st != ROTOR_OK) return json_decref(v->bad), st;
    const tool_verify_result *r = &v->verdict;
    const char *known = layer < 0 ? tool_known_file(v->f) : NULL;
    if (v->root) {
        json_t *o = json_object();
        json_object_set_new(o, "known_file", known ? json_string(known) : json_null());
        set_num(o, "values", r->n_values);
        set_num(o, "good_tensors", r->n_tensors);
        set_num(o, "bad_tensors", r->n_bad);
        set_num(o, "skipped_tensors", r->n_skipped);
        json_object_set_new(o, "bad", v->bad);
        json_object_set_new(v->root, "verify", o);
    } else {
        cli_outf("\nverified       %llu values, %llu tensors good, %llu bad, %llu of types that "
                 "cannot be decoded\n",
                 (unsigned long long)r->n_values, (unsigned long long)r->n_tensors,
                 (unsigned long long)r->n_bad, (unsigned long long)r->n_skipped);
        if (known) cli_outf("known file     %s\n", known);
    }
    return ROTOR_OK;
}

static void show_stats(const view *v, const tool_tensor *t, const tool_stats *s, json_t *list) {
    double n = (double)BASE_MAX(s->n, 1);
    if (!list) {
        cli_outf("%-36.*s %-8s -:%llu 0:%llu +:%llu (%.1f %% zero) ", (int)t->name.n, t->name.p,
                 t->type, (unsigned long long)s->minus, (unsigned long long)s->zero,
                 (unsigned long long)s->plus, 100 * (double)s->zero / n);
        if (t->ternary) cli_outf("scale %.9g", s->scale_min);
        if (t->ternary && s->scale_max != s->scale_min) cli_outf(" to %.9g", s->scale_max);
        if (!t->ternary)
            cli_outf("min %.6g max %.6g mean %.3g rms %.3g", s->min, s->max, s->mean, s->rms);
        cli_outf("%s\n", s->n_not_finite ? " NOT FINITE" : "");
        return;
    }
    json_t *o = json_object();
    set_str(o, "name", t->name);
    set_str(o, "type", base_str_of(t->type));
    set_num(o, "n", s->n);
    set_num(o, "minus", s->minus);
    set_num(o, "zero", s->zero);
    set_num(o, "plus", s->plus);
    set_num(o, "not_finite", s->n_not_finite);
    json_object_set_new(o, "sparsity", json_real((double)s->zero / n));
    json_object_set_new(o, "min", json_real(s->min));
    json_object_set_new(o, "max", json_real(s->max));
    json_object_set_new(o, "mean", json_real(s->mean));
    json_object_set_new(o, "rms", json_real(s->rms));
    if (t->ternary) {
        json_object_set_new(o, "scale_min", json_real(s->scale_min));
        json_object_set_new(o, "scale_max", json_real(s->scale_max));
    }
    json_array_append_new(list, o);
    (void)v;
}

static rotor_status stats(view *v, rotor_error *err) {
    json_t *list = v->root ? json_array() : NULL;
    if (!list) cli_outf("\n%-36s %-8s values\n", "tensor", "type");
    for (size_t i = 0; i < v->t->n_tensors; i++) {
        tool_tensor t = tool_file_tensor(v->f, i);
        tool_stats s;
        if (!shown(v, i)) continue;
        if (cli_interrupted())
            return json_decref(list), base_fail(err, ROTOR_E_CANCELLED, "stopped");
        if (tool_tensor_stats(v->f, i, cli_i2s(v->a), &s, err) == ROTOR_OK)
            show_stats(v, &t, &s, list);
        else
            cli_log(v->a, BASE_LOG_WARN, "rotor: inspect: %.*s: %s", (int)t.name.n, t.name.p,
                    err->message);
    }
    if (list) json_object_set_new(v->root, "stats", list);
    return ROTOR_OK;
}

/* ==== The verb ================================================================================ */

static rotor_status show(view *v, const char *name, rotor_error *err) {
    bool brief = cli_on(v->a, OPT_STATS) || cli_on(v->a, OPT_VERIFY);
    if (v->root) {
        json_facts(v, name);
        json_memory(v);
        json_kvs(v);
        json_tensors(v);
    } else {
        text_facts(v, name);
        if (!brief) {
            text_memory(v);
            text_kvs(v);
            text_tensors(v);
        }
    }
    if (cli_on(v->a, OPT_STATS)) ROTOR_TRY(stats(v, err));
    if (cli_on(v->a, OPT_VERIFY)) ROTOR_TRY(verify(v, err));
    return ROTOR_OK;
}

int verb_inspect(const cli_args *a) {
    view v = {.a = a};
    cli_model m = {0};
    rotor_error err = {0};
    rotor_status st = cli_model_find(&m, cli_word(a, 0), &err);
    if (st == ROTOR_OK) st = tool_file_open(&v.f, &m.src, &err);
    if (st == ROTOR_OK) {
        v.t = tool_file_facts(v.f);
        if (cli_given(a, OPT_LAYER) && v.t->n_layer && cli_int(a, OPT_LAYER) >= v.t->n_layer)
            st = base_fail(&err, ROTOR_E_ARG, "--layer %lld: this model has layers 0 to %u",
                           (long long)cli_int(a, OPT_LAYER), v.t->n_layer - 1);
    }
    if (st == ROTOR_OK && cli_on(a, OPT_JSON)) v.root = json_object();
    cli_catch_interrupt(true);
    if (st == ROTOR_OK) st = show(&v, m.src.name, &err);
    int status = cli_status(a, st, &err);
    if (v.root && status == CLI_DONE) status = cli_json_print(a, json_incref(v.root));
    json_decref(v.root);
    if (status == CLI_DONE && v.verdict.n_bad)
        status = cli_fail_text(a, "%s: %llu tensors are bad", m.src.name,
                               (unsigned long long)v.verdict.n_bad);
    tool_file_close(&v.f);
    cli_model_free(&m);
    return status;
}
