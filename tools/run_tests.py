#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the test tiers and prints how many tests of each suite passed, and in how many seconds.

    tools/run_tests.py check           what `make check` runs: one build, every ordinary suite
    tools/run_tests.py all             what `make check-all` adds: other compilers and checkers
    tools/run_tests.py fuzz --seconds N | --executions N
    tools/run_tests.py soak            thousands of tokens on every device, a server under load for
                                       SOAK_SECONDS (600) without growth, a writer killed 1,000 times,
                                       ten million executions of each fuzz target

A tier is a list of suites; a suite is a function that returns a Result. C tests run through
`meson test` (a cmocka case counts as one test), Python tests through pytest with ROTOR_BINARY,
ROTOR_SOURCE_ROOT and, where the data is at hand, ROTOR_TEST_DATA. What a suite prints goes to
build/test-logs/; the end of it is shown when the suite fails. The last line is "N passed, N
failed, N skipped" and the exit status is 1 when anything failed. ONLY=name,name picks suites.
A suite whose tool is missing is skipped, but fails where CI is set. The user's own ROTOR_* settings
and configuration file do not reach the tests.
"""
import argparse
import glob
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(ROOT, "build", "test-logs")
JOBS = os.environ.get("JOBS") or str(os.cpu_count() or 2)
CI = bool(os.environ.get("CI"))
NOTES_MAX = 25  # lines on the terminal about one suite
SUITE_LIMIT_S = 1500  # no suite may hang a run for longer

# What the checkers are told; ROTOR_TEST_QUICK shortens the longest tests under slow ones.
QUICK = {"ROTOR_TEST_QUICK": "1"}
# Drivers hidden: the ones of software devices leak, and take a quarter of an hour under a sanitizer.
NO_DRIVERS = {"VK_DRIVER_FILES": "/nonexistent", "VK_ICD_FILENAMES": "/nonexistent", "OCL_ICD_VENDORS": "/nonexistent"}
SLOW = {"kern_self_test"}  # checks the checker: once is enough
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


@dataclass
class Result:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    notes: list = field(default_factory=list)  # one line each: reasons of skips and failures

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.notes += other.notes
        return self


class Log:
    """The output of one suite, in a file and, when it fails, its end on the terminal."""

    def __init__(self, name):
        os.makedirs(LOGS, exist_ok=True)
        self.path = os.path.join(LOGS, re.sub(r"\W+", "-", name) + ".log")
        open(self.path, "w").close()

    def run(self, command, env=None, limit_s=SUITE_LIMIT_S):
        """Exit status of the command; 124 when it ran past the limit."""
        with open(self.path, "a") as out:
            out.write("$ %s\n" % " ".join(command))
            out.flush()
            if not shutil.which(command[0]):
                out.write("there is no %s\n" % command[0])
                return 127
            child = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                                     stdin=subprocess.DEVNULL, start_new_session=True,
                                     env={**os.environ, **(env or {})})
            try:
                return child.wait(timeout=limit_s)
            except (subprocess.TimeoutExpired, KeyboardInterrupt) as stop:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                if isinstance(stop, KeyboardInterrupt):
                    raise
                out.write("\nstopped after %d s\n" % limit_s)
                return 124

    def text(self):
        with open(self.path, errors="replace") as f:
            return f.read()

    def show_end(self, n_lines=120):
        print("\n".join("    | " + line for line in self.text().splitlines()[-n_lines:]))


# ---- Building ------------------------------------------------------------------------------------


def meson_json(folder, what):
    out = subprocess.run(["meson", "introspect", folder, what], cwd=ROOT, capture_output=True,
                         text=True)
    return json.loads(out.stdout) if out.returncode == 0 and out.stdout else []


def configure(log, folder, options, env):
    """Sets the folder up, or brings an older set-up to these options."""
    flags = ["-D%s=%s" % item for item in options.items() if not item[0].startswith("--")]
    if not os.path.exists(os.path.join(ROOT, folder, "build.ninja")):
        extra = ["%s=%s" % (name, one) for name, value in options.items() if name.startswith("--")
                 for one in ([value] if isinstance(value, str) else value)]
        return log.run(["meson", "setup", folder, *extra, *flags], env)
    have = {o["name"]: o["value"] for o in meson_json(folder, "--buildoptions")}
    if all(shown(have.get(name)) == value for name, value in options.items()
           if not name.startswith("--")):
        return 0
    return log.run(["meson", "setup", "--reconfigure", folder, *flags], env)


def shown(value):
    """An option's value as one writes it on the command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(value) if isinstance(value, list) else str(value)


