/* SPDX-License-Identifier: MIT
 *
 * One connection to a PostgreSQL server, through libpq.
 *
 * Question marks become $1, $2 …; statements are prepared once and found again by the address of
 * their text. Values and columns travel as the server keeps them (a whole number is eight bytes,
 * the highest first), so that bytes are bytes. The server finds out itself whether bytes are text.
 *
 * An answer of unknown size comes through a cursor, in pieces of about a megabyte; cursors live in
 * a transaction, and where there is none one is made for it.
 */
#include "rag/rag_link.h"
#include "rag/rag_sql.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct pg_stmt {
    const char *text; /* by address */
    bool prepared;    /* on this connection */
} pg_stmt;

typedef struct pg {
    const rag_libpq *f;     /* libpq's functions */
    rag_link l;             /* connection */
    char *url, *name;       /* of the server; the same for messages; owned */
    char *setup;            /* what each connection begins with, owned */
    pg_stmt *stmt;          /* [n] owned */
    size_t n;               /* statements */
    unsigned cursors;       /* opened so far */
    int64_t changed, total; /* rows: of the last statement, of all */
    uint64_t patient_us;    /* as l.limit_us, in a transaction that has read a large answer */
    bool patient;           /* in such a one */
    char code[6];           /* of the last failure */
    rag_pg_back back;       /* asked when the connection is lost; NULL: nobody */
    void *user;             /* of back */
} pg;

enum { INT8 = 20, FLOAT8 = 701, BINARY = 1, TEXT = 0 }; /* the server's numbers */
enum { WAY_US = 1000000 };
enum { FEW = 16, MANY = 4096, SMALL_BYTES = 1 << 18, LARGE_BYTES = 1 << 21 };

/* ==== What went wrong ========================================================================= */

static bool is_of(const pg *q, const char *class) {
    return strncmp(q->code, class, strlen(class)) == 0;
}

static rotor_status fail_lost(const pg *q, const char *said, rotor_error *err) {
    return base_fail(err, ROTOR_E_IO,
                     "%s: the connection to the server is lost; what was committed is kept (%s)",
                     q->name, said);
}

/* Codes are in appendix A of the server's manual. */
static rotor_status fail(pg *q, const PGresult *r, rotor_error *err) {
    char said[400];
    if (q->l.gave_up != RAG_LINK_HELD) return rag_link_fail(&q->l, err);
    const char *code = r ? q->f->field(r, 'C') : NULL, *text = r ? q->f->field(r, 'M') : NULL;
    snprintf(q->code, sizeof q->code, "%s", code ? code : "");
    rag_one_line(said, sizeof said, text ? text : q->f->error(q->l.c));
    if (rag_link_is_lost(&q->l) || is_of(q, "57P")) return fail_lost(q, said, err);
    if (is_of(q, "57014"))
        return base_fail(err, ROTOR_E_IO, "%s: the server did not answer in time (%s)", q->name,
                         said);
    if (is_of(q, "53100"))
        return base_fail(err, ROTOR_E_IO,
                         "%s: the server's disk is full; what was committed is kept", q->name);
    if (is_of(q, "40") || is_of(q, "55P03"))
        return base_fail(err, ROTOR_E_STATE, "%s: another program is using it (%s)", q->name, said);
    if (is_of(q, "42501"))
        return base_fail(err, ROTOR_E_IO, "%s: this user may not do that (%s)", q->name, said);
    if (is_of(q, "25006"))
        return base_fail(err, ROTOR_E_IO, "%s: may not be written (%s)", q->name, said);
    if (is_of(q, "XX00")) return base_fail(err, ROTOR_E_FORMAT, "%s: damaged (%s)", q->name, said);
    return base_fail(err, ROTOR_E_IO, "%s: %s", q->name, said);
}

/* Takes r. */
static rotor_status judge(pg *q, PGresult *r, rotor_error *err) {
    const int is = r ? q->f->result_status(r) : -1;
    const bool good = is == PGRES_COMMAND_OK || is == PGRES_TUPLES_OK;
    const rotor_status st = good ? ROTOR_OK : fail(q, r, err);
    q->f->clear(r);
    return st;
}

