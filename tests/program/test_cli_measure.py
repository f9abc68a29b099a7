# SPDX-License-Identifier: MIT
"""rotor bench, info and models: keys, tables and what is found where."""
import json
import os
import re
import shutil

import pytest

BENCH_KEYS = ["prompt_tps", "decode_tps", "load_ms", "peak_rss_bytes", "bytes_per_token", "read_gbps", "machine_gbps", "head"]


def test_bench_json_and_comparison(rotor, tmp_path):
    words = ["bench", "-p", "16", "-n", "4", "-r", "3"]
    first = rotor(*words, "--json").stdout
    d = json.loads(first)
    for key in BENCH_KEYS:
        assert d[key] if key == "head" else d[key] > 0, key
    assert (d["n_prompt"], d["n_gen"], d["repetitions"], len(d["decode_samples"])) == (16, 4, 3, 3)
    for key in ["machine_gbps", "machine_int8_gmacs", "machine_f32_gmacs", "prompt_share", "read_share"]:
        assert 0 < d[key + "_min"] <= d[key] <= d[key + "_max"], key
    assert d["machine_samples"] == 1 + 3 * 2 and d["machine_probe_bytes"] >= 64 << 20
    assert 0 < d["machine_cpu_share"] <= 1
    assert isinstance(d["machine_stable"], bool) and d["decode_cached"] in (True, False)
    assert d["prompt_ceiling_tps"] == pytest.approx(1e6 / (d["prompt_int8_us"] + d["prompt_f32_us"]))
    # stories260K: 5 layers, 8 heads of 8, 4 of them with keys and values; f16 cache; 4 tokens see 2.5 keys on average
    assert d["kv_bytes"] == int(2 * 5 * 4 * 8 * 2 * 2.5) and d["head_bytes"] == 512 * 64 // 32 * 34
    assert abs(d["bytes_per_token"] - d["layer_bytes"] - d["head_bytes"] - d["kv_bytes"]) <= 1
    assert (d["prompt_joules_per_token"] is None) == (d["decode_joules_per_token"] is None)
    assert abs(d["read_gbps"] - d["bytes_per_token"] * d["decode_tps"] / 1e9) < 1e-6
    old = tmp_path / "old.json"
    old.write_text(first)
    r = rotor(*words, "--compare", old)
    assert "prompt_tps" in r.stderr and "decode_tps" in r.stderr and "x" in r.stderr
    assert "read_share" in r.stderr and "not alike" not in r.stderr
    rows = [line for line in r.stdout.splitlines() if line.startswith("| stories260K")]
    assert len(rows) == 2 and "pp16" in rows[0] and "tg4" in rows[1]
    for word in ["plain read", "int8", "f32", "a token multiplies", "a token reads", "energy"]:
        assert word in r.stdout, word
    old.write_text(first.replace('"n_gen": 4', '"n_gen": 5'))
    assert "not alike: n_gen was 5, is 4" in rotor(*words, "--compare", old).stderr
    old.write_text("{")
    assert "rotor bench --json" in rotor(*words, "--compare", old, status=1).stderr


def test_the_plan_has_its_benchmarks_and_criteria(rotor):
    words = ["bench", "--plan", "minerva", "-r", "2", "-p", "32", "-n", "8"]
    d = json.loads(rotor(*words, "--json").stdout)
    p = d["plan"]
    assert p["one_token_ms"] > 0 and p["last_token_cached_ms"] < p["sequence_no_cache_ms"]
    assert p["attention_block"] == 64 and p["generated_tps"] == d["decode_tps"] and p["tensors"] > 40
    assert p["instructions_per_token"] or p["counters"]
    assert [c["tps"] for c in p["criteria"]] == [10, 20, 100, 500] and d["step_ops"]
    for c in p["criteria"]:
        assert c["needs_gbps"] == pytest.approx(c["tps"] * d["bytes_per_token"] / 1e9, rel=1e-3)
        assert c["verdict"] == ("met" if c["measured_tps"] >= c["tps"] else c["verdict"])
        if c["verdict"] == "forbidden":
            assert c["needs_gbps"] > c["machine_gbps"]
    text = rotor(*words).stdout
    for word in ["32 tokens, no cache", "8 tokens generated", "attention block  64", "criterion", "20 t/s", "bandwidth",
                 "processor cache", "memory  ", "attn q+k+v"]:
        assert word in text, word
    assert "--plan" in rotor("bench", "--plan", "minerva", "-p", "0", status=2).stderr


def test_bench_sessions_together(rotor):
    words = ["bench", "-p", "0", "-n", "4", "-r", "2", "--sessions", "3", "-d", "70", "-t", "1"]
    d = json.loads(rotor(*words, "--json").stdout)
    assert d["sessions"] == 3 and len(d["sessions_samples"]) == 2 and d["sessions_tps"] > 0
    assert 0 < d["sessions_ratio_min"] <= d["sessions_ratio"] <= d["sessions_ratio_max"]
    assert d["prompt_tps"] == 0 and d["prompt_samples"] == [] and d["machine_gbps"] > 0
    assert d["kv_bytes"] == int(2 * 5 * 4 * 8 * 2 * (70 + 2.5))
    text = rotor(*words).stdout
    assert "tg4 x3 @ d70" in text and "3 together" in text and "pp" not in text.split("machine")[0]


