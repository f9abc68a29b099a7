# SPDX-License-Identifier: MIT
"""The judge of instruction counts: what it lets pass, what it does not, and what it says."""
import os
import sys

sys.path.insert(0, os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tools"))
import count_instructions as tool  # noqa: E402


def counts(total, **functions):
    return {"tiny decode": {"instructions": total, "functions": functions}}


def test_within_two_percent_passes():
    for now in (1000, 1019, 981):
        lines, bad = tool.compare(counts(1000, gemv=900), counts(now, gemv=900))
        assert not bad and len(lines) == 1 and lines[0].startswith("ok")


def test_more_or_less_than_two_percent_is_told_by_function():
    for now in (1021, 979):
        lines, bad = tool.compare(counts(1000, gemv=900, norm=90), counts(now, gemv=now - 100, norm=90, extra=9))
        assert bad == 1 and lines[0].startswith("CHANGED") and "1000 ->" in lines[0]
        assert "gemv" in lines[1] and "(%+d)" % (now - 1000) in lines[1]
        assert any("extra" in line for line in lines) and not any("norm" in line for line in lines)


def test_a_case_that_appears_or_disappears_is_a_change():
    for old, new in ((counts(10), {}), ({}, counts(10))):
        assert tool.compare(old, new)[1] == 1


def test_annotations_are_read():
    text = """--------
Ir
--------
1,234,567 (100.0%)  PROGRAM TOTALS

Ir                file:function

1,000,000 (81.00%)  ../src/kern/x86/t2_avx2.c:gemv_t2_i8_avx2 [/x/build/rotor]
  200,000 (16.20%)  ???:memset [/lib/libc.so]
   34,567 ( 2.80%)  ../src/a.c:walk'2 [/x/build/rotor]
    1,000 ( 0.08%)  ../src/b.c:gemv_t2_i8_avx2 [/x/build/rotor]
"""
    assert tool.parse_annotation(text) == {"gemv_t2_i8_avx2": 1001000, "memset": 200000, "walk'2": 34567}
