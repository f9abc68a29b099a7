# SPDX-License-Identifier: MIT
"""Answers that keep to rules, over HTTP: response_format, json_schema and grammar."""
import json
import threading

import pytest

from serve_rig import STORY, Server, user

PET = {"type": "object", "properties": {"pet": {"enum": ["cat", "dog"]}, "age": {"type": "integer", "minimum": 1, "maximum": 20}},
       "required": ["pet", "age"], "additionalProperties": False}
PATHS = {"/v1/chat/completions": lambda: {"messages": [{"role": "user", "content": "A pet?"}]},
         "/v1/completions": lambda: {"prompt": "A pet: "}, "/completion": lambda: {"prompt": "A pet: "}}


@pytest.fixture(scope="module")
def server():
    s = Server(STORY, "--parallel", "4")
    yield s
    assert s.stop() == 0


def text_of(path, reply):
    if path == "/completion":
        return reply["content"]
    choice = reply["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def is_pet(text):
    pet = json.loads(text)
    return list(pet) == ["pet", "age"] and pet["pet"] in ("cat", "dog") and 1 <= pet["age"] <= 20


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rules", [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": PET}}},
    {"response_format": {"type": "json_object", "schema": PET}},
    {"response_format": {"type": "json_schema", "schema": PET}},
    {"json_schema": PET}])
def test_a_schema_is_kept_to(server, path, rules):
    for seed in range(3):
        reply = server.ask(path, {**PATHS[path](), **rules, "temperature": 1, "seed": seed, "max_tokens": 150})
        assert is_pet(text_of(path, reply))
        assert path == "/completion" or reply["choices"][0]["finish_reason"] == "stop"


def test_other_protocols(server):
    """The Responses API's text.format and Ollama's format."""
    for more in ({"type": "json_schema", "name": "pet", "schema": PET}, {"type": "json_object", "schema": PET}):
        reply = server.ask("/v1/responses", {"input": "A pet?", "text": {"format": more}, "max_output_tokens": 150})
        assert is_pet(reply["output"][-1]["content"][0]["text"])
    error = server.ask("/v1/responses", {"input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}}, status=400)["error"]
    assert error["param"] == "text.format.schema"
    chat = {"messages": [{"role": "user", "content": "A pet?"}], "stream": False, "options": {"num_predict": 150}}
    assert is_pet(server.ask("/api/chat", {**chat, "format": PET})["message"]["content"])
    assert server.ask("/api/chat", {**chat, "format": "json"})["message"]["content"].startswith("{")
    plain = {"prompt": "A pet?", "stream": False, "options": {"num_predict": 150}}
    assert is_pet(server.ask("/api/generate", {**plain, "format": PET})["response"])


@pytest.mark.parametrize("path", PATHS)
def test_a_grammar_is_kept_to(server, path):
    reply = server.ask(path, {**PATHS[path](), "grammar": 'root ::= " " ("red" | "green") [!]{3}', "temperature": 1, "max_tokens": 50})
    assert text_of(path, reply) in (" red!!!", " green!!!")


def test_any_object(server):
    """What is cut says so; what is not parses."""
    for seed in range(4):
        reply = server.ask("/v1/chat/completions", user("JSON!", response_format={"type": "json_object"}, max_tokens=60, seed=seed, temperature=1))
        text, why = text_of("/v1/chat/completions", reply), reply["choices"][0]["finish_reason"]
        assert text.startswith("{") and why in ("stop", "length")
        if why == "stop":
            assert isinstance(json.loads(text), dict)


def test_text_and_null_bind_nothing(server):
    plain = server.ask("/v1/chat/completions", user("Hi"))
    for rules in ({"response_format": {"type": "text"}}, {"response_format": None}, {"grammar": None, "json_schema": None}, {"grammar": ""}):
        assert server.ask("/v1/chat/completions", user("Hi", **rules))["choices"] == plain["choices"]


@pytest.mark.threads
def test_streams_and_several_choices(server):
    chunks = server.stream("/v1/chat/completions", user("A pet?", json_schema=PET, max_tokens=150))
    assert is_pet("".join(c["choices"][0]["delta"].get("content") or "" for c in chunks))
    reply = server.ask("/v1/chat/completions", user("A pet?", json_schema=PET, max_tokens=150, n=3, temperature=1, logprobs=True))
    assert len(reply["choices"]) == 3 and all(is_pet(c["message"]["content"]) for c in reply["choices"])
    for c in reply["choices"]:
        assert "".join(t["token"] for t in c["logprobs"]["content"]) == c["message"]["content"]


@pytest.mark.threads
def test_many_at_once_each_with_its_own(server):
    found = {}

    def one(i):
        grammar = 'root ::= "<%d" [a-z]{%d} ">"' % (i, i + 5)
        found[i] = server.ask("/v1/completions", {"prompt": "x", "grammar": grammar, "temperature": 1, "max_tokens": 100})
    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(8):
        text = found[i]["choices"][0]["text"]
        assert text.startswith("<%d" % i) and text.endswith(">") and len(text) == 3 + i + 5


@pytest.mark.parametrize("rules, param, words", [
    ({"grammar": "root ::= x"}, "grammar", "line 1, column 10"),
    ({"grammar": 7}, "grammar", ""),
    ({"json_schema": {"type": "strin"}}, "json_schema", "schema #"),
    ({"json_schema": {"properties": {"a": {"not": {}}}}}, "json_schema", "#/properties/a"),
    ({"json_schema": "text"}, "json_schema", "expected an object"),
    ({"response_format": {"type": "yaml"}}, "response_format.type", "yaml"),
    ({"response_format": {"type": "json_schema"}}, "response_format.schema", "missing"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}, "response_format.json_schema.schema", "itself"),
    ({"grammar": 'root ::= "a"', "json_schema": {}}, "grammar", "already"),
    ({"json_schema": {}, "ignore_eos": True}, "json_schema", "ignore_eos"),
])
def test_what_is_refused(server, rules, param, words):
    error = server.ask("/v1/chat/completions", user("Hi", **rules), status=400)["error"]
    assert error["param"] == param and words in error["message"]


def test_too_ambiguous_is_told(server):
    """A grammar whose meanings double with every token ends that answer, and no other."""
    body = user("x", grammar='root ::= "x" root "y" | "x" root "z" | ""', logit_bias={str(3 + ord("x")): 100}, max_tokens=200)
    error = server.ask("/v1/chat/completions", body, status=500)["error"]
    assert "ambiguous" in error["message"]
    server.ask("/v1/chat/completions", user("Hi"))
