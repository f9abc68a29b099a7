# SPDX-License-Identifier: MIT
"""The shared library's binary interface is the recorded one, and a difference is seen."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
BUILD = pathlib.Path(os.environ["ROTOR_BINARY"]).resolve().parent

pytestmark = pytest.mark.skipif(not shutil.which("abidiff"), reason="no abidiff")


def checked(root=ROOT):
    return subprocess.run([sys.executable, root / "tools" / "abi.py", "check", "--build", BUILD], capture_output=True, text=True, timeout=300)


def test_nothing_differs():
    done = checked()
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("was, shown", [("name='rotor_engine_open'", "rotor_engine_open@@ROTOR_0"), ("member", "rotor_gen_options")])
def test_a_difference_is_seen(tmp_path, was, shown):
    """A function that had another name; a structure that had one member less."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "packaging").mkdir()
    shutil.copy(ROOT / "tools" / "abi.py", tmp_path / "tools")
    shutil.copytree(ROOT / "include", tmp_path / "include")
    record = (ROOT / "packaging" / "librotor.abi").read_text()
    if was == "member":
        begin = record.index("<data-member", record.index("<class-decl name='rotor_gen_options'"))
        end = record.index("</data-member>", begin) + len("</data-member>")
        other = record[:begin] + record[end:]
    else:
        other = record.replace(was, was[:-1] + "ed'")
    (tmp_path / "packaging" / "librotor.abi").write_text(other)
    done = checked(tmp_path)
    assert other != record and done.returncode == 1 and shown in done.stdout, done.stdout
