# SPDX-License-Identifier: MIT
"""Shared by the tests of the model families: what the program can run, and the bounds for rounded activations."""
import re

import numpy as np
import pytest

import reference

REFUSED = re.compile(r'(model_type|architecture|[Rr][Oo][Pp][Ee][\w. ]*) "?[\w.-]+"?:? is not supported|unknown architecture')


def needs(rotor, path, name):
    """Skips while the program refuses the architecture; once it is accepted, nothing is skipped any more."""
    shown = rotor("inspect", path, status=None)
    if "not run, by this version" in shown.stdout or REFUSED.search(shown.stderr):
        pytest.skip(f"not built yet: {name}")


def run_logits(rotor_logits, name, *args):
    """Logits, or a skip while the message is that the architecture, or its kind of RoPE scaling, is not supported."""
    try:
        return rotor_logits(*args)
    except AssertionError as e:
        if REFUSED.search(str(e)):
            pytest.skip(f"not built yet: {name}")
        raise


def compare_rounded(got, want):
    """Activations rounded to eight bits: half of the positions within 6e-2, the same top token where the margin is clear."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape or not np.isfinite(got).all():
        return [f"shape {got.shape}, expected {want.shape}, or not finite"]
    bad, middle = [], np.median(reference.relative_l2(got, want))
    if middle > 6e-2:
        bad.append(f"median over positions of the relative L2 error {middle:.2e}, bound 6e-2")
    top = np.sort(want, axis=-1)
    sure = top[:, -1] - top[:, -2] > 0.3 * want.std(axis=-1)
    wrong = sure & (got.argmax(-1) != want.argmax(-1))
    if wrong.any():
        bad.append(f"another top token at positions {np.flatnonzero(wrong).tolist()} where the margin is clear")
    return bad
