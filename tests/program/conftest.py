# SPDX-License-Identifier: MIT
"""What several files of tests need: servers, of which each file starts its own, an installed copy, and parts that a build
may lack."""
import os
import pathlib
import shutil
import subprocess

import pytest

pytest.register_assert_rewrite("serve_rig")  # what it asserts is explained as in a test

from serve_rig import KEY, STORY, Server  # noqa: E402
from test_cli_harmony import write_chain  # noqa: E402


@pytest.fixture(scope="session")
def sqlite_is_there(rotor):
    if "sqlite: on" not in rotor("version").stdout:
        pytest.skip("this build has no SQLite")


@pytest.fixture(scope="module")
def server():
    s = Server(STORY, "--parallel", "4")
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("first-key\n\n%s" % KEY)
    s = Server(STORY, "--api-key-file", str(keys), "--cors-origins", "https://page.example")
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A server of models that speak Harmony: one thinks and answers, one says something and calls a function, one thinks
    and calls, one calls two functions, one names the function behind the channel, and one would say wrong marks."""
    folder = tmp_path_factory.mktemp("parts")
    thinker = write_chain(folder / "thinker.gguf",
                          ["<|channel|>", "analysis", "<|message|>", "Two and two.", "<|end|>", "<|start|>", "assistant",
                           "<|channel|>", "final", "<|message|>", "**Four**.", "<|return|>"], thought="Two and two.")
    caller = write_chain(folder / "caller.gguf",
                         [" to=functions.get_it", "<|channel|>", "commentary", " json", "<|message|>", '{ "a": ', "1}", "<|call|>"])
    planner = write_chain(folder / "planner.gguf",
                          ["<|channel|>", "analysis", "<|message|>", "Secret plan.", "<|end|>", "<|start|>", "assistant",
                           " to=functions.get_it", "<|channel|>", "commentary", " json", "<|message|>", '{ "a": 1}', "<|call|>"],
                          thought="Secret plan.")
    call = [" to=functions.get_it", "<|channel|>", "commentary", " json", "<|message|>", '{"a": 1}']
    two_calls = write_chain(folder / "two_calls.gguf",
                            call + ["<|end|>", "<|start|>", "assistant", " to=functions.other"] + call[1:5] + ["{}", "<|call|>"],
                            thought=call[-1])
    constrained = write_chain(folder / "constrained.gguf",
                              ["<|channel|>", "commentary", " to=functions.get_it ", "<|constrain|>", "json", "<|message|>", '{"a": 1}', "<|call|>"])
    slips = write_chain(folder / "slips.gguf", call + ["<|call|>"],
                        slips={"t": "<|message|>", "<|channel|>": "<|start|>", "commentary": "<|end|>"})
    s = Server(*map(str, (thinker, caller, planner, two_calls, constrained, slips)))
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="session")
def installed(tmp_path_factory, checked_build):
    """The folder into which everything was installed, as DESTDIR."""
    if not shutil.which("meson"):
        pytest.skip("no meson")
    if checked_build:
        pytest.skip("a checker's build is not for installing: its programs need the checker too")
    folder = tmp_path_factory.mktemp("installed")
    build = pathlib.Path(os.environ["ROTOR_BINARY"]).resolve().parent
    result = subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", folder], capture_output=True,
                            text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder
