# SPDX-License-Identifier: MIT
"""Knowledge stores whose vectors come from a server: Rotor's own, and one that does everything wrong that a server can."""
import base64
import http.server
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import struct
import threading

import pytest

import serve_rig
from serve_rig import KEY, STORY, Server
from test_rag_move import built, records

pytestmark = pytest.mark.usefixtures("sqlite_is_there", "libcurl_is_there")

WORDS = ["battery", "keeper", "lamp", "owl", "river", "snow", "train", "whale"]


def vector(text, dims=8):
    """Which of the words are in a text; never nothing, and of a length that is not one."""
    return ([3.0 * text.lower().count(w) + 0.25 for w in WORDS] * 2)[:dims]


class Endpoint:
    """Answers POST /v1/embeddings; `plan` holds what the next requests meet instead, a function each."""

    def __init__(self):
        self.asked, self.plan, self.dims, self.as_base64, self.longest = [], [], 8, False, None
        self.hanging, self.go_on = threading.Event(), threading.Event()
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.asked.append({"path": self.path, "key": self.headers["Authorization"], "body": body})
                try:
                    (endpoint.plan.pop(0) if endpoint.plan else Endpoint.answer)(endpoint, self, body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = "http://127.0.0.1:%d/v1" % self.server.server_port
        self.model = self.base + "#toy"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def send(self, h, status, value, **headers):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        h.send_response(status)
        for name, text in {"Content-Length": len(data), **headers}.items():
            h.send_header(name.replace("_", "-"), str(text))
        h.end_headers()
        h.wfile.write(data)

    def rows(self, body):
        rows = [vector(t, self.dims) for t in body["input"]]
        if self.as_base64:
            rows = [base64.b64encode(struct.pack("<%df" % self.dims, *r)).decode() for r in rows]
        return [{"object": "embedding", "index": i, "embedding": r} for i, r in enumerate(rows)]

    def answer(self, h, body):
        if self.longest and any(len(t.encode()) > self.longest for t in body["input"]):
            return self.send(h, 400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
        self.send(h, 200, {"object": "list", "data": self.rows(body), "model": "toy"})


def says(status, value=None, **headers):
    return lambda e, h, body: e.send(h, status, {"error": {"message": "no"}} if value is None else value, **headers)


def with_data(change):
    return lambda e, h, body: e.send(h, 200, {"data": change(e.rows(body))})


def cut(e, h, body):
    h.send_response(200)
    h.send_header("Content-Length", "100000")
    h.end_headers()
    h.wfile.write(b'{"data":[')
    h.wfile.flush()
    h.close_connection = True
    h.connection.shutdown(2)


def huge(e, h, body):
    h.send_response(200)
    h.end_headers()
    for _ in range(400):
        h.wfile.write(b" " * 65536)
    h.close_connection = True


@pytest.fixture(scope="module")
def libcurl_is_there(rotor):
    if "libcurl: off" in rotor("--version").stdout:
        pytest.skip("built without libcurl")


@pytest.fixture
def endpoint():
    with Endpoint() as e:
        yield e


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for w in WORDS:
        (folder / (w + ".md")).write_text("# A note\n\nAll there is to know of the %s.\n" % w)
    return folder


@pytest.fixture
def store(tmp_path):
    return tmp_path / "a.store"


@pytest.fixture
def filled(rotor, endpoint, notes, store):
    rotor("rag", "add", store, notes, "--embed-model", endpoint.model)
    endpoint.asked.clear()
    return store


def found(rotor, store, query, *more, **how):
    r = rotor("rag", "search", store, query, "--json", "--mode", "vector", "--plain", *more, **how)
    return [json.loads(line) for line in r.stdout.splitlines()]


def status_of(rotor, store):
    return json.loads(rotor("rag", "status", store, "--json").stdout)


# ---- Rotor's own server ----------------------------------------------------------------------------------------------


def test_own_server_gives_what_the_model_gives(rotor, notes, tmp_path):
    far, near = tmp_path / "far.store", tmp_path / "near.store"
    s = Server(STORY, "--embed", "--api-key", KEY)
    try:
        model = "http://127.0.0.1:%d/v1/#story" % s.port
        env = {"ROTOR_EMBED_KEY": KEY}
        refused = rotor("rag", "add", far, notes, "--embed-model", model, status=1).stderr
        assert "HTTP 401" in refused and "ROTOR_EMBED_KEY" in refused and not far.exists()
        added = rotor("rag", "add", far, notes, "--embed-model", model, env=env)
        rotor("rag", "add", near, notes, "--embed-model", STORY)
        for question in ("The owl", "snow on the river", "whale"):
            a = found(rotor, far, question, "--embed-model", model, env=env)
            b = found(rotor, near, question)
            assert len(a) == len(WORDS) and [x["path"] for x in a] == [x["path"] for x in b]
            assert [x["cosine"] for x in a] == pytest.approx([x["cosine"] for x in b], abs=1e-5)
        (notes / "long.md").write_text("word " * 900)  # more than the model's 512 tokens, once the chunks are joined
        synced = rotor("rag", "sync", far, "--embed-model", model, env=env)
        info = status_of(rotor, far)
        assert info["vectors"] == info["passages"] and info["model"] == "story" and info["dims"] == 64
        assert KEY not in added.stderr + synced.stderr + json.dumps(info)
        assert all(KEY.encode() not in f.read_bytes() for f in far.iterdir())
    finally:
        s.stop()


def test_a_server_asks_and_has_no_cage(rotor, endpoint, filled, notes):
    refused = rotor("serve", STORY, "--rag", str(filled), "--embed-model", endpoint.model, "--sandbox", "on", "--port", "0", status=None)
    assert refused.returncode and "vectors come from a server" in refused.stderr
    s = Server(STORY, "--rag", "%s,notes" % filled, "--rag-write", "notes", "--embed-model", endpoint.model)
    try:
        assert s.logged("sandbox off")
        hits = s.ask("/v1/rag/search", {"store": "notes", "query": "whale whale", "k": 3, "search": "vector"})
        assert hits["data"][0]["path"].endswith("whale.md"), hits
        r, _ = s.raw("PUT", "/v1/rag/stores/notes/docs/a", json.dumps({"text": "A lamp."}), {"Content-Type": "application/json"})
        assert r.status == 200
        serve_rig.wait_until(lambda: status_of(rotor, filled)["vectors"] == len(WORDS) + 1)
    finally:
        s.stop()


def test_a_server_asks_nobody_whom_only_a_store_names(rotor, endpoint, filled):
    """And keeps its cage where the system has one."""
    s = Server(STORY, "--rag", "%s,notes" % filled, "--rag-write", "notes")
    try:
        assert s.logged("not asked unless --embed-model names it") and not [line for line in s.log if "which needs connections" in line]
        said = s.ask("/v1/rag/search", {"store": None, "query": "whale whale", "k": 3})
        assert said["data"][0]["path"].endswith("whale.md") and said["degraded"] == ["vector"]
        r, _ = s.raw("PUT", "/v1/rag/stores/notes/docs/a", json.dumps({"text": "A lamp."}), {"Content-Type": "application/json"})
        assert r.status == 200 and not endpoint.asked
    finally:
        s.stop()


def hangs(e, h, body):
    """Until the test lets it."""
    e.hanging.set()
    e.go_on.wait(serve_rig.PATIENCE_S)
    e.answer(h, body)


def test_a_server_goes_on_while_its_endpoint_says_nothing(rotor, endpoint, filled, tmp_path):
    """Other stores are searched; the first SIGTERM ends the wait."""
    (tmp_path / "near.txt").write_text("A marmot on the meadow.")
    rotor("rag", "add", tmp_path / "near.store", tmp_path / "near.txt", "--no-embed")
    s = Server(STORY, "--rag", "%s,far" % filled, "--rag", "%s,near" % (tmp_path / "near.store"), "--embed-model", endpoint.model)
    try:
        endpoint.asked.clear()
        endpoint.plan = [hangs] * 8
        c = s.connect()
        c.request("POST", "/v1/rag/search", json.dumps({"store": "far", "query": "whale whale", "search": "vector"}),
                  {"Content-Type": "application/json"})
        assert endpoint.hanging.wait(serve_rig.PATIENCE_S)
        found = s.ask("/v1/rag/search", {"store": "near", "query": "marmot", "search": "lexical"})
        assert "near.txt" in found["data"][0]["path"] and not endpoint.go_on.is_set() and len(endpoint.asked) == 1
        s.process.send_signal(signal.SIGTERM)
        assert s.process.wait(serve_rig.PATIENCE_S) == 0 and not endpoint.go_on.is_set() and len(endpoint.asked) == 1
    finally:
        endpoint.go_on.set()
        s.process.kill()
        s.stop()
        c.close()


# ---- What is asked and taken -----------------------------------------------------------------------------------------


def test_batches_and_order(rotor, endpoint, store, tmp_path):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text("".join(json.dumps({"_id": str(i), "title": "", "text": "%s number %d" % (WORDS[i % 8], i)}) + "\n"
                              for i in range(70)))
    shuffled = with_data(lambda rows: rows[::-1])
    endpoint.plan = [Endpoint.answer, shuffled, shuffled, shuffled, shuffled]
    rotor("rag", "add", store, corpus, "--embed-model", endpoint.model)
    sizes = [len(a["body"]["input"]) for a in endpoint.asked]
    assert sizes[0] == 1 and sum(sizes[1:]) == 70 and max(sizes) <= 32
    assert all(a["path"] == "/v1/embeddings" and a["body"]["model"] == "toy" and a["key"] is None for a in endpoint.asked)
    assert all(a["body"]["encoding_format"] == "float" for a in endpoint.asked)
    for w in WORDS:
        assert all(w in h["text"] for h in found(rotor, store, "%s %s" % (w, w), "-k", "5"))


def test_a_proxy_is_not_told_what_stays_on_this_machine(rotor, endpoint, filled):
    with Endpoint() as proxy:
        there = proxy.base[:-3]
        found(rotor, filled, "owl", env={"http_proxy": there, "all_proxy": there, "no_proxy": "", "NO_PROXY": ""})
        assert endpoint.asked and not proxy.asked


def test_answers_of_many_floats_are_asked_for_in_small_batches(rotor, endpoint, notes, store):
    endpoint.dims = 1 << 15
    endpoint.plan = [lambda e, h, body: e.send(h, 200, {"data": [
        {"index": i, "embedding": [1.0] * e.dims} for i in range(len(body["input"]))]})] * 3
    rotor("rag", "add", store, notes, "--embed-model", endpoint.model)
    assert [len(a["body"]["input"]) for a in endpoint.asked] == [1, 4, 4]


def test_base64(rotor, endpoint, filled):
    endpoint.as_base64 = True
    assert found(rotor, filled, "owl")[0]["cosine"] == pytest.approx(1, abs=0.02)


def test_a_text_that_is_too_long_is_cut_and_the_others_are_not(rotor, endpoint, notes, store):
    (notes / "big.md").write_text("A whale swims. " * 60)
    endpoint.longest = 400
    r = rotor("rag", "add", store, notes, "--embed-model", endpoint.model)
    assert "refuses a text of" in r.stderr and "speak for it" in r.stderr
    info = status_of(rotor, store)
    assert info["vectors"] == info["passages"]
    whole = [t for a in endpoint.asked for t in a["body"]["input"] if "know of the snow" in t]
    assert len({len(t) for t in whole}) == 1


def test_the_server_may_move(rotor, endpoint, filled, notes):
    with Endpoint() as other:
        assert found(rotor, filled, "owl", "--embed-model", other.model)[0]["path"].endswith("owl.md")
        assert len(other.asked) == 1 and not endpoint.asked
        (notes / "new.md").write_text("A bear.\n")
        rotor("rag", "add", filled, notes, "--embed-model", other.model)
        other.asked.clear()
        assert found(rotor, filled, "owl") and other.asked and not endpoint.asked


def test_another_model_is_refused_and_reembedded(rotor, endpoint, filled, notes):
    other = endpoint.base + "#other"
    (notes / "new.md").write_text("A bear.\n")
    r = rotor("rag", "add", filled, notes, "--embed-model", other, status=1)
    assert "holds vectors of toy, and other gives others" in r.stderr
    assert "rotor rag reembed %s --embed-model %s" % (filled, other) in r.stderr
    rotor("rag", "reembed", filled, "--embed-model", other)
    assert status_of(rotor, filled)["model"] == "other" and found(rotor, filled, "owl")


def test_other_dimensions(rotor, endpoint, filled, notes):
    """Of the same name: where it is written it is refused before, where it is asked it is no vector."""
    endpoint.dims = 12
    r = rotor("rag", "search", filled, "owl", "--mode", "vector", status=1)
    assert "has 12 floats, expected 8" in r.stderr and "reembed" in r.stderr
    r = rotor("rag", "add", filled, notes, "--embed-model", endpoint.model, status=1)
    assert "makes them anew" in r.stderr
    rotor("rag", "reembed", filled, "--embed-model", endpoint.model)
    assert status_of(rotor, filled)["dims"] == 12 and found(rotor, filled, "owl")


def test_dimensions_that_change_between_requests(rotor, endpoint, notes, store):
    endpoint.plan = [Endpoint.answer, with_data(lambda rows: [{**r, "embedding": r["embedding"] * 2} for r in rows])]
    r = rotor("rag", "add", store, notes, "--embed-model", endpoint.model, status=1)
    assert "has 16 floats, expected 8" in r.stderr and status_of(rotor, store)["vectors"] == 0


# ---- Answers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan, message", [
    (with_data(lambda rows: rows + rows), "has 2 vectors, expected 1"),
    (with_data(lambda rows: []), "has 0 vectors, expected 1"),
    (with_data(lambda rows: [{**rows[0], "index": 7}]), "has the index 7: expected each of 0 to 0 once"),
    (with_data(lambda rows: [{**rows[0], "embedding": [0.0] * 8}]), "has no length that counts"),
    (with_data(lambda rows: [{**rows[0], "embedding": [1e39] * 8}]), "has no length that counts"),
    (with_data(lambda rows: [{**rows[0], "embedding": ["1"] * 8}]), "is no vector"),
    (with_data(lambda rows: [{**rows[0], "embedding": "AAAA"}]), "is no vector"),
    (with_data(lambda rows: [{**rows[0], "embedding": "%%%%"}]), "is no vector"),
    (with_data(lambda rows: {"a": 1}), 'has no list "data"'),
    (says(200, b'{"data":[{"index":0,"embedding":[NaN,1,1,1,1,1,1,1]}]}'), "is no JSON"),
    (says(200, b"<html>"), "is no JSON"),
    (says(200, b""), "is no JSON"),
    (huge, "an answer of more than"),
    (says(404), "most end in /v1"),
    (says(403), "it wants a key"),
    (says(429, Retry_After=100000), "asks to wait 100000 s"),
    (says(400, {"error": "\x1b[2J bad model"}), "[2J bad model"),
    (says(302, Location="http://h/\xc2\x9b31m\x1b]0;pwn\x07"), "it sends elsewhere"),
    (says(200, b'{"data" "\xc2\x9b31mX"}'), "is no JSON"),
])
def test_wrong_answers(rotor, endpoint, filled, plan, message):
    endpoint.plan = [plan] * 3
    r = rotor("rag", "search", filled, "owl", "--mode", "vector", status=1)
    assert message in r.stderr and not set("\x1b\x07\x9b") & set(r.stderr) and not r.stdout
    assert endpoint.base in r.stderr


