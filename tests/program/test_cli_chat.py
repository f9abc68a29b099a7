# SPDX-License-Identifier: MIT
"""rotor chat, piped and on a pseudo-terminal."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

QUIET = ["--log-level", "error"]


def chat(rotor, text, *words, **more):
    return rotor("chat", "-n", "12", "--temp", "0", *words, input=text, **more)


# ---- Piped -----------------------------------------------------------------------------------------------------------


def test_piped_only_answers_come_out(rotor):
    r = chat(rotor, "Hello\n", *QUIET)
    assert r.stdout.strip() and r.stdout.endswith("\n") and r.stderr == ""
    assert "\033" not in r.stdout and ">" not in r.stdout
    assert len(chat(rotor, "Hello\nAgain\n", *QUIET).stdout.splitlines()) >= 2
    assert chat(rotor, "", *QUIET).stdout == ""


def messages(rotor, tmp_path, text, *words):
    path = tmp_path / "saved.json"
    chat(rotor, text + "/save %s\n" % path, *QUIET, *words)
    return [(m["role"], m["content"]) for m in json.loads(path.read_text())["messages"]]


def test_turns_are_kept_and_clear_forgets_them(rotor, tmp_path):
    talk = messages(rotor, tmp_path, "Lily saw a cat\nWhat next?\n")
    assert [role for role, _ in talk] == ["user", "assistant"] * 2 and talk[2][1] == "What next?"
    assert messages(rotor, tmp_path, "Lily saw a cat\n/clear\nWhat next?\n") == messages(rotor, tmp_path, "What next?\n")
    used = [int(n) for n in re.findall(r"context (\d+) of", chat(rotor, "A b c\n/ctx\nD e f\n/ctx\n", *QUIET).stderr)]
    assert len(used) == 2 and used[1] > used[0] + 12


def test_undo_and_regen(rotor):
    base = chat(rotor, "A\n", *QUIET).stdout
    assert chat(rotor, "A\n/regen\n", *QUIET).stdout == base * 2
    assert chat(rotor, "A\n/undo\nA\n", *QUIET).stdout == base * 2
    assert "nothing" in chat(rotor, "/undo\n/regen\n", *QUIET).stderr


def test_several_lines_are_one_message(rotor, tmp_path):
    for text in ['"""\nA\nB\n"""\n', "A\\\nB\n"]:
        talk = messages(rotor, tmp_path, text)
        assert len(talk) == 2 and talk[0] == ("user", "A\nB")


def test_save_and_load(rotor, tmp_path):
    path = tmp_path / "talk.json"
    first = chat(rotor, "Hello\n/save %s\nAnd then?\n" % path, *QUIET, "--system", "Be brief").stdout
    assert path.stat().st_mode & 0o777 == 0o600
    d = json.loads(path.read_text())
    assert d["system"] == "Be brief" and [m["role"] for m in d["messages"]] == ["user", "assistant"]
    second = chat(rotor, "/load %s\nAnd then?\n" % path, *QUIET).stdout
    assert first.endswith(second)
    path.write_text('{"messages": [{"role": 1}]}')
    assert "expected a file that /save wrote" in chat(rotor, "/load %s\n/load none\n" % path).stderr
    assert "cannot write" in chat(rotor, "Hi\n/save %s/no/x\n" % tmp_path).stderr


def test_read_puts_a_file_in_front(rotor, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("The cat is red.")
    saved = tmp_path / "talk.json"
    chat(rotor, "/read %s\nWhat colour?\n/save %s\n" % (note, saved))
    content = json.loads(saved.read_text())["messages"][0]["content"]
    assert "The cat is red." in content and content.endswith("What colour?")
    note.write_bytes(b"a\0b")
    assert "not a text file" in chat(rotor, "/read %s\n" % note).stderr


def test_settings_and_lists(rotor):
    r = chat(rotor, "/help\n/set temp 0.5\n/set top-k x\n/set tmep 1\n/show\n/ctx\n/stats\n/system Be nice\n/think\n/frob\n/hlp\n")
    for told in ["/regen", "temp 0.5", "expected a whole number", "did you mean temp?", "stories260K", "context 0 of 512",
                 "no answer yet", "system: Be nice", "no reasoning channel", "no command /frob", "did you mean /help?"]:
        assert told in r.stderr, told
    assert r.stdout == ""
    assert "decode" in chat(rotor, "Hi\n/stats\n").stderr


def test_exit_ends_at_once(rotor):
    for word in ["/exit", "/quit", "/bye"]:
        assert chat(rotor, word + "\nHello\n", *QUIET).stdout == ""


def test_a_conversation_that_does_not_fit_fails_in_words(rotor):
    r = chat(rotor, "word " * 60 + "\n", "-c", "64", *QUIET, status=1)
    assert "/clear makes room" in r.stderr and "--on-full shift" in r.stderr


def test_whole_turns_leave_a_full_context(rotor, tmp_path):
    """The oldest turns go, the text of the model is what it would be without them, and it is said once."""
    path = tmp_path / "talk.json"
    long = "".join("A cat saw number %d here\n" % i for i in range(8))
    r = chat(rotor, long + "/ctx\n/save %s\n" % path, "-c", "96", "--on-full", "shift")
    assert r.stderr.count("no longer sees the oldest") == 2  # when it began, and /ctx
    gone = int(re.findall(r"no longer sees the oldest (\d+) messages", r.stderr)[0])
    talk = json.loads(path.read_text())["messages"]
    assert len(talk) == 16 and gone % 2 == 0 and 0 < gone < 16
    rest = tmp_path / "rest.json"
    rest.write_text(json.dumps({"messages": talk[gone:14]}))
    last = chat(rotor, "/load %s\n%s\n" % (rest, talk[14]["content"]), *QUIET, "-c", "96", "--on-full", "shift").stdout
    assert last.strip() == talk[15]["content"].strip()
    alone = chat(rotor, "word " * 200 + "\n", *QUIET, "-c", "64", "--on-full", "shift", status=1)
    assert "the message alone has" in alone.stderr


def test_a_session_file_continues_a_conversation(rotor, tmp_path):
    path, kept = tmp_path / "talk.session", tmp_path / "kept.session"
    whole = chat(rotor, "A cat\nWhat next?\n", *QUIET).stdout
    first = chat(rotor, "A cat\n", *QUIET, "--session", path).stdout
    assert path.stat().st_mode & 0o777 == 0o600  # what was said is nobody else's
    second = chat(rotor, "What next?\n/save %s\n" % kept, "--session", path)
    assert first + second.stdout == whole and "2 messages" in second.stderr
    third = chat(rotor, "/load %s\n/ctx\n/undo\nWhat next?\n" % kept, "--no-history").stdout
    assert third == second.stdout
    assert "holds a conversation" in rotor("run", "-p", "x", "--session", path, status=2).stderr
    path.write_bytes(b"RotorSes" + bytes(100))
    assert "version 0" in chat(rotor, "A\n", "--session", path, status=1).stderr


def test_speculation_never_changes_a_conversation(rotor, source_root, tmp_path):
    talk = "Tom had a red ball.\nTom had a red ball. Tom had a red\n/regen\n"
    story = source_root / "tests" / "data" / "model" / "stories260K.gguf"
    plain = chat(rotor, talk, *QUIET, "-n", "60").stdout
    assert chat(rotor, talk, *QUIET, "-n", "60", "--lookup").stdout == plain
    assert chat(rotor, talk, *QUIET, "-n", "60", "--draft", story, "--draft-max", "4").stdout == plain
    assert re.search(r"drafts \d+ of \d+ right", chat(rotor, "A\n/stats\n", "--draft", story).stderr)
    other = tmp_path / "other.gguf"
    rotor("synth", "bitnet-tiny", "-o", other)
    r = chat(rotor, "Hi\n", *QUIET, "--draft", other, status=2)
    assert "cannot draft for stories260K" in r.stderr and r.stdout == ""


def test_edit_needs_a_terminal(rotor):
    r = chat(rotor, "/edit\n", env={"EDITOR": "false"})
    assert "/edit needs a terminal" in r.stderr and r.stdout == ""


# ---- On a terminal ---------------------------------------------------------------------------------------------------


class Terminal:
    def __init__(self, home, *words, env=None):
        self.seen = ""
        pid, self.fd = pty.fork()
        if pid == 0:
            os.environ.update({"HOME": str(home), "TERM": "xterm", "XDG_STATE_HOME": "", **(env or {})})
            os.environ.pop("NO_COLOR", None) if not env or "NO_COLOR" not in env else None
            binary = os.environ["ROTOR_BINARY"]
            os.execv(binary, [binary, "chat", "--temp", "0", *words])
        self.pid = pid

    def read_until(self, pattern, limit_s=120):
        """Everything up to a match of the pattern after what was matched before."""
        end = time.monotonic() + limit_s
        while not (m := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], "no %r in %r" % (pattern, self.seen)
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                data = b""
            assert data, "ended without %r: %r" % (pattern, self.seen)
            self.seen += data.decode("utf-8", "replace")
        text, self.seen = self.seen[:m.end()], self.seen[m.end():]
        return text

    def send(self, text):
        os.write(self.fd, text.encode())

    def wait(self, limit_s=120):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            while select.select([self.fd], [], [], 0)[0]:
                try:
                    data = os.read(self.fd, 4096)
                except OSError:
                    break
                if not data:
                    break
                self.seen += data.decode("utf-8", "replace")
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise AssertionError("still running: %r" % self.seen)

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


PROMPT = r"\[\d+/\d+\] > "


@pytest.fixture()
def terminal(tmp_path):
    opened = []

    def start(*words, env=None):
        t = Terminal(tmp_path, *words, env=env)
        opened.append(t)
        return t
    yield start
    for t in opened:
        t.close()


def test_prompt_meter_answer_speed_and_leaving(terminal):
    t = terminal("-n", "12")
    assert "/help lists commands" in t.read_until(PROMPT)
    t.send("Hello\r")
    shown = t.read_until(r"context (\d+) of 512")
    assert "prompt " in shown and "decode 12 tok" in shown
    meter = t.read_until(PROMPT)
    used = int(re.search(r"\[(\d+)/512\]", meter).group(1))
    assert used > 12
    t.send("\x04")  # Ctrl-D
    assert t.wait() == 0


def test_help_and_exit(terminal):
    t = terminal()
    t.read_until(PROMPT)
    t.send("/help\r")
    assert "/regen" in t.read_until("Ctrl-D leaves")
    t.read_until(PROMPT)
    t.send("/exit\r")
    assert t.wait() == 0


def test_multi_line_message(terminal, tmp_path):
    t = terminal("-n", "4")
    t.read_until(PROMPT)
    t.send('"""\rfirst\r')
    t.read_until(r"\.\.\. ")
    t.send('second\r"""\r')
    t.read_until(r"context \d+ of")
    t.read_until(PROMPT)
    t.send("/save %s\r" % (tmp_path / "talk.json"))
    t.read_until("saved to")
    assert json.loads((tmp_path / "talk.json").read_text())["messages"][0]["content"] == "first\nsecond"


