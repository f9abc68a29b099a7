# SPDX-License-Identifier: MIT
"""rotor rag watch: what happens in a folder is found, and what must not happen to a store does not. Bounds are wide: the machine
may be busy. How long a change took is asserted nowhere but in being found at all."""
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

STORY = os.environ["ROTOR_MODEL"]
ROTOR = os.environ["ROTOR_BINARY"]
PATIENCE_S = 120


pytestmark = pytest.mark.usefixtures("sqlite_is_there")


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("The heron stands on one leg.\n")
    (folder / "sub" / "b.txt").write_text("The walrus swims in cold water.\n")
    return folder


class Watch:
    """A running `rotor rag watch --json`: its changes as they come."""

    def __init__(self, tmp_path, *args, under=()):
        self.out = open(tmp_path / "watch.out", "w+b")
        self.err = open(tmp_path / "watch.err", "w+b")
        self.p = subprocess.Popen([*under, ROTOR, "rag", "watch", *map(str, args), "--json"], stdout=self.out, stderr=self.err)

    def changes(self):
        lines = os.pread(self.out.fileno(), 1 << 24, 0).decode().splitlines(keepends=True)
        return [tuple(json.loads(line)[k] for k in ("change", "path")) for line in lines if line.endswith("\n")]

    def wait(self, change, path="", n=1):
        """Until that was said n times."""
        end = time.monotonic() + PATIENCE_S
        while self.changes().count((change, str(path))) < n:
            assert self.p.poll() is None and time.monotonic() < end, (change, path, self.changes(), self.says())
            time.sleep(0.05)

    @contextlib.contextmanager
    def still(self):
        """It sees what is done meanwhile all at once, however slowly that goes."""
        self.p.send_signal(signal.SIGSTOP)
        yield
        self.p.send_signal(signal.SIGCONT)

    def write(self, path, text):
        with self.still():
            path.write_text(text)

    def says(self):
        return os.pread(self.err.fileno(), 1 << 20, 0).decode()

    def wait_said(self, text):
        end = time.monotonic() + PATIENCE_S
        while text not in self.says():
            assert self.p.poll() is None and time.monotonic() < end, (text, self.changes(), self.says())
            time.sleep(0.05)

    def stop(self, how=signal.SIGTERM):
        self.p.send_signal(how)
        assert self.p.wait(PATIENCE_S) == 0, self.says()


@pytest.fixture
def watch(tmp_path):
    running = []

    def start(*args, **more):
        running.append(Watch(tmp_path, *args, **more))
        return running[-1]
    yield start
    for w in running:
        if w.p.poll() is None:
            w.p.kill()
            w.p.wait()


@pytest.fixture
def store(tmp_path):
    return tmp_path / "a.store"


def found(rotor, store, query):
    r = rotor("rag", "search", store, query, "--json", "--no-embed", status=None)
    return [os.path.basename(json.loads(line)["path"]) for line in r.stdout.splitlines()]


def chunks(store):
    with sqlite3.connect("file:%s?mode=ro" % (store / "rag.db"), uri=True) as db:
        return db.execute("SELECT id FROM chunk ORDER BY id").fetchall()


def test_what_is_written_moved_and_deleted(rotor, watch, store, tree):
    w = watch(store, tree, "--no-embed")
    w.wait("watching", tree)
    assert found(rotor, store, "heron") == ["a.txt"] and found(rotor, store, "walrus") == ["b.txt"]
    w.write(tree / "a.txt", "The pelican has a pouch.\n")
    w.wait("read", tree / "a.txt", 2)
    assert found(rotor, store, "pelican") == ["a.txt"] and found(rotor, store, "heron") == []
    (tree / "new").mkdir()
    w.write(tree / "new" / "c.md", "# Otters\n\nThey hold hands when asleep.\n")
    w.wait("read", tree / "new" / "c.md")
    before = chunks(store)
    with w.still():
        (tree / "new").rename(tree / "old")
        (tree / "a.txt").rename(tree / "sub" / "d.txt")
    w.wait("moved", tree / "old" / "c.md")
    w.wait("moved", tree / "sub" / "d.txt")
    assert chunks(store) == before and found(rotor, store, "pelican") == ["d.txt"]
    (tree / "sub" / "b.txt").unlink()
    w.wait("gone", tree / "sub" / "b.txt")
    assert found(rotor, store, "walrus") == [] and found(rotor, store, "asleep") == ["c.md"]
    rotor("rag", "add", store, tree / "old", "--no-embed")         # another program writes between changes
    w.stop()
    assert "sound" in rotor("rag", "verify", store).stdout


