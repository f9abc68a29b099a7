# SPDX-License-Identifier: MIT
"""make_site: the site is whole (every link and anchor leads somewhere in it, every page can be reached, nothing is fetched
from elsewhere), and what is broken in a page is found."""
import html.parser
import json
import os
import pathlib
import re
import shutil
import sys

import pytest

ROOT = pathlib.Path(os.environ["ROTOR_SOURCE_ROOT"])
sys.path.insert(0, str(ROOT / "tools"))
import make_site  # noqa: E402
import markdown_page  # noqa: E402

pytestmark = pytest.mark.skipif(markdown_page.library() is None, reason="no md4c")


class Found(html.parser.HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.fetched, self.ids, self.open = [], [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.links.append(values["href"])
        elif "src" in values or tag == "link":
            self.fetched.append(values.get("src") or values["href"])
        if tag not in ("meta", "link", "img", "input", "br", "hr", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "path":
            assert self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "site"
    made = make_site.make(str(ROOT), str(out))
    assert made.faults == []
    return out


def test_every_link_leads_somewhere_and_every_page_can_be_reached(site):
    pages = {path.name: Found(path) for path in site.glob("*.html")}
    for name, page in pages.items():
        assert not page.open and len(set(page.ids)) == len(page.ids), name
        for href in page.links:
            if not re.match(r"[a-z]+:", href):
                target, _, anchor = href.partition("#")
                assert (site / (target or name)).is_file(), (name, href)
                assert not anchor or anchor in pages[target or name].ids, (name, href)
        for source in page.fetched:
            assert not re.match(r"[a-z]+:|/", source) and (site / source).is_file(), (name, source)
    seen, todo = set(), ["index.html"]
    while todo:
        seen.add(todo[0])
        todo += {href.split("#")[0] for href in pages[todo.pop(0)].links} & pages.keys() - seen - set(todo)
    assert seen == pages.keys()
    written = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert written <= {name[:-len(".html")] for name in pages} and "options.html" in pages


def test_the_index_of_the_search_leads_to_what_it_says(site):
    rows = json.loads((site / "search.js").read_text()[len("window.searchIndex = "):].rstrip(";\n"))
    pages = {path.name: Found(path).ids for path in site.glob("*.html")}
    assert len(rows) > 150 and {row[0].split("#")[0] for row in rows} == pages.keys()
    for address, _, _, _ in rows:
        name, _, anchor = address.partition("#")
        assert not anchor or anchor in pages[name], address
    assert any(row[0] == "rag.html#asking" and "Citations" in row[3] for row in rows)


def test_nothing_is_asked_of_other_machines(site):
    for name in ("style.css", "site.js"):
        text = (site / name).read_text()
        assert not re.search(r"https?://|@import|fetch\(|XMLHttpRequest|innerHTML", text), name


def tree(folder, pages):
    """A tree with the sources that pages are made of, and these pages of docs/."""
    for path in ("src/cli", "src/serve", "src/model/arch.c", "src/quant", "src/base/block_stream.c", "include", "docs/site", "web"):
        goal = folder / path
        goal.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, goal)
    # What the pages from the tables lead to.
    (folder / "README.md").write_text("# R\n\n## Status\n\n")
    for name in ("serving.md", "documents.md", "configuration.md", "devices.md"):
        (folder / "docs" / name).write_text("# %s\n\n## Routes\n\n## Limits\n\n" % name)
    for name, text in pages.items():
        (folder / "docs" / name).write_text(text)
    (folder / "docs" / "reading-order.txt").write_text("Part\n    ../README.md\n" + "".join("    %s\n" % name for name in pages))
    return str(folder)


def test_what_is_broken_is_found(tmp_path):
    pages = {"a.md": "# A\n\n[x](b.md#no) [y](gone.md) ![z](gone.png) [w](b.md#two-b) [v](#a)\n<img src='q' src=\"far.png\">\n",
             "b.md": "text\n\n## Two b\n"}
    made = make_site.make(tree(tmp_path / "tree", pages), str(tmp_path / "out"))
    assert sorted(made.faults) == ["docs/a.md: a link to b.md#no: that page has no such heading",
                                   "docs/a.md: a link to gone.md, which is not there",
                                   "docs/a.md: a picture far.png, which is not in the tree",
                                   "docs/a.md: a picture gone.png, which is not in the tree"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(SystemExit):
        make_site.make(tree(tmp_path / "tree", {}), str(tmp_path / "out"))
    assert (tmp_path / "out" / "letter.txt").read_text() == "dear"


def test_markdown_becomes_what_github_makes_of_it():
    def made(text):
        return markdown_page.Page(text).html.replace("\n", "")
    assert made("# A `b` & c!") == '<h1 id="a-b--c">A <code class="short">b</code> &amp; c!</h1>'
    page = markdown_page.Page("## It's 1.5\n\n## It's 1.5\n")
    assert [anchor for _, anchor, _ in page.headings] == ["its-15", "its-15-1"]
    assert '<td class="to-right"><code class="short">a|b</code></td>' in made("| x | y |\n|--:|---|\n| `a\\|b` | 2 |\n")
    assert made("```sh\nls <a  # b\n```") == ('<div class="code" data-language="sh"><pre tabindex="0"><code>ls &lt;a  '
                                              '<span class="comment"># b</span></code></pre></div>')
    assert made("<!-- not run here: needs x -->\n\n3. a\n4. [b](c \"d\")") == '<ol start="3"><li>a</li><li><a href="c">b</a></li></ol>'
    assert made("![a *b*](c.png)") == '<p><img src="c.png" alt="a b" loading="lazy"></p>'