@pytest.mark.parametrize("plan", [says(429, Retry_After=0), says(500), says(503), cut])
def test_what_passes_is_tried_again(rotor, endpoint, filled, plan):
    endpoint.plan = [plan]
    assert found(rotor, filled, "owl")[0]["path"].endswith("owl.md") and len(endpoint.asked) == 2


def test_a_server_that_does_not_come_back(rotor, endpoint, filled, notes):
    """Words go on, in searching and in adding; what has no vector gets one later."""
    endpoint.plan = [says(503)] * 4
    r = rotor("rag", "search", filled, "owl", "--json")
    assert "is searched by words only" in r.stderr and "owl.md" in r.stdout
    rotor("rag", "search", filled, "owl", "--mode", "vector", status=1)
    (notes / "new.md").write_text("A polar bear.\n")
    endpoint.plan = [says(429, Retry_After=0)] * 7
    assert "HTTP 429" in rotor("rag", "sync", filled, status=1).stderr
    info = status_of(rotor, filled)
    assert info["vectors"] == info["passages"] - 1 and "new.md" in rotor("rag", "search", filled, "polar bear", "--json").stdout
    rotor("rag", "sync", filled)
    assert status_of(rotor, filled)["vectors"] == info["passages"]


# ---- Keys and addresses ----------------------------------------------------------------------------------------------


