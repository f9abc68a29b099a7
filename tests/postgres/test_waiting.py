# SPDX-License-Identifier: MIT
"""A server that neither answers nor hangs up: nobody waits for it without end, whoever waits can be told to stop, and a server of ours goes
on with everything else. That a wait ends is asserted, not when."""
import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

ROTOR, STORY = os.environ["ROTOR_BINARY"], os.environ["ROTOR_MODEL"]
LIMIT_S = 60
IMPATIENT = "-c%20statement_timeout%3D1s"  # of readers; the way takes connect_timeout, another second


def wait_for(what, why):
    end = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.02)


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "deck.md").write_text("# Deck\n\nA charge lasts nine hours.\n")
    return folder


@pytest.fixture
def filled(rotor, store, tree):
    rotor("rag", "add", store, tree, "--no-embed")
    return store


def ends_with_a_line(rotor, *args):
    said = rotor("rag", *args, "--no-embed", status=1, timeout=LIMIT_S).stderr
    assert "nothing" in said and said.count("\n") == 1, said
    return said


def gives_up(rotor, wire, stop_at, *args):
    """Once the wire has fallen silent at these bytes. A second may be too short for what comes before: then it is done again."""
    end = time.monotonic() + LIMIT_S
    while True:
        wire.stop_at = stop_at
        said = rotor("rag", *args, "--no-embed", status=1, timeout=LIMIT_S).stderr
        if not wire.flows.is_set():
            break
        assert time.monotonic() < end, "%r never came: %s" % (stop_at, said)
    assert "nothing" in said and said.count("\n") == 1, said


def test_a_server_that_takes_a_connection_and_says_nothing(rotor, postgres, wire, filled):
    wire.silence()
    far = postgres.far(filled, wire.port)
    assert "no connection: the server said nothing for 1 seconds" in ends_with_a_line(rotor, "search", far, "charge")


def test_the_next_host_is_asked_where_one_says_nothing(rotor, postgres, wire, filled):
    wire.silence()
    schema = filled.split("schema=")[1]
    both = "postgres://rotor@/postgres?host=127.0.0.1%%2C%s&port=%d%%2C5432&connect_timeout=1&schema=%s" % (postgres.folder, wire.port, schema)
    # The one that answers may take more than its second on a busy machine.
    wait_for(lambda: "deck.md" in rotor("rag", "search", both, "charge", "--no-embed", status=None).stdout, "never found")


def test_readers_give_up_a_server_that_falls_silent(rotor, postgres, wire, filled):
    gives_up(rotor, wire, b"FETCH", "search", postgres.far(filled, wire.port, options=IMPATIENT), "charge")


def test_writers_give_up_a_server_that_is_not_there_for_anybody(rotor, postgres, wire, filled, tree):
    """With more bytes on the way than it holds."""
    (tree / "large.txt").write_text("\n\n".join("Paragraph %d of the sea." % i for i in range(200000)))
    gives_up(rotor, wire, b"INSERT INTO doc_text", "add", postgres.far(filled, wire.port), tree)
    wire.speak()
    wait_for(lambda: postgres.sql("SELECT count(*) FROM pg_locks WHERE locktype='advisory'") == "0", "the lock outlives its owner")
    (tree / "large.txt").write_text("A zeppelin.")
    rotor("rag", "add", filled, tree, "--no-embed")
    rotor("rag", "verify", filled)
    assert postgres.sql("SELECT count(*) FROM file", filled) == "2"


def backends(postgres):
    return [int(pid) for pid in postgres.sql("SELECT pid FROM pg_stat_activity WHERE application_name='rotor'").split()]


def test_ctrl_c_ends_who_waits_for_a_process_that_was_stopped(rotor, postgres, filled, tree):
    (tree / "new.txt").write_text("A zeppelin.")
    holder = postgres.session(filled)
    holder.stdin.write("BEGIN; LOCK TABLE doc IN SHARE MODE; SELECT 'held';\n")
    holder.stdin.flush()
    assert holder.stdout.readline().strip() == "held"
    child = subprocess.Popen([ROTOR, "rag", "add", filled, str(tree), "--no-embed"], stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "PGOPTIONS": "-c lock_timeout=300s -c client_connection_check_interval=100ms"})
    stopped = []
    try:
        wait_for(lambda: postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1", "nobody waits")
        stopped = backends(postgres)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=LIMIT_S)
        assert child.returncode == -signal.SIGINT
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        # The table is still held: the server sees by itself that nobody waits any more, and lets the store go.
        wait_for(lambda: postgres.sql("SELECT count(*) FROM pg_locks WHERE locktype='advisory'") == "0", "the lock outlives its owner")
    finally:
        for pid in stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        child.kill()
        child.communicate()
        holder.stdin.close()
        holder.wait(LIMIT_S)
    rotor("rag", "add", filled, tree, "--no-embed")
    assert "new.txt" in rotor("rag", "search", filled, "zeppelin", "--no-embed").stdout


def test_a_server_that_talks_without_end_is_no_connection(rotor, postgres, wire, filled):
    """There are always bytes to read; the first ones let the program in."""
    wire.stop_at, wire.talks, wire.greets = b"application_name", True, True
    assert "no connection" in rotor("rag", "search", postgres.far(filled, wire.port, sslmode="disable"), "charge", "--no-embed", status=1, timeout=LIMIT_S).stderr
    assert wire.said > 1


