/* SPDX-License-Identifier: MIT
 *
 * What both kinds of database have in common: values in, columns out.
 */
#include "rag/rag_sql.h"

#include <assert.h>
#include <stdio.h>

void rag_sql_close(rag_sql *q) {
    if (q->kind && q->at) q->kind->close(q->at);
    *q = (rag_sql){0};
}

rotor_status rag_sql_run(rag_sql *q, const char *sql, rotor_error *err) {
    return q->kind->run(q->at, sql, err);
}

/* ==== Statements ============================================================================== */

static base_str word(const char *s) { return base_str_of(s ? s : ""); }

static size_t take_values(rag_value *out, const char *kinds, va_list *ap) {
    size_t n = 0;
    for (; kinds[n]; n++) {
        rag_value *v = &out[n];
        assert(n < RAG_MAX_VALUES);
        *v = (rag_value){.kind = kinds[n]};
        if (v->kind == 'i')
            v->whole = va_arg(*ap, int64_t);
        else if (v->kind == 'd')
            v->real = va_arg(*ap, double);
        else if (v->kind == 's')
            v->text = word(va_arg(*ap, const char *));
        else
            v->text = *va_arg(*ap, const base_str *);
        if (!v->text.n) v->text.p = "";
    }
    return n;
}

static rotor_status begin_rows(rag_sql *q, rag_reply *r, rotor_error *err, const char *sql,
                               bool many, const char *kinds, va_list *ap) {
    rag_value v[RAG_MAX_VALUES];
    const size_t n = take_values(v, kinds, ap);
    *r = (rag_reply){.sql = q};
    return q->kind->rows(r, sql, v, n, many, err);
}

rotor_status rag_sql_rows(rag_sql *q, rag_reply *r, rotor_error *err, const char *sql,
                          const char *kinds, ...) {
    va_list ap;
    va_start(ap, kinds);
    const rotor_status st = begin_rows(q, r, err, sql, false, kinds, &ap);
    va_end(ap);
    return st;
}

rotor_status rag_sql_many(rag_sql *q, rag_reply *r, rotor_error *err, const char *sql,
                          const char *kinds, ...) {
    va_list ap;
    va_start(ap, kinds);
    const rotor_status st = begin_rows(q, r, err, sql, true, kinds, &ap);
    va_end(ap);
    return st;
}

bool rag_sql_next(rag_reply *r, rotor_status *st, rotor_error *err) {
    return r->at && r->sql->kind->next(r, st, err);
}

rotor_status rag_sql_do(rag_sql *q, rotor_error *err, const char *sql, const char *kinds, ...) {
    rag_reply r;
    va_list ap;
    va_start(ap, kinds);
    rotor_status st = begin_rows(q, &r, err, sql, false, kinds, &ap);
    va_end(ap);
    while (rag_sql_next(&r, &st, err)) {
    }
    return st;
}

rotor_status rag_sql_number(rag_sql *q, int64_t *out, rotor_error *err, const char *sql,
                            const char *kinds, ...) {
    rag_reply r;
    va_list ap;
    va_start(ap, kinds);
    rotor_status st = begin_rows(q, &r, err, sql, false, kinds, &ap);
    va_end(ap);
    *out = 0;
    while (rag_sql_next(&r, &st, err)) *out = rag_col_int(&r, 0);
    return st;
}

size_t rag_sql_changed(rag_sql *q) { return (size_t)q->kind->changed(q->at); }
int64_t rag_sql_changes(rag_sql *q) { return q->kind->changes(q->at); }

/* ==== Columns ================================================================================= */

int64_t rag_col_int(const rag_reply *r, int col) { return r->sql->kind->col_int(r, col); }
double rag_col_real(const rag_reply *r, int col) { return r->sql->kind->col_real(r, col); }
base_str rag_col_blob(const rag_reply *r, int col) { return r->sql->kind->col_blob(r, col); }

const char *rag_col_text(const rag_reply *r, int col) {
    const base_str b = rag_col_blob(r, col);
    return b.p ? b.p : "";
}

void rag_col_copy(const rag_reply *r, int col, char *out, size_t out_bytes) {
    snprintf(out, out_bytes, "%s", rag_col_text(r, col));
}
