# SPDX-License-Identifier: MIT
"""--rerank MODEL: a cross-encoder orders what rag search, ask and chat find."""
import json
import os

import pytest

ROOT = os.environ["ROTOR_SOURCE_ROOT"]
RANK = os.path.join(ROOT, "tests", "data", "golden", "rank-bert")
STORY = os.path.join(ROOT, "tests", "data", "model", "stories260K.gguf")
pytestmark = pytest.mark.usefixtures("sqlite_is_there")
NOTES = {"a": "The pump is red.", "b": "The pump cook boils an egg by the sea.", "c": "How long does the pump last? 9 hours."}


@pytest.fixture(scope="module")
def store(rotor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rerank")
    lines = [json.dumps({"_id": k, "text": v}) for k, v in NOTES.items()]
    (folder / "notes.jsonl").write_text("\n".join(lines) + "\n")
    rotor("rag", "add", folder / "store", folder / "notes.jsonl", "--no-embed")
    return folder / "store"


def search(rotor, store, *flags, query="pump"):
    return [json.loads(line) for line in rotor("rag", "search", store, query, "--json", *flags).stdout.splitlines()]


def test_the_order_is_the_models(rotor, store):
    plain, judged = search(rotor, store), search(rotor, store, "--rerank", RANK)
    assert sorted(h["id"] for h in plain) == sorted(h["id"] for h in judged) == ["a", "b", "c"]
    scores = [h["rerank"] for h in judged]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    assert all("rerank" not in h for h in plain)
    assert {h["id"]: h["score"] for h in plain} == {h["id"]: h["fused"] for h in judged}
    assert search(rotor, store, "--rerank", RANK) == judged
    one = search(rotor, store, "--rerank", RANK, "--rerank-n", "1")
    assert [h["id"] for h in one] == [h["id"] for h in plain] and ["rerank" in h for h in one] == [True, False, False]
    text = rotor("rag", "search", store, "pump", "--rerank", RANK, "--explain")
    assert f"reranked {judged[0]['rerank']:.4f}" in text.stdout and "reranking " in text.stderr


def test_ask_says_how_it_was_judged(rotor, store):
    best = search(rotor, store, "--rerank", RANK)[0]
    out = json.loads(rotor("rag", "ask", store, "pump", "--no-answer", "--gate", "always", "--rerank", RANK, "--json").stdout)
    assert out["sources"][0]["rerank"] == pytest.approx(best["rerank"]) and out["degraded"] == ["vector"]


def test_chat(rotor, store):
    said = rotor("chat", STORY, "--rag", store, "--rerank", RANK, "--gate", "always", "-n", "4", "--no-history",
                 input="How long does the pump last?\n", status=None)
    assert said.returncode == 0, said.stderr


def test_what_cannot_judge(rotor, store):
    long = "pump " * 50
    r = rotor("rag", "search", store, long, "--rerank", RANK)
    assert "does not rerank, the order stays as it was: the query has 52 tokens" in r.stderr
    out = json.loads(rotor("rag", "ask", store, long, "--no-answer", "--rerank", RANK, "--json", status=None).stdout)
    assert out["degraded"] == ["vector", "rerank"]
    r = rotor("rag", "search", store, "pump", "--rerank", os.path.join(os.path.dirname(RANK), "enc-bert"), status=None)
    assert r.returncode == 2 and "a cross-encoder is wanted" in r.stderr
    r = rotor("run", RANK, "-p", "x", status=None)
    assert r.returncode == 1 and "is a cross-encoder" in r.stderr


def test_eval_counts_the_models_order(rotor, store, tmp_path):
    """Each document is the one relevant in turn: its place is the one that the model gives it."""
    asked = "how long the pump"
    judged = [h["id"] for h in search(rotor, store, "--plain", "--rerank", RANK, query=asked)]
    plain = [h["id"] for h in search(rotor, store, "--plain", query=asked)]
    assert judged != plain
    (tmp_path / "q.jsonl").write_text(json.dumps({"_id": "1", "text": asked}) + "\n")

    def scores(relevant, *flags):
        (tmp_path / "r.tsv").write_text("1\t%s\t1\n" % relevant)
        out = rotor("rag", "eval", store, "--queries", tmp_path / "q.jsonl", "--qrels", tmp_path / "r.tsv", "--mode", "lexical",
                    "--json", *flags)
        return json.loads(out.stdout)["mrr@10"], out.stderr

    for i, name in enumerate(judged):
        assert scores(name, "--rerank", RANK)[0] == pytest.approx(1 / (i + 1))
        assert scores(name, "--chunked")[0] == pytest.approx(1 / (plain.index(name) + 1))
        assert scores(name, "--rerank", RANK, "--rerank-n", "1")[0] == pytest.approx(1 / (plain.index(name) + 1))
    (tmp_path / "q.jsonl").write_text('{"_id": "1", "text": "%s"}\n' % ("pump " * 50))
    mrr, said = scores("a", "--rerank", RANK)  # the shortest one
    assert mrr == 1 and "does not rerank, the order stays as it was" in said
    r = rotor("rag", "eval", store, "--queries", tmp_path / "q.jsonl", "--qrels", tmp_path / "r.tsv", "--mode", "lexical",
              "--rerank", os.path.join(os.path.dirname(RANK), "enc-bert"), status=2)
    assert "a cross-encoder is wanted" in r.stderr
