# SPDX-License-Identifier: MIT
"""librotor as other programs meet it: headers that compile alone, exported symbols, the soname, and
the example built from an installed copy with pkg-config."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

BUILD = pathlib.Path(os.environ["ROTOR_BINARY"]).resolve().parent
CC = os.environ.get("CC", "cc").split()


def run(*command, **more):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def headers(root):
    return sorted((root / "include").glob("*.h"))


@pytest.mark.parametrize("compiler, language, standard", [
    (CC, "c", "c99"), (CC, "c", "c11"), (["c++"], "c++", "c++11"), (["c++"], "c++", "c++17")])
def test_headers_compile_alone(source_root, compiler, language, standard):
    if not shutil.which(compiler[0]):
        pytest.skip("no " + compiler[0])
    for header in headers(source_root):
        run(*compiler, "-x", language, "-std=" + standard, "-Wall", "-Wextra", "-pedantic", "-Werror",
            "-fsyntax-only", "-I", source_root / "include", "-include", header, os.devnull)


def test_the_library_exports_what_the_headers_mark_and_nothing_else(source_root):
    declared = set()
    for header in headers(source_root):
        declared |= set(re.findall(r"ROTOR_API\s[^;]*?\b(rotor_\w+)\s*\(", header.read_text()))
    lines = run("nm", "-D", "--defined-only", BUILD / "librotor.so").splitlines()
    exported = {line.split()[2].split("@")[0] for line in lines if line.split()[1] != "A"}
    assert len(declared) > 20
    assert exported == declared


def test_the_soname_is_stable():
    assert "[librotor.so.0]" in run("readelf", "-d", BUILD / "librotor.so")


@pytest.mark.parametrize("static", [False, True])
def test_an_installed_library_builds_the_example(source_root, installed, tmp_path, static):
    if not shutil.which("pkg-config"):
        pytest.skip("no pkg-config")
    pc = next(installed.rglob("rotor.pc"))
    env = {**os.environ, "PKG_CONFIG_PATH": str(pc.parent), "PKG_CONFIG_SYSROOT_DIR": str(installed)}
    flags = run("pkg-config", "--cflags", "--libs", *["--static"] * static, "rotor", env=env).split()
    if static:  # the library itself only: what it needs comes from the system as usual
        flags[flags.index("-lrotor")] = str(pc.parent.parent / "librotor.a")
    run(*CC, "-std=c11", "-Wall", "-Wextra", "-Werror", source_root / "examples" / "simple.c", "-o",
        tmp_path / "simple", *flags)
    env["LD_LIBRARY_PATH"] = str(pc.parent.parent)
    story = run(tmp_path / "simple", source_root / "tests" / "data" / "model" / "stories260K.gguf", "Once upon a time", "40",
                env=env)
    assert story.startswith("Once upon a time, there was a") and len(story) > 60
    refused = subprocess.run([tmp_path / "simple", "nothing.gguf", "x"], capture_output=True, text=True,
                             env=env, timeout=300)
    assert refused.returncode == 1 and "nothing.gguf" in refused.stderr
