#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs two programs in turn, A B A B …, and prints how many times faster B is.

    tools/bench_pairs.py [-r 7] [--key decode_tps] -- A … -- B …

A and B are commands that print one JSON object, such as `build/rotor bench m.gguf --json`. Each
pair gives one ratio; the median and the range of the ratios are printed for every key that both
have (default: the speeds and shares of rotor bench). A ratio is told apart from 1 only if the whole
range lies on one side.
"""
import argparse
import json
import statistics
import subprocess
import sys

KEYS = ["prompt_tps", "prompt_share", "decode_tps", "read_share", "sessions_tps", "sessions_share", "load_ms", "first_ms",
        "peak_rss_bytes"]


def split(words):
    """[options] -- A … -- B …"""
    at = [i for i, word in enumerate(words) if word == "--"]
    if len(at) != 2 or at[1] - at[0] < 2 or at[1] == len(words) - 1:
        sys.exit("expected: [options] -- A … -- B …")
    return words[:at[0]], words[at[0] + 1:at[1]], words[at[1] + 1:]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit("%s: exit %d\n%s" % (" ".join(command), done.returncode, done.stderr[-2000:]))
    return json.loads(done.stdout)


def summary(key, a, b):
    """One line about the samples of a key in A and B, or None where there is nothing to divide."""
    if not all(isinstance(x, (int, float)) and x > 0 for x in a + b):
        return None
    ratios = [y / x for x, y in zip(a, b)]
    low, high = min(ratios), max(ratios)
    return "%-16s A %-12.6g B %-12.6g B/A %.3f (%.3f to %.3f)%s" % (
        key, statistics.median(a), statistics.median(b), statistics.median(ratios), low, high,
        "" if low > 1 or high < 1 else "  not apart")


def main():
    options, a, b = split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-r", type=int, default=7, metavar="N", help="pairs")
    parser.add_argument("--key", action="append", help="what to compare; may be repeated")
    args = parser.parse_args(options)
    results = [(run(a), run(b)) for _ in range(args.r)]
    for key in args.key or KEYS:
        values = [[r[side].get(key) for r in results] for side in (0, 1)]
        line = summary(key, *values)
        if line:
            print(line)
    unstable = sum(not r.get("machine_stable", True) for pair in results for r in pair)
    if unstable:
        print("in %d of %d runs the machine was unstable" % (unstable, 2 * len(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
