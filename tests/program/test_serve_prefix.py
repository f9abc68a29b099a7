# SPDX-License-Identifier: MIT
"""What rotor serve knows of a prompt already: from files after a restart (--prefix-store), behind a window that has moved on,
and of an answer that comes back as text. Whatever it is, the answer and its probabilities are the bits of a cold prompt."""
import os
import random
import re
import shutil
import signal
import stat
import time

import pytest

from serve_rig import PATIENCE_S, STORY, Server, wait_until
from test_cli_harmony import write_chain

WORDS = "Lily and Tom went to the park with a big red ball and a small dog that liked to run and jump over the old tree".split()
SMALL = ["--prefix-store-min", "16"]  # tokens are cheaper than files in a model this small


def tale(seed, n=150):
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n))


def ask(server, prompt, **more):
    return server.ask("/v1/completions", {"prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 3, **more})


def chat(server, messages, **more):
    return server.ask("/v1/chat/completions", {"messages": messages, "max_tokens": 12, "temperature": 0, "logprobs": True,
                                               "top_logprobs": 3, **more})


def cached(got):
    assert got["usage"]["prompt_tokens_details"]["cached_tokens"] == got["timings"]["cache_n"]
    return got["timings"]["cache_n"]


def counter(server, name, at_least=0):
    """It is published, and files are written, once the answer is on its way."""
    wait_until(lambda: server.metric("prefix_" + name) >= at_least)
    return server.metric("prefix_" + name)


def start(folder, *more, model=STORY):
    return Server(str(model), "--prefix-store", str(folder), *SMALL, *more)


def test_after_a_restart_a_prompt_is_known(tmp_path):
    folder = tmp_path / "prefixes"
    s = start(folder, "--parallel", "2")
    warm = {"temperature": 0.9, "seed": 5}
    first, drawn = ask(s, tale(1)), ask(s, tale(1), **warm)
    assert cached(first) == 0 and counter(s, "hits_total") == 0
    assert s.stop() == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()] == [0o600]
    s = start(folder, "--parallel", "2")
    assert counter(s, "files") == 1 and counter(s, "bytes") == sum(f.stat().st_size for f in folder.iterdir())
    again = ask(s, tale(1))
    assert cached(again) == again["usage"]["prompt_tokens"] - 1
    assert counter(s, "hits_total", 1) == 1 and counter(s, "read_bytes_total") > 0
    assert again["choices"] == first["choices"] and ask(s, tale(1), **warm)["choices"] == drawn["choices"]
    longer = ask(s, tale(1) + " One day they")
    assert cached(longer) >= first["usage"]["prompt_tokens"] - 2  # the last word may go on otherwise
    fresh = ask(s, tale(1) + " One day they", cache_prompt=False)
    assert cached(fresh) == 0 and fresh["choices"] == longer["choices"]
    assert s.stop() == 0


def test_what_memory_forgets_is_read_again(tmp_path):
    s = start(tmp_path / "p", "--parallel", "1", "-c", "512")
    first = [ask(s, tale(i)) for i in range(4)]  # two fit into memory
    again = [ask(s, tale(i)) for i in range(4)]
    assert all(cached(a) == a["usage"]["prompt_tokens"] - 1 for a in again)
    assert [a["choices"] for a in again] == [a["choices"] for a in first]
    assert counter(s, "hits_total", 2) >= 2
    assert s.stop() == 0


def test_the_folder_keeps_to_its_limit(tmp_path):
    folder = tmp_path / "p"
    s = start(folder, "--parallel", "1", "--prefix-store-size", "1")
    for i in range(12):
        ask(s, tale(i), max_tokens=1)
    assert counter(s, "evicted_total", 1) > 0 and counter(s, "written_bytes_total") > 1 << 20
    assert s.stop() == 0
    assert 0 < sum(f.stat().st_size for f in folder.iterdir()) <= 1 << 20


def test_damaged_files_are_told_and_removed(tmp_path):
    folder = tmp_path / "p"
    s = start(folder)
    want = [ask(s, tale(i))["choices"] for i in range(3)]
    assert s.stop() == 0
    files = sorted(folder.iterdir())
    assert len(files) == 3
    whole = [f.read_bytes() for f in files]
    files[0].write_bytes(whole[0][:-1000])
    files[1].write_bytes(whole[1][:5000] + bytes([whole[1][5000] ^ 1]) + whole[1][5001:])  # in a page: seen when it is read
    files[2].write_bytes(b"")
    (folder / "notes.txt").write_text("not ours")
    s = start(folder)
    assert [ask(s, tale(i))["choices"] for i in range(3)] == want
    assert counter(s, "refused_total", 3) == 3 and counter(s, "hits_total") == 0
    assert s.stop() == 0
    assert len([line for line in s.log if "prefix store" in line and "removed" in line]) == 3
    assert (folder / "notes.txt").read_text() == "not ours"


def test_files_of_another_model_or_cache_are_left(tmp_path):
    folder = tmp_path / "p"
    s = start(folder)
    want = ask(s, tale(1))
    assert s.stop() == 0
    names = {f.name for f in folder.iterdir()}
    s = start(folder, "--kv", "f32")
    assert cached(ask(s, tale(1))) == 0 and counter(s, "files", 1) == 1  # its own, by now
    assert s.stop() == 0
    assert names < {f.name for f in folder.iterdir()} and not [line for line in s.log if "prefix store" in line]
    s = start(folder)
    again = ask(s, tale(1))
    assert cached(again) > 0 and again["choices"] == want["choices"]
    assert s.stop() == 0


def put_to_sleep(s):
    s.ask("/api/generate", {"model": "x", "keep_alive": 0, "stream": False})
    wait_until(lambda: s.ask("/props")["is_sleeping"])


def counters(s):
    """Of files, all that are called totals."""
    text = s.raw("GET", "/metrics")[1].decode()
    return {name: int(n) for name, n in re.findall(r"^(rotor_prefix_\w+_total) (\d+)$", text, re.M)}


def test_counters_do_not_fall_when_a_model_sleeps(tmp_path):
    s = start(tmp_path / "p")
    ask(s, tale(1))
    assert counter(s, "written_total", 1) == 1
    before = counters(s)
    assert len(before) == 7 and before["rotor_prefix_misses_total"] == 1
    for hits in (1, 2):
        put_to_sleep(s)
        assert counter(s, "misses_total", 1) == 1
        asleep = counters(s)
        assert all(asleep[k] >= before[k] for k in before)
        assert cached(ask(s, tale(1))) > 0 and counter(s, "hits_total", hits) == hits
        before = counters(s)
        assert all(before[k] >= asleep[k] for k in before)
    assert s.stop() == 0


def test_a_folder_that_is_gone_when_a_model_wakes(tmp_path):
    """Answers go on without it."""
    (tmp_path / "above").mkdir()
    s = start(tmp_path / "above" / "p")
    want = ask(s, tale(1))["choices"]
    put_to_sleep(s)
    shutil.rmtree(tmp_path / "above")
    assert ask(s, tale(1))["choices"] == want
    assert s.stop() == 0
    assert len([line for line in s.log if "prefix store" in line and "without it" in line]) == 1


def test_files_are_private(tmp_path):
    """Whatever the umask says, and without an empty file under the name."""
    folder = tmp_path / "p"
    before = os.umask(0)
    try:
        s = start(folder)
    finally:
        os.umask(before)
    ask(s, tale(1))
    assert s.stop() == 0
    files = list(folder.iterdir())
    assert files and all(f.stat().st_mode & 0o777 == 0o600 and f.stat().st_size for f in files)


def halves(folder):
    return [f for f in folder.iterdir() if ".part-" in f.name]


def kill_in_a_write(s, folder, rng):
    """Asks until the server is caught with a half-written file; stopped there, so that it cannot end it, it is killed."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        c = s.connect()
        body = '{"prompt": "%s", "max_tokens": 1}' % tale(rng.random())  # is written when it has been answered
        c.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        whole = len(list(folder.glob("*.prefix")))
        while not halves(folder) and len(list(folder.glob("*.prefix"))) == whole and time.monotonic() < end:
            pass
        s.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, s.process.pid, os.WSTOPPED | os.WNOWAIT)
        caught = halves(folder)
        s.process.send_signal(signal.SIGKILL if caught else signal.SIGCONT)
        if caught:
            c.close()
            s.process.wait(timeout=PATIENCE_S)
            s.reader.join(timeout=PATIENCE_S)
            s.process.stderr.close()
            return caught
        c.getresponse().read()
        c.close()
    raise AssertionError("never caught while it wrote")


def test_killed_while_it_writes(tmp_path):
    """In the middle of a file: the folder opens again, nothing is damaged, and nothing that is served is wrong."""
    folder = tmp_path / "p"
    rng = random.Random(3)
    s = start(folder, "--parallel", "2")
    want = {i: ask(s, tale(i))["choices"] for i in range(4)}
    log, half = [], []
    for _ in range(3):
        half += kill_in_a_write(s, folder, rng)
        log += s.log
        assert all(f.exists() for f in half)  # what others write at the moment is left
        s = start(folder, "--parallel", "2")
        for i in rng.sample(range(4), 3):
            assert ask(s, tale(i))["choices"] == want[i]
    assert s.stop() == 0
    log += s.log
    for f in half:
        os.utime(f, (time.time() - 7200,) * 2)
    s = start(folder, "--parallel", "2")
    assert not halves(folder)  # an hour later
    assert all(ask(s, tale(i))["choices"] == want[i] for i in range(4))
    assert s.stop() == 0
    log += s.log
    assert not [line for line in log if "prefix store" in line or "damaged" in line]


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    wrapper = tmp_path / "rotor"
    wrapper.write_text("#!/bin/bash\ntrap '' XFSZ\nulimit -f 20\nexec %s \"$@\"\n" % os.environ["ROTOR_BINARY"])
    wrapper.chmod(0o755)
    monkeypatch.setenv("ROTOR_BINARY", str(wrapper))
    s = start(tmp_path / "p")
    answers = [ask(s, tale(i)) for i in range(3)]
    assert all(a["choices"][0]["text"] for a in answers)
    assert s.stop() == 0
    assert len([line for line in s.log if "prefix store" in line]) == 1
    assert not list((tmp_path / "p").iterdir())


def test_a_folder_that_cannot_be_made_is_told(tmp_path, rotor):
    r = rotor("serve", STORY, "--port", "0", "--prefix-store", tmp_path / "no" / "folder", status=1)
    assert "no/folder" in r.stderr


# ---- Windows --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oss(rotor, tmp_path_factory):
    path = tmp_path_factory.mktemp("oss") / "oss.gguf"
    rotor("synth", "gpt-oss-tiny", "-o", path)
    return path


WINDOWS = ["-c", "4096", "--chunk", "64", "--parallel", "2"]  # a ring of little more than the window


def turns(server, n_answer):
    """Two turns of a chat whose thoughts are long; what was thought is not sent back."""
    talk = [{"role": "system", "content": tale(7, 60)}, {"role": "user", "content": tale(8, 60)}]
    first = chat(server, talk, max_tokens=n_answer, ignore_eos=True, temperature=1, seed=3)
    assert first["usage"]["completion_tokens"] == n_answer
    talk += [{"role": "assistant", "content": "Yes."},
             {"role": "user", "content": "And what else?"}]
    return first, talk


def test_a_conversation_goes_back_behind_its_window(oss):
    """The second turn is not evaluated from nothing, though the first answer was longer than what the ring keeps."""
    s = Server(str(oss), *WINDOWS)
    first, talk = turns(s, 700)
    drawn = {"temperature": 1, "seed": 4, "max_tokens": 60}
    second = chat(s, talk, **drawn)
    assert cached(second) >= first["usage"]["prompt_tokens"] - 1
    fresh = chat(s, talk, cache_prompt=False, **drawn)
    assert cached(fresh) == 0 and fresh["choices"] == second["choices"]
    assert len(second["choices"][0]["logprobs"]["content"]) > 20
    again = chat(s, talk[:2], **drawn)  # and once more the first question
    assert cached(again) == first["usage"]["prompt_tokens"] - 1
    assert again["choices"] == chat(s, talk[:2], cache_prompt=False, **drawn)["choices"]
    assert s.stop() == 0


def test_windows_after_a_restart(oss, tmp_path):
    s = start(tmp_path / "p", *WINDOWS, model=oss)
    first, talk = turns(s, 700)
    assert s.stop() == 0
    s = start(tmp_path / "p", *WINDOWS, model=oss)
    second = chat(s, talk)
    assert cached(second) >= first["usage"]["prompt_tokens"] - 1 and counter(s, "hits_total", 1) == 1
    assert second["choices"] == chat(s, talk, cache_prompt=False)["choices"]
    assert s.stop() == 0


# ---- Answers that come back -----------------------------------------------------------------------------------------

PLAIN = ("{% for m in messages %}<|im_start|>{{ m.role }}{{ m.content }}<|im_end|>{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}")
MARKS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]


def test_an_answer_is_known_by_its_text(tmp_path):
    """The model writes "Hello you" as three tokens where the vocabulary, which has no merges, would write nine."""
    model = write_chain(tmp_path / "plain.gguf", ["Hel", "lo", " you", "<|im_end|>"], template=PLAIN, marks=MARKS)
    s = Server(str(model))
    talk = [{"role": "user", "content": "Hi"}]
    first = chat(s, talk)
    assert first["choices"][0]["message"]["content"] == "Hello you" and first["choices"][0]["finish_reason"] == "stop"
    talk += [{"role": "assistant", "content": "Hello you"}, {"role": "user", "content": "More"}]
    second = chat(s, talk)
    asked = first["usage"]["prompt_tokens"]
    assert cached(second) == asked + 3
    other = chat(s, [talk[0], {"role": "assistant", "content": "Hello  you"}, talk[2]])  # not what was said
    assert cached(other) == asked
    assert other["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"] + 7
    other = chat(s, [{"role": "user", "content": "Ho"}, *talk[1:]])  # another conversation
    assert other["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"] + 6
    fresh = chat(s, talk, cache_prompt=False)
    assert cached(fresh) == 0 and fresh["choices"] == second["choices"]
    assert s.stop() == 0


def test_control_tokens_inside_do_not_come_back(tmp_path):
    """The model writes one in the middle of "Hello you", where it shows nothing: who sends the text back gets the text."""
    model = write_chain(tmp_path / "plain.gguf", ["Hel", "<|im_start|>", "lo", " you", "<|im_end|>"], template=PLAIN, marks=MARKS)
    s = Server(str(model))
    talk = [{"role": "user", "content": "Hi"}]
    first = chat(s, talk)
    assert first["choices"][0]["message"]["content"] == "Hello you" and first["usage"]["completion_tokens"] == 4
    back = {text: chat(s, [*talk, {"role": "assistant", "content": text}, {"role": "user", "content": "More"}])["usage"]["prompt_tokens"]
            for text in ("Hello you", "Hullo you")}  # the second was never said
    assert back["Hello you"] == back["Hullo you"]
    assert s.stop() == 0


def test_a_zero_in_an_answer_can_be_sent_back(tmp_path):
    model = write_chain(tmp_path / "zero.gguf", ["a", "b\0c", "<|im_end|>"], template=PLAIN, marks=MARKS)
    s = Server(str(model))
    talk = [{"role": "user", "content": "Hi"}]
    first = chat(s, talk)["choices"][0]
    assert first["message"]["content"] == "ab\ufffdc"
    told = first["logprobs"]["content"]
    assert "".join(t["token"] for t in told) == "ab\ufffdc" and told[1]["bytes"] == [98, 0, 99]
    chunks = s.stream("/v1/chat/completions", {"messages": talk, "temperature": 0})
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == "ab\ufffdc"
    assert chat(s, [*talk, first["message"], {"role": "user", "content": "More"}])["choices"]
    assert s.stop() == 0
