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
# edited, and no file or link that another program put there is touched: where one is in the way, nothing
# is installed. All of this text is functions, called in its last line: half a download of it does nothing.
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
    [ -n "$from$uninstall" ] || stop "say where Rotor comes from: --from ADDRESS" 2
    one_spelling
    lib=$prefix/lib/rotor
    mark=$lib/.rotor-install
    if [ -d "$lib" ] && [ ! -f "$mark" ] && [ -n "$(ls -A "$lib")" ]; then
        stop "$lib is there and was not made by this script: choose another folder with --prefix"
    fi
    if [ -n "$uninstall" ]; then
        remove_all
        return
    fi
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

# The prefix from the root on and without "//", "./" and "..", so that it is the same however it was said.
one_spelling() {
    case $prefix in *'
'*) stop "there is a line break in $prefix" 2 ;; esac
    case $prefix in /*) ;; *) prefix=$(pwd)/$prefix ;; esac
    [ -n "$dry_run$uninstall" ] || mkdir -p "$prefix" 2>/dev/null ||
        stop "cannot write to $prefix: choose another folder with --prefix"
    [ ! -d "$prefix" ] || prefix=$(cd "$prefix" && pwd)
    prefix=${prefix%/}
}

# Only one of us at a time. The lock is a link to the number of the process: made and filled in one step.
take_lock() {
    ln -s $$ "$lib/lock" 2>/dev/null && return
    holder=$(readlink "$lib/lock") || stop "cannot write to $prefix: choose another folder with --prefix"
    ! kill -0 "$holder" 2>/dev/null || stop "another install.sh (process $holder) is at work; if it is not, remove $lib/lock"
    rm -f "$lib/lock" # of one that was killed
    ln -s $$ "$lib/lock" || stop "cannot write $lib/lock"
}

# The folder for versions, marked as ours, and in it one to work in. What was made for it is
# remembered: it goes again when nothing comes of it, and a folder that was there stays.
begin() {
    made='' fresh=''
    [ -d "$prefix/lib" ] || made=$prefix/lib
    [ -d "$lib" ] || made="yes"${made:+/lib}
    mkdir -p "$lib" 2>/dev/null && [ -w "$lib" ] || stop "cannot write to $prefix: choose another folder with --prefix"
    take_lock
    [ -f "$mark" ] || fresh=yes
    # What is begun and not finished goes, however this ends (a kill that cannot be caught leaves
    # PREFIX/lib/rotor/new.* and the lock, which the next run removes).
    trap 'give_up' EXIT
    : >"$mark" && work=$(mktemp -d "$lib/new.XXXXXX" 2>/dev/null) || stop "cannot write to $prefix: choose another folder with --prefix"
}

give_up() {
    [ -z "$work" ] || rm -rf "$work"
    [ -z "$fresh" ] || rm -f "$mark"
    rm -f "$lib/lock"
    case $made in yes*) rmdir "$lib" 2>/dev/null ;; esac
    case $made in */lib) rmdir "$prefix/lib" 2>/dev/null ;; esac
}

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
        sha256sum <"$1" # not by its name, which it would quote
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 <"$1"
    else
        stop "neither sha256sum nor shasum is here, and nothing is installed unchecked"
    fi | cut -d ' ' -f 1
}

fetch_and_install() {
    work=''
    if [ -n "$dry_run" ]; then
        work=$(mktemp -d) || stop "cannot make a temporary folder"
        trap 'rm -rf "$work"' EXIT
    else
        begin
    fi
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

is_ours() { # LINK: whether a run of this script set it
    case $(readlink "$1") in */lib/rotor/current/*) return 0 ;; *) return 1 ;; esac
}

# Sets a link in one step: it is the old one or the new one at any time.
set_link() { # TARGET LINK
    mkdir -p "$(dirname "$2")" && ln -sfn "$1" "$2.new" && mv -fT "$2.new" "$2" || stop "cannot write $2"
}

# What gets a link in the prefix, the program last; nothing else may be there.
list_links() {
    (cd "$work/tree" && find share -type f -path 'share/man/*' -o -type f -path 'share/bash-completion/*' \
        -o -type f -path 'share/zsh/*' -o -type f -path 'share/fish/*' -o -type f -path 'share/systemd/*' &&
        echo bin/rotor) >"$work/tree/.links" || stop "cannot write $work/tree/.links"
    while read -r page; do
        [ ! -e "$prefix/$page" ] && [ ! -L "$prefix/$page" ] || is_ours "$prefix/$page" ||
            stop "$prefix/$page is there and was not made by this script: move it away, or choose another folder with --prefix"
    done <"$work/tree/.links"
}

# The unit with the program of this prefix, in the quotes of systemd, where % is special, and those of sed.
write_unit() {
    unit=$work/tree/share/systemd/user/rotor.service
    quoted=$(printf %s "$prefix" | sed 's/%/%%/g; s/[\\"]/\\&/g; s/[\\&|]/\\&/g')
    [ ! -f "$unit" ] || sed -i "s|^ExecStart=[^ ]*|ExecStart=\"$quoted/bin/rotor\"|" "$unit" || stop "cannot write $unit"
}

# Removes a tree that a run of this script unpacked, and nothing that only lies beside it.
remove_tree() {
    case ${1##*/} in
    new.??????) rm -rf "$1" ;;
    *-??????) [ ! -f "$1/.links" ] || rm -rf "$1" ;;
    esac
}

put_in_place() {
    list_links
    write_unit
    trap '' INT TERM HUP # a few renames, not worth stopping in between
    tree=$lib/$version-${work##*.} # a name nothing has, so that what is there stays until the link turns
    fresh=''
    mv "$work/tree" "$tree" || stop "cannot write $tree"
    set_link "${tree##*/}" "$lib/current"
    while read -r page; do set_link "$lib/current/$page" "$prefix/$page"; done <"$tree/.links"
    for other in "$lib"/*; do # earlier versions, and what a killed run left
        case $other in "$tree" | "$lib/current" | "$work") continue ;; esac
        [ ! -f "$other/.links" ] || remove_links "$other/.links" gone
        remove_tree "$other"
    done
    say "rotor $version is installed: $prefix/bin/rotor"
    case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) say "$prefix/bin is not in your PATH; add to the file your shell reads: PATH=\"$prefix/bin:\$PATH\"" ;;
    esac
    say "first steps: rotor chat; rotor help; to remove it: install.sh --uninstall"
}

# Removes the links that a list names; with "gone" only those to what this version no longer has.
remove_links() { # LIST [gone]
    while read -r page; do
        [ -L "$prefix/$page" ] && is_ours "$prefix/$page" || continue
        [ -n "${2:-}" ] && [ -e "$prefix/$page" ] || rm -f "$prefix/$page"
    done <"$1"
}

remove_all() {
    [ -f "$mark" ] || stop "nothing is installed in $prefix"
    if [ -n "$dry_run" ]; then
        say "would remove $lib and the links to it in $prefix/bin and $prefix/share"
        return
    fi
    take_lock
    for other in "$lib"/*; do
        [ -L "$other" ] || [ ! -f "$other/.links" ] || remove_links "$other/.links"
    done
    for other in "$lib"/*; do remove_tree "$other"; done
    rm -f "$lib/current" "$mark" "$lib/lock"
    rmdir "$lib" 2>/dev/null || say "$lib stays: there is something in it that this script did not put there"
    say "removed; models (~/.cache/huggingface) and settings (~/.config/rotor) stay"
}

rotor_install "$@"
