# SPDX-License-Identifier: MIT
"""A headless Chromium, driven through its DevTools protocol over a WebSocket of our own.

    with Chromium() as browser:
        tab = browser.tab(800, 600)
        tab.go("http://127.0.0.1:8080/")
        tab.wait("document.querySelector('#prompt')")
        tab.type("hello")
        tab.press("Enter")

tab.js(expression) gives the value of an expression, awaited; tab.wait() polls one until it is true.
A page's console errors and its uncaught exceptions are kept in tab.errors: pages must have none.
"""
import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
         "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--disable-default-apps", "--no-proxy-server",
         "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",  # a mouse
         "--remote-debugging-port=0", "--lang=en-US"]
START_S, STEP_S = 120, 60
# What vanishes by itself after some seconds stays for minutes: the machine may stall at any moment.
PATIENCE = "(() => { const later = setTimeout; window.setTimeout = (run, ms, ...rest) => later(run, ms > 4000 ? 300000 : ms, ...rest); })()"
KEYS = {"Enter": ("\r", 13), "Escape": ("", 27), "ArrowUp": ("", 38), "Tab": ("", 9)}
CTRL, SHIFT = 2, 8

# The middle of an element that has not moved for two frames and that nothing covers; null: not yet.
CENTRE = """(async () => {
    const middle = () => { const r = document.querySelector(selector)?.getBoundingClientRect(); return r?.width ? [r.x + r.width / 2, r.y + r.height / 2] : null; };
    const frame = () => new Promise((done) => { requestAnimationFrame(done); setTimeout(done, 100); });
    const selector = %s;
    document.querySelector(selector)?.scrollIntoView({block: "nearest", behavior: "instant"});
    const before = middle();
    await frame(); await frame();
    const now = middle();
    const still = before && now && before.join() === now.join();
    return still && document.querySelector(selector).contains(document.elementFromPoint(...now)) ? now : null;
})()"""


def find():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class ProtocolError(Exception):
    """What Chromium had against a command."""


class WebSocket:
    """The client's half of RFC 6455, as far as text messages need it."""

    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=STEP_S)
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(("GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (path, port, key)).encode())
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head.split(b"\r\n")[0], head

    def more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("Chromium has gone")
        self.buffer += data

    def take(self, count):
        while len(self.buffer) < count:
            self.more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def frame(self, opcode, data):
        mask = os.urandom(4)
        size = len(data)
        head = bytes([0x80 | opcode]) + (bytes([0x80 | size]) if size < 126 else struct.pack(">BH", 0xFE, size)
                                         if size < 1 << 16 else struct.pack(">BQ", 0xFF, size))
        stream = (mask * (size // 4 + 1))[:size]
        self.socket.sendall(head + mask + (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big"))

    def send(self, text):
        self.frame(1, text.encode())

    def receive(self):
        """The next text message."""
        whole = b""
        while True:
            first, size = self.take(2)
            size = struct.unpack(">H", self.take(2))[0] if size == 126 else struct.unpack(">Q", self.take(8))[0] if size == 127 else size
            data = self.take(size)
            if first & 15 == 9:
                self.frame(10, data)
            elif first & 15 < 3:
                whole += data
                if first & 0x80:
                    return whole.decode()


class Chromium:
    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="rotor-browser-")
        self.process = subprocess.Popen([find(), *FLAGS, "--user-data-dir=" + self.folder, "about:blank"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        marker = os.path.join(self.folder, "DevToolsActivePort")
        deadline = time.monotonic() + START_S
        while not (os.path.exists(marker) and open(marker).read().count("\n")):
            assert self.process.poll() is None and time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.05)
        port, path = open(marker).read().split()
        self.socket, self.count, self.tabs = WebSocket(int(port), path), 0, {}
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method, session=None, **parameters):
        self.count += 1
        number = self.count
        message = {"id": number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        while True:
            reply = self.receive()
            if reply.get("id") == number:
                if "error" in reply:
                    raise ProtocolError("%s: %s" % (method, reply["error"]))
                return reply["result"]

    def receive(self):
        reply = json.loads(self.socket.receive())
        if "method" in reply and reply.get("sessionId") in self.tabs:
            self.tabs[reply["sessionId"]].event(reply["method"], reply["params"])
        return reply

    def tab(self, width=1280, height=800, mobile=False, beside=None):
        """A tab in a profile of its own, sharing no storage with others; `beside` another tab: in its profile."""
        context = beside.context if beside else self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.tabs[session] = tab = Tab(self, session, target, context)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(domain + ".enable")
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=PATIENCE)
        tab.size(width, height, mobile)
        return tab


class Tab:
    def __init__(self, browser, session, target, context):
        self.browser, self.session, self.target, self.context = browser, session, target, context
        self.errors, self.urls = [], []

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def event(self, method, data):
        if method == "Runtime.exceptionThrown":
            details = data["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and data["entry"]["level"] == "error" and data["entry"].get("source") != "network":
            self.errors.append(data["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.urls.append(data["request"]["url"])

    def size(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def colours(self, scheme):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def throughput(self, bytes_per_s):
        """How fast answers arrive; -1: as fast as they come."""
        self.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=bytes_per_s, uploadThroughput=-1)

    def go(self, url):
        self.js("window.before = true")
        self.call("Page.navigate", url=url)
        self.arrive()

    def reload(self):
        self.js("window.before = true")
        self.call("Page.reload")
        self.arrive()

    def arrive(self):
        """Waits for the next document; the old one may go away under a question."""
        while True:
            try:
                return self.wait("!window.before && document.readyState === 'complete'")
            except ProtocolError:
                time.sleep(0.02)

    def js(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise AssertionError("%s\nin %s" % (details.get("exception", {}).get("description") or details["text"], expression))
        return result["result"].get("value")

    def wait(self, expression, seconds=STEP_S):
        """Waits until the expression is true, and gives its value."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.js("(async (v) => (await v) instanceof Node ? true : v)(%s)" % expression)
            if value:
                return value
            assert time.monotonic() < deadline, "never came true: %s\nerrors: %s\npage: %s" % (
                expression, self.errors, self.js("document.body.innerText")[-1500:])
            time.sleep(0.03)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, modifiers=0):
        text, code = KEYS.get(key, (key, ord(key.upper()[0])))
        data = {"key": key, "code": key if key in KEYS else "Key" + key.upper(), "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", text="" if modifiers & CTRL else text, **data)
        self.call("Input.dispatchKeyEvent", type="keyUp", **data)

    def click(self, selector):
        """Clicks with the mouse in the middle of the first element of this selector, once it lies still and bare."""
        box = self.wait(CENTRE % json.dumps(selector))
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="none" if kind == "mouseMoved" else "left",
                      clickCount=0 if kind == "mouseMoved" else 1)

    def text(self, selector):
        return self.js("[...document.querySelectorAll(%s)].map((n) => n.innerText).join('\\n')" % json.dumps(selector))

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
