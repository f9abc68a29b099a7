# SPDX-License-Identifier: MIT
"""Functions that models call in the text of their answer, over HTTP: every family, every protocol, whole and in streams."""
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve_rig import STORY, Server, user, wait_until
from test_cli_harmony import write_chain

CHAT = "/v1/chat/completions"
WEATHER = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 5}},
           "required": ["city", "days"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Of a city.", "parameters": WEATHER}},
         {"type": "function", "function": {"name": "roll", "description": "A die.", "parameters": {
             "type": "object", "properties": {"sides": {"enum": [6, 20]}}, "required": ["sides"]}}}]
# What a template says of tools, calls and results; the families differ in MARK and in how a call is written.
TEMPLATE = """{%% for t in tools or [] %%}{{ t | tojson }}
{%% endfor %%}%s
{%% for m in messages %%}{{ m.role }}: {{ m.content }}{%% for c in m.tool_calls or [] %%}(call {{ c.id }} {{ c.function.name }} \
{{ c.function.arguments | tojson }}){%% endfor %%}{%% if m.tool_call_id %%}(of {{ m.tool_call_id }} {{ m.name }}){%% endif %%}
{%% endfor %%}t"""
FAMILIES = {"hermes": "<tool_call>{}</tool_call>", "bar": "<|tool_call|>[]", "mistral": "[TOOL_CALLS] []", "args": "[TOOL_CALLS]n[ARGS]{}",
            "llama": '<|python_tag|> {"name": n, "parameters": p}', "generic": "Say what to call."}
CALL = '{"name": "roll", "arguments": {"sides": 6}}'


def fits(call):
    arguments = json.loads(call["arguments"])
    if call["name"] == "roll":
        return list(arguments) == ["sides"] and arguments["sides"] in (6, 20)
    return call["name"] == "get_weather" and list(arguments) == ["city", "days"] and arguments["city"] in ("Paris", "Rome") \
        and 1 <= arguments["days"] <= 5


def calls_of(reply):
    choice = reply["choices"][0]
    return [c["function"] for c in choice["message"].get("tool_calls", [])]


