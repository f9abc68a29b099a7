# SPDX-License-Identifier: MIT
"""--rewrite llm: a question that follows up is written anew by the model before it is searched for.

The models here say one thing, whatever they are asked: what they make of a question is known, and so is their answer.
"""
import json
import re

import pytest
from serve_rig import ENDLESS, Server, wait_until
from test_cli_harmony import write_chain

ALONE = "How long does the pump last?"
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant"
END = "<|im_end|>"
NOTES = {"pump": "The pump lasts nine years.", "sea": "The sea is blue.", "egg": "An egg boils for seven minutes."}
EARLIER, QUESTION = "Tell me of the sea.", "and what of that one?"

pytestmark = pytest.mark.usefixtures("sqlite_is_there")


def write_model(folder, name, *said):
    return str(write_chain(folder / (name + ".gguf"), [*said, END], template=TURNS, marks=(END,)))


@pytest.fixture(scope="module")
def folder(rotor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewrite")
    (folder / "notes.jsonl").write_text("".join(json.dumps({"_id": k, "text": v}) + "\n" for k, v in NOTES.items()))
    rotor("rag", "add", folder / "store", folder / "notes.jsonl", "--no-embed")
    (folder / "zebra.txt").write_text("Zebras graze.\n")
    rotor("rag", "add", folder / "other", folder / "zebra.txt", "--no-embed")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return write_model(folder, "says", ALONE)


# ---- ask -------------------------------------------------------------------------------------------------------------


def ask(rotor, folder, model, *more):
    r = rotor("rag", "ask", folder / "store", model, QUESTION, "--json", "--gate", "always", "--log-level", "info", *more, status=None)
    return json.loads(r.stdout), r.stderr


def test_what_was_rewritten_is_searched_for(rotor, folder, model):
    out, said = ask(rotor, folder, model, "--earlier", EARLIER, "--rewrite", "llm")
    assert out["query"] == ALONE and out["rewritten"] and not out["followed_up"] and out["question"] == QUESTION
    assert [s["id"] for s in out["sources"]] == ["pump"] and "searched for, too: " + ALONE in said
    out, said = ask(rotor, folder, model, "--earlier", EARLIER)
    assert out["query"] == QUESTION and not out["rewritten"] and out["followed_up"]
    assert [s["id"] for s in out["sources"]] == ["sea"] and "searched for" not in said


def test_without_a_model_nothing_is_rewritten(rotor, folder):
    r = rotor("rag", "ask", folder / "store", QUESTION, "--no-answer", "--earlier", EARLIER, "--rewrite", "llm", "--json", "--gate", "always")
    assert "--rewrite llm needs the model" in r.stderr and not json.loads(r.stdout)["rewritten"]


def test_nothing_was_said_before(rotor, folder, model):
    out, said = ask(rotor, folder, model, "--rewrite", "llm")
    assert not out["rewritten"] and not out["sources"] and "searched for" not in said


@pytest.mark.parametrize("said", [[], ["Two\nlines of the pump?"], ["pump " * 200], ["the of"], [" pump"] * 3], ids=[
    "nothing", "lines", "long", "no_words", "endless"])
def test_what_is_no_question_is_not_used(rotor, folder, said):
    model = write_model(folder, "bad", *said)
    out, told = ask(rotor, folder, model, "--earlier", EARLIER, "--rewrite", "llm", "-n", "4")
    assert not out["rewritten"] and out["followed_up"] and [s["id"] for s in out["sources"]] == ["sea"]
    assert "the question stays as it is" in told


# ---- chat ------------------------------------------------------------------------------------------------------------


def test_every_follow_up_of_a_chat_is_rewritten(rotor, folder, model):
    """Where nothing is found it changes nothing."""
    def talk(how):
        r = rotor("chat", model, "--rag", folder / "other", "--rewrite", how, "--no-history", "--log-level", "info",
                  input="%s\n%s\nand why is that so?\n" % (EARLIER, QUESTION))
        return r.stderr, r.stdout
    plain, llm = talk("rule"), talk("llm")
    assert plain[1] == llm[1] and llm[0].count("searched for, too: " + ALONE) == 2 and "searched for" not in plain[0]


# ---- the server ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(folder, model):
    s = Server(model, "--rag", str(folder / "store") + ",notes", "--parallel", "1")
    yield s
    assert s.stop() == 0


def body(rag=None, question=QUESTION, **more):
    turns = [("user", EARLIER), ("assistant", "It is blue."), ("user", question)]
    return {"messages": [{"role": r, "content": c} for r, c in turns], "temperature": 0, "max_tokens": 8,
            "rag": {"store": "notes", "mode": "always", **(rag or {})}, **more}


def test_a_request_is_rewritten(server):
    before = [server.metric("rag_rewritten_total"), server.metric("rag_not_rewritten_total")]
    out = server.ask("/v1/chat/completions", body({"rewrite": "llm"}))
    assert out["rag"]["query"] == ALONE and out["rag"]["rewritten"] and [s["id"] for s in out["rag"]["sources"]] == ["pump"]
    assert out["choices"][0]["message"]["content"] == ALONE
    out = server.ask("/v1/chat/completions", body())
    assert out["rag"]["query"] == QUESTION and not out["rag"]["rewritten"] and out["rag"]["followed_up"]
    assert [server.metric("rag_rewritten_total"), server.metric("rag_not_rewritten_total")] == [before[0] + 1, before[1]]
    told = server.ask("/v1/chat/completions", body({"rewrite": "loud"}), 400)["error"]["message"]
    assert "expected rule or llm" in told


def test_what_wants_the_last_answer_in_another_form(server, rotor, folder, model):
    said = "shorter, please"
    assert "rag" in server.ask("/v1/chat/completions", body({"mode": "auto"}, said))
    assert "rag" not in server.ask("/v1/chat/completions", body({"mode": "auto", "retrieve": "need"}, said))
    assert "rag" in server.ask("/v1/chat/completions", body({"mode": "auto", "retrieve": "need"}, "a shorter pump"))
    assert "rag" in server.ask("/v1/chat/completions", body({"mode": "always", "retrieve": "need"}, said))
    for how, searches in (("auto", 2), ("need", 1)):
        r = rotor("chat", model, "--rag", folder / "other", "--retrieve", how, "--no-history", input="of zebras?\n%s\n" % said)
        assert (r.stderr + r.stdout).count("no local source") + r.stderr.count("consulted") + r.stderr.count("Sources:") == searches


def test_a_stream_is_rewritten(server):
    last = server.stream("/v1/chat/completions", body({"rewrite": "llm"}))[-1]
    assert last["rag"]["query"] == ALONE


def test_it_is_counted(server):
    def tokens():
        return server.metric("prompt_tokens_total")
    before = tokens()
    first = server.ask("/v1/chat/completions", body({"rewrite": "llm"}, "of which?"))
    read = first["usage"]["prompt_tokens"] - first["usage"]["prompt_tokens_details"]["cached_tokens"]
    wait_until(lambda: tokens() > before + read + 50)      # the prompt that asks for a question has more than 50


def test_a_conversation_keeps_what_it_has_in_the_cache(server):
    """Two are kept warm: one that was there before, and the one whose question is rewritten, which takes no place of its own."""
    def talk(**more):
        return server.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "Something else. " * 20}], "max_tokens": 8, **more})
    talk()
    assert server.ask("/v1/chat/completions", body({"rewrite": "llm"}, "keep it"))["rag"]["rewritten"]
    usage = talk()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1 > 100