def test_the_key_goes_to_the_named_address_alone(rotor, endpoint, filled, tmp_path):
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o600)
    search = ["rag", "search", filled, "owl", "--embed-model", endpoint.model, "--mode", "vector"]
    rotor(*search, env={"ROTOR_EMBED_KEY": KEY})
    rotor(*search, "--embed-key-file", file)
    assert [a["key"] for a in endpoint.asked] == ["Bearer " + KEY] * 2
    config = tmp_path / "rotor.conf"
    config.write_text("embed-key = configured\n[rag]\nembed-key-file = %s\n" % file)
    of_config = {"ROTOR_CONFIG": str(config)}
    for more, env, key in ((["--embed-key-file", file], {"ROTOR_EMBED_KEY": "exported"}, KEY),  # the stronger word
                           ([], {"ROTOR_EMBED_KEY": "exported", **of_config}, "exported"), ([], of_config, KEY),
                           (["--embed-key", "typed"], {"ROTOR_EMBED_KEY_FILE": str(file), **of_config}, "typed")):
        rotor(*search, *more, env=env)
        assert endpoint.asked[-1]["key"] == "Bearer " + key
    n_asked = len(endpoint.asked)
    both = rotor(*search, env={"ROTOR_EMBED_KEY": "exported", "ROTOR_EMBED_KEY_FILE": str(file)}, status=2).stderr
    assert "both said in one place" in both and len(endpoint.asked) == n_asked
    rotor(*search[:4], env={"ROTOR_EMBED_KEY": KEY})  # the address is the store's word, not the user's
    assert endpoint.asked[-1]["key"] is None
    with Endpoint() as elsewhere:
        for status in (301, 302, 307, 308):
            endpoint.plan = [says(status, Location=elsewhere.base + "/embeddings")]
            r = rotor(*search, status=1, env={"ROTOR_EMBED_KEY": KEY})
            assert "not followed" in r.stderr and elsewhere.base in r.stderr
        assert not elsewhere.asked
    endpoint.plan = [says(401, {"error": {"message": "wrong key %s, sorry" % KEY}})]
    r = rotor(*search, status=1, env={"ROTOR_EMBED_KEY": KEY})
    assert "the key is not taken" in r.stderr and KEY not in r.stderr
    endpoint.plan = [says(302, Location="http://h/?k=" + KEY)]
    r = rotor(*search, status=1, env={"ROTOR_EMBED_KEY": KEY})
    assert "not followed" in r.stderr and KEY not in r.stderr
    for bad in ("two words", "a\x01b"):
        assert "has a space or a control character" in rotor(*search, status=2, env={"ROTOR_EMBED_KEY": bad}).stderr


