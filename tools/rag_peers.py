#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints retrieval beside its peers, side by side on this machine: rows of the tables of docs/rag.md.

    tools/rag_peers.py embed  --model MINILM --data DATA [--threads 1,2] [-r 7]   vectors of texts | ONNX Runtime
    tools/rag_peers.py words  --data DATA [--passages 100000]                     BM25 | FTS5 of SQLite
    tools/rag_peers.py scan   [--passages 100000]                                 nearest vectors | sqlite-vec
    tools/rag_peers.py recall --model MINILM --data DATA [--passages 20000]       the screen | every row in floats
    tools/rag_peers.py change --model MINILM [--files 10000] [--edits 10]         one changed file, watched edits

MINILM is a folder with config.json, model.safetensors, tokenizer.json (all-MiniLM-L6-v2); DATA holds
scifact/ and cranfield/ (corpus.jsonl, queries*.jsonl, qrels*.tsv). Needs numpy; embed also onnx,
onnxruntime, safetensors and tokenizers, scan also sqlite_vec. Both sides of a comparison run in turn,
A B A B …, in one process on one machine; the ratio is the median of those of the pairs, with their
range. Times are wall times (and, where it says so, processor times, which a busy machine changes less).
"""
import argparse
import json
import math
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
ROTOR = os.environ.get("ROTOR_BINARY", os.path.join(ROOT, "build", "rotor"))


def rotor(*args, check=True):
    done = subprocess.run([ROTOR, *map(str, args)], capture_output=True, text=True)
    if check and done.returncode:
        sys.exit("rotor %s: exit %d\n%s" % (" ".join(map(str, args)), done.returncode, done.stderr[-2000:]))
    return done.stdout


def json_lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def row(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def head(*cells):
    row(*cells)
    row(*("---" for _ in cells))


def spread(ratios, digits=2):
    return "%.*f (%.*f to %.*f)" % (digits, statistics.median(ratios), digits, min(ratios), digits, max(ratios))


def pairs(n, a, b):
    """Times of a() and b() in turn, after one of each that does not count: [(wall, processor)] of each."""
    def timed(f):
        wall, cpu = time.perf_counter(), time.process_time()
        f()
        return time.perf_counter() - wall, time.process_time() - cpu
    a(), b()
    both = [(timed(a), timed(b)) for _ in range(n)]
    return [x for x, _ in both], [y for _, y in both]


# ---- Vectors of texts beside ONNX Runtime ----------------------------------------------------------------------------

def bert_onnx(folder, path, fused):
    """The encoder of a BERT folder as ONNX: the plain operators that exporters write, or (fused) those that ONNX
    Runtime's own optimiser makes of them. Inputs input_ids and attention_mask [batch, tokens], output [batch, hidden]:
    the mean over the mask, of length one."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.numpy import load_file

    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        hp = json.load(f)
    weights = load_file(os.path.join(folder, "model.safetensors"))
    weights = {k.removeprefix("bert."): v for k, v in weights.items()}
    n_head, width, eps = hp["num_attention_heads"], hp["hidden_size"], hp["layer_norm_eps"]
    nodes, inits, count = [], {}, [0]

    def const(name, value):
        inits[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(kind, inputs, outputs=None, **attrs):
        count[0] += 1
        outputs = outputs or ["t%d" % count[0]]
        nodes.append(helper.make_node(kind, inputs, outputs, name="n%d" % count[0], **attrs))
        return outputs[0]

    def w(name, transpose=False):
        value = weights[name].astype(np.float32)
        return const(name + ("/t" if transpose else ""), value.T if transpose else value)

    def linear(x, name):
        return op("Add", [op("MatMul", [x, w(name + ".weight", True)]), w(name + ".bias")])

    def norm(x, name):
        return op("LayerNormalization", [x, w(name + ".weight"), w(name + ".bias")], axis=-1, epsilon=eps)

    def add_norm(x, y, y_bias, name):
        if not fused:
            return norm(op("Add", [op("Add", [y, w(y_bias)]), x]), name)
        return op("SkipLayerNormalization", [y, x, w(name + ".weight"), w(name + ".bias"), w(y_bias)], domain="com.microsoft",
                  epsilon=eps)

    def heads(x):
        return op("Transpose", [op("Reshape", [x, const("split", np.array([0, 0, n_head, width // n_head]))])], perm=[0, 2, 1, 3])

    def attention(x, at):
        name = at + "attention.self."
        if fused:
            kinds = ("query", "key", "value")
            both = const(name + "qkv", np.concatenate([weights[name + k + ".weight"].T for k in kinds], 1).astype(np.float32))
            bias = const(name + "qkv_b", np.concatenate([weights[name + k + ".bias"] for k in kinds]).astype(np.float32))
            return op("Attention", [x, both, bias, "lengths"], domain="com.microsoft", num_heads=n_head)
        q, k, v = (heads(linear(x, name + kind)) for kind in ("query", "key", "value"))
        score = op("Div", [op("MatMul", [q, op("Transpose", [k], perm=[0, 1, 3, 2])]),
                           const("root", np.float32(math.sqrt(width // n_head)))])
        share = op("Softmax", [op("Add", [score, "hidden_mask"])], axis=-1)
        out = op("Transpose", [op("MatMul", [share, v])], perm=[0, 2, 1, 3])
        return op("Reshape", [out, const("join", np.array([0, 0, width]))])

    def gelu(x, bias):
        if fused:
            return op("BiasGelu", [x, w(bias)], domain="com.microsoft")
        x = op("Add", [x, w(bias)])
        erf = op("Erf", [op("Div", [x, const("sqrt2", np.float32(math.sqrt(2)))])])
        return op("Mul", [op("Mul", [x, op("Add", [erf, const("one", np.float32(1))])]), const("half", np.float32(0.5))])

    mask = op("Cast", ["attention_mask"], to=TensorProto.FLOAT)
    axis = const("axes", np.array([1, 2]))
    op("Mul", [op("Sub", [const("one", np.float32(1)), op("Unsqueeze", [mask, axis])]), const("low", np.float32(-10000))],
       ["hidden_mask"])
    op("ReduceSum", [op("Cast", ["attention_mask"], to=TensorProto.INT32), const("last", np.array([1]))], ["lengths"], keepdims=0)
    n_tok = op("Slice", [op("Shape", ["input_ids"]), const("p1", np.array([1])), const("p2", np.array([2]))])
    places = op("Slice", [w("embeddings.position_embeddings.weight"), const("p0", np.array([0])), n_tok, const("ax0", np.array([0]))])
    first = const("type", weights["embeddings.token_type_embeddings.weight"][:1].astype(np.float32))
    x = op("Add", [op("Gather", [w("embeddings.word_embeddings.weight"), "input_ids"]), op("Add", [places, first])])
    x = norm(x, "embeddings.LayerNorm")
    for i in range(hp["num_hidden_layers"]):
        at = "encoder.layer.%d." % i
        y = op("MatMul", [attention(x, at), w(at + "attention.output.dense.weight", True)])
        x = add_norm(x, y, at + "attention.output.dense.bias", at + "attention.output.LayerNorm")
        y = gelu(op("MatMul", [x, w(at + "intermediate.dense.weight", True)]), at + "intermediate.dense.bias")
        y = op("MatMul", [y, w(at + "output.dense.weight", True)])
        x = add_norm(x, y, at + "output.dense.bias", at + "output.LayerNorm")
    total = op("ReduceSum", [op("Mul", [x, op("Unsqueeze", [mask, const("last2", np.array([2]))])]), const("mid", np.array([1]))], keepdims=0)
    op("LpNormalization", [total], ["vector"], axis=-1, p=2)
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"]) for n in ("input_ids", "attention_mask")]
    out = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", width])]
    graph = helper.make_graph(nodes, "bert", ids, out, list(inits.values()))
    domains = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("com.microsoft", 1)] if fused else [])
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)


class Onnx:
    """A model in ONNX Runtime: texts sorted by length, padded batch by batch."""

    def __init__(self, name, path, words, threads, batch):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self.name, self.words, self.batch = name, words, batch
        self.run = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def embed(self, texts):
        ids = [e.ids for e in self.words.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        out = np.empty((len(texts), self.run.get_outputs()[0].shape[1]), np.float32)
        for at in range(0, len(order), self.batch):
            some = order[at:at + self.batch]
            wide = max(len(ids[i]) for i in some)
            block, mask = np.zeros((2, len(some), wide), np.int64)
            for k, i in enumerate(some):
                block[k, :len(ids[i])], mask[k, :len(ids[i])] = ids[i], 1
            out[some] = self.run.run(None, {"input_ids": block, "attention_mask": mask})[0]
        return out


def peer_models(folder, where):
    """{name: path}: f32 and int8 (weights by channel and whole, activations when they come), plain and fused."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic
    made = {}
    for kind in ("plain", "fused"):
        made["f32 " + kind] = os.path.join(where, kind + ".onnx")
        bert_onnx(folder, made["f32 " + kind], kind == "fused")
        ops = ["MatMul", "Attention"]
        for by in (False, True):
            name = "int8 %s%s" % (kind, " by channel" if by else "")
            made[name] = os.path.join(where, name.replace(" ", "_") + ".onnx")
            quantize_dynamic(made["f32 " + kind], made[name], op_types_to_quantize=ops, per_channel=by, weight_type=QuantType.QInt8,
                             extra_options={"DefaultTensorType": TensorProto.FLOAT})
    return made


def sample_texts(data, n):
    """n passages of about 200 tokens and n short questions."""
    docs = [" ".join((d.get("title", "") + ". " + d["text"]).split()[:135]) for d in json_lines(os.path.join(data, "scifact", "corpus.jsonl"))]
    long = sorted((d for d in docs if len(d.split()) == 135))[:: max(1, len(docs) // (2 * n))][:n]
    short = [q["text"] for q in json_lines(os.path.join(data, "scifact", "queries_train.jsonl"))][:n]
    return long, short


def best_batch(name, path, words, threads, texts):
    """The fastest of four sizes of batches, each tried twice."""
    def seconds(batch):
        peer = Onnx(name, path, words, threads, batch)
        peer.embed(texts[:batch])
        took = []
        for _ in range(2):
            start = time.process_time()
            peer.embed(texts)
            took.append(time.process_time() - start)
        return min(took), batch, peer
    return min((seconds(b) for b in (4, 8, 16, 64)), key=lambda t: t[:2])[2]


def engine(args, threads, **options):
    sys.path.insert(0, os.path.join(ROOT, "python"))
    os.environ.setdefault("ROTOR_LIBRARY", os.path.join(ROOT, "build", "librotor.so"))
    import rotor as package
    return package.Engine(args.model, embed=True, threads=threads, **options)


def embed(args):
    os.environ["RAYON_NUM_THREADS"] = "1"
    import onnxruntime
    import tokenizers
    words = tokenizers.Tokenizer.from_file(os.path.join(args.model, "tokenizer.json"))
    words.no_padding()
    words.enable_truncation(256)
    kinds = dict(zip(("passages", "questions"), sample_texts(args.data, args.texts)))
    print("ONNX Runtime %s; %d texts of each kind; batches of 4, 8, 16 or 64, its fastest" % (onnxruntime.__version__, args.texts))
    for kind, texts in kinds.items():
        print("%s: %d tokens each" % (kind, np.mean([len(e.ids) for e in words.encode_batch(texts)])))
    with tempfile.TemporaryDirectory() as where:
        models = peer_models(args.model, where)
        head("threads", "texts", "Rotor", "ONNX Runtime", "Rotor texts/s", "ONNX Runtime texts/s", "times as fast", "by processor time", "cosine of both")
        for threads in map(int, args.threads.split(",")):
            with engine(args, threads) as own:
                for kind, texts in kinds.items():
                    for form in ("f32", "int8"):
                        peers = [best_batch(name, path, words, threads, texts) for name, path in models.items() if name.startswith(form)]
                        compare_embed(args, own, peers, threads, kind, texts)


def compare_embed(args, own, peers, threads, kind, texts):
    def seconds(peer):
        return min(pairs(2, lambda: peer.embed(texts), lambda: None)[0])[1]
    peer = min(peers, key=seconds)
    a, b = pairs(args.r, lambda: own.embed(texts, truncate=True), lambda: peer.embed(texts))
    near = (own.embed(texts, truncate=True) * peer.embed(texts)).sum(axis=1)
    speeds = ["%.1f" % (len(texts) / statistics.median(t for t, _ in side)) for side in (a, b)]
    row(threads, kind, own.info.type_name, "%s, %d a batch" % (peer.name, peer.batch), *speeds,
        *(spread([y[i] / x[i] for x, y in zip(a, b)]) for i in (0, 1)), "%.5f" % near.min())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--model", help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--data", help="folder with scifact/ and cranfield/")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--texts", type=int, default=256, help="of each kind (embed)")
    parser.add_argument("-r", type=int, default=7, metavar="N", help="pairs")
    args = parser.parse_args()
    PARTS[args.part](args)
    return 0


PARTS = {"embed": embed}

if __name__ == "__main__":
    sys.exit(main())
