# SPDX-License-Identifier: MIT
"""Random templates over the Jinja subset, typed so that most of them render."""

STRINGS = ["''", "'a'", '"it\'s"', "'Hello World'", "' pad '", "'a,b,,c'", "'x\\ny\\n'", "'É ünï'",
           "'你好'", "'<b>&'", "'12'", "'-3.5'", "'tab\\t\\\\'", "'the-quick (brown)'", "'A' 'b'"]
INTS = ["0", "1", "2", "3", "7", "-1", "-4", "10", "100", "1_000"]
FLOATS = ["0.5", "2.0", "-1.25", "1e3", "3.14159", "1e-7", "1.5e20"]
NAMES_STR = ["messages[0].role", "messages[1]['content']", "bos_token", "messages[-1].content"]

ENDS = STRINGS + ["('a', 'H')"]
ROUNDING = ["'common'", "'ceil'", "'floor'"]
OF_STRINGS = ["sort", "sort(reverse=true)", "sort(case_sensitive=true)", "unique|list", "map('upper')|list",
              "map('length')|list"]
OF_INTS = ["sort", "sort(true)", "unique|list", "select('odd')|list", "reject('even')|list",
           "select('gt', 1)|list", "map('string')|list"]
OF_MESSAGES = ["selectattr('role', 'equalto', 'user')|list",
               "rejectattr('role', 'in', ['user', 'x'])|map(attribute='content')|list",
               "selectattr('content')|map(attribute='role')|list", "map(attribute='nope', default=1)|list"]


