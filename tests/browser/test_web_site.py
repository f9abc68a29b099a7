# SPDX-License-Identifier: MIT
"""The documentation in a browser, opened from a folder: the first page, search, day and night, a phone."""
import pytest

import make_site
import markdown_page


@pytest.fixture(scope="module")
def address(source_root, tmp_path_factory):
    if markdown_page.library() is None:
        pytest.skip("no md4c")
    out = tmp_path_factory.mktemp("site") / "site"
    assert make_site.make(str(source_root), str(out)).faults == []
    return "file://%s/" % out


def test_search_finds_a_page_and_opens_it(tab, address):
    tab.go(address + "index.html")
    assert tab.js("document.title") == "Rotor" and tab.text("h1") == "Rotor"
    tab.press("/")
    tab.type("citat checked")
    tab.wait("document.querySelector('#found a[href=\"rag.html#asking\"]')")
    assert "citat" in tab.text("#found mark").lower()
    first = tab.js("document.querySelector('#found a').href")
    tab.press("Enter")
    tab.wait("location.href === '%s' && document.readyState === 'complete'" % first)
    assert tab.js("document.querySelector('#contents [aria-current]').href") == first.split("#")[0]
    tab.js("document.getElementById('query').focus()")
    tab.type("nosuchwordatall")
    tab.wait("document.querySelector('#found p')")
    assert all(url.startswith("file://") for url in tab.urls), tab.urls


def test_day_and_night(tab, address):
    def paper():
        return tab.js("getComputedStyle(document.body).backgroundColor")
    tab.colours("light")
    tab.go(address + "options.html")
    light = paper()
    tab.colours("dark")
    assert paper() != light
    tab.js("document.querySelector('#contents .theme').click()")
    assert paper() == light
    tab.go(address + "rag.html")
    assert paper() == light  # it is remembered


def test_a_phone(browser, address):
    tab = browser.tab(390, 844, True)
    for name in ("index.html", "serving.html", "settings.html", "performance.html"):
        tab.go(address + name)
        assert tab.js("document.documentElement.scrollWidth") <= 390, name
    assert tab.js("getComputedStyle(document.getElementById('contents')).visibility") == "hidden"
    tab.click("#open-contents")
    tab.wait("document.getElementById('contents').getBoundingClientRect().left === 0")
    tab.js("document.querySelector('#contents a[href=\"rag.html\"]').click()")
    tab.wait("location.pathname.endsWith('rag.html')")
    errors = tab.errors
    tab.close()
    assert not errors, errors


def test_a_place_on_a_page_is_marked(tab, address):
    tab.go(address + "rag.html")
    assert not tab.text("#here [aria-current]")
    tab.js("document.getElementById('judging').scrollIntoView()")
    tab.wait("document.querySelector('#here [aria-current]')?.textContent === 'Judging'")
