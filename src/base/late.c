/* SPDX-License-Identifier: MIT
 *
 * Libraries that the program starts without. Of threads that come at once each fills a table of its
 * own, and the first one's becomes everybody's.
 */
#include "base/base.h"

#include <stdatomic.h>
#include <stdio.h>

/* What was wrong with the one found: of several the first, which is the one that was meant. */
typedef struct trouble {
    char why[256]; /* "": none of the names is there */
} trouble;

static bool take_all(const base_late *l, void *library, const char *name, char *table, trouble *t) {
    for (size_t i = 0; i < l->n_rows; i++) {
        void *f = base_library_symbol(library, l->rows[i].name);
        if (!f) {
            if (!t->why[0])
                snprintf(t->why, sizeof t->why, "the %s here has no %s: it is too old", name,
                         l->rows[i].name);
            return false;
        }
        memcpy(table + l->rows[i].at, &f, sizeof f);
    }
    return true;
}

static bool try_name(const base_late *l, const char *name, char *table, trouble *t) {
    trouble mine = {{0}};
    void *library = base_library_open(name);
    if (!library) {
        base_library_why(mine.why, sizeof mine.why, name);
        if (!t->why[0]) *t = mine;
        return false;
    }
    const bool all = take_all(l, library, name, table, t);
    if (!all) base_library_close(library);
    return all;
}

static rotor_status fill(const base_late *l, char *table, rotor_error *err) {
    trouble t = {{0}};
    for (size_t i = 0; i < l->n_names; i++)
        if (try_name(l, l->names[i], table, &t)) return ROTOR_OK;
    if (!t.why[0])
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s, which is not installed (%s)", l->what,
                         l->advice);
    return base_fail(err, ROTOR_E_UNSUPPORTED, "%s, which does not load: %s (%s)", l->what, t.why,
                     l->advice);
}

rotor_status base_late_open(base_late *l, rotor_error *err) {
    void *first = atomic_load(&l->table);
    if (first) return ROTOR_OK;
    char *own = base_alloc(l->table_bytes);
    const rotor_status st = own ? fill(l, own, err) : base_fail_nomem(err, l->what);
    if (st != ROTOR_OK || !atomic_compare_exchange_strong(&l->table, &first, own)) base_free(own);
    return st;
}