def test_an_editor_that_saves_by_renaming(rotor, watch, store, tree):
    w = watch(store, tree, "--no-embed")
    w.wait("watching", tree)
    for i, animal in enumerate(("lynx", "ibex")):
        w.write(tree / ".a.txt.swp", "The %s is new here.\n" % animal)
        os.replace(tree / ".a.txt.swp", tree / "a.txt")
        w.wait("read", tree / "a.txt", 2 + i)
        assert found(rotor, store, animal) == ["a.txt"]
    assert ("gone", str(tree / "a.txt")) not in w.changes()
    w.stop(signal.SIGINT)


def test_vectors_follow_and_only_for_what_changed(rotor, watch, store, tree):
    w = watch(store, tree, "--embed-model", STORY)
    w.wait("embedded")
    w.write(tree / "a.txt", "The pelican has a pouch.\n")
    w.wait("embedded", n=2)
    os.rename(tree / "a.txt", tree / "z.txt")
    w.wait("moved", tree / "z.txt")
    time.sleep(0.5)
    w.stop()
    lines = [json.loads(line) for line in os.pread(w.out.fileno(), 1 << 20, 0).decode().splitlines()]
    assert [line["more"] for line in lines if line["change"] == "embedded"] == ["2", "1"]
    status = json.loads(rotor("rag", "status", store, "--json").stdout)
    assert status["vectors"] == status["passages"] == 2
    hits = rotor("rag", "search", store, "a bird with a pouch", "--json").stdout.splitlines()
    assert all(json.loads(h)["rank_vector"] for h in hits)


def test_vectors_of_another_model(rotor, watch, store, tree):
    w = watch(store, tree, "--embed-model", STORY)
    w.wait("embedded")
    with sqlite3.connect(store / "rag.db") as db:
        db.execute("UPDATE model SET fingerprint=zeroblob(32)")
    for i, animal in enumerate(("lynx", "ibex")):
        w.write(tree / "a.txt", "The %s is new here.\n" % animal)
        w.wait("read", tree / "a.txt", 2 + i)
        w.wait_said("by words alone")
        assert found(rotor, store, animal) == ["a.txt"]
    assert w.says().count("by words alone") == 1
    w.stop()


def test_what_its_owner_does_not_want(rotor, watch, store, tree):
    (tree / ".rotorignore").write_text("# not these\nsecret*\n/sub/\n!secret-but-not.txt\n")
    for name in ("secret.txt", "secret-but-not.txt", ".hidden.txt", "x.log"):
        (tree / name).write_text("The hermit lives here.\n")
    w = watch(store, tree, "--no-embed", "--exclude", "*.log")
    w.wait("watching", tree)
    assert found(rotor, store, "hermit") == ["secret-but-not.txt"] and found(rotor, store, "walrus") == []
    w.write(tree / "secret2.txt", "The hermit lives here, too.\n")
    w.write(tree / "y.log", "The hermit again.\n")
    w.write(tree / "a.txt", "The hermit moved.\n")
    w.wait("read", tree / "a.txt", 2)
    assert sorted(found(rotor, store, "hermit")) == ["a.txt", "secret-but-not.txt"]
    w.write(tree / ".rotorignore", "a.*\n*.log\n")                    # other rules: others come and go
    w.wait("gone", tree / "a.txt")
    for path in (tree / "secret.txt", tree / "secret2.txt", tree / "sub" / "b.txt"):
        w.wait("read", path)
    assert found(rotor, store, "walrus") == ["b.txt"]
    assert sorted(found(rotor, store, "hermit")) == ["secret-but-not.txt", "secret.txt", "secret2.txt"]
    w.stop()


