# SPDX-License-Identifier: MIT
"""A server that not everybody gets into: passwords and certificates, roles that may read or nothing at all. What is refused is told in one
line, and no password in any."""
import os
import shutil
import socket
import subprocess
import time

import pytest

from postgres_rig import NotStarted, Postgres, programs

SECRET = "s3cr%40t/word"  # as an address has it: with @
PLAIN = "s3cr@t/word"


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


def authority(folder, name):
    folder.mkdir()
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=" + name,
            "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    return folder / "ca.pem"


def certificate(folder, ca):
    """Of 127.0.0.1, and its key."""
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", folder / "key.pem",
            "-out", folder / "request.pem")
    openssl("x509", "-req", "-in", folder / "request.pem", "-CA", ca, "-CAkey", ca.with_name("ca.key"), "-CAcreateserial", "-days", "2",
            "-extfile", folder / "names", "-out", folder / "cert.pem")


def at_a_free_port():
    """It was free a moment ago: where somebody else has it now, another one."""
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        try:
            return Postgres(programs(), port)
        except NotStarted as e:
            why = e
    raise why


def reload(server):
    """Without giving its port back."""
    server.sql("ALTER SYSTEM SET ssl=on")
    server.sql("SELECT pg_reload_conf()")
    end = time.monotonic() + 60
    while server.sql("SHOW ssl") != "on":
        assert time.monotonic() < end, server.log()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """By its port it lets nobody in without TLS and a password."""
    if programs() is None or not shutil.which("openssl"):
        pytest.skip("no PostgreSQL server or no openssl (Debian: apt install postgresql openssl)")
    folder = tmp_path_factory.mktemp("keys")
    ca = authority(folder / "ours", "our authority")
    authority(folder / "others", "another authority")
    certificate(folder, ca)
    server = at_a_free_port()
    try:
        for name, at in (("cert.pem", "server.crt"), ("key.pem", "server.key")):
            there = os.path.join(server.data, at)
            shutil.copy(folder / name, there)
            os.chmod(there, 0o600)
            if server.owner:
                shutil.chown(there, "nobody")
        with open(os.path.join(server.data, "pg_hba.conf"), "w") as rules:
            rules.write("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        reload(server)
        server.sql("SET password_encryption='scram-sha-256'; CREATE ROLE ann LOGIN PASSWORD '%s'; CREATE ROLE guest LOGIN;"
                   "CREATE ROLE reader LOGIN; CREATE ROLE still LOGIN; ALTER ROLE still SET default_transaction_read_only=on;"
                   "GRANT CREATE ON DATABASE postgres TO ann, still" % PLAIN)
        yield server, folder
    finally:
        server.remove()


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "deck.md").write_text("# Deck\n\nA charge lasts nine hours.\n")
    return tmp_path / "deck.md"


def address(server, folder, user="ann", ca="ours", more=""):
    return "postgres://%s@127.0.0.1:%d/postgres?sslmode=verify-full&sslrootcert=%s%s" % (user, server.port, folder / ca / "ca.pem", more)


def refused(rotor, store, *more, env=None):
    """What search, and adding, say: one line each, without a password."""
    lines = []
    for verb in (("search", "charge"), ("add", *more)):
        said = rotor("rag", verb[0], store, *verb[1:], "--no-embed", status=1, env={"LC_ALL": "C", **(env or {})})
        everything = said.stdout + said.stderr
        assert said.stderr.count("\n") == 1, said.stderr
        assert "s3cr" not in everything and "wrong" not in everything
        lines.append(said.stderr)
    return lines


def test_passwords_and_certificates(rotor, guarded, docs, tmp_path):
    server, folder = guarded
    far = address(server, folder, more="&schema=safe")
    rotor("rag", "add", far, docs, "--no-embed", env={"PGPASSWORD": PLAIN})
    own = rotor("rag", "search", far.replace("ann@", "ann:%s@" % SECRET.replace("/", "%2F")), "charge", "--no-embed")
    assert "deck.md" in own.stdout and "s3cr" not in own.stdout + own.stderr
    kept = tmp_path / "pgpass"
    kept.write_text("127.0.0.1:%d:*:ann:%s\n" % (server.port, PLAIN))
    kept.chmod(0o600)
    assert "deck.md" in rotor("rag", "search", far, "charge", "--no-embed", env={"PGPASSFILE": str(kept)}).stdout
    for store, env, what in ((far, {"PGPASSWORD": "wrong"}, "password authentication failed"),
                             (far.replace("ann@", "ann:wrong@"), {}, "password authentication failed"),
                             (far, {"PGPASSFILE": "/nonexistent"}, "password"),
                             (address(server, folder, ca="others"), {"PGPASSWORD": PLAIN}, "certificate verify failed"),
                             (far.replace("127.0.0.1", "localhost") + "&hostaddr=127.0.0.1", {"PGPASSWORD": PLAIN}, "does not match host name"),
                             (far.replace("verify-full", "disable"), {"PGPASSWORD": PLAIN}, "no encryption"),
                             (far.replace("127.0.0.1", "no..where"), {"PGPASSWORD": PLAIN}, "could not translate host name")):
        for line in refused(rotor, store, docs, env=env):
            assert "no connection" in line and what in line, line


def test_roles_that_may_not(rotor, guarded, docs):
    server, folder = guarded
    for user, why in (("guest", "this user may not do that (permission denied for database"), ("still", "may not be written (cannot execute")):
        nowhere, denied = refused(rotor, server.store(user=user), docs)
        assert "no store there" in nowhere and why in denied, denied
    store = server.store(user="ann")
    rotor("rag", "add", store, docs, "--no-embed")
    schema = store.split("schema=")[1]
    server.sql("GRANT USAGE ON SCHEMA %s TO reader, still; GRANT SELECT ON ALL TABLES IN SCHEMA %s TO reader, still" % (schema, schema))
    server.sql("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %s TO still" % schema)
    for user, why in (("reader", "this user may not do that"), ("still", "may not be written")):
        theirs = store.replace("user=ann", "user=" + user)
        assert "deck.md" in rotor("rag", "search", theirs, "charge", "--no-embed").stdout
        assert "deck.md" in rotor("rag", "list", theirs).stdout
        said = rotor("rag", "add", theirs, docs, "--no-embed", status=1).stderr
        assert why in said and said.count("\n") == 1, said
    theirs = store.replace("user=ann", "user=guest")
    for hidden in refused(rotor, theirs, docs):
        assert "GRANT USAGE" in hidden, hidden
    server.sql("GRANT USAGE ON SCHEMA %s TO guest" % schema)
    for denied in refused(rotor, theirs, docs):
        assert "this user may not do that" in denied, denied
