# SPDX-License-Identifier: MIT
"""rotor-extract: what it makes of documents, where it says they stand, and what it refuses.

The program runs itself as the limited child that a knowledge store runs: every case here goes through
the sandbox, the stream of blocks and its check. Documents are made here, from nothing.
"""
import base64
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import zipfile

import pytest

import documents

EXTRACT = os.path.join(os.path.dirname(os.environ["ROTOR_BINARY"]), "rotor-extract")
FEATURES = subprocess.run([EXTRACT, "--features"], capture_output=True, text=True).stdout
needs_xml = pytest.mark.skipif("libxml2: yes" not in FEATURES, reason="built without libxml2")
needs_zip = pytest.mark.skipif("libxml2: yes" not in FEATURES or "libarchive: yes" not in FEATURES,
                               reason="built without libarchive or libxml2")
needs_md4c = pytest.mark.skipif("md4c: yes" not in FEATURES, reason="built without md4c")
needs_pdf = pytest.mark.skipif(not shutil.which("pdftotext"), reason="no pdftotext")


class Result:
    def __init__(self, done, data):
        self.status, self.error, self.data = done.returncode, done.stderr, data
        self.blocks = [json.loads(line) for line in done.stdout.splitlines()]

    def brief(self):
        """(kind, text) of each, with the level before the text where there is one."""
        return [(b["kind"], *([b["level"]] if "level" in b else []), b["text"]) for b in self.blocks]

    def texts(self, kind="para"):
        return [b["text"] for b in self.blocks if b["kind"] == kind]

    def source(self, b):
        return self.data[b["byte_begin"]:b["byte_end"]]


def processor_s():
    """Seconds of processor time of all programs that were run so far: a busy machine takes longer, but not more."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def extract(tmp_path):
    """extract(data, "name.md", status=0): the blocks. The last line of stderr names the reason."""
    def run(data, name, *args, status=0, reason=None):
        data = data.encode() if isinstance(data, str) else data
        path = tmp_path / name
        path.write_bytes(data)
        done = subprocess.run([EXTRACT, "--json", *args, str(path)], capture_output=True, text=True, timeout=300)
        assert done.returncode == (1 if reason else status), done.stderr
        if reason:
            assert re.match(r"rotor-extract: %s: .+" % reason, done.stderr), done.stderr
            assert len(done.stderr.splitlines()) == 1
        return Result(done, data)
    return run


def check_spans(result, squeeze=lambda s: s):
    """Each block's bytes hold its text, and its lines are those of the bytes."""
    for b in result.blocks:
        if "byte_end" not in b:
            continue
        assert squeeze(result.source(b).decode()).split() == b["text"].split(), b
        assert b["line_begin"] == result.data[:b["byte_begin"]].count(b"\n") + 1, b
        assert b["line_end"] == result.data[:b["byte_end"]].rstrip(b"\n").count(b"\n") + 1, b


# ---- Formats -------------------------------------------------------------------------------------


def test_text_is_paragraphs(extract):
    r = extract("One\ntwo.\n\n \n\nThree.\r\n\r\nFour", "n.txt")
    assert r.brief() == [("doc", "n.txt"), ("para", "One\ntwo."), ("para", "Three."), ("para", "Four")]
    check_spans(r)


@needs_md4c
def test_markdown(extract):
    r = extract("---\ntitle: \"My note\"\ntags: [a, b]\nsecret: x\n---\n# One *two*\n\nSome **bold** &amp; `code`,\n"
                "[a link](http://x).\n\n1. first\n   - deep\n2. second\n\n```py\ndef f():\n    pass\n```\n\n"
                "| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n\nSetext\n------\n\n<div>raw</div>\n", "n.md")
    assert r.brief() == [
        ("doc", "My note"), ("meta", "tags=[a, b]"), ("heading", 1, "One two"),
        ("para", "Some bold & code,\na link."), ("list", 1, "first"), ("list", 2, "deep"), ("list", 1, "second"),
        ("code", "def f():\n    pass"), ("row", 1, "a | b"), ("row", "1 | 2"), ("para", "quoted"),
        ("heading", 2, "Setext"), ("para", "raw")]
    check_spans(r, lambda s: re.sub(r"[*`\[]|\]\(.*?\)|</?div>", "", s).replace("&amp;", "&"))
    assert r.blocks[2]["line_begin"] == 6 and r.blocks[3]["line_end"] == 9


