#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes gpu_sources.c: every kernel as OpenCL C text and, where glslc is at hand, as packed SPIR-V.

    tools/gpu_sources.py OUT.c GLSLC|- dialect.h NAME.k ...

Other headers beside the dialect that a kernel includes become part of its text, and so do kernels.
The dialect is there once. SPIR-V is 32-bit words, most of them small numbers: packed, a word is its
bits from the lowest, seven a byte, each byte but the last with its top bit set. That is half the size.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

import kernel_rules

FLAGS = ["-std=450core", "-fshader-stage=compute", "--target-env=vulkan1.1", "-O"]
# What gpu.h calls GPU_WITH_..., in the order of its bits: the macro, and the SPIR-V instructions it is about.
OPTIONS = [("HAVE_DOT", range(4450, 4456)), ("HAVE_SUBGROUPS", range(333, 367))]


def c_string(text):
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return "\n".join(f'    "{line}\\n"' for line in quoted.splitlines())


def lean(text):
    """C without comments, indentation, empty lines and the padding of macros: more than half of it is for people."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
    text = re.sub(r"\s*\\\n\s*", " ", text)
    return re.sub(r"\n\s*", "\n", re.sub(r"[ \t]+", " ", text)).lstrip()


def inlined(kernel):
    """The text without the dialect, other files in the place of their #include."""
    text = kernel.read_text().replace('#include "dialect.h"\n', "")
    return re.sub(r'#include "(\w+\.[hk])"\n', lambda m: inlined(kernel.parent / m[1]), text)


def packed(data):
    """The words of a module as gpu_unpack (gpu.h) reads them."""
    out = bytearray()
    for word in memoryview(data).cast("I"):
        while word >= 128:
            out.append(word & 127 | 128)
            word >>= 7
        out.append(word)
    return bytes(out)


def c_bytes(data):
    return "\n".join("    " + ",".join(map(str, data[i:i + 32])) + "," for i in range(0, len(data), 32))


def spirv(glslc, kernel, form):
    """The kernel through glslc. Its first lines come from the dialect by #include."""
    defines = ["-DHAVE_MATRIX=1"] if kernel.stem.endswith("_matrix") else []
    defines += [f"-D{macro}=1" for i, (macro, _) in enumerate(OPTIONS) if form >> i & 1]
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / (kernel.stem + ".comp")
        source.write_text("#extension GL_GOOGLE_include_directive : require\n#line 1\n" + kernel.read_text())
        out = pathlib.Path(folder) / "out.spv"
        done = subprocess.run([glslc, *FLAGS, *defines, f"-I{kernel.parent}", str(source), "-o", str(out)],
                              capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{kernel}: glslc failed:\n{done.stderr}")
        return out.read_bytes()


def instructions(data):
    """The opcodes of a SPIR-V module; its header is five words."""
    words_, at = memoryview(data).cast("I"), 5
    while at < len(words_):
        yield words_[at] & 0xffff
        at += words_[at] >> 16


def forms(glslc, kernel):
    """The module for every sum of option bits that makes a difference to the kernel."""
    every = (1 << len(OPTIONS)) - 1
    data = spirv(glslc, kernel, every)
    used = set(instructions(data))
    met = sum(1 << i for i, (_, about) in enumerate(OPTIONS) if used & set(about))
    subsets = [form for form in range(every + 1) if form & ~met == 0]
    return {form: data if form == every else spirv(glslc, kernel, form) for form in subsets}


def as_macros(text):
    """Constants of a kernel in OpenCL C: macros with the type they are declared with."""
    return re.sub(r"^SPEC\((\d+), (\w+), (\w+), .*\)$", r"#define \3 ((\2)SPEC_\1)", text, flags=re.M)


def main():
    out, glslc, dialect, *kernels = sys.argv[1:]
    shared = pathlib.Path(dialect).read_text()
    parts, rows = ['/* Made by tools/gpu_sources.py. */\n#include "dev/gpu/gpu.h"\n', f"static const char dialect[] =\n{c_string(lean(shared))};\n"], []
    for kernel in sorted(map(pathlib.Path, kernels)):
        name, row = kernel.stem, [f'    {{.name = "{kernel.stem}"', ".dialect = dialect", f".text = text_{kernel.stem}"]
        try:
            kernel_rules.check_barriers(inlined(kernel), shared)
        except kernel_rules.BarrierError as e:
            sys.exit(f"{kernel}: {e}; the rule is in {dialect}")
        text = as_macros(inlined(kernel))
        parts.append(f"static const char text_{name}[] =\n{c_string(lean(text))};\n")
        for form, data in forms(glslc, kernel).items() if glslc != "-" else ():
            parts.append(f"static const uint8_t spirv_{name}_{form}[] = {{\n{c_bytes(packed(data))}\n}};\n")
            row.append(f".spirv[{form}] = {{spirv_{name}_{form}, {len(packed(data))}, {len(data) // 4}}}")
        rows.append(", ".join(row) + "},")
    table = "\n".join(rows)
    parts.append(f"const gpu_source gpu_sources[] = {{\n{table}\n}};\n")
    parts.append("const size_t gpu_n_sources = sizeof gpu_sources / sizeof *gpu_sources;\n")
    pathlib.Path(out).write_text("\n".join(parts))


if __name__ == "__main__":
    main()
