# SPDX-License-Identifier: MIT
"""Answers of rotor serve in parts: thoughts, text and calls are kept apart, and come back as they were."""
from serve_rig import TOOLS, user


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


def test_a_template_without_tools_says_so(server):
    """The story model's template has no place for them; tool_choice none means that there are none."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    server.ask("/v1/chat/completions", user("Hi", tools=tools, tool_choice="none"))
    error = server.ask("/v1/chat/completions", user("Hi", tools=tools), status=400)["error"]
    assert "tools" in error["message"] and error["code"] == "unsupported_parameter"
