# SPDX-License-Identifier: MIT
"""The ctypes declarations against include/rotor.h: a C program prints what the compiler makes of the
header, and the header's prototypes are read with expressions. A changed header fails here."""
import ctypes
import os
import re
import subprocess

import pytest

from rotor import _library as c
from rotor import ternary

CC = os.environ.get("CC", "cc").split()
SCALARS = {"uint32_t": ctypes.c_uint32, "int32_t": ctypes.c_int32, "uint64_t": ctypes.c_uint64, "float": ctypes.c_float,
           "size_t": ctypes.c_size_t, "bool": ctypes.c_bool, "int": ctypes.c_int, "unsigned": ctypes.c_uint,
           "rotor_status": ctypes.c_int, "int64_t": ctypes.c_int64, "rotor_mlp_act": ctypes.c_int,
           "rotor_ternary_layout": ctypes.c_int, "rotor_engine_options": c.EngineOptions, "rotor_gen_options": c.GenOptions,
           "rotor_part": ctypes.c_int, "rotor_effort": ctypes.c_int, "rotor_grammar_kind": ctypes.c_int, "rotor_chat_options": c.ChatOptions,
           "rotor_call_options": c.CallOptions}


@pytest.fixture(scope="module")
def header(source_root):
    text = "".join((source_root / "include" / name).read_text() for name in ("rotor_status.h", "rotor.h", "rotor_chat.h"))
    return without_comments(text)


def without_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def ask_compiler(source_root, tmp_path, body):
    source = tmp_path / "ask.c"
    source.write_text('#include <rotor.h>\n#include <rotor_chat.h>\n#include <rotor_ternary.h>\n#include <stdio.h>\n#include <stddef.h>\nint main(void) {\n%s\n}\n' % body)
    subprocess.run([*CC, "-std=c11", "-I", str(source_root / "include"), str(source), "-o", str(tmp_path / "ask")],
                   check=True, timeout=300)
    out = subprocess.run([str(tmp_path / "ask")], check=True, capture_output=True, text=True, timeout=300).stdout
    return dict(line.rsplit(" ", 1) for line in out.splitlines())


def test_structures(source_root, tmp_path):
    lines, want = [], {}
    for name, struct in {**c.STRUCTS, "rotor_mlp_stats": ternary.MlpStats}.items():
        lines.append('printf("%s %%zu\\n", sizeof(%s));' % (name, name))
        want[name] = ctypes.sizeof(struct)
        for field, _ in struct._fields_:
            lines.append('printf("%s.%s %%zu\\n", offsetof(%s, %s));' % (name, field, name, field))
            lines.append('printf("%s.%s size %%zu\\n", sizeof(((%s *)0)->%s));' % (name, field, name, field))
            want["%s.%s" % (name, field)] = getattr(struct, field).offset
            want["%s.%s size" % (name, field)] = getattr(struct, field).size
    got = {name: int(value) for name, value in ask_compiler(source_root, tmp_path, "\n".join(lines)).items()}
    assert got == want


def test_every_field_of_the_header_is_here(header):
    for name, struct in c.STRUCTS.items():
        body = re.search(r"typedef struct %s \{(.*?)\n\} %s;" % (name, name), header, re.S).group(1)
        body = re.sub(r"\(\*(\w+)\)\s*\([^)]*\)", r"\1", body)       # callbacks
        fields = [re.search(r"(\w+)(\[\d+\])?\s*$", part).group(1) for declaration in body.split(";")
                  if declaration.strip() for part in declaration.split(",")]
        assert fields == [field for field, _ in struct._fields_], name


