# SPDX-License-Identifier: MIT
"""OpenAI's chat and completions at rotor serve: what clients send, and the shape of what they get."""
import re
import time

import pytest

from serve_rig import STORY, Server, complete, user


def test_health_and_models(server):
    assert server.ask("/health") == {"status": "ok"}
    models = server.ask("/v1/models")
    assert models["object"] == "list" and models["data"] == models["models"]
    row = models["data"][0]
    assert row["id"] == "stories260K" and row["object"] == "model" and row["n_ctx"] <= row["n_ctx_train"]
    assert server.ask("/v1/models/stories260K") == row
    assert server.ask("/v1/models/none", status=404)["error"]["code"] == "model_not_found"


def test_completion_is_what_run_prints(server, rotor):
    want = rotor("run", STORY, "-p", "Once upon a time", "-n", "24", "--temp", "0").stdout.rstrip("\n")
    got = server.ask("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0})
    assert got["object"] == "text_completion" and got["id"].startswith("cmpl-")
    assert got["choices"][0]["text"].rstrip("\n") == want


@pytest.mark.threads
def test_stream_and_whole_agree(server):
    whole = server.ask("/v1/chat/completions", user("A story, please"))
    chunks = server.stream("/v1/chat/completions", user("A story, please"))
    assert whole["object"] == "chat.completion" and {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert len({c["id"] for c in chunks}) == 1
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0] == {"role": "assistant", "content": None} and deltas[-1] == {}
    assert not any("role" in d for d in deltas[1:])
    assert "".join(d["content"] for d in deltas[1:-1]) == whole["choices"][0]["message"]["content"]
    assert [c["choices"][0]["finish_reason"] for c in chunks][-1] == whole["choices"][0]["finish_reason"] == "length"


def test_ends_at_a_signal():
    s = Server(STORY)
    start = time.time()
    assert s.stop() == 0 and time.time() - start < 5


def test_both_names_of_the_token_limit(server):
    """max_completion_tokens is obeyed like max_tokens; of two the smaller."""
    for limits, n in (({"max_completion_tokens": 5}, 5), ({"max_tokens": 4}, 4),
                      ({"max_tokens": 9, "max_completion_tokens": 3}, 3), ({"max_tokens": 2, "max_completion_tokens": 7}, 2)):
        got = server.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], **limits})
        assert got["usage"]["completion_tokens"] == n and got["choices"][0]["finish_reason"] == "length"


def test_null_is_absent(server):
    """An explicit null means that the field was not sent."""
    fields = ["stop", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "response_format", "logit_bias", "user",
              "temperature", "top_p", "n", "stream", "stream_options", "seed", "logprobs", "top_logprobs", "presence_penalty",
              "frequency_penalty", "reasoning_effort", "parallel_tool_calls", "top_k", "min_p", "truncation", "model"]
    body = dict.fromkeys(fields)
    body.update(messages=[{"role": "user", "content": "Hi", "name": None}], max_tokens=4)
    assert server.ask("/v1/chat/completions", body)["usage"]["completion_tokens"] <= 4


def test_prompts_of_every_form(server):
    """A prompt is a text, ids, a list of texts, a list of lists of ids, or a mixture."""
    ids = server.ask("/tokenize", {"content": "Once upon a time", "add_special": True})["tokens"]
    text = complete(server)["choices"][0]["text"]
    for prompt, n in (("Once upon a time", 1), (ids, 1), (["Once upon a time"] * 2, 2), ([ids, ids], 2),
                      (["Once upon a time", ids], 2)):
        got = complete(server, prompt=prompt)
        assert [c["text"] for c in got["choices"]] == [text] * n and [c["index"] for c in got["choices"]] == list(range(n))
        assert got["usage"]["prompt_tokens"] == n * len(ids)


