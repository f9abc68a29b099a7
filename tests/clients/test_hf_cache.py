# SPDX-License-Identifier: MIT
"""rotor pull and huggingface_hub write the same cache, byte for byte, and take what the other wrote as there."""
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("huggingface_hub")
ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
from hub_server import Hub  # noqa: E402

STORIES = (ROOT / "tests/data/model/stories260K.gguf").read_bytes()
REPOS = {"org/one": {"deep/one.gguf": STORIES},
         "org/folder": {"config.json": b"{}", "model.safetensors": STORIES, "1_Pooling/config.json": b'{"a": 1}'}}
FETCH = """
import sys
from huggingface_hub import hf_hub_download
for word in sys.argv[1:]:
    hf_hub_download(*word.split(":"))
"""


def theirs(env):
    words = ["%s:%s" % (repo, name) for repo, files in REPOS.items() for name in files]
    subprocess.run([sys.executable, "-c", FETCH, *words], env=env, check=True)


def ours(env):
    for repo in REPOS:
        subprocess.run([os.environ["ROTOR_BINARY"], "pull", repo], env=env, check=True)


def tree(root):
    """What each name stands for; the tag's text after its signature is everybody's own."""
    found = {str(p.relative_to(root)): os.readlink(p) if p.is_symlink() else p.read_bytes()
             for p in root.rglob("*") if p.is_symlink() or p.is_file()}
    found["hub/CACHEDIR.TAG"] = found["hub/CACHEDIR.TAG"].splitlines()[0]
    return found


def test_both_write_the_same_tree_and_share_it(tmp_path):
    with Hub(REPOS) as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
               "HF_HUB_CACHE": "", "NO_PROXY": "127.0.0.1"}
        del env["HF_HUB_CACHE"]
        a, b = {**env, "HF_HOME": str(tmp_path / "a")}, {**env, "HF_HOME": str(tmp_path / "b")}
        theirs(a)
        ours(b)
        assert tree(tmp_path / "a") == tree(tmp_path / "b")
        hub.asked.clear()
        theirs(b)
        ours(a)
        assert not hub.requests("store")
