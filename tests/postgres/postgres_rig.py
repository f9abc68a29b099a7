# SPDX-License-Identifier: MIT
"""A PostgreSQL server of the tests' own: on a socket in a folder of its own, in front of nobody, and gone at the end. It is the newest
that Debian's packages left in /usr/lib/postgresql, or that of ROTOR_TEST_POSTGRES (a folder with its programs)."""
import glob
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

LIMIT_S = 60


def programs():
    named = os.environ.get("ROTOR_TEST_POSTGRES")
    found = [named] if named else sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
    return found[-1] if found and os.path.exists(os.path.join(found[-1], "initdb")) else None


class NotStarted(Exception):
    """A server that ended at once: somebody else may have its port."""


class Postgres:
    def __init__(self, binaries, port=None):
        self.binaries = pathlib.Path(binaries)
        self.port = port  # of this machine, where it listens, too
        self.folder = tempfile.mkdtemp(prefix="rotor-pg-")
        self.numbers = itertools.count(1)
        self.process = None
        # The server refuses to be root.
        self.owner = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if self.owner:
            shutil.chown(self.folder, "nobody")
        self.call("initdb", "-D", self.data, "-U", "rotor", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        try:
            self.start()
        except NotStarted:
            self.remove()
            raise

    @property
    def data(self):
        return os.path.join(self.folder, "data")

    @property
    def number(self):
        """Of its port; its socket is called so in any case."""
        return str(self.port or 5432)

    def environment(self):
        return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": self.folder}

    def call(self, program, *args):
        result = subprocess.run([self.binaries / program, *args], capture_output=True, text=True, cwd="/", env=self.environment(), **self.owner)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def start(self):
        log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen([self.binaries / "postgres", "-D", self.data, "-k", self.folder, "-h",
                                         "127.0.0.1" if self.port else "", "-p", self.number, "-F", "-c", "full_page_writes=off", "-c",
                                         "log_connections=on"], stdout=log, stderr=log, cwd="/",
                                        env=self.environment(), **self.owner)
        end = time.monotonic() + LIMIT_S
        while subprocess.run([self.binaries / "pg_isready", "-h", self.folder, "-p", self.number], capture_output=True).returncode != 0:
            assert time.monotonic() < end, self.log()
            if self.process.poll() is not None:
                raise NotStarted(self.log())
            time.sleep(0.02)

    def stop(self):
        """Connections are cut; what was committed stays."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(LIMIT_S)

    def remove(self):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        return pathlib.Path(self.folder, "log").read_text(errors="replace")

    def store(self, database="postgres", user="rotor"):
        """The address of a store that is not there yet."""
        return "postgres:///%s?host=%s&port=%s&user=%s&schema=s%d" % (database, self.folder, self.number, user, next(self.numbers))

    def far(self, store, port, **more):
        """The same store by way of a port of this machine."""
        values = {"connect_timeout": "1", "schema": store.split("schema=")[1], **more}
        return "postgres://rotor@127.0.0.1:%d/postgres?%s" % (port, "&".join("%s=%s" % pair for pair in values.items()))

    def psql(self, store):
        schema = store.split("schema=")[1] if store else "public"
        database = store.split("?")[0].split("/")[-1] if store else "postgres"
        return ["psql", "-h", self.folder, "-p", self.number, "-U", "rotor", "-d", database, "-AtqX", "-v", "ON_ERROR_STOP=1", "-c",
                "SET search_path TO %s" % schema]

    def sql(self, text, store=None):
        """What psql prints for it, rows as lines and columns between |."""
        return self.call(*self.psql(store), "-c", text).strip()

    def session(self, store):
        """psql, which takes statements from its standard input."""
        command = self.psql(store)
        return subprocess.Popen([self.binaries / command[0], *command[1:], "-f", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                cwd="/", env=self.environment())