def build(log, folder, options, env=None, rooms=None, targets=()):
    """Compiles everything, tests too, or the installed programs and the tests of these rooms alone, or
    these targets. One "test": it passed or it failed."""
    status = configure(log, folder, options, env)
    if status == 0:
        verbose = ["-v"] if os.environ.get("V") else []
        wanted = [test["cmd"][0] for test in meson_json(folder, "--tests")
                  if {suite.split(":")[-1] for suite in test["suite"]} & (rooms or set())]
        wanted += [target["filename"][0] for target in meson_json(folder, "--targets")
                   if target["type"] == "executable" and target["installed"]]
        inside = {os.path.relpath(path, os.path.join(ROOT, folder)) for path in wanted}
        targets = sorted(t for t in inside if not t.startswith("..")) if rooms else targets
        status = log.run(["ninja", "-C", folder, "-j" + JOBS, "-k", "0", *verbose, *targets], env)
    return Result(passed=1) if status == 0 else Result(failed=1, notes=["%s: build" % folder])


# ---- Running -------------------------------------------------------------------------------------


def meson_suite(log, folder, suites=(), rooms=None, wrapper=None, env=None, slow=1):
    """Runs the tests of the given suites, and of these only those of the given rooms."""
    tests = []
    for test in meson_json(folder, "--tests"):
        of = {suite.split(":")[-1] for suite in test["suite"]}
        left_out = env and env.keys() & QUICK.keys() and test["name"] in SLOW
        if of & set(suites) and (rooms is None or of & {"room-" + room for room in rooms}):
            tests += [] if left_out else [test]
    if not tests:
        return Result(notes=["%s: no tests yet" % "/".join(suites)])
    for old in glob.glob(os.path.join(ROOT, folder, "meson-logs", "testlog*.json")):
        os.remove(old)
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--num-processes", JOBS,
               "--timeout-multiplier", str(slow), "--print-errorlogs"]
    if wrapper:
        command += ["--wrapper", wrapper]
    status = log.run(command + sorted({t["name"] for t in tests}),
                     {**SANITIZER_ENV, "MESON_TESTTHREADS": JOBS, **(env or {})})
    result = Result()
    for path in glob.glob(os.path.join(ROOT, folder, "meson-logs", "testlog*.json")):
        with open(path) as f:
            for line in f:
                result.add(count_meson_test(json.loads(line)))
    if status and not result.failed:
        result.add(Result(failed=1, notes=["meson test exited %d" % status]))
    return result


def count_meson_test(entry):
    """One line of Meson's log: a program, in which cmocka may have counted several cases."""
    name = entry["name"].split(" / ")[-1]
    text = entry.get("stdout", "") + entry.get("stderr", "")
    count = {word: sum(int(n) for n in re.findall(r"\[\s+%s\s+\] (\d+) test" % word, text))
             for word in ("PASSED", "FAILED", "SKIPPED")}
    if entry["result"] == "SKIP":
        return Result(skipped=1, notes=["skipped: %s" % name])
    if entry["result"] != "OK":
        failing = sorted(set(re.findall(r"\[  FAILED  \] ([A-Za-z_]\w*)", text)))
        note = "failed: %s %s" % (name, ", ".join(failing) or "(%s)" % entry["result"].lower())
        return Result(count["PASSED"], max(1, count["FAILED"]), count["SKIPPED"], [note])
    skipped = sorted(set(re.findall(r"\[  SKIPPED \] ([A-Za-z_]\w*)", text)))
    notes = ["skipped: %s %s" % (name, ", ".join(skipped))] if skipped else []
    return Result(count["PASSED"] or 1 - bool(skipped), 0, count["SKIPPED"], notes)


def imports(python, modules):
    return subprocess.run([python, "-c", "import " + modules], capture_output=True).returncode == 0


def find_python():
    """An interpreter that has numpy and pytest: this one, or the system's own."""
    for python in (os.environ.get("PYTHON"), sys.executable, "python3", "/usr/bin/python3"):
        if python and shutil.which(python) and imports(python, "numpy, pytest"):
            return python
    return None


