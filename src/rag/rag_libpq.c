/* SPDX-License-Identifier: MIT
 *
 * Finding libpq: opened once, when the first store on a server is.
 */
#include "rag/rag_libpq.h"

#include <stddef.h>

static const base_late_row functions[] = {
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

static const char *const names[] = {"libpq.so.5", "libpq.5.dylib", "libpq.dll", "libpq.so"};

static base_late library = {.names = names,
                            .n_names = BASE_COUNT(names),
                            .rows = functions,
                            .n_rows = BASE_COUNT(functions),
                            .table_bytes = sizeof(rag_libpq),
                            .what = "a store on PostgreSQL needs libpq",
                            .advice = "Debian and Ubuntu: apt install libpq5"};

rotor_status rag_libpq_find(const rag_libpq **out, rotor_error *err) {
    ROTOR_TRY(base_sockets(err)); /* else no file is looked for in vain */
    ROTOR_TRY(base_late_open(&library, err));
    *out = library.table;
    return ROTOR_OK;
}
