#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes what is given to people from a finished build.

    packaging/make_packages.py tarball|deb|all [--build build] [-o build/packages]

tarball: rotor-VERSION-linux-MACHINE.tar.gz, which runs from any folder on any Linux whose C library
    is new enough, without root: the libraries that systems do not all have lie in lib/rotor and are
    looked for there, relative to the program. Beside it SHA256SUMS and install.sh.
deb: rotor_VERSION_ARCH.deb, which uses the libraries of the system it was made on.

Both hold share/doc/rotor/sbom.json, a list of what is inside (sbom.py). The same build gives the same bytes (times are SOURCE_DATE_EPOCH, else of the last commit).
Needs Debian or a system made of it, whose packages say licences and versions of libraries; meson
and strip; tarball: patchelf; deb: dpkg-deb and dpkg-shlibdeps (dpkg-dev).
"""
import argparse
import functools
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import sbom

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ("rotor", "rotor-extract")
# What `rotor` loads when it needs it, and where the names that it tries stand: no tool sees these in the file.
LATE = {"libcurl": "src/hub/late_curl.c", "libmicrohttpd": "src/serve/late_mhd.c"}
# What every Linux has, and what drivers of graphics cards bring in the version that suits them.
SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|pthread|dl|rt|resolv|util|gcc_s|stdc\+\+|z|zstd|expat|drm|tinfo|xml2))\.so")


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, **more)
    if done.returncode:
        sys.exit("make_packages: %s failed" % " ".join(map(str, command)))
    return done.stdout


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            sys.exit("make_packages: there is no %s" % tool)


def project(build):
    info = json.loads(run("meson", "introspect", build, "--projectinfo"))
    options = {o["name"]: o["value"] for o in json.loads(run("meson", "introspect", build, "--buildoptions"))}
    return info["version"], options


@functools.lru_cache(None)
def epoch():
    if os.environ.get("SOURCE_DATE_EPOCH"):
        return int(os.environ["SOURCE_DATE_EPOCH"])
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else 0


def stage(build, folder, prefix):
    """Installs into folder/prefix without symbols for debuggers; files that name the prefix name this one."""
    version, options = project(build)
    run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", folder / "destdir")
    was = options["prefix"]
    root = folder / "root"
    (root / prefix.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "destdir" / was.lstrip("/"), root / prefix.lstrip("/"))
    tree = root / prefix.lstrip("/")
    for named in [*tree.rglob("rotor.service"), *tree.rglob("rotor.pc")]:
        named.write_text(re.sub(r"(=|\b)%s\b" % re.escape(was), r"\1" + prefix, named.read_text()))
    for path in sorted(tree.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        if path.parent.name == "bin" or re.search(r"\.so(\.|$)", path.name):
            run("strip", "--strip-unneeded", path)
        elif path.suffix == ".a":
            run("strip", "--strip-debug", path)
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return version, tree


# ---- Tarball -------------------------------------------------------------------------------------


def at_start(path, also=()):
    said = run("ldd", path, env={**os.environ, "LD_PRELOAD": " ".join(also)}, stderr=subprocess.DEVNULL)
    return dict(re.findall(r"^\s*(\S+) => (/\S+) \(", said, re.M))


def late(rotor):
    """Of each library that this program was built to load when it needs it, the name that it finds here."""
    features, names = run(rotor, "version"), []
    for library, source in LATE.items():
        if not re.search(r"^%s: on\b" % library, features, re.M):
            continue
        tried = re.findall(r'"(lib[^"]*\.so[.\d]*)"', (ROOT / source).read_text())
        there = next((name for name in tried if name in at_start(rotor, [name])), None)
        if not there:
            sys.exit("make_packages: %s loads %s when it needs it, and there is none of %s here" % (rotor, library, ", ".join(tried)))
        names.append(there)
    return names


def libraries(path):
    """Name to file of every shared library that the program loads, its libraries' too, also those loaded late."""
    return at_start(path, late(path) if path.name == "rotor" else ())


