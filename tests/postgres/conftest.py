# SPDX-License-Identifier: MIT
"""Servers of the tests' own (postgres_rig.py), of which all tests share one."""
import glob
import os

import pytest

pytest.register_assert_rewrite("postgres_rig")

from far_away import Wire  # noqa: E402
from postgres_rig import Postgres, programs  # noqa: E402


@pytest.fixture(scope="session")
def vectors():
    """A server with pgvector, of ROTOR_TEST_PGVECTOR (a folder with its programs) or what tools/run_tests.py has installed."""
    root = os.environ["ROTOR_SOURCE_ROOT"]
    found = [os.environ.get("ROTOR_TEST_PGVECTOR")] + glob.glob(os.path.join(root, "build/pgvector/lib/python3*/site-packages/pgserver/pginstall/bin"))
    found = [path for path in found if path and os.path.exists(os.path.join(path, "initdb"))]
    if not found:
        pytest.skip("no PostgreSQL server with pgvector (tools/run_tests.py installs one where pip has an index of packages)")
    server = Postgres(found[0])
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres():
    binaries = programs()
    if binaries is None:
        pytest.skip("no PostgreSQL server (Debian: apt install postgresql)")
    server = Postgres(binaries)
    yield server
    server.remove()


@pytest.fixture
def wire(postgres):
    """To the server, by a port."""
    w = Wire(os.path.join(postgres.folder, ".s.PGSQL.5432"))
    yield w
    w.close()


@pytest.fixture
def store(postgres):
    return postgres.store()
