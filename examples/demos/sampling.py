#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The same prompt, five ways to choose a token: python3 sampling.py MODEL

Greedy always takes the likeliest. The others draw, from a list that each cuts in its own way: top-k by number, top-p by the
probability it holds together, min-p by distance from the best."""
import sys

import rotor

PROMPT = "Once upon a time"
WAYS = {"greedy": {"temperature": 0},
        "everything": {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0},
        "top-k 5": {"temperature": 1, "top_k": 5, "top_p": 1, "min_p": 0},
        "top-p 0.8": {"temperature": 1, "top_k": 0, "top_p": 0.8, "min_p": 0},
        "min-p 0.2": {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0.2}}

with rotor.Engine(sys.argv[1]) as engine:
    for name, settings in WAYS.items():
        texts = [engine.generate(PROMPT, max_tokens=24, seed=seed, **settings) for seed in range(1, 9)]
        # How sure the model was of what was chosen: 0 is certain, and further down are surprises.
        logprobs = [p for t in texts for p in t.logprobs]
        print("%-10s %d different of 8, mean log-probability %5.2f, lowest %6.2f"
              % (name, len({t.text for t in texts}), sum(logprobs) / len(logprobs), min(logprobs)))
        print("   " + PROMPT + texts[0].text.replace("\n", " "))
