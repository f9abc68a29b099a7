# SPDX-License-Identifier: MIT
"""The core as WebAssembly: the page writes, token by token, what the program on this machine writes.

`make wasm` (or the suite "wasm build") makes build-wasm first.
"""
import functools
import http.server
import json
import re
import threading

import pytest

STATE = "document.querySelector('#state').innerText"


@pytest.fixture(scope="session")
def folder(source_root):
    folder = source_root / "build-wasm" / "packaging" / "wasm"
    if not (folder / "rotor.wasm").exists():
        pytest.skip("no build-wasm")
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://127.0.0.1:%d/" % server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture()
def page(tab, address):
    tab.go(address)
    tab.wait("!document.querySelector('#write').disabled")
    return tab


def fill(page, **fields):
    for name, value in fields.items():
        page.js("document.querySelector('#%s').value = %s" % (name, json.dumps(value)))


def write(page, prompt, count, temperature, seed=1):
    """The text behind the prompt and the tokens, once the page has ended."""
    fill(page, prompt=prompt, count=count, temperature=temperature, seed=seed)
    page.click("#write")
    page.wait("document.querySelector('#text').dataset.end")
    text, tokens = page.js("[document.querySelector('#text').textContent, document.querySelector('#text').dataset.tokens]")
    assert text.startswith(prompt)
    return text[len(prompt):], [int(token) for token in tokens.split()]


def native(rotor, model, prompt, count, *more):
    answer = json.loads(rotor("run", model, "-p", prompt, "-n", count, "--json", *more).stdout)
    return answer["text"], answer["ids"]


def test_the_page_writes_what_the_program_writes(page, rotor, folder):
    """Also where letters are not of ASCII, whose classes come from a table here, and with --cpu c."""
    for prompt, count, level in (("Once upon a time", 200, None), ("“Zoë,” said the İşçi, “½ of 你好 или ٣!”\n\n", 40, "c")):
        more = ["--temp", 0] + (["--cpu", level] if level else [])
        text, tokens = write(page, prompt, count, 0)
        expected = native(rotor, folder / "model.gguf", prompt, count, *more)
        assert tokens == expected[1] and len(tokens) > 20
        assert text == expected[0]
    assert page.text("#state").startswith("rotor-stories: ")


def test_drawing_is_the_same_too(page, rotor, folder):
    expected = native(rotor, folder / "model.gguf", "The cat", 60, "--temp", 0.9, "--seed", 7)
    assert write(page, "The cat", 60, 0.9, 7) == expected
    assert write(page, "The cat", 60, 0.9, 8) != expected


def test_a_text_is_stopped_and_another_begun(page):
    """Pressed as soon as the first text is there: the worker waits until a piece is shown."""
    fill(page, prompt="One day", count=400, temperature=0)
    page.js("new MutationObserver((_, me) => { me.disconnect(); document.querySelector('#stop').click(); })"
            ".observe(document.querySelector('#text'), {childList: true, subtree: true, attributes: true, attributeFilter: ['data-tokens']}) || true")
    page.click("#write")
    assert page.wait("document.querySelector('#text').dataset.end") == "stopped"
    assert 0 < len(page.js("document.querySelector('#text').dataset.tokens").split()) < 100
    _, tokens = write(page, "One day", 5, 0)
    assert len(tokens) == 5 and "as many tokens as asked for" in page.text("#state")


def test_a_file_that_is_no_model_is_refused_in_words(page):
    page.js("""(() => {
        const list = new DataTransfer(), input = document.querySelector('#file');
        list.items.add(new File(['no model at all'], 'x.gguf'));
        input.files = list.files;
        input.dispatchEvent(new Event('change'));
        return true; })()""")
    page.wait("/GGUF/.test(%s)" % STATE)
    assert page.js("document.querySelector('#write').disabled")


def test_the_module_asks_for_what_the_worker_has(folder, source_root):
    """Its imports, read from the file without a browser; and its size stays small."""
    data = (folder / "rotor.wasm").read_bytes()
    assert data[:8] == b"\0asm\1\0\0\0" and len(data) < 1 << 20
    worker = (source_root / "packaging" / "wasm" / "worker.js").read_text()
    offered = set(re.findall(r"^  (\w+)(?:\(|:)", worker.split("const system = {")[1].split("\n};")[0], re.M))
    assert set(imports(data)) == offered


def imports(data):
    """Names of the functions of section 2, all of wasi_snapshot_preview1."""
    at, names = 8, []

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def name():
        nonlocal at
        size = number()
        at += size
        return data[at - size:at].decode()

    while at < len(data):
        section = data[at]
        at += 1
        size = number()
        if section != 2:
            at += size
            continue
        for _ in range(number()):
            assert name() == "wasi_snapshot_preview1"
            names.append(name())
            assert data[at] == 0  # a function
            at += 1
            number()
        return names
    return names
