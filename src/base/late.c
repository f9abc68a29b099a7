/* SPDX-License-Identifier: MIT
 *
 * Libraries that the program starts without. Of threads that come at once each fills a table of its
 * own, and the first one's becomes everybody's.
 */
#include "base/base.h"

#include <stdatomic.h>

static rotor_status fill(const base_late *l, char *table, rotor_error *err) {
    void *library = NULL;
    for (size_t i = 0; !library && i < l->n_names; i++) library = base_library_open(l->names[i]);
    if (!library)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s, which is not installed (%s)", l->what,
                         l->advice);
    for (size_t i = 0; i < l->n_rows; i++) {
        void *f = base_library_symbol(library, l->rows[i].name);
        if (!f)
            return base_fail(err, ROTOR_E_UNSUPPORTED, "%s; the one here has no %s: it is too old",
                             l->what, l->rows[i].name);
        memcpy(table + l->rows[i].at, &f, sizeof f);
    }
    return ROTOR_OK;
}

rotor_status base_late_open(base_late *l, rotor_error *err) {
    void *first = atomic_load(&l->table);
    if (first) return ROTOR_OK;
    char *own = base_alloc(l->table_bytes);
    const rotor_status st = own ? fill(l, own, err) : base_fail_nomem(err, l->what);
    if (st != ROTOR_OK || !atomic_compare_exchange_strong(&l->table, &first, own)) base_free(own);
    return st;
}
