#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From a bare Debian 12 to the first story: are the README's two commands enough, and how long do they take?

    tools/fresh_root.py [FOLDER]         default: a temporary folder, removed at the end

A minimal Debian is made in a folder outside this one by debootstrap (not timed), from the place that
this system's own package manager uses. The last commit is cloned into it, and there `tools/bootstrap core`
and `make demo` are run in a root of their own, with no compiler cache. For each it prints the seconds on
the clock, those of processors, and what was fetched. Needs root, debootstrap and git, some 1 GB in FOLDER and
the network. A FOLDER that is named stays, to look into it.
"""
import argparse
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUITE = "bookworm"
STEPS = ("tools/bootstrap core", "make demo")


def run(*command, **more):
    """Output of a command that must succeed; what it said when it does not."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode:
        sys.exit("fresh_root: %s: exit %d\n%s" % (" ".join(map(str, command)), done.returncode, done.stdout[-3000:]))
    return done.stdout


def mirror():
    """Where this system has its packages from. Empty: debootstrap knows a place."""
    said = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Identifier: Packages") if shutil.which("apt-get") else ""
    return [line.split()[0] for line in said.splitlines() if line.split()[1:] == [SUITE]][:1]


def make_root(root):
    run("debootstrap", "--variant=minbase", SUITE, root, *mirror())
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    # Root clones here, whose the tree seldom is; git asks before it reads another user's.
    run("env", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
        "git", "clone", "--quiet", "--no-hardlinks", ROOT, root / "rotor")


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def step(root, words):
    """One command of the README with root as its whole system, and nothing of this one's settings."""
    before, begin = processor_seconds(), time.monotonic()
    said = run("unshare", "--mount", "--pid", "--fork", "--mount-proc=%s" % (root / "proc"), "env", "-i", "HOME=/root", "LANG=C.UTF-8",
               "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "chroot", root, "sh", "-c", "cd /rotor && exec " + words)
    fetched = re.findall(r"^Fetched ([\d.,]+ \wB)", said, re.M)
    print("%-22s %6.1f s %6.1f s of processors   %s" % (words, time.monotonic() - begin, processor_seconds() - before,
                                                      "fetched " + " + ".join(fetched) if fetched else ""), flush=True)
    return time.monotonic() - begin, said


def measure(folder):
    make_root(folder / "root")
    total = 0.0
    for words in STEPS:
        seconds, said = step(folder / "root", words)
        total += seconds
    print("%-22s %6.1f s on %d processors, load %.1f" % ("both", total, os.cpu_count(), os.getloadavg()[0]))
    print("the story: " + next((line for line in said.splitlines()[::-1] if len(line) > 100), "none was told"))


def main():
    parser = argparse.ArgumentParser(description="Builds in a bare Debian 12 and says how long that takes.")
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    folder = parser.parse_args().folder
    if os.geteuid():
        sys.exit("fresh_root: this needs root: a folder becomes the root of what runs in it")
    for tool in ("debootstrap", "git", "unshare", "chroot"):
        if not shutil.which(tool):
            sys.exit("fresh_root: there is no %s" % tool)
    if folder:
        folder.mkdir(parents=True)
        measure(folder.resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            measure(pathlib.Path(temporary))


if __name__ == "__main__":
    main()
