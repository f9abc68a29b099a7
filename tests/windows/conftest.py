# SPDX-License-Identifier: MIT
"""Programs for Windows, run by Wine, whose own folder is made anew for these tests."""
import os
import shutil
import subprocess

import pytest

WINE = shutil.which("wine64") or shutil.which("wine64", path="/usr/lib/wine")


@pytest.fixture(scope="session")
def wine(tmp_path_factory):
    """wine(program) gives run("version", status=0, input=b""): standard output as bytes, standard error as text."""
    prefix = []  # made for the first program there is

    def of(program):
        if not program.exists() or not WINE:
            pytest.skip("no wine64" if program.exists() else "no %s" % program.relative_to(os.environ["ROTOR_SOURCE_ROOT"]))
        if not prefix:
            prefix.append(str(tmp_path_factory.mktemp("wine")))
        env = {**os.environ, "WINEDEBUG": "-all", "WINEPREFIX": prefix[0], "LC_ALL": "C.UTF-8"}
        env.pop("DISPLAY", None)

        def run(*args, status=0, input=None, cwd=None):
            how = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
            done = subprocess.run([WINE, program, *map(str, args)], capture_output=True, env=env, timeout=300, cwd=cwd, **how)
            said = done.stderr.decode("utf-8", "replace")
            assert done.returncode == status, "exit %d: %s" % (done.returncode, said[-2000:])
            return done.stdout, said
        return run
    return of