def pytest_suite(log, folder, binary="build/rotor", marker=None, env=None, python=None, without=(), together=True):
    """Files of tests run beside each other, one a processor, unless together is false."""
    if not glob.glob(os.path.join(ROOT, folder, "**", "test_*.py"), recursive=True):
        return Result(notes=["%s: no tests yet" % folder])
    python = python or find_python()
    if python is None:
        return missing("a python3 with numpy and pytest")
    report = log.path[:-len(".log")] + ".xml"
    if os.path.exists(report):
        os.remove(report)
    command = [python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--tb=short",
               "--junitxml=" + report, folder]
    if marker:
        command += ["-m", marker]
    if together and JOBS != "1" and imports(python, "xdist"):
        command += ["-n", JOBS, "--dist", "loadfile"]  # each file on one processor, in its own order
    command += ["--ignore=%s/%s.py" % (folder, name) for name in without]
    settings = {"ROTOR_BINARY": os.path.join(ROOT, binary), "ROTOR_SOURCE_ROOT": ROOT,
                "PYTHONDONTWRITEBYTECODE": "1", **SANITIZER_ENV, **(env or {})}
    status = log.run(command, settings)
    if status == 5:  # pytest's word for "nothing was selected"
        return Result(notes=["%s: no tests marked %s yet" % (folder, marker)])
    result = count_pytest(report) if os.path.exists(report) else Result()
    if status and not result.failed:
        result.add(Result(failed=1, notes=["pytest exited %d" % status]))
    return result


def count_pytest(report):
    result = Result()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = "%s::%s" % (case.get("classname", ""), case.get("name"))
        skip = case.find("skipped")
        fault = next((found for found in map(case.find, ("failure", "error")) if found is not None), None)
        if fault is not None:
            why = (fault.get("message") or "").splitlines() or [""]
            result.add(Result(failed=1, notes=["failed: %s: %s" % (name, why[0][:300])]))
        elif skip is not None:
            result.add(Result(skipped=1, notes=["skipped: " + (skip.get("message") or "")]))
        else:
            result.passed += 1
    return result


def script(log, *command):
    """A check that prints what is wrong and exits non-zero; the last line of one that passes is a note."""
    status = log.run([sys.executable, *command])
    return Result(passed=1, notes=log.text().splitlines()[1:][-1:]) if status == 0 else Result(failed=1, notes=["failed: " + command[0]])


def missing(what):
    return Result(failed=1 if CI else 0, skipped=0 if CI else 1, notes=["no " + what])


def have(*tools):
    return all(shutil.which(tool) for tool in tools)


# ---- Tiers ---------------------------------------------------------------------------------------


def werror():
    return os.environ.get("WERROR") or ("true" if CI else "false")


def c_tests(folder, *suites, **more):
    return lambda log: meson_suite(log, folder, suites, **more)


def python_tests(folder, **more):
    return lambda log: pytest_suite(log, folder, **more)


def clang_build(folder, rooms=None, **options):
    def suite(log):
        if not have("clang"):
            return missing("clang")
        return build(log, folder, {"tests": "enabled", **options}, {"CC": "clang"}, rooms)
    return suite


def check_tier():
    return [
        ("layers", lambda log: script(log, "tools/check_layers.py")),
        ("docs", lambda log: script(log, "tools/check_docs.py")),
        ("tools", python_tests("tests/tools")),
        ("build", lambda log: build(log, "build", {"tests": "enabled", "werror": werror()})),
        ("unit", c_tests("build", "unit")),
        ("kern", c_tests("build", "kern")),
        ("fault", c_tests("build", "fault")),
        ("fuzz replay", fuzz_replay),
        ("golden", python_tests("tests/golden")),
        ("program", python_tests("tests/program")),
        ("python", python_tests("tests/python")),
    ]


def cpu_masks():
    """--cpu levels below the best one of this machine, which every other suite runs."""
    with open("/proc/cpuinfo") as f:
        flags = set(re.findall(r"\w+", f.read().split("flags", 1)[-1].split("\n", 1)[0]))
    levels = [("avx2", "avx2"), ("avxvnni", "avx_vnni"), ("avx512vnni", "avx512_vnni"),
              ("avx512vbmi", "avx512vbmi")]
    return (["c"] + [level for level, flag in levels if flag in flags])[:-1]


