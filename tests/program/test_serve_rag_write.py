# SPDX-License-Identifier: MIT
"""Documents that requests put into a knowledge store and take out: /v1/rag/stores/STORE/docs."""
import fcntl
import json
import os
import sqlite3
from urllib.parse import quote

import pytest
from serve_rig import KEY, STORY, Server, wait_until

DOCS = "/v1/rag/stores/notes/docs"
TEXT = "# Deck\n\nA charge lasts nine hours.\n"


@pytest.fixture(scope="module")
def server(sqlite_is_there, rotor, tmp_path_factory):
    """One store that requests may change and that is made for it, and one that they may only read."""
    folder = tmp_path_factory.mktemp("write")
    (folder / "owl.md").write_text("# Owl\n\nOwls hoot.\n")
    rotor("rag", "add", folder / "read.store", folder / "owl.md", "--no-embed")
    s = Server(STORY, "--rag", str(folder / "new.store") + ",notes", "--rag", str(folder / "read.store"), "--rag-write", "notes",
               "--api-key", KEY, "--cors-origins", "https://page.example")
    s.store = folder / "new.store"
    yield s
    assert s.stop() == 0


def send(server, method, path, body=None, status=200, key=KEY, **headers):
    """What is answered, parsed."""
    sent = {"Authorization": "Bearer " + key, **{k.replace("_", "-"): v for k, v in headers.items()}}
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
    r, data = server.raw(method, path, None if body is None else json.dumps(body), sent)
    assert r.status == status, (r.status, data)
    server.last = r
    return json.loads(data)


def find(server, query, store="notes"):
    return send(server, "POST", "/v1/rag/search", {"store": store, "query": query, "search": "lexical"})["data"]


def ids(server, query=""):
    return [row["id"] for row in send(server, "GET", DOCS + query)["data"]]


def test_a_document_is_put_replaced_and_taken_out(server):
    got = send(server, "PUT", DOCS + "/deck", {"text": TEXT, "title": "The deck", "meta": {"kind": "manual"}})
    assert got == {"object": "rag.document", "id": "deck", "store": "notes", "path": "mem:deck", "passages": 1, "replaced": False,
                   "unchanged": False, "degraded": ["vector"]}
    hit = find(server, "how long does a charge last")[0]
    assert hit["path"] == "mem:deck" and hit["title"] == "The deck" and "nine hours" in hit["text"]
    again = send(server, "PUT", DOCS + "/deck", {"text": TEXT, "title": "The deck", "meta": {"kind": "manual"}})
    assert again["replaced"] and again["unchanged"] and again["passages"] == 1
    new = send(server, "PUT", DOCS + "/deck", {"text": "# Deck\n\nA walrus sleeps.\n\n# Price\n\n" + "It costs 300 crowns. " * 90})
    assert new["replaced"] and not new["unchanged"] and new["passages"] > 1
    assert not find(server, "nine hours") and find(server, "walrus")[0]["title"] == "Deck"
    row = send(server, "GET", DOCS)["data"]
    assert [(r["id"], r["status"], r["passages"]) for r in row] == [("deck", "ok", new["passages"])]
    assert send(server, "DELETE", DOCS + "/deck") == {"object": "rag.document.deleted", "id": "deck", "store": "notes", "deleted": True}
    assert not find(server, "walrus") and ids(server) == []
    assert send(server, "DELETE", DOCS + "/deck", status=404)["error"]["code"] == "document_not_found"


def test_a_filter_finds_what_was_said_of_it(server):
    send(server, "PUT", DOCS + "/a", {"text": "Foxes bark.", "meta": {"lang": "en"}})
    send(server, "PUT", DOCS + "/b", {"text": "Foxes bark, too.", "meta": {"lang": "fr"}})
    got = send(server, "POST", "/v1/rag/search", {"store": "notes", "query": "foxes bark", "filter": ["lang=fr"]})["data"]
    assert [h["path"] for h in got] == ["mem:b"]
    for name in "ab":
        send(server, "DELETE", DOCS + "/" + name)