def test_bench_preset_is_made_and_removed(rotor, tmp_path):
    d = json.loads(rotor("bench", "--preset", "bitnet-tiny", "-p", "8", "-n", "2", "-r", "1", "--depth", "16", "--ops", "--json",
                         env={"TMPDIR": str(tmp_path)}).stdout)
    assert d["model"] == "bitnet-tiny" and d["depth"] == 16 and list(tmp_path.iterdir()) == []
    assert {o["name"] for o in d["ops"]} >= {"attn_q", "ffn_down", "head"} and all(o["us_one"] > 0 for o in d["ops"])
    assert "tg2 @ d16" in rotor("bench", "--preset", "bitnet-tiny", "-p", "0", "-n", "2", "-r", "1", "-d", "16").stdout


@pytest.mark.parametrize("words, told", [
    (["--preset", "nope"], "there are bitnet-2b4t"),
    (["x.gguf", "--preset", "bitnet-tiny"], "not both"),
    (["-p", "0", "-n", "0"], "nothing to measure"),
    (["-p", "64", "-c", "16"], "too small"),
    (["-n", "0", "--sessions", "2"], "-n cannot be 0"),
    (["--sessions", "300", "-p", "1", "-n", "1"], "allow 256"),
])
def test_bench_errors(rotor, words, told):
    assert told in rotor("bench", *words, status=2).stderr


def test_info(rotor):
    text = rotor("info").stdout
    assert "plain read" in text and "GMAC/s" in text and "libedit: o" in text
    d = json.loads(rotor("info", os.environ["ROTOR_MODEL"], "--json").stdout)
    for key in ("downloads", "server"):  # as the lines above say
        assert d[key] is None and key + " " not in text or d[key] and re.search(r"^%s +%s$" % (key, re.escape(d[key])), text, re.M)
    assert d["machine_gbps"] > 0 and d["cpus"] > 0 and d["memory_bytes"] > 0
    assert d["model"]["name"] == "stories260K" and d["model"]["n_ctx"] == 512 and d["model"]["decode_tps_bound"] > 0


@pytest.fixture()
def cache(rotor, tmp_path):
    root = tmp_path / "hub"
    for repo, files in {"org--one": ["m.gguf"], "org--two": ["a-Q4.gguf", "b-Q8.gguf"], "other--one": ["m.gguf"]}.items():
        snapshot = root / ("models--" + repo) / "snapshots" / "c0ffee"
        snapshot.mkdir(parents=True)
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs" / "main").write_text("c0ffee")
        for name in files:
            rotor("synth", "bitnet-tiny", "-o", snapshot / name)
    folder = root / "models--org--folder" / "snapshots" / "beef"  # no refs: the only snapshot counts
    shutil.copytree(os.path.join(os.environ["ROTOR_SOURCE_ROOT"], "tests", "data", "golden", "hf-llama-tied"), folder)
    return root


def test_models_lists_the_cache_and_the_folder(rotor, cache, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    rotor("synth", "llama-tiny", "-o", "mine.gguf")
    env = {"HF_HUB_CACHE": str(cache)}
    listed = json.loads(rotor("models", "--json", env=env).stdout)
    assert [m["name"] for m in listed] == ["(default)", "org/folder", "org/one", "org/two:a-Q4.gguf", "org/two:b-Q8.gguf", "other/one",
                                           "mine.gguf"]
    assert listed[2]["architecture"] == "bitnet-b1.58" and listed[2]["n_ctx"] == 512 and listed[2]["type"] == "I2_S"
    r = rotor("models", env=env)
    assert "mine.gguf" in r.stdout and str(cache) in r.stderr
    home = rotor("models", env={"HF_HUB_CACHE": "", "HF_HOME": "", "XDG_CACHE_HOME": "", "HOME": str(tmp_path)})
    assert str(tmp_path / ".cache/huggingface/hub") in home.stderr


def test_models_are_found_by_name(rotor, cache):
    env = {"HF_HUB_CACHE": str(cache)}

    def name_of(word):
        return json.loads(rotor("inspect", word, "--json", env=env).stdout)["file"]
    assert name_of("org/one").endswith("models--org--one/snapshots/c0ffee/m.gguf")
    assert name_of("org/folder").endswith("models--org--folder/snapshots/beef")
    assert name_of("two:Q8").endswith("b-Q8.gguf")
    assert "org/one, other/one" in rotor("inspect", "one", env=env, status=2).stderr
    assert "org/two:a-Q4.gguf, org/two:b-Q8.gguf" in rotor("inspect", "org/two", env=env, status=2).stderr
    assert "rotor models lists" in rotor("inspect", "three", env=env, status=1).stderr
