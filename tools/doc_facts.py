# SPDX-License-Identifier: MIT
"""What a documentation page may be wrong about: its commands, and the options, settings and routes it names.

A finding is "file:line: what is wrong; what to do". Nothing is run here: tests/docs runs the commands.
"""
import os
import re

import code_tables
import doc_commands

# Programs that the runner of tests/docs has at hand. Any other needs a mark.
RUNNABLE = {"rotor", "build/rotor", "rotor-extract", "build/rotor-extract", "curl", "cat", "cd", "chmod", "cp", "echo", "export",
            "grep", "head", "ls", "man", "mkdir", "mv", "printf", "rm", "sed", "sort", "tail", "test", "tr", "wc"}
MARK = '"# not run here: needs …" behind the command, or "<!-- not run here: needs … -->" on a line of its own before the block'
LOCAL = re.compile(r"(?:https?://)?(?:localhost|127\.0\.0\.1)(?::\d+)?(/[^\s\"'?]*)?")
PATH = re.compile(r"(?:(GET|POST|PUT|DELETE|HEAD) )?(/(?:v1|api)/[A-Za-z_/-]+|/(?!v1$|api$)[a-z][a-z-]+)\b")
HISTORY = {"CHANGELOG.md"}  # tells of what was
NO_PAGE = ("shared/", "assets/", "tests/")  # folders whose Markdown is not documentation for users


class Tables:
    """What there is, read once from the sources of a tree."""

    def __init__(self, root):
        self.routes = code_tables.routes(root)
        self.options = code_tables.options(root)
        self.verbs = [verb.name for verb in code_tables.verbs(root)]
        self.metrics = {name for row in code_tables.metrics(root) for name in (row[0], row[2])}
        self.foreign = set()  # options of our other programs and of what they are given to
        for folder in ("tools", "packaging", "src/extract", "tests/docs", "tests/program"):
            for where, _, names in os.walk(os.path.join(root, folder)):
                for name in names:
                    with open(os.path.join(where, name), errors="replace") as f:
                        self.foreign |= set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", f.read()))

    def of_verb(self, verb):
        return [option for option in self.options if verb in option.verbs]

    def has_route(self, method, path):
        for path in (path.rstrip("/") or "/", "/v1" + path.rstrip("/")):
            for one, route, tail, _, _ in self.routes:
                if (one == method or not method or method == "HEAD" and one == "GET") and (
                        re.fullmatch(re.escape(route).replace(r"\*", "[^/]+"), path) or tail and path.startswith(route)):
                    return True
        return False


def is_page(path):
    return path.endswith(".md") and not path.startswith(NO_PAGE)


def check_labels(path, text):
    for line, first in doc_commands.unlabelled(text):
        yield '%s:%d: "%s" looks like a command: fence the block and label it ```sh (then a test runs it), or ```text' % (
            path, line, first[:40])


def check_runnable(path, command, words):
    for one in words:
        if one[0] not in RUNNABLE:
            yield '%s:%d: the tests cannot run "%s": add %s' % (path, command.line, one[0], MARK)
        elif one[0] == "curl" and not any(LOCAL.match(word) for word in one):
            yield '%s:%d: a curl that leaves this machine: add %s' % (path, command.line, MARK)


def wrong_options(tables, verb, words):
    """Options among the words that the verb has not."""
    known = tables.of_verb(verb)
    for word in words:
        if word == "--":
            return
        long, short = re.match(r"--([a-z][\w-]*)", word), re.fullmatch(r"-([a-zA-Z])(\d.*)?", word)
        if long and long.group(1) not in {o.name for o in known} or short and short.group(1) not in {o.letter for o in known}:
            yield word


def check_rotor(path, line, tables, words):
    """One call of the program: its verb and the options of that."""
    if len(words) < 2 or words[1].startswith(("-", "VERB", "…")):
        return
    if words[1] not in tables.verbs:
        yield "%s:%d: rotor has no verb %s" % (path, line, words[1])
        return
    for word in wrong_options(tables, words[1], words[2:]):
        yield "%s:%d: rotor %s has no option %s (its options: src/cli/options_table.c)" % (path, line, words[1], word)


