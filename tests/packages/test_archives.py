# SPDX-License-Identifier: MIT
"""The archive and the Debian package: what is in them, and whether it runs on a system that has nothing else."""
import hashlib
import json
import os
import re
import shutil
import subprocess

import pytest

STORY = ["run", "--config", "none", "-p", "Once upon a time", "-n", "8", "--temp", "0"]


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tarball, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any where")  # a name that careless scripts trip over
    run("tar", "-xzf", tarball, "-C", folder)
    (only,) = folder.iterdir()
    return only


def state(folder):
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in folder.rglob("*")}


def test_sums_are_of_the_archive(tarball):
    (line,) = (tarball.parent / "SHA256SUMS").read_text().splitlines()
    assert line == "%s  %s" % (hashlib.sha256(tarball.read_bytes()).hexdigest(), tarball.name)
    assert (tarball.parent / "install.sh").exists()


def test_libraries_come_from_the_archive_or_belong_to_every_system(tree):
    every = re.compile(r"(ld-linux.*|linux-vdso|lib(c|m|pthread|dl|rt|resolv|util|gcc_s|stdc\+\+|z|zstd|expat|drm|tinfo))\.so")
    for program in ("rotor", "rotor-extract"):
        loaded = re.findall(r"^\s*(\S+)(?: => (.+))? \(0x", run("ldd", tree / "bin" / program), re.M)
        assert len(loaded) > 5
        for name, path in loaded:
            assert str(tree) in path or every.match(os.path.basename(name)), (name, path)


def test_libraries_that_are_loaded_late_come_from_the_archive_too(tree):
    """The loader is asked what it took: the system has libraries of these names, too."""
    program = tree / "bin" / "rotor"
    no_drivers = {"OCL_ICD_VENDORS": "/nowhere", "VK_DRIVER_FILES": "/nowhere"}
    seen = subprocess.run([program, "info"], capture_output=True, text=True, timeout=300,
                          env={"HOME": "/nowhere", "LD_DEBUG": "files", **no_drivers})
    for name in ("libcurl.so.4", "libmicrohttpd.so.12"):
        assert "calling init: %s\n" % (tree / "bin" / ".." / "lib" / "rotor" / name) in seen.stderr, name
    assert "libcurl/" in seen.stdout and "libmicrohttpd/" in seen.stdout


def test_each_bundled_library_has_a_licence(tree):
    licences = tree / "share" / "doc" / "rotor" / "libraries"
    assert (tree / "share" / "doc" / "rotor" / "LICENSE").exists()
    assert any("jansson" in p.name for p in licences.iterdir())
    assert all(p.stat().st_size > 100 for p in licences.iterdir())


