#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the shared library's binary interface against the recorded one, packaging/librotor.abi.

    tools/abi.py check [--build build]     exit 1 and a report when it differs
    tools/abi.py record [--build build]    after a change that was wanted

A program that was linked with an older librotor.so.0 keeps working as long as nothing differs but
functions that are new. Whatever differs is recorded in the same commit as the change, so that it is
seen; what breaks such programs also needs another number behind .so once 1.0 is out. Needs abidw and abidiff (abigail-tools)
and a build with debugging information.
"""
import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORD = os.path.join(ROOT, "packaging", "librotor.abi")
HEADERS = os.path.join(ROOT, "include")
BREAKS = 8  # bit of abidiff's exit status: incompatible, as opposed to changed


def library(build):
    found = [path for path in glob.glob(os.path.join(build, "librotor.so.*.*.*")) if os.path.isfile(path)]
    if len(found) != 1:
        sys.exit("%s: no librotor.so there; run ninja -C %s" % (build, build))
    return found[0]


def record(build, path=RECORD):
    done = subprocess.run(["abidw", "--headers-dir", HEADERS, "--drop-private-types", "--exported-interfaces-only", "--no-corpus-path",
                           "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed", "--no-architecture", "--out-file", path, library(build)])
    return done.returncode


def check(build):
    """Two records are compared, and what abidiff calls harmless counts: a member that became another one is of that kind to it."""
    with tempfile.TemporaryDirectory() as folder:
        now = os.path.join(folder, "now.abi")
        if record(build, now):
            return 1
        done = subprocess.run(["abidiff", "--harmless", RECORD, now], capture_output=True, text=True)
    print(done.stdout + done.stderr, end="")
    if done.returncode:
        print("the binary interface differs%s; if that is wanted: tools/abi.py record, and a line in the changelog"
              % (" and breaks programs" if done.returncode & BREAKS else ""))
    return 1 if done.returncode else 0


def main():
    parser = argparse.ArgumentParser(description="The shared library's binary interface, held against the recorded one.")
    parser.add_argument("what", choices=["check", "record"])
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    args = parser.parse_args()
    if not shutil.which("abidiff"):
        sys.exit("there is no abidiff; it is in abigail-tools")
    return check(args.build) if args.what == "check" else record(args.build)


if __name__ == "__main__":
    sys.exit(main())