def template(tmp_path_factory, family):
    path = tmp_path_factory.mktemp("template") / (family + ".jinja")
    path.write_text(TEMPLATE % FAMILIES[family])
    return str(path)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A model of random words whose template is of this family."""
    s = Server(STORY, "--parallel", "2", "--chat-template", template(tmp_path_factory, request.param))
    s.family = request.param
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(STORY, "--parallel", "4", "--chat-template", template(tmp_path_factory, "hermes"))
    yield s
    assert s.stop() == 0


def chain(folder, name, said, family="hermes", marks=("<|endoftext|>",)):
    """A model that says this, and ends."""
    return write_chain(folder / (name + ".gguf"), [*said, "<|endoftext|>"], template=TEMPLATE % FAMILIES[family], marks=list(marks))


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chains")
    control = ("<|endoftext|>", "[TOOL_CALLS]", "<tool_call>")
    s = Server(chain(folder, "caller", ["I see. ", "<tool_call>\n", CALL, "\n</tool_call>"]),
               chain(folder, "talker", ["Use ", "<tool", "_box>", " for it."]),
               chain(folder, "begins", ["Well ", "<tool", "_call>", "nonsense"]),
               chain(folder, "marker", ["Well. ", "[TOOL_CALLS]", "[" + CALL + "]"], "mistral", control),
               chain(folder, "bare", ['{"name": "roll"', ', "arguments": {"sides": ', "sixty"], "generic"),
               chain(folder, "json", ['{"name": ', '"Bob"}'], "generic"),
               chain(folder, "glued", ["One", ".<tool_call>", CALL, "</tool_call>"]),
               "--parallel", "2")
    yield s
    assert s.stop() == 0


# ---- Calls that are required -----------------------------------------------------------------------------------------


def test_required_calls_fit_their_functions(family):
    for seed in range(3):
        ask = user("Hi", tools=TOOLS, tool_choice="required", temperature=1.5, seed=seed, max_tokens=300, parallel_tool_calls=False)
        whole = family.ask(CHAT, ask)
        calls = calls_of(whole)
        assert len(calls) == 1 and fits(calls[0]), whole
        assert whole["choices"][0]["finish_reason"] == "tool_calls" and whole["choices"][0]["message"]["content"] is None


def test_a_named_function_is_called(family):
    for name in ("roll", "get_weather"):
        got = family.ask(CHAT, user("Hi", tools=TOOLS, tool_choice={"type": "function", "function": {"name": name}},
                                    temperature=1, seed=5, max_tokens=300, parallel_tool_calls=False))
        assert [c["name"] for c in calls_of(got)] == [name] and fits(calls_of(got)[0])


def test_a_stream_brings_the_same_calls(family):
    ask = user("Hi", tools=TOOLS, tool_choice="required", temperature=1.5, seed=2, max_tokens=400)
    whole = calls_of(family.ask(CHAT, ask))
    assert whole
    chunks = family.stream(CHAT, ask)
    deltas = [c["choices"][0]["delta"] for c in chunks]
    calls = {}
    for one in [t for d in deltas for t in d.get("tool_calls", [])]:
        if "id" in one:
            assert one["id"].startswith("call_") and one["type"] == "function" and one["index"] == len(calls)
            calls[one["index"]] = {"name": one["function"]["name"], "arguments": ""}
        calls[one["index"]]["arguments"] += one["function"]["arguments"]
    assert list(calls.values()) == whole and all(map(fits, whole))
    assert not any(d.get("content") for d in deltas) or chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_templates_see_tools_calls_and_results(family):
    said = [{"role": "user", "content": "Q"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "x1", "type": "function", "function": {"name": "roll", "arguments": '{"sides": 6}'}},
                {"id": "x2", "type": "function", "function": {"name": "roll", "arguments": "not JSON"}}]},
            {"role": "tool", "tool_call_id": "x2", "content": "two"}, {"role": "tool", "tool_call_id": "x1", "content": "one"}]
    prompt = family.ask("/apply-template", {"messages": said, "tools": TOOLS})["prompt"]
    lines = prompt.split("\n")
    assert [json.loads(line) for line in lines[:2]] == TOOLS
    assert 'assistant: (call call00000 roll {"sides": 6})(call call00001 roll "not JSON")' in prompt
    assert "tool: two(of call00001 roll)tool: one(of call00000 roll)" in prompt
    assert '"strict"' not in family.ask("/apply-template", {"messages": said, "tools": [
        {"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]})["prompt"]


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more,param,word", [
    ({"tools": TOOLS, "tool_choice": "perhaps"}, "tool_choice", "required"),
    ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice", "function"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice", "fly"),
    ({"tool_choice": "required"}, "tool_choice", "tools"),
    ({"tools": [], "tool_choice": "required"}, "tool_choice", "tools"),
    ({"tools": TOOLS, "parallel_tool_calls": 1}, "parallel_tool_calls", "true or false"),
    ({"tools": TOOLS, "tool_choice": "required", "ignore_eos": True}, "tool_choice", "ignore_eos"),
    ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "response_format.type", "calls"),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object", "not": {}}}}]}, "tools", "not"),
    ({"tools": [{"type": "function", "function": {"name": "get weather"}}]}, "tools", "get weather"),
    ({"tools": [TOOLS[0], {"type": "function", "function": {"name": "f[0]"}}]}, "tools", "function 1"),
    ({"tools": [{"type": "function", "function": {"name": "f" * 65}}]}, "tools", "64"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools", "64")])
def test_wrong_wishes_are_refused(server, more, param, word):
    error = server.ask(CHAT, user("Hi", **more), status=400)["error"]
    assert error["param"] == param and word in error["message"]


def test_parameters_that_no_grammar_keeps_to(server, chains):
    """Strict ones are refused; of others only an object is asked, of a call that begins by itself, too."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {}}}}]
    ask = {**user("Hi", tools=tools, tool_choice="auto", max_tokens=400, parallel_tool_calls=False), "model": "begins"}
    got = chains.ask(CHAT, ask)
    (call,) = calls_of(got)  # the model would go on with nonsense
    assert call["name"] == "f" and isinstance(json.loads(call["arguments"]), dict)
    assert got["choices"][0]["message"]["content"] == "Well" and got["choices"][0]["finish_reason"] == "tool_calls"
    got = chains.ask(CHAT, {**ask, "model": "talker"})["choices"][0]
    assert got["message"]["content"] == "Use <tool_box> for it." and "tool_calls" not in got["message"] and got["finish_reason"] == "stop"
    got = server.ask(CHAT, user("Hi", tools=tools, tool_choice="required", temperature=0, max_tokens=400, parallel_tool_calls=False))
    (call,) = calls_of(got)
    assert call["name"] == "f" and isinstance(json.loads(call["arguments"]), dict)


