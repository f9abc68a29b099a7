# SPDX-License-Identifier: MIT
"""rotor finetune --lora: an adapter learns beside a tiny ternary model, runs with it, and is merged into it."""
import csv
import json
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest

SMALL = ["--layers", 2, "--embd", 64, "--heads", 4, "--kv-heads", 2, "--ff", 128, "--ctx", 64, "--batch", 8]
SAID = "Old Mother West Wind laughed.<|endoftext|>"


@pytest.fixture(scope="module")
def folder(rotor, source_root, tmp_path_factory):
    """base.gguf (I2_S), base-tq1.gguf …, and more.txt, which the base has not seen."""
    path = tmp_path_factory.mktemp("lora")
    book = source_root / "tests" / "data" / "train" / "west_wind.txt"
    rotor("train-tokenizer", book, "--vocab", 512, "-o", path / "words.gguf")
    rotor("train", book, "--tokenizer", path / "words.gguf", "-o", path / "base.gguf", "--steps", 200, "--head", "F32", *SMALL)
    (path / "more.txt").write_text(SAID * 300)
    return path


@pytest.fixture(scope="module")
def learnt(rotor, folder):
    """The folder with a.gguf, learnt from more.txt, merged.gguf, and what was said."""
    r = rotor("finetune", folder / "base.gguf", "--data", folder / "more.txt", "-o", folder / "a.gguf", "--lora", 8, "--steps",
              60, "--lr", 0.01, "--log", folder / "a.csv", "--merge", folder / "merged.gguf", "--batch", 8)
    return folder, r.stderr


def rows(path):
    with open(path) as f:
        return [row[:3] for row in list(csv.reader(f))[1:]]


def test_the_loss_falls(learnt):
    folder, said = learnt
    log = [float(row[1]) for row in rows(folder / "a.csv")]
    assert len(log) == 60 and log[-1] < log[0] - 1.5
    assert "a.gguf is ready: rotor run" in said and "in the adapter" in said


def test_what_it_has_learnt_is_said_with_it_only(rotor, learnt):
    folder, _ = learnt
    ask = ["run", folder / "base.gguf", "-p", "Old Mother", "--temp", 0, "-n", 20]
    assert rotor(*ask, "--lora", folder / "a.gguf").stdout.strip().startswith("West Wind")
    assert not rotor(*ask).stdout.strip().startswith("West Wind")


def logits(rotor, tmp_path, *args):
    rotor("logits", *args, "--tokens", "0,5,300,400", "-o", tmp_path / "x.npy", "--all")
    return np.load(tmp_path / "x.npy")


def test_every_verb_takes_it(rotor, learnt, tmp_path):
    folder, _ = learnt
    base, lora = folder / "base.gguf", ["--lora", folder / "a.gguf"]
    plain, with_it = logits(rotor, tmp_path, base), logits(rotor, tmp_path, base, *lora)
    assert not np.array_equal(plain, with_it)
    assert np.array_equal(plain, logits(rotor, tmp_path, base, *lora, "--lora-scale", 0))
    assert not np.array_equal(with_it, logits(rotor, tmp_path, base, *lora, "--lora-scale", 0.5))
    (tmp_path / "t.txt").write_text("Old Mother West Wind laughed. " * 40)
    ppl = [json.loads(rotor("perplexity", base, tmp_path / "t.txt", "-c", 64, "--json", *more).stdout)["perplexity"]
           for more in ([], lora)]
    assert ppl[1] < ppl[0]
    assert "adapter: " in rotor("run", base, "-p", "Old", "-n", 2, *lora).stderr
    rotor("chat", base, *lora, input="hello\n")
    rotor("bench", base, "-p", 8, "-n", 4, "-r", 1, *lora)
    assert "model" in rotor("info", base, *lora).stdout