@pytest.fixture()
def editor(tmp_path):
    """An editor that notes what it was given and writes what it is told."""
    path = tmp_path / "my editor"
    path.write_text('#!/bin/sh\ncp "$2" "$1.given"\ncat "$1.text" >"$2"\n')
    path.chmod(0o755)
    notes = tmp_path / "notes"

    def write(text):
        (tmp_path / "notes.text").write_text(text)
    write.env = {"VISUAL": "'%s' '%s'" % (path, notes), "EDITOR": "false", "TMPDIR": str(tmp_path)}
    write.given = lambda: (tmp_path / "notes.given").read_text()
    return write


def saved(t, tmp_path):
    t.send("/save %s\r" % (tmp_path / "talk.json"))
    t.read_until("saved to")
    return [m["content"] for m in json.loads((tmp_path / "talk.json").read_text())["messages"]]


def test_edit_sends_what_the_editor_wrote(terminal, tmp_path, editor):
    t = terminal("-n", "4", env=editor.env)
    t.read_until(PROMPT)
    editor("Hello\n/two caf\u00e9\n\n")
    t.send("/edit a start\r")
    t.read_until("/two caf\u00e9\r?\n")
    t.read_until(r"context \d+ of")
    t.read_until(PROMPT)
    assert editor.given() == "a start"
    editor(" \n")
    t.send("/edit\r")
    t.read_until("nothing sent")
    t.read_until(PROMPT)
    assert saved(t, tmp_path)[0] == "Hello\n/two caf\u00e9" and len(saved(t, tmp_path)) == 2
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("rotor-")]


