# SPDX-License-Identifier: MIT
"""rotor rag export, import, gc and note: a store in one file finds what the store found, a damaged file is refused whole, notes are
documents, and what nothing uses gives its room back."""
import contextlib
import hashlib
import json
import os
import resource
import signal
import sqlite3
import struct
import subprocess
import sys
import threading

import pytest

ROTOR = os.environ["ROTOR_BINARY"]
QUESTIONS = ("how long does a charge last", "E-4012", "herons", "\"old keeper\" lamp", "price -deck")


pytestmark = pytest.mark.usefixtures("sqlite_is_there")


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "deck.md").write_text("# Deck\n\n## Battery\n\nA charge lasts nine hours.\n\n## Price\n\nThe deck costs 300 crowns.\n")
    (folder / "keeper.txt").write_text("The old keeper climbs the stairs.\n\nHe lights the lamp with error code E-4012. Žluťoučký kůň.\n")
    (folder / "birds.jsonl").write_text("".join(
        json.dumps({"_id": "b%d" % i, "title": "Bird %d" % i, "text": "Herons number %d stand still." % i, "kind": "bird"}) + "\n"
        for i in range(20)))
    (folder / "empty.txt").write_text("")
    return folder


@pytest.fixture
def store(rotor, tmp_path, notes):
    rotor("rag", "add", tmp_path / "a.store", notes, "--no-embed")
    give_vectors(tmp_path / "a.store")
    return tmp_path / "a.store"


def give_vectors(store, dims=24):
    """Vectors of a model that is nowhere, so that no encoder is needed."""
    with sqlite3.connect(store / "rag.db") as db:
        db.execute("INSERT INTO model VALUES(1,?,'toy','toy.gguf',?)", (b"\1" * 32, dims))
        db.execute("INSERT INTO meta VALUES('model',1)")
        for h, in db.execute("SELECT DISTINCT hash FROM chunk").fetchall():
            db.execute("INSERT INTO vec VALUES(1,?,?,?,?)", (h, 0.5, h[:dims], h[-dims:]))


def fill(store, n):
    """Vectors that no passage has."""
    with sqlite3.connect(store / "rag.db") as db:
        for i in range(n):
            db.execute("INSERT INTO vec VALUES(1,?,0.5,?,?)", (hashlib.sha256(b"%d" % i).digest(), os.urandom(384), os.urandom(384)))


def searches(rotor, store):
    """Hits as they are printed, all but the store that they are from."""
    def run(q, *more):
        out = rotor("rag", "search", store, q, "--json", "--mode", "lexical", "-k", "20", *more, status=None).stdout
        return [{k: v for k, v in json.loads(line).items() if k != "store"} for line in out.splitlines()]
    return [run(q) for q in QUESTIONS] + [run("herons", "--filter", "kind=bird", "--plain")]


def content(store):
    with contextlib.closing(sqlite3.connect(store / "rag.db")) as db:   # or its log would stay open
        return [db.execute(q).fetchall() for q in (
            "SELECT path,size,mtime_ns,hash,pipeline,status,message FROM file ORDER BY path",
            "SELECT f.path,key,title,meta,line,d.hash,text FROM doc d JOIN file f ON f.id=file_id JOIN doc_text ON doc_id=d.id ORDER BY 1,2",
            "SELECT hash,ord,heading,byte_begin,byte_end,c.line,last_line,page,last_page,n_tok,n_words FROM chunk c JOIN chunk_terms"
            " ON chunk_id=c.id ORDER BY 1,2", "SELECT hash,scale,high,low FROM vec ORDER BY 1", "SELECT name,path,dims FROM model")]


def test_a_store_in_a_file_finds_the_same(rotor, store, notes, tmp_path):
    f = tmp_path / "kept.rag"
    before = searches(rotor, store)
    assert any(before[0]) and any(before[5])
    report = json.loads(rotor("rag", "export", store, f, "--json").stdout)
    assert report == {"file": str(f), "files": 4, "documents": 22, "passages": 22, "vectors": 22}
    assert os.stat(f).st_mode & 0o777 == 0o600 and not list(tmp_path.glob("*.part-*"))
    r = rotor("rag", "import", tmp_path / "b.store", f)
    assert "22 passages and 22 vectors taken" in r.stderr
    assert searches(rotor, tmp_path / "b.store") == before
    assert "sound" in rotor("rag", "verify", tmp_path / "b.store").stdout
    assert content(tmp_path / "b.store") == content(store)
    first = f.read_bytes()
    rotor("rag", "import", tmp_path / "b.store", f)                     # once more: nothing is there twice
    assert content(tmp_path / "b.store") == content(store)
    rotor("rag", "export", tmp_path / "b.store", f)
    assert f.read_bytes() == first
    r = rotor("rag", "add", tmp_path / "b.store", notes, "--no-embed")  # the files are known there
    assert "0 documents, 0 passages" in r.stderr and searches(rotor, tmp_path / "b.store") == before


