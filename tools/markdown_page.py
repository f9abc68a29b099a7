# SPDX-License-Identifier: MIT
"""Markdown to HTML: md4c, the parser of rotor-extract, reads GitHub's dialect; what it finds is written here.

    page = Page(text, link=lambda href, words: (href, None), image=lambda src: src)
    page.html, page.title, page.headings, page.sections

Headings get GitHub's anchors, tables a frame that scrolls, blocks of code their language. Comments are
left out; other raw HTML is kept, with its pictures going through `image`. `link` gets the words of a link,
too, and gives its address and, if they shall be others, its words.
"""
import ctypes
import ctypes.util
import html
import re
from dataclasses import dataclass, field

DOC, QUOTE, UL, OL, LI, HR, H, CODE, HTML, P, TABLE, THEAD, TBODY, TR, TH, TD = range(16)
EM, STRONG, A, IMG, CODE_SPAN, DEL = range(6)
NORMAL, NULL_CHARACTER, BREAK, SOFT_BREAK, ENTITY, CODE_TEXT, RAW = range(7)
GITHUB = 0x0004 | 0x0008 | 0x0400 | 0x0100 | 0x0200  # bare links, tables, ~~
BLOCK_TAGS = {QUOTE: "blockquote", UL: "ul", OL: "ol", LI: "li", P: "p", THEAD: "thead", TBODY: "tbody", TR: "tr", TH: "th", TD: "td"}
SPAN_TAGS = {EM: "em", STRONG: "strong", DEL: "del"}


class Attribute(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("size", ctypes.c_uint), ("types", ctypes.c_void_p), ("offsets", ctypes.c_void_p)]

    def __str__(self):
        return html.unescape(ctypes.string_at(self.text, self.size).decode()) if self.size else ""


class List(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint)]


class Level(ctypes.Structure):
    _fields_ = [("level", ctypes.c_uint)]


class Code(ctypes.Structure):
    _fields_ = [("info", Attribute), ("language", Attribute)]


class Cell(ctypes.Structure):
    _fields_ = [("align", ctypes.c_int)]


class Target(ctypes.Structure):
    _fields_ = [("target", Attribute), ("title", Attribute)]


ENTER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
TEXT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p)


class Parser(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint), ("flags", ctypes.c_uint), ("enter_block", ENTER), ("leave_block", ENTER),
                ("enter_span", ENTER), ("leave_span", ENTER), ("text", TEXT), ("log", ctypes.c_void_p), ("syntax", ctypes.c_void_p)]


def library():
    """md4c, or None where it is not installed."""
    name = ctypes.util.find_library("md4c")
    return ctypes.CDLL(name) if name else None


def anchor_of(text, taken):
    """The anchor that GitHub gives a heading."""
    slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
    count = taken.get(slug, -1) + 1
    taken[slug] = count
    return "%s-%d" % (slug, count) if count else slug


@dataclass
class Section:
    anchor: str
    title: str
    text: list = field(default_factory=list)


def dim_comments(code):
    """Comments behind shell commands, set back."""
    return re.sub(r"(?m)((?:^|(?<=\s))#.*)$", lambda m: '<span class="comment">%s</span>' % m.group(1), code)


