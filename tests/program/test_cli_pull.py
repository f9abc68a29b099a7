# SPDX-License-Identifier: MIT
"""rotor pull, rm and names, against a server that behaves like the hub (hub_server.py)."""
import fcntl
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import time

import pytest

from hub_server import COMMIT, Hub

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
STORIES = (ROOT / "tests/data/model/stories260K.gguf").read_bytes()
BIG = random.Random(1).randbytes(3 << 20)  # no model: pieces, cuts and resuming need bytes only
SHA = hashlib.sha256(STORIES).hexdigest()


class Machine:
    """A user's home and the hub they talk to."""

    def __init__(self, rotor, hub, folder):
        self.rotor, self.hub, self.home = rotor, hub, folder
        self.root = folder / "hf" / "hub"
        self.env = {**{name: "" for name in os.environ if name.startswith("HF_")},
                    "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HOME": str(folder), "XDG_CACHE_HOME": "",
                    "OLLAMA_MODELS": str(folder / ".ollama/models"), "LLAMA_CACHE": "", "HF_HUB_DOWNLOAD_TIMEOUT": "1",
                    "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}

    def __call__(self, *words, status=0, **env):
        if words[0] == "pull":
            self.can_pull()
        return self.rotor(*words, status=status, env={**self.env, **env})

    def can_pull(self):
        if "libcurl: off" in self.rotor("--version").stdout:
            pytest.skip("built without libcurl")

    def fails(self, *words, status=1, **env):
        """The one line that says why."""
        r = self(*words, status=status, **env)
        lines = [line for line in r.stderr.splitlines() if line.startswith("rotor: ")]
        assert r.stdout == "" and len(lines) == 1, r.stderr
        return lines[0]

    def repo(self, name="org/tiny"):
        return self.root / ("models--" + name.replace("/", "--"))

    def tree(self):
        """Every file and link below the cache's root."""
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if not p.is_dir() or p.is_symlink())


@pytest.fixture
def hub():
    with Hub({"org/tiny": {"tiny.gguf": STORIES, "README.md": b"# tiny\n"}, "org/big": {"big.gguf": BIG}}) as h:
        yield h


@pytest.fixture
def machine(rotor, hub, tmp_path):
    return Machine(rotor, hub, tmp_path)


# ---- The path everybody takes ----

def test_libraries_of_single_verbs_are_loaded_by_these_alone(machine, tmp_path):
    """Files that are no libraries lie in front of the system's: only who needs one notices."""
    for name in ("libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.so", "libmicrohttpd.so.12", "libmicrohttpd.so"):
        (tmp_path / "none").mkdir(exist_ok=True)
        (tmp_path / "none" / name).write_bytes(b"")
    without = {"LD_LIBRARY_PATH": str(tmp_path / "none")}
    assert machine.fails("pull", "org/tiny", **without).startswith(
        "rotor: pull: asking another server needs libcurl, which does not load: %s/none/libcurl.so.4: " % tmp_path)
    assert machine("version", **without).stdout.startswith("rotor 0.")
    if "libmicrohttpd: on" in machine("version").stdout:
        assert machine.fails("serve", "--port", "0", **without).startswith(
            "rotor: serve: rotor serve needs libmicrohttpd, which does not load: ")