def loaded(tree):
    return {name: path for program in PROGRAMS for name, path in libraries(tree / "bin" / program).items()}


def licence_of(library, folder):
    """Keeps the licence of the Debian package that a bundled library is from; without one, says so."""
    real = os.path.realpath(library)
    names = [real, real.replace("/usr/lib", "/lib", 1)]
    done = subprocess.run(["dpkg", "-S", *names], capture_output=True, text=True) if shutil.which("dpkg") else None
    package = done.stdout.split(":")[0] if done and done.stdout else None
    text = pathlib.Path("/usr/share/doc/%s/copyright" % package)
    if not package or not text.exists():
        sys.exit("make_packages: no licence found for %s, and it may not be given away without one" % library)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(text, folder / package)


def bundle(tree):
    """Puts the libraries of the programs into lib/rotor, where the programs and they look first. Returns where each was."""
    home, all_there_are = tree / "lib" / "rotor", loaded(tree)
    home.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        for name, path in sorted(libraries(tree / "bin" / program).items()):
            # The parser's own XML library is not the program's: no driver is loaded there.
            if SYSTEM.match(name) and not (program == "rotor-extract" and name.startswith("libxml2")):
                continue
            shutil.copyfile(path, home / name)
            (home / name).chmod(0o644)
            licence_of(path, tree / "share" / "doc" / "rotor" / "libraries")
        run("patchelf", "--force-rpath", "--set-rpath", "$ORIGIN/../lib/rotor", tree / "bin" / program)
    for library in tree.rglob("librotor.so.*"):  # for programs that are linked with it
        if not library.is_symlink():
            up = os.path.relpath(home, library.parent)
            run("patchelf", "--force-rpath", "--set-rpath", "$ORIGIN/" + up, library)
    for library in home.iterdir():
        run("patchelf", "--force-rpath", "--set-rpath", "$ORIGIN", library)
    return all_there_are


def newest_glibc(tree):
    """The least C library with which the programs and their libraries load."""
    files = [tree / "bin" / p for p in PROGRAMS] + list((tree / "lib" / "rotor").iterdir())
    found = {tuple(map(int, v.split("."))) for f in files
             for v in re.findall(r"GLIBC_(2\.\d+)", run("objdump", "-T", f))}
    return ".".join(map(str, max(found)))


def plain(info):
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = epoch()
    return info


def make_tarball(build, out):
    need("meson", "strip", "patchelf", "objdump", "ldd")
    with tempfile.TemporaryDirectory() as temporary:
        version, tree = stage(build, pathlib.Path(temporary), "/rotor")
        name = "rotor-%s-linux-%s" % (version, os.uname().machine)
        units = tree / "lib" / "systemd"
        if units.exists():  # where systemd looks in a home
            shutil.move(units, tree / "share" / "systemd")
        for unit in tree.rglob("rotor.service"):
            unit.write_text(unit.read_text().replace("ExecStart=/rotor/bin/", "ExecStart=%h/.local/bin/"))
        for pc in tree.rglob("rotor.pc"):  # relative to itself
            up = os.path.relpath(tree, pc.parent)
            pc.write_text(pc.read_text().replace("prefix=/rotor", "prefix=${pcfiledir}/" + up))
        sbom.write(tree / "share" / "doc" / "rotor" / "sbom.json", version, bundle(tree), tree / "lib" / "rotor")
        (tree / "README").write_text(
            "Rotor %s for Linux on %s, with a GNU C library of %s or newer.\n\n"
            "bin/rotor runs from this folder, wherever it is, and writes nothing into it: bin/rotor chat\n"
            "share/man has the manual, share/doc/rotor the licences, of the libraries in lib/rotor, too.\n"
            % (version, os.uname().machine, newest_glibc(tree)))
        out.mkdir(parents=True, exist_ok=True)
        path = out / (name + ".tar.gz")
        with open(path, "wb") as raw, gzip.GzipFile("", "wb", mtime=epoch(), fileobj=raw, compresslevel=6) as packed:
            with tarfile.open(mode="w", fileobj=packed, format=tarfile.GNU_FORMAT) as tar:
                for file in [tree, *sorted(tree.rglob("*"))]:
                    tar.add(file, str(pathlib.PurePath(name) / file.relative_to(tree)), recursive=False, filter=plain)
    shutil.copy(ROOT / "packaging" / "install.sh", out)
    write_sums(out, version)
    return path


