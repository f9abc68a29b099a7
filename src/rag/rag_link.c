/* SPDX-License-Identifier: MIT
 *
 * Waiting for a PostgreSQL server: to connect, to take what is sent, to answer.
 *
 * Three things end a wait for an answer. The program wants no more of it (rag_patience): a moment
 * later, so that what is quickly done, as taking back what was begun, is done. Nothing came for
 * limit_us, which is a bit longer than the server's own limit for a statement: it had its say. And,
 * for those who wait for as long as it takes: it is not even there for a new connection, which is
 * tried while nothing comes.
 *
 * Threading: as the store's, one at a time. patience.go_on may do work of its own meanwhile, and a
 * server's answer to us is looked for before the clock when it comes back.
 */
#include "rag/rag_link.h"

#include <stdio.h>
#include <stdlib.h>

enum { SECOND_US = 1000000, SLICE_US = 100000, PARTING_US = SECOND_US, CONNECT_S = 10 };
enum { LOOKS = 3 }; /* silence of so many times connect_us, and it is looked whether it is there */

void rag_one_line(char *out, size_t out_bytes, const char *said) {
    size_t n = 0;
    for (; *said && n + 1 < out_bytes; said++) {
        const char c = *said == '\n' || *said == '\t' ? ' ' : *said;
        if (c != ' ' || (n && out[n - 1] != ' ')) out[n++] = c;
    }
    while (n && out[n - 1] == ' ') n--;
    out[n] = 0;
}

static bool goes_on(rag_link *l) {
    const bool on = !l->patience.go_on || l->patience.go_on(l->patience.user);
    l->asked_us = base_now_us();
    return on;
}

/* Whether bytes come or not, it is asked about so often. */
static bool is_to_ask(const rag_link *l, uint64_t now) { return now - l->asked_us >= SLICE_US; }

bool rag_link_is_lost(const rag_link *l) { return l->f->status(l->c) != CONNECTION_OK; }

void rag_link_close(rag_link *l) {
    if (l->c) l->f->finish(l->c);
    l->c = NULL;
}

rotor_status rag_link_fail(const rag_link *l, rotor_error *err) {
    if (l->gave_up == RAG_LINK_CANCELLED)
        return base_fail(err, ROTOR_E_CANCELLED,
                         "%s: interrupted while waiting for the server; what was committed is kept",
                         l->name);
    return base_fail(err, ROTOR_E_IO,
                     "%s: the server is there, or was, and says nothing; the connection is given "
                     "up, and what was committed is kept",
                     l->name);
}

static void give_up(rag_link *l, rag_given_up why) {
    rag_link_close(l);
    l->gave_up = why;
}

bool rag_link_goes_on(rag_link *l) {
    if (!l->c || goes_on(l)) return true;
    give_up(l, RAG_LINK_CANCELLED);
    return false;
}

/* ==== Connecting ============================================================================== */

/* One of several that an address may name. */
typedef struct one_host {
    char host[256], hostaddr[64], port[16]; /* as in an address; "": libpq's own choice */
} one_host;

/* Who is cut off without a word is noticed within a minute; older ones of libpq cannot limit how
 * long what was sent may wait. What stands behind the address outweighs it, what stands before it
 * does not. */
static PGconn *start(const rag_link *l, const one_host *only) {
    const bool limits = l->f->version() >= 120000;
    const char *const words[] = {"fallback_application_name",
                                 "keepalives_idle",
                                 "keepalives_interval",
                                 "keepalives_count",
                                 limits ? "tcp_user_timeout" : "keepalives_count",
                                 "dbname",
                                 "client_encoding",
                                 only ? "host" : NULL,
                                 "hostaddr",
                                 "port",
                                 NULL};
    const char *const values[] = {"rotor",
                                  "30",
                                  "10",
                                  "3",
                                  limits ? "60000" : "3",
                                  l->url,
                                  "UTF8",
                                  only ? only->host : NULL,
                                  only ? only->hostaddr : NULL,
                                  only ? only->port : NULL,
                                  NULL};
    return l->f->connect(words, values, 1);
}

static const char *option_of(const rag_pq_option *list, const char *word) {
    for (; list && list->keyword; list++)
        if (strcmp(list->keyword, word) == 0) return list->val ? list->val : "";
    return "";
}