def test_references_stay_inside_their_function(server):
    def tool(name, value):
        return {"type": "function", "function": {"name": name, "strict": True, "parameters": {
            "type": "object", "properties": {"v": {"$ref": "#/$defs/v"}}, "required": ["v"], "$defs": {"v": {"enum": [value]}}}}}
    for name in ("a", "b"):
        got = server.ask(CHAT, user("Hi", tools=[tool("a", "of a"), tool("b", "of b")], max_tokens=300, parallel_tool_calls=False,
                                    tool_choice={"type": "function", "function": {"name": name}}))
        assert json.loads(calls_of(got)[0]["arguments"]) == {"v": "of " + name}


def test_none_and_no_tools(server):
    for more in ({"tools": TOOLS, "tool_choice": "none"}, {"tool_choice": "auto"}, {"tools": []}):
        assert "tool_calls" not in server.ask(CHAT, user("Hi", **more))["choices"][0]["message"]


# ---- Calls that a model makes by itself ------------------------------------------------------------------------------


def test_a_call_behind_text(chains):
    ask = {**user("Hi", tools=TOOLS, max_tokens=60), "model": "caller"}
    got = chains.ask(CHAT, ask)["choices"][0]
    assert got["finish_reason"] == "tool_calls" and got["message"]["content"] == "I see."
    assert calls_of({"choices": [got]}) == [{"name": "roll", "arguments": '{"sides": 6}'}]
    plain = chains.ask(CHAT, {**ask, "tools": []})["choices"][0]
    assert plain["finish_reason"] == "stop" and plain["message"]["content"] == "I see. <tool_call>\n" + CALL + "\n</tool_call>"
    deltas = [c["choices"][0]["delta"] for c in chains.stream(CHAT, ask)]
    assert "".join(d.get("content") or "" for d in deltas) == "I see."
    assert sum("tool_calls" in d for d in deltas) == 2


def test_what_only_looks_like_a_call_is_text(chains):
    for name, text in (("talker", "Use <tool_box> for it."), ("json", '{"name": "Bob"}')):
        ask = {**user("Hi", tools=TOOLS, max_tokens=60), "model": name}
        got = chains.ask(CHAT, ask)["choices"][0]
        assert got["message"]["content"] == text and got["finish_reason"] == "stop" and "tool_calls" not in got["message"]
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chains.stream(CHAT, ask)) == text


@pytest.mark.parametrize("name", ["begins", "bare"])
def test_a_call_that_has_begun_is_kept_to_its_function(chains, name):
    """The model would go on with nonsense: what it has begun becomes a call."""
    got = chains.ask(CHAT, {**user("Hi", tools=TOOLS, max_tokens=400, parallel_tool_calls=False), "model": name})
    (call,) = calls_of(got)
    assert fits(call) and got["choices"][0]["finish_reason"] == "tool_calls"
    assert got["choices"][0]["message"]["content"] == ("Well" if name == "begins" else None)


