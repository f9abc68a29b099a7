# SPDX-License-Identifier: MIT
"""doc_facts and doc_commands: which commands a page has, and each thing it may be wrong about is found."""
import os
import sys

import pytest

ROOT = os.environ["ROTOR_SOURCE_ROOT"]
sys.path.insert(0, os.path.join(ROOT, "tools"))
import doc_commands  # noqa: E402
import doc_facts  # noqa: E402

PAGE = """# Page

```sh
rotor run -p 'two
lines' -n 3        # says more
X=1 curl localhost:8080/v1/models \\
     -H 'a: b' | grep -c id && rotor models >out.txt

rotor pull NAME    # the whole model (not run here: needs the hub)
cat <<END
rotor nothing
END
```

1. A list

    with a paragraph: rotor run is no command

<!-- not run here: needs systemd -->

```console
$ systemctl start rotor
started
$ rotor version
```

```
output
```
"""


@pytest.fixture(scope="module")
def tables():
    return doc_facts.Tables(ROOT)


def test_the_commands_of_a_page():
    found = [(c.line, c.text.split()[0], c.needs) for c in doc_commands.commands(PAGE)]
    assert found == [(4, "rotor", ""), (6, "X=1", ""), (9, "rotor", "the hub"), (10, "cat", ""),
                     (22, "systemctl", "systemd"), (24, "rotor", "systemd")]
    assert doc_commands.words(doc_commands.commands(PAGE)[1].text) == [
        ["curl", "localhost:8080/v1/models", "-H", "a: b"], ["grep", "-c", "id"], ["rotor", "models"]]
    assert not doc_commands.unlabelled(PAGE) and doc_facts.count([PAGE]) == (6, 3)


def test_a_sound_page_passes(tables):
    assert not list(doc_facts.check_page("docs/a.md", PAGE, tables))
    assert not list(doc_facts.check_page("docs/a.md", "`--kv q8`, `GET /v1/models/NAME`, `rotor serve --port 1 -- --x`, `/tmp/x`\n"
                                         "```ini\nthreads = 4\n[serve]\nport = 1\n```\n", tables))


@pytest.mark.parametrize("text, message", [
    ("```sh\nsudo ls\n```", 'docs/a.md:2: the tests cannot run "sudo": add "# not run here: needs …"'),
    ("```sh\nls | ssh there\n```", 'the tests cannot run "ssh"'),
    ("```sh\ncurl https://example.org\n```", "a curl that leaves this machine"),
    ("```sh\nrotor run 'x\n```", "not a command that a shell could read"),
    ("```sh\nrotor run --prot 1\n```", "docs/a.md:2: rotor run has no option --prot"),
    ("```sh\nbuild/rotor run -z\n```", "rotor run has no option -z"),
    ("```sh\nrotor rnu\n```", "rotor has no verb rnu"),
    ("```sh\ncurl -d {} 127.0.0.1:8080/v1/chat\n```", "the server has no route /v1/chat"),
    ("\n\n    rotor run -p x\n", 'docs/a.md:3: "rotor run -p x" looks like a command'),
    ("```\n$ make demo\n```", "looks like a command"),
    ("say `rotor chat --prompt x`", "docs/a.md:1: rotor chat has no option --prompt"),
    ("say `--thraeds 3`", "no program here has an option --thraeds"),
    ("ask `POST /v1/models`", "the server has no route POST /v1/models"),
    ("ask `PUT /v1/rag/stores/STORE/docs`", "the server has no route PUT /v1/rag/stores/STORE/docs"),
    ("ask `/api/tag`", "the server has no route /api/tag"),
    ("see `rotor_lost_total`", "the server has no counter rotor_lost_total"),
    ("```ini\nport = 1\n[chat]\nport = 2\n```", "docs/a.md:4: no setting port in [chat]"),
], ids=lambda value: value[:30])
def test_what_is_wrong_is_found(tables, text, message):
    found = list(doc_facts.check_page("docs/a.md", text + "\n", tables))
    assert len(found) == 1 and message in found[0], found


def test_a_changelog_may_tell_of_what_was(tables):
    assert not list(doc_facts.check_page("CHANGELOG.md", "`--thraeds` is gone\n", tables))
