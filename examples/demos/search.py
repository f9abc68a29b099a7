#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Embed and search, in twenty lines: python3 search.py MODEL [QUESTION]

Texts become vectors of length one; the nearest text is the one with the largest dot product. Any model gives vectors; one made
for it (all-MiniLM-L6-v2, bge, EmbeddingGemma) gives good ones."""
import sys

import numpy as np

import rotor

TEXTS = ["The cat sat on the mat and slept.", "Lily had a big red ball.", "The bird can fly very high in the sky.",
         "Tom and his dog went to the park to play.", "Mom made a cake with milk and eggs."]

question = sys.argv[2] if len(sys.argv) > 2 else TEXTS[1]
with rotor.Engine(sys.argv[1], embed=True) as engine:
    store = engine.embed(TEXTS)              # [texts, width], all in a few steps
    scores = store @ engine.embed(question)  # cosines: the vectors have length one
print("%d texts as vectors of %d numbers; nearest to: %s" % (len(store), store.shape[1], question))
for i in np.argsort(-scores, kind="stable"):
    print("  %+.3f  %s" % (scores[i], TEXTS[i]))