def check_routes(path, line, tables, text):
    for method, route in PATH.findall(text):
        first = "/" + route.split("/")[1]
        ours = first in ("/v1", "/api") or method or first in {r[1] for r in tables.routes}
        if ours and not tables.has_route(method, route):
            yield "%s:%d: the server has no route %s (its routes: src/serve/routes.c)" % (path, line, (method + " " + route).strip())


def check_commands(path, text, tables):
    for command in doc_commands.commands(text):
        try:
            words = doc_commands.words(command.text)
        except ValueError as error:
            yield "%s:%d: not a command that a shell could read: %s" % (path, command.line, error)
            continue
        if not command.needs:
            yield from check_runnable(path, command, words)
        for one in words if tables else ():
            if one[0] in ("rotor", "build/rotor"):
                yield from check_rotor(path, command.line, tables, one)
            elif one[0] == "curl":
                for word in one:
                    if LOCAL.match(word) and LOCAL.match(word).group(1):
                        yield from check_routes(path, command.line, tables, LOCAL.match(word).group(1))


def check_spans(path, text, tables):
    """Options, routes and counters in inline code."""
    every = {option.name for option in tables.options} | tables.foreign
    for line, span in doc_commands.code_spans(text):
        call = re.match(r"rotor ([a-z-]+)\b", span)
        if call and call.group(1) in tables.verbs:
            for word in wrong_options(tables, call.group(1), re.findall(r"(?<![\w-])--[a-z][\w-]*", span.split(" -- ")[0])):
                yield "%s:%d: rotor %s has no option %s (its options: src/cli/options_table.c)" % (path, line, call.group(1), word)
        elif span.startswith("--"):
            for name in re.findall(r"(?<![\w-])--([a-z][\w-]*)", span):
                if name not in every:
                    yield "%s:%d: no program here has an option --%s" % (path, line, name)
        if re.match(r"(?:GET |POST |PUT |DELETE |HEAD )?/", span):
            yield from check_routes(path, line, tables, span)
        for name in re.findall(r"^rotor_\w+_(?:total|ratio)$", span):
            if name not in tables.metrics:
                yield "%s:%d: the server has no counter %s (its counters: src/serve/metrics_route.c)" % (path, line, name)


def check_settings(path, text, tables):
    """Blocks labelled ini that could be a configuration file."""
    for block in doc_commands.blocks(text):
        verb = None
        for number, line in enumerate(block.lines, block.line) if block.label == "ini" else ():
            section, key = re.match(r"\[([\w-]+)\]", line), re.match(r"([\w-]+)\s*=", line)
            if section and section.group(1) not in tables.verbs:
                break
            verb = section.group(1) if section else verb
            if key and not any(o.name == key.group(1) and code_tables.in_file(o) and (verb is None or verb in o.verbs)
                               for o in tables.options):
                yield "%s:%d: no setting %s%s" % (path, number, key.group(1), " in [%s]" % verb if verb else "")


ORDER = "docs/reading-order.txt"


def reading_order(root):
    """(heading, paths of its pages, from the root) for each part."""
    parts = []
    with open(os.path.join(root, ORDER), encoding="utf-8") as f:
        for line in f:
            if line.startswith(" ") and line.strip():
                parts[-1][1].append(os.path.normpath(os.path.join("docs", line.strip())))
            elif line.strip() and not line.startswith("#"):
                parts.append((line.strip(), []))
    return parts


def check_order(root, files):
    """Every page of docs/ has its place in the site."""
    listed = [path for _, paths in reading_order(root) for path in paths]
    for path in files:
        if re.fullmatch(r"docs/[^/]+\.md", path) and path not in listed:
            yield "%s:1: not in %s: add a line for it where a reader should meet it" % (path, ORDER)
    for path in sorted(set(listed)):
        if path not in files or listed.count(path) > 1:
            yield "%s:1: %s %s" % (ORDER, path, "stands there twice" if path in files else "is not there")


def check_page(path, text, tables):
    yield from check_labels(path, text)
    yield from check_commands(path, text, tables)
    if tables and path not in HISTORY:
        yield from check_spans(path, text, tables)
        yield from check_settings(path, text, tables)


def count(texts):
    """(commands, those that are not run)"""
    all_of_them = [command for text in texts for command in doc_commands.commands(text)]
    return len(all_of_them), sum(bool(command.needs) for command in all_of_them)
