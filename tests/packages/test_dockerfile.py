# SPDX-License-Identifier: MIT
"""packaging/Dockerfile, as far as it can be tried without Docker: what it names exists, what it starts answers."""
import json
import os
import re
import shutil
import signal
import subprocess

import pytest


@pytest.fixture(scope="module")
def instructions(source_root):
    """(word, rest) of each, with continued lines joined."""
    text = (source_root / "packaging" / "Dockerfile").read_text().replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def rest_of(instructions, word):
    return [rest for name, rest in instructions if name == word]


def test_the_image_has_every_library_that_the_program_loads(instructions, deb):
    """The Debian package knows them: dpkg-shlibdeps has looked."""
    depends = subprocess.run(["dpkg-deb", "-f", deb, "Depends"], capture_output=True, text=True, check=True).stdout
    needed = {re.split(r"[ :]", one.strip())[0] for one in depends.split(",")}
    given = set(re.search(r"apt-get install -y --no-install-recommends(.*?)&&", rest_of(instructions, "RUN")[-1]).group(1).split())
    assert len(needed) > 5 and needed - {"libc6"} <= given


def test_what_it_builds_with_is_there(instructions, source_root):
    first, second = rest_of(instructions, "RUN")[:2]
    assert re.search(r"tools/bootstrap all$", first) and re.search(r"^all ", (source_root / "tools" / "bootstrap").read_text(), re.M)
    options = re.findall(r"-D(\w+)=", second)
    known = (source_root / "meson_options.txt").read_text()
    assert options and all("option('%s'" % name in known for name in options)
    assert re.search(r"^make NO_BOOTSTRAP=1 PREFIX=/usr DESTDIR=/out .*\binstall &&", second)


def test_what_it_copies_is_installed(instructions, deb):
    listed = subprocess.run(["dpkg-deb", "-c", deb], capture_output=True, text=True, check=True).stdout
    copied = [rest.split() for rest in rest_of(instructions, "COPY") if rest.startswith("--from=build")]
    assert len(copied) == 2
    for _, source, target in copied:
        assert source == "/out" + target and " .%s\n" % target in listed


@pytest.fixture
def entry(instructions):
    """The program of this build and the words that the image gives it, at a port of its own."""
    (words,) = [json.loads(rest) for rest in rest_of(instructions, "ENTRYPOINT")]
    assert words[0] == "rotor" and rest_of(instructions, "EXPOSE") == ["8080"]
    return [os.environ["ROTOR_BINARY"], *words[1:], "--config", "none", "--port", "0"]


def test_without_a_key_it_does_not_listen(entry):
    done = subprocess.run(entry, capture_output=True, text=True, timeout=120, env={"PATH": os.environ["PATH"]})
    assert done.returncode and "key" in done.stderr


def test_the_server_is_found_healthy_and_then_not(entry, instructions, tmp_path):
    (check,) = rest_of(instructions, "HEALTHCHECK")
    ask = json.loads(check[check.index("CMD") + len("CMD"):])
    if not shutil.which(ask[0]):
        pytest.skip("no " + ask[0])
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ROTOR_API_KEY": "a-key-of-the-test", "HF_HUB_CACHE": str(tmp_path)}
    server = subprocess.Popen(entry, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, env=env)
    try:
        port = next(m.group(1) for m in (re.search(r"ready: http://[^:]+:(\d+)", line) for line in server.stderr) if m)
        healthy = lambda: subprocess.run([word.replace("8080", port) for word in ask], capture_output=True, timeout=120).returncode
        assert "8080" in "".join(ask) and healthy() == 0
        server.send_signal(signal.SIGTERM)  # what `docker stop` sends
        assert server.wait(timeout=120) == 0 and healthy() != 0
    finally:
        server.kill()
        server.wait()
