# SPDX-License-Identifier: MIT
"""Makes tests/data/golden/minilm.npy: the vectors of a few texts by all-MiniLM-L6-v2 in transformers, float32.

usage: minilm.py FOLDER minilm.npy        (FOLDER: the published model, sentence-transformers/all-MiniLM-L6-v2)

Mean over all tokens, [CLS] and [SEP] included, of the last hidden states; at most 256 tokens; length one.
Made with transformers 5.23.0, torch 2.15.0, numpy 2.4.6.
"""
import os
import sys

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden"))
from test_real_minilm import TEXTS  # noqa: E402

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    words, net = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    rows = []
    for text in TEXTS:
        with torch.no_grad():
            v = net(**words(text, return_tensors="pt", truncation=True, max_length=256)).last_hidden_state[0].mean(0)
        rows.append((v / v.norm()).numpy())
    np.save(sys.argv[2], np.stack(rows).astype(np.float32))