def test_ids(server):
    """POST takes them in the body, or makes one of title and text; a path has them as URLs do."""
    assert send(server, "POST", DOCS, {"text": "One.", "id": "x y"})["id"] == "x y"
    assert send(server, "PUT", DOCS + "/x%20y", {"text": "Two."})["replaced"]
    made = send(server, "POST", DOCS, {"text": "Three."})
    assert len(made["id"]) == 16 and send(server, "POST", DOCS, {"text": "Three."})["unchanged"]
    assert send(server, "PUT", DOCS + "/%C3%A9", {"text": "Four."})["id"] == "é"
    assert sorted(ids(server)) == sorted(["x y", made["id"], "é"])
    page = send(server, "GET", DOCS + "?limit=2")
    assert page["has_more"] and len(page["data"]) == 2 and page["next"].isdigit()
    rest = send(server, "GET", DOCS + "?after=" + quote(page["next"]))
    assert not rest["has_more"] and rest["next"] is None and [r["id"] for r in page["data"] + rest["data"]] == ids(server)
    assert send(server, "GET", DOCS + "?status=error")["data"] == []
    for name in ("x%20y", made["id"], "%C3%A9"):
        send(server, "DELETE", DOCS + "/" + name)


@pytest.mark.parametrize("method, path, body, status, word", [
    ("POST", "", {"title": "x"}, 400, "'text' is missing"), ("POST", "", {"text": ""}, 400, "nothing in it"),
    ("POST", "", {"text": " \n#\n"}, 400, "nothing in it"), ("POST", "", {"text": "x", "id": "a/b"}, 400, "without control characters"),
    ("POST", "", {"text": "x", "id": ".."}, 400, "without control characters"), ("POST", "", {"text": "x", "id": "a\nb"}, 400, "control"),
    ("POST", "", {"text": "x", "id": "a" * 129}, 400, "128 bytes"), ("PUT", "/a", {"text": "x", "id": "b"}, 400, "not the one of the path"),
    ("POST", "", {"text": "a\u0000b"}, 400, ""), ("POST", "", {"text": "\u0001\u0002\u0003"}, 400, "not text"), ("POST", "", {"text": 7}, 400, "text"),
    ("POST", "", {"text": "x", "meta": []}, 400, "meta"), ("POST", "", {"text": "x", "meta": {"a": "b" * 20000}}, 400, "16384"),
    ("POST", "", {"text": "x", "format": "pdf"}, 400, "markdown or text"), ("GET", "?limit=0", None, 400, "1 to 1000"),
    ("GET", "?limit=x", None, 400, "1 to 1000"), ("GET", "?after=mem:a", None, 400, "'next' of a page"), ("GET", "?after=", None, 400, "'next' of a page"),
    ("GET", "?after=" + "9" * 30, None, 400, "'next' of a page"),
    ("POST", "", {"text": "word " * 210000}, 400, "'text' has 1050000 bytes: expected at most 1048576"),
    ("POST", "", {"text": "x", "title": "é" * 101}, 400, "'title' has 202 bytes: expected at most 200"), ("PUT", "/" + "a" * 300, {"text": "x"}, 414, "more than 255 bytes"),
    ("PATCH", "/a", {"text": "x"}, 405, "but PUT, DELETE"), ("PUT", "/a/b", {"text": "x"}, 404, "there is no")])
def test_what_is_refused(server, method, path, body, status, word):
    assert word in send(server, method, DOCS + path, body, status)["error"]["message"]
    assert ids(server) == []