def test_texts_with_zeros_can_be_moved(rotor, store, notes, tmp_path):
    f, b = tmp_path / "kept.rag", tmp_path / "b.store"
    (notes / "wide.txt").write_bytes("\ufeffA walrus\0swims here.\n".encode("utf-16-le"))
    rotor("rag", "add", store, notes, "--no-embed")
    text = "SELECT text FROM doc_text JOIN doc ON doc.id=doc_id JOIN file f ON f.id=file_id WHERE f.path LIKE '%wide.txt'"
    with contextlib.closing(sqlite3.connect(store / "rag.db")) as db:
        assert "walrus\ufffdswims" in db.execute(text).fetchone()[0].decode()
        whole = db.execute(text).fetchone()[0].replace("\ufffd".encode(), b"\0")      # as stores of before have it
        db.execute("UPDATE doc_text SET text=? WHERE instr(text,CAST('walrus' AS BLOB))", (whole + b"\0\0",))
        db.commit()
    rotor("rag", "export", store, f)
    rotor("rag", "import", b, f)
    with contextlib.closing(sqlite3.connect(b / "rag.db")) as db:
        assert db.execute(text).fetchone()[0] == whole + b"\0\0"
    assert "sound" in rotor("rag", "verify", b).stdout


def test_an_import_takes_the_place_of_the_same_files(rotor, store, notes, tmp_path):
    f = tmp_path / "kept.rag"
    rotor("rag", "export", store, f)
    (notes / "keeper.txt").write_text("A walrus.\n")
    (notes / "birds.jsonl").write_text('{"_id": "new", "title": "", "text": "A walrus."}\n')
    (notes / "other.md").write_text("A walrus, kept.\n")
    rotor("rag", "add", store, notes, "--no-embed")
    with sqlite3.connect(store / "rag.db") as db:                       # another model's vectors do not mix
        db.execute("UPDATE model SET fingerprint=?, name='other'", (b"\2" * 32,))
        left = db.execute("SELECT count(*) FROM vec").fetchone()[0]
    r = rotor("rag", "import", store, f)
    assert "has vectors of other: those of toy are left out" in r.stderr
    hits = [json.loads(h)["path"] for h in rotor("rag", "search", store, "walrus", "--json", "--no-embed").stdout.splitlines()]
    assert hits == [str(notes / "other.md")]
    with sqlite3.connect(store / "rag.db") as db:
        assert db.execute("SELECT count(*) FROM vec").fetchone()[0] == left


def sealed(body):
    return body + hashlib.sha256(body).digest()


def records(data):
    """(kind, body) of an export, and its head."""
    out, at = [], 16
    while at < len(data) - 32:
        kind, n = data[at:at + 1], struct.unpack("<Q", data[at + 1:at + 9])[0]
        out.append((kind, data[at + 9:at + 9 + n]))
        at += 9 + n
    return data[:16], out


def built(head, list_):
    return sealed(head + b"".join(k + struct.pack("<Q", len(b)) + b for k, b in list_))