def test_enumerators(source_root, tmp_path):
    want = {"ROTOR_" + name if name == "OK" else "ROTOR_" + name: value for name, value in c.STATUS.items()}
    want |= {"ROTOR_KV_" + name.upper(): value for name, value in c.KV.items()}
    want |= {"ROTOR_HEAD_" + name.upper(): value for name, value in c.HEAD.items()}
    want |= {"ROTOR_I2S_" + name.upper(): value for name, value in c.I2S.items()}
    want |= {"ROTOR_YARN_" + name.upper(): value for name, value in c.YARN.items()}
    want |= {"ROTOR_POOL_" + name.upper(): value for name, value in c.POOL.items()}
    want |= {"ROTOR_EMBED_RAW": c.EMBED_RAW, "ROTOR_EMBED_TRUNCATE": c.EMBED_TRUNCATE}
    want |= {"ROTOR_FULL_" + name.upper(): value for name, value in c.FULL.items()}
    want |= {"ROTOR_GRAMMAR_" + name.upper(): value for name, value in c.GRAMMAR.items()}
    want |= {"ROTOR_FINISH_" + name.upper(): value for value, name in enumerate(c.FINISH)}
    want |= {"ROTOR_EFFORT_" + name.upper(): value for name, value in c.EFFORT.items()}
    want |= {"ROTOR_PART_" + name.upper(): value for value, name in enumerate(c.PARTS)}
    want |= {"ROTOR_TOK_BOS": c.TOK_BOS, "ROTOR_TOK_SPECIAL": c.TOK_SPECIAL}
    body = "\n".join('printf("%s %%d\\n", (int)%s);' % (name, name) for name in want)
    assert {name: int(value) for name, value in ask_compiler(source_root, tmp_path, body).items()} == want


def test_no_enumerator_is_missing(header):
    known = set(c.STATUS) | {"KV_" + n.upper() for n in c.KV} | {"HEAD_" + n.upper() for n in c.HEAD}
    known |= {"I2S_" + n.upper() for n in c.I2S} | {"YARN_" + n.upper() for n in c.YARN}
    known |= {"POOL_" + n.upper() for n in c.POOL} | {"EMBED_RAW", "EMBED_TRUNCATE"}
    known |= {"EFFORT_" + n.upper() for n in c.EFFORT} | {"PART_" + n.upper() for n in c.PARTS}
    known |= {"FULL_" + n.upper() for n in c.FULL} | {"GRAMMAR_" + n.upper() for n in c.GRAMMAR}
    known |= {"FINISH_" + n.upper() for n in c.FINISH} | {"TOK_BOS", "TOK_SPECIAL"}
    found = set()
    for body in re.findall(r"enum\s*\w*\s*\{(.*?)\}", header, re.S):
        found |= set(re.findall(r"\bROTOR_(\w+)", body))
    assert found == known


def kind_of(declaration):
    """"pointer" or the ctypes class of a scalar parameter or result."""
    declaration = re.sub(r"\b(const|ROTOR_API)\b", " ", declaration).strip()
    if "*" in declaration or "[" in declaration:
        return "pointer"
    return None if declaration.split()[0] == "void" else SCALARS[declaration.split()[0]]


def kind_here(kind):
    pointers = (ctypes.c_void_p, ctypes.c_char_p)
    pointer = kind in pointers or (isinstance(kind, type) and issubclass(kind, (ctypes._Pointer, ctypes._CFuncPtr)))
    return "pointer" if pointer else kind


def prototypes(text):
    found = {}
    for result, name, parameters in re.findall(r"ROTOR_API\s+([\w\s*]+?)\b(rotor_\w+)\s*\((.*?)\);", text, re.S):
        parts = re.sub(r"\w+ \(\*\w+\)\([^)]*\)", "callback *", parameters).split(",")
        found[name] = (kind_of(result), [] if parameters.strip() == "void" else [kind_of(p) for p in parts])
    return found


def bound(functions):
    return {name: (kind_here(result), [kind_here(a) for a in arguments])
            for name, (result, arguments) in functions.items()}


def test_prototypes(header):
    found = prototypes(header)
    assert len(found) > 20 and bound(c.FUNCTIONS) == found


def test_prototypes_of_the_ternary_part(source_root):
    found = prototypes(without_comments((source_root / "include" / "rotor_ternary.h").read_text()))
    here = bound(ternary.FUNCTIONS)
    assert here == {name: found[name] for name in here}
