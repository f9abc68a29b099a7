# SPDX-License-Identifier: MIT
"""Cross-encoders: rotor_rerank and the float64 reference against the scores that `transformers` gives
(tests/data/golden/rank-bert, made by tools/golden/rerank_models.py), as a folder and as a GGUF file."""
import json
import os
import shutil

import numpy as np
import pytest

import encoders_to_gguf
import gguf_mini as g
import reference_encoders
import rotor

FOLDER = os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tests", "data", "golden", "rank-bert")
BOUND = 1e-4        # relative to the largest score


@pytest.fixture(scope="module")
def golden():
    with open(os.path.join(FOLDER, "golden.json")) as f:
        return json.load(f)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("rank") / "m.gguf")
    encoders_to_gguf.convert(FOLDER, path, "rank")
    return path


def reranker(path, **options):
    return rotor.Engine(path, embed=True, threads=1, **options)


def check(got, want):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert np.abs(got - want).max() <= BOUND * np.abs(want).max(), (got, want)


def test_words_and_folder(golden):
    """WordPiece, types and truncation are the program's own."""
    with reranker(FOLDER) as e:
        assert e.info.pool == 4 and e.info.n_vector == 1
        for case in golden["cases"]:
            got = e.rerank(case["query"], case["passages"])
            assert got.dtype == np.float32
            check(got, [p["score"] for p in case["pairs"]])
    assert max(len(p["ids"]) for c in golden["cases"] for p in c["pairs"]) == 48        # one was cut


@pytest.mark.parametrize("form", ["folder", "gguf"])
def test_ids(golden, gguf, form):
    with reranker(FOLDER if form == "folder" else gguf) as e:
        check([e.rerank(p["first"], [p["second"]])[0] for p in golden["ids_only"]], [p["score"] for p in golden["ids_only"]])


def test_the_reference_says_the_same_and_types_count(golden):
    pairs = [p for c in golden["cases"] for p in c["pairs"]]
    want = np.array([p["score"] for p in pairs])
    check(reference_encoders.scores(FOLDER, [(p["ids"], p["types"]) for p in pairs]), want)
    flat = reference_encoders.scores(FOLDER, [(p["ids"], [0] * len(p["ids"])) for p in pairs])
    assert np.abs(flat - want).max() > 100 * BOUND * np.abs(want).max()


def test_scores_do_not_depend_on_the_neighbours(golden):
    case = golden["cases"][0]
    with reranker(FOLDER) as e:
        together = e.rerank(case["query"], case["passages"])
        alone = [e.rerank(case["query"], [p])[0] for p in case["passages"]]
    with reranker(FOLDER, cpu="c") as e:
        assert (e.rerank(case["query"], case["passages"]) == together).all()
    assert (np.array(alone, np.float32) == together).all()


def refused(call, *parts):
    with pytest.raises(rotor.Error) as e:
        call()
    assert all(p in str(e.value) for p in parts), str(e.value)


def test_what_does_not_fit():
    with reranker(FOLDER) as e:
        refused(lambda: e.rerank("", ["x"]), "query 0 is empty")
        refused(lambda: e.rerank("x", ["a", ""]), "passage 1 is empty")
        refused(lambda: e.rerank([5, 200], ["a"]), "token 200 at 1 is outside the vocabulary")
        refused(lambda: e.rerank("the sea " * 40, ["a"]), "the query has 82 tokens", "at most 48")
        refused(lambda: e.embed(["a"]), "makes no vectors")
        assert e.rerank("the sea " * 22, ["a city"]).shape == (1,)     # 46 of 48 tokens are the query
    refused(lambda: rotor.Engine(FOLDER), "is a cross-encoder", "--rerank")
    refused(lambda: reranker(FOLDER, pool="mean"), "no other pooling")
    enc = os.path.join(os.path.dirname(FOLDER), "enc-bert")
    with rotor.Engine(enc, embed=True) as e:
        refused(lambda: e.rerank([1], [[2]]), "is no cross-encoder")


def test_classifiers_of_other_shapes(gguf, tmp_path):
    meta, raw = g.read_gguf(gguf)

    def open_with(change, more=None):
        path = str(tmp_path / "m.gguf")
        g.write_gguf(path, meta | (more or {}), change(dict(raw)))
        return lambda: reranker(path)

    def without(name):
        return lambda t: {k: v for k, v in t.items() if k != name}

    refused(open_with(without("cls.weight")), "tensor cls.weight is missing")
    refused(open_with(without("cls.output.weight")), "tensor cls.output.weight is missing")
    wide = raw["cls.weight"]
    refused(open_with(lambda t: t | {"cls.output.weight": wide}), "cls.output.weight has 32 rows", "several classes")
    refused(open_with(lambda t: t, {"bert.pooling_type": 5}), "pooling_type is 5")
    folder = tmp_path / "nomic"
    shutil.copytree(os.path.join(os.path.dirname(FOLDER), "enc-nomic"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["NomicBertForSequenceClassification"]}))
    refused(lambda: reranker(str(folder)), "a classifier is not supported")
