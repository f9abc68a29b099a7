#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fails when the sources break the rules of the house: who may include whom, and what stays where.

    tools/check_layers.py [FOLDER]     FOLDER is a source tree (default: the one this file is in)

Each finding is one line, "file:line: what is wrong". Exit status 1 when there is any. The tests of
this check are in tests/tools/test_check_layers.py: each rule is broken there once.
"""
import os
import re
import sys

# A room may include its own files, and room/room.h of the rooms named here. PUBLIC stands for
# include/*.h; every room may include rotor_status.h.
PUBLIC = "include"
ROOMS = {
    "base": "",
    "cpu": "base",
    "par": "base",
    "quant": "base",
    "text": "base",
    "file": "base quant",
    "kern": "base cpu quant",
    "chat": "base text",
    "grammar": "base text",
    "model": "base file quant text",
    "dev": "base par cpu quant kern",
    "run": "base par model dev text quant",
    "gen": "base run dev text chat grammar",
    "rag": "base par kern text",
    "train": "base par file quant kern model text run",
    "api": "base cpu par model run gen grammar rag train text chat dev file quant " + PUBLIC,
    "lite": "base cpu par file model dev run gen text",
    "tool": "base cpu par file quant kern model dev run gen text",
    "serve": "base " + PUBLIC,
    "hub": "base",
    "extract": "base",
    "cli": "tool serve hub base " + PUBLIC,
}
# Second headers of a room, for what few others need: a change of the first compiles everything again.
SECOND_HEADERS = {"src/base/service.h", "src/base/part.h", "src/base/start.h"}
# Rooms that are programs: they may print, exit, read the environment and use fopen.
PROGRAMS = {"cli", "extract", "lite"}

# Where a header or a word may stand. The first matching rule of a file is not special: all count.
ISA_HEADERS = re.compile(r"^(\w*intrin|arm_neon|arm_sve|arm_acle|cpuid)\.h$")
ISA_MACROS = re.compile(r"\b__(AVX\w*|SSE\w*|FMA|F16C|BMI2?|ARM_NEON|ARM_FEATURE_\w+)__\b|\b__ARM_FEATURE_\w+")
OS_HEADERS = re.compile(r"^(pthread|unistd|fcntl|dirent|dlfcn|poll|sched|signal|spawn|termios|windows"
                        r"|threads|semaphore|sys/\w+)\.h$")
PROGRAM_OS_HEADERS = {"signal.h", "unistd.h", "termios.h", "sys/ioctl.h", "windows.h"}
PRINTS = re.compile(r"(?<![\w.>])(printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|putc|fputc|perror"
                    r"|exit|_Exit|_exit|abort|getenv|setenv|putenv|signal|system)\s*\(")
HEAP = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup|aligned_alloc)\s*\(")
OS_CALLS = re.compile(r"(?<![\w.>])(open|fopen|mmap|munmap|fork|execv\w*|popen|dlopen|pthread_\w+)\s*\(")
GLOBAL_FLAGS = re.compile(r"-march=native|-mtune=native|-ffast-math|-Ofast|-funsafe-math")

FILE_LINES_MAX = 1000
FUNCTION_LINES_MAX = 120
# (file, rule) pairs that are allowed, each with its reason.
ALLOWED = {
    ("src/base/mem.c", "heap"): "base_alloc and base_free end here",
}
# Functions above the limit: flat switches and unrolled kernels only.
LONG_FUNCTIONS = set()


def strip_comments(text):
    """The text with comments and strings blanked out; lines stay where they are."""
    def blank(match):
        token = match.group(0)
        if token.startswith('"'):
            return '""' if len(token) < 2 else '"' + " " * (len(token) - 2) + '"'
        return re.sub(r"[^\n]", " ", token)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


class Checker:
    def __init__(self, root):
        self.root = root
        self.findings = []

    def report(self, path, line, rule, message):
        if (path, rule) not in ALLOWED:
            self.findings.append("%s:%d: %s" % (path, line, message))

    def files(self, *folders, endings=(".c", ".h")):
        for folder in folders:
            for where, folders_in, names in os.walk(os.path.join(self.root, folder)):
                folders_in.sort()
                for name in sorted(names):
                    if name.endswith(endings):
                        yield os.path.relpath(os.path.join(where, name), self.root)

    def read(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as f:
            return f.read()

    # ---- Includes ----

    def resolve(self, path, name):
        """The file that #include "name" in path means, or None."""
        for folder in (os.path.dirname(path), "src", "include"):
            found = os.path.normpath(os.path.join(folder, name))
            if os.path.isfile(os.path.join(self.root, found)):
                return found
        return None

    def check_quoted(self, path, line, name):
        target = self.resolve(path, name)
        if target is None:
            self.report(path, line, "include", "cannot find \"%s\"" % name)
            return
        if target == "include/rotor_status.h":
            return
        if path.startswith("include/"):
            if not target.startswith("include/"):
                self.report(path, line, "include", "a public header includes \"%s\", which is not "
                            "public" % name)
            return
        room = path.split("/")[1]
        may = ROOMS[room].split()
        if target.startswith("include/"):
            if PUBLIC not in may:
                self.report(path, line, "include", "room %s may not include public headers "
                            "(\"%s\")" % (room, name))
            return
        other = target.split("/")[1]
        if other == room:
            return
        if other not in may:
            self.report(path, line, "include", "room %s may not include room %s; it may include: %s"
                        % (room, other, " ".join(may) or "libc"))
        elif target != "src/%s/%s.h" % (other, other) and target not in SECOND_HEADERS:
            self.report(path, line, "include", "\"%s\" is private to room %s; include \"%s/%s.h\""
                        % (name, other, other, other))

    def check_system(self, path, line, name):
        room = path.split("/")[1] if path.startswith("src/") else ""
        if ISA_HEADERS.match(name) and not self.is_isa_file(path):
            self.report(path, line, "isa", "<%s> belongs in kern/<arch>/" % name)
        if OS_HEADERS.match(name) and not self.is_os_file(path):
            if room in PROGRAMS and name in PROGRAM_OS_HEADERS:
                return
            if self.is_isa_file(path) and name == "sys/auxv.h":
                return
            self.report(path, line, "os", "<%s> belongs in base/os_*.c" % name)

    @staticmethod
    def is_isa_file(path):
        parts = path.split("/")
        # base hashes, below the rooms that know processors; its one such file asks and uses them itself.
        return parts[1] == "cpu" or path == "src/base/sha256_cpu.c" or (parts[1] == "kern" and len(parts) > 3 and parts[2] != "c")

    @staticmethod
    def is_os_file(path):
        return re.match(r"src/base/os_\w+\.[ch]$", path) is not None

    # ---- Words and sizes ----

    def check_words(self, path, lines):
        room = path.split("/")[1]
        for number, line in enumerate(lines, 1):
            if line.lstrip().startswith("#include"):
                continue
            found = ISA_MACROS.search(line)
            if found and not self.is_isa_file(path):
                self.report(path, number, "isa", "%s belongs in kern/<arch>/" % found.group(0))
            found = HEAP.search(line)
            if found and not self.is_os_file(path):
                self.report(path, number, "heap", "%s(): memory comes from base_alloc"
                            % found.group(1))
            found = OS_CALLS.search(line)
            if found and not self.is_os_file(path) and not (
                    room in PROGRAMS and found.group(1) == "fopen"):
                self.report(path, number, "os", "%s() belongs in base/os_*.c" % found.group(1))
            found = PRINTS.search(line)
            if found and room not in PROGRAMS:
                self.report(path, number, "library", "%s(): a library does not print, exit or read "
                            "the environment" % found.group(1))

    def check_sizes(self, path, lines):
        if re.search(r"tables\.[ch]$", path):
            return
        if len(lines) > FILE_LINES_MAX:
            self.report(path, FILE_LINES_MAX, "size", "%d lines; the limit is %d"
                        % (len(lines), FILE_LINES_MAX))
        start, name = None, None
        for number, line in enumerate(lines, 1):
            if line.startswith("}") and start is not None:
                if number - start + 1 > FUNCTION_LINES_MAX and name not in LONG_FUNCTIONS:
                    self.report(path, start, "size", "%s has %d lines; the limit is %d"
                                % (name, number - start + 1, FUNCTION_LINES_MAX))
                start = None
            elif line.rstrip().endswith("{") and start is None:
                head = re.match(r"^[A-Za-z_].*?(\w+)\(", line)
                if head:
                    start, name = number, head.group(1)
                elif number > 1 and re.match(r"^\s+.*\)\s*\{$", line):
                    # The parameters went on over several lines: the head is the line at column 0.
                    back = number - 1
                    while back > 0 and re.match(r"^\s", lines[back - 1]):
                        back -= 1
                    head = re.match(r"^[A-Za-z_].*?(\w+)\([^;{]*$", lines[back - 1])
                    if head and back > 0:
                        start, name = back, head.group(1)

    def check_spdx(self, path, text):
        if "SPDX-License-Identifier: MIT" not in text.split("\n", 1)[0]:
            self.report(path, 1, "spdx", "the first line is not the SPDX line")

    # ---- All of it ----

    def check_source(self, path):
        text = self.read(path)
        lines = strip_comments(text).splitlines()
        self.check_spdx(path, text)
        self.check_sizes(path, lines)
        if path.startswith("src/") and path.split("/")[1] not in ROOMS:
            self.report(path, 1, "include", "there is no room %s" % path.split("/")[1])
            return
        for number, line in enumerate(text.splitlines(), 1):
            quoted = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            system = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            if quoted:
                self.check_quoted(path, number, quoted.group(1))
            if system and path.startswith("src/"):
                self.check_system(path, number, system.group(1))
        if path.startswith("src/"):
            self.check_words(path, lines)

    def check_names(self):
        seen = {}
        for path in self.files("src", "include", "tests", "examples", "tools"):
            name = os.path.basename(path)
            if name in seen:
                self.report(path, 1, "name", "the name %s is taken by %s" % (name, seen[name]))
            seen.setdefault(name, path)
            if not re.match(r"^[a-z0-9_]+\.[ch]$", name):
                self.report(path, 1, "name", "file names are snake_case")

    def check_flags(self):
        paths = [p for p in self.files("src", "tests", endings=("meson.build",))]
        for path in paths + ["meson.build", "Makefile"]:
            if not os.path.isfile(os.path.join(self.root, path)):
                continue
            for number, line in enumerate(self.read(path).splitlines(), 1):
                found = GLOBAL_FLAGS.search(line.split("#", 1)[0])
                if found:
                    self.report(path, number, "flags", "%s: one binary runs everywhere, with the "
                                "same results" % found.group(0))

    def check(self):
        for path in self.files("src", "include"):
            self.check_source(path)
        for path in self.files("tests", "tools", "examples"):
            text = self.read(path)
            self.check_spdx(path, text)
            self.check_sizes(path, strip_comments(text).splitlines())
        self.check_names()
        self.check_flags()
        return self.findings


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..")
    findings = Checker(os.path.normpath(root)).check()
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
