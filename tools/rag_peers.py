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
onnxruntime, safetensors and tokenizers, scan also sqlite_vec and a Python whose sqlite3 loads extensions. Both sides of a comparison run in turn,
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
    """The fastest of three sizes of batches, each tried twice on a part of the texts."""
    def seconds(batch):
        peer, took = Onnx(name, path, words, threads, batch), []
        for _ in range(3):
            start = time.process_time()
            peer.embed(texts[:32])
            took.append(time.process_time() - start)
        return min(took), batch, peer
    return min((seconds(b) for b in (1, 8, 32)), key=lambda t: t[:2])


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
    print("ONNX Runtime %s; %d texts of each kind; its fastest of plain and fused, and of batches of 1, 8 and 32" % (onnxruntime.__version__, args.texts))
    for kind, texts in kinds.items():
        print("%s: %d tokens each" % (kind, np.mean([len(e.ids) for e in words.encode_batch(texts)])))
    with tempfile.TemporaryDirectory() as where:
        models = peer_models(args.model, where)
        head("threads", "texts", "weights", "Rotor a second", "ONNX Runtime", "a second", "times as fast", "by processor time", "cosine to exact: Rotor", "ONNX Runtime")
        for threads in map(int, args.threads.split(",")):
            for form in ("f32", "int8"):
                with engine(args, threads, embed_int8=form == "int8") as own:
                    for kind, texts in kinds.items():
                        exact = Onnx("", models["f32 plain"], words, threads, 8).embed(texts)
                        tried = [best_batch(name, path, words, threads, texts) for name, path in models.items() if name.startswith(form)]
                        compare_embed(args, own, min(tried, key=lambda t: t[:2])[2], (threads, kind, form), texts, exact)


def compare_embed(args, own, peer, names, texts, exact):
    a, b = pairs(args.r, lambda: own.embed(texts, truncate=True), lambda: peer.embed(texts))
    speeds = ["%.1f" % (len(texts) / statistics.median(t for t, _ in side)) for side in (a, b)]
    near = ["%.5f" % (side.embed(texts, **more) * exact).sum(axis=1).min() for side, more in ((own, {"truncate": True}), (peer, {}))]
    row(*names, speeds[0], "%s, %d a batch" % (peer.name, peer.batch), speeds[1],
        *(spread([y[i] / x[i] for x, y in zip(a, b)]) for i in (0, 1)), *near)


# ---- BM25 beside FTS5 ------------------------------------------------------------------------------------------------

SETS = (("SciFact", "scifact", "queries_train.jsonl", "qrels_train.tsv"), ("Cranfield", "cranfield", "queries.jsonl", "qrels.tsv"))
STOP = set("a an and are as at be by for from has have how in is it its of on or that the this to was were what when where which who "
           "why will with do does can not no than then there their these they we you i if into such".split())


def judgements(path):
    gains = {}
    with open(path, encoding="utf-8") as f:
        for line in list(f)[1:]:
            query, doc, gain = line.split()[:3]
            gains.setdefault(query, {})[doc] = int(gain)
    return gains


def ndcg10(ranked, gains):
    best = sorted((g for g in gains.values() if g > 0), reverse=True)[:10]
    def dcg(values):
        return sum(g / math.log2(i + 2) for i, g in enumerate(values))
    return dcg(gains.get(d, 0) for d in ranked[:10]) / dcg(best) if best else None


def fts5(docs):
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(id UNINDEXED, title, text, tokenize = 'porter unicode61')")
    db.executemany("INSERT INTO t VALUES (?, ?, ?)", ((d["_id"], d.get("title", ""), d["text"]) for d in docs))
    return db


def fts5_ask(db, question, weight, n=100):
    words = [w for w in "".join(c if c.isalnum() else " " for c in question.lower()).split() if w not in STOP]
    if not words:
        return []
    return [r[0] for r in db.execute("SELECT id FROM t WHERE t MATCH ? AND rank MATCH 'bm25(0, %g, 1)' ORDER BY rank LIMIT %d" % (weight, n),
                                     (" OR ".join('"%s"' % w for w in words),))]


def remixed(docs, n):
    """n passages of eight sentences, each drawn from anywhere in the set."""
    rng = np.random.default_rng(7)
    sentences = [s for d in docs for s in d["text"].split(". ") if len(s) > 20]
    picks = rng.integers(0, len(sentences), (n, 8))
    return [{"_id": "p%d" % i, "title": "", "text": ". ".join(sentences[k] for k in some) + "."} for i, some in enumerate(picks)]


def write_lines(path, docs):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(d) + "\n" for d in docs)


def evaluated(store, where, queries, qrels, mode, *more):
    return json.loads(rotor("rag", "eval", store, "--queries", os.path.join(where, queries), "--qrels", os.path.join(where, qrels), "--mode", mode, "--json", *more))


