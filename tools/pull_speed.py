#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How fast `rotor pull` takes a file from a server on this machine, with one processor for itself.

    tools/pull_speed.py [--mib 1024] [-r 3]

The server of the tests (tests/program/hub_server.py) has the other processors. The file's SHA-256 is
computed by the program meanwhile, as always. A gigabit line brings at most 118 MB/s.
"""
import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROTOR = os.environ.get("ROTOR_BINARY", os.path.join(ROOT, "build", "rotor"))
sys.path.insert(0, os.path.join(ROOT, "tests", "program"))
from hub_server import Hub  # noqa: E402


def pull(url, home, first):
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("HF_")}, "HF_ENDPOINT": url, "HF_HOME": home, "HOME": home,
           "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([ROTOR, "pull", "org/big", "--no-progress"], env=env, capture_output=True, text=True,
                          preexec_fn=lambda: os.sched_setaffinity(0, {first}))
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr[-1000:])
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description="Times rotor pull from a server on this machine.")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    args = parser.parse_args()
    data = random.Random(1).randbytes(1 << 20) * args.mib
    processors = sorted(os.sched_getaffinity(0))
    speeds = []
    with Hub({"org/big": {"big.gguf": data}}) as hub:
        os.sched_setaffinity(0, set(processors[1:]) or set(processors))
        for _ in range(args.repetitions):
            home = tempfile.mkdtemp()
            wall, cpu = pull(hub.url, home, processors[0])
            shutil.rmtree(home)
            speeds.append(len(data) / wall / 1e6)
            print("%.0f MB/s, %.2f s of processor time for %.2f s" % (speeds[-1], cpu, wall), flush=True)
    print("median %.0f MB/s" % statistics.median(speeds))


if __name__ == "__main__":
    main()