def test_ctrl_c_ends_who_listens_to_talk_without_end(postgres, wire, filled, tree):
    (tree / "new.txt").write_text("A zeppelin.")
    wire.stop_at, wire.talks = b"INSERT", True
    child = subprocess.Popen([ROTOR, "rag", "add", postgres.far(filled, wire.port, connect_timeout="600"), str(tree), "--no-embed"],
                             stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: wire.said > 1000, "nobody listens")
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=LIMIT_S)[1]
        assert "interrupted while waiting" in said or child.returncode == -signal.SIGINT, said
    finally:
        child.kill()
        child.communicate()


def test_watch_ends_when_asked_to(rotor, postgres, wire, filled, tree):
    child = subprocess.Popen([ROTOR, "rag", "watch", postgres.far(filled, wire.port, connect_timeout="600"), str(tree), "--no-embed"],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while "watching" not in child.stdout.readline():
            assert child.poll() is None
        wire.stop_at = b"BEGIN"
        (tree / "new.txt").write_text("A zeppelin.")
        wait_for(lambda: wire.held, "never written")
        child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=LIMIT_S)[0]
        assert child.returncode == 0, said
    finally:
        child.kill()
        child.communicate()


# ---- rotor serve -----------------------------------------------------------------------------------------------------


class NotThere(Exception):
    """A server of ours did not start."""


class Served:
    """A server of ours, and what it says."""

    def __init__(self, *args):
        self.process = subprocess.Popen([ROTOR, "serve", STORY, *args, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.url, said = None, []
        while not self.url and (line := self.process.stdout.readline()):
            said.append(line)
            if found := re.search(r"ready: (http://[0-9.:]+)", line):
                self.url = found[1]
        if not self.url:
            raise NotThere("".join(said))
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read())

    def search(self, query, *stores):
        return self.ask("POST", "/v1/rag/search", {"query": query, "stores": list(stores)})

    def later(self, *args):
        """An answer that another thread waits for; of a server that ends, none need come."""
        said = []

        def wait():
            try:
                said.append(self.search(*args))
            except OSError:
                pass

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread, said

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LIMIT_S)
        return self.process.returncode


@pytest.fixture
def served(request, rotor, postgres, wire, filled, tmp_path):
    (tmp_path / "near.txt").write_text("A marmot on the meadow.")
    rotor("rag", "add", tmp_path / "near.store", tmp_path / "near.txt", "--no-embed")
    far = postgres.far(filled, wire.port, **getattr(request, "param", {}))
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            s = Served("--rag", "%s,near" % (tmp_path / "near.store"), "--rag-write", "near", "--rag", far + ",far", "--rag-write", "far", "--no-embed")
            break
        except NotThere:  # a second may be too short for its connection
            assert time.monotonic() < end
    yield s
    s.process.kill()
    s.process.wait(LIMIT_S)


@pytest.mark.parametrize("served", [{"connect_timeout": "600"}], indirect=True)
def test_a_server_goes_on_with_everything_else(wire, served):
    """A reader waits ten minutes here: whatever else is asked is answered before it is."""
    assert served.search("charge", "far")[1]["data"] and served.search("marmot", "near", "far")[1]["data"]
    wire.silence()
    first, said = served.later("charge", "far")
    wait_for(lambda: wire.held, "never asked")
    behind = served.later("charge", "near", "far")
    assert "near.txt" in served.search("marmot", "near")[1]["data"][0]["path"]
    assert served.ask("PUT", "/v1/rag/stores/near/docs/a", {"text": "A walrus."})[0] == 200
    assert "walrus" in served.search("walrus", "near")[1]["data"][0]["text"]
    assert served.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3})[0] == 200
    grounded = {"messages": [{"role": "user", "content": "What is on the meadow?"}], "max_tokens": 3, "rag": {"store": "near"}}
    assert served.ask("POST", "/v1/chat/completions", grounded)[1]["rag"]["sources"]
    near, far = served.ask("GET", "/v1/rag/stores")[1]["data"]
    assert near["documents"] == 2 and "documents" not in far
    assert first.is_alive() and behind[0].is_alive() and not said
    wire.speak()
    first.join(LIMIT_S)
    behind[0].join(LIMIT_S)
    assert [said[0][0], behind[1][0][0]] == [200, 200] and "nine hours" in said[0][1]["data"][0]["text"]
    assert served.ask("PUT", "/v1/rag/stores/far/docs/a", {"text": "A zeppelin."})[0] == 200
    assert "zeppelin" in served.search("zeppelin", "far")[1]["data"][0]["text"]
    wire.silence()
    served.later("charge", "far")
    wait_for(lambda: wire.held, "never asked")
    assert served.end() == 0


def test_a_store_is_found_again_when_its_server_was_given_up(wire, served):
    """As long as nothing comes a question is refused, sooner or later; afterwards it is answered."""
    wire.silence()
    status, said = served.search("charge", "far")
    assert status == 503 and said["error"]["code"] == "store_unavailable"
    put = served.ask("PUT", "/v1/rag/stores/far/docs/a", {"text": "A zeppelin."})
    assert put[0] == 503 and put[1] == said and not re.search("postgres|rotor@|127|nothing", json.dumps(said))  # where it is, is nobody's business
    assert served.search("marmot", "near")[0] == 200
    wire.speak()
    wait_for(lambda: served.search("charge", "far")[0] == 200, "never found again")
