# SPDX-License-Identifier: MIT
"""packaging/recipes: nobody here builds them, so every file is at least parsed, and the AppImage's folder is made and run."""
import configparser
import io
import os
import pathlib
import shutil
import subprocess
import tarfile
import xml.etree.ElementTree

import pytest

RECIPES = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"]) / "packaging" / "recipes"
SCRIPTS = [path for path in sorted(RECIPES.rglob("*")) if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")]


def ini(path):
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(path.read_text())
    return parser


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    assert os.access(script, os.X_OK)
    subprocess.run(["sh", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)


def test_there_are_scripts():
    assert len(SCRIPTS) == 3


def test_the_desktop_entry():
    entry = ini(RECIPES / "appimage" / "rotor.desktop")["Desktop Entry"]
    assert entry["Type"] == "Application" and entry["Name"] and entry["Exec"].split()[0] == "rotor"
    assert (RECIPES / "appimage" / (entry["Icon"] + ".svg")).is_file()
    assert entry["Terminal"] in ("true", "false") and entry["Categories"].endswith(";")
    xml.etree.ElementTree.parse(RECIPES / "appimage" / "rotor.svg")


def test_the_cross_file():
    cross = ini(RECIPES / "android" / "ndk-aarch64.ini")
    assert set(cross["host_machine"]) == {"system", "cpu_family", "cpu", "endian"} and "c" in cross["binaries"]


def test_the_flatpak_manifest():
    yaml = pytest.importorskip("yaml")
    [path] = (RECIPES / "flatpak").glob("*.yml")
    manifest = yaml.safe_load(path.read_text())
    assert manifest["id"] == path.stem and manifest["command"] == "rotor"
    assert {"runtime", "runtime-version", "sdk", "modules"} <= set(manifest)


def test_the_folder_of_an_appimage(tmp_path):
    """From an archive as `make packages` leaves it, with a program that says what it was told."""
    program = b'#!/bin/sh\necho "told: $*"\n'
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("rotor-0-linux-x86_64/bin/rotor")
        member.size, member.mode = len(program), 0o755
        archive.addfile(member, io.BytesIO(program))
    here = dict(os.environ, PATH="/usr/bin:/bin")
    build = [RECIPES / "appimage" / "build.sh", tmp_path / "a.tar.gz", tmp_path / "AppDir"]
    if shutil.which("appimagetool", path=here["PATH"]):
        pytest.skip("an appimagetool is here, which this test does not use")
    made = subprocess.run(build, env=here, capture_output=True, text=True)
    assert made.returncode == 0 and "is ready" in made.stdout, made.stderr
    run = [tmp_path / "AppDir" / "AppRun"]
    assert subprocess.run([*run, "run", "-p", "x"], capture_output=True, text=True).stdout == "told: run -p x\n"
    assert subprocess.run(run, capture_output=True, text=True).stdout == "told: chat\n"
    assert subprocess.run(build, env=here, capture_output=True).returncode == 1