def test_markdown_title_is_its_first_heading_or_its_name(extract):
    assert extract("text\n\n# The title #\n", "n.md").blocks[0]["text"].startswith("The title")
    assert extract("text\n", "n.md").blocks[0]["text"] == "n.md"


@needs_xml
def test_html(extract):
    page = ("<!DOCTYPE html>\n<html lang=\"en\"><head><title>T &amp; t</title><meta name=author content=Ann>\n"
            "<style>p {}</style><script>var no = '<p>no</p>';</script></head><body>\n<nav>menu</nav>\n"
            "<h1>Big <em>one</em></h1>\n<p>First\npara, line<br>end.</p>\n<div hidden>no</div><p style='display : none'>no</p>\n"
            "<ul><li>one<li>two <b>b</b><ul><li>deep</ul></ul>\n<pre>\n  a\n   b</pre>\n"
            "<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td><p>2</p><p>3 &euro;</p></td></tr></table>\n"
            "<div>loose<p>last &copy; one</div></body></html>\n")
    r = extract(page, "n.html")
    assert r.brief() == [
        ("doc", "T & t"), ("meta", "lang=en"), ("meta", "author=Ann"), ("heading", 1, "Big one"),
        ("para", "First para, line\nend."), ("list", 1, "one"), ("list", 1, "two b"), ("list", 2, "deep"),
        ("code", "  a\n   b"), ("row", 1, "A | B"), ("row", "1 | 2 3 €"), ("para", "loose"), ("para", "last © one")]
    check_spans(r, lambda s: re.sub(r"<br>", " ", re.sub(r"</td><td>", " | ", re.sub(r"</th><th>", " | ", s)))
                .replace("<em>", "").replace("</em>", "").replace("<b>", "").replace("<p>", " ").replace("</p>", " ")
                .replace("&euro;", "€").replace("&copy;", "©"))


@needs_xml
def test_html_text_between_entities(extract):
    r = extract("<p>\n&euro; 5 &amp; more&hellip;\n</p>", "n.html")
    assert r.texts() == ["€ 5 & more…"] and r.source(r.blocks[1]) == b"&euro; 5 &amp; more&hellip;"


@needs_xml
def test_html_in_other_encodings(extract):
    page = '<meta charset="iso-8859-1"><p>Stra\xdfe</p>'
    assert extract(page.encode("latin-1"), "n.html").texts() == ["Straße"]
    assert extract('<p>Straße</p>'.encode("utf-16"), "n.html").texts() == ["Straße"]
    r = extract('<meta charset="koi8-r"><p>\xe9\xea\xeb</p>'.encode("latin-1"), "n.html")
    assert "koi8-r" in r.texts("note")[0]  # said, not silently wrong


@needs_xml
def test_html_layout_tables_are_text(extract):
    r = extract("<table><tr><td><h2>Head</h2><p>Body text<ul><li>item</ul></td><td>side</td></tr></table>", "n.html")
    assert [b["kind"] for b in r.blocks] == ["doc", "heading", "para", "list", "para"]


