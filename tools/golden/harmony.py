#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/chat/harmony.json: conversations and turns with the ids openai-harmony gives them.

    TIKTOKEN_ENCODINGS_BASE=FOLDER python3 tools/golden/harmony.py

from the source root, with openai-harmony 0.0.8 (Python 3.11). FOLDER holds o200k_base.tiktoken. A case is written as the
fields of a conversation; the library's objects are made from these, so there is one source. Ids are written twice: as they
are, for the real vocabulary, and as runs, for any: marks as numbers, the text between them as strings.

Where the library differs from the format's documentation, the documentation is followed: "library" then holds the
library's runs and "differs" says why.
"""
import json
import os
import random
import sys

import openai_harmony as oh

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harmony_cases import CONVERSATIONS, TURNS  # noqa: E402

ENC = oh.load_harmony_encoding(oh.HarmonyEncodingName.HARMONY_GPT_OSS)
FIRST_SPECIAL = 199998
MARKS = {"<|return|>": 200002, "<|constrain|>": 200003, "<|channel|>": 200005, "<|start|>": 200006, "<|end|>": 200007,
         "<|message|>": 200008, "<|call|>": 200012, "<|endoftext|>": 199999}


def runs(ids):
    out, text = [], []
    for i in list(ids) + [None]:
        if i is not None and i < FIRST_SPECIAL:
            text.append(i)
            continue
        if text:
            out.append(ENC.decode_utf8(text))
        text = []
        if i is not None:
            out.append(i)
    return out


# ---- Conversations ---------------------------------------------------------------------------------------------------


def system(chat):
    s = oh.SystemContent.new().with_reasoning_effort(oh.ReasoningEffort(chat.get("effort", "medium").capitalize()))
    if "identity" in chat:
        s = s.with_model_identity(chat["identity"])
    if "cutoff" in chat:
        s = s.with_knowledge_cutoff(chat["cutoff"])
    if "date" in chat:
        s = s.with_conversation_start_date(chat["date"])
    if "channels" in chat:
        s = s.with_required_channels(chat["channels"].split(", "))
    for tool in chat.get("builtin", []):
        s = s.with_browser_tool() if tool == "browser" else s.with_python_tool()
    return oh.Message.from_role_and_content(oh.Role.SYSTEM, s)


def describe(tool):
    f = tool.get("function", tool)
    return oh.ToolDescription.new(f["name"], f.get("description", ""), f.get("parameters"))


def developer_text(chat):
    """Answer formats are documented, but the library cannot write them: its own text, and they behind it."""
    ids = ENC.render_conversation(oh.Conversation.from_messages([developer({**chat, "formats": []})]))
    body = [r for r in runs(ids) if isinstance(r, str)][1:]
    parts = body + ["# Response Formats"]
    for f in chat["formats"]:
        about = "".join("// %s\n" % line for line in f.get("description", "").splitlines())
        parts.append("## %s\n\n%s%s" % (f["name"], about, json.dumps(f["schema"], separators=(",", ":"))))
    return "\n\n".join(p for p in parts if p)


def developer(chat):
    if chat.get("formats"):
        return oh.Message.from_role_and_content(oh.Role.DEVELOPER, developer_text(chat))
    d = oh.DeveloperContent.new()
    if chat.get("instructions"):
        d = d.with_instructions(chat["instructions"])
    if chat.get("tools"):
        d = d.with_function_tools([describe(t) for t in chat["tools"]])
    return oh.Message.from_role_and_content(oh.Role.DEVELOPER, d)


def message(m):
    name = ("functions." if m.get("function") and m["role"] == "tool" else "") + m.get("name", "")
    author = oh.Author.new(oh.Role(m["role"]), name) if name else oh.Author(role=oh.Role(m["role"]))
    out = oh.Message.from_author_and_content(author, m["content"])
    if "channel" in m:
        out = out.with_channel(m["channel"])
    if "recipient" in m:
        out = out.with_recipient(("functions." if m.get("function") and m["role"] == "assistant" else "") + m["recipient"])
    if "content_type" in m:
        out = out.with_content_type(("<|constrain|>" if m.get("constrained") else "") + m["content_type"])
    return out


def library_messages(chat, messages):
    head = []
    if not chat.get("bare"):
        head.append(system(chat))
        if any(chat.get(k) for k in ("instructions", "tools", "formats")):
            head.append(developer(chat))
    return oh.Conversation.from_messages(head + [message(m) for m in messages])


def documented(chat):
    """Analysis before the last final answer goes."""
    messages = chat["messages"]
    finals = [i for i, m in enumerate(messages) if m.get("channel") == "final"]
    cut = finals[-1] if finals and not chat.get("keep_analysis") else 0
    return [m for i, m in enumerate(messages) if not (m.get("channel") == "analysis" and i < cut)]


def render(chat, messages, drop):
    config = oh.RenderConversationConfig(auto_drop_analysis=drop)
    conversation = library_messages(chat, messages)
    if chat.get("formats"):  # what the library says about functions it only says of its own developer message
        first = ENC.render_conversation(oh.Conversation.from_messages([system(chat), developer({**chat, "formats": []})]))
        ids = ENC.render_conversation_for_completion(conversation, oh.Role.ASSISTANT, config=config)
        end = MARKS["<|end|>"]
        return first[:first.index(end)] + ids[ids.index(end):]
    if chat.get("no_reply"):
        return ENC.render_conversation(conversation, config=config)
    return ENC.render_conversation_for_completion(conversation, oh.Role.ASSISTANT, config=config)


def builtin_text(chat):
    """The section as it stands between the effort and the channels."""
    text = runs(ENC.render_conversation(oh.Conversation.from_messages([system(chat)])))[3]
    return text[text.index("# Tools"):text.index("\n\n# Valid channels")]


def conversation(case):
    chat = case["chat"]
    chat.setdefault("messages", [])
    ids = render(chat, documented(chat), False)
    theirs = render(chat, chat["messages"], not chat.get("keep_analysis", False))
    out = {"name": case["name"], "chat": dict(chat), "runs": runs(ids), "ids": list(ids)}
    if "file" in case:
        out["file"] = case["file"]
    if chat.get("builtin"):
        out["chat"]["builtin"] = builtin_text(chat)
    if ids != theirs:
        out["library"] = runs(theirs)
        out["differs"] = case["differs"]
    assert ("differs" in case) == ("differs" in out), case["name"]
    return out


# ---- Turns -----------------------------------------------------------------------------------------------------------


def encode(parts):
    ids = []
    for p in parts:
        ids += [MARKS[p]] if p in MARKS else ENC.encode(p, allowed_special=set(), disallowed_special=())
    return ids


def parsed(m):
    content_type = m.content_type or ""
    marker = "<|constrain|>"
    return {"role": m.author.name or m.author.role.value, "recipient": m.recipient or "", "channel": m.channel or "",
            "content_type": content_type.removeprefix(marker), "constrained": content_type.startswith(marker),
            "content": "".join(c.text for c in m.content)}


def turn(name, parts):
    ids = encode(parts)
    messages = ENC.parse_messages_from_completion_tokens(ids, oh.Role.ASSISTANT)
    return {"name": name, "runs": runs(ids), "ids": ids, "messages": [parsed(m) for m in messages]}


def random_tool(rng, depth=3):
    """A schema with any of the features, for agreement where nobody thought of a case."""
    def text():
        return rng.choice(["", "a", "some words", "line\nline", "\"quoted\"", "null", "größe 🙂"])

    def schema(d):
        kind = rng.choice(["string", "number", "integer", "boolean", "array", "object", "oneOf", "list", "null", "none"])
        s = {}
        if kind == "oneOf":
            s["oneOf"] = [schema(d - 1) for _ in range(rng.randint(1, 3))] if d else []
        elif kind == "list":
            s["type"] = rng.sample(["string", "integer", "number", "null", "boolean"], rng.randint(0, 3))
        elif kind != "none":
            s["type"] = kind
        if kind == "array" and rng.random() < 0.8 and d:
            s["items"] = schema(d - 1)
        if kind == "object" and d:
            names = rng.sample(["alpha", "b", "c_d", "type", "enum", "größe"], rng.randint(0, 4))
            s["properties"] = {n: schema(d - 1) for n in names}
            if rng.random() < 0.7:
                s["required"] = rng.sample(names, rng.randint(0, len(names)))
        if kind == "string" and rng.random() < 0.4:
            s["enum"] = rng.sample(["x", "y", "z", 3, ""], rng.randint(0, 4))
        for key, value in [("title", text()), ("description", text()), ("nullable", rng.random() < 0.5),
                           ("examples", [rng.choice(["e1", "e 2", 7]) for _ in range(rng.randint(0, 3))]),
                           ("default", rng.choice(["x", "y z", 3, -1.5, 0.1, 1e30, True, None, [1, 2], {"k": [0.5, "v"]}]))]:
            if rng.random() < 0.25:
                s[key] = value
        return s

    tool = {"name": "t%d" % rng.randint(0, 99), "description": text()}
    if rng.random() < 0.9:
        tool["parameters"] = {"type": "object", **schema(depth)} if rng.random() < 0.5 else schema(depth)
    return tool


def random_tools():
    rng = random.Random(6)
    out = []
    for _ in range(120):
        chat = {"tools": [random_tool(rng) for _ in range(rng.randint(1, 2))]}
        ids = ENC.render_conversation(oh.Conversation.from_messages([developer(chat)]))
        out.append({"tools": chat["tools"], "text": runs(ids)[3]})
    return out


def main():
    out = {"made_by": "tools/golden/harmony.py with openai-harmony 0.0.8",
           "conversations": [conversation(c) for c in CONVERSATIONS],
           "turns": [turn(name, parts) for name, parts in TURNS],
           "random_tools": random_tools()}
    with open("tests/data/chat/harmony.json", "w", encoding="utf-8") as f:
        for i, (key, value) in enumerate(out.items()):
            f.write("%s%s: " % (",\n" if i else "{", json.dumps(key)))
            if isinstance(value, str):
                f.write(json.dumps(value))
            else:
                f.write("[\n" + ",\n".join(json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in value) + "]")
        f.write("}\n")
    print(len(out["conversations"]), "conversations,", sum("differs" in c for c in out["conversations"]), "differ from the library;",
          len(out["turns"]), "turns;", len(out["random_tools"]), "random tools")


if __name__ == "__main__":
    main()
