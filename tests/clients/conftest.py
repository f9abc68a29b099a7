# SPDX-License-Identifier: MIT
"""One server for all clients: a model that tells stories and makes vectors, one that thinks, one that calls a function."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "program"))

KEY = "sesame"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    from serve_rig import STORY, Server, write_caller, write_thinker

    folder = tmp_path_factory.mktemp("models")
    s = Server(STORY, str(write_thinker(folder)), str(write_caller(folder)), "--parallel", "4", "--ctx", "1024", "--embed",
               "--api-key", KEY)
    s.base, s.key = "http://127.0.0.1:%d" % s.port, KEY
    yield s
    assert s.stop() == 0
