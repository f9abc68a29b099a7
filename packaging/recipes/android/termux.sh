#!/bin/sh
# SPDX-License-Identifier: MIT
#
# NOT RUN BY US: builds Rotor on an Android phone, inside Termux. The names of packages are guesses where a comment says so.
set -eu

pkg install -y clang make ninja pkg-config python git
pkg install -y libjansson pcre2 libcurl libsqlite libxml2 libarchive
pkg install -y utf8proc libmicrohttpd libedit || echo "termux.sh: guessed names; without utf8proc there is no build"
pip install meson

cd "$(dirname "$0")/../../.."
meson setup build -Dtests=disabled -Dopencl=disabled -Dvulkan=disabled
ninja -C build rotor rotor-extract
build/rotor run -p "Once upon a time" -n 40