@needs_pdf
def test_pdf(extract):
    words = ["zero", "one", "two", "three", "four", "five"]
    pages = [["My Journal", "Here is %s in an exam-" % words[n], "ple paragraph.", "", "And %s." % words[n], "Page %d" % n]
             for n in range(1, 6)]
    r = extract(documents.pdf(pages), "n.pdf")
    assert [b["page"] for b in r.blocks if b["kind"] == "page"] == [1, 2, 3, 4, 5]
    text = [(b["page"], b["text"]) for b in r.blocks if b["kind"] == "para"]
    assert text == [(n, t) for n in range(1, 6) for t in ("Here is %s in an example paragraph." % words[n], "And %s." % words[n])]


@needs_pdf
def test_pdf_few_pages_keep_all_lines(extract):
    assert "My Journal" in " ".join(extract(documents.pdf([["My Journal", "text"]]), "n.pdf").texts())


@needs_pdf
def test_pdf_that_cannot_be_read(extract):
    good = documents.pdf([["text"]])
    extract(documents.pdf([["text"]], encrypt=True), "n.pdf", reason="encrypted")
    extract(b"%PDF-1.4\nnothing of the kind", "n.pdf", reason="broken")
    extract(documents.pdf([[]]), "n.pdf", reason="empty")
    extract(good, "n.pdf", "--pdftotext", "/nonexistent/pdftotext", reason="missing_tool")


def docx_body():
    cell = "<w:tc>%s</w:tc>"
    row = "<w:tr>%s</w:tr>"
    return (documents.paragraph("Head", "berschrift1") + documents.paragraph("Plain &amp; simple") +
            documents.paragraph("item", props="<w:numPr><w:ilvl w:val=\"1\"/></w:numPr>") +
            '<w:p><w:r><w:t>split </w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>'
            '<w:r><w:t>run</w:t><w:br/><w:t>next</w:t></w:r></w:p>' +
            "<w:tbl>%s%s</w:tbl>" % (row % (cell % documents.paragraph("a") + cell % documents.paragraph("b")),
                                     row % (cell % (documents.paragraph("1") + documents.paragraph("2")) + cell % documents.paragraph("3"))))


@needs_zip
def test_docx(extract):
    notes = '<w:footnotes %s><w:footnote>%s</w:footnote></w:footnotes>' % (documents.W, documents.paragraph("a note"))
    r = extract(documents.docx(docx_body(), "The Title", extra=[("word/footnotes.xml", notes)]), "n.docx")
    assert r.brief() == [("doc", "The Title"), ("meta", "author=Ann"), ("heading", 1, "Head"), ("para", "Plain & simple"),
                         ("list", 2, "item"), ("para", "split run\nnext"), ("row", "a | b"), ("row", "1 2 | 3"), ("para", "a note")]
    assert not any("byte_end" in b or "line_end" in b for b in r.blocks)


@needs_zip
def test_epub(extract):
    r = extract(documents.epub(["<h1>One</h1><p>text &#233;</p>", "<h1>Two</h1><p>more<br/>lines</p>"]), "n.epub")
    assert r.brief() == [("doc", "Book"), ("meta", "author=Bo"), ("meta", "lang=en"), ("meta", "part=OPS/text/c 0.xhtml"),
                         ("heading", 1, "One"), ("para", "text é"), ("meta", "part=OPS/text/c 1.xhtml"),
                         ("heading", 1, "Two"), ("para", "more\nlines")]


@needs_zip
def test_archives_with_a_lock(extract, tmp_path):
    locked = '<encryption><EncryptedData><CipherReference URI="OPS/text/c%20{}.xhtml"/></EncryptedData></encryption>'
    extract(documents.epub(["<p>x"], extra=[("META-INF/encryption.xml", locked.format(0))]), "n.epub", reason="encrypted")
    data = bytearray(documents.docx(documents.paragraph("x")))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):  # the bit that says "a password", in every entry
        at = data.find(mark)
        while at >= 0:
            data[at + (6 if mark[2] == 3 else 8)] |= 1
            at = data.find(mark, at + 4)
    extract(bytes(data), "n.docx", reason="encrypted")