def test_ctrl_g_edits_the_line(terminal, tmp_path, editor):
    t = terminal("-n", "4", env=editor.env)
    t.read_until(PROMPT)
    editor("one caf\u00e9\ntwo")
    t.send("d\u00e9but end\x02\x02")  # the cursor stands inside the line
    t.read_until("but end")
    t.send("\x07")
    t.read_until("two")
    assert editor.given() == "d\u00e9but end"
    t.send(" and more\r")
    t.read_until(r"context \d+ of")
    t.read_until(PROMPT)
    assert saved(t, tmp_path)[0] == "one caf\u00e9\ntwo and more"


def test_an_editor_that_fails_is_told(terminal, tmp_path):
    t = terminal("-n", "4", env={"VISUAL": "", "EDITOR": "sh -c 'exit 3'", "TMPDIR": str(tmp_path)})
    t.read_until(PROMPT)
    t.send("/edit\r")
    t.read_until("the editor 'sh -c 'exit 3'' failed")
    t.read_until(PROMPT)
    t.send("kept\x07")
    t.read_until("failed")
    t.read_until("kept")
    t.send("\r")
    t.read_until(r"context \d+ of")
    t.read_until(PROMPT)
    assert saved(t, tmp_path)[0] == "kept"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("rotor-")]


def test_history_is_kept_between_runs(terminal, tmp_path):
    t = terminal("-n", "2")
    t.read_until(PROMPT)
    t.send("/ctx remembered\r")
    t.read_until("messages")
    t.read_until(PROMPT)
    t.send("\x04")
    assert t.wait() == 0
    assert (tmp_path / ".local" / "state" / "rotor" / "history").exists()
    again = terminal("-n", "2")
    again.read_until(PROMPT)
    again.send("\x1b[A")  # up
    again.read_until("/ctx remembered")
    again.send("\x15\x04")  # clear the line, leave
    assert again.wait() == 0


