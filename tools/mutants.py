#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Do the tests notice a wrong operator? Flips thirty, one at a time, and runs the tests that should.

    tools/mutants.py [--only WORD] [--folder build-mutants]

Each mutant is a line of the product with one operator changed. The tree is copied into the folder and
built there; a mutant is compiled, the tests named beside it run until one fails, and the line is put
back. Exit status 1 when a mutant survives, or when its line is not there (any more) exactly once: then
choose another place. The first build takes minutes, each mutant some seconds.
"""
import argparse
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# file below src, what stands there, what is put there, tests that should notice
MUTANTS = [
    # kern: products, attention, the cache's layout, scans
    ("kern/c/b32_c.c", "acc = fmaf((float)sum16[0], -(k->b[0] * s), acc);", "acc = fmaf((float)sum16[0], +(k->b[0] * s), acc);", "kern"),
    ("kern/c/head_c.c", "return acc * (p->step[r] * (8.0f * x->step));", "return acc * (p->step[r] / (8.0f * x->step));", "kern_head kern"),
    ("kern/c/q8x16_c.c", "memcpy(&half, block + 2 * (r % SIDE), 2);", "memcpy(&half, block + 2 + (r % SIDE), 2);", "kern_head kern"),
    ("kern/c/t2_c.c", "y[(b0 + i) * ldy + r] = (float)d[i] * t2_factor(w, x, r, b0 + i);", "y[(b0 + i) * ldy + r] = (float)d[i] / t2_factor(w, x, r, b0 + i);", "kern"),
    ("kern/c/t5_c.c", "d[i] += t[j] * q[j];", "d[i] -= t[j] * q[j];", "kern"),
    ("kern/c/scan_c.c", ">> c % 64 / 16 * 2 & 3", ">> c % 64 / 16 * 2 & 1", "kern_scan kern"),
    ("kern/x86/scan_avx2.c", "for (size_t c = 0; c < ld; c += 64) {", "for (size_t c = 0; c + 64 < ld; c += 64) {", "kern_scan kern"),
    ("kern/x86/t2_avx2.c", "for (n -= m; m > 0; m--, w += 32, q += 128) {", "for (n -= m; m > 1; m--, w += 32, q += 128) {", "kern"),
    ("kern/attention_body.h", "a->window && a->window < self ? self - a->window : 0;", "a->window && a->window > self ? self - a->window : 0;", "kern_ops kern run"),
    ("kern/attention_body.h", "for (size_t i = j.hi; i < to; i++) s[i] = -INFINITY;", "for (size_t i = j.hi; i < to; i++) s[i] = +INFINITY;", "kern_ops kern run"),
    ("kern/kv_block.c", "memcpy(block + 2 * (i * KERN_KEYS + slot), row + 2 * i, 2);", "memcpy(block + 2 * (i * KERN_KEYS - slot), row + 2 * i, 2);", "kern_ops kern run"),
    # run: the pass, pages of the cache, sessions, files of sessions, placement
    ("run/forward.c", "(p->int8_of == src && p->int8_kind == form)) return;", "(p->int8_of == src || p->int8_kind == form)) return;", "run run_families"),
    ("run/forward.c", "if (!mean && m->out_norm) block_norm", "if (mean && m->out_norm) block_norm", "run_embed"),
    ("run/session.c", "return n_tok / KERN_KEYS + (n_tok % KERN_KEYS != 0); }", "return n_tok / KERN_KEYS + (n_tok % KERN_KEYS == 0); }", "run run_pages"),
    ("run/session.c", "if (!is_new && p->refs[table[block]] == 1) return true;", "if (!is_new && p->refs[table[block]] >= 1) return true;", "run run_pages"),
    ("run/session.c", "(pos + 1 > keep ? pos + 1 - keep : 0) / KERN_KEYS;", "(pos + 1 > keep ? pos + 1 + keep : 0) / KERN_KEYS;", "run_pages run"),
    ("run/session.c", "while (i < n && i < s->len && s->tokens[i] == tokens[i]) i++;", "while (i < n || i < s->len && s->tokens[i] == tokens[i]) i++;", "run"),
    ("run/session.c", "while (done-- > 0) run_session_rewind", "while (done-- > 1) run_session_rewind", "run run_pages"),
    ("run/session_file.c", "if (sum != sum_of(f->data, f->size, h, layer_page_bytes(s->e)))", "if (sum == sum_of(f->data, f->size, h, layer_page_bytes(s->e)))", "session_file"),
    ("run/session_file.c", "if (id >= s->e->m->hp.n_vocab)", "if (id > s->e->m->hp.n_vocab)", "session_file"),
    ("run/placement.c", "while (p.n_layer && layers_bytes(n, p.n_layer) > budget) p.n_layer--;", "while (p.n_layer && layers_bytes(n, p.n_layer) >= budget) p.n_layer--;", "run_placement"),
    ("run/vectors.c", "if (!first_speaks(e)) e->picked", "if (first_speaks(e)) e->picked", "run_embed"),
    # file: what hostile bytes meet
    ("file/gguf_read.c", "    if (n > c->size - c->pos) {", "    if (n > c->size + c->pos) {", "file_gguf_bad"),
    ("file/gguf_read.c", "if (n <= max && n <= room) return ROTOR_OK;", "if (n <= max || n <= room) return ROTOR_OK;", "file_gguf_bad"),
    ("file/gguf_read.c", "        if (p[i] > 1)", "        if (p[i] > 2)", "file_gguf_bad file_gguf"),
    ("file/gguf_read.c", "if (t->n_dims < 1 || t->n_dims > 4)", "if (t->n_dims < 1 || t->n_dims >= 4)", "file_gguf file_gguf_bad"),
    ("file/gguf_read.c", "|| (*align & (*align - 1)) != 0)", "|| (*align & (*align - 1)) < 0)", "file_gguf_bad"),
    ("file/file_model.c", "    if (t->bytes > span) {", "    if (t->bytes >= span) {", "file_gguf file_safetensors"),
    ("file/safetensors.c", "if (b < 0 || e < b || (uint64_t)(e - b) != t->bytes)", "if (b < 0 && e < b || (uint64_t)(e - b) != t->bytes)", "file_safetensors"),
    ("file/safetensors.c", "if (total == data_bytes) return ROTOR_OK;", "if (total <= data_bytes) return ROTOR_OK;", "file_safetensors"),
]


def copy_tree(folder):
    """What git tracks or would, as it is now; files that are the same keep their times."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        source, copy = os.path.join(ROOT, name), os.path.join(folder, name)
        if not os.path.isfile(source):
            continue
        if os.path.exists(copy) and open(source, "rb").read() == open(copy, "rb").read():
            continue
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(source, copy)
        shutil.copymode(source, copy)