def test_tables(extract):
    r = extract('name;note\n"Smith; J";"said ""hi""\nand left"\nBo;\n', "n.csv")
    assert r.brief() == [("doc", "n.csv"), ("row", 1, "name | note"),
                         ("row", 'name: Smith; J | note: said "hi"\nand left'), ("row", "name: Bo")]
    assert [(b["line_begin"], b["line_end"]) for b in r.blocks[1:]] == [(1, 1), (2, 3), (4, 4)]
    assert r.source(r.blocks[3]) == b"Bo;\n"
    assert extract("1\t2\n3\t4\n", "n.tsv").brief()[1:] == [("row", "1 | 2"), ("row", "3 | 4")]


def test_json(extract):
    r = extract('{"a": {"b": [1, "x"], "c": null, "g": {"h": 2}}, "d": true, "e": "f\\ng"}', "n.json")
    assert r.texts() == ["a.b[0]: 1\na.b: x\na.g.h: 2", "d: true", "e: f\ng"]
    extract('{"a": ', "n.json", reason="broken")


def test_json_lines_are_documents(extract):
    lines = ['{"_id": "7", "title": "T", "text": "hello", "url": "u"}', '', '{"id": 8, "text": "two"}', 'oops', '{"k": 1}']
    r = extract("\n".join(lines), "n.jsonl")
    assert r.brief() == [("doc", "T"), ("meta", "id=7"), ("meta", "url=u"), ("para", "hello"), ("doc", "8"), ("meta", "id=8"),
                         ("para", "two"), ("note", r.texts("note")[0]), ("doc", ""), ("para", "k: 1"), ("note", "1 of 4 lines are not JSON")]
    paras = [b for b in r.blocks if b["kind"] == "para"]
    assert [b["line_begin"] for b in paras] == [1, 3, 5] and r.source(paras[1]).decode() == lines[2]


CODE = {
    "n.c": ("#include <a.h>\n\n/* first */\nstatic int\none(void) {\n    return 1;\n}\n\n\nint two(int x)\n{\n    return x;\n}\n",
            ["#include <a.h>", "/* first */", "int two"]),
    "n.py": ("import a\n\n\n@dec\ndef one():\n    def inner():\n        pass\n\n    return 1\n\n\nclass Two:\n    def x(self):\n        pass\n",
             ["import a", "@dec", "class Two"]),
    "n.js": ("'use strict';\n\n// adds\nfunction add(a, b) {\n  return a + b;\n}\n\nexport const f = (x) => {\n  return x;\n};\n",
             ["'use strict'", "// adds", "export const f"]),
    "n.rs": ("use a;\n\n/// doc\n#[test]\nfn one() {\n}\n\nimpl X {\n    fn two(&self) {}\n}\n", ["use a", "/// doc", "impl X"]),
    "n.go": ("package a\n\n// F does\nfunc F() {\n}\n\ntype T struct {\n}\n", ["package a", "// F does", "type T"]),
}


@pytest.mark.parametrize("name", sorted(CODE))
def test_code_by_definitions(extract, name):
    text, begins = CODE[name]
    r = extract(text, name)
    blocks = [b for b in r.blocks if b["kind"] == "code"]
    assert [b["text"].startswith(begin) for b, begin in zip(blocks, begins)] == [True] * len(begins)
    assert len(blocks) == len(begins) and [b.get("level", 0) for b in blocks] == [0, 1, 1]
    assert b"".join(r.source(b) for b in blocks).decode() == text  # all of it, once


LETTER = ("From: =?iso-8859-1?Q?J=F6rg_M?= <j@x>\nTo: a@b,\n c@d\nSubject: =?utf-8?B?%s?=\n =?utf-8?Q?=C3=9Fe_world?=\n"
          "Date: Mon, 1 Jan 2001 00:00:00 +0000\nMessage-ID: <1@x>\nMIME-Version: 1.0\n%s")


def letter(rest):
    return LETTER % (base64.b64encode("Grü".encode()).decode(), rest)


