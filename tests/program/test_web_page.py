# SPDX-License-Identifier: MIT
"""The page of `rotor serve` as it is built: the same bytes each time, small, fetching nothing, with a
policy that fits. What it does in a browser is in tests/browser."""
import base64
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOOL = ROOT / "tools" / "web_page.py"


def build(web, out):
    return subprocess.run([sys.executable, str(TOOL), str(web), str(out)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "page.html"
    done = build(ROOT / "web", out)
    assert done.returncode == 0, done.stderr
    return out.read_bytes().decode()


@pytest.fixture()
def web(tmp_path):
    return shutil.copytree(ROOT / "web", tmp_path / "web")


def c_value(source, name):
    """The bytes of a C string literal, as the compiler takes it."""
    literal = re.search(r"const char %s\[\] =\s*(.*?);\n" % name, source, re.S)[1]
    inside = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literal)).encode()
    known = {b"n": b"\n", b'"': b'"', b"\\": b"\\", b"?": b"?"}
    return re.sub(rb"\\([0-7]{3}|.)", lambda m: known.get(m[1]) or bytes([int(m[1], 8)]), inside)


def test_the_same_sources_give_the_same_bytes(tmp_path, html):
    for name in ("a.c", "b.c"):
        assert build(ROOT / "web", tmp_path / name).returncode == 0
    source = (tmp_path / "a.c").read_text()
    assert source == (tmp_path / "b.c").read_text()
    assert c_value(source, "serve_page").decode() == html
    assert re.fullmatch(r'"[0-9a-f]{32}"', c_value(source, "serve_page_etag").decode())


def test_the_c_compiler_agrees(tmp_path, html):
    """Trigraphs, long literals, bytes above 127: what the program holds is the page."""
    assert build(ROOT / "web", tmp_path / "page.c").returncode == 0
    (tmp_path / "show.c").write_text('#include <stdio.h>\n#include "serve/page.h"\n'
                                     "int main(void) { return fwrite(serve_page, 1, serve_page_size, stdout) != serve_page_size; }\n")
    subprocess.run(["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "src", "show.c", "page.c", "-o", "show"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "show"], capture_output=True, check=True).stdout.decode() == html


def test_it_is_small_and_fetches_nothing(html):
    assert len(html.encode()) < 300_000
    for found in re.findall(r"""(?:src|href|action)\s*=\s*["']([^"'$]*)|url\(([^)]*)\)|@import\s+([^;]*)""", html):
        target = "".join(found)
        assert re.match(r"data:image/svg|#", target), target
    named = set(re.findall(r"https?://[\w./:-]+", html)) - {"http://www.w3.org/2000/svg"}  # a namespace
    assert not named, named
    fetches = re.findall(r'\bfetch\(([^,)]*)|\bcall\("([^"]*)"', html)
    assert sorted(filter(None, (a or b for a, b in fetches))) == ["path", "props", "v1/chat/completions", "v1/models", "v1/rag/stores"]


def test_the_policy_names_exactly_what_is_inside(tmp_path, html):
    assert build(ROOT / "web", tmp_path / "page.c").returncode == 0
    policy = c_value((tmp_path / "page.c").read_text(), "serve_page_policy").decode()
    rules = {rule.split(" ", 1)[0]: rule.split(" ", 1)[1] for rule in policy.split("; ")}

    def sha(element):
        inside = re.findall(r"<%s\b[^>]*>(.*?)</%s>" % (element, element), html, re.S)
        assert len(inside) == 1
        return "'sha256-%s'" % base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
    assert rules["script-src"] == sha("script") and rules["style-src"] == sha("style")
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert rules["connect-src"] == "'self'" and rules["img-src"] == "data:"
    assert rules["require-trusted-types-for"] == "'script'" and "unsafe" not in policy and "*" not in policy
    assert "\n" not in policy and "\r" not in policy


def test_nothing_turns_text_into_markup():
    """The tool refuses it too; this reads the sources on its own."""
    for path in sorted((ROOT / "web").glob("*.js")):
        code = re.sub(r"//[^\n]*", "", path.read_text())
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|DOMParser", code), path.name


def test_every_module_is_a_chapter_and_is_used(html):
    for path in sorted((ROOT / "web").glob("*.js")):
        text = path.read_text()
        assert text.startswith("// SPDX-License-Identifier: MIT\n//\n// %s: " % path.stem), path.name
        assert "// ==== web/%s " % path.name in html, "%s is not part of the page" % path.name
        assert len(text.splitlines()) <= 600, path.name


@pytest.mark.parametrize("name, old, new, complaint", [
    ("main.js", "new Page().start();", "document.body.innerHTML = name;\nnew Page().start();", "turns text into markup"),
    ("main.js", "new Page().start();", "eval(name);\nnew Page().start();", "turns text into markup"),
    ("main.js", "new Page().start();", "const Store = 1;\nnew Page().start();", "is taken by"),
    ("main.js", "new Page().start();", 'const x = "</script>";\nnew Page().start();', "would end the script"),
    ("main.js", "addNode, leaf,", "addNode, leav,", "does not export leav"),
    ("main.js", "new Page().start();", 'import x from "y";\nnew Page().start();', "are known"),
    ("index.html", "<body>", '<body><img src="https://example.org/x.png">', "would be fetched"),
    ("index.html", "<body>", '<body onload="x()">', "belong in their own files"),
    ("index.html", "<body>", '<body style="margin:0">', "belong in their own files"),
    ("style.css", "html {", '@import "x.css"; html {', "would be fetched"),
    ("style.css", "html {", "html { background: url(/x.png);", "would be fetched"),
    ("style.css", "html {", "/* %s */ html {" % ("x" * 300_000), "the limit is 300000"),
], ids=lambda value: value[:24])
def test_the_tool_refuses(web, tmp_path, name, old, new, complaint):
    text = (web / name).read_text()
    assert old in text
    (web / name).write_text(text.replace(old, new, 1))
    done = build(web, tmp_path / "out.c")
    assert done.returncode == 1 and complaint in done.stderr and not (tmp_path / "out.c").exists(), done.stderr
