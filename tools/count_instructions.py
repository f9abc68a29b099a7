#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the instructions that a token costs, and compares them with the recorded numbers.

    tools/count_instructions.py [BINARY]            compare; exit status 1 when one differs by > 2 %
    tools/count_instructions.py --record [BINARY]   write the numbers of this compiler down

callgrind executes the program on a processor of its own: no other program, no clock and no memory
can move the count. It is taken inside run_eval on one thread, with --cpu avx2 (callgrind knows no
AVX-512), on tiny models made on the spot; a decoded token is the difference of two runs divided by
the tokens between them. The numbers depend on the compiler, so each compiler has its own; one that
has none yet is reported, not judged. They say nothing about speed by themselves: what they catch
is work that somebody added without noticing.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORD = os.path.join(ROOT, "tests", "instructions", "recorded.json")
TOLERANCE = 0.02
LEVEL = "avx2"
INSIDE = "run_eval_draw"
MODELS = ["bitnet-tiny", "llama-tiny"]  # ternary and Q8_0 products
PROMPT = "One prompt for every count: nothing but its length in tokens matters here, 72 or so."
DECODED = 32  # tokens
SHOWN = 0.005  # functions that do less than this share of the work are not listed


def compiler_of(binary):
    """"gcc 12.2.0": what the compiler wrote into the program."""
    text = subprocess.run(["readelf", "-p", ".comment", binary], capture_output=True, text=True,
                          check=True).stdout
    clang = re.search(r"clang version (\d[\d.]*)", text)
    gcc = re.search(r"GCC: \(.*\) (\d[\d.]*)", text)
    return "clang " + clang[1] if clang else "gcc " + gcc[1] if gcc else "unknown"


def parse_annotation(text):
    """Instructions by function, from what callgrind_annotate prints."""
    counts = {}
    for line in text.splitlines():
        row = re.match(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(?:\S+:)?([\w.']+)(?: \[.*\])?$", line)
        if row:
            counts[row[2]] = counts.get(row[2], 0) + int(row[1].replace(",", ""))
    return counts


def count(binary, model, n, folder):
    """Instructions by function of a run that decodes n tokens, and the tokens of its prompt."""
    out = os.path.join(folder, "callgrind.out")
    env = {k: v for k, v in os.environ.items() if not k.startswith("ROTOR_")}
    env["ROTOR_CONFIG"] = os.path.join(folder, "no-settings")
    open(env["ROTOR_CONFIG"], "w").close()
    run = subprocess.run(
        ["valgrind", "--tool=callgrind", "--toggle-collect=" + INSIDE,
         "--callgrind-out-file=" + out, binary, "run", model, "-p", PROMPT, "-n", str(n), "-t", "1",
         "--cpu", LEVEL, "--temp", "0", "--seed", "1", "--ignore-eos", "--json"],
        capture_output=True, text=True, env=env)
    if run.returncode:
        sys.exit("valgrind failed:\n" + run.stderr[-2000:])
    text = subprocess.run(["callgrind_annotate", "--threshold=100", out], capture_output=True,
                          text=True, check=True).stdout
    counts = parse_annotation(text)
    if not counts:
        sys.exit("nothing was counted: is %s still where every step begins?" % INSIDE)
    return counts, json.loads(run.stdout)


def measure(binary):
    """{"bitnet-tiny decode": {"instructions": per token, "functions": {name: per token}}, ...}"""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            model = os.path.join(folder, name + ".gguf")
            subprocess.run([binary, "synth", name, "-o", model], check=True, capture_output=True)
            prompt, told = count(binary, model, 1, folder)
            whole, _ = count(binary, model, 1 + DECODED, folder)
            n_prompt = told["timings"]["prompt_tokens"]
            decode = {f: whole.get(f, 0) - prompt.get(f, 0) for f in whole}
            result[name + " prompt"] = per_token(prompt, n_prompt)
            result[name + " decode"] = per_token(decode, DECODED)
    return result


def per_token(counts, n):
    return {"instructions": round(sum(counts.values()) / n),
            "functions": {f: round(c / n) for f, c in sorted(counts.items(), key=lambda x: -x[1])
                          if c > SHOWN * sum(counts.values())}}


def compare(old, new, tolerance=TOLERANCE):
    """Lines about what changed; "" in front of those within the tolerance, "CHANGED" otherwise."""
    lines, bad = [], 0
    for name in sorted(set(old) | set(new)):
        was = old.get(name, {}).get("instructions", 0)
        now = new.get(name, {}).get("instructions", 0)
        change = now / was - 1 if was else float("inf")
        changed = abs(change) > tolerance
        bad += changed
        lines.append("%-7s %-20s %9d -> %9d instructions a token (%+.2f %%)" % (
            "CHANGED" if changed else "ok", name, was, now, 100 * change))
        if changed:
            lines += functions(old.get(name, {}), new.get(name, {}))
    return lines, bad


def functions(old, new):
    was, now = old.get("functions", {}), new.get("functions", {})
    order = sorted(set(was) | set(now), key=lambda f: -abs(now.get(f, 0) - was.get(f, 0)))
    return ["          %-36s %9d -> %9d (%+d)" % (f, was.get(f, 0), now.get(f, 0),
                                                  now.get(f, 0) - was.get(f, 0))
            for f in order if was.get(f, 0) != now.get(f, 0)][:12]


def recorded():
    with open(RECORD) as f:
        return json.load(f)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the numbers down")
    parser.add_argument("binary", nargs="?", default=os.path.join(ROOT, "build", "rotor"))
    args = parser.parse_args()
    key, new = compiler_of(args.binary), measure(args.binary)
    record = recorded() if os.path.exists(RECORD) else {}
    if args.record:
        record[key] = new
        with open(RECORD, "w") as f:
            json.dump(record, f, indent=1, sort_keys=True)
            f.write("\n")
    elif key not in record:
        print("no numbers are recorded for %s; --record writes them to %s" % (key, RECORD))
        return 0
    lines, bad = compare(record[key], new)
    print("\n".join(lines))
    if bad:
        print("if this is meant: tools/count_instructions.py --record, and commit %s" %
              os.path.relpath(RECORD, ROOT))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
