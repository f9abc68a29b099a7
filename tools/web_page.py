#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the page of `rotor serve` out of web/: one HTML file that fetches nothing, as C source.

    tools/web_page.py WEB OUT.c [OUT.d]    src/serve/page.h names what OUT.c holds; OUT.d says out of which files it is
    tools/web_page.py WEB OUT.html         the page alone, to look at

The style sheet and the modules are put into index.html as they are, comments and all: what one sees
in the browser is the source. Modules become one script, each after those it imports, without the
import and export words; so a top-level name may occur once in all modules, and the tool says where
it occurs again. The page's policy allows exactly this script and this style sheet, by their SHA-256,
and requests to the page's own server. The same input gives the same bytes.
"""
import base64
import hashlib
import pathlib
import re
import sys

LIMIT_BYTES = 300_000
STYLE = '<link rel="stylesheet" href="style.css">'
SCRIPT = '<script type="module" src="main.js"></script>'
# Words that turn text into markup or code: what a model wrote must never come near them.
FORBIDDEN = re.compile(r"\.(innerHTML|outerHTML|srcdoc)\b|\b(insertAdjacentHTML|createContextualFragment|setHTML\w*"
                       r"|DOMParser|eval|importScripts)\b|document\.write|new Function|\bimport\(|javascript:")
# Ways to make a browser fetch something. Links are made by markdown.js alone, when somebody clicks.
OUTSIDE = re.compile(r"""(?:src|href|action|poster)\s*=\s*["']?(?!data:|\#|style\.css|main\.js)[\w/]|@import|url\((?!["']?data:)""")
IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./(\w+\.js)";\n', re.M)
TOP_LEVEL = re.compile(r"^(?:export )?(?:async )?(?:const|let|var|class|function\*?) +(\w+)", re.M)


class PageError(Exception):
    """Something in web/ that the page must not hold; the message names the file."""


def without_comments(text):
    return re.sub(r"(^|\s)//[^\n]*|/\*.*?\*/|<!--.*?-->", " ", text, flags=re.S)


def modules(web, name, done=None):
    """Names of the modules, each after the ones it imports. A circle of imports is fine between functions."""
    done = [] if done is None else done
    if name in done:
        return []
    done.append(name)
    names = []
    for _, other in IMPORT.findall((web / name).read_text()):
        names += modules(web, other, done)
    return names + [name]


def script(web):
    """All modules as one script."""
    parts, owner, exported = [], {}, {}
    for name in modules(web, "main.js"):
        text = (web / name).read_text()
        for names, other in IMPORT.findall(text):
            missing = set(names.split(", ")) - exported.get(other, set())
            if other in exported and missing:
                raise PageError("%s: %s does not export %s" % (name, other, ", ".join(sorted(missing))))
        for top in TOP_LEVEL.findall(text):
            if owner.setdefault(top, name) != name:
                raise PageError("%s: the name %s is taken by %s" % (name, top, owner[top]))
        exported[name] = set(re.findall(r"^export (?:async )?(?:const|let|class|function\*?) +(\w+)", text, re.M))
        body = re.sub(r"^export (?=async |const |let |class |function)", "", IMPORT.sub("", text), flags=re.M)
        if re.search(r"^(import|export)\b", body, re.M):
            raise PageError("%s: only `import { a, b } from \"./c.js\";` and `export` before a declaration are known" % name)
        if re.search(r"</script|<!--", body, re.I):
            raise PageError("%s: </script and <!-- would end the script" % name)
        found = FORBIDDEN.search(without_comments(body))
        if found:
            raise PageError("%s: %s turns text into markup or code" % (name, found[0]))
        parts.append("// ==== web/%s %s\n%s" % (name, "=" * (86 - len(name)), body.replace("// SPDX-License-Identifier: MIT\n//\n", "")))
    return "// SPDX-License-Identifier: MIT\n" + "\n".join(parts)


def page(web):
    """(html, policy): the whole page and its Content-Security-Policy."""
    web = pathlib.Path(web)
    html, style, code = (web / "index.html").read_text(), "\n" + (web / "style.css").read_text(), "\n" + script(web)
    for name, text in (("index.html", html), ("style.css", style)):
        found = OUTSIDE.search(without_comments(text))
        if found:
            raise PageError("%s: %s would be fetched" % (name, found[0]))
    if re.search(r"\son\w+\s*=|\sstyle\s*=|<style|<script(?! type=\"module\" src=\"main.js\">)", html):
        raise PageError("index.html: handlers, styles and scripts belong in their own files")
    for old, new in ((STYLE, "<style>%s</style>" % style), (SCRIPT, '<script type="module">%s</script>' % code)):
        if html.count(old) != 1:
            raise PageError("index.html: must hold %s once" % old)
        html = html.replace(old, new)
    size = len(html.encode())
    if size > LIMIT_BYTES:
        raise PageError("the page has %d bytes; the limit is %d" % (size, LIMIT_BYTES))

    def sha(text):
        return "'sha256-%s'" % base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = ("default-src 'none'; script-src %s; style-src %s; connect-src 'self'; img-src data:; base-uri 'none'; "
              "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
              % (sha(code), sha(style)))
    return html, policy


def c_string(text):
    """The text as C literals, a line each. ? is escaped because of trigraphs."""
    quoted = []
    for line in text.split("\n"):
        data = line.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"?", b"\\?")
        quoted.append('    "%s' % "".join(chr(byte) if 32 <= byte < 127 else "\\%03o" % byte for byte in data))
    return '\\n"\n'.join(quoted) + '"'


def c_source(html, policy):
    etag = '"%s"' % hashlib.sha256((html + policy).encode()).hexdigest()[:32]
    return "\n".join([
        "/* Made by tools/web_page.py from web/. */",
        '#include "serve/page.h"',
        "const char serve_page[] =\n%s;" % c_string(html),
        "const size_t serve_page_size = sizeof serve_page - 1;",
        "const char serve_page_policy[] =\n%s;" % c_string(policy),
        "const char serve_page_etag[] = %s;" % c_string(etag).strip(), ""])


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__.split("\n\n")[1])
    try:
        html, policy = page(sys.argv[1])
    except PageError as error:
        sys.exit("web_page: %s" % error)
    out = pathlib.Path(sys.argv[2])
    out.write_bytes((html if out.suffix == ".html" else c_source(html, policy)).encode())
    if len(sys.argv) == 4:
        sources = sorted(map(str, pathlib.Path(sys.argv[1]).iterdir()))
        pathlib.Path(sys.argv[3]).write_text("%s: %s\n" % (out, " ".join(name.replace(" ", "\\ ") for name in sources)))


if __name__ == "__main__":
    main()
