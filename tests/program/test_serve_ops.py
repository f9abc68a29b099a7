# SPDX-License-Identifier: MIT
"""rotor serve as those who run it meet it: sockets with a path, systemd's protocols, the cage, TLS, models that sleep."""
import calendar
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time

import pytest

from serve_rig import PATIENCE_S, STORY, Server, complete, wait_until
from test_cli_harmony import write_chain


class Path(http.client.HTTPConnection):
    """HTTP over a socket with a path."""

    def __init__(self, path):
        super().__init__("somewhere", timeout=PATIENCE_S)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.path)


class Served(Server):
    """A server that was started in a way of its own and is ready; connect makes its connections."""

    def __init__(self, *args, before=(), env=None, connect=None, **more):
        self.log, self.port = [], 0
        self.process = subprocess.Popen([*before, os.environ["ROTOR_BINARY"], "serve", *map(str, args)],
                                        stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
                                        env={**os.environ, **(env or {})}, **more)
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening at \S+ port (\d+)", line)
            self.port = int(found.group(1)) if found else self.port
            if "ready: " in line:
                break
        else:
            raise AssertionError("".join(self.log))
        if connect:
            self.connect = connect
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        status = self.stop()
        assert kind or status == 0

    def say(self, **more):
        return complete(self, **more)["choices"][0]["text"]


def want(rotor):
    return rotor("run", STORY, "-p", "Once upon a time", "-n", "8", "--temp", "0").stdout.rstrip("\n")


