# SPDX-License-Identifier: MIT
"""A store on a PostgreSQL server is what a store in a folder is: the same story is told over both. And what only a server can do: go
away, refuse, be shared."""
import json
import os
import re
import signal
import subprocess
import time
import urllib.request

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
    def search(*more, modes=("hybrid",)):
        for query in ("keeper E-4012", "whale number 7", 'Größe der Kiste "the sea"'):
            for mode in modes:
                yield told(rotor, store, "search", query, "--mode", mode, "--json", "-k", "5", *more, status=None)

    yield told(rotor, store, "search", "x", status=1).replace("a.store", "STORE")
    yield told(rotor, store, "add", tree, "--embed-model", STORY)
    yield from search(modes=("lexical", "vector", "hybrid"))
    yield told(rotor, store, "search", "whale", "--filter", "path=*c.jsonl", "--json")
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
    yield re.sub(r"a query without its embedding.*", "TIME", told(rotor, store, "eval", "--queries", queries, "--qrels", judged))
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
    assert len(in_file) > 30 and sum('"rank"' in said for said in in_file) > 15
    for n, (one, other) in enumerate(zip(in_file, on_server)):
        assert other == one, n


def test_an_export_of_one_kind_is_an_import_of_the_other(rotor, store, tree, tmp_path):
    # A name that is no text is mended by an import, and its passages have no vectors then: they are named by what was embedded.
    os.rename(os.fsencode(tree) + b"/keeper\xff.txt", os.fsencode(tree) + b"/keeper.txt")
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
    (tree / "more.txt").write_text("A marmot on the meadow.")
    with Stuck(postgres, store, "term", "add", tree, "--no-embed") as stuck:
        refused = rotor("rag", "add", store, tree, "--no-embed", status=1).stderr
        assert "another program is writing to this store; try again when it is done" in refused and schema in refused
        assert "new.txt" in rotor("rag", "search", store, "zeppelin", "--no-embed").stdout
        rotor("rag", "search", store, "marmot", "--no-embed", status=1)
        stuck.let_go()
        assert stuck.child.wait(LIMIT_S) == 0
    assert "more.txt" in rotor("rag", "search", store, "marmot", "--no-embed").stdout


