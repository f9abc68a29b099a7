# SPDX-License-Identifier: MIT
"""A reader who types what a page says, in order, at home in an empty folder with the files that the pages speak of.

What would take long is made small (SMALLER); servers and `rag watch`, which go on until they are stopped, run beside what follows; a
server listens at a port of its own, which stands for 8080 in what follows. curl fails where the server refuses.
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
BUILD = pathlib.Path(os.environ["ROTOR_BINARY"]).parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "program")]

import doc_commands  # noqa: E402
import documents  # noqa: E402

PATIENCE_S = 240  # for one command, on a machine that stalls
DATA = ROOT / "tests" / "data"

# Devices without a GPU are slow to look at, and looked at by tests/program/test_cli_devices.py.
NO_DRIVERS = {"VK_DRIVER_FILES": "/nonexistent", "VK_ICD_FILENAMES": "/nonexistent", "OCL_ICD_VENDORS": "/nonexistent"}
# What is typed instead, so that it takes seconds: the first that fits, in order.
SMALLER = [
    (r"(rotor train-tokenizer .*--vocab )\d+", r"\g<1>300"),
    (r"(rotor train (?!.*--steps).*?)(?:--preset \w+ )", r"\1--preset tiny --steps 3 --batch 2 --ctx 64 --layers 1 "),
    (r"(rotor (?:train|finetune) (?!.*--steps))", r"\1--steps 3 --batch 2 --ctx 64 "),
    (r"(rotor synth )(?:bitnet-2b4t|llama3-8b-1.58)\b(?!.*--layers)", r"\1bitnet-tiny"),
    (r"(rotor synth )(?:gpt-oss-20b)\b(?!.*--layers)", r"\1gpt-oss-tiny"),
    (r"rotor rag bench(?: \d+)*", "rotor rag bench 500 32 5"),
    (r"(rotor bench .*)-r \d+", r"\1-r 1"),
]

NOTES = {
    "notes/deck.md": "# Deck\n\n## Battery\n\nA charge of the battery lasts nine hours.\nError E-4012 means that the battery is too cold.\n\n"
                     "## Price\n\nIt costs four hundred crowns.\n",
    "notes/old.md": "# Old\n\nThe old deck had a fan that was loud.\n",
    "notes/garden.txt": "The tomatoes want water every morning.\n",
    "papers/batteries.md": "# On batteries\n\nHow long a battery lasts depends on how warm it is.\n",
}
STORY = "Once upon a time there was a little %s named %s. One day the %s went to the park and found a red ball.\n<|endoftext|>\n"


def make_texts(home, work):
    for name, text in NOTES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    stories = "".join(STORY % (animal, name, animal) for animal in "dog cat bird fish frog bear".split()
                      for name in "Tim Ann Sue Ben Tom Mia Max Lily".split() for _ in range(4))
    (work / "stories.txt").write_text(stories)
    (work / "more.txt").write_text(stories[:8000])
    (work / "lines.txt").write_text("one line\nanother line\n")
    (work / "notes.md").write_text(NOTES["notes/deck.md"])
    (work / "page").write_text("<!doctype html><title>A page</title><h1>Head</h1><p>Some text.</p>")
    (work / "book.epub").write_bytes(documents.epub(["<h1>One</h1><p>It was a dark night.</p>"]))
    (work / "person.json").write_text('{"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}')


def make_questions(work):
    (work / "q.jsonl").write_text('{"_id": "1", "text": "how long does the battery last"}\n')
    (work / "q.tsv").write_text("query-id\tcorpus-id\tscore\n1\tdeck.md\t1\n")
    for name, source in [("corpus.jsonl", "passages.jsonl"), ("queries_train.jsonl", "questions.jsonl"),
                         ("qrels_train.tsv", "judgements.tsv"), ("cranfield_odd.jsonl", "strangers.jsonl")]:
        lines = (DATA / "retrieval" / source).read_text().splitlines(keepends=True)
        (work / name).write_text("".join(lines[:40]))


def make_models(home, work):
    story, embedded = DATA / "model" / "stories260K.gguf", ROOT / "assets" / "embedded.gguf"
    for name in ("model.gguf", "2b.gguf", "OTHER"):
        shutil.copy(story, work / name)
    for name in ("chat.gguf", "embed.gguf", "all-MiniLM-L6-v2", "MiniLM", "MODEL"):  # any model makes vectors
        shutil.copy(embedded, work / name)
    repository = home / ".cache/huggingface/hub/models--microsoft--bitnet-b1.58-2B-4T-gguf"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    shutil.copy(story, repository / "snapshots" / commit / "ggml-model-i2_s.gguf")


class Reader:
    """Types the commands of one page; say() gives what went wrong, a text for each."""

    def __init__(self, folder, page):
        self.home, self.work = folder / "home", folder / "home" / "rotor"
        self.work.mkdir(parents=True)
        for name in ("tools", "assets", "tests", "docs"):
            (self.work / name).symlink_to(ROOT / name)
        (self.work / "build").symlink_to(BUILD)
        make_texts(self.home, self.work)
        make_questions(self.work)
        make_models(self.home, self.work)
        self.env = {"HOME": str(self.home), "PATH": "%s:%s" % (BUILD, os.environ["PATH"]), "LANG": "C.UTF-8",
                    "ROTOR_N_PREDICT": "12", "ROTOR_THREADS": "2", "ROTOR_NO_PROGRESS": "1", **NO_DRIVERS}
        self.state = folder / "state"  # where the reader stands, and what is exported
        self.state.write_text("cd '%s'\n" % self.work)
        self.server, self.port, self.count = None, None, 0
        for store, notes in (("./papers", "papers"), ("./notes.store", "notes"), ("~/notes.store", "notes")):
            if store in page and "rag add " + store not in page:  # made on another page
                self.run("rotor rag add %s ~/%s --no-embed" % (store, notes))

    def log(self, name):
        return self.state.with_name("%03d.%s" % (self.count, name))

    def start(self, text, **more):
        """The command in a shell that begins where the one before it ended; what it says goes to files."""
        self.count += 1
        script = ". '%s'\n%s\nstatus=$?\n{ export -p; printf 'cd %%q\\n' \"$PWD\"; } >'%s.new'\nexit $status\n" % (self.state, text, self.state)
        with open(self.log("out"), "wb") as out, open(self.log("err"), "wb") as err:
            return subprocess.Popen(["bash", "-c", script], stdout=out, stderr=err, env=self.env, start_new_session=True, **more)

    def run(self, text):
        """What went wrong, or None."""
        shell = self.start(text, stdin=subprocess.PIPE)
        try:
            shell.communicate(b"Hello\n", timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
            return "goes on for more than %d s" % PATIENCE_S
        after = self.state.with_name("state.new")
        if after.exists():
            after.replace(self.state)
        return None if shell.returncode == 0 else "exit status %d: %s" % (shell.returncode, self.said())

    def said(self):
        return (self.log("err").read_text(errors="replace") + self.log("out").read_text(errors="replace"))[-800:].strip()

    def wait_for(self, shell, pattern):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = re.search(pattern, self.log("err").read_text(errors="replace"))
            if found or shell.poll() is not None:
                return found
            time.sleep(0.05)
        return None

    def stop(self, shell):
        """Ctrl-C for all that the shell started; what went wrong, or None."""
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGINT)
        try:
            status = shell.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            return "does not end on Ctrl-C"
        return None if status in (0, -signal.SIGINT, 130) else "ends with status %d" % status

    def serve(self, text):
        self.close()
        text = re.sub(r"(rotor serve)\b", r"\1 --port 0", text, count=1) if "--port" not in text and "unix:" not in text else text
        shell = self.start("exec " + text if re.match(r"(build/)?rotor", text) else text, stdin=subprocess.DEVNULL)
        ready = self.wait_for(shell, r"ready: \S+:(\d+)|ready: unix\S*")
        if not ready:
            self.stop(shell)
            return "does not serve: " + self.said()
        self.server, self.port = shell, ready.group(1)
        return None

    def watch(self, text):
        shell = self.start("exec " + text, stdin=subprocess.DEVNULL)
        seen = self.wait_for(shell, r"watch")
        wrong = self.stop(shell)
        return wrong if seen else "does not watch: " + self.said()

    def close(self):
        wrong = self.stop(self.server) if self.server else None
        self.server = None
        return wrong

    def type(self, command):
        """Does what one command of a page says; what went wrong, or None."""
        text = command.text
        for pattern, smaller in SMALLER:
            text, changed = re.subn(pattern, smaller, text)
            if changed:
                break
        if self.port and self.server:
            text = re.sub(r"\b(localhost|127\.0\.0\.1):8080\b", r"127.0.0.1:%s" % self.port, text)
        first = doc_commands.words(text)[0]
        if first[0].endswith("rotor") and first[1:2] == ["serve"]:
            return self.serve(text)
        if first[0].endswith("rotor") and first[1:3] == ["rag", "watch"]:
            return self.watch(text)
        return self.run(re.sub(r"\bcurl ", "curl -sS --fail-with-body --max-time %d " % PATIENCE_S, text))
