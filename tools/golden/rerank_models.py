# SPDX-License-Identifier: MIT
"""Makes tests/data/golden/rank-bert: a tiny cross-encoder of random weights, with the scores `transformers` gives.

usage: rerank_models.py [FOLDER]        (default tests/data/golden)

The folder holds config.json and model.safetensors in bfloat16 as BertForSequenceClassification.save_pretrained writes them, a
vocabulary of 128 word pieces (vocab.txt), and golden.json: cases of a query and passages with, for each pair, the ids and types
that BertTokenizer gives with truncation="only_second", and the score in float32. One passage is longer than the 48 positions.
ids_only are pairs of random ids.
"""
import json
import os
import platform
import shutil
import string
import sys

os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers as tf  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import reference_encoders  # noqa: E402

torch.set_num_threads(1)
WORDS = ("the a of is in how long does battery last hours pump valve cook boil egg minutes road sea city lamp "
         "red open close water noise").split()
PIECES = (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(".,?!-'") + list(string.digits) + list(string.ascii_lowercase)
          + ["##" + c for c in string.ascii_lowercase] + ["##s", "##ing", "##er"][1:] + WORDS)
VOCAB = PIECES + [f"[unused{i}]" for i in range(128 - len(PIECES))]
CONFIG = {"vocab_size": len(VOCAB), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
          "num_attention_heads": 2, "max_position_embeddings": 48, "num_labels": 1, "pad_token_id": 0}
CASES = [
    ("How long does the battery last?", [
        "The battery lasts 9 hours.", "Boil the egg for 7 minutes.", "the sea", "Battery!",
        "The pump is noisy, and the valve is red; " * 6]),
    ("egg", ["Boil the egg for 7 minutes.", "How long does the battery last?"]),
]


def draw(name, shape, rng):
    z = rng.standard_normal(shape)
    if name.endswith("bias"):
        return 0.3 * z
    if len(shape) == 1:
        return 0.8 * (1 + 0.25 * z)
    if "embeddings" in name:
        return 0.7 * z
    return (2.5 if ".query." in name or ".key." in name else 1.3) / np.sqrt(shape[-1]) * z


def score(model, ids, types):
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits[0, 0])


def main(out):
    rng, folder = np.random.default_rng(400), os.path.join(out, "rank-bert")
    torch.manual_seed(400)
    shutil.rmtree(folder, ignore_errors=True)
    model = tf.BertForSequenceClassification(tf.BertConfig(**CONFIG)).to(torch.bfloat16)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(draw(name, tuple(p.shape), rng).astype(np.float32)).to(p.dtype))
    model.save_pretrained(folder)
    with open(os.path.join(folder, "vocab.txt"), "w") as f:
        f.write("".join(t + "\n" for t in VOCAB))
    loaded = tf.BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = tf.BertTokenizer(os.path.join(folder, "vocab.txt"), do_lower_case=True)
    cases, pairs = [], []
    for query, passages in CASES:
        rows = []
        for p in passages:
            e = tokenizer(query, p, truncation="only_second", max_length=CONFIG["max_position_embeddings"])
            ids, types = list(e["input_ids"]), list(e["token_type_ids"])
            rows.append({"ids": ids, "types": types, "score": score(loaded, ids, types)})
        cases.append({"query": query, "passages": passages, "pairs": rows})
        pairs += rows
    raw = []
    for a, b in ((1, 1), (3, 9), (20, 28)):
        ids = rng.integers(5, len(VOCAB), a + b).tolist()
        types = [0] * a + [1] * b
        raw.append({"first": ids[:a], "second": ids[a:], "score": score(loaded, ids, types)})
        pairs.append({"ids": ids, "types": types, "score": raw[-1]["score"]})
    versions = {"transformers": tf.__version__, "torch": torch.__version__, "numpy": np.__version__,
                "python": platform.python_version()}
    with open(os.path.join(folder, "golden.json"), "w") as f:
        json.dump({"cases": cases, "ids_only": raw, "made_with": versions}, f, indent=1)
    want = np.array([p["score"] for p in pairs])
    got = reference_encoders.scores(folder, [(p["ids"], p["types"]) for p in pairs])
    flat = np.array([score(loaded, p["ids"], [0] * len(p["ids"])) for p in pairs])
    print(f"rank-bert: scores {want.round(3)}, largest error {np.abs(got - want).max():.1e}, "
          f"without types {np.abs(flat - want).max():.1e}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests", "data", "golden"))