def words(args):
    print("SQLite %s, FTS5 with porter stems, words of the question OR-ed without stop words, titles weighted 1, 2 or 3" % sqlite3.sqlite_version)
    head("set", "nDCG@10, Rotor (title 2)", "FTS5, title 1", "2", "3", "difference at 2")
    for name, folder, queries, qrels in SETS:
        where = os.path.join(args.data, folder)
        docs, gains = json_lines(os.path.join(where, "corpus.jsonl")), judgements(os.path.join(where, qrels))
        db, asked = fts5(docs), [(q["_id"], q["text"]) for q in json_lines(os.path.join(where, queries))]
        peer = [np.mean([v for v in (ndcg10(fts5_ask(db, text, weight), gains.get(q, {})) for q, text in asked) if v is not None])
                for weight in (1, 2, 3)]
        with tempfile.TemporaryDirectory() as at:
            rotor("rag", "add", at + "/a.store", os.path.join(where, "corpus.jsonl"), "--no-embed")
            own = evaluated(at + "/a.store", where, queries, qrels, "lexical")["ndcg@10"]
        row(name, "%.4f" % own, *("%.4f" % v for v in peer), "%+.4f" % (own - peer[1]))
    where = os.path.join(args.data, "scifact")
    docs = remixed(json_lines(os.path.join(where, "corpus.jsonl")), args.passages)
    asked = json_lines(os.path.join(where, "queries_train.jsonl"))[:args.questions]
    with tempfile.TemporaryDirectory() as at:
        write_lines(at + "/corpus.jsonl", docs)
        write_lines(at + "/queries.jsonl", asked)
        with open(at + "/qrels.tsv", "w", encoding="utf-8") as f:
            f.write("query-id\tcorpus-id\tscore\n" + "".join("%s\tp0\t1\n" % q["_id"] for q in asked))
        rotor("rag", "add", at + "/a.store", at + "/corpus.jsonl", "--no-embed")
        db, times = fts5(docs), []
        for _ in range(args.r):
            own = evaluated(at + "/a.store", at, "queries.jsonl", "qrels.tsv", "lexical")["lexical_ms"]
            start = time.perf_counter()
            for q in asked:
                fts5_ask(db, q["text"], 1)
            times.append((own, (time.perf_counter() - start) * 1e3 / len(asked)))
    head("passages", "questions", "ms a question, Rotor", "FTS5, in memory", "times as fast")
    row(args.passages, len(asked), *("%.3f" % statistics.median(t[i] for t in times) for i in (0, 1)), spread([b / a for a, b in times], 0))


# ---- Nearest vectors beside sqlite-vec -------------------------------------------------------------------------------

def scan(args):
    import sqlite_vec
    n, width = args.passages, 384
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((256, width))
    rows = (centres[rng.integers(0, 256, n)] + rng.standard_normal((n, width))).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    questions = rows[:20] + 0.05 * rng.standard_normal((20, width)).astype(np.float32)
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    sqlite_vec.load(db)
    db.execute("CREATE VIRTUAL TABLE c USING vec0(v float[%d] distance_metric=cosine)" % width)
    db.execute("CREATE VIRTUAL TABLE l USING vec0(v float[%d])" % width)
    for table in "cl":
        db.executemany("INSERT INTO %s(rowid, v) VALUES (?, ?)" % table, ((i, r.tobytes()) for i, r in enumerate(rows)))
    def ms(table):
        start = time.perf_counter()
        for q in questions:
            db.execute("SELECT rowid FROM %s WHERE v MATCH ? AND k = 10" % table, (q.astype(np.float32).tobytes(),)).fetchall()
        return (time.perf_counter() - start) * 1e3 / len(questions)
    times = []
    for _ in range(args.r):
        own = json.loads(rotor("rag", "bench", n, width, 20, "--json"))
        times.append((own, ms("c"), ms("l")))
    print("sqlite-vec %s, in memory; clustered vectors made up on both sides, ten found" % db.execute("SELECT vec_version()").fetchone()[0])
    head("passages", "ms, Rotor", "recall@10", "sqlite-vec, cosine", "times as fast", "its L2", "times as fast")
    mine = [own["vector"]["median_ms"] for own, _, _ in times]
    row(n, "%.3f" % statistics.median(mine), "%.4f" % min(own["recall@10"] for own, _, _ in times),
        *(x for k in (1, 2) for x in ("%.1f" % statistics.median(t[k] for t in times), spread([t[k] / m for t, m in zip(times, mine)], 0))))


# ---- The screen against every row in floats --------------------------------------------------------------------------