/* The answer to what was sent, under the limit that the server has itself just now. */
static PGresult *answer(pg *q, int sent) {
    const uint64_t limit_us = q->l.limit_us;
    if (q->patient) q->l.limit_us = q->patient_us;
    PGresult *r = rag_link_answer(&q->l, sent);
    q->l.limit_us = limit_us;
    return r;
}

/* What begins or ends a transaction ends what was set in it. */
static rotor_status run(void *at, const char *sql, rotor_error *err) {
    pg *q = at;
    if (strncmp(sql, "BEGIN", 5) == 0 || strncmp(sql, "COMMIT", 6) == 0 ||
        strcmp(sql, "ROLLBACK") == 0)
        q->patient = false;
    return judge(q, answer(q, q->f->send(q->l.c, sql)), err);
}

/* *us: how long an answer may be waited for from here on: as long as the server itself gives each
 * statement, and the time that a connection takes for the way. 0: for ever. */
static rotor_status run_limit(pg *q, const char *sql, uint64_t *us, rotor_error *err) {
    base_buf all = {0};
    base_buf_printf(&all, "%s;SELECT setting FROM pg_settings WHERE name='statement_timeout'", sql);
    if (all.failed) return base_fail_nomem(err, "using the database");
    PGresult *r = rag_link_answer(&q->l, q->f->send(q->l.c, all.data));
    const bool one = r && q->f->result_status(r) == PGRES_TUPLES_OK && q->f->rows(r) == 1;
    const uint64_t ms = one ? strtoull(q->f->value(r, 0, 0), NULL, 10) : 0;
    base_buf_free(&all);
    ROTOR_TRY(judge(q, r, err));
    *us = ms ? ms * 1000 + BASE_MAX(q->l.connect_us, (uint64_t)WAY_US) : 0;
    return ROTOR_OK;
}

/* ==== Opening ================================================================================= */

static void say_nothing(void *user, const char *text) { (void)user, (void)text; }

static void close_pg(void *at) {
    pg *q = at;
    rag_link_close(&q->l);
    base_free(q->stmt);
    base_free(q->url);
    base_free(q->name);
    base_free(q->setup);
    base_free(q);
}

/* A server of 14 or later notices that nobody waits for a statement any more, and undoes it. */
static void ask_for_care(pg *q) {
    if (q->f->server(q->l.c) >= 140000)
        run(q,
            "SELECT set_config('client_connection_check_interval','10s',false)"
            " WHERE current_setting('client_connection_check_interval')='0'",
            NULL);
}

static rotor_status begin_session(pg *q, rotor_error *err) {
    for (size_t i = 0; i < q->n; i++) q->stmt[i].prepared = false;
    q->patient = false;
    ROTOR_TRY(rag_link_connect(&q->l, err));
    q->f->notices(q->l.c, say_nothing, NULL);
    const char *encoding = q->f->parameter(q->l.c, "server_encoding");
    if (!encoding || strcmp(encoding, "UTF8") != 0)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: the database holds text as %s; a store needs one made with CREATE "
                         "DATABASE … ENCODING 'UTF8' TEMPLATE template0",
                         q->name, encoding ? encoding : "something unknown");
    ROTOR_TRY(run_limit(q, q->setup, &q->l.limit_us, err));
    ask_for_care(q);
    return ROTOR_OK;
}

/* What would be read as another part of the address would be told to the world in messages. */
static rotor_status check_password(const char *url, const char *name, rotor_error *err) {
    const base_str p = base_url_password(url);
    for (size_t i = 0; i < p.n; i++)
        if (strchr("/?#@[]", p.p[i]))
            return base_fail(err, ROTOR_E_ARG,
                             "%s: in an address / ? # @ %% of a password are written %%2F %%3F "
                             "%%23 %%40 %%25; or leave it out, and put it into ~/.pgpass",
                             name);
    return ROTOR_OK;
}

/* libpq's own words about an address hold parts of it, also of the password: they are not read. */
static rotor_status check_address(const rag_libpq *f, const char *url, const char *name,
                                  rotor_error *err) {
    void *parsed = f->parse(url, NULL);
    if (!parsed)
        return base_fail(err, ROTOR_E_ARG,
                         "%s: libpq does not take this address: expected "
                         "postgres://USER@HOST:PORT/DATABASE?KEY=VALUE with keys that it knows, "
                         "and %% of a name or a password written %%25",
                         name);
    f->parse_free(parsed);
    return ROTOR_OK;
}

