#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds the packages twice, as differently as one machine allows, and compares their hashes.

    tools/reproducible.py [--jobs N]

Two copies of the tree lie in folders of other names and depths; time zone, language, umask, number of
jobs and the order in which a folder lists its files differ; no compiler cache is used. Equal hashes
then say: who builds this commit with these tools gets these bytes. Takes two builds without the tests.
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
WAYS = (("a", {"TZ": "UTC", "LC_ALL": "C"}, 0o022), ("some where/far below", {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "USER": "other"}, 0o077))


def tracked():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in out.splitlines() if (ROOT / name).is_file()]


def copy(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def build(folder, settings, mask, jobs):
    """Hashes of what is packed, by name."""
    when = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    env = {**os.environ, **settings, "SOURCE_DATE_EPOCH": when, "CCACHE_DISABLE": "1"}
    for command in (["meson", "setup", "build", "-Dtests=disabled"], ["ninja", "-C", "build", "-j%d" % jobs], [sys.executable, "packaging/make_packages.py", "all"]):
        done = subprocess.run(command, cwd=folder, env=env, umask=mask, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit("%s: exit %d\n%s" % (" ".join(command), done.returncode, done.stdout[-3000:]))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((folder / "build" / "packages").iterdir()) if path.name.startswith("rotor")}


def main():
    parser = argparse.ArgumentParser(description="Builds the packages twice and compares them.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    args = parser.parse_args()
    names, found = tracked(), []
    with tempfile.TemporaryDirectory() as temporary:
        for turn, (name, settings, mask) in enumerate(WAYS):
            folder = pathlib.Path(temporary) / name
            copy(folder, names if turn == 0 else reversed(names))
            found.append(build(folder, settings, mask, max(1, args.jobs - turn)))
            print("build %d: %s" % (turn + 1, ", ".join("%s %s…" % (k, v[:16]) for k, v in found[-1].items())), flush=True)
    if found[0] and found[0] == found[1]:
        print("the same bytes")
        return 0
    print("they differ: %s" % ", ".join(sorted(k for k in {*found[0], *found[1]} if found[0].get(k) != found[1].get(k))))
    return 1


if __name__ == "__main__":
    sys.exit(main())
