# SPDX-License-Identifier: MIT
"""Who may ask rotor serve: hosts, origins, keys."""
import json

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