def test_types_of_the_model(rotor, folder, tmp_path):
    """The codes of I2_S and T5 are the same, so is what is learnt beside them."""
    rotor("quantize", folder / "base.gguf", tmp_path / "t5.gguf", "t5")
    files = []
    for base in folder / "base.gguf", tmp_path / "t5.gguf":
        out = tmp_path / ("a-" + base.name)
        r = rotor("finetune", base, "--data", folder / "more.txt", "-o", out, "--lora", 4, "--steps", 5, "--merge",
                  tmp_path / ("m-" + base.name))
        files.append((r.stderr[r.stderr.index("held-out loss:"):].splitlines()[0], out.read_bytes()[-4000:]))
    assert files[0] == files[1]
    assert json.loads(rotor("inspect", tmp_path / "m-t5.gguf", "--json").stdout)["type"] == "T5"
    assert np.array_equal(logits(rotor, tmp_path, tmp_path / "m-t5.gguf"), logits(rotor, tmp_path, tmp_path / "m-base.gguf"))


def test_the_merged_model_is_what_was_measured(rotor, learnt, tmp_path):
    folder, said = learnt
    alone, beside, merged, changed = map(float, re.search(
        r"held-out loss: ([\d.]+) the model alone, ([\d.]+) with the adapter, ([\d.]+) merged \(([\d.]+) % of", said).groups())
    assert beside < alone - 1.5 and beside < merged < alone and 0 < changed < 60
    held = [float(row[2]) for row in rows(folder / "a.csv") if row[2]]
    assert abs(held[-1] - beside) < 1e-3
    assert not np.array_equal(logits(rotor, tmp_path, folder / "merged.gguf"), logits(rotor, tmp_path, folder / "base.gguf"))
    a, b = (json.loads(rotor("inspect", folder / n, "--json").stdout) for n in ("base.gguf", "merged.gguf"))
    for key in "architecture", "type", "n_params", "tensor_bytes", "n_metadata", "n_vocab":
        assert a[key] == b[key]


def test_inspect_and_info(rotor, learnt):
    folder, _ = learnt
    assert "low-rank, rank 8, alpha 16" in rotor("inspect", folder / "a.gguf").stdout
    facts = json.loads(rotor("inspect", folder / "a.gguf", "--json").stdout)
    assert facts["adapter"] and not facts["loadable"] and facts["lora_rank"] == 8 and facts["lora_alpha"] == 16
    assert not json.loads(rotor("inspect", folder / "base.gguf", "--json").stdout)["adapter"]
    for verb in "info", "run":
        r = rotor(verb, folder / "a.gguf", *(["-p", "x"] if verb == "run" else []), status=1)
        assert "no model itself" in r.stderr and "--lora FILE" in r.stderr


def test_a_killed_run_goes_on_bit_for_bit(rotor, learnt, tmp_path):
    folder, _ = learnt
    command = ["finetune", folder / "base.gguf", "--data", folder / "more.txt", "-o", tmp_path / "a.gguf", "--lora", 8,
               "--steps", 60, "--lr", 0.01, "--log", tmp_path / "a.csv", "--batch", 8, "--save-every", 4, "--eval-every", 3]
    for _ in range(20):  # until it was not quicker
        [path.unlink() for path in tmp_path.iterdir()]
        process = subprocess.Popen([os.environ["ROTOR_BINARY"], *map(str, command)], stderr=subprocess.DEVNULL)
        while not (tmp_path / "a.gguf.checkpoint").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL and not (tmp_path / "a.gguf").exists():
            break
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "a.gguf").exists()
    rotor(*command, "--resume")
    assert (tmp_path / "a.gguf").read_bytes() == (folder / "a.gguf").read_bytes()


def test_dry_run_states_the_memory_and_it_is_held(rotor, folder, source_root, tmp_path, checked_build):
    book = source_root / "tests" / "data" / "train" / "west_wind.txt"
    rotor("train", book, "--tokenizer", folder / "words.gguf", "-o", tmp_path / "b.gguf", "--steps", 1, "--layers", 4, "--embd",
          256, "--heads", 4, "--kv-heads", 2, "--ff", 768, "--ctx", 32, "--batch", 1)
    command = ["finetune", tmp_path / "b.gguf", "--data", book, "-o", tmp_path / "a.gguf", "--steps", 2, "--lora", 8, "--ctx",
               128, "--batch", 8, "--merge", tmp_path / "m.gguf"]
    before = set(tmp_path.iterdir())
    r = rotor(*command, "--dry-run")
    assert set(tmp_path.iterdir()) == before
    stated = float(re.search(r"memory: ([0-9.]+) MiB", r.stderr)[1])
    script = "import resource,subprocess,sys; subprocess.run(sys.argv[1:], check=True); " \
             "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    peak = int(subprocess.run(["python3", "-c", script, os.environ["ROTOR_BINARY"], *map(str, command)],
                              capture_output=True, text=True, check=True).stdout) / 1024
    print("stated %.1f MiB, peak %.1f MiB" % (stated, peak))
    assert 0.8 * stated < peak < stated + (16 if not checked_build else 64)


