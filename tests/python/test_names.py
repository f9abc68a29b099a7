# SPDX-License-Identifier: MIT
"""The three snippets of the user's documents, by the names that stand there."""
import os
import subprocess
import sys

import pytest

import rotor


def test_load_and_generate(story):
    from rotor import BitNetTokenizer, TextGenerator, load_bitnet_model

    model = load_bitnet_model(story, use_gpu=False)
    tokenizer = BitNetTokenizer(story)
    generator = TextGenerator(model=model, tokenizer=tokenizer, use_cache=True)
    text = generator.generate("Once upon a time", max_new_tokens=30, temperature=0)
    assert text == model.generate("Once upon a time", max_tokens=30, temperature=0).text
    assert tokenizer.engine is model and tokenizer.vocab_size == len(tokenizer) == 512
    assert tokenizer.decode(tokenizer.encode("Lily has a ball")) == "Lily has a ball"


def test_sampling_strategies(story):
    from rotor import BitNetTokenizer, GreedySampling, NucleusSampling, TextGenerator, TopKSampling, load_bitnet_model

    model, tokenizer = load_bitnet_model(story), BitNetTokenizer(story)
    texts = {}
    for strategy in (TopKSampling(k=50, temperature=0.8), NucleusSampling(p=0.9, temperature=0.7), GreedySampling(),
                     TopKSampling(k=1, temperature=2.0), NucleusSampling(p=1e-6, temperature=2.0)):
        generator = TextGenerator(model=model, tokenizer=tokenizer, use_cache=True, sampling_strategy=strategy)
        texts[strategy] = generator.generate("Once upon a time", max_new_tokens=40, seed=1)
        assert texts[strategy] == generator.generate("Once upon a time", max_new_tokens=40, seed=1)
    greedy = texts[GreedySampling()]
    assert texts[TopKSampling(k=1, temperature=2.0)] == greedy      # one candidate is no choice
    assert texts[NucleusSampling(p=1e-6, temperature=2.0)] == greedy
    assert len(set(texts.values())) == 3
    assert texts[TopKSampling(k=50, temperature=0.8)] == model.generate(
        "Once upon a time", max_tokens=40, seed=1, top_k=50, top_p=1, min_p=0, temperature=0.8).text


def test_cache_and_gpu_notice(story):
    """In a process of its own: the notice comes once, on standard error, and the model runs."""
    code = """
from rotor import *
model = load_bitnet_model(%r, use_gpu=True)
again = load_bitnet_model(%r, use_gpu=True)
tokenizer = BitNetTokenizer(%r)
cached = TextGenerator(model=model, tokenizer=tokenizer, use_cache=True, sampling_strategy=GreedySampling())
fresh = TextGenerator(model=model, tokenizer=tokenizer, use_cache=False, sampling_strategy=GreedySampling())
a, b = ([g.generate(text, max_new_tokens=20) for text in ("One day", "One day Tom", "One day")] for g in (cached, fresh))
assert a == b and a[0] == a[2]
assert "".join(cached.stream("One day", max_new_tokens=20)) == a[0]
print(a[0])
""" % (story, story, story)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                            env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(rotor.__file__))})
    assert result.returncode == 0 and len(result.stdout) > 20, result.stderr
    assert result.stderr == "rotor: this version has no GPU devices yet; running on the CPU\n"


def test_a_tokenizer_of_its_own(ternary_path, story):
    tokenizer = rotor.BitNetTokenizer(ternary_path)       # nothing open: the vocabulary and one layer
    assert tokenizer.engine.info.n_layer == 1
    assert tokenizer.decode(tokenizer.encode(" the dog", add_special_tokens=False)) == " the dog"
    with rotor.Engine(story) as model, pytest.raises(rotor.Error, match="320 tokens, the model 512"):
        rotor.TextGenerator(model=model, tokenizer=tokenizer)