/* Part i of a list; the only one there is counts for all. */
static bool part(char *out, size_t out_bytes, const char *list, size_t i) {
    const bool several = strchr(list, ',') != NULL;
    for (; several && i && *list; i--) {
        list += strcspn(list, ",");
        if (!*list) return false;
        list++;
    }
    const size_t n = strcspn(list, ",");
    if (n >= out_bytes) return false;
    memcpy(out, list, n);
    out[n] = 0;
    return true;
}

/* A part that is empty is not one that libpq would take in place of the list. */
static bool names_one(const char *list, const char *one) { return !*list || *one; }

/* False: there are not so many. */
static bool find_host(const rag_link *l, const PGconn *c, size_t i, one_host *out) {
    rag_pq_option *list = l->f->options(c);
    const char *host = option_of(list, "host"), *addr = option_of(list, "hostaddr");
    const bool several = strchr(host, ',') || strchr(addr, ',');
    const bool is = list && several && part(out->host, sizeof out->host, host, i) &&
                    part(out->hostaddr, sizeof out->hostaddr, addr, i) &&
                    names_one(host, out->host) && names_one(addr, out->hostaddr) &&
                    part(out->port, sizeof out->port, option_of(list, "port"), i);
    if (is && !*out->port) snprintf(out->port, sizeof out->port, "5432");
    if (list) l->f->options_free(list);
    return is;
}

/* Nobody who asks for no limit gets one. */
static uint64_t time_for(const rag_link *l, const PGconn *c) {
    rag_pq_option *list = l->f->options(c);
    const char *said = option_of(list, "connect_timeout");
    char *end;
    const long whole = strtol(said, &end, 10), s = *said && !*end ? whole : CONNECT_S;
    if (list) l->f->options_free(list);
    return s > 0 ? (uint64_t)BASE_MIN(s, 86400L) * SECOND_US : 0;
}

/* May a connection take more time? *begun moves on by what the program does meanwhile. One that
 * sends bytes, if nothing that decides, has ten seconds in any case. */
static rag_given_up has_time(rag_link *l, bool sends, uint64_t *begun) {
    const uint64_t now = base_now_us(), least = sends ? CONNECT_S * (uint64_t)SECOND_US : 0;
    if (l->connect_us && now - *begun >= BASE_MAX(l->connect_us, least)) return RAG_LINK_SILENT;
    if (!is_to_ask(l, now)) return RAG_LINK_HELD;
    const bool on = goes_on(l);
    *begun += l->asked_us - now;
    return on ? RAG_LINK_HELD : RAG_LINK_CANCELLED;
}

/* Is it decided? *gave_up where it is not, and never will be. */
static bool poll_connection(rag_link *l, PGconn *c, rag_given_up *gave_up) {
    uint64_t begun = base_now_us();
    int want = PGRES_POLLING_WRITING;
    l->connect_us = time_for(l, c);
    *gave_up = RAG_LINK_HELD;
    while (want == PGRES_POLLING_READING || want == PGRES_POLLING_WRITING) {
        const bool reads = want == PGRES_POLLING_READING;
        const bool ready = base_socket_wait(l->f->socket(c), reads, !reads, SLICE_US);
        if (ready) want = l->f->connect_poll(c);
        if (ready && want != PGRES_POLLING_READING && want != PGRES_POLLING_WRITING) break;
        *gave_up = has_time(l, ready, &begun);
        if (*gave_up != RAG_LINK_HELD) return false;
    }
    return true;
}

/* *out NULL: no memory, or given up. */
static rag_given_up try_one(rag_link *l, const one_host *only, PGconn **out) {
    rag_given_up gave_up = RAG_LINK_HELD;
    *out = start(l, only);
    if (*out && l->f->status(*out) != CONNECTION_BAD && !poll_connection(l, *out, &gave_up)) {
        l->f->finish(*out);
        *out = NULL;
    }
    return gave_up;
}

/* libpq goes on to the next host when one refuses; from one that says nothing we do. */
static rag_given_up try_all(rag_link *l, PGconn **out) {
    one_host only;
    rag_given_up how = try_one(l, NULL, out);
    if (how != RAG_LINK_SILENT) return how;
    PGconn *named = start(l, NULL); /* for what it makes of the address; it goes no further */
    for (size_t i = 0; how == RAG_LINK_SILENT && named && find_host(l, named, i, &only); i++)
        how = try_one(l, &only, out);
    if (named) l->f->finish(named);
    return how;
}

