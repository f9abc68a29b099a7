# SPDX-License-Identifier: MIT
"""Which libraries are packed with a program that loads some of them when it needs them: those of its build, as found here."""
import pytest


@pytest.fixture
def packer(source_root, monkeypatch):
    """packer(features, *here): the names that are packed where only these names are found."""
    monkeypatch.syspath_prepend(str(source_root / "packaging"))
    import make_packages

    def late(features, *here):
        def run(command, *args, env=None, **more):
            if command != "ldd":
                return "rotor 0.1.0\n" + features
            return "".join("\t%s => /usr/lib/%s (0x1)\n" % (name, name) for name in env["LD_PRELOAD"].split() if name in here)
        monkeypatch.setattr(make_packages, "run", run)
        return make_packages.late("rotor")
    return late


BOTH = "libmicrohttpd: on (rotor serve)\nlibcurl: on (rotor pull)\n"


def test_what_the_build_lacks_is_not_packed(packer):
    assert packer("libmicrohttpd: off (no rotor serve)\nlibcurl: off (no rotor pull)\n", "libcurl.so.4", "libmicrohttpd.so.12") == []
    assert packer("libmicrohttpd: off\nlibcurl: on\n", "libcurl.so.4") == ["libcurl.so.4"]


def test_the_first_name_that_is_here_is_packed(packer):
    assert packer(BOTH, "libcurl-gnutls.so.4", "libcurl.so.4", "libmicrohttpd.so.12") == ["libcurl.so.4", "libmicrohttpd.so.12"]
    assert packer(BOTH, "libcurl-gnutls.so.4", "libmicrohttpd.so.12") == ["libcurl-gnutls.so.4", "libmicrohttpd.so.12"]


def test_a_library_that_the_program_would_not_find_ends_it(packer):
    with pytest.raises(SystemExit, match="libmicrohttpd.so.12"):
        packer(BOTH, "libcurl.so.4")
