#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes seeds of the fuzz targets for what training reads: token files, checkpoints, documents, logs,
adapters.

Run once, by hand. Needs nothing but Python; the layouts are those of docs/formats.md.
"""
import os
import struct

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "fuzz", "corpus")
MASK = (1 << 64) - 1


def write(target, seeds):
    folder = os.path.join(CORPUS, target)
    os.makedirs(folder, exist_ok=True)
    for name, data in seeds.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())


def hash64(data, seed):
    """base_hash64 of src/base/random.c."""
    def fold(a, b):
        return (a * b & MASK) ^ (a * b >> 64)
    h, n = seed ^ 0xA0761D6478BD642F, len(data)
    while len(data) > 8:
        h, data = fold(h ^ int.from_bytes(data[:8], "little"), 0xE7037ED1A0B428DB), data[8:]
    h = fold(h ^ int.from_bytes(data, "little"), 0x8EBC6AF09C88C6E3)
    return fold(h ^ n, 0x589965CC75374CC3)


def tokens(train, held, n_vocab=300, version=1):
    head = b"RotorTok" + struct.pack("<IIQQ", version, n_vocab, 11, 12) + bytes(32)
    ids = struct.pack("<%dI" % (len(train) + len(held)), *train, *held)
    return head + ids + struct.pack("<QQQQ", len(train), len(held), 13, 0)


UNTAUGHT = 1 << 31
some = [i * 37 % 300 | (UNTAUGHT if i % 5 == 1 else 0) for i in range(120)]
write("train_tokens", {
    "good": tokens(some, some[:30]),
    "few": tokens(some[:3], some[:2]),
    "none": tokens([], []),
    "cut": tokens(some, some[:30])[:-40],
    "beyond_the_vocabulary": tokens(some, some[:30], n_vocab=200),
    "version_2": tokens(some, [], version=2),
})

N_PARAMS = 140  # of the network in tests/fuzz/fuzz_train_checkpoint.c


def checkpoint(fields=None, n=N_PARAMS, right=True):
    f32 = lambda x: struct.unpack("<I", struct.pack("<f", x))[0]
    values = [0, 2, 4, 1, 1, 1, 4, 4, 4, f32(10000), f32(1e-5), 0, 0, 70, f32(0.01), f32(0.1), 3, 0, f32(0.9), f32(0.95),
              f32(1e-8), f32(1), 4, 2, 9]
    for i, value in (fields or {}).items():
        values[i] = value
    head = b"RotorCkp" + struct.pack("<II25QQQ", 1, 25, *values, 33, n)
    parts = [struct.pack("<%df" % N_PARAMS, *[0.01 * (i + k) for i in range(N_PARAMS)]) for k in range(3)]
    total = hash64(head, 0)
    for part in parts:
        total = hash64(part, total)
    return head + b"".join(parts) + struct.pack("<Q", total if right else 1)


write("train_checkpoint", {
    "good": checkpoint(),
    "wrong_sum": checkpoint(right=False),
    "other_batch": checkpoint({22: 8}),
    "other_rate": checkpoint({14: 1 << 31}),
    "cut": checkpoint()[:500],
    "weights_2_62": checkpoint(n=1 << 62),
})

write("train_documents", {
    "texts": "Once upon a time.\n<|endoftext|>\n\tA dog — \U0001F415 — ran.\r\n<|endoftext|><|endoftext|> <|endof",
    "marked": b"\xEF\xBB\xBFwhole\n",
    "not_utf8": b"ab\ncd\xFFx\xC3",
    "zeros": b"\0\0a\0<|endoftext|>\0",
    "pairs.jsonl": '{"question": "hi", "answer": "ho"}\n\n{"prompt": "a\\u00e9", "completion": "b"}\n'
                   '{"instruction": "i", "output": "o", "more": [1, 2.5e3, null, true]}',
    "messages.jsonl": '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": " u "},'
                      ' {"role": "assistant", "content": "x\\ny"}, {"role": "user", "content": "v"},'
                      ' {"role": "assistant", "content": "z"}]}\r\n',
    "bad_role.jsonl": '{"messages": [{"role": "tool", "content": "u"}]}',
    "no_text.jsonl": '{"prompt": 1, "completion": {}}\n{"messages": [3]}',
    "deep.jsonl": '{"messages": ' + "[" * 300,
})

HEAD = "step,loss,heldout_loss,tok_per_s\n"
write("train_log", {
    "good": HEAD + "".join("%d,%.9g,%s,%d\n" % (i, 6.24 / i ** 0.5, "" if i % 3 else "4.5", 1000 + i) for i in range(1, 30)),
    "head": HEAD,
    "no_newline": HEAD + "1,2.5,,1000",
    "return": HEAD + "1,2.5,,1000\r",
    "infinite": HEAD + "1,inf,,1\n2,1,nan,1\n",
    "large": HEAD + "1,1e30,,1\n2,-1e30,1e40,1\n",
    "equal": HEAD + "1,1e20,,1\n2,1e20,,1\n",
    "backwards": HEAD + "2,1,,1\n1,1,,1\n",
    "far": HEAD + "18446744073709551615,0.5,,0\n",
    "next_line": HEAD + "1,2,\n3,4,,5\n",
})

# Of the model in tests/fuzz/fuzz_adapter.c: rows and columns.
SHAPES = {"attn_q": (8, 8), "attn_k": (4, 8), "attn_v": (4, 8), "attn_output": (8, 8), "ffn_gate": (12, 8), "ffn_up": (12, 8),
          "ffn_down": (8, 12)}
F32, F16, BF16, Q8_0 = 0, 1, 30, 8


def text(x):
    return struct.pack("<Q", len(x)) + x.encode()


def adapter(tensors, alpha=4.0, kind="lora", arch="bitnet-b1.58", more=b"", n_more=0):
    """tensors: (name, rows, columns, type, values or None)."""
    keys = [text(key) + struct.pack("<I", 8) + text(value) for key, value in
            [("general.architecture", arch), ("general.type", "adapter"), ("adapter.type", kind)]]
    if alpha is not None:
        keys.append(text("adapter.lora.alpha") + struct.pack("<If", 6, alpha))
    infos, data = b"", b""
    for name, rows, cols, kind_of, values in tensors:
        data += bytes(-len(data) % 32)
        infos += text(name) + struct.pack("<IQQIQ", 2, cols, rows, kind_of, len(data))
        numbers = values or [0.01 * (i % 17 - 8) for i in range(rows * cols)]
        f32 = struct.pack("<%df" % len(numbers), *numbers)
        data += f32 if kind_of == F32 else struct.pack("<%de" % len(numbers), *numbers) if kind_of == F16 else \
            b"".join(f32[i + 2:i + 4] for i in range(0, len(f32), 4))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys) + n_more) + b"".join(keys) + more + infos
    return head + bytes(-len(head) % 32) + data


def pair(layer, role, rank, kind_of=F32, values=None):
    rows, cols = SHAPES[role]
    name = "blk.%s.%s.weight.lora_" % (layer, role)
    return [(name + "a", rank, cols, kind_of, values), (name + "b", rows, rank, kind_of, None)]


whole = [t for layer in (0, 1) for role in SHAPES for t in pair(layer, role, 2)]
write("adapter", {
    "whole": adapter(whole),
    "one_pair_f16": adapter(pair(0, "ffn_down", 3, F16)),
    "one_pair_bf16": adapter(pair(1, "attn_k", 1, BF16)),
    "half_a_pair": adapter(pair(0, "attn_q", 2)[:1]),
    "another_rank": adapter([pair(0, "attn_q", 2)[0], pair(0, "attn_q", 3)[1]]),
    "no_number": adapter(pair(0, "attn_v", 1, F32, [float("nan")] * 8)),
    "another_layer": adapter(pair(7, "attn_q", 2)),
    "twice": adapter(pair(0, "attn_q", 2) + pair("00", "attn_q", 2)),
    "embedding": adapter([("token_embd.weight.lora_a", 2, 8, F32, None)]),
    "alpha_0": adapter(pair(0, "attn_q", 2), alpha=0.0),
    "no_alpha": adapter(pair(0, "attn_q", 2), alpha=None),
    "switched_on": adapter(pair(0, "attn_q", 2), more=text("adapter.alora.invocation_tokens") +
                           struct.pack("<IIQI", 9, 4, 1, 7), n_more=1),
    "other_kind": adapter(pair(0, "attn_q", 2), kind="control\x1b[2J"),
    "other_architecture": adapter(pair(0, "attn_q", 2), arch="llama"),
    "empty": adapter([]),
    "cut": adapter(whole)[:900],
})