def test_letter(extract):
    r = extract(letter("\nHello\nthere.\n\nBye.\n"), "n.eml")
    assert r.brief() == [("doc", "Grüße world"), ("meta", "id=<1@x>"), ("meta", "from=Jörg M <j@x>"), ("meta", "to=a@b, c@d"),
                         ("meta", "date=Mon, 1 Jan 2001 00:00:00 +0000"), ("para", "Hello\nthere."), ("para", "Bye.")]
    assert r.source(r.blocks[5]) == b"Hello\nthere." and r.blocks[5]["line_begin"] == 10


@needs_xml
def test_letter_of_parts(extract):
    html = base64.encodebytes("<h2>Kopf</h2><p>nur hier ß</p>".encode("latin-1")).decode()
    r = extract(letter(
        'Content-Type: multipart/mixed; boundary="out"\n\nnot shown\n--out\nContent-Type: multipart/alternative;\n boundary=in\n\n'
        '--in\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nlang=\ne Zeile =C3=9F\n'
        '--in\nContent-Type: text/html\n\n<p>no</p>\n--in--\n--out\nContent-Type: text/html; charset=iso-8859-1\n'
        'Content-Transfer-Encoding: base64\n\n%s--out\nContent-Type: application/pdf; name="a.pdf"\n'
        'Content-Disposition: attachment; filename="a.pdf"\n\nAAAA\n--out\nContent-Type: message/rfc822\n\nSubject: inner\n\nold text\n--out--\n' % html), "n.eml")
    assert r.brief()[5:] == [("para", "lange Zeile ß"), ("heading", 2, "Kopf"), ("para", "nur hier ß"),
                             ("meta", "attachment=a.pdf"), ("heading", 2, "inner"), ("para", "old text")]
    assert r.source(r.blocks[5]).decode() == "lang=\ne Zeile =C3=9F"  # the line end belongs to the mark


def test_box_of_letters(extract):
    one = "From a@b Mon Jan 1\nSubject: %s\n\nBody %s\nFrom here on\n\n"
    r = extract(one % ("A", "a") + one % ("B", "b"), "box.mbox")
    assert r.texts("doc") == ["A", "B"] and r.texts() == ["Body a\nFrom here on", "Body b\nFrom here on"]
    assert [b["line_begin"] for b in r.blocks if b["kind"] == "para"] == [4, 10]


def test_a_large_box_costs_no_more_than_its_length(extract):
    one = "From a@b Mon Jan 1\nSubject: %d\n\nBody\n" + "words and words and words and words\n" * 12 + "\n"
    start = processor_s()
    r = extract("".join(one % n for n in range(8000)), "box.mbox")
    assert processor_s() - start < 8
    assert [b["line_begin"] for b in r.blocks if b["kind"] == "para"] == [4 + 17 * n for n in range(8000)]


def wiki(pages):
    return ('<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">\n<siteinfo><sitename>x</sitename></siteinfo>\n%s</mediawiki>\n' %
            "".join('<page>\n<title>%s</title>\n<ns>0</ns>\n<id>%d</id>\n<revision><id>9</id>\n<text xml:space="preserve">%s</text>\n'
                    '</revision>\n</page>\n' % (title, n, text) for n, (title, text) in enumerate(pages)))


@needs_xml
def test_wiki_dump(extract):
    text = "Intro with [[a|link]]&lt;ref&gt;x\ny&lt;/ref&gt;.{{Infobox\n|a=b}}\n\n== Head ==\n* item\n&lt;pre&gt;\ncode\n&lt;/pre&gt;\nEnd."
    r = extract(wiki([("One", text), ("Two", "more")]), "dump.xml")
    assert r.brief() == [("doc", "One"), ("meta", "id=0"), ("para", "Intro with link."), ("heading", 2, "Head"), ("list", 1, "item"),
                         ("code", "code"), ("para", "End."), ("doc", "Two"), ("meta", "id=1"), ("para", "more")]
    lines = r.data.decode().split("\n")
    for b in r.blocks:
        if b["kind"] in ("heading", "list", "code") or b["text"] == "End.":
            assert b["text"] in "\n".join(lines[b["line_begin"] - 1:b["line_end"]]), b
    assert r.source(r.blocks[9]).decode().rstrip().endswith("</page>") and b"Two" in r.source(r.blocks[9])


