#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes the schemas of replies out of OpenAI's published OpenAPI document, for tests/clients.

    tools/openai_schemas.py openapi.json > tests/data/serve/openai_schemas.json

Descriptions and examples are left out, and so are the alternatives of a union that this server never
sends (KEEP names those that it does): a reply that were one of them would not fit.
"""
import json
import sys

ROOTS = ["CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", "CreateCompletionResponse",
         "CreateEmbeddingResponse", "ListModelsResponse", "Model", "Response", "ResponseStreamEvent", "ErrorResponse"]
PLAIN = {"type", "properties", "required", "items", "enum", "anyOf", "oneOf", "allOf", "$ref", "const", "nullable", "minimum",
         "maximum", "minItems", "maxItems", "minLength", "maxLength", "pattern", "additionalProperties"}
KEEP = {  # union -> schemas of it that stay
    "ResponseStreamEvent": {"ResponseCreatedEvent", "ResponseInProgressEvent", "ResponseCompletedEvent", "ResponseIncompleteEvent",
                            "ResponseFailedEvent", "ResponseErrorEvent", "ResponseOutputItemAddedEvent", "ResponseOutputItemDoneEvent",
                            "ResponseContentPartAddedEvent", "ResponseContentPartDoneEvent", "ResponseTextDeltaEvent",
                            "ResponseTextDoneEvent", "ResponseReasoningTextDeltaEvent", "ResponseReasoningTextDoneEvent",
                            "ResponseFunctionCallArgumentsDeltaEvent", "ResponseFunctionCallArgumentsDoneEvent"},
    "OutputItem": {"OutputMessage", "FunctionToolCall", "ReasoningItem"},
    "OutputContent": {"OutputTextContent", "ReasoningTextContent"},
    "OutputMessageContent": {"OutputTextContent"},
    "Tool": {"FunctionTool"},
    "Annotation": set(),
    "InputItem": {"EasyInputMessage"},
    "InputContent": {"InputTextContent"},
}


def plain(v, keep=None):
    """The schema without what is said to people; `keep`: names that may stay in its union."""
    if isinstance(v, list):
        return [plain(x) for x in v]
    if not isinstance(v, dict):
        return v
    out = {}
    for k, x in v.items():
        if k in ("properties",):
            out[k] = {name: plain(s) for name, s in x.items()}
        elif k in PLAIN:
            out[k] = plain(x)
    for union in ("anyOf", "oneOf"):
        if keep is not None and union in out:
            out[union] = [s for s in out[union] if s.get("$ref", "").split("/")[-1] in keep]
            if not out[union]:
                return {"not": {}}
    if out.pop("nullable", False):
        return {"anyOf": [out, {"type": "null"}]}
    return out


def names_in(v):
    if isinstance(v, dict):
        for k, x in v.items():
            if k == "$ref":
                yield x.split("/")[-1]
            else:
                yield from names_in(x)
    elif isinstance(v, list):
        for x in v:
            yield from names_in(x)


def main():
    document = json.load(open(sys.argv[1]))
    schemas, out, wanted = document["components"]["schemas"], {}, list(ROOTS)
    while wanted:
        name = wanted.pop()
        if name not in out:
            out[name] = plain(schemas[name], KEEP.get(name))
            wanted += names_in(out[name])
    text = json.dumps({"version": document["info"]["version"], "components": {"schemas": dict(sorted(out.items()))}},
                      separators=(",", ":"))
    print(text.replace('},"', '},\n"'))


if __name__ == "__main__":
    main()
