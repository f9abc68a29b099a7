# SPDX-License-Identifier: MIT
"""The commands of a Markdown page: what a reader may copy into a shell, and which of them no test runs.

A block labelled ```sh or ```bash holds commands, one a line (a backslash, an open quotation mark or a
here-document goes on in the next); in ```console those behind "$ ". A command is run by tests/docs
unless it carries the mark, behind it

    rotor pull bitnet-2b4t        # not run here: needs the hub

or, for a whole block, on a line of its own in front of it

    <!-- not run here: needs systemd -->
"""
import re
import shlex
from dataclasses import dataclass

MARK = re.compile(r"not run here: needs ([^\n]+?)\)?\s*(?:-->|$)")
SHELL = ("sh", "bash", "console")
# Words that begin a command for a shell, whatever follows.
BEGINS = re.compile(r"\s*(?:\$ )?(?:[A-Z_]+=\S* )*(?:sudo|make|ninja|meson|rotor|rotor-extract|curl|wget|pip3?|git|apt|apt-get|"
                    r"systemctl|(?:\./)?(?:build|tools|packaging)/[\w./-]+)\s+\S")


@dataclass
class Block:
    label: str  # the word behind the fence, "" none
    line: int  # of its first line, from 1
    lines: list
    fenced: bool
    needs: str  # what the mark in front of it says, "" none


@dataclass
class Command:
    line: int
    text: str  # as written, without "$ "
    needs: str  # "" it is run


def blocks(text):
    """Code blocks of a page, fenced ones and those indented by four blanks behind an empty line."""
    lines = text.splitlines()
    n, needs, listed = 0, "", False
    while n < len(lines):
        line = lines[n]
        fence = re.match(r"( *)(`{3,}|~{3,})\s*([\w-]*)", line)
        begun = n
        if fence:
            n += 1
            while n < len(lines) and not re.match(r" *%s+\s*$" % re.escape(fence.group(2)), lines[n]):
                n += 1
            inside = [one[len(fence.group(1)):] if one.startswith(fence.group(1)) else one for one in lines[begun + 1:n]]
            yield Block(fence.group(3).lower(), begun + 2, inside, True, needs)
        elif line.startswith("    ") and line.strip() and not listed and (not n or not lines[n - 1].strip()):
            while n + 1 < len(lines) and (lines[n + 1].startswith("    ") or not lines[n + 1].strip()):
                n += 1
            yield Block("", begun + 1, [one[4:] for one in lines[begun:n + 1] if one.strip()], False, needs)
        elif line.strip():
            listed = bool(re.match(r"\s*([-*+]|\d+\.)\s", line)) or listed and line.startswith(" ")
        if fence or line.strip():
            mark = MARK.search(line) if line.lstrip().startswith("<!--") else None
            needs = mark.group(1) if mark else ""
        n += 1


def is_whole(text):
    """Whether a shell would not ask for more."""
    here = re.search(r"<<-?\s*(['\"]?)(\w+)\1", text)
    if here:
        return re.search(r"^\s*%s\s*$" % here.group(2), text.split("\n", 1)[-1], re.M) is not None
    if text.endswith("\\"):
        return False
    try:
        shlex.split(text, comments=True)
        return True
    except ValueError:
        return False


def commands_of(block):
    """The commands of one block. One that never ends is taken as far as the block goes."""
    begun, parts = 0, []
    for number, line in enumerate(block.lines, block.line):
        if not parts:
            if block.label == "console":
                if not line.startswith("$ "):
                    continue
                line = line[2:]
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            begun = number
        elif block.label == "console" and line.startswith("> "):
            line = line[2:]
        parts.append(line)
        whole = "\n".join(parts)
        if is_whole(whole) or number == block.line + len(block.lines) - 1:
            mark = MARK.search(parts[-1])
            yield Command(begun, whole, mark.group(1) if mark else block.needs)
            parts = []


def commands(text):
    return [command for block in blocks(text) if block.label in SHELL and block.fenced for command in commands_of(block)]


def unlabelled(text):
    """First lines of blocks that look like commands and are not labelled as such."""
    return [(block.line, block.lines[0].strip()) for block in blocks(text)
            if block.label == "" and block.lines and BEGINS.match(block.lines[0])]


def words(text):
    """The simple commands of a command line, each a list of words; assignments in front are left out."""
    text = text.replace("\\\n", " ").split("<<")[0]
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    found, skip = [[]], False
    for word in lexer:
        if re.fullmatch(r"[();|&]+", word):
            found.append([])
        elif re.fullmatch(r"\d*[<>]+&?", word):
            skip = True
        elif skip:
            skip = False
        elif found[-1] or not re.match(r"[A-Za-z_]\w*=", word):
            found[-1].append(word)
    return [one for one in found if one]


def code_spans(text):
    """(line, text) of the inline code of a page, outside of blocks."""
    inside = {number for block in blocks(text) for number in range(block.line - 1, block.line + len(block.lines) + 1)}
    for number, line in enumerate(text.splitlines(), 1):
        if number not in inside:
            for _, span in re.findall(r"(`+)(.+?)\1", line):
                yield number, span.strip()