def test_tools_without_parameters_and_of_unknown_types(server):
    """A tool whose type nobody knows is skipped; one without parameters is fine. This model's template knows no tools,
    which is said; tool_choice none means that there are none."""
    unknown = [{"type": "web_search"}, {"type": "local_shell", "x": 1}]
    server.ask("/v1/chat/completions", user("Hi", tools=unknown))
    server.ask("/v1/chat/completions", user("Hi", tools=[]))
    plain = [{"type": "function", "function": {"name": "f"}}]
    server.ask("/v1/chat/completions", user("Hi", tools=plain, tool_choice="none"))
    error = server.ask("/v1/chat/completions", user("Hi", tools=plain), status=400)["error"]
    assert "tools" in error["message"] and error["code"] == "unsupported_parameter"


def test_message_shape(server):
    """A message has role, content and refusal, a choice has logprobs, whether asked for or not."""
    got = server.ask("/v1/chat/completions", user("Hi"))
    choice = got["choices"][0]
    assert set(choice) == {"index", "message", "finish_reason", "logprobs"} and choice["logprobs"] is None
    assert choice["message"]["role"] == "assistant" and choice["message"]["refusal"] is None
    assert re.match(r"chatcmpl-\w+$", got["id"]) and abs(got["created"] - time.time()) < 100
    assert got["model"] == "stories260K"


def test_logprobs_items(server):
    """Each token has token, logprob, bytes and its alternatives; together they are the text, streamed or not."""
    body = user("A story", logprobs=True, top_logprobs=3, max_tokens=20)
    whole = server.ask("/v1/chat/completions", body)["choices"][0]
    items = whole["logprobs"]["content"]
    assert "".join(i["token"] for i in items) == whole["message"]["content"] and len(items) == 20
    for i in items:
        assert set(i) == {"token", "logprob", "bytes", "top_logprobs"} and bytes(i["bytes"]).decode() == i["token"]
        assert len(i["top_logprobs"]) == 3 and i["logprob"] <= 0
        assert i["top_logprobs"][0]["logprob"] == pytest.approx(i["logprob"], abs=1e-5)  # temperature 0
        assert set(i["top_logprobs"][0]) == {"token", "logprob", "bytes"}
    chunks = server.stream("/v1/chat/completions", body)
    streamed = [i for c in chunks for i in ((c["choices"][0]["logprobs"] or {}).get("content") or [])]
    assert streamed == items
    server.ask("/v1/chat/completions", user("Hi", top_logprobs=3), status=400)
    server.ask("/v1/chat/completions", user("Hi", logprobs=True, top_logprobs=21), status=400)


def test_usage_chunk(server):
    """Usage comes in one chunk without choices, only when asked for; sums hold."""
    chunks = server.stream("/v1/chat/completions", user("Hi", stream_options={"include_usage": True}))
    assert chunks[-1]["choices"] == [] and all(c["usage"] is None for c in chunks[:-1])
    u = chunks[-1]["usage"]
    assert u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] and u["completion_tokens"] == 12
    for c in server.stream("/v1/chat/completions", user("Hi")):
        assert "usage" not in c and len(c["choices"]) == 1


def test_finish_reasons(server):
    """stop at a stop string and at the model's end, length at the limit and at a full context."""
    text = complete(server, max_tokens=40)["choices"][0]["text"]
    word = text.split()[5]
    got = complete(server, max_tokens=40, stop=word)["choices"][0]
    assert got["finish_reason"] == "stop" and got["text"] == text[:text.index(word)]
    assert complete(server)["choices"][0]["finish_reason"] == "length"
    full = complete(server, max_tokens=100000, ignore_eos=True)
    n_ctx = server.ask("/v1/models")["data"][0]["n_ctx"]
    assert full["choices"][0]["finish_reason"] == "length" and n_ctx <= full["usage"]["total_tokens"] <= n_ctx + 1