# ---- A socket with a path -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["unix:%s", "%s"])
def test_a_socket_with_a_path(rotor, tmp_path, form):
    path = tmp_path / "rotor.sock"
    with Served(STORY, "--host", form % path, connect=lambda: Path(path)) as s:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert s.say() == want(rotor)
        body = json.dumps({"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0})
        if shutil.which("curl"):
            curl = subprocess.run(["curl", "-sS", "--unix-socket", path, "http://any-name-is-fine/v1/completions", "-H",
                                   "Content-Type: application/json", "-d", body], capture_output=True, text=True, timeout=60)
            assert json.loads(curl.stdout)["choices"][0]["text"] == want(rotor), curl.stderr
        second = rotor("serve", STORY, "--host", "unix:%s" % path, status=1)
        assert "another program listens there" in second.stderr
        assert s.say() == want(rotor)  # which did not disturb the first
    assert not path.exists()
    s = Served(STORY, "--host", "unix:%s" % path, connect=lambda: Path(path))
    s.process.kill()
    s.process.wait()
    assert path.exists()  # what a crash leaves …
    with Served(STORY, "--host", "unix:%s" % path, connect=lambda: Path(path)) as s:
        assert s.say() == want(rotor)  # … is taken over
    letter = tmp_path / "letter.sock"
    letter.write_text("dear")
    assert "no socket has this name" in rotor("serve", STORY, "--host", letter, status=1).stderr
    assert letter.read_text() == "dear"


# ---- systemd --------------------------------------------------------------------------------------------------------


def test_readiness_and_the_end_are_told(tmp_path):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(PATIENCE_S)
    with Served(STORY, "--port", "0", env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as s:
        assert manager.recv(999) == b"STATUS=loading\n"
        assert b"READY=1\n" in manager.recv(999)
        assert s.ask("/health") == {"status": "ok"}
    assert b"STOPPING=1\n" in manager.recv(999)


# What systemd does: descriptor 3, and the process's own number in the environment.
HAND_OVER = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])"""


def handing(sock):
    return [sys.executable, "-c", HAND_OVER, str(sock.fileno())]


def test_a_socket_that_is_handed_over(rotor):
    given = socket.create_server(("127.0.0.1", 0))
    port = given.getsockname()[1]
    with Served(STORY, before=handing(given), pass_fds=[given.fileno()]) as s:
        assert s.port == port and s.say() == want(rotor)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S):
        pass  # the socket is not the server's to close: the next one finds it open
    given.close()
    with socket.create_server(("0.0.0.0", 0)) as out:
        r = subprocess.run([*handing(out), os.environ["ROTOR_BINARY"], "serve", STORY], capture_output=True, text=True,
                           timeout=60, pass_fds=[out.fileno()])
    assert r.returncode != 0 and "handed over can be reached from other machines: give an --api-key" in r.stderr


# Pages that can be written and then run are refused, as MemoryDenyWriteExecute= in the unit does it.
NO_NEW_CODE = """import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])"""


def test_the_unit_may_forbid_new_code(rotor, source_root):
    if subprocess.run([sys.executable, "-c", NO_NEW_CODE, "/bin/true"]).returncode == 77:
        pytest.skip("this kernel cannot forbid it")
    with Served(STORY, "--port", "0", "--device", "cpu", before=[sys.executable, "-c", NO_NEW_CODE]) as s:
        assert s.say() == want(rotor)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize("unit", ["rotor.service", "rotor.socket"])
def test_the_unit_files_are_well_formed(source_root, tmp_path, unit):
    for name in ("rotor.service", "rotor.socket"):
        text = (source_root / "packaging" / name).read_text().replace("Documentation=man:rotor-serve(1)\n", "")  # no page is installed
        (tmp_path / name).write_text(re.sub(r"^ExecStart=\S+", "ExecStart=" + os.environ["ROTOR_BINARY"], text, flags=re.M))
    r = subprocess.run(["systemd-analyze", "verify", "--user", "--recursive-errors=no", tmp_path / unit], capture_output=True,
                       text=True, timeout=60, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    told = [line for line in r.stderr.splitlines() if unit in line]
    assert r.returncode == 0 and not told, r.stderr


# ---- The cage -------------------------------------------------------------------------------------------------------


def can_cage(s):
    return s.ask("/props")["sandbox"].startswith("on")


def test_the_cage_holds_every_thread_and_nothing_breaks(rotor, tmp_path):
    with Served(STORY, "--port", "0", "--parallel", "2") as s:
        props = s.ask("/props")
        assert s.logged("sandbox " + props["sandbox"])
        if not can_cage(s):
            pytest.skip(props["sandbox"])
        assert s.say() == want(rotor)
        for task in pathlib.Path("/proc/%d/task" % s.process.pid).iterdir():
            try:
                status = (task / "status").read_text()
            except OSError:  # it has ended
                continue
            assert re.search(r"^Seccomp:\s*2$", status, re.M) and re.search(r"^NoNewPrivs:\s*1$", status, re.M)
    with Served(STORY, "--port", "0", "--sandbox", "off") as s:
        assert s.ask("/props")["sandbox"] == "off: --sandbox off"
        status = pathlib.Path("/proc/%d/status" % s.process.pid).read_text()
        assert re.search(r"^Seccomp:\s*0$", status, re.M)
    told = rotor("serve", STORY, "--port", "0", "--sandbox", "on", "--device", "opencl", status=2).stderr
    assert "--sandbox on: the driver of a device needs what it takes away" in told


# ---- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True, timeout=60)
    return folder


def test_a_socket_of_another_server_stays(tmp_path):
    path = tmp_path / "rotor.sock"
    with Served(STORY, "--host", path, connect=lambda: Path(path)):
        path.rename(tmp_path / "old.sock")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl program")
def test_https_with_a_real_certificate(rotor, certificate):
    cert, key = certificate / "cert.pem", certificate / "key.pem"
    trusting = ssl.create_default_context(cafile=cert)
    with Served(STORY, "--port", "0", "--tls-cert", cert, "--tls-key", key) as s:
        s.connect = lambda: http.client.HTTPSConnection("localhost", s.port, timeout=60, context=trusting)
        assert s.say() == want(rotor)
        url = "https://localhost:%d/v1/completions" % s.port
        body = json.dumps({"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, "stream": True})
        curl = ["curl", "-sS", "-N", "-H", "Content-Type: application/json", "-d", body]
        got = subprocess.run([*curl, "--cacert", cert, url], capture_output=True, text=True, timeout=60)
        events = [line[6:] for line in got.stdout.splitlines() if line.startswith("data: ")]
        assert events.pop() == "[DONE]" and got.stderr == ""
        assert "".join(c["text"] for e in events for c in json.loads(e)["choices"]) == want(rotor)
        stranger = subprocess.run([*curl, url], capture_output=True, text=True, timeout=60)
        assert stranger.returncode == 60  # a certificate that curl does not know
        plain = http.client.HTTPConnection("127.0.0.1", s.port, timeout=PATIENCE_S)
        with pytest.raises((OSError, http.client.HTTPException)):
            plain.request("GET", "/health")
            plain.getresponse()
        large = json.dumps({"content": "word " * 200000})  # a body of many TLS records
        c = http.client.HTTPSConnection("localhost", s.port, timeout=60, context=trusting)
        c.request("POST", "/tokenize", large, {"Content-Type": "application/json"})
        assert len(json.loads(c.getresponse().read())["tokens"]) >= 200000


def test_wrong_certificates_are_told(rotor, certificate, tmp_path):
    cert, key = certificate / "cert.pem", certificate / "key.pem"
    other = tmp_path / "other.pem"
    other.write_text("this is no key")
    for words in (["--tls-cert", cert, "--tls-key", other], ["--tls-cert", other, "--tls-key", key]):
        assert "PEM files that belong together" in rotor("serve", STORY, "--port", "0", *words, status=2).stderr
    assert "belong together" in rotor("serve", STORY, "--port", "0", "--tls-cert", cert, status=2).stderr
    missing = rotor("serve", STORY, "--port", "0", "--tls-cert", cert, "--tls-key", tmp_path / "none", status=None)
    assert missing.returncode in (1, 2) and "none" in missing.stderr
    open_key = tmp_path / "open.pem"
    shutil.copy(key, open_key)
    open_key.chmod(0o644)
    with Served(STORY, "--port", "0", "--tls-cert", cert, "--tls-key", open_key) as s:
        assert s.logged("others can read it: chmod 600")


# ---- Filling gaps ---------------------------------------------------------------------------------------------------


FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|endoftext|>"]


def test_a_gap_is_filled_by_a_model_that_can(tmp_path):
    model = write_chain(tmp_path / "m.gguf", ["<|fim_middle|>", "return", " 42", "<|endoftext|>"], template=None, marks=FIM)
    with Served(model, "--port", "0", "--log-prompts") as s:
        got = s.ask("/infill", {"input_prefix": "def f():\n    ", "input_suffix": "\nprint", "temperature": 0, "n_predict": 8})
        assert got["content"] == "return 42" and got["stop_type"] == "eos"
        assert s.logged("prompt: <|fim_prefix|>def f():")
        body = {"prompt": "def f():\n    ", "suffix": "\nprint", "temperature": 0, "max_tokens": 8}
        got = s.ask("/v1/completions", body)["choices"][0]
        assert got["text"] == "return 42" and got["finish_reason"] == "stop"
        # A mark in the text is text: it must not end the part in front.
        plain = s.ask("/v1/completions", {**body, "prompt": "a<|fim_suffix|>b"})
        ids = len(s.ask("/tokenize", {"content": "a<|fim_suffix|>b", "parse_special": False})["tokens"])
        rest = len(s.ask("/tokenize", {"content": "\nprint", "parse_special": False})["tokens"])
        assert ids > 3 and plain["usage"]["prompt_tokens"] == ids + rest + 3
        assert s.ask("/api/generate", {"model": "m", "prompt": "a", "suffix": "b", "stream": False,
                                       "options": {"temperature": 0, "num_predict": 8}})["response"] == "return 42"


# ---- Large texts ----------------------------------------------------------------------------------------------------


def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenised():
    with Served(STORY, "--port", "0") as s:
        text = "a very long story " * 60000  # a megabyte
        tokens = len(s.ask("/tokenize", {"content": text})["tokens"])  # here it is: the limit is --max-body
        told = s.ask("/v1/completions", {"prompt": text}, 400)["error"]
        assert told["code"] == "context_length_exceeded" and told["n_ctx"] < told["n_prompt_tokens"] < tokens / 2
        chat = {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
        assert s.ask("/v1/chat/completions", chat, 400)["error"]["n_prompt_tokens"] < tokens / 2
        assert s.ask("/v1/messages/count_tokens", chat)["input_tokens"] >= tokens  # counting is exact
        short = s.ask("/v1/completions", {"prompt": text[:20000]}, 400)["error"]  # as ever: counted
        assert short["n_prompt_tokens"] >= len(s.ask("/tokenize", {"content": text[:20000]})["tokens"])


# ---- Models that sleep ----------------------------------------------------------------------------------------------


def resident(s):
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path("/proc/%d/status" % s.process.pid).read_text()).group(1)) << 10


def metric(s, name):
    r, data = s.raw("GET", "/metrics")
    return [float(line.split()[-1]) for line in data.decode().splitlines() if re.match(name + r"[{ ]", line)]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model whose weights can be seen among a program's memory: 62 MB of zeros in one layer."""
    return write_chain(tmp_path_factory.mktemp("large") / "large.gguf", ["yes", "<|endoftext|>"], template=None, marks=FIM, n_ff=16000)