def test_who_may_write(server):
    """Only with the key, from a page that may, as JSON, and into a store that was named for it."""
    doc = {"text": "x"}
    assert send(server, "PUT", DOCS + "/a", doc, 401, key="other")["error"]["code"] == "invalid_api_key"
    assert send(server, "PUT", DOCS + "/a", doc, 403, Origin="https://evil.example")["error"]["code"] == "origin_not_allowed"
    assert send(server, "DELETE", DOCS + "/a", None, 403, Origin="https://evil.example")["error"]["code"] == "origin_not_allowed"
    assert send(server, "PUT", DOCS + "/a", doc, 415, Content_Type="text/plain")["error"]["code"] == "unsupported_media_type"
    for method, path in (("PUT", "/a"), ("POST", ""), ("DELETE", "/a")):
        error = send(server, method, "/v1/rag/stores/read.store/docs" + path, doc, 403)["error"]
        assert error["code"] == "store_read_only" and "--rag-write read.store" in error["message"]
    assert send(server, "PUT", "/v1/rag/stores/none/docs/a", doc, 404)["error"]["code"] == "store_not_found"
    rows = {r["id"]: r["writable"] for r in send(server, "GET", "/v1/rag/stores")["data"]}
    assert rows == {"notes": True, "read.store": False}
    assert [r["id"] for r in send(server, "GET", "/v1/rag/stores/read.store/docs")["data"]] == [None]


def test_a_file_is_not_taken_out(server, rotor, tmp_path):
    """What was added from files has no id here, whatever it is called."""
    (tmp_path / "mem:a").write_text("Owls hoot at night.\n")
    rotor("rag", "add", server.store, tmp_path / "mem:a", "--no-embed")
    assert ids(server) == [None] and find(server, "owls")
    send(server, "DELETE", DOCS + "/a", status=404)
    assert ids(server) == [None]
    rotor("rag", "remove", server.store, tmp_path / "mem:a")


def test_a_document_of_a_corpus_is_not_taken_out(server, rotor, tmp_path):
    """Whatever id a line of it has: only what was put in goes, and all else that is called so stays."""
    (tmp_path / "c.jsonl").write_text('{"_id": "mem:a", "title": "Owl", "text": "Owls hoot at night."}\n')
    rotor("rag", "add", server.store, tmp_path / "c.jsonl", "--no-embed")
    assert send(server, "DELETE", DOCS + "/a", status=404)["error"]["code"] == "document_not_found"
    send(server, "PUT", DOCS + "/a", {"text": "Bats sleep."})
    send(server, "DELETE", DOCS + "/a")
    assert find(server, "owls") and not find(server, "bats") and ids(server) == [None]
    assert "control characters" in send(server, "DELETE", DOCS + "/a%0Ab", status=400)["error"]["message"]
    rotor("rag", "remove", server.store, tmp_path / "c.jsonl")


