# SPDX-License-Identifier: MIT
"""The web page as `rotor serve` gives it: to anyone, with its policy, and once per browser."""
import re
import subprocess
import sys

import pytest

from serve_rig import Server


@pytest.fixture(scope="module")
def server():
    s = Server("embedded", "--api-key", "s3cret")
    yield s
    assert s.stop() == 0


def test_the_page_is_the_one_of_the_sources(server, source_root, tmp_path):
    r, data = server.raw("GET", "/")
    subprocess.run([sys.executable, source_root / "tools/web_page.py", source_root / "web", tmp_path / "page.html"], check=True)
    assert r.status == 200 and data == (tmp_path / "page.html").read_bytes()
    assert r.getheader("Content-Type") == "text/html; charset=utf-8"


def test_it_comes_without_a_key_and_with_its_policy(server):
    r, _ = server.raw("HEAD", "/")
    assert r.status == 200
    policy = r.getheader("Content-Security-Policy")
    assert "frame-ancestors 'none'" in policy and "script-src 'sha256-" in policy and "unsafe" not in policy
    assert r.getheader("X-Content-Type-Options") == "nosniff" and r.getheader("Referrer-Policy") == "no-referrer"
    assert r.getheader("Access-Control-Allow-Origin") is None
    assert server.raw("GET", "/favicon.ico")[0].status == 204
    assert server.raw("GET", "/v1/models")[0].status == 401  # everything else needs the key


def test_a_browser_that_has_it_gets_304(server):
    tag = server.raw("GET", "/")[0].getheader("ETag")
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    for known in (tag, '"other", ' + tag, "*"):
        r, data = server.raw("GET", "/", headers={"If-None-Match": known})
        assert r.status == 304 and data == b"" and r.getheader("ETag") == tag and r.getheader("Content-Security-Policy")
    assert server.raw("GET", "/", headers={"If-None-Match": '"other"'})[0].status == 200


def test_programs_that_ask_for_json_get_a_status(server):
    assert server.ask("/", Accept="application/json") == {"status": "ok"}
    assert server.raw("POST", "/", "{}", {"Content-Type": "application/json", "Authorization": "Bearer s3cret"})[0].status == 405


def test_foreign_names_do_not_get_the_page(server):
    assert server.raw("GET", "/", headers={"Host": "evil.example"})[0].status == 403