def test_a_file_arrives_in_the_layout_and_runs_by_name(machine):
    r = machine("pull", "org/tiny")
    named = machine.repo() / "snapshots" / COMMIT / "tiny.gguf"
    assert r.stdout == str(named) + "\n"
    assert machine.tree() == [".locks/models--org--tiny/%s.lock" % SHA, "CACHEDIR.TAG",
                              "models--org--tiny/blobs/" + SHA, "models--org--tiny/refs/main",
                              "models--org--tiny/snapshots/%s/tiny.gguf" % COMMIT]
    assert os.readlink(named) == "../../blobs/" + SHA and named.read_bytes() == STORIES
    assert (machine.repo() / "refs/main").read_text() == COMMIT
    assert (machine.root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert "fits in" in r.stderr and "weights" in r.stderr
    for name in ("tiny", "org/tiny", "hf:org/tiny", "org/tiny:tiny.gguf"):
        facts = json.loads(machine("inspect", name, "--json").stdout)
        assert facts["file"] == str(named)
    assert machine("run", "tiny", "-p", "Once", "-n", "4", "--temp", "0").stdout


def test_a_second_pull_asks_for_no_bytes(machine):
    machine("pull", "org/tiny")
    machine.hub.asked.clear()
    r = machine("pull", "org/tiny", "--json")
    said = json.loads(r.stdout)
    assert said["downloaded_bytes"] == 0 and said["done"] and said["bytes"] == len(STORIES)
    assert not machine.hub.requests("store")


def test_json_says_what_there_is(machine):
    said = json.loads(machine("pull", "org/tiny", "--json").stdout)
    assert (said["repo"], said["commit"], said["downloaded_bytes"]) == ("org/tiny", COMMIT, len(STORIES))
    assert said["files"] == [{"path": "tiny.gguf", "bytes": len(STORIES), "have_bytes": len(STORIES)}]
    fit = said["fit"]
    facts = json.loads(machine("inspect", "tiny", "--json").stdout)
    assert fit["fits"] and fit["ctx"] == facts["n_ctx"] and fit["weights_bytes"] == facts["tensor_bytes"]
    assert fit["kv_bytes"] == facts["memory"][0]["kv_f16_bytes"]
    assert fit["need_bytes"] == fit["weights_bytes"] + fit["kv_bytes"] + fit["work_bytes"]


def test_pieces_on_several_connections_give_the_same_bytes(machine):
    machine("pull", "org/big", "--connections", "3")
    assert (machine.repo("org/big") / "blobs" / hashlib.sha256(BIG).hexdigest()).read_bytes() == BIG
    pieces = [a[4] for a in machine.hub.requests("store")]
    assert len(set(pieces)) > 3 and all(p.startswith("bytes=") for p in pieces)


# ---- The token ----

@pytest.mark.parametrize("how", ["variable", "file", "home"])
def test_the_token_stays_at_home(rotor, tmp_path, how):
    with Hub({"org/big": {"big.gguf": BIG, "config.json": b"{}"}}, token="hf_secret") as hub:
        m = Machine(rotor, hub, tmp_path)
        assert "token" in m.fails("pull", "org/big")
        env = {"HF_TOKEN": "hf_secret"}
        if how != "variable":
            path = tmp_path / ("elsewhere" if how == "file" else "hf/token")
            path.parent.mkdir(exist_ok=True)
            path.write_text("hf_secret\n")
            env = {"HF_TOKEN_PATH": str(path)} if how == "file" else {}
        hub.asked.clear()
        hub.faults.link_uses = 1  # links are asked for again and again
        m("pull", "org/big", **env)
        assert hub.requests("home") and hub.requests("store")
        for host, _, _, headers, _ in hub.asked:
            assert headers.get("Authorization") == ("Bearer hf_secret" if host == "home" else None)
            assert "hf_secret" not in str(headers) or host == "home"


def test_redirects_lead_to_web_addresses_only(machine):
    machine.hub.faults.redirect_to = "file:///etc/passwd"
    assert "no web address" in machine.fails("pull", "org/tiny")
    machine.hub.faults.redirect_to = machine.hub.url + "/org/tiny/resolve/%s/tiny.gguf" % COMMIT
    assert machine("pull", "org/tiny", status=1).stderr.count("redirects lead in circles") == 2  # header, download


def test_a_link_that_stays_at_home_is_checked_all_the_same(machine):
    machine.hub.faults.redirect_to = machine.hub.url + "/file?signed=0"
    machine.hub.faults.wrong = True
    assert "SHA-256" in machine.fails("pull", "org/tiny")
    machine.hub.faults.wrong = False
    assert ", checked" in machine("pull", "org/tiny").stderr
    assert (machine.repo() / "blobs" / SHA).read_bytes() == STORIES


# ---- What goes wrong on the way ----

def test_cut_connections_are_taken_up_again(machine):
    machine.hub.faults.cut_after = 200001
    machine("pull", "org/big", "--connections", "2")
    assert len(machine.hub.requests("store")) > 15


def test_a_link_that_expires_is_asked_for_again(machine):
    machine.hub.faults.link_uses = 2
    machine("pull", "org/big")
    gets = [a for a in machine.hub.requests("home") if "/resolve/" in a[2]]
    assert len(gets) > 2


def test_a_busy_server_is_given_time(machine):
    machine.hub.faults.busy = 1
    began = time.monotonic()
    assert "429" in machine("pull", "org/tiny").stderr
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("here", [1000000, 2000000])
def test_a_range_that_cannot_be_is_begun_again(machine, here):
    blobs = machine.repo("org/big") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / (hashlib.sha256(BIG).hexdigest() + ".incomplete")).write_bytes(BIG[:here])
    machine.hub.faults.unsatisfiable = 1
    machine("pull", "org/big", "--connections", "1")
    assert (blobs / hashlib.sha256(BIG).hexdigest()).read_bytes() == BIG


