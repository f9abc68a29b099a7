#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A client of rotor serve with nothing but the standard library: python3 client.py [URL] [TEXT]

An answer comes as server-sent events: lines "data: {…}", one for each piece, and "data: [DONE]"."""
import json
import sys
import urllib.request

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
text = sys.argv[2] if len(sys.argv) > 2 else "Tell me about a dog."
body = {"messages": [{"role": "user", "content": text}], "stream": True, "max_tokens": 40, "temperature": 0,
        "stream_options": {"include_usage": True}}
request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
with urllib.request.urlopen(request) as answer:
    for line in answer:
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        event = json.loads(line[6:])
        for choice in event["choices"]:
            print(choice["delta"].get("content") or "", end="", flush=True)
        if event.get("usage"):
            print("\n-- %(prompt_tokens)d tokens read, %(completion_tokens)d written" % event["usage"])