def quiet(command, folder, limit_s=900):
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=limit_s)


def targets(names):
    """Meson's test names to programs."""
    return {name: "tests/kern/checkern" if name == "kern" else "tests/unit/test_" + name for name in names}


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def noticed(folder, names):
    """The first of the tests that fails; "the compiler" where it does not build; None: it survived."""
    built = quiet(["ninja", "-C", "build", *targets(names).values()], folder)
    if built.returncode:
        return "the compiler"
    for name in names:
        try:
            if quiet(["meson", "test", "-C", "build", "--no-rebuild", "--timeout-multiplier", "2", name], folder).returncode:
                return name
        except subprocess.TimeoutExpired:
            return name + " (without end)"
    return None


def prepare(folder):
    copy_tree(folder)
    if not os.path.exists(os.path.join(folder, "build", "build.ninja")):
        done = quiet(["meson", "setup", "build", "-Dtests=enabled", "-Doptimization=1"], folder)
        if done.returncode:
            sys.exit(done.stdout[-2000:])
    every = sorted({name for m in MUTANTS for name in m[3].split()})
    done = quiet(["ninja", "-C", "build", *targets(every).values()], folder, 3600)
    if done.returncode:
        sys.exit(done.stdout[-2000:])
    failing = [name for name in every if noticed(folder, [name])]
    if failing:
        sys.exit("without any mutant these fail already: " + ", ".join(failing))


def main():
    parser = argparse.ArgumentParser(description="Flips operators and sees whether the tests notice.")
    parser.add_argument("--only", default="", help="mutants whose file or line has this word")
    parser.add_argument("--folder", default=os.path.join(ROOT, "build-mutants"))
    args = parser.parse_args()
    os.environ["ROTOR_TEST_QUICK"] = "1"
    chosen = [m for m in MUTANTS if args.only in m[0] or args.only in m[1]]
    print("%d mutants; building first" % len(chosen), flush=True)
    prepare(args.folder)
    survived = 0
    for file, old, new, names in chosen:
        path, began = os.path.join(args.folder, "src", file), time.monotonic()
        whole = read(path)
        applied = whole.count(old) == 1
        if applied:
            write(path, whole.replace(old, new))
        by = noticed(args.folder, names.split()) if applied else None
        write(path, whole)
        survived += by is None
        verdict = "noticed by " + by if by else "SURVIVED" if applied else "its line is not there once"
        print("%-26s %-34s %5.1f s  %s" % (file, verdict, time.monotonic() - began, new.strip()[:70]), flush=True)
    print("\n%d of %d noticed" % (len(chosen) - survived, len(chosen)))
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