def test_a_connection_that_stands_still_is_given_up(machine):
    machine.hub.faults.stall = 1
    r = machine("pull", "org/tiny")
    assert "nothing came any more" in r.stderr


def test_a_server_without_ranges(machine):
    machine.hub.faults.no_ranges = True
    machine("pull", "org/big", "--connections", "2")


def test_wrong_bytes_are_told_and_not_installed(machine):
    machine.hub.faults.wrong = True
    line = machine.fails("pull", "org/tiny")
    assert "SHA-256" in line and "tiny.gguf" in line and SHA[:12] in line
    assert not list(machine.root.rglob("snapshots")) and not list(machine.root.rglob("*.incomplete"))
    machine.hub.faults.wrong = False
    machine("pull", "org/tiny")


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_pull_goes_on_where_it_was(machine, sig):
    machine.can_pull()
    machine.hub.faults.bytes_per_s = 2000000
    part = machine.repo("org/big") / "blobs" / (hashlib.sha256(BIG).hexdigest() + ".incomplete")
    p = subprocess.Popen([os.environ["ROTOR_BINARY"], "pull", "org/big", "--connections", "2"], stderr=subprocess.PIPE,
                         stdout=subprocess.PIPE, env={**os.environ, **machine.env})
    while not part.exists() or part.stat().st_size < 500000:
        assert p.poll() is None, p.stderr.read()
        time.sleep(0.01)
    p.send_signal(sig)
    p.communicate()
    assert p.returncode == -sig
    here = part.read_bytes()
    assert 500000 <= len(here) < len(BIG) and BIG.startswith(here)
    assert not (machine.repo("org/big") / "snapshots").exists()
    machine.hub.faults.bytes_per_s = None
    machine.hub.asked.clear()
    said = json.loads(machine("pull", "org/big", "--json").stdout)
    assert said["downloaded_bytes"] == len(BIG) - len(here)
    begins = [int(a[4][6:].split("-")[0]) for a in machine.hub.requests("store")]
    assert min(begins) == len(here)


def test_every_beginning_is_gone_on_with(machine):
    """As another program, or a kill at any byte, would leave it."""
    blobs = machine.repo() / "blobs"
    for n in (0, 1, 63, 64, 65, len(STORIES) - 1, len(STORIES), len(STORIES) + 5):
        shutil.rmtree(machine.root, ignore_errors=True)
        blobs.mkdir(parents=True)
        (blobs / (SHA + ".incomplete")).write_bytes((STORIES + b"extra")[:n])
        machine("pull", "org/tiny")
        assert (blobs / SHA).read_bytes() == STORIES and len(list(blobs.iterdir())) == 1


