#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures on this machine what Rotor says of itself, and writes one report: a page with plots, and JSON.

    tools/proof.py [--out FOLDER] [--only correctness,speed,…] [--quick] [--model FILE.gguf]…
    tools/proof.py record NAME "FIGURE"     note that a gated check ran just now, with what result

A report is a list of chapters, a chapter a list of checks and plots. A check says what was looked at,
what was found and wanted, and one verdict:

    passed    correct, or a goal met
    failed    incorrect: the exit status is 1
    missed    a goal of speed or quality not reached here
    measured  a figure without a goal
    not run   what it takes is not on this machine; the reason stands where the figure would

Gated checks are those that most machines cannot run, because they need weights, hardware or a service.
tests/gated.json lists each with the date and figure of its last real run, or null: never.
"""
import argparse
import csv
import datetime
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import proof_page

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROTOR = os.environ.get("ROTOR_BINARY") or os.path.join(ROOT, "build", "rotor")
GATED = os.path.join(ROOT, "tests", "gated.json")
BOOK = os.path.join(ROOT, "tests", "data", "train", "west_wind.txt")
SET = os.path.join(ROOT, "tests", "data", "retrieval")


class Chapter:
    def __init__(self, name, title):
        self.name, self.title, self.checks, self.plots = name, title, [], []

    def check(self, what, got, verdict="measured", want="", command=""):
        self.checks.append({"what": what, "got": got, "want": want, "verdict": verdict, "command": command})

    def goal(self, what, value, least=None, most=None, unit="", digits=2, command="", restless=False):
        """A figure against a goal; on a restless machine a goal not reached is no more than a measurement."""
        met = (least is None or value >= least) and (most is None or value <= most)
        want = "" if least is None and most is None else "at %s %g%s" % (("least", least, unit) if most is None else ("most", most, unit))
        verdict = ("measured" if not want else "passed" if met else "measured" if restless else "missed")
        more = "; the machine was restless" if restless and want and not met else ""
        self.check(what, "%.*f%s%s" % (digits, value, unit, more), verdict, want, command)

    def plot(self, title, kind, series, x="", y=""):
        """series: [[label, [[x, y], …]], …] for lines; [[label, value], …] for bars."""
        self.plots.append({"title": title, "kind": kind, "series": series, "x": x, "y": y})

    def json(self):
        return {"name": self.name, "title": self.title, "checks": self.checks, "plots": self.plots}


# ---- Running things ------------------------------------------------------------------------------


def shown(command):
    return " ".join(re.sub(re.escape(ROOT) + "/?", "", str(word)) for word in command)


def run(*command, env=None, limit_s=3600, status=0):
    """Standard output; an exit status other than the one expected is the caller's failure."""
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})}, timeout=limit_s)
    if done.returncode != status:
        raise RuntimeError("%s: exit %d: %s" % (shown(command), done.returncode, done.stderr.strip()[-400:]))
    return done.stdout


def rotor(*words, **more):
    return run(ROTOR, *words, "--no-progress", **more)


def rotor_json(*words, **more):
    return json.loads(rotor(*words, "--json", **more))


# ---- Chapters ------------------------------------------------------------------------------------


def compiled_with():
    """Compiler and flags of the build, from what it wrote down about its first file."""
    try:
        with open(os.path.join(os.path.dirname(ROTOR), "compile_commands.json")) as f:
            words = json.load(f)[0]["command"].split()
    except (OSError, ValueError, IndexError):
        return {"compiler": "unknown"}
    compiler = next(w for w in words if "ccache" not in w)
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.splitlines()
    return {"compiler": version[0] if version else compiler, "flags": " ".join(w for w in words if re.match("-(O|g|m|f|std|DNDEBUG)", w))}


def machine(args):
    """What everything below was measured on and with."""
    info = rotor_json("info")
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": git("rev-parse", "--short=12", "HEAD") + (" with changes" if git("status", "--porcelain") else ""),
        "version": info["version"],
        "processor": "%s, %d processors, %s" % (info["cpu"], info["cpus"], info["cpu_level"]),
        "memory": "%.1f GB" % (info["memory_bytes"] / 1e9),
        "probe": "%.1f GB/s, %.0f int8 and %.0f float GMAC/s" % (info["machine_gbps"], info["machine_int8_gmacs"], info["machine_f32_gmacs"]),
        "devices": "; ".join("%s %s" % (d["id"], d["name"]) for d in info["devices"]),
        "system": "%s %s" % (os.uname().sysname, os.uname().release),
        **compiled_with(),
        "load": "%.1f when it began" % os.getloadavg()[0],
    }