def test_what_is_damaged_or_made_up_is_refused_whole(rotor, store, tmp_path):
    f, bad, into = tmp_path / "kept.rag", tmp_path / "bad.rag", tmp_path / "b.store"
    rotor("rag", "export", store, f)
    (tmp_path / "one.txt").write_text("One that is there.\n")
    rotor("rag", "add", into, tmp_path / "one.txt", "--no-embed")
    before, whole = content(into), f.read_bytes()
    head, list_ = records(whole)
    assert built(head, list_) == whole and {k for k, _ in list_} == set(map(bytes, ([c] for c in b"mfdcve")))
    at = {k: next(i for i, (kind, _) in enumerate(list_) if kind == k) for k in (b"m", b"f", b"d", b"c", b"v", b"e")}
    put = lambda k, body: built(head, list_[:at[k]] + [(k, body)] + list_[at[k] + 1:])
    body = {k: list_[i][1] for k, i in at.items()}
    cases = {
        "empty": b"", "text": b"hello\n" * 40, "head": whole[:40], "cut": whole[:len(whole) // 2], "tail": whole + b"\0",
        "last": whole[:-1], "flip": whole[:300] + bytes([whole[300] ^ 1]) + whole[301:],
        "version": sealed(head[:8] + b"\2\0\0\0" + head[12:] + whole[16:-32]),
        "no end": built(head, list_[:-1]), "more behind": built(head, list_ + [list_[at[b"f"]]]),
        "counts": built(head, list_[:-1] + [(b"e", b"\0" * 32)]), "unknown": built(head, [(b"x", b"")] + list_),
        "no file": built(head, list_[at[b"d"]:]), "missing": built(head, list_[:3] + list_[5:]),
        "model twice": built(head, [list_[0]] + list_), "vector of no model": built(head, [r for r in list_ if r[0] != b"m"]),
        "dims": put(b"m", body[b"m"][:32] + b"\xff" * 4 + body[b"m"][36:]), "model": put(b"m", body[b"m"][:-1]),
        "path": put(b"f", body[b"f"][:68] + b"\xff" * 8 + body[b"f"][76:]),
        "text too long": put(b"d", body[b"d"][:36] + b"\xff" * 8 + body[b"d"][44:]),
        "zero inside": put(b"d", body[b"d"].replace(b"Bird 0", b"Bi\0d 0")), "record too long": put(b"c", body[b"c"] + b"\0"),
        "passage outside": put(b"c", struct.pack("<QQ", 0, 1 << 40) + body[b"c"][16:]),
        "passage backwards": put(b"c", struct.pack("<QQ", 3, 2) + body[b"c"][16:]),
        "scale": put(b"v", body[b"v"][:32] + struct.pack("<f", float("nan")) + body[b"v"][36:]),
    }
    for name, data in cases.items():
        bad.write_bytes(data)
        r = rotor("rag", "import", into, bad, status=1)
        line = r.stderr.splitlines()[-1]
        assert str(bad) in line and ("damaged" in line or "not written by" in line or "version 2" in line), name
        assert content(into) == before, name
    assert "sound" in rotor("rag", "verify", into).stdout
    rotor("rag", "import", into, f)                                     # and then it goes on
    assert "walk" not in rotor("rag", "import", tmp_path / "no.store", tmp_path / "none.rag", status=1).stderr
    assert not (tmp_path / "no.store").exists()


def test_vectors_are_taken_for_passages_that_only_the_import_has(rotor, store, notes, tmp_path):
    """Whoever made the file says nothing of what a reader's own texts mean, had they no vectors before or not."""
    f, mine = tmp_path / "kept.rag", tmp_path / "mine"
    rotor("rag", "export", store, f)
    mine.mkdir()
    (mine / "deck.md").write_text((notes / "deck.md").read_text())     # the same passages
    rotor("rag", "add", tmp_path / "b.store", mine, "--no-embed")
    rotor("rag", "import", tmp_path / "b.store", f)
    with contextlib.closing(sqlite3.connect(tmp_path / "b.store" / "rag.db")) as db:
        without = [p for p, in db.execute("SELECT DISTINCT path FROM chunk c JOIN doc d ON d.id=doc_id JOIN file f ON f.id=file_id"
                                          " WHERE NOT EXISTS (SELECT 1 FROM vec v WHERE v.hash=c.hash) ORDER BY path")]
    assert without == sorted(map(str, [mine / "deck.md", notes / "deck.md"]))
    head, list_ = records(f.read_bytes())                               # and a vector of nothing in the file
    stray = next(i for i, (k, _) in enumerate(list_) if k == b"v")
    list_[stray] = (b"v", b"\7" * 32 + list_[stray][1][32:])
    (tmp_path / "stray.rag").write_bytes(built(head, list_))
    rotor("rag", "import", tmp_path / "c.store", tmp_path / "stray.rag")
    with contextlib.closing(sqlite3.connect(tmp_path / "c.store" / "rag.db")) as db:
        assert db.execute("SELECT count(*) FROM vec").fetchone()[0] == sum(k == b"v" for k, _ in list_) - 1


def test_what_is_no_utf8_is_mended(rotor, store, tmp_path):
    f, into = tmp_path / "kept.rag", tmp_path / "b.store"
    rotor("rag", "export", store, f)
    head, list_ = records(f.read_bytes())
    worse = [(k, b.replace("Žlu".encode(), b"\xff\xc5lu").replace(b"Bird 7", b"B\xffrd 7") if k in b"dc" else b) for k, b in list_]
    f.write_bytes(built(head, worse))
    rotor("rag", "import", into, f)
    hits = rotor("rag", "search", into, "E-4012", "--json", "--no-embed", "--mode", "lexical").stdout
    assert "??lu" in json.loads(hits.splitlines()[0])["text"]
    with contextlib.closing(sqlite3.connect(into / "rag.db")) as db:
        assert ("B?rd 7",) in db.execute("SELECT title FROM doc").fetchall()
        for text, in db.execute("SELECT text FROM doc_text"):
            text.decode()


def test_an_import_takes_no_memory_for_the_file(checked_build, tmp_path):
    """Sixty-four documents of a megabyte, and not fifty megabytes more than for one of them (the database keeps up to 32)."""
    if checked_build:
        pytest.skip("a checker's memory is not the program's")

    def word(b):
        return struct.pack("<Q", len(b)) + b + b"\0"

    def kept(name, n):
        file = (b"f", struct.pack("<Qqqq", 1, 1, 1, 1) + b"\1" * 32 + struct.pack("<I", 1) + word(b"/f.jsonl") + word(b"ok") + word(b""))
        docs = [(b"d", bytes([i]) * 32 + struct.pack("<I", 1) + word(b"%d" % i) + word(b"") + word(b"") + word(b"w" * (1 << 20))) for i in range(n)]
        (tmp_path / name).write_bytes(built(b"ROTORRAG\1" + b"\0" * 7, [file, *docs, (b"e", struct.pack("<QQQQ", 1, n, 0, 0))]))
        code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL);" \
               " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        args = ["rag", "import", tmp_path / (name + ".store"), tmp_path / name]
        return int(subprocess.check_output([sys.executable, "-c", code, os.environ["ROTOR_BINARY"], *map(str, args)]).split()[-1]) << 10

    small, large = kept("small", 1), kept("large", 64)
    assert large < small + (50 << 20)