def recall(args):
    where = os.path.join(args.data, "scifact")
    sentences = dict.fromkeys(s.strip() + "." for d in json_lines(os.path.join(where, "corpus.jsonl")) for s in d["text"].split(". ") if len(s) > 40)
    docs = [{"_id": "s%d" % i, "title": "", "text": s} for i, s in enumerate(list(sentences)[:args.passages])]
    asked = json_lines(os.path.join(where, "queries_train.jsonl"))[:args.questions]
    with tempfile.TemporaryDirectory() as at:
        write_lines(at + "/corpus.jsonl", docs)
        write_lines(at + "/queries.jsonl", asked)
        with open(at + "/qrels.tsv", "w", encoding="utf-8") as f:
            f.write("query-id\tcorpus-id\tscore\n" + "".join("%s\ts0\t1\n" % q["_id"] for q in asked))
        rotor("rag", "add", at + "/a.store", at + "/corpus.jsonl", "--embed-model", args.model)
        evaluated(at + "/a.store", at, "queries.jsonl", "qrels.tsv", "vector", "--run", at + "/run.trec")
        found = {}
        with open(at + "/run.trec", encoding="utf-8") as f:
            for line in f:
                found.setdefault(line.split()[0], []).append(line.split()[2])
        with engine(args, 0, embed_int8=True) as own:           # as the store's
            rows = own.embed([d["text"] for d in docs], truncate=True)
            questions = own.embed([q["text"] for q in asked], truncate=True)
        exact = questions @ rows.T
        at_id = {d["_id"]: i for i, d in enumerate(docs)}
        kept = []
        for q, scores in zip(asked, exact):
            tenth = np.partition(scores, -10)[-10]
            kept.append(np.mean([scores[at_id[d]] >= tenth - 1e-7 for d in found[q["_id"]][:10]]))
    head("passages, real vectors", "questions", "recall@10 of the screen and the bytes, against floats", "questions with all ten")
    row(len(docs), len(asked), "%.4f" % np.mean(kept), "%d" % sum(k == 1 for k in kept))


# ---- One changed file, and edits that are watched --------------------------------------------------------------------

def change(args):
    with tempfile.TemporaryDirectory() as at:
        store, tree = at + "/a.store", at + "/tree"
        os.mkdir(tree)
        for i in range(args.files):
            with open("%s/note%05d.md" % (tree, i), "w", encoding="utf-8") as f:
                f.write("# Note %d\n\nThe %dth shelf holds jars of %s and a letter from %d.\n" % (i, i, ("salt", "tea", "rice", "oats")[i % 4], 1700 + i % 300))
        flags = ["--embed-model", args.model] if args.model else ["--no-embed"]
        start = time.perf_counter()
        rotor("rag", "add", store, tree, *flags)
        print("%d files: the first add took %.1f s" % (args.files, time.perf_counter() - start))
        time.sleep(2.5)                                         # the time stamps of files just written are not trusted
        rotor("rag", "add", store, tree)
        again = []
        for i in range(args.r):
            with open("%s/note%05d.md" % (tree, i), "a", encoding="utf-8") as f:
                f.write("\nIt was moved to place again%d.\n" % i)
            start = time.perf_counter()
            rotor("rag", "add", store, tree)
            again.append(time.perf_counter() - start)
            assert "note%05d" % i in rotor("rag", "search", store, "again%d" % i, "--mode", "lexical", "-k", 1)
        head("files", "add again after one changed: median s", "longest")
        row(args.files, "%.2f (goal: 2)" % statistics.median(again), "%.2f" % max(again))
        watched(args, store, tree)


def watched(args, store, tree):
    watch = subprocess.Popen([ROTOR, "rag", "watch", store, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    def until(change, path=None):
        for line in watch.stdout:
            line = json.loads(line)
            if line["change"] == change and (path is None or line["path"] == path):
                return time.perf_counter()
        sys.exit("rag watch ended")
    until("watching")
    words, vectors = [], []
    for i in range(args.edits):
        path = "%s/note%05d.md" % (tree, args.r + i)
        with open(path, "a", encoding="utf-8") as f:
            f.write("\nA blue heron, edit%d, stood there.\n" % i)
        closed = time.perf_counter()
        words.append(until("read", path) - closed)
        assert os.path.basename(path) in rotor("rag", "search", store, "edit%d" % i, "--mode", "lexical", "-k", 1)
        if args.model:
            vectors.append(until("embedded") - closed)
    watch.terminate()
    watch.wait()
    head("edits", "found by", "median s", "longest", "goal")
    row(args.edits, "keyword", "%.2f" % statistics.median(words), "%.2f" % max(words), 2)
    if vectors:
        row(args.edits, "vector", "%.2f" % statistics.median(vectors), "%.2f" % max(vectors), 5)


PARTS = {"embed": embed, "words": words, "scan": scan, "recall": recall, "change": change}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--model", help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--data", help="folder with scifact/ and cranfield/")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--texts", type=int, default=256, help="of each kind (embed)")
    parser.add_argument("--passages", type=int, default=100000)
    parser.add_argument("--questions", type=int, default=150)
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--edits", type=int, default=10)
    parser.add_argument("-r", type=int, default=7, metavar="N", help="pairs")
    args = parser.parse_args()
    PARTS[args.part](args)
    return 0



if __name__ == "__main__":
    sys.exit(main())
