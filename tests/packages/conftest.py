# SPDX-License-Identifier: MIT
"""The packages of this build, made once."""
import os
import pathlib
import subprocess

import pytest

BUILD = pathlib.Path(os.environ["ROTOR_BINARY"]).resolve().parent


def make(source_root, what, folder):
    # A time of its own: the last commit is not ours to hold still.
    done = subprocess.run([source_root / "packaging" / "make_packages.py", what, "--build", BUILD, "-o", folder],
                          capture_output=True, text=True, timeout=600, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"})
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.strip())


@pytest.fixture(scope="session")
def tarball(source_root, tmp_path_factory):
    return make(source_root, "tarball", tmp_path_factory.mktemp("tarball"))


@pytest.fixture(scope="session")
def deb(source_root, tmp_path_factory):
    before = os.umask(0o077)  # the strictest that people have: what is made is the same
    try:
        return make(source_root, "deb", tmp_path_factory.mktemp("deb"))
    finally:
        os.umask(before)
