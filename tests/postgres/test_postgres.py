# SPDX-License-Identifier: MIT
"""A store on a PostgreSQL server is what a store in a folder is: the same story is told over both. And what only a server can do: go
away, refuse, be shared."""
import json
import os
import re
import signal
import subprocess
import time

import pytest

ROTOR, STORY = os.environ["ROTOR_BINARY"], os.environ["ROTOR_MODEL"]
LIMIT_S = 60


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "deck.md").write_text("# Deck\n\n## Battery\n\nA charge lasts nine hours.\n\n## Screen\n\nSeven inches wide.\n")
    (folder / "keeper.txt").write_text("The old keeper climbs the stairs.\n\nHe lights the lamp with error code E-4012.\n")
    (folder / "sub" / "größe.md").write_text("# Maße\n\nDie Größe der Kiste: 'drei' \\ Ellen; -- nicht \"vier\".\n")
    os.rename(folder / "keeper.txt", os.fsencode(folder) + b"/keeper\xff.txt")  # a path that is no text
    (folder / "long.txt").write_text("\n\n".join("Paragraph %d speaks of %s and of the sea." % (i, "word%d " % (i % 90) * 40)
                                                 for i in range(150)))
    (folder / "c.jsonl").write_text("".join('{"_id": "d%d", "title": "Title %d", "text": "A document about whale number %d."}\n' % (i, i, i)
                                            for i in range(60)))
    return folder


def wait_for(what, why):
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.02)


# ---- The same story --------------------------------------------------------------------------------------------------


def told(rotor, store, *args, status=0, input=None):
    """What the program says, but for where it says it of and for bytes."""
    result = rotor("rag", args[0], store, *args[1:], status=status, input=input, text=False)
    text = (result.stdout + b"\n--\n" + result.stderr).decode(errors="surrogateescape")
    label = re.search(r"[^/]*$", str(store).split("?")[0])[0]
    text = text.replace(str(store), "STORE").replace('"store":"%s"' % label, '"store":"STORE"')
    return re.sub(r"[0-9.]+ [KM]iB|\"bytes\": \d+", "BYTES", text)


def story(rotor, store, tree, folder):
    """One command after another, and what each says."""
    def search(*more):
        for query in ("keeper lamp", "nine hours", "whale number 7", "Größe der Kiste", '"the sea"', "E-4012"):
            for mode in ("lexical", "vector", "hybrid"):
                yield told(rotor, store, "search", query, "--mode", mode, "--json", "-k", "5", *more)

    yield told(rotor, store, "search", "x", status=1).replace("a.store", "STORE")
    yield told(rotor, store, "add", tree, "--embed-model", STORY)
    yield from search()
    yield from search("--filter", "path=*c.jsonl")
    yield told(rotor, store, "list")
    yield told(rotor, store, "add", tree, "--embed-model", STORY)
    (tree / "deck.md").write_text("# Deck\n\n## Battery\n\nA charge lasts eleven hours.\n\n## Screen\n\nSeven inches wide.\n")
    (tree / "long.txt").rename(tree / "longer.txt")
    (tree / "sub" / "größe.md").unlink()
    yield told(rotor, store, "add", tree, "--embed-model", STORY)
    yield from search()
    yield told(rotor, store, "note", "--title", "Mine", input=b"The note tells of a walrus.")
    yield told(rotor, store, "remove", "d3", "d4")
    yield told(rotor, store, "remove", "nothing", status=1)
    queries, judged = folder / "q.jsonl", folder / "q.tsv"
    queries.write_text("".join('{"_id": "q%d", "text": "whale number %d"}\n' % (i, i) for i in range(10, 20)))
    judged.write_text("query-id\tcorpus-id\tscore\n" + "".join("q%d\td%d\t1\n" % (i, i) for i in range(10, 20)))
    yield re.sub(r"[0-9.]+ ms|\"[a-z_]*(ms|us)\": [0-9.]+", "TIME", told(rotor, store, "eval", "--queries", queries, "--qrels", judged))
    yield told(rotor, store, "remove", tree / "longer.txt")
    yield told(rotor, store, "gc")
    yield told(rotor, store, "verify")
    yield told(rotor, store, "status", "--json")
    yield told(rotor, store, "export", folder / "out.rag")
    yield from search()
    yield told(rotor, store, "remove", "--all")
    yield told(rotor, store, "import", folder / "out.rag")
    yield from search()
    yield told(rotor, store, "verify")
    (tree / "deck.md").write_text("# Deck\n\n## Battery\n\nA charge lasts nine hours.\n\n## Screen\n\nSeven inches wide.\n")
    (tree / "longer.txt").rename(tree / "long.txt")
    (tree / "sub" / "größe.md").write_text("# Maße\n\nDie Größe der Kiste: 'drei' \\ Ellen; -- nicht \"vier\".\n")


