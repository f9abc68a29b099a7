# SPDX-License-Identifier: MIT
"""A server that neither answers nor hangs up: nobody waits for it without end, whoever waits can be told to stop, and a server of ours goes
on with everything else. That a wait ends is asserted, not when."""
import os
import signal
import subprocess
import time

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


def test_a_server_that_takes_a_connection_and_says_nothing(rotor, postgres, wire, filled):
    wire.silence()
    far = postgres.far(filled, wire.port)
    assert "no connection: the server said nothing for 1 seconds" in ends_with_a_line(rotor, "search", far, "charge")


def test_the_next_host_is_asked_where_one_says_nothing(rotor, postgres, wire, filled):
    wire.silence()
    schema = filled.split("schema=")[1]
    both = "postgres://rotor@/postgres?host=127.0.0.1%%2C%s&port=%d%%2C5432&connect_timeout=1&schema=%s" % (postgres.folder, wire.port, schema)
    assert "deck.md" in rotor("rag", "search", both, "charge", "--no-embed").stdout


def test_readers_give_up_a_server_that_falls_silent(rotor, postgres, wire, filled):
    wire.stop_at = b"FETCH"
    ends_with_a_line(rotor, "search", postgres.far(filled, wire.port, options=IMPATIENT), "charge")


def test_writers_give_up_a_server_that_is_not_there_for_anybody(rotor, postgres, wire, filled, tree):
    """With more bytes on the way than it holds."""
    (tree / "large.txt").write_text("\n\n".join("Paragraph %d of the sea." % i for i in range(200000)))
    wire.stop_at = b"INSERT INTO doc_text"
    ends_with_a_line(rotor, "add", postgres.far(filled, wire.port), tree)
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


def test_watch_ends_when_asked_to_and_goes_on_when_the_server_does(rotor, postgres, wire, filled, tree):
    def start():
        child = subprocess.Popen([ROTOR, "rag", "watch", postgres.far(filled, wire.port), str(tree), "--no-embed"], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True)
        while "watching" not in child.stdout.readline():
            assert child.poll() is None
        return child

    child = start()
    try:
        wire.stop_at = b"BEGIN"
        (tree / "new.txt").write_text("A zeppelin.")
        while "says nothing" not in (line := child.stdout.readline()):
            assert line
        wire.speak()
        wait_for(lambda: "new.txt" in rotor("rag", "search", filled, "zeppelin", "--no-embed", status=None).stdout, "never taken up")
        wire.stop_at = b"BEGIN"
        (tree / "more.txt").write_text("A marmot.")
        wait_for(lambda: not wire.flows.is_set(), "never written")
        child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=LIMIT_S)[0]
        assert child.returncode == 0, said
    finally:
        child.kill()
        child.communicate()