def test_history_can_be_switched_off(terminal, tmp_path):
    t = terminal("--no-history")
    t.read_until(PROMPT)
    t.send("/ctx\r")
    t.read_until(PROMPT)
    t.send("\x04")
    assert t.wait() == 0 and not (tmp_path / ".local").exists()


def test_interrupt_stops_the_answer_only_and_a_second_leaves(terminal, rotor, tmp_path):
    model = tmp_path / "slow.gguf"
    rotor("synth", "bitnet-2b4t", "-o", model, "--layers", "2")
    t = terminal(str(model), "-c", "2048", "--stop", "never said")
    t.read_until(PROMPT)
    t.send("Go on\r")
    t.read_until(r"Go on\r?\n")
    time.sleep(1.0)
    t.send("\x03")
    t.read_until(PROMPT)  # the program is still there
    t.send("/ctx\r")
    t.read_until("2 messages")
    t.read_until(PROMPT)
    t.send("\x03")
    t.read_until("Ctrl-C again")
    t.read_until(PROMPT)
    t.send("\x03")
    assert t.wait() == 0


def test_colours_only_when_wanted(terminal):
    for env, styled in [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]:
        t = terminal("-n", "3", env=env)
        t.read_until(PROMPT)
        t.send("Hi\r")
        shown = t.read_until(r"context \d+ of 512")
        assert ("\033[2m" in shown) == styled, env
        t.send("\x04")
