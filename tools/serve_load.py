#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Puts load on `rotor serve` and says what came of it: speeds as ratios, pauses, delays, memory, lost or mixed answers.

    tools/serve_load.py all build/rotor MODEL.gguf -- --parallel 8
    tools/serve_load.py streams,pause build/rotor MODEL.gguf --json out.json
    tools/serve_load.py soak --url 127.0.0.1:8080 --seconds 600

Modes: streams  N streams against one: tokens per second in the time when all of them run, and their ratio
       pause    the longest gap between two tokens of running streams while a long prompt is evaluated, in median gaps
       prefix   time to the first token of a long prompt, cold, again, and with another ending
       overhead decode speed beside `rotor bench`, and time to the first byte beside the server's own prompt time
       models   latency of /v1/models with many names known, idle and while streams run
       soak     many calls one after another, then many connections at once, in every protocol, streamed and whole, some
                of whose clients leave: memory and descriptors, and every answer compared with the one a lone call got.
                The exit status is 1 when an answer was lost or mixed, or something grew

What is behind -- goes to `rotor serve`. One thread reads all sockets and only notes when bytes came; they are taken
apart afterwards, so that the client takes little of the processor that it measures. Prompts are lists of token ids:
random ones, but the same for the same --seed.
"""
import argparse
import bisect
import http.client
import json
import os
import random
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

# ---- One call -------------------------------------------------------------------------------------------------------


class Call:
    """One request on a socket of its own. events: (seconds, JSON) of a stream, when the end has come."""

    def __init__(self, address, body, path="/v1/completions", leave_after=None):
        data = json.dumps(body).encode()
        head = "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n" % path
        self.leave_after = leave_after  # bytes after which the client goes away; None: it stays
        self.pieces = []                # bytes as they came
        self.ends = []                  # how many there were in all, after each piece
        self.times = []                 # when it came
        self.start = time.perf_counter()
        self.socket = socket.create_connection(address, timeout=60)
        self.socket.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.socket.setblocking(False)
        self.left = leave_after == 0

    def take(self):
        """Reads what is there. False: that was all."""
        try:
            piece = self.socket.recv(1 << 16)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not piece:
            return False
        self.times.append(time.perf_counter())
        self.pieces.append(piece)
        self.ends.append((self.ends[-1] if self.ends else 0) + len(piece))
        self.left = self.leave_after is not None and self.ends[-1] >= self.leave_after
        return not self.left

    def progress(self):
        """Tokens that have come, roughly: pieces after the headers."""
        return len(self.pieces)

    def finish(self):
        """Takes the reply apart: status, payload, and events (of OpenAI's streams) or body."""
        self.socket.close()
        raw = b"".join(self.pieces)
        head, _, rest = raw.partition(b"\r\n\r\n")
        self.status = int(head.split()[1]) if head else 0
        self.events, self.body, self.done, self.payload = [], None, False, b""
        if b"chunked" not in head.lower():
            self.body = self.payload = rest
            return self
        at, pending = len(head) + 4, b""
        while at < len(raw):
            line = raw.find(b"\r\n", at)
            size = int(raw[at:line], 16) if line > 0 else 0
            at = line + 2 + size + 2
            if not size or at > len(raw):
                break
            pending += raw[line + 2:line + 2 + size]
            self.payload += raw[line + 2:line + 2 + size]
            when = self.times[bisect.bisect_left(self.ends, at)]
            *whole, pending = pending.split(b"\n\n")
            self.events += [(when, json.loads(e[6:])) for e in whole if e.startswith(b"data: {")]
            self.done = self.done or b"data: [DONE]" in whole
        return self

    def tokens(self):
        """When each piece of text came."""
        return [t for t, e in self.events if e.get("choices") and e["choices"][0].get("text")]

    def text(self):
        if self.body is not None:
            return json.loads(self.body)["choices"][0]["text"]
        return "".join(e["choices"][0].get("text") or "" for _, e in self.events if e.get("choices"))

    def timings(self):
        return [e["timings"] for _, e in self.events if "timings" in e][-1]

    def first(self):
        return self.tokens()[0] - self.start


def drive(calls, tick=None, seconds=600):
    """Reads all calls to their ends. tick(calls) may return one more."""
    box, live, end = selectors.DefaultSelector(), 0, time.perf_counter() + seconds
    fresh = list(calls)
    calls = list(calls)
    while True:
        for c in fresh:
            box.register(c.socket, selectors.EVENT_READ, c)
            live += 1
        if not live:
            return [c.finish() for c in calls]
        assert time.perf_counter() < end, "no end after %d s" % seconds
        for key, _ in box.select(0.05):
            if key.data.left or not key.data.take():
                box.unregister(key.data.socket)
                key.data.socket.close()
                live -= 1
        more = tick(calls) if tick else None
        fresh = [more] if more else []
        calls += fresh


# ---- The server -----------------------------------------------------------------------------------------------------


class Server:
    """One of our own, or (url) one that runs already."""

    def __init__(self, program=None, models=(), more=(), url=None):
        self.process, self.name = None, None
        if url:
            host, _, port = url.rpartition("//")[2].partition("/")[0].partition(":")
            self.address = (host, int(port or 80))
        else:
            self.process = subprocess.Popen([program, "serve", *models, "--port", "0", "--log-level", "info", *more],
                                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
            port, log = 0, []
            for line in self.process.stderr:
                log.append(line)
                found = re.search(r"listening at \S+ port (\d+)", line)
                port = int(found.group(1)) if found else port
                if "ready: http" in line:
                    break
            else:
                raise SystemExit("the server did not start:\n" + "".join(log))
            self.address = ("127.0.0.1", port)
            threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def call(self, prompt, tokens, leave_after=None, **more):
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True, **more}
        return Call(self.address, body, leave_after=leave_after)

    def ask(self, protocol, prompt, tokens, stream, leave_after=None):
        """A call in one of PROTOCOLS."""
        path, body, *_ = PROTOCOLS[protocol]
        return Call(self.address, {**body(prompt, tokens), "model": self.model(), "stream": stream, "temperature": 0}, path, leave_after)

    def model(self):
        if not self.name:
            self.name = self.get("/v1/models")["data"][0]["id"]
        return self.name

    def get(self, path):
        c = http.client.HTTPConnection(*self.address, timeout=60)
        c.request("GET", path)
        data = c.getresponse().read()
        c.close()
        return json.loads(data)

    def resident(self):
        """Bytes of memory of its own: what it has not mapped from files."""
        if not self.process:
            return 0
        with open("/proc/%d/status" % self.process.pid) as f:
            return 1024 * int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))

    def waited(self):
        """Seconds that its threads were ready to run and something else had the processor."""
        ns = 0
        for task in os.listdir("/proc/%d/task" % self.process.pid) if self.process else ():
            with open("/proc/%d/task/%s/schedstat" % (self.process.pid, task)) as f:
                ns += int(f.read().split()[1])
        return ns / 1e9

    def files(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid)) if self.process else 0

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            if self.process.wait(120):
                raise SystemExit("the server ended with %d" % self.process.returncode)