rotor_status rag_pg_open(rag_sql *out, const char *url, const char *name, const char *setup,
                         rag_patience patience, rotor_error *err) {
    const rag_libpq *f;
    ROTOR_TRY(check_password(url, name, err));
    ROTOR_TRY(rag_libpq_find(&f, err));
    ROTOR_TRY(check_address(f, url, name, err));
    pg *q = base_alloc(sizeof *q);
    if (!q) return base_fail_nomem(err, "opening a database");
    *out = (rag_sql){&rag_postgres, q};
    q->f = f;
    q->url = base_strdup(url);
    q->name = base_strdup(name);
    q->setup = base_strdup(setup);
    if (!q->url || !q->name || !q->setup) return base_fail_nomem(err, "opening a database");
    q->l = (rag_link){.f = f, .url = q->url, .name = q->name, .patience = patience};
    return begin_session(q, err);
}

bool rag_pg_is_lost(const rag_sql *of) { return rag_link_is_lost(&((const pg *)of->at)->l); }

bool rag_pg_gave_up(const rag_sql *of) { return ((const pg *)of->at)->l.gave_up != RAG_LINK_HELD; }

rotor_status rag_pg_again(rag_sql *of, rotor_error *err) { return begin_session(of->at, err); }

rotor_status rag_pg_limit(rag_sql *of, const char *sql, rotor_error *err) {
    pg *q = of->at;
    return run_limit(q, sql, &q->l.limit_us, err);
}

void rag_pg_on_loss(rag_sql *of, rag_pg_back back, void *user) {
    pg *q = of->at;
    q->back = back;
    q->user = user;
}

/* Who makes the connection anew asks questions too, and is not to be asked for one by them. */
static rotor_status come_back(pg *q, rotor_error *err) {
    const rag_pg_back back = q->back;
    q->back = NULL;
    const rotor_status st = back(q->user, err);
    q->back = back;
    return st;
}

const char *rag_pg_code(const rag_sql *of) { return ((const pg *)of->at)->code; }

/* ==== Statements ============================================================================== */

/* $1 for the first question mark, and so on; none of them stands in quotes. */
static void number_marks(base_buf *out, const char *sql) {
    int n = 0;
    for (size_t k; *sql; sql += k) {
        k = strcspn(sql, "?");
        base_buf_append(out, sql, k);
        if (!sql[k]) return;
        base_buf_printf(out, "$%d", ++n);
        k++;
    }
}

typedef struct parameters {
    char number[RAG_MAX_VALUES][8];    /* bytes of numbers, the highest first */
    const char *value[RAG_MAX_VALUES]; /* bytes of all */
    int length[RAG_MAX_VALUES];        /* how many */
    int format[RAG_MAX_VALUES];        /* BINARY */
    unsigned type[RAG_MAX_VALUES];     /* 0: the server knows best */
    int n;                             /* values */
} parameters;

static rotor_status pack(const pg *q, parameters *p, const rag_value *v, size_t n,
                         rotor_error *err) {
    p->n = (int)n;
    for (size_t i = 0; i < n; i++) {
        const bool number = v[i].kind == 'i' || v[i].kind == 'd';
        uint64_t bits = (uint64_t)v[i].whole;
        if (v[i].kind == 'd') memcpy(&bits, &v[i].real, sizeof bits);
        for (int k = 0; k < 8; k++) p->number[i][k] = (char)(bits >> (56 - 8 * k));
        if (v[i].text.n > INT32_MAX / 2)
            return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: %zu bytes are too much for a column",
                             q->name, v[i].text.n);
        p->value[i] = number ? p->number[i] : v[i].text.p;
        p->length[i] = number ? 8 : (int)v[i].text.n;
        p->format[i] = BINARY;
        p->type[i] = v[i].kind == 'i' ? INT8 : v[i].kind == 'd' ? FLOAT8 : 0;
    }
    return ROTOR_OK;
}

