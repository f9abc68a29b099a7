#!/bin/sh
# SPDX-License-Identifier: MIT
#
# NOT BUILT BY US beyond the folder: makes an AppImage of the archive that `make packages` leaves.
#
#   packaging/recipes/appimage/build.sh ARCHIVE.tar.gz [FOLDER]
#
# FOLDER (default: AppDir) is made anew. Where there is an appimagetool it makes Rotor.AppImage of it.
set -eu

[ $# -ge 1 ] || { echo "usage: build.sh ARCHIVE.tar.gz [FOLDER]" >&2; exit 2; }
archive=$1
folder=${2:-AppDir}
recipe=$(dirname "$0")

[ ! -e "$folder" ] || { echo "build.sh: $folder is there already" >&2; exit 1; }
mkdir -p "$folder/usr"
tar -xf "$archive" --strip-components=1 -C "$folder/usr"
cp "$recipe/AppRun" "$recipe/rotor.desktop" "$recipe/rotor.svg" "$folder/"
chmod 755 "$folder/AppRun"
"$folder/AppRun" version >/dev/null

if command -v appimagetool >/dev/null 2>&1; then
    appimagetool "$folder" Rotor.AppImage
else
    echo "build.sh: $folder is ready; there is no appimagetool to make a file of it"
fi
