/* SPDX-License-Identifier: MIT
 *
 * What os_terminal.c does, where the system is Windows. What is typed comes as UTF-16 and is handed
 * on as UTF-8; Ctrl-C comes in a thread of its own and ends a read that waits for a line.
 */
#include "cli/cli.h"

#include "base/start.h"

#include <errno.h>
#include <io.h>
#include <signal.h>
#include <windows.h>

static volatile LONG interrupted; /* set by the handler */
static volatile LONG caught;      /* Ctrl-C sets it instead of ending the program */

static BOOL WINAPI on_control(DWORD what) {
    if (!caught || (what != CTRL_C_EVENT && what != CTRL_BREAK_EVENT)) return FALSE;
    InterlockedExchange(&interrupted, 1);
    return TRUE;
}

char **cli_start(char **argv) {
    SetConsoleCtrlHandler(on_control, TRUE);
    return base_program_start(argv);
}

uint32_t cli_left_out(void) { return VERB_SERVE | VERB_PULL; }

void cli_catch_interrupt(bool on) { InterlockedExchange(&caught, on); }
void cli_catch_end(void) { cli_catch_interrupt(true); }

bool cli_interrupted(void) { return interrupted != 0; }
void cli_clear_interrupt(void) { InterlockedExchange(&interrupted, 0); }
void cli_die_interrupted(void) { ExitProcess((UINT)STATUS_CONTROL_C_EXIT); }

bool cli_is_terminal(int fd) {
    DWORD mode;
    return GetConsoleMode((HANDLE)_get_osfhandle(fd), &mode) != 0;
}

int cli_terminal_columns(void) {
    CONSOLE_SCREEN_BUFFER_INFO facts;
    if (!GetConsoleScreenBufferInfo(GetStdHandle(STD_OUTPUT_HANDLE), &facts)) return 80;
    return facts.srWindow.Right - facts.srWindow.Left + 1;
}

const char *cli_usual_editor(void) { return "notepad"; }

/* ==== Input =================================================================================== */

/* What is typed: a letter may take four bytes, and half a pair of UTF-16 waits for the other. */
static int64_t read_typed(HANDLE console, void *p, size_t n_bytes) {
    static wchar_t half;
    wchar_t wide[256];
    DWORD n = 0, kept = half != 0;
    const DWORD most = (DWORD)BASE_MIN(n_bytes / 4, BASE_COUNT(wide) - 1);
    wide[0] = half;
    half = 0;
    SetLastError(0);
    if (!ReadConsoleW(console, wide + kept, most, &n, NULL)) return errno = EIO, -1;
    if (n == 0 && GetLastError() == ERROR_OPERATION_ABORTED) { /* Ctrl-C; its thread may be late */
        InterlockedExchange(&interrupted, 1);
        return errno = EINTR, -1;
    }
    n += kept;
    if (n && wide[0] == 26) return 0; /* Ctrl-Z at the beginning of a line: the end */
    if (n && wide[n - 1] >= 0xD800 && wide[n - 1] < 0xDC00) half = wide[--n];
    return n ? WideCharToMultiByte(CP_UTF8, 0, wide, (int)n, p, (int)n_bytes, NULL, NULL) : 0;
}

int64_t cli_read_some(int fd, void *p, size_t n_bytes) {
    if (n_bytes >= 8 && cli_is_terminal(fd))
        return read_typed((HANDLE)_get_osfhandle(fd), p, n_bytes);
    return _read(fd, p, (unsigned)BASE_MIN(n_bytes, (size_t)1 << 30));
}

int64_t cli_write_some(int fd, const void *p, size_t n_bytes) {
    return _write(fd, p, (unsigned)BASE_MIN(n_bytes, (size_t)1 << 30));
}