def test_gc_drops_what_no_passage_uses_and_shrinks(rotor, store):
    fill(store, 3000)
    before = searches(rotor, store)
    r = json.loads(rotor("rag", "gc", store, "--json").stdout)
    assert r["vectors_dropped"] == 3000 and r["bytes_before"] - r["bytes"] > 3000 * 768
    assert r["bytes"] == (store / "rag.db").stat().st_size
    assert searches(rotor, store) == before and "sound" in rotor("rag", "verify", store).stdout
    with sqlite3.connect(store / "rag.db") as db:
        assert db.execute("SELECT count(*) FROM vec").fetchone()[0] == 22
    assert "0 vectors" in rotor("rag", "gc", store).stderr


def test_a_note_is_a_document(rotor, store, notes, tmp_path):
    name = rotor("rag", "note", store, "--no-embed", input="# Garage\n\nThe spare key hangs behind the ladder.\n").stdout.strip()
    assert name.startswith("mem:") and len(name) == 20
    hit = json.loads(rotor("rag", "search", store, "spare key", "--json", "--no-embed").stdout.splitlines()[0])
    assert hit["path"] == name and hit["title"] == "Garage" and "behind the ladder" in hit["text"]
    source = json.loads(rotor("rag", "ask", store, "where hangs the spare key?", "--no-answer", "--no-embed", "--json").stdout)["sources"][0]
    assert source["uri"] == name + "#L1" and source["place"].startswith(name + ":1")
    again = rotor("rag", "note", store, "--no-embed", "--json", input="# Garage\n\nThe spare key hangs behind the ladder.\n")
    assert json.loads(again.stdout) == {"path": name, "passages": 0, "vectors": 0}
    other = rotor("rag", "note", store, "Milk is bought on Mondays.", "--title", "Shopping", "--no-embed").stdout.strip()
    assert other != name
    hit = json.loads(rotor("rag", "search", store, "shopping", "--json", "--no-embed").stdout.splitlines()[0])
    assert hit["path"] == other and hit["title"] == "Shopping"
    (notes / "same.txt").write_text("Milk is bought on Mondays.")       # a file of the same words does not take it over
    rotor("rag", "add", store, notes, "--no-embed")
    listed = [json.loads(line)["path"] for line in rotor("rag", "list", store, "--json").stdout.splitlines()]
    assert name in listed and other in listed and str(notes / "same.txt") in listed
    rotor("rag", "remove", store, name)
    assert "nothing found" in rotor("rag", "search", store, "ladder", "--no-embed", status=1).stderr
    for empty in ("", "  \n# \n"):
        assert "nothing in it" in rotor("rag", "note", store, "--no-embed", input=empty, status=2).stderr