static rotor_status remember(pg *q, size_t *at, const char *sql, rotor_error *err) {
    for (*at = 0; *at < q->n; ++*at)
        if (q->stmt[*at].text == sql) return ROTOR_OK;
    pg_stmt *more = base_realloc(q->stmt, (q->n + 1) * sizeof *more);
    if (!more) return base_fail_nomem(err, "using the database");
    q->stmt = more;
    q->stmt[q->n++] = (pg_stmt){.text = sql};
    return ROTOR_OK;
}

static rotor_status prepare(pg *q, char name[24], const char *sql, const parameters *p,
                            rotor_error *err) {
    size_t at;
    ROTOR_TRY(remember(q, &at, sql, err));
    snprintf(name, 24, "s%zu", at);
    if (q->stmt[at].prepared) return ROTOR_OK;
    base_buf text = {0};
    number_marks(&text, sql);
    const rotor_status st =
        text.failed
            ? base_fail_nomem(err, "using the database")
            : judge(q, answer(q, q->f->send_prepare(q->l.c, name, text.data, p->n, p->type)), err);
    base_buf_free(&text);
    q->stmt[at].prepared = st == ROTOR_OK;
    return st;
}

/* Takes a result as what there is to look at. */
static rotor_status hold(rag_reply *r, PGresult *result, rotor_error *err) {
    pg *q = r->sql->at;
    const int is = result ? q->f->result_status(result) : -1;
    if (is != PGRES_COMMAND_OK && is != PGRES_TUPLES_OK) return judge(q, result, err);
    r->at = result;
    r->row = -1;
    r->n = q->f->rows(result);
    return ROTOR_OK;
}

static bool is_question(const char *sql) { return strncmp(sql, "SELECT", 6) == 0; }

static rotor_status ask_once(rag_reply *r, const char *sql, const parameters *p, rotor_error *err) {
    pg *q = r->sql->at;
    char name[24];
    ROTOR_TRY(prepare(q, name, sql, p, err));
    const int sent =
        q->f->send_prepared(q->l.c, name, p->n, p->value, p->length, p->format, BINARY);
    ROTOR_TRY(hold(r, answer(q, sent), err));
    q->changed = is_question(sql) ? 0 : strtoll(q->f->changed(r->at), NULL, 10);
    q->total += q->changed;
    return ROTOR_OK;
}

/* ==== Cursors ================================================================================= */

static rotor_status fetch(rag_reply *r, rotor_error *err) {
    pg *q = r->sql->at;
    char sql[64];
    q->f->clear(r->at);
    r->at = NULL;
    if (!rag_link_goes_on(&q->l)) return rag_link_fail(&q->l, err);
    snprintf(sql, sizeof sql, "FETCH %d FROM c%u", r->some, r->cursor);
    const int sent = q->f->send_values(q->l.c, sql, 0, NULL, NULL, NULL, NULL, BINARY);
    return hold(r, answer(q, sent), err);
}

/* A reader's limit is for one answer; a large one may take its time before the first row comes. */
#define PATIENCE                                                                                   \
    "SELECT set_config('statement_timeout','15min',true)"                                          \
    " WHERE current_setting('statement_timeout')='1min'"

static rotor_status declare(rag_reply *r, const char *sql, const parameters *p, rotor_error *err) {
    pg *q = r->sql->at;
    base_buf text = {0};
    base_buf_printf(&text, "DECLARE c%u NO SCROLL CURSOR FOR ", r->cursor);
    number_marks(&text, sql);
    if (text.failed) return base_fail_nomem(err, "using the database");
    const int sent =
        q->f->send_values(q->l.c, text.data, p->n, p->type, p->value, p->length, p->format, BINARY);
    base_buf_free(&text);
    return judge(q, answer(q, sent), err);
}

static rotor_status ask_in_parts(rag_reply *r, const char *sql, const parameters *p,
                                 rotor_error *err) {
    pg *q = r->sql->at;
    r->own = q->f->transaction(q->l.c) == PQTRANS_IDLE;
    rotor_status st =
        run_limit(q, r->own ? "BEGIN READ ONLY;" PATIENCE : PATIENCE, &q->patient_us, err);
    q->patient = st == ROTOR_OK;
    r->cursor = ++q->cursors;
    r->some = FEW;
    if (st == ROTOR_OK) st = declare(r, sql, p, err);
    if (st == ROTOR_OK) st = fetch(r, err);
    if (st != ROTOR_OK && r->own) run(q, "ROLLBACK", NULL);
    return st;
}

