# SPDX-License-Identifier: MIT
"""The tables of the C sources, as Python values: what the documentation is checked against and made from.

options(root), verbs(root), routes(root), refusals(root), metrics(root), architectures(root), weight_types(root),
statuses(root). They are read as text, so that a tree can be checked without a build; what cannot be
read is an error and never a shorter table. tests/docs holds them against the program itself.
"""
import os
import re
from dataclasses import dataclass

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[{}\[\],=]|[^\s{}\[\],="\']+')
ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def source(root, path):
    """The text of a C file without its comments."""
    with open(os.path.join(root, path), encoding="utf-8") as f:
        text = f.read()
    return re.sub(r'("(?:[^"\\\n]|\\.)*")|/\*.*?\*/|//[^\n]*', lambda m: m.group(1) or " ", text, flags=re.S)


class Text(str):
    """A string literal, as opposed to an expression."""


def unquote(literal):
    return Text(re.sub(r"\\(.)", lambda m: ESCAPES.get(m.group(1), m.group(1)), literal[1:-1]))


def cell_of(tokens):
    """String literals side by side are one text; everything else is an expression, spelt with single blanks."""
    if tokens and all(t.startswith('"') for t in tokens):
        return Text("".join(unquote(t) for t in tokens))
    return " ".join(tokens)


def braces(tokens):
    """The rows between an opening brace, which is already taken, and its closing one: (designator or None, value)."""
    rows, cell, name, nested = [], [], None, None

    def finish():
        if cell or nested is not None:
            rows.append((name, nested if nested is not None else cell_of(cell)))

    for token in tokens:
        if token == "{":
            nested = braces(tokens)
        elif token in (",", "}"):
            finish()
            if token == "}":
                return rows
            cell, name, nested = [], None, None
        elif token == "=":
            name, cell = "".join(cell).strip("[].") or None, []
        else:
            cell.append(token)
    raise ValueError("a table without an end")


def table(text, name):
    """The rows of the array `name[] = {…}`."""
    start = re.search(r"\b%s\[\w*\]\s*=\s*\{" % name, text)
    if not start:
        raise ValueError("there is no table %s" % name)
    return braces(iter(TOKEN.findall(text, start.end())))


def macros(text):
    """#define NAME value, joined over continued lines."""
    return dict(re.findall(r"^#define +(\w+) +(.+)$", text.replace("\\\n", " "), re.M))


def number(expression, known):
    """The value of an expression of |, &, ~, << and names."""
    while True:
        expression, n = re.subn(r"\b[A-Za-z_]\w*\b", lambda m: "(%s)" % known[m.group()], expression)
        if not n:
            break
    if not re.fullmatch(r"[\d\s()|&~<+*-]+", expression):
        raise ValueError("cannot compute " + expression)
    return eval(expression, {"__builtins__": {}})  # digits and operators only


@dataclass
class Option:
    id: str
    name: str
    letter: str  # "" none
    type: str  # FLAG, INT, REAL, TEXT, CHOICE
    group: str
    value: str
    least: str
    most: str
    choices: list
    fallback: str  # "" none
    help: str
    verbs: list  # names
    flags: set  # MANY, SAVED, NO_DASH, SECRET


@dataclass
class Verb:
    name: str
    usage: str
    help: str
    notes: str


CLI = "src/cli/options_table.c"


def verb_rows(root):
    return [[value for _, value in row] for _, row in table(source(root, CLI), "verbs")]


def verbs(root):
    return [Verb(row[0], row[2], row[3], row[4] if isinstance(row[4], Text) else "") for row in verb_rows(root)]


def options(root):
    text, header = source(root, CLI), source(root, "src/cli/cli.h")
    known = macros(text)
    known.update(re.findall(r"\b(VERBS?_\w+)\s*=\s*([^,}]+?)\s*(?=[,}])", header))
    names = {row[1]: row[0] for row in verb_rows(root)}
    found = []
    for name, row in table(text, "cli_options"):
        name_of, letter, kind, group, value, least, most, choices, fallback, help_text, mask, flags = (v for _, v in row)
        mask = number(mask, known)
        found.append(Option(
            name, name_of, "" if letter == "0" else letter.strip("'"), kind[len("CLI_"):],
            unquote(known[group]) if group in known else group, value if isinstance(value, Text) else "", least, most,
            choices.split("|") if isinstance(choices, Text) else [], fallback if isinstance(fallback, Text) else "",
            help_text, [verb for bit, verb in names.items() if mask & number(bit, known)],
            set(re.findall(r"CLI_(\w+)", flags))))
    enum = re.search(r"typedef enum cli_opt \{(.*?)CLI_N_OPTS", header, re.S).group(1)
    missing = set(re.findall(r"\bOPT_\w+", enum)) ^ {option.id for option in found}
    if missing:
        raise ValueError("%s: not read: %s" % (CLI, ", ".join(sorted(missing))))
    return found


def in_file(option):
    """Whether it may stand in the configuration file."""
    return "SAVED" in option.flags and option.name != "config"  # the file does not name itself


def routes(root):
    """(method, path, whether something follows the path, whether without a key, whether while models load)"""
    rows = [[value for _, value in row] for _, row in table(source(root, "src/serve/routes.c"), "routes")]
    return [(method, path, "SERVE_TAIL" in flags, "SERVE_ANYONE" in flags, "SERVE_EARLY" in flags)
            for method, path, _, _, flags in rows]


def refusals(root):
    """(status, type, code, meaning, what to do) of every fault that the server can answer with."""
    rows = [[value for _, value in row] for _, row in table(source(root, "src/serve/reasons.c"), "serve_reasons")]
    return [(int(status), *map(str, texts)) for status, *texts in rows]


def metrics(root):
    """(name, kind, other name or "", help)"""
    text = source(root, "src/serve/metrics_route.c")
    string = r'((?:"[^"]*"\s*)+)'
    found = [(own, kind, "" if other == "NULL" else other.strip('"'), cell_of(re.findall(r'"[^"]*"', words)))
             for kind, own, other, words in
             re.findall(r'\bput\(\s*&?out, "(\w+)", "(\w+)",\s*(NULL|"[^"]*"),\s*%s,' % string, text)]
    found += [(name, "histogram", "", words) for name, words in
              re.findall(r'\bput_histogram\(\s*&?out, "(\w+)",\s*"([^"]*)"', text)]
    found += [(name, kind, "", words) for name, kind, words in re.findall(r'\{"(rotor_\w+)", "(\w+)", "([^"]*)"\}', text)]
    found += [(name, kind, "", words) for name, words, kind in
              re.findall(r'"# HELP (rotor_\w+) (.*?)\\n"\s*"# TYPE \1 (\w+)', text)]
    unread = set(re.findall(r'"(?:# HELP )?(rotor_\w+)[ "]', text)) - {row[0] for row in found}
    if unread or not found:
        raise ValueError("src/serve/metrics_route.c: not read: %s" % ", ".join(sorted(unread)))
    return found


def architectures(root):
    """A dictionary for each row of the architecture table: name, hf_type and its switches."""
    return [dict(row) for _, row in table(source(root, "src/model/arch.c"), "archs")]


def weight_types(root):
    """(name, weights in a block, bytes of a block, expression of what can be done with it)"""
    text = source(root, "src/quant/quant_registry.c")
    known = macros(text)
    rows = [[value for _, value in row] for _, row in table(text, "registry")]

    def spelt(flags):
        return re.sub(r"\b[A-Z]\w*\b", lambda m: spelt(known[m.group()]) if m.group() in known else m.group(), flags)
    return [(row[1], row[2], row[3], spelt(row[6])) for row in rows]


def statuses(root):
    """(name, number, meaning), from the comments of the header."""
    with open(os.path.join(root, "include/rotor_status.h"), encoding="utf-8") as f:
        text = f.read()
    return re.findall(r"^\s*(ROTOR_(?:OK|E_\w+)) = (-?\d+),?\s*/\* (.*?) \*/", text, re.M | re.S)


def exit_statuses(root):
    """(number, meaning), as the manual pages say them."""
    found = re.findall(r'term\(out, "(\d)", "([^"]*)"\)', source(root, "src/cli/manual.c"))
    if [int(number) for number, _ in found] != [0, 1, 2]:
        raise ValueError("src/cli/manual.c: exit statuses not read")
    return found


def reasons(root):
    """Why a document cannot be read."""
    return [name for _, name in table(source(root, "src/base/block_stream.c"), "names") if name != "none"]
