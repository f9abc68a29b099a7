#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Three types of cache: bytes for a position, and how far the logits move: python3 cache.py MODEL

What a model has read is kept as keys and values. f32 is what they are computed in; f16 halves them; q8 is half of that again,
32 numbers sharing a scale."""
import sys

import numpy as np

import rotor

TEXT = "Once upon a time, there was a little girl who had a big red ball. She loved to play with it in the park."

exact = None
for kv in ("f32", "f16", "q8"):
    with rotor.Engine(sys.argv[1], kv=kv, head="file") as engine:
        ids = engine.tokenize(TEXT, bos=True)
        with engine.session() as session:
            logits = np.array(session.eval_all(ids), np.float64)
        exact = logits if exact is None else exact
        off = np.linalg.norm(logits - exact) / np.linalg.norm(exact)
        same = (logits.argmax(1) == exact.argmax(1)).mean()
        print("%-3s  %5d bytes a position, %6.1f KB for %d; logits off by %.5f, the same best token at %3.0f %% of %d positions"
              % (kv, engine.info.kv_tok_bytes, engine.info.kv_bytes / 1000, engine.info.n_ctx, off, 100 * same, len(ids)))
