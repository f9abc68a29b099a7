# SPDX-License-Identifier: MIT
"""The commands of the documentation do what it says: each page is read from its top by somebody who types them all, but for
those that carry the mark "not run here: needs …" (tools/doc_commands.py)."""
import pytest

from reader import ROOT, Reader, doc_commands

PAGES = [path for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md")))
         if any(not command.needs for command in doc_commands.commands(path.read_text()))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_commands_of_a_page(page, tmp_path):
    reader = Reader(tmp_path, page.read_text())
    wrong = []
    try:
        for command in doc_commands.commands(page.read_text()):
            fault = None if command.needs else reader.type(command)
            if fault:
                wrong.append("%s:%d: %s\n    %s" % (page.relative_to(ROOT), command.line, command.text, fault.replace("\n", "\n    ")))
        fault = reader.close()
        if fault:
            wrong.append("%s: its server %s" % (page.relative_to(ROOT), fault))
    finally:
        reader.close()
    assert not wrong, "\n".join(wrong)
