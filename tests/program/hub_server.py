# SPDX-License-Identifier: MIT
"""A server that behaves like the hub: a listing, small files of its own, and redirects to another
host with signed links for large ones. What it can be told to do wrong stands in `Faults`."""
import hashlib
import http.server
import json
import socket
import threading
import time
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Faults:
    """What goes wrong, and how often; all of it on the host that large files come from."""

    def __init__(self):
        self.link_uses = None     # a signed link serves so many requests, then 403
        self.cut_after = None     # a connection ends after so many bytes of a body
        self.busy = 0             # so many requests are answered 429, Retry-After: 1
        self.unsatisfiable = 0    # so many ranged requests are answered 416
        self.stall = 0            # so many requests stand still after half their body
        self.no_ranges = False    # all of the file, whatever was asked for
        self.wrong = False        # one byte is another
        self.bytes_per_s = None   # slow
        self.redirect_to = None   # the link leads there instead


class Hub:
    """Use as a context manager; `repos` maps "org/name" to {path: bytes}."""

    def __init__(self, repos, token=None):
        self.repos, self.token = repos, token
        self.faults = Faults()
        self.asked = []           # (host, method, path, headers, Range or None)
        self.renamed = {}         # old repository: new one
        self.extra = []           # further file names of the listing
        self.size_of = len        # what it says how large a file is; None: nothing
        self.large = 1000         # bytes from which a file lies on the other host
        self.links = {}
        self.lock = threading.Lock()

    def __enter__(self):
        self.home, self.store = self.serve(self.answer_home), self.serve(self.answer_store)
        self.url = "http://127.0.0.1:%d" % self.home.server_port
        self.store_url = "http://127.0.0.1:%d" % self.store.server_port
        return self

    def __exit__(self, *error):
        for server in (self.home, self.store):
            server.shutdown()
            server.server_close()

    def serve(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # a body does not wait until its header lines are acknowledged

            def do_GET(self):
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *words):
                pass

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def note(self, host, h):
        with self.lock:
            self.asked.append((host, h.command, h.path, dict(h.headers), h.headers.get("Range")))

    def requests(self, host, method="GET"):
        return [a for a in self.asked if a[0] == host and a[1] == method]

    # ---- Answers ----

    def send(self, h, status, body=b"", **headers):
        h.send_response(status)
        for name, value in headers.items():
            h.send_header(name.replace("_", "-"), value)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        if h.command != "HEAD":
            h.wfile.write(body)

    def etag(self, data):
        if len(data) >= self.large:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def answer_home(self, h):
        self.note("home", h)
        if self.token and h.headers.get("Authorization") != "Bearer " + self.token:
            return self.send(h, 401, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        path = urllib.parse.unquote(urllib.parse.urlsplit(h.path).path).strip("/")
        if path.startswith("api/models/"):
            return self.listing(h, path[len("api/models/"):].split("/revision/")[0])
        if path == "file":  # a link that did not lead to the other host
            return self.answer_store(h)
        repo, _, rest = path.partition("/resolve/")
        commit, _, name = rest.partition("/")
        if repo in self.renamed:
            return self.send(h, 307, Location="/%s/resolve/%s/%s" % (self.renamed[repo], commit, name))
        data = self.repos.get(repo, {}).get(name)
        if data is None or commit not in (COMMIT, "main"):
            return self.send(h, 404, X_Error_Code="EntryNotFound")
        if len(data) < self.large:
            return self.send_file(h, data, ETag='"%s"' % self.etag(data), X_Repo_Commit=COMMIT)
        with self.lock:
            self.links["%d" % len(self.links)] = [data, self.faults.link_uses]
            link = self.faults.redirect_to or "%s/file?signed=%d" % (self.store_url, len(self.links) - 1)
        size = self.size_of(data)
        sized = {} if size is None else {"X_Linked_Size": str(size)}
        self.send(h, 302, b"Found. Redirecting", Location=link, X_Linked_Etag='"%s"' % self.etag(data),
                  ETag='"of-the-redirect"', X_Repo_Commit=COMMIT, **sized)

    def listing(self, h, repo):
        repo = self.renamed.get(repo, repo)
        if repo not in self.repos:
            return self.send(h, 404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        files = [{"rfilename": name, "size": self.size_of(data)} for name, data in self.repos[repo].items()]
        files += [{"rfilename": name, "size": 1} for name in self.extra]
        self.send(h, 200, json.dumps({"id": repo, "sha": COMMIT, "siblings": files}).encode(),
                  Content_Type="application/json")

    def answer_store(self, h):
        self.note("store", h)
        f = self.faults
        with self.lock:
            link = self.links.get(h.path.partition("signed=")[2])
            usable = link and link[1] != 0
            if usable and link[1]:
                link[1] -= 1
            busy, f.busy = f.busy > 0, max(0, f.busy - 1)
            past, f.unsatisfiable = f.unsatisfiable > 0, max(0, f.unsatisfiable - 1)
            stall, f.stall = f.stall > 0, max(0, f.stall - 1)
        if not usable:
            return self.send(h, 403, b"<Error>Request has expired</Error>")
        if busy:
            return self.send(h, 429, Retry_After="1")
        if past and h.headers.get("Range"):
            return self.send(h, 416, Content_Range="bytes */%d" % len(link[0]))
        data = link[0]
        if f.wrong:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_file(h, data, stall=stall, ETag='"some-store-tag"')

    def send_file(self, h, data, stall=False, **headers):
        f, asked = self.faults, h.headers.get("Range")
        status, body = 200, data
        if asked and not f.no_ranges:
            first, last = asked.partition("=")[2].split("-")
            first, last = int(first), min(int(last or len(data)), len(data) - 1)
            if first >= len(data):
                return self.send(h, 416, Content_Range="bytes */%d" % len(data))
            status, body = 206, data[first:last + 1]
            headers["Content_Range"] = "bytes %d-%d/%d" % (first, last, len(data))
        h.send_response(status)
        for name, value in headers.items():
            h.send_header(name.replace("_", "-"), value)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        if h.command == "HEAD":
            return
        at_store = h.server is self.store
        cut = min(len(body), f.cut_after if at_store and f.cut_after is not None else len(body))
        if stall:
            cut = len(body) // 2
        step = max(1, f.bytes_per_s // 20) if at_store and f.bytes_per_s else 1 << 16
        for at in range(0, cut, step):
            h.wfile.write(body[at:min(at + step, cut)])
            if at_store and f.bytes_per_s:
                time.sleep(0.05)
        if stall:
            time.sleep(30)
        if cut < len(body):
            h.close_connection = True
            h.connection.shutdown(socket.SHUT_RDWR)