/* About a megabyte at a time: more of small rows, fewer of large ones. */
static void learn_size(rag_reply *r) {
    const pg *q = r->sql->at;
    const int columns = q->f->columns(r->at);
    size_t bytes = 0;
    for (int i = 0; i < r->n; i++)
        for (int c = 0; c < columns; c++) bytes += (size_t)q->f->length(r->at, i, c);
    if (bytes < SMALL_BYTES && r->some < MANY) r->some *= 4;
    if (bytes > LARGE_BYTES && r->some > 1) r->some /= 4;
}

static void end(rag_reply *r, rotor_status *st, rotor_error *err) {
    pg *q = r->sql->at;
    char sql[32];
    q->f->clear(r->at);
    r->at = NULL;
    if (!r->cursor) return;
    snprintf(sql, sizeof sql, "CLOSE c%u", r->cursor);
    const rotor_status done = run(q, r->own ? "COMMIT" : sql, *st == ROTOR_OK ? err : NULL);
    if (*st == ROTOR_OK) *st = done;
}

static rotor_status ask(rag_reply *r, const char *sql, const parameters *p, bool many,
                        rotor_error *err) {
    return many ? ask_in_parts(r, sql, p, err) : ask_once(r, sql, p, err);
}

/* A question that is asked outside of any transaction may be asked again, of a server that was
 * restarted meanwhile; of a change nobody knows whether it was made. One that was not answered is
 * not: whoever waited so long is told. */
static rotor_status rows(rag_reply *r, const char *sql, const rag_value *v, size_t n, bool many,
                         rotor_error *err) {
    parameters p;
    pg *q = r->sql->at;
    const int was = q->f->transaction(q->l.c);
    const bool free = was == PQTRANS_IDLE || was == PQTRANS_UNKNOWN;
    const bool again = free && q->back && is_question(sql);
    ROTOR_TRY(pack(q, &p, v, n, err));
    if (again && !q->l.c) ROTOR_TRY(come_back(q, err));
    const rotor_status st = ask(r, sql, &p, many, err);
    if (st == ROTOR_OK || !again || !rag_link_is_lost(&q->l) || !q->l.c) return st;
    ROTOR_TRY(come_back(q, err));
    *r = (rag_reply){.sql = r->sql};
    return ask(r, sql, &p, many, err);
}

static bool next(rag_reply *r, rotor_status *st, rotor_error *err) {
    const bool more = r->cursor && r->n == r->some;
    if (*st == ROTOR_OK && r->row + 1 == r->n && more) {
        learn_size(r);
        *st = fetch(r, err);
    }
    if (*st == ROTOR_OK && r->row + 1 < r->n) {
        r->row++;
        return true;
    }
    end(r, st, err);
    return false;
}

static int64_t changed(void *at) { return ((pg *)at)->changed; }
static int64_t changes(void *at) { return ((pg *)at)->total; }

/* ==== Columns ================================================================================= */

static uint64_t bits_of(const rag_reply *r, int col, int *n) {
    const pg *q = r->sql->at;
    const unsigned char *p = (const unsigned char *)q->f->value(r->at, r->row, col);
    uint64_t bits = 0;
    *n = q->f->length(r->at, r->row, col);
    for (int i = 0; i < *n && i < 8; i++) bits = bits << 8 | p[i];
    return bits;
}

static int64_t col_int(const rag_reply *r, int col) {
    int n;
    const uint64_t bits = bits_of(r, col, &n);
    return n == 4 ? (int32_t)(uint32_t)bits : n == 2 ? (int16_t)(uint16_t)bits : (int64_t)bits;
}

static double col_real(const rag_reply *r, int col) {
    int n;
    double v = 0;
    const uint64_t bits = bits_of(r, col, &n);
    if (n == 8) memcpy(&v, &bits, sizeof v);
    return v;
}

static base_str col_blob(const rag_reply *r, int col) {
    const pg *q = r->sql->at;
    return (base_str){q->f->value(r->at, r->row, col), (size_t)q->f->length(r->at, r->row, col)};
}

const rag_sql_kind rag_postgres = {close_pg, run,     rows,     next,    changed,
                                   changes,  col_int, col_real, col_blob};
