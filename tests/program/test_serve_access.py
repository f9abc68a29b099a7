# SPDX-License-Identifier: MIT
"""Who may ask rotor serve: hosts, origins, keys."""
import json
import re

from serve_rig import KEY, STORY, Server


def test_hosts(server):
    """A name that was made to point here is refused; our own are not."""
    for host, ok in (("localhost", 1), ("localhost:99", 1), ("127.0.0.1", 1), ("[::1]:80", 1), ("app.localhost", 1),
                     ("evil.example", 0), ("localhost.evil.example", 0), ("127.0.0.1.evil.example:80", 0), ("192.168.0.7", 0)):
        r, data = server.raw("GET", "/v1/models", headers={"Host": host})
        assert r.status == (200 if ok else 403), host
        assert ok or json.loads(data)["error"]["code"] == "host_not_allowed"


def test_origins(server):
    """Our own page may ask, others may not, nothing is reflected."""
    own = "http://127.0.0.1:%d" % server.port
    assert server.raw("GET", "/v1/models", headers={"Origin": own})[0].status == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", own + ".evil.example", own.replace("http", "https")):
        r, data = server.raw("GET", "/v1/models", headers={"Origin": origin})
        assert r.status == 403 and json.loads(data)["error"]["code"] == "origin_not_allowed"
        assert not r.getheader("Access-Control-Allow-Origin")


def test_preflight_needs_no_key(guarded):
    """OPTIONS is answered without a key, for pages that may ask; an error reaches them, too."""
    origin = {"Origin": "https://page.example"}
    r, data = guarded.raw("OPTIONS", "/v1/chat/completions", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert r.status == 204 and data == b"" and r.getheader("Access-Control-Allow-Origin") == "https://page.example"
    assert "POST" in r.getheader("Access-Control-Allow-Methods") and "Authorization" in r.getheader("Access-Control-Allow-Headers")
    assert r.getheader("Access-Control-Allow-Credentials") is None
    asked = {**origin, "Access-Control-Request-Headers": "authorization,x-stainless-lang"}
    r, _ = guarded.raw("OPTIONS", "/v1/chat/completions", headers=asked)
    assert r.getheader("Access-Control-Allow-Headers") == "authorization,x-stainless-lang"
    r, _ = guarded.raw("OPTIONS", "/v1/chat/completions", headers={**asked, "Access-Control-Request-Headers": "a\"b"})
    assert "Authorization" in r.getheader("Access-Control-Allow-Headers")
    r, _ = guarded.raw("GET", "/v1/models", headers=origin)
    assert r.status == 401 and r.getheader("Access-Control-Allow-Origin") == "https://page.example"
    assert guarded.raw("OPTIONS", "/v1/models", headers={"Origin": "https://evil.example"})[0].status == 403


def test_the_key_guards_every_route(guarded, source_root):
    """Every row of the route table wants the key, but for those that say that anyone may ask."""
    table = (source_root / "src" / "serve" / "routes.c").read_text()
    rows = re.findall(r'\{"(GET|POST|DELETE)", "([^"]+)", [^}]*?\}', table)
    flags = re.findall(r'\{"(?:GET|POST|DELETE)", "[^"]+", ([^}]*?)\}', table)
    assert len(rows) == len(flags) >= 14
    open_routes = []
    for (method, path), flag in zip(rows, flags):
        if "SERVE_ANYONE" in flag:
            open_routes.append(path)
            continue
        for p in {path, path.replace("/v1", "", 1) or "/"}:
            p = p + "x" if p.endswith("/") else p
            r, data = guarded.raw(method, p, b"{}" if method == "POST" else None, {"Content-Type": "application/json"})
            assert r.status == 401, p
            assert r.getheader("WWW-Authenticate") == "Bearer" and b"a key is needed" in data  # each protocol in its form
    assert "/health" in open_routes and len(open_routes) <= 4


def test_keys(guarded):
    for headers in ({"Authorization": "Bearer " + KEY}, {"Authorization": "bearer  first-key"}, {"X-Api-Key": KEY}):
        assert guarded.raw("GET", "/v1/models", headers=headers)[0].status == 200
    for headers in ({}, {"Authorization": "Bearer " + KEY + "x"}, {"Authorization": KEY}, {"X-Api-Key": ""},
                    {"Authorization": "Bearer " + KEY[:-1]}, {"X-Api-Key": KEY.upper()}):
        assert guarded.raw("GET", "/v1/models", headers=headers)[0].status == 401
    assert guarded.raw("GET", "/health")[0].status == 200


def test_beyond_this_machine_only_with_a_key(rotor):
    result = rotor("serve", STORY, "--host", "0.0.0.0", "--port", "0", status=2)
    assert "--api-key" in result.stderr and "--insecure" in result.stderr
    s = Server(STORY, "--host", "0.0.0.0", "--insecure")
    try:
        assert s.raw("GET", "/health", headers={"Host": "192.168.0.7:80"})[0].status == 200
        assert s.raw("GET", "/health", headers={"Host": "evil.example"})[0].status == 403
    finally:
        assert s.stop() == 0
