# SPDX-License-Identifier: MIT
"""A wire between a program and a server that can be told to pass nothing on: both ends stay open, and neither hears of it."""
import socket
import threading


class Wire:
    """Listens at a free port of this machine and carries bytes to a server at `target` (host and port, or a socket's path)."""

    def __init__(self, target):
        self.target, self.flows, self.open = target, threading.Event(), True
        self.flows.set()
        self.stop_at = None  # bytes of the program at which nothing is passed on any more, these neither
        self.held = 0  # pieces that were not passed on
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
                    self.silence()
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


class Talker:
    """Speaks as a server does until the program has sent its `quiet`th message, and then says names and values without end."""

    def __init__(self, quiet):
        self.quiet, self.said, self.open = quiet, 0, True
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    @staticmethod
    def message(kind, body):
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    def parameter(self, name, value):
        return self.message(b"S", b"%s\0%s\0" % (name, value))

    def accept(self):
        try:
            near = self.door.accept()[0]
            near.recv(65536)
            if self.quiet:
                near.sendall(self.message(b"R", bytes(4)) + self.parameter(b"server_version", b"15.0") +
                             self.parameter(b"server_encoding", b"UTF8") + self.message(b"Z", b"I"))
                near.recv(65536)
            else:
                near.sendall(self.message(b"R", bytes(4)))
            while self.open:
                near.sendall(self.parameter(b"weather", b"fair"))
                self.said += 1
        except OSError:
            pass

    def close(self):
        self.open = False
        self.door.close()
