# SPDX-License-Identifier: MIT
"""The package from the tree, over the library that was just built."""
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
os.environ.setdefault("ROTOR_LIBRARY", str(pathlib.Path(os.environ["ROTOR_BINARY"]).resolve().parent))
sys.path.insert(0, str(ROOT / "python"))
sys.path.insert(0, str(ROOT / "tests" / "golden"))     # the reference engine and its file writers

STORY = str(ROOT / "tests" / "data" / "model" / "stories260K.gguf")


@pytest.fixture
def story():
    """Path of the small model of the tree."""
    return STORY


@pytest.fixture
def engine():
    import rotor
    with rotor.Engine(STORY, threads=2, max_sessions=4) as engine:
        yield engine


@pytest.fixture(scope="session")
def ternary_path(tmp_path_factory):
    """A BitNet file of random weights."""
    import make_models
    spec = next(s for s in make_models.SPECS if s.name == "bitnet-b158-i2s.gguf")
    return make_models.write(spec, str(tmp_path_factory.mktemp("models")))


@pytest.fixture
def rotor_program(request):
    """The program, under a name that does not hide the package."""
    return request.getfixturevalue("rotor")
