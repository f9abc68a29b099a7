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
    assert 'ExecStart="%s/bin/rotor" serve' % local in (local / "share/systemd/user/rotor.service").read_text()
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
    assert len(list((home / ".local/lib/rotor").iterdir())) == 3  # the tree, the link to it and the mark


def test_pages_that_a_later_version_has_no_more_go(home, release):
    install(home, "--from", write_release(release))
    (home / ".local/share/man/man1/mine.1").write_text("stays")
    lists = list((home / ".local/lib/rotor").glob("*-??????/.links"))
    (only,) = lists
    only.write_text("share/man/man1/old.1\nshare/man/man1/mine.1\n" + only.read_text())
    (home / ".local/share/man/man1/old.1").symlink_to(home / ".local/lib/rotor/current/share/man/man1/old.1")
    install(home, "--from", "file://%s" % release)
    assert sorted(p.name for p in (home / ".local/share/man/man1").iterdir()) == ["mine.1", "rotor.1"]


def test_a_folder_of_somebody_else_stays_as_it_is(home, release):
    address = write_release(release)
    (home / ".local/lib/rotor/src").mkdir(parents=True)
    (home / ".local/lib/rotor/src/work.c").write_text("years of it")
    before = everything(home)
    for words in (["--from", address], ["--from", address, "--dry-run"], ["--uninstall"]):
        assert "was not made by this script" in install(home, *words, status=1).stderr
        assert everything(home) == before


def test_what_lies_beside_the_trees_stays(home, release):
    address = write_release(release)
    install(home, "--from", address)
    own = home / ".local/lib/rotor/my-things"
    own.mkdir()
    install(home, "--from", address)
    assert "stays: there is something in it" in install(home, "--uninstall").stdout
    assert [p.name for p in own.parent.iterdir()] == [own.name]


@pytest.mark.parametrize("name", ["bin/rotor", "share/man/man1/rotor.1"])
@pytest.mark.parametrize("link", [False, True])
def test_what_another_program_installed_is_not_replaced(home, release, name, link):
    own = home / ".local" / name
    own.parent.mkdir(parents=True)
    own.symlink_to("/nowhere/else") if link else own.write_text("of make install")
    before = everything(home)
    said = install(home, "--from", write_release(release), status=1).stderr
    assert "%s is there and was not made by this script" % own in said
    assert everything(home) == before


def test_any_prefix_and_any_spelling_of_it(home, release):
    prefix = home / 'a [b]&c|d%e"f\\g'
    install(home, "--from", write_release(release), "--prefix", "%s/../%s//" % (prefix, prefix.name))
    assert subprocess.run([prefix / "bin/rotor"], capture_output=True).returncode == 0
    unit = (prefix / "share/systemd/user/rotor.service").read_text()
    assert 'ExecStart="%s/a [b]&c|d%%%%e\\"f\\\\g/bin/rotor" serve' % home in unit
    install(home, "--uninstall", "--prefix", "./" + prefix.name, before='cd "$HOME"; ')
    assert not [p for p in prefix.rglob("*") if p.is_symlink() or not p.is_dir()]


def test_only_one_at_a_time_and_a_lock_of_the_dead_does_not_hold(home, release):
    address = write_release(release)
    install(home, "--from", address)
    lock = home / ".local/lib/rotor/lock"
    lock.symlink_to(str(os.getpid()))
    before = everything(home)
    for words in (["--from", address], ["--uninstall"]):
        assert "(process %d) is at work" % os.getpid() in install(home, *words, status=1).stderr
        assert everything(home) == before
    lock.unlink()
    dead = subprocess.Popen(["true"])
    dead.wait()
    lock.symlink_to(str(dead.pid))
    install(home, "--from", address)
    assert not lock.is_symlink()


def test_empty_folders_of_others_stay_when_nothing_is_installed(home, release):
    address = write_release(release, sums="a" * 64)
    (home / ".local/lib/rotor").mkdir(parents=True)
    before = everything(home)
    install(home, "--from", address, status=1)
    install(home, "--from", address, "--dry-run")
    assert everything(home) == before


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
    left = [p for p in everything(home) if not p.startswith((".local/lib/rotor/new.", ".local/lib/rotor/lock"))]
    if sign == signal.SIGKILL:  # nobody could tidy up: the next run does
        assert left == before
        install(home, "--from", address)
        assert not [p for p in (home / ".local/lib/rotor").iterdir() if p.name == "lock" or p.name.startswith("new.")]
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
