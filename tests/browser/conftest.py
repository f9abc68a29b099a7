# SPDX-License-Identifier: MIT
"""One Chromium for all tests of this folder; a tab of its own, with empty storage, for each."""
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tools")]

import chromium  # noqa: E402
import web_page  # noqa: E402
from mock_server import MockServer  # noqa: E402


@pytest.fixture(scope="session")
def browser():
    if chromium.find() is None:
        pytest.skip("no chromium")
    with chromium.Chromium() as running:
        yield running


@pytest.fixture()
def tab(browser):
    """A tab whose page must have complained of nothing at its end."""
    tab = browser.tab()
    yield tab
    errors = tab.errors
    tab.close()
    assert not errors, errors


@pytest.fixture(scope="session")
def page_source(source_root):
    return web_page.page(source_root / "web")


@pytest.fixture()
def mock(page_source):
    server = MockServer(page_source)
    yield server
    server.shutdown()
    server.server_close()