@pytest.mark.parametrize("address, message", [
    ("http://127.0.0.1:1/v1", "names no model: expected http://HOST:PORT/v1#MODEL"),
    ("http://127.0.0.1:1/v1#", "names no model"),
    ("http://user:secret@127.0.0.1:1/v1#toy", "a user or a password in it"),
    ("http://127.0.0.1:1/v1?key=secret#toy", "settings ('?') in it"),
    ("http://127.0.0.1:x1/v1#toy", "is no web address"),
    ("http://#toy", "is no web address"),
    ("http://127.0.0.1:1/a b#toy", "a space or a control character"),
    ("http://127.0.0.1:1/v1#" + "m" * 300, "expected at most"),
    ("http://127.0.0.1:1/v1#toy", "is the server up?"),
])
def test_addresses_that_are_refused(rotor, notes, store, address, message):
    status = 1 if message.startswith("is the server") else 2
    r = rotor("rag", "add", store, notes, "--embed-model", address, status=status)
    assert message in r.stderr and "secret" not in r.stderr and not store.exists()


def test_an_import_does_not_say_which_server_is_asked(rotor, endpoint, filled, tmp_path):
    rotor("rag", "export", filled, tmp_path / "x")
    taken = tmp_path / "b.store"
    rotor("rag", "import", taken, tmp_path / "x")
    info = status_of(rotor, taken)
    assert info["model"] == "toy" and endpoint.base not in info["model_path"] and info["vectors"] == info["passages"]
    rotor("rag", "search", taken, "owl")
    assert not endpoint.asked
    assert found(rotor, taken, "owl", "--embed-model", endpoint.model)[0]["path"].endswith("owl.md")