def test_the_same_story_over_both(rotor, store, tree, tmp_path):
    in_file = list(story(rotor, tmp_path / "a.store", tree, tmp_path))
    on_server = list(story(rotor, store, tree, tmp_path))
    assert len(in_file) > 60
    for n, (one, other) in enumerate(zip(in_file, on_server)):
        assert other == one, n


def test_an_export_of_one_kind_is_an_import_of_the_other(rotor, store, tree, tmp_path):
    rotor("rag", "add", store, tree, "--embed-model", STORY)
    rotor("rag", "export", store, tmp_path / "out.rag")
    rotor("rag", "import", tmp_path / "b.store", tmp_path / "out.rag")
    for query in ("whale number 9", "the lamp"):
        one, other = (told(rotor, s, "search", query, "--json") for s in (store, tmp_path / "b.store"))
        assert one.count("\n") > 5 and one == other


def test_several_stores_of_both_kinds_are_searched_together(rotor, store, tree, tmp_path):
    rotor("rag", "add", store, tree / "deck.md", "--no-embed")
    rotor("rag", "add", tmp_path / "b.store", tree / "c.jsonl", "--no-embed")
    hits = rotor("rag", "search", "%s,%s" % (store, tmp_path / "b.store"), "battery charge whale", "--json", "--no-embed").stdout
    assert {json.loads(line)["store"] for line in hits.splitlines()} == {"postgres", "b.store"}


# ---- Writers ---------------------------------------------------------------------------------------------------------


def words_of(n):
    return " ".join("w%d" % (i * n % 5003) for i in range(120))


def big(folder, n):
    folder.mkdir(exist_ok=True)
    for i in range(n):
        (folder / ("%03d.md" % i)).write_text("# File %d\n\n%s\n" % (i, words_of(i + 1)))
    return folder


def numbers(postgres, store):
    return [int(n) for n in postgres.sql("SELECT (SELECT count(*) FROM file), (SELECT count(*) FROM doc), (SELECT count(*) FROM chunk),"
                                         " (SELECT count(*) FROM chunk_terms), (SELECT count(*) FROM job)", store).split("|")]