def suite_rows(tier, suites):
    """What run_tests.py counts: {suite: row}."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "run_tests.py"), tier, "--json", out.name], cwd=ROOT,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "ONLY": ",".join(suites)})
        try:
            return {row["suite"]: row for row in json.load(open(out.name))}
        except ValueError:
            raise RuntimeError("tools/run_tests.py %s: exit %d: %s" % (tier, done.returncode, done.stdout[-300:] + done.stderr[-300:]))


SUITES = {
    "unit": "every room by itself",
    "kern": "every kernel of every instruction set against the plain one, bit for bit",
    "fault": "each allocation and each read fails once",
    "fuzz replay": "hostile inputs that were found",
    "golden": "other people's implementations: vectors, tokens, logits",
    "devices": "OpenCL and Vulkan devices against the processor",
}


def correctness(c, args):
    """The suites, counted; of the golden ones, which file holds Rotor against whom."""
    tiers = [("check", ["layers", "docs"])] if args.quick else [("check", ["unit", "kern", "fault", "fuzz replay", "golden"]), ("all", ["devices"])]
    for tier, suites in tiers:
        rows = suite_rows(tier, suites)
        for name in suites:
            row = rows.get(name)
            if row is None:
                c.check(name, "its build failed", "failed")
                continue
            c.check("%s: %s" % (name, SUITES[name]) if name in SUITES else name,
                    "%d passed, %d failed, %d skipped" % (row["passed"], row["failed"], row["skipped"]),
                    "failed" if row["failed"] else "passed" if row["passed"] else "not run", "none failed",
                    "make %s ONLY=%s" % ("check" if tier == "check" else "check-all", name))
    for path in () if args.quick else sorted(glob.glob(os.path.join(ROOT, "tests", "golden", "test_*.py"))):
        with open(path) as f:
            about = re.search(r'"""(.+?)(?:\.\s|\n\n|""")', f.read(), re.S)
        c.check("against whom: " + os.path.basename(path), " ".join(about.group(1).split()) if about else "", "measured")


def bench_checks(c, label, b, command):
    restless = not b["machine_stable"] or b["machine_cpu_share"] < 0.9
    c.goal("%s: decode" % label, b["decode_tps"], unit=" t/s", digits=1, command=command)
    c.goal("%s: prompt" % label, b["prompt_tps"], unit=" t/s", digits=1, command=command)
    if not b["decode_cached"]:
        c.goal("%s: decode, of a plain read of its bytes" % label, 100 * b["read_share"], least=90, unit=" %", digits=0, restless=restless)
    if not b["decode_cached"]:  # products of a tiny model are too small for their ceiling to mean much
        c.goal("%s: prompt, of what the arithmetic allows" % label, 100 * b["prompt_share"], least=85, unit=" %", digits=0, restless=restless)
    c.goal("%s: peak memory" % label, b["peak_rss_bytes"] / 1e6, unit=" MB", digits=0)


def speed(c, args):
    """rotor bench, which probes the machine around every run; where there is room, on the shape of 2B4T."""
    jobs = [("built-in model", ["embedded"])] + [(os.path.basename(m), [m]) for m in args.model]
    if not args.quick and shutil.disk_usage(tempfile.gettempdir()).free > 6e9:
        jobs.append(("2B4T's shape, random weights", ["--preset", "bitnet-2b4t"]))
    size = ["-p", 32, "-n", 16, "-r", 2] if args.quick else ["-p", 512, "-n", 64, "-r", 5]
    decode, prompt = [], []
    for label, words in jobs:
        command = ["rotor", "bench", *words, *size]
        b = rotor_json(*command[1:])
        bench_checks(c, label, b, shown(command))
        decode += [["%s: floor" % label, b["decode_ceiling_tps"]], ["%s: Rotor" % label, b["decode_tps"]]]
        prompt += [["%s: floor" % label, b["prompt_ceiling_tps"]], ["%s: Rotor" % label, b["prompt_tps"]]]
    c.plot("tokens a second, decode (a model that fits into the caches may pass the floor of memory)", "bars", decode[-2:] if len(jobs) > 1 else decode)
    c.plot("tokens a second, prompt", "bars", prompt[-2:] if len(jobs) > 1 else prompt)
    peers(c, args)


def peers(c, args):
    """Other engines on the same files, where they are installed. Rotor first and last: a drift would show."""
    bench = shutil.which("llama-bench")
    if not bench or not args.model:
        c.check("llama.cpp's llama-bench on the same file", "llama-bench is not on the path" if not bench else "no --model was given", "not run")
        return
    for model in args.model:
        sides = {"Rotor": lambda: rotor_json("bench", model, "-p", 0, "-n", 64, "-r", 3)["decode_tps"],
                 "llama-bench": lambda: json.loads(run(bench, "-m", model, "-p", "0", "-n", "64", "-r", "3", "-o", "json"))[0]["avg_ts"]}
        figures = [[name, sides[name]()] for name in ("Rotor", "llama-bench", "Rotor", "llama-bench")]
        c.check("%s: decode, in turn" % os.path.basename(model), ", ".join("%s %.1f" % tuple(f) for f in figures) + " t/s")
        c.plot("%s: decode, tokens a second, in turn" % os.path.basename(model), "bars", figures)


def eval_checks(c, store, label, mode, floors, queries, qrels, refuse=None):
    words = ["rag", "eval", store, "--queries", queries, "--qrels", qrels, "--mode", mode, *(["--refuse", refuse] if refuse else [])]
    s = rotor_json(*words)
    command = "rotor " + shown(words).replace(store, "STORE")
    c.goal("%s, %s: nDCG@10" % (label, mode), s["ndcg@10"], least=floors.get("ndcg"), digits=4, command=command)
    if refuse:
        c.goal("%s, %s: refused though answered there" % (label, mode), 100 * s["refused"], most=5, unit=" %", digits=1)
        c.goal("%s, %s: strangers refused" % (label, mode), 100 * s["refused_strangers"], least=90, unit=" %", digits=1)
    return [["%s, %s" % (label, mode), s["ndcg@10"]]]


def retrieval(c, args):
    """Quality on the repository's own set, on SciFact and Cranfield where they are; time in a store made up."""
    minilm = os.environ.get("ROTOR_TEST_MINILM")
    sets = [("own set", os.path.join(SET, "passages.jsonl"), os.path.join(SET, "questions.jsonl"), os.path.join(SET, "judgements.tsv"),
             os.path.join(SET, "strangers.jsonl"), {"lexical": 0.89, "hybrid": 0.915})]
    data = os.path.join(os.environ.get("ROTOR_TEST_DATA") or "", "retrieval")
    for name, qrels, goals in (("scifact", "qrels_train.tsv", {"lexical": 0.69, "vector": 0.64, "hybrid": 0.73}),
                               ("cranfield", "qrels.tsv", {"lexical": 0.37})):
        folder = os.path.join(data, name)
        queries = next((p for p in (os.path.join(folder, q) for q in ("queries_train.jsonl", "queries.jsonl")) if os.path.exists(p)), None)
        if args.quick or not queries or not os.path.exists(os.path.join(folder, qrels)):
            c.check(name, "ROTOR_TEST_DATA does not lead to it" if not args.quick else "--quick", "not run")
            continue
        sets.append((name, os.path.join(folder, "corpus.jsonl"), queries, os.path.join(folder, qrels), None, goals))
    bars = []
    with tempfile.TemporaryDirectory() as folder:
        for label, corpus, queries, qrels, refuse, goals in sets:
            store = os.path.join(folder, label.replace(" ", "_"))
            rotor("rag", "add", store, corpus, *(["--embed-model", minilm] if minilm and not args.quick else ["--no-embed"]))
            for mode in ("lexical", "vector", "hybrid"):
                if mode == "lexical" or (minilm and not args.quick):
                    bars += eval_checks(c, store, label, mode, {"ndcg": goals.get(mode)}, queries, qrels, refuse)
    if not minilm:
        c.check("search by meaning", "ROTOR_TEST_MINILM does not name the folder of all-MiniLM-L6-v2", "not run")
    c.plot("nDCG@10", "bars", bars)
    search_times(c, args)


def search_times(c, args):
    words = ["rag", "bench", 2000, 64] if args.quick else ["rag", "bench", 100000, 384]
    b, command = rotor_json(*words), shown(["rotor", *words])
    goals = {} if args.quick else {"vector": 2, "words": 1, "hybrid": 5}
    for leg in ("vector", "words", "hybrid"):
        c.goal("%d passages, %d floats: %s" % (b["passages"], b["dims"], leg), b[leg]["median_ms"], most=goals.get(leg), unit=" ms", command=command)
    c.goal("recall@10 against exact floats", b["recall@10"], least=1, digits=4)
    c.plot("a search, milliseconds", "bars", [[leg, b[leg]["median_ms"]] for leg in ("vector", "words", "hybrid")])


def training(c, args):
    """A small ternary model learns a book; two runs with one seed must be one file."""
    steps = 10 if args.quick else 200
    with tempfile.TemporaryDirectory() as folder:
        here = lambda name: os.path.join(folder, name)
        rotor("train-tokenizer", BOOK, "--vocab", 512, "-o", here("v.gguf"))
        words = ["train", "--data", BOOK, "--tokenizer", here("v.gguf"), "--steps", steps, "--layers", 2, "--embd", 64, "--heads", 4, "--ff", 128,
                 "-c", 64, "--batch", 8, "--seed", 7]
        for name in "ab":
            os.mkdir(here(name))
            rotor(*words, "-o", here(name + "/toy.gguf"), "--log", here(name + "/toy.csv"))
        with open(here("a/toy.csv")) as f:
            rows = list(csv.DictReader(f))
        same = open(here("a/toy.gguf"), "rb").read() == open(here("b/toy.gguf"), "rb").read()
    command = shown(["rotor", *words]).replace(folder + "/", "")
    losses = [[float(r["step"]), float(r["loss"])] for r in rows if r["loss"]]
    heldout = [[float(r["step"]), float(r["heldout_loss"])] for r in rows if r["heldout_loss"]]
    c.check("two runs with one seed", "the same file" if same else "two files", "passed" if same else "failed", "the same file", command)
    c.check("loss of a ternary network of %d steps" % steps, "%.3f, then %.3f" % (losses[0][1], losses[-1][1]),
            "passed" if losses[-1][1] < losses[0][1] else "failed", "falls", command)
    c.plot("loss, nats a token", "lines", [["learnt", losses], ["held out", heldout]], "step", "loss")


def watch_memory(child, samples, stop):
    began = time.monotonic()
    while not stop.wait(0.05):
        try:
            with open("/proc/%d/statm" % child.pid) as f:
                samples.append([time.monotonic() - began, int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6])
        except (OSError, IndexError, ValueError):
            return


def endurance(c, args):
    """One answer of thousands of tokens in a context of 256 that shifts: memory must not grow."""
    n = 400 if args.quick else 20000
    command = [ROTOR, "run", "embedded", "-p", "Once upon a time", "-n", str(n), "-c", "256", "--on-full", "shift", "--ignore-eos", "--seed", "1",
               "--temp", "0.8", "--no-progress"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    samples, stop = [], threading.Event()
    watcher = threading.Thread(target=watch_memory, args=(child, samples, stop))
    watcher.start()
    out, err = child.communicate(timeout=3600)
    stop.set()
    watcher.join()
    samples = [s for s in samples if s[1] > 0]
    c.check("%d tokens on end" % n, "%d bytes of text, exit %d" % (len(out), child.returncode), "passed" if child.returncode == 0 and out else "failed",
            "no failure", shown(["rotor", *command[1:]]))
    late = [m for _, m in samples[len(samples) // 5:]]
    if len(late) < 5:
        c.check("memory while it ran", "too short to watch", "not run")
        return
    grown = max(late[-len(late) // 4:]) - max(late[:max(1, len(late) // 4)])
    c.check("memory, the last quarter against the first", "%+.1f MB, at most %.1f MB" % (grown, max(late)), "measured" if args.quick else "passed" if grown < 4 else "failed", "below +4 MB")
    c.plot("resident memory, MB", "lines", [["rotor run", samples]], "seconds", "MB")


def energy(c, args):
    """Joules a token where the processor counts them; where not, no claim."""
    counters = [p for p in glob.glob("/sys/class/powercap/*/energy_uj") if os.access(p, os.R_OK)]
    if not counters:
        c.check("joules a token", "this machine has no energy counter that may be read; nothing is claimed", "not run")
        return
    b = rotor_json("bench", "embedded", "-p", 64, "-n", 64, "-r", 3)
    c.check("joules a token, decode, built-in model", str(b["decode_joules_per_token"]), "measured", command="rotor bench embedded")


def gated(c, args):
    """Checks that need what most machines lack, and when they last really ran."""
    with open(GATED) as f:
        for gate in json.load(f):
            last = gate["last"]
            c.check(gate["what"], "never run" if not last else "%s at %s: %s" % (last["date"], last["commit"], last["figure"]),
                    "measured" if last else "not run", "needs " + gate["needs"], gate["command"])


CHAPTERS = {
    "correctness": ("Is it correct?", correctness),
    "speed": ("How fast, of what this machine allows?", speed),
    "retrieval": ("Does it find passages, and how soon?", retrieval),
    "training": ("Does it learn?", training),
    "endurance": ("Does it last?", endurance),
    "energy": ("What does it draw?", energy),
    "gated": ("What was not run here, and when it last was", gated),
}


# ---- The report ----------------------------------------------------------------------------------


def write_chapter(name, args):
    title, fill = CHAPTERS[name]
    chapter, began = Chapter(name, title), time.monotonic()
    print("%-12s" % name, end=" ", flush=True)
    try:
        fill(chapter, args)
    except (RuntimeError, OSError, KeyError, ValueError, subprocess.TimeoutExpired) as why:
        chapter.check(name, "%s: %s" % (type(why).__name__, why), "failed")
    counts = proof_page.count(chapter.checks)
    print("%6.1f s  %s" % (time.monotonic() - began, ", ".join("%d %s" % (n, v) for v, n in counts.items() if n)), flush=True)
    for check in chapter.checks:
        if check["verdict"] in ("failed", "missed"):
            print("    %s: %s: %s%s" % (check["verdict"], check["what"], check["got"], check["want"] and " (wanted %s)" % check["want"]))
    return chapter.json()


def report(args):
    names = args.only.split(",") if args.only else list(CHAPTERS)
    unknown = set(names) - set(CHAPTERS)
    if unknown:
        sys.exit("no chapter %s; the chapters are %s" % (", ".join(sorted(unknown)), ", ".join(CHAPTERS)))
    if not os.access(ROTOR, os.X_OK):
        sys.exit("%s: no program there; run make" % ROTOR)
    whole = {"machine": machine(args), "quick": args.quick, "chapters": [write_chapter(name, args) for name in names]}
    os.makedirs(args.out, exist_ok=True)
    with open(os.path.join(args.out, "report.json"), "w") as f:
        json.dump(whole, f, indent=1)
        f.write("\n")
    with open(os.path.join(args.out, "index.html"), "w") as f:
        f.write(proof_page.page(whole))
    counts = proof_page.count([check for chapter in whole["chapters"] for check in chapter["checks"]])
    print("\n%s\n%s" % (", ".join("%d %s" % (n, v) for v, n in counts.items()), os.path.join(args.out, "index.html")))
    return 1 if counts["failed"] else 0


def record(name, figure):
    with open(GATED) as f:
        gates = json.load(f)
    gate = next((g for g in gates if g["name"] == name), None)
    if gate is None:
        sys.exit("no gated check %s; there are %s" % (name, ", ".join(g["name"] for g in gates)))
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    gate["last"] = {"date": datetime.date.today().isoformat(), "commit": commit, "figure": figure}
    with open(GATED, "w") as f:
        json.dump(gates, f, indent=1, ensure_ascii=False)
        f.write("\n")
    return 0


def main():
    if sys.argv[1:2] == ["record"] and len(sys.argv) == 4:
        return record(*sys.argv[2:])
    parser = argparse.ArgumentParser(description="Writes the proof report; or: record NAME FIGURE.")
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "proof"))
    parser.add_argument("--only", default="", help="chapters, with commas between: " + ",".join(CHAPTERS))
    parser.add_argument("--quick", action="store_true", help="seconds in place of minutes; the figures mean little")
    parser.add_argument("--model", action="append", default=[], help="also measure this file, beside peers that are installed")
    return report(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
