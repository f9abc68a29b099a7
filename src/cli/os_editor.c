/* SPDX-License-Identifier: MIT
 *
 * A text in the user's own editor: written to a file that only the user may read, opened with what
 * VISUAL or EDITOR say (a command, not just a name), read back when the editor ends, removed.
 *
 * While the editor runs, Ctrl-C is its own affair.
 */
#define _DEFAULT_SOURCE
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static const char *editor_command(void) {
    const char *visual = getenv("VISUAL"), *editor = getenv("EDITOR");
    if (visual && *visual) return visual;
    return editor && *editor ? editor : "vi";
}

static rotor_status write_file(int fd, const char *path, const char *text, rotor_error *err) {
    for (size_t n = strlen(text), at = 0; at < n;) {
        ssize_t k = write(fd, text + at, n - at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return base_fail(err, ROTOR_E_IO, "%s: %s", path, strerror(errno));
        at += (size_t)k;
    }
    return ROTOR_OK;
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
    if (!base_buf_printf(&path, "%s/rotor-XXXXXX.md", tmp && *tmp ? tmp : "/tmp"))
        return base_fail_nomem(err, "editing");
    int fd = mkstemps(path.data, 3);
    if (fd < 0) {
        base_fail(err, ROTOR_E_IO, "cannot make %s: %s", path.data, strerror(errno));
        base_buf_free(&path);
        return ROTOR_E_IO;
    }
    rotor_status st = write_file(fd, path.data, text, err);
    close(fd);
    if (st == ROTOR_OK) st = run_editor(path.data, err);
    if (st == ROTOR_OK) st = read_back(path.data, out, err);
    unlink(path.data);
    base_buf_free(&path);
    return st;
}