class Prompts:
    """Random ids from the middle of the vocabulary, where no control tokens stand."""

    def __init__(self, server, seed, top):
        self.random = random.Random(seed)
        self.top = top

    def make(self, n):
        return [self.random.randrange(self.top // 8, self.top // 2) for _ in range(n)]


    def words(self, n):
        """A text of n words that nobody else asks for."""
        letters = "abcdefghijklmnopqrstuvwxyz"
        return " ".join("".join(self.random.choices(letters, k=self.random.randrange(1, 7))) for _ in range(n))


# ---- Protocols ------------------------------------------------------------------------------------------------------


def chat_of(prompt):
    return {"messages": [{"role": "user", "content": prompt}]}


def pieces_of(payload):
    """The JSON of every event of a stream, in the order they came; of a stream of lines, that of every line."""
    lines = [line[6:] if line.startswith(b"data: ") else line for line in payload.split(b"\n")]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def joined(texts):
    return "".join(x or "" for x in texts)


def completion_said(payload):
    return joined(c["text"] for e in pieces_of(payload) for c in e["choices"])


def chat_said(payload):
    both = [c.get("message") or c.get("delta") for e in pieces_of(payload) for c in e["choices"]]
    return joined(m.get("reasoning_content") for m in both) + "|" + joined(m.get("content") for m in both)


def response_said(payload):
    got = pieces_of(payload)
    return joined(part["text"] for item in got[-1].get("response", got[-1])["output"] for part in item.get("content", ()))


def message_said(payload):
    got = pieces_of(payload)
    blocks = got[0]["content"] if "content" in got[0] else [e["delta"] for e in got if e["type"] == "content_block_delta"]
    return joined(b.get("thinking") for b in blocks) + "|" + joined(b.get("text") for b in blocks)


def ollama_said(payload):
    got = [e["message"] for e in pieces_of(payload)]
    return joined(m.get("thinking") for m in got) + "|" + joined(m.get("content") for m in got)


# Path, body of a request, what a payload says, and what a stream that is whole has in its end.
PROTOCOLS = {
    "text": ("/v1/completions", lambda p, n: {"prompt": p, "max_tokens": n}, completion_said, b"data: [DONE]\n\n"),
    "chat": ("/v1/chat/completions", lambda p, n: {**chat_of(p), "max_tokens": n}, chat_said, b"data: [DONE]\n\n"),
    "responses": ("/v1/responses", lambda p, n: {"input": p, "max_output_tokens": n, "store": False}, response_said, (b"event: response.completed\n", b"event: response.incomplete\n")),
    "messages": ("/v1/messages", lambda p, n: {**chat_of(p), "max_tokens": n}, message_said, b"event: message_stop\n"),
    "ollama": ("/api/chat", lambda p, n: {**chat_of(p), "options": {"num_predict": n, "temperature": 0}}, ollama_said, b'"done":true')}


def is_whole(protocol, call):
    """The reply came to its end, and is none that says what went wrong."""
    if call.status != 200 or call.body is not None:
        return call.status == 200 and call.body.endswith(b"\n")
    last = call.payload[call.payload.rstrip(b"\n").rfind(b"\n\n" if protocol != "ollama" else b"\n") + 1:]
    ends = PROTOCOLS[protocol][3]
    return any(end in last for end in (ends if isinstance(ends, tuple) else (ends,))) and b'"error":{' not in last


# ---- Modes ----------------------------------------------------------------------------------------------------------


def rate_together(calls):
    """Tokens per second of all calls in the time when all of them run."""
    tokens = [c.tokens() for c in calls]
    begin, end = max(t[0] for t in tokens), min(t[-1] for t in tokens)
    if end <= begin:
        raise SystemExit("streams: they did not all run at one time; raise --tokens")
    return sum(begin < t <= end for line in tokens for t in line) / (end - begin)


def bench(o, n_prompt, tokens, *more):
    run = subprocess.run([o.program, "bench", o.model, "-p", str(n_prompt), "-n", str(tokens), "-r", "1", "--json",
                          *more, *o.bench_args.split()], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def streams(o, server, prompts):
    rows = []
    for _ in range(o.rounds):
        one = rate_together(drive([server.call(prompts.make(16), o.tokens)]))
        many = rate_together(drive([server.call(prompts.make(16), o.tokens) for _ in range(o.streams)]))
        rows.append((one, many, many / one))
    one, many, ratio = (statistics.median(r[i] for r in rows) for i in range(3))
    alone = bench(o, 0, o.tokens, "--sessions", str(o.streams)) if o.program else {}
    return {"streams": o.streams, "one_tps": one, "together_tps": many, "ratio": ratio,
            "bench_one_tps": alone.get("decode_tps"), "bench_together_tps": alone.get("sessions_tps"),
            "bench_ratio": alone.get("sessions_ratio"), "bench_ceiling_tps": alone.get("sessions_ceiling_tps"),
            "ratio_range": [min(r[2] for r in rows), max(r[2] for r in rows)], "goal": "ratio >= 4"}


def gaps(times):
    return [b - a for a, b in zip(times, times[1:])]


def pause_once(o, server, prompts):
    """The calls that ran, the one with the long prompt, and (seconds, seconds waited so far) all along."""
    late, waited = [], []

    def tick(calls):
        waited.append((time.perf_counter(), server.waited()))
        if late or any(c.progress() < 24 for c in calls):
            return None
        late.append(server.call(prompts.make(o.prompt), 4))
        return late[0]

    calls = drive([server.call(prompts.make(16), o.running_tokens) for _ in range(o.running)], tick)
    running = [c for c in calls if c is not late[0]]
    if any(c.tokens()[-1] < late[0].tokens()[0] for c in running):
        raise SystemExit("pause: the running streams ended before the prompt did; raise --running-tokens")
    return running, late[0], waited


def pause(o, server, prompts):
    """longest_own: of those gaps in which others had a processor for less than a fifth of a step."""
    rows = []
    for _ in range(o.rounds):
        running, new, waited = pause_once(o, server, prompts)
        clock = [t for t, _ in waited]
        first = new.tokens()[0]
        before = [g for c in running for g in gaps([t for t in c.tokens() if t < new.start])[4:]]
        step = statistics.median(before)
        if not step:
            raise SystemExit("pause: this client got several tokens at once; take a larger model, or a quieter machine")
        during, own = [], []
        for c in running:
            times = [t for t in c.tokens() if new.start - step < t < first]
            for a, b in zip(times, times[1:]):
                during.append(b - a)
                i, k = bisect.bisect_left(clock, a) - 1, min(bisect.bisect_left(clock, b), len(clock) - 1)
                if waited[k][1] - waited[max(i, 0)][1] < step / 5:
                    own.append(b - a)
        during.sort()
        rows.append({"step_ms": 1e3 * step, "longest_before": max(before) / step, "longest": during[-1] / step,
                     "longest_own": max(own, default=float("nan")) / step, "own_share": len(own) / len(during),
                     "p95": during[int(0.95 * len(during))] / step, "median_during": statistics.median(during) / step,
                     "prompt_s": new.first(), "prompt_tps": o.prompt / new.first(), "tokens_beside": len(during)})
    return {"running": o.running, "prompt": o.prompt, "rounds": rows, "goal": "longest <= 4",
            **{k: statistics.median(r[k] for r in rows) for k in rows[0]}}


def prefix(o, server, prompts):
    rows = []
    for _ in range(o.rounds):
        p = prompts.make(o.prompt)
        cold, again, other = (drive([server.call(q, 4)])[0] for q in (p, p, p[:-8] + prompts.make(8)))
        rows.append((cold.first(), again.first(), other.first(), other.timings()["cache_n"]))
    cold, again, other, kept = (statistics.median(r[i] for r in rows) for i in range(4))
    return {"prompt": o.prompt, "cold_s": cold, "again_ms": 1e3 * again, "other_end_ms": 1e3 * other, "kept": kept,
            "shorter": cold / again, "shorter_other_end": cold / other, "goal": "shorter >= 20"}


def overhead(o, server, prompts):
    """Decoding of one stream beside rotor bench, turn by turn; the first byte beside what the prompt took."""
    rows, first = [], []
    for _ in range(o.rounds):
        first_alone = len(rows) % 2  # turn by turn, and each goes first as often
        alone = bench(o, 16, o.tokens)["decode_tps"] if o.program and first_alone else float("nan")
        call = drive([server.call(prompts.make(16), o.tokens)])[0]
        times = call.tokens()
        if times[-1] == times[0]:
            raise SystemExit("overhead: all of an answer came at once; raise --tokens")
        client = (len(times) - 1) / (times[-1] - times[0])
        t = call.timings()
        own = (t["predicted_n"] - 1) / (t["predicted_ms"] / 1e3)
        if o.program and not first_alone:
            alone = bench(o, 16, o.tokens)["decode_tps"]
        rows.append((client, own, alone))
        for n in (1, 64):
            c = drive([server.call(prompts.make(n), 2)])[0]
            first.append(1e3 * c.first() - c.timings()["prompt_ms"])
    client, own, alone = (statistics.median(r[i] for r in rows) for i in range(3))
    lost = statistics.median(100 * (1 - r[0] / r[2]) for r in rows)
    return {"client_tps": client, "server_tps": own, "bench_tps": alone, "lost_percent": lost,
            "lost_range": [min(100 * (1 - r[0] / r[2]) for r in rows), max(100 * (1 - r[0] / r[2]) for r in rows)],
            "first_byte_ms": statistics.median(first), "first_byte_worst_ms": max(first),
            "goal": "lost_percent < 3, first_byte_ms < 5"}


def latencies(server, n):
    """Seconds of n requests for the models, each on a new connection, and of n on one."""
    fresh, kept = [], []
    for _ in range(n):
        start = time.perf_counter()
        server.get("/v1/models")
        fresh.append(time.perf_counter() - start)
    c = http.client.HTTPConnection(*server.address, timeout=60)
    for _ in range(n):
        start = time.perf_counter()
        c.request("GET", "/v1/models")
        c.getresponse().read()
        kept.append(time.perf_counter() - start)
    c.close()
    return fresh, kept


def models(o, server, prompts):
    """A server of its own that knows o.names names, all of one small file."""
    names = ["name-%02d" % i for i in range(o.names)]
    more = [w for n in names for w in ("--alias", n)] + ["--parallel", "4", "-c", "512"]
    small = Server(o.program, [o.small] * len(names), more) if o.program and o.small else server
    out = {"names": len(small.get("/v1/models")["data"])}
    for state in ("idle", "loaded"):
        done = threading.Event()
        busy = []
        if state == "loaded":
            def run():
                while not done.is_set():
                    drive([small.call(prompts.make(8) if small is server else [5, 6, 7, i + 8], 400) for i in range(4)])
            busy = [threading.Thread(target=run)]
        for t in busy:
            t.start()
        fresh, kept = latencies(small, 200)
        done.set()
        for t in busy:
            t.join()
        for name, list_ in (("new", fresh), ("kept", kept)):
            list_.sort()
            out["%s_%s_ms" % (state, name)] = 1e3 * statistics.median(list_)
            out["%s_%s_p99_ms" % (state, name)] = 1e3 * list_[int(0.99 * len(list_))]
    if small is not server:
        small.stop()
    return out


class Tally:
    """What became of calls."""

    def __init__(self):
        self.asked = self.right = self.left = self.refused = self.lost = self.mixed = 0
        self.of = dict.fromkeys(PROTOCOLS, 0)
        self.wrong = []

    def count(self, call, protocol, want):
        self.asked += 1
        self.of[protocol] += 1
        if call.leave_after is not None:
            self.left += 1
        elif call.status == 429:
            self.refused += 1
        elif not is_whole(protocol, call):
            self.lost += 1
            self.wrong.append((protocol, call.status, call.payload[-200:].decode(errors="replace")))
        elif PROTOCOLS[protocol][2](call.payload) != want:
            self.mixed += 1
            self.wrong.append((protocol, PROTOCOLS[protocol][2](call.payload), want))
        else:
            self.right += 1


def reference(server, prompts, n):
    """(protocol, prompt, tokens, answer): what lone calls got, n of each protocol, each asked in both forms."""
    known = []
    for protocol in PROTOCOLS:
        for _ in range(n):
            prompt, tokens = prompts.words(prompts.random.randrange(2, 12)), prompts.random.randrange(8, 40)
            whole, stream = (drive([server.ask(protocol, prompt, tokens, s)])[0] for s in (False, True))
            said = [PROTOCOLS[protocol][2](c.payload) if is_whole(protocol, c) else None for c in (whole, stream)]
            if said[0] is None or said[0] != said[1]:
                raise SystemExit("soak: %s alone says %r whole and %r in a stream" % (protocol, *said))
            known.append((protocol, prompt, tokens, said[0]))
    return known


def soak_at_once(o, server, known, tally, note):
    """o.connections calls at once, each ended one replaced by a new one; one in eight leaves early."""
    box, end, wants = selectors.DefaultSelector(), time.perf_counter() + o.seconds, {}
    dice, next_note, n_begun = random.Random(o.seed), 0, 0

    def start():
        protocol, prompt, tokens, want = dice.choice(known)
        leaves = dice.choice((0, 1, 300, 900)) if dice.random() < 0.125 else None
        call = server.ask(protocol, prompt, tokens, dice.random() < 0.7, leave_after=leaves)
        wants[call] = protocol, want
        if call.left:
            close(call, False)
        else:
            box.register(call.socket, selectors.EVENT_READ, call)

    def close(call, known_to_box=True):
        if known_to_box:
            box.unregister(call.socket)
        tally.count(call.finish(), *wants.pop(call))

    last = end + 120  # for the answers that are under way then
    while time.perf_counter() < end or wants or n_begun < o.connections:
        while len(wants) < o.connections and (time.perf_counter() < end or n_begun < o.connections):
            start()
            n_begun += 1
        for key, _ in box.select(0.05):
            if not key.data.take():
                close(key.data)
        if time.perf_counter() > last:
            for call in list(wants):
                close(call)  # lost: they never ended
        if time.perf_counter() > next_note:
            note()
            next_note = time.perf_counter() + max(1, o.seconds / 50)


def half_clients(server):
    """Clients that say nothing, half a header and half a body, and then wait."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    out = []
    for part in (b"", head[:30], head):
        s = socket.create_connection(server.address, timeout=60)
        s.sendall(part)
        s.setblocking(False)
        out.append(s)
    return out


def still_open(s):
    try:
        while s.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        pass
    return False


def soak(o, server, prompts):
    """Failed is a list of what must not be: empty when all went well."""
    known = reference(server, prompts, o.prompts)
    tally, memory = Tally(), []
    start = time.perf_counter()

    def note():
        memory.append((round(time.perf_counter() - start, 1), server.resident(), server.files()))

    dice = random.Random(o.seed)
    note()
    half = half_clients(server)
    for i in range(o.sequential):
        protocol, prompt, tokens, want = known[i % len(known)]
        tally.count(drive([server.ask(protocol, prompt, tokens, dice.random() < 0.5)])[0], protocol, want)
        if i % 50 == 0:
            note()
    settled = time.perf_counter() - start + o.seconds / 4
    soak_at_once(o, server, known, tally, note)
    waited = time.perf_counter() - start
    n_half = sum(map(still_open, half))
    for s in half:
        s.close()
    deadline = time.perf_counter() + 120  # those who left are noticed between steps
    while server.files() > memory[0][2] and time.perf_counter() < deadline:
        time.sleep(0.1)
    note()
    early = max(m for t, m, _ in memory if t <= settled)
    growth = (memory[-1][1] - early) / 1024
    failed = [what for what, bad in (("lost answers", tally.lost), ("mixed answers", tally.mixed),
                                     ("memory grew by %d KiB" % growth, growth > o.growth_kib),
                                     ("descriptors grew", memory[-1][2] > memory[0][2]),
                                     ("no call was right", not tally.right),
                                     ("half requests kept their connection", waited > 100 and n_half)) if bad]
    return {"asked": tally.asked, "right": tally.right, "left_early": tally.left, "refused": tally.refused,
            "lost": tally.lost, "mixed": tally.mixed, "wrong": tally.wrong[:5], "by_protocol": tally.of,
            "seconds": waited, "rss_settled": early, "rss_end": memory[-1][1],
            "growth_kib": growth, "files_begin": memory[0][2], "files_end": memory[-1][2], "half_requests_open": n_half, "failed": failed,
            "memory": memory[::max(1, len(memory) // 12)],
            "goal": "lost 0, mixed 0, growth_kib <= %d, no more files" % o.growth_kib}


MODES = {"streams": streams, "pause": pause, "prefix": prefix, "overhead": overhead, "models": models, "soak": soak}

# ---- Report ---------------------------------------------------------------------------------------------------------


def show(name, result):
    print("%s   %s" % (name, result.get("goal", "")))
    for key, value in result.items():
        if key in ("goal", "memory", "rounds"):
            continue
        print("  %-22s %s" % (key, "%.3f" % value if isinstance(value, float) else value))
    sys.stdout.flush()


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("modes", help="all, or some of: %s; with commas" % ", ".join(MODES))
    p.add_argument("program", nargs="?", help="rotor")
    p.add_argument("model", nargs="?", help="a .gguf file")
    p.add_argument("--url", help="a server that runs already: HOST:PORT")
    p.add_argument("--rounds", type=int, default=3, help="of each measurement; the median counts")
    p.add_argument("--tokens", type=int, default=64, help="of an answer")
    p.add_argument("--streams", type=int, default=8, help="at once (mode streams)")
    p.add_argument("--running", type=int, default=4, help="streams beside the prompt (mode pause)")
    p.add_argument("--running-tokens", type=int, default=600, help="of theirs")
    p.add_argument("--prompt", type=int, default=2000, help="tokens of a long prompt")
    p.add_argument("--vocab", type=int, default=100000, help="ids are taken from the middle of so many")
    p.add_argument("--names", type=int, default=50, help="of models (mode models)")
    p.add_argument("--small", help="the file they all mean; default: MODEL")
    p.add_argument("--sequential", type=int, default=1000, help="calls one after another (mode soak)")
    p.add_argument("--connections", type=int, default=64, help="at once (mode soak)")
    p.add_argument("--seconds", type=float, default=60, help="of these")
    p.add_argument("--prompts", type=int, default=8, help="of each protocol (mode soak)")
    p.add_argument("--growth-kib", type=int, default=2048, help="memory that may come after the first quarter of --seconds (mode soak)")
    p.add_argument("--bench-args", default="", help="for rotor bench, where the server gets some behind --")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--json", help="write everything to this file")
    own, more = (sys.argv[1:], []) if "--" not in sys.argv else (
        sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:])
    o = p.parse_args(own)
    o.more = more
    o.names_of_modes = list(MODES) if o.modes == "all" else o.modes.split(",")
    o.small = o.small or o.model
    if any(m not in MODES for m in o.names_of_modes) or not (o.url or (o.program and o.model)):
        p.error("expected modes of %s, and a program with a model, or --url" % ", ".join(MODES))
    return o


def main():
    o = options()
    server = Server(o.program, [o.model], o.more, o.url)
    result, prompts = {}, Prompts(server, o.seed, o.vocab)
    try:
        drive([server.call(prompts.make(8), 4)])
        for name in o.names_of_modes:
            result[name] = MODES[name](o, server, prompts)
            show(name, result[name])
    finally:
        server.stop()
    if o.json:
        with open(o.json, "w") as f:
            json.dump(result, f, indent=1)
    return int(any(r.get("failed") for r in result.values()))


if __name__ == "__main__":
    sys.exit(main())
