# SPDX-License-Identifier: MIT
"""bootstrap: silent when nothing is missing, installs as root, otherwise prints one command.

The package manager is played by small scripts in a folder at the front of PATH; what they are
asked to do is read back from a log.
"""
import os
import shutil
import subprocess

import pytest

ROOT = os.environ["ROTOR_SOURCE_ROOT"]
SYSTEM_TOOLS = ["sh", "env", "echo", "cat", "grep", "sed", "tr", "true"]


class Machine:
    """A system whose packages, user and package lists are pretended."""

    def __init__(self, folder, installed="", uid=0, listed=True, sudo=False):
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir()
        for tool in SYSTEM_TOOLS:
            os.symlink(shutil.which(tool), self.bin / tool)
        (folder / "installed").write_text(installed)
        if listed:
            (folder / "lists").write_text("")
        self.script("id", "echo %d" % uid)
        # dpkg-query -W -f FORMAT PACKAGE
        self.script("dpkg-query", 'grep -qw -- "$4" %s/installed && printf installed' % folder)
        self.script("apt-cache", '[ -f %s/lists ] && [ "$2" != glslc ] && echo "  Candidate: 1.0" '
                                 '|| echo "  Candidate: (none)"' % folder)
        self.script("apt-get", 'echo "apt-get $*" >>%s; case "$*" in *" update") : >%s/lists;; esac'
                    % (self.log, folder))
        if sudo:
            self.script("sudo", '[ "$1" = -n ] && shift; echo "sudo $1" >>%s; exec "$@"' % self.log)

    def script(self, name, body):
        path = self.bin / name
        path.write_text("#!%s\n%s\n" % (shutil.which("sh"), body))
        path.chmod(0o755)

    def bootstrap(self, *args):
        return subprocess.run([shutil.which("sh"), os.path.join(ROOT, "tools/bootstrap"), *args],
                              env={"PATH": str(self.bin)}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)

    def calls(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


CORE = ("make gcc libc6-dev meson ninja-build pkg-config libjansson-dev libutf8proc-dev "
        "libpcre2-dev libmicrohttpd-dev libedit-dev")


@pytest.fixture(autouse=True)
def only_where_it_applies():
    if not os.path.exists("/etc/debian_version"):
        pytest.skip("the pretended system is a Debian one")


def test_nothing_missing_touches_nothing(tmp_path):
    machine = Machine(tmp_path, installed=CORE)
    result = machine.bootstrap("core")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert machine.calls() == []


def test_root_installs_what_is_missing(tmp_path):
    machine = Machine(tmp_path, installed=CORE.replace("libjansson-dev", "").replace("meson", ""))
    assert machine.bootstrap().returncode == 0
    assert len(machine.calls()) == 1
    assert machine.calls()[0].endswith("install -y --no-install-recommends meson libjansson-dev")


def test_lists_are_fetched_when_they_lack_a_package(tmp_path):
    machine = Machine(tmp_path, installed=CORE.replace("meson", ""), listed=False)
    assert machine.bootstrap().returncode == 0
    assert [call.split()[-1] for call in machine.calls()] == ["update", "meson"]


def test_sudo_serves_an_ordinary_user(tmp_path):
    machine = Machine(tmp_path, installed=CORE.replace("meson", ""), uid=1000, sudo=True)
    assert machine.bootstrap().returncode == 0
    assert machine.calls()[-2:][0] == "sudo env"
    assert machine.calls()[-1].endswith(" meson")


def test_without_the_right_it_prints_one_command(tmp_path):
    machine = Machine(tmp_path, uid=1000)
    result = machine.bootstrap()
    assert result.returncode == 1
    assert result.stdout == "sudo apt-get install -y --no-install-recommends %s\n" % CORE
    assert machine.calls() == []


def test_dry_run_installs_nothing(tmp_path):
    machine = Machine(tmp_path)
    result = machine.bootstrap("-n", "core")
    assert result.returncode == 1 and "libjansson-dev" in result.stdout
    assert machine.calls() == []


def test_an_optional_package_the_release_lacks_is_left_out(tmp_path):
    machine = Machine(tmp_path, installed=CORE)
    result = machine.bootstrap("all")
    assert result.returncode == 0
    assert "no package glslc" in result.stderr
    assert "pocl-opencl-icd" in machine.calls()[-1] and "glslc" not in machine.calls()[-1]


def test_groups_add_to_core(tmp_path):
    machine = Machine(tmp_path, uid=1000)
    assert "libcmocka-dev" not in machine.bootstrap("core").stdout
    assert "libcmocka-dev" in machine.bootstrap("test").stdout
    assert "pocl-opencl-icd" not in machine.bootstrap("test").stdout
    assert CORE in machine.bootstrap("test").stdout


def test_a_failed_install_is_tried_once_more_with_fresh_lists(tmp_path):
    machine = Machine(tmp_path, installed=CORE.replace("meson", ""))
    machine.script("apt-get", 'echo "apt-get $*" >>%s; case "$*" in *install*) exit 100;; esac'
                   % machine.log)
    result = machine.bootstrap()
    assert result.returncode == 1
    assert [call.split()[-1] for call in machine.calls()] == ["meson", "update", "meson"]
    assert result.stdout == "apt-get install -y --no-install-recommends meson\n"


def test_an_unknown_group_names_the_good_ones(tmp_path):
    result = Machine(tmp_path).bootstrap("everything")
    assert result.returncode == 2 and "core, test, all" in result.stderr
