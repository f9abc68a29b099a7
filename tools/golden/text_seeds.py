#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seeds of the tokenizer fuzz targets: small tokenizer.json files of every kind, and
texts for every rule set and model. Standard library only."""
import json, pathlib

CORPUS = pathlib.Path(__file__).resolve().parents[2] / "tests/fuzz/corpus"
TEXTS = ["Hello world", "don't I'LL  \r\n x", "1234567 ½", "中文ABC नमस्ते e\u0301", "<s>a</s> <0x41>",
         "\t \n\n  ", "a/b//\n/c", "\u2581the \u2581", "👨\u200d👩"]


def vocab(*tokens):
    return {t: i for i, t in enumerate(tokens)}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


ADDED = [{"id": 0, "content": "<s>", "special": True, "lstrip": True, "rstrip": True,
          "single_word": True, "normalized": False}]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
BPE = {"type": "BPE", "unk_token": "<s>", "fuse_unk": True, "byte_fallback": True,
       "ignore_merges": True, "vocab": vocab("<s>", "a", "b", "ab", "<0x41>", "▁", "▁a"),
       "merges": ["a b", ["▁", "a"], "x"]}
TEMPLATE = {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0]}}}
FILES = {
    "byte_level": {"added_tokens": ADDED, "model": BPE, "pre_tokenizer": BYTE_LEVEL,
                   "decoder": BYTE_LEVEL, "post_processor": TEMPLATE},
    "regex": {"model": BPE, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        split(r"\p{N}{1,3}"), split(r"\s+", "Removed", True), split("[^a-z]", "MergedWithNext"),
        split("(a|b)*x", "Contiguous"), {"type": "Digits", "individual_digits": True}]}},
    "metaspace": {"model": BPE, "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first",
                                                  "split": True},
                  "normalizer": {"type": "Sequence", "normalizers": [
                      {"type": "Prepend", "prepend": "▁"}, {"type": "NFKC"}, {"type": "Strip"},
                      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                      {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"}]}},
    "unigram": {"model": {"type": "Unigram", "unk_id": 0, "byte_fallback": True,
                          "vocab": [["<unk>", 0.0], ["▁", -1.5], ["a", -2], ["▁He", -3e0]]},
                "pre_tokenizer": {"type": "Metaspace"},
                "normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="}},
    "wordpiece": {"model": {"type": "WordPiece", "unk_token": "[UNK]",
                            "continuing_subword_prefix": "##", "max_input_chars_per_word": 9,
                            "vocab": vocab("[UNK]", "[CLS]", "[SEP]", "hello", "##lo", "h")},
                  "normalizer": {"type": "BertNormalizer", "lowercase": True},
                  "pre_tokenizer": {"type": "BertPreTokenizer"},
                  "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1],
                                     "sep": ["[SEP]", 2]}},
}

for name, content in FILES.items():
    text = json.dumps(content, ensure_ascii=False).encode()
    if name == "byte_level":
        text += b"\0" + json.dumps({"bos_token": "<s>", "eos_token": {"content": "ab"},
                                    "add_bos_token": True}).encode()
    (CORPUS / "tokenizer_json" / name).write_bytes(text)
for rule in range(15):
    body = "".join(TEXTS).encode() + b"\xff\xc3\xe4\xb8"
    (CORPUS / "encode" / f"all_{rule:02}").write_bytes(bytes([rule]) + body)