@needs_xml
def test_wiki_dump_is_read_as_a_stream(extract):
    r = extract(wiki([("P%d" % n, "word " * 8000) for n in range(300)]), "dump.xml")  # 12 MB
    assert len(r.texts("doc")) == 300 and r.blocks[-1]["line_begin"] > 2000


# ---- What a file is ------------------------------------------------------------------------------


def test_content_comes_before_the_name(extract):
    if shutil.which("pdftotext"):
        assert extract(documents.pdf([["text"]]), "n.txt").blocks[1]["kind"] == "page"
    if "libxml2: yes" in FEATURES:
        assert extract("<!doctype html><h1>x</h1>", "noname").brief()[-1] == ("heading", 1, "x")
        assert extract(wiki([("A", "b")]), "n.bin").texts() == ["b"]
    assert extract("Received: x\nSubject: s\nMessage-ID: <1>\n\nbody\n", "noname").blocks[0]["text"] == "s"
    assert extract('{"a": 1}\n{"a": 2}\n', "noname").texts() == ["a: 1", "a: 2"]
    assert extract("#!/bin/sh\necho\n", "noname").blocks[1]["kind"] == "code"
    assert extract("plain words", "noname").texts() == ["plain words"]


@pytest.mark.parametrize("data, what", [
    (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"), (b"\x7fELF" + bytes(99), "program"), (b"\x1f\x8b" + bytes(99), "gzip"),
    (documents.archive([("a.txt", "x")]), "zip"), (b"text\0with\0zeros", "zero bytes"), (bytes(range(1, 32)) * 9, "control")])
def test_what_is_no_document_is_named(extract, data, what):
    assert what in extract(data, "n.txt", reason="not_text").error


def test_empty_files(extract):
    for name in ("n.txt", "n.md", "n.csv", "n.jsonl", "n.py", "n.mbox"):
        extract("", name, reason="empty")
    extract(" \n\n\t\n", "n.txt", reason="empty")


# ---- Hostile -------------------------------------------------------------------------------------


@needs_zip
def test_a_small_file_does_not_become_a_large_one(extract):
    bomb = documents.docx(documents.paragraph(" " * (40 << 20)))
    assert len(bomb) < 1 << 20
    extract(bomb, "n.docx", reason="too_large")
    many = documents.archive([("word/document.xml", "<x/>")] + [("word/a%d.xml" % n, "") for n in range(11000)])
    extract(many, "n.docx", reason="too_large")


LAUGHS = ('<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">%s]><w:document %s><w:body><w:p><w:r><w:t>&z9;</w:t></w:r></w:p></w:body></w:document>' %
          ("".join('<!ENTITY z%d "%s">' % (n, ("&z%d;" % (n - 1) if n else "&a;") * 10) for n in range(10)), documents.W))


@needs_zip
def test_entities_are_never_expanded(extract, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    outside = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file://%s">]><mediawiki><page><title>a</title><revision><text>&e; b</text></revision></page></mediawiki>' % secret
    start = processor_s()
    r = extract(documents.archive([("word/document.xml", LAUGHS)]), "n.docx", reason="broken")
    assert "document type" in r.error
    r = extract(outside, "n.xml", reason="broken")
    assert "document type" in r.error
    assert "SECRET" not in json.dumps(r.blocks) and processor_s() - start < 20
    page = extract('<!DOCTYPE html [<!ENTITY e SYSTEM "file://%s">]><p>a &e; b</p>' % secret, "n.html")
    assert "SECRET" not in json.dumps(page.blocks)


@needs_xml
def test_deep_nesting_ends(extract):
    extract("<div>" * 100000 + "x", "n.html", reason="too_large")
    extract("<mediawiki>" + "<a>" * 100000, "n.xml", reason="too_large|broken")
    extract("[" * 100000, "n.json", reason="broken")
    extract("[" * 1000 + "1" + "]" * 1000, "n.json", reason="too_large")
    parts = "".join('Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n' % (n, n) for n in range(100))
    extract("Subject: x\nMIME-Version: 1.0\n" + parts, "n.eml", reason="too_large")


@pytest.mark.parametrize("name, unit", [
    ("n.md", "["), ("n.md", "> "), ("n.md", "*a "), ("n.md", "- "), ("n.html", "<a x=\""), ("n.html", "<table><tr><td>"), ("n.html", "&a"),
    ("n.xml", "{{"), ("n.xml", "[["), ("n.xml", "&lt;ref&gt;"), ("n.xml", "{|\n|"), ("n.csv", "\""), ("n.eml", "=?utf-8?Q?"), ("n.txt", "\r")])
def test_repetition_ends_soon(extract, name, unit):
    """300 KB of one beginning without its end: seconds, whatever comes out."""
    text = unit * (300000 // len(unit))
    if name == "n.xml":
        text = wiki([("x", text)])
    if name == "n.eml":
        text = "Subject: %s\nMessage-ID: <1>\n\nx" % text
    start = processor_s()
    try:
        extract(text, name)
    except AssertionError as refused:
        assert re.match(r"rotor-extract: (empty|too_large|broken|memory)", str(refused).split("\n")[0].split("Error: ")[-1]), refused
    assert processor_s() - start < 20


def test_files_above_the_limit_are_refused(extract):
    assert "32 MiB" in extract(b"a\n" * (17 << 20), "n.txt", reason="too_large").error


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = subprocess.run([EXTRACT, str(tmp_path / "pipe")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "not a regular file" in done.stderr


@needs_pdf
@pytest.mark.parametrize("script, reason", [
    ("kill -SEGV $$", "crashed"), ("exit 1", "broken"), ("exec yes xxxxxxxxxxxxxxxxxxxxxxxxxx", "too_large")])
def test_a_tool_that_misbehaves(extract, tmp_path, script, reason):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n%s\n" % script)
    tool.chmod(0o755)
    extract(documents.pdf([["x"]]), "n.pdf", "--pdftotext", str(tool), reason=reason)


# ---- The program ---------------------------------------------------------------------------------


def run(*args):
    return subprocess.run([EXTRACT, *args], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def test_usage():
    assert run().returncode == 2 and "usage" in run().stderr
    assert run("--type", "word", "x").returncode == 2 and "docx" in run("--type", "word", "x").stderr
    assert run("--nonsense", "x").returncode == 2
    assert run("/nonexistent/file").returncode == 1


def test_raw_is_the_documented_stream(tmp_path):
    path = tmp_path / "n.txt"
    path.write_text("one\n\ntwo\n")
    data = subprocess.run([EXTRACT, "--raw", str(path)], capture_output=True, timeout=300).stdout
    assert data[:8] == b"RXBLOCK1"
    at, records = 8, []
    while at < len(data):
        n, kind, level, zero, begin, end, line, last, page, zero2 = struct.unpack_from("<IBBHQQIIII", data, at)
        records.append((kind, begin, end, line, last, data[at + 40:at + 40 + n].decode()))
        assert (level, zero, page, zero2) == (0, 0, 0, 0)
        at += 40 + n
    assert records == [(1, 0, 0, 0, 0, "n.txt"), (4, 0, 3, 1, 1, "one"), (4, 5, 8, 3, 3, "two"), (11, 0, 0, 0, 0, "")]