def write_sums(out, version):
    """Of this version only: the folder may hold earlier ones, which nobody is to be given."""
    (out / "SHA256SUMS").write_text("".join(
        "%s  %s\n" % (hashlib.sha256(f.read_bytes()).hexdigest(), f.name)
        for f in sorted(out.glob("rotor*")) if re.fullmatch(r"rotor[-_]%s[-_].*\.(tar\.gz|deb)" % re.escape(version), f.name)))


# ---- Debian package ------------------------------------------------------------------------------


def depends(tree, folder):
    (folder / "debian").mkdir()
    (folder / "debian" / "control").write_text("Source: rotor\n\nPackage: rotor\nArchitecture: any\n")
    files = [tree / "bin" / p for p in PROGRAMS] + [f for f in tree.rglob("librotor.so*") if not f.is_symlink()]
    said = run("dpkg-shlibdeps", "-O", *["-e%s" % f for f in files], cwd=folder)
    files = loaded(tree)
    packages = {sbom.package_of(os.path.realpath(files[name]))[0] for name in late(tree / "bin" / "rotor")}
    return ", ".join([re.search(r"shlibs:Depends=(.*)", said).group(1), *sorted(packages)])


def make_deb(build, out):
    need("meson", "strip", "dpkg-deb", "dpkg-shlibdeps")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        version, tree = stage(build, folder, "/usr")
        arch = run("dpkg", "--print-architecture").strip()
        doc = tree / "share" / "doc" / "rotor"
        (doc / "LICENSE").rename(doc / "copyright")
        sbom.write(doc / "sbom.json", version, loaded(tree))
        for page in (tree / "share" / "man" / "man1").iterdir():
            page.with_name(page.name + ".gz").write_bytes(gzip.compress(page.read_bytes(), 9, mtime=0))
            page.unlink()
        zsh = tree / "share" / "zsh"
        shutil.move(zsh / "site-functions", zsh / "vendor-completions")
        root = tree.parent
        size = sum(f.lstat().st_size for f in root.rglob("*") if not f.is_dir()) // 1024
        (root / "DEBIAN").mkdir(mode=0o755)
        (root / "DEBIAN" / "control").write_text((ROOT / "packaging" / "deb-control.in").read_text().format(
            version=version, arch=arch, depends=depends(tree, folder), size=size))
        (root / "DEBIAN" / "md5sums").write_text("".join(
            "%s  %s\n" % (hashlib.md5(f.read_bytes()).hexdigest(), f.relative_to(root))
            for f in sorted(tree.rglob("*")) if f.is_file() and not f.is_symlink()))
        (root / "DEBIAN" / "triggers").write_text("activate-noawait ldconfig\n")
        out.mkdir(parents=True, exist_ok=True)
        path = out / ("rotor_%s_%s.deb" % (version, arch))
        run("dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", root, path,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch())})
    write_sums(out, version)
    return path


def main():
    parser = argparse.ArgumentParser(description="Makes a relocatable archive and a Debian package from a build.")
    parser.add_argument("what", choices=["tarball", "deb", "all"])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "build" / "packages")
    args = parser.parse_args()
    os.umask(0o022)  # the modes of what is packed are not those of who packs it
    for name, make in (("tarball", make_tarball), ("deb", make_deb)):
        if args.what in (name, "all"):
            print(make(args.build.resolve(), args.output.resolve()))


if __name__ == "__main__":
    main()