def mask_suite(mask):
    """The program under one --cpu level, which it takes from ROTOR_CPU. tests/unit/run has shown
    that all levels give the same bits: others' logits are compared with at one of them."""
    env = {"ROTOR_CPU": mask}

    def suite(log):
        return pytest_suite(log, "tests/program", marker="cpu", env=env)
    return suite


def fuzz_names():
    return sorted(os.path.basename(path)[len("fuzz_"):-len(".c")]
                  for path in glob.glob(os.path.join(ROOT, "tests/fuzz/fuzz_*.c")))


def fuzz_replay(log):
    """The corpora through every target; a target that the build does not list is a failure."""
    built = {t["name"] for t in meson_json("build", "--tests")}
    forgotten = ["tests/fuzz/meson.build does not list %s" % name
                 for name in fuzz_names() if "fuzz_" + name not in built]
    return meson_suite(log, "build", ["fuzz"]).add(Result(failed=len(forgotten), notes=forgotten))


def old_processor(log):
    """The one binary on a processor without AVX: no instruction strays out of its kernel file."""
    if os.uname().machine != "x86_64" or not have("qemu-x86_64"):
        return missing("qemu-x86_64 on an x86-64 host")
    rooms, wrapper = {"base", "cpu", "quant"}, ["qemu-x86_64", "-cpu", "Nehalem"]
    result = meson_suite(log, "build", ["unit"], rooms=rooms, wrapper=" ".join(wrapper), env=QUICK,
                         slow=10)
    status = log.run([*wrapper, os.path.join(ROOT, "build/rotor"), "run", "-p", "Once upon a time",
                      "-n", "20", "--temp", "0"], limit_s=300)
    return result.add(Result(passed=int(not status), failed=int(bool(status))))


def aarch64(log):
    """Kernels for Arm in qemu, on processors with and without the dot-product instructions."""
    if not have("aarch64-linux-gnu-gcc", "qemu-aarch64"):
        return missing("aarch64-linux-gnu-gcc with qemu-aarch64")
    result = build(log, "build-aarch64", {"--cross-file": "tools/cross/aarch64.txt",
                                          "tests": "enabled", "kernels_only": "true"})
    runs = (("cortex-a53", ["unit"]), ("max", ["unit", "kern"]))  # the former proves NEON alone
    for cpu, suites in runs if not result.failed else ():
        result.add(meson_suite(log, "build-aarch64", suites, slow=10,
                               env={**QUICK, "QEMU_CPU": cpu}))
    return result


def arm_program(log):
    """The whole program for Arm, with Debian's libraries for it, against the one of this machine. Little
    optimised and without symbols, in a folder of its own: half the time to compile, and the results are to be the same. GCC warns
    there of what it sees through when it optimises, so that warnings are no errors."""
    if not have("aarch64-linux-gnu-gcc", "qemu-aarch64", "apt-get", "dpkg-deb", "pkg-config"):
        return missing("aarch64-linux-gnu-gcc with qemu-aarch64 and Debian's apt-get")
    if log.run([sys.executable, "tools/arm_sysroot.py"]):
        return Result(skipped=1, notes=["skipped: tools/arm_sysroot.py could not fetch Debian's packages for arm64"])
    result = build(log, "build-arm-check", {"--cross-file": "build-arm-sysroot/cross.txt", "tests": "disabled", "debug": "false",
                                      "optimization": "1", "werror": "false"}, targets=["rotor", "rotor-extract"])
    return result if result.failed else result.add(pytest_suite(log, "tests/arm"))


def wasm(log):
    """The core as WebAssembly; what it writes in a browser is looked at by the suite browser."""
    if not have("clang", "wasm-ld-14") and not have("clang", "wasm-ld") or not os.path.isdir("/usr/include/wasm32-wasi"):
        return missing("clang with wasm-ld and wasi-libc")
    return build(log, "build-wasm", {"--cross-file": "tools/cross/wasm.txt", "werror": werror()})


