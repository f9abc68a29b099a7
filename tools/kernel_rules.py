# SPDX-License-Identifier: MIT
"""The rules about BARRIER of the kernels' dialect (src/dev/gpu/kernels/dialect.h), checked on a kernel's text.

Every invocation of a group must come to every BARRIER. That follows when around each there is no `if` but over
constants (in the dialect: names in capitals), no loop whose head depends on lid, and no jump out of such a loop. What
depends on lid is followed through assignments; what stands in local memory is taken as the same for all. Statements are
recognised, not expanded: a macro that holds a BARRIER counts as one, and its own body is checked for itself.
"""
import re

TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|[-+*/%&|^<>=!]=?|&&|\|\||\S")
TYPES = {"uint", "int", "float", "bool", "uint4", "float4"}
OPERATORS = set("-+*/%&|^<>=!?.,;)[:") | {f"{c}=" for c in "-+*/%&|^<>=!"}


class BarrierError(Exception):
    pass


def tokens_of(text):
    text = re.sub(r"//.*|/\*.*?\*/", " ", text, flags=re.S).replace("\\\n", " ")
    macros = dict(re.findall(r"^\s*#define (\w+)(?:\([^)]*\))?[ \t]+(.*)$", text, flags=re.M))
    body = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    return TOKEN.findall(body), {name: TOKEN.findall(macro) for name, macro in macros.items()}


def barrier_words(macros, known=("BARRIER",)):
    words = set(known)
    while more := {n for n, body in macros.items() if n not in words and words & set(body)}:
        words |= more
    return words


class Walk:
    def __init__(self, tokens, words):
        self.tokens, self.words = tokens, words
        self.depends = {"lid"}  # names whose value may differ within a group
        self.guards = []        # heads of the ifs around
        self.loops = []         # [head, holds a barrier, is left early] of the loops around

    def all(self):
        at = 0
        while at < len(self.tokens):
            at = self.statement(at)

    def closing(self, at):
        depth = 0
        while at < len(self.tokens):
            depth += {"(": 1, ")": -1}.get(self.tokens[at], 0)
            at += 1
            if depth == 0:
                return at
        return at

    def statement(self, at):
        token = self.tokens[at]
        if token == "{":
            at += 1
            while at < len(self.tokens) and self.tokens[at] != "}":
                at = self.statement(at)
            return at + 1
        if token == "if":
            return self.condition(at)
        if token in ("for", "while"):
            return self.loop(at)
        return self.simple(at)

    def condition(self, at):
        end = self.closing(at + 1)
        self.guards.append(self.tokens[at + 1:end])
        end = self.statement(end) if end < len(self.tokens) else end
        if end < len(self.tokens) and self.tokens[end] == "else":
            end = self.statement(end + 1)
        self.guards.pop()
        return end

    def loop(self, at):
        end = self.closing(at + 1)
        head = self.tokens[at + 1:end]
        self.assign(head[1:-1])
        self.loops.append([head, False, False])
        end = self.statement(end) if end < len(self.tokens) else end
        _, holds, left = self.loops.pop()
        if holds and left:
            raise BarrierError(f"a jump out of a loop with a barrier: {' '.join(head)}")
        if holds and self.depends & set(head):
            raise BarrierError(f"a barrier in a loop that depends on lid: {' '.join(head)}")
        if holds and self.loops:
            self.loops[-1][1] = True
        return end

    def simple(self, at):
        """Up to its semicolon; a macro that nothing of an expression follows is a statement too."""
        start = at
        while at < len(self.tokens) and self.tokens[at] not in (";", "{", "}"):
            called = self.tokens[at + 1:at + 2] == ["("]
            after = self.closing(at + 1) if called else at + 1
            capital = at == start and self.tokens[at].isupper()
            if capital and not set(self.tokens[after:after + 1]) & OPERATORS:
                at = after
                break
            at = after if called else at + 1
        else:
            at += self.tokens[at:at + 1] == [";"]
        here = self.tokens[start:at]
        if not here:
            return at + 1
        self.assign(here)
        if self.words & set(here):
            self.barrier()
        if {"break", "continue", "return"} & set(here):
            for frame in self.loops if "return" in here else self.loops[-1:]:
                frame[2] = True
        return at

    def barrier(self):
        for head in self.guards:
            if any(re.match(r"[a-z]|_*[A-Za-z]*[a-z]", token) for token in head):
                raise BarrierError(f"a barrier under if {' '.join(head)}")
        for frame in self.loops:
            frame[1] = True

    def assign(self, tokens):
        """Names take on what is assigned to them; a new declaration of a name begins anew."""
        depth, piece, declares = 0, [], False
        for token in [*tokens, ";"]:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token, 0)
            if token not in (",", ";") or depth:
                piece.append(token)
                continue
            declares |= bool(set(piece[:2]) & TYPES)
            mark = next((i for i, t in enumerate(piece) if re.fullmatch(r"[-+*/%&|^]?=", t)), 0)
            if mark and piece[mark - 1] != "]":
                if self.depends & set(piece[mark + 1:]):
                    self.depends.add(piece[mark - 1])
                elif declares:
                    self.depends.discard(piece[mark - 1])
            declares &= token == ","
            piece = []


def check_barriers(text, shared=""):
    """Raises BarrierError. shared: text in front whose macros are known."""
    _, before = tokens_of(shared)
    tokens, macros = tokens_of(text)
    words = barrier_words({**before, **macros})
    Walk(tokens, words).all()
    for body in macros.values():
        Walk(body, words).all()
