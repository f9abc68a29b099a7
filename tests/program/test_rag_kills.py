# SPDX-License-Identifier: MIT
"""Programs that are killed while they write, ROTOR_TEST_KILLS times (3; 50 and 1,000 in the longer tiers): whatever was killed when,
the next one goes on, and in the end the store is what an undisturbed one is."""
import os
import random
import signal
import sqlite3
import subprocess
import time

import pytest

ROTOR = os.environ["ROTOR_BINARY"]
KILLS = int(os.environ.get("ROTOR_TEST_KILLS") or 3)
pytestmark = pytest.mark.kills


def content(store):
    """What is found, without numbers: file, title, place, text of each passage, its words."""
    with sqlite3.connect("file:%s?mode=ro" % (store / "rag.db"), uri=True) as db:
        terms = dict(db.execute("SELECT id,t FROM term"))
        rows = db.execute("SELECT f.path,f.status,d.title,c.ord,c.heading,c.byte_begin,c.byte_end,substr(t.text,c.byte_begin+1,"
                          "c.byte_end-c.byte_begin),c.hash,x.n_words,x.packed FROM chunk c JOIN doc d ON d.id=c.doc_id JOIN file f ON"
                          " f.id=d.file_id JOIN doc_text t ON t.doc_id=d.id JOIN chunk_terms x ON x.chunk_id=c.id").fetchall()
    return sorted((*row[:-1], words(row[-1], terms)) for row in rows)


def words(packed, terms):
    """Numbers of terms, seven bits a byte, and how often: sorted by name, since numbers differ between stores."""
    numbers, n, shift = [], 0, 0
    for byte in packed:
        n |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(n)
            n, shift = 0, 0
    out, at = [], 0
    for delta, body, head in zip(*[iter(numbers)] * 3):
        at += delta
        out.append((terms[at], body, head))
    return tuple(sorted(out))


def change(rng, tree):
    """A few files are written, moved, deleted."""
    for _ in range(rng.randint(3, 12)):
        name = tree / ("%d" % rng.randrange(4)) / ("%02d.md" % rng.randrange(40))
        what = rng.random()
        if what < 0.6 or not name.exists():
            name.write_text("# Note %d\n\n%s\n" % (rng.randrange(99), "\n\n".join(
                " ".join("word%d" % min(rng.expovariate(0.02), 400) for _ in range(rng.randint(5, 120))) for _ in range(rng.randint(1, 6)))))
        elif what < 0.8:
            name.rename(name.with_name("%d.md" % rng.randrange(1000, 2000)))
        else:
            name.unlink()


def test_a_store_whose_writers_are_killed(rotor, sqlite_is_there, tmp_path):
    rng, tree, store = random.Random(11), tmp_path / "tree", tmp_path / "a.store"
    for i in range(4):
        (tree / str(i)).mkdir(parents=True)
    for _ in range(30):
        change(rng, tree)
    start, killed = time.monotonic(), 0
    rotor("rag", "add", tmp_path / "first.store", tree, "--no-embed")
    seconds = time.monotonic() - start
    while killed < KILLS:
        change(rng, tree)
        verb = ["watch", "add"][rng.random() < 0.7]
        child = subprocess.Popen([ROTOR, "rag", verb, str(store), str(tree), "--no-embed", "--confirm-deletes"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.05, 1.2) * seconds)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
    rotor("rag", "add", store, tree, "--no-embed", "--confirm-deletes")
    assert "sound" in rotor("rag", "verify", store).stdout
    fresh = tmp_path / "fresh.store"
    rotor("rag", "add", fresh, tree, "--no-embed")
    assert content(store) == content(fresh) and len(content(fresh)) > 100