def windows(log):
    """The small program for Windows and, where its libraries have been built (make windows-libs), the full one. Both
    are run by Wine, which is large: tools/bootstrap leaves it out, and without it that is skipped, also where CI is set."""
    if not have("x86_64-w64-mingw32-gcc"):
        return missing("mingw-w64")
    cross, libs = "tools/cross/windows.txt", "build-windows-libs/cross.txt"
    result = build(log, "build-windows", {"--cross-file": cross, "werror": werror()})
    if os.path.exists(os.path.join(ROOT, libs)):
        result.add(build(log, "build-windows-full", {"--cross-file": [cross, libs], "werror": werror()}))
    return result if result.failed else result.add(pytest_suite(log, "tests/windows"))


def valgrind(log):
    """Reads of uninitialised memory, in the rooms that take bytes from outside."""
    if not have("valgrind"):
        return missing("valgrind")
    return meson_suite(log, "build", ["unit"], rooms={"base", "text", "file"},
                       wrapper="valgrind -q --error-exitcode=9 --leak-check=full --suppressions=%s" %
                       os.path.join(ROOT, "tests/valgrind.supp"), env=QUICK, slow=20)


def all_tier():
    checked = {"optimization": "2", "b_lundef": "false", "werror": "false"}
    asan = clang_build("build-asan", b_sanitize="address,undefined",
                       c_args="-fno-sanitize-recover=all -fno-omit-frame-pointer", **checked)
    threads = {"par", "dev", "run", "gen", "api"}  # rooms that start or meet threads
    tsan = clang_build("build-tsan", {"room-" + room for room in threads}, b_sanitize="thread", **checked)
    return [
        ("build", lambda log: build(log, "build", {"tests": "enabled", "werror": werror()})),
        ("clang build", clang_build("build-clang", werror="true")),
        ("clang tests", c_tests("build-clang", "unit", "kern", env={**QUICK, **NO_DRIVERS})),
        ("clang program", python_tests("tests/program", binary="build-clang/rotor", marker="cpu or threads", env=NO_DRIVERS)),
        ("asan build", asan),
        ("asan tests", c_tests("build-asan", "unit", "kern", "fault", "fuzz", env={**QUICK, **NO_DRIVERS}, slow=5)),
        # Not what only measures, or needs the drivers.
        ("asan program", python_tests("tests/program", binary="build-asan/rotor", env=NO_DRIVERS,
                                      without=("test_cli_measure", "test_cli_devices", "test_device"))),
        ("tsan build", tsan),
        ("tsan tests", c_tests("build-tsan", "unit", rooms=threads,
                               env={**QUICK, **NO_DRIVERS}, slow=5)),
        ("tsan program", python_tests("tests/program", binary="build-tsan/rotor",
                                      marker="threads", env=NO_DRIVERS)),
        *[("--cpu " + mask, mask_suite(mask)) for mask in cpu_masks()],
        ("kills", kills_suite(50)),
        ("documentation", python_tests("tests/docs")),
        ("wasm build", wasm),
        ("browser", python_tests("tests/browser")),
        ("windows", windows),
        ("postgres", postgres),
        ("devices", c_tests("build", "devices")),
        ("machine", c_tests("build", "machine")),
        ("instructions", python_tests("tests/instructions", together=False)),
        ("old processor", old_processor),
        ("aarch64", aarch64),
        ("aarch64 program", arm_program),
        ("valgrind", valgrind),
        ("packages", packages),
        ("clients", clients),
    ]


def postgres(log):
    """Knowledge stores on a server that the tests start."""
    if not glob.glob("/usr/lib/postgresql/*/bin/initdb"):
        return missing("PostgreSQL server in /usr/lib/postgresql")
    # Without an index of packages there is no pgvector, and its tests say so.
    install(log, os.path.join(ROOT, "build", "pgvector"), os.path.join(ROOT, "tests/postgres/requirements.txt"))
    return pytest_suite(log, "tests/postgres")


def packages(log):
    """The archive, the Debian package and the installing script, made from the ordinary build."""
    tools = ["meson", "strip", "patchelf", "dpkg-deb", "dpkg-shlibdeps", "man", "curl"]
    absent = [tool for tool in tools if not shutil.which(tool)]
    if absent:
        return missing(", ".join(absent))
    # Elsewhere dpkg may be there and knows of no package: licences and versions come from its list.
    status = "/var/lib/dpkg/status"
    if not os.path.exists(status) or not os.path.getsize(status):
        return missing("system with Debian's packages")
    return pytest_suite(log, "tests/packages", together=False)


