#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Debian's libraries for 64-bit Arm in a folder, and a cross file with which Meson builds the whole program.

    tools/arm_sysroot.py [FOLDER]        default: build-arm-sysroot

What tools/bootstrap installs for this machine's processor is fetched for arm64 by a package manager of
its own, whose lists and state lie in FOLDER: nothing of this system changes, and no right of root is
needed. The sources are those in /etc/apt. Some 70 MB, once; a folder that is complete is left alone.

FOLDER/cross.txt is for `meson setup --cross-file`; FOLDER/root is for `qemu-aarch64 -L`.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRIPLET = "aarch64-linux-gnu"
# Beside the libraries: what the compiler for this machine has of itself, and the tests' assertions.
MORE = ["libc6-dev", "libcmocka-dev", "opencl-c-headers"]


def wanted():
    """The libraries in bootstrap's table, by the names of their Debian packages."""
    rows = re.findall(r"^(?:core|all) +pc:\S+ +(\S+)", (ROOT / "tools" / "bootstrap").read_text(), re.M)
    return sorted({*rows, *MORE})


def run(*command):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit("arm_sysroot: %s: exit %d\n%s" % (" ".join(map(str, command)), done.returncode, done.stdout[-2000:]))


def fetch(apt, names):
    """The packages and all that they depend on, as a system with nothing installed needs them."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    settings = {"Dir::State": apt, "Dir::State::lists": apt / "lists", "Dir::Cache": apt / "cache", "Dir::State::status": apt / "status",
                "APT::Architecture": "arm64", "APT::Architectures": "arm64", "Acquire::Languages": "none", "APT::Sandbox::User": "",
                "Acquire::Retries": 3}
    words = ["apt-get", "-q", *["-o%s=%s" % item for item in settings.items()]]
    run(*words, "update")
    run(*words, "install", "--yes", "--no-install-recommends", "--download-only", *names)


def unpack(archives, root):
    for archive in archives:
        run("dpkg-deb", "-x", archive, root)
    for link in root.rglob("*"):  # links from the root on would lead to this machine's files
        if link.is_symlink() and os.readlink(link).startswith("/"):
            target = os.path.relpath(root / os.readlink(link).lstrip("/"), link.parent)
            link.unlink()
            link.symlink_to(target)


def cross_file(root):
    """What tools/cross/aarch64.txt says, for programs that load their libraries from root."""
    text = (ROOT / "tools" / "cross" / "aarch64.txt").read_text()
    text = text[text.index("[binaries]"):]
    text = text.replace("exe_wrapper = 'qemu-aarch64'", "pkgconfig = 'pkg-config'\nexe_wrapper = ['qemu-aarch64', '-L', '%s']" % root)
    text = text.replace("c_link_args = ['-static']", "c_args = ['--sysroot=%s']\nc_link_args = ['--sysroot=%s']" % (root, root))
    return text + "\n[properties]\nsys_root = '%s'\npkg_config_libdir = ['%s']\n" % (
        root, "', '".join(str(root / "usr" / place / "pkgconfig") for place in ("lib/" + TRIPLET, "share")))


def main():
    parser = argparse.ArgumentParser(description="Fetches Debian's libraries for 64-bit Arm into a folder.")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=ROOT / "build-arm-sysroot")
    folder = parser.parse_args().folder.resolve()
    names, done = wanted(), folder / "packages.txt"
    if not done.exists() or done.read_text().split() != names:
        for tool in ("apt-get", "dpkg-deb"):
            if not shutil.which(tool):
                sys.exit("arm_sysroot: there is no %s: this needs Debian or a system made of it" % tool)
        shutil.rmtree(folder, ignore_errors=True)
        fetch(folder / "apt", names)
        unpack(sorted((folder / "apt" / "cache" / "archives").glob("*.deb")), folder / "root")
        shutil.rmtree(folder / "apt")
        done.write_text("\n".join(names) + "\n")
    (folder / "cross.txt").write_text(cross_file(folder / "root"))
    print(folder / "cross.txt")


if __name__ == "__main__":
    main()