def test_who_leaves_while_it_is_rewritten(folder):
    """The only place is taken, so that the rewriting waits; then nobody waits for it."""
    endless = write_model(folder, "endless", " pump", " pump")
    s = Server(endless, "--rag", str(folder / "store") + ",notes", "--parallel", "1", "--ctx", str(ENDLESS), "--max-queue", "8")
    try:
        held = s.hold()
        before = s.metric("requests_cancelled_total")
        c = s.connect()
        c.request("POST", "/v1/chat/completions", json.dumps(body({"rewrite": "llm"})), {"Content-Type": "application/json"})
        wait_until(lambda: s.metric("requests_waiting") >= 2)      # the request, and the rewriting for it
        c.close()
        wait_until(lambda: s.metric("requests_waiting") == 0)
        wait_until(lambda: s.metric("requests_cancelled_total") == before + 1)
        held.close()
        out = s.ask("/v1/chat/completions", body({"rewrite": "llm"}))
        assert not out["rag"]["rewritten"] and out["rag"]["followed_up"]      # what it says has no end
        assert s.metric("rag_not_rewritten_total") == 2
    finally:
        assert s.stop() == 0


def test_the_end_while_it_is_rewritten(folder):
    endless = write_model(folder, "endless", " pump", " pump")
    s = Server(endless, "--rag", str(folder / "store") + ",notes", "--parallel", "1", "--ctx", str(ENDLESS), "--rewrite", "llm")
    held, c = s.hold(), s.connect()
    c.request("POST", "/v1/chat/completions", json.dumps(body()), {"Content-Type": "application/json"})
    wait_until(lambda: s.metric("requests_waiting") >= 2)
    s.process.send_signal(2)
    s.process.send_signal(2)
    r = c.getresponse()
    assert r.status == 503 and json.loads(r.read())["error"]["code"] == "shutting_down"
    held.close()
    s.process.wait(timeout=60)