def test_the_globs_of_add_are_remembered(rotor, watch, store, tree):
    (tree / "c.md").write_text("Otters hold hands.\n")
    rotor("rag", "add", store, tree, "--no-embed", "--include", "*.md")
    w = watch(store, "--no-embed")                                      # no folder named: those that were added
    w.wait("watching", tree)
    w.write(tree / "d.txt", "Otters are not read here.\n")
    w.write(tree / "e.md", "Otters swim.\n")
    w.wait("read", tree / "e.md")
    assert sorted(found(rotor, store, "otters")) == ["c.md", "e.md"]
    w.stop()


def test_nothing_is_lost_with_a_folder_or_most_of_it(rotor, watch, store, tree):
    for i in range(40):
        (tree / ("%02d.txt" % i)).write_text("Number %d is a heron.\n" % i)
    w = watch(store, tree, "--no-embed")
    w.wait("watching", tree)
    before = chunks(store)
    away = tree.parent / "away"
    tree.rename(away)
    w.wait("lost", tree)
    assert chunks(store) == before
    away.rename(tree)
    w.wait("watching", tree, 2)
    w.write(tree / "back.txt", "The stork is back.\n")
    w.wait("read", tree / "back.txt")
    w.p.send_signal(signal.SIGSTOP)                                     # all at once, however slow
    for i in range(40):
        (tree / ("%02d.txt" % i)).rename(tree.parent / ("%02d.txt" % i))
    (tree / ".rotorignore").write_text("# look at everything\n")
    w.p.send_signal(signal.SIGCONT)
    w.wait("kept", tree)
    assert len(chunks(store)) == len(before) + 1
    w.stop()
    assert "--confirm-deletes" in rotor("rag", "add", store, tree, "--no-embed").stderr
    w = watch(store, tree, "--no-embed", "--confirm-deletes")
    w.wait("watching", tree)
    assert len(chunks(store)) == 3
    w.stop()


def test_an_empty_folder_on_another_disk_is_a_disk_that_is_not_mounted(rotor, store, tree):
    rotor("rag", "add", store, tree, "--no-embed")
    with sqlite3.connect(store / "rag.db") as db:
        db.execute("UPDATE file SET dev=dev+1")
    shutil.rmtree(tree)
    tree.mkdir()
    result = rotor("rag", "add", store, tree, "--no-embed")
    assert "2 of 2 files are gone" in result.stderr and len(chunks(store)) == 2