def unload(s):
    """Has the models asleep, without waiting for silence."""
    assert s.ask("/api/generate", {"model": "x", "keep_alive": 0, "stream": False})["done_reason"] == "unload"
    wait_until(lambda: s.ask("/props")["is_sleeping"])


def test_a_model_that_is_not_used_gives_its_memory_back(large, checked_build):
    size = large.stat().st_size if not checked_build else 0  # a checker keeps what is freed
    with Served(large, "--port", "0", "--idle-unload", "600", "--no-mmap", "--ctx", "256") as s:
        awake = resident(s)
        assert awake > size
        unload(s)
        wait_until(lambda: s.ask("/props")["is_sleeping"])
        assert s.ask("/props")["residence"] == {"idle_unload_s": 600, "models": [{"id": "large", "loaded": False, "loads": 1}]}
        assert s.ask("/api/ps") == {"models": []} and metric(s, "rotor_model_loaded") == [0]
        assert s.ask("/health") == {"status": "ok"} and s.ask("/v1/models")["data"][0]["id"] == "large"
        wait_until(lambda: not size or resident(s) < awake - size * 0.9)
        assert len(s.ask("/tokenize", {"content": "some words"})["tokens"]) > 0  # which wakes it
        assert metric(s, "rotor_model_loads_total") == [2] and resident(s) > size
        assert s.logged("was not used and is released")


