# SPDX-License-Identifier: MIT
"""units.js in a browser: the renderer, the stream parser, the tree, the store, each by itself."""


def test_the_modules(tab, mock):
    tab.go(mock.url + "/tests/browser/units.html")
    result = tab.wait("window.result", seconds=600)
    assert not result["failures"], "\n".join(result["failures"])
    assert len(result["names"]) >= 19