class Stuck:
    """A writer in the middle of its work: somebody else has a table, so that it waits with the store's lock and what it has begun. Readers
    are not kept from anything."""

    def __init__(self, postgres, store, table, *command):
        self.postgres, self.store, self.table, self.command = postgres, store, table, command

    def __enter__(self):
        self.holder = self.postgres.session(self.store)
        self.holder.stdin.write("BEGIN; LOCK TABLE %s IN SHARE MODE; SELECT 'held';\n" % self.table)
        self.holder.stdin.flush()
        assert self.holder.stdout.readline().strip() == "held"
        self.child = subprocess.Popen([ROTOR, "rag", self.command[0], self.store, *map(str, self.command[1:])], stderr=subprocess.PIPE,
                                      stdout=subprocess.DEVNULL, text=True,
                                      env={**os.environ, "PGOPTIONS": "-c lock_timeout=300s"})  # however slow this machine is
        try:
            wait_for(lambda: self.postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1", "nobody waits")
        except BaseException:
            self.__exit__()
            raise
        return self

    def let_go(self):
        self.holder.stdin.close()
        self.holder.wait(LIMIT_S)

    def __exit__(self, *why):
        self.child.kill()
        self.child.communicate()
        if self.holder.poll() is None:
            self.let_go()


def test_a_writer_that_is_killed_leaves_what_it_finished(rotor, postgres, store, tmp_path):
    folder = big(tmp_path / "big", 12)
    rotor("rag", "add", store, folder, "--no-embed")
    done = numbers(postgres, store)
    big(folder, 30)
    for table in ("file", "doc", "doc_text", "term", "chunk", "chunk_terms", "meta"):
        with Stuck(postgres, store, table, "add", folder, "--no-embed") as stuck:
            stuck.child.kill()
            stuck.child.wait(LIMIT_S)
        wait_for(lambda: postgres.sql("SELECT count(*) FROM pg_locks WHERE locktype='advisory'") == "0", "the lock outlives its owner")
        now = numbers(postgres, store)
        assert now[:4] == done[:4], table  # there is one change, and it was not committed
        rotor("rag", "search", store, "w17", "--no-embed")
    rotor("rag", "add", store, folder, "--no-embed")
    assert numbers(postgres, store) == [30, 30, 30 * done[2] // 12, 30 * done[2] // 12, 0]
    rotor("rag", "verify", store)


# ---- Servers that go away, or say no ---------------------------------------------------------------------------------


def test_a_server_that_stops_and_comes_back(rotor, postgres, store, tree):
    rotor("rag", "add", store, tree, "--no-embed")
    watch = subprocess.Popen([ROTOR, "rag", "watch", store, tree, "--no-embed"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while "watching" not in watch.stdout.readline():
            assert watch.poll() is None
        postgres.stop()
        gone = rotor("rag", "search", store, "whale", "--no-embed", status=1).stderr
        assert "no connection" in gone and postgres.folder in gone
        (tree / "new.txt").write_text("A zeppelin over the harbour.")
        postgres.start()
        wait_for(lambda: "new.txt" in rotor("rag", "search", store, "zeppelin", "--no-embed", status=None).stdout, "never taken up")
    finally:
        if postgres.process.poll() is not None:
            postgres.start()
        watch.send_signal(signal.SIGINT)
        said = watch.communicate(timeout=LIMIT_S)
    assert watch.returncode == 0, said
    rotor("rag", "verify", store)


def test_a_connection_that_is_cut_leaves_nothing_half_done(rotor, postgres, store, tmp_path):
    folder = big(tmp_path / "big", 3)
    rotor("rag", "add", store, folder, "--no-embed")
    big(folder, 10)
    with Stuck(postgres, store, "term", "add", folder, "--no-embed") as stuck:
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='rotor'")
        said = stuck.child.communicate(timeout=LIMIT_S)[1]
        assert stuck.child.returncode == 1 and "the connection to the server is lost; what was committed is kept" in said
    assert numbers(postgres, store)[0] == 3
    rotor("rag", "add", store, folder, "--no-embed")
    assert numbers(postgres, store)[0] == 10


def test_refusals_say_what_to_do_and_no_password(rotor, postgres, store, tree):
    secret = "s3cr%65t"
    pathless = "postgres://ghost:%s@/postgres?host=%s&password=%s" % (secret, postgres.folder, secret)
    for address, said in ((pathless, 'role "ghost" does not exist'), (pathless.replace(postgres.folder, "/nonexistent"), "no connection"),
                          (pathless.replace("s3cr%65t@", "a/b@"), "%2F"), (store.replace("schema=", "schema=a;b"), "names no schema"),
                          (pathless + "&nonsense=1", "nonsense=..."),
                          ("postgres://ghost:100%s3cr@localhost:1/db", "%25"), ("postgres://ghost:s3cr%00x@localhost:1/db", "%25"),
                          ("postgres://localhost:1/db?password=100%s3cr", "%25")):
        for verb in (("add", tree), ("search", "x")):
            result = rotor("rag", verb[0], address, *verb[1:], "--no-embed", status=None)
            said_all = result.stdout + result.stderr
            assert result.returncode in (1, 2) and said in result.stderr, (address, result.stderr)
            assert "s3cr" not in said_all and "a/b@" not in said_all
    served = rotor("serve", STORY, "--rag", pathless, "--port", "0", status=None, timeout=60)
    assert served.returncode == 1 and "s3cr" not in served.stdout + served.stderr
    assert "no store there; rotor rag add" in rotor("rag", "search", store, "x", status=1).stderr


def test_nobody_waits_for_ever(rotor, postgres, store, tree):
    rotor("rag", "add", store, tree / "deck.md", "--embed-model", STORY)
    postgres.sql("CREATE FUNCTION say() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN RAISE LOG 'limits of %: % %', current_schema(),"
                 " current_setting('lock_timeout'), current_setting('statement_timeout'); RETURN true; END $$;"
                 "CREATE OR REPLACE VIEW used AS SELECT n AS id FROM meta WHERE k='model' AND say()", store)
    limits = "limits of %s: " % store.split("schema=")[1]
    rotor("rag", "status", store)
    assert limits + "10s 1min" in postgres.log() and limits + "10s 0" not in postgres.log()
    rotor("rag", "add", store, tree / "c.jsonl", "--embed-model", STORY)
    assert limits + "10s 0" in postgres.log()
    holder = postgres.session(store)
    try:
        holder.stdin.write("BEGIN; LOCK TABLE chunk IN ACCESS EXCLUSIVE MODE; SELECT 'held';\n")
        holder.stdin.flush()
        assert holder.stdout.readline().strip() == "held"
        for limit, said in (("lock_timeout=100ms", "another program is using it"),
                            ("statement_timeout=300ms", "the server did not answer in time")):
            refused = rotor("rag", "search", store, "battery", "--no-embed", status=1, env={"PGOPTIONS": "-c " + limit})
            assert said in refused.stderr
    finally:
        holder.stdin.close()
        holder.wait(LIMIT_S)


def get(url, path):
    with urllib.request.urlopen(url + path, timeout=LIMIT_S) as response:
        return response.read().decode()


def test_a_server_in_use_finds_its_store_again_whatever_it_is_asked_first(postgres, store, tree, rotor):
    rotor("rag", "add", store, tree / "deck.md", "--no-embed")
    served = subprocess.Popen([ROTOR, "serve", STORY, "--rag", store + ",lib", "--port", "0"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    try:
        for line in served.stdout:
            found = re.search(r"http://[0-9.:]+", line)
            if found:
                break
        for path in ("/v1/rag/stores", "/v1/rag/stores/lib/docs"):
            before = get(found[0], path)
            assert "deck" in before or "lib" in before
            postgres.stop()
            postgres.start()
            assert get(found[0], path) == before
    finally:
        if postgres.process.poll() is not None:
            postgres.start()
        served.send_signal(signal.SIGINT)
        served.communicate(timeout=LIMIT_S)


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


# ---- By way of other verbs -------------------------------------------------------------------------------------------


def test_asking_and_conversations(rotor, store, tree):
    rotor("rag", "add", store, tree / "deck.md", "--embed-model", STORY)
    asked = rotor("rag", "ask", store, "how long does a charge last?", "--no-answer", "--gate", "always").stdout
    assert "deck.md" in asked and "nine hours" in asked
    said = rotor("chat", STORY, "--rag", store, "--gate", "always", "-n", "4", "--temp", "0", input="How long does a charge last?\n")
    assert "deck.md" in said.stdout + said.stderr


def search_for(url, query):
    request = urllib.request.Request(url + "/v1/rag/search", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
        return [hit["path"] for hit in json.loads(response.read())["data"]]


def test_a_server_and_other_machines_see_what_each_puts_in(rotor, store, tree):
    """With vectors, which the server makes of what was put into it."""
    rotor("rag", "add", store, tree / "deck.md", "--embed-model", STORY)
    served = subprocess.Popen([ROTOR, "serve", STORY, "--rag", store + ",lib", "--rag-write", "lib", "--port", "0"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    try:
        for line in served.stdout:
            if found := re.search(r"ready: (http://[0-9.:]+)", line):
                break
        url = found[1]
        assert any("deck.md" in path for path in search_for(url, "battery charge"))
        put = urllib.request.Request(url + "/v1/rag/stores/lib/docs/z", b'{"text": "A zeppelin over the harbour."}',
                                     {"Content-Type": "application/json"}, method="PUT")
        with urllib.request.urlopen(put, timeout=LIMIT_S) as response:
            assert response.status == 200
        assert "mem:z" in search_for(url, "zeppelin")
        assert "mem:z" in rotor("rag", "search", store, "zeppelin", "--no-embed").stdout
        whole = lambda: json.loads(rotor("rag", "status", store, "--json").stdout)  # noqa: E731
        wait_for(lambda: whole()["vectors"] == whole()["passages"], "no vectors")
        (tree / "new.txt").write_text("A marmot on the meadow.")
        wait_for(lambda: rotor("rag", "add", store, tree / "new.txt", "--embed-model", STORY, status=None).returncode == 0, "never written")
        assert any("new.txt" in path for path in search_for(url, "marmot"))
        rotor("rag", "remove", store, "mem:z")
        assert "mem:z" not in search_for(url, "zeppelin")
    finally:
        served.send_signal(signal.SIGINT)
        served.communicate(timeout=LIMIT_S)
