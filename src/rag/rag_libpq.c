/* SPDX-License-Identifier: MIT
 *
 * Finding libpq: opened once, when the first store on a server is.
 */
#include "rag/rag_libpq.h"

#include <stdatomic.h>
#include <stddef.h>

static const struct {
    const char *name; /* of a function */
    size_t at;        /* of its place in rag_libpq */
} functions[] = {
    {"PQlibVersion", offsetof(rag_libpq, version)},
    {"PQconninfoParse", offsetof(rag_libpq, parse)},
    {"PQconninfoFree", offsetof(rag_libpq, parse_free)},
    {"PQconnectStartParams", offsetof(rag_libpq, connect)},
    {"PQconnectPoll", offsetof(rag_libpq, connect_poll)},
    {"PQconninfo", offsetof(rag_libpq, options)},
    {"PQconninfoFree", offsetof(rag_libpq, options_free)},
    {"PQfinish", offsetof(rag_libpq, finish)},
    {"PQstatus", offsetof(rag_libpq, status)},
    {"PQtransactionStatus", offsetof(rag_libpq, transaction)},
    {"PQerrorMessage", offsetof(rag_libpq, error)},
    {"PQserverVersion", offsetof(rag_libpq, server)},
    {"PQsocket", offsetof(rag_libpq, socket)},
    {"PQsetnonblocking", offsetof(rag_libpq, nonblocking)},
    {"PQflush", offsetof(rag_libpq, flush)},
    {"PQconsumeInput", offsetof(rag_libpq, consume)},
    {"PQisBusy", offsetof(rag_libpq, busy)},
    {"PQgetResult", offsetof(rag_libpq, result)},
    {"PQparameterStatus", offsetof(rag_libpq, parameter)},
    {"PQsetNoticeProcessor", offsetof(rag_libpq, notices)},
    {"PQsendQuery", offsetof(rag_libpq, send)},
    {"PQsendQueryParams", offsetof(rag_libpq, send_values)},
    {"PQsendPrepare", offsetof(rag_libpq, send_prepare)},
    {"PQsendQueryPrepared", offsetof(rag_libpq, send_prepared)},
    {"PQresultStatus", offsetof(rag_libpq, result_status)},
    {"PQresultErrorField", offsetof(rag_libpq, field)},
    {"PQcmdTuples", offsetof(rag_libpq, changed)},
    {"PQntuples", offsetof(rag_libpq, rows)},
    {"PQnfields", offsetof(rag_libpq, columns)},
    {"PQgetvalue", offsetof(rag_libpq, value)},
    {"PQgetlength", offsetof(rag_libpq, length)},
    {"PQclear", offsetof(rag_libpq, clear)},
};

static void *open_library(void) {
    static const char *const names[] = {"libpq.so.5", "libpq.5.dylib", "libpq.dll"};
    void *found = NULL;
    for (size_t i = 0; !found && i < BASE_COUNT(names); i++) found = base_library_open(names[i]);
    return found;
}

static rotor_status find(rag_libpq *to, rotor_error *err) {
    void *library = open_library();
    if (!library)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "a store on PostgreSQL needs libpq, which is not installed (Debian and "
                         "Ubuntu: apt install libpq5)");
    for (size_t i = 0; i < BASE_COUNT(functions); i++) {
        void *f = base_library_symbol(library, functions[i].name);
        if (!f)
            return base_fail(err, ROTOR_E_UNSUPPORTED, "libpq has no function %s: it is too old",
                             functions[i].name);
        memcpy((char *)to + functions[i].at, &f, sizeof f);
    }
    return ROTOR_OK;
}

/* It is whole before others see it, and never written again. Of threads that come at once each
 * finds its own, and the first one's is everybody's. */
rotor_status rag_libpq_find(const rag_libpq **out, rotor_error *err) {
    static _Atomic(rag_libpq *) found; /* kept to the end of the program */
    rag_libpq *first = atomic_load(&found);
    if (!first) {
        rag_libpq *own = base_alloc(sizeof *own);
        const rotor_status st = own ? find(own, err) : base_fail_nomem(err, "opening a store");
        if (st == ROTOR_OK && atomic_compare_exchange_strong(&found, &first, own)) {
            first = own;
        } else {
            base_free(own);
        }
        ROTOR_TRY(st);
    }
    *out = first;
    return ROTOR_OK;
}
