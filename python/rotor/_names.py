# SPDX-License-Identifier: MIT
"""A model, a tokenizer, a generator and a sampling strategy as four objects: thin names over Engine.

    model = load_bitnet_model("model.gguf", use_gpu=False)
    tokenizer = BitNetTokenizer("model.gguf")
    generator = TextGenerator(model=model, tokenizer=tokenizer, use_cache=True,
                              sampling_strategy=TopKSampling(k=50, temperature=0.8))
    print(generator.generate("Once upon a time", max_new_tokens=50))
"""
import os
import sys
import threading
import weakref
from dataclasses import dataclass

from ._engine import Engine, Error
from ._library import STATUS

_open = weakref.WeakValueDictionary()      # real path: the model that load_bitnet_model opened last
_notice = threading.Lock()                 # taken for good by the first notice


def load_bitnet_model(path, use_gpu=False, **options):
    """Opens a model (a .gguf file or a Hugging Face folder) and returns its Engine. use_gpu: this
    version computes on the processor; it says so once and goes on. Options as for Engine."""
    if use_gpu and _notice.acquire(blocking=False):
        print("rotor: this version has no GPU devices yet; running on the CPU", file=sys.stderr)
    model = Engine(path, **options)
    _open[os.path.realpath(path)] = model
    return model


class BitNetTokenizer:
    """Text to ids and back, with the vocabulary of a model file or folder. A model that is open
    already is shared; otherwise only its vocabulary and first layer are read."""

    def __init__(self, path):
        engine = _open.get(os.path.realpath(path))
        self.engine = engine if engine is not None and not engine.closed else Engine(path, max_layers=1, ctx=64,
                                                                                     threads=1)

    def encode(self, text, add_special_tokens=True):
        """Ids, with the beginning-of-text id in front if the model wants one."""
        return self.engine.tokenize(text, bos=add_special_tokens)

    def decode(self, ids, skip_special_tokens=True):
        return self.engine.detokenize(ids, special=not skip_special_tokens)

    @property
    def vocab_size(self):
        return self.engine.info.n_vocab

    def __len__(self):
        return self.vocab_size


@dataclass(frozen=True)
class GreedySampling:
    """Always the likeliest token."""

    def options(self):
        return {"temperature": 0}


@dataclass(frozen=True)
class TopKSampling:
    """One of the k likeliest tokens."""
    k: int = 40
    temperature: float = 1.0

    def options(self):
        return {"top_k": self.k, "top_p": 1, "min_p": 0, "temperature": self.temperature}


@dataclass(frozen=True)
class NucleusSampling:
    """One of the likeliest tokens that together hold the share p of the probability."""
    p: float = 0.9
    temperature: float = 1.0

    def options(self):
        return {"top_p": self.p, "top_k": 0, "min_p": 0, "temperature": self.temperature}


class TextGenerator:
    """Continues texts. Without a tokenizer it is the model's own, without a strategy the model's own
    settings. use_cache: keep what was computed for the next call, which often starts alike; the text
    is the same either way. Within a call the cache is always there."""

    def __init__(self, model, tokenizer=None, use_cache=True, sampling_strategy=None):
        tokenizer = tokenizer or model
        other = getattr(tokenizer, "engine", tokenizer)
        if other is not model and other.info.n_vocab != model.info.n_vocab:
            raise Error(STATUS["E_ARG"], "the tokenizer has %d tokens, the model %d" % (other.info.n_vocab,
                                                                                       model.info.n_vocab))
        self.model, self.use_cache, self.sampling_strategy = model, use_cache, sampling_strategy
        self.tokenizer = tokenizer
        self._encode = getattr(tokenizer, "encode", None) or (lambda text: model.tokenize(text, bos=True))
        self._session = model.session()

    def _start(self, max_new_tokens, options):
        strategy = self.sampling_strategy.options() if self.sampling_strategy else {}
        if not self.use_cache:
            self._session.rewind(0)
        return {**strategy, **options, "max_tokens": max_new_tokens}

    def generate(self, text, max_new_tokens=100, **options):
        """The new text, without the given one. Options as for Session.generate (seed, stop, …)."""
        options = self._start(max_new_tokens, options)
        return self._session.generate(self._encode(text), **options).text

    def stream(self, text, max_new_tokens=100, **options):
        """The same, piece by piece."""
        options = self._start(max_new_tokens, options)
        return self._session.stream(self._encode(text), **options)
