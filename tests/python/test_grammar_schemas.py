# SPDX-License-Identifier: MIT
"""Grammars from Python, and schemas against a reader that shares nothing with ours, the package
jsonschema: every text drawn at random under a schema's masks is valid, and every valid document that a
schema of ours can express is accepted. The model's logits are replaced, so that any token that may come
does."""
import json
import random

import numpy as np
import pytest

import rotor

jsonschema = pytest.importorskip("jsonschema")

BYTE_0 = 3  # the vocabulary's byte tokens begin here


@pytest.fixture(scope="module")
def engine(source_root):
    with rotor.Engine(str(source_root / "tests/data/model/stories260K.gguf"), threads=1, ctx=2048) as e:
        yield e


@pytest.fixture(scope="module")
def closing(engine):
    """Tokens that end something, so that texts end."""
    return [i for i in range(512) if not engine.is_eog(i) and set(engine.detokenize([i])) & set('"]},')] + [2]


# ---- Random schemas and documents -----------------------------------------------------------------------------------


def schema_of(r, depth):
    """A schema, and a function that draws a document of it."""
    kinds = [string, integer, number, listed, simple, formatted]
    if depth:
        kinds += [obj, obj, array, array, tuple_of, any_of, free_object]
    return r.choice(kinds)(r, depth)


def text_of(r, n):
    return "".join(r.choice('ab c"\\/\n\té€😀\x7f0') for _ in range(n))


def string(r, depth):
    low = r.randrange(4)
    high = low + r.randrange(6)
    return ({"type": "string", "minLength": low, "maxLength": high}, lambda: text_of(r, r.randint(low, high)))


def integer(r, depth):
    low = r.choice([-1000, -17, -1, 0, 3, 99])
    high = low + r.choice([0, 5, 90, 12345])
    return ({"type": "integer", "minimum": low, "maximum": high}, lambda: r.randint(low, high))


def number(r, depth):
    low = r.randint(-20, 20)
    high = low + r.randint(1, 30)
    return ({"type": "number", "exclusiveMinimum": low, "maximum": high},
            lambda: high - r.randrange((high - low) * 100) / 100)


def listed(r, depth):
    values = r.sample([1, "x", None, 2.5, 'q"', [1, {"a": 2}], True, -7, "é"], 3)
    return {"enum": values}, lambda: r.choice(values)


def simple(r, depth):
    kinds = r.sample(["boolean", "null"], r.randint(1, 2))
    return {"type": kinds}, lambda: None if r.choice(kinds) == "null" else r.choice([True, False])


def formatted(r, depth):
    return r.choice([
        ({"type": "string", "format": "date"}, lambda: "%04d-%02d-%02d" % (r.randint(1, 9999), r.randint(1, 12), r.randint(1, 28))),
        ({"type": "string", "pattern": '^[a-f"\\\\]{2,4}-\\d+(x|yz)?$'}, lambda: 'a"\\'[:r.randint(2, 3)] + "-0" + r.choice(["", "x", "yz"])),
        ({"type": "string", "pattern": "b+c"}, lambda: text_of(r, 2) + "bbc" + text_of(r, 3))])


def obj(r, depth):
    names = r.sample(["a", "ab", "b", 'k"', "é", "long name"], r.randint(1, 4))
    parts = {name: schema_of(r, depth - 1) for name in names}
    required = [name for name in names if r.random() < 0.5]
    schema = {"type": "object", "properties": {n: s for n, (s, _) in parts.items()}, "required": required,
              "additionalProperties": False}
    rest = None
    if r.random() < 0.4:
        schema["additionalProperties"], rest = schema_of(r, 0)

    def draw():
        d = {n: f() for n, (_, f) in parts.items() if n in required or r.random() < 0.6}
        for name in ["abc", "", "zz", "bé"] if rest else []:
            if r.random() < 0.5:
                d[name] = rest()
        return d
    return schema, draw


def free_object(r, depth):
    part, f = schema_of(r, depth - 1)
    low = r.randrange(2)
    return ({"type": "object", "additionalProperties": part, "minProperties": low, "maxProperties": low + 2},
            lambda: {text_of(r, 2) + str(i): f() for i in range(r.randint(low, low + 2))})


