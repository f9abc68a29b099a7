/* SPDX-License-Identifier: MIT
 *
 * serve_cage.h: which files rotor serve needs once it runs, and whether it can do without the rest.
 */
#ifndef CLI_SERVE_CAGE_H
#define CLI_SERVE_CAGE_H

#include "base/service.h"
#include "cli/cli.h"
#include "cli/store.h"

/* Zero-initialise; free with cli_cage_free. */
typedef struct cli_cage {
    base_sandbox paths;   /* of what is below */
    char **read;          /* [n_read] owned, each and all */
    size_t n_read;        /* how many */
    char *socket_dir;     /* folder of the socket, whose name goes at the end; owned; NULL: none */
    const char **write;   /* [paths.n_write] folders to write in, borrowed; owned array */
    const char *prefixes; /* folder of --prefix-store; borrowed; NULL: none */
    const char *off;      /* why there is to be no cage; static; NULL: there is to be one */
    bool must;            /* --sandbox on */
} cli_cage;

/* Of --sandbox and [n] models; ROTOR_E_ARG: it is asked for and cannot be. */
rotor_status cli_cage_plan(cli_cage *c, const cli_args *a, const cli_model *models, size_t n,
                           const char *socket_path, rotor_error *err);
/* Databases keep notes beside them, also for who only reads. The stores stay open. ROTOR_E_ARG: the
 * cage is asked for and one of them cannot do with it. */
rotor_status cli_cage_add_stores(cli_cage *c, const cli_store *stores, size_t n, rotor_error *err);
void cli_cage_free(cli_cage *c);

#endif
