# SPDX-License-Identifier: MIT
"""Instructions per token are those that were recorded (tools/count_instructions.py)."""
import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tools"))
import count_instructions as tool  # noqa: E402

AGAIN = "if this is meant: tools/count_instructions.py --record, and commit tests/instructions/recorded.json"


def test_a_token_costs_what_was_recorded():
    binary = os.environ["ROTOR_BINARY"]
    for program in ("valgrind", "callgrind_annotate", "readelf"):
        if not shutil.which(program):
            pytest.skip("no " + program)
    compiler = tool.compiler_of(binary)
    if os.uname().machine != "x86_64" or compiler not in tool.recorded():
        pytest.skip("no numbers are recorded for %s on %s" % (compiler, os.uname().machine))
    lines, bad = tool.compare(tool.recorded()[compiler], tool.measure(binary))
    print("\n".join(lines))
    assert not bad, "\n".join([""] + lines + [AGAIN])
