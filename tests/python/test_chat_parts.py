# SPDX-License-Identifier: MIT
"""include/rotor_chat.h from Python: prompts with reasoning and tools, answers in parts, kept as they were generated."""
import importlib.util
import pathlib
import sys

import pytest

import rotor

PROGRAM_TESTS = pathlib.Path(__file__).resolve().parent.parent / "program"
THOUGHT = "Two and two."


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    sys.path.insert(0, str(PROGRAM_TESTS))
    try:
        chains = importlib.import_module("test_cli_harmony")
    finally:
        sys.path.remove(str(PROGRAM_TESTS))
    said = ["<|channel|>", "analysis", "<|message|>", THOUGHT, "<|end|>", "<|start|>", "assistant", "<|channel|>", "final",
            "<|message|>", "Four.", "<|return|>"]
    path = chains.write_chain(tmp_path_factory.mktemp("parts") / "m.gguf", said, thought=THOUGHT)
    with rotor.Engine(str(path), threads=1) as engine:
        yield engine


def test_an_answer_in_parts(thinker):
    assert thinker.has_parts
    heard, text = [], []
    prompt = thinker.chat_prompt([{"role": "user", "content": "Hi"}], effort="low", date="2025-06-28")
    shown = thinker.detokenize(prompt, special=True)
    assert "Reasoning: low" in shown and "Current date: 2025-06-28" in shown
    r = thinker.generate(prompt, temperature=0, max_tokens=20, parts=True, on_text=text.append,
                         on_piece=lambda *piece: heard.append(piece))
    assert r.text == "Four." == "".join(text) and r.reasoning == THOUGHT and r.finish == "end" and r.tool_calls == []
    assert heard == [("reasoning", "", "", True, False), ("reasoning", THOUGHT, "", False, False),
                     ("reasoning", "", "", False, True), ("answer", "", "", True, False),
                     ("answer", "Four.", "", False, False), ("answer", "", "", False, True)]
    assert thinker.generate(prompt, temperature=0, max_tokens=20, parts=True, stop="two").text == "Four."
    assert thinker.generate(prompt, temperature=0, max_tokens=20, parts=True, stop="ur").text == "Fo"


def test_turns_and_tools(thinker):
    tools = [{"type": "function", "function": {"name": "get", "description": "Gets it."}}]
    turns = [{"role": "user", "content": "q"},
             {"role": "assistant", "content": "", "reasoning": "hm", "tool_calls": [{"name": "get", "arguments": "{}"}]},
             {"role": "tool", "name": "get", "content": "7"}]
    shown = thinker.detokenize(thinker.chat_prompt(turns, tools=tools), special=True)
    assert "// Gets it.\ntype get = () => any;" in shown and "analysis<|message|>hm<|end|>" in shown
    assert "to=functions.get<|channel|>commentary <|constrain|>json<|message|>{}<|call|>" in shown
    assert "<|start|>functions.get to=assistant<|channel|>commentary<|message|>7<|end|><|start|>assistant" in shown
    with pytest.raises(rotor.Error, match="expected one of"):
        thinker.chat_prompt(turns, effort="loud")


def test_a_conversation_keeps_what_was_generated(thinker):
    chat = thinker.chat(temperature=0, max_tokens=20)
    assert chat.say("Hi").text == "Four."
    assert list(chat.stream("Again")) == ["Four."]
    assert [m["content"] for m in chat.messages] == ["Hi", "Four.", "Again", "Four."]
    again = thinker.detokenize(thinker.chat_prompt(chat.messages), special=True)
    assert THOUGHT not in again and again.count("final<|message|>Four.<|end|>") == 2


def test_an_exception_of_a_listener_comes_out(thinker):
    def listen(*_):
        raise KeyError("mine")
    prompt = thinker.chat_prompt([{"role": "user", "content": "Hi"}])
    with pytest.raises(KeyError, match="mine"):
        thinker.generate(prompt, temperature=0, max_tokens=20, parts=True, on_piece=listen)


def test_other_models_have_no_parts(engine):
    assert not engine.has_parts
    with pytest.raises(rotor.Error, match="have no parts"):
        engine.generate("Once", max_tokens=2, parts=True)
