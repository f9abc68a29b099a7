# SPDX-License-Identifier: MIT
"""rotor train: a toy model learns a public-domain book, survives being killed, and runs."""
import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from gguf_header import Header

SMALL = ["--layers", 2, "--embd", 64, "--heads", 4, "--kv-heads", 2, "--ff", 128, "--ctx", 64, "--batch", 8]
EXPECTED_LOSS, EXPECTED_HELD = 5.134, 5.116  # nats per token, of the toy model below; log(512) is 6.238


@pytest.fixture(scope="module")
def book(source_root):
    return source_root / "tests" / "data" / "train" / "west_wind.txt"


@pytest.fixture(scope="module")
def words(rotor, book, tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.gguf"
    rotor("train-tokenizer", book, "--vocab", 512, "-o", path)
    return path


def rows(path):
    """The log without its timings."""
    with open(path) as f:
        table = list(csv.reader(f))
    assert table[0] == ["step", "loss", "heldout_loss", "tok_per_s"]
    return [row[:3] for row in table[1:]]


@pytest.fixture(scope="module")
def toy(rotor, book, words, tmp_path_factory):
    """A folder with a trained toy model."""
    folder = tmp_path_factory.mktemp("toy")
    r = rotor("train", "--data", book, "--tokenizer", words, "-o", folder / "toy.gguf", "--log", folder / "toy.csv",
              "--steps", 120, "--hf", folder / "hf", "--head", "F32", *SMALL)
    assert "toy.gguf is ready" in r.stderr
    return folder


def test_a_toy_model_learns_to_a_fixed_loss(toy):
    log = rows(toy / "toy.csv")
    assert [row[0] for row in log] == [str(i) for i in range(1, 121)]
    losses = [float(row[1]) for row in log]
    assert abs(losses[0] - np.log(512)) < 0.05
    assert abs(np.mean(losses[-10:]) - EXPECTED_LOSS) < 0.01
    held = [float(row[2]) for row in log if row[2]]
    assert len(held) == 20 and abs(held[-1] - EXPECTED_HELD) < 0.01
    assert (toy / "toy.svg").read_text().startswith("<svg")


def test_the_exported_models_run(rotor, toy):
    logits = []
    for model in "toy.gguf", "hf":
        out = toy / "logits.npy"
        rotor("logits", toy / model, "--tokens", "0,5,300,400", "-o", out, "--all")
        logits.append(np.load(out))
    assert logits[0].shape == (4, 512)
    assert np.array_equal(*logits)
    text = rotor("run", toy / "toy.gguf", "-p", "Old Mother West Wind", "-n", 20, "--temp", 0).stdout
    assert text == rotor("run", toy / "hf", "-p", "Old Mother West Wind", "-n", 20, "--temp", 0).stdout
    assert len(text) > 10
    chat = rotor("run", toy / "toy.gguf", "--chat", "-p", "hello", "-n", 4)
    assert "template" in chat.stderr
    ids = rotor("tokenize", toy / "toy.gguf", "User: hello<|eot_id|>", "--special", "--bos").stdout
    assert ids == rotor("tokenize", toy / "hf", "User: hello<|eot_id|>", "--special", "--bos").stdout
    assert ids.startswith("0 ") and ids.endswith(" 1\n")
    assert json.loads(rotor("inspect", toy / "toy.gguf", "--json").stdout)["name"] == "toy"


def test_a_killed_run_goes_on_bit_for_bit(rotor, book, words, toy, tmp_path):
    command = ["train", "--data", book, "--tokenizer", words, "-o", tmp_path / "toy.gguf", "--log", tmp_path / "toy.csv",
               "--steps", 120, "--head", "F32", "--save-every", 7, "--eval-every", 6, *SMALL]
    killed = 0
    for attempt in range(20):
        more = ["--resume"] if (tmp_path / "toy.gguf.checkpoint").exists() else []
        process = subprocess.Popen([os.environ["ROTOR_BINARY"], *map(str, command + more)], stderr=subprocess.DEVNULL)
        time.sleep(0.25 + 0.1 * (attempt % 4))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        if killed and (attempt % 4 == 3 or process.returncode == 0):
            break
        if process.returncode == 0:  # it was quicker: from the beginning
            [path.unlink() for path in tmp_path.iterdir()]
    assert killed > 0
    more = ["--resume"] if (tmp_path / "toy.gguf.checkpoint").exists() else []
    rotor(*command, *more)
    assert (tmp_path / "toy.gguf").read_bytes() == (toy / "toy.gguf").read_bytes()
    assert rows(tmp_path / "toy.csv") == rows(toy / "toy.csv")


def test_an_unfinished_run_is_not_overwritten(rotor, book, words, tmp_path):
    command = ["train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", "--steps", 4000, "--save-every", 2, *SMALL]
    process = subprocess.Popen([os.environ["ROTOR_BINARY"], *map(str, command)], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "m.gguf.checkpoint").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1]
    assert process.returncode == -signal.SIGINT
    step = int(re.search(r"stopped behind step (\d+); --resume goes on", told)[1])
    r = rotor(*command, status=1)
    assert "holds a run that got to step %d of 4000" % step in r.stderr
    assert "now it is 50" in rotor(*command[:-2], "--batch", 50, "--resume", status=2).stderr