def test_marks_that_are_control_tokens(chains):
    """They write nothing, and are read all the same; required calls begin with them."""
    ask = {**user("Hi", tools=TOOLS, max_tokens=400), "model": "marker"}
    got = chains.ask(CHAT, ask)
    assert got["choices"][0]["message"]["content"] == "Well." and calls_of(got) == [{"name": "roll", "arguments": '{"sides": 6}'}]
    forced = chains.ask(CHAT, {**ask, "tool_choice": "required", "parallel_tool_calls": False})
    assert fits(calls_of(forced)[0]) and forced["choices"][0]["message"]["content"] is None


def test_a_cut_call_is_text_and_says_so(chains):
    ask = {**user("Hi", tools=TOOLS, max_tokens=2), "model": "caller"}
    got = chains.ask(CHAT, ask)["choices"][0]
    assert got["finish_reason"] == "length" and got["message"]["content"] == "I see. <tool_call>\n"


@pytest.mark.parametrize("name,more,texts", [
    ("caller", {}, ["I see."]),
    ("caller", {"max_tokens": 2}, ["I see. ", "<tool_call>\n"]),
    ("talker", {}, ["Use ", "<tool", "_box>", " for it."]),
    ("json", {}, ['{"name": ', '"Bob"}']),
    ("begins", {"max_tokens": 2}, ["Well ", "<tool"]),
    ("marker", {}, ["Well."]),
    ("glued", {}, ["One", "."])])
def test_logprobs_are_those_of_the_text(chains, name, more, texts):
    """Each token that the reader of calls has held back, with its own text; none of those that became a call."""
    ask = {**user("Hi", tools=TOOLS, max_tokens=60, logprobs=True, top_logprobs=2), "model": name, **more}
    got = chains.ask(CHAT, ask)["choices"][0]
    told = got["logprobs"]["content"]
    assert [t["token"] for t in told] == texts and got["message"]["content"] == "".join(texts)
    assert all(t["logprob"] == t["top_logprobs"][0]["logprob"] and len(t["top_logprobs"]) == 2 for t in told)
    parts = [c["choices"][0] for c in chains.stream(CHAT, ask)]
    assert "".join(p["delta"].get("content") or "" for p in parts) == "".join(texts)
    assert [t for p in parts if p["logprobs"] for t in p["logprobs"]["content"]] == told


# ---- Other protocols -------------------------------------------------------------------------------------------------


def test_anthropic(server):
    tools = [{"name": t["function"]["name"], "description": "", "input_schema": t["function"]["parameters"]} for t in TOOLS]
    for choice in ({"type": "any"}, {"type": "tool", "name": "roll"}):
        choice["disable_parallel_tool_use"] = True
        got = server.ask("/v1/messages", {**user("Hi", max_tokens=300, seed=3), "tools": tools, "tool_choice": choice})
        (block,) = got["content"]
        assert got["stop_reason"] == "tool_use" and block["type"] == "tool_use"
        assert fits({"name": block["name"], "arguments": json.dumps(block["input"])})
        assert choice["type"] == "any" or block["name"] == "roll"
    got = server.ask("/v1/messages", {**user("Hi"), "tools": tools, "tool_choice": {"type": "none"}})
    assert [b["type"] for b in got["content"]] == ["text"]
    then = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": [block]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block["id"], "content": "4"}]}]
    assert server.ask("/v1/messages", {"messages": then, "tools": tools, "max_tokens": 4})["content"]


def test_responses(server):
    tools = [{"type": "function", **t["function"]} for t in TOOLS]
    for choice in ("required", {"type": "function", "name": "roll"}):
        got = server.ask("/v1/responses", {"input": "Hi", "tools": tools, "tool_choice": choice, "max_output_tokens": 300,
                                           "parallel_tool_calls": False, "temperature": 0})
        (item,) = got["output"]
        assert item["type"] == "function_call" and fits(item) and got["parallel_tool_calls"] is False
    then = {"previous_response_id": got["id"], "tools": tools, "max_output_tokens": 4,
            "input": [{"type": "function_call_output", "call_id": item["call_id"], "output": "4"}]}
    assert server.ask("/v1/responses", then)["output"]


