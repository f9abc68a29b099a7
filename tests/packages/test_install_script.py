# SPDX-License-Identifier: MIT
"""packaging/install.sh: what it puts where, and that nothing of it is there when something goes wrong."""
import hashlib
import http.server
import os
import pathlib
import shutil
import signal
import subprocess
import threading

import pytest

SCRIPT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"]) / "packaging" / "install.sh"
NAME = "rotor-9.8.7-linux-%s" % os.uname().machine
PROGRAM = "#!/bin/sh\necho \"rotor 9.8.7 $*\"\n"


def write_release(folder, program=PROGRAM, sums=None, name=NAME):
    """A release with a program that only says its name, as the real archive lays it out."""
    tree = folder / "tree" / name
    for path, text in {"bin/rotor": program, "bin/rotor-extract": program, "share/man/man1/rotor.1": ".TH ROTOR 1\n",
                       "share/bash-completion/completions/rotor": "complete rotor\n",
                       "share/systemd/user/rotor.service": "[Service]\nExecStart=%h/.local/bin/rotor serve\n"}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o755)
    archive = folder / (name + ".tar.gz")
    subprocess.run(["tar", "-czf", archive, "-C", folder / "tree", name], check=True)
    shutil.rmtree(folder / "tree")
    sums = sums or hashlib.sha256(archive.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text("%s  rotor_9.8.7_amd64.deb\n%s  %s\n" % ("0" * 64, sums, archive.name))
    return "file://%s" % folder


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def release(tmp_path):
    (tmp_path / "release").mkdir()
    return tmp_path / "release"


def install(home, *words, status=0, before="", env=None):
    done = subprocess.run(["sh", "-c", before + 'exec sh "$0" "$@"', SCRIPT, *map(str, words)], capture_output=True, text=True,
                          timeout=120, env={"PATH": os.environ["PATH"], "HOME": str(home), **(env or {})})
    assert done.returncode == status, done.stdout + done.stderr
    return done


def everything(home):
    return sorted(str(p.relative_to(home)) for p in home.rglob("*"))


def version_of(home):
    return subprocess.run([home / ".local/bin/rotor", "version"], capture_output=True, text=True, check=True).stdout.split()[1]


def test_installs_runs_and_uninstalls(home, release):
    said = install(home, "--from", write_release(release)).stdout
    assert version_of(home) == "9.8.7" and "is not in your PATH" in said
    local = home / ".local"
    assert (local / "share/man/man1/rotor.1").read_text() == ".TH ROTOR 1\n"
    assert "ExecStart=%s/bin/rotor serve" % local in (local / "share/systemd/user/rotor.service").read_text()
    (local / "bin/other").write_text("stays")
    install(home, "--uninstall")
    assert [p for p in everything(home) if not (home / p).is_dir()] == [".local/bin/other"]
    assert not (local / "lib/rotor").exists()
    assert "nothing is installed" in install(home, "--uninstall", status=1).stderr


def test_a_later_version_takes_the_place_of_the_earlier(home, release):
    address = write_release(release)
    install(home, "--from", address)
    for other in release.iterdir():
        other.unlink()
    (home / ".local/lib/rotor/new.killed").mkdir()
    write_release(release, PROGRAM.replace("9.8.7", "9.9.0"), name=NAME.replace("9.8.7", "9.9.0"))
    install(home, "--from", address)
    assert version_of(home) == "9.9.0"
    install(home, "--from", address)  # again, over itself
    assert version_of(home) == "9.9.0"
    assert len(list((home / ".local/lib/rotor").iterdir())) == 2  # the tree and the link to it


def test_dry_run_and_wrong_words_change_nothing(home, release):
    address = write_release(release)
    assert "would install rotor 9.8.7" in install(home, "--from", address, "--dry-run").stdout
    assert "the options are" in install(home, "--form", address, status=2).stderr
    assert "--from needs a value" in install(home, "--from", status=2).stderr
    assert "say where Rotor comes from" in install(home, status=2).stderr
    assert everything(home) == []


@pytest.mark.parametrize("spoil, told", [
    (lambda folder: write_release(folder, sums="a" * 64), "is not what SHA256SUMS says"),
    (lambda folder: write_release(folder, name="rotor-9.8.7-linux-pdp11"), "has no archive for linux-"),
    (lambda folder: write_release(folder, "#!/bin/sh\necho 'no such C library' >&2; exit 127\n"), "cannot run it: no such C library"),
    (lambda folder: write_release(folder) and (folder / (NAME + ".tar.gz")).unlink(), "cannot get"),
    (lambda folder: None, "cannot get"),
])
@pytest.mark.parametrize("earlier", [False, True])
def test_what_goes_wrong_leaves_what_was(home, release, spoil, told, earlier):
    address = write_release(release)
    if earlier:
        install(home, "--from", address)
    before = everything(home)
    for other in release.iterdir():
        other.unlink()
    spoil(release)
    assert told in install(home, "--from", address, status=1).stderr
    assert everything(home) == before or everything(home) == [".local"]
    if earlier:
        assert version_of(home) == "9.8.7"


def test_a_read_only_home_is_told(home, release):
    address = write_release(release)
    said = install(home, "--from", address, "--prefix", "/proc/rotor", status=1).stderr
    assert "cannot write to /proc/rotor: choose another folder with --prefix" in said
    (home / ".local").write_text("a file, where a folder is wanted")
    assert "cannot write to" in install(home, "--from", address, status=1).stderr
    assert everything(home) == [".local"]


def test_no_room_is_told_and_leaves_nothing(home, release):
    address = write_release(release, PROGRAM + "#" * 3_000_000)
    # No file may grow beyond a megabyte: what a full disk does to those who write.
    said = install(home, "--from", address, status=1, before="trap '' XFSZ; ulimit -f 1024; ").stderr
    assert "is there room in" in said
    assert everything(home) in ([], [".local"])


class Slow(http.server.SimpleHTTPRequestHandler):
    """Gives half of an archive and then nothing, until it is let go."""
    begun, release = threading.Event(), threading.Event()

    def do_GET(self):
        if not self.path.endswith(".gz"):
            return super().do_GET()
        data = pathlib.Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:len(data) // 2])
        self.wfile.flush()
        self.begun.set()
        self.release.wait(120)

    def log_message(self, *words):
        pass


@pytest.mark.parametrize("sign, earlier", [(signal.SIGINT, False), (signal.SIGTERM, True), (signal.SIGKILL, True)])
def test_an_interrupted_download_leaves_what_was(home, release, sign, earlier):
    address = write_release(release)
    if earlier:
        install(home, "--from", address)
    before = everything(home)
    Slow.begun.clear(), Slow.release.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Slow(*a, directory=str(release)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    child = subprocess.Popen(["sh", SCRIPT, "--from", "http://127.0.0.1:%d" % server.server_port], env={
        "PATH": os.environ["PATH"], "HOME": str(home)}, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert Slow.begun.wait(60)
    os.killpg(child.pid, sign)  # as a terminal does: to all of them
    assert child.wait(60) != 0
    Slow.release.set()
    server.shutdown()
    left = [p for p in everything(home) if not p.startswith(".local/lib/rotor/new.")]
    if sign == signal.SIGKILL:  # nobody could tidy up: the next run does
        assert left == before
        install(home, "--from", address)
        assert not list((home / ".local/lib/rotor").glob("new.*"))
    else:
        assert everything(home) in (before, [".local"])
    if earlier:
        assert version_of(home) == "9.8.7"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_half_a_script_does_nothing(home, release, share):
    address = write_release(release)
    text = SCRIPT.read_text()
    subprocess.run(["sh", "-s", "--", "--from", address], input=text[:int(len(text) * share)], capture_output=True, text=True,
                   timeout=60, env={"PATH": os.environ["PATH"], "HOME": str(home)})
    assert everything(home) == []


def test_the_real_archive_installs(home, tarball):
    said = install(home, "--from", "file://%s" % tarball.parent).stdout
    assert "is installed" in said
    done = subprocess.run([home / ".local/bin/rotor", "run", "--config", "none", "-p", "Once", "-n", "4"], capture_output=True,
                          text=True, timeout=120, env={"PATH": os.environ["PATH"], "HOME": str(home)})
    assert done.returncode == 0 and done.stdout