@pytest.mark.parametrize("change, told", [
    (["--hf", "x"], "with --lora an adapter is written"),
    (["--type", "TQ1_0"], "with --lora an adapter is written"),
    (["--merge", "x"], "must end in .gguf"),
    (["--lora-alpha", "-1"], "lora-alpha"),
    (["--lora", "0"], "lora"),
])
def test_bad_options(rotor, folder, tmp_path, change, told):
    r = rotor("finetune", folder / "base.gguf", "--data", folder / "more.txt", "-o", tmp_path / "a.gguf", "--lora", 4, *change,
              status=2)
    assert told in r.stderr
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_told(rotor, folder, source_root, tmp_path):
    base, out = folder / "base.gguf", tmp_path / "a.gguf"
    same = rotor("finetune", base, "--data", folder / "more.txt", "-o", out, "--lora", 4, "--merge", out, status=2)
    assert "different files" in same.stderr
    alone = rotor("finetune", base, "--data", folder / "more.txt", "-o", out, "--merge", tmp_path / "m.gguf", status=2)
    assert "--lora RANK" in alone.stderr
    none = rotor("finetune", base, "--data", folder / "more.txt", "-o", out, status=1)
    assert "its masters are gone; fine-tuning starts from float masters" in none.stderr and "--lora RANK" in none.stderr
    wrong = rotor("run", base, "-p", "x", "--lora", folder / "words.gguf", status=1)
    assert "words.gguf: not an adapter" in wrong.stderr
    assert "none.gguf" in rotor("run", base, "-p", "x", "--lora", tmp_path / "none.gguf", status=1).stderr


def test_a_dry_run_states_the_memory_of_a_large_model(rotor, source_root, tmp_path):
    """The published 2B4T sizes, by formula (docs/training.md): nothing of that size is held to say it."""
    model, out = tmp_path / "x.gguf", tmp_path / "a.gguf"
    rotor("synth", "bitnet-2b4t", "--sparse", "-o", model)
    book = source_root / "tests" / "data" / "train" / "west_wind.txt"
    r = rotor("finetune", model, "--data", book, "-o", out, "--lora", 8, "--batch", 1, "--recompute", "--dry-run")
    d, kv, ff, layers, vocab, rows = 2560, 640, 6912, 30, 128256, 512
    adapter = 8 * layers * (2 * 2 * d + 2 * (d + kv) + 3 * (d + ff))
    ternary = layers * (2 * d * d + 2 * d * kv + 3 * d * ff)
    frozen = ternary / 4 + 4 * (vocab * d + layers * (3 * d + ff) + d)
    assert "%.2f M weights, of which %.2f M ternary; %.3f M in the adapter" % (
        (ternary + vocab * d + layers * (3 * d + ff) + d) / 1e6, ternary / 1e6, adapter / 1e6) in r.stderr
    stated = re.search(r"memory: ([0-9.]+) GiB \(model ([0-9.]+) GiB, weights ([0-9.]+) MiB, .*activations ([0-9.]+) MiB", r.stderr)
    total, frozen_stated, weights, activations = map(float, stated.groups())
    assert abs(frozen_stated - frozen / 2**30) < 0.006 and abs(weights - 4 * adapter / 2**20) < 0.006
    once = d + 2 * ff + 2 * (d + kv) + d * (layers + 1) + 2 * ff + 2 * d + vocab + 1 + d + 2 * kv + ff + 2 * 8
    assert abs(activations - 4 * rows * once / 2**20) < 0.006
    print(r.stderr)
    assert 2 < total < 3 and sorted(path.name for path in tmp_path.iterdir()) == ["x.gguf"]
    model.unlink()
