#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fetches and builds the libraries that the full program for Windows stands on.

    tools/windows_libs.py [--to FOLDER] [--sources FOLDER]

jansson, utf8proc, PCRE2 and SQLite come as source packages of the distribution, from where this
machine's own apt is told to take packages, and are compiled by mingw-w64 to static libraries. FOLDER
(default: build-windows-libs) then holds include/, lib/ and cross.txt, which `make windows` adds to
its own cross file. With --sources nothing is fetched: FOLDER has one unpacked source package each,
jansson-*, utf8proc-*, pcre2-* and sqlite3-*.

Needs apt-get, dpkg-source (package dpkg-dev), the compiler, and tclsh (package tcl) for SQLite. A
library that cannot be had is named; without jansson or utf8proc the exit status is 1.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS = "x86_64-w64-mingw32-"
INDISPENSABLE = {"jansson", "utf8proc"}
# What a library's configure script would find out.
JANSSON_PRIVATE = """
#define HAVE_STDINT_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_FCNTL_H 1
#define HAVE_UNISTD_H 1
#define HAVE_SYS_TIME_H 1
#define HAVE_GETTIMEOFDAY 1
#define HAVE_GETPID 1
#define HAVE_OPEN 1
#define HAVE_CLOSE 1
#define HAVE_READ 1
#define HAVE_SYNC_BUILTINS 1
#define HAVE_ATOMIC_BUILTINS 1
#define USE_WINDOWS_CRYPTOAPI 1
#define INITIAL_HASHTABLE_ORDER 3
"""
JANSSON_PUBLIC = """
#define JSON_INLINE inline
#define JSON_INTEGER_IS_LONG_LONG 1
#define JSON_HAVE_LOCALECONV 1
#define JSON_HAVE_ATOMIC_BUILTINS 1
#define JSON_HAVE_SYNC_BUILTINS 1
#define JSON_PARSER_MAX_DEPTH 2048
"""


class Failed(Exception):
    """One library cannot be had; the message says why."""


def run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)
    if done.returncode:
        raise Failed("%s: %s" % (" ".join(command[:3]), " | ".join(done.stdout.strip().splitlines()[-3:])))
    return done.stdout


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


# ---- Sources -------------------------------------------------------------------------------------


def source_lists(to):
    """The system's own lists of places for packages, each turned into one for sources."""
    for path in glob.glob("/etc/apt/sources.list.d/*") + ["/etc/apt/sources.list"]:
        name = os.path.basename(path)
        if not name.endswith((".list", ".sources")) or not os.path.isfile(path):
            continue
        with open(path) as f:
            text = f.read()
        text = re.sub(r"(?m)^Types:.*$", "Types: deb-src", text)
        text = re.sub(r"(?m)^deb(\s)", r"deb-src\1", text)
        write(os.path.join(to, name), text)