def array(r, depth):
    part, f = schema_of(r, depth - 1)
    low = r.randrange(3)
    return ({"type": "array", "items": part, "minItems": low, "maxItems": low + 2},
            lambda: [f() for _ in range(r.randint(low, low + 2))])


def tuple_of(r, depth):
    parts = [schema_of(r, depth - 1) for _ in range(r.randint(1, 3))]
    return ({"type": "array", "prefixItems": [s for s, _ in parts], "items": False, "minItems": 1},
            lambda: [f() for _, f in parts[:r.randint(1, len(parts))]])


def any_of(r, depth):
    parts = [schema_of(r, depth - 1) for _ in range(2)]
    return {"anyOf": [s for s, _ in parts]}, lambda: r.choice(parts)[1]()


RECURSIVE = {
    "$defs": {"tree": {"type": "object", "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/tree"}}},
                       "required": ["v"], "additionalProperties": False}},
    "allOf": [{"$ref": "#/$defs/tree"}, {"properties": {"v": {"minimum": 3}}, "required": ["kids"]}]}


def tree(r, depth=2):
    return {"v": r.randint(3, 99), "kids": [tree(r, depth - 1) for _ in range(r.randrange(3) if depth else 0)]}


def schemas(seed, n):
    r = random.Random(seed)
    for _ in range(n):
        yield (r, *schema_of(r, 2))
    yield (r, RECURSIVE, lambda: tree(r))


def check(schema, document):
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker(["date"])).validate(document)


# ---- Tests ----------------------------------------------------------------------------------------------------------


def test_what_is_drawn_is_valid(engine, closing):
    ended = texts = 0
    for r, schema, _ in schemas(1, 120):
        grammar = engine.grammar(json_schema=schema)
        for _ in range(4):
            noise = np.random.default_rng(r.randrange(1 << 30))

            def rewrite(logits):
                logits[:] = noise.normal(size=len(logits)) * 2
                logits[closing] += 6
            out = engine.generate("Once", grammar=grammar, on_logits=rewrite, temperature=1, top_k=0, top_p=1, min_p=0, max_tokens=300)
            texts += 1
            if out.finish != "end":
                continue
            ended += 1
            check(schema, json.loads(out.text))
    assert ended > texts * 0.8


def accepts(engine, grammar, document):
    """Whether the text can be spelt byte by byte and then ended."""
    ids = [BYTE_0 + b for b in document.encode()] + [2]
    at = iter(ids)

    def rewrite(logits):
        logits[:] = -1000
        logits[next(at, 2)] = 1000
    out = engine.generate("Once", grammar=grammar, on_logits=rewrite, temperature=0, max_tokens=len(ids) + 1)
    return out.finish == "end" and out.ids == ids[:-1] and out.text == document


def test_what_is_valid_is_accepted(engine):
    n = 0
    for r, schema, draw in schemas(2, 120):
        grammar = engine.grammar(json_schema=schema)
        for _ in range(4):
            document = draw()
            check(schema, document)
            text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
            assert accepts(engine, grammar, text), (schema, text)
            n += 1
    assert n > 400


def test_what_is_not_valid_is_refused(engine):
    refused = 0
    for r, schema, draw in schemas(3, 60):
        grammar = engine.grammar(json_schema=schema)
        other = schema_of(r, 1)[1]()
        text = json.dumps(other, ensure_ascii=False, separators=(",", ":"))
        try:
            check(schema, other)
        except jsonschema.ValidationError:
            assert not accepts(engine, grammar, text), (schema, text)
            refused += 1
    assert refused > 30


def test_grammars(engine):
    assert engine.generate("Once", grammar='root ::= " " [a-c]{4}', max_tokens=20).finish == "end"
    grammar = engine.grammar('root ::= ("ab" | "é")+ "."')
    assert accepts(engine, grammar, "abéab.") and not accepts(engine, grammar, "abe.")
    with pytest.raises(rotor.Error, match="line 1, column 10: there is no rule named x"):
        engine.grammar("root ::= x")
    with pytest.raises(rotor.Error, match='"not" is not supported'):
        engine.generate("Once", json_schema={"not": {}})
    with pytest.raises(TypeError):
        engine.generate("Once", grammar="root ::= [a]", json_schema={})
    with pytest.raises(TypeError):
        engine.grammar()
