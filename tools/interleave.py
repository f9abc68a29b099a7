#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares commands on a machine whose speed drifts: runs them in turn, A B A B ..., N times.

    tools/interleave.py [-n N] --run NAME COMMAND NUMBER --run NAME COMMAND NUMBER ...
                        [--floor COMMAND NUMBER] [--warm-up N] [--timeout SECONDS] [--json]

NUMBER says which number of the command's output counts:
    re:PATTERN   the group of the last match in what it prints (both streams)
    json:PATH    a value of the JSON it prints on standard output: keys and list indices with dots
                 between, as json:runs.0.decode_tps
    seconds      the time it took, by the clock on the wall
Printed for each command: median and range; for each but the first: the ratio of the first one's
median to its own, and the range of the ratios of neighbouring runs (round by round). With a floor
(a command that measures the machine, run before every command and once more at the end): the
median and range of each value over the mean of the floors just before and after it.

COMMAND is split as a shell would split it but is not given to a shell. Exit status: 0, or 1 when a
command fails or does not print its number, 2 for a mistake on the command line.
"""
import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys
import time


class Failure(Exception):
    pass


def parse_number(text):
    """What finds a number: a function of (standard output, standard error, seconds)."""
    kind, _, rest = text.partition(":")
    if text == "seconds":
        return lambda out, err, seconds: seconds
    if kind == "re":
        pattern = re.compile(rest, re.MULTILINE)
        if pattern.groups != 1:
            raise ValueError("'%s' needs exactly one group" % rest)
        return lambda out, err, seconds: float(pattern.findall(out + "\n" + err)[-1])
    if kind == "json" and rest:
        def find(out, err, seconds):
            value = json.loads(out)
            for key in rest.split("."):
                value = value[int(key) if isinstance(value, list) else key]
            return float(value)
        return find
    raise ValueError("'%s' is not re:PATTERN, json:PATH or seconds" % text)


class Side:
    """A command, and the numbers it has printed so far."""

    def __init__(self, name, command, number):
        self.name, self.argv, self.number = name, shlex.split(command), number
        self.find = parse_number(number)
        self.values = []
        if not self.argv:
            raise ValueError("'%s' has an empty command" % name)

    def measure(self, timeout):
        start = time.monotonic()
        try:
            done = subprocess.run(self.argv, capture_output=True, text=True, timeout=timeout)
        except OSError as e:
            raise Failure("%s: %s" % (self.name, e)) from None
        except subprocess.TimeoutExpired:
            raise Failure("%s: not done after %g s" % (self.name, timeout)) from None
        seconds = time.monotonic() - start
        if done.returncode:
            raise Failure("%s: exit status %d\n%s" % (self.name, done.returncode, tail(done)))
        try:
            return self.find(done.stdout, done.stderr, seconds)
        except (ValueError, LookupError, TypeError):
            raise Failure("%s: no %s in\n%s" % (self.name, self.number, tail(done))) from None


def tail(done):
    return "\n".join((done.stdout + "\n" + done.stderr).strip().splitlines()[-8:])


def measure_all(sides, floor, args):
    """One round is every command once; the rounds that warm up are forgotten."""
    for i in range(args.warm_up + args.n):
        for side in sides:
            before = floor.measure(args.timeout) if floor else None
            value = side.measure(args.timeout)
            if i < args.warm_up:
                continue
            side.values.append(value)
            if floor:
                floor.values.append(before)
        print("round %d of %d" % (i + 1, args.warm_up + args.n), file=sys.stderr)
    if floor:
        floor.values.append(floor.measure(args.timeout))


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def divide(a, b):
    return a / b if b else float("inf")


def report(sides, floor):
    first = sides[0]
    rows = []
    for at, side in enumerate(sides):
        row = {"name": side.name, "values": side.values, **spread(side.values)}
        if at:
            pairs = spread([divide(a, b) for a, b in zip(first.values, side.values)])
            row["ratio"] = {"of_medians": divide(statistics.median(first.values), row["median"]),
                            "of_pairs": pairs}
        if floor:
            near = floor.values
            row["share"] = spread([divide(v, (near[k] + near[k + 1]) / 2) for k, v in
                                   zip(range(at, len(near), len(sides)), side.values)])
        rows.append(row)
    result = {"rounds": len(first.values), "runs": rows}
    if floor:
        result["floor"] = {"values": floor.values, **spread(floor.values)}
    return result


def show(result):
    width = max(len(row["name"]) for row in result["runs"])
    line = "%%-%ds  median %%10.4g  (%%.4g - %%.4g)" % max(width, 5)
    for row in result["runs"]:
        text = line % (row["name"], row["median"], row["min"], row["max"])
        if "share" in row:
            text += "  of the floor %(median).3f (%(min).3f - %(max).3f)" % row["share"]
        print(text)
    if "floor" in result:
        f = result["floor"]
        print(line % ("floor", f["median"], f["min"], f["max"]))
    for row in result["runs"][1:]:
        pairs = row["ratio"]["of_pairs"]
        print("%s / %s: ratio of medians %.3f, pairs %.3f - %.3f (median %.3f)"
              % (result["runs"][0]["name"], row["name"], row["ratio"]["of_medians"],
                 pairs["min"], pairs["max"], pairs["median"]))


def main():
    p = argparse.ArgumentParser(description="runs commands in turn and compares a number of each",
                                epilog="NUMBER: re:PATTERN, json:PATH or seconds")
    p.add_argument("-n", type=int, default=7, help="rounds (default: 7)")
    p.add_argument("--run", nargs=3, action="append", default=[],
                   metavar=("NAME", "COMMAND", "NUMBER"), help="a side; the first is compared")
    p.add_argument("--floor", nargs=2, metavar=("COMMAND", "NUMBER"), help="run between")
    p.add_argument("--warm-up", type=int, default=0, help="rounds that do not count (default: 0)")
    p.add_argument("--timeout", type=float, default=600, help="seconds a command may take")
    p.add_argument("--json", action="store_true", help="print one JSON object with every value")
    args = p.parse_args()
    if args.n < 1 or args.warm_up < 0:
        p.error("at least one round")
    if len(args.run) < 2:
        p.error("at least two --run")
    try:
        sides = [Side(*run) for run in args.run]
        floor = Side("floor", *args.floor) if args.floor else None
    except (ValueError, re.error) as e:
        p.error(str(e))
    try:
        measure_all(sides, floor, args)
    except Failure as e:
        print("interleave: %s" % e, file=sys.stderr)
        return 1
    result = report(sides, floor)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