class Page:
    def __init__(self, text, link=lambda href, words: (href, None), image=str):
        self.link, self.image = link, image
        self.out, self.headings, self.sections, self.taken = [], [], [Section("", "")], {}
        self.heading = None  # pieces of HTML and of text of the heading that is being read
        self.code = None  # language and pieces of the block of code that is being read
        self.alt = None  # pieces of the text of the picture that is being read
        self.begun = None  # where the link that is being read begins, in pieces and words
        self.span = None  # text of the inline code that is being read
        self.in_cell = False  # where a bar in code is written \\|
        self.html = self.read(text)
        self.title = self.headings[0][2] if self.headings else ""

    def read(self, text):
        data = text.encode()
        parser = Parser(0, GITHUB, ENTER(self.careful(self.enter_block)), ENTER(self.careful(self.leave_block)),
                        ENTER(self.careful(self.enter_span)), ENTER(self.careful(self.leave_span)), TEXT(self.careful(self.take)))
        self.error = None
        status = library().md_parse(data, ctypes.c_uint(len(data)), ctypes.byref(parser), None)
        if self.error or status:
            raise self.error or ValueError("md4c gave up")
        return "".join(self.out)

    def careful(self, handler):
        """A C library cannot be left by an exception: it is kept, and the reading stopped."""
        def called(*arguments):
            try:
                handler(*arguments[:-1])
                return 0
            except Exception as error:  # raised again by read
                self.error = error
                return 1
        return called

    def pieces(self):
        return self.heading[0] if self.heading else self.out

    def put(self, piece):
        self.pieces().append(piece)

    # ---- Blocks ----

    def enter_block(self, kind, detail):
        if kind == H:
            self.heading = ([], [])
        elif kind == CODE:
            self.code = (str(ctypes.cast(detail, ctypes.POINTER(Code)).contents.language), [])
        elif kind == HR:
            self.put("<hr>\n")
        elif kind == TABLE:
            self.put('<div class="table" tabindex="0"><table>\n')
        elif kind in (TH, TD):
            self.in_cell = True
            side = ("", "", "to-center", "to-right")[ctypes.cast(detail, ctypes.POINTER(Cell)).contents.align]
            self.put("<%s%s>" % (BLOCK_TAGS[kind], ' class="%s"' % side if side else ""))
        elif kind == OL and ctypes.cast(detail, ctypes.POINTER(List)).contents.start != 1:
            self.put('<ol start="%d">\n' % ctypes.cast(detail, ctypes.POINTER(List)).contents.start)
        elif kind in BLOCK_TAGS:
            self.put("<%s>" % BLOCK_TAGS[kind])

    def leave_block(self, kind, detail):
        if kind == H:
            self.end_heading(ctypes.cast(detail, ctypes.POINTER(Level)).contents.level)
        elif kind == CODE:
            language, pieces = self.code
            text = html.escape("".join(pieces), quote=False)
            self.code = None
            self.put('<div class="code"%s><pre tabindex="0"><code>%s</code></pre></div>\n' % (
                ' data-language="%s"' % html.escape(language) if language else "", dim_comments(text) if language in ("sh", "bash") else text))
        elif kind == TABLE:
            self.put("</table></div>\n")
        elif kind in BLOCK_TAGS:
            self.in_cell = False
            self.put("</%s>\n" % BLOCK_TAGS[kind])
        self.sections[-1].text.append(" ")

    def end_heading(self, level):
        pieces, words = self.heading
        self.heading = None
        text = "".join(words)
        anchor = anchor_of(text, self.taken)
        self.headings.append((level, anchor, text))
        self.sections.append(Section(anchor, text))
        mark = '<a class="anchor" href="#%s" aria-label="Link to this section">#</a>' % anchor if level > 1 else ""
        self.put('<h%d id="%s">%s%s</h%d>\n' % (level, anchor, "".join(pieces), mark, level))

    # ---- Spans and text ----

    def enter_span(self, kind, detail):
        if kind == A:
            self.begun = len(self.pieces())
        elif kind == CODE_SPAN and self.alt is None:
            self.span = []
        elif kind == IMG:
            self.alt = []
        elif kind in SPAN_TAGS and self.alt is None:
            self.put("<%s>" % SPAN_TAGS[kind])

    def leave_span(self, kind, detail):
        if kind == A:
            self.end_link(str(ctypes.cast(detail, ctypes.POINTER(Target)).contents.target))
        elif kind == CODE_SPAN and self.alt is None:
            text = "".join(self.span)
            self.span = None
            self.put("<code%s>%s</code>" % (' class="short"' if len(text) <= 30 else "", html.escape(text, quote=False)))
        elif kind == IMG:
            source = self.image(str(ctypes.cast(detail, ctypes.POINTER(Target)).contents.target))
            self.put('<img src="%s" alt="%s" loading="lazy">' % (html.escape(source), html.escape("".join(self.alt))))
            self.alt = None
        elif kind in SPAN_TAGS and self.alt is None:
            self.put("</%s>" % SPAN_TAGS[kind])

    def end_link(self, target):
        pieces = self.pieces()
        inside = "".join(pieces[self.begun:])
        href, words = self.link(target, html.unescape(re.sub(r"<[^>]*>", "", inside)))
        pieces[self.begun:] = ['<a href="%s">%s</a>' % (html.escape(href), inside if words is None else html.escape(words, quote=False))]

    def take(self, kind, data, size):
        text = ctypes.string_at(data, size).decode()
        if kind == RAW:
            text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.S)
            self.sections[-1].text.append(" ")
            self.put(re.sub(r'(<img\b[^>]*\bsrc=")([^"]*)"', lambda m: m.group(1) + html.escape(self.image(m.group(2))) + '"', text))
            return
        if kind == ENTITY:
            text = html.unescape(text)
        elif kind in (BREAK, SOFT_BREAK):
            text = "\n"
        elif kind == NULL_CHARACTER:
            text = "\ufffd"
        elif kind == CODE_TEXT and self.in_cell:
            text = text.replace("\\|", "|")
        if self.code is not None:
            self.code[1].append(text)
        elif self.alt is not None:
            self.alt.append(text)
        elif self.span is not None:
            self.span.append(text)
        else:
            self.put("<br>\n" if kind == BREAK else html.escape(text, quote=False))
        if self.heading:
            self.heading[1].append(text)
        else:
            self.sections[-1].text.append(text)
