#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fails when a document points at something that is not there.

    tools/check_docs.py [FOLDER]

Checks: relative links in *.md; `make TARGET` in *.md names a target of the Makefile; every file
below tests/data and assets has a line in the LICENSES.md of that folder, naming it or a folder
above it (`*` stands for any part of a name); the tracked tree stays under 30 MB; commands, options,
routes and settings of the documentation, and the places of its pages (doc_facts.py). Each finding is one line; exit status 1 when any.
"""
import fnmatch
import os
import re
import subprocess
import sys

import doc_facts

TREE_LIMIT_BYTES = 30_000_000


def tracked(root):
    """Files of the tree: what git tracks or would, or everything where there is no git."""
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root,
                         capture_output=True, text=True)
    if out.returncode == 0:
        return sorted(p for p in out.stdout.splitlines() if os.path.isfile(os.path.join(root, p)))
    return sorted(os.path.relpath(os.path.join(where, name), root)
                  for where, _, names in os.walk(root) for name in names)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def check_links(root, path, text):
    for number, line in enumerate(text.splitlines(), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:|#", target):
                continue
            file = os.path.join(os.path.dirname(path), target.split("#", 1)[0])
            if not os.path.exists(os.path.join(root, file)):
                yield "%s:%d: there is no %s" % (path, number, target)


def check_make_targets(path, text, targets):
    for number, line in enumerate(text.splitlines(), 1):
        for name in re.findall(r"(?:`|^\s*(?:\$ )?)make ([a-z][a-z-]*)\b(?!=)", line):
            if name not in targets:
                yield "%s:%d: the Makefile has no target %s" % (path, number, name)


def check_licences(root, files):
    for folder in ("tests/data", "assets"):
        listing = folder + "/LICENSES.md"
        inside = [p for p in files if p.startswith(folder + "/") and p != listing]
        if not inside:
            continue
        named = set(re.findall(r"`([^`]+)`", read(root, listing))) if listing in files else set()
        for path in inside:
            parts = path[len(folder) + 1:].split("/")
            above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
            if not any(fnmatch.fnmatchcase(name, entry.rstrip("/"))
                       for name in above for entry in named):
                yield "%s:1: no line for it in %s" % (path, listing)


def check(root, files):
    tables = doc_facts.Tables(root) if "src/cli/options_table.c" in files else None
    targets = set()
    if "Makefile" in files:
        targets = set(re.findall(r"^([a-z][a-z-]*):", read(root, "Makefile"), re.M))
    for path in files:
        if path.endswith(".md"):
            text = read(root, path)
            yield from check_links(root, path, text)
            yield from check_make_targets(path, text, targets)
            if doc_facts.is_page(path):
                yield from doc_facts.check_page(path, text, tables)
    yield from check_licences(root, files)
    if doc_facts.ORDER in files:
        yield from doc_facts.check_order(root, files)
    size = sum(os.path.getsize(os.path.join(root, path)) for path in files)
    if size > TREE_LIMIT_BYTES:
        yield "%s:1: the tree holds %d bytes; the limit is %d" % (files[0], size, TREE_LIMIT_BYTES)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..")
    root = os.path.normpath(root)
    files = tracked(root)
    findings = list(check(root, files))
    for finding in findings:
        print(finding)
    commands, left_out = doc_facts.count(read(root, path) for path in files if doc_facts.is_page(path))
    if commands and not findings:
        print("%d commands in the documentation, %d of them marked as not run here" % (commands, left_out))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