def test_two_at_once_fetch_once(machine):
    machine.can_pull()
    machine.hub.faults.bytes_per_s = 3000000
    command = [os.environ["ROTOR_BINARY"], "pull", "org/big", "--connections", "1"]
    both = [subprocess.Popen(command, env={**os.environ, **machine.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)]
    said = [p.communicate()[1].decode() for p in both]
    assert [p.returncode for p in both] == [0, 0], said
    ranges = [[int(n) for n in a[4][6:].split("-")] for a in machine.hub.requests("store")]
    wanted = sum(last + 1 - first for first, last in ranges if last + 1 > 1 << 20)  # beyond both looks at the header
    assert wanted <= len(BIG), ranges


# ---- No way there ----

def test_no_network(machine):
    assert "127.0.0.1:1" in machine.fails("pull", "org/tiny", HF_ENDPOINT="http://127.0.0.1:1")
    assert "no web address" in machine.fails("pull", "org/tiny", HF_ENDPOINT="ftp://127.0.0.1", status=2)


def test_a_home_that_cannot_be_written(machine):
    (machine.home / "file").write_text("")
    line = machine.fails("pull", "org/tiny", HF_HOME=str(machine.home / "file" / "hf"))
    assert "cannot make folder" in line
    assert "HF_HOME" in machine.fails("pull", "org/tiny", HF_HOME="", HOME="")


def test_no_room(machine):
    machine.can_pull()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    r = subprocess.run([os.environ["ROTOR_BINARY"], "pull", "org/big"], env={**os.environ, **machine.env}, text=True,
                       capture_output=True, preexec_fn=limit)
    assert r.returncode == 1 and "cannot write at byte 1048576" in r.stderr
    part, = machine.root.rglob("*.incomplete")
    assert part.read_bytes() == BIG[:1 << 20]
    machine("pull", "org/big")


def test_offline_asks_nobody(machine):
    assert "--offline" in machine.fails("pull", "org/tiny", HF_HUB_OFFLINE="1")
    assert not machine.hub.asked
    path = machine("pull", "org/tiny").stdout
    machine.hub.asked.clear()
    assert machine("pull", "org/tiny", "--offline").stdout == path and not machine.hub.asked


# ---- Names and files ----

def test_names_that_are_none(machine):
    assert "did you mean 'minilm'" in machine.fails("pull", "minlm")
    assert "did you mean 'bitnet-2b4t'" in machine.fails("run", "bitnet-2b4", "-p", "x")
    assert "rotor pull bitnet-2b4t downloads it" in machine.fails("run", "bitnet-2b4t", "-p", "x")
    assert "no such model" in machine.fails("pull", "org/none")
    assert "no file 'Q4_0'; there are tiny.gguf" in machine.fails("pull", "org/tiny:Q4_0")
    for bad in ("org/../x", "../x/y", "/etc/x", "org/", "org/tiny:"):
        machine.fails("pull", bad, status=2)
    assert "gpt-oss-20b" in machine("pull", status=2).stderr


def test_a_short_name_is_a_repository_and_a_file(machine):
    machine.hub.repos["microsoft/bitnet-b1.58-2B-4T-gguf"] = {"ggml-model-i2_s.gguf": STORIES}
    machine("pull", "bitnet-2b4t")
    assert machine("run", "bitnet-2b4t", "-p", "Once", "-n", "2").stdout


def test_quantisations_and_folders_of_them(machine):
    machine.hub.repos["org/many"] = {"m-Q4_0.gguf": STORIES, "m-IQ4_0.gguf": STORIES + b"\0", "m-Q4_K_M.gguf": STORIES[:-1],
                                     "q8/m-Q8_0.gguf": STORIES + b"\0\0", "mmproj-m.gguf": b"x"}
    line = machine.fails("pull", "org/many", status=2)
    assert "4 files fit" in line and "m-Q4_K_M.gguf" in line and "mmproj" not in line
    assert machine("pull", "org/many:q4_0").stdout.endswith("/m-Q4_0.gguf\n")
    assert machine("pull", "org/many:Q8_0").stdout.endswith("/q8/m-Q8_0.gguf\n")
    deep = machine.repo("org/many") / "snapshots" / COMMIT / "q8/m-Q8_0.gguf"
    assert os.readlink(deep).startswith("../../../blobs/") and deep.exists()
    assert json.loads(machine("inspect", "many:Q8_0", "--json").stdout)["file"] == str(deep)


def test_all_parts_of_a_split_file(machine):
    parts = {"m-%05d-of-00003.gguf" % i: STORIES + bytes(i) for i in (1, 2, 3)}
    machine.hub.repos["org/split"] = {**parts, "m-Q8_0-00001-of-00002.gguf": STORIES}
    assert machine("pull", "org/split:m-00001-of-00003.gguf").stdout.endswith("/m-00001-of-00003.gguf\n")
    there = machine.repo("org/split") / "snapshots" / COMMIT
    assert {p.name: p.read_bytes() for p in there.iterdir()} == parts
    assert "part 2 of 2" in machine.fails("pull", "org/split:Q8_0")


def test_a_folder_model(machine):
    folder = ROOT / "tests/data/golden/hf-llama-tied"
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.suffix in (".json", ".safetensors")}
    extra = {"README.md": b"text", "pytorch_model.bin": b"x" * 2000, "original/model.safetensors": b"x" * 2000}
    machine.hub.repos["org/folder"] = {**files, **extra, "1_Pooling/config.json": b"{}"}
    r = machine("pull", "org/folder", "--json")
    there = pathlib.Path(json.loads(r.stdout)["path"])
    assert {"config.json", "model.safetensors", "1_Pooling/config.json"} <= {
        str(p.relative_to(there)) for p in there.rglob("*") if not p.is_dir()} <= {*files, "1_Pooling/config.json"}
    assert "the large files checked" in r.stderr
    assert json.loads(r.stdout)["fit"]["weights_bytes"] == len(files["model.safetensors"])
    assert json.loads(machine("inspect", "org/folder", "--json").stdout)["format"] == "safetensors"


