# SPDX-License-Identifier: MIT
"""Settings from the command line, ROTOR_<NAME> and the configuration file, as docs/configuration.md tells them."""
import os
import re
import subprocess




def test_who_wins(rotor, tmp_path):
    general, section = tmp_path / "general", tmp_path / "section"
    general.write_text("log-level = fromgeneral\n")
    section.write_text("log-level = error\n[serve]\nlog-level = fromsection\n")
    assert "general:1: log-level fromgeneral" in rotor("tokenize", "embedded", "a", "--config", general, status=2).stderr
    assert "section:3: log-level fromsection" in rotor("tokenize", "embedded", "a", "--config", section, status=2).stderr  # all is checked
    # Each of the four in turn: the last word is the strongest's.
    section.write_text("temp = 0\n[run]\ntemp = 90\n")

    def loud(*words, **env):
        return rotor("run", "-p", "Once upon a time", "-n", "8", "--seed", "1", *words,
                     env={"ROTOR_CONFIG": str(section), **env}).stdout

    greedy = rotor("run", "-p", "Once upon a time", "-n", "8", "--temp", "0").stdout
    assert loud() != greedy                                                # section over general
    assert loud(ROTOR_TEMP="0") == greedy                                  # variable over file
    assert loud("--temp", "90", ROTOR_TEMP="0") == loud() != greedy        # command line over variable
    section.write_text("temp = 0\n[chat]\ntemp = 90\n")
    assert loud() == greedy                                                # another verb's section is not ours


def test_the_file_is_where_the_base_directories_say(rotor, tmp_path):
    (tmp_path / "rotor").mkdir()
    (tmp_path / "rotor" / "config").write_text("nonsense = 1\n")
    named = {k: v for k, v in os.environ.items() if k != "ROTOR_CONFIG"}

    def run(*words, **env):
        return subprocess.run([os.environ["ROTOR_BINARY"], "tokenize", "embedded", "a", *words], env={**named, **env}, text=True,
                              capture_output=True, timeout=300)

    assert "rotor/config:1: no setting 'nonsense'" in run(XDG_CONFIG_HOME=str(tmp_path)).stderr
    (tmp_path / ".config").symlink_to(tmp_path)
    assert "rotor/config:1: no setting 'nonsense'" in run(XDG_CONFIG_HOME="", HOME=str(tmp_path)).stderr
    assert run("--config", "none", XDG_CONFIG_HOME=str(tmp_path)).returncode == 0
    assert run(XDG_CONFIG_HOME=str(tmp_path / "nowhere")).returncode == 0  # the usual file need not be there
    other = tmp_path / "other"
    other.write_text("")
    assert run("--config", str(other), XDG_CONFIG_HOME=str(tmp_path)).returncode == 0
    missing = run("--config", str(tmp_path / "missing"))  # one that was named must
    assert missing.returncode != 0 and "missing" in missing.stderr


def test_errors_name_file_line_and_neighbour(rotor, tmp_path):
    config = tmp_path / "c"
    for text, told in [("[serve]\nprot = 1\n", "c:2: no setting 'prot' in [serve]; did you mean 'port'?"),
                       ("[srve]\n", "c:1: no verb 'srve'; did you mean [serve]?"),
                       ("temp = 1\ntemp = 2\n", "c:2: temp is set in line 1 already"),
                       ("prompt = x\n", "c:1: 'prompt' belongs to one run"),
                       ("a\0b = 1\n", "there is a zero byte in it")]:
        config.write_text(text)
        assert told in rotor("tokenize", "embedded", "a", "--config", config, status=2).stderr


def test_a_key_that_others_can_read_is_told(rotor, tmp_path):
    config = tmp_path / "c"
    config.write_text("[serve]\napi-key = secret-word\n")
    config.chmod(0o644)
    told = rotor("tokenize", "embedded", "a", "--config", config).stderr
    assert "holds a key and others can read it: chmod 600" in told and "secret-word" not in told
    config.chmod(0o600)
    assert rotor("tokenize", "embedded", "a", "--config", config).stderr == ""
    config.write_text("[serve]\nport = 1\n")
    config.chmod(0o644)
    assert rotor("tokenize", "embedded", "a", "--config", config).stderr == ""


def test_help_and_document_agree_on_what_cannot_be_saved(rotor, source_root):
    text = re.sub(r"\s+", " ", rotor("serve", "--help").stdout)
    assert "--config FILE" in text and "docs/configuration.md" in text
    assert "may also come from variables" in text and "--model" not in text
    said = re.sub(r"\s+", " ", rotor("run", "--help").stdout).split("but for ")[1].rstrip(". ")
    document = (source_root / "docs" / "configuration.md").read_text()
    for name in said.split(", "):
        assert "`%s`" % name in document, name


def test_help_and_version_answer_whatever_the_settings_are(rotor, tmp_path):
    config = tmp_path / "c"
    config.write_text("no-such-setting = 1\n")
    bad = {"ROTOR_CONFIG": str(config), "ROTOR_LOG_LEVEL": "loud"}
    assert "no setting 'no-such-setting'" in rotor("tokenize", "embedded", "a", env={"ROTOR_CONFIG": str(config)}, status=2).stderr
    for words in (["version"], ["help"], ["help", "run"], ["help", "--man", "run"], ["help", "--complete", "--", "run", "--kv="]):
        answer = rotor(*words, env=bad)
        assert answer.stdout == rotor(*words).stdout != "" and answer.stderr == ""