static rotor_status fail_connect(rag_link *l, rotor_error *err) {
    char said[400];
    rag_one_line(said, sizeof said, l->f->error(l->c));
    return base_fail(err, ROTOR_E_IO, "%s: no connection: %s", l->name, said);
}

rotor_status rag_link_connect(rag_link *l, rotor_error *err) {
    rag_link_close(l);
    if (!goes_on(l)) {
        l->gave_up = RAG_LINK_CANCELLED;
        return rag_link_fail(l, err);
    }
    l->gave_up = try_all(l, &l->c);
    if (l->gave_up == RAG_LINK_CANCELLED) return rag_link_fail(l, err);
    if (l->gave_up == RAG_LINK_SILENT)
        return base_fail(err, ROTOR_E_IO,
                         "%s: no connection: the server said nothing for %llu seconds "
                         "(connect_timeout=SECONDS in the address gives it more)",
                         l->name, (unsigned long long)(l->connect_us / SECOND_US));
    if (!l->c) return base_fail_nomem(err, "opening a database");
    if (rag_link_is_lost(l)) return fail_connect(l, err);
    l->limit_us = l->connect_us;
    if (l->f->nonblocking(l->c, 1) == 0) return ROTOR_OK;
    return fail_connect(l, err);
}

/* ==== Waiting for an answer =================================================================== */

/* Does it answer anybody? A refusal is an answer. */
static bool is_there(rag_link *l) {
    PGconn *c;
    rag_link other = *l;
    const rag_given_up how = try_all(&other, &c);
    if (c) l->f->finish(c);
    return how != RAG_LINK_SILENT;
}

/* Does the program want more of it? A moment is left where it does not; false: it is given up. */
static bool is_wanted(rag_link *l, uint64_t now) {
    if (!is_to_ask(l, now)) return true;
    if (goes_on(l)) {
        l->impatient_us = 0;
        return true;
    }
    if (!l->impatient_us) l->impatient_us = now;
    if (now - l->impatient_us < PARTING_US) return true;
    give_up(l, RAG_LINK_CANCELLED);
    return false;
}

/* Nothing came for a while; false: it is given up. now: when that was seen. */
static bool may_wait(rag_link *l, uint64_t now) {
    const bool late = l->limit_us && now - l->heard_us >= l->limit_us;
    const bool look = l->connect_us && now - l->looked_us >= LOOKS * l->connect_us;
    if (late || (look && !is_there(l))) {
        give_up(l, RAG_LINK_SILENT);
        return false;
    }
    if (look) l->looked_us = base_now_us();
    return is_wanted(l, now);
}

/* Until there is something to read, or (writes) room to write. Who always has something to say
 * does not keep the program for ever either. */
static bool wait_for(rag_link *l, bool writes) {
    if (l->f->socket(l->c) < 0) return true; /* broken: who reads on is told */
    while (!base_socket_wait(l->f->socket(l->c), true, writes, SLICE_US))
        if (!may_wait(l, base_now_us())) return false;
    const bool wanted = is_wanted(l, base_now_us());
    l->heard_us = l->looked_us = base_now_us();
    return wanted;
}

/* All is sent, and a result is there, or the connection broken; false: given up. */
static bool complete(rag_link *l) {
    bool fine = true;
    while (fine && l->f->flush(l->c) > 0) {
        if (!wait_for(l, true)) return false;
        fine = l->f->consume(l->c);
    }
    while (fine && l->f->busy(l->c)) {
        if (!wait_for(l, false)) return false;
        fine = l->f->consume(l->c);
    }
    return true;
}

PGresult *rag_link_answer(rag_link *l, int sent) {
    PGresult *last = NULL, *next = NULL;
    l->heard_us = l->looked_us = base_now_us();
    l->impatient_us = 0;
    while (sent && complete(l) && (next = l->f->result(l->c))) {
        l->f->clear(last);
        last = next;
    }
    if (l->c || !last) return last;
    l->f->clear(last);
    return NULL;
}