class Apt:
    """apt with lists of its own, so that the system's stay as they are and nobody need be root."""

    def __init__(self, folder):
        self.sources = os.path.join(folder, "sources")
        for name in ("places", "lists/partial", "cache/archives/partial", "sources"):
            os.makedirs(os.path.join(folder, name), exist_ok=True)
        source_lists(os.path.join(folder, "places"))
        settings = {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": os.path.join(folder, "places"),
                    "Dir::State::Lists": os.path.join(folder, "lists"), "Dir::Cache": os.path.join(folder, "cache"),
                    "Debug::NoLocking": "1", "APT::Get::List-Cleanup": "0"}
        if os.geteuid() == 0:
            settings["APT::Sandbox::User"] = "root"
        self.options = [word for item in settings.items() for word in ("-o", "%s=%s" % item)]
        subprocess.run(["apt-get", "-q", *self.options, "update"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)  # some of the places may have no sources

    def fetch(self, package):
        """The newest version that can be had: a mirror may name one that it no longer has."""
        listed = run(["apt-cache", *self.options, "showsrc", package])
        why = Failed("no source package %s" % package)
        for version in dict.fromkeys(re.findall(r"(?m)^Version: (\S+)", listed)):
            try:
                run(["apt-get", "-q", *self.options, "source", "%s=%s" % (package, version)], cwd=self.sources)
                return
            except Failed as failure:
                why = failure
        raise why


def source_of(package, sources, apt):
    found = sorted(path for path in glob.glob(os.path.join(sources, package + "-*")) if os.path.isdir(path))
    if not found and apt:
        apt().fetch(package)
        return source_of(package, sources, None)
    if not found:
        raise Failed("%s has no folder %s-*" % (sources, package))
    return found[-1]


# ---- Building ------------------------------------------------------------------------------------


class Library:
    """Objects beside each other in FOLDER/objects, then one archive and its pkg-config file."""

    def __init__(self, to, name, source):
        self.to, self.name, self.source = to, name, source
        self.work = os.path.join(to, "objects", name)
        os.makedirs(self.work, exist_ok=True)

    def headers(self, *paths):
        for path in paths:
            path, name = path if isinstance(path, tuple) else (path, os.path.basename(path))
            os.makedirs(os.path.join(self.to, "include"), exist_ok=True)
            shutil.copyfile(path, os.path.join(self.to, "include", name))

    def build(self, files, flags):
        compiler = os.environ.get("WINDOWS_CC", TOOLS + "gcc").split()
        objects = [os.path.join(self.work, os.path.basename(path) + ".o") for path in files]
        common = ["-O2", "-w", "-D_WIN32_WINNT=0x0A00", "-D__USE_MINGW_ANSI_STDIO=1", "-Wa,-muse-unaligned-vector-move"]
        with ThreadPoolExecutor(int(os.environ.get("JOBS") or os.cpu_count() or 2)) as pool:
            list(pool.map(lambda pair: run([*compiler, *common, *flags, "-c", pair[0], "-o", pair[1]]), zip(files, objects)))
        archive = os.path.join(self.to, "lib", "lib%s.a" % self.archive())
        os.makedirs(os.path.dirname(archive), exist_ok=True)
        if os.path.exists(archive):
            os.remove(archive)
        run([TOOLS + "ar", "rcs", archive, *objects])

    def archive(self):
        return {"pcre2": "pcre2-8"}.get(self.name, self.name)

    def describe(self, package, version, cflags="", libs=""):
        write(os.path.join(self.to, "lib", "pkgconfig", package + ".pc"),
              "prefix=%s\nName: %s\nDescription: %s for Windows\nVersion: %s\nCflags: -I${prefix}/include %s\n"
              "Libs: -L${prefix}/lib -l%s %s\n" % (self.to, package, self.name, version, cflags, self.archive(), libs))


def upstream_version(source):
    return os.path.basename(source).rsplit("-", 1)[1]


def build_jansson(lib):
    src = os.path.join(lib.source, "src")
    write(os.path.join(lib.work, "jansson_private_config.h"), JANSSON_PRIVATE)
    write(os.path.join(lib.work, "jansson_config.h"), JANSSON_PUBLIC)
    lib.headers(os.path.join(src, "jansson.h"), os.path.join(lib.work, "jansson_config.h"))
    lib.build(sorted(glob.glob(os.path.join(src, "*.c"))), ["-DHAVE_CONFIG_H", "-I" + lib.work, "-I" + src])
    lib.describe("jansson", upstream_version(lib.source))


def build_utf8proc(lib):
    lib.headers(os.path.join(lib.source, "utf8proc.h"))
    lib.build([os.path.join(lib.source, "utf8proc.c")], ["-DUTF8PROC_STATIC"])
    lib.describe("libutf8proc", upstream_version(lib.source), "-DUTF8PROC_STATIC")


def build_pcre2(lib):
    src = os.path.join(lib.source, "src")
    shutil.copyfile(os.path.join(src, "config.h.generic"), os.path.join(lib.work, "config.h"))
    shutil.copyfile(os.path.join(src, "pcre2.h.generic"), os.path.join(lib.work, "pcre2.h"))
    tables = os.path.join(lib.work, "pcre2_chartables.c")
    shutil.copyfile(os.path.join(src, "pcre2_chartables.c.dist"), tables)
    lib.headers(os.path.join(lib.work, "pcre2.h"))
    others = r"(dftables|fuzzsupport|jit_match|jit_misc|jit_test|printint|ucptables|test|demo|grep)\.c$|pcre2posix"
    files = [path for path in sorted(glob.glob(os.path.join(src, "pcre2_*.c"))) if not re.search(others, path)]
    lib.build(files + [tables], ["-DHAVE_CONFIG_H", "-DPCRE2_CODE_UNIT_WIDTH=8", "-DPCRE2_STATIC", "-DSUPPORT_UNICODE",
                                 "-DSUPPORT_JIT", "-I" + lib.work, "-I" + src])
    lib.describe("libpcre2-8", upstream_version(lib.source), "-DPCRE2_STATIC")


def build_sqlite3(lib):
    """Its files are put together to one by its own scripts, on this machine."""
    if not shutil.which("tclsh"):
        raise Failed("putting its source together needs tclsh (package tcl)")
    if not os.path.exists(os.path.join(lib.work, "sqlite3.c")):
        run([os.path.join(lib.source, "configure"), "--disable-tcl", "--disable-readline"], cwd=lib.work)
        run(["make", "sqlite3.c"], cwd=lib.work)
    lib.headers(os.path.join(lib.work, "sqlite3.h"))
    lib.build([os.path.join(lib.work, "sqlite3.c")],
              ["-DSQLITE_ENABLE_FTS5", "-DSQLITE_THREADSAFE=1", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_ENABLE_RTREE"])
    lib.describe("sqlite3", upstream_version(lib.source))


BUILDERS = {"jansson": build_jansson, "utf8proc": build_utf8proc, "pcre2": build_pcre2, "sqlite3": build_sqlite3}


def main():
    parser = argparse.ArgumentParser(description="Builds the libraries of the program for Windows.")
    parser.add_argument("--to", default=os.path.join(ROOT, "build-windows-libs"), help="folder they go to")
    parser.add_argument("--sources", help="folder with unpacked source packages; nothing is fetched")
    args = parser.parse_args()
    to = os.path.abspath(args.to)
    if not shutil.which(TOOLS + "gcc"):
        sys.exit("windows_libs: there is no %sgcc (package gcc-mingw-w64-x86-64)" % TOOLS)
    kept = []  # apt's lists are fetched when the first source is missing

    def apt():
        if not kept:
            kept.append(Apt(to))
        return kept[0]

    failed = set()
    for name, builder in BUILDERS.items():
        try:
            builder(Library(to, name, source_of(name, args.sources or os.path.join(to, "sources"), None if args.sources else apt)))
            print("windows_libs: %s is built" % name)
        except (Failed, OSError) as why:
            failed.add(name)
            print("windows_libs: no %s: %s" % (name, why), file=sys.stderr)
    if failed & INDISPENSABLE:
        return 1
    found = {"pcre2": "pcre2", "sqlite3": "sqlite"}
    options = "".join("%s = 'enabled'\n" % option for name, option in found.items() if name not in failed)
    write(os.path.join(to, "cross.txt"),
          "# Added to tools/cross/windows.txt by make windows.\n[binaries]\npkgconfig = 'pkg-config'\n\n"
          "[properties]\npkg_config_libdir = '%s/lib/pkgconfig'\n\n[project options]\nlite = false\n%s" % (to, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