class Generator:
    def __init__(self, rng):
        self.r = rng
        self.vars = []

    def pick(self, items):
        return self.r.choice(items)

    # ---- expressions by kind ----
    def string(self, d):
        if d <= 0:
            return self.pick(STRINGS + NAMES_STR)
        s, i = lambda: self.string(d - 1), lambda: self.int(d - 1)
        return self.pick([
            lambda: f"{s()} + {s()}", lambda: f"{s()} ~ {self.any(d - 1)}",
            lambda: f"({s()})[{i()}]", lambda: f"({s()})[{i()}:{i()}]", lambda: f"({s()})[::-1]",
            lambda: f"({s()})[{i()}::{self.pick(['2', '-1', '3', '-2'])}]",
            lambda: f"({s()})|{self.pick(['upper', 'lower', 'title', 'capitalize', 'trim', 'string', 'reverse'])}",
            lambda: f"({s()}).{self.pick(['upper', 'lower', 'title', 'capitalize', 'strip', 'lstrip', 'rstrip'])}()",
            lambda: f"({s()}).{self.pick(['strip', 'lstrip', 'rstrip'])}({self.pick(STRINGS[1:])})",
            lambda: f"({s()})|trim({self.pick(STRINGS[1:])})",
            lambda: f"({s()})|replace({self.pick(STRINGS)}, {s()})",
            lambda: f"({s()}).replace({self.pick(STRINGS)}, {s()}, {self.pick(['0', '1', '2', '-1'])})",
            lambda: f"({self.list(d - 1)})|join({self.pick(STRINGS)})",
            lambda: f"({self.list(d - 1)})|first|string", lambda: f"{self.any(d - 1)}|string",
            lambda: f"({s()}) * {self.pick(['0', '1', '2', '3', '-1'])}",
            lambda: f"({s()} if {self.bool(d - 1)} else {s()})",
            lambda: f"({s()})|indent({self.pick(['2', '4, true', '1, true, true', 'width=3', '0', '2, blank=true'])})",
            lambda: f"({s()})|default({s()}, true)", lambda: f"missing|default({s()})",
            lambda: f"{self.any(d - 1)}|tojson",
            lambda: f"{self.any(d - 1)}|tojson(indent={self.pick(['0', '1', '2', '4', 'none'])})",
            lambda: f"{self.any(d - 1)}|tojson(ensure_ascii=true, sort_keys=true)",
            lambda: f"{self.any(d - 1)}|tojson(separators=(',', ':'))",
            lambda: f"({s()})|e", lambda: f"({s()}).removeprefix({s()})",
            lambda: f"({s()}).removesuffix({self.pick(STRINGS)})",
            lambda: f"({s()} or {s()})", lambda: f"({s()} and {s()})",
        ])()

    def int(self, d):
        if d <= 0:
            return self.pick(INTS)
        i = lambda: self.int(d - 1)
        return self.pick([
            lambda: f"{i()} {self.pick(['+', '-', '*'])} {i()}",
            lambda: f"({i()}) {self.pick(['//', '%'])} {self.pick(INTS)}",
            lambda: f"({self.pick(INTS[:6])}) ** {self.pick(['0', '1', '2', '3'])}",
            lambda: f"-({i()})", lambda: f"+{self.pick(INTS[:5])}", lambda: f"-{self.pick(INTS[:5])}|abs",
            lambda: f"({self.string(d - 1)})|length", lambda: f"({self.list(d - 1)})|count",
            lambda: f"({self.string(d - 1)})|int", lambda: f"({self.number(d - 1)})|int",
            lambda: f"({self.string(d - 1)})|int(5, 16)",
            lambda: f"({i()})|abs", lambda: f"({i()} if {self.bool(d - 1)} else {i()})",
            lambda: f"({self.string(d - 1)}).{self.pick(['find', 'rfind', 'count'])}({self.pick(STRINGS)})",
            lambda: f"range({i()})|length", lambda: f"range({i()}, {i()}, {self.pick(['1', '2', '-1', '-3'])})|sum",
            lambda: f"[{i()}, {i()}, {i()}]|{self.pick(['max', 'min', 'sum', 'first', 'last'])}",
            lambda: f"({self.list(d - 1)}).count({self.any(0)})",
        ])()

    def number(self, d):
        if d <= 0:
            return self.pick(INTS + FLOATS)
        n = lambda: self.number(d - 1)
        return self.pick([
            lambda: self.int(d), lambda: f"({n()}) {self.pick(['+', '-', '*', '/', '//', '%'])} ({n()})",
            lambda: f"({n()})|round", lambda: f"({n()})|round({self.pick(['1', '2', '3'])}, {self.pick(ROUNDING)})",
            lambda: f"({self.string(d - 1)})|float", lambda: f"({n()})|float", lambda: f"({n()})|abs",
            lambda: f"({n()}) ** {self.pick(['2', '-1'])}",
        ])()

    def list(self, d):
        if d <= 0:
            return self.pick(["[]", "[1, 2, 3]", "['b', 'A', 'c']", "(1, 'x')", "['x',]", "[none, true]",
                              "messages|map(attribute='role')|list", "range(4)|list", "[[1, 2], [0]]"])
        x, el = lambda: self.list(d - 1), lambda: self.any(d - 1)
        return self.pick([
            lambda: f"[{el()}, {el()}]", lambda: f"[{el()}]", lambda: f"({el()}, {el()})",
            lambda: f"({x()})|list + [{el()}]", lambda: f"({x()})[{self.int(0)}:]",
            lambda: f"({x()})[::{self.pick(['-1', '2'])}]", lambda: f"({x()})|reverse|list",
            lambda: f"({self.string(d - 1)}).split({self.pick(['', repr(','), repr(' '), 'none, 1', repr('a') + ', 1'])})",
            lambda: f"({self.string(d - 1)}).rsplit({self.pick(['', repr(','), 'none, 1', repr('a') + ', 1'])})",
            lambda: f"({self.string(d - 1)}).splitlines()", lambda: f"({self.string(d - 1)})|list",
            lambda: f"({self.strings(d - 1)})|{self.pick(OF_STRINGS)}",
            lambda: f"({self.ints(d - 1)})|{self.pick(OF_INTS)}",
            lambda: f"({self.dict(d - 1)}).{self.pick(['keys', 'values', 'items'])}()|list",
            lambda: f"({self.dict(d - 1)})|{self.pick(['items|list', 'dictsort', 'list'])}",
            lambda: f"messages|{self.pick(OF_MESSAGES)}",
            lambda: f"({x()}) * {self.pick(['0', '1', '2'])}",
        ])()

    def strings(self, d):
        return "[" + ", ".join(self.string(d) for _ in range(self.r.randint(0, 4))) + "]"

    def ints(self, d):
        return "[" + ", ".join(self.int(d) for _ in range(self.r.randint(0, 5))) + "]"

    def dict(self, d):
        if d <= 0:
            return self.pick(["{}", "{'b': 1, 'a': 'x'}", "messages[0]", "{1: 2, 2: 3}", "dict(k='v', n=none)"])
        return self.pick([
            lambda: "{" + f"'k': {self.any(d - 1)}, 'l': {self.any(d - 1)}" + "}",
            lambda: f"dict({self.dict(0)})", lambda: f"dict(a={self.any(d - 1)}, b=2)",
            lambda: "{" + f"{self.string(d - 1)}: {self.int(d - 1)}" + "}",
        ])()

    def bool(self, d):
        if d <= 0:
            return self.pick(["true", "False", "missing", "none", "1", "''", "add_generation_prompt"])
        b = lambda: self.bool(d - 1)
        return self.pick([
            lambda: f"({b()} and {b()})", lambda: f"({b()} or {b()})", lambda: f"(not {b()})",
            lambda: f"({self.number(d - 1)} {self.pick(['<', '<=', '>', '>=', '==', '!='])} {self.number(d - 1)})",
            lambda: f"({self.string(d - 1)} {self.pick(['<', '==', '!=', '>', 'in', 'not in'])} {self.string(d - 1)})",
            lambda: f"({self.any(0)} {self.pick(['in', 'not in'])} {self.list(d - 1)})",
            lambda: f"({self.string(d - 1)} in {self.dict(d - 1)})",
            lambda: f"({self.int(d - 1)} < {self.int(d - 1)} <= {self.int(d - 1)})",
            lambda: f"({self.any(d - 1)} == {self.any(d - 1)})",
            lambda: f"({self.any(d - 1)} is {self.pick(['', 'not '])}{self.pick(['defined', 'undefined', 'none', 'string', 'number', 'integer', 'float', 'boolean', 'true', 'false', 'mapping', 'iterable', 'sequence'])})",
            lambda: f"({self.int(d - 1)} is {self.pick(['odd', 'even', 'divisibleby 3', 'divisibleby(2)', 'eq 2', 'ne(2)', 'gt 1', 'in [1, 2]'])})",
            lambda: f"({self.string(d - 1)}).{self.pick(['startswith', 'endswith'])}({self.pick(ENDS)})",
            lambda: f"({self.string(d - 1)}).{self.pick(['isdigit', 'isalpha', 'isspace', 'isalnum'])}()",
            lambda: f"({self.string(d - 1)} is {self.pick(['upper', 'lower'])})",
        ])()

    def any(self, d):
        return self.pick([self.string, self.string, self.int, self.number, self.list, self.dict, self.bool,
                          lambda _: self.pick(["none", "missing", "messages[9]", "messages[0].nope", "{}['x']"])])(d)

    # ---- statements ----
    def mark(self):
        return self.pick(["", "", "", "-", "+"])

    def tag(self, text):
        return "{%" + self.mark() + " " + text + " " + self.pick(["", "", "", "-", "+"]) + "%}"

    def text(self):
        return self.pick(["", " ", "\n", "x\n", "  \n  ", "text ", "\n\n", "\ty", "# {# note #}\n", "{#- n -#} "])

    def show(self, d):
        return "{{" + self.pick(["", "", "-", "+"]) + " " + self.any(d) + " " + self.pick(["", "", "-"]) + "}}"

    def statement(self, d):
        t, tag = self.text, self.tag
        body = lambda: self.body(d - 1)
        return self.pick([
            lambda: self.show(2), lambda: self.show(3),
            lambda: tag("if " + self.bool(2)) + body() + tag("else") + body() + tag("endif"),
            lambda: tag("if " + self.bool(2)) + body() + tag("elif " + self.bool(1)) + body() + tag("endif"),
            lambda: tag("for x in " + self.list(1)) + t() + "{{ loop.index }}{{ x }}" + body() + tag("endfor"),
            lambda: tag("for x in " + self.list(1) + " if " + self.pick(["x", "x is string", "not loop is defined", "x != 1"]))
            + "{{ x }}{{ ',' if not loop.last }}" + tag("else") + "none" + tag("endfor"),
            lambda: tag("for k, v in " + self.dict(1) + ".items()") + "{{ k }}={{ v }}" + t() + tag("endfor"),
            lambda: tag("set v = " + self.any(2)) + "{{ v }}" + body() + "{{ v }}",
            lambda: tag("set v, w = " + f"{self.any(1)}, {self.any(1)}") + "{{ w }}{{ v }}",
            lambda: tag("set ns = namespace(n=0, s=" + self.string(1) + ")") + tag("for i in range(4)")
            + tag("set ns.n = ns.n + i") + tag("set v = i") + tag("if i == " + self.pick("0123")) + tag(self.pick(["break", "continue"]))
            + tag("endif") + "{{ i }}" + tag("endfor") + "{{ ns.n }}{{ ns.s }}{{ v }}",
            lambda: tag("set block" + self.pick(["", " | upper", " | trim | length"])) + body() + tag("endset") + "[{{ block }}]",
            lambda: tag("macro m(a, b=" + self.any(1) + ")") + t() + "{{ a }}/{{ b }}" + tag("endmacro")
            + self.pick(["{{ m(1) }}", "{{ m(1, 2) }}", "{{ m(b=" + self.string(1) + ", a='k') }}", "{{ m() }}", "{{ m(1, 2, 3) }}", "{{ m('x')|upper }}"]),
            lambda: tag("raw") + "{{ x }}{% y" + tag("endraw"),
            lambda: "{% generation %}" + body() + "{% endgeneration %}",
        ])()

    def body(self, d):
        if d <= 0:
            return self.text() + self.show(1) + self.text()
        return self.text() + self.statement(d) + self.text()

    def template(self):
        return self.text() + "".join(self.statement(2) + self.text() for _ in range(self.r.randint(1, 2)))