def test_ollama(chains):
    ask = {"model": "caller", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS, "options": {"temperature": 0}}
    got = chains.ask("/api/chat", {**ask, "stream": False})["message"]
    (call,) = got["tool_calls"]
    assert got["content"] == "I see." and call["function"] == {"index": 0, "name": "roll", "arguments": {"sides": 6}}


# ---- Log-probabilities of /v1/responses ------------------------------------------------------------------------------


def test_logprobs_of_responses(server):
    ask = {"input": "Hi", "max_output_tokens": 6, "temperature": 0}
    wish = {**ask, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    part = server.ask("/v1/responses", wish)["output"][0]["content"][0]
    chat = server.ask(CHAT, user("Hi", max_tokens=6, logprobs=True, top_logprobs=2))["choices"][0]
    assert part["text"] == chat["message"]["content"] and part["logprobs"] == chat["logprobs"]["content"]
    assert len(part["logprobs"]) == 6 and all(len(t["top_logprobs"]) == 2 for t in part["logprobs"])
    assert server.ask("/v1/responses", ask)["output"][0]["content"][0]["logprobs"] == []
    r, data = server.raw("POST", "/v1/responses", json.dumps({**wish, "stream": True}), {"Content-Type": "application/json"})
    events = [json.loads(line[6:]) for line in data.decode().split("\n") if line.startswith("data: ")]
    told = [t for e in events if e["type"] == "response.output_text.delta" for t in e["logprobs"]]
    (done,) = [e for e in events if e["type"] == "response.output_text.done"]
    assert told == part["logprobs"] == done["logprobs"]
    assert server.ask("/v1/responses", {**wish, "top_logprobs": 21}, status=400)["error"]["param"] == "top_logprobs"


# ---- Grammars that come again ----------------------------------------------------------------------------------------


def counted(server):
    text = server.raw("GET", "/metrics")[1].decode()
    return [int(re.search(r"^rotor_grammars_%s (\d+)$" % name, text, re.M).group(1)) for name in ("known_total", "made_total", "kept")]


def test_grammars_are_made_once(server):
    before = counted(server)
    ask = user("Hi", max_tokens=80, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["one of a kind"]}}})
    texts = [server.ask(CHAT, ask)["choices"][0]["message"]["content"] for _ in range(3)]
    assert texts == ['"one of a kind"'] * 3
    known, made, kept = counted(server)
    assert (known - before[0], made - before[1], kept - before[2]) == (2, 1, 1)
    with ThreadPoolExecutor(4) as pool:  # used by several answers at once
        texts = list(pool.map(lambda seed: server.ask(CHAT, {**ask, "seed": seed})["choices"][0]["message"]["content"], range(8)))
    assert texts == ['"one of a kind"'] * 8 and counted(server)[1] == made


def test_grammars_that_are_kept_are_bounded(server):
    for i in range(40):
        got = server.ask(CHAT, user("Hi", max_tokens=40, response_format={"type": "json_schema", "schema": {"enum": ["x%d" % i]}}))
        assert got["choices"][0]["message"]["content"] == '"x%d"' % i
    assert counted(server)[2] == 32


def test_grammars_of_a_model_go_with_it():
    """A model that is released takes its grammars with it; they are made anew when it is loaded again."""
    s = Server(STORY)
    ask = user("Hi", max_tokens=40, response_format={"type": "json_schema", "schema": {"enum": ["again"]}})
    for n in (1, 2):
        assert s.ask(CHAT, ask)["choices"][0]["message"]["content"] == '"again"'
        assert counted(s)[1:] == [n, 1]
        s.ask("/api/generate", {"model": "x", "keep_alive": 0, "stream": False})
        wait_until(lambda: counted(s)[2] == 0 and s.ask("/props")["is_sleeping"])
    assert s.stop() == 0
