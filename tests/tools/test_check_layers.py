# SPDX-License-Identifier: MIT
"""check_layers: a clean tree is clean, and each rule, broken once, is found."""
import os
import subprocess
import sys

import pytest

ROOT = os.environ["ROTOR_SOURCE_ROOT"]
SPDX = "/* SPDX-License-Identifier: MIT */\n"

CLEAN = {
    "include/rotor_status.h": SPDX,
    "include/rotor.h": SPDX + '#include "rotor_status.h"\n',
    "src/base/base.h": SPDX + '#include "rotor_status.h"\n',
    "src/base/base_internal.h": SPDX + '#include "base/base.h"\n',
    "src/base/mem.c": SPDX + '#include "base_internal.h"\nvoid *f(void) { return malloc(1); }\n',
    "src/base/os_posix.c": SPDX + "#include <pthread.h>\n#include <sys/mman.h>\n"
                                  "int g(void) { return open(0, 0); }\n",
    "src/cpu/cpu.h": SPDX + '#include "base/base.h"\n',
    "src/cpu/detect.c": SPDX + "#include <cpuid.h>\n",
    "src/quant/quant.h": SPDX,
    "src/kern/kern.h": SPDX + '#include "cpu/cpu.h"\n#include "quant/quant.h"\n',
    "src/kern/c/norm_c.c": SPDX + '#include "kern/kern.h"\n/* printf("__AVX2__") */\n',
    "src/kern/x86/norm_avx2.c": SPDX + "#include <immintrin.h>\n#ifdef __AVX2__\n#endif\n",
    "src/text/text.h": SPDX,
    "src/api/engine.c": SPDX + '#include "rotor.h"\n#include "text/text.h"\n',
    "src/tool/tool.h": SPDX,
    "src/cli/main.c": SPDX + '#include "rotor.h"\n#include "tool/tool.h"\n#include <stdio.h>\n'
                             'int main(void) { printf("x"); return 0; }\n',
    "meson.build": "# never -march=native\n",
}

# What is written, and a part of what must be said about it.
BROKEN = [
    ("src/quant/row.c", '#include "text/text.h"\n', "room quant may not include room text"),
    ("src/base/row.c", '#include "cpu/cpu.h"\n', "room base may not include room cpu"),
    ("src/cpu/row.c", '#include "base/base_internal.h"\n', "private to room base"),
    ("src/cpu/row.c", '#include "../quant/quant.h"\n', "room cpu may not include room quant"),
    ("src/text/row.c", '#include "rotor.h"\n', "may not include public headers"),
    ("src/cli/row.c", '#include "text/text.h"\n', "room cli may not include room text"),
    ("include/rotor_rag.h", '#include "base/base.h"\n', "is not public"),
    ("src/text/row.c", '#include "nowhere.h"\n', "cannot find"),
    ("src/attic/row.c", "", "there is no room attic"),
    ("src/text/row.c", "#include <immintrin.h>\n", "belongs in kern/<arch>/"),
    ("src/kern/c/row.c", "#include <arm_neon.h>\n", "belongs in kern/<arch>/"),
    ("src/text/row.c", "#ifdef __AVX512F__\n#endif\n", "belongs in kern/<arch>/"),
    ("src/kern/kern_row.c", "#if defined(__ARM_FEATURE_DOTPROD)\n#endif\n", "kern/<arch>/"),
    ("src/text/row.c", "#include <pthread.h>\n", "belongs in base/os_*.c"),
    ("src/base/row.c", "#include <sys/stat.h>\n", "belongs in base/os_*.c"),
    ("src/text/row.c", "void *f(void) { return fopen(0, 0); }\n", "belongs in base/os_*.c"),
    ("src/cli/row.c", "void *f(void) { return mmap(0); }\n", "belongs in base/os_*.c"),
    ("src/text/row.c", "char *f(void) { return getenv(0); }\n", "getenv(): a library"),
    ("src/text/row.c", 'void f(void) { printf("x"); }\n', "printf(): a library"),
    ("src/text/row.c", "void f(void) { exit(1); }\n", "exit(): a library"),
    ("src/text/row.c", "void *f(void) { return calloc(1, 1); }\n", "base_alloc"),
    ("src/text/mem.c", "", "the name mem.c is taken"),
    ("src/text/Row.c", "", "snake_case"),
    ("src/text/row.c", "int x;\n" * 1000, "the limit is 1000"),
    ("src/text/row.c", "int f(void) {\n" + "    x();\n" * 119 + "}\n", "f has 121 lines"),
    ("src/text/row.c", "int f(int a,\n      int b) {\n" + "    x();\n" * 118 + "}\n",
     "f has 121 lines"),
]

# Near misses that are fine.
ALLOWED = [
    ("src/text/row.c", "int f(char *s) { return snprintf(s, 1, 0); }\n"),
    ("src/cli/row.c", "void *f(void) { return fopen(0, 0); }\n"),
    ("src/text/row.c", "void f(struct x *x) { x->free(x), x->exit(0); }\n"),
    ("src/text/row.c", "// getenv( in a comment\n"),
    ("src/text/row.c", 'const char *s = "call exit(1) \\" or getenv(x)";\n'),
    ("src/text/unicode_tables.c", "int x;\n" * 2000),
    ("src/text/row.c", "int f(void) {\n" + "    x();\n" * 118 + "}\n"),
    ("src/text/row.c", "void text_free(void);\nvoid f(void) { text_free(); }\n"),
]


def write_tree(folder, files):
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)


def check(folder):
    return subprocess.run([sys.executable, os.path.join(ROOT, "tools/check_layers.py"), folder],
                          capture_output=True, text=True)


def test_a_clean_tree_is_clean(tmp_path):
    write_tree(tmp_path, CLEAN)
    result = check(tmp_path)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("name, text, message", BROKEN, ids=[row[2] for row in BROKEN])
def test_each_broken_rule_is_found_once(tmp_path, name, text, message):
    write_tree(tmp_path, CLEAN)
    write_tree(tmp_path, {name: SPDX + text})
    result = check(tmp_path)
    assert result.returncode == 1
    assert message in result.stdout
    assert result.stdout.startswith(name + ":")
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("name, text", ALLOWED)
def test_near_misses_are_fine(tmp_path, name, text):
    write_tree(tmp_path, CLEAN)
    write_tree(tmp_path, {name: SPDX + text})
    assert check(tmp_path).stdout == ""


def test_a_file_without_its_licence_line_is_found(tmp_path):
    write_tree(tmp_path, CLEAN)
    write_tree(tmp_path, {"src/text/row.c": "int x;\n"})
    assert "SPDX" in check(tmp_path).stdout


def test_flags_that_bind_the_binary_to_one_machine_are_found(tmp_path):
    write_tree(tmp_path, CLEAN)
    write_tree(tmp_path, {"src/kern/meson.build": "args = ['-march=native']\n"})
    assert "-march=native" in check(tmp_path).stdout
