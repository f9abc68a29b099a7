#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Takes the pictures of docs/web-chat.md: the real page, the real server, the model inside the program.

    tests/browser/take_screenshots.py OUT [ROTOR]

Run by hand when the page has changed its looks. Fonts are the machine's own; the pictures in docs/
were taken on a Debian with P052 (a Palatino), and with Inter in the place of the system's sans serif. With --all it
takes more, to look at: the empty page, Markdown, failures, the narrow screen.
"""
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tools"), str(HERE.parent / "program")]
os.environ.setdefault("ROTOR_MODEL", "embedded")
os.environ.setdefault("ROTOR_BINARY", str(HERE.parent.parent / "build" / "rotor"))

import chromium  # noqa: E402
import mock_server  # noqa: E402
import web_page  # noqa: E402
from serve_rig import Server  # noqa: E402
from test_web_chat import IDLE, READY  # noqa: E402

FONTS = {"--sans": "Inter, sans-serif"}  # as on a well-kept desktop; the page itself names many
SAMPLE = """Three ways, from **quick** to *careful*:

1. Read `weights.bin` with the loop below.
2. Compare it with the table.
3. If in doubt, ask the [manual](https://example.org/manual).

```python
def ternary(x):
    return (x > 0.5) - (x < -0.5)   # -1, 0 or +1
```

| value | bits | share |
|:--|:-:|--:|
| -1 | 00 | 31 % |
| 0 | 01 | 38 % |
| +1 | 10 | 31 % |

> What is not written down is forgotten.
"""


def say(tab, text):
    tab.js("(() => { const p = document.querySelector('#prompt'); p.value = %r; p.dispatchEvent(new Event('input')); document.querySelector('#send').click(); })()" % text)
    tab.wait("document.querySelector('.turn') && " + IDLE)


def settings(tab, **values):
    tab.js("document.querySelector('#open-settings').click()")
    for name, value in values.items():
        tab.js("(() => { const n = document.querySelector('#set-%s'); n.value = %r; n.dispatchEvent(new Event('input')); })()" % (name, str(value)))
    tab.js("document.querySelector('#settings').close()")


def visit(browser, url, width, height, scheme, mobile=False):
    tab = browser.tab(width, height, mobile)
    tab.colours(scheme)
    tab.go(url)
    tab.wait(READY)
    for name, families in FONTS.items():
        tab.js("document.documentElement.style.setProperty(%r, %r)" % (name, families))
    return tab


def shoot(tab, path):
    tab.js("document.activeElement?.blur(); new Promise((done) => setTimeout(done, 500))")
    tab.screenshot(path)


def stories(browser, url, out):
    for name, width, height, scheme in (("web-chat-light", 1280, 800, "light"), ("web-chat-dark", 1280, 800, "dark"), ("web-chat-phone", 390, 844, "light")):
        tab = visit(browser, url, width, height, scheme, mobile=width < 500)
        for n, text in enumerate(["Tell me a story about a red ball.", "Let me hear a story with a bird.", "I would like a story with a cat."]):
            settings(tab, temperature=0.5, seed=n + 1)
            say(tab, text)
            tab.js("document.querySelector('#new-chat').click()")
        settings(tab, temperature=0.5, seed=1)
        say(tab, "Tell me a story about a dog.")
        shoot(tab, out / (name + ".png"))


def more(browser, url, mock, out):
    mock_server.ANSWERS["sample"] = mock_server.pieces(SAMPLE)
    for scheme in ("light", "dark"):
        tab = visit(browser, url, 1280, 800, scheme)
        shoot(tab, out / ("empty-%s.png" % scheme))
        tab.js("document.querySelector('#open-settings').click()")
        shoot(tab, out / ("settings-%s.png" % scheme))
        tab = visit(browser, mock.url, 1280, 1000, scheme)
        say(tab, "sample answer, please")
        shoot(tab, out / ("markdown-%s.png" % scheme))
        say(tab, "break now")
        say(tab, "think about it")
        say(tab, "late " * 500)
        shoot(tab, out / ("failures-%s.png" % scheme))
    tab = visit(browser, url, 390, 844, "dark", mobile=True)
    shoot(tab, out / "phone-empty.png")
    tab = visit(browser, mock.url, 360, 740, "light", mobile=True)
    say(tab, "sample answer, please")
    shoot(tab, out / "phone-markdown.png")
    tab.js("document.querySelector('#open-sidebar').click()")
    shoot(tab, out / "phone-drawer.png")
    tab.js("document.querySelector('#close-sidebar').click(); document.querySelector('#open-data').click()")
    shoot(tab, out / "phone-data.png")


def main():
    everything = "--all" in sys.argv
    out = pathlib.Path([a for a in sys.argv[1:] if a != "--all"][0])
    server = Server("embedded")
    try:
        with chromium.Chromium() as browser:
            url = "http://127.0.0.1:%d/" % server.port
            stories(browser, url, out)
            if everything:
                more(browser, url, mock_server.MockServer(web_page.page(HERE.parent.parent / "web")), out)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
