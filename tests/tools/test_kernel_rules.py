# SPDX-License-Identifier: MIT
"""The rules about barriers hold in every kernel, and the check that says so finds what breaks them."""
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
sys.path.insert(0, str(ROOT / "tools"))
import gpu_sources  # noqa: E402
import kernel_rules  # noqa: E402

KERNELS = sorted((ROOT / "src/dev/gpu/kernels").glob("*.k"))
DIALECT = (ROOT / "src/dev/gpu/kernels/dialect.h").read_text()


def check(body, before=""):
    kernel_rules.check_barriers(f"{before}\nKERNEL(k) {{\n BEGIN\n{body}\n}}\n", DIALECT)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.stem)
def test_kernels_keep_them(kernel):
    kernel_rules.check_barriers(gpu_sources.inlined(kernel), DIALECT)


def test_the_dialect_keeps_them():
    kernel_rules.check_barriers(DIALECT)


@pytest.mark.parametrize("body", [
    "BARRIER;",
    "for (uint i = 0u; i < p.n; i++) { x[lid] = i; BARRIER; }",
    "if (D > PIECE) { BARRIER; }",
    "if (lid < 16u) x[lid] = 1u; BARRIER;",
    "if (lid < 16u) FETCH(3u)\n BARRIER;",
    "for (uint i = lid; i < n; i += LX) { if (x[i] > 3u) continue; y[i] = 1u; } BARRIER;",
    "const uint n = step[0], mine = lid; for (uint i = 0u; i < n; i++) BARRIER;",
    "if (lid == 0u) for (uint i = 1u; i < 8u; i++) BETTER(i)\n GROUP_ADD(sum, x, part)\n",
])
def test_uniform_is_fine(body):
    check(body)


@pytest.mark.parametrize("body", [
    "if (lid < 16u) BARRIER;",
    "if (live) { x[lid] = 1u; BARRIER; }",
    "if (LX > 3u) { y[0] = 1u; } else if (p.n > 3u) { BARRIER; }",
    "if (p.n > 3u) GROUP_MAX(most, x, part)",
    "if (p.n > 3u) { WAIT }",
    "for (uint i = lid; i < 16u; i++) { BARRIER; }",
    "const uint a = 3u, s = lid / 32u; for (uint i = s; i < p.n; i++) BARRIER;",
    "uint a = lid; uint b = a * 2u; while (b < 3u) { BARRIER; }",
    "for (uint i = 0u; i < p.n; i++) { if (x[i] != i) continue; BARRIER; }",
    "for (uint i = 0u; i < p.n; i++) { for (uint j = 0u; j < 3u; j++) BARRIER; if (x[i] > 3u) break; }",
    "for (uint i = 0u; i < p.n; i++) { if (x[i] > 3u) return; } for (uint i = 0u; i < p.n; i++) "
    "{ if (x[i] > 3u) { return; } BARRIER; }",
])
def test_else_is_found(body):
    with pytest.raises(kernel_rules.BarrierError):
        check(body, "#define WAIT x[lid] = 1u; BARRIER;")


def test_macros_are_looked_into():
    with pytest.raises(kernel_rules.BarrierError):
        check("LATE", "#define LATE if (lid > 3u) { BARRIER; }")