def install(log, folder, wanted):
    """What a file of requirements names, in an environment of its own below build, beside the
    system's numpy and pytest. A Result says why not: without an index of packages there is none."""
    installed, python = os.path.join(folder, "installed.txt"), os.path.join(folder, "bin", "python")
    with open(wanted) as f:
        requirements = f.read()
    if os.path.exists(installed) and open(installed).read() == requirements:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    base = find_python()
    if base is None or log.run([base, "-m", "venv", "--system-site-packages", folder], limit_s=60):
        return missing("a python3 with numpy, pytest and venv")
    if log.run([python, "-m", "pip", "install", "--disable-pip-version-check", "--retries", "1", "--timeout", "10",
                "-q", "-r", wanted], limit_s=180):
        return Result(skipped=1, notes=["skipped: pip cannot reach an index of packages, or lacks what %s names" %
                                        os.path.relpath(wanted, ROOT)])
    with open(installed, "w") as f:
        f.write(requirements)
    return None


def clients(log):
    """Published clients against the server."""
    folder = os.path.join(ROOT, "build", "clients")
    absent = install(log, folder, os.path.join(ROOT, "tests/clients/requirements.txt"))
    return absent or pytest_suite(log, "tests/clients", python=os.path.join(folder, "bin", "python"))


def kills_suite(n):
    """Writers of a knowledge store, killed n times."""
    def suite(log):
        return pytest_suite(log, "tests/program", marker="kills", env={"ROTOR_TEST_KILLS": str(n)})
    return suite


def soak_tier():
    def devices(log):
        result = meson_suite(log, "build", ["soak"])
        return result.add(Result(notes=[line.strip() for line in log.text().splitlines()
                                        if re.search(r"tokens in|^ *program \d", line)]))
    return [
        ("build", lambda log: build(log, "build", {"tests": "enabled", "werror": werror()})),
        ("devices", devices),
        ("server", server_soak),
        ("kills", kills_suite(1000)),
    ] + fuzz_tier(0, 10_000_000)


def server_soak(log):
    """1,000 calls in turn, then 64 connections at once for SOAK_SECONDS, in every protocol; some leave
    in the middle. SOAK_MODEL is the model, else the one of the tests."""
    seconds = os.environ.get("SOAK_SECONDS") or "600"
    model = os.environ.get("SOAK_MODEL") or os.path.join(ROOT, "tests/data/model/stories260K.gguf")
    status = log.run([sys.executable, "tools/serve_load.py", "soak", "build/rotor", model, "--sequential", "1000",
                      "--connections", "64", "--seconds", seconds, "--", "--parallel", "8", "--max-queue", "256", "-c", "512"],
                     limit_s=3600 + 2 * float(seconds))
    figures = [line.strip() for line in log.text().splitlines() if re.match(r"  \w+ {2,}\S|soak:", line)]
    return Result(passed=int(not status), failed=int(bool(status)), notes=figures)


def fuzz_tier(seconds, executions):
    def fuzz(name):
        source = os.path.join(ROOT, "tests/fuzz/corpus", name)
        grown = os.path.join(ROOT, "build-fuzz/corpus", name)

        def suite(log):
            os.makedirs(grown, exist_ok=True)
            limit = ["-max_total_time=%d" % seconds] if seconds else ["-runs=%d" % executions]
            status = log.run([os.path.join(ROOT, "build-fuzz/tests/fuzz/fuzz_" + name), *limit,
                              "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
                              "-artifact_prefix=%s/crash-%s-" % (LOGS, name), grown, source],
                             SANITIZER_ENV, limit_s=24 * 3600)
            stats = re.findall(r"number_of_executed_units: (\d+)", log.text())
            notes = ["%s: %s executions" % (name, stats[-1] if stats else "?")]
            if status:
                notes += ["the input is in %s; keep it in tests/fuzz/corpus/%s" % (LOGS, name)]
            return Result(passed=int(not status), failed=int(bool(status)), notes=notes)
        return suite

    return [("fuzz build", clang_build("build-fuzz", fuzzers="true", b_lundef="false",
                                       optimization="2"))] + [
            ("fuzz " + name, fuzz(name)) for name in fuzz_names()]