def test_nothing_of_a_stop_string_is_shown(server):
    """A stop string over several tokens never begins to appear in a stream, and what only looks like one does."""
    text = complete(server, max_tokens=40)["choices"][0]["text"]
    for at in range(3, 60, 7):
        stop = text[at:at + 9]
        chunks = server.stream("/v1/completions", {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 40,
                                                   "stop": ["not in it", stop]})
        assert "".join(c["choices"][0]["text"] for c in chunks) == text[:text.index(stop)]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    near = text[10:20] + "\x01"
    assert complete(server, max_tokens=40, stop=[near])["choices"][0]["text"] == text


def test_characters_are_whole(server):
    """No event holds part of a character: the story model writes bytes when told to."""
    ids = server.ask("/tokenize", {"content": "é漢😀"})["tokens"]
    bias = {str(i): 100 for i in ids if i > 2}
    chunks = server.stream("/v1/completions", {"prompt": "Hi", "max_tokens": 40, "logit_bias": bias, "temperature": 1, "seed": 3})
    text = "".join(c["choices"][0]["text"] for c in chunks)
    whole = server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 40, "logit_bias": bias, "temperature": 1, "seed": 3})
    assert text == whole["choices"][0]["text"] and text


def test_roles_and_contents(server):
    """developer is system; content is a text or parts of text; an assistant's may be null; a tool's a list."""
    def prompt(messages):
        return server.ask("/apply-template", {"messages": messages})["prompt"]
    ask = {"role": "user", "content": "Hi"}
    plain = prompt([{"role": "system", "content": "Be brief"}, ask])
    assert prompt([{"role": "developer", "content": "Be brief"}, ask]) == plain
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief"}]
    assert prompt([{"role": "system", "content": parts}, ask]) == plain
    server.ask("/v1/chat/completions", {"messages": [ask, {"role": "assistant", "content": None}, ask,
               {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "42"}]}], "max_tokens": 2})
    image = [{"type": "image_url", "image_url": {"url": "http://localhost/x.png"}}]
    error = server.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": image}]}, status=400)["error"]
    assert error["param"] == "messages[0].content" and error["code"] == "unsupported_parameter"
    error = server.ask("/v1/chat/completions", {"messages": [ask, {"role": "wizard", "content": "x"}]}, status=400)["error"]
    assert error["param"] == "messages[1].role" and error["code"] == "invalid_value"


def test_plain_text_may_be_asked_for(server):
    """response_format of type text is what happens anyway."""
    server.ask("/v1/chat/completions", user("Hi", response_format={"type": "text"}))


def test_overflow_is_a_clear_error(server):
    """A prompt that is too long: 400 with the numbers, in words that every client's pattern finds; nothing is cut."""
    n_ctx = server.ask("/v1/models")["data"][0]["n_ctx"]
    for path, body in (("/v1/completions", {"prompt": [5] * (n_ctx + 10)}), ("/v1/chat/completions", user("word " * n_ctx)),
                       ("/v1/chat/completions", user("word " * n_ctx, stream=True))):
        error = server.ask(path, body, status=400)["error"]
        assert error["code"] == "context_length_exceeded" and error["type"] == "invalid_request_error"
        assert error["n_ctx"] == n_ctx and error["n_prompt_tokens"] >= n_ctx and error["error_type"] == "exceed_context_size_error"
        assert "maximum context length is %d tokens" % n_ctx in error["message"]
        assert "exceeds the available context size" in error["message"]


def test_truncation_is_asked_for_and_told(server):
    """truncation: auto drops the oldest turns, keeps system text and the last turn, and says so."""
    turns = [{"role": "system", "content": "Be brief."}]
    for i in range(60):
        turns += [{"role": "user", "content": "Question %d about dogs?" % i}, {"role": "assistant", "content": "Woof %d." % i}]
    turns.append({"role": "user", "content": "The last question"})
    server.ask("/v1/chat/completions", {"messages": turns}, status=400)
    got = server.ask("/v1/chat/completions", {"messages": turns, "truncation": "auto", "max_tokens": 4})
    assert got["truncation"]["dropped_tokens"] > 100 and got["truncation"]["dropped_messages"] % 2 == 0
    last = server.stream("/v1/chat/completions", {"messages": turns, "truncation": "auto", "max_tokens": 4})[-1]
    assert last["truncation"] == got["truncation"]
    assert "truncation" not in server.ask("/v1/chat/completions", user("Hi", truncation="auto"))
    server.ask("/v1/chat/completions", user("Hi", truncation="maybe"), status=400)