def test_pages_end(server, rotor, tmp_path):
    """Also behind paths that are no UTF-8 and long ones, and when the row that a page ended with is gone."""
    deep = tmp_path / ("d" * 200) / ("e" * 200) / ("f" * 200) / ("g" * 200) / ("h" * 200)
    deep.mkdir(parents=True)
    names = [tmp_path / "a.md", os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.md"), deep / ("i" * 100 + ".md"), tmp_path / "z.md"]
    for i, name in enumerate(names):
        with open(name, "w") as f:
            f.write("Owl %d hoots.\n" % i)
    rotor("rag", "add", server.store, tmp_path, "--no-embed")
    seen, query = [], "?limit=1"
    for _ in names:
        page = send(server, "GET", DOCS + query)
        seen += [row["path"] for row in page["data"]]
        query = "?limit=1&after=%s" % page["next"]
    assert len(set(seen)) == 4 and not page["has_more"] and page["next"] is None
    first = send(server, "GET", DOCS + "?limit=1")
    rotor("rag", "remove", server.store, first["data"][0]["path"] if "\ufffd" not in first["data"][0]["path"] else names[1])
    rest = send(server, "GET", DOCS + "?after=" + first["next"])
    assert [row["path"] for row in rest["data"]] == seen[1:]
    rotor("rag", "remove", server.store, tmp_path)
    assert ids(server) == []


def test_another_program_writes(server, rotor):
    """The lock is held only while a document goes in: others may write between, and while they do, that is said."""
    rotor("rag", "note", server.store, "Bats sleep by day.", "--no-embed")
    assert find(server, "bats")
    with open(server.store / "rag.lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        error = send(server, "PUT", DOCS + "/a", {"text": "x"}, 409)["error"]
        assert error["code"] == "store_locked" and "another program" in error["message"] and server.last.getheader("Retry-After") == "2"
        assert send(server, "DELETE", DOCS + "/a", None, 409)["error"]["code"] == "store_locked"
        assert find(server, "bats")
    name = ids(server)[0]
    send(server, "PUT", DOCS + "/a", {"text": "x"})
    for one in (name, "a"):
        send(server, "DELETE", DOCS + "/" + one)


def test_what_cannot_be_written_is_said(server):
    """As on a full disk: nothing of it is there afterwards."""
    with sqlite3.connect(server.store / "rag.db") as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON doc BEGIN SELECT RAISE(ABORT, 'no room'); END")
    try:
        error = send(server, "PUT", DOCS + "/full", {"text": "x"}, 507)["error"]
        assert error["code"] == "storage_failed" and "log says why" in error["message"] and ids(server) == []
        assert server.logged("no room")
    finally:
        with sqlite3.connect(server.store / "rag.db") as db:
            db.execute("DROP TRIGGER full")


def test_a_name_of_no_store(rotor, server):
    r = rotor("serve", STORY, "--rag", server.store, "--rag-write", "b", "--port", "0", status=2)
    assert "--rag-write b: no store of --rag is called that" in r.stderr


def test_vectors_follow(rotor, sqlite_is_there, tmp_path):
    """Words are found at once, meaning as soon as the librarian has come by; what an earlier end left is made, too."""
    (tmp_path / "owl.md").write_text("# Owl\n\nOwls hoot.\n")
    rotor("rag", "add", tmp_path / "s", tmp_path / "owl.md", "--no-embed")  # it has passages without vectors
    s = Server(STORY, "--rag", str(tmp_path / "s"), "--rag-write", "s", "--embed-model", STORY)

    def vectors():
        row = s.ask("/v1/rag/stores")["data"][0]
        return row["vectors"] == row["passages"] and row["passages"]

    try:
        wait_until(vectors)
        got = s.ask("/v1/rag/stores/s/docs", {"id": "fox", "text": "\n\n".join("# Fox %d\n\nFox number %d barks." % (i, i) for i in range(40))})
        assert got["degraded"] == ["vector_pending"]
        assert s.ask("/v1/rag/search", {"store": "s", "query": "fox number 7 barks", "search": "lexical"})["data"][0]["path"] == "mem:fox"
        assert wait_until(vectors) == got["passages"] + 1
        assert s.ask("/v1/rag/search", {"store": "s", "query": "fox number 7 barks"})["degraded"] == []
        again = s.ask("/v1/rag/stores/s/docs", {"id": "owl", "text": "Owls screech."})
        wait_until(vectors)
        again = s.ask("/v1/rag/stores/s/docs", {"id": "owl", "text": "Owls screech."})
        assert again["unchanged"] and again["degraded"] == []
        with sqlite3.connect(tmp_path / "s" / "rag.db") as db:
            ours = db.execute("SELECT fingerprint FROM model").fetchone()
            db.execute("UPDATE model SET fingerprint=zeroblob(32)")  # as if the store had another model's
            db.execute("DELETE FROM vec")
        for _ in range(2):
            again = s.ask("/v1/rag/stores/s/docs", {"id": "owl", "text": "Owls screech."})
            assert again["unchanged"] and again["degraded"] == ["vector_pending"]
        assert len(s.logged("holds vectors of")) == 1
        with sqlite3.connect(tmp_path / "s" / "rag.db") as db:
            db.execute("UPDATE model SET fingerprint=?", ours)
        s.ask("/v1/rag/stores/s/docs", {"id": "bat", "text": "Bats sleep."})  # asks again
        wait_until(vectors)
        assert s.metric("rag_documents_put_total") == 6 and s.metric("rag_vectors_made_total") >= got["passages"]
    finally:
        assert s.stop() == 0