def test_a_repository_that_moved(machine):
    machine.hub.renamed["old/tiny"] = "org/tiny"
    assert "/models--old--tiny/" in machine("pull", "old/tiny").stdout


def test_names_of_a_listing_do_not_leave_the_folder(machine):
    machine.hub.extra = ["../../../evil.gguf", "/evil.gguf", "a//evil.gguf", "..", "x/../evil.gguf", "e\\vil.gguf"]
    assert machine("pull", "org/tiny").stdout.endswith("/tiny.gguf\n")


def test_files_instead_of_links(machine):
    path = pathlib.Path(machine("pull", "org/tiny", HF_HUB_DISABLE_SYMLINKS="1").stdout.strip())
    assert path.read_bytes() == STORIES and not path.is_symlink()
    assert not list((machine.repo() / "blobs").iterdir())
    assert "here already" in machine("pull", "org/tiny", HF_HUB_DISABLE_SYMLINKS="1").stderr
    assert machine("rm", "tiny").stdout.startswith("removed tiny: 1.01 MiB freed")


def test_twins_without_links(machine):
    files = {"config.json": b"{}", "generation_config.json": b"{}", "model.safetensors": STORIES}
    machine.hub.repos["org/twins"] = files
    there = pathlib.Path(machine("pull", "org/twins", HF_HUB_DISABLE_SYMLINKS="1").stdout.strip())
    assert {p.name: p.read_bytes() for p in there.iterdir()} == files
    assert not list((machine.repo("org/twins") / "blobs").iterdir())


def test_without_links_what_others_link_to_stays(machine):
    path = pathlib.Path(machine("pull", "org/tiny").stdout.strip())
    other = path.parent.parent / ("f" * 40) / "tiny.gguf"
    other.parent.mkdir()
    path.rename(other)
    machine("pull", "org/tiny", HF_HUB_DISABLE_SYMLINKS="1")
    assert other.is_symlink() and other.read_bytes() == path.read_bytes() == STORIES and not path.is_symlink()


# ---- Does it fit ----

def test_a_size_that_nobody_says(machine):
    machine.hub.size_of = lambda data: None
    assert "names no size" in machine.fails("pull", "org/tiny")
    assert not machine.root.exists()


def test_a_size_for_which_there_are_no_addresses(machine):
    machine.hub.size_of = lambda data: 1 << 60
    r = machine("pull", "org/tiny", "--dry-run")
    assert "fits cannot be said" in r.stderr and "download: " in r.stdout


def test_what_cannot_fit_is_not_downloaded(machine):
    line = machine.fails("pull", "org/tiny", "--memory", "1")
    assert "does not fit in 1.00 MiB" in line and "--force" in line
    assert not machine.root.exists()
    machine("pull", "org/tiny", "--memory", "1", "--force")