# ---- Full disks ------------------------------------------------------------------------------------------------------


def limited(n_bytes):
    """As on a full disk: no file may grow beyond so many bytes. Can be taken back."""
    def set_limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
    return set_limit


def big(tmp_path):
    folder = tmp_path / "big"
    folder.mkdir(exist_ok=True)
    (folder / "one.txt").write_text("\n\n".join("Paragraph %d of number %d is here." % (i, i * i) for i in range(8000)))
    return folder


@pytest.mark.parametrize("verb", ["add", "import", "note", "gc", "export"])
def test_files_that_may_not_grow_leave_what_there_was(rotor, store, tmp_path, verb):
    f, text, limit = tmp_path / "kept.rag", "word " * 40000, 150000
    if verb == "gc":
        fill(store, 2000)
        limit = 40000
    rotor("rag", "export", store, f)
    if verb in ("import", "export"):
        rotor("rag", "add", tmp_path / "big.store", big(tmp_path), "--no-embed")
        rotor("rag", "export", tmp_path / "big.store", tmp_path / "big.rag")
    before, kept = content(store), f.read_bytes()
    args = {"add": [store, big(tmp_path), "--no-embed"], "import": [store, tmp_path / "big.rag"], "gc": [store],
            "note": [store, "--no-embed"], "export": [tmp_path / "big.store", f]}[verb]
    r = subprocess.run([ROTOR, "rag", verb, *map(str, args)], capture_output=True, text=True, input=text, preexec_fn=limited(limit))
    assert r.returncode == 1, r.stderr
    assert ("%s: cannot write" % f if verb == "export" else "rag.db: ") in r.stderr.splitlines()[-1]
    assert content(store)[1:] == before[1:] and f.read_bytes() == kept and not list(tmp_path.glob("*.part-*"))
    assert "sound" in rotor("rag", "verify", store).stdout
    rotor("rag", verb, *args, input=text)                               # where there is room again
    assert (f.read_bytes() != kept) if verb == "export" else (content(store) != before)


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full(rotor, notes, tmp_path, small_disk):
    store = small_disk / "s"
    rotor("rag", "add", store, notes, "--no-embed")
    before = content(store)
    fails = lambda verb, *args: rotor("rag", verb, store, *args, status=1).stderr.splitlines()[-1]
    assert "rag.db: the disk is full" in fails("add", big(tmp_path), "--no-embed")
    assert content(store)[1:] == before[1:] and rotor("rag", "search", store, "herons", "--no-embed").stdout
    (small_disk / "rest").touch()
    with open(small_disk / "rest", "r+b", buffering=0) as f, pytest.raises(OSError):
        while f.write(b"x" * 4096):
            pass
    for args in (("note", "More.", "--no-embed"), ("gc",), ("search", "herons", "--no-embed"), ("export", small_disk / "e")):
        assert "the disk is full" in fails(*args), args
    assert sorted(p.name for p in small_disk.iterdir()) == ["rest", "s"]
    (small_disk / "rest").unlink()
    assert content(store)[1:] == before[1:]
    rotor("rag", "note", store, "More.", "--no-embed")
    assert "sound" in rotor("rag", "verify", store).stdout


def test_a_watcher_goes_on_when_there_is_room_again(rotor, store, notes, tmp_path):
    rotor("rag", "gc", store)
    before = content(store)
    with subprocess.Popen([ROTOR, "rag", "watch", str(store), str(notes), "--no-embed"], stderr=subprocess.PIPE, text=True,
                          preexec_fn=limited((store / "rag.db").stat().st_size + 60000)) as p:
        killer = threading.Timer(60, p.kill)
        killer.start()
        try:
            next(line for line in p.stderr if line.startswith("watching"))
            os.replace(big(tmp_path) / "one.txt", notes / "one.txt")
            assert "rag.db: " in next(line for line in p.stderr if "one.txt" in line or "rag.db" in line)
            assert content(store)[1:] == before[1:]
            hit = rotor("rag", "search", store, "keeper", "--json", "--no-embed").stdout
            assert json.loads(hit.splitlines()[0])["path"] == str(notes / "keeper.txt")
            resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            next(line for line in p.stderr if line.startswith("read") and "one.txt" in line)
        finally:
            p.terminate()
            killer.cancel()
    assert "paragraph" in rotor("rag", "search", store, "paragraph 7999", "--json", "--no-embed").stdout.lower()
    assert "sound" in rotor("rag", "verify", store).stdout
