#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Training speed of PyTorch and of `rotor train` on the same network, batch and threads, side by side.

usage: bench_train.py [--preset tiny|story] [--vocab 4096] [--threads 2] [--rounds 5] [--steps 4]
                      [--only eager,compiled] [--full-precision]
                      [--rotor build/rotor --data TEXT --tokenizer VOCAB.gguf]

Run it with a Python that has torch. Each PyTorch form lives in a process of its own, which compiles
and warms up once and then waits; a round lets each form, and then `rotor train`, do a few steps
alone, in turn. Printed are the medians of tokens/s over the rounds, their range, and the ratio of
each round's rotor to that round's faster PyTorch form, because only figures of the same minute
compare. A step is forward, backward, clipping and AdamW (fused), in float32. Forms:

    eager            rotor.torch.BitNetDecoder as it is
    compiled         the same through torch.compile
    compiled-detach  roundings written with detach, which the compiler can see through

Without --rotor only PyTorch is measured. rotor's figure is the median of tok_per_s in the --log of
each run, its first step left out.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
# layers, embd, heads, kv-heads, ff, ctx, batch: as `rotor train --preset` has them
PRESETS = {"tiny": (2, 128, 4, 2, 384, 128, 8), "story": (8, 192, 6, 3, 512, 512, 8)}
FLAGS = ("layers", "embd", "heads", "kv-heads", "ff", "ctx", "batch")
FORMS = ("eager", "compiled", "compiled-detach")


# ---- A PyTorch form, in its own process ------------------------------------------------------------------------------


def detached(torch, rt):
    """The layer with roundings cut out of the graph: slower when eager, one kernel when compiled."""
    def forward(self, x):
        w = self.weight
        a = w.abs().mean().clamp_min(rt.FLOOR)
        s = 127 / x.abs().amax(-1, keepdim=True).clamp_min(rt.FLOOR)
        wq = w + ((w / a).round().clamp(-1, 1) * a - w).detach()
        xq = x + ((x * s).round() / s - x).detach()
        return torch.nn.functional.linear(xq, wq)
    rt.TernaryLinear.forward = forward


def serve(a):
    """Answers each line on standard input, a number of steps, with tokens/s."""
    sys.path.insert(0, os.path.join(ROOT, "python"))
    import torch
    import rotor.torch as rt
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    layers, embd, heads, kv, ff, ctx, batch = PRESETS[a.preset]
    if a.serve.endswith("detach"):
        detached(torch, rt)
    model = rt.BitNetDecoder(rt.Shape(a.vocab, embd, layers, heads, kv, ff, ctx), full_float=a.full_precision)
    run = torch.compile(model) if a.serve.startswith("compiled") else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step():
        ids = torch.randint(0, a.vocab, (batch, ctx + 1))
        run(ids[:, :-1], ids[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    step()
    step()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        rates = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            rates.append(batch * ctx / (time.perf_counter() - start))
        print(json.dumps(statistics.median(rates)), flush=True)


class Form:
    def __init__(self, name, a):
        command = [sys.executable, os.path.abspath(__file__), "--serve", name, "--preset", a.preset, "--vocab", str(a.vocab),
                   "--threads", str(a.threads)] + ["--full-precision"] * a.full_precision
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, "OMP_NUM_THREADS": str(a.threads)})
        self.answer()

    def answer(self):
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError("the PyTorch process ended: exit status %d" % self.child.wait())
        return json.loads(line)

    def measure(self, steps):
        self.child.stdin.write("%d\n" % steps)
        self.child.stdin.flush()
        return self.answer()


# ---- rotor train -----------------------------------------------------------------------------------------------------


class Rotor:
    def __init__(self, a):
        self.folder = tempfile.TemporaryDirectory()
        self.log = os.path.join(self.folder.name, "log.csv")
        sizes = [word for flag, value in zip(FLAGS, PRESETS[a.preset]) for word in ("--" + flag, str(value))]
        self.command = [a.rotor, "train", "--data", a.data, "--tokenizer", a.tokenizer, *sizes, "--threads", str(a.threads),
                        "-o", os.path.join(self.folder.name, "m.gguf"), "--log", self.log, "--no-progress"]
        self.command += ["--full-precision"] * a.full_precision

    def measure(self, steps):
        n = str(steps + 1)
        subprocess.run([*self.command, "--steps", n, "--save-every", n, "--eval-every", n], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(self.log) as f:
            return statistics.median(float(row["tok_per_s"]) for row in list(csv.DictReader(f))[1:])


def main():
    parser = argparse.ArgumentParser(description="Training speed of PyTorch and of rotor train.")
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", default=",".join(FORMS))
    parser.add_argument("--full-precision", action="store_true")
    parser.add_argument("--rotor")
    parser.add_argument("--data")
    parser.add_argument("--tokenizer")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        return serve(a)
    if a.rotor and not (a.data and a.tokenizer):
        parser.error("--rotor needs --data and --tokenizer")
    sides = {name: Form(name, a) for name in a.only.split(",")}
    torch_sides = list(sides)
    if a.rotor:
        sides["rotor"] = Rotor(a)
    rates = {name: [] for name in sides}
    for _ in range(a.rounds):
        for name, side in sides.items():
            rates[name].append(side.measure(a.steps))
    for name, r in rates.items():
        print("%-16s %9.0f tokens/s   %.0f to %.0f in %d rounds" % (name, statistics.median(r), min(r), max(r), a.rounds))
    if a.rotor:
        ratios = [mine / max(rates[name][i] for name in torch_sides) for i, mine in enumerate(rates["rotor"])]
        print("rotor / the faster of PyTorch: %.2f, %.2f to %.2f" % (statistics.median(ratios), min(ratios), max(ratios)))


if __name__ == "__main__":
    main()