def test_more_events_than_the_kernel_keeps(rotor, watch, store, tree):
    with open("/proc/sys/fs/inotify/max_queued_events") as f:
        most = int(f.read())
    if most > 50000:
        pytest.skip("the kernel's queue is too long to fill")
    w = watch(store, tree, "--no-embed")
    w.wait("watching", tree)
    w.p.send_signal(signal.SIGSTOP)
    for i in range(most // 2 + 100):
        for name in ("x.txt", "y.txt"):
            open(tree / name, "w").close()
    (tree / "last.txt").write_text("The last gasp of a fish.\n")
    w.p.send_signal(signal.SIGCONT)
    w.wait("read", tree / "last.txt")
    assert found(rotor, store, "gasp") == ["last.txt"]
    w.stop()


def opened(path, seconds):
    """How often somebody opens that file."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    try:
        assert fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(path), 0x20) >= 0     # IN_OPEN
        n, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:                                   # events alike that wait become one
            time.sleep(0.05)
            try:
                n += len(os.read(fd, 1 << 16)) // 16
            except BlockingIOError:
                pass
        return n
    finally:
        os.close(fd)


def test_loops_stores_and_files_that_keep_changing(rotor, watch, tree):
    """A link to the folder above, the store inside the folder, and a log that somebody writes to all the time."""
    (tree / "loop").symlink_to(tree)
    inside = tree / "inside"
    w = watch(inside, tree, "--no-embed")
    w.wait("watching", tree)
    with open(tree / "log.txt", "w") as log:
        for _ in range(30):
            log.write("The machine hums.\n")
            log.flush()
            time.sleep(0.02)
    w.wait("read", tree / "log.txt")
    assert set(found(rotor, inside, "hums")) == {"log.txt"}
    assert any(opened(inside / "rag.lock", 1.5) <= 1 for _ in range(20))  # its own writing is no change
    assert not [c for c in w.changes() if "inside" in c[1] or "loop/" in c[1]]
    w.stop()


def test_what_cannot_be_watched(rotor, store, tree):
    assert "not a folder" in rotor("rag", "watch", store, tree / "a.txt", "--no-embed", status=1).stderr
    rotor("rag", "add", store, tree / "a.txt", "--no-embed")
    assert "no folder was added" in rotor("rag", "watch", store, "--no-embed", status=1).stderr


def test_another_program_holds_the_store(rotor, watch, store, tree):
    """Changes wait, that is said once, and then all of it is there."""
    w = watch(store, tree, "--no-embed")
    w.wait("watching", tree)
    away = tree.parent / "away"
    tree.rename(away)
    w.wait("lost", tree)
    with open(store / "rag.lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        w.write(away / "a.txt", "The pelican has a pouch.\n")
        away.rename(tree)
        w.wait_said("another program is writing")
        time.sleep(0.7)
        assert w.says().count("another program is writing") == 1 and w.changes().count(("watching", str(tree))) == 1
    w.wait("watching", tree, 2)
    assert found(rotor, store, "pelican") == ["a.txt"] and ("read", str(tree / "a.txt")) in w.changes()
    w.stop()


def test_a_kernel_that_watches_nothing_more(rotor, watch, store, tree):
    none_left = ["unshare", "-Ur", "sh", "-c", 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*none_left, "true"], capture_output=True).returncode:
        pytest.skip("no namespace of our own")
    w = watch(store, tree, "--no-embed", under=none_left)
    w.wait("watching", tree)
    assert found(rotor, store, "heron") == ["a.txt"]
    time.sleep(0.5)
    assert w.says().count("cannot watch") == 1 and w.changes().count(("watching", str(tree))) == 1
    w.stop()


def test_a_folder_named_keeps_its_globs_and_one_within_another_is_followed(rotor, watch, store, tree):
    (tree / "salary.txt").write_text("The heron earns much.\n")
    (tree / ".notes").mkdir()
    (tree / ".notes" / "n.txt").write_text("The heron is noted.\n")
    rotor("rag", "add", store, tree, "--no-embed", "--exclude", "*salary*")
    rotor("rag", "add", store, tree / ".notes", "--no-embed")
    w = watch(store, tree, "--no-embed")
    w.wait("watching", tree)
    assert sorted(found(rotor, store, "heron")) == ["a.txt", "n.txt"]
    w.stop()
    w = watch(store, "--no-embed")
    w.wait("watching", tree)
    w.wait("watching", tree / ".notes")
    assert sorted(found(rotor, store, "heron")) == ["a.txt", "n.txt"]
    w.stop()


def test_what_globs_ask_for_is_heard(rotor, watch, store, tree):
    w = watch(store, tree, "--no-embed", "--include", ".note*", "--include", "build")
    w.wait("watching", tree)
    w.write(tree / ".note1", "The stork is noted.\n")
    w.write(tree / "build", "The stork is built.\n")
    w.wait("read", tree / ".note1")
    w.wait("read", tree / "build")
    w.stop()
