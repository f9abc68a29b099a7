#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints the table of docs/hardware.md: how fast models can decode on machines that were not at hand.

One formula: tokens/s = memory bandwidth x share of it that programs reach / bytes read for a token. Bytes follow from the
shape of the model: every weight of its layers once (of a mixture the experts in use), the output head, and keys and values of
the context. Nothing here was measured; `rotor info MODEL` and `rotor bench` measure.
"""
from dataclasses import dataclass

CONTEXT_TOKENS = 512   # already in the cache
KV_BYTES = 2           # f16
Q8 = 8.5               # bits of a weight: 32 codes and a half float
SYSTEM_GIB = 1.5       # what the rest of the machine keeps


@dataclass
class Model:
    name: str
    layers: int
    width: int
    heads: int      # of queries
    kv_heads: int
    head_width: int
    ff: int         # of one expert where there are several
    vocab: int
    bits: float     # of a weight in the feed-forward part
    attn_bits: float
    embed_bits: float
    head_bits: float
    experts: int = 1
    used: int = 1

    def attention(self):
        return self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)

    def feed_forward(self, experts):
        return 3 * self.width * self.ff * experts

    def layer_bytes(self, experts):
        return self.layers * (self.attention() * self.attn_bits + self.feed_forward(experts) * self.bits) / 8

    def kv_bytes(self):
        return self.layers * 2 * self.kv_heads * self.head_width * KV_BYTES * CONTEXT_TOKENS

    def token_bytes(self):
        return self.layer_bytes(self.used) + self.vocab * self.width * self.head_bits / 8 + self.kv_bytes()

    def memory_bytes(self):
        """Weights, embedding, head (a copy in q8 where the file has floats), and the cache."""
        return (self.layer_bytes(self.experts) + self.vocab * self.width * (self.embed_bits + self.head_bits) / 8
                + self.kv_bytes())


MODELS = [
    Model("2B4T, I2_S", 30, 2560, 20, 5, 128, 6912, 128256, 2, 2, 16, Q8),
    Model("2B4T, T5", 30, 2560, 20, 5, 128, 6912, 128256, 1.6, 1.6, 16, Q8),
    Model("Llama-3 8B, Q4_0", 32, 4096, 32, 8, 128, 14336, 128256, 4.5, 4.5, 4.5, 6.5625),
    Model("gpt-oss-20b", 24, 2880, 64, 8, 64, 2880, 201088, 4.25, Q8, Q8, Q8, experts=32, used=4),
]

# Name, memory in GiB, bandwidth of its memory chips in GB/s, and the shares that programs may hope for: of a processor
# little of a bus that was made for a GPU, elsewhere half to four fifths.
MACHINES = [
    ("Tablet, Core m3 with HD 615, LPDDR3-1866, 2 channels", 4, 29.9, 0.5, 0.6),
    ("The same, 8 GB", 8, 29.9, 0.5, 0.6),
    ("Steam Deck, its processor, LPDDR5-5500, 128 bits", 16, 88.0, 0.4, 0.5),
    ("Steam Deck, its GPU", 16, 88.0, 0.6, 0.8),
    ("Raspberry Pi 5, LPDDR4X-4267, 32 bits", 8, 17.1, 0.5, 0.8),
]


def cell(model, gib, bandwidth, low, high):
    if model.memory_bytes() > (gib - SYSTEM_GIB) * 2**30:
        return "does not fit"
    return "%.1f to %.1f" % tuple(bandwidth * 1e9 * share / model.token_bytes() for share in (low, high))


def table():
    rows = [["machine (computed)", "memory", "bandwidth x share", *(m.name for m in MODELS)]]
    rows.append(["---"] * len(rows[0]))
    rows.append(["bytes read for a token", "", "", *("%.2f GB" % (m.token_bytes() / 1e9) for m in MODELS)])
    rows.append(["memory it takes", "", "", *("%.1f GB" % (m.memory_bytes() / 1e9) for m in MODELS)])
    for name, gib, bandwidth, low, high in MACHINES:
        rows.append([name, "%d GB" % gib, "%.1f GB/s x %.1f to %.1f" % (bandwidth, low, high),
                     *(cell(m, gib, bandwidth, low, high) for m in MODELS)])
    return "".join("| %s |\n" % " | ".join(row) for row in rows)


if __name__ == "__main__":
    print(table(), end="")