def test_the_bill_of_materials_is_complete(tree):
    bill = json.loads((tree / "share" / "doc" / "rotor" / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "1.5", "rotor")
    parts = {part["bom-ref"]: part for part in bill["components"]}
    for file in (tree / "lib" / "rotor").iterdir():
        part = parts[file.name]
        assert part["hashes"][0]["content"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert part["version"] != "unknown" and part["purl"].startswith("pkg:deb/debian/")
    for program in ("rotor", "rotor-extract"):
        for name in re.findall(r"^\s*(\S+) => ", run("ldd", tree / "bin" / program), re.M):
            assert name in parts
    for name in ("jansson", "pcre2", "microhttpd"):
        assert any(name in ref and part.get("licenses") for ref, part in parts.items()), name
    assert parts["built-in model"]["hashes"] and set(bill["dependencies"][0]["dependsOn"]) == set(parts)


def smallest_system(tree, root):
    """A root with the C library, the archive under /opt/rotor and nothing else."""
    (root / "opt").mkdir(parents=True)
    shutil.copytree(tree, root / "opt" / "rotor", symlinks=True)
    own = set()
    for name, path in re.findall(r"(\S+) => (/\S+) \(", run("ldd", tree / "bin" / "rotor")):
        if str(tree) not in path:
            own.add(path)
    own |= set(re.findall(r"^\s*(/\S*ld-linux\S*) \(", run("ldd", tree / "bin" / "rotor"), re.M))
    for path in own:
        at = root / path.lstrip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, at)
    for folder in ("proc", "dev", "tmp", "home"):
        (root / folder).mkdir()


def works(*command):
    """Whether a tool works here, asked without what is tested in it: that may be what is broken."""
    return subprocess.run([str(c) for c in command], capture_output=True).returncode == 0


def into(root):
    """The words that run a program with root as its whole system."""
    bwrap, true = shutil.which("bwrap"), shutil.which("true")
    if bwrap and works(bwrap, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", true):
        return [bwrap, "--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--clearenv", "--setenv", "HOME", "/home"]
    chroot = shutil.which("chroot", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if chroot and works(chroot, "/", true):
        # Without /proc the loader cannot ask where the program lies, and is told.
        return ["env", "-i", "HOME=/home", "LD_ORIGIN_PATH=/opt/rotor/bin", chroot, root]
    pytest.skip("neither bubblewrap nor chroot works here")


def without_home(root):
    """The state of all but the user's home, where a cache may be made when the system lets us."""
    return {p: s for p, s in state(root).items() if not p.startswith(str(root / "home"))}


def test_runs_on_a_bare_read_only_system(tree, tmp_path):
    """SteamOS in small: nothing may be written, and only the C library is there."""
    root = tmp_path / "root"
    smallest_system(tree, root)
    inside = into(root)
    before = without_home(root)
    assert run(*inside, "/opt/rotor/bin/rotor", "version").startswith("rotor 0.")
    assert len(run(*inside, "/opt/rotor/bin/rotor", *STORY)) > 8
    assert without_home(root) == before


def test_the_program_runs_from_there_and_writes_nothing(tree, tmp_path):
    before = state(tree)
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    assert len(run(tree / "bin" / "rotor", *STORY, env=home)) > 8
    link = tmp_path / "rotor"
    link.symlink_to(tree / "bin" / "rotor")
    assert run(link, "version", env=home).startswith("rotor 0.")
    assert state(tree) == before


def test_the_library_of_the_archive_is_found_by_pkg_config(tree, source_root, tmp_path):
    (pc,) = tree.rglob("rotor.pc")
    said = run("pkg-config", "--cflags-only-I", "rotor", env={**os.environ, "PKG_CONFIG_PATH": str(pc.parent)})
    folder = said.strip()[len("-I"):].replace("\\ ", " ")
    assert os.path.samefile(folder, tree / "include")


def test_programs_linked_with_the_library_need_nothing_else(tree):
    library = next(p for p in tree.rglob("librotor.so.*") if not p.is_symlink())
    loaded = dict(re.findall(r"^\s*(\S+) => (.+?) \(0x", run("ldd", library), re.M))
    jansson = next(name for name in loaded if "jansson" in name)
    assert os.path.realpath(loaded[jansson]) == os.path.realpath(tree / "lib" / "rotor" / jansson)


@pytest.fixture
def elsewhere(monkeypatch):
    """Another's machine, as far as one can be played: the umask, the time zone, the language, the user."""
    for name, value in {"TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "USER": "other"}.items():
        monkeypatch.setenv(name, value)
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_the_archive_is_the_same_every_time_wherever_it_is_made(tarball, source_root, tmp_path, elsewhere):
    from conftest import make
    (tmp_path / "rotor-0.0.9-linux-x86_64.tar.gz").write_bytes(b"an earlier one")
    again = make(source_root, "tarball", tmp_path)
    assert again.read_bytes() == tarball.read_bytes()
    (line,) = (tmp_path / "SHA256SUMS").read_text().splitlines()  # of this version and no earlier one
    assert line.endswith("  " + tarball.name)


@pytest.mark.parametrize("name", ["rotor", "rotor-extract", "librotor.so", "librotor.a"])
def test_what_is_packed_does_not_say_where_it_was_built(name, source_root):
    """Symbols for debuggers count: from them the linker makes the build's number, which stays when they are stripped."""
    from conftest import BUILD
    held = (BUILD / name).read_bytes()
    for folder in {str(source_root.resolve()), str(BUILD)}:
        if folder.count("/") < 2:  # "/src" stands in any program
            pytest.skip("%s: too short a path to be looked for" % folder)
        found = re.search(rb"(?<![\w.%-])" + re.escape(folder.encode()) + rb"(?=[/\0])", held)
        assert not found, "%s holds %s" % (name, folder)


# ---- Debian --------------------------------------------------------------------------------------


def test_the_debian_package_is_the_same_every_time_wherever_it_is_made(deb, source_root, tmp_path, elsewhere):
    from conftest import make
    assert make(source_root, "deb", tmp_path).read_bytes() == deb.read_bytes()


def test_the_debian_package_is_well_formed(deb, rotor):
    fields = dict(re.findall(r"^ ?(\S+?): (.*)", run("dpkg-deb", "-I", deb), re.M))
    assert fields["Package"] == "rotor" and "libjansson4" in fields["Depends"] and "libc6 (>= " in fields["Depends"]
    assert re.search(r", libcurl\S+, libmicrohttpd\S+$", fields["Depends"])  # loaded late, so that no tool sees them
    listed = run("dpkg-deb", "-c", deb).splitlines()
    names = [line.split()[5] for line in listed if "->" not in line]
    for name in ("./usr/bin/rotor", "./usr/bin/rotor-extract", "./usr/share/man/man1/rotor-run.1.gz", "./usr/share/doc/rotor/copyright",
                 "./usr/share/bash-completion/completions/rotor", "./usr/lib/systemd/user/rotor.service", "./usr/include/rotor.h"):
        assert name in names
    assert all(line.split()[1] == "root/root" for line in listed)
    assert not [name for name in names if not name.startswith("./usr/") and name not in ("./", "./usr/")]


def test_the_debian_package_installs_into_a_clean_root_and_leaves_it(deb, tmp_path):
    if not shutil.which("dpkg"):
        pytest.skip("no dpkg")
    root = tmp_path / "root"
    for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "var/log"):
        (root / folder).mkdir(parents=True)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).touch()
    # Without its libraries, which that root has not: the program is run with those of this system.
    # Everything of /usr/share, too, which images of containers leave out in /etc/dpkg/dpkg.cfg.d.
    dpkg = ["dpkg", "--root=%s" % root, "--log=%s" % (root / "log"), "--force-not-root", "--force-depends", "--force-bad-path",
            "--path-include=/usr/share/*"]
    run(*dpkg, "-i", deb)
    assert "Status: install ok installed" in run("dpkg-query", "--admindir=%s" % (root / "var/lib/dpkg"), "-s", "rotor")
    assert run(*dpkg, "--verify", "rotor") == ""
    assert run(root / "usr/bin/rotor", "version").startswith("rotor 0.")
    unit = (root / "usr/lib/systemd/user/rotor.service").read_text()
    assert "ExecStart=/usr/bin/rotor serve" in unit
    assert "prefix=/usr\n" in next(root.rglob("rotor.pc")).read_text()
    run(*dpkg, "--purge", "rotor")
    assert [p for p in (root / "usr").rglob("*") if not p.is_dir()] == [] if (root / "usr").exists() else True
