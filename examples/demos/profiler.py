#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where the time of a token goes, op by op, from a trace: python3 profiler.py MODEL

The same file opens in ui.perfetto.dev; here it is summed up."""
import collections
import json
import os
import sys
import tempfile

import rotor

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "trace.json")
    with rotor.Engine(sys.argv[1], trace=path) as engine:
        n = len(engine.generate("Once upon a time", max_tokens=32, temperature=0).ids)
    with open(path) as f:                    # closing the engine has written it
        events = [e for e in json.load(f)["traceEvents"] if e["ph"] == "X"]

steps = [e for e in events if e["cat"] == "step"]
work = [e for e in events if e["cat"] in ("op", "wait", "token")]
spent, calls = collections.Counter(), collections.Counter()
for e in work:
    tensor = e["args"].get("tensor", "").split(".")     # blk.3.attn_q.weight: of all layers together
    name = e["name"] + (" " + tensor[2] if len(tensor) == 4 and e["cat"] == "op" else "")
    spent[name] += e["dur"]
    calls[name] += 1
total = sum(spent.values())
print("%d tokens in %d steps; all threads together:" % (n, len(steps)))
for name, us in spent.most_common(10):
    print("%5.1f %%  %8.2f ms  %6d times  %s" % (100 * us / total, us / 1000, calls[name], name))
