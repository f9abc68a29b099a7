# SPDX-License-Identifier: MIT
"""The page as `rotor serve` gives it, talking to the model inside the program, as one visit."""
import json
import re
import sys

import pytest

from conftest import HERE
from test_web_chat import ANSWER, IDLE, READY, say, turns

sys.path.append(str(HERE.parent / "program"))
from serve_rig import Server  # noqa: E402


SLOW, SLOWER = 12_000, 1_500  # bytes a second: a story takes some five seconds, or forty


@pytest.fixture(scope="module")
def server():
    running = Server("embedded")
    yield running
    assert running.stop() == 0


def settled(tab, n_turns):
    tab.wait("document.querySelectorAll('.turn').length === %d && %s" % (n_turns, IDLE))


def set_sampling(tab, **values):
    tab.click("#open-settings")
    for name, value in values.items():
        tab.js("document.querySelector('#set-%s').value = ''" % name)
        tab.click("#set-" + name)
        tab.type(str(value))
    tab.press("Escape")
    tab.wait("!document.querySelector('#settings').open")


def test_a_visit(tab, server):
    home = "http://127.0.0.1:%d/" % server.port
    tab.go(home)
    tab.wait(READY)
    assert tab.text("#model") == "embedded" and "of 512" in tab.text("#meter")

    # An example of the empty page, told twice over with one seed: the same story.
    set_sampling(tab, temperature=0.5, seed=1)
    tab.js("window.states = []; new MutationObserver(() => states.push(%s.length)).observe(document.querySelector('#thread'), { subtree: true, childList: true, characterData: true })" % ANSWER)
    tab.throughput(SLOW)  # the model is done in the twentieth of a second
    tab.click(".examples li:nth-child(1) button")
    settled(tab, 2)
    tab.throughput(-1)
    first = turns(tab)
    assert first[0] == "Tell me a story about a dog." and len(first[1].split()) > 30
    assert len(set(tab.js("states"))) > 5, "the answer came in one piece"
    n_tokens, rate = re.fullmatch(r"([\d,]+) tokens, ([\d,.]+) t/s", tab.text(".stats")).groups()
    used = int(re.match(r"([\d,]+) of 512", tab.text("#meter"))[1])
    assert int(n_tokens) > 30 and float(rate.replace(",", "")) > 1 and int(n_tokens) < used <= 512
    tab.click("[aria-label='Answer again']")
    tab.wait("document.querySelector('.reply .branches')?.innerText === '2 / 2' && " + IDLE)
    assert turns(tab)[1] == first[1]

    # Another seed is another branch; one can go back to the first.
    set_sampling(tab, seed=2)
    tab.click("[aria-label='Answer again']")
    tab.wait("document.querySelector('.reply .branches')?.innerText === '3 / 3' && " + IDLE)
    assert turns(tab)[1] != first[1]
    tab.click(".reply [aria-label='Earlier version']")
    tab.wait("document.querySelector('.reply .branches')?.innerText === '2 / 3'")
    assert turns(tab)[1] == first[1]

    # Editing asks anew; the page stops an answer at its first words, and keeps them.
    tab.click(".turn.user [aria-label='Edit']")
    tab.js("document.querySelector('.editing textarea').select()")
    tab.type("Tell me a story about a cat.")
    tab.press("Enter")
    settled(tab, 2)
    assert len(turns(tab)[1].split()) > 20 and tab.text(".turn.user .branches") == "2 / 2"
    tab.click("#new-chat")
    tab.js("new MutationObserver(() => { if (%s.length > 5) document.querySelector('.send.stops')?.click(); }).observe(document.querySelector('#thread'), { subtree: true, childList: true })" % ANSWER)
    tab.throughput(SLOWER)
    say(tab, "Tell me a story about a bird.", wait=False)
    tab.wait("document.querySelector('.note')?.innerText.includes('Stopped here')")
    tab.throughput(-1)
    assert 5 < len(turns(tab)[1]) < 200

    # What was said is found, outlives the page, can be taken along and be deleted.
    tab.click("#search")
    tab.type("cat")
    tab.wait("document.querySelectorAll('#conversations li').length === 1")
    tab.click("#conversations .open")
    tab.wait("document.querySelector('.said')?.innerText === 'Tell me a story about a cat.'")
    tab.reload()
    tab.wait(READY + " && document.querySelectorAll('#conversations li').length === 2 && document.querySelectorAll('.turn').length === 2")
    tab.js("window.saved = null; URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return 'data:,'; }; HTMLAnchorElement.prototype.click = () => {};")
    tab.click("#open-data")
    tab.click("#data-dialog .choices button:nth-child(1)")
    saved = json.loads(tab.wait("window.saved"))["conversations"]
    assert sorted(len(c["nodes"]) for c in saved) == [3, 7]  # with the root of each
    tab.click("#data-dialog .danger")
    tab.click("#delete-all")
    tab.wait("!document.querySelector('#conversations li')")
    tab.reload()
    tab.wait(READY)
    assert tab.js("document.querySelectorAll('#conversations li, .turn').length") == 0
    assert not [url for url in tab.urls if not url.startswith((home, "data:"))]


def test_overflow_says_how_to_go_on(tab, server):
    tab.go("http://127.0.0.1:%d/" % server.port)
    tab.wait(READY)
    say(tab, "Tell me a story about a tree. " * 90)
    assert "outgrown" in tab.text(".note.failed") and "512" in tab.text(".note.failed")
    assert tab.text(".note.failed button") == "New conversation"  # there is nothing older to leave out
    tab.click(".note.failed button")
    tab.wait("!document.querySelector('.turn')")


def test_a_long_conversation_goes_on_without_its_oldest_turns(tab, server):
    tab.go("http://127.0.0.1:%d/" % server.port)
    tab.wait(READY)
    set_sampling(tab, temperature=0.5, seed=1)
    for thing in ("dog", "ball", "tree", "bird", "cat", "car"):
        say(tab, "Tell me a story about a %s." % thing)
        if tab.js("Boolean(document.querySelector('.note.failed') ?? document.querySelector('#room').innerText)"):
            break
    else:
        raise AssertionError("six stories in 512 tokens?")
    tab.js("[...document.querySelectorAll('.note.failed button, #room button')].find((b) => b.innerText.includes('oldest')).click()")
    tab.wait("document.querySelector('.cut') && !document.querySelector('.note.failed') && " + IDLE)
    say(tab, "Tell me a story about a boat.")
    assert not tab.text(".note.failed") and len(turns(tab)[-1].split()) > 20
