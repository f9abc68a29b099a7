#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs Rotor for one user, without root:
#
#   curl -fsSL ADDRESS/install.sh | sh -s -- --from ADDRESS
#
#   --from ADDRESS   folder with SHA256SUMS and rotor-VERSION-linux-MACHINE.tar.gz (or ROTOR_FROM);
#                    https://…, or file:///… for one on this machine
#   --prefix DIR     where to install (default: ~/.local)
#   --dry-run        only say what would be done
#   --uninstall      remove what an earlier run installed; models and settings stay
#
# Everything goes into PREFIX/lib/rotor/VERSION-…; PREFIX/bin/rotor and a few links more point there and
# are set last, each at once. Whatever goes wrong before, the earlier installation is as it was: the
# download is checked by its SHA-256, unpacked in a folder of its own and run once. No file of the shell is
# edited. All of this text is one function, called in its last line: half a download of it does nothing.
set -u

rotor_install() {
    from=${ROTOR_FROM:-} prefix=${HOME:+$HOME/.local} dry_run='' uninstall=''
    while [ $# -gt 0 ]; do
        case $1 in
        --from) need_value "$@"; from=$2; shift ;;
        --prefix) need_value "$@"; prefix=$2; shift ;;
        --dry-run) dry_run=yes ;;
        --uninstall) uninstall=yes ;;
        *) stop "no option $1; the options are --from, --prefix, --dry-run, --uninstall" 2 ;;
        esac
        shift
    done
    [ -n "$prefix" ] || stop "HOME is not set: say where with --prefix DIR" 2
    case $prefix in /*) ;; *) prefix=$(pwd)/$prefix ;; esac
    lib=$prefix/lib/rotor
    if [ -n "$uninstall" ]; then
        remove_all
        return
    fi
    [ -n "$from" ] || stop "say where Rotor comes from: --from ADDRESS" 2
    from=${from%/}
    [ "$(uname -s)" = Linux ] || stop "there are files for Linux only; build from source here"
    machine=$(uname -m)
    fetch_and_install
}

say() { echo "install.sh: $*"; }
stop() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}
need_value() { [ $# -ge 2 ] || stop "$1 needs a value" 2; }

# The archive's line of SHA256SUMS for this machine, in sum and archive.
choose_archive() {
    line=$(grep -E "^[0-9a-f]{64} [ *]rotor-[0-9A-Za-z.+~]+-linux-$machine\.tar\.gz\$" "$work/SHA256SUMS" | tail -n 1)
    [ -n "$line" ] || stop "$from has no archive for linux-$machine"
    sum=${line%% *}
    archive=${line#* ?}
    version=${archive#rotor-}
    version=${version%-linux-*}
}

get() { # NAME: from the address into the working folder
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL --retry 2 --connect-timeout 30 -o "$work/$1" "$from/$1"
    elif [ "${from#file://}" != "$from" ]; then
        cp "${from#file://}/$1" "$work/$1"
    elif command -v wget >/dev/null 2>&1; then
        wget -q -O "$work/$1" "$from/$1"
    else
        stop "neither curl nor wget is here"
    fi || stop "cannot get $from/$1"
}

sha256_of() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1"
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 "$1"
    else
        stop "neither sha256sum nor shasum is here, and nothing is installed unchecked"
    fi | cut -d ' ' -f 1
}

fetch_and_install() {
    work=''
    if [ -n "$dry_run" ]; then
        work=$(mktemp -d) || stop "cannot make a temporary folder"
    else
        mkdir -p "$lib" 2>/dev/null && work=$(mktemp -d "$lib/new.XXXXXX" 2>/dev/null) ||
            stop "cannot write to $prefix: choose another folder with --prefix"
    fi
    # What is begun and not finished goes, however this ends (a kill that cannot be caught leaves
    # PREFIX/lib/rotor/new.*, which the next run removes).
    trap 'rm -rf "$work"; rmdir "$lib" "$prefix/lib" 2>/dev/null' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP PIPE
    get SHA256SUMS
    choose_archive
    if [ -n "$dry_run" ]; then
        say "would install rotor $version for linux-$machine from $from"
        say "into $lib, with links in $prefix/bin and $prefix/share"
        return
    fi
    say "getting $from/$archive"
    get "$archive"
    found=$(sha256_of "$work/$archive") && [ -n "$found" ] || exit 1
    [ "$found" = "$sum" ] || stop "$archive is not what SHA256SUMS says: its SHA-256 is $found, expected $sum; nothing was installed"
    mkdir "$work/tree" && tar -xzf "$work/$archive" -C "$work/tree" --strip-components 1 ||
        stop "cannot unpack $archive: is there room in $prefix?"
    "$work/tree/bin/rotor" version --config none >"$work/said" 2>&1 ||
        stop "this system cannot run it: $(head -n 1 "$work/said")"
    put_in_place
}

# Sets a link in one step: it is the old one or the new one at any time.
set_link() { # TARGET LINK
    mkdir -p "$(dirname "$2")" && ln -sfn "$1" "$2.new" && mv -fT "$2.new" "$2" || stop "cannot write $2"
}

put_in_place() {
    trap '' INT TERM HUP # a few renames, not worth stopping in between
    tree=$lib/$version-${work##*.} # a name nothing has, so that what is there stays until the link turns
    unit=$work/tree/share/systemd/user/rotor.service
    [ ! -f "$unit" ] || sed -i "s|^ExecStart=[^ ]*|ExecStart=$prefix/bin/rotor|" "$unit" || stop "cannot write $unit"
    mv "$work/tree" "$tree" || stop "cannot write $tree"
    set_link "${tree##*/}" "$lib/current"
    (cd "$tree" && find share -type f -path 'share/man/*' -o -type f -path 'share/bash-completion/*' \
        -o -type f -path 'share/zsh/*' -o -type f -path 'share/fish/*' -o -type f -path 'share/systemd/*') >"$work/pages"
    while read -r page; do set_link "$lib/current/$page" "$prefix/$page"; done <"$work/pages"
    set_link "$lib/current/bin/rotor" "$prefix/bin/rotor"
    for other in "$lib"/*; do # earlier versions, and what a killed run left
        case $other in "$tree" | "$lib/current" | "$work") ;; *) rm -rf "$other" ;; esac
    done
    say "rotor $version is installed: $prefix/bin/rotor"
    case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) say "$prefix/bin is not in your PATH; add to the file your shell reads: PATH=\"$prefix/bin:\$PATH\"" ;;
    esac
    say "first steps: rotor chat; rotor help; to remove it: install.sh --uninstall"
}

remove_all() {
    [ -d "$lib" ] || stop "nothing is installed in $prefix"
    if [ -n "$dry_run" ]; then
        say "would remove $lib and the links to it in $prefix/bin and $prefix/share"
        return
    fi
    for folder in "$prefix/bin" "$prefix/share"; do
        [ ! -d "$folder" ] || find "$folder" -type l -lname "$lib/current/*" -exec rm -f {} +
    done
    rm -rf "$lib" || stop "cannot remove $lib"
    say "removed; models (~/.cache/huggingface) and settings (~/.config/rotor) stay"
}

rotor_install "$@"
