# SPDX-License-Identifier: MIT
"""Rotor from Python: language models on the machine in front of you.

    import rotor
    with rotor.Engine("model.gguf") as engine:
        for piece in engine.stream("Once upon a time", max_tokens=100):
            print(piece, end="", flush=True)

Engine, Session and Chat are the library's own objects; load_bitnet_model, BitNetTokenizer and
TextGenerator are thin names over them. rotor.torch (imported only when asked for; needs PyTorch)
trains ternary networks and exports them.
"""
from ._engine import Chat, Engine, Error, Grammar, Result, Session
from ._library import lib as _lib
from ._names import (BitNetTokenizer, GreedySampling, NucleusSampling, TextGenerator, TopKSampling,
                     load_bitnet_model)

__version__ = _lib.rotor_version().decode()
__all__ = ["BitNetTokenizer", "Chat", "Engine", "Error", "Grammar", "GreedySampling", "NucleusSampling", "Result", "Session",
           "TextGenerator", "TopKSampling", "chat_templates", "features", "load_bitnet_model"]


def features():
    """Optional features of the library: {name: "on" or "off (why)"}."""
    return dict(line.split(": ", 1) for line in _lib.rotor_features().decode().splitlines() if ": " in line)


def chat_templates():
    """Names of the built-in chat templates."""
    names = []
    while (name := _lib.rotor_chat_template_name(len(names))) is not None:
        names.append(name.decode())
    return names