def test_an_import_takes_no_server_over_by_a_name_either(rotor, endpoint, filled, notes, tmp_path):
    """A name that reads as an address must not become the place where the model is asked."""
    kept, taken = tmp_path / "x", tmp_path / "b.store"
    rotor("rag", "export", filled, kept)
    head, list_ = records(kept.read_bytes())
    word = struct.pack("<Q", len(endpoint.model)) + endpoint.model.encode() + b"\0"
    list_[0] = (b"m", list_[0][1][:36] + word + word)
    kept.write_bytes(built(head, list_))
    rotor("rag", "import", taken, kept)
    assert status_of(rotor, taken)["model_path"] == "" and status_of(rotor, taken)["vectors"] == len(WORDS)
    assert "owl.md" in rotor("rag", "search", taken, "owl", "--json").stdout
    rotor("rag", "add", taken, notes)
    assert not endpoint.asked


@pytest.mark.parametrize("change, message", [("name=path", "that is not one of its model's"), ("name='other'", "that is not one of its model's"),
                                             ("dims=70000", "expected at most 65536")])
def test_a_remembered_address_that_cannot_be_the_models_is_not_asked(rotor, endpoint, filled, change, message):
    with contextlib.closing(sqlite3.connect(filled / "rag.db")) as db:
        db.execute("UPDATE model SET " + change)
        db.commit()
    r = rotor("rag", "search", filled, "owl", "--json")
    assert "owl.md" in r.stdout and message in r.stderr and "words only" in r.stderr
    assert not endpoint.asked


def test_a_model_that_nobody_names_stays_where_the_store_has_it(rotor, notes, store, tmp_path):
    here, there = tmp_path / "here.gguf", tmp_path / "there.gguf"
    shutil.copy(STORY, here)
    shutil.copy(STORY, there)
    rotor("rag", "add", store, notes, "--embed-model", here)
    with contextlib.closing(sqlite3.connect(store / "rag.db")) as db:
        db.execute("UPDATE model SET path=?", (os.path.relpath(here),))
        db.commit()
    (notes / "new.md").write_text("A bear.\n")
    rotor("rag", "sync", store)
    info = status_of(rotor, store)
    assert info["model_path"] == os.path.relpath(here) and info["vectors"] == info["passages"]
    rotor("rag", "sync", store, "--embed-model", there)
    assert status_of(rotor, store)["model_path"] == str(there)
