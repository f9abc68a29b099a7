# SPDX-License-Identifier: MIT
"""Compute devices as a user meets them: rotor info lists and measures them, rotor bench runs on them, and a machine
without any is an ordinary one."""
import json
import os

import pytest

NO_DRIVERS = {"OCL_ICD_VENDORS": "/nonexistent", "OPENCL_VENDOR_PATH": "/nonexistent",
              "VK_ICD_FILENAMES": "/nonexistent.json", "VK_DRIVER_FILES": "/nonexistent.json"}
MODEL = os.environ["ROTOR_MODEL"]


@pytest.fixture(scope="module")
def info(rotor):
    return json.loads(rotor("info", MODEL, "--json").stdout)


@pytest.fixture(scope="module")
def devices(info):
    usable = [d for d in info["devices"][1:] if not d["missing"]]
    if not usable:
        pytest.skip("no device")
    return usable


def test_the_cpu_is_a_device(info):
    assert info["devices"][0]["id"] == "cpu"
    ids = [d["id"] for d in info["devices"]]
    assert len(set(ids)) == len(ids)
    for api in ["opencl", "vulkan"]:
        assert (api in info["no_devices"]) != any(i.startswith(api + ":") for i in ids)


def test_auto_is_told_with_its_reason(info, rotor):
    model = info["model"]
    assert model["device"] in [d["id"] for d in info["devices"]] and model["device_why"]
    text = rotor("info", MODEL).stdout
    line = next(l for l in text.splitlines() if l.startswith("runs on"))
    assert model["device"] in line and model["device_why"] in line
    if not any(d["id"] != "cpu" and not d["missing"] and not d["software"] for d in info["devices"]):
        assert model["device"] == "cpu"     # software devices are used only when named


def test_devices_are_measured(devices, info):
    for d in devices:
        assert d["name"] and d["driver"] and d["version"] and d["heap_bytes"] > 0
        assert d["max_alloc_bytes"] >= 1 << 20 and d["max_bind_bytes"] >= 1 << 20 and d["max_group"] >= 256
        assert d["copy_gbps"] > 0 and d["dispatch_us"] > 0 and d["submit_us"] > 0
        assert d["copy_bytes"] * 16 <= d["heap_bytes"]
        assert 0 < d["decode_tps_bound"] < 1e3 * d["copy_gbps"] * 1e6 / info["model"]["bytes_per_token"]


def test_info_in_words(devices, rotor):
    lines = rotor("info", MODEL).stdout
    for d in devices:
        assert d["id"] + "  " + d["name"] in lines and d["driver"] in lines
    for word in ["copies", "dependent dispatch", "seen by a kernel", "int8 dot product", "at most"]:
        assert word in lines, word
    if any(d["software"] for d in devices):
        assert "software: used only when named" in lines


def test_no_driver_is_no_error(rotor):
    r = rotor("info", MODEL, env=NO_DRIVERS)
    d = json.loads(rotor("info", MODEL, "--json", env=NO_DRIVERS).stdout)
    assert [x["id"] for x in d["devices"]] == ["cpu"] and set(d["no_devices"]) == {"opencl", "vulkan"}
    for why in d["no_devices"].values():
        assert r.stdout.count(why) == 1 and "\n" not in why
    assert d["model"]["device"] == "cpu"
    told = rotor("run", MODEL, "-p", "a", "-n", "1", "--device", "vulkan", env=NO_DRIVERS, status=None)
    assert told.returncode != 0 and "there are: cpu" in told.stderr


@pytest.mark.parametrize("word", ["vulkan:99", "opencl:99", "vulkan:x", "cuda"])
def test_unknown_devices(rotor, word):
    r = rotor("info", MODEL, "--device", word, status=None)
    assert r.returncode != 0 and word in r.stderr and ("there are: cpu" in r.stderr or "expected cpu" in r.stderr)


def test_bench_on_a_device(devices, rotor):
    for d in devices:
        b = json.loads(rotor("bench", MODEL, "-p", "4", "-n", "3", "-r", "2", "--device", d["id"], "--json").stdout)
        assert b["device"] == d["id"] and b["device_name"] == d["name"] and b["device_driver"] == d["driver"]
        assert b["decode_tps"] > 0 and b["prompt_tps"] > 0 and b["prompt_ceiling_tps"] == 0
        assert 20 < b["device_dispatches"] <= 12 * 5 + 8      # stories260K has 5 layers
        us = b["bytes_per_token"] / b["device_copy_gbps"] / 1e3 + b["device_dispatches"] * b["device_dispatch_us"]
        assert b["decode_ceiling_tps"] == pytest.approx(1e6 / us, rel=1e-3)
        assert b["read_share"] == pytest.approx(b["decode_tps"] / b["decode_ceiling_tps"], rel=0.5)
        assert not b["decode_cached"]


def test_bench_on_a_device_in_words(devices, rotor):
    d = devices[0]
    words = ["bench", MODEL, "-p", "4", "-n", "2", "-r", "1", "--device", d["id"], "--ops"]
    text = rotor(*words).stdout
    assert "dependent dispatches" in text and "copies" in text and "| %s |" % d["id"] in text
    assert "single ops of a step are timed on the CPU only" in text and "3.25x" in text
    table = json.loads(rotor(*words, "--json").stdout)
    assert table["ops"] == [] and table["step_ops"] == []
    rows = {r["what"]: r for r in table["before"]}
    assert all(r["device"] > 0 for r in rows.values())
    assert rows["ternary product 2560 x 2560"]["cpu"] > 0 and rows["load, this model"]["cpu"] is None
    assert rows["speed over the CPU, one token"]["device"] == pytest.approx(
        rows["ternary product 2560 x 2560"]["cpu"] / rows["ternary product 2560 x 2560"]["device"])


def test_the_project_before_on_the_cpu(rotor):
    words = ["bench", MODEL, "-p", "4", "-n", "2", "-r", "1", "--ops"]
    text = rotor(*words).stdout
    for row in ["ternary product 256 x 256", "ternary product 2560 x 2560", "five tokens", "load, this model",
                "load and first token", "a token behind cached ones"]:
        line = next(l for l in text.splitlines() if row in l)
        assert "not published" in line or "103 min, then 78 s" in line
    rows = json.loads(rotor(*words, "--json").stdout)["before"]
    assert [r["what"] for r in rows if r["published"] is None] == [
        "ternary product 256 x 256", "ternary product 2560 x 2560", "the same, five tokens", "load and first token",
        "a token behind cached ones"]
    assert all(r["cpu"] > 0 and r["device"] is None for r in rows if r["unit"] != "x")


def test_the_processor_is_described(rotor, info):
    levels = info["cpu_levels"].split()
    assert levels[0] == "c" and levels[-1] == info["cpu_level"] and len(set(levels)) == len(levels)
    for level in levels[:-1]:  # what it lists, --cpu takes
        assert rotor("run", MODEL, "-p", "a", "-n", "1", "--cpu", level).stdout
    text = rotor("info", env=NO_DRIVERS).stdout
    assert "\ninstructions %s (" % info["cpu_levels"] in text and "\ncache        " in text