def test_the_knob_is_the_one_that_helps(machine):
    def fit(*words, status=0):
        return json.loads(machine("pull", "org/tiny", "--dry-run", "--json", "--ctx", "200000", *words).stdout)["fit"]
    f16, q8 = fit(), fit("--kv", "q8")
    assert f16["ctx"] == 200000 and abs(q8["kv_bytes"] / f16["kv_bytes"] - 34 / 64) < 0.01
    enough = (q8["need_bytes"] >> 20) + 1
    assert fit("--memory", enough)["advice"] == "--kv q8 fits" and fit("--memory", enough, "--kv", "q8")["fits"]
    assert fit("--memory", enough // 4)["advice"] == "a smaller --ctx fits"
    assert "smaller quantisation" in fit("--memory", 1)["advice"]


def test_a_dry_run_writes_nothing(machine):
    r = machine("pull", "org/tiny", "--dry-run")
    assert "tiny.gguf" in r.stdout and "download: 1.01 MiB" in r.stdout and "memory: " in r.stdout
    assert not machine.root.exists()


# ---- rm ----

def test_rm_frees_what_nobody_else_uses(machine):
    machine.hub.repos["org/two"] = {"a.gguf": STORIES, "b.gguf": STORIES, "c.gguf": STORIES + b"\0"}
    for part in ("a", "b", "c"):
        machine("pull", "org/two:%s.gguf" % part)
    assert "may be" in machine.fails("rm", "two", status=2)
    dry = json.loads(machine("rm", "two:a.gguf", "--dry-run", "--json").stdout)
    assert (dry["removed"], dry["freed_bytes"], dry["kept_bytes"]) == (False, 0, len(STORIES))
    assert "another model uses them" in machine("rm", "two:a.gguf").stdout
    assert machine("inspect", "two:b.gguf").stdout
    gone = json.loads(machine("rm", "two:c.gguf", "--json").stdout)
    assert (gone["freed_bytes"], gone["kept_bytes"], gone["files"]) == (len(STORIES) + 1, 0, 1)
    machine("rm", "org/two")
    assert not machine.repo("org/two").exists()
    assert all(name == "CACHEDIR.TAG" or name.endswith(".lock") for name in machine.tree())
    assert "no model 'org/two' here" in machine.fails("rm", "org/two")


def test_rm_takes_the_beginning_of_a_download(machine):
    blobs = machine.repo() / "blobs"
    blobs.mkdir(parents=True)
    (blobs / (SHA + ".incomplete")).write_bytes(STORIES[:1000])
    assert "no model 'org/tiny:tiny.gguf' here" in machine.fails("rm", "org/tiny:tiny.gguf")
    assert json.loads(machine("rm", "org/tiny", "--json").stdout)["freed_bytes"] == 1000
    assert not machine.repo().exists()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_rm_of_a_part_that_is_not_there_removes_nothing(machine):
    for name in ("a", "b"):
        put(machine.repo("org/two") / "snapshots" / COMMIT / (name + ".gguf"), STORIES)
    before = machine.tree()
    for words in (["org/two:zzz"], ["org/two:zzz", "--force"], ["two:zzz"], ["hf:org/two:zzz"]):
        assert "no model" in machine.fails("rm", *words)
    assert machine.tree() == before


@pytest.mark.parametrize("there", ["snapshots/%s/tokenizer.json" % COMMIT, "blobs/" + SHA])
def test_rm_of_files_that_are_no_model_is_told_to(machine, there):
    put(machine.repo() / there, b"{}")
    put(machine.repo() / "blobs/more.incomplete", b"x")
    before = machine.tree()
    for words in ([], ["--dry-run"]):
        assert "--force" in machine.fails("rm", "org/tiny", *words)
    assert machine.tree() == before
    machine("rm", "org/tiny", "--force")
    assert not machine.repo().exists()


def test_rm_leaves_a_download_under_way_alone(machine):
    machine("pull", "org/tiny")
    lock, = machine.root.rglob("*.lock")
    with open(lock) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another program downloads" in machine.fails("rm", "org/tiny")
        assert (machine.repo() / "blobs" / SHA).exists()
    machine("rm", "org/tiny")
    assert lock.exists() and not machine.repo().exists()


def test_rm_does_not_go_behind_links(machine):
    path = pathlib.Path(machine("pull", "org/tiny").stdout.strip())
    mine = machine.home / "mine"
    put(mine / "tiny.gguf", STORIES)
    (path.parent.parent / "away").symlink_to(mine)
    (machine.repo() / "refs/main").write_text("away")
    machine("rm", "org/tiny")  # the model as a whole; of what is behind the link only the link
    assert not machine.repo().exists() and (mine / "tiny.gguf").read_bytes() == STORIES
    put(mine / "snapshots" / COMMIT / "tiny.gguf", STORIES)
    machine.repo().symlink_to(mine)
    assert "link to a folder elsewhere" in machine.fails("rm", "org/tiny")
    assert (mine / "snapshots" / COMMIT / "tiny.gguf").exists()


@pytest.mark.parametrize("ref", ["../../models--other--m/snapshots/1", "..", "", "x" * 5000, "a/b"],
                         ids=["elsewhere", "up", "empty", "long", "deep"])
def test_a_reference_that_leads_astray_is_none(machine, ref):
    machine("pull", "org/tiny")
    put(machine.root / "models--other--m/snapshots/1/other.gguf", STORIES)
    (machine.repo() / "refs/main").write_text(ref)
    listed = {m["name"]: m["path"] for m in json.loads(machine("models", "--json").stdout)}
    assert listed["org/tiny"].endswith("/snapshots/%s/tiny.gguf" % COMMIT)


# ---- What other programs keep ----

@pytest.fixture
def others(machine):
    ollama, digest = machine.home / ".ollama/models", hashlib.sha256(STORIES).hexdigest()
    (ollama / "blobs").mkdir(parents=True)
    (ollama / "blobs" / ("sha256-" + digest)).write_bytes(STORIES)
    for tag in ("1b", "copy"):
        manifest = ollama / "manifests/registry.ollama.ai/library/story" / tag
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps({"layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + digest, "size": len(STORIES)}]}))
    for path in (".lmstudio/models/maker/story-GGUF/story-Q4_0.gguf", ".cache/llama.cpp/org_story_old.gguf"):
        (machine.home / path).parent.mkdir(parents=True)
        (machine.home / path).write_bytes(STORIES)
    return machine


def test_models_of_other_programs_are_found_where_they_lie(others):
    listed = {m["name"]: m for m in json.loads(others("models", "--json").stdout)}
    assert {name: m["source"] for name, m in listed.items() if m["source"] not in ("default", "folder")} == {
        "story:1b": "Ollama", "story:copy": "Ollama", "maker/story-GGUF:story-Q4_0.gguf": "LM Studio",
        "org_story_old.gguf": "llama.cpp"}
    for name in ("story:1b", "maker/story-GGUF", "story-GGUF:Q4_0", "org_story_old.gguf"):
        assert others("run", name, "-p", "Once", "-n", "2", "--temp", "0").stdout
    assert "Ollama" in others("models").stdout


def test_a_tag_is_no_word_in_a_digest(others):
    for word in [SHA[:2], SHA[10:12], "b", "sha256"]:
        assert "no model" in others.fails("inspect", "story:" + word)
        assert "no model" in others.fails("rm", "story:" + word, "--force")
    assert (others.home / ".ollama/models/blobs" / ("sha256-" + SHA)).exists()


def test_rm_leaves_them_alone_unless_told(others):
    blob = others.home / ".ollama/models/blobs" / ("sha256-" + SHA)
    for name, owner in (("story:1b", "Ollama"), ("story-GGUF", "LM Studio"), ("org_story_old.gguf", "llama.cpp")):
        line = others.fails("rm", name)
        assert owner in line and "--force" in line
    first = json.loads(others("rm", "story:1b", "--force", "--json").stdout)
    assert (first["freed_bytes"], first["kept_bytes"]) == (0, len(STORIES)) and blob.exists()
    assert json.loads(others("rm", "story:copy", "--force", "--json").stdout)["freed_bytes"] == len(STORIES)
    assert not blob.exists() and others.fails("rm", "story:copy")
    assert "freed" in others("rm", "story-GGUF", "--force").stdout
    assert not list((others.home / ".lmstudio").rglob("*.gguf"))


def test_rm_removes_names_not_paths(others):
    path = others.home / ".cache/llama.cpp/org_story_old.gguf"
    assert "is a path" in others.fails("rm", path, status=2) and path.exists()