@pytest.mark.threads
def test_a_seed_means_a_text(server):
    """The same seed gives the same text alone, beside others, with a cached prefix and without."""
    body = {"prompt": "Once upon a time", "max_tokens": 30, "temperature": 1, "seed": 42}
    alone = server.ask("/v1/completions", {**body, "cache_prompt": False})["choices"][0]["text"]
    again = server.ask("/v1/completions", body)
    assert again["choices"][0]["text"] == alone and again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    many = server.ask("/v1/completions", {**body, "prompt": [body["prompt"], "The cat", "Tom", body["prompt"]]})
    assert many["choices"][0]["text"] == many["choices"][3]["text"] == alone
    assert server.ask("/v1/completions", {**body, "seed": 43})["choices"][0]["text"] != alone


def test_bias_bans_and_forces(server):
    """Keys of logit_bias are texts; -100 bans a token, 100 forces it; a foreign id is refused."""
    first = complete(server, max_tokens=1, logprobs=1)["choices"][0]
    ids = server.ask("/tokenize", {"content": "Once upon a time" + first["text"]})["tokens"]
    assert complete(server, max_tokens=1, logit_bias={str(ids[-1]): -100})["choices"][0]["text"] != first["text"]
    forced = server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 5, "logit_bias": {str(ids[-1]): 100}})
    assert forced["choices"][0]["text"] == first["text"] * 5
    for bad in ({"99999": 1}, {"x": 1}, {"5": 101}, {"5": "1"}, "x"):
        error = server.ask("/v1/completions", {"prompt": "Hi", "logit_bias": bad}, status=400)["error"]
        assert error["param"] == "logit_bias"


def test_several_answers(server):
    """n answers have the indexes 0 to n-1, differ, share one prompt, and are counted once in it."""
    body = user("A story", n=3, temperature=1, seed=5)
    got = server.ask("/v1/chat/completions", body)
    texts = [c["message"]["content"] for c in got["choices"]]
    assert [c["index"] for c in got["choices"]] == [0, 1, 2] and len(set(texts)) == 3
    one = server.ask("/v1/chat/completions", {**body, "n": 1})
    assert one["choices"][0]["message"]["content"] == texts[0]
    assert got["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"] and got["usage"]["completion_tokens"] == 36
    streamed = ["", "", ""]
    for c in server.stream("/v1/chat/completions", body):
        streamed[c["choices"][0]["index"]] += c["choices"][0]["delta"].get("content") or ""
    assert streamed == texts
    for bad in (0, 9, 1.5, "2"):
        assert server.ask("/v1/chat/completions", {**body, "n": bad}, status=400)["error"]["param"] == "n"


def test_unknown_fields_are_left_alone(server):
    """Clients send fields that mean nothing here."""
    extra = dict(store=False, metadata={"a": "b"}, service_tier="auto", prediction=None, parallel_tool_calls=True,
                 reasoning_effort="low", verbosity="low", safety_identifier="x", prompt_cache_key="k", user="me", mirostat=2)
    server.ask("/v1/chat/completions", user("Hi", **extra))


def test_the_context_that_is_told_is_a_session_s(server):
    """n_ctx is what a session has, not what the model could have."""
    small = Server(STORY, "--ctx", "100", "--parallel", "3")
    try:
        row = small.ask("/v1/models")["data"][0]
        assert row["n_ctx"] == 100 and row["n_ctx_train"] > 100 and small.ask("/props")["total_slots"] == 3
        assert small.ask("/props")["default_generation_settings"]["n_ctx"] == 100
        assert small.ask("/v1/completions", {"prompt": [5] * 100}, status=400)["error"]["n_ctx"] == 100
    finally:
        assert small.stop() == 0
