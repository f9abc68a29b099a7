# SPDX-License-Identifier: MIT
"""The decoder families: the program and the float64 reference against what `transformers` gave (tests/data/golden/fam-*, made
by tools/golden/family_models.py), as folders and as GGUF files.

All weights are bfloat16, which leaves activations alone: the tight bound holds by default too. Sequences are longer than four
windows. Tests of the program are skipped as long as it does not know the architecture or its kind of RoPE scaling.
"""
import json
import os
import shutil

import numpy as np
import pytest

import families
import families_to_gguf
import reference
import reference_families

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "data", "golden")


def golden(folder):
    with open(os.path.join(GOLDEN, folder, "golden.json")) as f:
        return json.load(f)


FOLDERS = sorted(n for n in os.listdir(GOLDEN) if n.startswith("fam-"))
NAMES = FOLDERS + [f"{n}:{v}" for n in FOLDERS for v in golden(n)["variants"]]
NO_GGUF = ("fam-llama3-rope:yarn_exact",)       # GGUF has no key for bounds that are not rounded
CASES = [(n, f) for n in NAMES for f in ("folder", "gguf") if f == "folder" or n not in NO_GGUF]


class Case:
    """A folder, or the folder's weights under another config.json."""

    def __init__(self, name, form, tmp):
        folder, _, variant = name.partition(":")
        self.name, self.folder = name, os.path.join(GOLDEN, folder)
        info, stored, suffix = golden(folder), self.folder, f"_{variant}" if variant else ""
        if variant:
            self.folder = os.path.join(tmp, folder)
            os.makedirs(self.folder)
            shutil.copy(os.path.join(stored, "model.safetensors"), self.folder)
            shutil.copy(os.path.join(stored, f"config{suffix}.json"), os.path.join(self.folder, "config.json"))
        self.ids, self.path = info["ids"], self.folder
        self.logits = np.load(os.path.join(stored, f"logits{suffix}.npy"))
        experts, short = os.path.join(stored, "experts.npy"), os.path.join(stored, "logits_short.npy")
        self.experts = np.load(experts) if os.path.exists(experts) else None
        self.short = np.load(short) if variant == "longrope" else None
        if form == "gguf":
            self.path = os.path.join(tmp, folder + ".gguf")
            families_to_gguf.convert(self.folder, self.path)


@pytest.fixture(scope="module", params=CASES, ids=lambda p: "-".join(p))
def case(request, tmp_path_factory):
    return Case(*request.param, str(tmp_path_factory.mktemp("family")))


def check(got, want):
    complaints = reference.compare(got, want, "f32")
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("act", ["f32", "q8"])
def test_logits(case, act, rotor, rotor_logits):
    families.needs(rotor, case.path, case.name)
    check(families.run_logits(rotor_logits, case.name, case.path, case.ids, "--act", act), case.logits)
    if case.short is not None:
        check(rotor_logits(case.path, case.ids[:len(case.short)], "--act", act), case.short)


def test_chunks(case, rotor, rotor_logits):
    """Prompt steps that end inside and at a window, or are single rows, change no bit."""
    families.needs(rotor, case.path, case.name)
    whole = families.run_logits(rotor_logits, case.name, case.path, case.ids).tobytes()
    for chunk in (1, 3, 5):
        assert rotor_logits(case.path, case.ids, "--chunk", chunk).tobytes() == whole, chunk


@pytest.mark.parametrize("name", NAMES)
def test_reference(name, tmp_path):
    case, trace = Case(name, "folder", str(tmp_path)), {}
    net = reference_families.load(case.folder)
    check(reference_families.forward(net, case.ids, trace), case.logits)
    if case.experts is not None:
        assert (np.stack([trace[f"l{n}.chosen"] for n in range(len(net.layers))]) == case.experts).all()
    if case.short is not None:
        check(reference_families.forward(net, case.ids[:len(case.short)]), case.short)


def every_layer(change):
    def run(net):
        for p in net.layers:
            change(p)
    return run


def widen(net):
    net.window = [w + 1 if w else 0 for w in net.window]


def one_base(net):
    net.rope = net.rope[:1] * len(net.rope)


MISTAKES = [("gemma2", "no score cap", lambda net: setattr(net, "score_cap", 0.0)),
            ("gemma2", "no logit cap", lambda net: setattr(net, "logit_cap", 0.0)),
            ("gemma2", "window off by one", widen), ("gemma3", "window off by one", widen), ("phi3", "window off by one", widen),
            ("gemma2", "every layer windowed", lambda net: setattr(net, "window", [5] * 4)),
            ("gemma2", "exact gelu", lambda net: setattr(net, "activation", "gelu")),
            ("gemma3", "one base", one_base), ("gemma3", "no query norm", every_layer(lambda p: p.pop("q_norm"))),
            ("gemma3", "embedding not scaled", lambda net: setattr(net, "embed_scale", 1.0)),
            ("qwen2moe", "shares sum to one", lambda net: setattr(net, "renormalise", True)),
            ("qwen3moe", "shares as they are", lambda net: setattr(net, "renormalise", False)),
            ("qwen2moe", "no shared expert", every_layer(lambda p: p.pop("shared_gate"))),
            ("smollm3", "every layer rotated", one_base), ("gpt2", "exact gelu", lambda net: setattr(net, "activation", "gelu")),
            ("starcoder2", "rms norm", lambda net: setattr(net, "norm", "rms")),
            ("gpt2", "no positions", lambda net: setattr(net, "positions", None))]


@pytest.mark.parametrize("family, mistake, apply", MISTAKES, ids=lambda v: v if isinstance(v, str) else "")
def test_bounds_catch_mistakes(family, mistake, apply):
    folder = os.path.join(GOLDEN, "fam-" + family)
    net = reference_families.load(folder)
    apply(net)
    got = reference_families.forward(net, golden("fam-" + family)["ids"])
    assert reference.compare(got, np.load(os.path.join(folder, "logits.npy")), "f32")