def test_a_load_that_nobody_waits_for_is_taken(large):
    """Its only client leaves; the model is there all the same, and is known to be."""
    with Served(large, "--port", "0", "--no-mmap", "--ctx", "256") as s:
        for n in (1, 2):
            unload(s)
            gone = s.connect()
            gone.request("POST", "/v1/completions", '{"prompt": "a", "max_tokens": 1}', {"Content-Type": "application/json"})
            wait_until(lambda: sum("being loaded" in line for line in s.log) == n)
            gone.close()
            wait_until(lambda: not s.ask("/props")["is_sleeping"])
            assert metric(s, "rotor_model_loads_total") == [n + 1]


def test_whoever_asks_wakes_it(rotor):
    """Every kind of route meets a model that sleeps; answers are those of one that never slept."""
    with Served(STORY, "--port", "0", "--idle-unload", "6000", "--embed") as s:
        loads = lambda: metric(s, "rotor_model_loads_total")[0]  # noqa: E731
        chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
        routes = [("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}),
                  ("/v1/chat/completions", chat), ("/tokenize", {"content": "a b"}), ("/detokenize", {"tokens": [300, 301]}),
                  ("/apply-template", chat), ("/v1/embeddings", {"input": "a"}), ("/api/embed", {"model": "x", "input": "a"}),
                  ("/v1/messages", chat), ("/v1/messages/count_tokens", chat),
                  ("/api/generate", {"model": "x", "prompt": "a", "stream": False, "options": {"num_predict": 4, "seed": 1}})]
        varies = {"id", "created", "timings", "created_at", "total_duration", "load_duration", "eval_duration",
                  "prompt_eval_duration", "expires_at", "eval_count", "usage"}
        cut = lambda d: {k: v for k, v in d.items() if k not in varies}  # noqa: E731
        said = [cut(s.ask(path, body)) for path, body in routes]
        for i, (path, body) in enumerate(routes):
            unload(s)
            got = s.ask(path, body)
            assert cut(got) == said[i], path
            assert loads() == 2 + i
        assert got["load_duration"] > 0
        unload(s)  # a request that is wrong is told so, after the model was there
        assert s.ask("/v1/completions", {"prompt": "a", "temperature": "warm"}, 400)["error"]["param"] == "temperature"
        unload(s)  # many at once: one load
        before = loads()
        out = []
        crowd = [threading.Thread(target=lambda: out.append(s.say())) for _ in range(8)]
        for t in crowd:
            t.start()
        for t in crowd:
            t.join()
        assert out == [want(rotor)] * 8 and loads() == before + 1


def test_a_stream_that_waits_hears_pings(large):
    with Served(large, "--port", "0", "--no-mmap", "--ctx", "256", "--ping-ms", "1") as s:
        body = {"prompt": "a", "max_tokens": 2, "temperature": 0, "stream": True}
        plain = s.ask("/v1/completions", {**body, "stream": False})["choices"][0]["text"]

        def pinged(path, body, status):
            """What comes from a sleeping model behind a ping; a load during which the worker never ran is none to hear of."""
            unload(s)
            r, data = s.raw("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            assert r.status in (200, status)
            first, _, rest = data.decode().partition("\n\n")
            return r.status == 200 and first == ": the model is being loaded" and (r, rest)
        r, rest = wait_until(lambda: pinged("/v1/completions", body, 200))
        lines = rest.split("\n\n")
        assert r.getheader("Content-Type") == "text/event-stream" and "data: [DONE]" in lines
        chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert "".join(c["text"] for d in chunks for c in d["choices"]) == plain
        _, rest = wait_until(lambda: pinged("/v1/chat/completions", {"messages": [], "stream": True}, 400))
        fault = rest.strip().split("\n\n")[-1]  # one behind a ping is an event
        assert fault.startswith("event: error\ndata: ") and json.loads(fault.split("data: ")[1])["error"]["type"]
        unload(s)  # whoever leaves meanwhile is not waited for
        gone = s.connect()
        gone.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        gone.close()
        assert s.ask("/v1/completions", {**body, "stream": False})["choices"][0]["text"] == plain


def test_keep_alive_is_obeyed(rotor):
    with Served(STORY, "--port", "0") as s:
        there = lambda: s.ask("/api/ps")["models"]  # noqa: E731
        assert there()[0]["expires_at"].startswith("9999")
        generate = {"model": "x", "prompt": "a", "stream": False, "options": {"num_predict": 2}}
        s.ask("/api/generate", {**generate, "keep_alive": "1h30m"})
        left = calendar.timegm(time.strptime(there()[0]["expires_at"], "%Y-%m-%dT%H:%M:%SZ")) - time.time()
        assert 4800 < left <= 5401
        s.ask("/api/generate", {**generate, "keep_alive": -1})
        assert there()[0]["expires_at"].startswith("9999")
        assert s.ask("/api/generate", {"model": "x", "keep_alive": 0, "stream": False})["done_reason"] == "unload"
        wait_until(lambda: not there())
        assert s.say() == want(rotor) and there()[0]["expires_at"].startswith("9999")  # loaded, and to stay as usual
        s.ask("/api/embed", {"model": "x", "input": "a", "keep_alive": "soon"}, 501)  # it makes no vectors
        for wrong in ("soon", "5x", "", [], "-"):
            assert "keep_alive" in s.ask("/api/chat", {"model": "x", "messages": [], "keep_alive": wrong}, 400)["error"]


def test_a_model_that_is_gone_is_told_and_comes_back(rotor, tmp_path):
    model = tmp_path / "m.gguf"
    shutil.copy(STORY, model)
    with Served(model, STORY, "--port", "0", "--idle-unload", "1") as s:
        ask = {"model": "m", "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
        text = s.ask("/v1/completions", ask)["choices"][0]["text"]
        wait_until(lambda: s.ask("/props")["is_sleeping"])
        model.rename(tmp_path / "away")
        assert "m cannot be loaded" in s.ask("/v1/completions", ask, 500)["error"]["message"]
        assert s.ask("/v1/completions", {**ask, "model": "stories260K"})["choices"][0]["text"] == text
        (tmp_path / "away").rename(model)
        assert s.ask("/v1/completions", ask)["choices"][0]["text"] == text


def test_a_model_whose_file_was_exchanged_is_not_served(rotor, tmp_path):
    """Even where everything that is told about it is the same."""
    model, other = tmp_path / "m.gguf", tmp_path / "other.gguf"
    ask = {"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
    for how, cage in (("written", "auto"), ("exchanged", "off"), ("exchanged", "auto")):
        shutil.copy(STORY, model)
        shutil.copy(STORY, other)
        with Served(model, "--port", "0", "--sandbox", cage) as s:
            text = s.ask("/v1/completions", ask)["choices"][0]["text"]
            before = model.stat()
            s.ask("/api/generate", {"model": "m", "keep_alive": 0, "stream": False})
            wait_until(lambda: s.ask("/props")["is_sleeping"])
            if how == "written":
                with open(model, "r+b") as f:
                    f.seek(-1, 2)
                    f.write(b"x")
            else:
                model.rename(tmp_path / "away")
                other.rename(model)
            caged = how == "exchanged" and s.ask("/props")["sandbox"].startswith("on: reads")
            error = s.ask("/v1/completions", ask, 500 if caged else 503)["error"]
            assert "m cannot be loaded: " in error["message"] and "start the server again" in error["message"]
            assert ("sandbox" if caged else "exchanged or written while it was released") in error["message"]
            assert caged or error["code"] == "model_changed"
            wait_until(lambda: error["message"] in "".join(s.log))
            if how == "exchanged":  # what was there comes back
                (tmp_path / "away").rename(model)
                assert model.stat().st_ino == before.st_ino and s.ask("/v1/completions", ask)["choices"][0]["text"] == text


# ---- Knowledge stores in the cage -----------------------------------------------------------------------------------


def test_more_vectors_than_a_sort_keeps_in_memory_are_read_in_the_cage(rotor, sqlite_is_there, tmp_path):
    """Read in another order than they lie in, they would be sorted, by way of a file that the cage does not allow."""
    store, notes, dims = tmp_path / "notes.store", tmp_path / "notes.md", 384
    notes.write_text("".join("# Part %d\n\nThe harbour of part %d lies in the north.\n\n" % (i, i) for i in range(10500)))
    rotor("rag", "add", store, notes, "--no-embed")
    with sqlite3.connect(store / "rag.db") as db:
        db.execute("INSERT INTO model(id,fingerprint,name,path,dims) VALUES(1,?,'m','m.gguf',?)", (b"f" * 32, dims))
        db.execute("INSERT OR REPLACE INTO meta(k,v) VALUES('model',1)")
        db.execute("INSERT INTO vec SELECT DISTINCT 1,hash,0.01,zeroblob(?1),zeroblob(?1) FROM chunk", (dims,))
        assert db.execute("SELECT count(*) FROM vec").fetchone()[0] > 3000
    db.close()
    with Served(STORY, "--port", "0", "--rag", store, "--no-embed") as s:
        if not can_cage(s):
            pytest.skip(s.ask("/props")["sandbox"])
        got = s.ask("/v1/rag/search", {"query": "harbour of part 7"})
        assert got["relevant"] and s.ask("/v1/rag/stores")["data"][0]["vectors"] > 3000


def test_a_store_is_read_in_the_cage_while_others_write_it(rotor, sqlite_is_there, tmp_path):
    store, notes = tmp_path / "notes.store", tmp_path / "notes"
    notes.mkdir()
    (notes / "one.md").write_text("The harbour lies in the north.\n")
    rotor("rag", "add", store, notes, "--no-embed")
    with Served(STORY, "--port", "0", "--rag", store, "--no-embed", "--idle-unload", "1") as s:
        if can_cage(s):
            assert "writes only to its stores" in s.ask("/props")["sandbox"]
        find = lambda word: s.ask("/v1/rag/search", {"query": word})  # noqa: E731
        assert "harbour" in json.dumps(find("harbour"))
        (notes / "two.md").write_text("The lighthouse stands in the south.\n")
        rotor("rag", "add", store, notes, "--no-embed")
        assert "lighthouse" in json.dumps(find("lighthouse"))
        wait_until(lambda: s.ask("/props")["is_sleeping"])  # asking wakes the model, with all that was found
        got = s.ask("/v1/rag/ask", {"question": "Where is the lighthouse?", "max_tokens": 2, "temperature": 0})
        assert got["object"] == "rag.answer" and metric(s, "rotor_model_loads_total") == [2]