# ---- The run -------------------------------------------------------------------------------------


def run_tier(tier):
    only = [name for name in os.environ.get("ONLY", "").split(",") if name]
    unknown = set(only) - {name for name, _ in tier}
    if unknown:
        sys.exit("no suite %s; the suites are %s" % (", ".join(sorted(unknown)),
                                                     ", ".join(name for name, _ in tier)))
    rows, broken = [], set()
    for name, suite in tier:
        builds_for = name[:-len("build")].strip() if name.endswith("build") else None
        if only and name not in only and not any(
                builds_for is not None and o.startswith(builds_for) for o in only):
            continue
        log = Log(name)
        print("%-16s" % name, end="", flush=True)
        start, cpu_start = time.monotonic(), children_cpu_seconds()
        if name.split()[0] in broken or "build" in broken:
            result = Result(failed=1, notes=["not run: its build failed"])
        else:
            result = suite(log)
        seconds, cpu = time.monotonic() - start, children_cpu_seconds() - cpu_start
        if result.failed and name.endswith("build"):
            broken.add(name.split()[0])
        rows.append((name, result, seconds, cpu))
        print(" %5d passed %3d failed %4d skipped %8.1f s" % (
            result.passed, result.failed, result.skipped, seconds), flush=True)
        notes = list(dict.fromkeys(result.notes))
        print("".join("    %s\n" % note for note in notes[:NOTES_MAX]), end="")
        if len(notes) > NOTES_MAX:
            print("    and %d more: %s" % (len(notes) - NOTES_MAX, os.path.relpath(log.path, ROOT)))
        if result.failed:
            log.show_end()
    return rows


def children_cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def summary(rows):
    total = Result()
    print("\n%-16s %8s %8s %8s %9s %9s" % ("suite", "passed", "failed", "skipped", "seconds", "cpu"))
    for name, result, seconds, cpu in rows:
        print("%-16s %8d %8d %8d %9.1f %9.1f" % (name, result.passed, result.failed,
                                                 result.skipped, seconds, cpu))
        total.add(result)
    print("%-16s %26s %9.1f %9.1f\n" % ("all of them", "", sum(row[2] for row in rows),
                                        sum(row[3] for row in rows)))
    for name, result, _, _ in rows:  # once more at the end, where a cut log still shows it
        for note in dict.fromkeys(result.notes if result.failed else ()):
            if not note.startswith("skipped: "):
                print("FAILED in %s: %s" % (name, note))
    print("%d passed, %d failed, %d skipped" % (total.passed, total.failed, total.skipped))
    return 1 if total.failed or not total.passed else 0


def write_rows(rows, path):
    with open(path, "w") as f:
        json.dump([{"suite": name, "passed": r.passed, "failed": r.failed, "skipped": r.skipped, "seconds": round(seconds, 1)}
                   for name, r, seconds, _ in rows], f)


def clean_environment():
    for name in [n for n in os.environ if re.match("ROTOR_(?!TEST_)", n)]:
        del os.environ[name]
    os.environ["ROTOR_CONFIG"] = Log("no-settings").path  # an empty file
    if not os.environ.get("ROTOR_TEST_DATA"):
        os.environ.pop("ROTOR_TEST_DATA", None)
        print("ROTOR_TEST_DATA is not set: tests that need the large data are skipped")


def main():
    parser = argparse.ArgumentParser(description="Runs a tier of Rotor's tests.")
    parser.add_argument("tier", choices=["check", "all", "soak", "fuzz"])
    parser.add_argument("--seconds", type=int, default=0, help="fuzz: time for each target")
    parser.add_argument("--executions", type=int, default=0, help="fuzz: runs of each target")
    parser.add_argument("--json", metavar="FILE", help="also write the counts of each suite there")
    args = parser.parse_args()
    os.chdir(ROOT)
    clean_environment()
    tier = {"check": check_tier, "all": all_tier, "soak": soak_tier,
            "fuzz": lambda: fuzz_tier(args.seconds or (0 if args.executions else 60),
                                      args.executions)}[args.tier]()
    rows = run_tier(tier)
    if args.json:
        write_rows(rows, args.json)
    return summary(rows)


if __name__ == "__main__":
    sys.exit(main())
