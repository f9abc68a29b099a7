# SPDX-License-Identifier: MIT
"""What every Python test may ask for: the program under test, the source tree, the large data.

tools/run_tests.py sets ROTOR_BINARY and ROTOR_SOURCE_ROOT and, for runs under one CPU level,
ROTOR_CPU, which the program reads itself. By hand, `pytest tests/program` works too: the defaults
are build/rotor and this tree. Markers: `threads` is run again under the thread checker, `cpu` again
for each --cpu level, `kills` with more kills.
"""
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
os.environ.setdefault("ROTOR_SOURCE_ROOT", str(ROOT))
os.environ.setdefault("ROTOR_BINARY", str(ROOT / "build" / "rotor"))


def pytest_configure(config):
    config.addinivalue_line("markers", "threads: run again under the thread checker")
    config.addinivalue_line("markers", "cpu: run again for each --cpu level")
    config.addinivalue_line("markers", "kills: run again with more kills")


# The model of tests that name none: its stories are known word for word, which those of the built-in model are not.
os.environ["ROTOR_MODEL"] = os.path.join(os.environ.get("ROTOR_SOURCE_ROOT", "."), "tests", "data", "model", "stories260K.gguf")


@pytest.fixture(scope="session")
def checked_build():
    """Whether the program under test carries the address or thread checker."""
    symbols = subprocess.run(["nm", "-D", os.environ["ROTOR_BINARY"]], capture_output=True, text=True).stdout
    return "__asan_init" in symbols or "__tsan_init" in symbols


@pytest.fixture(scope="session")
def source_root():
    return pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])


@pytest.fixture(scope="session")
def rotor():
    """rotor("run", "-p", "x", status=0) runs the program and returns its CompletedProcess.

    stdout and stderr are text (bytes with text=False). The exit status must be the one given;
    status=None accepts any.
    """
    binary = os.environ["ROTOR_BINARY"]

    def run(*args, status=0, input=None, text=True, timeout=300, env=None):
        result = subprocess.run([binary, *map(str, args)], input=input, text=text,
                                capture_output=True, timeout=timeout,
                                stdin=subprocess.DEVNULL if input is None else None,
                                env={**os.environ, **(env or {})})
        if status is not None:
            assert result.returncode == status, "exit %d, stderr: %s" % (
                result.returncode, result.stderr[-2000:])
        return result

    return run


@pytest.fixture(scope="session")
def test_data():
    """The folder of large public data; the test is skipped where there is none."""
    folder = os.environ.get("ROTOR_TEST_DATA")
    if not folder or not os.path.isdir(folder):
        pytest.skip("no data")
    return pathlib.Path(folder)
