# SPDX-License-Identifier: MIT
"""Answers of rotor serve in parts: thoughts, text and calls are kept apart, and come back as they were."""
import re

from serve_rig import TOOLS, user


def test_thoughts_are_kept_apart(parts):
    """What is thought goes to reasoning_content, whole and in streams, and never into the content; it is counted."""
    ask = {**user("What is 2 + 2?", max_tokens=40), "model": "thinker"}
    got = parts.ask("/v1/chat/completions", ask)
    message = got["choices"][0]["message"]
    assert message["content"] == "**Four**." and message["reasoning_content"] == "Two and two."
    assert "tool_calls" not in message and got["choices"][0]["finish_reason"] == "stop"
    assert 0 < got["usage"]["completion_tokens_details"]["reasoning_tokens"] < got["usage"]["completion_tokens"]
    deltas = [c["choices"][0]["delta"] for c in parts.stream("/v1/chat/completions", ask)]
    assert "".join(d.get("content") or "" for d in deltas) == "**Four**."
    assert "".join(d.get("reasoning_content") or "" for d in deltas) == "Two and two."
    assert all(not ("content" in d and "reasoning_content" in d) for d in deltas)
    probable = parts.ask("/v1/chat/completions", {**ask, "logprobs": True})["choices"][0]["logprobs"]["content"]
    assert "".join(t["token"] for t in probable) == "**Four**."


def test_calls_have_an_index_in_every_piece(parts):
    """Streamed calls: index always, id, type and name once, arguments in pieces; content is null when only called."""
    ask = {**user("Get it", max_tokens=40, tools=TOOLS), "model": "caller"}
    got = parts.ask("/v1/chat/completions", ask)["choices"][0]
    assert got["finish_reason"] == "tool_calls" and got["message"]["content"] is None and got["message"]["refusal"] is None
    (call,) = got["message"]["tool_calls"]
    assert re.match(r"call_\w{20,}$", call["id"]) and call["type"] == "function"
    assert call["function"] == {"name": "get_it", "arguments": '{"a":  1}'}
    chunks = parts.stream("/v1/chat/completions", ask)
    pieces = [c["choices"][0]["delta"]["tool_calls"] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
    assert all(len(p) == 1 and p[0]["index"] == 0 for p in pieces) and len(pieces) >= 3
    assert [("id" in p[0], "type" in p[0], "name" in p[0]["function"]) for p in pieces] == [(True,) * 3] + [(False,) * 3] * (len(pieces) - 1)
    assert "".join(p[0]["function"]["arguments"] for p in pieces) == '{"a":  1}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_answer_that_comes_back_is_the_tokens_it_was(parts):
    """A call that a client sends back, and its result, continue the session where it was: only what is new is evaluated."""
    first = {**user("Get it", max_tokens=40, tools=TOOLS), "model": "caller"}
    got = parts.ask("/v1/chat/completions", first)
    message = got["choices"][0]["message"]
    then = {**first, "messages": first["messages"] + [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"}]}
    usage = parts.ask("/v1/chat/completions", then)["usage"]
    whole = got["usage"]["prompt_tokens"] + got["usage"]["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= whole - 1
    message["tool_calls"][0]["function"]["arguments"] = '{"a":1}'  # the same value, as clients may write it
    usage = parts.ask("/v1/chat/completions", then)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= whole - 1
    message["tool_calls"][0]["function"]["arguments"] = '{"a": 2}'  # another value is another answer
    usage = parts.ask("/v1/chat/completions", then)["usage"]
    assert got["usage"]["prompt_tokens"] - 1 <= usage["prompt_tokens_details"]["cached_tokens"] < whole - 1


def test_a_thought_enters_no_other_conversation(parts):
    """What was thought before a call goes on with its own conversation, and into none that only has the same call."""
    def after_the_call(text, message, **more):
        body = {**user(text, tools=TOOLS), "model": "planner", **more}
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "42"}
        body["messages"] = body["messages"] + [message, result]
        return parts.ask("/apply-template", body)["prompt"]
    got = parts.ask("/v1/chat/completions", {**user("Mine", max_tokens=40, tools=TOOLS), "model": "planner"})
    message = got["choices"][0]["message"]
    assert message.pop("reasoning_content") == "Secret plan."
    assert "Secret plan." in after_the_call("Mine", message)
    assert "Secret plan." not in after_the_call("Another's", message)
    assert "Secret plan." not in after_the_call("Mine", message, tools=TOOLS[:1])
    assert "Secret plan." in after_the_call("Mine", message)


def test_a_thought_is_left_out_of_later_prompts(parts):
    """Old analysis does not stay in the history, whether the client sends it back or not."""
    ask = {**user("What is 2 + 2?", max_tokens=40), "model": "thinker"}
    message = parts.ask("/v1/chat/completions", ask)["choices"][0]["message"]
    sent = ask["messages"] + [message, {"role": "user", "content": "Sure?"}]
    without = [m if "reasoning_content" not in m else {"role": "assistant", "content": m["content"]} for m in sent]
    prompts = [parts.ask("/apply-template", {"model": "thinker", "messages": m})["prompt"] for m in (sent, without)]
    assert prompts[0] == prompts[1] and "Two and two" not in prompts[0] and "**Four**." in prompts[0]


def test_effort(parts):
    for more, word in (({}, "medium"), ({"reasoning_effort": "high"}, "high"), ({"chat_template_kwargs": {"reasoning_effort": "low"}}, "low")):
        got = parts.ask("/apply-template", {"model": "thinker", **user("Hi", **more)})
        assert "Reasoning: %s\n" % word in got["prompt"]
