# SPDX-License-Identifier: MIT
"""rotor run --device: the text of a device is the CPU's, and what is said about devices there are not.

Software devices do (Mesa's lavapipe, PoCL); the tests that need one are skipped where a machine has none.
"""
import json
import os
import re

import pytest

ONCE = ["-p", "Once upon a time", "--temp", "0", "-n", "16", "--act", "f32", "--no-progress"]
APIS = ["opencl", "vulkan"]


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory, request):
    """Compiled kernels go to a folder of these tests, not to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def devices(rotor):
    """What the message about a device that is not there lists: {"vulkan:0": "llvmpipe ..."}."""
    stderr = rotor("run", *ONCE, "--device", "vulkan:9", status=1).stderr
    return dict(re.findall(r"((?:opencl|vulkan):\d+) \((.*?)\)(?=, (?:opencl|vulkan):\d|\s*$)", stderr))


def need(devices, api):
    if api + ":0" not in devices:
        pytest.skip("no %s device" % api)


@pytest.mark.parametrize("api", APIS)
def test_a_device_tells_the_same_story(rotor, devices, api):
    need(devices, api)
    ours, theirs = rotor("run", *ONCE, "--device", "cpu"), rotor("run", *ONCE, "--device", api)
    assert theirs.stdout == ours.stdout and len(ours.stdout) > 30
    assert "on the CPU" not in theirs.stderr and "the CPU does it\n" not in theirs.stderr, theirs.stderr


@pytest.mark.parametrize("api", APIS)
def test_kernels_are_kept_for_the_next_time(rotor, devices, api, tmp_path):
    """Except by PoCL, which keeps its own."""
    need(devices, api)
    pocl = any(name.startswith(api) and re.search("pthread|cpu-", text) for name, text in devices.items())
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    first = rotor("run", *ONCE, "--device", api, env=env).stdout
    kept = {f: f.read_bytes() for f in (tmp_path / "rotor").rglob(api + "-*")}
    assert bool(kept) == (not pocl)
    assert rotor("run", *ONCE, "--device", api, env=env).stdout == first
    assert {f: f.read_bytes() for f in (tmp_path / "rotor").rglob(api + "-*")} == kept


GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "golden")
NO_KERNEL = [("gemma2", "capped scores"), ("gemma3", "a scaled embedding"), ("gpt2", "learned positions"), ("starcoder2", "LayerNorm")]


@pytest.mark.parametrize("family, what", NO_KERNEL)
def test_what_has_no_kernel_is_done_by_the_cpu(rotor, devices, family, what, tmp_path):
    """With one line that says why, and the CPU's own results."""
    if not devices:
        pytest.skip("no device")
    api, folder = sorted(devices)[0], os.path.join(GOLDEN, "fam-" + family)
    out = [tmp_path / "cpu.npy", tmp_path / "device.npy"]
    for path, flags in zip(out, ([], ["--device", api])):
        r = rotor("logits", folder, "--tokens", "1,2,3,4,5,6,7", "-o", path, "--all", *flags)
    assert r.stderr.count("there is no kernel for %s yet; the CPU does it" % what) == 1, r.stderr
    assert r.stderr.count("; the CPU does it") == 1 and out[0].read_bytes() == out[1].read_bytes()


def test_a_number_beyond_the_last_lists_those_there_are(rotor, devices):
    for text in ("vulkan:9", "opencl:9", "opencl:x", "vulkan:", "vulkan:-1", "vulkan:99999999999999999999"):
        r = rotor("run", *ONCE, "--device", text, status=1)
        line = r.stderr.strip().splitlines()[-1]
        assert r.stdout == "" and "device %s: " % text in line and "there are: cpu" in line
        assert all(name in line for name in devices), line


def test_no_such_api_is_bad_usage(rotor):
    for text in ("gpu5", "vulkan1", "cuda", "cpu:0", "", "VULKAN"):
        r = rotor("run", *ONCE, "--device", text, status=2)
        assert r.stdout == "" and "opencl" in r.stderr and "vulkan:N" in r.stderr, text


def test_a_software_device_is_named_as_one(rotor, devices):
    for name, text in devices.items():
        if re.search("llvmpipe|pthread|cpu-", text):
            assert "is a software device" in rotor("run", *ONCE, "--device", name).stderr


def test_auto_takes_no_software_device(rotor, devices):
    if not devices or not all(re.search("llvmpipe|pthread|cpu-", text) for text in devices.values()):
        pytest.skip("this machine has a device that is not software, or none")
    r = rotor("run", *ONCE, "--device", "auto")
    assert not any(text in r.stderr for text in devices.values())
    assert r.stdout == rotor("run", *ONCE, "--device", "cpu").stdout


def one_message(r, *words):
    lines = r.stderr.strip().splitlines()
    assert r.stdout == "" and len(lines) == 1, r.stderr
    assert all(word in lines[0] for word in words), lines[0]


def test_no_loader(rotor, tmp_path):
    """Files of the loaders' names that are no libraries stand in front of the real ones."""
    for name in ("libOpenCL.so.1", "libOpenCL.so", "libvulkan.so.1", "libvulkan.so"):
        (tmp_path / name).touch()
    env = {"LD_LIBRARY_PATH": str(tmp_path)}
    for api in APIS:
        one_message(rotor("run", *ONCE, "--device", api, status=1, env=env), api, "no loader", "there are: cpu")
    assert rotor("run", *ONCE, "--device", "auto", env=env).stdout == rotor("run", *ONCE).stdout


def test_no_driver(rotor, devices, tmp_path):
    """Loaders that find nothing: an empty folder of vendors, an empty manifest."""
    manifest = tmp_path / "none.json"
    manifest.touch()
    (tmp_path / "vendors").mkdir()
    env = {"OCL_ICD_VENDORS": str(tmp_path / "vendors"), "VK_DRIVER_FILES": str(manifest),
           "VK_ICD_FILENAMES": str(manifest)}
    for api in APIS:
        need(devices, api)
        one_message(rotor("run", *ONCE, "--device", api, status=1, env=env), api, "no driver", "there are: cpu")


def test_a_session_file_holds_the_cache_of_a_device(rotor, devices, tmp_path):
    """It goes on there, and on the processor, without reading the text again."""
    api = "vulkan" if "vulkan:0" in devices else "opencl"
    need(devices, api)
    path, run = tmp_path / "a.session", ["--temp", "0", "--act", "f32", "--ignore-eos", "--json"]
    whole = json.loads(rotor("run", "--device", api, "-p", "Once upon a time", "-n", "20", *run).stdout)
    first = rotor("run", "--device", api, "-p", "Once upon a time", "-n", "8", "--session", path, *run)
    copy = tmp_path / "b.session"
    copy.write_bytes(path.read_bytes())
    rest = json.loads(rotor("run", "--device", api, "-p", "", "-n", "12", "--session", path, *run).stdout)
    assert json.loads(first.stdout)["ids"] + rest["ids"] == whole["ids"]
    other = json.loads(rotor("run", "--device", "cpu", "-p", "", "-n", "12", "--session", copy, *run).stdout)
    assert other["timings"]["prompt_tokens"] - other["timings"]["reused_tokens"] == 1
