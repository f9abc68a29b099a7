/* SPDX-License-Identifier: MIT
 *
 * A text in the user's own editor: written to a file that only the user may read, opened with what
 * VISUAL or EDITOR say (a command, not just a name), read back when the editor ends, removed.
 *
 * While the editor runs, Ctrl-C is its own affair.
 */
#include "cli/cli.h"

#include <stdlib.h>

static const char *editor_command(void) {
    const char *visual = getenv("VISUAL"), *editor = getenv("EDITOR");
    if (visual && *visual) return visual;
    return editor && *editor ? editor : cli_usual_editor();
}

/* The file is new under a name nobody can guess, and this user's alone. */
static rotor_status write_file(const char *path, const char *text, rotor_error *err) {
    base_out o;
    ROTOR_TRY(base_out_open_private(&o, path, err));
    const rotor_status st = base_out_write(&o, text, strlen(text), err);
    if (st == ROTOR_OK) return base_out_commit(&o, err);
    base_out_abort(&o);
    return st;
}

static rotor_status run_editor(const char *path, rotor_error *err) {
    const char *command = editor_command();
    int status;
    ROTOR_TRY(base_run_shell(command, path, &status, err));
    cli_clear_interrupt();
    if (status == 0) return ROTOR_OK;
    return base_fail(err, ROTOR_E_IO,
                     "the editor '%s' failed (VISUAL and EDITOR name another); nothing was taken",
                     command);
}

static rotor_status read_back(const char *path, base_buf *out, rotor_error *err) {
    base_file f;
    ROTOR_TRY(base_file_open(&f, path, false, err));
    size_t n = f.size;
    while (n && (f.data[n - 1] == '\n' || f.data[n - 1] == '\r'))
        n--; /* editors end the last line */
    base_buf_reset(out);
    base_buf_append(out, f.data, n);
    base_file_close(&f);
    return out->failed ? base_fail_nomem(err, "reading the edited text") : ROTOR_OK;
}

rotor_status cli_edit_text(const char *text, base_buf *out, rotor_error *err) {
    const char *tmp = getenv("TMPDIR");
    base_buf path = {0};
    if (!base_buf_printf(&path, "%s/rotor-%016llx.md", tmp && *tmp ? tmp : "/tmp",
                         (unsigned long long)base_random_seed()))
        return base_fail_nomem(err, "editing");
    rotor_status st = write_file(path.data, text, err);
    if (st == ROTOR_OK) st = run_editor(path.data, err);
    if (st == ROTOR_OK) st = read_back(path.data, out, err);
    (void)base_remove_file(path.data, NULL);
    base_buf_free(&path);
    return st;
}
