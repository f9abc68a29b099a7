#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/train/west_wind_bpe.json: the vocabulary that the `tokenizers` package learns from
tests/data/train/west_wind.txt and from a line of awkward characters, for `rotor train-tokenizer` to equal.

    python3 tools/golden/bpe.py        (tokenizers; its version is recorded in the file)
"""
import json
import pathlib

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "train"
AWKWARD = "naïve café, 你好世界 你好 😀😀 aaaa aaaaaaa\t\tx  y   z 1234 12 don't we'll\r\n\r\n" * 3


def learn(texts, n_vocab):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=n_vocab, min_frequency=2, show_progress=False, special_tokens=["<|endoftext|>", "<|eot_id|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(tok.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    return {"tokens": words, "merges": [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]}


book = (DATA / "west_wind.txt").read_bytes().decode().strip(" \t\r\n")
out = {"tokenizers": tokenizers.__version__, "awkward": AWKWARD,
       "book_600": learn([book], 600), "awkward_300": learn([AWKWARD.strip(" \t\r\n")], 300)}
(DATA / "west_wind_bpe.json").write_text(json.dumps(out, ensure_ascii=True, indent=0) + "\n")
