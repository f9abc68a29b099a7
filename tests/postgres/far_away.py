# SPDX-License-Identifier: MIT
"""A wire between a program and a server that can be told to pass nothing on: both ends stay open, and neither hears of it."""
import socket
import threading

HELLO = b"R\0\0\0\x08\0\0\0\0"  # come in, without a password
WEATHER = b"S\0\0\0\x11weather\0fair\0"  # a setting of the server, as it may say at any time


class Wire:
    """Listens at a free port of this machine and carries bytes to a server at `target` (host and port, or a socket's path)."""

    def __init__(self, target):
        self.target, self.flows, self.open = target, threading.Event(), True
        self.flows.set()
        self.stop_at = None  # bytes of the program at which nothing is passed on any more, these neither
        self.held = 0  # pieces that were not passed on
        self.talks, self.said = False, 0  # at stop_at the program hears without end, so often so far, how the weather is
        self.greets = False  # before that, that it is let in
        self.sockets = []
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def connect(self):
        kind = socket.AF_UNIX if isinstance(self.target, str) else socket.AF_INET
        far = socket.socket(kind)
        far.connect(self.target)
        return far

    def accept(self):
        while self.open:
            try:
                near = self.door.accept()[0]
                far = self.connect()
            except OSError:
                return
            self.sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one, other):
        try:
            while True:
                piece = one.recv(65536)
                if self.stop_at and self.stop_at in piece:
                    self.talk_to(one) if self.talks else self.silence()
                self.held += not self.flows.is_set()
                self.flows.wait()
                if not piece or not self.open:
                    break
                other.sendall(piece)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def talk_to(self, program):
        if not self.said and self.greets:
            program.sendall(HELLO)
        while self.open:
            program.sendall(WEATHER)
            self.said += 1

    def silence(self):
        self.stop_at, self.held = None, 0
        self.flows.clear()

    def speak(self):
        self.flows.set()

    def close(self):
        self.open = False
        self.speak()
        self.door.close()
        for end in self.sockets:
            end.close()
