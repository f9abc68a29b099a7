# SPDX-License-Identifier: MIT
"""A store on a server with pgvector: the server keeps what it needs in step, and a search finds what it finds without, though it reads few
vectors. Which of them it reads is seen by damage: who reads a damaged vector says so."""
import json
import os
import random
import re

import pytest

STORY = os.environ["ROTOR_MODEL"]
MANY = 1024  # vectors from which on the server is asked
WORDS = ("red blue old new small tall cold warm dog cat bird fish tree river stone house girl boy king queen ran saw ate had lost found loved "
         "made sang under over near sea hill night day sun rain ball cake hat boat").split()
STEP = "SELECT count(*), count(near) FROM vec"
QUERIES = ("The old king lost his hat.", "A bird sang in the rain.", "boat sea")


def corpus(path, n, seed):
    pick = random.Random(seed)
    path.write_text("".join(json.dumps({"_id": "d%d-%d" % (seed, i), "text": " ".join(pick.choices(WORDS, k=pick.randint(1, 9)))}) + "\n"
                            for i in range(n)))
    return path


def found(rotor, store, *more, modes=("vector", "hybrid", "lexical"), queries=QUERIES):
    """The hits of some questions, with their scores."""
    said = [rotor("rag", "search", store, query, "--mode", mode, "--json", "-k", "40", *more) for query in queries for mode in modes]
    label = re.escape(json.dumps(str(store).split("?")[0].split("/")[-1]))
    return [re.sub(r'"store":%s,' % label, "", one.stdout) + one.stderr for one in said]


def number(server, store, sql):
    return [int(n) for n in server.sql(sql, store).split("|")]


@pytest.fixture(scope="module")
def made(rotor, vectors, tmp_path_factory):
    """The same documents in a store on the server, in a folder, and as an export."""
    folder = tmp_path_factory.mktemp("made")
    docs, store = corpus(folder / "docs.jsonl", 1400, 1), vectors.store()
    rotor("rag", "add", store, docs, "--embed-model", STORY)
    rotor("rag", "export", store, folder / "out.rag")
    rotor("rag", "import", folder / "a.store", folder / "out.rag")
    return store, folder / "a.store", folder / "out.rag"


def test_what_is_found_is_the_same(rotor, vectors, made):
    store, in_file, _ = made
    rows, near = number(vectors, store, STEP)
    assert rows == near >= MANY
    one, other = found(rotor, store), found(rotor, in_file)
    assert all(said.count('"rank"') > 5 for said in one) and one == other
    only = {"more": ("--filter", "path=*docs.jsonl"), "queries": ('king -hat "old"', "boat -sea"), "modes": ("hybrid",)}
    for question in only["queries"]:
        one, other = (found(rotor, s, *only["more"], queries=(question,), modes=only["modes"]) for s in (store, in_file))
        assert one == other and '"rank"' in one[0]


def test_only_near_vectors_are_read_where_that_is_enough(rotor, vectors, made):
    store = vectors.store()
    rotor("rag", "import", store, made[2])
    question, by_meaning = (QUERIES[0],), ("vector",)
    before = found(rotor, store, modes=by_meaning, queries=question)
    best = json.loads(before[0].splitlines()[0])
    nearest = "(SELECT v.near FROM vec v JOIN chunk c ON c.hash=v.hash JOIN doc d ON d.id=c.doc_id WHERE d.key='%s' LIMIT 1)" % best["id"]
    farthest = "(SELECT hash FROM vec ORDER BY far(near,%s) DESC LIMIT 1)" % nearest
    vectors.sql("UPDATE vec SET scale=5 WHERE hash=%s" % farthest, store)
    assert found(rotor, store, modes=by_meaning, queries=question) == before
    search = ("rag", "search", store, question[0], "--mode", "vector")
    assert "damaged" in rotor(*search, "--filter", "path=*docs.jsonl", status=1).stderr
    # Where all are as near as the hundredth, the server's choice says nothing.
    vectors.sql("UPDATE vec SET high=o.high, low=o.low FROM (SELECT high, low FROM vec LIMIT 1) o", store)
    assert "damaged" in rotor(*search, status=1).stderr


def floats(high, low):
    signed = [[b - 256 if b > 127 else b for b in bytes.fromhex(plane)] for plane in (high, low)]
    return [h + l / 254 for h, l in zip(*signed)]


def test_changes_keep_it_in_step(rotor, vectors, made, tmp_path):
    store = vectors.store()
    docs = corpus(tmp_path / "docs.jsonl", 40, 2)
    rotor("rag", "add", store, docs, "--embed-model", STORY)
    corpus(docs, 40, 3)
    rotor("rag", "add", store, docs, "--embed-model", STORY)
    rotor("rag", "remove", store, "d3-1", "d3-2")
    rotor("rag", "gc", store)
    rotor("rag", "verify", store)
    rows = vectors.sql("SELECT encode(high,'hex'), encode(low,'hex'), near FROM vec", store).splitlines()
    assert 30 < len(rows) <= 38
    for high, low, near in (row.split("|") for row in rows):
        assert json.loads(near) == pytest.approx(floats(high, low), rel=1e-5, abs=1e-5)
    large, in_file = vectors.store(), tmp_path / "a.store"
    for other in (large, in_file):
        rotor("rag", "import", other, made[2])
        rotor("rag", "remove", other, *["d1-%d" % i for i in range(0, 200, 3)])
    assert found(rotor, large, modes=("hybrid",)) == found(rotor, in_file, modes=("hybrid",))


def test_the_extension_comes_later_and_goes(rotor, vectors, made, tmp_path):
    """To a role that may not bring it itself."""
    vectors.sql("CREATE ROLE guest LOGIN")
    vectors.sql("CREATE DATABASE later ENCODING 'UTF8' TEMPLATE template0")
    vectors.sql("GRANT CREATE ON DATABASE later TO guest")
    store = vectors.store(database="later", user="guest")
    rotor("rag", "import", store, made[2])
    column = "SELECT count(*) FROM pg_attribute WHERE attrelid='vec'::regclass AND attname='near'"
    assert number(vectors, store, column) == [0]
    without = found(rotor, store, modes=("vector", "hybrid"))
    vectors.sql("CREATE EXTENSION vector SCHEMA public", store)
    assert found(rotor, store, modes=("vector", "hybrid")) == without and number(vectors, store, column) == [0]
    new = tmp_path / "new.txt"
    new.write_text("A zeppelin.")
    rotor("rag", "add", store, new, "--no-embed")
    rows, near = number(vectors, store, STEP)
    assert rows == near >= MANY
    rotor("rag", "remove", store, new)
    assert found(rotor, store, modes=("vector", "hybrid")) == without
    vectors.sql("DROP EXTENSION vector CASCADE", store)
    assert found(rotor, store, modes=("vector", "hybrid")) == without