def test_there_is_one_writer_and_readers_see_what_is_committed(rotor, postgres, store, tree, tmp_path):
    watch = subprocess.Popen([ROTOR, "rag", "watch", store, tree, "--no-embed"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: postgres.sql("SELECT to_regclass('file')", store), "no schema")
        wait_for(lambda: numbers(postgres, store)[0] == 5, "not all files")
        (tree / "new.txt").write_text("A zeppelin over the harbour.")
        wait_for(lambda: "new.txt" in rotor("rag", "search", store, "zeppelin", "--no-embed", status=None).stdout, "never found")
    finally:
        watch.send_signal(signal.SIGINT)
        out = watch.communicate(timeout=LIMIT_S)[0]
    assert watch.returncode == 0, out
    schema = store.split("schema=")[1]
    # The number of the lock is written down in the manual of no one: whoever holds it is a program of ours.
    with Busy(postgres, store):
        refused = rotor("rag", "add", store, tree, "--no-embed", status=1).stderr
        assert "another program is writing to this store; try again when it is done" in refused and schema in refused
        assert "new.txt" in rotor("rag", "search", store, "zeppelin", "--no-embed").stdout
    rotor("rag", "add", store, tree, "--no-embed")


class Busy:
    """A writer that waits in the middle of its work: its file is a pipe that nobody fills … there is none, so one is stopped."""

    def __init__(self, postgres, store):
        self.postgres, self.store = postgres, store

    def __enter__(self):
        reader, self.pipe = os.pipe()
        self.child = subprocess.Popen([ROTOR, "rag", "note", self.store], stdin=reader, stdout=subprocess.DEVNULL)
        os.close(reader)
        held = "SELECT count(*) FROM pg_locks WHERE locktype='advisory' AND granted"
        try:
            wait_for(lambda: self.postgres.sql(held) == "1", "no writer")
        except BaseException:
            self.__exit__()
            raise
        return self.child

    def __exit__(self, *why):
        os.close(self.pipe)
        self.child.kill()
        self.child.wait()


def test_a_writer_that_is_killed_leaves_what_it_finished(rotor, postgres, store, tmp_path):
    """At moments that its own progress names: so many files are there."""
    folder = big(tmp_path / "big", 120)
    seen = 0
    for _ in range(4):
        child = subprocess.Popen([ROTOR, "rag", "add", store, folder, "--no-embed"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(lambda: child.poll() is not None or "vec" in postgres.sql("SELECT to_regclass('vec')", store), "no schema")
        locks = "SELECT count(*) FROM pg_locks WHERE locktype='advisory'"
        wait_for(lambda: child.poll() is not None or postgres.sql(locks) == "1", "no writer")
        child.kill()
        child.wait()
        wait_for(lambda: postgres.sql(locks) == "0", "the lock outlives its owner")
        files, docs, chunks, terms, _ = numbers(postgres, store)
        assert seen <= files == docs and chunks == terms
        seen = files
    rotor("rag", "add", store, folder, "--no-embed")
    files, docs, chunks, terms, jobs = numbers(postgres, store)
    assert files == docs == 120 and chunks == terms and jobs == 0
    rotor("rag", "verify", store)


# ---- Servers that go away, or say no ---------------------------------------------------------------------------------


def test_a_server_that_stops_and_comes_back(rotor, postgres, store, tree):
    rotor("rag", "add", store, tree, "--no-embed")
    chat = subprocess.Popen([ROTOR, "rag", "watch", store, tree, "--no-embed"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name='rotor'") == "1", "nobody came")
        postgres.stop()
        gone = rotor("rag", "search", store, "whale", "--no-embed", status=1).stderr
        assert "no connection" in gone and postgres.folder in gone
        (tree / "new.txt").write_text("A zeppelin over the harbour.")
        postgres.start()
        wait_for(lambda: "new.txt" in rotor("rag", "search", store, "zeppelin", "--no-embed", status=None).stdout, "never taken up")
    finally:
        if postgres.process.poll() is not None:
            postgres.start()
        chat.send_signal(signal.SIGINT)
        said = chat.communicate(timeout=LIMIT_S)
    assert chat.returncode == 0, said
    rotor("rag", "verify", store)


def test_a_connection_that_is_cut_leaves_nothing_half_done(rotor, postgres, store, tmp_path):
    with Busy(postgres, store) as child:
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='rotor'")
        os.write(os.dup(0), b"") if False else None
    folder = big(tmp_path / "big", 20)
    rotor("rag", "add", store, folder, "--no-embed")
    assert numbers(postgres, store)[0] == 20 and child.returncode != 0


def test_refusals_say_what_to_do_and_no_password(rotor, postgres, store, tree):
    secret = "s3cr%65t"
    pathless = "postgres://ghost:%s@/postgres?host=%s&password=%s" % (secret, postgres.folder, secret)
    for address, said in ((pathless, 'role "ghost" does not exist'), (pathless.replace(postgres.folder, "/nonexistent"), "no connection"),
                          (pathless.replace("s3cr%65t@", "a/b@"), "%2F"), (store.replace("schema=", "schema=a;b"), "names no schema"),
                          (pathless + "&nonsense=1", "nonsense")):
        for verb in (("add", tree), ("search", "x"), ("status",), ("list",)):
            result = rotor("rag", verb[0], address, *verb[1:], "--no-embed", status=None)
            said_all = result.stdout + result.stderr
            assert result.returncode == 1 and said in result.stderr, (address, result.stderr)
            assert "s3cr" not in said_all and "a/b@" not in said_all
    served = rotor("serve", STORY, "--rag", pathless, "--port", "0", status=None, timeout=60)
    assert served.returncode == 1 and "s3cr" not in served.stdout + served.stderr
    assert "no store there; rotor rag add" in rotor("rag", "search", store, "x", status=1).stderr


def test_schemas_that_are_not_ours_are_left_alone(rotor, postgres, store, tree):
    schema = store.split("schema=")[1]
    postgres.sql("CREATE SCHEMA %s; CREATE TABLE %s.meta(k text)" % (schema, schema))
    assert "but not of a store" in rotor("rag", "add", store, tree, status=1).stderr
    other = postgres.store()
    rotor("rag", "add", other, tree / "deck.md", "--no-embed")
    postgres.sql("UPDATE meta SET n=99 WHERE k='schema'", other)
    for verb in (("add", tree), ("search", "x")):
        assert "written by a newer rotor (schema 99, this one knows 1)" in rotor("rag", verb[0], other, *verb[1:], status=1).stderr


def test_what_is_damaged_is_found(rotor, postgres, store, tree):
    rotor("rag", "add", store, tree, "--no-embed")
    rotor("rag", "verify", store)
    postgres.sql("UPDATE chunk SET byte_end=1000000 WHERE id=(SELECT min(id) FROM chunk)", store)
    assert "damaged: 1 passages outside their text" in rotor("rag", "verify", store, status=1).stderr


def test_a_database_of_another_encoding_is_refused(rotor, postgres, tree):
    postgres.sql("DROP DATABASE IF EXISTS latin")
    postgres.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    address = "postgres:///latin?host=%s&user=rotor" % postgres.folder
    assert "holds text as LATIN1" in rotor("rag", "add", address, tree, status=1).stderr