def test_a_run_killed_while_it_saves_goes_on_bit_for_bit(rotor, book, words, tmp_path):
    """Killed as soon as the file of a half-written checkpoint is seen, a few times."""
    command = ["train", book, "--tokenizer", words, *SMALL, "--batch", 2, "--steps", 20, "--save-every", 1, "-o"]
    (tmp_path / "whole").mkdir()
    rotor(*command, tmp_path / "whole" / "m.gguf")
    out, killed = tmp_path / "m.gguf", 0
    for attempt in range(20):
        more = ["--resume"] if (tmp_path / "m.gguf.checkpoint").exists() else []
        process = subprocess.Popen([os.environ["ROTOR_BINARY"], *map(str, [*command, out, *more])], stderr=subprocess.DEVNULL)
        half_written, seen = "%s.checkpoint.part-%d" % (out, process.pid), 0
        while process.poll() is None and seen <= attempt % 4:  # trying whether it can be written is the first one
            seen += os.path.exists(half_written)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        if killed and (attempt % 4 == 3 or process.returncode == 0):
            break
        if process.returncode == 0:  # it was quicker: from the beginning
            [path.unlink() for path in tmp_path.iterdir() if path.is_file()]
    assert killed > 0
    print("%d kills, %d half-written files" % (killed, len(list(tmp_path.glob("*.part-*")))))
    more = ["--resume"] if (tmp_path / "m.gguf.checkpoint").exists() else []
    rotor(*command, out, *more)
    for name in "m.gguf", "m.gguf.checkpoint":
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def with_full_disk(n_bytes, *command):
    """The program where no file may grow beyond n_bytes: writing fails then, as on a full disk."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    return subprocess.run([os.environ["ROTOR_BINARY"], *map(str, command)], stderr=subprocess.PIPE, text=True,
                          preexec_fn=limit)


def test_a_full_disk_leaves_the_old_checkpoint(rotor, book, words, tmp_path):
    """The checkpoint has 1.3 MB."""
    command = ["train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", *SMALL, "--steps", 6]
    rotor(*command)
    before = (tmp_path / "m.gguf.checkpoint").read_bytes()
    r = with_full_disk(300000, *command)
    assert r.returncode == 1 and "m.gguf.checkpoint: cannot write at byte" in r.stderr
    assert "keeps step 6" in r.stderr
    assert (tmp_path / "m.gguf.checkpoint").read_bytes() == before
    assert not list(tmp_path.glob("*.part-*"))


def test_a_full_disk_wherever_it_strikes(rotor, book, words, tmp_path):
    """Token file, log, plot and model: each is told, the old ones stay, nothing half-written is left."""
    command = ["train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", *SMALL, "--steps", 6]
    r = with_full_disk(1000, *command)
    assert r.returncode == 1 and "m.gguf.tokens: cannot write at byte" in r.stderr
    assert list(tmp_path.iterdir()) == []
    rotor(*command, "--log", tmp_path / "m.csv")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for n_bytes, told in (20, "m.csv: cannot write at byte"), (600, "m.svg: cannot write at byte"), \
            (60000, "m.gguf: cannot write at byte"):
        r = with_full_disk(n_bytes, *command, "--log", tmp_path / "m.csv", "--resume")
        assert r.returncode == 1 and told in r.stderr and "File too large" in r.stderr
        now = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        assert now.keys() == before.keys() and now["m.gguf"] == before["m.gguf"]
        assert now["m.gguf.checkpoint"] == before["m.gguf.checkpoint"] and now["m.csv"] == before["m.csv"]
    assert "keeps step 6" in r.stderr
    rotor(*command, "--log", tmp_path / "m.csv", "--resume")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_dry_run_states_the_memory_and_it_is_held(rotor, book, words, tmp_path, checked_build):
    big = ["--layers", 2, "--embd", 128, "--heads", 4, "--kv-heads", 2, "--ff", 384, "--ctx", 128, "--batch", 24]
    command = ["train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", "--steps", 2, *big]
    r = rotor(*command, "--dry-run")
    assert list(tmp_path.iterdir()) == []
    stated = float(re.search(r"memory: ([0-9.]+) MiB", r.stderr)[1])
    script = "import resource,subprocess,sys; subprocess.run(sys.argv[1:], check=True); " \
             "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    peak = int(subprocess.run(["python3", "-c", script, os.environ["ROTOR_BINARY"], *map(str, command)],
                              capture_output=True, text=True, check=True).stdout) / 1024
    print("stated %.1f MiB, peak %.1f MiB" % (stated, peak))
    assert 0.8 * stated < peak < stated + (16 if not checked_build else 64)  # the checker's own memory


def test_conversations(rotor, words, tmp_path):
    """The loss counts answers only: a fixed answer to random questions is learnt to nearly nothing."""
    lines = [json.dumps({"prompt": "what is %d?" % (i * 7919 % 10007), "completion": "Old Mother West Wind."})
             for i in range(600)]
    (tmp_path / "chat.jsonl").write_text("\n".join(lines))
    rotor("train", tmp_path / "chat.jsonl", "--tokenizer", words, "-o", tmp_path / "m.gguf", "--steps", 80, "--log",
          tmp_path / "m.csv", *SMALL)
    assert float(rows(tmp_path / "m.csv")[-1][1]) < 0.1
    said = rotor("run", tmp_path / "m.gguf", "--chat", "-p", "what is 12345?", "--temp", 0).stdout
    assert said.strip() == "Old Mother West Wind."


def test_fine_tuning_starts_from_a_master(rotor, book, words, tmp_path):
    master = tmp_path / "master.gguf"
    rotor("train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", "--steps", 30, "--master", master, *SMALL)
    said = "Old Mother West Wind laughed.<|endoftext|>" * 300
    (tmp_path / "more.txt").write_text(said)
    rotor("finetune", master, "--data", tmp_path / "more.txt", "-o", tmp_path / "f.gguf", "--steps", 150, "--lr", 0.004,
          "--log", tmp_path / "f.csv", "--batch", 8)
    log = [float(row[1]) for row in rows(tmp_path / "f.csv")]
    assert log[-1] < 0.1
    told = rotor("run", tmp_path / "f.gguf", "-p", "Old Mother", "--temp", 0).stdout
    assert told.strip() == "West Wind laughed."
    r = rotor("finetune", tmp_path / "m.gguf", "--data", book, "-o", tmp_path / "n.gguf", status=1)
    assert "its masters are gone" in r.stderr and "--lora RANK" in r.stderr
    r = rotor("finetune", master, "--data", book, "-o", master, status=2)
    assert "master.gguf would overwrite what the model is made from" in r.stderr
    header, raw = Header(master), bytearray(master.read_bytes())
    at = header.data_at + header.tensors["output_norm.weight"][2] + 4 * 5
    raw[at:at + 4] = np.float32(np.nan).tobytes()
    (tmp_path / "bad.gguf").write_bytes(raw)
    r = rotor("finetune", tmp_path / "bad.gguf", "--data", book, "-o", tmp_path / "n.gguf", status=1)
    assert "bad.gguf: norm output_norm.weight holds a value that is not finite at 5" in r.stderr
    assert not (tmp_path / "n.gguf").exists() and not (tmp_path / "n.gguf.checkpoint").exists()


def published(source_root, folder, name):
    """A folder as ternary models are published; the golden one lacks the file that names the end of text."""
    shutil.copytree(source_root / "tests" / "data" / "golden" / name, folder)
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}')
    return folder


def test_fine_tuning_starts_from_a_folder_of_masters(rotor, book, source_root, tmp_path):
    folder = published(source_root, tmp_path / "bf16", "hf-bitnet-online")
    r = rotor("finetune", folder, "--data", book, "-o", tmp_path / "f.gguf", "--steps", 40, "--lr", 0.004, "--ctx", 64,
              "--batch", 4, "--master", tmp_path / "m.gguf", "--hf", tmp_path / "hf", "--head", "BF16", "--log",
              tmp_path / "f.csv")
    assert "f.gguf is ready" in r.stderr
    log = [float(row[1]) for row in rows(tmp_path / "f.csv")]
    print("loss %.3f, then %.3f" % (log[0], log[-1]))
    assert log[-1] < log[0] - 0.5
    logits, ids = [], []
    for model in "f.gguf", "hf", "m.gguf":
        rotor("logits", tmp_path / model, "--tokens", "318,5,300,40", "-o", tmp_path / "logits.npy", "--all", "--kv", "f32")
        logits.append(np.load(tmp_path / "logits.npy"))
        ids.append(rotor("tokenize", tmp_path / model, "the little dog said<|end_of_text|>", "--special", "--bos").stdout)
    assert logits[0].shape == (4, 320)
    assert np.array_equal(logits[0], logits[1])
    assert ids == [rotor("tokenize", folder, "the little dog said<|end_of_text|>", "--special", "--bos").stdout] * 3
    assert ids[0].startswith("318 ") and ids[0].endswith(" 319\n")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["rope_theta"]) == (318, 319, 500000)
    for name in "tokenizer.json", "tokenizer_config.json", "generation_config.json":
        assert (tmp_path / "hf" / name).read_bytes() == (folder / name).read_bytes()
    rotor("finetune", tmp_path / "m.gguf", "--data", book, "-o", tmp_path / "n.gguf", "--dry-run")


@pytest.mark.parametrize("name, change, told", [
    ("online", lambda f: (f / "tokenizer_config.json").unlink(), "the tokenizer has no end-of-text token"),
    ("online", lambda f: (f / "tokenizer.json").unlink(), "no vocabulary in it (tokenizer.json)"),
    ("online", lambda f: replace(f / "config.json", '"online"', '"offline"'), 'expected quantization_config with '
     'quantization_mode "online"'),
    ("online", lambda f: replace(f / "config.json", "BitNetForCausalLM", "BitnetForCausalLM"), "hidden_act"),
    ("online", lambda f: replace(f / "config.json", '"rope_type": "default"', '"rope_type": "linear", "factor": 2'),
     "cannot be fine-tuned (its rotary positions)"),
    ("online", lambda f: replace(f / "tokenizer.json", '"pre_tokenizer":{"type":"ByteLevel"',
                                 '"pre_tokenizer":{"type":"Sequence","pretokenizers":[]},"x":{"type":"ByteLevel"'),
     "could not be written: its tokenizer.json"),
    ("packed", lambda f: None, "its masters are gone; fine-tuning starts from float masters: the model's BF16 folder"),
])
def test_folders_that_are_no_start(rotor, book, source_root, tmp_path, name, change, told):
    folder = published(source_root, tmp_path / "hf", "hf-bitnet-" + name)
    change(folder)
    r = rotor("finetune", folder, "--data", book, "-o", tmp_path / "n.gguf", status=1)
    print(r.stderr)
    assert told in r.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_adapter_learns_beside_a_folder(rotor, book, source_root, tmp_path):
    for name in "online", "packed":
        folder = published(source_root, tmp_path / name, "hf-bitnet-" + name)
        command = ["finetune", folder, "--data", book, "-o", tmp_path / "a.gguf", "--lora", 4, "--steps", 20, "--ctx", 64,
                   "--batch", 4, "--log", tmp_path / (name + ".csv")]
        r = rotor(*command)
        log = [float(row[1]) for row in rows(tmp_path / (name + ".csv"))]
        assert log[-1] < log[0] - 0.1
        rotor("run", folder, "--lora", tmp_path / "a.gguf", "-p", "the little", "-n", 4)
        r = rotor(*command, "--merge", tmp_path / "m.gguf", status=1)
        assert "is a folder, and --merge writes a GGUF file anew; rotor convert" in r.stderr


def test_the_full_precision_twin(rotor, book, words, tmp_path):
    r = rotor("train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", "--steps", 20, "--full-precision", "--log",
              tmp_path / "m.csv", *SMALL)
    log = rows(tmp_path / "m.csv")
    assert float(log[-1][1]) < float(log[0][1]) - 0.3
    assert not (tmp_path / "m.gguf").exists() and "ready" not in r.stderr


@pytest.mark.parametrize("name, content, told, status", [
    ("t.txt", b"", "there is no text in it", 1),
    ("t.txt", b" \n\t\r\n", "there is no text in it", 1),
    ("t.txt", b"\xef\xbb\xbf", "there is no text in it", 1),
    ("t.txt", b"Once.", "the data is too small", 2),
    ("t.txt", b"<|endoftext|>" * 50, "the data is too small: 1 tokens to learn from and 1 held out, and a row needs 65", 2),
    ("t.txt", b"Once \xc3(", "byte 5 (line 1) is 0xC3, which is not UTF-8", 1),
    ("t.txt", b"a\nb\n\xed\xa0\x80", "byte 4 (line 3) is 0xED, which is not UTF-8", 1),
    ("t.txt", "Once upon a time".encode("utf-16"), "byte 0 (line 1) is 0xFF, which is not UTF-8; convert the file", 1),
    ("t.jsonl", b"", "there is no text in it", 1),
    ("t.jsonl", b"\n \n", "there is no text in it", 1),
    ("t.jsonl", b'{"prompt": "a", "completion": "b"}', "the data is too small", 2),
    ("t.jsonl", b'{"prompt": "a", "completion": "\xff"}', "byte 31 (line 1) is 0xFF", 1),
    ("t.jsonl", b'{"prompt": "a", "completion": "b"}\n{"prompt": "a"', "t.jsonl line 2: ", 1),
    ("t.jsonl", b'{"prompt": "a", "completion": ""}', "line 1: a turn is empty or not a text; expected", 1),
    ("t.jsonl", b"Once upon a time", "t.jsonl line 1: ", 1),
])
def test_bad_text(rotor, words, tmp_path, name, content, told, status):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "m.gguf").write_text("an older model")
    r = rotor("train", tmp_path / name, "--tokenizer", words, "-o", tmp_path / "m.gguf", *SMALL, status=status)
    assert told in r.stderr
    assert (tmp_path / "m.gguf").read_text() == "an older model"
    assert not (tmp_path / "m.gguf.checkpoint").exists() and not list(tmp_path.glob("*.part-*"))


@pytest.mark.parametrize("data, heldout, told, status", [
    ("none.txt", None, "none.txt: cannot open: No such file", 1),
    ("folder", None, "folder: not a regular file", 1),
    ("book", "none.txt", "none.txt: cannot open: No such file", 1),
    ("book", "empty.txt", "empty.txt: there is no text in it", 1),
    ("book", "tiny.txt", "the data is too small", 2),
])
def test_bad_files(rotor, book, words, tmp_path, data, heldout, told, status):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "tiny.txt").write_text("a")
    more = ["--heldout", tmp_path / heldout] if heldout else []
    r = rotor("train", book if data == "book" else tmp_path / data, "--tokenizer", words, "-o", tmp_path / "m.gguf", *SMALL,
              *more, status=status)
    assert told in r.stderr
    assert not (tmp_path / "m.gguf").exists()


def test_a_loss_that_is_no_number_stops_and_keeps_what_was(rotor, book, words, tmp_path):
    """A rate beyond reason: the weights grow until they are no numbers. Nothing of that is written."""
    (tmp_path / "m.gguf").write_text("an older model")
    command = ["train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", "--log", tmp_path / "m.csv", "--steps", 400,
               "--lr", 0.9, "--decay", 10, "--warm-up", 0, "--save-every", 5, "--eval-every", 400, *SMALL, "--batch", 2]
    told = rotor(*command, status=1).stderr.splitlines()[-1]
    found = re.search(r"step (\d+): .* is not a number.*; a lower --lr may help \(.*m.gguf.checkpoint keeps step (\d+)\)", told)
    assert found, told
    step, kept = int(found[1]), int(found[2])
    assert kept % 5 == 0 and kept < step <= kept + 6
    assert (tmp_path / "m.gguf").read_text() == "an older model"
    losses = [float(row[1]) for row in rows(tmp_path / "m.csv")]
    assert step - 1 <= len(losses) <= step and np.isfinite(losses).all()
    weights = np.fromfile(tmp_path / "m.gguf.checkpoint", dtype="<f4", offset=232)[:-2]
    assert np.isfinite(weights).all()
    assert rotor(*command, "--resume", status=1).stderr.splitlines()[-1] == told


def damage(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    return bytes(data)


def test_a_damaged_checkpoint_is_told_and_left(rotor, book, words, tmp_path):
    command = ["train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", *SMALL, "--steps", 3]
    checkpoint = tmp_path / "m.gguf.checkpoint"
    rotor(*command)
    whole = checkpoint.read_bytes()
    for at in 100, 5000, len(whole) - 3:  # a setting, a weight, the sum
        checkpoint.write_bytes(whole)
        bad = damage(checkpoint, at)
        told = rotor(*command, "--resume", status=1).stderr
        assert "m.gguf.checkpoint: the checkpoint is damaged: its sum is" in told and "remove it" in told
        assert checkpoint.read_bytes() == bad
    for bad, told in (b"", "not a checkpoint (0 bytes"), (b"RotorCkp", "not a checkpoint (8 bytes"), \
            (whole[:-4], "the file was cut"), (whole + bytes(4), "the file was cut"):
        checkpoint.write_bytes(bad)
        for more in [], ["--resume"]:
            assert told in rotor(*command, *more, status=1).stderr
        assert checkpoint.read_bytes() == bad


def test_another_tokenizer_is_refused_and_nothing_is_lost(rotor, book, words, tmp_path):
    other = tmp_path / "other.gguf"
    rotor("train-tokenizer", book, "--vocab", 300, "-o", other)
    command = ["train", book, "-o", tmp_path / "m.gguf", *SMALL, "--steps", 3]
    rotor(*command, "--tokenizer", words)
    model, checkpoint = (tmp_path / "m.gguf").read_bytes(), (tmp_path / "m.gguf.checkpoint").read_bytes()
    r = rotor(*command, "--tokenizer", other, "--resume", status=2)
    assert "m.gguf.checkpoint: the tokenizer differs from when training began; a run goes on only with the same one" in r.stderr
    rotor(*command, "--tokenizer", words, "--resume")
    assert (tmp_path / "m.gguf").read_bytes() == model and (tmp_path / "m.gguf.checkpoint").read_bytes() == checkpoint
    r = rotor("train", tmp_path / "m.gguf.tokens", "--tokenizer", other, "-o", tmp_path / "n.gguf", *SMALL, status=2)
    assert "made with another tokenizer (of 512 tokens) than" in r.stderr and "(of 300)" in r.stderr
    assert not (tmp_path / "n.gguf").exists()


def test_a_file_that_is_no_log_is_not_overwritten(rotor, book, words, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("name,age\nanna,7\n")
    command = ["train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", "--log", mine, *SMALL, "--steps", 2]
    assert "mine.csv: not the log of a run" in rotor(*command, status=1).stderr
    assert mine.read_text() == "name,age\nanna,7\n"
    mine.unlink()
    rotor(*command)
    mine.write_text(mine.read_text() + "oops\n")
    rotor(*command, "--resume")  # behind the last step: cut off
    lines = mine.read_text().splitlines()
    mine.write_text("\n".join([lines[0], "oops", *lines[2:]]) + "\n")
    assert "mine.csv line 2: not a row" in rotor(*command, "--resume", status=1).stderr
    assert "oops" in mine.read_text()


@pytest.mark.parametrize("change, told", [
    (["--tokenizer", "none.gguf"], "none.gguf: cannot open"),
    (["--kv-heads", 3], "--heads 4 is not a multiple of --kv-heads 3"),
    (["--type", "TQ2_0"], "does not fit TQ2_0"),
    (["--preset", "huge"], "tiny"),
    (["--resume"], "m.gguf.checkpoint: cannot open"),
    (["--hf", "folder", "--head", "Q8_0"], "with --hf, --head is F32, F16 or BF16"),
    (["--master", "folder"], "must end in .gguf"),
    (["--hf", "folder", "--full-precision"], "twin is not written"),
])
def test_bad_options(rotor, book, words, tmp_path, change, told):
    r = rotor("train", book, "--tokenizer", words, "-o", tmp_path / "m.gguf", *SMALL, *change, status=None)
    assert r.returncode in (1, 2) and told in r.stderr


def test_what_is_missing_is_named(rotor, book, words):
    assert "nothing to learn from" in rotor("train", "--tokenizer", words, "-o", "x.gguf", status=2).stderr
    assert "rotor train-tokenizer" in rotor("train", book, "-o", "x.gguf", status=2).stderr
    assert "no file to write" in rotor("train", book, "--tokenizer", words, status=2).stderr
