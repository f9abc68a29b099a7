#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/chat/templates.json and tests/data/chat/expressions.json.

Rendered by Jinja2 3.1.6 in the environment that transformers 5.23.0 gives to chat templates
(Python 3.11). Run from the source root: python3 tools/golden/chat.py
"""
import datetime
import json
import random
import re
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils

from chat_templates import CONVERSATIONS, TEMPLATES
from chat_grammar import Generator

NOT_COMPARED = (" object at 0x", "generator", "Markup(", "dict_")
NOW = 1753833599  # 2025-07-29 23:59:59 UTC


def compile_template(source):
    template = chat_template_utils._cached_compile_jinja_template(source)
    now = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    template.globals["strftime_now"] = now.strftime
    template.environment.globals["strftime_now"] = now.strftime
    return template


def render(source, messages, bos, eos, reply):
    """The text, or None where the reference raises an error."""
    try:
        return compile_template(source).render(
            messages=messages, tools=None, documents=None, add_generation_prompt=reply,
            bos_token=bos, eos_token=eos)
    except Exception:  # noqa: BLE001 - whatever it is, ours must fail too
        return None


def golden_templates():
    conversations = {name: [{"role": r, "content": c} for r, c in turns]
                     for name, turns in CONVERSATIONS.items()}
    results = {}
    for name, t in TEMPLATES.items():
        rows = []
        for messages in conversations.values():
            for reply in (False, True):
                rows.append(render(t["source"], messages, t["bos"], t["eos"], reply))
        results[name] = rows
    return {"now": NOW, "templates": TEMPLATES, "conversations": conversations, "results": results}


def golden_expressions(n, seed):
    """Cases [template, text or null], from a seeded grammar. At most a quarter are errors."""
    messages = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi <b>\n2"},
                {"role": "assistant", "content": "Hé"}]
    gen, cases, errors = Generator(random.Random(seed)), [], 0
    while len(cases) < n:
        source = gen.template()
        text = render(source, messages, "<s>", "</s>", True)
        if text is None and errors * 4 >= n:
            continue
        # Not in the subset: lazy sequences and views as values, escaped-text objects, long integers.
        if text is not None and (len(text) > 400 or any(w in text for w in NOT_COMPARED) or
                                 re.search(r"\d{19}", text) or "(1.5e20)|int" in source):
            continue
        errors += text is None
        cases.append([source, text])
    return {"messages": messages, "cases": cases}


def write(name, data):
    with open(f"tests/data/chat/{name}.json", "w", encoding="utf-8") as f:
        json.dump({"made_with": f"jinja2 {jinja2.__version__}, transformers {transformers.__version__}",
                   **data}, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:  # N SEED: a larger comparison than the committed one
        print(json.dumps(golden_expressions(int(sys.argv[1]), int(sys.argv[2]))))
        sys.exit()
    write("templates", golden_templates())
    write("expressions", golden_expressions(1000, 1))
